//! From a snapshot and its plan to what would change. Pure; what leaves here holds no value.

use std::collections::BTreeSet;

use host_sync_core::config::Reload;
use host_sync_core::plan::{Action, Outcome, Plan};
use host_sync_core::secret_bytes::Content;
use host_sync_core::snapshot::Snapshot;
use policy_core::desired_state::{Entry, Injection};
use policy_core::names::{AppName, Revision};
use serde::Serialize;

/// Everything that the next pass would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Changes {
    /// What is delivered, by app environment and namespace.
    pub(super) deliveries: Vec<Delivery>,
    /// What cannot be delivered, and why.
    pub(super) refused: Vec<Refusal>,
    /// The workloads that roll at once.
    pub(super) rolls: Vec<Roll>,
    /// The workloads that do not follow at once, and why.
    pub(super) waits: Vec<Wait>,
    /// The Secrets that go.
    pub(super) pruned: Vec<Pruned>,
}

/// One app environment in one namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Delivery {
    pub(super) app: String,
    pub(super) environment: String,
    pub(super) namespace: String,
    pub(super) why: String,
    pub(super) from_revision: Option<String>,
    pub(super) to_revision: String,
    pub(super) keys: Keys,
    /// What else changes, such as `reloadStrategy Auto → Manual`.
    pub(super) settings: Vec<String>,
}

/// How the keys differ.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Keys {
    pub(super) added: BTreeSet<String>,
    pub(super) removed: BTreeSet<String>,
    /// Of another value.
    pub(super) changed: BTreeSet<String>,
    /// Whether there was nothing to compare with, although something was delivered before.
    pub(super) unknown: bool,
}

/// What cannot be delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Refusal {
    pub(super) app: String,
    pub(super) environment: String,
    pub(super) reason: String,
    pub(super) message: String,
}

/// A workload that rolls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Roll {
    pub(super) app: Option<String>,
    pub(super) workload: String,
    pub(super) why: String,
}

/// A workload that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Wait {
    pub(super) app: String,
    pub(super) environment: String,
    /// The workload and the reason, in host-sync's own words.
    pub(super) waits: String,
}

/// A Secret that goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Pruned {
    pub(super) app: String,
    pub(super) secret: String,
    pub(super) why: String,
}

impl Changes {
    /// Whether nothing would change; what waits or is refused is no change.
    pub(super) fn is_empty(&self) -> bool {
        self.deliveries.is_empty() && self.rolls.is_empty() && self.pruned.is_empty()
    }

    /// Keeps what concerns one app.
    pub(super) fn retain(&mut self, app: &str) {
        self.deliveries.retain(|one| one.app == app);
        self.refused.retain(|one| one.app == app);
        self.rolls.retain(|one| one.app.as_deref() == Some(app));
        self.waits.retain(|one| one.app == app);
        self.pruned.retain(|one| one.app == app);
    }
}

/// What the plan would change of what the snapshot shows.
pub(super) fn changes(snapshot: &Snapshot, plan: &Plan) -> Changes {
    let mut changes = Changes::default();
    for (of, outcome) in &plan.outcomes {
        match outcome {
            Outcome::Delivered { revision, namespaces, why } => {
                for namespace in namespaces {
                    let place = Place { snapshot, plan, app: &of.app, namespace };
                    changes.deliveries.push(place.delivery(of.environment.as_str(), revision, why));
                }
            }
            Outcome::Refused(problems) => changes.refused.extend(problems.iter().map(|problem| Refusal {
                app: of.app.to_string(),
                environment: of.environment.to_string(),
                reason: problem.reason.to_owned(),
                message: problem.message.clone(),
            })),
            Outcome::Unchanged | Outcome::Waiting => {}
        }
    }
    for step in &plan.steps {
        let app = step.app.as_ref().map(ToString::to_string);
        match &step.action {
            Action::Touch { namespace, kind, workload, .. } => {
                changes.rolls.push(Roll {
                    app,
                    workload: format!("{kind} {namespace}/{workload}"),
                    why: step.why.clone(),
                });
            }
            Action::DeleteSecret { namespace, name, app } => changes.pruned.push(Pruned {
                app: app.to_string(),
                secret: format!("{namespace}/{name}"),
                why: step.why.clone(),
            }),
            _ => {}
        }
    }
    for (app, report) in &plan.reports {
        for (environment, report) in &report.environments {
            changes.waits.extend(report.waiting.iter().filter(|waits| !rolls(&changes.rolls, waits)).map(|waits| {
                Wait { app: app.to_string(), environment: environment.to_string(), waits: waits.clone() }
            }));
        }
    }
    changes
}

/// Whether what is said to wait ("Deployment shop/api: …") is about to roll in the same plan.
fn rolls(rolls: &[Roll], waits: &str) -> bool {
    rolls.iter().any(|roll| waits.strip_prefix(roll.workload.as_str()).is_some_and(|rest| rest.starts_with(": ")))
}

/// One app in one namespace.
struct Place<'a> {
    snapshot: &'a Snapshot,
    plan: &'a Plan,
    app: &'a AppName,
    namespace: &'a str,
}

impl<'a> Place<'a> {
    fn delivery(&self, environment: &str, revision: &Revision, why: &str) -> Delivery {
        let (before, after) = (self.before(), self.after());
        Delivery {
            app: self.app.to_string(),
            environment: environment.to_owned(),
            namespace: self.namespace.to_owned(),
            why: why.to_owned(),
            from_revision: before.map(|entry| entry.revision.to_string()),
            to_revision: revision.to_string(),
            keys: self.keys(before, revision),
            settings: settings(before, after),
        }
    }

    fn before(&self) -> Option<&'a Entry> {
        self.snapshot.state_of(self.namespace)?.apps.get(self.app)
    }

    fn after(&self) -> Option<&'a Entry> {
        self.plan.steps.iter().find_map(|step| match &step.action {
            Action::WriteState { state } if state.meta.namespace == self.namespace => state.apps.get(self.app),
            _ => None,
        })
    }

    /// The content of a Secret that was looked up: the app's, with this revision.
    fn looked_up(&self, revision: &Revision) -> Option<&'a Content> {
        let secrets = self.snapshot.secrets.iter().filter(|((namespace, _), _)| namespace == self.namespace);
        let mut of_app =
            secrets.filter_map(|(_, secret)| secret.as_ref()).filter(|one| one.owner.as_ref() == Some(self.app));
        of_app.find(|secret| secret.revision.as_ref() == Some(revision)).map(|secret| &secret.content)
    }

    fn keys(&self, before: Option<&Entry>, revision: &Revision) -> Keys {
        let written = self.plan.steps.iter().find_map(|step| match &step.action {
            Action::WriteSecret(secret)
                if secret.namespace == self.namespace && secret.app == *self.app && secret.revision == *revision =>
            {
                Some(&secret.content)
            }
            _ => None,
        });
        let Some(after) = written.or_else(|| self.looked_up(revision)) else { return Keys::default() };
        match before {
            None => compare(&Content::default(), after),
            Some(entry) => match self.looked_up(&entry.revision) {
                Some(before) => compare(before, after),
                None => Keys { unknown: true, ..Keys::default() },
            },
        }
    }
}

fn compare(before: &Content, after: &Content) -> Keys {
    let mut keys = Keys::default();
    for (key, value) in after.iter() {
        match before.get(key) {
            None => keys.added.insert(key.to_string()),
            Some(old) if old != value => keys.changed.insert(key.to_string()),
            Some(_) => false,
        };
    }
    keys.removed = before.keys().filter(|key| after.get(key).is_none()).map(ToString::to_string).collect();
    keys
}

/// What of an entry, besides its content, becomes another.
fn settings(before: Option<&Entry>, after: Option<&Entry>) -> Vec<String> {
    let (Some(before), Some(after)) = (before, after) else { return Vec::new() };
    let mut settings = Vec::new();
    let mut compare = |what: &str, old: String, new: String| {
        if old != new {
            settings.push(format!("{what} {old} → {new}"));
        }
    };
    let strategy = |entry: &Entry| {
        entry.injection.strategy().map_or_else(|| "none (Operator)".to_owned(), |one| format!("{one:?}"))
    };
    let reload = |entry: &Entry| format!("{:?}", Reload::from(entry.apply));
    let path = |entry: &Entry| match &entry.injection {
        Injection::VolumeMount { mount_path } => Some(mount_path.clone()),
        _ => None,
    };
    compare("deploymentStrategy", strategy(before), strategy(after));
    compare("reloadStrategy", reload(before), reload(after));
    if let (Some(old), Some(new)) = (path(before), path(after)) {
        compare("mountPath", old, new);
    }
    compare("links", before.links.len().to_string(), after.links.len().to_string());
    settings
}

#[cfg(test)]
mod tests {
    use super::*;
    use host_sync_core::plan::{SecretSpec, Step};
    use host_sync_core::secret_bytes::{Key, SecretBytes};
    use host_sync_core::snapshot::{SecretFacts, StateFacts};
    use policy_core::desired_state::{Apply, DesiredState, Link, NamedLink};
    use policy_core::names::{Environment, WorkloadKind};
    use std::collections::BTreeMap;

    fn content(keys: &[(&str, &str)]) -> Content {
        keys.iter()
            .map(|(key, value)| (Key::parse(key).unwrap(), SecretBytes::new(value.as_bytes().to_vec())))
            .collect()
    }

    fn state(revision: &str, apply: Apply) -> DesiredState {
        let mut state = DesiredState::empty("shop", Environment::parse("production").unwrap());
        let entry = Entry {
            apply,
            environment: Environment::parse("production").unwrap(),
            injection: Injection::EnvironmentVariables {
                secret: format!("scout.checkout.{revision}"),
                variables: BTreeMap::new(),
            },
            links: vec![Link::Named(NamedLink { kind: WorkloadKind::Deployment, name: "api".into() })],
            revision: Revision::parse(revision).unwrap(),
        };
        state.apps.insert(AppName::parse("checkout").unwrap(), entry);
        state
    }

    fn example() -> (Snapshot, Plan) {
        let app = AppName::parse("checkout").unwrap();
        let old = SecretFacts {
            content: content(&[("GONE", "x"), ("SAME", "s"), ("TOKEN", "very-secret-1")]),
            owner: Some(app.clone()),
            revision: Revision::parse("aa").ok(),
        };
        let snapshot = Snapshot {
            states: BTreeMap::from([("shop".to_owned(), StateFacts::Readable(state("aa", Apply::Immediately)))]),
            secrets: BTreeMap::from([(("shop".to_owned(), "scout.checkout.aa".to_owned()), Some(old))]),
            ..Snapshot::default()
        };
        let secret = SecretSpec {
            namespace: "shop".into(),
            name: "scout.checkout.bb".into(),
            app: app.clone(),
            app_uid: "u".into(),
            environment: Environment::parse("production").unwrap(),
            revision: Revision::parse("bb").unwrap(),
            content: content(&[("NEW", "very-secret-2"), ("SAME", "s"), ("TOKEN", "very-secret-3")]),
            immutable: true,
            exists: false,
        };
        let step =
            |action| Step { action, why: "it does not hold what is wanted of checkout".into(), app: Some(app.clone()) };
        let touch = Action::Touch {
            namespace: "shop".into(),
            kind: WorkloadKind::Deployment,
            workload: "api".into(),
            requested: "x.1".into(),
        };
        let of = host_sync_core::config::AppEnvironment { app: app.clone(), environment: secret.environment.clone() };
        let delivered = Outcome::Delivered {
            revision: secret.revision.clone(),
            namespaces: vec!["shop".into()],
            why: "its content changed".into(),
        };
        let plan = Plan {
            steps: vec![
                step(Action::WriteSecret(Box::new(secret))),
                step(Action::WriteState { state: state("bb", Apply::OnTemplateChange) }),
                step(touch),
            ],
            outcomes: BTreeMap::from([(of, delivered)]),
            ..Plan::default()
        };
        (snapshot, plan)
    }

    #[test]
    fn keys_settings_and_rolls_are_told_and_no_value_is() {
        let (snapshot, plan) = example();
        let changes = changes(&snapshot, &plan);
        let json = serde_json::to_string(&changes).unwrap();
        assert!(!json.contains("very-secret") && !super::super::text::text(&changes).contains("very-secret"));
        let delivery = &changes.deliveries[0];
        let names = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(",");
        assert_eq!(
            (names(&delivery.keys.added), names(&delivery.keys.removed), names(&delivery.keys.changed)),
            ("NEW".into(), "GONE".into(), "TOKEN".into())
        );
        assert_eq!((delivery.from_revision.as_deref(), delivery.to_revision.as_str()), (Some("aa"), "bb"));
        assert_eq!(delivery.settings, ["reloadStrategy Auto → Manual"]);
        assert_eq!(changes.rolls[0].workload, "Deployment shop/api");
    }

    #[test]
    fn the_text_is_one_diff_per_app_environment() {
        let (snapshot, plan) = example();
        let text = super::super::text::text(&changes(&snapshot, &plan));
        assert_eq!(
            anstream::adapter::strip_str(&text).to_string(),
            "checkout/production in namespace shop: aa → bb (its content changed)\n  + NEW\n  - GONE\n  ~ TOKEN\n  ~ reloadStrategy Auto → Manual\n\nrolls at once:\n  Deployment shop/api\n"
        );
    }

    #[test]
    fn an_unchanged_cluster_says_so_and_another_app_is_left_out() {
        assert!(super::super::text::text(&Changes::default()).starts_with("no change"));
        let (snapshot, plan) = example();
        let mut changes = changes(&snapshot, &plan);
        changes.retain("other");
        assert!(changes.is_empty());
    }
}
