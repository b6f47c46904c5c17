//! How far a requested delivery has come. Pure.

use host_sync_core::config::App;
use host_sync_core::history::UnixSeconds;
use policy_core::names::Environment;

use crate::api::AppStatus;
use crate::commands::cluster::{AppSeen, Facts};
use crate::commands::status::{Row, State, condition, rows};

/// What was asked for, and what there was before.
#[derive(Debug, Clone)]
pub(super) struct Request {
    value: String,
    delivered_before: std::collections::BTreeMap<String, UnixSeconds>,
}

impl Request {
    pub(super) fn new(value: String, before: &AppStatus) -> Self {
        let times = before.environments.iter();
        let times =
            times.filter_map(|(name, status)| Some((name.clone(), status.delivered_at.as_ref()?.0.as_second())));
        Self { value, delivered_before: times.collect() }
    }
}

/// How far it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Progress {
    /// The environments that are not delivered yet.
    pub(super) undelivered: Vec<String>,
    /// What host-sync says is in the way of the delivery.
    pub(super) problem: Option<String>,
    /// The workloads that follow by themselves, and how they stand.
    following: Vec<Row>,
    /// The workloads that wait for their user, each with the reason: nothing that this could wait for.
    pub(super) left: Vec<String>,
    /// What failed.
    pub(super) failed: Vec<String>,
}

/// What the cluster shows of a request.
pub(super) fn progress(facts: &Facts, name: &str, request: &Request) -> Progress {
    let Some(app) = facts.app(name) else { return gone(name) };
    let Ok(config) = &app.config else { return gone(name) };
    let rows: Vec<Row> = rows(facts).into_iter().filter(|row| row.app == name).collect();
    let environments = config.environments.iter().filter(|(environment, of)| {
        !of.links.is_empty()
            && rows.iter().any(|row| row.environment == environment.as_str() && row.state != State::LeftAlone)
    });
    let undelivered: Vec<String> = environments
        .filter(|(environment, _)| !is_delivered(facts, app, config, environment, request))
        .map(|(environment, _)| environment.to_string())
        .collect();
    let refused = condition(&app.status, "Delivered").filter(|one| one.status == "False");
    let problem = refused.filter(|_| !undelivered.is_empty()).map(|one| format!("{} ({})", one.message, one.reason));
    let mut progress = Progress { problem, ..Progress::default() };
    for row in rows.into_iter().filter(|row| !undelivered.contains(&row.environment)) {
        sort_in(row, &mut progress);
    }
    progress.undelivered = undelivered;
    progress
}

fn gone(name: &str) -> Progress {
    Progress { failed: vec![format!("App {name} is gone, or cannot be used any more")], ..Progress::default() }
}

fn sort_in(row: Row, progress: &mut Progress) {
    let subject = format!("{} {}/{}", row.kind, row.namespace, row.workload);
    let reason = row.reason.clone().unwrap_or_default();
    let for_its_user = row.reload == Some("Manual") || reason.contains("is paused");
    match row.state {
        State::Failed => progress.failed.push(format!("{subject}: {reason}")),
        State::Waiting if reason.starts_with("contested") => progress.failed.push(format!("{subject}: {reason}")),
        State::Waiting if for_its_user => progress.left.push(format!("{subject} waits: {reason}")),
        State::LeftAlone | State::Missing => progress.left.push(format!("{subject}: {reason}")),
        State::Ready | State::Rolling | State::Waiting | State::NotDelivered => progress.following.push(row),
    }
}

/// Whether host-sync has answered the request: it writes the request down with the delivery. Where that record may not be
/// read, a delivery that is newer than the latest before is taken for it.
fn is_delivered(facts: &Facts, app: &AppSeen, config: &App, environment: &Environment, request: &Request) -> bool {
    let namespaces = config.environments[environment].links.keys();
    let active = namespaces.filter_map(|namespace| facts.namespaces.get(namespace)).filter(|seen| {
        let Ok(Some(of)) = &seen.facts else { return seen.facts.is_err() };
        of.environment.as_ref() == Some(environment) && !of.terminating
    });
    let mut answers = active.map(|seen| {
        let history = seen.history.as_ref().ok()?;
        let recorded = history.as_ref().and_then(|history| history.get(&config.name));
        Some(recorded.is_some_and(|one| one.redeploy.as_deref() == Some(request.value.as_str())))
    });
    let by_status = || {
        let now = app.status.environments.get(environment.as_str()).and_then(|status| status.delivered_at.as_ref());
        now.is_some_and(|time| request.delivered_before.get(environment.as_str()) != Some(&time.0.as_second()))
    };
    // Without any namespace that can be delivered to, nothing will be: the App's condition names the label or the link.
    let mut any = false;
    let all = answers.all(|answer| {
        any = true;
        answer.unwrap_or_else(by_status)
    });
    any && all
}

impl Progress {
    pub(super) fn total(&self) -> usize {
        self.following.len() + self.undelivered.len()
    }

    pub(super) fn ready(&self) -> usize {
        self.following.iter().filter(|row| row.state == State::Ready).count()
    }

    pub(super) fn is_done(&self) -> bool {
        self.failed.is_empty() && self.undelivered.is_empty() && self.ready() == self.following.len()
    }

    /// What it waits for, in one line.
    pub(super) fn waits_for(&self) -> String {
        if let Some(problem) = &self.problem {
            return problem.clone();
        }
        if !self.undelivered.is_empty() {
            return format!("the delivery of {}", self.undelivered.join(", "));
        }
        let open = self.following.iter().filter(|row| row.state != State::Ready).map(describe);
        open.collect::<Vec<_>>().join("; ")
    }

    /// What there is to say, one thing a line; a line that was said before need not be said again.
    pub(super) fn lines(&self) -> Vec<String> {
        let waiting = self.undelivered.iter().map(|environment| format!("waiting for the delivery of {environment}"));
        let problem = self.problem.iter().map(|problem| format!("not delivered yet: {problem}"));
        waiting.chain(problem).chain(self.following.iter().map(describe)).chain(self.left.iter().cloned()).collect()
    }
}

fn describe(row: &Row) -> String {
    let subject = format!("{} {}/{}", row.kind, row.namespace, row.workload);
    let revision = row.desired_revision.as_deref().unwrap_or("nothing");
    let state = match row.state {
        State::Ready => format!("runs revision {revision}"),
        State::Rolling => format!("rolls out revision {revision}"),
        _ => format!("waits: {}", row.reason.as_deref().unwrap_or("not delivered yet")),
    };
    format!("{subject} {state}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::examples::{DELIVERED, Shop, app_name, failed, rolling};
    use serde_json::json;

    const VALUE: &str = "2026-01-01T00:00:00Z";

    fn request() -> Request {
        Request { value: VALUE.to_owned(), delivered_before: [("production".to_owned(), DELIVERED)].into() }
    }

    /// What is seen once host-sync has answered.
    fn answered(shop: &Shop) -> Facts {
        let mut facts = shop.facts();
        let history = facts.namespaces.get_mut("shop").unwrap().history.as_mut().unwrap().as_mut().unwrap();
        history.get_mut(&app_name()).unwrap().redeploy = Some(VALUE.to_owned());
        facts
    }

    #[test]
    fn a_request_that_is_not_answered_is_waited_for_however_ready_everything_is() {
        let progress = progress(&Shop::default().facts(), "checkout", &request());
        assert!(!progress.is_done());
        assert_eq!(progress.waits_for(), "the delivery of production");
    }

    #[test]
    fn it_is_done_when_it_is_delivered_and_every_workload_runs_it() {
        let rolling =
            progress(&answered(&Shop { deployment_status: rolling(), ..Shop::default() }), "checkout", &request());
        assert!(!rolling.is_done());
        assert_eq!(rolling.lines(), ["Deployment shop/api rolls out revision bb"]);
        let done = progress(&answered(&Shop::default()), "checkout", &request());
        assert!(done.is_done());
        assert_eq!((done.ready(), done.total()), (1, 1));
    }

    #[test]
    fn a_failed_rollout_fails_it_and_a_manual_one_is_left_to_its_user() {
        let failed =
            progress(&answered(&Shop { deployment_status: failed(), ..Shop::default() }), "checkout", &request());
        assert_eq!(failed.failed, ["Deployment shop/api: its rollout failed (timed out)"]);
        let manual = Shop { attached: Some("aa"), reload: "Manual", ..Shop::default() };
        let manual = progress(&answered(&manual), "checkout", &request());
        assert!(manual.is_done());
        assert!(manual.left[0].starts_with("Deployment shop/api waits: reloadStrategy Manual"), "{:?}", manual.left);
    }

    #[test]
    fn where_the_record_may_not_be_read_a_newer_delivery_is_taken_for_the_answer() {
        let unreadable = |shop: &Shop| {
            let mut facts = shop.facts();
            facts.namespaces.get_mut("shop").unwrap().history = Err("no right".to_owned());
            facts
        };
        assert!(!progress(&unreadable(&Shop::default()), "checkout", &request()).is_done());
        let mut newer = Shop::default();
        newer.app_status["environments"]["production"]["deliveredAt"] = json!("2001-09-09T01:46:41Z");
        assert!(progress(&unreadable(&newer), "checkout", &request()).is_done());
    }

    #[test]
    fn what_is_in_the_way_of_the_delivery_is_said() {
        let mut shop = Shop::default();
        shop.app_status["conditions"][0]["status"] = json!("False");
        shop.app_status["conditions"][0]["reason"] = json!("Unavailable");
        shop.app_status["conditions"][0]["message"] = json!("the store cannot be read");
        let progress = progress(&shop.facts(), "checkout", &request());
        assert_eq!(progress.waits_for(), "the store cannot be read (Unavailable)");
    }
}
