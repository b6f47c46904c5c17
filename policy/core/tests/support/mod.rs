//! A Deployment, admission requests for it, and desired states: what every test of an admission starts from.
#![allow(dead_code)] // each test binary uses its own part

use std::collections::BTreeMap;

use policy_core::attachment::Attachments;
use policy_core::desired_state::{Apply, DesiredState, Entry, Injection, Link, NamedLink};
use policy_core::names::{
    ATTACHMENTS_ANNOTATION, AppName, Environment, MUTATION_MODE_ANNOTATION, REQUESTED_ANNOTATION, Revision,
    WorkloadKind, revision_secret_name,
};
use policy_core::{Review, Settings, StateRead, Triage, Verdict};
use serde_json::{Value, json};

/// A Deployment as its user wrote it: one container with a variable and a mount of its own, one init container.
pub(crate) fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "api", "namespace": "shop", "labels": {"tier": "web"}},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "api"}},
            "template": {
                "metadata": {"labels": {"app": "api"}},
                "spec": {
                    "initContainers": [{"name": "migrate", "image": "api"}],
                    "containers": [{
                        "name": "api",
                        "image": "api",
                        "env": [{"name": "LOG_LEVEL", "value": "info"}],
                        "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
                    }],
                    "volumes": [{"name": "cache", "emptyDir": {}}],
                },
            },
        },
    })
}

/// `object` with the value at `pointer` set; maps on the way are made.
pub(crate) fn with(mut object: Value, pointer: &[&str], value: impl Into<Value>) -> Value {
    let place = pointer.iter().fold(&mut object, |place, key| match place {
        Value::Array(list) => &mut list[key.parse::<usize>().unwrap()],
        place => &mut place[*key],
    });
    *place = value.into();
    object
}

pub(crate) fn annotated(object: Value, annotation: &str, value: &str) -> Value {
    with(object, &["metadata", "annotations", annotation], value)
}

/// The object as host-sync touches it.
pub(crate) fn touched(object: Value, attempt: u32) -> Value {
    annotated(object, REQUESTED_ANNOTATION, &format!("0123456789.{attempt}"))
}

pub(crate) fn ignored(object: Value) -> Value {
    annotated(object, MUTATION_MODE_ANNOTATION, "ignore")
}

pub(crate) fn detached(object: Value) -> Value {
    annotated(object, MUTATION_MODE_ANNOTATION, "ignore-and-detach")
}

pub(crate) fn create(object: &Value) -> Value {
    request("CREATE", object, &Value::Null)
}

pub(crate) fn update(old: &Value, new: &Value) -> Value {
    request("UPDATE", new, old)
}

fn request(operation: &str, object: &Value, old: &Value) -> Value {
    json!({
        "uid": "1",
        "operation": operation,
        "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
        "namespace": "shop",
        "name": object.pointer("/metadata/name").cloned().unwrap_or_default(),
        "object": object,
        "oldObject": old,
    })
}

pub(crate) fn app(name: &str) -> AppName {
    AppName::parse(name).unwrap()
}

fn entry(injection: Injection, revision: &str) -> Entry {
    Entry {
        apply: Apply::Immediately,
        environment: Environment::parse("production").unwrap(),
        injection,
        links: vec![Link::Named(NamedLink { kind: WorkloadKind::Deployment, name: "api".to_owned() })],
        revision: Revision::parse(revision).unwrap(),
    }
}

/// Variables of `app`, each under its own name.
pub(crate) fn variables(name: &str, revision: &str, keys: &[&str]) -> (AppName, Entry) {
    let secret = revision_secret_name(&app(name), &Revision::parse(revision).unwrap());
    let variables: BTreeMap<_, _> = keys.iter().map(|key| ((*key).to_owned(), (*key).to_owned())).collect();
    (app(name), entry(Injection::EnvironmentVariables { secret, variables }, revision))
}

/// Files of `app` under `path`.
pub(crate) fn files(name: &str, revision: &str, path: &str) -> (AppName, Entry) {
    (app(name), entry(Injection::VolumeMount { mount_path: path.to_owned() }, revision))
}

/// A Secret that the user wires.
pub(crate) fn revision_only(name: &str, revision: &str) -> (AppName, Entry) {
    (app(name), entry(Injection::RevisionOnly { secret: name.to_owned() }, revision))
}

pub(crate) fn manual((app, entry): (AppName, Entry)) -> (AppName, Entry) {
    (app, Entry { apply: Apply::OnTemplateChange, ..entry })
}

/// The ConfigMap that host-sync would write for namespace `shop`.
pub(crate) fn config_map(apps: impl IntoIterator<Item = (AppName, Entry)>) -> Value {
    let mut state = DesiredState::empty("shop", Environment::parse("production").unwrap());
    state.apps.extend(apps);
    json!({"apiVersion": "v1", "kind": "ConfigMap", "data": state.to_data().unwrap()})
}

pub(crate) fn state(apps: impl IntoIterator<Item = (AppName, Entry)>) -> StateRead {
    StateRead::Found(config_map(apps))
}

pub(crate) fn missing() -> StateRead {
    StateRead::Unavailable("Cannot find v1/ConfigMap named 'desired-state.shop'".to_owned())
}

/// The verdict, and whether the desired state was read for it.
pub(crate) fn admit_with(settings: &Settings, request: &Value, state: &StateRead) -> (Verdict, bool) {
    let review = match Review::parse(request) {
        Ok(review) => review,
        Err(message) => return (Verdict::Reject { message }, false),
    };
    match review.triage(settings) {
        Triage::Decided(verdict) => (verdict, false),
        Triage::NeedsState { namespace, name } => {
            assert_eq!((namespace.as_str(), name.as_str()), ("scout-system", "desired-state.shop"));
            (review.decide(settings, state.clone()), true)
        }
    }
}

pub(crate) fn admit(request: &Value, state: &StateRead) -> Verdict {
    admit_with(&Settings::default(), request, state).0
}

/// What the API server stores, and the warnings.
pub(crate) fn admitted(request: &Value, state: &StateRead) -> (Value, Vec<String>) {
    match admit(request, state) {
        Verdict::Accept { warnings } => (request["object"].clone(), warnings),
        Verdict::Mutate { object, warnings } => {
            assert_ne!(object, request["object"], "a mutation that changes nothing");
            (object, warnings)
        }
        Verdict::Reject { message } => panic!("rejected: {message}"),
    }
}

pub(crate) fn created(object: &Value, state: &StateRead) -> Value {
    admitted(&create(object), state).0
}

pub(crate) fn updated(old: &Value, new: &Value, state: &StateRead) -> Value {
    admitted(&update(old, new), state).0
}

pub(crate) fn rejection(request: &Value, state: &StateRead) -> String {
    match admit(request, state) {
        Verdict::Reject { message } => message,
        other => panic!("not rejected: {other:?}"),
    }
}

pub(crate) fn template(object: &Value) -> &Value {
    &object["spec"]["template"]
}

pub(crate) fn attachments(object: &Value) -> Attachments {
    Attachments::from_metadata(template(object).get("metadata"), ATTACHMENTS_ANNOTATION)
}

/// The names and Secrets (or values) of a container's variables, in order.
pub(crate) fn env(object: &Value, container: usize) -> Vec<(String, String)> {
    let env = template(object)["spec"]["containers"][container]["env"].as_array().cloned().unwrap_or_default();
    let value = |one: &Value| {
        let secret = one.pointer("/valueFrom/secretKeyRef/name").or(one.get("value"));
        secret.and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    env.iter().map(|one| (one["name"].as_str().unwrap_or_default().to_owned(), value(one))).collect()
}
