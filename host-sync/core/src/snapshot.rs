//! Everything that a plan may know: what was observed of the cluster and fetched from the stores, at one moment.

use std::collections::{BTreeMap, BTreeSet};

use policy_core::attachment::Attachments;
use policy_core::desired_state::DesiredState;
use policy_core::matching::Workload;
use policy_core::names::{AppName, Environment, Revision, WorkloadKind};
use policy_core::selector::Labels;

use crate::config::{App, AppEnvironment};
use crate::history::{AppHistory, History, UnixSeconds};
use crate::secret_bytes::Content;
use crate::store::Fetched;

/// A namespace and the name of a namespaced object in it.
pub type ObjectKey = (String, String);

/// A namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamespaceFacts {
    /// The environment that its label names, if that is a valid one.
    pub environment: Option<Environment>,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// Whether host-sync was told to leave it alone: it is there as far as anybody knows, and what it holds stays.
    pub unwatched: bool,
}

/// The desired-state ConfigMap of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateFacts {
    /// It is readable.
    Readable(DesiredState),
    /// It is not, and this says why.
    Unreadable(String),
}

/// Where a workload's newest rollout stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rollout {
    /// Every replica runs the newest template.
    Ready,
    /// On its way.
    Rolling,
    /// Stopped by the user (`spec.paused`).
    Paused,
    /// The workload's controller gave up; its words.
    Failed(String),
}

/// A touch, as a workload's annotation records it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requested {
    /// The digest of what was wanted.
    pub digest: String,
    /// Which try this was, from 1.
    pub attempt: u32,
    /// When host-sync last wrote its fields of the workload.
    pub at: UnixSeconds,
}

/// The workload's `mutation-mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MutationMode {
    /// Absent.
    Normal,
    /// `ignore`.
    Ignore,
    /// `ignore-and-detach`.
    IgnoreAndDetach,
}

/// A workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadFacts {
    /// Its kind.
    pub kind: WorkloadKind,
    /// Its name.
    pub name: String,
    /// The labels of its metadata.
    pub labels: Labels,
    /// What its annotation asks of the policy.
    pub mode: MutationMode,
    /// What the policy says is attached.
    pub attached: Attachments,
    /// host-sync's latest touch.
    pub requested: Option<Requested>,
    /// Where its newest rollout stands.
    pub rollout: Rollout,
    /// The field manager, other than host-sync, that wrote to it last.
    pub last_manager: Option<String>,
}

impl WorkloadFacts {
    /// As links see it.
    pub fn as_link_target(&self) -> Workload<'_> {
        Workload { kind: self.kind, name: &self.name, labels: &self.labels }
    }
}

/// A Secret that was looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFacts {
    /// What it holds.
    pub content: Content,
    /// The app that owns it, if an App does.
    pub owner: Option<AppName>,
    /// The revision that it says it holds.
    pub revision: Option<Revision>,
}

/// Something that stops a delivery or a rollout, said so that somebody can act on it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// A condition reason: one CamelCase word.
    pub reason: &'static str,
    /// What is wrong, and the fix.
    pub message: String,
}

/// What is known of an app environment's content.
#[derive(Debug, Clone)]
pub enum FetchFacts {
    /// Just fetched, to be delivered where it differs.
    Fresh(Fetched),
    /// The latest fetch, or the latest try to deliver it, failed.
    Failed(Problem),
}

/// One moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The Apps.
    pub apps: BTreeMap<AppName, App>,
    /// Apps that exist and whose spec cannot be parsed: what they delivered stays.
    pub unparsable_apps: BTreeSet<AppName>,
    /// Every namespace.
    pub namespaces: BTreeMap<String, NamespaceFacts>,
    /// The desired-state ConfigMaps, by associated namespace.
    pub states: BTreeMap<String, StateFacts>,
    /// The history ConfigMaps, by associated namespace; one that cannot be read is an `Err` with the reason.
    pub histories: BTreeMap<String, Result<History, String>>,
    /// The workloads, by namespace.
    pub workloads: BTreeMap<String, Vec<WorkloadFacts>>,
    /// The latest fetches.
    pub fetches: BTreeMap<AppEnvironment, FetchFacts>,
    /// The Secrets that [`crate::plan::lookups`] asked for; `None` where there is none.
    pub secrets: BTreeMap<ObjectKey, Option<SecretFacts>>,
    /// The prunable Secrets that [`crate::plan::lookups`] asked about, and whether a pod or a live ReplicaSet refers to them.
    pub referenced: BTreeMap<ObjectKey, bool>,
}

impl Snapshot {
    /// The workloads of a namespace.
    pub fn workloads_in(&self, namespace: &str) -> &[WorkloadFacts] {
        self.workloads.get(namespace).map_or(&[], Vec::as_slice)
    }

    /// The environment of a namespace that is there to stay.
    pub fn environment_of(&self, namespace: &str) -> Option<&Environment> {
        let facts = self.namespaces.get(namespace)?;
        facts.environment.as_ref().filter(|_| !facts.terminating)
    }

    /// Whether the records of a namespace can be worked with: what cannot be read is never written over.
    pub fn records_are_readable(&self, namespace: &str) -> bool {
        !matches!(self.states.get(namespace), Some(StateFacts::Unreadable(_)))
            && !matches!(self.histories.get(namespace), Some(Err(_)))
    }

    /// What was delivered of an app to a namespace, as far as it is recorded.
    pub fn history_of(&self, namespace: &str, app: &AppName) -> Option<&AppHistory> {
        self.histories.get(namespace)?.as_ref().ok()?.get(app)
    }

    /// The readable desired state of a namespace.
    pub fn state_of(&self, namespace: &str) -> Option<&DesiredState> {
        match self.states.get(namespace)? {
            StateFacts::Readable(state) => Some(state),
            StateFacts::Unreadable(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminating_namespace_has_no_environment() {
        let facts = |terminating| NamespaceFacts {
            environment: Environment::parse("production").ok(),
            terminating,
            ..NamespaceFacts::default()
        };
        let namespaces = BTreeMap::from([("shop".to_owned(), facts(false)), ("gone".to_owned(), facts(true))]);
        let snapshot = Snapshot { namespaces, ..Snapshot::default() };
        assert!(snapshot.environment_of("shop").is_some());
        assert!(snapshot.environment_of("gone").is_none());
    }

    #[test]
    fn records_that_are_not_there_can_be_worked_with_and_unreadable_ones_cannot() {
        let mut snapshot = Snapshot::default();
        assert!(snapshot.records_are_readable("shop"));
        snapshot.histories.insert("shop".into(), Err("malformed".into()));
        assert!(!snapshot.records_are_readable("shop"));
        snapshot.states.insert("west".into(), StateFacts::Unreadable("schema 2".into()));
        assert!(!snapshot.records_are_readable("west") && snapshot.state_of("west").is_none());
    }
}
