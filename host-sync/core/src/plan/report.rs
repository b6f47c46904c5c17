//! What an App's status is to say: per environment what is delivered, what waits and why, and what is wrong.

use std::collections::{BTreeMap, BTreeSet};

use policy_core::attachment::Strategy;
use policy_core::desired_state::{Entry, Injection};
use policy_core::names::{Environment, Revision};

use super::touch::is_current;
use super::{AppEnvironment, AppName, Draft, workload_key};
use crate::config::{App, AppEnvironmentConfig, Mode, Reload};
use crate::history::UnixSeconds;
use crate::snapshot::{MutationMode, Problem, Rollout, StateFacts, WorkloadFacts};

/// How many linked workloads are where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WorkloadCounts {
    /// They hold the newest delivery, and every replica runs it.
    pub ready: u32,
    /// They hold it, and are on their way.
    pub rolling: u32,
    /// They do not hold it yet: Manual, budget, paused, contested, frozen.
    pub pending: u32,
    /// Their rollout failed.
    pub failed: u32,
}

/// One environment of an App, as it was delivered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnvironmentReport {
    /// The newest delivered content.
    pub revision: Option<Revision>,
    /// When it was delivered.
    pub delivered_at: Option<UnixSeconds>,
    /// The mode as delivered.
    pub mode: Option<Mode>,
    /// The strategy as delivered (agent mode).
    pub strategy: Option<Strategy>,
    /// The reload type as delivered.
    pub reload: Option<Reload>,
    /// What of the App's spec takes effect at the next delivery.
    pub pending: Vec<String>,
    /// What waits, workload by workload, and why.
    pub waiting: Vec<String>,
    /// The linked workloads.
    pub workloads: WorkloadCounts,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// One App.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppReport {
    /// Its environments.
    pub environments: BTreeMap<Environment, EnvironmentReport>,
    /// The links that hold an App whose deletion was asked for.
    pub held_by: Vec<String>,
}

pub(super) fn reports(draft: &Draft<'_>) -> BTreeMap<AppName, AppReport> {
    draft.snapshot.apps.values().map(|app| (app.name.clone(), report(draft, app))).collect()
}

fn report(draft: &Draft<'_>, app: &App) -> AppReport {
    let environments = app.environments.iter().map(|(environment, config)| {
        let of = AppEnvironment { app: app.name.clone(), environment: environment.clone() };
        (environment.clone(), environment_report(draft, app, &of, config))
    });
    let held_by = if app.deleting { holders(draft, app) } else { Vec::new() };
    AppReport { environments: environments.collect(), held_by }
}

/// What keeps an App whose deletion was asked for: its links, and then what of it is still in use.
fn holders(draft: &Draft<'_>, app: &App) -> Vec<String> {
    let linked = app.environments.iter().flat_map(|(environment, config)| {
        config.links.keys().map(move |namespace| format!("environment {environment} in namespace {namespace}"))
    });
    let mut holders: Vec<String> = linked.collect();
    let is_linked = |namespace: &str| app.environments.values().any(|config| config.links.contains_key(namespace));
    for namespace in draft.namespaces_holding(&app.name) {
        if is_linked(namespace) {
            continue;
        }
        let workloads = draft.snapshot.workloads_in(namespace).iter();
        let mut using: Vec<String> = workloads
            .filter(|workload| workload.attached.of_app(&app.name).is_some())
            .map(|workload| format!("{} {namespace}/{}, which still holds its secrets", workload.kind, workload.name))
            .collect();
        using.sort();
        if matches!(draft.snapshot.histories.get(namespace), Some(Err(_))) {
            using.push(format!("the delivery history of namespace {namespace}, which cannot be read: repair it"));
        } else if draft.snapshot.environment_of(namespace).is_none() {
            using.push(format!(
                "namespace {namespace}, which has no environment and keeps what it has: label it, or delete it"
            ));
        } else if using.is_empty() {
            using.push(format!("Secrets in namespace {namespace}, which are about to be pruned"));
        }
        holders.extend(using);
    }
    holders
}

fn environment_report(
    draft: &Draft<'_>,
    app: &App,
    of: &AppEnvironment,
    config: &AppEnvironmentConfig,
) -> EnvironmentReport {
    let mut report = EnvironmentReport {
        problems: draft.problems.get(of).cloned().unwrap_or_default(),
        ..EnvironmentReport::default()
    };
    let mut pending = BTreeSet::new();
    for namespace in config.links.keys() {
        report.problems.extend(link_problem(draft, of, namespace));
        let Some(state) = draft.states.get(namespace) else { continue };
        let Some(entry) = state.apps.get(&app.name).filter(|entry| entry.environment == of.environment) else {
            continue;
        };
        let history = draft.histories.get(namespace).and_then(|history| history.get(&app.name));
        let delivered_at = history.map(|history| history.delivered_at);
        if report.revision.is_none() || delivered_at > report.delivered_at {
            report.revision = Some(entry.revision.clone());
            report.delivered_at = delivered_at;
            report.mode = Some(mode_of(entry));
            report.strategy = entry.injection.strategy();
            report.reload = Some(entry.apply.into());
        }
        pending.extend(pending_changes(app, config, entry));
        for workload in draft.snapshot.workloads_in(namespace) {
            if entry.matches(workload.kind, &workload.name, &workload.labels) {
                count(draft, namespace, workload, entry, &mut report);
            }
        }
    }
    report.pending = pending.into_iter().collect();
    report.waiting.sort();
    report
}

fn mode_of(entry: &Entry) -> Mode {
    match entry.injection {
        Injection::RevisionOnly { .. } => Mode::Operator,
        Injection::EnvironmentVariables { .. } | Injection::VolumeMount { .. } => Mode::Agent,
    }
}

/// Why nothing can be delivered through a link.
fn link_problem(draft: &Draft<'_>, of: &AppEnvironment, namespace: &str) -> Option<Problem> {
    let snapshot = draft.snapshot;
    let keeps = snapshot.state_of(namespace).is_some_and(|state| state.apps.contains_key(&of.app));
    let keeps = if keeps { "; what it holds stays as it is" } else { "" };
    let environment = &of.environment;
    let label = "scout.commandk.dev/environment";
    let (reason, message) = match snapshot.namespaces.get(namespace) {
        None => (
            "NamespaceMissing",
            format!(
                "namespace {namespace} does not exist: create it with the label {label}={environment}, or remove the link"
            ),
        ),
        Some(facts) if facts.unwatched => (
            "NamespaceNotWatched",
            format!(
                "namespace {namespace} is none of those that host-sync was told to watch (--namespaces): add it there, or remove the link{keeps}"
            ),
        ),
        Some(facts) if facts.terminating => {
            ("NamespaceTerminating", format!("namespace {namespace} is being deleted: remove the link"))
        }
        Some(facts) => match &facts.environment {
            Some(named) if named == environment => return records_problem(draft, namespace),
            Some(named) => (
                "NamespaceInOtherEnvironment",
                format!(
                    "namespace {namespace} is labelled {label}={named}, and this link is of {environment}: correct the label or the link"
                ),
            ),
            None => (
                "NamespaceNotLabelled",
                format!(
                    "namespace {namespace} has no label {label}: label it {label}={environment}, or remove the link{keeps}"
                ),
            ),
        },
    };
    Some(Problem { reason, message })
}

/// Why a namespace's records cannot be worked with.
fn records_problem(draft: &Draft<'_>, namespace: &str) -> Option<Problem> {
    if let Some(StateFacts::Unreadable(why)) = draft.snapshot.states.get(namespace) {
        let message = format!("{why}; nothing is stripped meanwhile");
        return Some(Problem { reason: "DesiredStateUnreadable", message });
    }
    match draft.snapshot.histories.get(namespace) {
        Some(Err(why)) => Some(Problem { reason: "HistoryUnreadable", message: why.clone() }),
        _ => None,
    }
}

/// What of the spec is not in the delivered entry yet.
fn pending_changes(app: &App, config: &AppEnvironmentConfig, entry: &Entry) -> Vec<String> {
    let mut changes = Vec::new();
    if mode_of(entry) != config.mode {
        changes.push(format!("mode {:?}", config.mode));
    } else if config.mode == Mode::Agent && entry.injection.strategy() != Some(app.strategy) {
        changes.push(format!("deploymentStrategy {:?}", app.strategy));
    }
    if Reload::from(entry.apply) != config.reload {
        changes.push(format!("reloadStrategy {:?}", config.reload));
    }
    match &entry.injection {
        Injection::VolumeMount { mount_path }
            if app.strategy == Strategy::VolumeMount && *mount_path != app.mount_path =>
        {
            changes.push(format!("mountPath {}", app.mount_path));
        }
        Injection::RevisionOnly { secret } if config.mode == Mode::Operator && *secret != config.secret_name => {
            changes.push(format!("secretName {}", config.secret_name));
        }
        _ => {}
    }
    changes
}

fn count(draft: &Draft<'_>, namespace: &str, workload: &WorkloadFacts, entry: &Entry, report: &mut EnvironmentReport) {
    let subject = format!("{} {namespace}/{}", workload.kind, workload.name);
    let counts = &mut report.workloads;
    let waits_for = match workload.mode {
        MutationMode::IgnoreAndDetach => return,
        MutationMode::Ignore => Some("frozen by mutation-mode: ignore".to_owned()),
        MutationMode::Normal => draft.waiting.get(&workload_key(namespace, workload)).cloned(),
    };
    if let Rollout::Failed(reason) = &workload.rollout {
        counts.failed += 1;
        report.waiting.push(format!("{subject}: its rollout failed ({reason})"));
        return;
    }
    let current = draft.states.get(namespace).is_none_or(|state| is_current(workload, state));
    if !current {
        counts.pending += 1;
        let reason = waits_for.unwrap_or_else(|| match Reload::from(entry.apply) {
            Reload::Manual => "reloadStrategy Manual: restart it to bring the newest revision".to_owned(),
            Reload::Auto => "touched, not admitted yet".to_owned(),
        });
        report.waiting.push(format!("{subject}: {reason}"));
        return;
    }
    match &workload.rollout {
        Rollout::Ready => counts.ready += 1,
        Rollout::Paused => {
            counts.pending += 1;
            report.waiting.push(format!("{subject}: its rollout is paused"));
        }
        Rollout::Rolling | Rollout::Failed(_) => counts.rolling += 1,
    }
}
