//! From what was read to the chain of each app at one workload. Pure.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use host_sync_core::history::UnixSeconds;
use host_sync_core::plan::LATEST_ATTEMPT;
use host_sync_core::snapshot::{MutationMode, Rollout, StateFacts};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use policy_core::desired_state::{Apply, Entry};
use policy_core::matching::attachment;
use policy_core::names::{AppName, ENVIRONMENT_LABEL, WorkloadKind, desired_state_name};

use super::explanation::{Chain, Explanation, Step, StepState, step};
use crate::commands::cluster::{AppSeen, Facts, NamespaceSeen, Seen, WorkloadSeen};
use crate::commands::output::counted;
use crate::commands::status::{Row, State, condition, next_refresh, rows};

/// The entries of the desired state that are for the workload.
fn entries<'a>(seen: &'a NamespaceSeen, workload: &WorkloadSeen) -> Vec<(&'a AppName, &'a Entry)> {
    let facts = &workload.facts;
    let all = seen.readable_state().into_iter().flat_map(|state| &state.apps);
    all.filter(|(_, entry)| entry.matches(facts.kind, &facts.name, &facts.labels)).collect()
}

fn find<'a>(facts: &'a Facts, namespace: &str, kind: WorkloadKind, name: &str) -> Option<&'a WorkloadSeen> {
    let workloads = facts.namespaces.get(namespace)?.workloads.as_ref().ok()?;
    workloads.iter().find(|one| one.facts.kind == kind && one.facts.name == name)
}

/// The Secrets whose presence the chain depends on.
pub(super) fn secrets(facts: &Facts, namespace: &str, kind: WorkloadKind, name: &str) -> BTreeSet<String> {
    let Some(workload) = find(facts, namespace, kind, name) else { return BTreeSet::new() };
    let Some(seen) = facts.namespaces.get(namespace) else { return BTreeSet::new() };
    let wanted = entries(seen, workload).into_iter();
    wanted.map(|(app, entry)| attachment(app, entry, workload.facts.as_link_target()).secret).collect()
}

/// The chain of each app that has to do with the workload.
pub(super) fn explain(
    facts: &Facts,
    secrets: &BTreeMap<String, Seen<Option<UnixSeconds>>>,
    namespace: &str,
    kind: WorkloadKind,
    name: &str,
) -> Result<Explanation> {
    let subject = format!("{kind} {namespace}/{name}");
    let Some(seen) = facts.namespaces.get(namespace) else { bail!("namespace {namespace} was not read") };
    let linked: Vec<Row> = rows(facts)
        .into_iter()
        .filter(|row| row.namespace == namespace && row.kind == kind.as_str() && row.workload == name)
        .collect();
    let Some(workload) = find(facts, namespace, kind, name) else {
        match &seen.workloads {
            Err(why) => bail!("{subject} cannot be explained: {why}"),
            Ok(_) => bail!("{subject} does not exist: 'kubectl get deployments -n {namespace}' lists those that do"),
        }
    };
    let place = Place { facts, seen, secrets, namespace, workload };
    let chains: Vec<Chain> = linked.iter().filter_map(|row| place.chain(row)).collect();
    let mut notes: Vec<String> = place.attached_and_not_linked(&linked);
    if chains.is_empty() {
        notes.push(place.why_nothing(&subject));
    }
    notes.extend(facts.unknown().into_iter().map(|why| format!("not everything is known: {why}")));
    notes.extend(facts.apps.iter().filter_map(|app| {
        let why = app.config.as_ref().err()?;
        Some(format!("App {} cannot be used: {why}", app.name))
    }));
    Ok(Explanation { workload: subject, chains, notes })
}

/// The workload and what surrounds it.
struct Place<'a> {
    facts: &'a Facts,
    seen: &'a NamespaceSeen,
    secrets: &'a BTreeMap<String, Seen<Option<UnixSeconds>>>,
    namespace: &'a str,
    workload: &'a WorkloadSeen,
}

impl Place<'_> {
    fn chain(&self, row: &Row) -> Option<Chain> {
        let app = self.facts.app(&row.app)?;
        let entry = self.entry(app, row);
        let steps = vec![
            self.store(app, row),
            self.secret(app, row, entry),
            self.desired_state(row, entry),
            self.admission(row, entry),
            self.rollout(row),
        ];
        let stops_at = steps.iter().find(|step| !matches!(step.state, StepState::Done | StepState::Unknown));
        let words = [row.strategy.map(|strategy| format!("{strategy:?}")), row.reload.map(str::to_owned)];
        let words: Vec<String> = words.into_iter().flatten().collect();
        Some(Chain {
            app: row.app.clone(),
            environment: row.environment.clone(),
            delivered_as: if words.is_empty() { "nothing delivered yet".to_owned() } else { words.join(", ") },
            stops_at: stops_at.map(|step| step.name),
            steps,
        })
    }

    fn entry(&self, app: &AppSeen, row: &Row) -> Option<&Entry> {
        let entry = self.seen.readable_state()?.apps.get(&app.config.as_ref().ok()?.name)?;
        (entry.environment.as_str() == row.environment).then_some(entry)
    }

    fn store(&self, app: &AppSeen, row: &Row) -> Step {
        const STEP: &str = "store";
        let stores = match &self.facts.stores {
            Ok(stores) => stores,
            Err(why) => return step(STEP, StepState::Unknown, None, why.clone()),
        };
        let name = &row.store;
        let Some(store) = stores.get(name) else {
            return step(STEP, StepState::Stopped, None, format!("SecretStore {name} does not exist"))
                .fixed_by(format!("create it, or name another one in storeRef of App {}", row.app));
        };
        let refresh = format!("read again {}", next_refresh(self.facts, name));
        let Some(ready) = store.status.conditions.iter().find(|one| one.type_ == "Ready") else {
            return step(STEP, StepState::OnItsWay, None, format!("SecretStore {name} has not been read yet"))
                .fixed_by("wait a moment; if it stays, see whether host-sync runs");
        };
        if let Some(own) = unread(app) {
            let at = Some(own.last_transition_time.0.as_second());
            return step(STEP, StepState::Stopped, at, format!("SecretStore {name}: {} ({})", own.message, own.reason))
                .fixed_by(format!("'check-store {name}' reads it from here; what was delivered stays meanwhile"));
        }
        let at = Some(ready.last_transition_time.0.as_second());
        let refused = condition(&app.status, "Delivered").is_some_and(|own| own.status == "False");
        let says = match (ready.status.as_str(), refused) {
            ("True", _) => format!("{}; {refresh}", ready.message),
            (_, true) => format!("what this App takes was read; {refresh}"),
            // A store says the first of its problems, whosever it is.
            (_, false) => format!("what this App takes was read, and another App's was not: {}", ready.message),
        };
        step(STEP, StepState::Done, at, format!("SecretStore {name}: {says}"))
    }

    fn secret(&self, app: &AppSeen, row: &Row, entry: Option<&Entry>) -> Step {
        const STEP: &str = "Secret";
        if let Some(problem) = self.namespace_problem(row) {
            return problem;
        }
        let holds = entry.map(|entry| {
            let name = &app.config.as_ref().ok()?.name;
            Some(attachment(name, entry, self.workload.facts.as_link_target()).secret)
        });
        let secret = holds.flatten();
        let refused = condition(&app.status, "Delivered").filter(|one| one.status == "False" && unread(app).is_none());
        if let Some(refused) = refused {
            let last = match (&row.desired_revision, &secret) {
                (Some(revision), Some(secret)) => format!("; revision {revision} stays delivered ({secret})"),
                _ => String::new(),
            };
            let at = Some(refused.last_transition_time.0.as_second());
            return step(STEP, StepState::Stopped, at, format!("{} ({}){last}", refused.message, refused.reason))
                .fixed_by("the message names it; the next refresh tries again by itself");
        }
        let Some(revision) = &row.desired_revision else {
            return step(STEP, StepState::OnItsWay, None, "nothing has been delivered to the namespace yet");
        };
        let at = row.delivered_at;
        let Some(secret) = secret else {
            return step(STEP, StepState::Done, at, format!("revision {revision} is delivered"));
        };
        match self.secrets.get(&secret) {
            Some(Ok(None)) => step(
                STEP,
                StepState::Stopped,
                at,
                format!("Secret {secret} does not exist, although revision {revision} was delivered"),
            )
            .fixed_by(format!(
                "host-sync writes it again at its next refresh; 'redeploy {}' does not wait for that",
                row.app
            )),
            Some(Ok(Some(_))) => step(STEP, StepState::Done, at, format!("Secret {secret} holds revision {revision}")),
            Some(Err(why)) => step(
                STEP,
                StepState::Done,
                at,
                format!("revision {revision} was delivered as Secret {secret} ({why}, so it was not looked at)"),
            ),
            None => step(STEP, StepState::Done, at, format!("revision {revision} was delivered as Secret {secret}")),
        }
    }

    /// Why nothing can be delivered to the namespace at all.
    fn namespace_problem(&self, row: &Row) -> Option<Step> {
        let (namespace, environment) = (self.namespace, &row.environment);
        let label = format!("kubectl label namespace {namespace} {ENVIRONMENT_LABEL}={environment}");
        let (says, fix) = match self.seen.facts.as_ref().ok()? {
            None => (format!("namespace {namespace} does not exist"), format!("create it, then: {label}")),
            Some(facts) if facts.terminating => {
                (format!("namespace {namespace} is being deleted"), "remove the link".to_owned())
            }
            Some(facts) => match &facts.environment {
                Some(named) if named.as_str() == environment => return None,
                Some(named) => (
                    format!("namespace {namespace} is of environment {named}, and the link is of {environment}"),
                    format!("correct the link, or: {label} --overwrite"),
                ),
                None => (format!("namespace {namespace} is of no environment"), label),
            },
        };
        Some(step("Secret", StepState::Stopped, None, says).fixed_by(fix))
    }

    fn desired_state(&self, row: &Row, entry: Option<&Entry>) -> Step {
        const STEP: &str = "desired state";
        let name = desired_state_name(self.namespace);
        let facts = &self.workload.facts;
        match (&self.seen.state, entry) {
            (Err(why), _) => step(STEP, StepState::Unknown, None, why.clone()),
            (Ok(None), _) => step(STEP, StepState::OnItsWay, None, format!("ConfigMap {name} does not exist yet"))
                .fixed_by("wait a moment; if it stays, see whether host-sync runs"),
            (Ok(Some(StateFacts::Unreadable(why))), _) => step(STEP, StepState::Stopped, None, why.clone()).fixed_by(
                format!("delete ConfigMap {name}: host-sync writes it anew, and nothing is stripped meanwhile"),
            ),
            (Ok(Some(StateFacts::Readable(_))), None) => {
                step(STEP, StepState::NotReached, None, format!("{name} has no entry of {} yet", row.app))
            }
            (Ok(Some(StateFacts::Readable(_))), Some(entry)) => {
                if !entry.matches(facts.kind, &facts.name, &facts.labels) {
                    return step(
                        STEP,
                        StepState::OnItsWay,
                        row.delivered_at,
                        format!("{name} has an entry of {} whose links do not mean this workload yet", row.app),
                    )
                    .fixed_by("links are captured at a delivery: it is on its way");
                }
                let applies = match entry.apply {
                    Apply::Immediately => "at the next admission",
                    Apply::OnTemplateChange => "when its pod template changes",
                };
                step(
                    STEP,
                    StepState::Done,
                    row.delivered_at,
                    format!("{name} wants revision {} here, {applies}", entry.revision),
                )
            }
        }
    }

    fn admission(&self, row: &Row, entry: Option<&Entry>) -> Step {
        const STEP: &str = "admission";
        let facts = &self.workload.facts;
        let touched = facts.requested.as_ref().map(|requested| requested.at);
        let holds = match &row.attached_revision {
            Some(revision) => format!("the pod template holds revision {revision}"),
            None => "the pod template holds nothing of it".to_owned(),
        };
        let remove = format!(
            "kubectl annotate {} {} -n {} scout.commandk.dev/mutation-mode-",
            lower(facts.kind),
            facts.name,
            self.namespace
        );
        match (facts.mode, row.state) {
            (MutationMode::Ignore, _) => {
                return step(STEP, StepState::Waits, None, format!("{holds}: frozen by mutation-mode: ignore"))
                    .fixed_by(remove);
            }
            (MutationMode::IgnoreAndDetach, _) => {
                return step(
                    STEP,
                    StepState::Waits,
                    None,
                    format!("{holds}: detached by mutation-mode: ignore-and-detach"),
                )
                .fixed_by(remove);
            }
            (MutationMode::Normal, State::NotDelivered) => return step(STEP, StepState::NotReached, None, holds),
            (MutationMode::Normal, _) => {}
        }
        let paused_or_failed = matches!(facts.rollout, Rollout::Paused | Rollout::Failed(_));
        let current = row.attached_revision == row.desired_revision;
        if row.state != State::Waiting || (current && paused_or_failed) {
            return step(STEP, StepState::Done, touched, holds);
        }
        let reason = row.reason.clone().unwrap_or_default();
        let says = format!("{holds}, wanted is {}: {reason}", row.desired_revision.as_deref().unwrap_or("none"));
        let manual = entry.is_some_and(|entry| entry.apply == Apply::OnTemplateChange) || row.reload == Some("Manual");
        if manual {
            let restart = format!("kubectl rollout restart {}/{} -n {}", lower(facts.kind), facts.name, self.namespace);
            return step(STEP, StepState::Waits, touched, says).fixed_by(restart);
        }
        match &facts.requested {
            Some(requested) if requested.attempt >= LATEST_ATTEMPT => step(STEP, StepState::Stopped, touched, says)
                .fixed_by(format!(
                    "let {} keep what the policy adds, or see whether the policy is active in the namespace",
                    facts.last_manager.as_deref().unwrap_or("whoever writes to it")
                )),
            _ => step(STEP, StepState::OnItsWay, touched, says),
        }
    }

    fn rollout(&self, row: &Row) -> Step {
        const STEP: &str = "rollout";
        let facts = &self.workload.facts;
        let at = self.workload.progressed_at;
        let Some(revision) = &row.attached_revision else {
            return step(STEP, StepState::NotReached, None, "there is nothing to roll out yet");
        };
        let pods = match &row.pods {
            None => "its pods may not be read".to_owned(),
            Some(pods) => {
                let running = pods.iter().filter(|one| one.revision.as_ref() == Some(revision)).map(|one| one.pods);
                let all: usize = pods.iter().map(|one| one.pods).sum();
                format!("{} of {} run revision {revision}", running.sum::<usize>(), counted(all, "pod"))
            }
        };
        let (kind, name, namespace) = (lower(facts.kind), &facts.name, self.namespace);
        match &facts.rollout {
            Rollout::Ready => step(STEP, StepState::Done, at, pods),
            Rollout::Rolling => {
                step(STEP, StepState::OnItsWay, at, format!("{pods}, {} wanted", self.workload.replicas))
            }
            Rollout::Paused => step(STEP, StepState::Waits, at, format!("{pods}; it is paused"))
                .fixed_by(format!("kubectl rollout resume {kind}/{name} -n {namespace}")),
            Rollout::Failed(why) => {
                step(STEP, StepState::Stopped, at, format!("{pods}; it failed ({why})")).fixed_by(format!(
                    "kubectl describe {kind} {name} -n {namespace} says why; the app's other workloads wait meanwhile"
                ))
            }
        }
    }

    fn attached_and_not_linked(&self, linked: &[Row]) -> Vec<String> {
        let attached = self.workload.facts.attached.iter();
        let left = attached.filter(|one| !linked.iter().any(|row| row.app == one.app.as_str()));
        left.map(|one| {
            format!("it still holds revision {} of {}, whose App does not link it (any more)", one.revision, one.app)
        })
        .collect()
    }

    fn why_nothing(&self, subject: &str) -> String {
        let links = |app: &&AppSeen| {
            app.config
                .as_ref()
                .is_ok_and(|config| config.environments.values().any(|one| one.links.contains_key(self.namespace)))
        };
        let others: Vec<&str> = self.facts.apps.iter().filter(links).map(|app| app.name.as_str()).collect();
        if others.is_empty() {
            return format!(
                "no App links anything in namespace {}: add a link to an App's environment",
                self.namespace
            );
        }
        format!(
            "no App links {subject}; {} links others of the namespace: name it in a link, or give it the labels that a link's selector asks for",
            others.join(", ")
        )
    }
}

/// The condition reasons of a store that could not be read: the classes of [`host_sync_core::store::FetchError`], and what
/// host-sync says of the store itself.
const UNREAD: [&str; 7] =
    ["NotFound", "Denied", "Throttled", "Unavailable", "Malformed", "Misconfigured", "StoreMissing"];

/// Why what an App takes from its store could not be read, if it could not.
fn unread(app: &AppSeen) -> Option<&Condition> {
    let own = condition(&app.status, "Delivered").filter(|one| one.status == "False")?;
    UNREAD.contains(&own.reason.as_str()).then_some(own)
}

/// A kind as `kubectl` takes it.
fn lower(kind: WorkloadKind) -> String {
    kind.as_str().to_ascii_lowercase()
}
