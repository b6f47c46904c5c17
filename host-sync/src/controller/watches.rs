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
use super::wake::Wake;
use crate::api;

/// How long to wait for the caches to show what was just written; afterwards the next pass plans with what it sees.
const CATCH_UP: Duration = Duration::from_secs(5);

/// The caches, and the tasks that keep them current. They end when this is dropped.
pub(super) struct Watches {
    apps: Store<DynamicObject>,
    stores: Store<DynamicObject>,
    namespaces: Store<PartialObjectMeta<Namespace>>,
    config_maps: Store<ConfigMap>,
    workloads: Store<PartialObjectMeta<Deployment>>,
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
    pub(super) fn start(client: &Client, own_namespace: &str, wake: &Wake) -> Self {
        let mut tasks = JoinSet::new();
        let apps = keep_raw(&mut tasks, client, &raw::<api::App>(), wake);
        let stores = keep_raw(&mut tasks, client, &raw::<api::SecretStore>(), wake);
        let namespaces = keep(&mut tasks, Api::all(client.clone()), wake);
        let config_maps = keep(&mut tasks, Api::namespaced(client.clone(), own_namespace), wake);
        let workloads = keep(&mut tasks, Api::all(client.clone()), wake);
        Self { apps, stores, namespaces, config_maps, workloads, _tasks: tasks }
    }

    /// Waits until every cache has been filled once.
    pub(super) async fn ready(&self) -> Result<()> {
        let context = "a watch ended before it had listed anything";
        self.apps.wait_until_ready().await.context(context)?;
        self.stores.wait_until_ready().await.context(context)?;
        self.namespaces.wait_until_ready().await.context(context)?;
        self.config_maps.wait_until_ready().await.context(context)?;
        self.workloads.wait_until_ready().await.context(context)
    }

    /// What the caches show now.
    pub(super) fn observation(&self) -> Observation {
        Observation {
            apps: self.apps.state(),
            stores: self.stores.state(),
            namespaces: self.namespaces.state(),
            config_maps: self.config_maps.state(),
            workloads: self.workloads.state(),
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
                self.workloads.get(&ObjectRef::new(name).within(namespace)).and_then(|one| one.resource_version())
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
pub(super) async fn read_once(client: &Client, own_namespace: &str) -> Result<Observation> {
    async fn list<K>(api: Api<K>, what: &str) -> Result<Vec<std::sync::Arc<K>>>
    where
        K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
    {
        let list = api.list(&ListParams::default()).await.with_context(|| format!("listing {what}"))?;
        Ok(list.items.into_iter().map(std::sync::Arc::new).collect())
    }
    Ok(Observation {
        apps: list(Api::all_with(client.clone(), &raw::<api::App>()), "Apps").await?,
        stores: list(Api::all_with(client.clone(), &raw::<api::SecretStore>()), "SecretStores").await?,
        namespaces: list(Api::all(client.clone()), "namespaces").await?,
        config_maps: list(Api::namespaced(client.clone(), own_namespace), "host-sync's own ConfigMaps").await?,
        workloads: list(Api::all(client.clone()), "Deployments").await?,
    })
}

fn keep<K>(tasks: &mut JoinSet<()>, api: Api<K>, wake: &Wake) -> Store<K>
where
    K: Resource<DynamicType: Default + Eq + std::hash::Hash + Clone + Send + Sync>,
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let stream = watcher(api, watcher::Config::default()).modify(trim).reflect(writer);
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
