//! A real, throw-away Kubernetes on loopback.
//!
//! [`Cluster::start`] gives a control plane with every controller; [`Cluster::join_fake_nodes`] adds nodes on which
//! thousands of pods become Ready, and [`Cluster::join_real_node`] one on which containers truly run. It ends with
//! [`Cluster::stop`], when it is dropped, or when its process ends in any way, and leaves no process and no file behind
//! (after a SIGKILL, the next cluster removes the files). `SCOUT_E2E_KEEP=1` keeps the files.

mod audit;
mod binaries;
mod certificates;
mod control_plane;
mod directory;
mod fake_nodes;
mod helm;
mod identities;
mod image;
mod kubectl;
pub(crate) mod process;
mod real_node;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use tokio::sync::Mutex;

pub use audit::{AuditEvent, AuditObject, AuditStatus, AuditUser};
pub use helm::Helm;
pub use image::IMAGE;
pub use kubectl::KubectlOutput;

use binaries::Binaries;
use control_plane::Port;
use directory::Directory;
use identities::{Identities, connect};
use process::Processes;

/// The label that tells the sorts of nodes apart: pods choose `fake` or `real` by a nodeSelector.
pub const NODE_LABEL: &str = "e2e.scout/node";

/// What a test may want otherwise.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Further arguments of kube-apiserver.
    pub api_server_arguments: Vec<String>,
    /// Further arguments of kube-controller-manager.
    pub controller_manager_arguments: Vec<String>,
}

/// A running Kubernetes.
pub struct Cluster {
    // Fields drop in this order: the lock on the directory goes last.
    client: kube::Client,
    kubeconfig: PathBuf,
    fake_nodes: Mutex<usize>,
    real_node: Mutex<bool>,
    down: AtomicBool,
    processes: Processes,
    identities: Identities,
    port: Port,
    binaries: Binaries,
    directory: Directory,
}

impl Cluster {
    /// Starts a cluster and waits until it is ready; `progress` hears what takes time.
    pub async fn start(options: Options, progress: &(dyn Fn(&str) + Send + Sync)) -> Result<Self> {
        let binaries = Binaries::locate(progress).await?;
        let directory = Directory::create()?;
        let port = Port::reserve()?;
        let identities = Identities::create(directory.path(), format!("https://127.0.0.1:{}", port.number()))?;
        let kubeconfig = identities.kubeconfig("e2e-admin", &["system:masters"])?;
        let cluster = Self {
            client: connect(&kubeconfig).await?,
            kubeconfig,
            fake_nodes: Mutex::new(0),
            real_node: Mutex::new(false),
            down: AtomicBool::new(false),
            processes: Processes::default(),
            identities,
            port,
            binaries,
            directory,
        };
        control_plane::start(&cluster, &options, progress).await?;
        Ok(cluster)
    }

    /// A client that may do everything.
    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Writes a kubeconfig with a fresh client certificate for this user; at most two groups.
    pub fn kubeconfig_for(&self, user: &str, groups: &[&str]) -> Result<PathBuf> {
        self.identities.kubeconfig(user, groups)
    }

    /// A client that acts as this user; at most two groups.
    pub async fn client_for(&self, user: &str, groups: &[&str]) -> Result<kube::Client> {
        connect(&self.kubeconfig_for(user, groups)?).await
    }

    /// The API server's address, `https://127.0.0.1:<port>`.
    pub fn server(&self) -> &str {
        self.identities.server_address()
    }

    /// The certificate of the authority that signs everything here, as a PEM file.
    pub fn authority_path(&self) -> PathBuf {
        self.identities.authority().0
    }

    /// The directory that holds all that the cluster writes.
    pub fn dir(&self) -> &Path {
        self.directory.path()
    }

    /// The logs of the cluster's own programs, one file each.
    pub fn logs_dir(&self) -> PathBuf {
        self.directory.logs()
    }

    /// The processes that the cluster started itself.
    pub fn process_ids(&self) -> Vec<u32> {
        self.processes.ids()
    }

    /// What the API server has been asked so far, in order.
    pub fn audit_events(&self) -> Result<Vec<AuditEvent>> {
        audit::read(&self.audit_log())
    }

    /// Ends every process and removes every file of the cluster.
    pub async fn stop(self) -> Result<()> {
        tokio::task::spawn_blocking(move || self.take_down()).await.context("taking the cluster down")?
    }

    fn audit_log(&self) -> PathBuf {
        self.logs_dir().join("audit.jsonl")
    }

    fn take_down(&self) -> Result<()> {
        if self.down.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        self.processes.stop();
        self.directory.remove()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = self.take_down() {
            tracing::error!("taking the cluster down: {error:#}");
        }
    }
}
