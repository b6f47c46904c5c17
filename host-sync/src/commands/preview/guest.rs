//! The policy's module at work: waPC on wasmtime, as policy-server runs it, a fresh instance for each request.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use serde::Deserialize;
use serde_json::{Value, json};
use wapc::WapcHost;
use wasmtime_provider::wasmtime::{Engine, Module};
use wasmtime_provider::{WasmtimeEngineProviderBuilder, WasmtimeEngineProviderPre};

use super::Verdict;

type Answer = Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>>;

/// A compiled policy, and the ConfigMaps that it may read, by name.
pub(super) struct Guest {
    module: WasmtimeEngineProviderPre,
    states: Arc<BTreeMap<String, Value>>,
}

/// What a guest answers: `ValidationResponse` of kubewarden-policy-sdk.
#[derive(Deserialize)]
struct Response {
    accepted: bool,
    message: Option<String>,
    warnings: Option<Vec<String>>,
    mutated_object: Option<Value>,
}

/// What a guest asks for: `GetResourceRequest` of kubewarden-policy-sdk.
#[derive(Deserialize)]
struct GetResource {
    name: String,
    namespace: Option<String>,
}

impl Guest {
    /// Compiles a module.
    pub(super) fn load(module: &[u8], states: BTreeMap<String, Value>) -> Result<Self> {
        let engine = Engine::default();
        let compiled = Module::new(&engine, module).map_err(|error| anyhow!("compiling it: {error:#}"))?;
        let module =
            WasmtimeEngineProviderBuilder::new().engine(engine).module(compiled).build_pre().context("linking it")?;
        Ok(Self { module, states: Arc::new(states) })
    }

    /// Asks about one admission request.
    pub(super) fn review(&self, request: &Value, settings: &Value) -> Result<Verdict> {
        let payload = json!({"request": request, "settings": settings});
        let payload = serde_json::to_vec(&payload).context("writing the request")?;
        let engine = self.module.rehydrate(None).context("instantiating the policy")?;
        let states = Arc::clone(&self.states);
        let callback = move |_id: u64, binding: &str, namespace: &str, operation: &str, payload: &[u8]| {
            answer(&states, (binding, namespace, operation), payload)
        };
        let host = WapcHost::new(Box::new(engine), Some(Box::new(callback))).context("starting the policy")?;
        let answer = host.call("validate", &payload).map_err(|error| anyhow!("the policy failed: {error}"))?;
        let response: Response = serde_json::from_slice(&answer).context("the policy answered with something else")?;
        Ok(Verdict {
            accepted: response.accepted,
            message: response.message,
            warnings: response.warnings.unwrap_or_default(),
            mutated: response.mutated_object.filter(|mutated| request.get("object") != Some(mutated)),
        })
    }
}

fn answer(states: &BTreeMap<String, Value>, call: (&str, &str, &str), payload: &[u8]) -> Answer {
    match call {
        ("kubewarden", "tracing", _) => Ok(Vec::new()),
        ("kubewarden", "kubernetes", "get_resource") => {
            let GetResource { name, namespace } = serde_json::from_slice(payload)?;
            let state = states.get(&name).ok_or_else(|| {
                format!(
                    "Cannot find v1/ConfigMap named '{name}' inside of namespace '{}'",
                    namespace.unwrap_or_default()
                )
            })?;
            Ok(serde_json::to_vec(state)?)
        }
        (binding, namespace, operation) => {
            Err(format!("a preview answers no host call {binding}/{namespace}/{operation}").into())
        }
    }
}
