//! What the commands for people take; in their help, examples and exit codes.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use host_sync_core::plan::Limits;

use super::{ConnectionArguments, ScoutArguments, duration};
use crate::commands::{Output, TextOutput};
use crate::controller::{Reach, Settings};

/// `status`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "What you have no right to read is left out, with a sentence that names the right: Apps and, in the linked \
                        namespaces, Deployments and Pods; in host-sync's own namespace, ConfigMaps.\n\n\
                        host-sync's next read of a store is not written down anywhere, so only the latest moment of it is known."
)]
pub struct StatusArguments {
    /// The App; without one, all
    pub app: Option<String>,
    /// Only this namespace's workloads
    #[arg(long, short)]
    pub namespace: Option<String>,
    /// Look again and again, and print what changed
    #[arg(long, short)]
    pub watch: bool,
    /// How to print
    #[arg(long, short, default_value = "table")]
    pub output: Output,
    /// Which cluster
    #[command(flatten)]
    pub connection: ConnectionArguments,
    /// Where host-sync works
    #[command(flatten)]
    pub scout: ScoutArguments,
}

/// `explain`.
#[derive(Debug, Clone, Args)]
pub struct ExplainArguments {
    /// The workload, such as deployment/api
    #[arg(value_name = "KIND/NAME")]
    pub workload: String,
    /// Its namespace; default: the context's
    #[arg(long, short)]
    pub namespace: Option<String>,
    /// How to print
    #[arg(long, short, default_value = "text")]
    pub output: TextOutput,
    /// Which cluster
    #[command(flatten)]
    pub connection: ConnectionArguments,
    /// Where host-sync works
    #[command(flatten)]
    pub scout: ScoutArguments,
}

/// `redeploy`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "The request is one annotation on the App, so it is for all of the App's environments. Content that has not \
                        changed keeps its revision, and then no workload rolls.\n\n\
                        Ctrl-C ends the following, not the delivery. Exit codes: 0 delivered and rolled out; 1 a rollout failed, or \
                        --timeout passed; 130 Ctrl-C."
)]
pub struct RedeployArguments {
    /// The App
    pub app: String,
    /// How long to follow
    #[arg(long, default_value = "5m", value_name = "DURATION", value_parser = duration)]
    pub timeout: Duration,
    /// Ask, and do not follow
    #[arg(long)]
    pub no_wait: bool,
    /// Which cluster
    #[command(flatten)]
    pub connection: ConnectionArguments,
    /// Where host-sync works
    #[command(flatten)]
    pub scout: ScoutArguments,
}

impl RedeployArguments {
    /// Whether to follow.
    pub fn wait(&self) -> bool {
        !self.no_wait
    }
}

/// `preview`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Every manifest is shown as if it were created now, which is also what it is when its pod template changes.\n\n\
                        Examples:\n  \
                        host-sync preview -f deploy.yaml -n shop\n  \
                        kustomize build overlays/production | host-sync preview -f - -o yaml\n  \
                        host-sync preview -f deploy.yaml -n shop --offline --app app.yaml --keys TOKEN,DB_URL\n\n\
                        Exit codes: 0 accepted; 1 failed; 2 the policy rejects a manifest, and says why."
)]
pub struct PreviewArguments {
    /// A file, a folder, or - for standard input; many documents in one are fine
    #[arg(long = "filename", short = 'f', required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The namespace of manifests that name none; default: the context's
    #[arg(long, short)]
    pub namespace: Option<String>,
    /// How to print: the changes, or the manifests as they would be admitted
    #[arg(long, short, default_value = "diff")]
    pub output: PreviewOutput,
    /// Ask no cluster: --desired-state or --app says what the policy would read
    #[arg(long)]
    pub offline: bool,
    /// ConfigMaps desired-state.<namespace>, as 'kubectl get configmap -o yaml' prints them
    #[arg(long, value_name = "FILE", requires = "offline")]
    pub desired_state: Vec<PathBuf>,
    /// Apps, to be taken as delivered
    #[arg(long = "app", value_name = "FILE", requires = "offline")]
    pub apps: Vec<PathBuf>,
    /// The keys that the store holds, for Apps that select none: KEY,KEY or APP=KEY,KEY
    #[arg(long, value_name = "KEYS", requires = "apps")]
    pub keys: Vec<String>,
    /// The policy's WebAssembly module; default: where policy/build.sh puts it
    #[arg(long, env = "SCOUT_POLICY_MODULE", value_name = "FILE")]
    pub module: Option<PathBuf>,
    /// Which cluster
    #[command(flatten)]
    pub connection: ConnectionArguments,
    /// Where host-sync works
    #[command(flatten)]
    pub scout: ScoutArguments,
}

/// How a preview is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PreviewOutput {
    /// A unified diff of what the policy changes.
    Diff,
    /// Every manifest as it would be admitted.
    Yaml,
}

/// `diff`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "The stores are read from here: a folder must be mounted here as it is for host-sync. Needs host-sync's own \
                        rights, Secrets included, to compare; no value is shown."
)]
pub struct DiffArguments {
    /// The App; without one, all
    pub app: Option<String>,
    /// How to print
    #[arg(long, short, default_value = "text")]
    pub output: TextOutput,
    /// The only namespaces to deliver to, as host-sync has them
    #[arg(long, env = "SCOUT_NAMESPACES", value_delimiter = ',', value_name = "NAMESPACE")]
    pub namespaces: Vec<String>,
    /// Exit with 3 when something would change
    #[arg(long)]
    pub exit_code: bool,
    /// Which cluster
    #[command(flatten)]
    pub connection: ConnectionArguments,
    /// Where host-sync works
    #[command(flatten)]
    pub scout: ScoutArguments,
}

impl DiffArguments {
    /// As the controller takes them.
    pub fn settings(&self) -> Settings {
        Settings {
            namespace: self.scout.scout_namespace.clone(),
            reach: Reach::of(&self.namespaces),
            limits: Limits::default(),
        }
    }
}

/// `check-store`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Without a path, every path that an App takes from the store is read. Exit codes: 0 all of it can be \
                        delivered; 1 something cannot, and the fix is said."
)]
pub struct CheckStoreArguments {
    /// The SecretStore
    pub store: String,
    /// The path in it
    pub path: Option<String>,
    /// Take the SecretStore, and Apps, from files instead of the cluster
    #[arg(long = "filename", short = 'f', value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Which cluster
    #[command(flatten)]
    pub connection: ConnectionArguments,
}
