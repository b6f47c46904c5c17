//! Secrets in the cluster: reading one, writing one, and what refers to one. The only place where values meet Kubernetes.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt, stream};
use host_sync_core::config;
use host_sync_core::plan::{Lookups, SecretSpec};
use host_sync_core::secret_bytes::{Content, Key, SecretBytes};
use host_sync_core::snapshot::{ObjectKey, SecretFacts};
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Resource;
use kube::{Api, Client, ResourceExt};
use policy_core::names::{AppName, REVISION_ANNOTATION, Revision, is_secret_of, revision_label};
use serde::Serialize;
use serde_json::{Value, json};

use super::observe::FIELD_MANAGER;
use crate::api;

/// How many Secrets are read at a time.
const CONCURRENCY: usize = 16;
/// How many pods or ReplicaSets one page of a list holds.
const PAGE: u32 = 500;

/// The version of a Secret that was looked up: a write must not meet another one.
#[derive(Debug, Clone)]
pub(super) struct Version {
    uid: String,
    resource: String,
    keys: Vec<String>,
}

/// What was looked up.
#[derive(Default)]
pub(super) struct LookedUp {
    pub(super) secrets: BTreeMap<ObjectKey, Option<SecretFacts>>,
    pub(super) versions: BTreeMap<ObjectKey, Version>,
    pub(super) referenced: BTreeMap<ObjectKey, bool>,
}

/// Reads what a plan asks for.
pub(super) async fn look_up(
    client: &Client,
    lookups: &Lookups,
    apps: &BTreeMap<AppName, config::App>,
) -> Result<LookedUp> {
    let reads = stream::iter(lookups.secrets.clone()).map(|(namespace, name)| async move {
        let api: Api<Secret> = Api::namespaced(client.clone(), &namespace);
        let secret = api.get_opt(&name).await.with_context(|| format!("reading Secret {namespace}/{name}"))?;
        anyhow::Ok(((namespace, name), secret))
    });
    let read: Vec<_> = reads.buffer_unordered(CONCURRENCY).try_collect().await?;
    let mut looked_up = LookedUp::default();
    for (key, secret) in read {
        if let Some(secret) = &secret {
            looked_up.versions.insert(key.clone(), version_of(secret));
        }
        looked_up.secrets.insert(key, secret.map(|secret| facts_of(secret, apps)));
    }
    let references = stream::iter(lookups.references.clone()).map(|(key, app)| async move {
        let referenced = is_referenced(client, &key, &app).await?;
        anyhow::Ok((key, referenced))
    });
    looked_up.referenced = references.buffer_unordered(CONCURRENCY).try_collect().await?;
    Ok(looked_up)
}

fn version_of(secret: &Secret) -> Version {
    Version {
        uid: secret.uid().unwrap_or_default(),
        resource: secret.resource_version().unwrap_or_default(),
        keys: secret.data.iter().flatten().map(|(key, _)| key.clone()).collect(),
    }
}

fn facts_of(secret: Secret, apps: &BTreeMap<AppName, config::App>) -> SecretFacts {
    let revision = secret.annotations().get(REVISION_ANNOTATION).and_then(|text| Revision::parse(text).ok());
    let owner = owner_of(&secret.metadata, apps);
    let content: Content = secret
        .data
        .into_iter()
        .flatten()
        .filter_map(|(key, ByteString(bytes))| Some((Key::parse(&key).ok()?, SecretBytes::new(bytes))))
        .collect();
    SecretFacts { content, owner, revision }
}

/// The App that owns a Secret. One of an earlier App of that name (another uid) is nobody's: the garbage collector takes it.
fn owner_of(metadata: &ObjectMeta, apps: &BTreeMap<AppName, config::App>) -> Option<AppName> {
    let owner = metadata
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.kind == api::App::kind(&()) && owner.api_version == api::App::api_version(&()))?;
    let name = AppName::parse(&owner.name).ok()?;
    apps.get(&name).is_none_or(|app| app.uid == owner.uid).then_some(name)
}

/// Whether a pod or a live ReplicaSet refers to a Secret. To one that the policy injects, only those that carry the app's
/// label can; one that a user wires (operator mode) may be named by any.
async fn is_referenced(client: &Client, (namespace, name): &ObjectKey, app: &AppName) -> Result<bool> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let finished = |pod: &Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    };
    if any_refers(&pods, app, name, |pod| !finished(pod)).await? {
        return Ok(true);
    }
    let sets: Api<ReplicaSet> = Api::namespaced(client.clone(), namespace);
    let live = |set: &ReplicaSet| {
        let wanted = set.spec.replicas.unwrap_or(1);
        wanted > 0 || set.status.as_ref().is_some_and(|status| status.replicas > 0)
    };
    any_refers(&sets, app, name, live).await
}

async fn any_refers<K>(api: &Api<K>, app: &AppName, secret: &str, counts: impl Fn(&K) -> bool) -> Result<bool>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Serialize + serde::de::DeserializeOwned,
{
    let mut params = ListParams::default().limit(PAGE);
    if is_secret_of(app, secret) {
        params = params.labels(&revision_label(app));
    }
    loop {
        let context = || format!("listing the {} of app {app}", K::plural(&()));
        let page = api.list(&params).await.with_context(context)?;
        for object in page.items.iter().filter(|object| counts(object)) {
            let object = serde_json::to_value(object).with_context(context)?;
            if refers(&object, secret) {
                return Ok(true);
            }
        }
        match page.metadata.continue_ {
            Some(token) if !token.is_empty() => params = params.continue_token(&token),
            _ => return Ok(false),
        }
    }
}

/// Whether a pod spec somewhere in `object` names the Secret: in a variable, in a volume, or through `envFrom`.
fn refers(object: &Value, secret: &str) -> bool {
    match object {
        Value::Object(fields) => fields.iter().any(|(field, value)| {
            let named = match field.as_str() {
                "secretKeyRef" | "secretRef" => value.get("name"),
                "secret" => value.get("secretName").or_else(|| value.get("name")),
                _ => None,
            };
            named.and_then(Value::as_str) == Some(secret) || refers(value, secret)
        }),
        Value::Array(items) => items.iter().any(|item| refers(item, secret)),
        _ => false,
    }
}

/// The object of a Secret that is to be.
fn to_object(spec: &SecretSpec) -> Secret {
    let data = spec.content.iter().map(|(key, bytes)| (key.to_string(), ByteString(bytes.expose().to_vec())));
    Secret {
        metadata: ObjectMeta {
            name: Some(spec.name.clone()),
            namespace: Some(spec.namespace.clone()),
            labels: Some(BTreeMap::from([("app.kubernetes.io/managed-by".to_owned(), "scout".to_owned())])),
            annotations: Some(BTreeMap::from([(REVISION_ANNOTATION.to_owned(), spec.revision.to_string())])),
            owner_references: Some(vec![OwnerReference {
                api_version: api::App::api_version(&()).into_owned(),
                kind: api::App::kind(&()).into_owned(),
                name: spec.app.to_string(),
                uid: spec.app_uid.clone(),
                controller: Some(true),
                block_owner_deletion: None,
            }]),
            ..ObjectMeta::default()
        },
        data: Some(data.collect()),
        immutable: spec.immutable.then_some(true),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    }
}

/// Creates or updates a Secret.
///
/// Not by server-side apply, which creates what is missing and takes over what is there: a create fails where somebody
/// was faster, and an update carries the version that was looked up, so a Secret that is not Scout's is never written over.
pub(super) async fn write(client: &Client, spec: &SecretSpec, version: Option<&Version>) -> Result<()> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &spec.namespace);
    let subject = || format!("Secret {}/{}", spec.namespace, spec.name);
    let object = to_object(spec);
    if !spec.exists {
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        api.create(&params, &object).await.with_context(|| format!("creating {}", subject()))?;
        return Ok(());
    }
    let Some(version) = version else { bail!("{} was not looked up", subject()) };
    let mut patch = serde_json::to_value(&object).context("encoding a Secret")?;
    patch["metadata"]["uid"] = json!(version.uid);
    patch["metadata"]["resourceVersion"] = json!(version.resource);
    for gone in version.keys.iter().filter(|key| Key::parse(key).is_ok_and(|key| spec.content.get(&key).is_none())) {
        patch["data"][gone] = Value::Null;
    }
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    api.patch(&spec.name, &params, &Patch::Merge(&patch)).await.with_context(|| format!("updating {}", subject()))?;
    Ok(())
}

/// Deletes a Secret, if it is still the app's.
pub(super) async fn delete(
    client: &Client,
    (namespace, name): (&str, &str),
    app: &AppName,
    apps: &BTreeMap<AppName, config::App>,
) -> Result<()> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let context = || format!("deleting Secret {namespace}/{name}");
    let Some(secret) = api.get_opt(name).await.with_context(context)? else { return Ok(()) };
    if owner_of(&secret.metadata, apps).as_ref() != Some(app) {
        // Somebody has put another Secret in its place, which is not Scout's to remove.
        return Ok(());
    }
    let preconditions = Preconditions { uid: secret.uid(), resource_version: secret.resource_version() };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    match api.delete(name, &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error).with_context(context),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_found_wherever_a_pod_spec_can_hold_one() {
        let pod = json!({"spec": {
            "containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "a", "key": "k"}}}], "envFrom": [{"secretRef": {"name": "b"}}]}],
            "volumes": [{"secret": {"secretName": "c"}}, {"projected": {"sources": [{"secret": {"name": "d"}}]}}],
        }});
        for name in ["a", "b", "c", "d"] {
            assert!(refers(&pod, name), "{name}");
        }
        assert!(!refers(&pod, "k"));
    }

    #[test]
    fn a_secret_of_an_earlier_app_of_the_same_name_is_nobodys() {
        let metadata = |uid: &str| ObjectMeta {
            owner_references: Some(vec![OwnerReference {
                api_version: "scout.commandk.dev/v1alpha1".into(),
                kind: "App".into(),
                name: "checkout".into(),
                uid: uid.into(),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        };
        let name = AppName::parse("checkout").unwrap();
        let app = config::App {
            name: name.clone(),
            uid: "new".into(),
            deleting: false,
            protected: true,
            store: "files".into(),
            strategy: policy_core::attachment::Strategy::VolumeMount,
            mount_path: "/x".into(),
            redeploy: None,
            environments: BTreeMap::new(),
        };
        let apps = BTreeMap::from([(name.clone(), app)]);
        assert_eq!(owner_of(&metadata("new"), &apps), Some(name.clone()));
        assert_eq!(owner_of(&metadata("old"), &apps), None);
        assert_eq!(owner_of(&metadata("old"), &BTreeMap::new()), Some(name));
        assert_eq!(owner_of(&ObjectMeta::default(), &apps), None);
    }
}
