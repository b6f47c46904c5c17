//! The policy's settings, as a ClusterAdmissionPolicy carries them.

use serde_json::Value;

use crate::fields::{Fields, unknown_choice};

/// What the policy does with a CREATE when the desired state cannot be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnMissingState {
    /// Refuse: a workload never starts without the secrets it may need.
    #[default]
    Reject,
    /// Accept unchanged with a warning; host-sync heals the workload later, with a rollout.
    Accept,
}

/// The settings. No secret material belongs here: settings reach logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The namespace of host-sync, which holds the desired-state ConfigMaps.
    pub desired_state_namespace: String,
    /// What to do with a CREATE when the desired state cannot be read.
    pub on_missing_state: OnMissingState,
}

impl Default for Settings {
    fn default() -> Self {
        Self { desired_state_namespace: "scout-system".to_owned(), on_missing_state: OnMissingState::default() }
    }
}

impl Settings {
    /// Parses the settings of a request; none at all (absent or null) are the defaults. What cannot be worked with is
    /// refused with a sentence that names the field and the fix.
    pub fn parse(settings: &Value) -> Result<Self, String> {
        let settings = match settings {
            Value::Null => Ok(Self::default()),
            Value::Object(_) => Self::read(settings),
            _ => Err("they are not an object".to_owned()),
        };
        let settings = settings.map_err(|problem| {
            format!(
                "the policy's settings are malformed: {problem}; correct spec.settings of the ClusterAdmissionPolicy, which may hold desiredStateNamespace (a namespace) and onMissingState (Reject or Accept)"
            )
        })?;
        settings.validate()?;
        Ok(settings)
    }

    fn read(json: &Value) -> Result<Self, String> {
        let mut settings = Self::default();
        let fields = Fields::strict(json, &["desiredStateNamespace", "onMissingState"])?;
        if let Some(namespace) = fields.optional_text("desiredStateNamespace")? {
            namespace.clone_into(&mut settings.desired_state_namespace);
        }
        settings.on_missing_state = match fields.optional_text("onMissingState")? {
            None => OnMissingState::default(),
            Some("Reject") => OnMissingState::Reject,
            Some("Accept") => OnMissingState::Accept,
            Some(other) => return Err(unknown_choice("onMissingState", other, "Reject or Accept")),
        };
        Ok(settings)
    }

    /// Whether the settings can be worked with, or a sentence that names the field and the fix.
    pub fn validate(&self) -> Result<(), String> {
        let name = self.desired_state_namespace.as_bytes();
        let valid = !name.is_empty()
            && name.len() <= 63
            && name.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
            && !name.starts_with(b"-")
            && !name.ends_with(b"-");
        if valid {
            Ok(())
        } else {
            Err(format!(
                "desiredStateNamespace {:?} is not a namespace name: set it to the namespace that host-sync runs in",
                self.desired_state_namespace
            ))
        }
    }

    /// The namespace of host-sync, which holds the desired-state ConfigMaps.
    pub fn desired_state_namespace(&self) -> &str {
        &self.desired_state_namespace
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_settings_at_all_are_the_defaults() {
        assert_eq!(Settings::parse(&json!({})), Ok(Settings::default()));
        assert_eq!(Settings::parse(&Value::Null), Ok(Settings::default()));
    }

    #[test]
    fn an_unknown_setting_is_refused_by_name() {
        let error = Settings::parse(&json!({"onMissing": "Accept"})).unwrap_err();
        assert!(error.starts_with("the policy's settings are malformed: unknown field `onMissing`"), "{error}");
    }

    #[test]
    fn a_value_or_a_form_that_settings_cannot_have_is_refused_with_the_fix() {
        for (settings, problem) in [
            (json!({"onMissingState": "Ignore"}), "`onMissingState` is \"Ignore\": use Reject or Accept"),
            (json!({"desiredStateNamespace": 7}), "`desiredStateNamespace` is a number, and should be a text"),
            (json!(["scout-system"]), "they are not an object"),
            (json!("scout-system"), "they are not an object"),
        ] {
            let error = Settings::parse(&settings).unwrap_err();
            assert!(error.contains(problem) && error.contains("correct spec.settings"), "{error}");
        }
    }

    #[test]
    fn a_namespace_that_cannot_exist_is_refused() {
        let settings = Settings { desired_state_namespace: "Scout System".into(), ..Settings::default() };
        assert!(settings.validate().unwrap_err().contains("\"Scout System\" is not a namespace name"));
    }
}
