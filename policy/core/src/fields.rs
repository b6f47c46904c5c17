//! Reading JSON objects field by field.
//!
//! What serde derives for the same would make the policy's module a fifth larger, and every request pays for its size;
//! here the errors name the field in our words, too.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A JSON object all of whose fields are known.
pub(crate) struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    /// An object that has no field but the known ones.
    pub(crate) fn strict(value: &'a Value, known: &[&str]) -> Result<Self, String> {
        let fields = Self::lenient(value)?;
        match fields.0.keys().find(|key| !known.contains(&key.as_str())) {
            Some(unknown) => Err(format!("unknown field `{unknown}`, expected one of {}", known.join(", "))),
            None => Ok(fields),
        }
    }

    /// An object that may have fields of a later version.
    pub(crate) fn lenient(value: &'a Value) -> Result<Self, String> {
        value.as_object().map(Self).ok_or_else(|| format!("{} where an object should be", name_of(value)))
    }

    /// The value of a field that may be absent; null is absent.
    pub(crate) fn optional(&self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    pub(crate) fn required(&self, key: &str) -> Result<&'a Value, String> {
        self.optional(key).ok_or_else(|| format!("no field `{key}`"))
    }

    pub(crate) fn text(&self, key: &str) -> Result<&'a str, String> {
        text(self.required(key)?, key)
    }

    pub(crate) fn optional_text(&self, key: &str) -> Result<Option<&'a str>, String> {
        self.optional(key).map(|value| text(value, key)).transpose()
    }

    /// The entries of a list; none where it is absent.
    pub(crate) fn list(&self, key: &str) -> Result<&'a [Value], String> {
        match self.optional(key) {
            None => Ok(&[]),
            Some(Value::Array(entries)) => Ok(entries),
            Some(other) => Err(format!("`{key}` is {}, and should be a list", name_of(other))),
        }
    }

    /// A map of texts; empty where it is absent.
    pub(crate) fn texts(&self, key: &str) -> Result<BTreeMap<String, String>, String> {
        let mut texts = BTreeMap::new();
        for (name, value) in self.optional(key).map(Self::lenient).transpose()?.into_iter().flat_map(|map| map.0) {
            texts.insert(name.clone(), text(value, name)?.to_owned());
        }
        Ok(texts)
    }
}

/// The text that `value` must be.
pub(crate) fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str, String> {
    value.as_str().ok_or_else(|| format!("`{key}` is {}, and should be a text", name_of(value)))
}

/// Says that a text is none of those it may be.
pub(crate) fn unknown_choice(key: &str, found: &str, choices: &str) -> String {
    format!("`{key}` is {found:?}: use {choices}")
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_error_names_the_field_and_what_stands_there() {
        let value = json!({"name": 7, "map": {"a": []}, "list": "x", "gone": null});
        let fields = Fields::strict(&value, &["name", "map", "list", "gone"]).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(fields.text("name").unwrap_err(), "`name` is a number, and should be a text");
        assert_eq!(fields.text("gone").unwrap_err(), "no field `gone`");
        assert_eq!(fields.optional_text("gone"), Ok(None));
        assert_eq!(fields.texts("map").unwrap_err(), "`a` is a list, and should be a text");
        assert_eq!(fields.list("list").unwrap_err(), "`list` is a text, and should be a list");
        let Err(error) = Fields::strict(&value, &["name"]) else { panic!("unknown fields pass") };
        assert_eq!(error, "unknown field `gone`, expected one of name");
        let Err(error) = Fields::lenient(&json!([])) else { panic!("a list is an object") };
        assert_eq!(error, "a list where an object should be");
    }
}
