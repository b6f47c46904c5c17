//! The dashboard: which workload runs which revision, and why one waits, on pages that host-sync serves itself.
//!
//! No build step and nothing from elsewhere: the files under `static/` are what the browser runs. Whoever signs in with a
//! bearer token sees what that token may read in the cluster, and nothing more; no page holds a value (see [`facts`]).

mod assets;
mod cluster;
mod cookies;
mod events;
pub mod facts;
mod rights;
mod routes;
mod sessions;
mod views;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use tokio_util::sync::CancellationToken;

use assets::Assets;
use facts::{Facts, Latest};
use rights::Visible;
use sessions::{Session, Sessions};

pub use cluster::{Attempt, Cluster, User};
pub use routes::router;

/// The files that the dashboard shows something of, where there are any.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// The folder of the preview's WebAssembly module; without one there is no preview page.
    pub preview: Option<PathBuf>,
    /// The audit trail; without one there is no audit page.
    pub audit_trail: Option<PathBuf>,
}

/// Everything that the routes work with.
#[derive(Clone)]
pub struct Dashboard(Arc<Inner>);

struct Inner {
    latest: Latest,
    cluster: Arc<dyn Cluster>,
    sessions: Sessions,
    assets: Assets,
    audit_trail: Option<PathBuf>,
    stop: CancellationToken,
}

impl Dashboard {
    /// A dashboard of the latest facts. Open streams end when `stop` is cancelled.
    pub fn new(latest: Latest, cluster: Arc<dyn Cluster>, files: Files, stop: CancellationToken) -> Self {
        let assets = Assets::new(files.preview);
        let audit_trail = files.audit_trail;
        Self(Arc::new(Inner { latest, cluster, sessions: Sessions::default(), assets, audit_trail, stop }))
    }

    /// The facts of the latest pass; `None` where this replica has made none.
    fn facts(&self) -> Option<Arc<Facts>> {
        self.0.latest.borrow().clone()
    }

    /// What somebody who is signed in may see of the facts, asked anew every few seconds.
    async fn rights(&self, cookie: &str, session: &Session, facts: &Facts) -> Result<Arc<Visible>> {
        if let Some(rights) = session.fresh_rights(Instant::now()) {
            return Ok(rights);
        }
        let rights = Arc::new(rights::visible(self.0.cluster.as_ref(), &session.user, facts).await?);
        self.0.sessions.remember(cookie, rights.clone(), Instant::now());
        Ok(rights)
    }
}
