//! `AdmissionReview` v1: from a request to the guest's words and back.
//!
//! The types keep what policy-server's own keep: a field that it does not know does not reach the guest either.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What the API server posts.
#[derive(Debug, Deserialize)]
pub(super) struct AdmissionReview {
    pub(super) request: AdmissionRequest,
}

/// The `request` of an `AdmissionReview`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AdmissionRequest {
    uid: String,
    kind: GroupVersionKind,
    resource: GroupVersionResource,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub_resource: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_kind: Option<GroupVersionKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_resource: Option<GroupVersionResource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_sub_resource: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    operation: String,
    user_info: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    old_object: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dry_run: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    options: Option<Value>,
}

#[derive(Debug, Serialize, Deserialize)]
struct GroupVersionKind {
    group: String,
    version: String,
    kind: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct GroupVersionResource {
    group: String,
    version: String,
    resource: String,
}

/// What the guest answers: `ValidationResponse` of kubewarden-policy-sdk.
#[derive(Debug, Deserialize)]
pub(super) struct ValidationResponse {
    accepted: bool,
    message: Option<String>,
    code: Option<u16>,
    mutated_object: Option<Value>,
    audit_annotations: Option<BTreeMap<String, String>>,
    warnings: Option<Vec<String>>,
}

/// The `response` of an `AdmissionReview`.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AdmissionResponse {
    uid: String,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    audit_annotations: Option<BTreeMap<String, String>>,
    warnings: Option<Vec<String>>,
}

#[derive(Debug, Serialize)]
struct Status {
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
}

impl AdmissionRequest {
    /// The payload of the guest's `validate`.
    pub(super) fn payload(&self, settings: &Value) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&json!({"request": self, "settings": settings}))
    }

    /// For the log.
    pub(super) fn describe(&self) -> String {
        let Self { operation, kind, name, namespace, .. } = self;
        let (name, namespace) = (name.as_deref().unwrap_or_default(), namespace.as_deref().unwrap_or_default());
        format!("{operation} {} {namespace}/{name}", kind.kind)
    }
}

impl AdmissionResponse {
    /// The refusal that stands for a failed guest.
    pub(super) fn internal_error(request: &AdmissionRequest, message: impl std::fmt::Display) -> Self {
        let message = Some(format!("internal server error: {message}"));
        Self::refused(request, Status { message, code: Some(500) })
    }

    fn refused(request: &AdmissionRequest, status: Status) -> Self {
        Self { uid: request.uid.clone(), status: Some(status), ..Self::default() }
    }

    /// Puts the guest's answer into the API server's words: a changed object becomes a patch.
    pub(super) fn from_guest(request: &AdmissionRequest, answer: &[u8]) -> Self {
        let answer: ValidationResponse = match serde_json::from_slice(answer) {
            Ok(answer) => answer,
            Err(error) => return Self::internal_error(request, format!("invalid response from policy: {error}")),
        };
        let patch = match (&request.object, &answer.mutated_object) {
            (None, Some(_)) => {
                let message = "Incoming object is null, which happens only with DELETE operations, but the policy is \
                               attempting a mutation. This is not allowed";
                return Self::refused(request, Status { message: Some(message.to_owned()), code: None });
            }
            (_, None) => None,
            (Some(object), Some(mutated)) => match encoded_patch(object, mutated) {
                Ok(patch) => patch,
                Err(error) => return Self::internal_error(request, format!("cannot serialize JSONPatch: {error}")),
            },
        };
        let explained = answer.message.is_some() || answer.code.is_some();
        Self {
            uid: request.uid.clone(),
            allowed: answer.accepted,
            patch_type: patch.is_some().then_some("JSONPatch"),
            patch,
            status: explained.then_some(Status { message: answer.message, code: answer.code }),
            audit_annotations: answer.audit_annotations,
            warnings: answer.warnings,
        }
    }

    /// Refuses a patch of a policy that may not write one.
    pub(super) fn without_mutation(self, policy: &str) -> Self {
        if self.patch.is_none() {
            return self;
        }
        let message = format!(
            "Request rejected by policy {policy}. The policy attempted to mutate the request, but it is currently \
             configured to not allow mutations."
        );
        let status = Some(Status { message: Some(message), code: None });
        Self { allowed: false, status, patch: None, patch_type: None, ..self }
    }

    /// For the log; the patch is not for it.
    pub(super) fn describe(&self) -> String {
        let verdict = match (self.allowed, &self.patch) {
            (false, _) => "refused",
            (true, None) => "accepted",
            (true, Some(_)) => "mutated",
        };
        let message = self.status.as_ref().and_then(|status| status.message.as_deref());
        message.map_or_else(|| verdict.to_owned(), |message| format!("{verdict}: {message}"))
    }

    /// The whole `AdmissionReview`.
    pub(super) fn into_review(self) -> Value {
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": self})
    }
}

/// The JSON patch in base64, or `None` where nothing changed.
fn encoded_patch(object: &Value, mutated: &Value) -> serde_json::Result<Option<String>> {
    let patch = json_patch::diff(object, mutated);
    if patch.0.is_empty() { Ok(None) } else { serde_json::to_vec(&patch).map(|patch| Some(STANDARD.encode(patch))) }
}
