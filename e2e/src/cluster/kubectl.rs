//! The kubectl of the test Kubernetes.

use std::path::Path;
use std::process::{ExitStatus, Stdio};

use anyhow::{Context, Result, bail};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::Cluster;

/// What one kubectl run gave back.
#[derive(Clone, Debug)]
pub struct KubectlOutput {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// What was run, for messages.
    command: String,
}

impl KubectlOutput {
    /// Its standard output, or an error with its standard error if it failed.
    pub fn success(self) -> Result<String> {
        if !self.status.success() {
            bail!("{} failed ({}): {}", self.command, self.status, self.stderr.trim());
        }
        Ok(self.stdout)
    }
}

impl Cluster {
    /// The program itself, for a user's own terminal.
    pub fn kubectl_program(&self) -> &Path {
        self.binaries.get("kubectl")
    }

    /// Runs kubectl as the cluster's administrator.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<KubectlOutput> {
        self.kubectl_with_input(arguments, "").await
    }

    /// Runs kubectl as the cluster's administrator with this standard input (for `apply -f -`).
    pub async fn kubectl_with_input(&self, arguments: &[&str], input: &str) -> Result<KubectlOutput> {
        let command = format!("kubectl {}", arguments.join(" "));
        let mut child = Command::new(self.binaries.get("kubectl"))
            .args(arguments)
            .env("KUBECONFIG", self.kubeconfig())
            // Its cache of what the server offers must not land in, nor come from, the user's home.
            .env("HOME", self.directory.home())
            .env_remove("KUBECACHEDIR")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {command}"))?;
        let mut pipe = child.stdin.take().with_context(|| format!("{command} has no standard input"))?;
        let input = input.to_owned();
        // Written from its own task: kubectl may write more than a pipe holds before it has read everything. One that
        // ends without reading its input is judged by its status.
        let writer = tokio::spawn(async move { pipe.write_all(input.as_bytes()).await });
        let output = child.wait_with_output().await.with_context(|| format!("waiting for {command}"))?;
        writer.abort();
        Ok(KubectlOutput {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            command,
        })
    }

    /// Runs a command in a container and returns its standard output; an error holds its standard error.
    pub async fn exec(&self, namespace: &str, pod: &str, container: &str, command: &[&str]) -> Result<String> {
        let arguments = [&["exec", "--namespace", namespace, pod, "--container", container, "--"], command].concat();
        self.kubectl(&arguments).await?.success()
    }
}
