//! The one directory that holds all that a cluster writes.

use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use std::{env, io, process};

use anyhow::{Context, Result};

use super::real_node;

/// How every cluster's directory is called, before the process id and a number.
const PREFIX: &str = "scout-e2e-";
/// Locked by the owner as long as it lives, which is what tells a running cluster from one whose owner was killed.
const OWNER: &str = "owner";
/// Present where the user asked to keep the directory.
const KEEP: &str = "keep";

/// A cluster's directory; the open file is the owner's lock.
pub(super) struct Directory {
    path: PathBuf,
    _owner: File,
}

impl Directory {
    /// Makes a directory for one more cluster of this process, and removes what killed processes have left.
    pub(super) fn create() -> Result<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let root = env::temp_dir();
        sweep(&root);
        loop {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = root.join(format!("{PREFIX}{}-{number}", process::id()));
            // It holds private keys and secrets, so nobody else may look inside.
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Self::furnish(path),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("creating {}: point TMPDIR at a writable folder", path.display()));
                }
            }
        }
    }

    fn furnish(path: PathBuf) -> Result<Self> {
        let owner = path.join(OWNER);
        let mut file = File::create(&owner).with_context(|| format!("creating {}", owner.display()))?;
        file.try_lock().with_context(|| format!("locking {}", owner.display()))?;
        // Written after the lock is held: an empty file tells others that its owner is just starting.
        writeln!(file, "{}", process::id()).with_context(|| format!("writing {}", owner.display()))?;
        let directory = Self { path, _owner: file };
        for name in ["logs", "pki", "home", "node"] {
            let path = directory.path.join(name);
            fs::create_dir(&path).with_context(|| format!("creating {}", path.display()))?;
        }
        Ok(directory)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// Where children keep what they would otherwise put into the user's home.
    pub(super) fn home(&self) -> PathBuf {
        self.path.join("home")
    }

    /// Writes a file below this directory and returns its full path.
    pub(super) fn write(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// Removes the directory, unless `SCOUT_E2E_KEEP` asks to keep it: then it says where it is.
    pub(super) fn remove(&self) -> Result<()> {
        if env::var_os("SCOUT_E2E_KEEP").is_some_and(|keep| !keep.is_empty() && keep != "0") {
            self.write(KEEP, "")?;
            // Straight to standard error: the test harness would show a passing test's output to nobody.
            real_node::remove_cgroups(&self.path);
            let _ = writeln!(io::stderr(), "kept the cluster's files in {}", self.path.display());
            return Ok(());
        }
        remove(&self.path)
    }
}

/// Removes a directory whose processes have ended.
fn remove(path: &Path) -> Result<()> {
    real_node::remove_cgroups(path);
    let mut attempts = 0;
    loop {
        match fs::remove_dir_all(path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            // The kernel may still be taking the last mounts of a node down.
            Err(_) if attempts < 50 => {
                attempts += 1;
                thread::sleep(Duration::from_millis(100));
            }
            Err(error) => return Err(error).with_context(|| format!("removing {}", path.display())),
        }
    }
}

/// Removes the directories of clusters whose owner was killed; their processes died with it.
fn sweep(root: &Path) {
    let Ok(entries) = fs::read_dir(root) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let ours = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(PREFIX));
        if ours && abandoned(&path) {
            // Another user's, or one that a third process sweeps right now: not this process's to worry about.
            let _ = remove(&path);
        }
    }
}

fn abandoned(path: &Path) -> bool {
    if path.join(KEEP).exists() {
        return false;
    }
    let Ok(owner) = File::open(path.join(OWNER)) else { return false };
    owner.metadata().is_ok_and(|data| data.len() > 0) && owner.try_lock().is_ok()
}
