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
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        for part in [of.app.as_str(), of.environment.as_str()] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        mac.update(&content.canonical_bytes());
        let digest = mac.finalize().into_bytes();
        let hex: String = digest[..5].iter().map(|byte| format!("{byte:02x}")).collect();
        Revision::parse(&hex).ok()
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
