//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use host_sync_core::plan::Limits;

use crate::controller::{Reach, Settings};
use crate::parse;

/// Delivers applications' secrets to the workloads of a cluster that runs Kubewarden.
#[derive(Debug, Parser)]
#[command(
    name = "host-sync",
    version,
    about,
    long_about = "Reads applications' secrets from a secret store, delivers them as Kubernetes Secrets, writes the desired \
                  state that Scout's Kubewarden policy injects from, and triggers rollouts.\n\n\
                  It talks to the cluster that it runs in, or to the one that KUBECONFIG or ~/.kube/config names.",
    after_help = "Examples:\n  \
                  host-sync crds | kubectl apply -f -       install the custom resources\n  \
                  host-sync run                             work until told to stop\n  \
                  host-sync plan                            what would be done now, and why; writes nothing\n  \
                  host-sync status checkout                 what is delivered of App checkout, and where it runs\n\n\
                  Exit codes: 0 done, 1 failed, 2 the command line is wrong."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Work: observe, fetch, plan, apply, report, until told to stop (SIGTERM or Ctrl-C)
    Run {
        /// How to work with the cluster
        #[command(flatten)]
        cluster: ClusterArguments,
        /// The address of /livez, /readyz and /metrics
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
        /// How to write logs; RUST_LOG says how much
        #[arg(long, env = "SCOUT_LOG_FORMAT", default_value = "text")]
        log_format: LogFormat,
    },
    /// Print what would be done now, step by step, and why; writes nothing
    Plan {
        /// How to work with the cluster
        #[command(flatten)]
        cluster: ClusterArguments,
    },
    /// Print what is delivered of each App, and which workloads wait and why
    Status {
        /// The App; without one, all
        app: Option<String>,
        /// How to print
        #[arg(long, short, default_value = "table")]
        output: Output,
    },
    /// Work with an audit trail
    Audit {
        /// What to do with it
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// Print the CustomResourceDefinitions as YAML
    Crds,
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

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How a status is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// The status objects as JSON.
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
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_rollout_at_a_time_is_refused_with_the_fix() {
        let error = Cli::try_parse_from(["host-sync", "plan", "--rollouts-in-flight", "0"]).unwrap_err();
        assert!(error.to_string().contains("use a whole number from 1 on"), "{error}");
    }
}
