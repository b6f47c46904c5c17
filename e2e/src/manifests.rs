//! What users of Scout write, as JSON.

use serde_json::{Value, json};

use crate::cluster::{IMAGE, NODE_LABEL};
use crate::installation::STORE;

/// An App of the installation's store.
pub fn app(name: &str, strategy: &str, environments: &[Value]) -> Value {
    json!({
        "apiVersion": "scout.commandk.dev/v1alpha1", "kind": "App", "metadata": {"name": name},
        "spec": {"storeRef": {"name": STORE}, "deploymentStrategy": strategy, "environments": environments},
    })
}

/// An environment of an App, its source at `<app>/<environment>` by the habit of these tests.
pub fn environment(app: &str, name: &str, reload: &str, links: &[Value]) -> Value {
    json!({"name": name, "reloadStrategy": reload, "source": {"path": format!("{app}/{name}")}, "links": links})
}

/// A link to one Deployment.
pub fn link(namespace: &str, name: &str) -> Value {
    json!({"namespace": namespace, "kind": "Deployment", "name": name})
}

/// A link to every Deployment with this label.
pub fn link_by_label(namespace: &str, key: &str, value: &str) -> Value {
    json!({"namespace": namespace, "kind": "Deployment", "selector": {"matchLabels": {key: value}}})
}

/// A Deployment on a fake node, with a container and an init container, that knows nothing of Scout.
pub fn deployment(namespace: &str, name: &str) -> Value {
    let pods = json!({
        "nodeSelector": {NODE_LABEL: "fake"},
        "initContainers": [{"name": "prepare", "image": "none"}],
        "containers": [{"name": "main", "image": "none", "env": [{"name": "PLAIN", "value": "as written"}]}],
    });
    deployment_of(namespace, name, &pods)
}

/// A Deployment whose container runs a shell script on the real node.
pub fn real_deployment(namespace: &str, name: &str, script: &str) -> Value {
    let container = json!({
        "name": "main", "image": IMAGE, "imagePullPolicy": "Never", "command": ["sh", "-c", script],
    });
    let pods = json!({
        "nodeSelector": {NODE_LABEL: "real"},
        "hostNetwork": true,
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
    });
    deployment_of(namespace, name, &pods)
}

fn deployment_of(namespace: &str, name: &str, pods: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": pods},
        },
    })
}

/// A namespace of an environment.
pub fn namespace(name: &str, environment: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "labels": {"scout.commandk.dev/environment": environment}},
    })
}
