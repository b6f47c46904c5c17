//! What a pod template holds because of Scout, as the template itself records it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fields::{Fields, unknown_choice};
use crate::names::{AppName, Revision};

/// How an app's secrets reach the containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Strategy {
    /// One `env` entry per key; the values live in an immutable Secret named by its revision.
    EnvironmentVariables,
    /// One read-only mount; the values live in a Secret of the workload's own, updated in place.
    VolumeMount,
}

/// One app in a pod template.
///
/// The fields stand in alphabetical order, so that the derived serialisation is canonical JSON.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// Whose secrets these are.
    pub app: AppName,
    /// Which content.
    pub revision: Revision,
    /// The Secret that holds it.
    pub secret: String,
    /// How it is injected; absent where the user wires the Secret and only the revision is recorded (operator mode).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
}

impl Attachment {
    /// A later version may record more.
    fn read(json: &Value) -> Result<Self, String> {
        let fields = Fields::lenient(json)?;
        let strategy = match fields.optional_text("strategy")? {
            None => None,
            Some("EnvironmentVariables") => Some(Strategy::EnvironmentVariables),
            Some("VolumeMount") => Some(Strategy::VolumeMount),
            Some(other) => return Err(unknown_choice("strategy", other, "EnvironmentVariables or VolumeMount")),
        };
        Ok(Self {
            app: AppName::parse(fields.text("app")?).map_err(|error| error.to_string())?,
            revision: Revision::parse(fields.text("revision")?).map_err(|error| error.to_string())?,
            secret: fields.text("secret")?.to_owned(),
            strategy,
        })
    }
}

/// The attachments of one workload, ordered by app and at most one of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attachments(Vec<Attachment>);

impl Attachments {
    /// The canonical JSON that annotations hold.
    pub fn to_json(&self) -> String {
        // Names, revisions and an enum: there is nothing in an attachment that could fail to serialise.
        serde_json::to_string(&self.0).unwrap_or_default()
    }

    /// Reads an annotation's text. An annotation is within anybody's reach, so what does not parse counts as nothing attached.
    pub fn from_json(text: &str) -> Self {
        let json: Value = serde_json::from_slice(text.as_bytes()).unwrap_or_default();
        let attachments = json.as_array().map(Vec::as_slice).unwrap_or_default().iter().map(Attachment::read);
        attachments.collect::<Result<Self, _>>().unwrap_or_default()
    }

    /// Reads the annotation `key` under `metadata` (of a workload or a pod template).
    pub fn from_metadata(metadata: Option<&Value>, key: &str) -> Self {
        metadata
            .and_then(|metadata| metadata.get("annotations")?.get(key)?.as_str())
            .map(Self::from_json)
            .unwrap_or_default()
    }

    /// Whether nothing is attached.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The attachments, by app.
    pub fn iter(&self) -> std::slice::Iter<'_, Attachment> {
        self.0.iter()
    }

    /// What is attached of one app.
    pub fn of_app(&self, app: &AppName) -> Option<&Attachment> {
        self.0.iter().find(|attachment| attachment.app == *app)
    }
}

impl FromIterator<Attachment> for Attachments {
    fn from_iter<I: IntoIterator<Item = Attachment>>(attachments: I) -> Self {
        // Inserted one by one: a handful at most, and a sort would weigh more in the module than all of this one's code.
        let mut ordered: Vec<Attachment> = Vec::new();
        for attachment in attachments {
            if let Err(position) = ordered.binary_search_by(|one| one.app.cmp(&attachment.app)) {
                ordered.insert(position, attachment);
            }
        }
        Self(ordered)
    }
}

impl<'a> IntoIterator for &'a Attachments {
    type Item = &'a Attachment;
    type IntoIter = std::slice::Iter<'a, Attachment>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_is_canonical_json_ordered_by_app() {
        let attachment = |app: &str, strategy| Attachment {
            app: AppName::parse(app).unwrap(),
            revision: Revision::parse("4f9a").unwrap(),
            secret: format!("scout.{app}.4f9a"),
            strategy,
        };
        let attachments =
            Attachments::from_iter([attachment("web", None), attachment("api", Some(Strategy::EnvironmentVariables))]);
        let json = attachments.to_json();
        assert_eq!(
            json,
            r#"[{"app":"api","revision":"4f9a","secret":"scout.api.4f9a","strategy":"EnvironmentVariables"},{"app":"web","revision":"4f9a","secret":"scout.web.4f9a"}]"#
        );
        assert_eq!(Attachments::from_json(&json), attachments);
    }

    #[test]
    fn a_tampered_record_counts_as_nothing_attached() {
        assert!(Attachments::from_json("[{").is_empty());
        assert!(Attachments::from_json(r#"[{"app":"NOT A NAME","revision":"1","secret":"x"}]"#).is_empty());
    }

    #[test]
    fn a_record_that_names_an_app_twice_holds_it_once() {
        let twice = r#"[{"app":"web","revision":"1","secret":"scout.web.1"},{"app":"web","revision":"2","secret":"scout.web.2"}]"#;
        assert_eq!(Attachments::from_json(twice).iter().count(), 1);
    }
}
