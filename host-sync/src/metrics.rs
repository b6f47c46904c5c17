//! What host-sync counts and measures, in OpenMetrics' text format. Names and numbers only, never a value.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use host_sync_core::config::AppEnvironment;
use host_sync_core::plan::{Action, Step};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// The buckets of a fetch, in seconds: a file in a millisecond, a far store in seconds, the time limit at 30.
const FETCH_BUCKETS: [f64; 9] = [0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0];
/// The buckets from a delivery to every replica running it, in seconds: from an empty Deployment to a slow rolling update.
const READY_BUCKETS: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0];

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

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StoreLabels {
    store: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

/// How a rollout ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RolloutEnd {
    /// Every replica runs it, this long after its delivery.
    Ready(Duration),
    /// The workload's controller gave up.
    Failed,
}

/// What waits and what is on its way, at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Rollouts in flight of workloads that hold something of Scout: the budget in use.
    pub rollouts_in_flight: u32,
    /// Workloads that do not hold the newest revision.
    pub workloads_waiting: u32,
    /// Apps of which somebody keeps undoing what the policy adds.
    pub contested: u32,
    /// How long the oldest delivery under Auto has been waiting for a workload.
    pub oldest_waiting: Duration,
}

/// The metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    deliveries: Family<DeliveryLabels, Counter>,
    fetches: Family<FetchLabels, Counter>,
    fetch_duration: Family<StoreLabels, Histogram, fn() -> Histogram>,
    touches: Counter,
    failed_steps: Counter,
    rollouts: Family<OutcomeLabels, Counter>,
    delivery_to_ready: Histogram,
    rollouts_in_flight: Gauge,
    workloads_waiting: Gauge,
    contested: Gauge,
    oldest_waiting: Gauge<f64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Arc::default(),
            deliveries: Family::default(),
            fetches: Family::default(),
            fetch_duration: Family::new_with_constructor(|| Histogram::new(FETCH_BUCKETS)),
            touches: Counter::default(),
            failed_steps: Counter::default(),
            rollouts: Family::default(),
            delivery_to_ready: Histogram::new(READY_BUCKETS),
            rollouts_in_flight: Gauge::default(),
            workloads_waiting: Gauge::default(),
            contested: Gauge::default(),
            oldest_waiting: Gauge::default(),
        };
        metrics.registry = Arc::new(metrics.registry_of_all());
        metrics
    }
}

impl Metrics {
    fn registry_of_all(&self) -> Registry {
        let mut all = Registry::with_prefix("scout");
        all.register("deliveries", "Deliveries, by app and environment", self.deliveries.clone());
        all.register("fetches", "Reads of a store, by result: Success or the class of error", self.fetches.clone());
        let duration = self.fetch_duration.clone();
        all.register_with_unit("fetch_duration", "How long a read of a store took", Unit::Seconds, duration);
        all.register("touches", "Workloads asked to go through the policy again", self.touches.clone());
        all.register("failed_steps", "Steps of a plan that failed and are tried again", self.failed_steps.clone());
        all.register("rollouts", "Rollouts that ended, by outcome: Ready or Failed", self.rollouts.clone());
        let ready = self.delivery_to_ready.clone();
        all.register_with_unit(
            "delivery_to_ready",
            "From a delivery to every replica running it",
            Unit::Seconds,
            ready,
        );
        let help = "Rollouts in flight because of Scout, or of workloads that hold something of it: the budget in use";
        all.register("rollouts_in_flight", help, self.rollouts_in_flight.clone());
        let help = "Workloads that do not hold the newest revision: manual, budget, paused, contested, ignored";
        all.register("workloads_waiting", help, self.workloads_waiting.clone());
        all.register("contested", "Apps of which somebody keeps undoing what the policy adds", self.contested.clone());
        let help = "How long the oldest delivery under Auto has been waiting for a workload";
        all.register_with_unit("oldest_waiting", help, Unit::Seconds, self.oldest_waiting.clone());
        all
    }

    /// Counts a delivery.
    pub fn delivered(&self, of: &AppEnvironment) {
        let labels = DeliveryLabels { app: of.app.to_string(), environment: of.environment.to_string() };
        self.deliveries.get_or_create(&labels).inc();
    }

    /// Counts a fetch by its result, `Success` or the class of its error, and how long it took.
    pub fn fetched(&self, store: &str, result: &str, took: Duration) {
        let labels = FetchLabels { store: store.to_owned(), result: result.to_owned() };
        self.fetches.get_or_create(&labels).inc();
        self.fetch_duration.get_or_create(&StoreLabels { store: store.to_owned() }).observe(took.as_secs_f64());
    }

    /// Counts what a plan's steps came to.
    pub fn applied(&self, done: &[Step], failed: usize) {
        self.touches.inc_by(done.iter().filter(|step| matches!(step.action, Action::Touch { .. })).count() as u64);
        self.failed_steps.inc_by(failed as u64);
    }

    /// Counts a rollout that ended.
    pub fn rollout_ended(&self, end: RolloutEnd) {
        let outcome = match end {
            RolloutEnd::Ready(took) => {
                self.delivery_to_ready.observe(took.as_secs_f64());
                "Ready"
            }
            RolloutEnd::Failed => "Failed",
        };
        self.rollouts.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// Takes in what waits and what is on its way.
    pub fn set(&self, gauges: Gauges) {
        self.rollouts_in_flight.set(gauges.rollouts_in_flight.into());
        self.workloads_waiting.set(gauges.workloads_waiting.into());
        self.contested.set(gauges.contested.into());
        self.oldest_waiting.set(gauges.oldest_waiting.as_secs_f64());
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
    use std::collections::BTreeSet;

    use policy_core::names::{AppName, Environment};
    use serde_json::Value;

    use super::*;

    #[test]
    fn what_is_counted_is_written_with_its_labels_and_units() {
        let metrics = Metrics::default();
        metrics.fetched("files", "Success", Duration::from_millis(3));
        metrics.fetched("files", "Success", Duration::from_secs(2));
        metrics.rollout_ended(RolloutEnd::Ready(Duration::from_secs(4)));
        metrics.rollout_ended(RolloutEnd::Failed);
        metrics.set(Gauges { workloads_waiting: 7, oldest_waiting: Duration::from_secs(90), ..Gauges::default() });
        let text = metrics.text();
        for line in [
            "scout_fetches_total{store=\"files\",result=\"Success\"} 2",
            "scout_fetch_duration_seconds_bucket{le=\"0.005\",store=\"files\"} 1",
            "scout_rollouts_total{outcome=\"Failed\"} 1",
            "scout_delivery_to_ready_seconds_bucket{le=\"5.0\"} 1",
            "scout_workloads_waiting 7",
            "scout_oldest_waiting_seconds 90.0",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn the_charts_dashboard_asks_for_metrics_that_there_are() {
        let metrics = Metrics::default();
        let (app, environment) = (AppName::parse("checkout").unwrap(), Environment::parse("production").unwrap());
        metrics.delivered(&AppEnvironment { app, environment });
        metrics.fetched("files", "Success", Duration::from_millis(3));
        metrics.rollout_ended(RolloutEnd::Failed);
        let text = metrics.text();
        let exposed: BTreeSet<&str> = text.lines().filter_map(|line| line.split(['{', ' ']).next()).collect();
        let dashboard: Value = serde_json::from_str(include_str!("../chart/files/grafana-dashboard.json")).unwrap();
        let panels = dashboard["panels"].as_array().unwrap();
        for target in panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap()) {
            let expression = target["expr"].as_str().unwrap();
            let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let named: Vec<&str> = words.filter(|word| word.starts_with("scout_")).collect();
            assert!(!named.is_empty(), "{expression}");
            for name in named {
                assert!(exposed.contains(name), "{name} is asked for and is not in {text}");
            }
        }
    }
}
