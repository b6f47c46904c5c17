//! What the audit trail and the metrics are told of a pass. Pure, but for the memory of which rollouts were on their way.

use std::collections::BTreeMap;
use std::time::Duration;

use host_sync_core::config::{AppEnvironment, Reload};
use host_sync_core::history::UnixSeconds;
use host_sync_core::plan::{Action, AppReport, Outcome};
use host_sync_core::snapshot::{ObjectKey, Rollout, Snapshot};
use policy_core::attachment::Attachments;
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

/// A workload when it was last looked at.
struct Seen {
    attached: Attachments,
    on_its_way: bool,
}

/// The workloads that hold something of Scout, as they were when they were last looked at.
#[derive(Default)]
pub(super) struct OnTheirWay(BTreeMap<ObjectKey, Seen>);

impl OnTheirWay {
    /// Takes in where the rollouts stand; returns those that have ended since. A rollout so quick that it was never seen on
    /// its way is known by what is attached.
    pub(super) fn follow(&mut self, snapshot: &Snapshot, now: UnixSeconds) -> Vec<RolloutEnd> {
        let mut seen = BTreeMap::new();
        let mut ended = Vec::new();
        for (namespace, workloads) in &snapshot.workloads {
            for workload in workloads.iter().filter(|workload| !workload.attached.is_empty()) {
                let key = (namespace.clone(), workload.name.clone());
                let before = self.0.get(&key);
                let began = before.is_some_and(|before| before.on_its_way || before.attached != workload.attached);
                let on_its_way = matches!(workload.rollout, Rollout::Rolling | Rollout::Paused);
                match workload.rollout {
                    Rollout::Failed(_) if began => ended.push(RolloutEnd::Failed),
                    Rollout::Ready if began => ended.extend(ready(snapshot, namespace, &workload.attached, now)),
                    _ => {}
                }
                seen.insert(key, Seen { attached: workload.attached.clone(), on_its_way });
            }
        }
        self.0 = seen;
        ended
    }
}

/// The end of a rollout of what is attached, measured from the newest of its deliveries.
fn ready(snapshot: &Snapshot, namespace: &str, attached: &Attachments, now: UnixSeconds) -> Option<RolloutEnd> {
    let history = snapshot.histories.get(namespace)?.as_ref().ok()?;
    let delivered = attached.iter().filter_map(|one| Some(history.get(&one.app)?.delivered_at)).max()?;
    Some(RolloutEnd::Ready(since(delivered, now)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use host_sync_core::history::AppHistory;
    use host_sync_core::snapshot::{MutationMode, WorkloadFacts};
    use policy_core::names::{Environment, WorkloadKind};

    fn snapshot(revision: &str, rollout: Rollout) -> Snapshot {
        let json = format!(r#"[{{"app":"checkout","revision":"{revision}","secret":"scout.checkout.{revision}"}}]"#);
        let workload = WorkloadFacts {
            kind: WorkloadKind::Deployment,
            name: "api".into(),
            labels: BTreeMap::new(),
            mode: MutationMode::Normal,
            attached: Attachments::from_json(&json),
            requested: None,
            rollout,
            last_manager: None,
        };
        let history = AppHistory::new(100, Environment::parse("production").unwrap());
        let history = BTreeMap::from([(AppName::parse("checkout").unwrap(), history)]);
        Snapshot {
            workloads: BTreeMap::from([("shop".to_owned(), vec![workload])]),
            histories: BTreeMap::from([("shop".to_owned(), Ok(history))]),
            ..Snapshot::default()
        }
    }

    #[test]
    fn a_rollout_is_counted_once_when_it_ends_and_not_when_host_sync_starts() {
        let mut rollouts = OnTheirWay::default();
        assert_eq!(rollouts.follow(&snapshot("1", Rollout::Ready), 101), [], "it ended before this one looked");
        assert_eq!(rollouts.follow(&snapshot("2", Rollout::Rolling), 102), []);
        assert_eq!(rollouts.follow(&snapshot("2", Rollout::Ready), 107), [RolloutEnd::Ready(Duration::from_secs(7))]);
        assert_eq!(rollouts.follow(&snapshot("2", Rollout::Ready), 108), []);
    }

    #[test]
    fn a_rollout_that_is_over_between_two_looks_is_counted_too() {
        let mut rollouts = OnTheirWay::default();
        rollouts.follow(&snapshot("1", Rollout::Ready), 101);
        assert_eq!(rollouts.follow(&snapshot("2", Rollout::Ready), 103), [RolloutEnd::Ready(Duration::from_secs(3))]);
        let failed = || Rollout::Failed("timed out".into());
        assert_eq!(rollouts.follow(&snapshot("3", failed()), 104), [RolloutEnd::Failed]);
        assert_eq!(rollouts.follow(&snapshot("3", failed()), 105), []);
    }
}
