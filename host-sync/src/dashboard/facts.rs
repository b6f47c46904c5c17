//! What the dashboard may know: the facts of the latest pass, published by the controller.
//!
//! Names, keys, revisions and reasons. No type in here can hold secret bytes, and what is answered is built of types that
//! derive `Serialize`, which secret bytes do not implement: no page can show a value, whatever it does.

use std::collections::BTreeMap;
use std::sync::Arc;

use host_sync_core::config::App;
use host_sync_core::history::{History, UnixSeconds};
use host_sync_core::plan::AppReport;
use host_sync_core::snapshot::{NamespaceFacts, Problem, WorkloadFacts};
use policy_core::desired_state::DesiredState;
use tokio::sync::watch;

/// One App.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppFacts {
    /// What it asks for; `None` where its spec cannot be used, and a problem says why.
    pub spec: Option<App>,
    /// What its status says.
    pub report: AppReport,
    /// What is wrong with the App itself, or with writing what it needs.
    pub problems: Vec<Problem>,
}

/// One SecretStore.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreFacts {
    /// The backend, and where it is: `file /var/scout/secrets`.
    pub backend: String,
    /// How often it is read, as the SecretStore writes it.
    pub refresh_interval: String,
    /// Whether the latest read succeeded; `None` before the first one.
    pub ready: Option<bool>,
    /// The condition's reason.
    pub reason: String,
    /// The condition's message: the last error, or what is read.
    pub message: String,
    /// Since when it is ready, or not.
    pub since: Option<UnixSeconds>,
}

/// One moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// The Apps.
    pub apps: BTreeMap<String, AppFacts>,
    /// The SecretStores.
    pub stores: BTreeMap<String, StoreFacts>,
    /// Every namespace.
    pub namespaces: BTreeMap<String, NamespaceFacts>,
    /// The readable desired states, by associated namespace.
    pub states: BTreeMap<String, DesiredState>,
    /// The readable delivery histories, by associated namespace.
    pub histories: BTreeMap<String, History>,
    /// The workloads of associated namespaces.
    pub workloads: BTreeMap<String, Vec<WorkloadFacts>>,
}

/// Where the controller puts the facts of each pass.
#[derive(Debug, Clone)]
pub struct Publisher(watch::Sender<Option<Arc<Facts>>>);

/// Where the dashboard reads the latest facts; `None` before the first pass, and in a replica that stands by.
pub type Latest = watch::Receiver<Option<Arc<Facts>>>;

/// The two ends.
pub fn channel() -> (Publisher, Latest) {
    let (sender, receiver) = watch::channel(None);
    (Publisher(sender), receiver)
}

impl Publisher {
    /// Publishes; who waits for news is woken only where something differs.
    pub fn publish(&self, facts: Facts) {
        self.0.send_if_modified(|current| {
            let differs = current.as_deref() != Some(&facts);
            if differs {
                *current = Some(Arc::new(facts));
            }
            differs
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_news_wakes_who_waits() {
        let (publisher, mut latest) = channel();
        assert!(latest.borrow_and_update().is_none());
        publisher.publish(Facts::default());
        assert!(latest.borrow_and_update().is_some());
        publisher.publish(Facts::default());
        assert!(!latest.has_changed().unwrap());
        let stores = BTreeMap::from([("files".to_owned(), StoreFacts::default())]);
        publisher.publish(Facts { stores, ..Facts::default() });
        assert!(latest.has_changed().unwrap());
    }
}
