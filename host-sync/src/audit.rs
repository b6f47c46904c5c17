//! The audit trail: every delivery, touch and deletion as one JSON line, chained by hashes, so that a line that was
//! changed, removed or slipped in shows.
//!
//! Each line holds the hash of the line before it and its own: SHA-256 over its canonical JSON without the hash. Names and
//! revisions only; there is no value in it, and nothing that a value could be guessed from. What a chain alone cannot show is
//! that the newest lines were cut off: compare the head that `host-sync audit verify` prints with one noted elsewhere (every
//! start of host-sync logs it). A line is written when its step is done, so a step in the very instant of a kill is in the API
//! server's audit log only.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// The hash that the first line names as the one before it.
const ROOT: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// An app environment was delivered to namespaces.
    Delivery,
    /// A workload was touched.
    Touch,
    /// A Secret was deleted.
    Prune,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It failed, with this message.
    Failed(String),
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Event {
    /// What was done.
    pub what: What,
    /// For which App.
    pub app: String,
    /// Which environment; absent where the step is not of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// To what: namespaces, a workload, a Secret.
    pub to: Vec<String>,
    /// The revision that was delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Why; who asked, where somebody did.
    pub why: String,
    /// What came of it.
    pub outcome: Outcome,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Line {
    /// Its number, from 1.
    number: u64,
    /// When, RFC 3339, UTC.
    time: String,
    event: Event,
    /// The hash of the line before.
    previous: String,
    /// The hash of this line without this field.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    hash: String,
}

impl Line {
    /// The hash that the line must have.
    fn computed(&self) -> String {
        let unhashed = Self { hash: String::new(), ..self.clone() };
        // Texts and numbers: nothing in a line could fail to serialise.
        let json = serde_json::to_vec(&unhashed).unwrap_or_default();
        Sha256::digest(json).iter().fold(String::with_capacity(64), |hash, byte| format!("{hash}{byte:02x}"))
    }
}

/// Where a chain ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// How many lines there are.
    pub lines: u64,
    /// The hash of the last one.
    pub hash: String,
}

impl Default for Head {
    fn default() -> Self {
        Self { lines: 0, hash: ROOT.to_owned() }
    }
}

/// Why an audit trail cannot be read, written or trusted.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum AuditError {
    #[error("reading or writing the audit trail {path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("line {line} of the audit trail {path} is not one that host-sync wrote: {problem}")]
    Malformed { path: PathBuf, line: u64, problem: String },
    #[error(
        "the audit trail {path} is broken at line {line}: {problem}; everything before that line is as host-sync wrote it"
    )]
    Broken { path: PathBuf, line: u64, problem: String },
}

/// Checks a trail from its first line to its last; returns where it ends. An unfinished last line (host-sync was killed
/// while it wrote) is left out.
pub fn verify(path: &Path) -> Result<Head, AuditError> {
    let io = |source| AuditError::Io { path: path.to_owned(), source };
    let mut reader = BufReader::new(File::open(path).map_err(io)?);
    let mut head = Head::default();
    let mut text = String::new();
    loop {
        text.clear();
        if reader.read_line(&mut text).map_err(io)? == 0 || !text.ends_with('\n') {
            return Ok(head);
        }
        head = follow(path, &head, &text)?;
    }
}

/// One line as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its number, from 1.
    pub number: u64,
    /// When, RFC 3339, UTC.
    pub time: String,
    /// What was done.
    pub event: Event,
}

/// The newest lines of a trail, newest first, as far as they are within its last `bytes`. They are not checked: that is
/// what [`verify`] is for.
pub fn newest(path: &Path, bytes: u64) -> Result<Vec<Shown>, AuditError> {
    let io = |source| AuditError::Io { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(io)?;
    let from = file.metadata().map_err(io)?.len().saturating_sub(bytes);
    file.seek(SeekFrom::Start(from)).map_err(io)?;
    let mut end = Vec::new();
    file.take(bytes).read_to_end(&mut end).map_err(io)?;
    // The first line may have lost its beginning, and the last one may be on its way.
    let whole = String::from_utf8_lossy(&end);
    let lines = whole.split_inclusive('\n').skip(usize::from(from > 0)).filter(|line| line.ends_with('\n'));
    let lines = lines.filter_map(|line| serde_json::from_str::<Line>(line).ok());
    let mut shown: Vec<Shown> = lines.map(|Line { number, time, event, .. }| Shown { number, time, event }).collect();
    shown.reverse();
    Ok(shown)
}

/// Checks one line against the one before it.
fn follow(path: &Path, head: &Head, text: &str) -> Result<Head, AuditError> {
    let number = head.lines + 1;
    let line: Line = serde_json::from_str(text).map_err(|error| AuditError::Malformed {
        path: path.to_owned(),
        line: number,
        problem: error.to_string(),
    })?;
    let broken =
        |problem: &str| AuditError::Broken { path: path.to_owned(), line: number, problem: problem.to_owned() };
    if line.hash != line.computed() {
        return Err(broken("it was changed after it was written"));
    }
    if line.number != number || line.previous != head.hash {
        return Err(broken("a line before it was removed, changed or added"));
    }
    Ok(Head { lines: number, hash: line.hash })
}

/// An audit trail that is written to.
#[derive(Debug)]
pub struct Trail {
    path: PathBuf,
    file: File,
    head: Head,
}

impl Trail {
    /// Opens a trail, or begins one. The whole of it is checked: a broken one is refused, so that nobody mends it by restarting.
    pub fn open(path: &Path) -> Result<Self, AuditError> {
        let io = |source| AuditError::Io { path: path.to_owned(), source };
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(path).map_err(io)?;
        let head = verify(path)?;
        // A line that was being written when host-sync was killed is cut: it was not part of the chain yet.
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0)).map_err(io)?;
        file.read_to_end(&mut bytes).map_err(io)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        if whole < bytes.len() {
            file.set_len(whole as u64).map_err(io)?;
        }
        Ok(Self { path: path.to_owned(), file, head })
    }

    /// Where it ends.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Adds a line and has it reach the disk. `time` is RFC 3339, UTC.
    pub fn append(&mut self, time: String, event: Event) -> Result<(), AuditError> {
        let number = self.head.lines + 1;
        let mut line = Line { number, time, event, previous: self.head.hash.clone(), hash: String::new() };
        line.hash = line.computed();
        let mut text = serde_json::to_string(&line).unwrap_or_default();
        text.push('\n');
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data());
        written.map_err(|source| AuditError::Io { path: self.path.clone(), source })?;
        self.head = Head { lines: number, hash: line.hash };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(to: &str) -> Event {
        Event {
            what: What::Touch,
            app: "checkout".into(),
            environment: None,
            to: vec![to.to_owned()],
            revision: Some("4f9a".into()),
            why: "the content changed".into(),
            outcome: Outcome::Done,
        }
    }

    fn trail(folder: &Path) -> PathBuf {
        let path = folder.join("audit.jsonl");
        let mut trail = Trail::open(&path).unwrap();
        for to in ["one", "two", "three"] {
            trail.append("2026-01-01T00:00:00Z".into(), event(to)).unwrap();
        }
        path
    }

    /// The message for a trail whose lines were tampered with.
    fn tampered(with: impl Fn(&mut Vec<String>)) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = trail(folder.path());
        let text = std::fs::read_to_string(&path).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        with(&mut lines);
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        assert!(Trail::open(&path).is_err(), "a broken trail is not written on");
        verify(&path).unwrap_err().to_string()
    }

    #[test]
    fn a_trail_goes_on_after_a_restart_and_verifies() {
        let folder = tempfile::tempdir().unwrap();
        let path = trail(folder.path());
        let mut again = Trail::open(&path).unwrap();
        assert_eq!(again.head().lines, 3);
        again.append("2026-01-02T00:00:00Z".into(), event("four")).unwrap();
        assert_eq!(verify(&path).unwrap(), *again.head());
        assert_eq!(again.head().lines, 4);
    }

    #[test]
    fn a_removed_changed_or_added_line_shows_with_its_number() {
        let message = tampered(|lines| drop(lines.remove(1)));
        assert!(message.contains("broken at line 2: a line before it was removed"), "{message}");
        let message = tampered(|lines| lines[1] = lines[1].replace("two", "owt"));
        assert!(message.contains("broken at line 2: it was changed"), "{message}");
        let message = tampered(|lines| lines.swap(0, 1));
        assert!(message.contains("broken at line 1"), "{message}");
        let message = tampered(|lines| lines.insert(1, lines[0].clone()));
        assert!(message.contains("broken at line 2"), "{message}");
        let message = tampered(|lines| lines.push("{}".to_owned()));
        assert!(message.contains("line 4") && message.contains("not one that host-sync wrote"), "{message}");
    }

    #[test]
    fn a_line_that_was_cut_by_a_kill_is_left_out_and_the_chain_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = trail(folder.path());
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 20]).unwrap();
        assert_eq!(verify(&path).unwrap().lines, 2);
        let mut again = Trail::open(&path).unwrap();
        again.append("2026-01-02T00:00:00Z".into(), event("three")).unwrap();
        assert_eq!(verify(&path).unwrap().lines, 3);
    }

    #[test]
    fn the_newest_lines_come_first_and_a_cut_one_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = trail(folder.path());
        let tos =
            |bytes| newest(&path, bytes).unwrap().into_iter().map(|one| one.event.to[0].clone()).collect::<Vec<_>>();
        assert_eq!(tos(1 << 20), ["three", "two", "one"]);
        let length = std::fs::metadata(&path).unwrap().len();
        assert_eq!(tos(length - 1), ["three", "two"]);
    }
}
