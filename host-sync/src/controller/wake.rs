//! The one reason to make a pass: something, whatever it was, may have changed.

use std::sync::Arc;

use tokio::sync::Notify;

/// Wakes the loop. Any number of calls before the next pass are one.
#[derive(Debug, Clone, Default)]
pub(super) struct Wake(Arc<Notify>);

impl Wake {
    /// Asks for a pass.
    pub(super) fn up(&self) {
        self.0.notify_one();
    }

    /// Waits until somebody asks.
    pub(super) async fn called(&self) {
        self.0.notified().await;
    }
}
