//! What host-sync has delivered to a namespace: the ConfigMap beside the desired state that says what there is to prune.
//!
//! host-sync may not list Secrets (it would mean reading everybody's), so it writes down the name of each Secret *before*
//! it writes the Secret: a crash between the two leaves a name without a Secret, never a Secret without a name.

use std::collections::BTreeMap;

use policy_core::names::{AppName, Environment, Revision};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Seconds since 1970-01-01T00:00:00Z.
pub type UnixSeconds = i64;

/// One Secret that Scout wrote, or is about to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretRecord {
    /// The Secret's name.
    pub name: String,
    /// The content that it holds.
    pub revision: Revision,
    /// Since when nothing in the desired state wants it; absent while it is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_at: Option<UnixSeconds>,
}

/// What was delivered of one app to one namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AppHistory {
    /// When the newest delivery was decided.
    pub delivered_at: UnixSeconds,
    /// The environment of the newest delivery.
    pub environment: Environment,
    /// The redeploy request that the newest delivery answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redeploy: Option<String>,
    /// The Secrets, oldest first.
    pub secrets: Vec<SecretRecord>,
}

impl AppHistory {
    /// A history in which nothing was written yet.
    pub fn new(delivered_at: UnixSeconds, environment: Environment) -> Self {
        Self { delivered_at, environment, redeploy: None, secrets: Vec::new() }
    }

    /// The record of one Secret.
    pub fn secret(&self, name: &str) -> Option<&SecretRecord> {
        self.secrets.iter().find(|record| record.name == name)
    }

    /// Writes down that a Secret holds a revision and is wanted.
    pub fn record(&mut self, name: &str, revision: &Revision) {
        let record = SecretRecord { name: name.to_owned(), revision: revision.clone(), superseded_at: None };
        match self.secrets.iter_mut().find(|record| record.name == name) {
            Some(present) => *present = record,
            None => self.secrets.push(record),
        }
    }
}

/// The history of one namespace, by app.
pub type History = BTreeMap<AppName, AppHistory>;

/// Why a ConfigMap is not a history.
#[derive(Debug, Error)]
#[error(
    "data.{key} of ConfigMap {name} is malformed ({problem}): repair it, or remove that key; Secrets that only it knew stay until their App is deleted"
)]
pub struct HistoryError {
    name: String,
    key: String,
    problem: String,
}

/// The ConfigMap's data: one canonical JSON document per app.
pub fn to_data(history: &History) -> BTreeMap<String, String> {
    let json = |history| serde_json::to_string(history).unwrap_or_default();
    history.iter().map(|(app, history)| (app.to_string(), json(history))).collect()
}

/// Reads the data of the ConfigMap `name`.
pub fn from_data(name: &str, data: &BTreeMap<String, String>) -> Result<History, HistoryError> {
    let malformed = |key: &str, problem: String| HistoryError { name: name.to_owned(), key: key.to_owned(), problem };
    let parse = |(key, text): (&String, &String)| {
        let app = AppName::parse(key).map_err(|error| malformed(key, error.to_string()))?;
        let history = serde_json::from_str(text).map_err(|error| malformed(key, error.to_string()))?;
        Ok((app, history))
    };
    data.iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history() -> History {
        let environment = Environment::parse("production").unwrap();
        let mut history = AppHistory::new(100, environment);
        history.redeploy = Some("1".to_owned());
        history.record("scout.checkout.aa", &Revision::parse("aa").unwrap());
        history.secrets[0].superseded_at = Some(200);
        history.record("scout.checkout.bb", &Revision::parse("bb").unwrap());
        BTreeMap::from([(AppName::parse("checkout").unwrap(), history)])
    }

    #[test]
    fn what_is_written_is_read_back() {
        let data = to_data(&history());
        assert_eq!(
            data["checkout"],
            r#"{"deliveredAt":100,"environment":"production","redeploy":"1","secrets":[{"name":"scout.checkout.aa","revision":"aa","supersededAt":200},{"name":"scout.checkout.bb","revision":"bb"}]}"#
        );
        assert_eq!(from_data("h", &data).unwrap(), history());
    }

    #[test]
    fn one_malformed_app_makes_the_whole_history_unreadable_and_is_named() {
        let mut data = to_data(&history());
        data.insert("cart".into(), "{".into());
        let error = from_data("delivery-history.shop", &data).unwrap_err().to_string();
        assert!(error.starts_with("data.cart of ConfigMap delivery-history.shop is malformed"), "{error}");
        let other = BTreeMap::from([("NotAnApp".to_owned(), "{}".to_owned())]);
        assert!(from_data("h", &other).unwrap_err().to_string().contains("\"NotAnApp\""));
    }

    #[test]
    fn a_recorded_secret_is_wanted_and_keeps_its_place_in_age() {
        let mut history = history().into_values().next().unwrap();
        history.record("scout.checkout.aa", &Revision::parse("cc").unwrap());
        let names: Vec<&str> = history.secrets.iter().map(|record| record.name.as_str()).collect();
        assert_eq!(names, ["scout.checkout.aa", "scout.checkout.bb"]);
        assert_eq!(history.secret("scout.checkout.aa").unwrap().superseded_at, None);
        assert_eq!(history.secret("scout.checkout.aa").unwrap().revision.as_str(), "cc");
    }
}
