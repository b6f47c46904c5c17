//! When to fetch what, and what came of it. Values stay here no longer than until they are delivered.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use host_sync_core::config::{App, AppEnvironment};
use host_sync_core::plan::Outcome;
use host_sync_core::snapshot::{FetchFacts, Problem, Snapshot};
use host_sync_core::store::{FetchError, Fetched, SourcePath};
use tokio::time::Instant;

use super::backoff;

/// The longest wait after failures.
const CAP: Duration = Duration::from_mins(5);

/// What a fetch reads: when an App is edited meanwhile, what comes back is somebody else's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) store: String,
    pub(super) path: SourcePath,
}

/// One app environment.
#[derive(Default)]
struct State {
    target: Option<Target>,
    in_flight: bool,
    /// The store changed while a fetch was in flight: what that brings may be from before.
    again: bool,
    failures: u32,
    /// When to read again, wanted or not.
    due: Option<Instant>,
    /// Why the App wants a delivery now; a new reason overtakes every wait.
    wanted: Option<String>,
    /// What asked for it: an edit of the App starts over.
    generation: Option<i64>,
    fresh: Option<Fetched>,
    problem: Option<Problem>,
}

/// All app environments.
#[derive(Default)]
pub(super) struct Fetches(BTreeMap<AppEnvironment, State>);

impl Fetches {
    /// The fetches to begin now. `intervals` are the refresh intervals of the stores that can be read.
    pub(super) fn begin(
        &mut self,
        snapshot: &Snapshot,
        generations: &BTreeMap<String, Option<i64>>,
        wanted: &BTreeMap<AppEnvironment, String>,
        stores: &BTreeSet<String>,
        now: Instant,
    ) -> Vec<(AppEnvironment, Target)> {
        let current: BTreeMap<AppEnvironment, Target> = snapshot.apps.values().flat_map(targets).collect();
        self.0.retain(|of, _| current.contains_key(of));
        let mut begun = Vec::new();
        for (of, target) in current {
            let state = self.0.entry(of.clone()).or_default();
            let generation = generations.get(of.app.as_str()).copied().flatten();
            if state.target.as_ref() != Some(&target) || state.generation != generation {
                let moved = state.target.as_ref() != Some(&target);
                *state = State { in_flight: state.in_flight && !moved, ..State::default() };
                state.target = Some(target.clone());
                state.generation = generation;
            }
            let reason = wanted.get(&of);
            let newly_wanted = reason.is_some() && state.wanted.as_ref() != reason;
            state.wanted = reason.cloned();
            if !stores.contains(&target.store) {
                state.problem = Some(missing_store(&of, &target));
                continue;
            }
            let due = state.due.is_none_or(|due| due <= now);
            if !state.in_flight && state.fresh.is_none() && (due || newly_wanted) {
                state.in_flight = true;
                begun.push((of, target));
            }
        }
        begun
    }

    /// Takes the result of a fetch in; what belongs to a target that was left is dropped.
    pub(super) fn end(
        &mut self,
        of: &AppEnvironment,
        target: &Target,
        result: Result<Fetched, FetchError>,
        refresh: Duration,
        now: Instant,
        jitter: u32,
    ) {
        let Some(state) = self.0.get_mut(of).filter(|state| state.target.as_ref() == Some(target)) else { return };
        state.in_flight = false;
        match result {
            Ok(fetched) => {
                state.failures = 0;
                state.problem = None;
                state.fresh = Some(fetched);
                // A tenth either way, so that a thousand apps do not ask in step.
                let part = 0.9 + f64::from(jitter) / f64::from(u32::MAX) / 5.0;
                state.due = Some(if std::mem::take(&mut state.again) { now } else { now + refresh.mul_f64(part) });
            }
            Err(error) => {
                let wait = match &error {
                    FetchError::Throttled { retry_after: Some(wait), .. } => Some(*wait),
                    _ => None,
                };
                state.problem = Some(Problem { reason: error.class(), message: error.to_string() });
                state.fail(now, wait, jitter);
                if std::mem::take(&mut state.again) {
                    state.due = Some(now);
                }
            }
        }
    }

    /// What the plan is to know.
    pub(super) fn facts(&self) -> BTreeMap<AppEnvironment, FetchFacts> {
        let facts = self.0.iter().filter_map(|(of, state)| {
            let facts = match (&state.fresh, &state.problem) {
                (Some(fetched), _) => FetchFacts::Fresh(fetched.clone()),
                (None, Some(problem)) => FetchFacts::Failed(problem.clone()),
                (None, None) => return None,
            };
            Some((of.clone(), facts))
        });
        facts.collect()
    }

    /// Takes in what the plan made of a fresh fetch, once its steps are done; `done` says whether they all were.
    pub(super) fn settle(&mut self, of: &AppEnvironment, outcome: &Outcome, done: bool, now: Instant, jitter: u32) {
        let Some(state) = self.0.get_mut(of) else { return };
        match outcome {
            Outcome::Delivered { .. } | Outcome::Unchanged if done => state.fresh = None,
            // The steps are planned again from the same content.
            Outcome::Delivered { .. } | Outcome::Unchanged | Outcome::Waiting => {}
            Outcome::Refused(problems) => {
                state.fresh = None;
                state.problem = problems.first().cloned();
                state.fail(now, None, jitter);
            }
        }
    }

    /// Something in a store changed: everything of it is due, whatever failed before.
    pub(super) fn store_changed(&mut self, store: &str) {
        for state in self.0.values_mut().filter(|state| state.target.as_ref().is_some_and(|one| one.store == store)) {
            state.again = state.in_flight;
            state.due = None;
            state.failures = 0;
            state.fresh = None;
        }
    }

    /// When the next fetch is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.0.values().filter(|state| !state.in_flight && state.fresh.is_none()).filter_map(|state| state.due).min()
    }

    /// The problem of each app environment that a store could not serve.
    pub(super) fn problems_of<'a>(&'a self, store: &'a str) -> impl Iterator<Item = (&'a AppEnvironment, &'a Problem)> {
        let of_store =
            self.0.iter().filter(move |(_, state)| state.target.as_ref().is_some_and(|target| target.store == store));
        of_store.filter_map(|(of, state)| Some((of, state.problem.as_ref()?)))
    }

    /// Whether anything of a store has been read, successfully or not.
    pub(super) fn has_read(&self, store: &str) -> bool {
        let mut of_store =
            self.0.values().filter(|state| state.target.as_ref().is_some_and(|target| target.store == store));
        of_store.any(|state| state.due.is_some())
    }
}

impl State {
    fn fail(&mut self, now: Instant, wait: Option<Duration>, jitter: u32) {
        self.failures = self.failures.saturating_add(1);
        let delay = backoff::delay(self.failures, CAP, jitter);
        self.due = Some(now + wait.unwrap_or(delay).min(CAP.max(delay)));
    }
}

/// Only what goes somewhere is fetched.
fn targets(app: &App) -> impl Iterator<Item = (AppEnvironment, Target)> {
    let linked = app.environments.iter().filter(|(_, config)| !config.links.is_empty());
    linked.map(|(environment, config)| {
        let of = AppEnvironment { app: app.name.clone(), environment: environment.clone() };
        (of, Target { store: app.store.clone(), path: config.source.clone() })
    })
}

fn missing_store(of: &AppEnvironment, target: &Target) -> Problem {
    let message = format!(
        "SecretStore {} of App {} does not exist or cannot be used: create or correct it, or name another one in storeRef",
        target.store, of.app
    );
    Problem { reason: "StoreMissing", message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use host_sync_core::config::{AppEnvironmentConfig, KeySelection, Mode, Reload};
    use host_sync_core::secret_bytes::SecretBytes;
    use policy_core::desired_state::{Link, NamedLink};
    use policy_core::names::{AppName, Environment, WorkloadKind};

    const REFRESH: Duration = Duration::from_mins(1);

    fn of() -> AppEnvironment {
        AppEnvironment {
            app: AppName::parse("checkout").unwrap(),
            environment: Environment::parse("production").unwrap(),
        }
    }

    fn snapshot(path: &str) -> Snapshot {
        let link = Link::Named(NamedLink { kind: WorkloadKind::Deployment, name: "api".into() });
        let config = AppEnvironmentConfig {
            mode: Mode::Agent,
            reload: Reload::Auto,
            source: SourcePath::parse(path).unwrap(),
            keys: KeySelection::All,
            secret_name: "checkout".into(),
            links: BTreeMap::from([("shop".to_owned(), BTreeSet::from([link]))]),
        };
        let app = App {
            name: of().app,
            uid: "u".into(),
            deleting: false,
            protected: true,
            store: "files".into(),
            strategy: policy_core::attachment::Strategy::EnvironmentVariables,
            mount_path: "/x".into(),
            redeploy: None,
            environments: BTreeMap::from([(of().environment, config)]),
        };
        Snapshot { apps: BTreeMap::from([(of().app, app)]), ..Snapshot::default() }
    }

    fn begin(fetches: &mut Fetches, path: &str, wanted: Option<&str>, now: Instant) -> Vec<(AppEnvironment, Target)> {
        let wanted = wanted.map(|reason| (of(), reason.to_owned())).into_iter().collect();
        fetches.begin(&snapshot(path), &BTreeMap::new(), &wanted, &BTreeSet::from(["files".to_owned()]), now)
    }

    fn fetched() -> Fetched {
        Fetched::from_iter([("A".to_owned(), SecretBytes::new(b"x".to_vec()))])
    }

    fn refused() -> Outcome {
        Outcome::Refused(vec![Problem { reason: "KeysMissing", message: "gone".into() }])
    }

    #[test]
    fn a_fetch_is_begun_once_and_again_after_the_refresh_interval() {
        let (mut fetches, now) = (Fetches::default(), Instant::now());
        let begun = begin(&mut fetches, "a", None, now);
        assert_eq!(begun.len(), 1);
        assert!(begin(&mut fetches, "a", Some("newly linked"), now).is_empty(), "it is in flight");
        fetches.end(&of(), &begun[0].1, Ok(fetched()), REFRESH, now, u32::MAX / 2);
        assert!(matches!(fetches.facts()[&of()], FetchFacts::Fresh(_)));
        fetches.settle(&of(), &Outcome::Unchanged, true, now, 0);
        assert!(fetches.facts().is_empty());
        assert!(begin(&mut fetches, "a", Some("newly linked"), now + Duration::from_secs(30)).is_empty());
        assert_eq!(begin(&mut fetches, "a", None, now + Duration::from_secs(61)).len(), 1);
    }

    #[test]
    fn a_new_wish_overtakes_the_wait_and_an_old_one_does_not() {
        let (mut fetches, now) = (Fetches::default(), Instant::now());
        let begun = begin(&mut fetches, "a", Some("newly linked"), now);
        fetches.end(&of(), &begun[0].1, Err(FetchError::Unavailable { detail: "down".into() }), REFRESH, now, 0);
        assert!(begin(&mut fetches, "a", Some("newly linked"), now).is_empty());
        assert_eq!(begin(&mut fetches, "a", Some("redeploy"), now).len(), 1);
    }

    #[test]
    fn a_refused_delivery_is_reported_and_tried_again_with_backoff() {
        let (mut fetches, now) = (Fetches::default(), Instant::now());
        let begun = begin(&mut fetches, "a", None, now);
        fetches.end(&of(), &begun[0].1, Ok(fetched()), REFRESH, now, 0);
        fetches.settle(&of(), &refused(), true, now, 0);
        assert!(matches!(&fetches.facts()[&of()], FetchFacts::Failed(problem) if problem.reason == "KeysMissing"));
        assert!(begin(&mut fetches, "a", None, now).is_empty());
        assert_eq!(begin(&mut fetches, "a", None, now + Duration::from_secs(1)).len(), 1);
    }

    #[test]
    fn what_was_fetched_from_an_old_path_is_dropped() {
        let (mut fetches, now) = (Fetches::default(), Instant::now());
        let begun = begin(&mut fetches, "a", None, now);
        let moved = begin(&mut fetches, "b", None, now);
        assert_eq!(moved.len(), 1);
        fetches.end(&of(), &begun[0].1, Ok(fetched()), REFRESH, now, 0);
        assert!(fetches.facts().is_empty());
    }

    #[test]
    fn a_change_in_the_store_makes_everything_due_despite_failures() {
        let (mut fetches, now) = (Fetches::default(), Instant::now());
        let begun = begin(&mut fetches, "a", None, now);
        fetches.end(&of(), &begun[0].1, Err(FetchError::Unavailable { detail: "down".into() }), REFRESH, now, 0);
        fetches.store_changed("other");
        assert!(begin(&mut fetches, "a", None, now).is_empty());
        fetches.store_changed("files");
        assert_eq!(begin(&mut fetches, "a", None, now).len(), 1);
    }

    #[test]
    fn a_change_during_a_fetch_is_not_missed() {
        let (mut fetches, now) = (Fetches::default(), Instant::now());
        let begun = begin(&mut fetches, "a", None, now);
        fetches.store_changed("files");
        assert!(begin(&mut fetches, "a", None, now).is_empty(), "one at a time");
        fetches.end(&of(), &begun[0].1, Ok(fetched()), REFRESH, now, 0);
        fetches.settle(&of(), &Outcome::Unchanged, true, now, 0);
        assert_eq!(begin(&mut fetches, "a", None, now).len(), 1);
    }

    #[test]
    fn a_missing_store_is_named_with_the_fix() {
        let mut fetches = Fetches::default();
        let begun = fetches.begin(&snapshot("a"), &BTreeMap::new(), &BTreeMap::new(), &BTreeSet::new(), Instant::now());
        assert!(begun.is_empty());
        let FetchFacts::Failed(problem) = &fetches.facts()[&of()] else { panic!("no problem") };
        assert!(problem.message.starts_with("SecretStore files of App checkout does not exist"));
    }
}
