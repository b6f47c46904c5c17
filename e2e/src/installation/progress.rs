//! Waiting for what Scout does, by what the cluster says of it.

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::{Answer, Installation, eventually};

/// The variables of a container that come from a Secret: name → (Secret, key).
pub type SecretVariables = std::collections::BTreeMap<String, (String, String)>;

impl Installation {
    /// Waits until an app environment is delivered with a revision other than `before`; returns the revision.
    pub async fn delivered(&self, app: &str, environment: &str, before: &str) -> Result<String> {
        eventually(&format!("{app}/{environment} to be delivered"), async || {
            let object = self.get("App", "", app).await?;
            let revision = object["status"]["environments"][environment]["revision"].as_str().unwrap_or_default();
            Ok(Answer::when(!revision.is_empty() && revision != before, revision.to_owned(), &object["status"]))
        })
        .await
    }

    /// Waits until a Deployment's template holds this revision of an app and every pod runs it; returns the Deployment.
    pub async fn rolled_out(&self, namespace: &str, name: &str, app: &str, revision: &str) -> Result<Value> {
        let label = format!("/spec/template/metadata/labels/scout.commandk.dev~1{app}");
        eventually(&format!("Deployment {namespace}/{name} to run revision {revision} of {app}"), async || {
            let object = self.get("Deployment", namespace, name).await?;
            let holds = object.pointer(&label).and_then(Value::as_str) == Some(revision);
            let seen = format!("{} {}", object["spec"]["template"]["metadata"], object["status"]);
            Ok(Answer::when(holds && is_complete(&object), object, seen))
        })
        .await
    }

    /// Waits until a Deployment's rollout is complete; returns the Deployment.
    pub async fn complete(&self, namespace: &str, name: &str) -> Result<Value> {
        eventually(&format!("the rollout of Deployment {namespace}/{name}"), async || {
            let object = self.get("Deployment", namespace, name).await?;
            let seen = object["status"].clone();
            Ok(Answer::when(is_complete(&object), object, seen))
        })
        .await
    }

    /// Waits until a condition of an object has this status and reason; returns its message.
    pub async fn condition(&self, kind: &str, name: &str, type_: &str, status: &str, reason: &str) -> Result<String> {
        eventually(&format!("condition {type_}={status} ({reason}) of {kind} {name}"), async || {
            let object = self.get(kind, "", name).await?;
            let all = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let found =
                all.iter().find(|one| one["type"] == type_ && one["status"] == status && one["reason"] == reason);
            Ok(match found {
                Some(found) => Answer::Is(found["message"].as_str().unwrap_or_default().to_owned()),
                None => Answer::NotYet(object["status"].to_string()),
            })
        })
        .await
    }

    /// How many ReplicaSets a Deployment has had: one for every template that was rolled out.
    pub async fn rollouts(&self, namespace: &str, name: &str) -> Result<usize> {
        let sets = self.list("ReplicaSet", namespace, &format!("app={name}")).await?;
        Ok(sets.len())
    }

    /// The bytes of one key of a Secret, as text; `None` where there is no such Secret or key.
    pub async fn secret_value(&self, namespace: &str, name: &str, key: &str) -> Result<Option<String>> {
        let Some(secret) = self.find("Secret", namespace, name).await? else { return Ok(None) };
        let Some(encoded) = secret["data"][key].as_str() else { return Ok(None) };
        let bytes = BASE64_STANDARD.decode(encoded).context("decoding a Secret")?;
        Ok(Some(String::from_utf8(bytes).context("reading a Secret as text")?))
    }

    /// What a container of the workload would see of a variable: the value behind its `secretKeyRef`.
    pub async fn variable(&self, workload: &Value, container: &str, variable: &str) -> Result<Option<String>> {
        let namespace = workload["metadata"]["namespace"].as_str().unwrap_or_default();
        match variables(workload, container).get(variable) {
            Some((secret, key)) => self.secret_value(namespace, secret, key).await,
            None => Ok(None),
        }
    }

    /// The desired state of a namespace, as the ConfigMap holds it.
    pub async fn desired_state(&self, namespace: &str) -> Result<Value> {
        Ok(self.get("ConfigMap", super::NAMESPACE, &format!("desired-state.{namespace}")).await?["data"].clone())
    }
}

/// Whether every pod of a Deployment runs its newest template.
fn is_complete(deployment: &Value) -> bool {
    let number = |pointer: &str| deployment.pointer(pointer).and_then(Value::as_i64).unwrap_or_default();
    let wanted = number("/spec/replicas");
    number("/status/observedGeneration") >= number("/metadata/generation")
        && ["/status/replicas", "/status/updatedReplicas", "/status/availableReplicas"]
            .into_iter()
            .all(|one| number(one) == wanted)
}

/// A container of a workload's template, init containers included; `Null` where there is none.
pub fn container<'a>(workload: &'a Value, name: &str) -> &'a Value {
    let spec = &workload["spec"]["template"]["spec"];
    let lists = [&spec["initContainers"], &spec["containers"]];
    let mut all = lists.into_iter().filter_map(Value::as_array).flatten();
    all.find(|container| container["name"] == name).unwrap_or(&Value::Null)
}

/// The variables of a container that come from Secrets.
pub fn variables(workload: &Value, name: &str) -> SecretVariables {
    let entries = container(workload, name)["env"].as_array().cloned().unwrap_or_default();
    let named = entries.iter().filter_map(|entry| {
        let source = &entry["valueFrom"]["secretKeyRef"];
        let (secret, key) = (source["name"].as_str()?.to_owned(), source["key"].as_str()?.to_owned());
        Some((entry["name"].as_str()?.to_owned(), (secret, key)))
    });
    named.collect()
}
