//! From the draft to steps: what is written down before the Secrets, the Secrets, the desired states, and what is written
//! down after them.

use std::collections::BTreeSet;

use super::{Action, Draft, Step};
use crate::config::App;
use crate::history::{AppHistory, History, SecretRecord};
use crate::snapshot::Snapshot;

/// The steps that make the cluster hold the draft.
///
/// A history is written twice. Before the Secrets come the names of new ones, so that none is ever lost. After the desired
/// state comes what is true only then: that a delivery happened, which request it answered, and what nothing wants any more.
/// A crash in between leaves a delivery that is still asked for, and the next pass makes it again.
pub(super) fn records_and_secrets(draft: &mut Draft<'_>) -> Vec<Step> {
    let step = |action, why: String| Step { action, why, app: None };
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for (namespace, history) in &draft.histories {
        let observed = draft.snapshot.histories.get(namespace).and_then(|history| history.as_ref().ok());
        let observed = observed.cloned().unwrap_or_default();
        let announced = announced(draft, namespace, &observed);
        let write = |history: &History| Action::WriteHistory { namespace: namespace.clone(), history: history.clone() };
        if announced != observed {
            before.push(step(write(&announced), "a Secret's name is written down before the Secret".to_owned()));
        }
        if *history != announced {
            after.push(step(
                write(history),
                "what is delivered, and what nothing wants any more, is written down".to_owned(),
            ));
        }
    }
    let mut steps = before;
    for (secret, why) in std::mem::take(&mut draft.secrets) {
        let app = Some(secret.app.clone());
        steps.push(Step { action: Action::WriteSecret(Box::new(secret)), why, app });
    }
    for (namespace, state) in &draft.states {
        if draft.snapshot.state_of(namespace) != Some(state) {
            let why = draft.reasons.get(namespace).into_iter().flatten().cloned().collect::<Vec<_>>().join("; ");
            steps.push(step(Action::WriteState { state: state.clone() }, why));
        }
    }
    steps.extend(after);
    steps
}

/// The observed history, and the names of the Secrets that are about to be written. No desired state wants them yet, so
/// a name whose delivery never happens is pruned like any other.
fn announced(draft: &Draft<'_>, namespace: &str, observed: &History) -> History {
    let mut announced = observed.clone();
    for (secret, _) in draft.secrets.iter().filter(|(secret, _)| secret.namespace == namespace) {
        let drafted = draft.histories.get(namespace).and_then(|history| history.get(&secret.app));
        let history = announced.entry(secret.app.clone()).or_insert_with(|| AppHistory {
            // With the first delivery there is no entry yet, and that alone asks for it again; the request is spent.
            redeploy: drafted.and_then(|history| history.redeploy.clone()),
            ..AppHistory::new(draft.now, secret.environment.clone())
        });
        if history.secret(&secret.name).is_none() {
            history.secrets.push(SecretRecord {
                name: secret.name.clone(),
                revision: secret.revision.clone(),
                superseded_at: Some(draft.now),
            });
        }
    }
    announced
}

pub(super) fn protect(snapshot: &Snapshot) -> Vec<Step> {
    let unprotected = snapshot.apps.values().filter(|app| !app.protected && !app.deleting);
    let step = |app: &App| Step {
        action: Action::ProtectApp { app: app.name.clone() },
        why: "an App that is linked must not vanish under its workloads".to_owned(),
        app: Some(app.name.clone()),
    };
    unprotected.map(step).collect()
}

/// An App goes when its deletion was asked for, nothing links it, and nothing of it is left anywhere.
pub(super) fn release(draft: &Draft<'_>) -> Vec<Step> {
    let deleting = draft.snapshot.apps.values().filter(|app| app.deleting && app.protected);
    let free = deleting.filter(|app| {
        let linked = app.environments.values().any(|environment| !environment.links.is_empty());
        !linked && draft.namespaces_holding(&app.name).is_empty()
    });
    let step = |app: &App| Step {
        action: Action::ReleaseApp { app: app.name.clone() },
        why: "its deletion was asked for, and nothing links it any more".to_owned(),
        app: Some(app.name.clone()),
    };
    free.map(step).collect()
}

/// The records of a namespace go with the namespace itself (not with its label: what it holds then stays as it is).
pub(super) fn forget_namespaces(draft: &mut Draft<'_>) -> Vec<Step> {
    let snapshot = draft.snapshot;
    let recorded: BTreeSet<&String> = snapshot.states.keys().chain(snapshot.histories.keys()).collect();
    let gone = recorded.into_iter().filter(|namespace| !snapshot.namespaces.contains_key(*namespace));
    let mut steps = Vec::new();
    for namespace in gone {
        draft.states.remove(namespace);
        draft.histories.remove(namespace);
        steps.push(Step {
            action: Action::ForgetNamespace { namespace: namespace.clone() },
            why: "the namespace is gone".to_owned(),
            app: None,
        });
    }
    steps
}
