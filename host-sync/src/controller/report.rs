//! From what a plan says to statuses: conditions that name what is wrong and what to do. Pure.

use std::collections::{BTreeMap, BTreeSet};

use host_sync_core::config;
use host_sync_core::plan::{AppReport, EnvironmentReport};
use host_sync_core::snapshot::Problem;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use policy_core::attachment::Strategy;

use crate::api::{
    AppStatus, DeploymentStrategy, EnvironmentStatus, Mode, ReloadStrategy, SecretStoreStatus, WorkloadCounts,
};

/// How many waiting workloads a status names; the rest is counted.
const WAITING_MAX: usize = 20;
/// The longest condition message, in bytes (Kubernetes' own limit is 32,768).
const MESSAGE_MAX: usize = 4096;

/// Everything that is wrong with an App, each once, in order.
pub(super) fn problems(report: &AppReport, failed: &[Problem]) -> BTreeSet<Problem> {
    let environments = report.environments.values().flat_map(|environment| environment.problems.iter().cloned());
    environments.chain(failed.iter().cloned()).collect()
}

/// The status of an App that could be parsed.
pub(super) fn app_status(
    report: &AppReport,
    failed: &[Problem],
    previous: Option<&AppStatus>,
    generation: Option<i64>,
    now: Timestamp,
) -> AppStatus {
    let problems = problems(report, failed);
    let previous = previous.map_or(&[][..], |status| &status.conditions);
    let environments: BTreeMap<String, EnvironmentStatus> = report
        .environments
        .iter()
        .map(|(environment, report)| (environment.to_string(), environment_status(report)))
        .collect();
    let condition = |type_: &str, holds: bool, reason: &str, message: String| {
        condition(type_, holds, reason, message, (previous, generation, now))
    };
    let mut conditions = Vec::new();
    let undelivered = report.environments.iter().filter(|(_, report)| report.revision.is_none());
    let undelivered: Vec<String> = undelivered.map(|(environment, _)| environment.to_string()).collect();
    conditions.push(if let Some(first) = problems.first() {
        condition("Delivered", false, first.reason, sentences(&problems))
    } else if undelivered.is_empty() {
        condition("Delivered", true, "Delivered", "the newest content is in the cluster".to_owned())
    } else {
        let message = format!("not delivered yet: {}", undelivered.join(", "));
        condition("Delivered", false, "NotDelivered", message)
    });
    let behind: BTreeSet<String> = environments.values().flat_map(|one| one.waiting.iter().cloned()).collect();
    let rolling: u32 = environments.values().map(|one| one.workloads.rolling).sum();
    let failed_rollouts: u32 = environments.values().map(|one| one.workloads.failed).sum();
    let (holds, reason, message) = if let Some(first) = problems.first() {
        (false, first.reason, sentences(&problems))
    } else if !undelivered.is_empty() {
        (false, "NotDelivered", format!("not delivered yet: {}", undelivered.join(", ")))
    } else if failed_rollouts > 0 {
        (false, "RolloutFailed", behind.into_iter().collect::<Vec<_>>().join("; "))
    } else if rolling > 0 {
        (false, "RollingOut", format!("{rolling} workloads are rolling out the newest revision"))
    } else if !behind.is_empty() {
        // Manual and ignore are the user's own wish, so waiting for them is no fault.
        (true, "Waiting", behind.into_iter().collect::<Vec<_>>().join("; "))
    } else {
        (true, "Ready", "every linked workload runs the newest revision".to_owned())
    };
    conditions.push(condition("Ready", holds, reason, message));
    if !report.held_by.is_empty() {
        let message = format!(
            "deletion waits, and everything goes on meanwhile, until these links are removed: {}",
            report.held_by.join(", ")
        );
        conditions.push(condition("Terminating", true, "Linked", message));
    }
    AppStatus { conditions, environments, observed_generation: generation }
}

/// The status of an App that could not be parsed: what is delivered stays, and so does what was said of it.
pub(super) fn unusable_app_status(
    error: &str,
    previous: Option<&AppStatus>,
    generation: Option<i64>,
    now: Timestamp,
) -> AppStatus {
    let mut status = previous.cloned().unwrap_or_default();
    let context = (status.conditions.clone(), generation, now);
    let message = format!("{error}; what was delivered stays as it is");
    status.conditions = ["Delivered", "Ready"]
        .map(|type_| condition(type_, false, "InvalidSpec", message.clone(), (&context.0, context.1, context.2)))
        .to_vec();
    status.observed_generation = generation;
    status
}

/// The status of a SecretStore.
pub(super) fn store_status(
    error: Option<(&str, String)>,
    description: &str,
    previous: Option<&SecretStoreStatus>,
    generation: Option<i64>,
    now: Timestamp,
) -> SecretStoreStatus {
    let previous = previous.map_or(&[][..], |status| &status.conditions);
    let (holds, reason, message) = match error {
        Some((reason, message)) => (false, reason, message),
        None => (true, "Readable", format!("the latest read of {description} succeeded")),
    };
    SecretStoreStatus { conditions: vec![condition("Ready", holds, reason, message, (previous, generation, now))] }
}

fn condition(
    type_: &str,
    holds: bool,
    reason: &str,
    message: String,
    (previous, generation, now): (&[Condition], Option<i64>, Timestamp),
) -> Condition {
    let status = if holds { "True" } else { "False" };
    let since = previous.iter().find(|one| one.type_ == type_ && one.status == status);
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: shortened(message),
        observed_generation: generation,
        last_transition_time: since.map_or_else(|| Time(whole_seconds(now)), |one| one.last_transition_time.clone()),
    }
}

/// What the API server keeps of a time: comparing with a finer one would find a difference for ever.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn shortened(mut message: String) -> String {
    if message.len() > MESSAGE_MAX {
        let mut end = MESSAGE_MAX;
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        message.push('…');
    }
    message
}

fn sentences(problems: &BTreeSet<Problem>) -> String {
    problems.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>().join("; ")
}

fn environment_status(report: &EnvironmentReport) -> EnvironmentStatus {
    let mut waiting = report.waiting.clone();
    waiting.sort();
    if waiting.len() > WAITING_MAX {
        let more = waiting.len() - WAITING_MAX;
        waiting.truncate(WAITING_MAX);
        waiting.push(format!("and {more} more"));
    }
    EnvironmentStatus {
        revision: report.revision.as_ref().map(ToString::to_string),
        delivered_at: report.delivered_at.and_then(|seconds| Timestamp::from_second(seconds).ok()).map(Time),
        mode: report.mode.map(|mode| match mode {
            config::Mode::Agent => Mode::Agent,
            config::Mode::Operator => Mode::Operator,
        }),
        deployment_strategy: report.strategy.map(|strategy| match strategy {
            Strategy::EnvironmentVariables => DeploymentStrategy::EnvironmentVariables,
            Strategy::VolumeMount => DeploymentStrategy::VolumeMount,
        }),
        reload_strategy: report.reload.map(|reload| match reload {
            config::Reload::Auto => ReloadStrategy::Auto,
            config::Reload::Manual => ReloadStrategy::Manual,
        }),
        pending: report.pending.clone(),
        waiting,
        workloads: WorkloadCounts {
            ready: report.workloads.ready,
            rolling: report.workloads.rolling,
            pending: report.workloads.pending,
            failed: report.workloads.failed,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy_core::names::{Environment, Revision};

    fn delivered() -> AppReport {
        let report = EnvironmentReport {
            revision: Some(Revision::parse("4f9a").unwrap()),
            delivered_at: Some(5),
            ..EnvironmentReport::default()
        };
        let environments = BTreeMap::from([(Environment::parse("production").unwrap(), report)]);
        AppReport { environments, held_by: Vec::new() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn ready(status: &AppStatus) -> &Condition {
        status.conditions.iter().find(|condition| condition.type_ == "Ready").unwrap()
    }

    #[test]
    fn a_status_said_again_is_the_same_status() {
        let first = app_status(&delivered(), &[], None, Some(1), at(10));
        assert_eq!(ready(&first).status, "True");
        assert_eq!(app_status(&delivered(), &[], Some(&first), Some(1), at(99)), first);
    }

    #[test]
    fn a_problem_makes_it_not_ready_and_is_said_in_full() {
        let failed = [Problem { reason: "ApplyFailed", message: "writing Secret shop/x: denied".into() }];
        let status = app_status(&delivered(), &failed, None, Some(1), at(10));
        assert_eq!(ready(&status).reason, "ApplyFailed");
        assert_eq!(ready(&status).message, "writing Secret shop/x: denied");
    }

    #[test]
    fn an_app_that_waits_for_its_links_says_which() {
        let report = AppReport { held_by: vec!["environment production in namespace shop".into()], ..delivered() };
        let status = app_status(&report, &[], None, Some(1), at(10));
        let condition = status.conditions.iter().find(|condition| condition.type_ == "Terminating").unwrap();
        assert!(condition.message.ends_with("production in namespace shop"));
    }

    #[test]
    fn an_unusable_app_keeps_what_was_said_of_its_deliveries() {
        let first = app_status(&delivered(), &[], None, Some(1), at(10));
        let status = unusable_app_status("bad", Some(&first), Some(2), at(20));
        assert_eq!(status.environments, first.environments);
        assert_eq!(ready(&status).reason, "InvalidSpec");
    }

    #[test]
    fn many_waiting_workloads_are_cut_with_their_number() {
        let mut report = delivered();
        let environment = report.environments.values_mut().next().unwrap();
        environment.waiting = (0..25).map(|n| format!("Deployment shop/w{n:02}: Manual")).collect();
        let status = app_status(&report, &[], None, Some(1), at(10));
        assert_eq!(status.environments["production"].waiting.last().unwrap(), "and 5 more");
    }
}
