//! The port that every backend implements: one read of one path.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;

use crate::secret_bytes::SecretBytes;

/// The longest source path, in bytes.
pub const SOURCE_PATH_MAX: usize = 512;

/// Where in a store an app environment's secrets are: relative, `/`-separated, no `.` or `..` in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourcePath(String);

/// A path that no backend is to see.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "source path {path:?} is not valid: use names separated by '/', at most {SOURCE_PATH_MAX} bytes, without a leading '/', '.', '..' or backslashes"
)]
pub struct SourcePathError {
    path: String,
}

impl SourcePath {
    /// Parses a path.
    pub fn parse(path: &str) -> Result<Self, SourcePathError> {
        let segment_is_valid = |segment: &str| !matches!(segment, "" | "." | "..") && !segment.contains(['\\', '\0']);
        if path.len() <= SOURCE_PATH_MAX && path.split('/').all(segment_is_valid) {
            Ok(Self(path.to_owned()))
        } else {
            Err(SourcePathError { path: path.to_owned() })
        }
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SourcePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a store returned: its own key names, which Kubernetes may not be able to hold.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Fetched(BTreeMap<String, SecretBytes>);

impl Fetched {
    /// The bytes of one key.
    pub fn get(&self, name: &str) -> Option<&SecretBytes> {
        self.0.get(name)
    }

    /// The keys and their bytes, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &SecretBytes)> {
        self.0.iter().map(|(name, bytes)| (name.as_str(), bytes))
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(String, SecretBytes)> for Fetched {
    fn from_iter<I: IntoIterator<Item = (String, SecretBytes)>>(entries: I) -> Self {
        Self(entries.into_iter().collect())
    }
}

impl fmt::Debug for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fetched")?;
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Why a fetch failed. Every class leaves what was delivered as it is; no message holds a byte of a value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[allow(missing_docs)]
pub enum FetchError {
    #[error("{path} is not there: {detail}")]
    NotFound { path: SourcePath, detail: String },
    #[error("the store refuses {path}: {detail}")]
    Denied { path: SourcePath, detail: String },
    #[error("the store asks for fewer calls: {detail}")]
    Throttled { retry_after: Option<Duration>, detail: String },
    #[error("the store cannot be read: {detail}")]
    Unavailable { detail: String },
    #[error("{file} is malformed at line {line}, column {column}: {problem}")]
    Malformed { file: String, line: usize, column: usize, problem: String },
    #[error("{path} cannot be read as configured: {detail}")]
    Misconfigured { path: SourcePath, detail: String },
}

impl FetchError {
    /// A stable word for the class: a metric's label, a condition's reason.
    pub fn class(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "NotFound",
            Self::Denied { .. } => "Denied",
            Self::Throttled { .. } => "Throttled",
            Self::Unavailable { .. } => "Unavailable",
            Self::Malformed { .. } => "Malformed",
            Self::Misconfigured { .. } => "Misconfigured",
        }
    }
}

/// A store, as far as Scout uses one.
#[async_trait]
pub trait Store: Send + Sync {
    /// Reads every key at `path`, whole or not at all.
    async fn fetch(&self, path: &SourcePath) -> Result<Fetched, FetchError>;

    /// What and where the store is, for people; no credentials.
    fn description(&self) -> String;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_could_leave_the_store_is_refused() {
        for bad in ["", "/etc", "a//b", "a/../b", "./a", "a\\b", "a/", &"a".repeat(513)] {
            assert!(SourcePath::parse(bad).is_err(), "{bad}");
        }
        assert!(SourcePath::parse("checkout/production.v2").is_ok());
    }
}
