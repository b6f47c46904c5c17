//! From what was read to one row per app environment and workload. Pure.

use std::collections::BTreeMap;

use host_sync_core::config::{App, AppEnvironmentConfig, Mode, Reload};
use host_sync_core::history::UnixSeconds;
use host_sync_core::snapshot::{MutationMode, Rollout};
use policy_core::attachment::Strategy;
use policy_core::desired_state::{Apply, Entry, Injection, Link};
use policy_core::matching::attachment;
use policy_core::names::{Environment, revision_label};
use serde::Serialize;

use crate::api::{self, AppStatus, EnvironmentStatus};
use crate::commands::cluster::{AppSeen, Facts, NamespaceSeen, WorkloadSeen};
use crate::commands::output::{as_moment, span};
use crate::parse::refresh_interval;

/// How a linked workload stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(in crate::commands) enum State {
    /// Every pod runs the newest revision.
    Ready,
    /// Its rollout is on its way.
    Rolling,
    /// It does not hold the newest revision, or its rollout is paused: the reason says why.
    Waiting,
    /// Its user keeps Scout away from it (`mutation-mode`).
    LeftAlone,
    /// Its rollout failed.
    Failed,
    /// Nothing has been delivered to its namespace.
    NotDelivered,
    /// The link names it, and it does not exist.
    Missing,
}

/// How many pods run a revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::commands) struct PodsOfRevision {
    /// The revision; none where a pod holds nothing of the app.
    pub(in crate::commands) revision: Option<String>,
    /// How many.
    pub(in crate::commands) pods: usize,
}

/// One app environment at one workload.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::commands) struct Row {
    pub(in crate::commands) namespace: String,
    pub(in crate::commands) kind: String,
    pub(in crate::commands) workload: String,
    pub(in crate::commands) app: String,
    pub(in crate::commands) environment: String,
    /// What the newest delivery wants it to hold.
    pub(in crate::commands) desired_revision: Option<String>,
    /// What its pod template holds.
    pub(in crate::commands) attached_revision: Option<String>,
    /// What its pods hold; absent where they may not be read.
    pub(in crate::commands) pods: Option<Vec<PodsOfRevision>>,
    /// As delivered; absent in operator mode.
    pub(in crate::commands) strategy: Option<Strategy>,
    /// As delivered.
    pub(in crate::commands) reload: Option<&'static str>,
    pub(in crate::commands) state: State,
    /// What it waits for, or what is wrong.
    pub(in crate::commands) reason: Option<String>,
    /// When the newest delivery was decided.
    #[serde(serialize_with = "as_moment")]
    pub(in crate::commands) delivered_at: Option<UnixSeconds>,
    pub(in crate::commands) store: String,
    /// As far as it can be known: host-sync's own schedule is in no object.
    pub(in crate::commands) next_refresh: String,
}

/// What there is to say of an App as a whole.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::commands) struct AppNote {
    pub(in crate::commands) app: String,
    pub(in crate::commands) ready: Option<bool>,
    pub(in crate::commands) reason: Option<String>,
    pub(in crate::commands) message: Option<String>,
    /// What of its spec takes effect at the next delivery, by environment.
    pub(in crate::commands) pending: BTreeMap<String, Vec<String>>,
}

/// The rows, by namespace, workload and app.
pub(in crate::commands) fn rows(facts: &Facts) -> Vec<Row> {
    let mut rows = Vec::new();
    for app in &facts.apps {
        let Ok(config) = &app.config else { continue };
        for (environment, of) in &config.environments {
            for namespace in of.links.keys() {
                if let Some(seen) = facts.namespaces.get(namespace) {
                    rows.extend(Place { facts, app, config, environment, of, namespace, seen }.rows());
                }
            }
        }
    }
    rows.sort_by(|a, b| {
        (&a.namespace, &a.kind, &a.workload, &a.app).cmp(&(&b.namespace, &b.kind, &b.workload, &b.app))
    });
    rows
}

/// What is said of the Apps, in order of their names.
pub(in crate::commands) fn notes(facts: &Facts) -> Vec<AppNote> {
    let note = |app: &AppSeen| {
        let condition = condition(&app.status, "Ready");
        let pending = app.status.environments.iter().filter(|(_, status)| !status.pending.is_empty());
        let broken = app.config.as_ref().err();
        AppNote {
            app: app.name.clone(),
            ready: condition.map(|one| one.status == "True" && broken.is_none()),
            reason: broken.map(|_| "InvalidSpec".to_owned()).or_else(|| condition.map(|one| one.reason.clone())),
            message: broken.cloned().or_else(|| condition.map(|one| one.message.clone())),
            pending: pending.map(|(name, status)| (name.clone(), status.pending.clone())).collect(),
        }
    };
    let mut notes: Vec<AppNote> = facts.apps.iter().map(note).collect();
    notes.sort_by(|a, b| a.app.cmp(&b.app));
    notes
}

pub(in crate::commands) fn condition<'a>(
    status: &'a AppStatus,
    type_: &str,
) -> Option<&'a k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
    status.conditions.iter().find(|one| one.type_ == type_)
}

/// One app environment in one namespace.
struct Place<'a> {
    facts: &'a Facts,
    app: &'a AppSeen,
    config: &'a App,
    environment: &'a Environment,
    of: &'a AppEnvironmentConfig,
    namespace: &'a str,
    seen: &'a NamespaceSeen,
}

impl Place<'_> {
    fn status(&self) -> Option<&EnvironmentStatus> {
        self.app.status.environments.get(self.environment.as_str())
    }

    /// What is delivered here, where the desired state can be read.
    fn entry(&self) -> Option<&Entry> {
        let entry = self.seen.readable_state()?.apps.get(&self.config.name)?;
        (entry.environment == *self.environment).then_some(entry)
    }

    /// The newest delivery's revision: as the desired state says where it can be read, else as the App's status says.
    fn desired(&self) -> Option<String> {
        match &self.seen.state {
            Ok(_) => self.entry().map(|entry| entry.revision.to_string()),
            Err(_) => self.status()?.revision.clone(),
        }
    }

    fn rows(&self) -> Vec<Row> {
        let workloads: &[WorkloadSeen] = self.seen.workloads.as_deref().unwrap_or_default();
        let means = |one: &WorkloadSeen| {
            let (kind, name, labels) = (one.facts.kind, &one.facts.name, &one.facts.labels);
            self.of.links[self.namespace].iter().any(|link| link.matches(kind, name, labels))
        };
        let mut rows: Vec<Row> = workloads.iter().filter(|one| means(one)).map(|one| self.row(one)).collect();
        for link in &self.of.links[self.namespace] {
            let Link::Named(named) = link else { continue };
            let there = |one: &WorkloadSeen| one.facts.kind == named.kind && one.facts.name == named.name;
            if self.seen.workloads.is_ok() && !workloads.iter().any(there) {
                let reason = "the App links it, and it does not exist: create it, or correct the link".to_owned();
                rows.push(Row {
                    state: State::Missing,
                    reason: Some(reason),
                    ..self.blank(named.kind.as_str(), &named.name)
                });
            }
        }
        rows
    }

    fn blank(&self, kind: &str, workload: &str) -> Row {
        let entry = self.entry();
        let status = self.status();
        let strategy = match entry {
            Some(entry) => entry.injection.strategy(),
            None => status.and_then(|status| status.deployment_strategy).map(Into::into),
        };
        let reload = match entry {
            Some(entry) => Some(reload_word(entry.apply.into())),
            None => status.and_then(|status| status.reload_strategy).map(|reload| match reload {
                api::ReloadStrategy::Auto => "Auto",
                api::ReloadStrategy::Manual => "Manual",
            }),
        };
        let history = self.seen.history.as_ref().ok().and_then(Option::as_ref);
        let recorded = history.and_then(|history| history.get(&self.config.name)).map(|one| one.delivered_at);
        Row {
            namespace: self.namespace.to_owned(),
            kind: kind.to_owned(),
            workload: workload.to_owned(),
            app: self.app.name.clone(),
            environment: self.environment.to_string(),
            desired_revision: self.desired(),
            attached_revision: None,
            pods: None,
            strategy,
            reload,
            state: State::NotDelivered,
            reason: None,
            delivered_at: recorded
                .or_else(|| status.and_then(|status| status.delivered_at.as_ref()).map(|time| time.0.as_second())),
            store: self.config.store.clone(),
            next_refresh: next_refresh(self.facts, &self.config.store),
        }
    }

    fn row(&self, workload: &WorkloadSeen) -> Row {
        let attached = workload.facts.attached.of_app(&self.config.name);
        let (state, reason) = self.state(workload);
        Row {
            attached_revision: attached.map(|one| one.revision.to_string()),
            pods: self.pods(workload),
            state,
            reason,
            ..self.blank(workload.facts.kind.as_str(), &workload.facts.name)
        }
    }

    fn pods(&self, workload: &WorkloadSeen) -> Option<Vec<PodsOfRevision>> {
        let label = revision_label(&self.config.name);
        let mut counts: BTreeMap<Option<&String>, usize> = BTreeMap::new();
        for pod in self.seen.pods_of(workload)? {
            *counts.entry(pod.labels.get(&label)).or_default() += 1;
        }
        Some(counts.into_iter().map(|(revision, pods)| PodsOfRevision { revision: revision.cloned(), pods }).collect())
    }

    fn state(&self, workload: &WorkloadSeen) -> (State, Option<String>) {
        match workload.facts.mode {
            MutationMode::Ignore => return (State::LeftAlone, Some("frozen by mutation-mode: ignore".to_owned())),
            MutationMode::IgnoreAndDetach => {
                return (State::LeftAlone, Some("detached by mutation-mode: ignore-and-detach".to_owned()));
            }
            MutationMode::Normal => {}
        }
        let Some(desired) = self.desired() else {
            return (State::NotDelivered, Some(self.why_not_delivered()));
        };
        if !self.holds(workload, &desired) {
            return (State::Waiting, Some(self.why_waiting(workload)));
        }
        match &workload.facts.rollout {
            Rollout::Ready => (State::Ready, None),
            Rollout::Rolling => (State::Rolling, None),
            Rollout::Paused => (State::Waiting, Some("its rollout is paused: kubectl rollout resume".to_owned())),
            Rollout::Failed(why) => (State::Failed, Some(format!("its rollout failed ({why})"))),
        }
    }

    /// Whether the pod template holds the newest delivery, strategy and all.
    fn holds(&self, workload: &WorkloadSeen, desired: &str) -> bool {
        let attached = workload.facts.attached.of_app(&self.config.name);
        if let Some(entry) = self.entry() {
            let operator = matches!(entry.injection, Injection::RevisionOnly { .. });
            let idle = operator && entry.apply == Apply::OnTemplateChange;
            return idle || attached == Some(&attachment(&self.config.name, entry, workload.facts.as_link_target()));
        }
        let idle = self.of.mode == Mode::Operator && self.of.reload == Reload::Manual;
        idle || attached.is_some_and(|one| one.revision.as_str() == desired)
    }

    fn why_not_delivered(&self) -> String {
        match condition(&self.app.status, "Delivered").filter(|one| one.status == "False") {
            Some(condition) => condition.message.clone(),
            None => "nothing has been delivered to the namespace yet".to_owned(),
        }
    }

    /// host-sync's own words where it has any, for only it knows of its budget.
    fn why_waiting(&self, workload: &WorkloadSeen) -> String {
        let subject = format!("{} {}/{}: ", workload.facts.kind, self.namespace, workload.facts.name);
        let said = self.status().and_then(|status| status.waiting.iter().find_map(|one| one.strip_prefix(&subject)));
        if let Some(said) = said {
            return said.to_owned();
        }
        let manual = self.entry().is_some_and(|entry| entry.apply == Apply::OnTemplateChange);
        if manual {
            return "reloadStrategy Manual: restart it to bring the newest revision".to_owned();
        }
        match &workload.facts.requested {
            Some(requested) => format!("touched {} times, not admitted with the revision yet", requested.attempt),
            None => "host-sync has not touched it yet".to_owned(),
        }
    }
}

fn reload_word(reload: Reload) -> &'static str {
    match reload {
        Reload::Auto => "Auto",
        Reload::Manual => "Manual",
    }
}

/// When the store is read next, as far as it can be known from outside host-sync.
pub(in crate::commands) fn next_refresh(facts: &Facts, store: &str) -> String {
    let Ok(stores) = &facts.stores else { return "not known".to_owned() };
    let Some(seen) = stores.get(store) else { return format!("never: SecretStore {store} does not exist") };
    let interval = seen.spec.as_ref().and_then(|spec| refresh_interval(&spec.refresh_interval).ok());
    let Some(interval) = interval else { return "never: the SecretStore's spec is not valid".to_owned() };
    let failing = seen.status.conditions.iter().any(|one| one.type_ == "Ready" && one.status == "False");
    if failing {
        return "retried with growing pauses, at most 5m".to_owned();
    }
    // A tenth more is host-sync's jitter.
    let latest = i64::try_from(interval.as_secs()).unwrap_or(i64::MAX).saturating_mul(11) / 10;
    let watched =
        if seen.spec.as_ref().is_some_and(|spec| spec.file.is_some()) { ", or when a file changes" } else { "" };
    format!("within {}{watched}", span(latest))
}
