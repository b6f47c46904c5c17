//! From what a store returned to what a Secret is to hold.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit, Mac};
use policy_core::names::Revision;
use sha2::Sha256;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::config::{AppEnvironment, KeySelection};
use crate::secret_bytes::{Content, Key, KeyError};
use crate::store::{Fetched, SourcePath};

/// The most that a Secret holds, in bytes of its values and key names (Kubernetes' own limit is 1 MiB for the values).
pub const CONTENT_MAX: usize = 1024 * 1024;

/// Why what the store returned cannot be delivered. Half a delivery is worse than the last good one, so nothing is.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[allow(missing_docs)]
pub enum ContentError {
    #[error("{path} holds no keys: put them back into the store; what was delivered last stays")]
    Empty { path: SourcePath },
    #[error(
        "{path} lacks the key {key:?}, which the App selects: put it back, or take it out of the App's keys; what was delivered last stays"
    )]
    KeyMissing { path: SourcePath, key: String },
    #[error("a key of {path} cannot be delivered: {source}")]
    KeyUnusable { path: SourcePath, source: KeyError },
    #[error("{path} takes {size} bytes, and a Secret holds {CONTENT_MAX}: select fewer keys in the App")]
    TooLarge { path: SourcePath, size: usize },
}

/// Selects and renames. Refuses as a whole what Kubernetes could hold only in part.
pub fn select(fetched: &Fetched, path: &SourcePath, keys: &KeySelection) -> Result<Content, ContentError> {
    let content: Content = match keys {
        KeySelection::All => fetched
            .iter()
            .map(|(name, value)| {
                let key =
                    Key::parse(name).map_err(|source| ContentError::KeyUnusable { path: path.clone(), source })?;
                Ok((key, value.clone()))
            })
            .collect::<Result<_, ContentError>>()?,
        KeySelection::Named(names) => names
            .iter()
            .map(|(key, name)| {
                let value = fetched
                    .get(name)
                    .ok_or_else(|| ContentError::KeyMissing { path: path.clone(), key: name.clone() })?;
                Ok((key.clone(), value.clone()))
            })
            .collect::<Result<_, ContentError>>()?,
    };
    if content.is_empty() {
        return Err(ContentError::Empty { path: path.clone() });
    }
    let size = content.total_bytes();
    if size > CONTENT_MAX {
        return Err(ContentError::TooLarge { path: path.clone(), size });
    }
    Ok(content)
}

/// The cluster's random key, without which nobody can test a guess of a value against a revision.
#[derive(Clone)]
pub struct RevisionKey(Zeroizing<Vec<u8>>);

impl RevisionKey {
    /// How many random bytes a key has.
    pub const LENGTH: usize = 32;

    /// Takes the key's bytes; fewer than [`Self::LENGTH`] are refused.
    pub fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        (bytes.len() >= Self::LENGTH).then(|| Self(Zeroizing::new(bytes)))
    }

    /// The revision of one content: HMAC-SHA-256 over the app environment's name and the canonical content, its first 40
    /// bits in hexadecimal. The name is in it so that two apps with the same secrets cannot be told by their revisions.
    pub fn revision(&self, of: &AppEnvironment, content: &Content) -> Option<Revision> {
        self.digest(&[of.app.as_str(), of.environment.as_str()], content)
    }

    /// The revision of a content that moves to another mount path: templates record a revision and no path, so only
    /// another revision makes them follow.
    pub fn revision_at(&self, of: &AppEnvironment, content: &Content, mount_path: &str) -> Option<Revision> {
        self.digest(&[of.app.as_str(), of.environment.as_str(), mount_path], content)
    }

    fn digest(&self, names: &[&str], content: &Content) -> Option<Revision> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        for name in names {
            mac.update(&(name.len() as u64).to_be_bytes());
            mac.update(name.as_bytes());
        }
        mac.update(&content.canonical_bytes());
        let digest = mac.finalize().into_bytes();
        let hex = digest[..5].iter().fold(0_u64, |hex, byte| hex << 8 | u64::from(*byte));
        Revision::parse(&format!("{hex:010x}")).ok()
    }
}

impl std::fmt::Debug for RevisionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RevisionKey(redacted)")
    }
}

/// The keys that `before` has and `after` has not.
pub fn lost_keys(before: &Content, after: &Content) -> Vec<Key> {
    before.keys().filter(|key| after.get(key).is_none()).cloned().collect()
}

/// Variable name → key of the Secret. A delivered key is its own variable; renaming happens in the App's `keys`.
pub fn variables(content: &Content) -> BTreeMap<String, String> {
    content.keys().map(|key| (key.to_string(), key.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use policy_core::names::{AppName, Environment};

    use super::*;
    use crate::secret_bytes::SecretBytes;

    fn fetched(keys: &[(&str, &str)]) -> Fetched {
        keys.iter().map(|(key, value)| ((*key).to_owned(), SecretBytes::new(value.as_bytes().to_vec()))).collect()
    }

    fn path() -> SourcePath {
        SourcePath::parse("checkout/production").unwrap()
    }

    fn of(app: &str) -> AppEnvironment {
        AppEnvironment { app: AppName::parse(app).unwrap(), environment: Environment::parse("production").unwrap() }
    }

    fn named(keys: &[(&str, &str)]) -> KeySelection {
        KeySelection::Named(keys.iter().map(|(key, name)| (Key::parse(key).unwrap(), (*name).to_owned())).collect())
    }

    #[test]
    fn named_keys_are_selected_and_renamed_and_the_rest_is_left() {
        let content =
            select(&fetched(&[("db-url", "a"), ("other key", "b")]), &path(), &named(&[("DB_URL", "db-url")]));
        let content = content.unwrap();
        assert_eq!(content.len(), 1);
        assert_eq!(content.get(&Key::parse("DB_URL").unwrap()).unwrap().expose(), b"a");
    }

    #[test]
    fn a_missing_an_unusable_and_no_key_at_all_are_each_refused_by_name() {
        let refused =
            |keys: &[(&str, &str)], selection| select(&fetched(keys), &path(), &selection).unwrap_err().to_string();
        assert!(refused(&[("a", "")], named(&[("B", "b")])).contains("checkout/production lacks the key \"b\""));
        assert!(refused(&[("a b", "")], KeySelection::All).contains("\"a b\""));
        assert!(refused(&[], KeySelection::All).contains("checkout/production holds no keys"));
    }

    #[test]
    fn what_no_secret_can_hold_is_refused_with_its_size() {
        let large = "x".repeat(CONTENT_MAX);
        let error = select(&fetched(&[("A", &large)]), &path(), &KeySelection::All).unwrap_err();
        assert_eq!(error, ContentError::TooLarge { path: path(), size: CONTENT_MAX + 1 });
    }

    #[test]
    fn a_revision_depends_on_the_key_the_app_and_the_content_and_on_nothing_else() {
        let content = |value| select(&fetched(&[("A", value)]), &path(), &KeySelection::All).unwrap();
        let key = |byte| RevisionKey::from_bytes(vec![byte; RevisionKey::LENGTH]).unwrap();
        let revision = key(1).revision(&of("checkout"), &content("x")).unwrap();
        assert_eq!(key(1).revision(&of("checkout"), &content("x")), Some(revision.clone()));
        for other in [
            key(2).revision(&of("checkout"), &content("x")),
            key(1).revision(&of("cart"), &content("x")),
            key(1).revision(&of("checkout"), &content("y")),
            key(1).revision_at(&of("checkout"), &content("x"), "/secrets"),
        ] {
            assert_ne!(other.unwrap(), revision);
        }
    }

    #[test]
    fn a_short_key_is_refused_and_a_key_is_never_shown() {
        assert!(RevisionKey::from_bytes(vec![7; 31]).is_none());
        assert_eq!(format!("{:?}", RevisionKey::from_bytes(vec![7; 32]).unwrap()), "RevisionKey(redacted)");
    }

    #[test]
    fn lost_keys_are_those_that_were_there_before() {
        let content = |keys: &[(&str, &str)]| select(&fetched(keys), &path(), &KeySelection::All).unwrap();
        let lost = lost_keys(&content(&[("A", ""), ("B", "")]), &content(&[("B", "other"), ("C", "")]));
        assert_eq!(lost, [Key::parse("A").unwrap()]);
    }
}
