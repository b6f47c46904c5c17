//! The endpoints: `/livez`, `/readyz`, `/metrics`, and the dashboard's.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::dashboard::{self, Dashboard};
use crate::health::Health;
use crate::metrics::Metrics;

#[derive(Clone)]
struct Served {
    health: Health,
    metrics: Metrics,
}

/// Opens the port and serves until it is told to stop. Returns the bound address and the server to wait for.
pub async fn serve(
    listen: SocketAddr,
    health: Health,
    metrics: Metrics,
    dashboard: Option<Dashboard>,
    stop: CancellationToken,
) -> Result<(SocketAddr, impl Future<Output = Result<()>>)> {
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("listening on {listen}: set another address with --listen"))?;
    let address = listener.local_addr().context("asking for the bound address")?;
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .with_state(Served { health, metrics })
        .merge(dashboard.map(dashboard::router).unwrap_or_default())
        .into_make_service_with_connect_info::<SocketAddr>();
    let server = async move {
        axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await.context("serving")
    };
    Ok((address, server))
}

async fn livez(State(served): State<Served>) -> impl IntoResponse {
    if served.health.is_live(Instant::now()) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::INTERNAL_SERVER_ERROR, "a pass is stuck\n")
    }
}

async fn readyz(State(served): State<Served>) -> impl IntoResponse {
    if served.health.is_ready() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "no pass has succeeded yet\n")
    }
}

async fn metrics_text(State(served): State<Served>) -> impl IntoResponse {
    let format = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, format)], served.metrics.text())
}
