//! One situation each: delivering, capturing, freezing, detaching.

use host_sync_core::config::{Mode, Reload};
use host_sync_core::plan::Outcome;
use host_sync_core::secret_bytes::Content;
use policy_core::attachment::Strategy;
use policy_core::desired_state::{Apply, Injection};

use crate::admission::Cause;
use crate::cluster::{Cluster, app_name, environment, named, tier};

/// One namespace `shop` in production, one Deployment `api`, linked by the App `checkout`.
pub fn shop(strategy: Strategy, reload: Reload) -> Cluster {
    let mut cluster = Cluster::new();
    cluster.label("shop", Some("production"));
    cluster.pass();
    cluster.create_workload("shop", "api", "backend", None).unwrap();
    cluster.create_app("checkout", strategy, reload);
    cluster.link("checkout", "production", "shop", named("api"));
    cluster.save("checkout", "production", &[("TOKEN", "one")]);
    cluster.settle();
    cluster
}

pub fn problems(cluster: &Cluster, app: &str) -> Vec<(&'static str, String)> {
    let plan = cluster.plan();
    let environments = plan.reports[&app_name(app)].environments.values();
    environments.flat_map(|report| &report.problems).map(|one| (one.reason, one.message.clone())).collect()
}

pub fn revision(cluster: &Cluster, namespace: &str, app: &str) -> String {
    cluster.state(namespace).unwrap().apps[&app_name(app)].revision.to_string()
}

pub fn attached_secret(cluster: &Cluster, name: &str) -> Option<String> {
    cluster.workload("shop", name).attached().iter().next().map(|one| one.secret.clone())
}

#[test]
fn a_changed_value_rolls_each_linked_workload_once() {
    let mut cluster = shop(Strategy::EnvironmentVariables, Reload::Auto);
    cluster.create_workload("shop", "web", "web", None).unwrap();
    cluster.link("checkout", "production", "shop", tier("web"));
    cluster.settle();
    let before = cluster.rolls.len();
    cluster.save("checkout", "production", &[("TOKEN", "two")]);
    cluster.settle();
    let rolled: Vec<&str> = cluster.rolls[before..].iter().map(|roll| roll.workload.1.as_str()).collect();
    assert_eq!(rolled, ["api", "web"]);
    assert!(cluster.rolls[before..].iter().all(|roll| roll.cause == Cause::Touch));
}

#[test]
fn a_crash_before_any_step_of_a_delivery_loses_nothing_and_rolls_nothing_twice() {
    for strategy in [Strategy::EnvironmentVariables, Strategy::VolumeMount] {
        for crash in 0..8 {
            let mut cluster = shop(strategy, Reload::Auto);
            let before = cluster.rolls.len();
            cluster.save("checkout", "production", &[("TOKEN", "two")]);
            cluster.now += 30;
            cluster.pass_until(Some(crash));
            cluster.settle();
            assert_eq!(cluster.rolls.len(), before + 1, "{strategy:?}, crash before step {crash}");
            let secret = attached_secret(&cluster, "api").unwrap();
            let stored = cluster.stored(&crate::cluster::path("checkout", "production")).unwrap();
            assert_eq!(cluster.secret("shop", &secret).unwrap().content, stored);
        }
    }
}

#[test]
fn a_crash_before_any_step_of_a_redeploy_does_not_forget_the_request() {
    for crash in 0..8 {
        let mut cluster = shop(Strategy::EnvironmentVariables, Reload::Auto);
        cluster.app("checkout").strategy = Strategy::VolumeMount;
        cluster.redeploy("checkout");
        cluster.pass_until(Some(crash));
        cluster.settle();
        let entry = cluster.state("shop").unwrap().apps[&app_name("checkout")].clone();
        assert!(matches!(entry.injection, Injection::VolumeMount { .. }), "crash before step {crash}");
        assert_eq!(attached_secret(&cluster, "api").as_deref(), Some("scout.checkout.deployment.api"));
    }
}

#[test]
fn an_edited_strategy_and_reload_wait_for_the_next_delivery_and_are_reported() {
    let mut cluster = shop(Strategy::EnvironmentVariables, Reload::Auto);
    cluster.app("checkout").strategy = Strategy::VolumeMount;
    cluster.config("checkout", "production").reload = Reload::Manual;
    cluster.refresh = true;
    assert_eq!(cluster.pass(), Vec::<String>::new());
    let report = &cluster.plan().reports[&app_name("checkout")].environments[&environment("production")];
    assert_eq!(report.pending, ["deploymentStrategy VolumeMount", "reloadStrategy Manual"]);
    assert_eq!((report.strategy, report.reload), (Some(Strategy::EnvironmentVariables), Some(Reload::Auto)));
    cluster.redeploy("checkout");
    cluster.settle();
    let entry = cluster.state("shop").unwrap().apps[&app_name("checkout")].clone();
    assert_eq!(entry.apply, Apply::OnTemplateChange);
    assert!(cluster.plan().reports[&app_name("checkout")].environments[&environment("production")].pending.is_empty());
}

#[test]
fn under_manual_a_new_value_waits_for_a_restart() {
    let mut cluster = shop(Strategy::EnvironmentVariables, Reload::Manual);
    // What existed before is attached at its next admission, and that is not host-sync's to cause.
    assert!(attached_secret(&cluster, "api").is_none());
    cluster.restart("shop", "api");
    let first = attached_secret(&cluster, "api").unwrap();
    cluster.save("checkout", "production", &[("TOKEN", "two")]);
    let template = cluster.workload("shop", "api").template().clone();
    cluster.settle();
    assert_eq!(*cluster.workload("shop", "api").template(), template);
    assert!(cluster.secret("shop", &format!("scout.checkout.{}", revision(&cluster, "shop", "checkout"))).is_some());
    cluster.restart("shop", "api");
    assert_ne!(attached_secret(&cluster, "api").unwrap(), first);
}

#[test]
fn a_workload_that_a_selector_newly_matches_gets_its_secret_of_its_own() {
    let mut cluster = shop(Strategy::VolumeMount, Reload::Auto);
    cluster.link("checkout", "production", "shop", tier("web"));
    cluster.settle();
    cluster.create_workload("shop", "late", "web", None).unwrap();
    assert_eq!(attached_secret(&cluster, "late").as_deref(), Some("scout.checkout.deployment.late"));
    cluster.pass();
    assert!(cluster.secret("shop", "scout.checkout.deployment.late").is_some());
}

#[test]
fn ignore_freezes_the_files_of_one_workload_while_its_sibling_follows() {
    let mut cluster = shop(Strategy::VolumeMount, Reload::Auto);
    cluster.create_workload("shop", "web", "web", None).unwrap();
    cluster.link("checkout", "production", "shop", named("web"));
    cluster.settle();
    cluster.set_mode("shop", "api", Some("ignore"));
    cluster.save("checkout", "production", &[("TOKEN", "two")]);
    cluster.settle();
    let content = |cluster: &Cluster, name: &str| -> Content { cluster.secret("shop", name).unwrap().content.clone() };
    assert_ne!(content(&cluster, "scout.checkout.deployment.api"), content(&cluster, "scout.checkout.deployment.web"));
    cluster.set_mode("shop", "api", None);
    cluster.settle();
    assert_eq!(content(&cluster, "scout.checkout.deployment.api"), content(&cluster, "scout.checkout.deployment.web"));
}

#[test]
fn a_workload_that_is_ignored_before_its_secret_was_written_still_gets_one() {
    let mut cluster = shop(Strategy::VolumeMount, Reload::Auto);
    cluster.link("checkout", "production", "shop", tier("web"));
    cluster.settle();
    cluster.create_workload("shop", "late", "web", None).unwrap();
    cluster.set_mode("shop", "late", Some("ignore"));
    cluster.settle();
    assert!(cluster.secret("shop", "scout.checkout.deployment.late").is_some());
}

#[test]
fn a_workload_that_waits_under_manual_finds_the_files_of_the_strategy_it_still_has() {
    let mut cluster = shop(Strategy::VolumeMount, Reload::Manual);
    cluster.link("checkout", "production", "shop", tier("web"));
    cluster.settle();
    cluster.create_workload("shop", "late", "web", None).unwrap();
    cluster.app("checkout").strategy = Strategy::EnvironmentVariables;
    cluster.redeploy("checkout");
    cluster.settle();
    assert_eq!(attached_secret(&cluster, "late").as_deref(), Some("scout.checkout.deployment.late"));
    assert!(cluster.secret("shop", "scout.checkout.deployment.late").is_some());
}

#[test]
fn ignore_and_detach_takes_everything_and_removing_it_brings_everything_back() {
    for strategy in [Strategy::EnvironmentVariables, Strategy::VolumeMount] {
        let mut cluster = shop(strategy, Reload::Auto);
        let attached = cluster.workload("shop", "api").attached();
        cluster.set_mode("shop", "api", Some("ignore-and-detach"));
        cluster.settle();
        assert!(!cluster.workload("shop", "api").template().to_string().contains("scout"), "{strategy:?}");
        assert!(cluster.secret_names("shop").is_empty(), "{strategy:?}: {:?}", cluster.secret_names("shop"));
        cluster.set_mode("shop", "api", None);
        cluster.settle();
        assert_eq!(cluster.workload("shop", "api").attached(), attached);
    }
}

#[test]
fn a_failed_rollout_does_not_keep_a_sibling_from_detaching() {
    let mut cluster = shop(Strategy::EnvironmentVariables, Reload::Auto);
    cluster.create_workload("shop", "web", "web", None).unwrap();
    cluster.link("checkout", "production", "shop", named("web"));
    cluster.settle();
    cluster.fail_rollout("shop", "api");
    cluster.policy_is_active = false;
    cluster.set_mode("shop", "web", Some("ignore-and-detach"));
    cluster.policy_is_active = true;
    cluster.pass();
    assert!(attached_secret(&cluster, "web").is_none());
}

#[test]
fn operator_mode_keeps_one_secret_under_its_stable_name() {
    let mut cluster = shop(Strategy::EnvironmentVariables, Reload::Auto);
    cluster.config("checkout", "production").mode = Mode::Operator;
    cluster.redeploy("checkout");
    cluster.settle();
    let first = revision(&cluster, "shop", "checkout");
    assert!(cluster.secret("shop", "checkout-secrets").is_some());
    assert!(crate::admission::secrets_in(cluster.workload("shop", "api").template()).is_empty());
    cluster.save("checkout", "production", &[("TOKEN", "two")]);
    cluster.settle();
    assert_ne!(revision(&cluster, "shop", "checkout"), first);
    let attached = cluster.workload("shop", "api").attached();
    assert_eq!(attached.iter().next().unwrap().revision.to_string(), revision(&cluster, "shop", "checkout"));
}

#[test]
fn operator_mode_under_manual_touches_no_template() {
    let mut cluster = Cluster::new();
    cluster.label("shop", Some("production"));
    cluster.pass();
    cluster.create_workload("shop", "api", "backend", None).unwrap();
    let object = cluster.workload("shop", "api").object.clone();
    cluster.create_app("checkout", Strategy::EnvironmentVariables, Reload::Manual);
    cluster.config("checkout", "production").mode = Mode::Operator;
    cluster.link("checkout", "production", "shop", named("api"));
    cluster.save("checkout", "production", &[("TOKEN", "one")]);
    cluster.settle();
    assert!(cluster.secret("shop", "checkout-secrets").is_some());
    assert_eq!(cluster.workload("shop", "api").object, object);
}

#[test]
fn a_lost_or_rotated_key_renames_and_rolls_nothing() {
    for strategy in [Strategy::EnvironmentVariables, Strategy::VolumeMount] {
        let mut cluster = shop(strategy, Reload::Auto);
        let (before, rolls) = (revision(&cluster, "shop", "checkout"), cluster.rolls.len());
        cluster.rotate_key(9);
        cluster.label("west", Some("production"));
        cluster.link("checkout", "production", "west", named("api"));
        cluster.settle();
        assert_eq!(revision(&cluster, "shop", "checkout"), before);
        assert_eq!(revision(&cluster, "west", "checkout"), before, "a new namespace joins under the old name");
        assert_eq!(cluster.rolls.len(), rolls);
    }
}

#[test]
fn a_rotated_key_renames_nothing_even_where_only_an_earlier_strategys_secret_is_left_to_compare() {
    let mut cluster = shop(Strategy::EnvironmentVariables, Reload::Auto);
    let before = revision(&cluster, "shop", "checkout");
    cluster.set_mode("shop", "api", Some("ignore"));
    cluster.app("checkout").strategy = Strategy::VolumeMount;
    cluster.rotate_key(9);
    cluster.redeploy("checkout");
    cluster.settle();
    assert_eq!(revision(&cluster, "shop", "checkout"), before);
}

#[test]
fn a_relabelled_namespace_switches_to_the_other_environment() {
    let mut cluster = shop(Strategy::EnvironmentVariables, Reload::Auto);
    cluster.link("checkout", "staging", "shop", named("api"));
    cluster.label("shop", Some("staging"));
    cluster.fail("checkout", "staging");
    cluster.settle();
    let kept = cluster.state("shop").unwrap().apps[&app_name("checkout")].environment.clone();
    assert_eq!(kept, environment("production"), "what is attached stays until the new environment can be delivered");
    cluster.save("checkout", "staging", &[("TOKEN", "stage")]);
    cluster.settle();
    assert_eq!(cluster.state("shop").unwrap().apps[&app_name("checkout")].environment, environment("staging"));
    let secret = attached_secret(&cluster, "api").unwrap();
    let stored = cluster.stored(&crate::cluster::path("checkout", "staging")).unwrap();
    assert_eq!(cluster.secret("shop", &secret).unwrap().content, stored);
}

#[test]
fn a_namespace_that_loses_its_label_keeps_what_it_has_and_says_so() {
    let mut cluster = shop(Strategy::EnvironmentVariables, Reload::Auto);
    let object = cluster.workload("shop", "api").object.clone();
    let secrets = cluster.secrets.clone();
    cluster.label("shop", None);
    cluster.save("checkout", "production", &[("TOKEN", "two")]);
    cluster.settle();
    assert_eq!((&cluster.workload("shop", "api").object, &cluster.secrets), (&object, &secrets));
    let (reason, message) = problems(&cluster, "checkout").remove(0);
    assert_eq!(reason, "NamespaceNotLabelled");
    assert!(message.ends_with("what it holds stays as it is"), "{message}");
}

#[test]
fn what_is_fetched_and_the_same_is_unchanged() {
    let mut cluster = shop(Strategy::EnvironmentVariables, Reload::Auto);
    cluster.refresh = true;
    let steps = cluster.pass();
    assert!(steps.is_empty());
    cluster.refresh = true;
    cluster.fetch_what_is_due();
    let outcomes: Vec<Outcome> = cluster.plan().outcomes.into_values().collect();
    assert_eq!(outcomes, [Outcome::Unchanged]);
}

#[test]
fn an_edited_mount_path_moves_the_files_at_the_next_delivery() {
    let mut cluster = shop(Strategy::VolumeMount, Reload::Auto);
    cluster.app("checkout").mount_path = "/elsewhere".into();
    cluster.settle();
    assert!(cluster.workload("shop", "api").template().to_string().contains("/secrets/checkout"));
    let rolls = cluster.rolls.len();
    cluster.redeploy("checkout");
    cluster.settle();
    assert!(cluster.workload("shop", "api").template().to_string().contains("\"mountPath\":\"/elsewhere\""));
    assert_eq!(cluster.rolls.len(), rolls + 1);
}

#[test]
fn steps_that_are_applied_a_second_time_change_nothing() {
    let mut cluster = shop(Strategy::VolumeMount, Reload::Auto);
    cluster.save("checkout", "production", &[("TOKEN", "two")]);
    cluster.now += 30;
    cluster.fetch_what_is_due();
    let plan = cluster.plan();
    for step in plan.steps.iter().chain(&plan.steps) {
        cluster.apply(step);
    }
    let rolls = cluster.rolls.len();
    cluster.settle();
    assert_eq!(cluster.rolls.len(), rolls);
    assert!(!cluster.workload("shop", "api").attached().is_empty());
}
