//! The WebAssembly module: compiled once, instantiated anew for every call.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;
use serde_json::Value;
use wapc::WapcHost;
use wasmtime_provider::wasmtime::{Config, Engine, Module};
use wasmtime_provider::{EpochDeadlines, WasmtimeEngineProviderBuilder, WasmtimeEngineProviderPre};

use super::capabilities::Capabilities;

/// How often the engine's epoch advances.
const TICK: Duration = Duration::from_secs(1);

/// How many ticks a guest may see before it is cut off: policy-server's default timeout of 2 s.
const DEADLINE: u64 = 2;

/// What became of one call that an instance was ready for.
pub(super) enum Outcome {
    /// The guest's answer.
    Answer(Vec<u8>),
    /// It trapped, returned an error, or was cut off.
    Failure(String),
}

/// A compiled policy.
pub(super) struct Guest {
    module: WasmtimeEngineProviderPre,
    capabilities: Arc<Capabilities>,
}

/// What the guest says of its settings.
#[derive(Deserialize)]
struct SettingsValidation {
    valid: bool,
    message: Option<String>,
}

impl Guest {
    /// Compiles a module; takes seconds in an unoptimised build.
    pub(super) fn compile(module: &[u8], capabilities: Arc<Capabilities>) -> Result<Self> {
        let mut config = Config::new();
        config.epoch_interruption(true);
        let engine = Engine::new(&config).map_err(|error| anyhow!("configuring wasmtime: {error:#}"))?;
        let compiled = Module::new(&engine, module).map_err(|error| anyhow!("compiling the policy: {error:#}"))?;
        let deadlines = EpochDeadlines { wapc_init: DEADLINE, wapc_func: DEADLINE };
        let module = WasmtimeEngineProviderBuilder::new()
            .engine(engine.clone())
            .module(compiled)
            .enable_epoch_interruptions(deadlines)
            .build_pre()
            .context("linking the policy")?;
        tick(&engine)?;
        Ok(Self { module, capabilities })
    }

    /// Calls an operation in a fresh instance, which is then gone; blocks. An error means that no instance could be made.
    pub(super) fn call(&self, operation: &str, payload: &[u8]) -> Result<Outcome> {
        let deadlines = EpochDeadlines { wapc_init: DEADLINE, wapc_func: DEADLINE };
        let engine = self.module.rehydrate(Some(deadlines)).context("instantiating the policy")?;
        let capabilities = Arc::clone(&self.capabilities);
        let callback = move |_id: u64, binding: &str, namespace: &str, operation: &str, payload: &[u8]| {
            capabilities.answer(binding, namespace, operation, payload)
        };
        let host = WapcHost::new(Box::new(engine), Some(Box::new(callback))).context("starting the policy")?;
        Ok(match host.call(operation, payload) {
            Ok(answer) => Outcome::Answer(answer),
            Err(error) => Outcome::Failure(error.to_string()),
        })
    }

    /// Asks the guest whether it understands its settings; blocks.
    pub(super) fn check_settings(&self, settings: &Value) -> Result<()> {
        let payload = serde_json::to_vec(settings).context("writing the policy's settings")?;
        let answer = match self.call("validate_settings", &payload)? {
            Outcome::Answer(answer) => answer,
            Outcome::Failure(error) => {
                bail!("Policy settings are invalid: Error invoking settings validation callback: {error}")
            }
        };
        let validation: SettingsValidation = serde_json::from_slice(&answer)
            .map_err(|error| anyhow!("Policy settings are invalid: error: invalid response from policy: {error}"))?;
        if !validation.valid {
            bail!("Policy settings are invalid: {}", validation.message.as_deref().unwrap_or("no message"));
        }
        Ok(())
    }
}

/// Advances the engine's epoch for as long as the engine lives.
fn tick(engine: &Engine) -> Result<()> {
    let engine = engine.weak();
    let tick = move || {
        loop {
            thread::sleep(TICK);
            let Some(engine) = engine.upgrade() else { return };
            engine.increment_epoch();
        }
    };
    // A thread of its own: a busy runtime would let a guest run on.
    thread::Builder::new().name("policy-epoch".to_owned()).spawn(tick).context("starting the epoch's ticker")?;
    Ok(())
}
