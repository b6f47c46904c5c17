//! The overview: environments × apps, and what needs somebody.

use std::collections::{BTreeMap, BTreeSet};

use host_sync_core::history::UnixSeconds;
use policy_core::attachment::Strategy;
use serde::Serialize;

use super::super::facts::Facts;
use super::super::rights::Visible;
use super::{Counts, Placement, ProblemView, Stand, entry, namespaces, placements, problems};

/// How many workloads the overview names; the app's page has all of them.
const ATTENTION_MAX: usize = 10;

/// The overview.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Overview {
    environments: BTreeSet<String>,
    apps: Vec<AppRow>,
    attention: Vec<Attention>,
    /// How many more there are.
    unlisted: usize,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct AppRow {
    name: String,
    store: Option<String>,
    strategy: Option<Strategy>,
    deleting: bool,
    problems: Vec<ProblemView>,
    environments: BTreeMap<String, Cell>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Cell {
    revision: Option<String>,
    delivered_at: Option<UnixSeconds>,
    counts: Counts,
    pending: Vec<String>,
}

/// A workload that does not run what it should.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Attention {
    app: String,
    environment: String,
    #[serde(flatten)]
    placement: Placement,
}

/// What of the facts a viewer may see, in one table.
pub(crate) fn overview(facts: &Facts, visible: &Visible) -> Overview {
    let mut overview = Overview { environments: BTreeSet::new(), apps: Vec::new(), attention: Vec::new(), unlisted: 0 };
    for (name, app) in facts.apps.iter().filter(|(name, _)| visible.apps.contains(name)) {
        let mut cells = BTreeMap::new();
        for (environment, config) in app.spec.iter().flat_map(|spec| &spec.environments) {
            let Some(spec) = &app.spec else { continue };
            let placed = placements(facts, (spec, app), environment, config, visible);
            let newest = namespaces(config, visible)
                .filter_map(|namespace| {
                    let entry = entry(facts, &spec.name, environment, namespace)?;
                    let history = facts.histories.get(namespace).and_then(|history| history.get(&spec.name));
                    Some((history.map(|history| history.delivered_at), entry.revision.to_string()))
                })
                .max();
            let report = app.report.environments.get(environment);
            let cell = Cell {
                delivered_at: newest.as_ref().and_then(|(at, _)| *at),
                revision: newest.map(|(_, revision)| revision),
                counts: Counts::of(&placed),
                pending: report.map(|report| report.pending.clone()).unwrap_or_default(),
            };
            overview.environments.insert(environment.to_string());
            cells.insert(environment.to_string(), cell);
            let waiting = placed.into_iter().filter(|one| matches!(one.stand, Stand::Failed | Stand::Pending));
            overview.attention.extend(waiting.map(|placement| Attention {
                app: name.clone(),
                environment: environment.to_string(),
                placement,
            }));
        }
        overview.apps.push(AppRow {
            name: name.clone(),
            store: app.spec.as_ref().map(|spec| spec.store.clone()),
            strategy: app.spec.as_ref().map(|spec| spec.strategy),
            deleting: app.spec.as_ref().is_some_and(|spec| spec.deleting),
            problems: problems(app),
            environments: cells,
        });
    }
    overview.attention.sort_by_key(|one| one.placement.stand);
    overview.unlisted = overview.attention.len().saturating_sub(ATTENTION_MAX);
    overview.attention.truncate(ATTENTION_MAX);
    overview
}

#[cfg(test)]
mod tests {
    use super::super::tests::{everything, facts, only};
    use super::*;

    #[test]
    fn a_cell_has_the_revision_and_the_visible_workloads() {
        let overview = overview(&facts(), &only("shop"));
        assert_eq!(overview.environments, BTreeSet::from(["production".to_owned()]));
        let cell = &overview.apps[0].environments["production"];
        assert_eq!((cell.revision.as_deref(), cell.delivered_at), (Some("b2"), Some(2_000)));
        assert_eq!(cell.counts, Counts { ready: 1, pending: 1, ..Counts::default() });
        assert_eq!(overview.attention.len(), 1);
        assert_eq!(overview.attention[0].placement.name, "web");
    }

    #[test]
    fn an_app_that_one_may_not_get_is_not_there() {
        let mut nothing = everything();
        nothing.apps = crate::dashboard::rights::Scope::Named(BTreeSet::new());
        assert!(nothing.is_nothing());
        assert!(overview(&facts(), &nothing).apps.is_empty());
    }

    #[test]
    fn an_app_without_visible_namespaces_shows_no_revision() {
        let overview = overview(&facts(), &only("elsewhere"));
        assert_eq!(overview.apps[0].environments["production"].revision, None);
        assert!(overview.attention.is_empty());
    }
}
