//! What is still to be read before a plan can be made: from the stores, and from the cluster.

use std::collections::{BTreeMap, BTreeSet};

use policy_core::desired_state::Link;
use policy_core::names::{Environment, Revision};

use super::links::{
    active_namespaces, app_environments, current_secrets, entry_of, is_needed, mounted_secrets, recorded_secrets,
};
use super::{AppEnvironment, RevisionKey};
use crate::config::App;
use crate::content::select;
use crate::snapshot::{FetchFacts, ObjectKey, Snapshot};

/// Why an app environment should be fetched now and not at its next refresh.
pub fn wanted_fetches(snapshot: &Snapshot) -> BTreeMap<AppEnvironment, String> {
    let mut wanted = BTreeMap::new();
    for (app, environment, config) in app_environments(snapshot) {
        let of = AppEnvironment { app: app.name.clone(), environment: environment.clone() };
        let reasons = active_namespaces(snapshot, environment, config)
            .filter_map(|(namespace, links)| fetch_reason(snapshot, app, environment, namespace, links));
        if let Some(reason) = reasons.into_iter().next() {
            wanted.insert(of, reason);
        }
    }
    wanted
}

fn fetch_reason(
    snapshot: &Snapshot,
    app: &App,
    environment: &Environment,
    namespace: &str,
    links: &BTreeSet<Link>,
) -> Option<String> {
    if !is_needed(snapshot, namespace, links) {
        return None;
    }
    let entry = snapshot.state_of(namespace).and_then(|state| state.apps.get(&app.name));
    let Some(entry) = entry.filter(|entry| entry.environment == *environment) else {
        return Some(format!("namespace {namespace} is newly linked"));
    };
    if links.iter().any(|link| !entry.links.contains(link)) {
        return Some(format!("a link in namespace {namespace} is new"));
    }
    // An entry without a history: somebody deleted that, and it is adopted before anything else.
    let history = snapshot.history_of(namespace, &app.name)?;
    if app.redeploy.is_some() && history.redeploy != app.redeploy {
        return Some("somebody asked for it (redeploy)".to_owned());
    }
    // A name that is written down and not confirmed yet: its Secret may have never been written, or be deleted already.
    let holds = |secret: &String| {
        let record = history.secret(secret).filter(|record| record.superseded_at.is_none());
        record.is_some_and(|record| record.revision == entry.revision)
    };
    let behind = current_secrets(snapshot, &app.name, entry, namespace).into_iter().find(|secret| !holds(secret));
    let mounted = || mounted_secrets(snapshot, &app.name, entry, namespace);
    let behind = behind.or_else(|| mounted().into_iter().find(|secret| history.secret(secret).is_none()));
    behind.map(|secret| format!("Secret {namespace}/{secret} may not hold revision {} yet", entry.revision))
}

/// The Secrets to compare a fresh fetch with: those that what is delivered relies on, and those that the delivery would.
pub(super) fn secret_lookups(snapshot: &Snapshot, key: &RevisionKey) -> BTreeSet<ObjectKey> {
    let mut lookups = BTreeSet::new();
    for (app, environment, config) in app_environments(snapshot) {
        let of = AppEnvironment { app: app.name.clone(), environment: environment.clone() };
        let Some(FetchFacts::Fresh(fetched)) = snapshot.fetches.get(&of) else { continue };
        let content = select(fetched, &config.source, &config.keys).ok();
        let Some(computed) = content.and_then(|content| key.revision(&of, &content)) else { continue };
        let namespaces: Vec<_> = active_namespaces(snapshot, environment, config).collect();
        let entry = |namespace: &str| snapshot.state_of(namespace).and_then(|state| state.apps.get(&app.name));
        // After a change of the key, the revision that one namespace holds is the one that a new namespace gets.
        let held = namespaces.iter().filter_map(|(namespace, _)| entry(namespace));
        let held = held.filter(|entry| entry.environment == *environment).map(|entry| entry.revision.clone());
        let revisions: BTreeSet<Revision> = held.chain([computed]).collect();
        for (namespace, links) in namespaces {
            let mut names = BTreeSet::new();
            if let Some(entry) = entry(namespace) {
                names.extend(current_secrets(snapshot, &app.name, entry, namespace));
                names.extend(mounted_secrets(snapshot, &app.name, entry, namespace));
                names.extend(recorded_secrets(snapshot, &app.name, entry, namespace).map(str::to_owned));
            }
            for revision in &revisions {
                let next = entry_of(app, environment, config, links, revision, None);
                names.extend(current_secrets(snapshot, &app.name, &next, namespace));
            }
            lookups.extend(names.into_iter().map(|name| (namespace.to_owned(), name)));
        }
    }
    lookups
}
