//! The custom resources: what users write, and what host-sync says of it. `host-sync crds` prints them.
//!
//! The API server checks all that a schema and CEL rules can say, so that a mistake is refused where it is made; the rest
//! is parsed in [`crate::parse`] and reported in a condition.

#![allow(clippy::duplicated_attributes, reason = "every printer column is an attribute with the same parts")]
#![allow(unreachable_pub, reason = "KubeSchema copies each struct into a function to derive its schema")]

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::core::crd::CustomResourceExt;
use kube::{CustomResource, KubeSchema};
use policy_core::attachment::Strategy;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The finalizer that keeps an App as long as something links it.
pub const FINALIZER: &str = "scout.commandk.dev/linked";

/// Every CustomResourceDefinition of Scout.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![SecretStore::crd(), App::crd()]
}

/// Where secrets live, and how host-sync reads them.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "scout.commandk.dev",
    version = "v1alpha1",
    kind = "SecretStore",
    plural = "secretstores",
    shortname = "scs",
    category = "scout",
    status = "SecretStoreStatus",
    derive = "PartialEq",
    doc = "Where secrets live, and how host-sync reads them.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Refresh", type_ = "string", json_path = ".spec.refreshInterval"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.file)").message("name a backend: file"))]
pub struct SecretStoreSpec {
    /// How often every app environment of this store is read again: a number with `s`, `m` or `h`; at least 5s.
    #[serde(default = "default_refresh")]
    #[schemars(length(max = 12), regex(pattern = r"^[1-9][0-9]*(s|m|h)$"))]
    pub refresh_interval: String,
    /// Files on host-sync's own disk, usually a mounted volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileBackend>,
}

fn default_refresh() -> String {
    "1m".to_owned()
}

/// The file backend: a folder or one YAML, JSON or dotenv file per source path. A saved file is delivered at once.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileBackend {
    /// The folder that source paths are relative to, absolute.
    #[schemars(length(max = 4096), regex(pattern = r"^/"))]
    pub path: String,
}

/// What host-sync says of a store.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretStoreStatus {
    /// `Ready`: whether the latest read of everything that Apps take from the store succeeded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}

/// An application's secrets: where they come from and which workloads get them, environment by environment.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "scout.commandk.dev",
    version = "v1alpha1",
    kind = "App",
    plural = "apps",
    shortname = "scapp",
    category = "scout",
    status = "AppStatus",
    derive = "PartialEq",
    doc = "An application's secrets: where they come from and which workloads get them, environment by environment.",
    validation = Rule::new("size(self.metadata.name) <= 50 && !self.metadata.name.contains('.')")
        .message("an App's name becomes part of label keys and volume names: use at most 50 characters and no dot"),
    printcolumn(name = "Store", type_ = "string", json_path = ".spec.storeRef.name"),
    printcolumn(name = "Strategy", type_ = "string", json_path = ".spec.deploymentStrategy"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Message", type_ = "string", priority = "1", json_path = ".status.conditions[?(@.type==\"Ready\")].message"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AppSpec {
    /// The store that holds the secrets.
    pub store_ref: StoreRef,
    /// How the secrets reach containers, in every environment: `EnvironmentVariables` or `VolumeMount`. A change counts
    /// from the next delivery on.
    pub deployment_strategy: DeploymentStrategy,
    /// The folder that the files appear in (`VolumeMount`); default: `/var/run/secrets/scout/<app>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024), regex(pattern = r"^/[^:]+$"))]
    pub mount_path: Option<String>,
    /// The environments, each with a source and the workloads that it goes to.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub environments: Vec<EnvironmentSpec>,
}

/// A store by name.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StoreRef {
    /// The SecretStore.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// How an app's secrets reach containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeploymentStrategy {
    /// One variable per key, from an immutable Secret named by its revision.
    EnvironmentVariables,
    /// One read-only folder of files, from a Secret that is updated in place.
    VolumeMount,
}

impl From<DeploymentStrategy> for Strategy {
    fn from(strategy: DeploymentStrategy) -> Self {
        match strategy {
            DeploymentStrategy::EnvironmentVariables => Self::EnvironmentVariables,
            DeploymentStrategy::VolumeMount => Self::VolumeMount,
        }
    }
}

/// One environment of an App.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnvironmentSpec {
    /// The environment: the value of the label `scout.commandk.dev/environment` of the namespaces it is for.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"))]
    pub name: String,
    /// `Agent`: the policy injects the secrets. `Operator`: one Secret of a stable name, which you wire yourself.
    #[serde(default)]
    pub mode: Mode,
    /// `Auto`: a new revision rolls the workloads. `Manual`: they follow at their next rollout.
    #[serde(default)]
    pub reload_strategy: ReloadStrategy,
    /// Where in the store.
    pub source: Source,
    /// Which keys, under which names; absent: every key under its own name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub keys: Option<Vec<KeySpec>>,
    /// The Secret's name (`Operator`); default: the App's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub secret_name: Option<String>,
    /// The workloads that get the secrets. Without any, nothing is delivered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub links: Vec<LinkSpec>,
}

/// Who brings the secrets to the containers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// The policy injects them.
    #[default]
    Agent,
    /// The user wires one Secret of a stable name.
    Operator,
}

/// Whether a new revision rolls what runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ReloadStrategy {
    /// It does.
    #[default]
    Auto,
    /// It waits for the workload's next rollout.
    Manual,
}

/// Where in a store an environment's secrets are.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// Relative to the store, parts separated by `/`.
    #[schemars(length(min = 1, max = 512))]
    pub path: String,
}

/// One selected key.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeySpec {
    /// Its name in the store.
    #[schemars(length(min = 1, max = 512))]
    pub name: String,
    /// Its name as delivered: the variable, the file, the Secret's key; default: as in the store.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub delivered_as: Option<String>,
}

/// Workloads of one namespace: one by name, or all that a selector matches, now and later.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.name) != has(self.selector)")
    .message("a link names one workload (name) or selects some (selector): set exactly one of the two"))]
pub struct LinkSpec {
    /// The namespace. Its label must name the same environment.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// The workloads' kind.
    pub kind: LinkKind,
    /// The workload's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub name: Option<String>,
    /// The workloads' labels (of the workload itself, not of its pods).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// A kind of workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LinkKind {
    /// `apps/v1` Deployment.
    Deployment,
}

/// What host-sync says of an App.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppStatus {
    /// `Ready`: all is delivered and runs everywhere it may. `Delivered`: the newest content is in the cluster.
    /// `Terminating`: deletion was asked for, and links hold the App.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
    /// What was delivered, by environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environments: BTreeMap<String, EnvironmentStatus>,
    /// The generation of the App that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// What was delivered of one environment, and where it runs.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentStatus {
    /// The newest delivered content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// When it was delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_at: Option<Time>,
    /// The mode as delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// The strategy as delivered (`Agent`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_strategy: Option<DeploymentStrategy>,
    /// The reload strategy as delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload_strategy: Option<ReloadStrategy>,
    /// What of the spec takes effect at the next delivery.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<String>,
    /// The workloads that do not run the newest revision, at most twenty, each with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<String>,
    /// How many linked workloads are where.
    #[serde(default)]
    pub workloads: WorkloadCounts,
}

/// How many linked workloads are where. In the schema as `i32`: Kubernetes warns of a format `uint32`, which it does not know.
#[derive(KubeSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadCounts {
    /// Every replica runs the newest revision.
    #[schemars(with = "i32")]
    pub ready: u32,
    /// Its rollout is on its way.
    #[schemars(with = "i32")]
    pub rolling: u32,
    /// It does not hold the newest revision: manual, budget, paused, contested, ignored.
    #[schemars(with = "i32")]
    pub pending: u32,
    /// Its rollout failed.
    #[schemars(with = "i32")]
    pub failed: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_crd_has_a_short_name_columns_and_a_status() {
        for crd in crds() {
            let version = &crd.spec.versions[0];
            assert!(crd.spec.names.short_names.is_some_and(|names| !names.is_empty()));
            assert!(version.additional_printer_columns.as_ref().is_some_and(|columns| columns.len() >= 4));
            assert!(version.subresources.as_ref().is_some_and(|all| all.status.is_some()));
        }
    }

    #[test]
    fn a_misspelt_field_is_refused_by_name() {
        let error = serde_json::from_str::<LinkSpec>(r#"{"namespace":"shop","kind":"Deployment","nmae":"api"}"#);
        assert!(error.unwrap_err().to_string().contains("unknown field `nmae`"));
    }
}
