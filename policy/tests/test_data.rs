//! Runs `test_data/` through the shell: the same files that a user gives to `kwctl run` (see README.md).
//!
//! `UPDATE_RESPONSES=1 cargo test -p policy` writes the responses anew, for a reader to look at the difference.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use policy::{GetResourceRequest, validate, validate_settings};
use serde::Deserialize;
use serde_json::{Value, json};

/// One exchange as `kwctl run --record-host-capabilities-interactions` writes it.
#[derive(Deserialize)]
struct Exchange {
    /// YAML with the request's kind as its tag.
    request: String,
    response: Response,
}

#[derive(Deserialize)]
struct Response {
    #[serde(rename = "type")]
    kind: String,
    payload: Option<String>,
    message: Option<String>,
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("test_data");
    let mut cases: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

fn json_at(path: &Path) -> Result<Value> {
    let text = fs::read(path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&text).with_context(|| path.display().to_string())
}

fn exchanges(case: &Path) -> Result<VecDeque<Exchange>> {
    let path = case.join("exchanges.yml");
    if !path.exists() {
        return Ok(VecDeque::new());
    }
    serde_saphyr::from_str(&fs::read_to_string(&path)?).with_context(|| path.display().to_string())
}

/// Answers as kwctl replays: the recorded requests, in their order, and no other.
fn replay(recorded: &mut VecDeque<Exchange>, request: &GetResourceRequest) -> Result<Vec<u8>, String> {
    let exchange = recorded.pop_front().ok_or("the list of recorded responses is empty")?;
    let (tag, expected) = exchange.request.split_once('\n').ok_or("the recorded request is empty")?;
    assert_eq!(tag, "!KubernetesGetResource");
    let expected: Value = serde_saphyr::from_str(expected).map_err(|error| error.to_string())?;
    assert_eq!(json!(request), expected);
    match (exchange.response.kind.as_str(), exchange.response.payload, exchange.response.message) {
        ("Success", Some(payload), None) => Ok(payload.into_bytes()),
        // The host says that it is one, and so does wapc-guest.
        ("Error", None, Some(message)) => Err(format!("Host error: Callback evaluation failure: {message}")),
        (kind, ..) => panic!("a response of type {kind} with other fields"),
    }
}

fn run(case: &Path) -> Result<()> {
    let settings = case.join("settings.json");
    let settings = if settings.exists() { json_at(&settings)? } else { json!({}) };
    let payload = json!({"request": json_at(&case.join("request.json"))?, "settings": settings});
    let mut recorded = exchanges(case)?;
    let response = json!(validate(&serde_json::to_vec(&payload)?, |request| replay(&mut recorded, request)));
    ensure!(recorded.is_empty(), "an exchange was recorded that does not happen");
    let expected = case.join("response.json");
    if std::env::var_os("UPDATE_RESPONSES").is_some() {
        fs::write(&expected, serde_json::to_string_pretty(&response)? + "\n")?;
    }
    if response != json_at(&expected)? {
        bail!("answered {response:#}");
    }
    Ok(())
}

#[test]
fn every_recorded_request_gets_the_recorded_response() {
    for case in cases() {
        run(&case).with_context(|| format!("test_data/{}", case.file_name().unwrap().display())).unwrap();
    }
}

#[test]
fn settings_that_are_malformed_are_invalid_and_named() {
    assert_eq!(json!(validate_settings(b"{}")), json!({"valid": true, "message": null}));
    let response = validate_settings(br#"{"onMissing": "Accept"}"#);
    assert!(!response.valid);
    assert!(response.message.unwrap().contains("unknown field `onMissing`"));
    let response = validate_settings(b"{");
    assert!(response.message.unwrap().starts_with("the policy's settings are not JSON"));
}

#[test]
fn a_payload_that_cannot_be_read_is_a_refusal_and_no_guest_error() {
    let deep = format!("{{\"request\": {}1{}}}", "[".repeat(500), "]".repeat(500));
    for (payload, problem) in [
        ("{", "the admission request is not JSON that Scout can read"),
        ("[]", "Scout was asked about nothing: the payload has no request"),
        (deep.as_str(), "the admission request is not JSON that Scout can read: recursion limit exceeded"),
        (r#"{"request": 7}"#, "the admission request is not a JSON object"),
        (r#"{"request": {}, "settings": 7}"#, "the policy's settings are malformed: they are not an object"),
    ] {
        let response = validate(payload.as_bytes(), |_| panic!("nothing to read"));
        assert!(!response.accepted);
        assert_eq!(response.code, Some(400));
        assert!(response.message.as_ref().unwrap().starts_with(problem), "{response:?}");
    }
}

#[test]
fn an_answer_of_the_host_that_is_no_json_counts_as_no_desired_state() {
    let request = json_at(&cases()[0].join("request.json")).unwrap();
    let payload = json!({"request": request}).to_string();
    let response = validate(payload.as_bytes(), |_| Ok(b"<html>".to_vec()));
    assert!(response.message.unwrap().contains("the host answered with something else"));
}

#[test]
fn the_metadata_asks_for_what_the_shell_calls_and_nothing_more() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("metadata.yml");
    let metadata: Value = serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(metadata["contextAwareResources"], json!([{"apiVersion": "v1", "kind": "ConfigMap"}]));
    assert_eq!(metadata["hostCapabilities"], json!(["kubernetes/get_resource"]));
    assert_eq!(metadata["mutating"], true);
    assert_eq!(metadata["backgroundAudit"], false);
    assert_eq!(metadata["annotations"]["io.kubewarden.policy.version"], env!("CARGO_PKG_VERSION"));
}
