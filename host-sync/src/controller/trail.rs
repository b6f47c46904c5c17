//! What the audit trail and the metrics are told of a pass. Pure, but for the memory of which rollouts were on their way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use host_sync_core::config::{AppEnvironment, Reload};
use host_sync_core::history::UnixSeconds;
use host_sync_core::plan::{Action, AppReport, Outcome};
use host_sync_core::snapshot::{ObjectKey, Rollout, Snapshot};
use policy_core::names::AppName;

use super::apply::Applied;
use super::observe::Observed;
use crate::audit;
use crate::metrics::{Gauges, RolloutEnd};

/// The lines of the audit trail for a pass: what was delivered, touched and deleted, and what of it failed.
pub(super) fn events(
    delivered: &BTreeMap<AppEnvironment, Outcome>,
    applied: &Applied,
    observed: &Observed,
) -> Vec<audit::Event> {
    let deliveries = delivered.iter().filter_map(|(of, outcome)| {
        let Outcome::Delivered { revision, namespaces, why } = outcome else { return None };
        let asked_by = observed.apps.get(of.app.as_str()).and_then(|app| app.asked_by.as_deref());
        let why = match asked_by.filter(|_| why.contains("redeploy")) {
            Some(who) => format!("{why}; asked by {who}"),
            None => why.clone(),
        };
        Some(audit::Event {
            what: audit::What::Delivery,
            app: of.app.to_string(),
            environment: Some(of.environment.to_string()),
            to: namespaces.clone(),
            revision: Some(revision.to_string()),
            why,
            outcome: audit::Outcome::Done,
        })
    });
    let done = applied.done.iter().map(|step| (step, audit::Outcome::Done));
    let failed = applied.failed.iter().filter(|one| one.tried);
    let failed = failed.map(|one| (&one.step, audit::Outcome::Failed(one.error.clone())));
    let steps = done.chain(failed).filter_map(|(step, outcome)| {
        let (what, to) = match &step.action {
            Action::Touch { namespace, kind, workload, .. } => {
                (audit::What::Touch, format!("{kind} {namespace}/{workload}"))
            }
            Action::DeleteSecret { namespace, name, .. } => (audit::What::Prune, format!("Secret {namespace}/{name}")),
            _ => return None,
        };
        Some(audit::Event {
            what,
            app: step.app.as_ref().map(ToString::to_string).unwrap_or_default(),
            environment: None,
            to: vec![to],
            revision: None,
            why: step.why.clone(),
            outcome,
        })
    });
    deliveries.chain(steps).collect()
}

/// The rollouts that were on their way when they were last looked at.
#[derive(Default)]
pub(super) struct OnTheirWay(BTreeSet<ObjectKey>);

impl OnTheirWay {
    /// Takes in where the rollouts stand; returns those that have ended since.
    pub(super) fn follow(&mut self, snapshot: &Snapshot, now: UnixSeconds) -> Vec<RolloutEnd> {
        let mut rolling = BTreeSet::new();
        let mut ended = Vec::new();
        for (namespace, workloads) in &snapshot.workloads {
            for workload in workloads.iter().filter(|workload| !workload.attached.is_empty()) {
                let key = (namespace.clone(), workload.name.clone());
                match workload.rollout {
                    Rollout::Rolling | Rollout::Paused => {
                        rolling.insert(key);
                    }
                    Rollout::Failed(_) if self.0.contains(&key) => ended.push(RolloutEnd::Failed),
                    Rollout::Ready if self.0.contains(&key) => {
                        let history = snapshot.histories.get(namespace).and_then(|history| history.as_ref().ok());
                        let delivered = workload.attached.iter().filter_map(|attached| {
                            history.and_then(|history| history.get(&attached.app)).map(|one| one.delivered_at)
                        });
                        if let Some(delivered) = delivered.max() {
                            ended.push(RolloutEnd::Ready(since(delivered, now)));
                        }
                    }
                    Rollout::Failed(_) | Rollout::Ready => {}
                }
            }
        }
        self.0 = rolling;
        ended
    }
}

fn since(then: UnixSeconds, now: UnixSeconds) -> Duration {
    Duration::from_secs(u64::try_from(now.saturating_sub(then)).unwrap_or_default())
}

/// What waits and what is on its way.
pub(super) fn gauges(snapshot: &Snapshot, reports: &BTreeMap<AppName, AppReport>, now: UnixSeconds) -> Gauges {
    let workloads = snapshot.workloads.values().flatten();
    let in_flight = workloads.filter(|one| one.rollout == Rollout::Rolling && !one.attached.is_empty()).count();
    let environments = || reports.values().flat_map(|report| report.environments.values());
    let contested = reports.values().filter(|report| {
        report.environments.values().flat_map(|one| &one.problems).any(|problem| problem.reason == "Contested")
    });
    let waiting = environments().filter(|one| one.reload == Some(Reload::Auto) && one.workloads.pending > 0);
    Gauges {
        rollouts_in_flight: u32::try_from(in_flight).unwrap_or(u32::MAX),
        workloads_waiting: environments().map(|one| one.workloads.pending).sum(),
        contested: u32::try_from(contested.count()).unwrap_or(u32::MAX),
        oldest_waiting: since(waiting.filter_map(|one| one.delivered_at).min().unwrap_or(now), now),
    }
}
