//! The plan: from a snapshot to the steps, in order, with the reason of each. It leaves no choice to whoever applies it.
//!
//! Every pass plans from what is observed and assumes nothing about why it was called. The order of a plan is what keeps
//! its promises (DESIGN §4): names are written down before Secrets, Secrets exist before the desired state names them, the
//! desired state stands before a workload is touched, and a Secret goes only when nothing refers to it.

mod delivery;
mod links;
mod prune;
mod reads;
mod report;
mod states;
mod steps;
mod touch;
mod writes;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use policy_core::desired_state::DesiredState;
use policy_core::names::{AppName, Environment, Revision, WorkloadKind};

use crate::config::AppEnvironment;
use crate::content::RevisionKey;
use crate::history::{History, UnixSeconds};
use crate::snapshot::{ObjectKey, Problem, Snapshot, WorkloadFacts};

pub use links::entry_of;
pub use reads::wanted_fetches;
pub use report::{AppReport, EnvironmentReport, WorkloadCounts};
pub use steps::{Action, SecretSpec, Step};
pub use touch::{LATEST_ATTEMPT, retry_delay};

/// What the operator of host-sync may choose.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How many rollouts may be in flight in the cluster because of Scout.
    pub rollouts_in_flight: usize,
    /// How many superseded revisions stay for a rollback, per app and namespace.
    pub revision_history_limit: usize,
    /// How long a superseded Secret stays at least: longer than it takes to apply a plan, and then any admission in flight
    /// that has read the old desired state.
    pub prune_delay: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { rollouts_in_flight: 10, revision_history_limit: 2, prune_delay: Duration::from_mins(1) }
    }
}

/// What came of delivering one fetched app environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Delivered: something changed.
    Delivered {
        /// The revision that is current now.
        revision: Revision,
        /// The namespaces it went to.
        namespaces: Vec<String>,
        /// Why it was delivered.
        why: String,
    },
    /// What was fetched is what is delivered.
    Unchanged,
    /// To be delivered together with what is not fetched yet: keep what was fetched.
    Waiting,
    /// Nothing was delivered, and the last delivery stays.
    Refused(Vec<Problem>),
}

/// What to do, and what to say.
#[derive(Debug, Default)]
pub struct Plan {
    /// In order.
    pub steps: Vec<Step>,
    /// What came of each fresh fetch.
    pub outcomes: BTreeMap<AppEnvironment, Outcome>,
    /// What each App's status is to say, once the steps are done.
    pub reports: BTreeMap<AppName, AppReport>,
    /// When to look again although nothing may have happened.
    pub look_again_at: Option<UnixSeconds>,
}

/// What must be read before [`plan`] can decide.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lookups {
    /// Secrets to get.
    pub secrets: BTreeSet<ObjectKey>,
    /// Secrets that may be pruned, with the app whose label pods carry: does a pod or a live ReplicaSet refer to them?
    pub references: BTreeSet<(ObjectKey, AppName)>,
}

/// A workload's namespace, kind and name.
type WorkloadKey = (String, WorkloadKind, String);

fn workload_key(namespace: &str, workload: &WorkloadFacts) -> WorkloadKey {
    (namespace.to_owned(), workload.kind, workload.name.clone())
}

/// The mutable picture that the parts of a plan work on: what the cluster is to hold afterwards.
struct Draft<'a> {
    snapshot: &'a Snapshot,
    limits: &'a Limits,
    now: UnixSeconds,
    states: BTreeMap<String, DesiredState>,
    histories: BTreeMap<String, History>,
    /// Why a namespace's state changed, for the step.
    reasons: BTreeMap<String, BTreeSet<String>>,
    secrets: Vec<(SecretSpec, String)>,
    problems: BTreeMap<AppEnvironment, Vec<Problem>>,
    /// Why a workload is not touched although it does not hold what is wanted.
    waiting: BTreeMap<WorkloadKey, String>,
    look_again_at: Option<UnixSeconds>,
}

impl<'a> Draft<'a> {
    fn new(snapshot: &'a Snapshot, limits: &'a Limits, now: UnixSeconds) -> Self {
        let states = snapshot.states.keys().filter_map(|namespace| {
            let state = snapshot.state_of(namespace)?;
            Some((namespace.clone(), state.clone()))
        });
        let histories = snapshot.histories.iter();
        let histories = histories.filter_map(|(namespace, history)| Some((namespace.clone(), history.clone().ok()?)));
        Self {
            snapshot,
            limits,
            now,
            states: states.collect(),
            histories: histories.collect(),
            reasons: BTreeMap::new(),
            secrets: Vec::new(),
            problems: BTreeMap::new(),
            waiting: BTreeMap::new(),
            look_again_at: None,
        }
    }

    /// The namespaces where something of an app is left, or where a record that cannot be read may tell of something.
    fn namespaces_holding(&self, app: &AppName) -> BTreeSet<&String> {
        let delivered = self.states.iter().filter(|(_, state)| state.apps.contains_key(app)).map(|(name, _)| name);
        let recorded = self.histories.iter().filter(|(_, history)| history.contains_key(app)).map(|(name, _)| name);
        let unknown = self.snapshot.histories.iter().filter(|(_, history)| history.is_err()).map(|(name, _)| name);
        let there = |namespace: &&String| self.snapshot.namespaces.contains_key(*namespace);
        delivered.chain(recorded).chain(unknown).filter(there).collect()
    }

    fn because(&mut self, namespace: &str, why: String) {
        self.reasons.entry(namespace.to_owned()).or_default().insert(why);
    }

    fn problem(&mut self, of: &AppEnvironment, reason: &'static str, message: String) {
        let problems = self.problems.entry(of.clone()).or_default();
        let problem = Problem { reason, message };
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }

    fn look_again(&mut self, at: UnixSeconds) {
        self.look_again_at = Some(self.look_again_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// The namespaces that have an environment, and whose records can be worked with.
    fn associated(&self) -> Vec<(String, Environment)> {
        let namespaces = self.snapshot.namespaces.keys();
        let associated = namespaces.filter_map(|namespace| {
            let environment = self.snapshot.environment_of(namespace)?;
            self.snapshot.records_are_readable(namespace).then(|| (namespace.clone(), environment.clone()))
        });
        associated.collect()
    }
}

/// Which Secrets to read, and which prunable ones to ask about, before a plan can be made.
pub fn lookups(snapshot: &Snapshot, key: &RevisionKey, limits: &Limits, now: UnixSeconds) -> Lookups {
    Lookups {
        secrets: reads::secret_lookups(snapshot, key),
        references: prune::reference_lookups(snapshot, limits, now),
    }
}

/// What to do about a snapshot, at `now`.
pub fn plan(snapshot: &Snapshot, key: &RevisionKey, limits: &Limits, now: UnixSeconds) -> Plan {
    let mut draft = Draft::new(snapshot, limits, now);
    states::open_namespaces(&mut draft);
    states::adopt_lost_histories(&mut draft);
    states::drop_unwanted_entries(&mut draft);
    let mut outcomes = delivery::deliver(&mut draft, key);
    states::hold_back_incomplete_states(&mut draft, &mut outcomes);
    states::report_clashes(&mut draft);
    prune::mark_superseded(&mut draft);

    let mut steps = writes::protect(snapshot);
    steps.extend(writes::records_and_secrets(&mut draft));
    steps.extend(touch::touches(&mut draft));
    steps.extend(prune::deletes(&mut draft));
    steps.extend(writes::forget_namespaces(&mut draft));
    steps.extend(writes::release(&draft));
    let reports = report::reports(&draft);
    Plan { steps, outcomes, reports, look_again_at: draft.look_again_at }
}
