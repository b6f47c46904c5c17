//! The policy's settings, as a ClusterAdmissionPolicy carries them.

use serde::{Deserialize, Serialize};

/// What the policy does with a CREATE when the desired state cannot be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnMissingState {
    /// Refuse: a workload never starts without the secrets it may need.
    #[default]
    Reject,
    /// Accept unchanged with a warning; host-sync heals the workload later, with a rollout.
    Accept,
}

/// The settings. No secret material belongs here: settings reach logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// The namespace of host-sync, which holds the desired-state ConfigMaps.
    #[serde(default = "default_namespace")]
    pub desired_state_namespace: String,
    /// What to do with a CREATE when the desired state cannot be read.
    #[serde(default)]
    pub on_missing_state: OnMissingState,
}

fn default_namespace() -> String {
    "scout-system".to_owned()
}

impl Default for Settings {
    fn default() -> Self {
        Self { desired_state_namespace: default_namespace(), on_missing_state: OnMissingState::default() }
    }
}

impl Settings {
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
    use super::*;

    #[test]
    fn no_settings_at_all_are_the_defaults() {
        assert_eq!(serde_json::from_str::<Settings>("{}").unwrap(), Settings::default());
        assert_eq!(Settings::default().validate(), Ok(()));
    }

    #[test]
    fn an_unknown_setting_is_refused_by_name() {
        let error = serde_json::from_str::<Settings>(r#"{"onMissing":"Accept"}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `onMissing`"), "{error}");
    }

    #[test]
    fn a_namespace_that_cannot_exist_is_refused() {
        let settings = Settings { desired_state_namespace: "Scout System".into(), ..Settings::default() };
        assert!(settings.validate().unwrap_err().contains("\"Scout System\" is not a namespace name"));
    }
}
