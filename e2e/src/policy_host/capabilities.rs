//! What a guest may call of its host.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::runtime::Handle;

use super::metadata::Metadata;
use super::resources::{GetResource, Resources};

/// What a host call comes to: a payload, or a text for the guest.
type Answer = Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>>;

/// Answers the host calls of one policy.
pub(super) struct Capabilities {
    policy: String,
    metadata: Metadata,
    resources: Resources,
    runtime: Handle,
    calls: AtomicU64,
}

impl Capabilities {
    /// Must be called within a runtime: the reads run there while the guest's thread waits.
    pub(super) fn new(policy: String, metadata: Metadata, client: kube::Client) -> Arc<Self> {
        let (resources, runtime) = (Resources::new(client), Handle::current());
        Arc::new(Self { policy, metadata, resources, runtime, calls: AtomicU64::new(0) })
    }

    /// How many host calls the guests made, log lines apart.
    pub(super) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// How many of the calls reached the API server.
    pub(super) fn reads(&self) -> u64 {
        self.resources.reads()
    }

    /// Answers one call, with the texts of policy-server; blocks, so never on an async thread.
    pub(super) fn answer(&self, binding: &str, namespace: &str, operation: &str, payload: &[u8]) -> Answer {
        if binding != "kubewarden" {
            return Err(format!("unknown binding: {binding}").into());
        }
        if namespace == "tracing" {
            return self.log(operation, payload);
        }
        self.calls.fetch_add(1, Ordering::Relaxed);
        let capability = format!("{namespace}/{operation}");
        if !self.metadata.may_call(&capability) {
            return Err(format!(
                "Policy has not been granted access to the '{capability}' host capability. The violation has been reported."
            )
            .into());
        }
        match (namespace, operation) {
            ("kubernetes", "get_resource") => self.get_resource(payload),
            ("kubernetes", _) => Err(format!("unknown operation: {operation}").into()),
            _ => Err(format!("unknown namespace: {namespace}").into()),
        }
    }

    fn get_resource(&self, payload: &[u8]) -> Answer {
        let request: GetResource = serde_json::from_slice(payload)?;
        let GetResource { api_version, kind, .. } = &request;
        if !self.metadata.may_read(api_version, kind) {
            return Err(format!(
                "Policy has not been granted access to Kubernetes {api_version}/{kind} resources. The violation has been reported."
            )
            .into());
        }
        let object = self.runtime.block_on(self.resources.get(&request));
        object.map_err(|error| format!("Callback evaluation failure: {}", with_causes(&error)).into())
    }

    fn log(&self, operation: &str, payload: &[u8]) -> Answer {
        if operation != "log" {
            return Err(format!("unknown operation: {operation}").into());
        }
        tracing::debug!(policy = self.policy, "{}", String::from_utf8_lossy(payload));
        Ok(Vec::new())
    }
}

/// The debug form, as policy-server has it, whose environment asks for no backtraces whatever this process's own does.
fn with_causes(error: &anyhow::Error) -> String {
    let text = format!("{error:?}");
    text.split_once("\n\nStack backtrace:").map_or_else(|| text.clone(), |(causes, _)| causes.to_owned())
}
