//! Kubernetes Events on Apps and workloads: what happened, once, when it happened.

use std::collections::{BTreeMap, BTreeSet};

use host_sync_core::config::AppEnvironment;
use host_sync_core::plan::{Action, Outcome};
use host_sync_core::snapshot::Problem;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::api::ObjectMeta;
use kube::core::Resource;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use super::apply::{Applied, Failed};
use super::observe::{FIELD_MANAGER, Observed};
use crate::api;

/// The longest note, in bytes (Kubernetes' own limit is 1024).
const NOTE_MAX: usize = 1000;

/// Publishes events. A problem is published when it begins, not as long as it lasts.
pub(super) struct Events {
    recorder: Recorder,
    known: BTreeMap<String, BTreeSet<Problem>>,
    /// Failed touches that have been published, by workload.
    refused: BTreeSet<String>,
}

impl Events {
    pub(super) fn new(client: Client) -> Self {
        let reporter = Reporter::from(FIELD_MANAGER);
        Self { recorder: Recorder::new(client, reporter), known: BTreeMap::new(), refused: BTreeSet::new() }
    }

    /// Publishes what an App's deliveries came to, and what has newly gone wrong.
    pub(super) async fn app(
        &mut self,
        metadata: &ObjectMeta,
        name: &str,
        outcomes: &BTreeMap<AppEnvironment, Outcome>,
        problems: &BTreeSet<Problem>,
        error: Option<&str>,
    ) {
        let mut problems = problems.clone();
        problems.extend(error.map(|error| Problem { reason: "InvalidSpec", message: error.to_owned() }));
        let reference = ObjectReference {
            api_version: Some(api::App::api_version(&()).into_owned()),
            kind: Some(api::App::kind(&()).into_owned()),
            name: Some(name.to_owned()),
            uid: metadata.uid.clone(),
            ..ObjectReference::default()
        };
        for (of, outcome) in outcomes.iter().filter(|(of, _)| of.app.as_str() == name) {
            if let Outcome::Delivered { revision, namespaces, why } = outcome {
                let note = format!(
                    "revision {revision} of environment {} is delivered to {}: {why}",
                    of.environment,
                    namespaces.join(", ")
                );
                self.publish(EventType::Normal, "Delivered", "Deliver", note, &reference).await;
            }
        }
        let known = self.known.insert(name.to_owned(), problems.clone()).unwrap_or_default();
        for problem in problems.difference(&known) {
            self.publish(EventType::Warning, problem.reason, "Deliver", problem.message.clone(), &reference).await;
        }
    }

    /// Publishes the touches: those that were made, and those that admission refused, when they begin to be refused.
    pub(super) async fn touches(&mut self, applied: &Applied, observed: &Observed) {
        for step in &applied.done {
            if let Some(reference) = touched(&step.action, observed) {
                let note = format!("asked the policy to look at it, because {}", step.why);
                self.publish(EventType::Normal, "Touched", "Touch", note, &reference).await;
            }
        }
        let mut refused = BTreeSet::new();
        for Failed { step, error, .. } in &applied.failed {
            let Some(reference) = touched(&step.action, observed) else { continue };
            let what = format!("{}: {error}", step.action);
            if !self.refused.contains(&what) {
                self.publish(EventType::Warning, "TouchFailed", "Touch", error.clone(), &reference).await;
            }
            refused.insert(what);
        }
        self.refused = refused;
    }

    async fn publish(&self, type_: EventType, reason: &str, action: &str, mut note: String, about: &ObjectReference) {
        if note.len() > NOTE_MAX {
            let end = (0..=NOTE_MAX).rev().find(|end| note.is_char_boundary(*end)).unwrap_or_default();
            note.truncate(end);
        }
        let event =
            Event { type_, reason: reason.to_owned(), note: Some(note), action: action.to_owned(), secondary: None };
        if let Err(error) = self.recorder.publish(&event, about).await {
            // An event is a courtesy: the same is in conditions and logs.
            tracing::debug!(%error, "an event could not be published");
        }
    }
}

fn touched(action: &Action, observed: &Observed) -> Option<ObjectReference> {
    let Action::Touch { namespace, kind, workload, .. } = action else { return None };
    let metadata = observed.workloads.get(&(namespace.clone(), workload.clone()));
    Some(ObjectReference {
        api_version: Some("apps/v1".to_owned()),
        kind: Some(kind.as_str().to_owned()),
        name: Some(workload.clone()),
        namespace: Some(namespace.clone()),
        uid: metadata.and_then(|metadata| metadata.uid.clone()),
        ..ObjectReference::default()
    })
}
