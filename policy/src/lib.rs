//! Scout's Kubewarden policy: the waPC shell around policy-core.
//!
//! Only glue: bytes to JSON, one call to the host where [`Review::triage`] asks for it, a verdict to bytes. A guest error
//! would be a rejection that `failurePolicy: Ignore` does not soften and whose text nobody chose, so nothing here fails:
//! every outcome is a response with a sentence.

use kubewarden_policy_sdk::protocol_version_guest;
use kubewarden_policy_sdk::response::ValidationResponse;
use kubewarden_policy_sdk::settings::SettingsValidationResponse;
use policy_core::{Review, Settings, StateRead, Triage, Verdict};
use serde::Serialize;
use serde_json::Value;
use wapc_guest::{CallResult, host_call, register_function};

/// What a host must answer: `kubewarden/kubernetes/get_resource`.
///
/// The SDK has this type only together with all of k8s-openapi, which a policy on raw JSON has no use for.
/// Source: `GetResourceRequest` of kubewarden-policy-sdk 0.17.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GetResourceRequest {
    /// Exactly as `contextAwareResources` names it.
    pub api_version: &'static str,
    /// Exactly as `contextAwareResources` names it.
    pub kind: &'static str,
    /// The object's name.
    pub name: String,
    /// The object's namespace.
    pub namespace: Option<String>,
    /// Whether to read past the host's cache, which is up to 5 s old.
    pub disable_cache: bool,
    /// The fields to answer with; `None` means all.
    pub field_masks: Option<Vec<String>>,
}

/// The status code of a refusal: the request, not the server, is what has to change.
const REFUSED: u16 = 400;

/// Registers what a Kubewarden host calls.
// The host finds the function by this name; nothing else is unsafe about exporting it.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
pub extern "C" fn wapc_init() {
    register_function("validate", |payload| respond(&validate(payload, get_resource)));
    register_function("validate_settings", |payload| respond(&validate_settings(payload)));
    register_function("protocol_version", protocol_version_guest);
}

fn respond(response: &impl Serialize) -> CallResult {
    Ok(serde_json::to_vec(response)?)
}

fn get_resource(request: &GetResourceRequest) -> Result<Vec<u8>, String> {
    let payload = serde_json::to_vec(request).map_err(|error| error.to_string())?;
    host_call("kubewarden", "kubernetes", "get_resource", &payload).map_err(|error| error.to_string())
}

/// Answers the payload of `validate`, an object with `request` and `settings`, with at most one call of `get_resource`.
pub fn validate(
    payload: &[u8],
    get_resource: impl FnOnce(&GetResourceRequest) -> Result<Vec<u8>, String>,
) -> ValidationResponse {
    let verdict = decide(payload, get_resource).unwrap_or_else(|message| Verdict::Reject { message });
    response(verdict)
}

/// The verdict, or why the payload itself cannot be worked with.
fn decide(
    payload: &[u8],
    get_resource: impl FnOnce(&GetResourceRequest) -> Result<Vec<u8>, String>,
) -> Result<Verdict, String> {
    let payload: Value = serde_json::from_slice(payload)
        .map_err(|error| format!("the admission request is not JSON that Scout can read: {error}"))?;
    let settings = Settings::parse(payload.get("settings").unwrap_or(&Value::Null))?;
    let request = payload.get("request").ok_or("Scout was asked about nothing: the payload has no request")?;
    let review = Review::parse(request)?;
    let (namespace, name) = match review.triage(&settings) {
        Triage::Decided(verdict) => return Ok(verdict),
        Triage::NeedsState { namespace, name } => (namespace, name),
    };
    let answer = get_resource(&GetResourceRequest {
        api_version: "v1",
        kind: "ConfigMap",
        name,
        namespace: Some(namespace),
        disable_cache: true,
        field_masks: None,
    });
    let state = answer.and_then(|bytes| {
        serde_json::from_slice(&bytes).map_err(|error| format!("the host answered with something else: {error}"))
    });
    Ok(review.decide(&settings, state.map_or_else(StateRead::Unavailable, StateRead::Found)))
}

fn response(verdict: Verdict) -> ValidationResponse {
    let (accepted, mutated_object, message, warnings) = match verdict {
        Verdict::Accept { warnings } => (true, None, None, warnings),
        Verdict::Mutate { object, warnings } => (true, Some(object), None, warnings),
        Verdict::Reject { message } => (false, None, Some(message), Vec::new()),
    };
    ValidationResponse {
        accepted,
        mutated_object,
        code: message.is_some().then_some(REFUSED),
        message,
        audit_annotations: None,
        warnings: (!warnings.is_empty()).then_some(warnings),
    }
}

/// Answers the payload of `validate_settings`: the settings as a `ClusterAdmissionPolicy` carries them.
pub fn validate_settings(payload: &[u8]) -> SettingsValidationResponse {
    let settings = serde_json::from_slice(payload)
        .map_err(|error| format!("the policy's settings are not JSON: {error}"))
        .and_then(|settings| Settings::parse(&settings));
    SettingsValidationResponse { valid: settings.is_ok(), message: settings.err() }
}
