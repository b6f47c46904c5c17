//! One situation each: touching, pruning, records, and the end of Apps and namespaces.

use std::time::Duration;

use host_sync_core::config::Reload;
use host_sync_core::plan;
use policy_core::attachment::Strategy;
use policy_core::names::ATTACHED_ANNOTATION;
use serde_json::json;

use crate::admission::Cause;
use crate::cluster::{Cluster, app_name, environment, named, tier};
use crate::scenarios::{problems, shop};

fn touched(steps: &[String]) -> Vec<&str> {
    let touches = steps.iter().filter_map(|step| step.strip_prefix("touch Deployment "));
    touches.filter_map(|step| step.split(':').next()).collect()
}

/// Three Deployments in each of two namespaces, all linked by one App.
fn two_namespaces() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.create_app("checkout", Strategy::EnvironmentVariables, Reload::Auto);
    cluster.save("checkout", "production", &[("TOKEN", "one")]);
    for namespace in ["a", "z"] {
        cluster.label(namespace, Some("production"));
        cluster.link("checkout", "production", namespace, tier("web"));
    }
    cluster.pass();
    cluster.policy_is_active = false;
    for namespace in ["a", "z"] {
        for name in ["one", "three", "two"] {
            cluster.create_workload(namespace, name, "web", None).unwrap();
        }
    }
    cluster.policy_is_active = true;
    cluster.finish_rollouts();
    cluster
}

#[test]
fn a_cluster_wide_budget_is_shared_fairly_even_one_slot_at_a_time() {
    let mut cluster = two_namespaces();
    cluster.limits.rollouts_in_flight = 1;
    let mut order = Vec::new();
    for _ in 0..6 {
        let steps = cluster.pass();
        order.extend(touched(&steps).into_iter().map(str::to_owned));
        assert_eq!(cluster.pass(), Vec::<String>::new(), "one rollout is in flight");
        cluster.finish_rollouts();
        cluster.now += 10;
    }
    assert_eq!(order, ["a/one", "z/one", "a/three", "z/three", "a/two", "z/two"]);
}

#[test]
fn a_rollout_that_a_user_started_takes_no_slot_of_the_budget() {
    let mut cluster = two_namespaces();
    cluster.limits.rollouts_in_flight = 1;
    cluster.create_workload("a", "zero", "web", None).unwrap();
    assert_eq!(touched(&cluster.pass()), ["a/one"]);
}

#[test]
fn a_repair_reaches_the_rollouts_in_flight_although_they_fill_the_budget() {
    let mut cluster = two_namespaces();
    cluster.limits.rollouts_in_flight = 2;
    assert_eq!(touched(&cluster.pass()), ["a/one", "z/one"]);
    cluster.now += 30;
    cluster.save("checkout", "production", &[("TOKEN", "repaired")]);
    assert_eq!(touched(&cluster.pass()), ["a/one", "z/one"]);
}

#[test]
fn changes_in_quick_succession_roll_a_workload_once_more_and_not_each_time() {
    let mut cluster = shop(Strategy::EnvironmentVariables, Reload::Auto);
    let before = cluster.rolls.len();
    for value in ["a", "b", "c", "d"] {
        cluster.save("checkout", "production", &[("TOKEN", value)]);
        cluster.pass();
        cluster.now += 1;
    }
    assert_eq!(cluster.rolls.len(), before + 1, "the first at once");
    let plan = cluster.plan();
    assert_eq!(plan.look_again_at, Some(cluster.now + 1));
    cluster.settle();
    assert_eq!(cluster.rolls.len(), before + 2, "the rest together");
}

#[test]
fn a_failed_rollout_holds_the_others_back_until_a_newer_delivery() {
    let mut cluster = two_namespaces();
    cluster.limits.rollouts_in_flight = 1;
    assert_eq!(touched(&cluster.pass()), ["a/one"]);
    cluster.fail_rollout("a", "one");
    cluster.now += 30;
    assert_eq!(cluster.pass(), Vec::<String>::new());
    let (reason, message) = problems(&cluster, "checkout").remove(0);
    assert_eq!(reason, "RolloutFailed");
    assert!(message.starts_with("the rollout of Deployment a/one failed"), "{message}");
    cluster.save("checkout", "production", &[("TOKEN", "repaired")]);
    cluster.settle();
    assert!(cluster.workloads.values().all(|one| !one.attached().is_empty()));
    assert!(problems(&cluster, "checkout").is_empty());
}

#[test]
fn a_redeploy_that_changes_only_the_strategy_repairs_a_failed_rollout_too() {
    let mut cluster = two_namespaces();
    cluster.limits.rollouts_in_flight = 1;
    cluster.pass();
    cluster.fail_rollout("a", "one");
    cluster.now += 30;
    cluster.app("checkout").strategy = Strategy::VolumeMount;
    cluster.redeploy("checkout");
    cluster.settle();
    assert!(
        cluster
            .workloads
            .values()
            .all(|one| one.attached().iter().all(|one| one.strategy == Some(Strategy::VolumeMount)))
    );
}

#[test]
fn a_broken_workload_that_scout_did_not_roll_holds_nobody_back() {
    let mut cluster = two_namespaces();
    cluster.create_workload("a", "broken", "web", None).unwrap();
    cluster.fail_rollout("a", "broken");
    cluster.settle();
    assert!(cluster.workloads.values().all(|one| !one.attached().is_empty()));
}

#[test]
fn a_contested_workload_is_touched_five_times_ever_more_rarely_and_then_left() {
    let mut cluster = two_namespaces();
    cluster.policy_is_active = false;
    let mut attempts = Vec::new();
    for _ in 0..200 {
        if touched(&cluster.pass()).contains(&"a/one") {
            attempts.push(cluster.now);
        }
        cluster.now += 1;
    }
    let gaps: Vec<i64> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(gaps, [5, 10, 20, 40]);
    let found = problems(&cluster, "checkout");
    assert!(
        found.iter().any(|(reason, message)| *reason == "Contested" && message.contains("kubectl wrote to it last")),
        "{found:?}"
    );
    // What is wanted changes, and the count starts over.
    cluster.policy_is_active = true;
    cluster.save("checkout", "production", &[("TOKEN", "two")]);
    cluster.settle();
    assert!(cluster.workloads.values().all(|one| !one.attached().is_empty()));
}

#[test]
fn superseded_revisions_go_but_for_the_last_two_and_what_a_template_holds() {
    let mut cluster = shop(Strategy::EnvironmentVariables, Reload::Auto);
    cluster.create_workload("shop", "old", "web", None).unwrap();
    cluster.link("checkout", "production", "shop", named("old"));
    cluster.settle();
    cluster.set_mode("shop", "old", Some("ignore"));
    for value in ["a", "b", "c", "d"] {
        cluster.save("checkout", "production", &[("TOKEN", value)]);
        cluster.settle();
    }
    assert_eq!(cluster.secret_names("shop").len(), 4, "the current one, two for a rollback, and the frozen one");
    let frozen = cluster.workload("shop", "old").attached().iter().next().unwrap().secret.clone();
    assert!(cluster.secret("shop", &frozen).is_some());
}

#[test]
fn a_superseded_secret_stays_for_the_prune_delay_and_while_a_live_replica_set_refers_to_it() {
    let mut cluster = shop(Strategy::EnvironmentVariables, Reload::Auto);
    cluster.limits.revision_history_limit = 0;
    cluster.limits.prune_delay = Duration::from_mins(1);
    cluster.save("checkout", "production", &[("TOKEN", "two")]);
    cluster.pass();
    assert_eq!(cluster.plan().look_again_at, Some(cluster.now + 60));
    cluster.now += 60;
    assert_eq!(cluster.pass(), Vec::<String>::new(), "the old pods are still there");
    cluster.finish_rollouts();
    assert!(cluster.pass()[0].starts_with("delete Secret shop/scout.checkout."));
    assert_eq!(cluster.secret_names("shop").len(), 1);
}

/// `one`, `two` and `one` again, and host-sync died between the desired state and the record of it: the name of `one` still
/// says that it is long superseded.
fn died_while_a_revision_came_back() -> Cluster {
    let mut cluster = shop(Strategy::EnvironmentVariables, Reload::Auto);
    cluster.limits.revision_history_limit = 0;
    cluster.save("checkout", "production", &[("TOKEN", "two")]);
    cluster.pass();
    cluster.finish_rollouts();
    cluster.set_mode("shop", "api", Some("ignore"));
    cluster.pass();
    cluster.set_mode("shop", "api", None);
    cluster.now += 50;
    cluster.seen.clear();
    cluster.save("checkout", "production", &[("TOKEN", "one")]);
    let steps = cluster.clone().pass();
    let at = steps.iter().position(|step| step.starts_with("write the desired state")).unwrap();
    cluster.pass_until(Some(at + 1));
    cluster.now += 30;
    cluster
}

#[test]
fn a_secret_that_the_desired_state_names_is_not_pruned_whatever_its_record_says() {
    let mut cluster = died_while_a_revision_came_back();
    cluster.fail("checkout", "production");
    let steps = cluster.pass();
    assert_eq!(touched(&steps), ["shop/api"], "{steps:?}");
    assert!(!steps.iter().any(|step| step.starts_with("delete")), "{steps:?}");
}

#[test]
fn a_delivery_that_was_cut_short_is_asked_for_again() {
    let mut cluster = died_while_a_revision_came_back();
    assert!(plan::wanted_fetches(&cluster.observe()).values().any(|why| why.contains("may not hold revision")));
    cluster.settle();
    assert!(plan::wanted_fetches(&cluster.observe()).is_empty());
}

#[test]
fn a_revision_that_came_back_and_goes_again_is_not_pruned_by_its_old_age() {
    let mut cluster = died_while_a_revision_came_back();
    let revision = cluster.state("shop").unwrap().apps[&app_name("checkout")].revision.to_string();
    cluster.save("checkout", "production", &[("TOKEN", "three")]);
    cluster.pass();
    let one = format!("scout.checkout.{revision}");
    assert!(cluster.secret("shop", &one).is_some(), "what was wanted a moment ago stays for the delay");
    cluster.settle();
    assert_eq!(cluster.secret_names("shop").len(), 1);
}

#[test]
fn a_deleted_app_stays_and_works_while_it_is_linked_and_says_what_holds_it() {
    let mut cluster = shop(Strategy::EnvironmentVariables, Reload::Auto);
    cluster.delete_app("checkout");
    cluster.save("checkout", "production", &[("TOKEN", "two")]);
    let before = cluster.rolls.len();
    cluster.settle();
    assert_eq!(cluster.rolls.len(), before + 1);
    assert_eq!(cluster.plan().reports[&app_name("checkout")].held_by, ["environment production in namespace shop"]);
    cluster.set_mode("shop", "api", Some("ignore"));
    cluster.unlink("checkout", "production", "shop");
    cluster.settle();
    let held_by = cluster.plan().reports[&app_name("checkout")].held_by.clone();
    assert_eq!(held_by, ["Deployment shop/api, which still holds its secrets"]);
    cluster.set_mode("shop", "api", None);
    cluster.settle();
    assert!(cluster.apps.is_empty() && cluster.secrets.is_empty());
}

#[test]
fn a_deleted_app_says_which_unlabelled_namespace_still_holds_its_secrets() {
    let mut cluster = shop(Strategy::EnvironmentVariables, Reload::Auto);
    cluster.label("shop", None);
    cluster.unlink("checkout", "production", "shop");
    cluster.delete_app("checkout");
    cluster.settle();
    let held_by = cluster.plan().reports[&app_name("checkout")].held_by.clone();
    assert_eq!(held_by, ["namespace shop, which has no environment and keeps what it has: label it, or delete it"]);
    cluster.delete_namespace("shop");
    let steps = cluster.pass();
    assert_eq!(steps.len(), 2, "{steps:?}");
    assert!(cluster.apps.is_empty());
}

#[test]
fn an_app_that_cannot_be_parsed_keeps_everything_it_delivered() {
    let mut cluster = shop(Strategy::EnvironmentVariables, Reload::Auto);
    cluster.unparsable_apps.insert(app_name("checkout"));
    cluster.settle();
    assert!(cluster.state("shop").unwrap().apps.contains_key(&app_name("checkout")));
    assert!(!cluster.workload("shop", "api").attached().is_empty());
}

#[test]
fn an_unreadable_history_is_not_written_over_and_what_is_delivered_stays() {
    let mut cluster = shop(Strategy::EnvironmentVariables, Reload::Auto);
    cluster.histories.get_mut("shop").unwrap().insert("checkout".into(), "{".into());
    let histories = cluster.histories.clone();
    cluster.redeploy("checkout");
    cluster.save("checkout", "production", &[("TOKEN", "two")]);
    cluster.settle();
    assert_eq!(cluster.histories, histories);
    assert_eq!(problems(&cluster, "checkout")[0].0, "HistoryUnreadable");
    assert!(plan::wanted_fetches(&cluster.observe()).is_empty(), "nobody fetches in a loop");
}

#[test]
fn an_old_redeploy_confirms_no_lost_key_after_a_first_delivery_that_was_cut_short() {
    let mut cluster = shop(Strategy::EnvironmentVariables, Reload::Auto);
    cluster.redeploy("checkout");
    cluster.may_shrink = false;
    cluster.label("west", Some("production"));
    cluster.link("checkout", "production", "west", named("api"));
    cluster.save("checkout", "production", &[("TOKEN", "one"), ("USER", "one")]);
    let steps = cluster.clone().pass();
    let at = steps.iter().rposition(|step| step.starts_with("write the desired state")).unwrap();
    cluster.pass_until(Some(at + 1));
    cluster.unlink("checkout", "production", "shop");
    cluster.save("checkout", "production", &[("TOKEN", "one")]);
    cluster.settle();
    assert_eq!(problems(&cluster, "checkout")[0].0, "KeysMissing");
}

#[test]
fn a_deleted_history_is_written_anew_and_a_redeploy_can_still_confirm_a_lost_key() {
    let mut cluster = shop(Strategy::EnvironmentVariables, Reload::Auto);
    cluster.save("checkout", "production", &[("TOKEN", "one"), ("USER", "one")]);
    cluster.redeploy("checkout");
    cluster.settle();
    cluster.histories.clear();
    cluster.may_shrink = false;
    cluster.save("checkout", "production", &[("TOKEN", "two")]);
    cluster.settle();
    assert_eq!(cluster.history("shop")[&app_name("checkout")].secrets.len(), 1);
    assert_eq!(problems(&cluster, "checkout")[0].0, "KeysMissing", "the old request confirms nothing");
    cluster.redeploy("checkout");
    cluster.settle();
    assert!(problems(&cluster, "checkout").is_empty());
}

#[test]
fn an_unreadable_desired_state_is_not_written_over() {
    let mut cluster = shop(Strategy::EnvironmentVariables, Reload::Auto);
    cluster.states.get_mut("shop").unwrap().insert("meta".into(), r#"{"schema":2}"#.into());
    let states = cluster.states.clone();
    cluster.save("checkout", "production", &[("TOKEN", "two")]);
    cluster.settle();
    assert_eq!(cluster.states, states);
    let (reason, message) = problems(&cluster, "checkout").remove(0);
    assert_eq!(reason, "DesiredStateUnreadable");
    assert!(message.contains("schema 2"), "{message}");
}

#[test]
fn a_deleted_desired_state_is_not_written_anew_before_it_names_everything_that_is_attached() {
    let mut cluster = shop(Strategy::EnvironmentVariables, Reload::Auto);
    cluster.create_app("mail", Strategy::VolumeMount, Reload::Auto);
    cluster.link("mail", "production", "shop", named("api"));
    cluster.save("mail", "production", &[("PASSWORD", "one")]);
    cluster.settle();
    let attached = cluster.workload("shop", "api").attached();
    cluster.states.remove("shop");
    cluster.fail("mail", "production");
    cluster.settle();
    assert!(cluster.state("shop").is_none());
    assert_eq!(problems(&cluster, "checkout")[0].0, "DesiredStateMissing");
    cluster.save("mail", "production", &[("PASSWORD", "one")]);
    cluster.settle();
    assert_eq!(cluster.workload("shop", "api").attached(), attached);
}

#[test]
fn a_delivery_that_no_config_map_can_hold_is_refused_and_the_others_go_on() {
    let mut cluster = shop(Strategy::EnvironmentVariables, Reload::Auto);
    cluster.create_app("huge", Strategy::EnvironmentVariables, Reload::Auto);
    cluster.link("huge", "production", "shop", named("api"));
    let keys: Vec<String> = (0..14_000).map(|n| format!("A_RATHER_LONG_NAME_OF_A_VARIABLE_{n}")).collect();
    let keys: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "")).collect();
    cluster.save("huge", "production", &keys);
    cluster.save("checkout", "production", &[("TOKEN", "two")]);
    cluster.pass();
    assert_eq!(problems(&cluster, "huge")[0].0, "DesiredStateTooLarge");
    assert!(problems(&cluster, "checkout").is_empty());
    assert!(!cluster.history("shop").contains_key(&app_name("huge")));
    assert_eq!(cluster.secret_names("shop").len(), 2);
}

#[test]
fn a_secret_that_somebody_deleted_comes_back_under_its_name() {
    let mut cluster = shop(Strategy::EnvironmentVariables, Reload::Auto);
    let names: Vec<String> = cluster.secret_names("shop").into_iter().map(str::to_owned).collect();
    cluster.secrets.clear();
    let rolls = cluster.rolls.len();
    cluster.settle();
    assert_eq!(cluster.secret_names("shop"), names);
    assert_eq!(cluster.rolls.len(), rolls);
}

#[test]
fn a_record_of_attachments_that_somebody_tampered_with_is_set_right() {
    let mut cluster = shop(Strategy::EnvironmentVariables, Reload::Auto);
    cluster.edit_workload("shop", "api", Cause::User, |object| {
        object["metadata"]["annotations"][ATTACHED_ANNOTATION] = json!("[]");
    });
    let deployment = cluster.workload("shop", "api");
    assert_eq!(deployment.facts("api").attached, deployment.attached());
}

#[test]
fn the_report_counts_workloads_and_says_what_each_waits_for() {
    let mut cluster = two_namespaces();
    cluster.limits.rollouts_in_flight = 1;
    cluster.pass();
    let report = &cluster.plan().reports[&app_name("checkout")].environments[&environment("production")];
    let counts = report.workloads;
    assert_eq!((counts.ready, counts.rolling, counts.pending, counts.failed), (0, 1, 5, 0));
    assert_eq!(report.waiting[0], "Deployment a/three: 1 rollouts are in flight");
}
