//! The watch: every way in which people and tools change files is reported, once, and reading is not.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use host_sync_core::store::{SourcePath, Store};
use host_sync_stores::file::{FileStore, Watch};
use tempfile::TempDir;
use tokio::time::timeout;

/// Long enough for a report on a busy machine.
const SOON: Duration = Duration::from_secs(10);
/// Long enough to notice a report that should not come.
const AT_REST: Duration = Duration::from_millis(400);

struct Folder {
    above: TempDir,
    watch: Watch,
}

impl Folder {
    /// A watched folder with `checkout/production.yaml` in it.
    fn new() -> Self {
        let above = tempfile::tempdir().unwrap();
        fs::create_dir_all(above.path().join("store/checkout")).unwrap();
        fs::write(above.path().join("store/checkout/production.yaml"), "A: x").unwrap();
        let watch = FileStore::new(above.path().join("store")).watch().unwrap();
        Self { above, watch }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.above.path().join("store").join(path)
    }

    async fn reported(&mut self, what: &str) {
        timeout(SOON, self.watch.changed()).await.unwrap_or_else(|_| panic!("{what}: no report")).unwrap();
    }

    async fn at_rest(&mut self, what: &str) {
        assert!(timeout(AT_REST, self.watch.changed()).await.is_err(), "{what}: a report without a change");
    }

    /// The watch is still whole: a plain save is reported.
    async fn still_watches(&mut self, file: &str) {
        self.at_rest("before the save").await;
        fs::write(self.at(file), "A: y").unwrap();
        self.reported("a save").await;
    }
}

#[tokio::test]
async fn a_saved_file_is_reported_at_once_and_once() {
    let mut folder = Folder::new();
    folder.at_rest("nothing happened").await;
    let saved = Instant::now();
    for key in ["a", "b", "c"] {
        fs::write(folder.at("checkout/production.yaml"), format!("A: {key}")).unwrap();
    }
    folder.reported("three saves").await;
    assert!(saved.elapsed() < Duration::from_secs(2), "{:?}", saved.elapsed());
    folder.at_rest("three saves are one report").await;
}

#[tokio::test]
async fn reading_is_not_reported() {
    let mut folder = Folder::new();
    let store = FileStore::new(folder.at(""));
    store.fetch(&SourcePath::parse("checkout/production").unwrap()).await.unwrap();
    folder.at_rest("a fetch").await;
}

#[tokio::test]
async fn a_file_that_is_being_written_is_reported_when_it_is_closed() {
    let mut folder = Folder::new();
    let mut file = fs::File::create(folder.at("checkout/staging.yaml")).unwrap();
    write!(file, "A: ").unwrap();
    file.sync_all().unwrap();
    folder.at_rest("half a file").await;
    write!(file, "x").unwrap();
    drop(file);
    folder.reported("the whole file").await;
}

#[tokio::test]
async fn an_editor_that_renames_over_the_file_is_reported() {
    let mut folder = Folder::new();
    for round in 0..3 {
        fs::write(folder.at("checkout/.production.yaml.swp"), format!("A: {round}")).unwrap();
        fs::rename(folder.at("checkout/.production.yaml.swp"), folder.at("checkout/production.yaml")).unwrap();
        folder.reported("rename over").await;
    }
    folder.still_watches("checkout/production.yaml").await;
}

#[tokio::test]
async fn a_removed_file_is_reported() {
    let mut folder = Folder::new();
    fs::remove_file(folder.at("checkout/production.yaml")).unwrap();
    folder.reported("a removal").await;
}

#[tokio::test]
async fn new_folders_are_watched_too() {
    let mut folder = Folder::new();
    fs::create_dir_all(folder.at("cart/production/deep")).unwrap();
    folder.reported("new folders").await;
    folder.still_watches("cart/production/deep/A").await;
}

#[tokio::test]
async fn a_folder_that_another_takes_the_place_of_is_watched_on() {
    let mut folder = Folder::new();
    fs::create_dir(folder.at("next")).unwrap();
    fs::write(folder.at("next/production.yaml"), "A: next").unwrap();
    folder.reported("a folder beside it").await;
    fs::rename(folder.at("checkout"), folder.at("old")).unwrap();
    fs::rename(folder.at("next"), folder.at("checkout")).unwrap();
    folder.reported("the swap").await;
    folder.still_watches("checkout/production.yaml").await;
}

#[tokio::test]
async fn the_data_link_of_a_kubernetes_volume_is_reported() {
    let mut folder = Folder::new();
    let lay = |at: &Path, version: &str| {
        let data = at.join(format!("..{version}"));
        fs::create_dir_all(&data).unwrap();
        fs::write(data.join("DB_URL"), version).unwrap();
        symlink(format!("..{version}"), at.join("..data_tmp")).unwrap();
        fs::rename(at.join("..data_tmp"), at.join("..data")).unwrap();
    };
    fs::create_dir(folder.at("volume")).unwrap();
    lay(&folder.at("volume"), "1");
    symlink("..data/DB_URL", folder.at("volume/DB_URL")).unwrap();
    folder.reported("the mount").await;
    for version in ["2", "3"] {
        folder.at_rest("between swaps").await;
        lay(&folder.at("volume"), version);
        fs::remove_dir_all(folder.at(&format!("volume/..{}", version.parse::<u32>().unwrap() - 1))).unwrap();
        folder.reported("a swap").await;
        assert_eq!(fs::read_to_string(folder.at("volume/DB_URL")).unwrap(), version);
    }
}

#[tokio::test]
async fn the_store_folder_may_be_missing_and_made_later() {
    let above = tempfile::tempdir().unwrap();
    let watch = FileStore::new(above.path().join("not/yet/store")).watch().unwrap();
    let mut folder = Folder { above, watch };
    folder.at_rest("nothing is there").await;
    fs::write(folder.above.path().join("neighbour"), "x").unwrap();
    folder.at_rest("a neighbour of the store's folder").await;
    fs::create_dir_all(folder.above.path().join("not/yet/store/checkout")).unwrap();
    folder.reported("the folder is made").await;
    fs::write(folder.above.path().join("not/yet/store/checkout/production.yaml"), "A: x").unwrap();
    folder.reported("a file in it").await;
}

#[tokio::test]
async fn the_store_folder_may_be_removed_replaced_and_moved() {
    let mut folder = Folder::new();
    fs::remove_dir_all(folder.at("")).unwrap();
    folder.reported("the removal").await;
    fs::create_dir_all(folder.at("checkout")).unwrap();
    folder.reported("the folder is back").await;
    folder.still_watches("checkout/production.yaml").await;

    let other = folder.above.path().join("other");
    fs::create_dir_all(other.join("checkout")).unwrap();
    fs::rename(folder.at(""), folder.above.path().join("away")).unwrap();
    fs::rename(other, folder.at("")).unwrap();
    folder.reported("another folder in its place").await;
    folder.still_watches("checkout/production.yaml").await;

    folder.at_rest("nothing more").await;
    fs::write(folder.above.path().join("away/checkout/production.yaml"), "A: z").unwrap();
    folder.at_rest("the folder that was moved away").await;
}

#[tokio::test]
async fn a_store_folder_that_is_a_link_follows_the_link_when_it_is_swapped() {
    let above = tempfile::tempdir().unwrap();
    for version in ["one", "two"] {
        fs::create_dir_all(above.path().join(version).join("checkout")).unwrap();
    }
    symlink("one", above.path().join("store")).unwrap();
    let watch = FileStore::new(above.path().join("store")).watch().unwrap();
    let mut folder = Folder { above, watch };
    folder.still_watches("checkout/production.yaml").await;
    folder.at_rest("before the swap").await;
    symlink("two", folder.above.path().join("next")).unwrap();
    fs::rename(folder.above.path().join("next"), folder.above.path().join("store")).unwrap();
    folder.reported("the swap").await;
    folder.still_watches("checkout/production.yaml").await;
}

#[tokio::test]
async fn a_report_survives_a_dropped_future() {
    let mut folder = Folder::new();
    fs::write(folder.at("checkout/production.yaml"), "A: y").unwrap();
    // Dropped at every moment of the wait, the renewal of the watch included.
    for milliseconds in [1, 10, 20, 40, 49] {
        let _ = timeout(Duration::from_millis(milliseconds), folder.watch.changed()).await;
    }
    folder.reported("the save").await;
}
