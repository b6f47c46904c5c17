//! The API server's own record of who did what.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde::Deserialize;
use serde_json::Value;

/// Everybody's every request; what writes say is recorded too, but never a Secret's or a token's content.
pub(super) const POLICY: &str = r#"apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  resources:
  - group: ""
    resources: [secrets, serviceaccounts/token]
  - group: authentication.k8s.io
- level: Request
  verbs: [create, update, patch, delete, deletecollection]
- level: Metadata
"#;

/// One request that the API server answered.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEvent {
    /// `ResponseComplete`; for a watch also `ResponseStarted`; `Panic` where the server failed.
    pub stage: String,
    /// The Kubernetes verb: `create`, `patch`, `watch`...
    pub verb: String,
    /// Who asked.
    pub user: AuditUser,
    /// What the client calls itself.
    #[serde(default)]
    pub user_agent: String,
    /// Path and query.
    #[serde(rename = "requestURI")]
    pub request_uri: String,
    /// What the request was about; absent for `/readyz` and the like.
    #[serde(default)]
    pub object_ref: AuditObject,
    /// How it was answered; absent while a watch runs.
    #[serde(default)]
    pub response_status: AuditStatus,
    /// The body of a write, Secrets and tokens excepted.
    pub request_object: Option<Value>,
    /// When the request arrived.
    pub request_received_timestamp: MicroTime,
    /// When this stage was reached.
    pub stage_timestamp: MicroTime,
}

/// Who made a request.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct AuditUser {
    /// The user or service account.
    pub username: String,
    /// Its groups.
    pub groups: Vec<String>,
}

/// What a request was about; empty strings where the request has no such part.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AuditObject {
    /// The plural resource.
    pub resource: String,
    /// The namespace.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// `status`, `scale`...
    pub subresource: String,
    /// The API group; empty for the core group.
    pub api_group: String,
}

/// How a request was answered.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct AuditStatus {
    /// The HTTP status; 0 while a watch runs.
    pub code: u16,
}

impl AuditEvent {
    /// Whether the request could change something.
    pub fn is_write(&self) -> bool {
        matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection")
    }
}

/// The events recorded so far; the log is written before a request is answered, so a caller sees its own requests.
pub(super) fn read(log: &Path) -> Result<Vec<AuditEvent>> {
    let text = fs::read_to_string(log).with_context(|| format!("reading the audit log {}", log.display()))?;
    // The last line may be half written yet.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("reading the audit event {line}")))
        .collect()
}
