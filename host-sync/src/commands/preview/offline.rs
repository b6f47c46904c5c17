//! What the policy is to know without a cluster: desired states from files, or made from Apps as a delivery would make them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use host_sync_core::config::{App, AppEnvironmentConfig, KeySelection};
use host_sync_core::plan::entry_of;
use host_sync_core::secret_bytes::{Content, Key, SecretBytes};
use policy_core::desired_state::DesiredState;
use policy_core::names::{AppName, Environment, Revision, desired_state_name};
use serde_json::json;

use super::Place;
use crate::cli::PreviewArguments;
use crate::commands::manifests;
use crate::{api, parse};

/// The revision of a delivery that nobody has made.
const REVISION: &str = "preview";

/// What the files say, by namespace.
pub(super) fn places(arguments: &PreviewArguments) -> Result<BTreeMap<String, Place>> {
    if arguments.desired_state.is_empty() && arguments.apps.is_empty() {
        bail!("--offline needs what the policy would read: --desired-state FILE (a ConfigMap), or --app FILE (an App)");
    }
    let mut places = recorded(arguments)?;
    let mut apps = Vec::new();
    for document in manifests::read(&arguments.apps)? {
        if document.at("/kind") == "App" {
            let app: api::App = document.typed()?;
            let name = document.at("/metadata/name");
            apps.push(parse::app(&app).with_context(|| format!("{}: App {name}", document.source))?);
        }
    }
    if apps.is_empty() && !arguments.apps.is_empty() {
        bail!("there is no App in what --app names");
    }
    for (namespace, state) in states(&apps, &keys(&arguments.keys)?)? {
        let data = state.to_data().context("encoding the desired state")?;
        let map = json!({"metadata": {"name": desired_state_name(&namespace)}, "data": data});
        if places.insert(namespace.clone(), Place::Associated(Some(map))).is_some() {
            bail!("namespace {namespace} is in an App and in a desired state: give one of the two");
        }
    }
    Ok(places)
}

/// Desired states as files hold them.
fn recorded(arguments: &PreviewArguments) -> Result<BTreeMap<String, Place>> {
    let mut places = BTreeMap::new();
    for document in manifests::read(&arguments.desired_state)? {
        let name = document.at("/metadata/name").to_owned();
        let Some(namespace) = name.strip_prefix(&desired_state_name("")) else { continue };
        // Read here as well, so that a mistake is told by its file and not as the policy's rejection of every manifest.
        DesiredState::from_config_map(&document.value, namespace)
            .with_context(|| format!("reading {}", document.source))?;
        places.insert(namespace.to_owned(), Place::Associated(Some(document.value)));
    }
    if places.is_empty() && !arguments.desired_state.is_empty() {
        bail!("there is no ConfigMap desired-state.<namespace> in what --desired-state names");
    }
    Ok(places)
}

/// Keys by app; those under no app are for every App that selects none itself.
type Keys = BTreeMap<Option<String>, BTreeSet<Key>>;

/// Parses `A,B` and `app=A,B`.
fn keys(texts: &[String]) -> Result<Keys> {
    let mut all = Keys::new();
    for text in texts {
        let (app, list) = match text.split_once('=') {
            Some((app, list)) => (Some(app.to_owned()), list),
            None => (None, text.as_str()),
        };
        for key in list.split(',').map(str::trim) {
            let key = Key::parse(key).with_context(|| format!("--keys {text}"))?;
            all.entry(app.clone()).or_default().insert(key);
        }
    }
    Ok(all)
}

/// The desired states that a delivery of these Apps would write.
fn states(apps: &[App], keys: &Keys) -> Result<BTreeMap<String, DesiredState>> {
    let mut states: BTreeMap<String, DesiredState> = BTreeMap::new();
    for app in apps {
        for (environment, config) in &app.environments {
            let content = content(app, config, keys)?;
            let revision = Revision::parse(REVISION).context("naming the revision of a preview")?;
            for (namespace, links) in &config.links {
                let state = states
                    .entry(namespace.clone())
                    .or_insert_with(|| DesiredState::empty(namespace, environment.clone()));
                one_environment(state, namespace, environment)?;
                let entry = entry_of(app, environment, config, links, &revision, Some(&content));
                state.apps.insert(app.name.clone(), entry);
            }
        }
    }
    Ok(states)
}

fn one_environment(state: &DesiredState, namespace: &str, environment: &Environment) -> Result<()> {
    if state.meta.environment == *environment {
        return Ok(());
    }
    bail!(
        "namespace {namespace} is linked by environments {} and {environment}, and a namespace is of one: give the App of one of them",
        state.meta.environment
    )
}

/// The keys that a delivery would bring: those that the App selects, or those that the command line names.
fn content(app: &App, config: &AppEnvironmentConfig, keys: &Keys) -> Result<Content> {
    let named: BTreeSet<Key> = match &config.keys {
        KeySelection::Named(named) => named.keys().cloned().collect(),
        KeySelection::All => {
            let own = keys.get(&Some(app.name.to_string())).or_else(|| keys.get(&None));
            own.cloned().ok_or_else(|| unknown_keys(&app.name))?
        }
    };
    Ok(named.into_iter().map(|key| (key, SecretBytes::new(Vec::new()))).collect())
}

fn unknown_keys(app: &AppName) -> anyhow::Error {
    anyhow::anyhow!(
        "App {app} delivers every key that its store holds, and no store is asked offline: name them with --keys {app}=KEY,KEY"
    )
}

/// For tests and the text: a ConfigMap's desired state by namespace.
#[cfg(test)]
fn entry<'a>(
    states: &'a BTreeMap<String, DesiredState>,
    namespace: &str,
    app: &str,
) -> &'a policy_core::desired_state::Entry {
    states[namespace].apps.iter().find(|(name, _)| name.as_str() == app).map(|(_, entry)| entry).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy_core::desired_state::Injection;
    use serde_json::Value;

    fn app(keys: &Value) -> App {
        let link = json!({"namespace": "shop", "kind": "Deployment", "name": "api"});
        let mut environment = json!({"name": "production", "source": {"path": "checkout"}, "links": [link]});
        if !keys.is_null() {
            environment["keys"] = keys.clone();
        }
        let object = json!({
            "apiVersion": "scout.commandk.dev/v1alpha1", "kind": "App", "metadata": {"name": "checkout"},
            "spec": {
                "storeRef": {"name": "files"}, "deploymentStrategy": "EnvironmentVariables", "environments": [environment],
            },
        });
        parse::app(&serde_json::from_value(object).unwrap()).unwrap()
    }

    fn variables(app: App, texts: &[&str]) -> Result<Vec<String>> {
        let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
        let states = states(&[app], &keys(&texts)?)?;
        let Injection::EnvironmentVariables { variables, .. } = &entry(&states, "shop", "checkout").injection else {
            bail!("no variables")
        };
        Ok(variables.keys().cloned().collect())
    }

    #[test]
    fn an_app_that_selects_its_keys_needs_no_further_ones() {
        assert_eq!(variables(app(&json!([{"name": "db-url", "as": "DB_URL"}])), &[]).unwrap(), ["DB_URL"]);
    }

    #[test]
    fn an_app_that_takes_every_key_is_told_which_there_are() {
        assert_eq!(variables(app(&Value::Null), &["A,B"]).unwrap(), ["A", "B"]);
        assert_eq!(variables(app(&Value::Null), &["checkout=C", "A"]).unwrap(), ["C"]);
        let error = variables(app(&Value::Null), &["other=A"]).unwrap_err().to_string();
        assert!(error.ends_with("name them with --keys checkout=KEY,KEY"), "{error}");
    }
}
