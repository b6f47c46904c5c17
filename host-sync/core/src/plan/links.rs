//! What links mean at this moment: which namespaces and workloads, and which Secrets these rely on.

use std::collections::BTreeSet;

use policy_core::attachment::Strategy;
use policy_core::desired_state::{Entry, Injection, Link};
use policy_core::names::{AppName, Environment, Revision, revision_secret_name, workload_secret_name};

use crate::config::{App, AppEnvironmentConfig, Mode};
use crate::content::variables;
use crate::secret_bytes::Content;
use crate::snapshot::{MutationMode, Snapshot, WorkloadFacts};

pub(super) fn app_environments(
    snapshot: &Snapshot,
) -> impl Iterator<Item = (&App, &Environment, &AppEnvironmentConfig)> {
    let apps = snapshot.apps.values();
    apps.flat_map(|app| app.environments.iter().map(move |(environment, config)| (app, environment, config)))
}

/// The linked namespaces whose label names this environment, and whose records can be worked with.
pub(super) fn active_namespaces<'a>(
    snapshot: &'a Snapshot,
    environment: &'a Environment,
    config: &'a AppEnvironmentConfig,
) -> impl Iterator<Item = (&'a str, &'a BTreeSet<Link>)> {
    let links = config.links.iter().map(|(namespace, links)| (namespace.as_str(), links));
    links.filter(move |(namespace, _)| {
        snapshot.environment_of(namespace) == Some(environment) && snapshot.records_are_readable(namespace)
    })
}

/// Whether anything in the namespace can still come to need the app: not when every workload that the links mean is
/// detached. A workload that is named and not there yet needs it, and so does a selector that selects nothing yet.
pub(super) fn is_needed(snapshot: &Snapshot, namespace: &str, links: &BTreeSet<Link>) -> bool {
    let workloads = snapshot.workloads_in(namespace);
    links.iter().any(|link| {
        let mut meant = workloads.iter().filter(|one| link.matches(one.kind, &one.name, &one.labels)).peekable();
        meant.peek().is_none() || meant.any(|one| one.mode != MutationMode::IgnoreAndDetach)
    })
}

/// The Secrets of a volume entry: of the workloads that follow, and of the named ones that are not there yet.
fn volume_secrets(snapshot: &Snapshot, app: &AppName, entry: &Entry, namespace: &str) -> BTreeSet<String> {
    let workloads = snapshot.workloads_in(namespace);
    let present = workloads
        .iter()
        .filter(|one| one.mode == MutationMode::Normal && entry.matches(one.kind, &one.name, &one.labels))
        .map(|one| workload_secret_name(app, one.kind, &one.name));
    let absent = entry.links.iter().filter_map(|link| match link {
        Link::Named(link) => {
            let there = workloads.iter().any(|one| one.kind == link.kind && one.name == link.name);
            (!there).then(|| workload_secret_name(app, link.kind, &link.name))
        }
        Link::Selected(_) => None,
    });
    present.chain(absent).collect()
}

/// The Secrets that linked workloads mount although the entry does not make them follow: of ignored ones, whose content is
/// frozen, and of those that wait for another strategy. A pod must find one, so they are written only where there is none.
pub(super) fn mounted_secrets(snapshot: &Snapshot, app: &AppName, entry: &Entry, namespace: &str) -> BTreeSet<String> {
    let linked = snapshot
        .workloads_in(namespace)
        .iter()
        .filter(|one| one.mode != MutationMode::IgnoreAndDetach && entry.matches(one.kind, &one.name, &one.labels));
    let mounts = |secret: &str, one: &WorkloadFacts| {
        let attached = one.attached.of_app(app);
        attached.is_some_and(|one| one.strategy == Some(Strategy::VolumeMount) && one.secret == secret)
    };
    let mounted = linked.filter_map(|one| {
        // The record is within anybody's reach, so only the one name that can be right is taken from it.
        let secret = workload_secret_name(app, one.kind, &one.name);
        mounts(&secret, one).then_some(secret)
    });
    let following = current_secrets(snapshot, app, entry, namespace);
    mounted.filter(|secret| !following.contains(secret)).collect()
}

/// The recorded Secrets that hold an entry's revision, under whatever name: what a fresh fetch can be compared with where
/// the entry's own Secrets are not there, because its workloads are ignored or its strategy changed.
pub(super) fn recorded_secrets<'a>(
    snapshot: &'a Snapshot,
    app: &AppName,
    entry: &'a Entry,
    namespace: &str,
) -> impl Iterator<Item = &'a str> {
    let records = snapshot.history_of(namespace, app).into_iter().flat_map(|history| &history.secrets);
    records.filter(|record| record.revision == entry.revision).map(|record| record.name.as_str())
}

/// The names of the Secrets that an entry relies on.
pub(super) fn current_secrets(snapshot: &Snapshot, app: &AppName, entry: &Entry, namespace: &str) -> BTreeSet<String> {
    match &entry.injection {
        Injection::EnvironmentVariables { secret, .. } | Injection::RevisionOnly { secret } => {
            BTreeSet::from([secret.clone()])
        }
        Injection::VolumeMount { .. } => volume_secrets(snapshot, app, entry, namespace),
    }
}

/// The entry that a delivery captures.
pub fn entry_of(
    app: &App,
    environment: &Environment,
    config: &AppEnvironmentConfig,
    links: &BTreeSet<Link>,
    revision: &Revision,
    content: Option<&Content>,
) -> Entry {
    let injection = match (config.mode, app.strategy) {
        (Mode::Operator, _) => Injection::RevisionOnly { secret: config.secret_name.clone() },
        (Mode::Agent, Strategy::EnvironmentVariables) => Injection::EnvironmentVariables {
            secret: revision_secret_name(&app.name, revision),
            variables: content.map(variables).unwrap_or_default(),
        },
        (Mode::Agent, Strategy::VolumeMount) => Injection::VolumeMount { mount_path: app.mount_path.clone() },
    };
    Entry {
        apply: config.reload.apply(),
        environment: environment.clone(),
        injection,
        links: links.iter().cloned().collect(),
        revision: revision.clone(),
    }
}
