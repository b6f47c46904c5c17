//! The desired state of one namespace: one codec for its writer (host-sync) and its reader (the policy).
//!
//! It is a ConfigMap in host-sync's own namespace: `data.meta` and one `data.<app>` per app environment, each canonical
//! JSON. It holds rules, not a list of workloads: the policy evaluates the links itself, so that a workload is attached
//! at its CREATE. Names, keys and revisions only, never a value.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

use crate::attachment::Strategy;
use crate::fields::{Fields, unknown_choice};
use crate::names::{AppName, Environment, NameError, Revision, WorkloadKind, desired_state_name, is_secret_of};
use crate::selector::{Labels, Selector};

/// The version of this codec. A reader keeps what is attached when it meets another one.
pub const SCHEMA: u32 = 1;

/// The key of [`Meta`] in the ConfigMap's data. It cannot be an app's entry: [`DesiredState::entry_key`] appends a suffix.
const META_KEY: &str = "meta";

/// How large the ConfigMap's data may get, in bytes: etcd's and the API server's limit of 1 MiB, less room for metadata.
pub const DATA_MAX: usize = 1_000_000;

/// Whose desired state a ConfigMap holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Meta {
    /// The environment that the namespace's label named when this was written.
    pub environment: Environment,
    /// The associated namespace.
    pub namespace: String,
    /// The codec's version, [`SCHEMA`].
    pub schema: u32,
}

/// When an entry changes what is attached already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Apply {
    /// At the next admission that looks, a touch included (`Auto`).
    Immediately,
    /// When somebody changes the rest of the pod template (`Manual`).
    OnTemplateChange,
}

/// What an entry puts into a pod template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all_fields = "camelCase")]
pub enum Injection {
    /// Variables from one immutable Secret.
    EnvironmentVariables {
        /// The Secret.
        secret: String,
        /// Variable name → key of the Secret.
        variables: BTreeMap<String, String>,
    },
    /// Files from a Secret of the workload's own, whose name follows from the workload.
    VolumeMount {
        /// The folder that the files appear in.
        mount_path: String,
    },
    /// Only the revision, so that an `Auto` reload rolls: the user wires the Secret (operator mode).
    RevisionOnly {
        /// The Secret, of a stable name.
        secret: String,
    },
}

impl Injection {
    fn read(json: &Value) -> Result<Self, String> {
        let fields = Fields::strict(json, &["kind", "mountPath", "secret", "variables"])?;
        let has = |field| fields.optional(field).is_some();
        match (fields.text("kind")?, has("mountPath"), has("secret"), has("variables")) {
            ("EnvironmentVariables", false, true, true) => Ok(Self::EnvironmentVariables {
                secret: fields.text("secret")?.to_owned(),
                variables: fields.texts("variables")?,
            }),
            ("VolumeMount", true, false, false) => {
                Ok(Self::VolumeMount { mount_path: fields.text("mountPath")?.to_owned() })
            }
            ("RevisionOnly", false, true, false) => {
                Ok(Self::RevisionOnly { secret: fields.text("secret")?.to_owned() })
            }
            (kind, ..) => Err(format!("the injection has not exactly the fields of the kind {kind:?}")),
        }
    }

    /// The strategy, where something is injected.
    pub fn strategy(&self) -> Option<Strategy> {
        match self {
            Self::EnvironmentVariables { .. } => Some(Strategy::EnvironmentVariables),
            Self::VolumeMount { .. } => Some(Strategy::VolumeMount),
            Self::RevisionOnly { .. } => None,
        }
    }
}

/// Which workloads of the namespace an entry is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub enum Link {
    /// One workload by name.
    Named(NamedLink),
    /// Every workload of the kind with matching labels, present and future.
    Selected(SelectedLink),
}

/// A link to one workload by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct NamedLink {
    /// The workload's kind.
    pub kind: WorkloadKind,
    /// The workload's name.
    pub name: String,
}

/// A link to every workload with matching labels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct SelectedLink {
    /// The workloads' kind.
    pub kind: WorkloadKind,
    /// The workloads' labels.
    pub selector: Selector,
}

impl Link {
    fn read(json: &Value) -> Result<Self, String> {
        let fields = Fields::strict(json, &["kind", "name", "selector"])?;
        let kind = WorkloadKind::parse(fields.text("kind")?)?;
        match (fields.optional_text("name")?, fields.optional("selector")) {
            (Some(name), None) => Ok(Self::Named(NamedLink { kind, name: name.to_owned() })),
            (None, Some(selector)) => Ok(Self::Selected(SelectedLink { kind, selector: Selector::read(selector)? })),
            _ => Err("a link has either a name or a selector".to_owned()),
        }
    }

    /// Whether the link means this workload.
    pub fn matches(&self, kind: WorkloadKind, name: &str, labels: &Labels) -> bool {
        match self {
            Self::Named(link) => link.kind == kind && link.name == name,
            Self::Selected(link) => link.kind == kind && link.selector.matches(labels),
        }
    }
}

/// One app environment in one namespace, as it was delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// When what is attached already follows.
    pub apply: Apply,
    /// The app's environment that was delivered.
    pub environment: Environment,
    /// What goes into the pod templates.
    pub injection: Injection,
    /// Which workloads.
    pub links: Vec<Link>,
    /// The delivered content.
    pub revision: Revision,
}

impl Entry {
    fn read(json: &Value, app: &AppName) -> Result<Self, String> {
        let fields = Fields::strict(json, &["apply", "environment", "injection", "links", "revision"])?;
        let apply = match fields.text("apply")? {
            "Immediately" => Apply::Immediately,
            "OnTemplateChange" => Apply::OnTemplateChange,
            other => return Err(unknown_choice("apply", other, "Immediately or OnTemplateChange")),
        };
        let mut links = Vec::new();
        for link in fields.list("links")? {
            links.push(Link::read(link)?);
        }
        let injection = Injection::read(fields.required("injection")?)?;
        match &injection {
            // What is injected could not be told apart from the user's own again.
            Injection::EnvironmentVariables { secret, .. } if !is_secret_of(app, secret) => {
                return Err(format!("{secret} is not a name that Scout gives to a Secret of app {app}"));
            }
            _ => {}
        }
        Ok(Self {
            apply,
            environment: Environment::parse(fields.text("environment")?).map_err(|error| error.to_string())?,
            injection,
            links,
            revision: Revision::parse(fields.text("revision")?).map_err(|error| error.to_string())?,
        })
    }

    /// Whether the entry is for this workload.
    pub fn matches(&self, kind: WorkloadKind, name: &str, labels: &Labels) -> bool {
        self.links.iter().any(|link| link.matches(kind, name, labels))
    }
}

/// The desired state of one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredState {
    /// Whose it is.
    pub meta: Meta,
    /// What each app delivers there.
    pub apps: BTreeMap<AppName, Entry>,
}

/// Why a ConfigMap is not a desired state.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum DesiredStateError {
    #[error("ConfigMap {name} has no data.meta: it was not written by host-sync")]
    NoMeta { name: String },
    #[error("ConfigMap {name} has schema {found}, and this version reads schema {SCHEMA}")]
    UnknownSchema { name: String, found: u64 },
    #[error("ConfigMap {name} says that it is for namespace {found}")]
    OtherNamespace { name: String, found: String },
    #[error("data.{key} of ConfigMap {name} is malformed: {problem}")]
    Malformed { name: String, key: String, problem: String },
    #[error("data.{key} of ConfigMap {name} is for no app")]
    App {
        name: String,
        key: String,
        #[source]
        source: NameError,
    },
    #[error(
        "the desired state of namespace {namespace} would take {size} bytes, and a ConfigMap holds {DATA_MAX}: link fewer apps to the namespace or select fewer keys"
    )]
    TooLarge { namespace: String, size: usize },
}

impl DesiredStateError {
    /// What to do about it, in a clause.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::UnknownSchema { .. } => "upgrade the policy and host-sync together",
            Self::TooLarge { .. } => "link fewer apps to the namespace, or select fewer keys",
            Self::NoMeta { .. } | Self::OtherNamespace { .. } | Self::Malformed { .. } | Self::App { .. } => {
                "delete that ConfigMap, and host-sync writes it anew"
            }
        }
    }
}

impl DesiredState {
    /// A desired state with no app in it.
    pub fn empty(namespace: &str, environment: Environment) -> Self {
        Self { meta: Meta { environment, namespace: namespace.to_owned(), schema: SCHEMA }, apps: BTreeMap::new() }
    }

    /// The key of an app's entry. The suffix keeps an app named `meta` apart from [`Meta`].
    fn entry_key(app: &AppName) -> String {
        if app.as_str() == META_KEY { format!("{app}.app") } else { app.to_string() }
    }

    fn app_of_key(key: &str) -> Result<AppName, NameError> {
        AppName::parse(key.strip_suffix(".app").unwrap_or(key))
    }

    /// The ConfigMap's data: each value is canonical JSON. Refused when a ConfigMap could not hold it; nothing is cut.
    pub fn to_data(&self) -> Result<BTreeMap<String, String>, DesiredStateError> {
        let json = |key: &str, value: Result<String, serde_json::Error>| {
            value.map_err(|error| malformed(&desired_state_name(&self.meta.namespace), key, error.to_string()))
        };
        let mut data = BTreeMap::from([(META_KEY.to_owned(), json(META_KEY, serde_json::to_string(&self.meta))?)]);
        for (app, entry) in &self.apps {
            let key = Self::entry_key(app);
            let value = json(&key, serde_json::to_string(entry))?;
            data.insert(key, value);
        }
        let size = data.iter().map(|(key, value)| key.len() + value.len()).sum();
        if size > DATA_MAX {
            return Err(DesiredStateError::TooLarge { namespace: self.meta.namespace.clone(), size });
        }
        Ok(data)
    }

    /// Reads the desired state of `namespace` from a ConfigMap as raw JSON.
    pub fn from_config_map(config_map: &Value, namespace: &str) -> Result<Self, DesiredStateError> {
        let data = config_map.get("data").and_then(Value::as_object);
        let texts = data.into_iter().flatten().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)));
        Self::from_data(texts, namespace)
    }

    /// Reads the desired state of `namespace` from a ConfigMap's data.
    pub fn from_data<'a>(
        data: impl IntoIterator<Item = (&'a str, &'a str)>,
        namespace: &str,
    ) -> Result<Self, DesiredStateError> {
        let name = desired_state_name(namespace);
        let data = Vec::from_iter(data);
        let meta = data.iter().find(|(key, _)| *key == META_KEY);
        let (_, meta) = meta.ok_or_else(|| DesiredStateError::NoMeta { name: name.clone() })?;
        let meta = parse_meta(meta, &name)?;
        if meta.namespace != namespace {
            return Err(DesiredStateError::OtherNamespace { name, found: meta.namespace });
        }
        let mut apps = BTreeMap::new();
        for (key, text) in data.into_iter().filter(|(key, _)| *key != META_KEY) {
            let app = Self::app_of_key(key).map_err(|source| DesiredStateError::App {
                name: name.clone(),
                key: key.to_owned(),
                source,
            })?;
            let entry = parse_json(text).and_then(|json| Entry::read(&json, &app));
            apps.insert(app, entry.map_err(|problem| malformed(&name, key, problem))?);
        }
        Ok(Self { meta, apps })
    }
}

/// Reads `meta`, the schema first: a later schema may have fields that this version does not know.
fn parse_meta(text: &str, name: &str) -> Result<Meta, DesiredStateError> {
    let json = parse_json(text).map_err(|problem| malformed(name, META_KEY, problem))?;
    let schema = json.get("schema").and_then(Value::as_u64).unwrap_or_default();
    if schema != u64::from(SCHEMA) {
        return Err(DesiredStateError::UnknownSchema { name: name.to_owned(), found: schema });
    }
    let read = || {
        let fields = Fields::strict(&json, &["environment", "namespace", "schema"])?;
        let environment = Environment::parse(fields.text("environment")?).map_err(|error| error.to_string())?;
        Ok(Meta { environment, namespace: fields.text("namespace")?.to_owned(), schema: SCHEMA })
    };
    read().map_err(|problem| malformed(name, META_KEY, problem))
}

fn parse_json(text: &str) -> Result<Value, String> {
    serde_json::from_slice(text.as_bytes()).map_err(|error| error.to_string())
}

fn malformed(name: &str, key: &str, problem: String) -> DesiredStateError {
    DesiredStateError::Malformed { name: name.to_owned(), key: key.to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> DesiredState {
        let mut state = DesiredState::empty("shop", Environment::parse("production").unwrap());
        for app in ["checkout", "meta"] {
            let entry = Entry {
                apply: Apply::Immediately,
                environment: Environment::parse("production").unwrap(),
                injection: Injection::EnvironmentVariables {
                    secret: format!("scout.{app}.4f9a"),
                    variables: BTreeMap::from([("TOKEN".to_owned(), "TOKEN".to_owned())]),
                },
                links: vec![
                    Link::Named(NamedLink { kind: WorkloadKind::Deployment, name: "api".to_owned() }),
                    Link::Selected(SelectedLink { kind: WorkloadKind::Deployment, selector: Selector::default() }),
                ],
                revision: Revision::parse("4f9a").unwrap(),
            };
            state.apps.insert(AppName::parse(app).unwrap(), entry);
        }
        state
    }

    fn read(data: &BTreeMap<String, String>) -> Result<DesiredState, DesiredStateError> {
        DesiredState::from_data(data.iter().map(|(k, v)| (k.as_str(), v.as_str())), "shop")
    }

    #[test]
    fn what_is_written_is_read_back_even_for_an_app_named_meta() {
        let data = state().to_data().unwrap();
        assert_eq!(
            data["checkout"],
            r#"{"apply":"Immediately","environment":"production","injection":{"kind":"EnvironmentVariables","secret":"scout.checkout.4f9a","variables":{"TOKEN":"TOKEN"}},"links":[{"kind":"Deployment","name":"api"},{"kind":"Deployment","selector":{}}],"revision":"4f9a"}"#
        );
        assert_eq!(read(&data).unwrap(), state());
    }

    #[test]
    fn a_later_schema_is_refused_even_if_its_fields_are_unknown() {
        let mut data = state().to_data().unwrap();
        data.insert("meta".into(), r#"{"schema":2,"realm":"x"}"#.into());
        assert!(matches!(read(&data), Err(DesiredStateError::UnknownSchema { found: 2, .. })));
    }

    #[test]
    fn one_malformed_entry_makes_the_whole_state_unreadable_rather_than_shorter() {
        let mut data = state().to_data().unwrap();
        data.insert("checkout".into(), "{\"apply\":".into());
        let error = read(&data).unwrap_err().to_string();
        assert!(error.starts_with("data.checkout of ConfigMap desired-state.shop is malformed"), "{error}");
    }

    #[test]
    fn an_entry_that_says_what_it_cannot_mean_is_refused_with_the_reason() {
        for (from, to, problem) in [
            (r#""name":"api""#, r#""name":"api","selector":{}"#, "a link has either a name or a selector"),
            (
                r#""variables":{"TOKEN":"TOKEN"}"#,
                r#""mountPath":"/x""#,
                "the injection has not exactly the fields of the kind \"EnvironmentVariables\"",
            ),
            ("scout.checkout.4f9a", "db-credentials", "db-credentials is not a name that Scout gives"),
            (
                r#""apply":"Immediately""#,
                r#""apply":"Sometimes""#,
                "`apply` is \"Sometimes\": use Immediately or OnTemplateChange",
            ),
            (r#""revision":"4f9a""#, r#""revision":"4f9a","later":1"#, "unknown field `later`"),
        ] {
            let mut data = state().to_data().unwrap();
            let entry = data["checkout"].replace(from, to);
            data.insert("checkout".into(), entry);
            let error = read(&data).unwrap_err().to_string();
            assert!(
                error.contains("data.checkout of ConfigMap desired-state.shop") && error.contains(problem),
                "{error}"
            );
        }
    }

    #[test]
    fn a_config_map_without_meta_or_with_a_key_for_no_app_is_refused() {
        let mut data = state().to_data().unwrap();
        data.insert("Check_Out".into(), data["checkout"].clone());
        assert!(
            read(&data)
                .unwrap_err()
                .to_string()
                .contains("data.Check_Out of ConfigMap desired-state.shop is for no app")
        );
        data.remove("meta");
        assert!(read(&data).unwrap_err().to_string().contains("has no data.meta"));
    }

    #[test]
    fn a_state_of_another_namespace_is_refused() {
        let data = state().to_data().unwrap();
        let texts = data.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        assert!(matches!(DesiredState::from_data(texts, "other"), Err(DesiredStateError::OtherNamespace { .. })));
    }

    #[test]
    fn a_state_that_no_config_map_can_hold_is_refused_with_its_size() {
        let mut state = state();
        for entry in state.apps.values_mut() {
            if let Injection::EnvironmentVariables { variables, .. } = &mut entry.injection {
                variables.extend((0..40_000).map(|n| (format!("VARIABLE_{n}"), format!("VARIABLE_{n}"))));
            }
        }
        assert!(matches!(state.to_data(), Err(DesiredStateError::TooLarge { size, .. }) if size > DATA_MAX));
    }
}
