//! From custom resources to the core's configuration: what a schema cannot check is checked here, once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use host_sync_core::config::{self, AppEnvironmentConfig, KeySelection};
use host_sync_core::secret_bytes::{Key, KeyError};
use host_sync_core::store::{SourcePath, SourcePathError};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use policy_core::desired_state::{Link, NamedLink, SelectedLink};
use policy_core::names::{AppName, Environment, NameError, REDEPLOY_ANNOTATION, WorkloadKind, default_mount_path};
use policy_core::selector::{Operator, Requirement, Selector};
use thiserror::Error;

use crate::api;

/// The shortest refresh interval: a store is not to be asked all the time by a slip of the pen.
const REFRESH_MIN: Duration = Duration::from_secs(5);

/// Why a custom resource cannot be used.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum ParseError {
    #[error("{0}")]
    Name(#[from] NameError),
    #[error("environment {environment}: {source}")]
    Source { environment: Environment, source: SourcePathError },
    #[error("environment {environment}: {source}")]
    Key { environment: Environment, source: KeyError },
    #[error("environment {environment} delivers two keys as {name}: set another name for one of them (keys[].as)")]
    DuplicateKey { environment: Environment, name: Key },
    #[error("environment {environment}: the selector of the link to namespace {namespace} {problem}")]
    Selector { environment: Environment, namespace: String, problem: String },
    #[error("refreshInterval {0:?} is not valid: use a number with s, m or h, at least 5s")]
    RefreshInterval(String),
}

/// Parses an App.
pub fn app(app: &api::App) -> Result<config::App, ParseError> {
    let name = AppName::parse(app.metadata.name.as_deref().unwrap_or_default())?;
    let annotations = app.metadata.annotations.as_ref();
    let mut environments = BTreeMap::new();
    for spec in &app.spec.environments {
        let environment = Environment::parse(&spec.name)?;
        let parsed = app_environment(&name, &environment, spec)?;
        environments.insert(environment, parsed);
    }
    Ok(config::App {
        uid: app.metadata.uid.clone().unwrap_or_default(),
        deleting: app.metadata.deletion_timestamp.is_some(),
        protected: app.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == api::FINALIZER),
        store: app.spec.store_ref.name.clone(),
        strategy: app.spec.deployment_strategy.into(),
        mount_path: app.spec.mount_path.clone().unwrap_or_else(|| default_mount_path(&name)),
        redeploy: annotations.and_then(|annotations| annotations.get(REDEPLOY_ANNOTATION)).cloned(),
        environments,
        name,
    })
}

fn app_environment(
    app: &AppName,
    environment: &Environment,
    spec: &api::EnvironmentSpec,
) -> Result<AppEnvironmentConfig, ParseError> {
    let source = SourcePath::parse(&spec.source.path)
        .map_err(|source| ParseError::Source { environment: environment.clone(), source })?;
    let mut links: BTreeMap<String, BTreeSet<Link>> = BTreeMap::new();
    for link in &spec.links {
        let parsed = parse_link(environment, link)?;
        links.entry(link.namespace.clone()).or_default().insert(parsed);
    }
    Ok(AppEnvironmentConfig {
        mode: match spec.mode {
            api::Mode::Agent => config::Mode::Agent,
            api::Mode::Operator => config::Mode::Operator,
        },
        reload: match spec.reload_strategy {
            api::ReloadStrategy::Auto => config::Reload::Auto,
            api::ReloadStrategy::Manual => config::Reload::Manual,
        },
        source,
        keys: key_selection(environment, spec.keys.as_deref())?,
        secret_name: spec.secret_name.clone().unwrap_or_else(|| app.to_string()),
        links,
    })
}

fn key_selection(environment: &Environment, keys: Option<&[api::KeySpec]>) -> Result<KeySelection, ParseError> {
    let Some(keys) = keys else { return Ok(KeySelection::All) };
    let mut named = BTreeMap::new();
    for spec in keys {
        let key = Key::parse(spec.delivered_as.as_deref().unwrap_or(&spec.name))
            .map_err(|source| ParseError::Key { environment: environment.clone(), source })?;
        if named.insert(key.clone(), spec.name.clone()).is_some() {
            return Err(ParseError::DuplicateKey { environment: environment.clone(), name: key });
        }
    }
    Ok(KeySelection::Named(named))
}

fn parse_link(environment: &Environment, link: &api::LinkSpec) -> Result<Link, ParseError> {
    let kind = match link.kind {
        api::LinkKind::Deployment => WorkloadKind::Deployment,
    };
    let problem = |problem: &str| ParseError::Selector {
        environment: environment.clone(),
        namespace: link.namespace.clone(),
        problem: problem.to_owned(),
    };
    match (&link.name, &link.selector) {
        (Some(name), None) => Ok(Link::Named(NamedLink { kind, name: name.clone() })),
        (None, Some(labels)) => selector(labels)
            .map(|selector| Link::Selected(SelectedLink { kind, selector }))
            .map_err(|text| problem(&text)),
        _ => Err(problem("or its name must be set, and not both")),
    }
}

pub(crate) fn selector(labels: &LabelSelector) -> Result<Selector, String> {
    let requirements = labels.match_expressions.iter().flatten().map(|one| {
        let values: BTreeSet<String> = one.values.iter().flatten().cloned().collect();
        let operator = match one.operator.as_str() {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            other => {
                return Err(format!("has the operator {other:?}: use In, NotIn, Exists or DoesNotExist"));
            }
        };
        let wants_values = matches!(operator, Operator::In | Operator::NotIn);
        if wants_values == values.is_empty() {
            let rule = if wants_values { "needs values" } else { "takes no values" };
            return Err(format!("is not valid: {} on {} {rule}", one.operator, one.key));
        }
        Ok(Requirement { key: one.key.clone(), operator, values })
    });
    Ok(Selector {
        match_expressions: requirements.collect::<Result<_, String>>()?,
        match_labels: labels.match_labels.clone().unwrap_or_default(),
    })
}

/// Parses a refresh interval: `30s`, `5m`, `1h`.
pub fn refresh_interval(text: &str) -> Result<Duration, ParseError> {
    duration(text)
        .filter(|interval| *interval >= REFRESH_MIN)
        .ok_or_else(|| ParseError::RefreshInterval(text.to_owned()))
}

/// Parses a whole number with a unit, `s`, `m` or `h`.
pub fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(seconds).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(environment: &serde_json::Value) -> Result<config::App, ParseError> {
        let resource = json!({
            "apiVersion": "scout.commandk.dev/v1alpha1", "kind": "App",
            "metadata": {"name": "checkout", "uid": "u"},
            "spec": {
                "storeRef": {"name": "files"}, "deploymentStrategy": "VolumeMount",
                "environments": [environment],
            },
        });
        app(&serde_json::from_value(resource).unwrap())
    }

    #[test]
    fn what_an_app_leaves_out_has_sane_defaults() {
        let app = parse(&json!({"name": "production", "source": {"path": "checkout"}})).unwrap();
        assert_eq!(app.mount_path, "/var/run/secrets/scout/checkout");
        let environment = app.environments.values().next().unwrap();
        assert_eq!(environment.mode, config::Mode::Agent);
        assert_eq!(environment.reload, config::Reload::Auto);
        assert_eq!(environment.secret_name, "checkout");
        assert_eq!(environment.keys, KeySelection::All);
    }

    #[test]
    fn two_keys_of_one_name_are_refused_with_the_fix() {
        let keys = json!([{"name": "a", "as": "X"}, {"name": "X"}]);
        let error = parse(&json!({"name": "production", "source": {"path": "checkout"}, "keys": keys})).unwrap_err();
        assert!(error.to_string().contains("two keys as X: set another name"), "{error}");
    }

    #[test]
    fn a_selector_without_values_is_refused_by_key() {
        let selector = json!({"matchExpressions": [{"key": "tier", "operator": "In"}]});
        let links = json!([{"namespace": "shop", "kind": "Deployment", "selector": selector}]);
        let error = parse(&json!({"name": "production", "source": {"path": "checkout"}, "links": links})).unwrap_err();
        assert!(error.to_string().ends_with("is not valid: In on tier needs values"), "{error}");
    }

    #[test]
    fn a_path_out_of_the_store_is_refused_with_its_environment() {
        let error = parse(&json!({"name": "production", "source": {"path": "../etc"}})).unwrap_err();
        assert!(error.to_string().starts_with("environment production: source path \"../etc\""), "{error}");
    }

    #[test]
    fn refresh_intervals_have_a_unit_and_a_floor() {
        assert_eq!(refresh_interval("5m").unwrap(), Duration::from_mins(5));
        for bad in ["", "5", "1s", "m", "-1m", "1d", "99999999999999999999h"] {
            assert!(refresh_interval(bad).is_err(), "{bad}");
        }
    }
}
