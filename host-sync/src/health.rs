//! Liveness and readiness, as the endpoints tell them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long one pass may take before host-sync counts as stuck: far beyond any pass, and each request has its own limits.
const STUCK: Duration = Duration::from_mins(5);

#[derive(Debug, Default)]
struct State {
    ready: bool,
    busy_since: Option<Instant>,
}

/// What the loop says of itself.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<State>>);

impl Health {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pass begins.
    pub fn busy(&self) {
        self.state().busy_since = Some(Instant::now());
    }

    /// A pass has ended.
    pub fn idle(&self) {
        self.state().busy_since = None;
    }

    /// A pass has succeeded: the caches are full and the API server answers.
    pub fn ready(&self) {
        self.state().ready = true;
    }

    /// Whether a pass has ever succeeded.
    pub fn is_ready(&self) -> bool {
        self.state().ready
    }

    /// Whether no pass is stuck.
    pub fn is_live(&self, now: Instant) -> bool {
        self.state().busy_since.is_none_or(|since| now.saturating_duration_since(since) < STUCK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stuck_pass_is_not_alive_and_an_idle_loop_is() {
        let health = Health::default();
        assert!(health.is_live(Instant::now()) && !health.is_ready());
        health.busy();
        health.ready();
        assert!(health.is_live(Instant::now()) && health.is_ready());
        assert!(!health.is_live(Instant::now() + STUCK + Duration::from_secs(1)));
        health.idle();
        assert!(health.is_live(Instant::now() + STUCK + Duration::from_secs(1)));
    }
}
