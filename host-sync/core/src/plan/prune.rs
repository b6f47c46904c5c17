//! Pruning: which Secrets go. A Secret goes when nothing wants it, long enough, and nothing refers to it: no template
//! (ignored ones too), no pod and no live rollout; and when it is not among the last revisions kept for a rollback.

use std::collections::{BTreeMap, BTreeSet};

use policy_core::desired_state::{DesiredState, Entry};
use policy_core::names::{AppName, revision_secret_name};

use super::links::{current_secrets, is_needed};
use super::{Action, Draft, Limits, Step};
use crate::history::{AppHistory, History, SecretRecord, UnixSeconds};
use crate::snapshot::{ObjectKey, Snapshot};

/// Writes down since when a recorded Secret is no longer wanted. That it is wanted again is for a delivery to say, because
/// only a delivery has seen that it is there.
pub(super) fn mark_superseded(draft: &mut Draft<'_>) {
    let snapshot = draft.snapshot;
    for (namespace, environment) in draft.associated() {
        let Some(state) = draft.states.get(&namespace) else { continue };
        let Some(history) = draft.histories.get_mut(&namespace) else { continue };
        for (app, history) in history.iter_mut() {
            if snapshot.unparsable_apps.contains(app) {
                continue;
            }
            let entry = state.apps.get(app);
            let config = snapshot.apps.get(app).and_then(|app| app.environments.get(&environment));
            let links = config.and_then(|config| config.links.get(&namespace));
            if entry.is_none() && links.is_some_and(|links| is_needed(snapshot, &namespace, links)) {
                // Linked and not delivered (yet, or again): nothing is known to be unwanted.
                continue;
            }
            let relies = |entry: &Entry| current_secrets(snapshot, app, entry, &namespace);
            let wanted = entry.map(relies).unwrap_or_default();
            let before = snapshot.state_of(&namespace).and_then(|state| state.apps.get(app)).map(relies);
            let before = before.unwrap_or_default();
            for record in history.secrets.iter_mut().filter(|record| !wanted.contains(&record.name)) {
                // A time from before the name was wanted last is not the time since when it is not.
                if record.superseded_at.is_none() || before.contains(&record.name) {
                    record.superseded_at = Some(draft.now);
                }
            }
        }
    }
}

/// The superseded Secrets of an app that are not kept for a rollback.
fn expendable<'a>(
    snapshot: &Snapshot,
    namespace: &str,
    app: &AppName,
    history: &'a AppHistory,
    entry: Option<&Entry>,
    limits: &Limits,
) -> Vec<&'a SecretRecord> {
    let wanted = entry.map(|entry| current_secrets(snapshot, app, entry, namespace)).unwrap_or_default();
    let superseded = history.secrets.iter().enumerate().rev();
    let mut superseded: Vec<(usize, &SecretRecord)> =
        superseded.filter(|(_, record)| record.superseded_at.is_some() && !wanted.contains(&record.name)).collect();
    // The latest first: by time, and within one second by age.
    superseded.sort_by_key(|(_, record)| std::cmp::Reverse(record.superseded_at));
    let mut kept = if entry.is_some() { limits.revision_history_limit } else { 0 };
    superseded.retain(|(_, record)| {
        let keep = kept > 0 && record.name == revision_secret_name(app, &record.revision);
        kept -= usize::from(keep);
        !keep
    });
    superseded.sort_by_key(|(index, _)| *index);
    superseded.into_iter().map(|(_, record)| record).collect()
}

/// The Secrets that may go, and when.
fn candidates(
    snapshot: &Snapshot,
    states: &BTreeMap<String, DesiredState>,
    histories: &BTreeMap<String, History>,
    limits: &Limits,
) -> Vec<(ObjectKey, AppName, UnixSeconds)> {
    let delay = i64::try_from(limits.prune_delay.as_secs()).unwrap_or(i64::MAX);
    let mut candidates = Vec::new();
    for (namespace, history) in histories {
        // What is wanted is known only where there is a desired state; and where a label is gone, everything stays.
        let Some(state) = states.get(namespace) else { continue };
        if snapshot.environment_of(namespace).is_none() {
            continue;
        }
        let attached = snapshot.workloads_in(namespace).iter().flat_map(|workload| &workload.attached);
        let attached: BTreeSet<&str> = attached.map(|attached| attached.secret.as_str()).collect();
        for (app, history) in history {
            for record in expendable(snapshot, namespace, app, history, state.apps.get(app), limits) {
                if !attached.contains(record.name.as_str()) {
                    let due = record.superseded_at.unwrap_or_default().saturating_add(delay);
                    candidates.push(((namespace.clone(), record.name.clone()), app.clone(), due));
                }
            }
        }
    }
    candidates
}

/// The Secrets about which the API server must be asked whether a pod or a live ReplicaSet refers to them.
pub(super) fn reference_lookups(
    snapshot: &Snapshot,
    limits: &Limits,
    now: UnixSeconds,
) -> BTreeSet<(ObjectKey, AppName)> {
    let states = snapshot.states.keys();
    let states = states.filter_map(|name| Some((name.clone(), snapshot.state_of(name)?.clone()))).collect();
    let histories = snapshot.histories.iter();
    let histories = histories.filter_map(|(name, history)| Some((name.clone(), history.clone().ok()?))).collect();
    let due = candidates(snapshot, &states, &histories, limits).into_iter().filter(|(_, _, due)| *due <= now);
    due.map(|(key, app, _)| (key, app)).collect()
}

/// The deletions, and then the histories without what is deleted.
pub(super) fn deletes(draft: &mut Draft<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    let delay = i64::try_from(draft.limits.prune_delay.as_secs()).unwrap_or(i64::MAX);
    for (key, app, due) in candidates(draft.snapshot, &draft.states, &draft.histories, draft.limits) {
        if due > draft.now {
            draft.look_again(due);
            continue;
        }
        match draft.snapshot.referenced.get(&key) {
            Some(false) => {}
            Some(true) => {
                draft.look_again(draft.now.saturating_add(delay.max(1)));
                continue;
            }
            // This plan made it expendable: the next one asks.
            None => {
                draft.look_again(draft.now.saturating_add(1));
                continue;
            }
        }
        let (namespace, name) = key;
        if let Some(history) = draft.histories.get_mut(&namespace).and_then(|history| history.get_mut(&app)) {
            history.secrets.retain(|record| record.name != name);
        }
        steps.push(Step {
            action: Action::DeleteSecret { namespace, name, app: app.clone() },
            why: "nothing wants it and nothing refers to it any more".to_owned(),
            app: Some(app),
        });
    }
    let mut shortened: BTreeSet<String> = steps.iter().filter_map(Step::namespace).map(str::to_owned).collect();
    for (namespace, history) in &mut draft.histories {
        let before = history.len();
        let Some(state) = draft.states.get(namespace) else { continue };
        history.retain(|app, history| !history.secrets.is_empty() || state.apps.contains_key(app));
        if history.len() < before {
            shortened.insert(namespace.clone());
        }
    }
    for namespace in shortened {
        let history = draft.histories.get(&namespace).cloned().unwrap_or_default();
        let action = Action::WriteHistory { namespace, history };
        steps.push(Step { action, why: "what was deleted is forgotten".to_owned(), app: None });
    }
    steps
}
