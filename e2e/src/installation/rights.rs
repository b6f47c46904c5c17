//! The rights of host-sync and of the policy host: what they need, and nothing more. In particular, host-sync may not list
//! or watch Secrets, and the policy host reads ConfigMaps in host-sync's namespace only.

use anyhow::Result;
use serde_json::{Value, json};

use super::objects;
use crate::cluster::Cluster;

/// Makes the namespace, the roles and their bindings.
pub(super) async fn install(cluster: &Cluster, namespace: &str, host_sync: &str, policy_server: &str) -> Result<()> {
    let client = cluster.client();
    for object in manifests(namespace, host_sync, policy_server) {
        objects::apply(&client, &object).await?;
    }
    Ok(())
}

fn rule(groups: &[&str], resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": groups, "resources": resources, "verbs": verbs})
}

fn manifests(namespace: &str, host_sync: &str, policy_server: &str) -> Vec<Value> {
    let rbac = "rbac.authorization.k8s.io/v1";
    let user = |name: &str| json!([{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": name}]);
    let reference =
        |kind: &str, name: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name});
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
        json!({
            "apiVersion": rbac, "kind": "ClusterRole", "metadata": {"name": "scout-host-sync"},
            "rules": [
                rule(&["scout.commandk.dev"], &["apps", "secretstores"], &["get", "list", "watch"]),
                rule(&["scout.commandk.dev"], &["apps", "apps/status", "secretstores/status"], &["patch"]),
                rule(&[""], &["namespaces"], &["list", "watch"]),
                rule(&["apps"], &["deployments"], &["get", "list", "watch", "patch"]),
                rule(&["apps"], &["replicasets"], &["list"]),
                rule(&[""], &["pods"], &["list"]),
                rule(&[""], &["secrets"], &["get", "create", "patch", "delete"]),
                rule(&["events.k8s.io"], &["events"], &["create", "patch"]),
            ],
        }),
        json!({
            "apiVersion": rbac, "kind": "ClusterRoleBinding", "metadata": {"name": "scout-host-sync"},
            "subjects": user(host_sync), "roleRef": reference("ClusterRole", "scout-host-sync"),
        }),
        json!({
            "apiVersion": rbac, "kind": "Role", "metadata": {"name": "scout-host-sync", "namespace": namespace},
            "rules": [
                rule(&[""], &["configmaps"], &["get", "list", "watch", "create", "patch", "delete"]),
                rule(&["coordination.k8s.io"], &["leases"], &["get", "create", "update"]),
            ],
        }),
        json!({
            "apiVersion": rbac, "kind": "RoleBinding", "metadata": {"name": "scout-host-sync", "namespace": namespace},
            "subjects": user(host_sync), "roleRef": reference("Role", "scout-host-sync"),
        }),
        json!({
            "apiVersion": rbac, "kind": "Role", "metadata": {"name": "scout-policy-server", "namespace": namespace},
            "rules": [rule(&[""], &["configmaps"], &["get"])],
        }),
        json!({
            "apiVersion": rbac, "kind": "RoleBinding",
            "metadata": {"name": "scout-policy-server", "namespace": namespace},
            "subjects": user(policy_server), "roleRef": reference("Role", "scout-policy-server"),
        }),
    ]
}
