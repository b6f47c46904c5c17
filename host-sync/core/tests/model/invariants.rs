//! DESIGN §7 on random histories. I1 to I5, I7 and I8 are checked at every admission and every step of the model; each test
//! here looks for one of them with what threatens it most, and checks what must hold at rest.

use host_sync_core::config::Mode;
use host_sync_core::plan;
use host_sync_core::snapshot::MutationMode;
use policy_core::attachment::Attachments;
use policy_core::desired_state::{Apply, Injection};
use policy_core::matching::Workload;
use policy_core::matching::{attachment, matches};
use policy_core::names::WorkloadKind;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::actions::{Act, Without, act, busy_cluster};
use crate::cluster::Cluster;

/// Half as many histories as proptest tries by default, for the sake of a busy machine; `PROPTEST_CASES` asks for more.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases / 2, failure_persistence: None, ..default }
}

fn after(acts: &[Act]) -> Cluster {
    let mut cluster = busy_cluster();
    for act in acts {
        cluster.act(act);
        cluster.check_frozen();
    }
    cluster
}

/// What the policy would attach if it looked at each workload now, for the apps under Auto.
fn check_attached(cluster: &Cluster) {
    for ((namespace, name), deployment) in &cluster.workloads {
        // The webhook is silent where there is no label, and everything stays as it is.
        let labelled = cluster.namespaces[namespace].environment.is_some();
        let Some(state) = cluster.state(namespace).filter(|_| labelled) else { continue };
        let facts = deployment.facts(name);
        let workload = Workload { kind: WorkloadKind::Deployment, name, labels: &facts.labels };
        let attached = deployment.attached();
        assert_eq!(attached, facts.attached, "the record of {namespace}/{name} is not what its template holds");
        match facts.mode {
            MutationMode::Ignore => {}
            MutationMode::IgnoreAndDetach => assert_eq!(attached, Attachments::default(), "I5: {namespace}/{name}"),
            MutationMode::Normal => {
                let matches = matches(&state, workload).entries;
                for (app, entry) in &matches {
                    if entry.apply == Apply::Immediately {
                        let wanted = attachment(app, entry, workload);
                        assert_eq!(attached.of_app(app), Some(&wanted), "I10: {namespace}/{name} stays behind");
                    }
                }
                let stray = attached.iter().find(|one| !matches.contains_key(&one.app));
                assert_eq!(stray, None, "I5: {namespace}/{name} holds what nothing links");
            }
        }
    }
}

/// Each delivered entry is what the store holds now, in the Secrets of all that follow.
fn check_content(cluster: &Cluster) {
    for (name, app) in &cluster.apps {
        for (environment, config) in &app.environments {
            let stored = cluster.stored(&config.source).unwrap();
            for namespace in
                config.links.keys().filter(|one| cluster.namespaces[*one].environment.as_ref() == Some(environment))
            {
                let state = cluster.state(namespace).unwrap();
                let Some(entry) = state.apps.get(name) else { continue };
                assert_eq!(&entry.environment, environment, "{namespace} did not switch");
                let secrets: Vec<String> = match &entry.injection {
                    Injection::EnvironmentVariables { secret, .. } | Injection::RevisionOnly { secret } => {
                        vec![secret.clone()]
                    }
                    Injection::VolumeMount { .. } => {
                        let following = cluster.workloads.iter().filter(|((of, workload), one)| {
                            let facts = one.facts(workload);
                            of == namespace
                                && facts.mode == MutationMode::Normal
                                && entry.matches(facts.kind, workload, &facts.labels)
                        });
                        following.map(|((_, workload), _)| format!("scout.{name}.deployment.{workload}")).collect()
                    }
                };
                for secret in secrets {
                    let facts = cluster.secret(namespace, &secret);
                    assert_eq!(facts.map(|facts| &facts.content), Some(&stored), "I10: Secret {namespace}/{secret}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn i1_i2_i3_i4_i5_hold_at_every_step_and_i9_i10_at_rest(acts in vec(act(Without::Nothing), 1..24)) {
        let mut cluster = after(&acts);
        cluster.settle();
        check_attached(&cluster);
    }

    #[test]
    fn i10_whatever_happened_the_newest_content_arrives(acts in vec(act(Without::Nothing), 1..20)) {
        let mut cluster = after(&acts);
        cluster.repair();
        cluster.settle();
        // What lost a key needs a person's word, and gets it.
        for app in cluster.apps.keys().cloned().collect::<Vec<_>>() {
            cluster.redeploy(app.as_str());
        }
        cluster.settle();
        check_attached(&cluster);
        check_content(&cluster);
    }

    #[test]
    fn i7_no_delivered_secret_loses_a_key_unless_a_person_says_so(acts in vec(act(Without::ConfirmedShrinking), 1..24)) {
        let mut cluster = after(&acts);
        cluster.settle();
        prop_assert!(!cluster.may_shrink);
    }

    #[test]
    fn i8_no_record_holds_a_value(acts in vec(act(Without::Nothing), 1..16)) {
        let cluster = after(&acts);
        let objects: Vec<_> = cluster.workloads.values().map(|one| &one.object).collect();
        let shown = format!("{:?} {:?} {objects:?}", cluster.states, cluster.histories);
        prop_assert!(!shown.contains("value-"), "{shown}");
    }

    #[test]
    fn the_order_in_which_workloads_are_seen_changes_nothing(acts in vec(act(Without::Nothing), 1..16), budget in 0_usize..4) {
        let mut cluster = after(&acts);
        cluster.limits.rollouts_in_flight = budget;
        let snapshot = cluster.look_up();
        let mut reversed = snapshot.clone();
        for workloads in reversed.workloads.values_mut() {
            workloads.reverse();
        }
        let one = plan::plan(&snapshot, &cluster.key, &cluster.limits, cluster.now);
        let other = plan::plan(&reversed, &cluster.key, &cluster.limits, cluster.now);
        prop_assert_eq!(one.steps, other.steps);
        prop_assert_eq!(one.outcomes, other.outcomes);
        prop_assert_eq!(one.reports, other.reports);
    }

    #[test]
    fn i5_a_deleted_app_without_links_leaves_nothing_behind(acts in vec(act(Without::Nothing), 1..16)) {
        let mut cluster = after(&acts);
        cluster.repair();
        for ((namespace, name), _) in cluster.workloads.clone() {
            cluster.set_mode(&namespace, &name, None);
        }
        for app in cluster.apps.keys().cloned().collect::<Vec<_>>() {
            for config in cluster.app(app.as_str()).environments.values_mut() {
                config.links.clear();
                config.mode = Mode::Agent;
            }
            cluster.delete_app(app.as_str());
        }
        cluster.settle();
        prop_assert!(cluster.apps.is_empty(), "{:?}", cluster.apps.keys());
        prop_assert!(cluster.secrets.is_empty(), "{:?}", cluster.secrets.keys());
        for (key, deployment) in &cluster.workloads {
            prop_assert!(!deployment.object.to_string().contains("scout-"), "{:?}: {}", key, deployment.template());
            prop_assert!(crate::admission::secrets_in(deployment.template()).is_empty(), "{:?}", key);
        }
    }
}
