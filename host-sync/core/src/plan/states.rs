//! The desired states as wholes: beginning them, taking out what nothing links, and holding back what would strip.

use std::collections::{BTreeMap, BTreeSet};

use policy_core::desired_state::DesiredState;
use policy_core::names::AppName;

use super::links::{current_secrets, is_needed};
use super::{AppEnvironment, Draft, Outcome};
use crate::history::AppHistory;

/// Every associated namespace has a desired state, so that its workloads are admitted. Where there is none, one is begun.
pub(super) fn open_namespaces(draft: &mut Draft<'_>) {
    for (namespace, environment) in draft.associated() {
        match draft.states.get_mut(&namespace) {
            Some(state) if state.meta.environment == environment => {}
            Some(state) => {
                state.meta.environment = environment.clone();
                draft.because(&namespace, format!("its label names environment {environment} now"));
            }
            None => {
                draft.states.insert(namespace.clone(), DesiredState::empty(&namespace, environment.clone()));
                draft.because(&namespace, format!("its label names environment {environment}"));
            }
        }
    }
}

/// An entry without a history means that somebody deleted the history, since it is written first. What is known is written
/// down anew; the current redeploy request counts as answered, because an old one must not confirm a loss of keys.
pub(super) fn adopt_lost_histories(draft: &mut Draft<'_>) {
    for (namespace, _) in draft.associated() {
        let Some(state) = draft.states.get(&namespace) else { continue };
        for (app, entry) in &state.apps {
            if draft.histories.get(&namespace).is_some_and(|history| history.contains_key(app)) {
                continue;
            }
            let mut adopted = AppHistory::new(draft.now, entry.environment.clone());
            adopted.redeploy = draft.snapshot.apps.get(app).and_then(|app| app.redeploy.clone());
            for name in current_secrets(draft.snapshot, app, entry, &namespace) {
                adopted.record(&name, &entry.revision);
            }
            draft.histories.entry(namespace.clone()).or_default().insert(app.clone(), adopted);
        }
    }
}

/// Two apps that deliver one variable or path to one workload: said at every pass, for as long as it is so.
pub(super) fn report_clashes(draft: &mut Draft<'_>) {
    let snapshot = draft.snapshot;
    let mut problems = Vec::new();
    for (namespace, state) in &draft.states {
        for workload in snapshot.workloads_in(namespace) {
            for clash in policy_core::matching::matches(state, workload.as_link_target()).clashes {
                let Some(entry) = state.apps.get(clash.second()) else { continue };
                let of = AppEnvironment { app: clash.second().clone(), environment: entry.environment.clone() };
                problems.push((of, format!("on {} {namespace}/{}: {clash}", workload.kind, workload.name)));
            }
        }
    }
    problems.sort();
    for (of, message) in problems {
        draft.problem(&of, "Clash", message);
    }
}

/// Takes out of the desired states what nothing links any more: a removed link is the explicit wish to detach, and needs
/// no store. An app whose new environment is not delivered yet keeps its old entry until it is.
pub(super) fn drop_unwanted_entries(draft: &mut Draft<'_>) {
    let snapshot = draft.snapshot;
    for (namespace, environment) in draft.associated() {
        let Some(state) = draft.states.get_mut(&namespace) else { continue };
        let mut dropped = BTreeSet::new();
        let apps = std::mem::take(&mut state.apps);
        for (app, mut entry) in apps {
            if snapshot.unparsable_apps.contains(&app) {
                state.apps.insert(app, entry);
                continue;
            }
            let config = snapshot.apps.get(&app).and_then(|app| app.environments.get(&environment));
            let links = config.and_then(|config| config.links.get(&namespace));
            let needed = links.filter(|links| is_needed(snapshot, &namespace, links));
            let Some(links) = needed else {
                dropped.insert(match links {
                    Some(_) => format!("every workload that {app} links is detached"),
                    None => format!("{app} links nothing here any more"),
                });
                continue;
            };
            let before = entry.links.len();
            if entry.environment == environment {
                entry.links.retain(|link| links.contains(link));
            }
            if entry.links.len() < before {
                dropped.insert(format!("{app} has a link less"));
            }
            if entry.links.is_empty() {
                continue;
            }
            state.apps.insert(app, entry);
        }
        for why in dropped {
            draft.because(&namespace, why);
        }
    }
}

/// A desired state is authoritative: what it does not name is stripped. So where none was readable, none is written before
/// it names every app that workloads still hold and that is linked.
pub(super) fn hold_back_incomplete_states(draft: &mut Draft<'_>, outcomes: &mut BTreeMap<AppEnvironment, Outcome>) {
    let snapshot = draft.snapshot;
    for (namespace, environment) in draft.associated() {
        if snapshot.states.contains_key(&namespace) {
            continue;
        }
        let Some(state) = draft.states.get(&namespace) else { continue };
        let linked = |app: &AppName| {
            let config = snapshot.apps.get(app).and_then(|app| app.environments.get(&environment));
            let links = config.and_then(|config| config.links.get(&namespace));
            links.is_some_and(|links| is_needed(snapshot, &namespace, links)) || snapshot.unparsable_apps.contains(app)
        };
        let held = snapshot.workloads_in(&namespace).iter().flat_map(|workload| &workload.attached);
        let missing: BTreeSet<AppName> = held
            .into_iter()
            .map(|attached| attached.app.clone())
            .filter(|app| !state.apps.contains_key(app) && linked(app))
            .collect();
        if missing.is_empty() {
            continue;
        }
        let names = missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let waiting: Vec<AppName> = state.apps.keys().cloned().collect();
        draft.states.remove(&namespace);
        draft.histories.remove(&namespace);
        if let Some(Ok(history)) = snapshot.histories.get(&namespace) {
            draft.histories.insert(namespace.clone(), history.clone());
        }
        draft.secrets.retain(|(secret, _)| secret.namespace != namespace);
        for app in waiting.into_iter().chain(missing) {
            let of = AppEnvironment { app, environment: environment.clone() };
            let message = format!(
                "the desired state of namespace {namespace} is gone, and is written anew once {names} can be delivered; nothing is stripped meanwhile"
            );
            draft.problem(&of, "DesiredStateMissing", message);
            if let Some(outcome) = outcomes.get_mut(&of).filter(|outcome| !matches!(outcome, Outcome::Refused(_))) {
                *outcome = Outcome::Waiting;
            }
        }
    }
}
