//! The commands, one module each. What they decide is in pure functions; what they read is in [`cluster`].

mod check_store;
mod cluster;
mod completion;
mod diff;
#[cfg(test)]
mod examples;
mod explain;
mod manifests;
mod output;
mod plan;
mod preview;
mod redeploy;
mod run;
mod status;

use anyhow::{Context, Result};

use crate::api::crds;
use crate::audit;
use crate::cli::{AuditCommand, Command};
use crate::controller::plan_once;

pub use output::{Output, TextOutput};

/// Runs one command to its end; returns the exit code.
pub async fn run(command: Command) -> Result<u8> {
    match command {
        Command::Run {
            cluster,
            listen,
            leader_election,
            identity,
            audit_trail,
            dashboard,
            log_format: _,
            connection,
        } => {
            let candidate = leader_election.then_some(identity);
            let client = cluster::connect(&connection).await?;
            run::run(client, cluster.settings(), listen, candidate, audit_trail, dashboard).await.map(|()| 0)
        }
        Command::Plan { cluster, connection } => {
            let plan = plan_once(&cluster::connect(&connection).await?, &cluster.settings()).await?;
            output::print(&plan::text(&plan)).map(|()| 0)
        }
        Command::Status(arguments) => {
            status::run(&cluster::connect(&arguments.connection).await?, &arguments).await.map(|()| 0)
        }
        Command::Explain(arguments) => {
            explain::run(&cluster::connect(&arguments.connection).await?, &arguments).await.map(|()| 0)
        }
        Command::Redeploy(arguments) => {
            redeploy::run(&cluster::connect(&arguments.connection).await?, &arguments).await
        }
        Command::Preview(arguments) => preview::run(&arguments).await,
        Command::Diff(arguments) => diff::run(&cluster::connect(&arguments.connection).await?, &arguments).await,
        Command::CheckStore(arguments) => check_store::run(&arguments).await,
        Command::Audit { command: AuditCommand::Verify { file } } => {
            let head = audit::verify(&file)?;
            let lines =
                format!("{} lines, none changed or missing; the last one's hash is {}\n", head.lines, head.hash);
            output::print(&lines).map(|()| 0)
        }
        Command::Crds => {
            let mut text = String::new();
            for crd in crds() {
                text.push_str("---\n");
                text.push_str(&serde_saphyr::to_string(&crd).context("writing a CustomResourceDefinition as YAML")?);
            }
            output::print(&text).map(|()| 0)
        }
        Command::Completion { shell } => output::print(&completion::script(shell)?).map(|()| 0),
    }
}
