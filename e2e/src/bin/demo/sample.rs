//! The sample app: what its users write, without and with Scout, and what its pods say of themselves.

use e2e::manifests::{app, deployment, environment, link, real_deployment};
use serde_json::{Value, json};

/// The namespace of the sample app, and the environment that it belongs to.
pub(crate) const NAMESPACE: &str = "shop";
pub(crate) const ENVIRONMENT: &str = "production";
/// The App whose keys become variables, and the Deployment that gets them.
pub(crate) const CHECKOUT: &str = "checkout";
pub(crate) const API: &str = "api";
/// The variable.
pub(crate) const VARIABLE: &str = "API_TOKEN";
/// The App whose keys become files, and the Deployment that gets them.
pub(crate) const TLS: &str = "tls";
pub(crate) const WEB: &str = "web";
/// The file.
pub(crate) const FILE: &str = "tls.crt";
/// The only container.
pub(crate) const CONTAINER: &str = "main";

/// How many pods the Deployment with variables has.
const REPLICAS: u8 = 2;

/// The Deployment that prints its variable when it starts.
pub(crate) fn api(real: bool) -> Value {
    let script = format!("echo \"{VARIABLE}=${{{VARIABLE}-(not set)}}\"; exec sleep 2147483647");
    let mut api = if real { real_deployment(NAMESPACE, API, &script) } else { fake_deployment(API) };
    api["spec"]["replicas"] = json!(REPLICAS);
    api
}

/// The Deployment that reads a file.
pub(crate) fn web(real: bool) -> Value {
    if real { real_deployment(NAMESPACE, WEB, "exec sleep 2147483647") } else { fake_deployment(WEB) }
}

fn fake_deployment(name: &str) -> Value {
    let mut fake = deployment(NAMESPACE, name);
    let spec = &mut fake["spec"]["template"]["spec"];
    spec["containers"] = json!([{"name": CONTAINER, "image": "none"}]);
    if let Some(spec) = spec.as_object_mut() {
        spec.remove("initContainers");
    }
    fake
}

/// The App that gives variables.
pub(crate) fn checkout() -> Value {
    app(CHECKOUT, "EnvironmentVariables", &[environment(CHECKOUT, ENVIRONMENT, "Auto", &[link(NAMESPACE, API)])])
}

/// The App that gives files: under Manual nothing rolls, and the files follow all the same.
pub(crate) fn tls() -> Value {
    app(TLS, "VolumeMount", &[environment(TLS, ENVIRONMENT, "Manual", &[link(NAMESPACE, WEB)])])
}

/// A pod that is Ready and not about to end.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) restarts: i64,
    /// All of it.
    pub(crate) object: Value,
}

impl Pod {
    /// Reads a pod; `None` where it is not Ready, or about to end.
    pub(crate) fn ready(object: Value) -> Option<Self> {
        let conditions = object["status"]["conditions"].as_array()?;
        let ready = conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True");
        if !ready || !object["metadata"]["deletionTimestamp"].is_null() {
            return None;
        }
        let text = |key: &str| object["metadata"][key].as_str().map(str::to_owned);
        let restarts = object["status"]["containerStatuses"][0]["restartCount"].as_i64()?;
        Some(Self { name: text("name")?, uid: text("uid")?, restarts, object })
    }
}
