//! Touching: which workloads are asked to go through the policy again, and which wait, and why.
//!
//! What the policy will write is compared with what the workload says is attached. A workload whose attachments somebody
//! keeps undoing is touched ever more rarely and then not at all (contested): Scout does not fight.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use policy_core::attachment::{Attachment, Attachments, Strategy};
use policy_core::desired_state::{Apply, DesiredState};
use policy_core::matching::{Matches, attachment, matches};
use policy_core::names::{AppName, Environment, short_digest};

use super::{Action, AppEnvironment, Draft, Step, WorkloadKey, workload_key};
use crate::history::UnixSeconds;
use crate::snapshot::{MutationMode, Rollout, WorkloadFacts};

/// The attempt after which a workload is contested and left alone until what is wanted changes.
pub const LATEST_ATTEMPT: u32 = 5;

/// How long after a touch the next one waits, in seconds, so that changes in quick succession roll a workload once.
const COALESCE: UnixSeconds = 5;

/// How long to wait after an attempt before the next, in seconds: 5, 10, 20, 40.
pub fn retry_delay(attempt: u32) -> i64 {
    5 << attempt.clamp(1, LATEST_ATTEMPT).saturating_sub(1)
}

/// What the workload is to hold as far as host-sync may see to it: apps under Manual stay as they are.
fn target(workload: &WorkloadFacts, matches: &Matches<'_>) -> Attachments {
    if workload.mode == MutationMode::IgnoreAndDetach {
        return Attachments::default();
    }
    let wanted = matches.entries.iter().filter_map(|(app, entry)| match entry.apply {
        Apply::Immediately => Some(attachment(app, entry, workload.as_link_target())),
        Apply::OnTemplateChange => workload.attached.of_app(app).cloned(),
    });
    wanted.collect()
}

/// What the policy will write when the workload is touched: an app under Manual that is not attached yet comes along.
fn admitted(workload: &WorkloadFacts, matches: &Matches<'_>, target: &Attachments) -> Attachments {
    if workload.mode == MutationMode::IgnoreAndDetach {
        return Attachments::default();
    }
    let new = matches.entries.iter().map(|(app, entry)| attachment(app, entry, workload.as_link_target()));
    let new = new.filter(|one| one.strategy.is_some() && target.of_app(&one.app).is_none());
    target.iter().cloned().chain(new).collect()
}

fn digest(attachments: &Attachments) -> String {
    short_digest(attachments.to_json().as_bytes())
}

/// Whether the workload holds what the latest touch asked for, so that a rollout may well be Scout's.
fn follows_a_touch(workload: &WorkloadFacts) -> bool {
    workload.requested.as_ref().is_some_and(|requested| requested.digest == digest(&workload.attached))
}

/// Whether a rollout is in flight because of Scout, as far as can be known.
fn is_in_flight(workload: &WorkloadFacts) -> bool {
    workload.rollout == Rollout::Rolling && follows_a_touch(workload)
}

/// Whether the workload holds everything that the desired state says of it, Manual or not.
pub(super) fn is_current(workload: &WorkloadFacts, state: &DesiredState) -> bool {
    let matches = matches(state, workload.as_link_target());
    matches.entries.iter().all(|(app, entry)| {
        let wanted = attachment(app, entry, workload.as_link_target());
        let manual = entry.apply == Apply::OnTemplateChange;
        let held = workload.attached.of_app(app);
        match wanted.strategy {
            // The user wires the Secret, and under Manual nothing in the template tells its revision.
            None if manual => true,
            // The files follow in place; the template tells the revision that the pods began with.
            Some(Strategy::VolumeMount) if manual => {
                held.is_some_and(|held| held.strategy == wanted.strategy && held.secret == wanted.secret)
            }
            _ => held == Some(&wanted),
        }
    })
}

/// A workload that should be touched, unless something holds it back.
struct Candidate<'a> {
    workload: &'a WorkloadFacts,
    key: WorkloadKey,
    digest: String,
    /// The apps that come or change: a failed rollout of one of them holds the touch back.
    coming: BTreeSet<AppEnvironment>,
    /// The apps that come, change or go.
    apps: BTreeSet<AppEnvironment>,
}

/// The touches of one namespace that may happen now, and what its share of the budget depends on.
#[derive(Default)]
struct Queue {
    in_flight: usize,
    touched_at: UnixSeconds,
    steps: VecDeque<(WorkloadKey, Step)>,
}

/// The touches that may happen now. The rest waits, and the draft knows why.
pub(super) fn touches(draft: &mut Draft<'_>) -> Vec<Step> {
    let snapshot = draft.snapshot;
    let failed = failed_apps(draft);
    let mut free = Vec::new();
    let mut queues: BTreeMap<String, Queue> = BTreeMap::new();
    for (namespace, environment) in draft.associated() {
        let Some(state) = draft.states.get(&namespace).cloned() else { continue };
        let mut workloads: Vec<&WorkloadFacts> = snapshot.workloads_in(&namespace).iter().collect();
        workloads.sort_by_key(|workload| (workload.kind, &workload.name));
        for workload in workloads {
            let Some(candidate) = candidate(&namespace, &environment, workload, &state) else { continue };
            let Some(step) = admit(draft, &candidate, &failed) else { continue };
            if is_in_flight(workload) {
                // It is in flight already: to wait for a slot would be to wait for itself, perhaps with the repair in hand.
                free.push(step);
            } else {
                queues.entry(namespace.clone()).or_default().steps.push_back((candidate.key, step));
            }
        }
    }
    let mut in_flight = 0;
    for (namespace, workloads) in &snapshot.workloads {
        let of_namespace = workloads.iter().filter(|workload| is_in_flight(workload)).count();
        in_flight += of_namespace;
        if let Some(queue) = queues.get_mut(namespace) {
            queue.in_flight = of_namespace;
            let touched_at = workloads.iter().filter_map(|workload| Some(workload.requested.as_ref()?.at));
            queue.touched_at = touched_at.max().unwrap_or_default();
        }
    }
    free.extend(take_fairly(draft, queues, draft.limits.rollouts_in_flight.saturating_sub(in_flight)));
    free
}

/// The next touch is always of the namespace with the fewest rollouts in flight, and among these of the one that was
/// touched the longest ago, so that no namespace waits for another one's thousand workloads.
fn take_fairly(draft: &mut Draft<'_>, mut queues: BTreeMap<String, Queue>, budget: usize) -> Vec<Step> {
    let mut taken = Vec::new();
    while taken.len() < budget {
        let waiting = queues.values_mut().filter(|queue| !queue.steps.is_empty());
        let Some(next) = waiting.min_by_key(|queue| (queue.in_flight, queue.touched_at)) else { break };
        next.in_flight += 1;
        taken.extend(next.steps.pop_front().map(|(_, step)| step));
    }
    for (workload, _) in queues.into_values().flat_map(|queue| queue.steps) {
        draft.waiting.insert(workload, format!("{} rollouts are in flight", draft.limits.rollouts_in_flight));
    }
    taken
}

fn candidate<'a>(
    namespace: &str,
    environment: &Environment,
    workload: &'a WorkloadFacts,
    state: &DesiredState,
) -> Option<Candidate<'a>> {
    if workload.mode == MutationMode::Ignore {
        return None;
    }
    let matches = matches(state, workload.as_link_target());
    let target = target(workload, &matches);
    if target == workload.attached {
        return None;
    }
    let of = |app: &AppName| {
        let environment = state.apps.get(app).map_or(environment, |entry| &entry.environment);
        AppEnvironment { app: app.clone(), environment: environment.clone() }
    };
    let missing = |one: &&Attachment, other: &Attachments| other.of_app(&one.app) != Some(*one);
    let coming: BTreeSet<_> =
        target.iter().filter(|one| missing(one, &workload.attached)).map(|one| of(&one.app)).collect();
    let going = workload.attached.iter().filter(|one| missing(one, &target)).map(|one| of(&one.app));
    Some(Candidate {
        workload,
        key: workload_key(namespace, workload),
        digest: digest(&admitted(workload, &matches, &target)),
        apps: going.chain(coming.iter().cloned()).collect(),
        coming,
    })
}

/// The touch, unless a rollout of the app failed, an earlier touch is to be waited for, or the workload is contested.
fn admit(draft: &mut Draft<'_>, candidate: &Candidate<'_>, failed: &BTreeMap<AppEnvironment, String>) -> Option<Step> {
    let workload = candidate.workload;
    let (namespace, ..) = &candidate.key;
    for of in &candidate.coming {
        if let Some(failure) = failed.get(of) {
            draft.waiting.insert(candidate.key.clone(), failure.clone());
            let message = format!(
                "{failure}; the other workloads wait until it is repaired, ignored (mutation-mode), or superseded by a new delivery"
            );
            draft.problem(of, "RolloutFailed", message);
            return None;
        }
    }
    let attempt = match &workload.requested {
        None => 1,
        Some(requested) if requested.digest != candidate.digest => {
            let due = requested.at.saturating_add(COALESCE);
            if requested.at <= draft.now && due > draft.now {
                draft.look_again(due);
                let reason = "touched a moment ago: changes in quick succession roll it once".to_owned();
                draft.waiting.insert(candidate.key.clone(), reason);
                return None;
            }
            1
        }
        Some(requested) if requested.attempt >= LATEST_ATTEMPT => {
            contest(draft, candidate, requested.attempt);
            return None;
        }
        Some(requested) => {
            let due = requested.at.saturating_add(retry_delay(requested.attempt));
            if due > draft.now {
                draft.look_again(due);
                return None;
            }
            requested.attempt + 1
        }
    };
    let apps: BTreeSet<&AppName> = candidate.apps.iter().map(|of| &of.app).collect();
    let names = apps.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let again = if attempt > 1 { format!(" (attempt {attempt})") } else { String::new() };
    Some(Step {
        action: Action::Touch {
            namespace: namespace.clone(),
            kind: workload.kind,
            workload: workload.name.clone(),
            requested: format!("{}.{attempt}", candidate.digest),
        },
        why: format!("it does not hold what is wanted of {names}{again}"),
        app: apps.first().map(|app| (*app).clone()),
    })
}

/// Says that a workload is left alone, and who wrote to it last.
fn contest(draft: &mut Draft<'_>, candidate: &Candidate<'_>, attempts: u32) {
    let (namespace, kind, name) = &candidate.key;
    let who = candidate.workload.last_manager.as_deref().unwrap_or("somebody");
    let message = format!(
        "{kind} {namespace}/{name} was touched {attempts} times and still does not hold what is wanted; {who} wrote to it last: let it keep what the policy adds, check that the policy is active in the namespace, or set the annotation scout.commandk.dev/mutation-mode"
    );
    for of in &candidate.apps {
        draft.problem(of, "Contested", message.clone());
    }
    draft.waiting.insert(candidate.key.clone(), format!("contested by {who}"));
}

/// App environments of which a workload failed to roll out after Scout made it hold exactly what is wanted now: one bad
/// value must not take down every workload. A newer delivery is something else, and rolls.
fn failed_apps(draft: &Draft<'_>) -> BTreeMap<AppEnvironment, String> {
    let mut failed: BTreeMap<AppEnvironment, String> = BTreeMap::new();
    for (namespace, state) in &draft.states {
        for workload in draft.snapshot.workloads_in(namespace) {
            let Rollout::Failed(reason) = &workload.rollout else { continue };
            if workload.mode != MutationMode::Normal || !follows_a_touch(workload) {
                continue;
            }
            for (app, entry) in matches(state, workload.as_link_target()).entries {
                if workload.attached.of_app(app) == Some(&attachment(app, entry, workload.as_link_target())) {
                    let of = AppEnvironment { app: app.clone(), environment: entry.environment.clone() };
                    let subject = format!("{} {namespace}/{}", workload.kind, workload.name);
                    let failure = format!("the rollout of {subject} failed ({reason})");
                    let first = failed.entry(of).or_insert_with(|| failure.clone());
                    if failure < *first {
                        *first = failure;
                    }
                }
            }
        }
    }
    failed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_double_and_stop_growing_with_the_latest_attempt() {
        assert_eq!((0..=7).map(retry_delay).collect::<Vec<_>>(), [5, 5, 10, 20, 40, 80, 80, 80]);
    }
}
