//! Every process that came of this one, however deep, ended before it ends.
//!
//! The cluster ends its own processes. What is left is what a dropped build leaves: a killed script's compilers go on without it.

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// How long a process may take to end by itself, removing its own temporary files.
const GRACE: Duration = Duration::from_secs(5);

/// From now on, a descendant whose parent ends becomes a child of this process.
pub(crate) fn adopt_orphans() -> Result<()> {
    set_child_subreaper(true).context("asking the kernel for the orphans of this process")
}

/// Ends every child, and those that become children by that, until there is none.
pub(crate) fn end_all() {
    let grace = Instant::now() + GRACE;
    let mut asked = BTreeSet::new();
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => {
                for child in children() {
                    // An error means that it has ended meanwhile.
                    if Instant::now() > grace {
                        let _ = kill(child, Signal::SIGKILL);
                    } else if asked.insert(child) {
                        let _ = kill(child, Signal::SIGINT);
                    }
                }
                thread::sleep(Duration::from_millis(20));
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

fn children() -> Vec<Pid> {
    let own = Pid::this();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    processes.filter(|process| parent(*process) == Some(own)).map(Pid::from_raw).collect()
}

/// The parent of a process: in `/proc/<id>/stat` the second word after the name, which alone is in brackets.
fn parent(process: i32) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?;
    parent.parse().ok().map(Pid::from_raw)
}
