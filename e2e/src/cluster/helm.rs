//! The Helm that is built with the test Kubernetes.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use super::Cluster;
use super::binaries::Binaries;

/// Helm, with a home of its own; without a cluster, it renders.
pub struct Helm {
    program: PathBuf,
    home: PathBuf,
    kubeconfig: Option<PathBuf>,
}

impl Helm {
    /// Helm without a cluster, with this folder as its home.
    pub async fn locate(home: &Path) -> Result<Self> {
        let binaries = Binaries::locate(&|_| {}).await?;
        Ok(Self { program: binaries.get("helm").to_owned(), home: home.to_owned(), kubeconfig: None })
    }

    /// Runs it and returns its standard output; an error holds its standard error.
    pub async fn run(&self, arguments: &[&str]) -> Result<String> {
        let command = format!("helm {}", arguments.join(" "));
        let output = Command::new(&self.program)
            .args(arguments)
            // Neither the user's repositories and plugins, nor a cluster that the user's environment names.
            .env_clear()
            .env("HOME", &self.home)
            .env("KUBECONFIG", self.kubeconfig.as_deref().unwrap_or(Path::new("/dev/null")))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .with_context(|| format!("running {command}"))?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{command} failed ({}): {}", output.status, errors.trim());
        String::from_utf8(output.stdout).with_context(|| format!("reading what {command} printed"))
    }
}

impl Cluster {
    /// Helm as the cluster's administrator.
    pub fn helm(&self) -> Helm {
        Helm {
            program: self.binaries.get("helm").to_owned(),
            home: self.directory.home(),
            kubeconfig: Some(self.kubeconfig().to_owned()),
        }
    }
}
