//! What the policy would make of a manifest, computed where the manifest is: in the browser. The same policy-core decides
//! as in the cluster, with the desired state that host-sync's dashboard hands out (names, keys and revisions).

mod yaml;

use policy_core::{Review, Settings, StateRead, Triage, Verdict};
use serde::Serialize;
use serde_json::{Value, json};
use similar::{ChangeTag, TextDiff};
use wasm_bindgen::prelude::wasm_bindgen;

/// What came of one document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Previewed {
    /// `Deployment api`, or what there is of it.
    pub subject: String,
    /// What the policy does.
    pub outcome: Outcome,
    /// Its warnings, or why it refuses.
    pub messages: Vec<String>,
    /// The document before and after, line by line; empty where nothing changes.
    pub diff: Vec<DiffLine>,
}

/// What the policy does with a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// It lets it pass.
    Unchanged,
    /// It lets it pass, changed.
    Changed,
    /// It refuses.
    Refused,
}

/// One line of a diff.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DiffLine {
    /// `same`, `added` or `removed`.
    pub kind: &'static str,
    /// The line, without its end.
    pub text: String,
}

/// Previews every document of a YAML or JSON text as if it were created in `namespace` now. `state` is that namespace's
/// desired-state ConfigMap as JSON. Returns `{"documents": [...]}` or `{"error": "..."}` as JSON.
#[wasm_bindgen]
pub fn preview(manifest: &str, namespace: &str, state: &str) -> String {
    let answer = match previews(manifest, namespace, state) {
        Ok(documents) => json!({"documents": documents}),
        Err(error) => json!({"error": error}),
    };
    answer.to_string()
}

/// The same, typed.
pub fn previews(manifest: &str, namespace: &str, state: &str) -> Result<Vec<Previewed>, String> {
    let state: Value =
        serde_json::from_str(state).map_err(|error| format!("the desired state is not JSON: {error}"))?;
    let documents: Vec<Value> = yaml::read(manifest)?.into_iter().filter(|document| !document.is_null()).collect();
    if documents.is_empty() {
        return Err("paste a manifest: there is no document in this".to_owned());
    }
    documents.iter().map(|document| one(document, namespace, &state)).collect()
}

fn text<'a>(document: &'a Value, pointer: &str) -> &'a str {
    document.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn one(document: &Value, namespace: &str, state: &Value) -> Result<Previewed, String> {
    let (kind, name) = (text(document, "/kind"), text(document, "/metadata/name"));
    if kind.is_empty() {
        return Err("this is no Kubernetes manifest: it names no kind".to_owned());
    }
    let subject = format!("{kind} {name}").trim_end().to_owned();
    let own = text(document, "/metadata/namespace");
    if !own.is_empty() && own != namespace {
        let message = format!("it names namespace {own}: choose that one to preview it");
        return Ok(Previewed { subject, outcome: Outcome::Unchanged, messages: vec![message], diff: Vec::new() });
    }
    let (group, version) =
        text(document, "/apiVersion").rsplit_once('/').unwrap_or(("", text(document, "/apiVersion")));
    let request = json!({
        "operation": "CREATE", "namespace": namespace, "name": name, "object": document,
        "kind": {"group": group, "version": version, "kind": kind},
    });
    let settings = Settings::default();
    let verdict = match Review::parse(&request) {
        Err(message) => Verdict::Reject { message },
        Ok(review) => match review.triage(&settings) {
            Triage::Decided(verdict) => verdict,
            Triage::NeedsState { .. } => review.decide(&settings, StateRead::Found(state.clone())),
        },
    };
    Ok(match verdict {
        Verdict::Accept { warnings } => {
            Previewed { subject, outcome: Outcome::Unchanged, messages: warnings, diff: Vec::new() }
        }
        Verdict::Mutate { object, warnings } => {
            Previewed { subject, outcome: Outcome::Changed, messages: warnings, diff: diff(document, &object) }
        }
        Verdict::Reject { message } => {
            Previewed { subject, outcome: Outcome::Refused, messages: vec![message], diff: Vec::new() }
        }
    })
}

/// The YAML of both, compared line by line.
fn diff(before: &Value, after: &Value) -> Vec<DiffLine> {
    let (before, after) = (yaml::write(before), yaml::write(after));
    let diff = TextDiff::from_lines(&before, &after);
    let lines = diff.iter_all_changes().map(|change| DiffLine {
        kind: match change.tag() {
            ChangeTag::Equal => "same",
            ChangeTag::Insert => "added",
            ChangeTag::Delete => "removed",
        },
        text: change.value().trim_end_matches('\n').to_owned(),
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: api}
spec:
  selector: {matchLabels: {app: api}}
  template:
    metadata: {labels: {app: api}}
    spec:
      containers:
      - name: main
        image: shop/api:1
---
apiVersion: v1
kind: Service
metadata: {name: api}
";

    fn state() -> String {
        let entry = json!({
            "apply": "Immediately", "environment": "production",
            "injection": {"kind": "EnvironmentVariables", "secret": "scout.checkout.b2", "variables": {"TOKEN": "TOKEN"}},
            "links": [{"kind": "Deployment", "name": "api"}], "revision": "b2",
        });
        let meta = json!({"environment": "production", "namespace": "shop", "schema": 1});
        let app = policy_core::names::AppName::parse("checkout").unwrap();
        let text = json!({"data": {"meta": meta.to_string(), (app.as_str()): entry.to_string()}});
        text.to_string()
    }

    #[test]
    fn a_linked_deployment_gains_its_variables_and_loses_nothing() {
        let previewed = previews(MANIFEST, "shop", &state()).unwrap();
        assert_eq!(previewed[0].outcome, Outcome::Changed, "{:?}", previewed[0].messages);
        assert!(previewed[0].diff.iter().any(|line| line.kind == "added" && line.text.contains("secretKeyRef")));
        assert!(previewed[0].diff.iter().all(|line| line.kind != "removed"), "{:?}", previewed[0].diff);
        assert_eq!((previewed[1].subject.as_str(), previewed[1].outcome), ("Service api", Outcome::Unchanged));
    }

    #[test]
    fn what_the_policy_refuses_is_refused_in_its_words() {
        let wrong = MANIFEST
            .replace("{name: api}\nspec", "{name: api, annotations: {scout.commandk.dev/mutation-mode: wrong}}\nspec");
        let previewed = previews(&wrong, "shop", &state()).unwrap();
        assert_eq!(previewed[0].outcome, Outcome::Refused);
        assert!(previewed[0].messages[0].contains("ignore-and-detach"));
    }

    #[test]
    fn a_manifest_of_another_namespace_says_which() {
        let other = MANIFEST.replacen("{name: api}", "{name: api, namespace: west}", 1);
        assert!(previews(&other, "shop", &state()).unwrap()[0].messages[0].contains("namespace west"));
    }

    #[test]
    fn what_is_no_manifest_is_said_to_be_none() {
        assert!(preview("a: [", "shop", "{}").contains("this is not YAML"));
        assert!(preview("", "shop", "{}").contains("paste a manifest"));
        assert!(preview("a: 1", "shop", "{}").contains("names no kind"));
    }
}
