//! One App: its environments, their revisions in time, and where they run.

use host_sync_core::config::{KeySelection, Mode, Reload};
use host_sync_core::history::{AppHistory, UnixSeconds};
use policy_core::attachment::Strategy;
use policy_core::desired_state::{Apply, Entry};
use serde::Serialize;

use super::super::facts::Facts;
use super::super::rights::Visible;
use super::{Counts, Placement, ProblemView, entry, namespaces, placements, problems};

/// An App's page.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AppPage {
    name: String,
    store: Option<String>,
    strategy: Option<Strategy>,
    mount_path: Option<String>,
    may_redeploy: bool,
    deleting: bool,
    held_by: Vec<String>,
    problems: Vec<ProblemView>,
    environments: Vec<EnvironmentSection>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct EnvironmentSection {
    name: String,
    source: String,
    /// The selected keys; `None` means every key.
    keys: Option<Vec<String>>,
    mode: &'static str,
    reload: &'static str,
    pending: Vec<String>,
    counts: Counts,
    namespaces: Vec<NamespaceSection>,
    /// Linked namespaces that the viewer may not read.
    hidden_namespaces: usize,
    workloads: Vec<Placement>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct NamespaceSection {
    name: String,
    delivered_at: Option<UnixSeconds>,
    /// As delivered, which the spec may be ahead of.
    strategy: Option<Strategy>,
    reload: Option<&'static str>,
    revisions: Vec<RevisionView>,
}

/// A revision that the namespace still holds.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct RevisionView {
    revision: String,
    current: bool,
    superseded_at: Option<UnixSeconds>,
    secrets: usize,
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Agent => "Agent",
        Mode::Operator => "Operator",
    }
}

fn reload(reload: Reload) -> &'static str {
    match reload {
        Reload::Auto => "Auto",
        Reload::Manual => "Manual",
    }
}

/// The reload type of what was delivered.
pub(super) fn applied(apply: Apply) -> &'static str {
    reload(apply.into())
}

/// The page of an App that the viewer may get.
pub(crate) fn app(facts: &Facts, name: &str, visible: &Visible, may_redeploy: bool) -> Option<AppPage> {
    let app = facts.apps.get(name).filter(|_| visible.apps.contains(name))?;
    let spec = app.spec.as_ref();
    let environments = spec.into_iter().flat_map(|spec| spec.environments.iter().map(move |one| (spec, one)));
    let environments = environments.map(|(spec, (environment, config))| {
        let workloads = placements(facts, (spec, app), environment, config, visible);
        let sections = namespaces(config, visible).map(|namespace| {
            let history = facts.histories.get(namespace).and_then(|history| history.get(&spec.name));
            namespace_section(namespace, entry(facts, &spec.name, environment, namespace), history)
        });
        let sections: Vec<_> = sections.collect();
        EnvironmentSection {
            name: environment.to_string(),
            source: config.source.to_string(),
            keys: match &config.keys {
                KeySelection::All => None,
                KeySelection::Named(keys) => Some(keys.keys().map(ToString::to_string).collect()),
            },
            mode: mode(config.mode),
            reload: reload(config.reload),
            pending: app.report.environments.get(environment).map(|one| one.pending.clone()).unwrap_or_default(),
            counts: Counts::of(&workloads),
            hidden_namespaces: config.links.len() - sections.len(),
            namespaces: sections,
            workloads,
        }
    });
    Some(AppPage {
        name: name.to_owned(),
        store: spec.map(|spec| spec.store.clone()),
        strategy: spec.map(|spec| spec.strategy),
        mount_path: spec.filter(|spec| spec.strategy == Strategy::VolumeMount).map(|spec| spec.mount_path.clone()),
        may_redeploy,
        deleting: spec.is_some_and(|spec| spec.deleting),
        held_by: app.report.held_by.clone(),
        problems: problems(app),
        environments: environments.collect(),
    })
}

fn namespace_section(namespace: &str, entry: Option<&Entry>, history: Option<&AppHistory>) -> NamespaceSection {
    let mut revisions: Vec<RevisionView> = Vec::new();
    // Newest first; the Secrets of one revision (one a workload, where files are mounted) count together.
    for record in history.into_iter().flat_map(|history| history.secrets.iter().rev()) {
        let revision = record.revision.to_string();
        if let Some(known) = revisions.iter_mut().find(|one| one.revision == revision) {
            known.secrets += 1;
            continue;
        }
        revisions.push(RevisionView {
            current: entry.is_some_and(|entry| entry.revision == record.revision),
            revision,
            superseded_at: record.superseded_at,
            secrets: 1,
        });
    }
    revisions.sort_by_key(|one| std::cmp::Reverse((one.current, one.superseded_at)));
    NamespaceSection {
        name: namespace.to_owned(),
        delivered_at: history.map(|history| history.delivered_at).filter(|_| entry.is_some()),
        strategy: entry.and_then(|entry| entry.injection.strategy()),
        reload: entry.map(|entry| applied(entry.apply)),
        revisions,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{everything, facts, only};
    use super::*;

    #[test]
    fn the_current_revision_stands_before_those_it_superseded() {
        let page = app(&facts(), "checkout", &only("shop"), false).unwrap();
        let environment = &page.environments[0];
        assert_eq!((environment.namespaces.len(), environment.hidden_namespaces), (1, 1));
        let revisions = &environment.namespaces[0].revisions;
        let seen: Vec<_> =
            revisions.iter().map(|one| (one.revision.as_str(), one.current, one.superseded_at)).collect();
        assert_eq!(seen, [("b2", true, None), ("a1", false, Some(2_000))]);
    }

    #[test]
    fn the_secrets_of_one_revision_count_together() {
        let mut facts = facts();
        let history = facts.histories.get_mut("shop").unwrap().values_mut().next().unwrap();
        let revision = history.secrets[1].revision.clone();
        history.record("scout.checkout.deployment.web", &revision);
        let page = app(&facts, "checkout", &only("shop"), false).unwrap();
        assert_eq!(page.environments[0].namespaces[0].revisions[0].secrets, 2);
    }

    #[test]
    fn an_app_that_does_not_exist_or_may_not_be_got_has_no_page() {
        assert!(app(&facts(), "unknown", &everything(), true).is_none());
        let mut nothing = everything();
        nothing.apps = crate::dashboard::rights::Scope::Named(std::collections::BTreeSet::new());
        assert!(app(&facts(), "checkout", &nothing, true).is_none());
    }
}
