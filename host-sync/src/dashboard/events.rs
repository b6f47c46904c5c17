//! News by server-sent events: that something changed, never what. Each page then asks for what its viewer may see.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use axum::response::sse::{Event, KeepAlive, Sse};
use futures::{Stream, stream};
use tokio::time::{sleep, sleep_until};

use super::Dashboard;
use super::facts::Latest;

/// The shortest time between two events: a rollout of many workloads is many changes.
const GATHER: Duration = Duration::from_millis(250);
/// How often a quiet stream shows that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A stream that ends with the session, or when host-sync stops.
pub(super) fn events(
    dashboard: Dashboard,
    cookie: String,
    ends: Instant,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let latest = dashboard.0.latest.clone();
    let news = stream::unfold((dashboard, latest, true), move |(dashboard, mut latest, first)| {
        let cookie = cookie.clone();
        async move {
            if first {
                latest.mark_unchanged();
                return Some((Ok(Event::default().event("hello").data("facts")), (dashboard, latest, false)));
            }
            let changed = next(&dashboard, &mut latest, ends).await;
            let signed_in = dashboard.0.sessions.get(&cookie, Instant::now()).is_some();
            (changed && signed_in)
                .then(|| (Ok(Event::default().event("changed").data("facts")), (dashboard, latest, false)))
        }
    });
    Sse::new(news).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

/// Waits for news; `false` at the end.
async fn next(dashboard: &Dashboard, latest: &mut Latest, ends: Instant) -> bool {
    tokio::select! {
        () = dashboard.0.stop.cancelled() => false,
        () = sleep_until(ends.into()) => false,
        changed = latest.changed() => {
            if changed.is_ok() {
                sleep(GATHER).await;
                latest.mark_unchanged();
            }
            changed.is_ok()
        }
    }
}
