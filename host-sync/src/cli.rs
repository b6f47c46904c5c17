//! The command line, as `host-sync` and as the kubectl plugin `kubectl scout`.

mod arguments;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use host_sync_core::plan::Limits;

use crate::controller::{Reach, Settings};
use crate::parse;

pub use arguments::{
    CheckStoreArguments, DiffArguments, ExplainArguments, PreviewArguments, PreviewOutput, RedeployArguments,
    StatusArguments,
};

/// The program's name.
pub const PROGRAM: &str = "host-sync";
/// The name under which `kubectl` finds a plugin `scout`.
pub const PLUGIN: &str = "kubectl-scout";

/// Delivers applications' secrets to the workloads of a cluster that runs Kubewarden.
#[derive(Debug, Parser)]
#[command(
    name = PROGRAM,
    version,
    about,
    long_about = "Reads applications' secrets from a secret store, delivers them as Kubernetes Secrets, writes the desired \
                  state that Scout's Kubewarden policy injects from, and triggers rollouts.\n\n\
                  It talks to the cluster that it runs in, or to the one that KUBECONFIG or ~/.kube/config names. A copy or \
                  link named kubectl-scout on the PATH is the kubectl plugin 'kubectl scout'."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Parses this process's own arguments; ends the process where they are wrong, or ask for help.
    pub fn of_process() -> Self {
        let matches = command(is_plugin()).get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }
}

/// The command line as it calls itself in help: `host-sync`, or `kubectl scout`.
pub fn command(plugin: bool) -> clap::Command {
    let name = if plugin { "kubectl scout" } else { PROGRAM };
    let examples = [
        ("crds | kubectl apply -f -", "install the custom resources"),
        ("run", "work until told to stop"),
        ("status checkout", "what runs where, and what waits and why"),
        ("explain deployment/api -n shop", "how far the secrets of one workload have come"),
        ("diff checkout", "what the next delivery would change; no value is shown"),
        ("redeploy checkout", "deliver now, and follow the rollout"),
        ("preview -f deploy.yaml", "what the policy makes of a manifest"),
        ("check-store files", "whether a store can be read, and which keys it holds"),
    ];
    let examples = examples.map(|(line, what)| format!("  {name} {line:34}{what}")).join("\n");
    let help = format!(
        "Examples:\n{examples}\n\nExit codes: 0 done; 1 failed; 2 the command line is wrong, or preview: the policy rejects a \
         manifest; 3 diff --exit-code: something would change; 130 redeploy: ended by Ctrl-C.\n\n\
         NO_COLOR turns colours off; RUST_LOG=debug shows what happens."
    );
    let command = Cli::command().after_help(help);
    // Two words would make clap look for a binary of that name in its usage lines, so only what is shown changes.
    if plugin { command.display_name(name).bin_name(name) } else { command }
}

/// Whether this process was started as a kubectl plugin: by its name.
pub fn is_plugin() -> bool {
    std::env::args_os().next().is_some_and(|program| is_plugin_name(Path::new(&program)))
}

/// What this process calls itself.
pub fn name() -> &'static str {
    if is_plugin() { "kubectl scout" } else { PROGRAM }
}

fn is_plugin_name(program: &Path) -> bool {
    program.file_stem().and_then(|stem| stem.to_str()).is_some_and(|stem| stem == PLUGIN || stem == "kubectl_scout")
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Work: observe, fetch, plan, apply, report, until told to stop (SIGTERM or Ctrl-C)
    Run {
        /// How to work with the cluster
        #[command(flatten)]
        cluster: ClusterArguments,
        /// The address of /livez, /readyz, /metrics and the dashboard
        #[arg(long, env = "SCOUT_LISTEN", default_value = "127.0.0.1:8089", value_name = "ADDRESS:PORT")]
        listen: SocketAddr,
        /// Work only while holding the Lease scout-host-sync in the namespace: for more than one replica
        #[arg(long, env = "SCOUT_LEADER_ELECTION")]
        leader_election: bool,
        /// This replica's name in the Lease
        #[arg(long, env = "SCOUT_IDENTITY", default_value_t = identity(), value_name = "NAME")]
        identity: String,
        /// Write an audit trail to this file: every delivery, touch and deletion, one JSON line each, chained by hashes
        #[arg(long, env = "SCOUT_AUDIT_TRAIL", value_name = "FILE")]
        audit_trail: Option<PathBuf>,
        /// How to serve the dashboard
        #[command(flatten)]
        dashboard: DashboardArguments,
        /// How to write logs; RUST_LOG says how much
        #[arg(long, env = "SCOUT_LOG_FORMAT", default_value = "text")]
        log_format: LogFormat,
        /// Which cluster
        #[command(flatten)]
        connection: ConnectionArguments,
    },
    /// Print what would be done now, step by step, and why; writes nothing
    Plan {
        /// How to work with the cluster
        #[command(flatten)]
        cluster: ClusterArguments,
        /// Which cluster
        #[command(flatten)]
        connection: ConnectionArguments,
    },
    /// Print a line for each linked workload: what it is to hold, what it and its pods hold, what waits and why
    Status(StatusArguments),
    /// Print the chain store, Secret, desired state, admission, rollout of one workload, and where it stops
    Explain(ExplainArguments),
    /// Deliver an App now, and follow it until its workloads run it
    Redeploy(RedeployArguments),
    /// Print what the policy makes of manifests, by the same WebAssembly module that the cluster runs
    Preview(PreviewArguments),
    /// Print what the next delivery would change: keys, revisions, workloads, never a value
    Diff(DiffArguments),
    /// Read a store from here, and print which keys it holds, never a value
    CheckStore(CheckStoreArguments),
    /// Work with an audit trail
    Audit {
        /// What to do with it
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// Print the CustomResourceDefinitions as YAML
    Crds,
    /// Print a completion script
    #[command(after_help = "Examples:\n  source <(host-sync completion bash)\n  \
                            host-sync completion fish > ~/.config/fish/completions/host-sync.fish")]
    Completion {
        /// The shell
        shell: CompletionShell,
    },
}

/// What to do with an audit trail.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Check that no line was changed, removed or slipped in, and print where the trail ends
    Verify {
        /// The trail
        file: PathBuf,
    },
}

/// How host-sync works with the cluster.
#[derive(Debug, Clone, Args)]
pub struct ClusterArguments {
    /// host-sync's own namespace: it holds the desired state, which the policy's settings name too
    #[arg(long, env = "SCOUT_NAMESPACE", default_value = "scout-system")]
    pub namespace: String,
    /// The only namespaces to deliver to, with commas between; default: every namespace of an environment
    #[arg(long, env = "SCOUT_NAMESPACES", value_delimiter = ',', value_name = "NAMESPACE")]
    pub namespaces: Vec<String>,
    /// How many rollouts may be in flight at a time because of Scout
    #[arg(long, env = "SCOUT_ROLLOUTS_IN_FLIGHT", default_value_t = Limits::default().rollouts_in_flight, value_parser = at_least_one)]
    pub rollouts_in_flight: usize,
    /// How many superseded revisions to keep for a rollback, per App and namespace
    #[arg(long, env = "SCOUT_REVISION_HISTORY_LIMIT", default_value_t = Limits::default().revision_history_limit)]
    pub revision_history_limit: usize,
    /// How long a superseded Secret stays at least: longer than any admission in flight that has read the old desired state
    #[arg(long, env = "SCOUT_PRUNE_DELAY", default_value = "60s", value_name = "DURATION", value_parser = duration)]
    pub prune_delay: Duration,
}

impl ClusterArguments {
    /// As the controller takes them.
    pub fn settings(&self) -> Settings {
        Settings {
            namespace: self.namespace.clone(),
            reach: Reach::of(&self.namespaces),
            limits: Limits {
                rollouts_in_flight: self.rollouts_in_flight,
                revision_history_limit: self.revision_history_limit,
                prune_delay: self.prune_delay,
            },
        }
    }
}

/// Which cluster to talk to.
#[derive(Debug, Clone, Default, Args)]
pub struct ConnectionArguments {
    /// The kubeconfig; default: KUBECONFIG, ~/.kube/config, or the pod's own account
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context; default: its current one
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
}

/// Where host-sync works.
#[derive(Debug, Clone, Args)]
pub struct ScoutArguments {
    /// host-sync's own namespace, which holds the desired state
    #[arg(long, env = "SCOUT_NAMESPACE", default_value = "scout-system", value_name = "NAMESPACE")]
    pub scout_namespace: String,
}

/// A shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CompletionShell {
    /// GNU bash.
    Bash,
    /// Z shell.
    Zsh,
    /// fish.
    Fish,
}

/// How the dashboard is served.
#[derive(Debug, Clone, Args)]
pub struct DashboardArguments {
    /// Whether to serve the dashboard; whoever opens it signs in with a bearer token and sees what that may read
    #[arg(long, env = "SCOUT_DASHBOARD", default_value_t = true, action = clap::ArgAction::Set, value_name = "true|false")]
    pub dashboard: bool,
    /// The folder of the preview's WebAssembly module (policy/preview/build.sh); without it there is no preview page
    #[arg(long, env = "SCOUT_PREVIEW_FOLDER", value_name = "FOLDER")]
    pub preview_folder: Option<PathBuf>,
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse::duration(text).ok_or_else(|| "use a whole number with s, m or h".to_owned())
}

/// In a pod the host's name is the pod's, and no two are alike; elsewhere the process id tells them apart.
fn identity() -> String {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "host-sync".to_owned());
    format!("{host}-{}", std::process::id())
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("use a whole number from 1 on".to_owned()),
        Ok(number) => Ok(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed_under_both_names() {
        command(false).debug_assert();
        command(true).debug_assert();
    }

    #[test]
    fn no_rollout_at_a_time_is_refused_with_the_fix() {
        let error = Cli::try_parse_from(["host-sync", "plan", "--rollouts-in-flight", "0"]).unwrap_err();
        assert!(error.to_string().contains("use a whole number from 1 on"), "{error}");
    }

    #[test]
    fn a_plugin_calls_itself_as_kubectl_does() {
        assert!(is_plugin_name(Path::new("/usr/local/bin/kubectl-scout")) && !is_plugin_name(Path::new("host-sync")));
        let help = command(true).render_long_help().to_string();
        assert!(help.contains("Usage: kubectl scout <COMMAND>"), "{help}");
        assert!(help.contains("kubectl scout status checkout") && help.contains("Exit codes: 0 done"), "{help}");
        let error = command(true).try_get_matches_from(["kubectl-scout", "status", "--bad"]).unwrap_err();
        assert!(error.to_string().contains("Usage: kubectl scout status"), "{error}");
    }

    #[test]
    fn offline_sources_without_offline_are_refused() {
        let error = Cli::try_parse_from(["host-sync", "preview", "-f", "-", "--app", "x"]).unwrap_err();
        assert!(error.to_string().contains("--offline"), "{error}");
    }
}
