//! A preview for people and for programs.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};
use anyhow::Result;
use serde_json::Value;
use similar::TextDiff;

use super::{Reviewed, namespace_of, subject};
use crate::commands::output::{BAD, DIM, GOOD, HEADING, WAITS, paint, yaml as write_yaml};

/// Where in a diff one is.
const PLACE: Style = AnsiColor::Cyan.on_default();

/// What is said beside the result.
pub(super) fn remarks(reviewed: &Reviewed, default_namespace: &str) -> Vec<String> {
    let Reviewed { document, verdict, note } = reviewed;
    let subject = subject(document, &namespace_of(document, default_namespace));
    let mut remarks = Vec::new();
    if let Some(note) = note {
        remarks.push(paint(DIM, &format!("{subject}: unchanged: {note}")));
    }
    let Some(verdict) = verdict else { return remarks };
    for warning in &verdict.warnings {
        remarks.push(format!("{} {subject}: {warning}", paint(WAITS, "warning:")));
    }
    if !verdict.accepted {
        let message = verdict.message.as_deref().unwrap_or("the policy says no more");
        remarks.push(format!("{} {subject} ({}): {message}", paint(BAD, "rejected:"), document.source));
    } else if verdict.mutated.is_none() {
        remarks.push(paint(DIM, &format!("{subject}: accepted as it is")));
    }
    remarks
}

/// The changes, as one unified diff.
pub(super) fn diff(reviewed: &[Reviewed], default_namespace: &str) -> Result<String> {
    let mut text = String::new();
    for one in reviewed {
        let Some(mutated) = one.verdict.as_ref().and_then(|verdict| verdict.mutated.as_ref()) else { continue };
        let subject = subject(&one.document, &namespace_of(&one.document, default_namespace));
        text.push_str(&unified(&subject, &one.document.source, &one.document.value, mutated)?);
    }
    Ok(text)
}

fn unified(subject: &str, source: &str, before: &Value, after: &Value) -> Result<String> {
    let (before, after) = (write_yaml(before)?, write_yaml(after)?);
    let diff = TextDiff::from_lines(&before, &after);
    let plain = diff
        .unified_diff()
        .context_radius(3)
        .header(&format!("{subject} ({source})"), &format!("{subject} (admitted)"))
        .to_string();
    let mut text = String::new();
    for line in plain.lines() {
        let style = match line.as_bytes() {
            [b'+', b'+', b'+', ..] | [b'-', b'-', b'-', ..] => HEADING,
            [b'@', ..] => PLACE,
            [b'+', ..] => GOOD,
            [b'-', ..] => BAD,
            _ => Style::new(),
        };
        let _ = writeln!(text, "{}", paint(style, line));
    }
    Ok(text)
}

/// Every object as it would be admitted.
pub(super) fn yaml(reviewed: &[Reviewed]) -> Result<String> {
    let mut text = String::new();
    for one in reviewed {
        let mutated = one.verdict.as_ref().and_then(|verdict| verdict.mutated.as_ref());
        let _ = write!(text, "---\n{}", write_yaml(mutated.unwrap_or(&one.document.value))?);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_diff_says_what_it_is_of_and_shows_only_what_changes() {
        let before = json!({"kind": "Deployment", "spec": {"a": 1, "b": 2}});
        let mut after = before.clone();
        after["spec"]["c"] = json!("new");
        let text = unified("Deployment shop/api", "deploy.yaml", &before, &after).unwrap();
        assert_eq!(
            anstream::adapter::strip_str(&text).to_string(),
            "--- Deployment shop/api (deploy.yaml)\n+++ Deployment shop/api (admitted)\n@@ -2,3 +2,4 @@\n spec:\n   a: 1\n   b: 2\n+  c: new\n"
        );
        assert!(text.contains("\u{1b}[32m+  c: new"), "{text:?}");
    }
}
