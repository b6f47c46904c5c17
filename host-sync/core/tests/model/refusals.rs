//! One situation each: what a delivery is refused for, and that the last one stays.

use host_sync_core::config::{Mode, Reload};
use host_sync_core::secret_bytes::Content;
use host_sync_core::snapshot::SecretFacts;
use policy_core::attachment::Strategy;

use crate::cluster::{app_name, named};
use crate::scenarios::{attached_secret, problems, revision, shop};

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
