//! Kubernetes label selectors, with Kubernetes' own meaning.
//!
//! Source: `k8s.io/apimachinery/pkg/labels` (a requirement `NotIn` also holds where the label is absent).

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use crate::fields::{Fields, text, unknown_choice};

/// The labels of an object.
pub type Labels = BTreeMap<String, String>;

/// A label selector; every requirement must hold, and an empty selector matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Selector {
    /// Requirements beyond equality.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<Requirement>,
    /// Labels that must have exactly these values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: Labels,
}

/// One requirement on one label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// How the label's value is compared.
    pub operator: Operator,
    /// The values of `In` and `NotIn`; empty for the others.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub values: BTreeSet<String>,
}

/// How a requirement compares a label's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Operator {
    /// The label exists, with one of the values.
    In,
    /// The label is absent, or has none of the values.
    NotIn,
    /// The label exists.
    Exists,
    /// The label is absent.
    DoesNotExist,
}

impl Selector {
    pub(crate) fn read(json: &Value) -> Result<Self, String> {
        let fields = Fields::strict(json, &["matchExpressions", "matchLabels"])?;
        let mut match_expressions = Vec::new();
        for requirement in fields.list("matchExpressions")? {
            match_expressions.push(Requirement::read(requirement)?);
        }
        Ok(Self { match_expressions, match_labels: fields.texts("matchLabels")? })
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|requirement| requirement.matches(labels))
    }
}

impl Requirement {
    fn read(json: &Value) -> Result<Self, String> {
        let fields = Fields::strict(json, &["key", "operator", "values"])?;
        let operator = match fields.text("operator")? {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            other => return Err(unknown_choice("operator", other, "In, NotIn, Exists or DoesNotExist")),
        };
        let mut values = BTreeSet::new();
        for value in fields.list("values")? {
            values.insert(text(value, "values")?.to_owned());
        }
        Ok(Self { key: fields.text("key")?.to_owned(), operator, values })
    }

    fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            Operator::In => value.is_some_and(|value| self.values.contains(value)),
            Operator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selects(selector: &str, labels: &[(&str, &str)]) -> bool {
        let selector = Selector::read(&serde_json::from_str(selector).unwrap()).unwrap();
        selector.matches(&labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn an_empty_selector_matches_everything() {
        assert!(selects("{}", &[]));
    }

    #[test]
    fn every_requirement_must_hold() {
        let selector = r#"{"matchLabels":{"tier":"web"},"matchExpressions":[{"key":"track","operator":"NotIn","values":["canary"]}]}"#;
        assert!(selects(selector, &[("tier", "web")]), "an absent label is not in any list");
        assert!(!selects(selector, &[("tier", "web"), ("track", "canary")]));
        assert!(!selects(selector, &[("track", "stable")]));
    }

    #[test]
    fn existence_is_about_the_key() {
        assert!(selects(r#"{"matchExpressions":[{"key":"a","operator":"Exists"}]}"#, &[("a", "")]));
        assert!(!selects(r#"{"matchExpressions":[{"key":"a","operator":"DoesNotExist"}]}"#, &[("a", "")]));
        assert!(selects(r#"{"matchExpressions":[{"key":"a","operator":"In","values":["x"]}]}"#, &[("a", "x")]));
        assert!(!selects(r#"{"matchExpressions":[{"key":"a","operator":"In","values":["x"]}]}"#, &[]));
    }
    #[test]
    fn a_selector_that_kubernetes_would_not_take_is_refused() {
        for (selector, problem) in [
            (r#"{"matchLabel":{}}"#, "unknown field `matchLabel`"),
            (r#"{"matchExpressions":[{"key":"a","operator":"Like"}]}"#, "`operator` is \"Like\": use In, NotIn"),
            (r#"{"matchExpressions":[{"operator":"In"}]}"#, "no field `key`"),
        ] {
            let error = Selector::read(&serde_json::from_str(selector).unwrap()).unwrap_err();
            assert!(error.starts_with(problem), "{error}");
        }
    }
}
