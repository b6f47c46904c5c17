//! What host-sync relies on, whatever the store: every backend passes [`contract`] through a [`Fixture`] of its own.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use host_sync_core::secret_bytes::SecretBytes;
use host_sync_core::store::{FetchError, Fetched, SourcePath, Store};
use host_sync_stores::file::FileStore;
use host_sync_stores::memory::MemoryStore;
use tempfile::TempDir;

/// No message may hold it: it is part of every value that the contract puts.
const MARK: &str = "hunter2";

/// A store under test, and what its owner does to it.
trait Fixture {
    fn store(&self) -> &dyn Store;
    /// Puts keys at a path, in place of what was there.
    fn put(&self, path: &str, entries: &[(&str, &[u8])]);
    fn remove(&self, path: &str);
    /// Puts keys at a path that host-sync may not read.
    fn forbid(&self, path: &str);
    /// Makes the whole store unreachable, or reachable again.
    fn set_reachable(&self, reachable: bool);
}

async fn fetch(fixture: &dyn Fixture, path: &str) -> Result<Fetched, FetchError> {
    let fetched = fixture.store().fetch(&source(path)).await;
    assert!(!format!("{fetched:?}").contains(MARK), "{path}: Debug shows a value");
    if let Err(error) = &fetched {
        assert!(!error.to_string().contains(MARK), "{path}: a message shows a value");
    }
    fetched
}

fn source(path: &str) -> SourcePath {
    SourcePath::parse(path).unwrap()
}

fn entries(fetched: &Fetched) -> Vec<(&str, &[u8])> {
    fetched.iter().map(|(key, value)| (key, value.expose())).collect()
}

/// The contract. What it asserts is what DESIGN §4 builds on.
async fn contract(fixture: &dyn Fixture) {
    let path = "contract/production";
    let every_byte: Vec<u8> = MARK.bytes().chain(0..=u8::MAX).chain(*b"\n").collect();
    let big = MARK.repeat(150_000).into_bytes();
    let odd: [(&str, &[u8]); 8] = [
        ("-", b"hunter2"),
        ("DB PASSWORD", b"hunter2 \n"),
        ("DB_URL", b""),
        ("a=b:c", b"hunter2"),
        ("big", &big),
        ("every byte", &every_byte),
        ("tls.crt", b"hunter2"),
        ("\u{43a}\u{43b}\u{44e}\u{447}", "\u{447}hunter2".as_bytes()),
    ];

    // Present: every key under its own name, byte for byte, odd names and binary values included.
    fixture.put(path, &odd);
    let fetched = fetch(fixture, path).await.unwrap();
    assert_eq!(entries(&fetched), odd);
    assert_eq!(fetched.get("DB_URL").map(SecretBytes::expose), Some(&[][..]), "an empty value is a value");
    assert_eq!(fetch(fixture, path).await.unwrap(), fetched, "nothing changed in between");

    // The newest content, and only it.
    fixture.put(path, &[("DB_URL", b"hunter2-new")]);
    assert_eq!(entries(&fetch(fixture, path).await.unwrap()), [("DB_URL", &b"hunter2-new"[..])]);

    // Neighbours, a longer name and a path above are other paths.
    fixture.put("contract/production-eu", &[("DB_URL", b"hunter2-eu")]);
    fixture.put("contract/staging", &[("DB_URL", b"hunter2-staging")]);
    assert_eq!(entries(&fetch(fixture, path).await.unwrap()), [("DB_URL", &b"hunter2-new"[..])]);
    assert!(
        !fetch(fixture, "contract").await.is_ok_and(|above| !above.is_empty()),
        "keys of paths below are not its own"
    );

    // Empty is an answer, missing is an error; host-sync treats both with care, and differently.
    fixture.put(path, &[]);
    assert!(fetch(fixture, path).await.unwrap().is_empty());
    fixture.remove(path);
    let missing = fetch(fixture, path).await.unwrap_err();
    assert_eq!(missing.class(), "NotFound");
    assert!(missing.to_string().contains(path), "{missing}");

    // Each trouble in its class, and over when it is over.
    fixture.forbid("contract/forbidden");
    assert_eq!(fetch(fixture, "contract/forbidden").await.unwrap_err().class(), "Denied");
    fixture.set_reachable(false);
    let unreachable = fetch(fixture, "contract/staging").await.unwrap_err();
    assert_eq!(
        unreachable.class(),
        "Unavailable",
        "an unreachable store must not look like a missing path: {unreachable}"
    );
    fixture.set_reachable(true);
    assert_eq!(entries(&fetch(fixture, "contract/staging").await.unwrap()), [("DB_URL", &b"hunter2-staging"[..])]);

    assert!(!fixture.store().description().is_empty());
}

struct InMemory(MemoryStore);

impl Fixture for InMemory {
    fn store(&self) -> &dyn Store {
        &self.0
    }

    fn put(&self, path: &str, entries: &[(&str, &[u8])]) {
        self.0.put(&source(path), entries.iter().copied());
    }

    fn remove(&self, path: &str) {
        self.0.remove(&source(path));
    }

    fn forbid(&self, path: &str) {
        let denied = FetchError::Denied { path: source(path), detail: "forbidden by the test".to_owned() };
        self.0.fail(&source(path), denied);
    }

    fn set_reachable(&self, reachable: bool) {
        let outage = FetchError::Unavailable { detail: "taken down by the test".to_owned() };
        self.0.set_outage((!reachable).then_some(outage));
    }
}

struct InFolders {
    folder: TempDir,
    store: FileStore,
}

impl InFolders {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = FileStore::new(folder.path().join("store"));
        fs::create_dir(folder.path().join("store")).unwrap();
        Self { folder, store }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join("store").join(path)
    }
}

impl Fixture for InFolders {
    fn store(&self) -> &dyn Store {
        &self.store
    }

    fn put(&self, path: &str, entries: &[(&str, &[u8])]) {
        self.remove(path);
        fs::create_dir_all(self.at(path)).unwrap();
        for (key, value) in entries {
            fs::write(self.at(path).join(key), value).unwrap();
        }
    }

    fn remove(&self, path: &str) {
        let _ = fs::remove_dir_all(self.at(path));
    }

    /// A link to outside rather than permission bits: the tests may run as root.
    fn forbid(&self, path: &str) {
        fs::create_dir_all(self.at(path)).unwrap();
        let outside = self.folder.path().join("outside");
        fs::write(&outside, MARK).unwrap();
        symlink(outside, self.at(path).join("DB_URL")).unwrap();
    }

    fn set_reachable(&self, reachable: bool) {
        let (here, away) = (self.at(""), self.folder.path().join("away"));
        let (from, to) = if reachable { (away, here) } else { (here, away) };
        fs::rename(from, to).unwrap();
    }
}

#[tokio::test]
async fn the_store_in_memory_keeps_the_contract() {
    contract(&InMemory(MemoryStore::default())).await;
}

#[tokio::test]
async fn the_file_store_keeps_the_contract() {
    contract(&InFolders::new()).await;
}
