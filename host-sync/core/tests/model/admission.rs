//! Deployments of the model, and their admission by the real policy.

use std::collections::{BTreeMap, BTreeSet};

use host_sync_core::snapshot::{MutationMode, ObjectKey, Requested, Rollout, WorkloadFacts};
use policy_core::attachment::{Attachments, Strategy};
use policy_core::desired_state::{Apply, DesiredState, Injection};
use policy_core::names::{
    ATTACHED_ANNOTATION, ATTACHMENTS_ANNOTATION, AppName, MUTATION_MODE_ANNOTATION, REQUESTED_ANNOTATION, WorkloadKind,
};
use policy_core::review::{Review, StateRead, Triage, Verdict};
use policy_core::settings::Settings;
use serde_json::{Value, json};

use crate::cluster::Cluster;

/// A pod template that had or has pods.
#[derive(Clone)]
pub struct ReplicaSet {
    pub template: Value,
    pub live: bool,
}

#[derive(Clone)]
pub struct Deployment {
    pub object: Value,
    pub replica_sets: Vec<ReplicaSet>,
    pub rollout: Rollout,
    touched_at: i64,
    manager: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    User,
    Touch,
}

/// One change of a pod template that had pods.
#[derive(Clone, Debug)]
pub struct Roll {
    pub workload: ObjectKey,
    pub cause: Cause,
}

/// The Secrets that a JSON document reads variables or files from.
pub fn secrets_in(document: &Value) -> BTreeSet<String> {
    match document {
        Value::Object(fields) => {
            let own = fields.iter().filter_map(|(field, value)| match field.as_str() {
                "secretKeyRef" => value["name"].as_str(),
                "secret" => value["secretName"].as_str(),
                _ => None,
            });
            own.map(str::to_owned).chain(fields.values().flat_map(secrets_in)).collect()
        }
        Value::Array(items) => items.iter().flat_map(secrets_in).collect(),
        _ => BTreeSet::new(),
    }
}

impl Deployment {
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.object["metadata"]["annotations"][key].as_str()
    }

    pub fn template(&self) -> &Value {
        &self.object["spec"]["template"]
    }

    pub fn attached(&self) -> Attachments {
        Attachments::from_metadata(self.template().get("metadata"), ATTACHMENTS_ANNOTATION)
    }

    pub fn mode(&self) -> MutationMode {
        match self.annotation(MUTATION_MODE_ANNOTATION) {
            None => MutationMode::Normal,
            Some("ignore") => MutationMode::Ignore,
            Some(_) => MutationMode::IgnoreAndDetach,
        }
    }

    fn labels(&self) -> BTreeMap<String, String> {
        serde_json::from_value(self.object["metadata"]["labels"].clone()).unwrap_or_default()
    }

    pub fn facts(&self, name: &str) -> WorkloadFacts {
        let requested = self.annotation(REQUESTED_ANNOTATION).and_then(|text| {
            let (digest, attempt) = text.rsplit_once('.')?;
            Some(Requested { digest: digest.to_owned(), attempt: attempt.parse().ok()?, at: self.touched_at })
        });
        WorkloadFacts {
            kind: WorkloadKind::Deployment,
            name: name.to_owned(),
            labels: self.labels(),
            mode: self.mode(),
            attached: self.annotation(ATTACHED_ANNOTATION).map(Attachments::from_json).unwrap_or_default(),
            requested,
            rollout: self.rollout.clone(),
            last_manager: self.manager.clone(),
        }
    }

    /// Whether the template, or a live ReplicaSet, refers to the Secret.
    pub fn refers_to(&self, secret: &str) -> bool {
        let live = self.replica_sets.iter().filter(|set| set.live).map(|set| &set.template);
        live.chain([self.template()]).any(|template| secrets_in(template).contains(secret))
    }
}

impl Cluster {
    /// `kubectl apply` of a manifest that knows nothing of Scout; refused where the policy refuses it.
    pub fn create_workload(
        &mut self,
        namespace: &str,
        name: &str,
        tier: &str,
        mode: Option<&str>,
    ) -> Result<(), String> {
        let mut object = json!({
            "metadata": {"name": name, "namespace": namespace, "labels": {"tier": tier}},
            "spec": {"template": {"spec": {"containers": [{"name": "main", "image": "shop:1"}]}}},
        });
        if let Some(mode) = mode {
            object["metadata"]["annotations"] = json!({ MUTATION_MODE_ANNOTATION: mode });
        }
        self.put(namespace, name, &object, Cause::User)
    }

    /// Changes a workload as a user or a touch does, by way of admission.
    pub fn edit_workload(&mut self, namespace: &str, name: &str, cause: Cause, edit: impl FnOnce(&mut Value)) {
        let key = (namespace.to_owned(), name.to_owned());
        let Some(deployment) = self.workloads.get(&key) else { return };
        let mut object = deployment.object.clone();
        edit(&mut object);
        self.put(namespace, name, &object, cause).unwrap();
    }

    pub fn annotate(&mut self, namespace: &str, name: &str, key: &str, value: Option<&str>) {
        self.edit_workload(namespace, name, Cause::User, |object| {
            let metadata = object["metadata"].as_object_mut().unwrap();
            let annotations = metadata.entry("annotations").or_insert_with(|| json!({})).as_object_mut().unwrap();
            match value {
                Some(value) => annotations.insert(key.to_owned(), json!(value)),
                None => annotations.remove(key),
            };
        });
    }

    pub fn set_mode(&mut self, namespace: &str, name: &str, mode: Option<&str>) {
        self.annotate(namespace, name, MUTATION_MODE_ANNOTATION, mode);
    }

    /// `kubectl rollout restart`.
    pub fn restart(&mut self, namespace: &str, name: &str) {
        let stamp = self.next();
        self.edit_workload(namespace, name, Cause::User, |object| {
            let template = object["spec"]["template"].as_object_mut().unwrap();
            let metadata = template.entry("metadata").or_insert_with(|| json!({}));
            metadata["annotations"]["kubectl.kubernetes.io/restartedAt"] = json!(stamp);
        });
    }

    /// Every rollout that is on its way arrives.
    pub fn finish_rollouts(&mut self) {
        for deployment in self.workloads.values_mut() {
            if matches!(deployment.rollout, Rollout::Failed(_)) {
                continue;
            }
            deployment.rollout = Rollout::Ready;
            let template = deployment.template().clone();
            for set in &mut deployment.replica_sets {
                set.live = set.template == template;
            }
        }
    }

    /// The Deployment controller gives up on a rollout.
    pub fn fail_rollout(&mut self, namespace: &str, name: &str) {
        let deployment = self.workloads.get_mut(&(namespace.to_owned(), name.to_owned())).unwrap();
        deployment.rollout = Rollout::Failed("its progress deadline passed".to_owned());
    }

    fn put(&mut self, namespace: &str, name: &str, object: &Value, cause: Cause) -> Result<(), String> {
        let key = (namespace.to_owned(), name.to_owned());
        let old = self.workloads.get(&key).cloned();
        let object = self.admit(namespace, name, old.as_ref().map(|old| &old.object), object)?;
        let mut new = old.clone().unwrap_or(Deployment {
            object: Value::Null,
            replica_sets: Vec::new(),
            rollout: Rollout::Ready,
            touched_at: 0,
            manager: None,
        });
        new.object = object;
        match cause {
            Cause::User => new.manager = Some("kubectl".to_owned()),
            Cause::Touch => new.touched_at = self.now,
        }
        let template = new.template().clone();
        if old.as_ref().is_none_or(|old| *old.template() != template) {
            new.rollout = Rollout::Rolling;
            match new.replica_sets.iter_mut().find(|set| set.template == template) {
                Some(set) => set.live = true,
                None => new.replica_sets.push(ReplicaSet { template, live: true }),
            }
            if let Some(old) = &old {
                self.check_roll(&key, cause, &old.attached(), &new.attached());
            }
        }
        self.check_references(namespace, &new);
        self.workloads.insert(key, new);
        Ok(())
    }

    /// What the webhook does: nothing in a namespace without the label, and the real policy elsewhere.
    fn admit(&self, namespace: &str, name: &str, old: Option<&Value>, new: &Value) -> Result<Value, String> {
        let labelled = self.namespaces.get(namespace).is_some_and(|facts| facts.environment.is_some());
        if !labelled || !self.policy_is_active {
            return Ok(new.clone());
        }
        let request = json!({
            "operation": if old.is_some() { "UPDATE" } else { "CREATE" },
            "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
            "namespace": namespace, "name": name, "object": new, "oldObject": old,
        });
        let settings = Settings::default();
        let review = Review::parse(&request).unwrap();
        let verdict = match review.triage(&settings) {
            Triage::Decided(verdict) => verdict,
            Triage::NeedsState { .. } => {
                let read = match self.states.get(namespace) {
                    Some(data) => StateRead::Found(json!({ "data": data })),
                    None => {
                        StateRead::Unavailable(format!("Cannot find v1/ConfigMap named 'desired-state.{namespace}'"))
                    }
                };
                review.decide(&settings, read)
            }
        };
        match verdict {
            Verdict::Accept { .. } => Ok(new.clone()),
            Verdict::Mutate { object, .. } => Ok(object),
            Verdict::Reject { message } => Err(message),
        }
    }

    /// I2: a workload rolls once into each delivery; and I3: a touch changes nothing of an app under Manual.
    fn check_roll(&mut self, key: &ObjectKey, cause: Cause, old: &Attachments, new: &Attachments) {
        self.rolls.push(Roll { workload: key.clone(), cause });
        let state = self.state(&key.0);
        for before in old {
            let Some(after) = new.of_app(&before.app) else { continue };
            if before == after {
                continue;
            }
            let entry = state.as_ref().and_then(|state| state.apps.get(&before.app));
            let manual = entry.is_some_and(|entry| entry.apply == Apply::OnTemplateChange);
            assert!(
                !(manual && cause == Cause::Touch),
                "I3: a touch of {key:?} moved {before:?} to {after:?} under Manual"
            );
            let seen = self.seen.entry((key.clone(), before.app.clone())).or_default();
            assert!(seen.insert(after.clone()), "I2: {key:?} rolls into {after:?} a second time");
        }
        for after in new.iter().filter(|after| old.of_app(&after.app).is_none()) {
            self.seen.insert((key.clone(), after.app.clone()), BTreeSet::from([after.clone()]));
        }
        assert!(cause == Cause::User || old != new, "I2: a touch of {key:?} rolled it for nothing");
    }

    /// I1: what a template refers to exists, or the desired state says that it is about to.
    fn check_references(&self, namespace: &str, deployment: &Deployment) {
        let name = deployment.object["metadata"]["name"].as_str().unwrap();
        let decided: BTreeSet<AppName> =
            self.state(namespace).map(|state| volume_apps(&state, deployment)).unwrap_or_default();
        for attached in &deployment.attached() {
            let exists = self.secrets.contains_key(&(namespace.to_owned(), attached.secret.clone()));
            let is_decided = decided.contains(&attached.app) && attached.strategy == Some(Strategy::VolumeMount);
            assert!(
                exists || is_decided || attached.strategy.is_none(),
                "I1: {namespace}/{name} refers to Secret {}, which is not there",
                attached.secret
            );
        }
    }
}

fn volume_apps(state: &DesiredState, deployment: &Deployment) -> BTreeSet<AppName> {
    let name = deployment.object["metadata"]["name"].as_str().unwrap();
    let labels = deployment.labels();
    let mounts = state.apps.iter().filter(|(_, entry)| {
        matches!(entry.injection, Injection::VolumeMount { .. })
            && entry.matches(WorkloadKind::Deployment, name, &labels)
    });
    mounts.map(|(app, _)| app.clone()).collect()
}
