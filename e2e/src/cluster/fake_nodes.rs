//! Nodes without machines: kwok plays their kubelets, so thousands of pods become Ready.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{ListParams, PostParams};
use serde_json::json;

use super::control_plane::{run, wait_for};
use super::{Cluster, NODE_LABEL};

/// The annotation that makes a Node kwok's.
const ANNOTATION: &str = "kwok.x-k8s.io/node";

impl Cluster {
    /// Adds this many fake nodes, label `e2e.scout/node=fake`, room for 1,000 pods each, and waits until they are Ready.
    pub async fn join_fake_nodes(&self, count: usize) -> Result<()> {
        let mut joined = self.fake_nodes.lock().await;
        if *joined == 0 {
            let kubeconfig = self.kubeconfig_for("kwok", &["system:masters"])?;
            let arguments = vec![
                format!("--kubeconfig={}", kubeconfig.display()),
                format!("--config={}", self.binaries.kwok_stages().display()),
                "--manage-all-nodes=false".to_owned(),
                format!("--manage-nodes-with-annotation-selector={ANNOTATION}=fake"),
                "--node-lease-duration-seconds=40".to_owned(),
            ];
            run(self, "kwok", arguments)?;
        }
        let nodes: Api<Node> = Api::all(self.client());
        for number in *joined..*joined + count {
            let name = format!("fake-{number}");
            nodes
                .create(&PostParams::default(), &node(&name)?)
                .await
                .with_context(|| format!("creating node {name}"))?;
        }
        *joined += count;
        let expected = *joined;
        wait_for(self, "the fake nodes to be Ready", || all_ready(&nodes, "fake", expected)).await
    }
}

fn node(name: &str) -> Result<Node> {
    let room = json!({"cpu": "1000", "memory": "1000Gi", "pods": "1000"});
    serde_json::from_value(json!({
        "metadata": {
            "name": name,
            "annotations": {ANNOTATION: "fake"},
            "labels": {NODE_LABEL: "fake", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux"},
        },
        "status": {"allocatable": room, "capacity": room},
    }))
    .with_context(|| format!("writing node {name}"))
}

/// Whether as many nodes of one sort as expected are Ready and take pods.
pub(super) async fn all_ready(nodes: &Api<Node>, sort: &str, expected: usize) -> Result<(), String> {
    let selector = ListParams::default().labels(&format!("{NODE_LABEL}={sort}"));
    let list = nodes.list(&selector).await.map_err(|error| error.to_string())?;
    let ready = list.items.iter().filter(|node| is_ready(node)).count();
    if ready >= expected { Ok(()) } else { Err(format!("{ready} of {expected} are Ready")) }
}

fn is_ready(node: &Node) -> bool {
    // A new node is tainted until the controller manager has seen it Ready too.
    let tainted = node.spec.as_ref().and_then(|spec| spec.taints.as_ref()).is_some_and(|taints| !taints.is_empty());
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    !tainted && conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}
