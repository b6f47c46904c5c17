//! `run`: the work itself, until told to stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use kube::Client;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::audit::Trail;
use crate::cli::DashboardArguments;
use crate::controller::{Controller, Settings};
use crate::dashboard::{Dashboard, Files, facts};
use crate::health::Health;
use crate::lease::Election;
use crate::metrics::Metrics;
use crate::server;

/// Works until told to stop. `candidate` is this replica's name where several stand for election.
pub(super) async fn run(
    client: Client,
    settings: Settings,
    listen: SocketAddr,
    candidate: Option<String>,
    audit_trail: Option<PathBuf>,
    dashboard: DashboardArguments,
) -> Result<()> {
    let stop = stop_on_signal()?;
    let (health, metrics) = (Health::default(), Metrics::default());
    let (publisher, latest) = facts::channel();
    let files = Files { preview: dashboard.preview_folder, audit_trail: audit_trail.clone() };
    let pages = dashboard.dashboard.then(|| Dashboard::new(latest, Arc::new(client.clone()), files, stop.clone()));
    let (address, server) = server::serve(listen, health.clone(), metrics.clone(), pages, stop.clone()).await?;
    tracing::info!(%address, "listening");
    let server = tokio::spawn(server);
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
        controller = Controller::start(client, settings, health, metrics, trail, publisher) => Some(controller?),
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
