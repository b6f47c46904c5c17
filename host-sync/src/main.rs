//! The binary: parses the command line and runs one command.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use host_sync::api::crds;
use host_sync::audit::{self, Trail};
use host_sync::cli::{AuditCommand, Cli, Command, LogFormat};
use host_sync::controller::{Controller, Settings, plan_once};
use host_sync::health::Health;
use host_sync::lease::Election;
use host_sync::metrics::Metrics;
use host_sync::{server, status};
use kube::Client;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse().command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "host-sync: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<()> {
    match command {
        Command::Run { cluster, listen, leader_election, identity, audit_trail, log_format } => {
            begin_logs(log_format, "info");
            work(cluster.settings(), listen, leader_election.then_some(identity), audit_trail).await
        }
        Command::Audit { command: AuditCommand::Verify { file } } => {
            let head = audit::verify(&file)?;
            print(&format!("{} lines, none changed or missing; the last one's hash is {}\n", head.lines, head.hash))
        }
        Command::Plan { cluster } => {
            begin_logs(LogFormat::Text, "warn");
            let plan = plan_once(&connect().await?, &cluster.settings()).await?;
            print(&status::plan_text(&plan))
        }
        Command::Status { app, output } => {
            begin_logs(LogFormat::Text, "warn");
            print(&status::status_text(&connect().await?, app.as_deref(), output).await?)
        }
        Command::Crds => {
            let mut text = String::new();
            for crd in crds() {
                text.push_str("---\n");
                text.push_str(&serde_saphyr::to_string(&crd).context("writing a CustomResourceDefinition as YAML")?);
            }
            print(&text)
        }
    }
}

async fn connect() -> Result<Client> {
    Client::try_default().await.context(
        "connecting to the cluster: run inside one, or point KUBECONFIG at a kubeconfig whose context names one",
    )
}

/// Works until told to stop. `candidate` is this replica's name where several stand for election.
async fn work(
    settings: Settings,
    listen: SocketAddr,
    candidate: Option<String>,
    audit_trail: Option<PathBuf>,
) -> Result<()> {
    let stop = stop_on_signal()?;
    let (health, metrics) = (Health::default(), Metrics::default());
    let (address, server) = server::serve(listen, health.clone(), metrics.clone(), stop.clone()).await?;
    tracing::info!(%address, "listening");
    let server = tokio::spawn(server);
    let client = connect().await?;
    let mut leading = None;
    if let Some(identity) = candidate {
        // A replica that stands by is ready: it can take over.
        health.ready();
        let mut election = Election::new(client.clone(), &settings.namespace, identity.clone());
        tokio::select! {
            won = election.win() => won?,
            () = stop.cancelled() => return Ok(()),
        }
        tracing::info!(%identity, "leading");
        leading = Some(lead(election, stop.clone()));
    }
    // Only the leader writes to it, so it is opened no earlier.
    let trail = audit_trail.map(|path| Trail::open(&path)).transpose()?;
    if let Some(trail) = &trail {
        tracing::info!(lines = trail.head().lines, hash = %trail.head().hash, "the audit trail goes on");
    }
    let started = tokio::select! {
        controller = Controller::start(client, settings, health, metrics, trail) => Some(controller?),
        () = stop.cancelled() => None,
    };
    if let Some(controller) = started {
        tracing::info!("watching");
        controller.run(stop.clone()).await;
    }
    stop.cancel();
    server.await.context("waiting for the endpoints to close")??;
    if let Some(leading) = leading {
        leading.await.context("waiting for the lease to be given back")??;
    }
    tracing::info!("stopped");
    Ok(())
}

/// Keeps the lease; when it is lost, everything stops, and the error ends the process: its pod starts anew as a candidate.
fn lead(election: Election, stop: CancellationToken) -> JoinHandle<Result<()>> {
    tokio::spawn(async move {
        let kept = election.keep(stop.clone()).await;
        stop.cancel();
        kept
    })
}

/// Cancelled at the first SIGTERM or SIGINT; the second one ends the process at once.
#[allow(clippy::disallowed_methods, reason = "whoever asks twice wants it to end now, as by a kill")]
fn stop_on_signal() -> Result<CancellationToken> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let token = stop.clone();
    tokio::spawn(async move {
        for _ in 0..2 {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if token.is_cancelled() {
                std::process::exit(1);
            }
            tracing::info!("stopping after the work in hand");
            token.cancel();
        }
    });
    Ok(stop)
}

fn begin_logs(format: LogFormat, level: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => logs.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
}

fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        // A reader that has seen enough (`| head`) is no failure.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("writing to standard output"),
    }
}
