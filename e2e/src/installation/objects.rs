//! Objects as JSON: applied, read, patched and deleted as a user would.

use anyhow::{Context, Result, bail};
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams};
use serde_json::Value;

use super::Installation;

/// The kinds that live in no namespace.
const CLUSTER_KINDS: [&str; 5] = ["App", "SecretStore", "Namespace", "ClusterRole", "ClusterRoleBinding"];

/// The API version of a kind.
fn api_version(kind: &str) -> &'static str {
    match kind {
        "App" | "SecretStore" => "scout.commandk.dev/v1alpha1",
        "Deployment" | "ReplicaSet" => "apps/v1",
        "Event" => "events.k8s.io/v1",
        "Role" | "RoleBinding" | "ClusterRole" | "ClusterRoleBinding" => "rbac.authorization.k8s.io/v1",
        _ => "v1",
    }
}

fn api(client: &kube::Client, kind: &str, namespace: &str) -> Api<DynamicObject> {
    let (group, version) = api_version(kind).split_once('/').unwrap_or(("", "v1"));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    if CLUSTER_KINDS.contains(&kind) {
        Api::all_with(client.clone(), &resource)
    } else {
        Api::namespaced_with(client.clone(), namespace, &resource)
    }
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Applies an object as `kubectl apply --server-side` does.
pub(super) async fn apply(client: &kube::Client, object: &Value) -> Result<Value> {
    let (kind, name, namespace) =
        (text(object, "/kind"), text(object, "/metadata/name"), text(object, "/metadata/namespace"));
    let params = PatchParams {
        field_validation: Some(kube::api::ValidationDirective::Strict),
        ..PatchParams::apply("kubectl").force()
    };
    let applied = api(client, kind, namespace).patch(name, &params, &Patch::Apply(object)).await;
    let applied = applied.with_context(|| format!("applying {kind} {namespace}/{name}"))?;
    serde_json::to_value(applied).context("encoding an object")
}

impl Installation {
    /// Applies an object as `kubectl apply --server-side` does; returns it as it is then.
    pub async fn apply(&self, object: &Value) -> Result<Value> {
        apply(&self.cluster.client(), object).await
    }

    /// Creates an object; fails where there is one already.
    pub async fn create(&self, object: &Value) -> Result<Value> {
        let (kind, namespace) = (text(object, "/kind"), text(object, "/metadata/namespace"));
        let typed = serde_json::from_value(object.clone()).context("reading an object")?;
        let created =
            api(&self.cluster.client(), kind, namespace).create(&kube::api::PostParams::default(), &typed).await;
        serde_json::to_value(created.with_context(|| format!("creating {kind}"))?).context("encoding an object")
    }

    /// Reads an object; `None` where there is none.
    pub async fn find(&self, kind: &str, namespace: &str, name: &str) -> Result<Option<Value>> {
        let found = api(&self.cluster.client(), kind, namespace).get_opt(name).await;
        let found = found.with_context(|| format!("reading {kind} {namespace}/{name}"))?;
        found.map(|found| serde_json::to_value(found).context("encoding an object")).transpose()
    }

    /// Reads an object that must be there.
    pub async fn get(&self, kind: &str, namespace: &str, name: &str) -> Result<Value> {
        match self.find(kind, namespace, name).await? {
            Some(found) => Ok(found),
            None => bail!("{kind} {namespace}/{name} does not exist"),
        }
    }

    /// Lists the objects of a kind in a namespace that carry these labels (a selector; empty means all).
    pub async fn list(&self, kind: &str, namespace: &str, selector: &str) -> Result<Vec<Value>> {
        let mut params = ListParams::default();
        if !selector.is_empty() {
            params = params.labels(selector);
        }
        let list = api(&self.cluster.client(), kind, namespace).list(&params).await;
        let list = list.with_context(|| format!("listing {kind}s in {namespace}"))?;
        list.items.into_iter().map(|one| serde_json::to_value(one).context("encoding an object")).collect()
    }

    /// Lists the objects of a kind in every namespace.
    pub async fn list_everywhere(&self, kind: &str) -> Result<Vec<Value>> {
        let (group, version) = api_version(kind).split_once('/').unwrap_or(("", "v1"));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let api: Api<DynamicObject> = Api::all_with(self.cluster.client(), &resource);
        let list = api.list(&ListParams::default()).await.with_context(|| format!("listing {kind}s"))?;
        list.items.into_iter().map(|one| serde_json::to_value(one).context("encoding an object")).collect()
    }

    /// Merges a patch into an object; returns it as it is then.
    pub async fn patch(&self, kind: &str, namespace: &str, name: &str, patch: &Value) -> Result<Value> {
        let patched = api(&self.cluster.client(), kind, namespace)
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        let patched = patched.with_context(|| format!("patching {kind} {namespace}/{name}"))?;
        serde_json::to_value(patched).context("encoding an object")
    }

    /// Deletes an object.
    pub async fn delete(&self, kind: &str, namespace: &str, name: &str) -> Result<()> {
        let deleted = api(&self.cluster.client(), kind, namespace).delete(name, &DeleteParams::default()).await;
        deleted.with_context(|| format!("deleting {kind} {namespace}/{name}"))?;
        Ok(())
    }
}
