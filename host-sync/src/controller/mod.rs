//! The controller: observe, fetch, plan, apply, report, over and over, and at rest nothing.
//!
//! One loop for everything, because a plan is about everything: the rollout budget, fairness and the order of writes are
//! the cluster's, not an object's. Every pass begins from what is there; why it was woken does not matter.

mod apply;
mod backoff;
mod events;
mod fetches;
pub(crate) mod observe;
mod publish;
mod reach;
mod report;
mod revision_key;
pub(crate) mod rollouts;
mod secrets;
pub(crate) mod stores;
mod trail;
mod wake;
mod watches;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result};
use futures::{StreamExt, stream};
use host_sync_core::config::AppEnvironment;
use host_sync_core::content::RevisionKey;
use host_sync_core::history::UnixSeconds;
use host_sync_core::plan::{self, Limits, Outcome, Plan};
use host_sync_core::snapshot::{FetchFacts, Problem, Snapshot};
use host_sync_core::store::{FetchError, Fetched, Store};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::api;
use crate::audit::Trail;
use crate::dashboard::facts::Publisher;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::parse::refresh_interval;

use apply::{Applied, Effects, Failures, write_status};
use events::Events;
use fetches::{Fetches, Target};
use observe::{Observed, observe};
pub use reach::Reach;
use rollouts::Rollouts;
use stores::Stores;
use trail::OnTheirWay;
use wake::Wake;
use watches::{Watches, Written, WrittenKind};

/// How long to gather what happens at once before a pass.
const GATHER: Duration = Duration::from_millis(100);
/// How long one fetch may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait after a pass that could not read what it needs.
const RETRY: Duration = Duration::from_secs(2);

/// What the operator of host-sync chooses.
#[derive(Debug, Clone)]
pub struct Settings {
    /// host-sync's own namespace.
    pub namespace: String,
    /// Where it may deliver to.
    pub reach: Reach,
    /// The plan's limits.
    pub limits: Limits,
}

/// What came of a fetch.
type Answer = (AppEnvironment, Target, Result<Fetched, FetchError>, Duration);

/// host-sync at work.
pub struct Controller {
    client: Client,
    settings: Settings,
    watches: Watches,
    key: RevisionKey,
    wake: Wake,
    rollouts: Rollouts,
    stores: Stores,
    fetches: Fetches,
    answers: mpsc::UnboundedReceiver<Answer>,
    answer: mpsc::UnboundedSender<Answer>,
    failures: Failures,
    events: Events,
    health: Health,
    metrics: Metrics,
    on_their_way: OnTheirWay,
    trail: Option<Trail>,
    publisher: Publisher,
}

impl Controller {
    /// Fills the caches and reads the revision key. What is done is written to the audit trail, where there is one.
    pub async fn start(
        client: Client,
        settings: Settings,
        health: Health,
        metrics: Metrics,
        trail: Option<Trail>,
        publisher: Publisher,
    ) -> Result<Self> {
        let wake = Wake::default();
        let watches = Watches::start(&client, &settings.namespace, &settings.reach, &wake);
        let key = revision_key::read_or_create(&client, &settings.namespace).await?;
        watches.ready().await?;
        let (answer, answers) = mpsc::unbounded_channel();
        Ok(Self {
            watches,
            key,
            stores: Stores::new(wake.clone()),
            wake,
            rollouts: Rollouts::default(),
            fetches: Fetches::default(),
            answers,
            answer,
            failures: Failures::default(),
            events: Events::new(client.clone()),
            health,
            metrics,
            on_their_way: OnTheirWay::default(),
            trail,
            publisher,
            client,
            settings,
        })
    }

    /// Works until it is told to stop; the pass that is under way is finished first.
    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            self.health.busy();
            let next = match self.pass().await {
                Ok(next) => {
                    self.health.ready();
                    next
                }
                Err(error) => {
                    tracing::warn!("a pass failed and is made again: {error:#}");
                    Some(Instant::now() + RETRY)
                }
            };
            self.health.idle();
            let next = next.unwrap_or_else(|| Instant::now() + Duration::from_hours(1));
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.wake.called() => sleep(GATHER).await,
                () = sleep_until(next) => {}
            }
        }
    }

    /// Observe, fetch, plan, apply, report. Returns when to look again although nothing may have happened.
    async fn pass(&mut self) -> Result<Option<Instant>> {
        let observed = self.observe().await?;
        let mut observed = self.fetch(observed);
        let (plan, versions) = self.plan(&mut observed).await?;
        let look_again_at = plan.look_again_at;
        let (applied, outcomes, reports) = self.apply(plan, &observed, &versions).await;
        let mut written = self.report(&observed, &outcomes, &applied, &reports).await;
        self.publish(observed, reports, &applied);
        written.extend(applied.written);
        self.watches.catch_up(&written).await;
        Ok(self.next_look(look_again_at))
    }

    async fn observe(&mut self) -> Result<Observed> {
        let observed = observe(&self.watches.observation(), &self.settings.reach);
        let rollouts = self.rollouts.refresh(&self.client, &observed.rolling_candidates(), &observed.workloads).await?;
        Ok(observed.with_rollouts(&rollouts))
    }

    /// Takes in what fetches brought, and begins those that are due.
    fn fetch(&mut self, mut observed: Observed) -> Observed {
        for store in self.stores.follow(&observed.stores) {
            self.fetches.store_changed(&store);
        }
        while let Ok((of, target, result, took)) = self.answers.try_recv() {
            let class = result.as_ref().err().map_or("Success", FetchError::class);
            self.metrics.fetched(&target.store, class, took);
            let refresh = observed.stores.get(&target.store).and_then(|store| store.spec.as_ref().ok());
            let refresh = refresh.and_then(|spec| refresh_interval(&spec.refresh_interval).ok()).unwrap_or(RETRY);
            self.fetches.end(&of, &target, result, refresh, Instant::now(), backoff::jitter());
        }
        let generations: BTreeMap<String, Option<i64>> =
            observed.apps.iter().map(|(name, app)| (name.clone(), app.metadata.generation)).collect();
        let wanted = plan::wanted_fetches(&observed.snapshot);
        let begun = self.fetches.begin(&observed.snapshot, &generations, &wanted, &self.stores.names(), Instant::now());
        for (of, target) in begun {
            self.begin_fetch(of, target);
        }
        observed.snapshot.fetches = self.fetches.facts();
        observed
    }

    fn begin_fetch(&self, of: AppEnvironment, target: Target) {
        let Some(store) = self.stores.get(&target.store) else { return };
        let (answer, wake) = (self.answer.clone(), self.wake.clone());
        tokio::spawn(async move {
            let began = Instant::now();
            let result = fetch_in_time(store.as_ref(), &target).await;
            // The receiver goes only when host-sync stops, and then nobody waits for this.
            let _ = answer.send((of, target, result, began.elapsed()));
            wake.up();
        });
    }

    /// Reads the Secrets and references that the plan needs, and plans.
    async fn plan(&self, observed: &mut Observed) -> Result<(Plan, BTreeMap<(String, String), secrets::Version>)> {
        let now = now();
        let lookups = plan::lookups(&observed.snapshot, &self.key, &self.settings.limits, now);
        let looked_up = secrets::look_up(&self.client, &lookups, &observed.snapshot.apps).await?;
        observed.snapshot.secrets = looked_up.secrets;
        observed.snapshot.referenced = looked_up.referenced;
        let plan = plan::plan(&observed.snapshot, &self.key, &self.settings.limits, now);
        // Values are needed in the plan's steps from here on, and nowhere else.
        observed.snapshot.secrets.clear();
        observed.snapshot.fetches.clear();
        Ok((plan, looked_up.versions))
    }

    async fn apply(
        &mut self,
        plan: Plan,
        observed: &Observed,
        versions: &BTreeMap<(String, String), secrets::Version>,
    ) -> (Applied, BTreeMap<AppEnvironment, Outcome>, Reports) {
        let effects = Effects { client: &self.client, own_namespace: &self.settings.namespace, observed, versions };
        let applied = effects.apply(plan.steps, &mut self.failures).await;
        self.metrics.applied(&applied.done, applied.failed.iter().filter(|failed| failed.tried).count());
        // A touch or a deletion that failed is tried again by itself; what was delivered is delivered.
        let writes = applied.failed.iter().map(|failed| &failed.step).filter(|step| step.holds_up());
        let stuck: BTreeSet<&str> = writes.filter_map(plan::Step::namespace).collect();
        let mut outcomes = plan.outcomes;
        outcomes.retain(|of, outcome| {
            let done = match outcome {
                Outcome::Delivered { namespaces, .. } => !namespaces.iter().any(|one| stuck.contains(one.as_str())),
                _ => !applied.failed.iter().any(|failed| failed.step.app.as_ref() == Some(&of.app)),
            };
            self.fetches.settle(of, outcome, done, Instant::now(), backoff::jitter());
            if let (Outcome::Delivered { revision, namespaces, why }, true) = (&*outcome, done) {
                self.metrics.delivered(of);
                tracing::info!(app = %of.app, environment = %of.environment, %revision, ?namespaces, why, "delivered");
            }
            done
        });
        (applied, outcomes, plan.reports)
    }

    /// Writes the statuses that changed and says in events what happened. A status that cannot be written is no reason
    /// not to work: the next pass writes it.
    async fn report(
        &mut self,
        observed: &Observed,
        outcomes: &BTreeMap<AppEnvironment, Outcome>,
        applied: &Applied,
        reports: &Reports,
    ) -> Vec<Written> {
        let now = Timestamp::now();
        let mut written = Vec::new();
        for (name, app) in &observed.apps {
            let generation = app.metadata.generation;
            let report = reports.iter().find(|(app, _)| app.as_str() == name).map(|(_, report)| report);
            let failed = failed_steps(name, applied, observed);
            let status = match (&app.error, report) {
                (Some(error), _) => report::unusable_app_status(error, app.status.as_ref(), generation, now),
                (None, Some(report)) => report::app_status(report, &failed, app.status.as_ref(), generation, now),
                (None, None) => continue,
            };
            let problems = report.map(|report| report::problems(report, &failed)).unwrap_or_default();
            self.events.app(&app.metadata, name, outcomes, &problems, app.error.as_deref()).await;
            if app.status.as_ref() != Some(&status) && !released(name, applied) {
                let value = serde_json::to_value(&status).unwrap_or_default();
                written.extend(self.write::<api::App>(name, WrittenKind::App, &value).await);
            }
        }
        for (name, store) in &observed.stores {
            let Some(status) = self.store_status(name, store, now) else { continue };
            if store.status.as_ref() != Some(&status) {
                let value = serde_json::to_value(&status).unwrap_or_default();
                written.extend(self.write::<api::SecretStore>(name, WrittenKind::SecretStore, &value).await);
            }
        }
        self.events.touches(applied, observed).await;
        self.measure(observed, reports, now.as_second());
        self.audit(outcomes, applied, observed, now);
        written
    }

    fn measure(&mut self, observed: &Observed, reports: &Reports, now: UnixSeconds) {
        for end in self.on_their_way.follow(&observed.snapshot, now) {
            self.metrics.rollout_ended(end);
        }
        self.metrics.set(trail::gauges(&observed.snapshot, reports, now));
    }

    fn audit(
        &mut self,
        outcomes: &BTreeMap<AppEnvironment, Outcome>,
        applied: &Applied,
        observed: &Observed,
        now: Timestamp,
    ) {
        let Some(trail) = &mut self.trail else { return };
        for event in trail::events(outcomes, applied, observed) {
            if let Err(error) = trail.append(now.to_string(), event) {
                tracing::error!("an event is missing in the audit trail: {error}");
            }
        }
    }

    async fn write<K>(&self, name: &str, kind: WrittenKind, status: &Value) -> Option<Written>
    where
        K: kube::core::Resource<DynamicType = ()>,
    {
        match write_status::<K>(&self.client, name, kind, status).await {
            Ok(written) => written,
            Err(error) => {
                tracing::warn!("{error:#}");
                self.wake.up();
                None
            }
        }
    }

    fn store_status(
        &self,
        name: &str,
        store: &observe::ObservedStore,
        now: Timestamp,
    ) -> Option<api::SecretStoreStatus> {
        let generation = store.metadata.generation;
        let error = match &store.spec {
            Err(error) => Some(("InvalidSpec", error.clone())),
            Ok(_) => self.stores.problem(name).map(|problem| ("WatchFailed", problem.to_owned())).or_else(|| {
                let (of, problem) = self.fetches.problems_of(name).next()?;
                Some((problem.reason, format!("{of}: {}", problem.message)))
            }),
        };
        if error.is_none() && !self.fetches.has_read(name) {
            return None;
        }
        let description = self.stores.get(name).map(|store| store.description()).unwrap_or_default();
        Some(report::store_status(error, &description, store.status.as_ref(), generation, now))
    }

    fn next_look(&self, look_again_at: Option<UnixSeconds>) -> Option<Instant> {
        let planned = look_again_at.map(|at| {
            let wait = u64::try_from(at.saturating_sub(now()).max(1)).unwrap_or(1);
            Instant::now() + Duration::from_secs(wait)
        });
        let due = [planned, self.fetches.next_due(), self.failures.next_due()].into_iter().flatten().min();
        // Never at once: a due time in the past is for the pass that has just been made.
        due.map(|due| due.max(Instant::now() + GATHER))
    }
}

/// What each App's status is to say.
type Reports = BTreeMap<policy_core::names::AppName, plan::AppReport>;

/// The steps that failed for an App, or in a namespace that it delivers to, as problems.
fn failed_steps(app: &str, applied: &Applied, observed: &Observed) -> Vec<Problem> {
    let concerns = |step: &plan::Step| match (&step.app, step.namespace()) {
        (Some(of), _) => of.as_str() == app,
        (None, Some(namespace)) => observed.snapshot.apps.iter().any(|(name, config)| {
            name.as_str() == app && config.environments.values().any(|one| one.links.contains_key(namespace))
        }),
        (None, None) => false,
    };
    let failed = applied.failed.iter().filter(|failed| concerns(&failed.step));
    failed.map(|failed| Problem { reason: "ApplyFailed", message: failed.error.clone() }).collect()
}

/// Whether an App has just lost its finalizer: it may be gone, and an applied status would ask for it anew.
fn released(app: &str, applied: &Applied) -> bool {
    applied.done.iter().any(|step| matches!(&step.action, plan::Action::ReleaseApp { app: one } if one.as_str() == app))
}

fn now() -> UnixSeconds {
    Timestamp::now().as_second()
}

async fn fetch_in_time(store: &dyn Store, target: &Target) -> Result<Fetched, FetchError> {
    timeout(FETCH_TIMEOUT, store.fetch(&target.path)).await.unwrap_or_else(|_| {
        let detail = format!("it did not answer within {} s", FETCH_TIMEOUT.as_secs());
        Err(FetchError::Unavailable { detail })
    })
}

/// One plan from one look, for people: what would be done now, and why. Writes nothing, not even the revision key.
pub async fn plan_once(client: &Client, settings: &Settings) -> Result<Plan> {
    look_once(client, settings).await.map(|(_, plan)| plan)
}

/// One look and its plan: what is there, Secrets included, and what would be done now. Writes nothing.
pub(crate) async fn look_once(client: &Client, settings: &Settings) -> Result<(Snapshot, Plan)> {
    let observed = observe(&watches::read_once(client, &settings.namespace, &settings.reach).await?, &settings.reach);
    let rollouts = Rollouts::default().refresh(client, &observed.rolling_candidates(), &observed.workloads).await?;
    let mut observed = observed.with_rollouts(&rollouts);
    let mut stores = Stores::new(Wake::default());
    stores.follow(&observed.stores);
    let mut fetches = Fetches::default();
    let wanted = plan::wanted_fetches(&observed.snapshot);
    let begun = fetches.begin(&observed.snapshot, &BTreeMap::new(), &wanted, &stores.names(), Instant::now());
    let reads = stream::iter(begun).map(|(of, target)| {
        let store = stores.get(&target.store);
        async move {
            let result = fetch_in_time(store?.as_ref(), &target).await;
            Some((of, target, result, Duration::ZERO))
        }
    });
    let answers: Vec<Answer> = reads.buffer_unordered(8).filter_map(std::future::ready).collect().await;
    for (of, target, result, _) in answers {
        fetches.end(&of, &target, result, RETRY, Instant::now(), 0);
    }
    observed.snapshot.fetches = fetches.facts();
    let key = match revision_key::read(client, &settings.namespace).await? {
        Some(key) => key,
        None => revision_key::generate()?.0,
    };
    let now = now();
    let lookups = plan::lookups(&observed.snapshot, &key, &settings.limits, now);
    let looked_up = secrets::look_up(client, &lookups, &observed.snapshot.apps).await.context("looking things up")?;
    observed.snapshot.secrets = looked_up.secrets;
    observed.snapshot.referenced = looked_up.referenced;
    let mut plan = plan::plan(&observed.snapshot, &key, &settings.limits, now);
    // What cannot be fetched is what a reader of a plan wants to know first.
    for (of, facts) in &observed.snapshot.fetches {
        if let FetchFacts::Failed(problem) = facts {
            plan.outcomes.entry(of.clone()).or_insert_with(|| Outcome::Refused(vec![problem.clone()]));
        }
    }
    Ok((observed.snapshot, plan))
}
