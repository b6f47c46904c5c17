//! One workload: for each app the chain store → Secret → desired state → admission → rollout, and where it stops.

use host_sync_core::config::App;
use host_sync_core::history::UnixSeconds;
use host_sync_core::snapshot::{MutationMode, Rollout, WorkloadFacts};
use policy_core::desired_state::{Entry, Injection};
use policy_core::matching::attachment;
use policy_core::names::Environment;
use serde::Serialize;

use super::super::facts::{AppFacts, Facts};
use super::super::rights::Visible;
use super::app::applied;
use super::{Placement, Stand, entry, placement, reasons};

/// A workload's page.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WorkloadPage {
    namespace: String,
    kind: &'static str,
    name: String,
    environment: Option<String>,
    mode: Option<&'static str>,
    last_manager: Option<String>,
    chains: Vec<Chain>,
    /// What the pod template holds although no visible App delivers it here.
    leftovers: Vec<String>,
}

/// How one app gets to the workload.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Chain {
    app: String,
    environment: String,
    steps: Vec<Step>,
}

/// One link of a chain.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Step {
    title: &'static str,
    state: StepState,
    text: String,
    at: Option<UnixSeconds>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum StepState {
    /// It has happened.
    Done,
    /// It happens by itself.
    Waiting,
    /// It needs somebody.
    Stopped,
    /// An earlier step has to happen first.
    Later,
}

fn step(title: &'static str, state: StepState, text: impl Into<String>, at: Option<UnixSeconds>) -> Step {
    Step { title, state, text: text.into(), at }
}

/// The page of a workload in a namespace that the viewer may read.
pub(crate) fn workload(facts: &Facts, of: (&str, &str, &str), visible: &Visible) -> Option<WorkloadPage> {
    let (namespace, kind, name) = of;
    let workloads = facts.workloads.get(namespace).filter(|_| visible.namespaces.contains(namespace))?;
    let workload = workloads.iter().find(|one| one.kind.as_str() == kind && one.name == name)?;
    let environment = facts.namespaces.get(namespace).and_then(|facts| facts.environment.as_ref());
    let mut chains = Vec::new();
    for (name, app) in facts.apps.iter().filter(|(name, _)| visible.apps.contains(name)) {
        let (Some(spec), Some(environment)) = (&app.spec, environment) else { continue };
        let delivered = entry(facts, &spec.name, environment, namespace);
        let delivered = delivered.filter(|entry| entry.matches(workload.kind, &workload.name, &workload.labels));
        let links = spec.environments.get(environment).and_then(|config| config.links.get(namespace));
        let linked = links.is_some_and(|links| {
            links.iter().any(|link| link.matches(workload.kind, &workload.name, &workload.labels))
        });
        if delivered.is_some() || linked {
            let look = Look { facts, namespace, workload, app, spec, environment, delivered };
            chains.push(Chain { app: name.clone(), environment: environment.to_string(), steps: look.steps() });
        }
    }
    let chained = |app: &str| chains.iter().any(|chain| chain.app == app);
    let leftovers =
        workload.attached.iter().filter(|one| !chained(one.app.as_str()) && visible.apps.contains(one.app.as_str()));
    Some(WorkloadPage {
        namespace: namespace.to_owned(),
        kind: workload.kind.as_str(),
        name: name.to_owned(),
        environment: environment.map(ToString::to_string),
        mode: match workload.mode {
            MutationMode::Normal => None,
            MutationMode::Ignore => Some("ignore"),
            MutationMode::IgnoreAndDetach => Some("ignore-and-detach"),
        },
        last_manager: workload.last_manager.clone(),
        leftovers: leftovers.map(|one| format!("revision {} of App {}", one.revision, one.app)).collect(),
        chains,
    })
}

/// What the chain of one app is told from.
struct Look<'a> {
    facts: &'a Facts,
    namespace: &'a str,
    workload: &'a WorkloadFacts,
    app: &'a AppFacts,
    spec: &'a App,
    environment: &'a Environment,
    delivered: Option<&'a Entry>,
}

impl Look<'_> {
    fn steps(&self) -> Vec<Step> {
        let store = self.store();
        let Some(entry) = self.delivered else {
            let state = if store.state == StepState::Stopped { StepState::Later } else { StepState::Waiting };
            let secret = step("Secret", state, "nothing is delivered to this workload yet", None);
            let later = |title| step(title, StepState::Later, "comes after the delivery", None);
            return vec![store, secret, later("Desired state"), later("Admission"), later("Rollout")];
        };
        let placement = self.placement(entry);
        let (admission, rollout) = (self.admission(entry, &placement), self.rollout(&placement));
        vec![store, self.secret(entry), desired_state(entry), admission, rollout]
    }

    fn placement(&self, entry: &Entry) -> Placement {
        let subject = format!("{} {}/{}", self.workload.kind, self.namespace, self.workload.name);
        let reason = reasons(self.app, self.environment).get(subject.as_str()).copied();
        placement(self.namespace, self.workload, &self.spec.name, entry, reason)
    }

    fn store(&self) -> Step {
        let source = self.spec.environments.get(self.environment).map(|config| config.source.to_string());
        let place = format!("{} of SecretStore {}", source.unwrap_or_default(), self.spec.store);
        let report = self.app.report.environments.get(self.environment);
        let problem = self.app.problems.iter().chain(report.into_iter().flat_map(|report| &report.problems)).next();
        let store = self.facts.stores.get(&self.spec.store);
        match (problem, store) {
            (Some(problem), _) => {
                step("Store", StepState::Stopped, format!("{} ({})", problem.message, problem.reason), None)
            }
            (None, None) => {
                let text = format!(
                    "SecretStore {} does not exist: create it, or name another one in storeRef",
                    self.spec.store
                );
                step("Store", StepState::Stopped, text, None)
            }
            (None, Some(store)) => match store.ready {
                Some(true) => step("Store", StepState::Done, format!("reads {place}"), None),
                Some(false) => {
                    let text = format!("SecretStore {} has trouble: {}", self.spec.store, store.message);
                    step("Store", StepState::Waiting, text, store.since)
                }
                None => step("Store", StepState::Waiting, format!("is about to read {place}"), None),
            },
        }
    }

    fn secret(&self, entry: &Entry) -> Step {
        let history = self.facts.histories.get(self.namespace).and_then(|history| history.get(&self.spec.name));
        let secret = match &entry.injection {
            Injection::EnvironmentVariables { secret, .. } | Injection::RevisionOnly { secret } => secret.clone(),
            Injection::VolumeMount { .. } => attachment(&self.spec.name, entry, self.workload.as_link_target()).secret,
        };
        let at = history.map(|history| history.delivered_at);
        match history.and_then(|history| history.secret(&secret)) {
            Some(record) => {
                step("Secret", StepState::Done, format!("Secret {secret} holds revision {}", record.revision), at)
            }
            None => step("Secret", StepState::Waiting, format!("Secret {secret} is not recorded yet"), None),
        }
    }

    fn admission(&self, entry: &Entry, placement: &Placement) -> Step {
        let requested = self.workload.requested.as_ref();
        let touched = requested.map(|one| one.at);
        let attempt = requested.filter(|one| one.attempt > 1).map(|one| format!(", try {}", one.attempt));
        let holds = placement.attached.as_ref().map_or_else(
            || "the pod template holds nothing of this App".to_owned(),
            |revision| format!("the pod template holds revision {revision}"),
        );
        let reason = placement.reason.clone().unwrap_or_default();
        let current = placement.attached.as_deref() == Some(entry.revision.as_str());
        match (placement.stand, self.workload.mode) {
            (_, MutationMode::IgnoreAndDetach) => {
                let text = format!("{holds}: detached by its annotation mutation-mode: ignore-and-detach");
                step("Admission", StepState::Stopped, text, touched)
            }
            (_, MutationMode::Ignore) => {
                let text =
                    format!("{holds}: frozen by its annotation mutation-mode: ignore; remove it to follow again");
                step("Admission", StepState::Stopped, text, touched)
            }
            (Stand::Pending, _) if !current => {
                let text = format!("{holds}: {reason}{}", attempt.unwrap_or_default());
                step("Admission", StepState::Waiting, text, touched)
            }
            _ => step("Admission", StepState::Done, holds, touched),
        }
    }

    fn rollout(&self, placement: &Placement) -> Step {
        match &self.workload.rollout {
            Rollout::Failed(why) => step("Rollout", StepState::Stopped, format!("failed: {why}"), None),
            Rollout::Paused => {
                let text = "paused (spec.paused): 'kubectl rollout resume' lets it go on";
                step("Rollout", StepState::Stopped, text, None)
            }
            Rollout::Rolling => step("Rollout", StepState::Waiting, "on its way", None),
            Rollout::Ready if placement.stand == Stand::Pending => {
                step("Rollout", StepState::Later, "every replica runs the earlier template", None)
            }
            Rollout::Ready => step("Rollout", StepState::Done, "every replica runs this template", None),
        }
    }
}

fn desired_state(entry: &Entry) -> Step {
    let how = match &entry.injection {
        Injection::EnvironmentVariables { variables, .. } => match variables.len() {
            1 => "1 variable".to_owned(),
            several => format!("{several} variables"),
        },
        Injection::VolumeMount { mount_path } => format!("files in {mount_path}"),
        Injection::RevisionOnly { .. } => "a Secret that its user wires".to_owned(),
    };
    let text = format!("names revision {}: {how}, reload {}", entry.revision, applied(entry.apply));
    step("Desired state", StepState::Done, text, None)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{everything, facts, only};
    use super::*;

    fn states(facts: &Facts, name: &str) -> Vec<(&'static str, StepState)> {
        let page = workload(facts, ("shop", "Deployment", name), &everything()).unwrap();
        page.chains[0].steps.iter().map(|step| (step.title, step.state)).collect()
    }

    #[test]
    fn a_chain_is_done_to_its_end_where_all_is_well() {
        let states = states(&facts(), "api");
        assert_eq!(states.len(), 5);
        assert!(states.iter().all(|(_, state)| *state == StepState::Done), "{states:?}");
    }

    #[test]
    fn a_chain_says_where_it_waits_and_why() {
        let facts = facts();
        let page = workload(&facts, ("shop", "Deployment", "web"), &only("shop")).unwrap();
        let admission = &page.chains[0].steps[3];
        assert_eq!(admission.state, StepState::Waiting);
        assert_eq!(admission.text, "the pod template holds revision a1: 10 rollouts are in flight: its turn comes");
        assert_eq!(page.chains[0].steps[4].state, StepState::Later);
    }

    #[test]
    fn a_frozen_workload_stops_at_admission_and_a_failed_rollout_at_the_end() {
        let mut facts = facts();
        facts.workloads.get_mut("shop").unwrap()[0].mode = MutationMode::Ignore;
        assert_eq!(states(&facts, "api")[3], ("Admission", StepState::Stopped));
        facts.workloads.get_mut("shop").unwrap()[0].rollout = Rollout::Failed("late".into());
        assert_eq!(states(&facts, "api")[4], ("Rollout", StepState::Stopped));
    }

    #[test]
    fn what_is_linked_and_not_delivered_waits_for_the_delivery() {
        let mut facts = facts();
        facts.states.clear();
        assert_eq!(states(&facts, "api")[1], ("Secret", StepState::Waiting));
        facts.stores.clear();
        assert_eq!(states(&facts, "api")[0], ("Store", StepState::Stopped));
        assert_eq!(states(&facts, "api")[1], ("Secret", StepState::Later));
    }

    #[test]
    fn a_workload_in_a_namespace_that_one_may_not_read_has_no_page() {
        assert!(workload(&facts(), ("hidden", "Deployment", "api"), &only("shop")).is_none());
        assert!(workload(&facts(), ("hidden", "Deployment", "api"), &everything()).is_some());
    }
}
