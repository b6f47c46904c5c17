//! One situation each: delivering, capturing, freezing, detaching.

use host_sync_core::config::{Mode, Reload};
use host_sync_core::plan::Outcome;
use host_sync_core::secret_bytes::Content;
use host_sync_core::snapshot::SecretFacts;
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

fn revision(cluster: &Cluster, namespace: &str, app: &str) -> String {
    cluster.state(namespace).unwrap().apps[&app_name(app)].revision.to_string()
}

fn attached_secret(cluster: &Cluster, name: &str) -> Option<String> {
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
fn a_missing_key_keeps_the_last_delivered_secret_until_a_redeploy_confirms_it() {
    let mut cluster = shop(Strategy::EnvironmentVariables, Reload::Auto);
    cluster.save("checkout", "production", &[("TOKEN", "one"), ("USER", "one")]);
    cluster.settle();
    cluster.save("checkout", "production", &[("TOKEN", "two")]);
    assert_eq!(cluster.pass(), Vec::<String>::new());
    let (reason, message) = problems(&cluster, "checkout").remove(0);
    assert_eq!(reason, "KeysMissing");
    assert!(message.contains("lacks USER") && message.contains("redeploy of App checkout"), "{message}");
    for crash in 0..6 {
        let mut cluster = cluster.clone();
        cluster.redeploy("checkout");
        cluster.pass_until(Some(crash));
        cluster.settle();
        let secret = attached_secret(&cluster, "api").unwrap();
        assert_eq!(cluster.secret("shop", &secret).unwrap().content.len(), 1, "crash before step {crash}");
    }
}

#[test]
fn a_store_that_fails_or_returns_nothing_changes_nothing() {
    let mut cluster = shop(Strategy::VolumeMount, Reload::Auto);
    cluster.fail("checkout", "production");
    assert_eq!(cluster.pass(), Vec::<String>::new());
    assert_eq!(problems(&cluster, "checkout")[0].0, "Unavailable");
    cluster.save("checkout", "production", &[]);
    assert_eq!(cluster.pass(), Vec::<String>::new());
    assert_eq!(problems(&cluster, "checkout")[0].0, "ContentRefused");
}

#[test]
fn a_key_that_kubernetes_cannot_hold_refuses_the_whole_delivery() {
    let mut cluster = shop(Strategy::EnvironmentVariables, Reload::Auto);
    cluster.save("checkout", "production", &[("TOKEN", "two"), ("not a key", "two")]);
    assert_eq!(cluster.pass(), Vec::<String>::new());
    assert!(problems(&cluster, "checkout")[0].1.contains("\"not a key\""));
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
fn an_operators_secret_of_the_same_name_is_never_written_over() {
    let mut cluster = shop(Strategy::VolumeMount, Reload::Auto);
    cluster.link("checkout", "production", "shop", named("web"));
    let foreign = SecretFacts { content: Content::default(), owner: None, revision: None };
    cluster.secrets.insert(("shop".into(), "scout.checkout.deployment.web".into()), foreign.clone());
    assert_eq!(cluster.pass(), Vec::<String>::new());
    let (reason, message) = problems(&cluster, "checkout").remove(0);
    assert_eq!(reason, "SecretNotOwned");
    assert!(
        message.contains("Secret shop/scout.checkout.deployment.web") && message.contains("Scout does not own it"),
        "{message}"
    );
    assert_eq!(cluster.secret("shop", "scout.checkout.deployment.web"), Some(&foreign));
}

#[test]
fn the_second_app_that_claims_a_secret_name_is_refused() {
    let mut cluster = shop(Strategy::EnvironmentVariables, Reload::Auto);
    for app in ["cart", "mail"] {
        cluster.create_app(app, Strategy::EnvironmentVariables, Reload::Auto);
        cluster.config(app, "production").mode = Mode::Operator;
        cluster.config(app, "production").secret_name = "shared".into();
        cluster.link(app, "production", "shop", named("api"));
        cluster.save(app, "production", &[("TOKEN", app)]);
    }
    cluster.settle();
    assert_eq!(cluster.secret("shop", "shared").unwrap().owner, Some(app_name("cart")));
    let (reason, message) = problems(&cluster, "mail").remove(0);
    assert_eq!(reason, "SecretNotOwned");
    assert!(message.contains("App cart delivers it"), "{message}");
}

#[test]
fn the_second_of_two_apps_with_one_variable_is_refused() {
    let mut cluster = shop(Strategy::EnvironmentVariables, Reload::Auto);
    cluster.create_app("mail", Strategy::EnvironmentVariables, Reload::Auto);
    cluster.link("mail", "production", "shop", named("api"));
    cluster.save("mail", "production", &[("TOKEN", "mail")]);
    cluster.settle();
    let (reason, message) = problems(&cluster, "mail").remove(0);
    assert_eq!(reason, "Clash");
    assert!(
        message.contains("on Deployment shop/api: apps checkout and mail both deliver the variable TOKEN"),
        "{message}"
    );
    assert!(!cluster.state("shop").unwrap().apps.contains_key(&app_name("mail")));
}

#[test]
fn an_app_that_an_earlier_name_joins_late_is_told_and_still_follows_its_store() {
    let mut cluster = shop(Strategy::EnvironmentVariables, Reload::Auto);
    cluster.create_app("alpha", Strategy::EnvironmentVariables, Reload::Auto);
    cluster.link("alpha", "production", "shop", named("api"));
    cluster.save("alpha", "production", &[("TOKEN", "alpha")]);
    cluster.settle();
    assert_eq!(problems(&cluster, "checkout")[0].0, "Clash");
    assert!(problems(&cluster, "alpha").is_empty());
    let before = revision(&cluster, "shop", "checkout");
    cluster.save("checkout", "production", &[("TOKEN", "two")]);
    cluster.settle();
    assert_ne!(revision(&cluster, "shop", "checkout"), before);
}

#[test]
fn two_apps_at_one_mount_path_are_told_apart_by_name() {
    let mut cluster = shop(Strategy::VolumeMount, Reload::Auto);
    cluster.create_app("mail", Strategy::VolumeMount, Reload::Auto);
    cluster.app("mail").mount_path = "/secrets/checkout/".into();
    cluster.link("mail", "production", "shop", named("api"));
    cluster.save("mail", "production", &[("PASSWORD", "mail")]);
    cluster.settle();
    assert!(problems(&cluster, "mail")[0].1.contains("set another mountPath in App mail"));
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
