//! The webhook that sends admission requests to a [`PolicyHost`], as Kubewarden's controller writes it for a policy.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations, WebhookClientConfig,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, ObjectMeta};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use policy_core::names::ENVIRONMENT_LABEL;
use serde::Deserialize;
use serde_json::json;

use crate::policy_host::PolicyHost;

/// The accounts of the controllers that carry out what was admitted before: a policy that is down must not stop a rolling update, the
/// start of a pod or a clean-up.
pub const SPARED_ACCOUNTS: [&str; 12] = [
    "system:kube-controller-manager",
    "system:serviceaccount:kube-system:cronjob-controller",
    "system:serviceaccount:kube-system:daemon-set-controller",
    "system:serviceaccount:kube-system:deployment-controller",
    "system:serviceaccount:kube-system:disruption-controller",
    "system:serviceaccount:kube-system:generic-garbage-collector",
    "system:serviceaccount:kube-system:horizontal-pod-autoscaler",
    "system:serviceaccount:kube-system:job-controller",
    "system:serviceaccount:kube-system:namespace-controller",
    "system:serviceaccount:kube-system:replicaset-controller",
    "system:serviceaccount:kube-system:statefulset-controller",
    "system:serviceaccount:kube-system:ttl-after-finished-controller",
];

/// The namespaces that the webhook never sees: Kubewarden's own, as its controller sees to, and host-sync's.
const SPARED_NAMESPACES: [&str; 2] = ["kubewarden", "scout-system"];

/// Where the requests come from that show whether the webhook is in use.
const PROBE: &str = "scout-webhook-probe";

/// A webhook configuration counts a second or so after it was written.
const PATIENCE: Duration = Duration::from_mins(1);

/// The part of `policy/metadata.yml` that says what the policy wants to see.
#[derive(Deserialize)]
struct PolicyMetadata {
    rules: Vec<RuleWithOperations>,
}

/// The configuration for a host, with the rules of `policy/metadata.yml`.
pub fn configuration(host: &PolicyHost) -> Result<MutatingWebhookConfiguration> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy/metadata.yml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let metadata: PolicyMetadata =
        serde_saphyr::from_str(&text).with_context(|| format!("parsing the rules of {}", path.display()))?;
    let environment = requirement(ENVIRONMENT_LABEL, "Exists", &[]);
    let spared = requirement("kubernetes.io/metadata.name", "NotIn", &SPARED_NAMESPACES);
    let webhook = MutatingWebhook {
        name: format!("{}.kubewarden.admission", host.id()),
        admission_review_versions: vec!["v1".to_owned()],
        client_config: WebhookClientConfig {
            ca_bundle: Some(ByteString(host.ca_bundle().as_bytes().to_vec())),
            url: Some(host.url()),
            ..WebhookClientConfig::default()
        },
        rules: Some(metadata.rules),
        namespace_selector: Some(LabelSelector {
            match_expressions: Some(vec![environment, spared]),
            match_labels: None,
        }),
        match_conditions: Some(vec![MatchCondition {
            name: "not-a-built-in-controller".to_owned(),
            expression: format!("!(request.userInfo.username in {})", json!(SPARED_ACCOUNTS)),
        }]),
        failure_policy: Some("Fail".to_owned()),
        side_effects: "None".to_owned(),
        timeout_seconds: Some(10),
        ..MutatingWebhook::default()
    };
    let metadata = ObjectMeta { name: Some(name(host)), ..ObjectMeta::default() };
    Ok(MutatingWebhookConfiguration { metadata, webhooks: Some(vec![webhook]) })
}

fn requirement(key: &str, operator: &str, values: &[&str]) -> LabelSelectorRequirement {
    let values = (!values.is_empty()).then(|| values.iter().map(ToString::to_string).collect());
    LabelSelectorRequirement { key: key.to_owned(), operator: operator.to_owned(), values }
}

fn name(host: &PolicyHost) -> String {
    format!("clusterwide-{}", host.id())
}

/// Applies the configuration and waits until the API server goes by it.
pub async fn install(client: &kube::Client, host: &PolicyHost) -> Result<()> {
    let webhooks: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let patch = Patch::Apply(configuration(host)?);
    let parameters = PatchParams::apply("kubewarden-controller").force();
    webhooks.patch(&name(host), &parameters, &patch).await.context("applying the webhook configuration")?;
    wait_until_in_use(client, host, true).await
}

/// Deletes the configuration and waits until the API server no longer goes by it.
pub async fn remove(client: &kube::Client, host: &PolicyHost) -> Result<()> {
    let webhooks: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let deleted = webhooks.delete(&name(host), &DeleteParams::default()).await;
    deleted.context("deleting the webhook configuration")?;
    wait_until_in_use(client, host, false).await
}

async fn wait_until_in_use(client: &kube::Client, host: &PolicyHost, wanted: bool) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = serde_json::from_value(
        json!({"metadata": {"generateName": format!("{PROBE}-"), "labels": {ENVIRONMENT_LABEL: "probe"}}}),
    )?;
    let created =
        namespaces.create(&PostParams::default(), &namespace).await.context("creating the probe's namespace")?;
    let namespace = created.metadata.name.context("the probe's namespace has no name")?;
    let began = Instant::now();
    let outcome = async {
        while in_use(client, host, &namespace).await? != wanted {
            ensure!(began.elapsed() < PATIENCE, "the API server did not take note of the webhook within {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    };
    let outcome = outcome.await;
    namespaces.delete(&namespace, &DeleteParams::default()).await.context("deleting the probe's namespace")?;
    outcome
}

/// Whether a dry run of a Deployment comes by the host, or is refused on the host's account.
async fn in_use(client: &kube::Client, host: &PolicyHost, namespace: &str) -> Result<bool> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let deployment = serde_json::from_value(json!({
        "metadata": {"name": PROBE},
        "spec": {
            "selector": {"matchLabels": {"app": PROBE}},
            "template": {
                "metadata": {"labels": {"app": PROBE}},
                "spec": {"containers": [{"name": "probe", "image": "none"}]},
            },
        },
    }))?;
    let before = host.requests().reviews;
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    match deployments.create(&dry_run, &deployment).await {
        Ok(_) => Ok(host.requests().reviews > before),
        Err(kube::Error::Api(status)) if status.message.contains(&format!("{}.kubewarden.admission", host.id())) => {
            Ok(true)
        }
        Err(error) => Err(error).context("probing the webhook"),
    }
}
