//! Scout, installed in a throw-away cluster: the custom resources, the policy behind a real webhook, host-sync as a process
//! of its own with its own rights, and a file store in the cluster's directory.

pub mod chart;
mod host_sync;
mod objects;
mod progress;
mod store;

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::artifacts::{host_sync_binary, policy_module};
use crate::cluster::{self, AuditEvent, Cluster};
use crate::gateway::Gateway;
use crate::policy_host::{PolicyHost, PolicyHostOptions};
use crate::webhook;

use chart::Account;
pub use host_sync::HostSync;
pub use progress::{SecretVariables, container, variables};

/// host-sync's own namespace.
pub const NAMESPACE: &str = "scout-system";
/// The SecretStore of every installation.
pub const STORE: &str = "files";
/// How long a wait may last: far beyond what a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(90);

/// What a test may want otherwise.
#[derive(Debug, Clone)]
pub struct Options {
    /// The cluster's.
    pub cluster: cluster::Options,
    /// The policy's settings.
    pub settings: Value,
    /// How many fake nodes.
    pub fake_nodes: usize,
    /// Whether containers are to run for real.
    pub real_node: bool,
    /// Further arguments of `host-sync run`.
    pub host_sync_arguments: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cluster: cluster::Options::default(),
            settings: json!({"desiredStateNamespace": NAMESPACE, "onMissingState": "Reject"}),
            fake_nodes: 1,
            real_node: false,
            host_sync_arguments: vec!["--prune-delay=2s".to_owned()],
        }
    }
}

/// A cluster with Scout in it.
pub struct Installation {
    // Fields drop in this order: host-sync and the gateway before what they talk to.
    host_sync: HostSync,
    gateway: Gateway,
    policy_host: PolicyHost,
    store: PathBuf,
    cluster: Cluster,
}

impl Installation {
    /// Starts a cluster, installs Scout in it and waits until it works; `progress` hears what takes time.
    pub async fn start(options: Options, progress: &(dyn Fn(&str) + Send + Sync)) -> Result<Self> {
        progress("building the policy and host-sync (the first time on a machine, this takes minutes)");
        let binary = host_sync_binary().await?;
        let module = policy_module().await?;
        let cluster = Cluster::start(options.cluster, progress).await?;
        if options.real_node {
            progress("starting a real node: containerd and a kubelet");
            cluster.join_real_node().await?;
        }
        if options.fake_nodes > 0 {
            cluster.join_fake_nodes(options.fake_nodes).await?;
        }
        progress("installing the chart");
        chart::install_neighbours(&cluster).await?;
        // host-sync runs as a process here, with the rights of the chart's account: there is no image of it to run.
        chart::install(&cluster, &["--set", "hostSync.replicas=0"]).await?;
        let store = cluster.dir().join("store");
        std::fs::create_dir(&store).with_context(|| format!("creating {}", store.display()))?;
        objects::apply(
            &cluster.client(),
            &json!({
                "apiVersion": "scout.commandk.dev/v1alpha1", "kind": "SecretStore", "metadata": {"name": STORE},
                "spec": {"file": {"path": store}},
            }),
        )
        .await?;
        progress("serving the policy and registering its webhook");
        let policy_host = PolicyHost::start(PolicyHostOptions {
            module,
            id: "scout".to_owned(),
            settings: options.settings,
            allowed_to_mutate: true,
            client: Account::policy_server().client(&cluster).await?,
            port: None,
        })
        .await?;
        webhook::install(&cluster.client(), &policy_host).await?;
        progress("starting host-sync");
        let gateway = Gateway::start(Account::host_sync().client(&cluster).await?, cluster.dir()).await?;
        let host_sync =
            HostSync::new("host-sync", binary, gateway.kubeconfig(), &cluster.logs_dir(), options.host_sync_arguments);
        host_sync.start().await?;
        Ok(Self { host_sync, gateway, policy_host, store, cluster })
    }

    /// The cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The policy host.
    pub fn policy_host(&self) -> &PolicyHost {
        &self.policy_host
    }

    /// What host-sync's requests go through.
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// host-sync itself.
    pub fn host_sync(&self) -> &HostSync {
        &self.host_sync
    }

    /// A further replica of host-sync, not started yet.
    pub fn further_host_sync(&self, arguments: Vec<String>) -> HostSync {
        let binary = self.host_sync.binary().to_owned();
        HostSync::new("host-sync-further", binary, self.gateway.kubeconfig(), &self.cluster.logs_dir(), arguments)
    }

    /// The folder of the file store.
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// Ends everything.
    pub async fn stop(self) -> Result<()> {
        self.host_sync.terminate().await?;
        self.policy_host.stop().await;
        self.cluster.stop().await
    }

    /// The requests by which host-sync could have changed something, so far.
    pub fn host_sync_writes(&self) -> Result<Vec<AuditEvent>> {
        let (events, account) = (self.cluster.audit_events()?, Account::host_sync());
        Ok(events.into_iter().filter(|event| event.user.username == account.user && event.is_write()).collect())
    }

    /// Runs a command of host-sync's command line as the cluster's administrator; returns what it printed.
    pub async fn host_sync_command(&self, arguments: &[&str]) -> Result<String> {
        let output = self.host_sync_output(arguments, self.cluster.kubeconfig(), "").await?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "host-sync {} failed: {}", arguments.join(" "), stderr.trim());
        String::from_utf8(output.stdout).context("reading what host-sync printed")
    }

    /// Runs a command of host-sync's command line with this kubeconfig and this on its standard input, however it ends.
    pub async fn host_sync_output(&self, arguments: &[&str], kubeconfig: &Path, input: &str) -> Result<Output> {
        let command = format!("host-sync {}", arguments.join(" "));
        let mut child = Command::new(self.host_sync.binary())
            .args(arguments)
            .env("KUBECONFIG", kubeconfig)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("running {command}"))?;
        let mut stdin = child.stdin.take().with_context(|| format!("opening the input of {command}"))?;
        let input = input.to_owned();
        // Who reads no input closes it early, and that is no failure.
        let writer = tokio::spawn(async move { stdin.write_all(input.as_bytes()).await });
        let output = child.wait_with_output().await.with_context(|| format!("waiting for {command}"));
        writer.abort();
        output
    }
}

/// Asks again and again until there is an answer; the error names what was waited for and what was seen last.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Result<Answer<T>>) -> Result<T> {
    let began = Instant::now();
    loop {
        match ask().await? {
            Answer::Is(answer) => return Ok(answer),
            Answer::NotYet(seen) if began.elapsed() > PATIENCE => {
                bail!("waited {} s for {what}; seen last: {seen}", PATIENCE.as_secs())
            }
            Answer::NotYet(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// What somebody who waits sees.
pub enum Answer<T> {
    /// What was waited for.
    Is(T),
    /// Something else, for the message.
    NotYet(String),
}

impl<T> Answer<T> {
    /// The answer if it holds, else what was seen.
    pub fn when(holds: bool, answer: T, seen: impl std::fmt::Display) -> Self {
        if holds { Self::Is(answer) } else { Self::NotYet(seen.to_string()) }
    }
}
