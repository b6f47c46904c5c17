//! A store in memory: what tests of host-sync fill, empty and break.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use host_sync_core::secret_bytes::SecretBytes;
use host_sync_core::store::{FetchError, Fetched, SourcePath, Store};

/// A store whose content is set by its owner. It takes part in the same contract as every backend.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    paths: BTreeMap<SourcePath, Result<Fetched, FetchError>>,
    outage: Option<FetchError>,
}

impl MemoryStore {
    /// Puts keys at a path, in place of what was there.
    pub fn put<'a>(&self, path: &SourcePath, entries: impl IntoIterator<Item = (&'a str, &'a [u8])>) {
        let fetched = entries.into_iter().map(|(key, bytes)| (key.to_owned(), SecretBytes::new(bytes.to_vec())));
        let fetched = fetched.collect();
        self.state().paths.insert(path.clone(), Ok(fetched));
    }

    /// Removes a path.
    pub fn remove(&self, path: &SourcePath) {
        self.state().paths.remove(path);
    }

    /// Lets every fetch of one path fail, until something is put there.
    pub fn fail(&self, path: &SourcePath, error: FetchError) {
        self.state().paths.insert(path.clone(), Err(error));
    }

    /// Lets every fetch fail; `None` ends the outage.
    pub fn set_outage(&self, error: Option<FetchError>) {
        self.state().outage = error;
    }

    /// A test that panicked elsewhere leaves a state that is still whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn fetch(&self, path: &SourcePath) -> Result<Fetched, FetchError> {
        let state = self.state();
        if let Some(outage) = &state.outage {
            return Err(outage.clone());
        }
        state.paths.get(path).cloned().unwrap_or_else(|| {
            Err(FetchError::NotFound { path: path.clone(), detail: "nothing was put there".to_owned() })
        })
    }

    fn description(&self) -> String {
        "memory".to_owned()
    }
}
