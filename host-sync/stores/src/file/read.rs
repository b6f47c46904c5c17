//! One read of one path: whole, from files at rest, and never from outside the store's folder.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, Metadata, MetadataExt};
use host_sync_core::secret_bytes::SecretBytes;
use host_sync_core::store::{FetchError, Fetched, SourcePath};
use zeroize::Zeroizing;

use super::document::{self, EXTENSIONS, Format};

/// The most that one app environment may take, in bytes; a Secret holds a quarter of it.
pub const SIZE_MAX: u64 = 4 * 1024 * 1024;

/// The most keys that a folder may hold.
pub const KEYS_MAX: usize = 10_000;

/// How long a file must be unchanged before it is read: a file that is written in pieces is at rest between two of them too.
const AT_REST: Duration = Duration::from_millis(100);

/// How often files that change are read again.
const ATTEMPTS: u32 = 10;

/// Reads every key at `path` below the folder `root`.
pub(super) fn read(root: &Path, path: &SourcePath) -> Result<Fetched, FetchError> {
    let mut restless = String::new();
    for _ in 0..ATTEMPTS {
        match (Reading { root: open_root(root, path)?, path }).attempt()? {
            Attempt::Whole(fetched) => return Ok(fetched),
            Attempt::Restless { detail, wait } => {
                restless = detail;
                thread::sleep(wait);
            }
        }
    }
    Err(FetchError::Unavailable { detail: restless })
}

fn open_root(root: &Path, path: &SourcePath) -> Result<Dir, FetchError> {
    Dir::open_ambient_dir(root, ambient_authority()).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => FetchError::Unavailable {
            detail: format!(
                "the folder {} is not there: create or mount it, or correct the SecretStore's path",
                root.display()
            ),
        },
        io::ErrorKind::PermissionDenied => FetchError::Denied {
            path: path.clone(),
            detail: format!("host-sync may not open the folder {}: let its user read it", root.display()),
        },
        io::ErrorKind::NotADirectory => FetchError::Misconfigured {
            path: path.clone(),
            detail: format!("{} is a file: the SecretStore's path must be a folder", root.display()),
        },
        _ => FetchError::Unavailable { detail: format!("the folder {} cannot be opened: {error}", root.display()) },
    })
}

/// What came of one attempt.
enum Attempt {
    Whole(Fetched),
    /// Something was changing; after `wait` it may be at rest.
    Restless {
        detail: String,
        wait: Duration,
    },
}

/// What identifies one version of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// How long until the file counts as at rest. A time in the future is another machine's clock: such a file is at rest.
    fn unrest(&self, now: SystemTime) -> Option<Duration> {
        let since_epoch = Duration::new(self.modified.0.try_into().ok()?, self.modified.1.try_into().ok()?);
        let age = now.duration_since(SystemTime::UNIX_EPOCH + since_epoch).ok()?;
        AT_REST.checked_sub(age).filter(|wait| !wait.is_zero())
    }
}

/// Everything that one read depends on, by its name below the store's folder.
struct Stamps {
    /// The folder of keys. Its time tells that a file was just removed, which is how some editors begin to save one.
    folder: Option<(String, Stamp)>,
    /// The files to read; `None` for one that is listed and not there.
    files: BTreeMap<String, Option<Stamp>>,
}

impl Stamps {
    fn present(&self) -> impl Iterator<Item = (&str, &Stamp)> {
        let files = self.files.iter().filter_map(|(name, stamp)| Some((name, stamp.as_ref()?)));
        self.folder.iter().map(|(name, stamp)| (name, stamp)).chain(files).map(|(name, stamp)| (name.as_str(), stamp))
    }

    /// How long until everything counts as at rest, and what takes longest.
    fn unrest(&self, now: SystemTime) -> Option<(Duration, &str)> {
        self.present().filter_map(|(name, stamp)| Some((stamp.unrest(now)?, name))).max()
    }

    fn first_difference(&self, after: &Self) -> Option<&str> {
        let folder = self.folder.iter().find(|_| self.folder != after.folder).map(|(name, _)| name);
        let file = self.files.iter().find(|(name, stamp)| after.files.get(*name) != Some(*stamp)).map(|(name, _)| name);
        folder.or(file).map(String::as_str)
    }
}

/// The form in which a path is there.
#[derive(Debug, Clone)]
enum Form {
    Folder,
    Document { file: String, format: Format },
}

struct Reading<'a> {
    root: Dir,
    path: &'a SourcePath,
}

impl Reading<'_> {
    fn attempt(&self) -> Result<Attempt, FetchError> {
        let form = self.form()?;
        let before = self.stamps(&form)?;
        if let Some((wait, name)) = before.unrest(SystemTime::now()) {
            let detail = format!(
                "{name} is being written all the time: write another file, and rename it to this one when it is whole"
            );
            return Ok(Attempt::Restless { detail, wait });
        }
        let mut contents = BTreeMap::new();
        for (file, stamp) in &before.files {
            let Some(bytes) = stamp.as_ref().map(|stamp| self.content(file, stamp)).transpose()?.flatten() else {
                return Ok(restless(file));
            };
            contents.insert(file.as_str(), bytes);
        }
        if let Some(name) = before.first_difference(&self.stamps(&form)?) {
            return Ok(restless(name));
        }
        keys(&form, contents).map(Attempt::Whole)
    }

    /// Finds the one form that the path has.
    fn form(&self) -> Result<Form, FetchError> {
        let path = self.path.as_str();
        let mut forms = Vec::new();
        if let Some(metadata) = self.metadata(path)? {
            if metadata.is_dir() {
                forms.push((path.to_owned(), Form::Folder));
            } else {
                let format = Format::of(path).ok_or_else(|| {
                    self.misconfigured(format!(
                        "the file {path} has no known ending: rename it to end in one of {}",
                        EXTENSIONS.join(", ")
                    ))
                })?;
                forms.push((path.to_owned(), Form::Document { file: path.to_owned(), format }));
            }
        }
        for extension in EXTENSIONS {
            let file = format!("{path}{extension}");
            if let (Some(format), Some(_)) = (Format::of(&file), self.metadata(&file)?) {
                forms.push((file.clone(), Form::Document { file, format }));
            }
        }
        match forms.as_slice() {
            [] => Err(FetchError::NotFound {
                path: self.path.clone(),
                detail: format!(
                    "there is neither a folder {path} nor a file {path} ending in {}",
                    EXTENSIONS.join(", ")
                ),
            }),
            [(_, form)] => Ok(form.clone()),
            [(one, _), (other, _), ..] => Err(self.misconfigured(format!(
                "both {one} and {other} are there, and only one can be meant: remove one of them"
            ))),
        }
    }

    fn stamps(&self, form: &Form) -> Result<Stamps, FetchError> {
        let (folder, names) = match form {
            Form::Folder => {
                let path = self.path.as_str();
                let stamp = self.metadata(path)?.as_ref().map(Stamp::of);
                (stamp.map(|stamp| (path.to_owned(), stamp)), self.files()?)
            }
            Form::Document { file, .. } => (None, vec![file.clone()]),
        };
        let mut files = BTreeMap::new();
        for file in names {
            let metadata = self.metadata(&file)?;
            if metadata.as_ref().is_some_and(|metadata| !metadata.is_file()) {
                return Err(
                    self.misconfigured(format!("{file} is no file: every entry of {} must be a file", self.path))
                );
            }
            files.insert(file, metadata.as_ref().map(Stamp::of));
        }
        let size: u64 = files.values().flatten().map(|stamp| stamp.size).sum();
        if size > SIZE_MAX {
            return Err(self.misconfigured(format!(
                "it takes {size} bytes, and at most {SIZE_MAX} are read: remove what is no secret"
            )));
        }
        Ok(Stamps { folder, files })
    }

    /// The files of the folder that are keys.
    fn files(&self) -> Result<Vec<String>, FetchError> {
        let path = self.path.as_str();
        let mut files = Vec::new();
        for entry in self.root.read_dir(path).map_err(|error| self.refused(path, &error))? {
            let name = entry.map_err(|error| self.refused(path, &error))?.file_name();
            let name = name.to_str().ok_or_else(|| {
                self.misconfigured(format!("the file name {} in {path} is not UTF-8: rename the file", name.display()))
            })?;
            if !name.starts_with('.') {
                files.push(format!("{path}/{name}"));
            }
            if files.len() > KEYS_MAX {
                return Err(
                    self.misconfigured(format!("{path} holds more than {KEYS_MAX} files: remove what is no secret"))
                );
            }
        }
        Ok(files)
    }

    /// The bytes of a file, if it is still the one with that stamp.
    fn content(&self, file: &str, stamp: &Stamp) -> Result<Option<Zeroizing<Vec<u8>>>, FetchError> {
        let opened = match self.root.open(file) {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.refused(file, &error)),
        };
        // Reserved in full, because growing would leave unwiped copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(stamp.size).unwrap_or_default() + 1));
        (&opened).take(stamp.size + 1).read_to_end(&mut bytes).map_err(|error| self.refused(file, &error))?;
        let now = opened.metadata().map_err(|error| self.refused(file, &error))?;
        Ok((Stamp::of(&now) == *stamp && bytes.len() as u64 == stamp.size).then_some(bytes))
    }

    /// The metadata of what a name leads to, links followed; `None` if nothing is there.
    fn metadata(&self, name: &str) -> Result<Option<Metadata>, FetchError> {
        match self.root.metadata(name) {
            Ok(metadata) => Ok(Some(metadata)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(self.refused(name, &error)),
        }
    }

    fn misconfigured(&self, detail: String) -> FetchError {
        FetchError::Misconfigured { path: self.path.clone(), detail }
    }

    fn refused(&self, name: &str, error: &io::Error) -> FetchError {
        match error.kind() {
            // The system's own refusal has a number; one without is cap-std's.
            io::ErrorKind::PermissionDenied if error.raw_os_error().is_none() => FetchError::Denied {
                path: self.path.clone(),
                detail: format!(
                    "{name} is a link that leads out of the store's folder: put the file itself there, or a relative link that stays inside"
                ),
            },
            io::ErrorKind::PermissionDenied => FetchError::Denied {
                path: self.path.clone(),
                detail: format!("host-sync may not read {name}: let its user read it"),
            },
            _ => FetchError::Unavailable { detail: format!("{name}: {error}") },
        }
    }
}

/// What the files hold, key by key.
fn keys(form: &Form, mut contents: BTreeMap<&str, Zeroizing<Vec<u8>>>) -> Result<Fetched, FetchError> {
    match form {
        Form::Document { file, format } => {
            let bytes = contents.remove(file.as_str()).unwrap_or_default();
            document::parse(*format, &bytes).map_err(|refused| FetchError::Malformed {
                file: file.clone(),
                line: refused.place.line,
                column: refused.place.column,
                problem: refused.problem,
            })
        }
        Form::Folder => {
            let name = |file: &str| file.rsplit('/').next().unwrap_or_default().to_owned();
            let taken = |mut bytes: Zeroizing<Vec<u8>>| SecretBytes::new(std::mem::take(&mut *bytes));
            Ok(contents.into_iter().map(|(file, bytes)| (name(file), taken(bytes))).collect())
        }
    }
}

fn restless(file: &str) -> Attempt {
    Attempt::Restless {
        detail: format!(
            "{file} changes or vanishes whenever it is read: a link to nothing is to be removed, a file to be written elsewhere and renamed"
        ),
        wait: AT_REST,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn stamps(root: &Path, form: &Form) -> Stamps {
        let path = SourcePath::parse("app").unwrap();
        Reading { root: open_root(root, &path).unwrap(), path: &path }.stamps(form).unwrap()
    }

    #[test]
    fn every_change_between_two_looks_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join("app").join(name);
        fs::create_dir(at("")).unwrap();
        fs::create_dir(at("..1")).unwrap();
        fs::create_dir(at("..2")).unwrap();
        fs::write(at("..1/B"), "one").unwrap();
        fs::write(at("..2/B"), "two").unwrap();
        symlink("..1", at("..data")).unwrap();
        symlink("..data/B", at("B")).unwrap();
        fs::write(at("A"), "x").unwrap();

        let form = Form::Folder;
        let mut before = stamps(folder.path(), &form);
        assert_eq!(before.first_difference(&stamps(folder.path(), &form)), None);
        let mut changes = |what: &str, change: &dyn Fn()| {
            change();
            let after = stamps(folder.path(), &form);
            assert!(before.first_difference(&after).is_some(), "{what}");
            before = after;
        };
        changes("another size", &|| fs::write(at("A"), "xx").unwrap());
        changes("the same size", &|| {
            std::thread::sleep(Duration::from_millis(10));
            fs::write(at("A"), "yy").unwrap();
        });
        changes("a new file", &|| fs::write(at("C"), "x").unwrap());
        changes("a removed file", &|| fs::remove_file(at("C")).unwrap());
        changes("a swapped link", &|| {
            symlink("..2", at("..data_tmp")).unwrap();
            fs::rename(at("..data_tmp"), at("..data")).unwrap();
        });
    }
}
