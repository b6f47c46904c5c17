//! What the pages show, as JSON: pure functions of the facts and of what the viewer may see.
//!
//! What a viewer may not read is not in an answer at all: neither a namespace's workloads, nor its revisions, nor a count
//! of them. An App's own spec and its problems are shown to whoever may get the App, as kubectl does.

pub(crate) mod app;
pub(crate) mod audit;
pub(crate) mod overview;
pub(crate) mod stores;
pub(crate) mod workload;

use std::collections::BTreeMap;

use host_sync_core::config::{App, AppEnvironmentConfig};
use host_sync_core::snapshot::{MutationMode, Problem, Rollout, WorkloadFacts};
use policy_core::desired_state::{Apply, Entry};
use policy_core::matching::attachment;
use policy_core::names::{AppName, Environment};
use serde::Serialize;

use super::facts::{AppFacts, Facts};
use super::rights::Visible;

/// Something that is wrong, in host-sync's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ProblemView {
    reason: String,
    message: String,
}

impl From<&Problem> for ProblemView {
    fn from(problem: &Problem) -> Self {
        Self { reason: problem.reason.to_owned(), message: problem.message.clone() }
    }
}

/// Where a workload stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Stand {
    /// Its rollout failed.
    Failed,
    /// It does not hold the newest revision.
    Pending,
    /// Its user froze it.
    Frozen,
    /// On its way.
    Rolling,
    /// Every replica runs the newest revision.
    Ready,
}

/// One linked workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Placement {
    pub(crate) namespace: String,
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    /// The newest delivered revision.
    pub(crate) desired: String,
    /// What its pod template holds.
    pub(crate) attached: Option<String>,
    pub(crate) stand: Stand,
    /// Why it does not run the newest revision.
    pub(crate) reason: Option<String>,
}

/// How many workloads stand where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    ready: usize,
    rolling: usize,
    pending: usize,
    frozen: usize,
    failed: usize,
}

impl Counts {
    fn of<'a>(placements: impl IntoIterator<Item = &'a Placement>) -> Self {
        placements.into_iter().fold(Self::default(), |mut counts, placement| {
            match placement.stand {
                Stand::Ready => counts.ready += 1,
                Stand::Rolling => counts.rolling += 1,
                Stand::Pending => counts.pending += 1,
                Stand::Frozen => counts.frozen += 1,
                Stand::Failed => counts.failed += 1,
            }
            counts
        })
    }
}

/// The reasons of the plan for what waits, by `Deployment shop/api`, of one environment of an App.
fn reasons<'a>(app: &'a AppFacts, environment: &Environment) -> BTreeMap<&'a str, &'a str> {
    let waiting = app.report.environments.get(environment).map(|report| report.waiting.as_slice()).unwrap_or_default();
    waiting.iter().filter_map(|line| line.split_once(": ")).collect()
}

/// The visible namespaces that an environment of an App is linked with.
fn namespaces<'a>(config: &'a AppEnvironmentConfig, visible: &'a Visible) -> impl Iterator<Item = &'a String> {
    config.links.keys().filter(|namespace| visible.namespaces.contains(namespace))
}

/// What is delivered of an environment of an App to a namespace.
fn entry<'a>(facts: &'a Facts, app: &AppName, environment: &Environment, namespace: &str) -> Option<&'a Entry> {
    facts.states.get(namespace)?.apps.get(app).filter(|entry| entry.environment == *environment)
}

/// The visible workloads that an environment of an App is delivered to, the worst first.
fn placements(
    facts: &Facts,
    of: (&App, &AppFacts),
    environment: &Environment,
    config: &AppEnvironmentConfig,
    visible: &Visible,
) -> Vec<Placement> {
    let (app, app_facts) = of;
    let reasons = reasons(app_facts, environment);
    let mut placements = Vec::new();
    for namespace in namespaces(config, visible) {
        let Some(entry) = entry(facts, &app.name, environment, namespace) else { continue };
        let workloads = facts.workloads.get(namespace).map(Vec::as_slice).unwrap_or_default();
        let linked = workloads.iter().filter(|one| entry.matches(one.kind, &one.name, &one.labels));
        let followers = linked.filter(|one| one.mode != MutationMode::IgnoreAndDetach);
        placements.extend(followers.map(|workload| {
            let subject = format!("{} {namespace}/{}", workload.kind, workload.name);
            placement(namespace, workload, &app.name, entry, reasons.get(subject.as_str()).copied())
        }));
    }
    placements.sort_by(|one, two| (one.stand, &one.namespace, &one.name).cmp(&(two.stand, &two.namespace, &two.name)));
    placements
}

fn placement(
    namespace: &str,
    workload: &WorkloadFacts,
    app: &AppName,
    entry: &Entry,
    waits_for: Option<&str>,
) -> Placement {
    let attached = workload.attached.of_app(app);
    let current = attached.map(|one| &one.revision) == Some(&entry.revision)
        && attached == Some(&attachment(app, entry, workload.as_link_target()));
    // Operator mode under Manual leaves the pod template alone.
    let untouched = entry.injection.strategy().is_none() && entry.apply == Apply::OnTemplateChange;
    let stand = match (&workload.rollout, workload.mode) {
        (Rollout::Failed(_), _) => Stand::Failed,
        (_, MutationMode::Ignore) => Stand::Frozen,
        _ if !current && !untouched => Stand::Pending,
        (Rollout::Ready, _) => Stand::Ready,
        (Rollout::Paused, _) => Stand::Pending,
        (Rollout::Rolling, _) => Stand::Rolling,
    };
    let own = match (&workload.rollout, stand) {
        (_, Stand::Ready | Stand::Rolling) => None,
        (Rollout::Failed(why), _) => Some(format!("its rollout failed ({why})")),
        (_, Stand::Frozen) => Some("frozen by its annotation mutation-mode: ignore".to_owned()),
        (Rollout::Paused, _) if current => Some("its rollout is paused".to_owned()),
        _ => None,
    };
    let told = waits_for.filter(|_| matches!(stand, Stand::Pending)).map(str::to_owned);
    let unknown = || match (stand, entry.apply) {
        (Stand::Pending, Apply::OnTemplateChange) => {
            Some("reloadStrategy Manual: restart it to bring the newest revision".to_owned())
        }
        (Stand::Pending, Apply::Immediately) => Some("touched, not admitted yet".to_owned()),
        _ => None,
    };
    Placement {
        namespace: namespace.to_owned(),
        kind: workload.kind.as_str(),
        name: workload.name.clone(),
        desired: entry.revision.to_string(),
        attached: attached.map(|one| one.revision.to_string()),
        stand,
        reason: own.or(told).or_else(unknown),
    }
}

/// Every problem of an App, its environments' included, each once.
fn problems(app: &AppFacts) -> Vec<ProblemView> {
    let of_environments = app.report.environments.values().flat_map(|report| &report.problems);
    let mut problems: Vec<ProblemView> = Vec::new();
    for problem in app.problems.iter().chain(of_environments).map(ProblemView::from) {
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }
    problems
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;

    use host_sync_core::config::{KeySelection, Mode, Reload};
    use host_sync_core::history::AppHistory;
    use host_sync_core::plan::{AppReport, EnvironmentReport};
    use host_sync_core::snapshot::NamespaceFacts;
    use host_sync_core::store::SourcePath;
    use policy_core::attachment::{Attachments, Strategy};
    use policy_core::desired_state::{DesiredState, Injection, Link, Meta, NamedLink, SCHEMA};
    use policy_core::names::{Revision, WorkloadKind, revision_secret_name};

    use super::super::facts::StoreFacts;
    use super::super::rights::Scope;
    use super::*;

    pub(crate) fn everything() -> Visible {
        Visible { apps: Scope::All, stores: Scope::All, namespaces: Scope::All }
    }

    pub(crate) fn only(namespace: &str) -> Visible {
        Visible { namespaces: Scope::Named(BTreeSet::from([namespace.to_owned()])), ..everything() }
    }

    pub(crate) fn app_name() -> AppName {
        AppName::parse("checkout").unwrap()
    }

    fn production() -> Environment {
        Environment::parse("production").unwrap()
    }

    pub(crate) fn workload(name: &str, revision: Option<&str>) -> WorkloadFacts {
        let attached = revision.map(|revision| policy_core::attachment::Attachment {
            app: app_name(),
            revision: Revision::parse(revision).unwrap(),
            secret: revision_secret_name(&app_name(), &Revision::parse(revision).unwrap()),
            strategy: Some(Strategy::EnvironmentVariables),
        });
        WorkloadFacts {
            kind: WorkloadKind::Deployment,
            name: name.to_owned(),
            labels: BTreeMap::default(),
            mode: MutationMode::Normal,
            attached: Attachments::from_iter(attached),
            requested: None,
            rollout: Rollout::Ready,
            last_manager: None,
        }
    }

    fn link(name: &str) -> Link {
        Link::Named(NamedLink { kind: WorkloadKind::Deployment, name: name.to_owned() })
    }

    /// App `checkout` in `production`: revision `b2` in the namespaces `shop` (Deployments `api`, which runs it, and
    /// `web`, which does not) and `hidden` (`api`).
    pub(crate) fn facts() -> Facts {
        let revision = Revision::parse("b2").unwrap();
        let secret = revision_secret_name(&app_name(), &revision);
        let links = BTreeSet::from([link("api"), link("web")]);
        let entry = Entry {
            apply: Apply::Immediately,
            environment: production(),
            injection: Injection::EnvironmentVariables {
                secret: secret.clone(),
                variables: BTreeMap::from([("TOKEN".to_owned(), "TOKEN".to_owned())]),
            },
            links: links.iter().cloned().collect(),
            revision: revision.clone(),
        };
        let state = |namespace: &str| DesiredState {
            meta: Meta { environment: production(), namespace: namespace.to_owned(), schema: SCHEMA },
            apps: BTreeMap::from([(app_name(), entry.clone())]),
        };
        let mut history = AppHistory::new(2_000, production());
        history.record("scout.checkout.a1", &Revision::parse("a1").unwrap());
        history.secrets[0].superseded_at = Some(2_000);
        history.record(&secret, &revision);
        let history = BTreeMap::from([(app_name(), history)]);
        let config = AppEnvironmentConfig {
            mode: Mode::Agent,
            reload: Reload::Auto,
            source: SourcePath::parse("checkout/production").unwrap(),
            keys: KeySelection::All,
            secret_name: "checkout".into(),
            links: BTreeMap::from([("shop".to_owned(), links.clone()), ("hidden".to_owned(), links)]),
        };
        let report = EnvironmentReport {
            revision: Some(revision),
            delivered_at: Some(2_000),
            waiting: vec!["Deployment shop/web: 10 rollouts are in flight: its turn comes".to_owned()],
            ..EnvironmentReport::default()
        };
        let app = AppFacts {
            spec: Some(App {
                name: app_name(),
                uid: "u".into(),
                deleting: false,
                protected: true,
                store: "files".into(),
                strategy: Strategy::EnvironmentVariables,
                mount_path: "/x".into(),
                redeploy: None,
                environments: BTreeMap::from([(production(), config)]),
            }),
            report: AppReport { environments: BTreeMap::from([(production(), report)]), ..AppReport::default() },
            problems: Vec::new(),
        };
        let namespace = NamespaceFacts { environment: Some(production()), terminating: false, unwatched: false };
        let each = ["shop", "hidden"];
        Facts {
            apps: BTreeMap::from([("checkout".to_owned(), app)]),
            stores: BTreeMap::from([(
                "files".to_owned(),
                StoreFacts { ready: Some(true), backend: "file /var/scout".into(), ..StoreFacts::default() },
            )]),
            namespaces: each.map(|name| (name.to_owned(), namespace.clone())).into(),
            states: each.map(|name| (name.to_owned(), state(name))).into(),
            histories: each.map(|name| (name.to_owned(), history.clone())).into(),
            workloads: BTreeMap::from([
                ("shop".to_owned(), vec![workload("api", Some("b2")), workload("web", Some("a1"))]),
                ("hidden".to_owned(), vec![workload("api", Some("b2"))]),
            ]),
        }
    }

    fn placed(facts: &Facts, visible: &Visible) -> Vec<Placement> {
        let app = &facts.apps["checkout"];
        let spec = app.spec.as_ref().unwrap();
        placements(facts, (spec, app), &production(), &spec.environments[&production()], visible)
    }

    #[test]
    fn what_waits_stands_first_with_the_plans_reason() {
        let placements = placed(&facts(), &only("shop"));
        assert_eq!(placements.len(), 2);
        assert_eq!((placements[0].name.as_str(), placements[0].stand), ("web", Stand::Pending));
        assert_eq!(placements[0].reason.as_deref(), Some("10 rollouts are in flight: its turn comes"));
        assert_eq!((placements[1].name.as_str(), placements[1].stand), ("api", Stand::Ready));
    }

    #[test]
    fn workloads_of_a_namespace_that_one_may_not_read_are_not_there() {
        assert_eq!(placed(&facts(), &everything()).len(), 3);
        assert!(placed(&facts(), &only("shop")).iter().all(|one| one.namespace == "shop"));
        assert!(placed(&facts(), &only("elsewhere")).is_empty());
    }

    #[test]
    fn a_workload_stands_where_its_rollout_and_its_user_put_it() {
        let stand = |change: &dyn Fn(&mut WorkloadFacts)| {
            let mut facts = facts();
            change(&mut facts.workloads.get_mut("shop").unwrap()[0]);
            let placements = placed(&facts, &only("shop"));
            placements.into_iter().find(|one| one.name == "api").map(|one| one.stand)
        };
        assert_eq!(stand(&|one| one.rollout = Rollout::Rolling), Some(Stand::Rolling));
        assert_eq!(stand(&|one| one.rollout = Rollout::Paused), Some(Stand::Pending));
        assert_eq!(stand(&|one| one.rollout = Rollout::Failed("late".into())), Some(Stand::Failed));
        assert_eq!(stand(&|one| one.mode = MutationMode::Ignore), Some(Stand::Frozen));
        assert_eq!(stand(&|one| one.mode = MutationMode::IgnoreAndDetach), None);
        assert_eq!(stand(&|one| one.attached = Attachments::default()), Some(Stand::Pending));
    }
}
