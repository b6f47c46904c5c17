//! What a pass knew, for the dashboard.

use std::collections::BTreeMap;

use host_sync_core::snapshot::{Problem, StateFacts};
use k8s_openapi::jiff::Timestamp;

use super::apply::Applied;
use super::observe::{Observed, ObservedStore};
use super::{Controller, Reports, failed_steps};
use crate::dashboard::facts::{AppFacts, Facts, StoreFacts};

impl Controller {
    /// Publishes the facts of a pass. What it wrote is seen, and published, by the pass that the writes wake.
    pub(super) fn publish(&self, observed: Observed, mut reports: Reports, applied: &Applied) {
        let stores =
            observed.stores.iter().map(|(name, store)| (name.clone(), self.store_facts(name, store))).collect();
        let problems: BTreeMap<String, Vec<Problem>> = observed
            .apps
            .iter()
            .map(|(name, app)| {
                let own = app.error.clone().map(|message| Problem { reason: "InvalidSpec", message });
                (name.clone(), own.into_iter().chain(failed_steps(name, applied, &observed)).collect())
            })
            .collect();
        let mut snapshot = observed.snapshot;
        let mut specs: BTreeMap<String, _> =
            snapshot.apps.into_iter().map(|(name, app)| (name.to_string(), app)).collect();
        let mut apps = BTreeMap::new();
        for (name, problems) in problems {
            let spec = specs.remove(&name);
            let report = spec.as_ref().and_then(|spec| reports.remove(&spec.name)).unwrap_or_default();
            apps.insert(name, AppFacts { spec, report, problems });
        }
        let states = snapshot.states.into_iter().filter_map(|(namespace, state)| match state {
            StateFacts::Readable(state) => Some((namespace, state)),
            StateFacts::Unreadable(_) => None,
        });
        for workloads in snapshot.workloads.values_mut() {
            workloads.sort_by(|one, two| one.name.cmp(&two.name));
        }
        let histories = snapshot.histories.into_iter();
        self.publisher.publish(Facts {
            apps,
            stores,
            namespaces: snapshot.namespaces,
            states: states.collect(),
            histories: histories.filter_map(|(namespace, history)| Some((namespace, history.ok()?))).collect(),
            workloads: snapshot.workloads,
        });
    }

    fn store_facts(&self, name: &str, store: &ObservedStore) -> StoreFacts {
        let status = self.store_status(name, store, Timestamp::now());
        let ready = status.as_ref().and_then(|status| status.conditions.iter().find(|one| one.type_ == "Ready"));
        StoreFacts {
            backend: self.stores.get(name).map(|store| store.description()).unwrap_or_default(),
            refresh_interval: store.spec.as_ref().map(|spec| spec.refresh_interval.clone()).unwrap_or_default(),
            ready: ready.map(|condition| condition.status == "True"),
            reason: ready.map(|condition| condition.reason.clone()).unwrap_or_default(),
            message: ready.map(|condition| condition.message.clone()).unwrap_or_default(),
            // A status that has just changed has the time of this pass; the next one reads what was written.
            since: store
                .status
                .as_ref()
                .and_then(|status| status.conditions.iter().find(|one| one.type_ == "Ready"))
                .map(|condition| condition.last_transition_time.0.as_second()),
        }
    }
}
