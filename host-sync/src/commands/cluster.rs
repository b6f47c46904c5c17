//! What commands read of the cluster, each part of it known or, where the user has no right to read it, a sentence why not.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt, stream};
use host_sync_core::history::{self, History, UnixSeconds};
use host_sync_core::snapshot::{NamespaceFacts, StateFacts, WorkloadFacts};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DynamicObject, ListParams, PartialObjectMeta};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};
use policy_core::desired_state::DesiredState;
use policy_core::names::{ENVIRONMENT_LABEL, Environment, WorkloadKind, delivery_history_name, desired_state_name};
use policy_core::selector::{Labels, Selector};

use crate::api;
use crate::cli::ConnectionArguments;
use crate::controller::observe::workload_facts;
use crate::controller::rollouts::rollout;
use crate::parse;

/// How many requests are on their way at a time.
const CONCURRENCY: usize = 8;

/// What was read, or why the user may not read it.
pub(super) type Seen<T> = Result<T, String>;

/// Everything that an answer is made of.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// When it was read.
    pub(super) now: UnixSeconds,
    /// The Apps.
    pub(super) apps: Vec<AppSeen>,
    /// The SecretStores, by name.
    pub(super) stores: Seen<BTreeMap<String, StoreSeen>>,
    /// The namespaces that were looked into.
    pub(super) namespaces: BTreeMap<String, NamespaceSeen>,
}

/// An App as read.
#[derive(Debug, Clone)]
pub(super) struct AppSeen {
    /// Its name.
    pub(super) name: String,
    /// Its spec and name, or why they cannot be used.
    pub(super) config: Result<host_sync_core::config::App, String>,
    /// What host-sync says of it.
    pub(super) status: api::AppStatus,
}

/// A SecretStore as read.
#[derive(Debug, Clone, Default)]
pub(super) struct StoreSeen {
    /// Its spec, or why it cannot be used.
    pub(super) spec: Option<api::SecretStoreSpec>,
    /// What host-sync says of it.
    pub(super) status: api::SecretStoreStatus,
}

/// A namespace as read.
#[derive(Debug, Clone)]
pub(super) struct NamespaceSeen {
    /// Its label, if it exists.
    pub(super) facts: Seen<Option<NamespaceFacts>>,
    /// Its desired state, if there is one.
    pub(super) state: Seen<Option<StateFacts>>,
    /// What was delivered there, if that is recorded.
    pub(super) history: Seen<Option<History>>,
    /// Its workloads.
    pub(super) workloads: Seen<Vec<WorkloadSeen>>,
    /// Its pods.
    pub(super) pods: Seen<Vec<PodSeen>>,
}

impl NamespaceSeen {
    /// Its desired state, where it can be read.
    pub(super) fn readable_state(&self) -> Option<&DesiredState> {
        match self.state.as_ref().ok()?.as_ref()? {
            StateFacts::Readable(state) => Some(state),
            StateFacts::Unreadable(_) => None,
        }
    }

    /// The pods of a workload, if they could be read.
    pub(super) fn pods_of(&self, workload: &WorkloadSeen) -> Option<Vec<&PodSeen>> {
        let pods = self.pods.as_ref().ok()?;
        Some(pods.iter().filter(|pod| workload.selector.matches(&pod.labels)).collect())
    }

    /// Why some of it is not known.
    fn unknown(&self) -> impl Iterator<Item = &String> {
        let reasons = [
            self.facts.as_ref().err(),
            self.state.as_ref().err(),
            self.history.as_ref().err(),
            self.workloads.as_ref().err(),
            self.pods.as_ref().err(),
        ];
        reasons.into_iter().flatten()
    }
}

/// A workload as read.
#[derive(Debug, Clone)]
pub(super) struct WorkloadSeen {
    /// As the plan sees it.
    pub(super) facts: WorkloadFacts,
    /// Which pods are its own.
    pub(super) selector: Selector,
    /// How many pods it wants.
    pub(super) replicas: i32,
    /// When its controller last said something of its rollout.
    pub(super) progressed_at: Option<UnixSeconds>,
}

/// A pod, as far as its metadata tells.
#[derive(Debug, Clone)]
pub(super) struct PodSeen {
    /// Its labels.
    pub(super) labels: Labels,
}

impl Facts {
    /// Why some of it is not known, each sentence once.
    pub(super) fn unknown(&self) -> BTreeSet<&String> {
        self.stores
            .as_ref()
            .err()
            .into_iter()
            .chain(self.namespaces.values().flat_map(NamespaceSeen::unknown))
            .collect()
    }

    /// The app of that name.
    pub(super) fn app(&self, name: &str) -> Option<&AppSeen> {
        self.apps.iter().find(|app| app.name == name)
    }
}

/// Connects as the kubeconfig says, or as the pod that this runs in.
pub(crate) async fn connect(connection: &ConnectionArguments) -> Result<Client> {
    let options = KubeConfigOptions { context: connection.context.clone(), ..KubeConfigOptions::default() };
    let fix = "run inside a cluster, or point KUBECONFIG (or --kubeconfig) at a kubeconfig whose context names one";
    let config = match (&connection.kubeconfig, &connection.context) {
        (Some(path), _) => {
            let kubeconfig = Kubeconfig::read_from(path).with_context(|| format!("reading {}", path.display()))?;
            Config::from_custom_kubeconfig(kubeconfig, &options).await
        }
        (None, Some(_)) => Config::from_kubeconfig(&options).await,
        (None, None) => {
            return Client::try_default().await.with_context(|| format!("connecting to the cluster: {fix}"));
        }
    };
    let config = config.with_context(|| format!("connecting to the cluster: {fix}"))?;
    Client::try_from(config).context("connecting to the cluster")
}

/// What a refused read comes to; every other failure is one.
fn seen<T>(result: kube::Result<T>, what: &str) -> Result<Seen<T>> {
    match result {
        Ok(read) => Ok(Ok(read)),
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(Err(format!("you have no right to {what}"))),
        Err(error) => Err(anyhow::Error::new(error).context(format!("asked to {what}"))),
    }
}

/// Reads the Apps, all or one.
pub(super) async fn read_apps(client: &Client, only: Option<&str>) -> Result<Vec<AppSeen>> {
    let resource = kube::api::ApiResource::erase::<api::App>(&());
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let apps = match only {
        None => api.list(&ListParams::default()).await.map(|list| list.items),
        Some(name) => api.get_opt(name).await.map(|found| found.into_iter().collect()),
    };
    let apps = apps.context("reading Apps (are the custom resources installed? 'crds' prints them)")?;
    if let (Some(name), true) = (only, apps.is_empty()) {
        bail!("App {name} does not exist: 'kubectl get apps.scout.commandk.dev' lists those that do");
    }
    Ok(apps.iter().map(app_seen).collect())
}

fn app_seen(object: &DynamicObject) -> AppSeen {
    let status = object.data.get("status").and_then(|status| serde_json::from_value(status.clone()).ok());
    let resource = serde_json::to_value(object).and_then(serde_json::from_value::<api::App>);
    let config = resource
        .map_err(|error| format!("its spec is not understood: {error}"))
        .and_then(|app| parse::app(&app).map_err(|error| error.to_string()));
    AppSeen { name: object.name_any(), config, status: status.unwrap_or_default() }
}

async fn read_stores(client: &Client) -> Result<Seen<BTreeMap<String, StoreSeen>>> {
    let resource = kube::api::ApiResource::erase::<api::SecretStore>(&());
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let stores = seen(api.list(&ListParams::default()).await, "list SecretStores")?;
    let of = |object: &DynamicObject| StoreSeen {
        spec: object.data.get("spec").and_then(|spec| serde_json::from_value(spec.clone()).ok()),
        status: object
            .data
            .get("status")
            .and_then(|status| serde_json::from_value(status.clone()).ok())
            .unwrap_or_default(),
    };
    Ok(stores.map(|list| list.items.iter().map(|object| (object.name_any(), of(object))).collect()))
}

/// Reads everything about these Apps that the user may read, in every namespace that they link or in the named one only.
pub(super) async fn read(client: &Client, own_namespace: &str, app: Option<&str>, only: Option<&str>) -> Result<Facts> {
    let apps = read_apps(client, app).await?;
    let stores = read_stores(client).await?;
    let linked: BTreeSet<&String> = apps
        .iter()
        .filter_map(|app| app.config.as_ref().ok())
        .flat_map(|config| config.environments.values().flat_map(|one| one.links.keys()))
        .filter(|namespace| only.is_none_or(|only| only == namespace.as_str()))
        .collect();
    let names: Vec<String> = linked.into_iter().cloned().collect();
    let reads = stream::iter(names).map(|namespace| async move {
        let read = read_namespace(client, own_namespace, &namespace).await?;
        anyhow::Ok((namespace, read))
    });
    let namespaces = reads.buffer_unordered(CONCURRENCY).try_collect().await?;
    Ok(Facts { now: Timestamp::now().as_second(), apps, stores, namespaces })
}

/// Reads one namespace.
pub(super) async fn read_namespace(client: &Client, own_namespace: &str, namespace: &str) -> Result<NamespaceSeen> {
    let records: Api<ConfigMap> = Api::namespaced(client.clone(), own_namespace);
    let workloads: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let (state_name, history_name) = (desired_state_name(namespace), delivery_history_name(namespace));
    let everything = ListParams::default();
    // What has run to its end runs no revision; metadata alone would not tell.
    let running = ListParams::default().fields("status.phase!=Succeeded,status.phase!=Failed");
    let (facts, state, history, workloads, pods) = tokio::join!(
        namespaces.get_opt(namespace),
        records.get_opt(&state_name),
        records.get_opt(&history_name),
        workloads.list(&everything),
        pods.list_metadata(&running),
    );
    let records = format!("get ConfigMaps in namespace {own_namespace}, which hold what is delivered");
    let facts = seen(facts, "get Namespaces, whose label names the environment")?;
    let pods = seen(pods, &format!("list Pods in namespace {namespace}"))?;
    Ok(NamespaceSeen {
        facts: facts.map(|found| found.as_ref().map(namespace_facts)),
        state: seen(state, &records)?.map(|found| found.map(|map| state_facts(&map, namespace))),
        history: seen(history, &records)?.map(|found| found.and_then(|map| history_of(&map))),
        workloads: seen(workloads, &format!("list Deployments in namespace {namespace}"))?
            .map(|list| list.items.iter().map(workload_seen).collect()),
        pods: pods.map(|list| list.items.iter().filter(|pod| is_there(pod)).map(pod_seen).collect()),
    })
}

fn namespace_facts(namespace: &Namespace) -> NamespaceFacts {
    NamespaceFacts {
        environment: namespace.labels().get(ENVIRONMENT_LABEL).and_then(|label| Environment::parse(label).ok()),
        terminating: namespace.metadata.deletion_timestamp.is_some(),
        unwatched: false,
    }
}

fn state_facts(map: &ConfigMap, namespace: &str) -> StateFacts {
    let texts = map.data.iter().flatten().map(|(key, value)| (key.as_str(), value.as_str()));
    match DesiredState::from_data(texts, namespace) {
        Ok(state) => StateFacts::Readable(state),
        Err(error) => StateFacts::Unreadable(error.to_string()),
    }
}

fn history_of(map: &ConfigMap) -> Option<History> {
    history::from_data(&map.name_any(), map.data.as_ref()?).ok()
}

pub(super) fn workload_seen(deployment: &Deployment) -> WorkloadSeen {
    let mut facts = workload_facts(WorkloadKind::Deployment, &deployment.metadata);
    facts.rollout = rollout(deployment);
    let conditions = deployment.status.as_ref().and_then(|status| status.conditions.as_ref());
    let progressing = conditions.into_iter().flatten().find(|one| one.type_.as_deref() == Some("Progressing"));
    WorkloadSeen {
        facts,
        selector: parse::selector(&deployment.spec.selector).unwrap_or_default(),
        replicas: deployment.spec.replicas.unwrap_or(1),
        progressed_at: progressing.and_then(|one| one.last_update_time.as_ref()).map(|time| time.0.as_second()),
    }
}

/// A pod that is being deleted runs nothing that counts.
fn is_there(pod: &PartialObjectMeta<Pod>) -> bool {
    pod.metadata.deletion_timestamp.is_none()
}

fn pod_seen(pod: &PartialObjectMeta<Pod>) -> PodSeen {
    PodSeen { labels: pod.labels().clone() }
}
