//! The embedded store: a folder of files, for development, for a mounted Kubernetes volume, for what another tool writes.
//!
//! Below the store's folder, `checkout/production` is one of:
//! - a folder `checkout/production/`, one key per file: the file's name and its bytes as they are, a last line feed included.
//!   Entries whose names begin with a dot are skipped, as `..data` of a mounted Kubernetes volume must be.
//! - a file `checkout/production.yaml`, `.yml`, `.json` or `.env`: a flat map of keys to strings. The path may also name the
//!   file in full.
//!
//! Links are followed as long as they stay below the store's folder. What is half-written, ambiguous, too large or changing
//! is refused as a whole, with the place and the fix, and no message holds a byte of a value.

mod document;
mod read;
mod watch;

use std::path::PathBuf;

use async_trait::async_trait;
use host_sync_core::store::{FetchError, Fetched, SourcePath, Store};

pub use read::{KEYS_MAX, SIZE_MAX};
pub use watch::{Watch, WatchError};

/// A folder of secrets.
#[derive(Debug, Clone)]
pub struct FileStore {
    root: PathBuf,
}

impl FileStore {
    /// A store below `root`, which need not be there yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Begins to watch the folder: every change of a file below it from now on is reported by [`Watch::changed`].
    pub fn watch(&self) -> Result<Watch, WatchError> {
        Watch::start(&self.root)
    }
}

#[async_trait]
impl Store for FileStore {
    async fn fetch(&self, path: &SourcePath) -> Result<Fetched, FetchError> {
        let (root, path) = (self.root.clone(), path.clone());
        let reading = tokio::task::spawn_blocking(move || read::read(&root, &path));
        reading
            .await
            .unwrap_or_else(|error| Err(FetchError::Unavailable { detail: format!("the read was cut short: {error}") }))
    }

    fn description(&self) -> String {
        format!("files below {}", self.root.display())
    }
}
