//! What host-sync watches: Apps and SecretStores, namespaces and workloads (metadata only), and its own records.

use std::time::Duration;

use anyhow::{Context, Result};
use futures::{Stream, StreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{ApiResource, DynamicObject, ListParams, PartialObjectMeta};
use kube::core::Resource;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::observe::Observation;
use super::reach::Reach;
use super::wake::Wake;
use crate::api;

/// How long to wait for the caches to show what was just written; afterwards the next pass plans with what it sees.
const CATCH_UP: Duration = Duration::from_secs(5);

/// The caches, and the tasks that keep them current. They end when this is dropped.
pub(super) struct Watches {
    apps: Store<DynamicObject>,
    stores: Store<DynamicObject>,
    namespaces: Vec<Store<PartialObjectMeta<Namespace>>>,
    config_maps: Store<ConfigMap>,
    /// By the namespace that they are of, where host-sync reaches some only.
    workloads: Vec<(Option<String>, Store<PartialObjectMeta<Deployment>>)>,
    _tasks: JoinSet<()>,
}

/// An object that was written: the caches have caught up once they show this version of it, or a later one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) kind: WrittenKind,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) version: String,
}

/// Which cache shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WrittenKind {
    App,
    SecretStore,
    ConfigMap,
    Workload,
}

/// The API resource of a custom resource, for reading it as raw JSON: one App that this version cannot parse must not
/// blind host-sync to the others.
pub(super) fn raw<K: Resource<DynamicType = ()>>() -> ApiResource {
    ApiResource::erase::<K>(&())
}

impl Watches {
    /// Begins to watch; every change wakes.
    pub(super) fn start(client: &Client, own_namespace: &str, reach: &Reach, wake: &Wake) -> Self {
        let mut tasks = JoinSet::new();
        let apps = keep_raw(&mut tasks, client, &raw::<api::App>(), wake);
        let stores = keep_raw(&mut tasks, client, &raw::<api::SecretStore>(), wake);
        let watches = reach.namespace_watches().into_iter();
        let namespaces = watches.map(|config| keep(&mut tasks, Api::all(client.clone()), config, wake)).collect();
        let own = Api::namespaced(client.clone(), own_namespace);
        let config_maps = keep(&mut tasks, own, watcher::Config::default(), wake);
        let reached = reach.apis(client).into_iter();
        let workloads =
            reached.map(|(of, api)| (of, keep(&mut tasks, api, watcher::Config::default(), wake))).collect();
        Self { apps, stores, namespaces, config_maps, workloads, _tasks: tasks }
    }

    /// Waits until every cache has been filled once.
    pub(super) async fn ready(&self) -> Result<()> {
        let context = "a watch ended before it had listed anything";
        self.apps.wait_until_ready().await.context(context)?;
        self.stores.wait_until_ready().await.context(context)?;
        self.config_maps.wait_until_ready().await.context(context)?;
        for namespaces in &self.namespaces {
            namespaces.wait_until_ready().await.context(context)?;
        }
        for (of, workloads) in &self.workloads {
            // In a namespace that is not there, nobody has rights, and nothing is missed.
            if of.as_ref().is_none_or(|of| self.has_namespace(of)) {
                workloads.wait_until_ready().await.context(context)?;
            }
        }
        Ok(())
    }

    fn has_namespace(&self, name: &str) -> bool {
        self.namespaces.iter().any(|namespaces| namespaces.get(&ObjectRef::new(name)).is_some())
    }

    /// What the caches show now.
    pub(super) fn observation(&self) -> Observation {
        Observation {
            apps: self.apps.state(),
            stores: self.stores.state(),
            namespaces: self.namespaces.iter().flat_map(Store::state).collect(),
            config_maps: self.config_maps.state(),
            workloads: self.workloads.iter().flat_map(|(_, workloads)| workloads.state()).collect(),
        }
    }

    /// Waits until the caches show what was written, so that the next pass does not plan it again.
    pub(super) async fn catch_up(&self, written: &[Written]) {
        let end = Instant::now() + CATCH_UP;
        for one in written {
            while !self.shows(one) && Instant::now() < end {
                sleep(Duration::from_millis(10)).await;
            }
        }
    }

    fn shows(&self, written: &Written) -> bool {
        let (namespace, name) = (written.namespace.as_str(), written.name.as_str());
        let version = match written.kind {
            WrittenKind::App => {
                let key = ObjectRef::new_with(name, raw::<api::App>());
                self.apps.get(&key).and_then(|one| one.resource_version())
            }
            WrittenKind::SecretStore => {
                let key = ObjectRef::new_with(name, raw::<api::SecretStore>());
                self.stores.get(&key).and_then(|one| one.resource_version())
            }
            WrittenKind::ConfigMap => {
                self.config_maps.get(&ObjectRef::new(name).within(namespace)).and_then(|one| one.resource_version())
            }
            WrittenKind::Workload => {
                let key = ObjectRef::new(name).within(namespace);
                self.workloads.iter().find_map(|(_, workloads)| workloads.get(&key)?.resource_version())
            }
        };
        version.is_some_and(|version| at_least(&version, &written.version))
    }
}

/// Whether a resource version is the other one or a later one. They are decimal numbers that grow, which Kubernetes
/// promises since 1.35; where they are not, only equality says something.
pub(super) fn at_least(version: &str, other: &str) -> bool {
    match (version.parse::<u128>(), other.parse::<u128>()) {
        (Ok(version), Ok(other)) => version >= other,
        _ => version == other,
    }
}

/// Reads everything once, without a watch.
pub(super) async fn read_once(client: &Client, own_namespace: &str, reach: &Reach) -> Result<Observation> {
    async fn list<K>(api: Api<K>, params: ListParams, what: &str) -> Result<Vec<std::sync::Arc<K>>>
    where
        K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
    {
        let list = api.list(&params).await.with_context(|| format!("listing {what}"))?;
        Ok(list.items.into_iter().map(std::sync::Arc::new).collect())
    }
    let all = ListParams::default;
    let mut namespaces = Vec::new();
    for watch in reach.namespace_watches() {
        let params = ListParams { field_selector: watch.field_selector, ..all() };
        namespaces.extend(list(Api::all(client.clone()), params, "namespaces").await?);
    }
    let mut workloads = Vec::new();
    for (_, api) in reach.apis(client) {
        workloads.extend(list(api, all(), "Deployments").await?);
    }
    Ok(Observation {
        apps: list(Api::all_with(client.clone(), &raw::<api::App>()), all(), "Apps").await?,
        stores: list(Api::all_with(client.clone(), &raw::<api::SecretStore>()), all(), "SecretStores").await?,
        namespaces,
        config_maps: list(Api::namespaced(client.clone(), own_namespace), all(), "host-sync's own ConfigMaps").await?,
        workloads,
    })
}

fn keep<K>(tasks: &mut JoinSet<()>, api: Api<K>, config: watcher::Config, wake: &Wake) -> Store<K>
where
    K: Resource<DynamicType: Default + Eq + std::hash::Hash + Clone + Send + Sync>,
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let stream = watcher(api, config).modify(trim).reflect(writer);
    tasks.spawn(follow(stream, wake.clone()));
    store
}

fn keep_raw(tasks: &mut JoinSet<()>, client: &Client, resource: &ApiResource, wake: &Wake) -> Store<DynamicObject> {
    let writer = reflector::store::Writer::new(resource.clone());
    let store = writer.as_reader();
    let api: Api<DynamicObject> = Api::all_with(client.clone(), resource);
    let stream = watcher(api, watcher::Config::default()).reflect(writer);
    tasks.spawn(follow(stream, wake.clone()));
    store
}

/// Which fields a manager owns is most of a workload's metadata, and nothing here reads it.
fn trim<K: Resource>(object: &mut K) {
    for entry in object.meta_mut().managed_fields.iter_mut().flatten() {
        entry.fields_v1 = None;
    }
}

async fn follow<K>(stream: impl Stream<Item = watcher::Result<watcher::Event<K>>>, wake: Wake) {
    let mut stream = std::pin::pin!(stream.default_backoff());
    while let Some(event) = stream.next().await {
        match event {
            // Half a list is no news.
            Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => {}
            Ok(_) => wake.up(),
            Err(error) => {
                tracing::warn!(error = %error, "a watch was interrupted and begins again");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(at_least("100", "99"));
        assert!(!at_least("99", "100"));
        assert!(at_least("a", "a") && !at_least("b", "a"));
    }
}
