//! One admission request, from its JSON to a verdict.
//!
//! In two steps, because the second costs a call to the API server: [`Review::triage`] decides what can be decided from
//! the request alone (most requests: scaling, status, the controllers' own writes), [`Review::decide`] does the rest with
//! the desired state. Nothing in a verdict depends on anything but the request, the settings and the ConfigMap.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::attachment::Attachments;
use crate::desired_state::{Apply, DesiredState, Injection};
use crate::injection::{InjectionError, Injector};
use crate::matching::{self, Matches, Workload};
use crate::names::{
    ATTACHED_ANNOTATION, ATTACHMENTS_ANNOTATION, CONTAINERS_ANNOTATION, MUTATION_MODE_ANNOTATION, PREFIX,
    REQUESTED_ANNOTATION, WorkloadKind, desired_state_name,
};
use crate::selector::Labels;
use crate::settings::{OnMissingState, Settings};
use crate::template::{
    Managed, Object, Wanted, containers, pod_template, reconcile, set_text, template_pointer, text, without_managed,
};

/// What the policy answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Admitted as it came.
    Accept {
        /// For whoever sent the request.
        warnings: Vec<String>,
    },
    /// Admitted, changed.
    Mutate {
        /// The whole object as it is to be.
        object: Value,
        /// For whoever sent the request.
        warnings: Vec<String>,
    },
    /// Refused.
    Reject {
        /// What is wrong, and the fix.
        message: String,
    },
}

impl Verdict {
    fn accept() -> Self {
        Self::Accept { warnings: Vec::new() }
    }
}

/// What can be said before the desired state is read.
#[derive(Debug, Clone, PartialEq)]
pub enum Triage {
    /// Everything.
    Decided(Verdict),
    /// This ConfigMap must be read, past every cache.
    NeedsState {
        /// The ConfigMap's namespace.
        namespace: String,
        /// The ConfigMap's name.
        name: String,
    },
}

/// What came of reading the ConfigMap.
#[derive(Debug, Clone, PartialEq)]
pub enum StateRead {
    /// The ConfigMap, as raw JSON.
    Found(Value),
    /// It is missing or cannot be read; the host's words.
    Unavailable(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MutationMode {
    Normal,
    Ignore,
    IgnoreAndDetach,
}

/// An admission request for a workload, or for something that Scout lets pass.
#[derive(Debug)]
pub struct Review(Option<WorkloadReview>);

#[derive(Debug)]
struct WorkloadReview {
    kind: WorkloadKind,
    namespace: String,
    name: String,
    labels: Labels,
    object: Value,
    /// `None` on CREATE.
    old: Option<Value>,
}

impl Review {
    /// Parses the admission request (`request` of an AdmissionReview v1), as raw JSON.
    pub fn parse(request: &Value) -> Result<Self, String> {
        let request = request.as_object().ok_or("the admission request is not a JSON object")?;
        let update = match text(request, "operation") {
            "CREATE" => false,
            "UPDATE" => true,
            "" => return Err("the admission request names no operation".to_owned()),
            _ => return Ok(Self(None)),
        };
        let kind = request.get("kind").and_then(Value::as_object).ok_or("the admission request names no kind")?;
        let kind = WorkloadKind::of(text(kind, "group"), text(kind, "kind"));
        let object = request.get("object").filter(|object| object.is_object());
        let (Some(kind), Some(object), true) = (kind, object, text(request, "subResource").is_empty()) else {
            return Ok(Self(None));
        };
        if pod_template(object, kind).is_none() {
            // Admission comes before validation: the API server refuses what has no containers in its own words.
            return Ok(Self(None));
        }
        let old = request.get("oldObject").filter(|old| update && old.is_object()).cloned();
        let namespace = text(request, "namespace").to_owned();
        if namespace.is_empty() {
            return Err(format!("the admission request for a {kind} names no namespace"));
        }
        Ok(Self(Some(WorkloadReview {
            kind,
            namespace,
            name: name(request, object).to_owned(),
            labels: labels(object),
            object: object.clone(),
            old,
        })))
    }

    /// Decides what needs no desired state.
    pub fn triage(&self, settings: &Settings) -> Triage {
        let Some(review) = &self.0 else { return Triage::Decided(Verdict::accept()) };
        match review.decide_alone() {
            Some(verdict) => Triage::Decided(verdict),
            None => Triage::NeedsState {
                namespace: settings.desired_state_namespace.clone(),
                name: desired_state_name(&review.namespace),
            },
        }
    }

    /// Decides with the desired state that [`Review::triage`] asked for.
    pub fn decide(&self, settings: &Settings, state: StateRead) -> Verdict {
        let Some(review) = &self.0 else { return Verdict::accept() };
        match state {
            StateRead::Found(config_map) => match DesiredState::from_config_map(&config_map, &review.namespace) {
                Ok(state) => review.follow(&state),
                Err(error) => {
                    let fix = format!("To mend it, {}", error.remedy());
                    review.keep_without_state(settings, &error.to_string(), &fix)
                }
            },
            StateRead::Unavailable(reason) => {
                let fix = format!("Check that host-sync runs in namespace {}", settings.desired_state_namespace);
                review.keep_without_state(settings, &reason, &fix)
            }
        }
    }
}

impl WorkloadReview {
    /// What can be decided from the request alone: nothing that Scout looks at changed, the annotations are wrong, the
    /// workload is ignored, or it has no name yet.
    fn decide_alone(&self) -> Option<Verdict> {
        if self.old.as_ref().is_some_and(|old| !self.changes_what_matters(old)) {
            return Some(Verdict::accept());
        }
        match self.mutation_mode() {
            Err(message) => return Some(Verdict::Reject { message }),
            Ok(MutationMode::Ignore) => return Some(self.edited(self.kept(), Vec::new())),
            Ok(MutationMode::IgnoreAndDetach) => return Some(self.detached()),
            Ok(MutationMode::Normal) => {}
        }
        if self.name.is_empty() {
            let warning = format!(
                "{} has a generated name, which nobody knows yet: Scout attaches its secrets right after it is created",
                self.subject()
            );
            return Some(self.edited(self.kept(), vec![warning]));
        }
        self.target_containers().err().map(|message| Verdict::Reject { message })
    }

    fn changes_what_matters(&self, old: &Value) -> bool {
        let template = template_pointer(self.kind);
        self.object.pointer(template) != old.pointer(template)
            || self.labels != labels(old)
            || scouts_annotations(&self.object) != scouts_annotations(old)
    }

    fn subject(&self) -> String {
        let generated = self.object.pointer("/metadata/generateName").and_then(Value::as_str).unwrap_or_default();
        let name = if self.name.is_empty() { generated } else { &self.name };
        format!("{} {}/{name}", self.kind, self.namespace)
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.object.pointer("/metadata/annotations")?.get(key)?.as_str()
    }

    fn mutation_mode(&self) -> Result<MutationMode, String> {
        match self.annotation(MUTATION_MODE_ANNOTATION) {
            None => Ok(MutationMode::Normal),
            Some("ignore") => Ok(MutationMode::Ignore),
            Some("ignore-and-detach") => Ok(MutationMode::IgnoreAndDetach),
            Some(other) => Err(format!(
                "annotation {MUTATION_MODE_ANNOTATION} of {} is {other:?}: use \"ignore\" or \"ignore-and-detach\", or remove it",
                self.subject()
            )),
        }
    }

    /// The containers that the annotation names; `None` means all.
    fn target_containers(&self) -> Result<Option<BTreeSet<String>>, String> {
        let Some(list) = self.annotation(CONTAINERS_ANNOTATION) else { return Ok(None) };
        let mut named = BTreeSet::new();
        named.extend(list.split(',').map(str::trim_ascii).filter(|name| !name.is_empty()).map(str::to_owned));
        let present: Vec<&str> = containers(self.template()).iter().map(|container| text(container, "name")).collect();
        let unknown = named.iter().find(|name| !present.contains(&name.as_str()));
        let problem = match unknown {
            Some(unknown) => format!("names {unknown:?}, which is no container of it"),
            None if named.is_empty() => "names no container".to_owned(),
            None => return Ok(Some(named)),
        };
        Err(format!(
            "annotation {CONTAINERS_ANNOTATION} of {} {problem}: it has {}; correct the list, or remove the annotation to mean all",
            self.subject(),
            present.join(", ")
        ))
    }

    fn template(&self) -> &Value {
        // Parsing let only objects with a template through.
        self.object.pointer(template_pointer(self.kind)).unwrap_or(&Value::Null)
    }

    fn old_template(&self) -> Option<&Value> {
        self.old.as_ref().and_then(|old| old.pointer(template_pointer(self.kind)))
    }

    /// What the old template records as attached.
    fn old_attachments(&self) -> Attachments {
        recorded(self.old_template())
    }

    /// What belongs to Scout in the old and the new template.
    fn managed(&self) -> Managed {
        let old = self.old_attachments();
        let new = recorded(Some(self.template()));
        Managed::by(old.iter().chain(&new))
    }

    /// Exactly what the old object had; on CREATE, nothing.
    fn kept(&self) -> Result<Injected, InjectionError> {
        let user = without_managed(self.template(), &self.managed());
        let mut injector = Injector::new(&user, None);
        if let Some(old) = self.old_template() {
            for attachment in &self.old_attachments() {
                injector.keep(attachment, old)?;
            }
        }
        let (wanted, warnings) = injector.finish();
        Ok(Injected { wanted, warnings })
    }

    /// What the desired state says, app by app.
    fn follow(&self, state: &DesiredState) -> Verdict {
        let containers = match self.target_containers() {
            Ok(containers) => containers,
            Err(message) => return Verdict::Reject { message },
        };
        let workload = Workload { kind: self.kind, name: &self.name, labels: &self.labels };
        let matches = matching::matches(state, workload);
        let warnings = matches.clashes.iter().map(|clash| format!("{}: {clash}", self.subject())).collect();
        self.edited(self.followed(&matches, workload, containers.as_ref()), warnings)
    }

    fn followed(
        &self,
        matches: &Matches<'_>,
        workload: Workload<'_>,
        containers: Option<&BTreeSet<String>>,
    ) -> Result<Injected, InjectionError> {
        let managed = self.managed();
        let user = without_managed(self.template(), &managed);
        let template_changed = self.old_template().is_none_or(|old| without_managed(old, &managed) != user);
        let old_attachments = self.old_attachments();
        let mut injector = Injector::new(&user, containers);
        for (app, entry) in &matches.entries {
            let waits = entry.apply == Apply::OnTemplateChange && !template_changed;
            let revision_only = matches!(entry.injection, Injection::RevisionOnly { .. });
            match (old_attachments.of_app(app), self.old_template()) {
                (Some(attached), Some(old)) if waits => injector.keep(attached, old)?,
                // Under Manual a revision is nobody's reason to roll, so operator mode leaves the template alone.
                _ if revision_only && entry.apply == Apply::OnTemplateChange => {}
                _ => injector.attach(matching::attachment(app, entry, workload), entry)?,
            }
        }
        let (wanted, warnings) = injector.finish();
        Ok(Injected { wanted, warnings })
    }

    /// Without a desired state nothing is ever stripped: an UPDATE keeps what there was, a CREATE is for the settings to say.
    /// `fix` is a sentence without its full stop.
    fn keep_without_state(&self, settings: &Settings, reason: &str, fix: &str) -> Verdict {
        let namespace = &settings.desired_state_namespace;
        let state = format!(
            "the desired state of namespace {} (ConfigMap {namespace}/{}) cannot be read: {}",
            self.namespace,
            desired_state_name(&self.namespace),
            reason.trim()
        );
        if self.old.is_some() {
            let warning = format!("{state}; {} keeps what Scout attached before", self.subject());
            return self.edited(self.kept(), vec![warning]);
        }
        match settings.on_missing_state {
            OnMissingState::Accept => {
                let warning =
                    format!("{state}; {} starts without secrets until host-sync attaches them", self.subject());
                self.edited(self.kept(), vec![warning])
            }
            OnMissingState::Reject => Verdict::Reject {
                message: format!(
                    "{state}; {} would start without its secrets. {fix}; to admit without secrets instead, set onMissingState: Accept in the policy's settings",
                    self.subject()
                ),
            },
        }
    }

    /// Nothing managed remains, host-sync's touch included.
    fn detached(&self) -> Verdict {
        let (mut object, warnings) = match self.edited(Ok(Injected::default()), Vec::new()) {
            Verdict::Accept { warnings } => (self.object.clone(), warnings),
            Verdict::Mutate { object, warnings } => (object, warnings),
            refused @ Verdict::Reject { .. } => return refused,
        };
        if let Some(object) = object.as_object_mut() {
            set_text(object, &["metadata", "annotations"], REQUESTED_ANNOTATION, None);
        }
        if object == self.object { Verdict::Accept { warnings } } else { Verdict::Mutate { object, warnings } }
    }

    /// The verdict once it is known what the template is to hold.
    fn edited(&self, injected: Result<Injected, InjectionError>, mut warnings: Vec<String>) -> Verdict {
        let injected = match injected {
            Ok(injected) => injected,
            Err(error) => return Verdict::Reject { message: format!("{}: {error}", self.subject()) },
        };
        warnings.extend(injected.warnings.iter().map(|warning| format!("{}: {warning}", self.subject())));
        let mut object = self.object.clone();
        if let Some(template) = object.pointer_mut(template_pointer(self.kind)) {
            reconcile(template, &self.managed(), &injected.wanted);
        }
        let attachments: Attachments = injected.wanted.attachments.into_iter().collect();
        let record = (!attachments.is_empty()).then(|| attachments.to_json());
        if let Some(object) = object.as_object_mut() {
            set_text(object, &["metadata", "annotations"], ATTACHED_ANNOTATION, record);
        }
        if object == self.object { Verdict::Accept { warnings } } else { Verdict::Mutate { object, warnings } }
    }
}

#[derive(Default)]
struct Injected {
    wanted: Wanted,
    warnings: Vec<String>,
}

fn recorded(template: Option<&Value>) -> Attachments {
    Attachments::from_metadata(template.and_then(|template| template.get("metadata")), ATTACHMENTS_ANNOTATION)
}

/// The name of the object that a request is about: the request's, or where it has none (a CREATE may) the object's own.
fn name<'a>(request: &'a Object, object: &'a Value) -> &'a str {
    let own = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    match text(request, "name") {
        "" => own,
        name => name,
    }
}

/// The annotations of an object's metadata that Scout reads or writes.
fn scouts_annotations(object: &Value) -> Vec<(&String, &Value)> {
    let annotations = object.pointer("/metadata/annotations").and_then(Value::as_object);
    let all = annotations.map(|annotations| annotations.iter().filter(|(key, _)| key.starts_with(PREFIX)).collect());
    all.unwrap_or_default()
}

/// The labels of an object's metadata.
fn labels(object: &Value) -> Labels {
    let present = object.pointer("/metadata/labels").and_then(Value::as_object);
    let mut labels = Labels::new();
    labels.extend(
        present.into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))),
    );
    labels
}
