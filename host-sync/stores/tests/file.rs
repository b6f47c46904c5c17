//! What is special about files: forms, links, sizes, half-written files, and Kubernetes' way to mount a volume.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use host_sync_core::store::{FetchError, Fetched, SourcePath, Store};
use host_sync_stores::file::{FileStore, SIZE_MAX};
use tempfile::TempDir;

const PATH: &str = "checkout/production";

/// A store's folder with `checkout/` in it.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("checkout")).unwrap();
    folder
}

fn write(folder: &TempDir, file: &str, content: impl AsRef<[u8]>) {
    let file = folder.path().join(file);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, content).unwrap();
}

async fn fetch(folder: &TempDir, path: &str) -> Result<Fetched, FetchError> {
    FileStore::new(folder.path()).fetch(&SourcePath::parse(path).unwrap()).await
}

fn value<'a>(fetched: &'a Fetched, key: &str) -> &'a str {
    str::from_utf8(fetched.get(key).unwrap().expose()).unwrap()
}

#[tokio::test]
async fn a_path_is_a_folder_or_a_file_of_a_known_ending() {
    for (file, content) in [
        ("checkout/production/DB_URL", "postgres"),
        ("checkout/production.yaml", "DB_URL: postgres"),
        ("checkout/production.yml", "DB_URL: postgres"),
        ("checkout/production.json", r#"{"DB_URL": "postgres"}"#),
        ("checkout/production.env", "DB_URL=postgres"),
    ] {
        let folder = folder();
        write(&folder, file, content);
        assert_eq!(value(&fetch(&folder, PATH).await.unwrap(), "DB_URL"), "postgres", "{file}");
        let in_full = file.trim_end_matches("/DB_URL");
        assert_eq!(value(&fetch(&folder, in_full).await.unwrap(), "DB_URL"), "postgres", "{file} in full");
    }
}

#[tokio::test]
async fn two_forms_of_one_path_are_refused_with_both_names() {
    let folder = folder();
    write(&folder, "checkout/production.yaml", "A: x");
    write(&folder, "checkout/production.json", "{}");
    let error = fetch(&folder, PATH).await.unwrap_err();
    assert_eq!(error.class(), "Misconfigured");
    let message = error.to_string();
    assert!(message.contains("checkout/production.yaml") && message.contains("checkout/production.json"), "{message}");
}

#[tokio::test]
async fn a_missing_path_says_what_was_looked_for() {
    let folder = folder();
    write(&folder, "checkout/production.txt", "A: x");
    write(&folder, "cart", "A: x");
    for path in [PATH, "checkout/production.txt.d", "nowhere/production"] {
        let error = fetch(&folder, path).await.unwrap_err();
        assert_eq!(error.class(), "NotFound");
        assert!(error.to_string().contains(&format!("a file {path} ending in .yaml, .yml, .json, .env")), "{error}");
    }
    for path in ["checkout/production.txt", "cart"] {
        let error = fetch(&folder, path).await.unwrap_err().to_string();
        assert!(error.contains("no known ending"), "{error}");
    }
    assert_eq!(fetch(&folder, "cart/production").await.unwrap_err().class(), "NotFound");
}

#[tokio::test]
async fn a_half_written_file_is_refused_with_line_and_column_and_without_its_values() {
    let folder = folder();
    write(&folder, "checkout/production.yaml", "DB_URL: postgres\nTOKEN: \"hunter2");
    let error = fetch(&folder, PATH).await.unwrap_err();
    assert!(
        matches!(&error, FetchError::Malformed { file, line: 2, .. } if file == "checkout/production.yaml"),
        "{error:?}"
    );
    assert_eq!(error.to_string(), "checkout/production.yaml is malformed at line 2, column 8: unclosed quote");
    assert!(!format!("{error:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_file_that_is_written_in_pieces_is_read_only_when_it_is_whole() {
    let folder = folder();
    let mut file = fs::File::create(folder.path().join("checkout/production.yaml")).unwrap();
    let writer = thread::spawn(move || {
        for key in ["A", "B", "C", "D"] {
            writeln!(file, "{key}: x").unwrap();
            thread::sleep(Duration::from_millis(60));
        }
    });
    let fetched = fetch(&folder, PATH).await.unwrap();
    writer.join().unwrap();
    assert_eq!(fetched.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["A", "B", "C", "D"]);
}

/// Somebody who keeps writing until it is dropped.
struct Writer {
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Calls `write` with 1, 2, 3, … and pauses after each call.
    fn start(pause: Duration, mut write: impl FnMut(u32) + Send + 'static) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&done);
        let thread = thread::spawn(move || {
            for round in 1.. {
                if seen.load(Ordering::Relaxed) {
                    break;
                }
                write(round);
                thread::sleep(pause);
            }
        });
        Self { done, thread: Some(thread) }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

#[tokio::test]
async fn files_that_never_rest_are_unavailable_and_not_half_read() {
    let folder = folder();
    let file = folder.path().join("checkout/production.yaml");
    fs::write(&file, "A: x").unwrap();
    let writer = Writer::start(Duration::from_millis(5), move |_| fs::write(&file, "A: x").unwrap());
    let error = fetch(&folder, PATH).await.unwrap_err();
    drop(writer);
    assert_eq!(error.class(), "Unavailable");
    assert!(error.to_string().contains("checkout/production.yaml"), "{error}");
    assert!(fetch(&folder, PATH).await.is_ok(), "at rest again");
}

#[tokio::test]
async fn an_editor_that_removes_the_file_before_it_saves_loses_no_key() {
    let folder = folder();
    for key in ["A", "B"] {
        write(&folder, &format!("checkout/production/{key}"), "x");
    }
    thread::sleep(Duration::from_millis(150));
    let file = folder.path().join("checkout/production/A");
    fs::remove_file(&file).unwrap();
    let editor = thread::spawn(move || {
        thread::sleep(Duration::from_millis(40));
        fs::write(file, "y").unwrap();
    });
    let fetched = fetch(&folder, PATH).await.unwrap();
    editor.join().unwrap();
    assert_eq!(value(&fetched, "A"), "y");
}

#[tokio::test]
async fn a_file_with_a_time_in_the_future_is_read() {
    let folder = folder();
    write(&folder, "checkout/production.env", "A=x");
    let file = fs::File::options().write(true).open(folder.path().join("checkout/production.env")).unwrap();
    file.set_modified(SystemTime::now() + Duration::from_hours(1)).unwrap();
    assert_eq!(value(&fetch(&folder, PATH).await.unwrap(), "A"), "x");
}

#[tokio::test]
async fn a_link_that_leads_out_of_the_store_is_denied() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("production.yaml"), "TOKEN: hunter2").unwrap();
    for link in ["checkout/production.yaml", "checkout/production/TOKEN"] {
        let folder = folder();
        let link = folder.path().join(link);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(outside.path().join("production.yaml"), &link).unwrap();
        let error = fetch(&folder, PATH).await.unwrap_err();
        assert_eq!(error.class(), "Denied", "{error}");
        assert!(error.to_string().contains("leads out of the store's folder"), "{error}");
    }
    // A folder on the way, by a relative link.
    let folder = tempfile::tempdir_in(outside.path()).unwrap();
    symlink("..", folder.path().join("checkout")).unwrap();
    assert_eq!(fetch(&folder, PATH).await.unwrap_err().class(), "Denied");
}

#[tokio::test]
async fn a_link_that_stays_inside_is_followed() {
    let folder = folder();
    write(&folder, "shared/common.yaml", "A: x");
    symlink("../shared/common.yaml", folder.path().join("checkout/production.yaml")).unwrap();
    assert_eq!(value(&fetch(&folder, PATH).await.unwrap(), "A"), "x");
}

/// Lays a version of a volume as kubelet's atomic writer does, and swaps it in.
fn mount(volume: &Path, version: &str, files: &[(&str, &str)]) {
    let data = volume.join(format!("..{version}"));
    fs::create_dir_all(&data).unwrap();
    for (name, content) in files {
        fs::write(data.join(name), content).unwrap();
        let link = volume.join(name);
        if link.symlink_metadata().is_err() {
            symlink(Path::new("..data").join(name), link).unwrap();
        }
    }
    symlink(format!("..{version}"), volume.join("..data_tmp")).unwrap();
    fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
}

#[tokio::test]
async fn a_mounted_kubernetes_volume_is_read_in_one_version_and_without_its_dot_entries() {
    let folder = folder();
    let volume = folder.path().join(PATH);
    mount(&volume, "2026_1", &[("DB_URL", "one"), ("TOKEN", "one")]);
    let fetched = fetch(&folder, PATH).await.unwrap();
    assert_eq!(fetched.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["DB_URL", "TOKEN"]);

    // Swapped again and again while it is read: both keys are always of one version.
    let _writer = Writer::start(Duration::from_millis(130), move |round| {
        let text = round.to_string();
        mount(&volume, &format!("2026_{}", round + 1), &[("DB_URL", &text), ("TOKEN", &text)]);
    });
    let mut read = 0;
    for _ in 0..8 {
        if let Ok(fetched) = fetch(&folder, PATH).await {
            assert_eq!(value(&fetched, "DB_URL"), value(&fetched, "TOKEN"));
            read += 1;
        }
    }
    assert!(read > 0);
}

#[tokio::test]
async fn what_is_no_key_is_refused_by_name() {
    let subfolder = folder();
    write(&subfolder, "checkout/production/eu/DB_URL", "x");
    let error = fetch(&subfolder, PATH).await.unwrap_err();
    assert_eq!(error.class(), "Misconfigured");
    assert!(error.to_string().contains("checkout/production/eu is no file"), "{error}");

    let dangling = folder();
    write(&dangling, "checkout/production/DB_URL", "x");
    symlink("../gone", dangling.path().join("checkout/production/TOKEN")).unwrap();
    let error = fetch(&dangling, PATH).await.unwrap_err();
    assert_eq!(error.class(), "Unavailable");
    assert!(error.to_string().contains("checkout/production/TOKEN"), "{error}");
}

#[tokio::test]
async fn too_much_is_refused_with_both_figures() {
    let folder = folder();
    write(&folder, "checkout/production/A", vec![b'x'; 3 * 1024 * 1024]);
    write(&folder, "checkout/production/B", vec![b'x'; 1024 * 1024]);
    assert!(fetch(&folder, PATH).await.is_ok(), "exactly the limit");
    write(&folder, "checkout/production/B", vec![b'x'; 1024 * 1024 + 1]);
    let error = fetch(&folder, PATH).await.unwrap_err();
    assert_eq!(error.class(), "Misconfigured");
    assert!(error.to_string().contains(&format!("takes {} bytes, and at most {SIZE_MAX}", SIZE_MAX + 1)), "{error}");
}

#[tokio::test]
async fn a_missing_store_folder_is_an_outage_and_says_the_fix() {
    let folder = folder();
    let root = folder.path().join("not-mounted");
    let path = SourcePath::parse(PATH).unwrap();
    let error = FileStore::new(&root).fetch(&path).await.unwrap_err();
    assert_eq!(error.class(), "Unavailable");
    assert!(error.to_string().contains("not-mounted is not there: create or mount it"), "{error}");
    fs::write(&root, "A: x").unwrap();
    assert_eq!(FileStore::new(&root).fetch(&path).await.unwrap_err().class(), "Misconfigured");
}
