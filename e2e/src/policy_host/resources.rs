//! `kubernetes/get_resource`: objects of the real API server, cached as policy-server caches them.
//!
//! The semantics and texts are those of policy-evaluator's callback handler: successes are kept for 5 s under one mutex that is held
//! while the API server is asked, failures are never kept, and a not-found is nothing but a text.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use kube::api::{Api, ApiResource, DynamicObject};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::field_mask::FieldMask;

/// How long a successful read answers further reads that allow it.
const FRESH: Duration = Duration::from_secs(5);

/// The payload of the host call, as `GetResourceRequest` of kubewarden-policy-sdk writes it.
#[derive(Debug, Deserialize)]
pub(super) struct GetResource {
    pub(super) api_version: String,
    pub(super) kind: String,
    name: String,
    namespace: Option<String>,
    disable_cache: bool,
    field_masks: Option<Vec<String>>,
}

/// Reads objects for guests.
pub(super) struct Resources {
    client: kube::Client,
    kinds: Mutex<HashMap<(String, String), Kind>>,
    objects: Mutex<HashMap<String, (Instant, DynamicObject)>>,
    reads: AtomicU64,
}

#[derive(Clone)]
struct Kind {
    resource: ApiResource,
    namespaced: bool,
}

impl Resources {
    pub(super) fn new(client: kube::Client) -> Self {
        Self { client, kinds: Mutex::default(), objects: Mutex::default(), reads: AtomicU64::new(0) }
    }

    /// How many objects the API server was asked for.
    pub(super) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// The object as JSON text; a mask prunes everything but apiVersion, kind and metadata.
    pub(super) async fn get(&self, request: &GetResource) -> Result<Vec<u8>> {
        let mut object =
            if request.disable_cache { self.read(request).await? } else { self.read_through_cache(request).await? };
        if let Some(paths) = &request.field_masks {
            FieldMask::new(paths).prune(&mut object.data);
        }
        serde_json::to_vec(&object).map_err(|error| anyhow!("error serializing payload: {error:?}"))
    }

    async fn read_through_cache(&self, request: &GetResource) -> Result<DynamicObject> {
        let GetResource { api_version, kind, name, namespace, .. } = request;
        let key = format!("{api_version}/{kind}:{name}:{namespace:?}");
        let mut objects = self.objects.lock().await;
        if let Some((read, object)) = objects.get(&key)
            && read.elapsed() < FRESH
        {
            return Ok(object.clone());
        }
        let object = self.read(request).await?;
        objects.insert(key, (Instant::now(), object.clone()));
        Ok(object)
    }

    async fn read(&self, request: &GetResource) -> Result<DynamicObject> {
        let GetResource { api_version, kind, name, namespace, .. } = request;
        let Kind { resource, namespaced } = self.kind(api_version, kind).await?;
        let client = self.client.clone();
        let api: Api<DynamicObject> = if namespaced {
            let namespace = namespace.as_deref().with_context(|| {
                format!("Resource {api_version}/{kind} is namespaced, but no namespace was provided")
            })?;
            Api::namespaced_with(client, namespace, &resource)
        } else {
            Api::all_with(client, &resource)
        };
        self.reads.fetch_add(1, Ordering::Relaxed);
        api.get_opt(name).await?.with_context(|| {
            format!("Cannot find {api_version}/{kind} named '{name}' inside of namespace '{namespace:?}'")
        })
    }

    /// Finds the kind among what the API server offers; what was found once is remembered for good.
    async fn kind(&self, api_version: &str, kind: &str) -> Result<Kind> {
        let key = (api_version.to_owned(), kind.to_owned());
        if let Some(known) = self.kinds.lock().await.get(&key) {
            return Ok(known.clone());
        }
        let (group, version) = match api_version {
            "v1" => ("", "v1"),
            _ => api_version
                .split_once('/')
                .with_context(|| format!("cannot determine group and version for {api_version}"))?,
        };
        let offered = if group.is_empty() {
            self.client.list_core_api_resources(version).await?
        } else {
            let offered = self.client.list_api_group_resources(api_version).await;
            offered.map_err(|error| anyhow!("error finding resource {api_version} / {kind}: {error}"))?
        };
        let found = offered.resources.into_iter().find(|resource| resource.kind == kind);
        let found = found.with_context(|| format!("Cannot find resource {api_version}/{kind}"))?;
        let known = Kind {
            resource: ApiResource {
                group: group.to_owned(),
                version: version.to_owned(),
                api_version: api_version.to_owned(),
                kind: kind.to_owned(),
                plural: found.name,
            },
            namespaced: found.namespaced,
        };
        self.kinds.lock().await.insert(key, known.clone());
        Ok(known)
    }
}
