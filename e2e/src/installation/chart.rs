//! Scout's Helm chart, installed as its users install it.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::cluster::Cluster;

/// The name of the release.
pub const RELEASE: &str = "scout";
/// The account that the chart makes for host-sync.
pub const HOST_SYNC_ACCOUNT: &str = "scout-host-sync";
/// The account that the chart makes for the policy server, in Kubewarden's namespace.
const POLICY_SERVER_ACCOUNT: &str = "scout-policy-server";
/// Where Kubewarden is.
const KUBEWARDEN: &str = "kubewarden";

/// What is in a cluster before Scout: Kubewarden's namespace and kinds, and the Prometheus operator's.
const NEIGHBOURS: &str = include_str!("neighbours.yaml");

/// The chart's folder.
pub fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../host-sync/chart")
}

/// Who a process is that runs as a service account: the user, and its groups.
pub struct Account {
    /// `system:serviceaccount:<namespace>:<name>`.
    pub user: String,
    /// The groups of every service account, and of those of its namespace.
    pub groups: [String; 2],
}

impl Account {
    fn new(namespace: &str, name: &str) -> Self {
        let groups = ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
        Self { user: format!("system:serviceaccount:{namespace}:{name}"), groups }
    }

    /// host-sync's.
    pub fn host_sync() -> Self {
        Self::new(super::NAMESPACE, HOST_SYNC_ACCOUNT)
    }

    /// The policy server's.
    pub fn policy_server() -> Self {
        Self::new(KUBEWARDEN, POLICY_SERVER_ACCOUNT)
    }

    /// A client that acts as it.
    pub async fn client(&self, cluster: &Cluster) -> Result<kube::Client> {
        cluster.client_for(&self.user, &self.groups.each_ref().map(String::as_str)).await
    }
}

/// Makes the cluster one that runs Kubewarden and the Prometheus operator, as far as objects go.
pub async fn install_neighbours(cluster: &Cluster) -> Result<()> {
    cluster.kubectl_with_input(&["apply", "--server-side", "-f", "-"], NEIGHBOURS).await?.success()?;
    let kinds = [
        "crd/policyservers.policies.kubewarden.io",
        "crd/clusteradmissionpolicies.policies.kubewarden.io",
        "crd/servicemonitors.monitoring.coreos.com",
    ];
    wait_until_established(cluster, &kinds).await
}

/// Waits until the API server serves these kinds.
async fn wait_until_established(cluster: &Cluster, kinds: &[&str]) -> Result<()> {
    let wait = ["wait", "--for=condition=Established", "--timeout=60s"];
    cluster.kubectl(&[&wait[..], kinds].concat()).await?.success()?;
    Ok(())
}

/// Installs the chart in host-sync's namespace, with further arguments of `helm install`.
pub async fn install(cluster: &Cluster, arguments: &[&str]) -> Result<()> {
    let chart = chart();
    let chart = chart.to_string_lossy();
    let install = ["install", RELEASE, &chart, "--namespace", super::NAMESPACE, "--create-namespace"];
    cluster.helm().run(&[&install[..], arguments].concat()).await?;
    wait_until_established(cluster, &["crd/apps.scout.commandk.dev", "crd/secretstores.scout.commandk.dev"]).await
}
