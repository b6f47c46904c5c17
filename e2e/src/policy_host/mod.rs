//! A policy host that serves a Kubewarden policy as policy-server 1.36 does.
//!
//! What it shares with policy-server: waPC on wasmtime, a fresh instance per request from a module compiled once, the epoch deadline of two
//! one-second ticks, the host call `kubernetes/get_resource` with its cache, its permissions and its texts, the JSON patch made by the
//! host, and the HTTP answers. Where the texts come from: kubewarden/adm-controller, crates `policy-evaluator` and `policy-server`.
//!
//! What it leaves out: monitor mode, policy groups, `/audit` and `/validate_raw`, every other host call, HTTP/2, the limit on a guest's memory.

mod capabilities;
mod certificate;
mod field_mask;
mod guest;
mod metadata;
mod resources;
mod review;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::{Context, Result};
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::sync::{Mutex, Semaphore};

use crate::http_server::HttpServer;
use capabilities::Capabilities;
use certificate::Certificate;
use guest::{Guest, Outcome};
use metadata::Metadata;
use review::{AdmissionRequest, AdmissionResponse, AdmissionReview};

/// What to serve, and how.
#[derive(Clone)]
pub struct PolicyHostOptions {
    /// The annotated WebAssembly module.
    pub module: Vec<u8>,
    /// The policy's id: the last segment of its URL.
    pub id: String,
    /// The policy's settings.
    pub settings: Value,
    /// Whether a mutation is passed on or refused.
    pub allowed_to_mutate: bool,
    /// Reads objects for the policy: its account is that of a `PolicyServer`.
    pub client: kube::Client,
    /// The port on 127.0.0.1; `None` takes a free one.
    pub port: Option<u16>,
}

/// What the host has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requests {
    /// Admission reviews answered by the guest.
    pub reviews: u64,
    /// Host calls that the guest made, log lines apart.
    pub host_calls: u64,
    /// Host calls that had the API server asked; the rest was refused or came from the cache.
    pub reads: u64,
}

/// A policy that is served until it is stopped or dropped.
pub struct PolicyHost {
    policy: Arc<Policy>,
    certificate: Certificate,
    port: u16,
    server: Mutex<Option<HttpServer>>,
}

struct Policy {
    id: String,
    settings: Value,
    allowed_to_mutate: bool,
    guest: Guest,
    capabilities: Arc<Capabilities>,
    /// One evaluation per processor at a time.
    evaluations: Semaphore,
    reviews: AtomicU64,
}

impl PolicyHost {
    /// Compiles the policy, has it validate its settings, and serves it.
    ///
    /// Refused are a module that is not annotated or asks for what this host lacks, and settings that the policy refuses.
    pub async fn start(options: PolicyHostOptions) -> Result<Self> {
        let PolicyHostOptions { module, id, settings, allowed_to_mutate, client, port } = options;
        let capabilities = Capabilities::new(id.clone(), Metadata::of(&module)?, client);
        let of_guest = Arc::clone(&capabilities);
        let (guest, settings) = tokio::task::spawn_blocking(move || {
            let guest = Guest::compile(&module, of_guest)?;
            guest.check_settings(&settings)?;
            anyhow::Ok((guest, settings))
        })
        .await
        .context("loading the policy")??;
        let evaluations = Semaphore::new(thread::available_parallelism().map_or(1, usize::from));
        let reviews = AtomicU64::new(0);
        let policy = Arc::new(Policy { id, settings, allowed_to_mutate, guest, capabilities, evaluations, reviews });
        let certificate = Certificate::new()?;
        let server = serve(&policy, &certificate, port).await?;
        Ok(Self { policy, certificate, port: server.port(), server: Mutex::new(Some(server)) })
    }

    /// Where the policy answers: `https://127.0.0.1:<port>/validate/<id>`.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}/validate/{}", self.port, self.policy.id)
    }

    /// The policy's id.
    pub fn id(&self) -> &str {
        &self.policy.id
    }

    /// The certificate of the authority that signed the host's, as PEM.
    pub fn ca_bundle(&self) -> &str {
        &self.certificate.authority
    }

    /// What it has done since it was started, through every stop.
    pub fn requests(&self) -> Requests {
        let Policy { reviews, capabilities, .. } = &*self.policy;
        let reviews = reviews.load(Ordering::Relaxed);
        Requests { reviews, host_calls: capabilities.calls(), reads: capabilities.reads() }
    }

    /// Goes down: connections are cut, and new ones refused, until [`PolicyHost::resume`].
    pub async fn stop(&self) {
        if let Some(server) = self.server.lock().await.take() {
            server.stop().await;
        }
    }

    /// Comes up again after [`PolicyHost::stop`], with the same address, certificate and cache.
    pub async fn resume(&self) -> Result<()> {
        let mut server = self.server.lock().await;
        if server.is_none() {
            *server = Some(serve(&self.policy, &self.certificate, Some(self.port)).await?);
        }
        Ok(())
    }
}

async fn serve(policy: &Arc<Policy>, certificate: &Certificate, port: Option<u16>) -> Result<HttpServer> {
    let router = Router::new().route("/validate/{id}", post(validate)).with_state(Arc::clone(policy));
    HttpServer::start(port, Some(certificate.acceptor.clone()), router).await.context("serving the policy")
}

/// What policy-server answers where there is no review to answer.
type Refusal = (StatusCode, Json<Value>);

fn refusal(status: StatusCode, message: &str) -> Refusal {
    (status, Json(json!({"message": message, "status": status.as_u16()})))
}

async fn validate(
    State(policy): State<Arc<Policy>>,
    Path(id): Path<String>,
    review: Result<Json<AdmissionReview>, JsonRejection>,
) -> Result<Json<Value>, Refusal> {
    let Json(review) = review.map_err(|rejection| refusal(rejection.status(), &rejection.body_text()))?;
    if id != policy.id {
        return Err(refusal(StatusCode::NOT_FOUND, &format!("unknown policy: {id}")));
    }
    let response = policy.evaluate(review.request).await.map_err(|error| {
        tracing::error!(policy = policy.id, "evaluating: {error:#}");
        refusal(StatusCode::INTERNAL_SERVER_ERROR, "Something went wrong")
    })?;
    Ok(Json(response.into_review()))
}

impl Policy {
    async fn evaluate(self: &Arc<Self>, request: AdmissionRequest) -> Result<AdmissionResponse> {
        let _permit = self.evaluations.acquire().await.context("waiting for a processor")?;
        let policy = Arc::clone(self);
        tokio::task::spawn_blocking(move || policy.evaluate_blocking(&request))
            .await
            .context("the evaluation broke off")?
    }

    fn evaluate_blocking(&self, request: &AdmissionRequest) -> Result<AdmissionResponse> {
        let payload = request.payload(&self.settings).context("writing the guest's request")?;
        let outcome = self.guest.call("validate", &payload)?;
        self.reviews.fetch_add(1, Ordering::Relaxed);
        let response = match outcome {
            Outcome::Answer(answer) => AdmissionResponse::from_guest(request, &answer),
            Outcome::Failure(error) => AdmissionResponse::internal_error(request, error),
        };
        let response = if self.allowed_to_mutate { response } else { response.without_mutation(&self.id) };
        tracing::debug!(policy = self.id, request = request.describe(), verdict = response.describe(), "reviewed");
        Ok(response)
    }
}
