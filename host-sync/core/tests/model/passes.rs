//! host-sync in the model: one pass after the other, each step applied as the API server would, and a crash at any point.

use host_sync_core::config::AppEnvironment;
use host_sync_core::content::lost_keys;
use host_sync_core::history;
use host_sync_core::plan::{self, Action, Outcome, Plan, SecretSpec, Step};
use host_sync_core::secret_bytes::SecretBytes;
use host_sync_core::snapshot::{FetchFacts, Problem, SecretFacts, Snapshot};
use host_sync_core::store::{Fetched, SourcePath};
use policy_core::desired_state::Injection;
use policy_core::names::{AppName, REQUESTED_ANNOTATION};
use serde_json::json;

use crate::admission::Cause;
use crate::cluster::{Answer, Cluster};

impl Cluster {
    /// What host-sync would do now, with what it remembers of fetches.
    pub fn plan(&self) -> Plan {
        plan::plan(&self.look_up(), &self.key, &self.limits, self.now)
    }

    /// A snapshot with all that a plan asks for.
    pub fn look_up(&self) -> Snapshot {
        let mut snapshot = self.observe();
        snapshot.fetches = self.fetches.clone();
        let lookups = plan::lookups(&snapshot, &self.key, &self.limits, self.now);
        for key in lookups.secrets {
            snapshot.secrets.insert(key.clone(), self.secrets.get(&key).cloned());
        }
        for (key, _) in lookups.references {
            let referenced =
                self.workloads.iter().any(|((namespace, _), one)| *namespace == key.0 && one.refers_to(&key.1));
            snapshot.referenced.insert(key, referenced);
        }
        snapshot
    }

    fn fetch(&mut self, of: AppEnvironment, source: &SourcePath) {
        let failed = |reason, message: String| FetchFacts::Failed(Problem { reason, message });
        let facts = match self.store.get(source) {
            None => failed("NotFound", format!("{source} is not there")),
            Some(Answer::Failure) => failed("Unavailable", "the store cannot be read".to_owned()),
            Some(Answer::Keys(keys)) => {
                let entries =
                    keys.iter().map(|(key, value)| (key.clone(), SecretBytes::new(value.clone().into_bytes())));
                FetchFacts::Fresh(entries.collect::<Fetched>())
            }
        };
        self.fetches.insert(of, facts);
    }

    pub fn fetch_what_is_due(&mut self) {
        let wanted = plan::wanted_fetches(&self.observe());
        let linked: Vec<(AppEnvironment, SourcePath)> = self
            .apps
            .values()
            .flat_map(|app| app.environments.iter().map(move |(environment, config)| (app, environment, config)))
            .filter(|(_, _, config)| !config.links.is_empty())
            .map(|(app, environment, config)| {
                (AppEnvironment { app: app.name.clone(), environment: environment.clone() }, config.source.clone())
            })
            .collect();
        self.fetches.retain(|of, _| linked.iter().any(|(one, _)| one == of));
        let refresh = std::mem::take(&mut self.refresh);
        for (of, source) in linked {
            if refresh || wanted.contains_key(&of) {
                self.fetch(of, &source);
            }
        }
    }

    /// One pass; with `crash_before`, host-sync dies before the step of that number. Returns the steps as text.
    pub fn pass_until(&mut self, crash_before: Option<usize>) -> Vec<String> {
        self.fetch_what_is_due();
        let plan = self.plan();
        check_plan(&plan);
        let mut done = Vec::new();
        for (number, step) in plan.steps.iter().enumerate() {
            if crash_before == Some(number) {
                self.fetches.clear();
                self.refresh = true;
                return done;
            }
            self.apply(step);
            self.check_frozen();
            done.push(format!("{}: {}", step.action, step.why));
        }
        let mut again = self.plan();
        if !done.is_empty() && again.steps.iter().all(|step| follows_a_deletion(&step.action)) {
            // A delivery or a touch may let go of a Secret that was due long ago, and only then its references are asked for.
            for step in &again.steps {
                self.apply(step);
                done.push(format!("{}: {}", step.action, step.why));
            }
            again = self.plan();
        }
        if self.key_was_rotated && done.iter().any(|step| step.starts_with("delete Secret")) {
            // With its last Secret an entry that nothing follows loses what it could be compared with.
            again.steps.clear();
        }
        assert!(again.steps.is_empty(), "the plan after the applied plan {done:#?} is not empty: {:#?}", again.steps);
        self.settle_fetches(&plan);
        done
    }

    pub fn pass(&mut self) -> Vec<String> {
        self.pass_until(None)
    }

    fn settle_fetches(&mut self, plan: &Plan) {
        let wanted = plan::wanted_fetches(&self.observe());
        for (of, outcome) in &plan.outcomes {
            match outcome {
                Outcome::Delivered { .. } | Outcome::Unchanged => {
                    self.fetches.remove(of);
                    assert!(!wanted.contains_key(of), "{of} was delivered and is wanted again: {}", wanted[of]);
                }
                Outcome::Refused(problems) => {
                    self.fetches.insert(of.clone(), FetchFacts::Failed(problems[0].clone()));
                }
                Outcome::Waiting => {}
            }
        }
    }

    /// Passes, finished rollouts and time, until nothing is left to do for longer than any delay (I9: that comes).
    pub fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..40 {
            self.refresh = true;
            let steps = self.pass();
            self.finish_rollouts();
            self.now += 61;
            quiet = if steps.is_empty() { quiet + 1 } else { 0 };
            if quiet == 3 {
                return;
            }
        }
        panic!("I9: there is no rest; still to do: {:#?}", self.plan().steps);
    }

    pub fn apply(&mut self, step: &Step) {
        match &step.action {
            Action::ProtectApp { app } => self.apps.get_mut(app).unwrap().protected = true,
            Action::WriteHistory { namespace, history } => {
                self.histories.insert(namespace.clone(), history::to_data(history));
            }
            Action::WriteSecret(spec) => self.write_secret(spec),
            Action::WriteState { state } => {
                for (app, entry) in &state.apps {
                    if let Injection::EnvironmentVariables { secret, .. } | Injection::RevisionOnly { secret } =
                        &entry.injection
                    {
                        let there = self.secret(&state.meta.namespace, secret).is_some();
                        assert!(there, "I1: the desired state names Secret {secret} of {app} before it exists");
                    }
                }
                self.states.insert(state.meta.namespace.clone(), state.to_data().unwrap());
            }
            Action::ForgetNamespace { namespace } => {
                self.states.remove(namespace);
                self.histories.remove(namespace);
            }
            Action::Touch { namespace, workload, requested, .. } => {
                self.edit_workload(namespace, workload, Cause::Touch, |object| {
                    object["metadata"]["annotations"][REQUESTED_ANNOTATION] = json!(requested);
                });
            }
            Action::DeleteSecret { namespace, name, app } => {
                let secret = self.secrets.get(&(namespace.clone(), name.clone()));
                if secret.is_some_and(|facts| facts.owner.as_ref() == Some(app)) {
                    self.delete_secret(namespace, name);
                }
            }
            Action::ReleaseApp { app } => self.release(app),
        }
    }

    fn release(&mut self, app: &AppName) {
        self.apps.remove(app);
        let owned: Vec<_> = self
            .secrets
            .iter()
            .filter(|(_, facts)| facts.owner.as_ref() == Some(app))
            .map(|(key, _)| key.clone())
            .collect();
        for (namespace, name) in owned {
            self.delete_secret(&namespace, &name);
        }
    }

    fn delete_secret(&mut self, namespace: &str, name: &str) {
        for ((of, workload), deployment) in &self.workloads {
            assert!(
                of != namespace || !deployment.refers_to(name),
                "I5: {of}/{workload} refers to the deleted Secret {name}"
            );
        }
        self.secrets.remove(&(namespace.to_owned(), name.to_owned()));
    }

    fn write_secret(&mut self, spec: &SecretSpec) {
        let key = (spec.namespace.clone(), spec.name.clone());
        let recorded =
            self.history(&spec.namespace).get(&spec.app).is_some_and(|history| history.secret(&spec.name).is_some());
        assert!(recorded, "Secret {} is written before its name is", spec.name);
        assert_eq!(spec.exists, self.secrets.contains_key(&key), "whether {} exists", spec.name);
        if let Some(present) = self.secrets.get(&key) {
            assert_eq!(present.owner.as_ref(), Some(&spec.app), "Secret {} is somebody else's", spec.name);
            assert!(!spec.immutable || present.content == spec.content, "Secret {} is immutable", spec.name);
            let lost = lost_keys(&present.content, &spec.content);
            // Another environment is another content, and a namespace switches by a person's word.
            let switches = self.secret_environments.get(&key) != Some(&spec.environment);
            assert!(lost.is_empty() || switches || self.may_shrink, "I7: Secret {} loses {lost:?}", spec.name);
        }
        let facts = SecretFacts {
            content: spec.content.clone(),
            owner: Some(spec.app.clone()),
            revision: Some(spec.revision.clone()),
        };
        self.secret_environments.insert(key.clone(), spec.environment.clone());
        self.secrets.insert(key, facts);
    }
}

fn follows_a_deletion(action: &Action) -> bool {
    matches!(action, Action::DeleteSecret { .. } | Action::WriteHistory { .. } | Action::ReleaseApp { .. })
}

/// What holds of every plan.
fn check_plan(plan: &Plan) {
    for step in &plan.steps {
        assert!(!step.why.is_empty(), "{} has no reason", step.action);
    }
    let shown = format!("{plan:?}");
    assert!(!shown.contains("value-"), "I8: a plan shows a value: {shown}");
}
