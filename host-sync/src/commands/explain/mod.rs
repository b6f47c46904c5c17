//! `explain`: the chain store → Secret → desired state → admission → rollout of one workload, and where it stops.

mod chain;
mod explanation;
mod text;

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::{Api, Client};
use policy_core::names::WorkloadKind;

use super::cluster::{self, Facts, Seen};
use super::output::{self, TextOutput};
use crate::cli::ExplainArguments;

use explanation::{Chain, Explanation, Step, StepState};

/// A workload as the command line names it: `deployment/api`, `deploy/api`, or `api`.
pub(super) fn workload(text: &str) -> Result<(WorkloadKind, &str)> {
    let Some((kind, name)) = text.split_once('/') else { return Ok((WorkloadKind::Deployment, text)) };
    let kind = match kind.to_ascii_lowercase().as_str() {
        "deployment" | "deployments" | "deploy" | "deployments.apps" => WorkloadKind::Deployment,
        other => bail!("{other} is no kind that Scout attaches secrets to: use deployment/<name>"),
    };
    if name.is_empty() || name.contains('/') {
        bail!("{text:?} names no workload: use <kind>/<name>, such as deployment/api");
    }
    Ok((kind, name))
}

/// Prints the chain of one workload.
pub(super) async fn run(client: &Client, arguments: &ExplainArguments) -> Result<()> {
    let (kind, name) = workload(&arguments.workload)?;
    let namespace = arguments.namespace.as_deref().unwrap_or_else(|| client.default_namespace());
    let own_namespace = &arguments.scout.scout_namespace;
    let mut facts = cluster::read(client, own_namespace, None, Some(namespace)).await?;
    if !facts.namespaces.contains_key(namespace) {
        let seen = cluster::read_namespace(client, own_namespace, namespace).await?;
        facts.namespaces.insert(namespace.to_owned(), seen);
    }
    let secrets = secrets(client, &facts, namespace, kind, name).await?;
    let explanation = chain::explain(&facts, &secrets, namespace, kind, name)?;
    output::print(&match arguments.output {
        TextOutput::Text => text::text(&explanation, facts.now),
        TextOutput::Json => output::json(&explanation)?,
        TextOutput::Yaml => output::yaml(&explanation)?,
    })
}

/// When each Secret of the workload was created. Only metadata is asked for: no value comes here.
async fn secrets(
    client: &Client,
    facts: &Facts,
    namespace: &str,
    kind: WorkloadKind,
    name: &str,
) -> Result<BTreeMap<String, Seen<Option<i64>>>> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let mut found = BTreeMap::new();
    for secret in chain::secrets(facts, namespace, kind, name) {
        let seen = match api.get_metadata_opt(&secret).await {
            Ok(object) => Ok(object.map(|one| {
                one.metadata.creation_timestamp.map_or_else(|| Timestamp::now().as_second(), |time| time.0.as_second())
            })),
            Err(kube::Error::Api(status)) if status.code == 403 => {
                Err(format!("you have no right to get Secrets in namespace {namespace}"))
            }
            Err(error) => return Err(error).with_context(|| format!("asking for Secret {namespace}/{secret}")),
        };
        found.insert(secret, seen);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_is_named_as_kubectl_names_it() {
        for text in ["api", "deploy/api", "Deployment/api", "deployments.apps/api"] {
            assert_eq!(workload(text).unwrap(), (WorkloadKind::Deployment, "api"), "{text}");
        }
        let error = workload("service/api").unwrap_err().to_string();
        assert!(error.contains("use deployment/<name>"), "{error}");
        assert!(workload("deployment/").is_err());
    }
}
