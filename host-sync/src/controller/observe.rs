//! From what the caches show to a snapshot: parsing, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use host_sync_core::config;
use host_sync_core::history;
use host_sync_core::snapshot::{
    MutationMode, NamespaceFacts, ObjectKey, Requested, Rollout, Snapshot, StateFacts, WorkloadFacts,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use kube::api::{DynamicObject, PartialObjectMeta};
use policy_core::attachment::Attachments;
use policy_core::desired_state::DesiredState;
use policy_core::names::{
    ATTACHED_ANNOTATION, AppName, ENVIRONMENT_LABEL, Environment, MUTATION_MODE_ANNOTATION, REDEPLOY_ANNOTATION,
    REQUESTED_ANNOTATION, WorkloadKind, delivery_history_name, desired_state_name,
};

use super::reach::Reach;
use crate::api;
use crate::parse;

/// The field manager of everything that host-sync writes.
pub(super) const FIELD_MANAGER: &str = "scout-host-sync";

/// The objects, as read.
#[derive(Default)]
pub(super) struct Observation {
    pub(super) apps: Vec<Arc<DynamicObject>>,
    pub(super) stores: Vec<Arc<DynamicObject>>,
    pub(super) namespaces: Vec<Arc<PartialObjectMeta<Namespace>>>,
    pub(super) config_maps: Vec<Arc<ConfigMap>>,
    pub(super) workloads: Vec<Arc<PartialObjectMeta<Deployment>>>,
}

/// An App as read, and what became of it.
pub(super) struct ObservedApp {
    /// Its metadata.
    pub(super) metadata: ObjectMeta,
    /// Its status, as somebody (usually host-sync) last wrote it.
    pub(super) status: Option<api::AppStatus>,
    /// Why it cannot be used, if it cannot.
    pub(super) error: Option<String>,
    /// The field manager that set the redeploy annotation.
    pub(super) asked_by: Option<String>,
}

/// A SecretStore as read.
pub(super) struct ObservedStore {
    /// Its metadata.
    pub(super) metadata: ObjectMeta,
    /// Its status, as somebody (usually host-sync) last wrote it.
    pub(super) status: Option<api::SecretStoreStatus>,
    /// Its spec, or why it cannot be used.
    pub(super) spec: Result<api::SecretStoreSpec, String>,
}

/// The parsed moment.
pub(super) struct Observed {
    /// What the plan sees; fetches, Secrets and references are not in it yet.
    pub(super) snapshot: Snapshot,
    /// Every App, by name.
    pub(super) apps: BTreeMap<String, ObservedApp>,
    /// Every SecretStore, by name.
    pub(super) stores: BTreeMap<String, ObservedStore>,
    /// The metadata of each workload in an associated namespace.
    pub(super) workloads: BTreeMap<ObjectKey, ObjectMeta>,
}

/// Parses everything. Rollouts are not known from metadata; [`Observed::with_rollouts`] adds them.
///
/// A namespace beyond host-sync's reach that a link or a record names is taken to be there and to hold what it held.
pub(super) fn observe(observation: &Observation, reach: &Reach) -> Observed {
    let mut snapshot = Snapshot::default();
    let mut apps = BTreeMap::new();
    for object in &observation.apps {
        let (observed, parsed) = observe_app(object);
        match parsed {
            Some(app) => {
                snapshot.apps.insert(app.name.clone(), app);
            }
            None => snapshot.unparsable_apps.extend(AppName::parse(&object.name_any())),
        }
        apps.insert(object.name_any(), observed);
    }
    let stores = observation.stores.iter().map(|object| (object.name_any(), observe_store(object))).collect();
    for namespace in &observation.namespaces {
        let label = namespace.labels().get(ENVIRONMENT_LABEL);
        let facts = NamespaceFacts {
            environment: label.and_then(|label| Environment::parse(label).ok()),
            terminating: namespace.metadata.deletion_timestamp.is_some(),
            unwatched: false,
        };
        snapshot.namespaces.insert(namespace.name_any(), facts);
    }
    for config_map in &observation.config_maps {
        observe_records(config_map, &mut snapshot);
    }
    observe_unwatched(&mut snapshot, reach);
    let mut workloads = BTreeMap::new();
    for workload in &observation.workloads {
        let namespace = workload.namespace().unwrap_or_default();
        if snapshot.environment_of(&namespace).is_some() && workload.metadata.deletion_timestamp.is_none() {
            let facts = workload_facts(WorkloadKind::Deployment, &workload.metadata);
            workloads.insert((namespace.clone(), facts.name.clone()), workload.metadata.clone());
            snapshot.workloads.entry(namespace).or_default().push(facts);
        }
    }
    Observed { snapshot, apps, stores, workloads }
}

fn observe_unwatched(snapshot: &mut Snapshot, reach: &Reach) {
    let environments = snapshot.apps.values().flat_map(|app| app.environments.values());
    let linked = environments.flat_map(|environment| environment.links.keys());
    let named = linked.chain(snapshot.states.keys()).chain(snapshot.histories.keys());
    let unwatched: Vec<String> = named.filter(|namespace| !reach.holds(namespace)).cloned().collect();
    let facts = NamespaceFacts { unwatched: true, ..NamespaceFacts::default() };
    snapshot.namespaces.extend(unwatched.into_iter().map(|namespace| (namespace, facts.clone())));
}

fn observe_app(object: &DynamicObject) -> (ObservedApp, Option<config::App>) {
    let status = object.data.get("status").and_then(|status| serde_json::from_value(status.clone()).ok());
    let resource = serde_json::to_value(object)
        .and_then(serde_json::from_value::<api::App>)
        .map_err(|error| format!("its spec is not understood ({error}): upgrade host-sync, or correct the App"));
    let parsed = resource.and_then(|resource| parse::app(&resource).map_err(|error| error.to_string()));
    let error = parsed.as_ref().err().cloned();
    let asked_by = asked_by(&object.metadata);
    (ObservedApp { metadata: object.metadata.clone(), status, error, asked_by }, parsed.ok())
}

/// The field manager that owns the redeploy annotation. Source of the format: structured-merge-diff's `FieldsV1`.
fn asked_by(metadata: &ObjectMeta) -> Option<String> {
    let annotation = format!("f:{REDEPLOY_ANNOTATION}");
    let owners = metadata.managed_fields.iter().flatten().filter(|entry| {
        let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
        fields.and_then(|fields| fields.get("f:metadata")?.get("f:annotations")?.get(&annotation)).is_some()
    });
    owners.max_by_key(|entry| entry.time.as_ref().map(|time| time.0))?.manager.clone()
}

fn observe_store(object: &DynamicObject) -> ObservedStore {
    let status = object.data.get("status").and_then(|status| serde_json::from_value(status.clone()).ok());
    let spec = object.data.get("spec").cloned().unwrap_or_default();
    let spec = serde_json::from_value::<api::SecretStoreSpec>(spec)
        .map_err(|error| format!("its spec is not understood ({error}): upgrade host-sync, or correct the SecretStore"))
        .and_then(|spec| match parse::refresh_interval(&spec.refresh_interval) {
            Ok(_) => Ok(spec),
            Err(error) => Err(error.to_string()),
        });
    ObservedStore { metadata: object.metadata.clone(), status, spec }
}

fn observe_records(config_map: &ConfigMap, snapshot: &mut Snapshot) {
    let name = config_map.name_any();
    let empty = BTreeMap::new();
    let data = config_map.data.as_ref().unwrap_or(&empty);
    if let Some(namespace) = name.strip_prefix(&desired_state_name("")) {
        let texts = data.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let facts = match DesiredState::from_data(texts, namespace) {
            Ok(state) => StateFacts::Readable(state),
            Err(error) => StateFacts::Unreadable(format!("{error} (in host-sync's own namespace): {}", error.remedy())),
        };
        snapshot.states.insert(namespace.to_owned(), facts);
    } else if let Some(namespace) = name.strip_prefix(&delivery_history_name("")) {
        let history = history::from_data(&name, data).map_err(|error| error.to_string());
        snapshot.histories.insert(namespace.to_owned(), history);
    }
}

pub(crate) fn workload_facts(kind: WorkloadKind, metadata: &ObjectMeta) -> WorkloadFacts {
    let annotation = |key: &str| metadata.annotations.as_ref().and_then(|all| all.get(key)).map(String::as_str);
    let managers = metadata.managed_fields.iter().flatten().filter(|entry| entry.subresource.is_none());
    let seconds = |entry: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry| {
        entry.time.as_ref().map_or(0, |time| time.0.as_second())
    };
    let (own, others): (Vec<_>, Vec<_>) = managers.partition(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER));
    let touched_at = own.into_iter().map(seconds).max().unwrap_or_default();
    let last = others.into_iter().max_by_key(|entry| seconds(entry));
    WorkloadFacts {
        kind,
        name: metadata.name.clone().unwrap_or_default(),
        labels: metadata.labels.clone().unwrap_or_default(),
        mode: match annotation(MUTATION_MODE_ANNOTATION) {
            None => MutationMode::Normal,
            Some("ignore-and-detach") => MutationMode::IgnoreAndDetach,
            // Admission refuses any other value; one from before the policy was there is a wish to be left alone.
            Some(_) => MutationMode::Ignore,
        },
        attached: annotation(ATTACHED_ANNOTATION).map(Attachments::from_json).unwrap_or_default(),
        requested: annotation(REQUESTED_ANNOTATION).and_then(|text| parse_requested(text, touched_at)),
        rollout: Rollout::Ready,
        last_manager: last.and_then(|entry| entry.manager.clone()),
    }
}

fn parse_requested(text: &str, at: i64) -> Option<Requested> {
    let (digest, attempt) = text.rsplit_once('.')?;
    Some(Requested { digest: digest.to_owned(), attempt: attempt.parse().ok()?, at })
}

impl Observed {
    /// The workloads whose rollouts matter: they hold something of Scout, or are meant to.
    pub(super) fn rolling_candidates(&self) -> BTreeSet<ObjectKey> {
        let mut candidates = BTreeSet::new();
        for (namespace, workloads) in &self.snapshot.workloads {
            let state = self.snapshot.state_of(namespace);
            for workload in workloads {
                let meant = state.is_some_and(|state| {
                    state.apps.values().any(|entry| entry.matches(workload.kind, &workload.name, &workload.labels))
                });
                if meant || !workload.attached.is_empty() {
                    candidates.insert((namespace.clone(), workload.name.clone()));
                }
            }
        }
        candidates
    }

    /// Adds where the rollouts stand.
    pub(super) fn with_rollouts(mut self, rollouts: &BTreeMap<ObjectKey, Rollout>) -> Self {
        for (namespace, workloads) in &mut self.snapshot.workloads {
            for workload in workloads {
                if let Some(rollout) = rollouts.get(&(namespace.clone(), workload.name.clone())) {
                    workload.rollout = rollout.clone();
                }
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn metadata(value: serde_json::Value) -> ObjectMeta {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_touch_is_read_back_with_its_attempt_and_time() {
        let facts = workload_facts(
            WorkloadKind::Deployment,
            &metadata(json!({
                "name": "api",
                "annotations": {"scout.commandk.dev/requested": "0123456789.3"},
                "managedFields": [
                    {"manager": "scout-host-sync", "operation": "Apply", "time": "1970-01-01T00:00:09Z"},
                    {"manager": "argocd", "operation": "Update", "time": "1970-01-01T00:00:08Z"},
                    {"manager": "kubectl", "operation": "Update", "time": "1970-01-01T00:00:05Z"},
                    {"manager": "kube-controller-manager", "operation": "Update", "subresource": "status", "time": "1970-01-01T00:00:20Z"},
                ],
            })),
        );
        assert_eq!(facts.requested, Some(Requested { digest: "0123456789".into(), attempt: 3, at: 9 }));
        assert_eq!(facts.last_manager.as_deref(), Some("argocd"));
    }

    #[test]
    fn who_asked_for_a_redeploy_is_the_manager_of_the_annotation() {
        let fields = json!({"f:metadata": {"f:annotations": {".": {}, "f:scout.commandk.dev/redeploy": {}}}});
        let metadata = metadata(json!({"managedFields": [
            {"manager": "kubectl-client-side-apply", "fieldsV1": {"f:spec": {}}},
            {"manager": "kubectl-annotate", "fieldsV1": fields},
        ]}));
        assert_eq!(asked_by(&metadata).as_deref(), Some("kubectl-annotate"));
        assert_eq!(asked_by(&ObjectMeta::default()), None);
    }

    #[test]
    fn an_app_that_cannot_be_parsed_blinds_nobody() {
        let app = |name: &str, path: &str| {
            let object = json!({
                "apiVersion": "scout.commandk.dev/v1alpha1", "kind": "App", "metadata": {"name": name},
                "spec": {
                    "storeRef": {"name": "files"}, "deploymentStrategy": "VolumeMount",
                    "environments": [{"name": "production", "source": {"path": path}}],
                },
            });
            Arc::new(serde_json::from_value::<DynamicObject>(object).unwrap())
        };
        let observation = Observation { apps: vec![app("bad", "../x"), app("good", "x")], ..Observation::default() };
        let observed = observe(&observation, &Reach::Everywhere);
        assert_eq!(observed.snapshot.apps.keys().map(AppName::as_str).collect::<Vec<_>>(), ["good"]);
        assert_eq!(observed.snapshot.unparsable_apps.iter().map(AppName::as_str).collect::<Vec<_>>(), ["bad"]);
        assert!(observed.apps["bad"].error.as_deref().unwrap().contains("source path"));
    }

    #[test]
    fn a_state_that_is_not_one_is_unreadable_rather_than_absent() {
        let config_map: ConfigMap =
            serde_json::from_value(json!({"metadata": {"name": "desired-state.shop"}, "data": {}})).unwrap();
        let observation = Observation { config_maps: vec![Arc::new(config_map)], ..Observation::default() };
        assert!(matches!(observe(&observation, &Reach::Everywhere).snapshot.states["shop"], StateFacts::Unreadable(_)));
    }

    #[test]
    fn a_namespace_beyond_reach_is_not_taken_to_be_gone_but_one_within_it_is() {
        let records = ["desired-state.shop", "desired-state.other"].map(|name| {
            let config_map = json!({"metadata": {"name": name}, "data": {}});
            Arc::new(serde_json::from_value::<ConfigMap>(config_map).unwrap())
        });
        let observation = Observation { config_maps: records.to_vec(), ..Observation::default() };
        let namespaces = observe(&observation, &Reach::of(&["shop".to_owned()])).snapshot.namespaces;
        let unwatched = NamespaceFacts { unwatched: true, ..NamespaceFacts::default() };
        assert_eq!(namespaces, BTreeMap::from([("other".to_owned(), unwatched)]));
        assert!(observe(&observation, &Reach::of(&[])).snapshot.namespaces.is_empty());
    }
}
