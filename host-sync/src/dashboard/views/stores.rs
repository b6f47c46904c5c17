//! The stores: whether they answer, and what they said last.

use std::collections::BTreeSet;

use host_sync_core::history::UnixSeconds;
use serde::Serialize;

use super::super::facts::Facts;
use super::super::rights::Visible;

/// The stores' page.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct StoresPage {
    stores: Vec<StoreView>,
    /// Stores that visible Apps name and that do not exist, as far as the viewer may know.
    missing: BTreeSet<String>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct StoreView {
    name: String,
    backend: String,
    refresh_interval: String,
    ready: Option<bool>,
    reason: String,
    message: String,
    since: Option<UnixSeconds>,
    /// The visible Apps that take from it.
    apps: Vec<String>,
}

/// The stores that the viewer may get.
pub(crate) fn stores(facts: &Facts, visible: &Visible) -> StoresPage {
    let apps: Vec<(&String, &String)> = facts
        .apps
        .iter()
        .filter(|(name, _)| visible.apps.contains(name))
        .filter_map(|(name, app)| Some((name, &app.spec.as_ref()?.store)))
        .collect();
    let shown = facts.stores.iter().filter(|(name, _)| visible.stores.contains(name));
    let stores = shown.map(|(name, store)| StoreView {
        name: name.clone(),
        backend: store.backend.clone(),
        refresh_interval: store.refresh_interval.clone(),
        ready: store.ready,
        reason: store.reason.clone(),
        message: store.message.clone(),
        since: store.since,
        apps: apps.iter().filter(|(_, of)| *of == name).map(|(app, _)| (*app).clone()).collect(),
    });
    let named = apps.iter().map(|(_, store)| *store);
    StoresPage {
        stores: stores.collect(),
        missing: named.filter(|store| !facts.stores.contains_key(*store)).cloned().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{everything, facts};
    use super::*;

    #[test]
    fn a_store_names_the_apps_that_take_from_it() {
        let page = stores(&facts(), &everything());
        assert_eq!(page.stores[0].apps, ["checkout"]);
        assert!(page.missing.is_empty());
    }

    #[test]
    fn a_store_that_is_not_there_is_missing_and_one_that_may_not_be_got_is_not_shown() {
        let mut facts = facts();
        let mut visible = everything();
        visible.stores = crate::dashboard::rights::Scope::Named(BTreeSet::new());
        let page = stores(&facts, &visible);
        assert!(page.stores.is_empty() && page.missing.is_empty());
        facts.stores.clear();
        assert_eq!(stores(&facts, &visible).missing, BTreeSet::from(["files".to_owned()]));
    }
}
