//! What host-sync counts, in OpenMetrics' text format. Names and counts only, never a value.

use host_sync_core::config::AppEnvironment;
use host_sync_core::plan::{Action, Step};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use std::sync::Arc;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeliveryLabels {
    app: String,
    environment: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FetchLabels {
    store: String,
    result: String,
}

/// The counters.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    deliveries: Family<DeliveryLabels, Counter>,
    fetches: Family<FetchLabels, Counter>,
    touches: Counter,
    failed_steps: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("scout");
        let (deliveries, fetches) = (Family::default(), Family::default());
        let (touches, failed_steps) = (Counter::default(), Counter::default());
        registry.register("deliveries", "Deliveries, by app and environment", deliveries.clone());
        registry.register("fetches", "Reads of a store, by result: Success or the class of error", fetches.clone());
        registry.register("touches", "Workloads asked to go through the policy again", touches.clone());
        registry.register("failed_steps", "Steps of a plan that failed and are tried again", failed_steps.clone());
        Self { registry: Arc::new(registry), deliveries, fetches, touches, failed_steps }
    }
}

impl Metrics {
    /// Counts a delivery.
    pub fn delivered(&self, of: &AppEnvironment) {
        let labels = DeliveryLabels { app: of.app.to_string(), environment: of.environment.to_string() };
        self.deliveries.get_or_create(&labels).inc();
    }

    /// Counts a fetch by its result: `Success`, or the class of its error.
    pub fn fetched(&self, store: &str, result: &str) {
        let labels = FetchLabels { store: store.to_owned(), result: result.to_owned() };
        self.fetches.get_or_create(&labels).inc();
    }

    /// Counts what a plan's steps came to.
    pub fn applied(&self, done: &[Step], failed: usize) {
        self.touches.inc_by(done.iter().filter(|step| matches!(step.action, Action::Touch { .. })).count() as u64);
        self.failed_steps.inc_by(failed as u64);
    }

    /// Everything, in OpenMetrics' text format.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_written_with_their_labels() {
        let metrics = Metrics::default();
        metrics.fetched("files", "Success");
        metrics.fetched("files", "Success");
        let text = metrics.text();
        assert!(text.contains("scout_fetches_total{store=\"files\",result=\"Success\"} 2"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
