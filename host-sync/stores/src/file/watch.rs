//! Says that something below the store's folder changed.
//!
//! Watched are every folder below the store's folder and every folder above it, so that the store's folder may be missing, be
//! made later, and be replaced as a whole. After each change everything is watched anew before it is reported, because the
//! watched folders themselves may be others now (a rename over a folder, the `..data` link of a Kubernetes volume): whoever
//! fetches after a report sees at least what was reported, and what changes later is reported again.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind};
use notify::{ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use thiserror::Error;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// A change is reported when nothing else changed for so long, so that saving ten files is one report.
const QUIET: Duration = Duration::from_millis(50);

/// A folder that never becomes quiet is reported so often.
const RESTLESS: Duration = Duration::from_secs(1);

/// How often watching is begun again when folders vanish meanwhile.
const ATTEMPTS: usize = 10;

/// Why a folder cannot be watched. Changes are then found at the store's refresh interval only.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum WatchError {
    #[error(
        "the system has no inotify watch left for {path}: raise the sysctl fs.inotify.max_user_watches (each folder takes one)"
    )]
    Watches { path: PathBuf },
    #[error(
        "the system gives no inotify instance for {path}: raise the sysctl fs.inotify.max_user_instances, or host-sync's limit of open files"
    )]
    Instances { path: PathBuf },
    #[error("host-sync may not watch {path}: let its user read the folder")]
    Denied { path: PathBuf },
    #[error("{path} cannot be watched: {detail}")]
    Other { path: PathBuf, detail: String },
}

/// A watch on a store's folder.
pub struct Watch {
    root: PathBuf,
    changed: Arc<Notify>,
    /// A change that is known and not reported yet; kept here so that a report survives a dropped future.
    pending: bool,
    watcher: RecommendedWatcher,
}

impl Watch {
    pub(super) fn start(root: &Path) -> Result<Self, WatchError> {
        let root = std::path::absolute(root).map_err(|error| other(root, &error))?;
        let changed = Arc::new(Notify::new());
        let watcher = watcher(&root, &changed)?;
        Ok(Self { root, changed, pending: false, watcher })
    }

    /// Waits until something changed since the last report, or since the start. Changes in quick succession are one report.
    /// A future that is dropped loses nothing.
    ///
    /// # Errors
    /// When what is there now cannot be watched. The change that led to it is reported by the next call that succeeds; wait
    /// before you call again.
    pub async fn changed(&mut self) -> Result<(), WatchError> {
        if !self.pending {
            self.changed.notified().await;
            self.pending = true;
        }
        let restless = Instant::now() + RESTLESS;
        while Instant::now() < restless && timeout(QUIET, self.changed.notified()).await.is_ok() {}
        let (root, changed) = (self.root.clone(), Arc::clone(&self.changed));
        let renewed = tokio::task::spawn_blocking(move || watcher(&root, &changed)).await;
        self.watcher = renewed.map_err(|error| other(&self.root, &error))??;
        self.pending = false;
        Ok(())
    }
}

/// Watches everything that is there at the moment.
fn watcher(root: &Path, changed: &Arc<Notify>) -> Result<RecommendedWatcher, WatchError> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        match begin(root, changed) {
            Err(error) if attempt < ATTEMPTS && is_missing(&error) => {}
            result => return result.map_err(|error| explain(root, &error)),
        }
    }
}

fn begin(root: &Path, changed: &Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let (changed, within) = (Arc::clone(changed), root.to_owned());
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        // An error means that something may have been missed, and watching anew tells the reason if it lasts.
        if event.map_or(true, |event| is_change(&event) && concerns(&event, &within)) {
            changed.notify_one();
        }
    })?;
    // From the outside in: a folder that is made after its parent is watched is an event.
    let outer: Vec<_> = root.ancestors().skip(1).collect();
    for folder in outer.into_iter().rev() {
        match watcher.watch(folder, RecursiveMode::NonRecursive) {
            Err(error) if is_limit(&error) => return Err(error),
            // One that host-sync may not read: that it is replaced as a whole is then found at the refresh interval.
            Ok(()) | Err(_) => {}
        }
    }
    match watcher.watch(root, RecursiveMode::Recursive) {
        Err(error) if is_missing(&error) && !root.exists() => Ok(watcher),
        result => result.map(|()| watcher),
    }
}

/// Whether an event tells of content that is there now. Reading tells of none, or each fetch would cause the next.
fn is_change(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        // Where closing is told, a file is half-written until then.
        EventKind::Modify(ModifyKind::Data(_)) => !cfg!(target_os = "linux"),
        EventKind::Create(CreateKind::File) if cfg!(target_os = "linux") => {
            event.paths.iter().any(|path| is_linked(path))
        }
        _ => true,
    }
}

/// Whether a new entry is a link, hard or symbolic: nobody will write and close it.
fn is_linked(path: &Path) -> bool {
    fs::symlink_metadata(path).map_or(true, |metadata| !metadata.is_file() || metadata.nlink() > 1)
}

/// Whether an event is about the folder, something in it, or a folder that leads to it.
fn concerns(event: &Event, root: &Path) -> bool {
    event.need_rescan() || event.paths.iter().any(|path| path.starts_with(root) || root.starts_with(path))
}

fn is_missing(error: &notify::Error) -> bool {
    match &error.kind {
        ErrorKind::PathNotFound => true,
        ErrorKind::Io(error) => matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
        _ => false,
    }
}

/// The system's number for "too many open files", which inotify also uses for its instances.
const EMFILE: i32 = 24;

fn is_limit(error: &notify::Error) -> bool {
    match &error.kind {
        ErrorKind::MaxFilesWatch => true,
        ErrorKind::Io(error) => error.raw_os_error() == Some(EMFILE),
        _ => false,
    }
}

fn explain(root: &Path, error: &notify::Error) -> WatchError {
    let path = error.paths.first().cloned().unwrap_or_else(|| root.to_owned());
    match &error.kind {
        ErrorKind::MaxFilesWatch => WatchError::Watches { path },
        ErrorKind::Io(_) if is_limit(error) => WatchError::Instances { path },
        ErrorKind::Io(error) if error.kind() == io::ErrorKind::PermissionDenied => WatchError::Denied { path },
        ErrorKind::Io(error) => other(&path, error),
        _ => other(&path, error),
    }
}

fn other(path: &Path, error: &impl ToString) -> WatchError {
    WatchError::Other { path: path.to_owned(), detail: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exhausted_limit_is_named_with_the_sysctl_to_raise() {
        let root = Path::new("/var/scout/secrets");
        let watches = notify::Error::new(ErrorKind::MaxFilesWatch).add_path("/var/scout/secrets/shop".into());
        let instances = notify::Error::io(io::Error::from_raw_os_error(EMFILE));
        assert!(
            explain(root, &watches).to_string().contains("secrets/shop: raise the sysctl fs.inotify.max_user_watches")
        );
        assert!(
            explain(root, &instances)
                .to_string()
                .contains("/var/scout/secrets: raise the sysctl fs.inotify.max_user_instances")
        );
    }

    #[test]
    fn reading_is_no_change() {
        let open = Event::new(EventKind::Access(AccessKind::Open(AccessMode::Any)));
        let closed_unchanged = Event::new(EventKind::Access(AccessKind::Close(AccessMode::Read)));
        assert!(!is_change(&open) && !is_change(&closed_unchanged));
        assert!(is_change(&Event::new(EventKind::Access(AccessKind::Close(AccessMode::Write)))));
    }
}
