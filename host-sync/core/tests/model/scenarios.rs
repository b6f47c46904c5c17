//! One situation each, told step by step.

use host_sync_core::config::Reload;
use policy_core::attachment::Strategy;

use crate::cluster::{Cluster, named};

/// One namespace `shop` in production, one Deployment `api`, linked by the App `checkout`.
fn shop(strategy: Strategy, reload: Reload) -> Cluster {
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

#[test]
fn a_changed_value_rolls_a_workload_once() {
    let mut cluster = shop(Strategy::EnvironmentVariables, Reload::Auto);
    let before = cluster.rolls.len();
    cluster.save("checkout", "production", &[("TOKEN", "two")]);
    cluster.settle();
    assert_eq!(cluster.rolls.len(), before + 1);
}
