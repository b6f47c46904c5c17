//! A door in front of the API server through which a test sees every write, and can hold it.
//!
//! A program that is given the gateway's kubeconfig acts with the identity of the gateway's client. With [`Gateway::on_write`] a test picks the
//! writes to hold, before they reach the API server or after the API server has carried them out; with [`Gateway::held`] it waits
//! for one, and may then end the program at exactly that point. Bodies are streamed, so watches work; connection upgrades
//! (`exec`, `attach`) do not.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONNECTION, HOST, TRANSFER_ENCODING};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use crate::http_server::HttpServer;

/// How long [`Gateway::held`] waits.
const PATIENCE: Duration = Duration::from_mins(1);

/// A request that changes something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The verb: POST, PUT, PATCH or DELETE.
    pub method: Method,
    /// The path without the query, e.g. `/api/v1/namespaces/shop/secrets/checkout-7d`.
    pub path: String,
    /// The query without its question mark; empty where there is none.
    pub query: String,
    /// The body as it was sent.
    pub body: Bytes,
}

/// What is to become of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes its way.
    Forward,
    /// It waits, and the API server knows nothing of it.
    HoldBefore,
    /// It is carried out, and its answer waits.
    HoldAfter,
}

/// A write that waits. Dropping it refuses the write.
#[derive(Debug)]
#[must_use = "dropping it refuses the write"]
pub struct Held {
    /// The write.
    pub write: Write,
    /// Whether the API server has carried it out.
    pub carried_out: bool,
    release: oneshot::Sender<()>,
}

impl Held {
    /// Lets it go on.
    pub fn release(self) {
        // Where the program is gone, so is its request, and nobody waits.
        let _ = self.release.send(());
    }

    /// Answers the program with 500, which kube does not retry by itself; a write that was carried out stays so.
    pub fn refuse(self) {
        drop(self);
    }
}

/// Serves until it is dropped.
pub struct Gateway {
    door: Arc<Door>,
    held: tokio::sync::Mutex<mpsc::UnboundedReceiver<Held>>,
    kubeconfig: PathBuf,
    server: HttpServer,
}

type Judge = Box<dyn FnMut(&Write) -> Verdict + Send>;

struct Door {
    client: kube::Client,
    judge: Mutex<Judge>,
    writes: Mutex<Vec<Write>>,
    holds: mpsc::UnboundedSender<Held>,
}

impl Gateway {
    /// Serves on a free port of 127.0.0.1 and writes its kubeconfig into this folder.
    pub async fn start(client: kube::Client, folder: &Path) -> Result<Self> {
        let (holds, held) = mpsc::unbounded_channel();
        let judge: Judge = Box::new(|_| Verdict::Forward);
        let door = Arc::new(Door { client, judge: Mutex::new(judge), writes: Mutex::default(), holds });
        let router = Router::new().fallback(pass).with_state(Arc::clone(&door));
        let server = HttpServer::start(None, None, router).await.context("serving the gateway")?;
        let kubeconfig = folder.join(format!("gateway-{}.kubeconfig", server.port()));
        std::fs::write(&kubeconfig, kubeconfig_for(server.port()))
            .with_context(|| format!("writing {}", kubeconfig.display()))?;
        Ok(Self { door, held: tokio::sync::Mutex::new(held), kubeconfig, server })
    }

    /// The gateway's address, `http://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        address(self.server.port())
    }

    /// A kubeconfig that leads here.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Has this decide on every write from now on; before, every write is forwarded.
    pub fn on_write(&self, judge: impl FnMut(&Write) -> Verdict + Send + 'static) {
        *lock(&self.door.judge) = Box::new(judge);
    }

    /// Holds the n-th write (from 1) that this picks, and forwards every other.
    pub fn hold_nth(&self, n: usize, verdict: Verdict, picks: impl Fn(&Write) -> bool + Send + 'static) {
        let mut seen = 0;
        self.on_write(move |write| {
            seen += usize::from(picks(write));
            if seen == n && picks(write) { verdict } else { Verdict::Forward }
        });
    }

    /// Waits until a write is held, for a minute at most; in the order of their coming.
    pub async fn held(&self) -> Result<Held> {
        let mut held = self.held.lock().await;
        let next = tokio::time::timeout(PATIENCE, held.recv()).await;
        next.with_context(|| format!("no write was held within {PATIENCE:?}"))?.context("the gateway is gone")
    }

    /// Every write so far, in the order of their coming.
    pub fn writes(&self) -> Vec<Write> {
        lock(&self.door.writes).clone()
    }

    /// Closes the door: connections are cut.
    pub async fn stop(self) {
        self.server.stop().await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A judge that panicked has failed its test already; the others go on.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn address(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

fn kubeconfig_for(port: u16) -> String {
    // JSON is YAML too.
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "gateway", "cluster": {"server": address(port)}}],
        "users": [{"name": "gateway", "user": {}}],
        "contexts": [{"name": "gateway", "context": {"cluster": "gateway", "user": "gateway"}}],
        "current-context": "gateway",
    });
    format!("{config:#}\n")
}

async fn pass(State(door): State<Arc<Door>>, request: Request) -> Response {
    door.pass(request).await.unwrap_or_else(|error| failure(StatusCode::BAD_GATEWAY, format!("{error:#}")))
}

/// A failure as the API server words it, so that a client understands it.
fn failure(status: StatusCode, message: impl fmt::Display) -> Response {
    let body = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": format!("gateway: {message}"),
        "reason": "InternalError",
        "code": status.as_u16(),
    });
    (status, axum::Json(body)).into_response()
}

impl Door {
    async fn pass(&self, request: Request) -> Result<Response> {
        let (mut parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.context("reading the request")?;
        let changes = ![Method::GET, Method::HEAD, Method::OPTIONS].contains(&parts.method);
        let write = changes.then(|| Write {
            method: parts.method.clone(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            body: body.clone(),
        });
        // The client sets its own; a token that came along would name somebody else.
        for name in [AUTHORIZATION, CONNECTION, HOST, TRANSFER_ENCODING] {
            parts.headers.remove(name);
        }
        let request = Request::from_parts(parts, kube::client::Body::from(body.to_vec()));
        let Some(write) = write else { return self.forward(request).await };
        lock(&self.writes).push(write.clone());
        let verdict = (lock(&self.judge))(&write);
        if verdict == Verdict::HoldBefore && !self.hold(write.clone(), false).await {
            return Ok(refused());
        }
        let response = self.forward(request).await?;
        if verdict != Verdict::HoldAfter {
            return Ok(response);
        }
        // The whole answer: only then the write is over.
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.context("reading the answer")?;
        let released = self.hold(write, true).await;
        Ok(if released { Response::from_parts(parts, Body::from(body)) } else { refused() })
    }

    async fn forward(&self, request: axum::http::Request<kube::client::Body>) -> Result<Response> {
        let response = self.client.send(request).await.context("asking the API server")?;
        let (mut parts, body) = response.into_parts();
        parts.headers = without_connection_headers(parts.headers);
        Ok(Response::from_parts(parts, Body::new(body)))
    }

    /// Waits for the test's word; false where the write is refused.
    async fn hold(&self, write: Write, carried_out: bool) -> bool {
        let (release, released) = oneshot::channel();
        self.holds.send(Held { write, carried_out, release }).is_ok() && released.await.is_ok()
    }
}

fn refused() -> Response {
    failure(StatusCode::INTERNAL_SERVER_ERROR, "the test refused this write")
}

fn without_connection_headers(mut headers: HeaderMap) -> HeaderMap {
    headers.remove(CONNECTION);
    headers.remove(TRANSFER_ENCODING);
    headers
}
