//! A cluster small enough to reason about: what users write, what host-sync writes, and a store that may misbehave.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use host_sync_core::config::{App, AppEnvironment, AppEnvironmentConfig, KeySelection, Mode, Reload};
use host_sync_core::content::RevisionKey;
use host_sync_core::history::{self, History};
use host_sync_core::plan::Limits;
use host_sync_core::secret_bytes::{Content, Key, SecretBytes};
use host_sync_core::snapshot::{FetchFacts, NamespaceFacts, ObjectKey, SecretFacts, Snapshot, StateFacts};
use host_sync_core::store::SourcePath;
use policy_core::attachment::{Attachment, Strategy};
use policy_core::desired_state::{DesiredState, Link, NamedLink, SelectedLink};
use policy_core::names::{AppName, Environment, WorkloadKind};
use policy_core::selector::Selector;

use crate::admission::{Deployment, Roll};

/// What the store answers for one path.
#[derive(Clone)]
pub enum Answer {
    Keys(BTreeMap<String, String>),
    Failure,
}

/// A ConfigMap's data.
pub type Data = BTreeMap<String, String>;

#[derive(Clone)]
#[allow(clippy::struct_excessive_bools)]
pub struct Cluster {
    pub now: i64,
    pub limits: Limits,
    pub key: RevisionKey,
    pub key_was_rotated: bool,
    pub policy_is_active: bool,
    pub apps: BTreeMap<AppName, App>,
    pub unparsable_apps: BTreeSet<AppName>,
    pub namespaces: BTreeMap<String, NamespaceFacts>,
    pub states: BTreeMap<String, Data>,
    pub histories: BTreeMap<String, Data>,
    pub workloads: BTreeMap<ObjectKey, Deployment>,
    pub secrets: BTreeMap<ObjectKey, SecretFacts>,
    /// Of which environment each Secret was written last.
    pub secret_environments: BTreeMap<ObjectKey, Environment>,
    pub store: BTreeMap<SourcePath, Answer>,
    /// What host-sync remembers of fetches; a crash forgets it.
    pub fetches: BTreeMap<AppEnvironment, FetchFacts>,
    /// Whether everything is to be fetched at the next pass, as after a start or when a store's refresh is due.
    pub refresh: bool,
    /// Whether a person confirmed a loss of keys.
    pub may_shrink: bool,
    pub rolls: Vec<Roll>,
    /// What each workload has held of each app since it was attached last.
    pub seen: BTreeMap<(ObjectKey, AppName), BTreeSet<Attachment>>,
    /// What an ignored workload held when it was ignored: its template's Secrets and their content.
    frozen: BTreeMap<ObjectKey, BTreeMap<String, Option<Content>>>,
    counter: u32,
}

pub fn app_name(name: &str) -> AppName {
    AppName::parse(name).unwrap()
}

pub fn environment(name: &str) -> Environment {
    Environment::parse(name).unwrap()
}

pub fn named(name: &str) -> Link {
    Link::Named(NamedLink { kind: WorkloadKind::Deployment, name: name.to_owned() })
}

/// The link to every Deployment of a tier.
pub fn tier(tier: &str) -> Link {
    let labels = BTreeMap::from([("tier".to_owned(), tier.to_owned())]);
    let selector = Selector { match_labels: labels, ..Selector::default() };
    Link::Selected(SelectedLink { kind: WorkloadKind::Deployment, selector })
}

pub fn path(app: &str, environment: &str) -> SourcePath {
    SourcePath::parse(&format!("{app}/{environment}")).unwrap()
}

impl Cluster {
    pub fn new() -> Self {
        Self {
            now: 1_000_000,
            limits: Limits { prune_delay: Duration::from_mins(1), ..Limits::default() },
            key: RevisionKey::from_bytes(vec![7; RevisionKey::LENGTH]).unwrap(),
            key_was_rotated: false,
            policy_is_active: true,
            apps: BTreeMap::new(),
            unparsable_apps: BTreeSet::new(),
            namespaces: BTreeMap::new(),
            states: BTreeMap::new(),
            histories: BTreeMap::new(),
            workloads: BTreeMap::new(),
            secrets: BTreeMap::new(),
            secret_environments: BTreeMap::new(),
            store: BTreeMap::new(),
            fetches: BTreeMap::new(),
            refresh: true,
            may_shrink: false,
            rolls: Vec::new(),
            seen: BTreeMap::new(),
            frozen: BTreeMap::new(),
            counter: 0,
        }
    }

    pub fn rotate_key(&mut self, byte: u8) {
        self.key_was_rotated = true;
        self.key = RevisionKey::from_bytes(vec![byte; RevisionKey::LENGTH]).unwrap();
    }

    /// A number that was not there before.
    pub fn next(&mut self) -> u32 {
        self.counter += 1;
        self.counter
    }

    pub fn label(&mut self, namespace: &str, to: Option<&str>) {
        let facts = NamespaceFacts { environment: to.map(environment), ..NamespaceFacts::default() };
        self.namespaces.insert(namespace.to_owned(), facts);
        self.seen.retain(|((of, _), _), _| of != namespace);
    }

    pub fn delete_namespace(&mut self, namespace: &str) {
        self.namespaces.remove(namespace);
        self.workloads.retain(|(of, _), _| of != namespace);
        self.secrets.retain(|(of, _), _| of != namespace);
    }

    /// Creates an App with the environments production and staging, without links.
    pub fn create_app(&mut self, name: &str, strategy: Strategy, reload: Reload) {
        let environments = ["production", "staging"].into_iter().map(|of| {
            let config = AppEnvironmentConfig {
                mode: Mode::Agent,
                reload,
                source: path(name, of),
                keys: KeySelection::All,
                secret_name: format!("{name}-secrets"),
                links: BTreeMap::new(),
            };
            (environment(of), config)
        });
        let app = App {
            name: app_name(name),
            uid: format!("uid-{}", self.counter),
            deleting: false,
            protected: false,
            store: "files".to_owned(),
            strategy,
            mount_path: format!("/secrets/{name}"),
            redeploy: None,
            environments: environments.collect(),
        };
        self.apps.insert(app.name.clone(), app);
    }

    pub fn app(&mut self, name: &str) -> &mut App {
        self.apps.get_mut(&app_name(name)).unwrap()
    }

    pub fn config(&mut self, app: &str, of: &str) -> &mut AppEnvironmentConfig {
        self.app(app).environments.get_mut(&environment(of)).unwrap()
    }

    pub fn link(&mut self, app: &str, of: &str, namespace: &str, link: Link) {
        self.config(app, of).links.entry(namespace.to_owned()).or_default().insert(link);
    }

    pub fn unlink(&mut self, app: &str, of: &str, namespace: &str) {
        self.config(app, of).links.remove(namespace);
    }

    /// Asks for the deletion of an App; one that nothing protects is gone at once.
    pub fn delete_app(&mut self, name: &str) {
        let app = self.app(name);
        app.deleting = true;
        if !app.protected {
            self.apps.remove(&app_name(name));
        }
    }

    pub fn redeploy(&mut self, app: &str) {
        let stamp = self.next();
        self.app(app).redeploy = Some(stamp.to_string());
        self.may_shrink = true;
    }

    /// Writes into the store; the store's watch makes everything due.
    pub fn save(&mut self, app: &str, of: &str, keys: &[(&str, &str)]) {
        let keys = keys.iter().map(|(key, value)| ((*key).to_owned(), format!("value-{value}"))).collect();
        self.store.insert(path(app, of), Answer::Keys(keys));
        self.refresh = true;
    }

    pub fn fail(&mut self, app: &str, of: &str) {
        self.store.insert(path(app, of), Answer::Failure);
        self.refresh = true;
    }

    pub fn state(&self, namespace: &str) -> Option<DesiredState> {
        match self.state_facts(namespace)? {
            StateFacts::Readable(state) => Some(state),
            StateFacts::Unreadable(_) => None,
        }
    }

    fn state_facts(&self, namespace: &str) -> Option<StateFacts> {
        let texts = self.states.get(namespace)?.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        Some(match DesiredState::from_data(texts, namespace) {
            Ok(state) => StateFacts::Readable(state),
            Err(error) => StateFacts::Unreadable(error.to_string()),
        })
    }

    pub fn history(&self, namespace: &str) -> History {
        history::from_data("history", &self.histories[namespace]).unwrap()
    }

    pub fn secret(&self, namespace: &str, name: &str) -> Option<&SecretFacts> {
        self.secrets.get(&(namespace.to_owned(), name.to_owned()))
    }

    pub fn workload(&self, namespace: &str, name: &str) -> &Deployment {
        &self.workloads[&(namespace.to_owned(), name.to_owned())]
    }

    /// The names of a namespace's Secrets.
    pub fn secret_names(&self, namespace: &str) -> Vec<&str> {
        self.secrets.keys().filter(|(of, _)| of == namespace).map(|(_, name)| name.as_str()).collect()
    }

    /// Everything that host-sync's caches show.
    pub fn observe(&self) -> Snapshot {
        let mut snapshot = Snapshot {
            apps: self
                .apps
                .iter()
                .filter(|(name, _)| !self.unparsable_apps.contains(*name))
                .map(|(name, app)| (name.clone(), app.clone()))
                .collect(),
            unparsable_apps: self.unparsable_apps.clone(),
            namespaces: self.namespaces.clone(),
            ..Snapshot::default()
        };
        for namespace in self.states.keys() {
            snapshot.states.extend(self.state_facts(namespace).map(|facts| (namespace.clone(), facts)));
        }
        for (namespace, data) in &self.histories {
            let history = history::from_data("history", data).map_err(|error| error.to_string());
            snapshot.histories.insert(namespace.clone(), history);
        }
        for ((namespace, name), deployment) in &self.workloads {
            if snapshot.environment_of(namespace).is_some() {
                snapshot.workloads.entry(namespace.clone()).or_default().push(deployment.facts(name));
            }
        }
        snapshot
    }

    /// I4: what an ignored workload holds, and the content behind it, stays.
    pub fn check_frozen(&mut self) {
        let ignored = self
            .workloads
            .iter()
            .filter(|(_, one)| one.annotation("scout.commandk.dev/mutation-mode") == Some("ignore"));
        let mut now = BTreeMap::new();
        for (key, deployment) in ignored {
            let secrets = crate::admission::secrets_in(deployment.template()).into_iter().map(|name| {
                let content = self.secret(&key.0, &name).map(|facts| facts.content.clone());
                (name, content)
            });
            now.insert(key.clone(), secrets.collect::<BTreeMap<_, _>>());
        }
        for (key, secrets) in &now {
            let Some(before) = self.frozen.get(key) else { continue };
            assert!(before.keys().eq(secrets.keys()), "I4: ignored {key:?} held {before:?} and holds {secrets:?}");
            for (name, content) in before.iter().filter(|(_, content)| content.is_some()) {
                assert_eq!(content, &secrets[name], "I4: the content of {name} behind ignored {key:?} changed");
            }
        }
        self.frozen = now;
    }

    /// What the store holds of a path now, if it can be read.
    pub fn stored(&self, path: &SourcePath) -> Option<Content> {
        let Some(Answer::Keys(keys)) = self.store.get(path) else { return None };
        let entries =
            keys.iter().map(|(key, value)| (Key::parse(key).unwrap(), SecretBytes::new(value.clone().into_bytes())));
        Some(entries.collect())
    }
}
