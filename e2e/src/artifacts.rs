//! What the tests run of this very workspace, built on demand and once per process.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tokio::process::Command;
use tokio::sync::OnceCell;

/// The annotated policy, built by `policy/build.sh`, which prints its path as the last line.
pub async fn policy_module() -> Result<Vec<u8>> {
    static MODULE: OnceCell<Vec<u8>> = OnceCell::const_new();
    let build = || async {
        let output = run(Command::new(workspace().join("policy/build.sh"))).await?;
        let path = output.lines().next_back().map(Path::new).context("policy/build.sh printed no path")?;
        let path = workspace().join(path);
        tokio::fs::read(&path).await.with_context(|| format!("reading {}", path.display()))
    };
    MODULE.get_or_try_init(build).await.cloned()
}

/// The program host-sync, built in the debug profile.
pub async fn host_sync_binary() -> Result<PathBuf> {
    static BINARY: OnceCell<PathBuf> = OnceCell::const_new();
    let build = || async {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
        // Without --package: features then unify as in `cargo test`, and nothing is compiled a second time.
        command.args(["build", "--locked", "--bin", "host-sync"]);
        command.arg("--message-format=json-render-diagnostics").current_dir(workspace());
        let output = run(command).await?;
        let mut executables = output.lines().filter_map(|line| serde_json::from_str::<Artifact>(line).ok()?.executable);
        executables.next_back().context("cargo named no executable of host-sync")
    };
    BINARY.get_or_try_init(build).await.cloned()
}

/// The part that matters of a message of `cargo build --message-format=json`.
#[derive(Deserialize)]
struct Artifact {
    executable: Option<PathBuf>,
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs a command to its end, its progress going to this process's standard error, and returns what it printed.
async fn run(mut command: Command) -> Result<String> {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    // Not output(): that would capture the standard error, too, and show no progress.
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn();
    let child = child.with_context(|| format!("starting {name}"))?;
    let output = child.wait_with_output().await.with_context(|| format!("running {name}"))?;
    if !output.status.success() {
        bail!("{name} failed ({}): what it wrote above says why", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("reading what {name} printed"))
}
