//! The stores that are open: one backend per SecretStore, and the watch of those that can be watched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use host_sync_core::store::Store;
use host_sync_stores::file::FileStore;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::observe::ObservedStore;
use super::wake::Wake;
use crate::api::SecretStoreSpec;

/// How long to wait before a folder that cannot be watched is tried again.
const AGAIN: Duration = Duration::from_secs(30);

/// What a watch has to tell.
#[derive(Default)]
struct News {
    changed: AtomicBool,
    problem: Mutex<Option<String>>,
}

struct Open {
    spec: SecretStoreSpec,
    store: Arc<dyn Store>,
    news: Arc<News>,
    problem: Option<String>,
    _watch: JoinSet<()>,
}

/// The open stores, by name.
pub(super) struct Stores {
    open: BTreeMap<String, Open>,
    wake: Wake,
}

impl Stores {
    pub(super) fn new(wake: Wake) -> Self {
        Self { open: BTreeMap::new(), wake }
    }

    /// Opens, closes and reopens as the SecretStores say; returns those that are new, other, or have changed inside.
    pub(super) fn follow(&mut self, observed: &BTreeMap<String, ObservedStore>) -> Vec<String> {
        self.open.retain(|name, _| observed.get(name).is_some_and(|store| store.spec.is_ok()));
        let mut changed = Vec::new();
        for (name, store) in observed {
            let Ok(spec) = &store.spec else { continue };
            if self.open.get(name).is_none_or(|open| open.spec != *spec)
                && let Some(open) = open(spec, &self.wake)
            {
                self.open.insert(name.clone(), open);
                changed.push(name.clone());
            }
        }
        for (name, open) in &mut self.open {
            open.problem.clone_from(&open.news.problem.lock().unwrap_or_else(PoisonError::into_inner));
            if open.news.changed.swap(false, Ordering::Relaxed) && !changed.contains(name) {
                changed.push(name.clone());
            }
        }
        changed
    }

    /// The stores that can be asked.
    pub(super) fn names(&self) -> BTreeSet<String> {
        self.open.keys().cloned().collect()
    }

    pub(super) fn get(&self, name: &str) -> Option<Arc<dyn Store>> {
        self.open.get(name).map(|open| open.store.clone())
    }

    /// Why a store is not watched although it could be: its changes are seen at the next refresh only.
    pub(super) fn problem(&self, name: &str) -> Option<&str> {
        self.open.get(name)?.problem.as_deref()
    }
}

/// The backend of a store, without its watch.
pub(crate) fn backend(spec: &SecretStoreSpec) -> Option<Arc<dyn Store>> {
    let backend = spec.file.as_ref()?;
    Some(Arc::new(FileStore::new(&backend.path)))
}

fn open(spec: &SecretStoreSpec, wake: &Wake) -> Option<Open> {
    let backend = spec.file.as_ref()?;
    let store = FileStore::new(&backend.path);
    let news = Arc::new(News::default());
    let mut watch = JoinSet::new();
    watch.spawn(follow_changes(store.clone(), news.clone(), wake.clone()));
    Some(Open { spec: spec.clone(), store: Arc::new(store), news, problem: None, _watch: watch })
}

/// Watches a store as long as it is open; where it cannot be watched, says why and tries again.
async fn follow_changes(store: FileStore, news: Arc<News>, wake: Wake) {
    let mut watch = None;
    loop {
        let told = match &mut watch {
            None => store.watch().map(|begun| watch = Some(begun)),
            Some(watch) => watch.changed().await,
        };
        let failed = told.is_err();
        let problem = told.err().map(|error| format!("{error}; changes are seen at the refresh interval only"));
        *news.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
        // A watch that has just begun, or begun again, may have missed something.
        news.changed.store(true, Ordering::Relaxed);
        wake.up();
        if failed {
            sleep(AGAIN).await;
        }
    }
}
