//! host-sync as a process: started, stopped in order, or killed.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::cluster::process::{Process, bound_to_owner, tail};

/// How long it may take to start or to stop.
const PATIENCE: Duration = Duration::from_mins(1);

struct State {
    process: Option<Process>,
    starts: usize,
}

/// host-sync, running or not.
pub struct HostSync {
    name: &'static str,
    binary: PathBuf,
    kubeconfig: PathBuf,
    logs: PathBuf,
    arguments: Vec<String>,
    state: Mutex<State>,
}

impl HostSync {
    pub(super) fn new(
        name: &'static str,
        binary: PathBuf,
        kubeconfig: &Path,
        logs: &Path,
        arguments: Vec<String>,
    ) -> Self {
        let state = Mutex::new(State { process: None, starts: 0 });
        Self { name, binary, kubeconfig: kubeconfig.to_owned(), logs: logs.to_owned(), arguments, state }
    }

    /// The program.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The log of the latest start.
    pub fn log(&self) -> PathBuf {
        self.logs.join(format!("{}-{}.log", self.name, self.state().starts))
    }

    /// The audit trail, which every replica continues.
    pub fn audit_trail(&self) -> PathBuf {
        self.logs.join("host-sync-audit-trail.jsonl")
    }

    /// Starts it and waits until a pass has succeeded.
    pub async fn start(&self) -> Result<()> {
        self.start_without_waiting()?;
        let began = Instant::now();
        while self.endpoint("/readyz").await.is_none_or(|(status, _)| status != 200) {
            self.check()?;
            ensure!(
                began.elapsed() < PATIENCE,
                "host-sync was not ready within {} s; its last lines:\n{}",
                PATIENCE.as_secs(),
                tail(&self.log())
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Starts it and does not wait.
    pub fn start_without_waiting(&self) -> Result<()> {
        let mut state = self.state();
        if state.process.is_some() {
            bail!("host-sync runs already");
        }
        state.starts += 1;
        let mut command = bound_to_owner(&self.binary);
        command
            .args(["run", "--listen=127.0.0.1:0"])
            .arg("--audit-trail")
            .arg(self.audit_trail())
            .args(&self.arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("RUST_LOG", "info,host_sync=debug");
        state.process = Some(Process::start(&format!("{}-{}", self.name, state.starts), command, &self.logs)?);
        Ok(())
    }

    fn check(&self) -> Result<()> {
        match &mut self.state().process {
            Some(process) => process.check(),
            None => bail!("host-sync does not run"),
        }
    }

    /// Kills it (SIGKILL), as a node that loses power does.
    pub fn kill(&self) {
        if let Some(mut process) = self.state().process.take() {
            process.stop();
        }
    }

    /// Asks it to stop (SIGTERM) and waits until it has.
    pub async fn terminate(&self) -> Result<()> {
        let Some(mut process) = self.state().process.take() else { return Ok(()) };
        let log = self.log();
        tokio::task::spawn_blocking(move || process.terminate(PATIENCE))
            .await
            .context("waiting for host-sync")?
            .with_context(|| format!("the last lines of host-sync:\n{}", tail(&log)))
    }

    /// The address that it listens on; `None` while it does not.
    pub fn address(&self) -> Option<String> {
        let log = std::fs::read_to_string(self.log()).ok()?;
        Some(log.lines().find(|line| line.contains("listening"))?.rsplit_once("address=")?.1.trim().to_owned())
    }

    /// The status and body of one of its endpoints; `None` while it does not listen.
    pub async fn endpoint(&self, path: &str) -> Option<(u16, String)> {
        self.ask(&format!("GET {path}"), "").await
    }

    /// Signs in to its dashboard; returns the answer's status and body.
    pub async fn sign_in(&self, token: &str) -> Option<(u16, String)> {
        self.ask("POST /api/sign-in", &serde_json::json!({ "token": token }).to_string()).await
    }

    async fn ask(&self, line: &str, body: &str) -> Option<(u16, String)> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let address = self.address()?;
        let mut stream = tokio::net::TcpStream::connect(&address).await.ok()?;
        let headers = format!("Content-Type: application/json\r\nContent-Length: {}", body.len());
        let request = format!("{line} HTTP/1.0\r\nHost: {address}\r\n{headers}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
    }
}
