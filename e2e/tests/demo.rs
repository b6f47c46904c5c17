//! The demo itself: it tells its story to the end, and nothing of it stays behind, however it ends.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::{env, fs};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn demo(arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    command.args(arguments).env_remove("SCOUT_E2E_KEEP").stdin(Stdio::null()).stdout(Stdio::piped());
    command.spawn().unwrap()
}

/// The folder of the cluster of a process that makes only one.
fn folder(owner: &Child) -> PathBuf {
    env::temp_dir().join(format!("scout-e2e-{}-0", owner.id()))
}

/// Fails if a file or a process of a demo is there: everything that it starts is told of its folder.
fn assert_gone(folder: &Path) {
    assert!(!folder.exists(), "{} is still there", folder.display());
    let name = folder.to_str().unwrap();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&line).contains(name), "{} still runs", entry.path().display());
    }
}

#[test]
fn the_demo_tells_its_story_with_once_and_leaves_nothing_behind() {
    let child = demo(&["--once"]);
    let folder = folder(&child);
    let output = child.wait_with_output().unwrap();
    let story = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}:\n{story}", output.status);
    let verb = if story.contains("no real node") { "refers to" } else { "printed" };
    for value in ["(not set)", "sample-one", "sample-two"] {
        let seen = story.lines().filter(|line| line.contains(verb) && line.ends_with(&format!("API_TOKEN={value}")));
        assert_eq!(seen.count(), 2, "both pods had {value}:\n{story}");
    }
    for line in ["ok     its uid ", "ok     its restarts", "first new pod Ready: ", "every process has ended"] {
        assert!(story.contains(line), "no line '{line}':\n{story}");
    }
    assert!(!story.contains("WRONG") && !story.contains('\x1b'), "{story}");
    assert_gone(&folder);
}

#[test]
fn a_demo_that_is_interrupted_while_it_starts_leaves_nothing_behind() {
    let mut child = demo(&["--fake-nodes"]);
    let folder = folder(&child);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("starting kube-controller-manager")), "it ended before it had started");
    assert!(folder.exists());
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("nothing is left")), "{rest:?}");
    assert_gone(&folder);
}
