//! Where the rollouts of workloads stand. The watch sees metadata only, so a workload whose version changed is read.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use host_sync_core::snapshot::{ObjectKey, Rollout};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Client, ResourceExt};

use super::watches::at_least;

/// How many workloads are read at a time.
const CONCURRENCY: usize = 16;

/// What is known, by workload: the version that was read, and where its rollout stood then.
#[derive(Default)]
pub(super) struct Rollouts(BTreeMap<ObjectKey, (String, Rollout)>);

impl Rollouts {
    /// Reads the candidates that changed, forgets the others, and says where all of them stand.
    pub(super) async fn refresh(
        &mut self,
        client: &Client,
        candidates: &BTreeSet<ObjectKey>,
        metadata: &BTreeMap<ObjectKey, ObjectMeta>,
    ) -> Result<BTreeMap<ObjectKey, Rollout>> {
        self.0.retain(|key, _| candidates.contains(key));
        let changed = candidates.iter().filter(|key| {
            let version = metadata.get(*key).and_then(|one| one.resource_version.as_deref()).unwrap_or_default();
            self.0.get(*key).is_none_or(|(known, _)| !at_least(known, version))
        });
        let reads = stream::iter(changed.cloned().collect::<Vec<_>>()).map(|(namespace, name)| async move {
            let api: Api<Deployment> = Api::namespaced(client.clone(), &namespace);
            let read = api.get_opt(&name).await.with_context(|| format!("reading Deployment {namespace}/{name}"))?;
            anyhow::Ok(read.map(|one| {
                let known = (one.resource_version().unwrap_or_default(), rollout(&one));
                ((namespace, name), known)
            }))
        });
        let read: Vec<_> = reads.buffer_unordered(CONCURRENCY).try_collect().await?;
        self.0.extend(read.into_iter().flatten());
        Ok(self.0.iter().map(|(key, (_, rollout))| (key.clone(), rollout.clone())).collect())
    }
}

/// Where a Deployment's newest rollout stands. Source: `kubectl rollout status` (`DeploymentStatusViewer`).
pub(crate) fn rollout(deployment: &Deployment) -> Rollout {
    let spec = &deployment.spec;
    let status = deployment.status.clone().unwrap_or_default();
    let observed = status.observed_generation.unwrap_or_default();
    let wanted = spec.replicas.unwrap_or(1);
    let updated = status.updated_replicas.unwrap_or_default();
    let total = status.replicas.unwrap_or_default();
    let available = status.available_replicas.unwrap_or_default();
    let seen = observed >= deployment.metadata.generation.unwrap_or_default();
    if seen && updated >= wanted && total <= updated && available >= updated {
        return Rollout::Ready;
    }
    if spec.paused == Some(true) {
        return Rollout::Paused;
    }
    let failure = status.conditions.iter().flatten().find(|condition| {
        condition.type_.as_deref() == Some("Progressing")
            && condition.reason.as_deref() == Some("ProgressDeadlineExceeded")
    });
    match failure {
        Some(condition) if seen => {
            Rollout::Failed(condition.message.clone().unwrap_or_else(|| "its progress deadline passed".to_owned()))
        }
        _ => Rollout::Rolling,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn stands(spec: &Value, status: &Value) -> Rollout {
        let mut object = json!({"metadata": {"generation": 2}, "spec": spec, "status": status});
        object["spec"]["selector"] = json!({});
        object["spec"]["template"] = json!({});
        rollout(&serde_json::from_value(object).unwrap())
    }

    #[test]
    fn a_rollout_that_its_controller_has_not_seen_is_on_its_way() {
        let full = json!({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2});
        assert_eq!(stands(&json!({"replicas": 2}), &full), Rollout::Rolling);
    }

    #[test]
    fn an_old_pod_that_is_still_there_keeps_a_rollout_on_its_way() {
        let status = json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 2, "availableReplicas": 3});
        assert_eq!(stands(&json!({"replicas": 2}), &status), Rollout::Rolling);
        let status = json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2});
        assert_eq!(stands(&json!({"replicas": 2}), &status), Rollout::Ready);
    }

    #[test]
    fn no_replicas_are_ready_at_once() {
        assert_eq!(stands(&json!({"replicas": 0}), &json!({"observedGeneration": 2})), Rollout::Ready);
    }

    #[test]
    fn a_passed_deadline_is_a_failure_with_the_controllers_words() {
        let condition = json!({"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"});
        let status = json!({"observedGeneration": 2, "replicas": 1, "conditions": [condition]});
        assert_eq!(stands(&json!({"replicas": 1}), &status), Rollout::Failed("timed out".into()));
        let paused = json!({"replicas": 1, "paused": true});
        assert_eq!(stands(&paused, &json!({"observedGeneration": 2})), Rollout::Paused);
    }
}
