//! What an admission does to a Deployment, case by case (DESIGN §5–6).
#![allow(clippy::unwrap_used)]

mod support;

use policy_core::names::{ATTACHED_ANNOTATION, ATTACHMENTS_ANNOTATION, REQUESTED_ANNOTATION};
use policy_core::settings::OnMissingState;
use policy_core::{Settings, StateRead, Verdict};
use serde_json::{Value, json};
use support::*;

#[test]
fn create_attaches_variables_to_every_container_and_init_container() {
    let state = state([variables("checkout", "4f9a", &["DB_URL", "TOKEN"])]);
    let source = |key: &str| json!({"secretKeyRef": {"name": "scout.checkout.4f9a", "key": key}});
    let own = json!({"name": "LOG_LEVEL", "value": "info"});
    let db_url = json!({"name": "DB_URL", "valueFrom": source("DB_URL")});
    let token = json!({"name": "TOKEN", "valueFrom": source("TOKEN")});
    let record =
        r#"[{"app":"checkout","revision":"4f9a","secret":"scout.checkout.4f9a","strategy":"EnvironmentVariables"}]"#;
    let pods = ["spec", "template", "spec"];
    let mut expected =
        with(deployment(), &[&pods[..], &["containers", "0", "env"]].concat(), json!([own, db_url, token]));
    expected = with(expected, &[&pods[..], &["initContainers", "0", "env"]].concat(), json!([db_url, token]));
    expected = with(expected, &["spec", "template", "metadata", "annotations", ATTACHMENTS_ANNOTATION], record);
    expected = with(expected, &["spec", "template", "metadata", "labels", "scout.commandk.dev/checkout"], "4f9a");
    expected = annotated(expected, ATTACHED_ANNOTATION, record);
    assert_eq!(created(&deployment(), &state), expected);
}

#[test]
fn create_attaches_files_as_a_read_only_mount_of_the_workloads_own_secret() {
    let object = created(&deployment(), &state([files("checkout", "4f9a", "/secrets")]));
    let pods = &template(&object)["spec"];
    let mount = json!({"name": "scout-checkout", "mountPath": "/secrets", "readOnly": true});
    assert_eq!(pods["containers"][0]["volumeMounts"], json!([{"name": "cache", "mountPath": "/cache"}, mount]));
    assert_eq!(pods["initContainers"][0]["volumeMounts"], json!([mount]));
    let source = json!({"secretName": "scout.checkout.deployment.api", "defaultMode": 420});
    assert_eq!(pods["volumes"][1], json!({"name": "scout-checkout", "secret": source}));
}

#[test]
fn an_entry_for_another_workload_leaves_this_one_alone() {
    let other = with(deployment(), &["metadata", "name"], "worker");
    assert_eq!(created(&other, &state([variables("checkout", "4f9a", &["TOKEN"])])), other);
}

#[test]
fn a_selector_link_attaches_a_workload_at_its_create_and_lets_go_when_the_label_goes() {
    let mut config_map = config_map([variables("checkout", "4f9a", &["TOKEN"])]);
    let by_selector = |entry: &str| entry.replace(r#""name":"api""#, r#""selector":{"matchLabels":{"tier":"web"}}"#);
    config_map["data"]["checkout"] = by_selector(config_map["data"]["checkout"].as_str().unwrap()).into();
    let state = StateRead::Found(config_map);
    let attached = created(&deployment(), &state);
    assert_eq!(attachments(&attached).iter().count(), 1);
    let relabelled = with(attached.clone(), &["metadata", "labels", "tier"], "batch");
    assert_eq!(updated(&attached, &relabelled, &state), with(deployment(), &["metadata", "labels", "tier"], "batch"));
}

#[test]
fn a_new_revision_replaces_the_old_one_where_it_stands() {
    let old = created(&deployment(), &state([variables("checkout", "1", &["A", "B"])]));
    let pushed = json!({"name": "LATER", "value": "x"});
    let mut new = touched(old.clone(), 1);
    new["spec"]["template"]["spec"]["containers"][0]["env"].as_array_mut().unwrap().push(pushed);
    let object = updated(&old, &new, &state([variables("checkout", "2", &["B", "C"])]));
    let expected = [("LOG_LEVEL", "info"), ("B", "scout.checkout.2"), ("LATER", "x"), ("C", "scout.checkout.2")];
    assert_eq!(env(&object, 0), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(template(&object)["metadata"]["labels"]["scout.commandk.dev/checkout"], "2");
}

#[test]
fn scaling_status_and_foreign_annotations_are_accepted_without_reading_the_desired_state() {
    let old = created(&deployment(), &state([variables("checkout", "1", &["TOKEN"])]));
    let later = state([variables("checkout", "2", &["TOKEN"])]);
    for new in [
        old.clone(),
        with(old.clone(), &["spec", "replicas"], 9),
        with(old.clone(), &["status"], json!({"readyReplicas": 2})),
        annotated(old.clone(), "deployment.kubernetes.io/revision", "7"),
        with(old.clone(), &["metadata", "managedFields"], json!([{"manager": "kubectl"}])),
    ] {
        let verdict = admit_with(&Settings::default(), &update(&old, &new), &later);
        assert_eq!(verdict, (Verdict::Accept { warnings: vec![] }, false));
    }
}

#[test]
fn the_template_the_labels_and_scouts_annotations_are_what_the_desired_state_is_read_for() {
    let old = created(&deployment(), &state([variables("checkout", "1", &["TOKEN"])]));
    let restarted = ["spec", "template", "metadata", "annotations", "kubectl.kubernetes.io/restartedAt"];
    for new in [
        with(old.clone(), &restarted, "now"),
        with(old.clone(), &["metadata", "labels", "tier"], "batch"),
        touched(old.clone(), 1),
        annotated(old.clone(), ATTACHED_ANNOTATION, "[]"),
    ] {
        assert!(admit_with(&Settings::default(), &update(&old, &new), &missing()).1, "{new}");
    }
}

#[test]
fn under_manual_a_touch_changes_nothing_and_a_restart_brings_the_new_revision() {
    let manual_state = |revision| state([manual(variables("checkout", revision, &["TOKEN"]))]);
    let old = created(&deployment(), &manual_state("1"));
    let touched = touched(old.clone(), 1);
    assert_eq!(updated(&old, &touched, &manual_state("2")), touched);
    let restarted = ["spec", "template", "metadata", "annotations", "kubectl.kubernetes.io/restartedAt"];
    let object = updated(&old, &with(old.clone(), &restarted, "now"), &manual_state("2"));
    assert_eq!(env(&object, 0)[1], ("TOKEN".to_owned(), "scout.checkout.2".to_owned()));
}

#[test]
fn under_manual_a_changed_strategy_waits_too() {
    let old = created(&deployment(), &state([manual(variables("checkout", "1", &["TOKEN"]))]));
    let files = state([manual(files("checkout", "2", "/secrets"))]);
    let touched = touched(old.clone(), 1);
    assert_eq!(updated(&old, &touched, &files), touched);
}

#[test]
fn under_manual_a_workload_without_attachments_is_attached_at_its_next_admission() {
    let state = state([manual(variables("checkout", "1", &["TOKEN"]))]);
    let object = updated(&deployment(), &touched(deployment(), 1), &state);
    assert_eq!(attachments(&object).iter().count(), 1);
}

#[test]
fn a_changed_strategy_leaves_nothing_of_the_old_one() {
    for (from, to) in [
        (variables("checkout", "1", &["TOKEN"]), files("checkout", "2", "/secrets")),
        (files("checkout", "1", "/secrets"), variables("checkout", "2", &["TOKEN"])),
        (files("checkout", "1", "/secrets"), files("checkout", "2", "/elsewhere")),
        (variables("checkout", "1", &["TOKEN"]), revision_only("checkout", "2")),
    ] {
        let old = created(&deployment(), &state([from]));
        let object = updated(&old, &touched(old.clone(), 1), &state([to.clone()]));
        assert_eq!(object, touched(created(&deployment(), &state([to])), 1));
    }
}

#[test]
fn a_renamed_app_takes_the_place_of_the_old_one() {
    let old = created(&deployment(), &state([variables("checkout", "1", &["TOKEN"])]));
    let renamed = state([variables("payments", "1", &["TOKEN"])]);
    assert_eq!(updated(&old, &touched(old.clone(), 1), &renamed), touched(created(&deployment(), &renamed), 1));
}

#[test]
fn a_desired_state_without_the_workload_strips_it_under_manual_as_well() {
    let old = created(&deployment(), &state([manual(files("checkout", "1", "/secrets"))]));
    assert_eq!(updated(&old, &touched(old.clone(), 1), &state([])), touched(deployment(), 1));
}

#[test]
fn ignore_keeps_what_the_old_object_had_whatever_the_new_one_says() {
    let frozen = state([variables("checkout", "1", &["TOKEN"]), files("web", "1", "/secrets")]);
    let old = created(&deployment(), &frozen);
    for new in [old.clone(), deployment(), created(&deployment(), &state([variables("checkout", "2", &["TOKEN"])]))] {
        let (verdict, read) = admit_with(&Settings::default(), &update(&old, &ignored(new)), &missing());
        let Verdict::Mutate { object, .. } = verdict else {
            assert_eq!(verdict, Verdict::Accept { warnings: vec![] });
            continue;
        };
        assert_eq!(object, ignored(old.clone()));
        assert!(!read);
    }
}

#[test]
fn ignore_at_create_attaches_nothing_not_even_what_a_copied_manifest_brings() {
    let copied = created(&deployment(), &state([variables("checkout", "1", &["TOKEN"])]));
    assert_eq!(created(&ignored(copied), &missing()), ignored(deployment()));
}

#[test]
fn ignore_and_detach_restores_the_manifest_and_removing_the_annotation_attaches_again() {
    let state = state([variables("checkout", "1", &["TOKEN"]), files("web", "1", "/secrets")]);
    let attached = created(&deployment(), &state);
    let old = touched(attached.clone(), 3);
    let (verdict, read) = admit_with(&Settings::default(), &update(&old, &detached(old.clone())), &missing());
    let Verdict::Mutate { object, .. } = verdict else { panic!("{verdict:?}") };
    assert_eq!(object, detached(deployment()));
    assert!(!read);
    assert_eq!(updated(&object, &deployment(), &state), attached);
}

#[test]
fn an_unreadable_desired_state_never_strips() {
    let old = created(&deployment(), &state([variables("checkout", "1", &["TOKEN"])]));
    let malformed = StateRead::Found(json!({"data": {"meta": "{"}}));
    let later_schema = StateRead::Found(json!({"data": {"meta": r#"{"schema":2}"#}}));
    for state in [missing(), malformed, later_schema] {
        let (object, warnings) = admitted(&update(&old, &deployment()), &state);
        assert_eq!(object, old, "replaced by its own manifest, and attached again");
        assert!(warnings[0].contains("keeps what Scout attached before"), "{warnings:?}");
        let message = rejection(&create(&deployment()), &state);
        assert!(message.contains("Deployment shop/api would start without its secrets"), "{message}");
    }
}

#[test]
fn where_the_settings_accept_a_create_without_a_desired_state_it_starts_with_nothing_attached() {
    let settings = Settings { on_missing_state: OnMissingState::Accept, ..Settings::default() };
    let copied = created(&deployment(), &state([variables("checkout", "1", &["TOKEN"])]));
    let (verdict, _) = admit_with(&settings, &create(&copied), &missing());
    let Verdict::Mutate { object, warnings } = verdict else { panic!("{verdict:?}") };
    assert_eq!(object, deployment());
    assert!(warnings[0].contains("starts without secrets until host-sync attaches them"), "{warnings:?}");
}

#[test]
fn a_variable_that_the_manifest_sets_wins_with_a_warning() {
    let (object, warnings) =
        admitted(&create(&deployment()), &state([variables("checkout", "1", &["LOG_LEVEL", "TOKEN"])]));
    assert_eq!(env(&object, 0)[0], ("LOG_LEVEL".to_owned(), "info".to_owned()));
    let warning = "Deployment shop/api: container api sets the variable LOG_LEVEL itself, so it does not get the one of app checkout of Scout";
    assert_eq!(warnings, [warning]);
    assert_eq!(template(&object)["spec"]["initContainers"][0]["env"][0]["name"], "LOG_LEVEL");
}

/// `kubectl apply` merges a manifest's new variable into the entry of that name: what it sends has both sources.
#[test]
fn what_kubectl_apply_merges_into_scouts_variable_is_the_manifests() {
    let state = state([variables("checkout", "1", &["TOKEN"])]);
    let old = created(&deployment(), &state);
    let merged = ["spec", "template", "spec", "containers", "0", "env", "1"];
    let reference = json!({"name": "own", "key": "token"});
    for (field, own, expected) in [
        (&["value"][..], json!("x"), json!({"name": "TOKEN", "value": "x"})),
        (
            &["valueFrom", "configMapKeyRef"],
            reference.clone(),
            json!({"name": "TOKEN", "valueFrom": {"configMapKeyRef": reference}}),
        ),
    ] {
        let new = with(old.clone(), &[&merged[..], field].concat(), own);
        let (object, warnings) = admitted(&update(&old, &new), &state);
        assert_eq!(template(&object)["spec"]["containers"][0]["env"][1], expected);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
    }
}

#[test]
fn kubectl_replace_with_the_original_manifest_ends_in_the_same_object() {
    let state = state([variables("checkout", "1", &["TOKEN"]), files("web", "1", "/secrets")]);
    let old = created(&deployment(), &state);
    assert_eq!(updated(&old, &deployment(), &state), old);
}

#[test]
fn a_rollback_to_an_older_template_gets_the_current_revision() {
    let before = created(&deployment(), &state([variables("checkout", "1", &["TOKEN"])]));
    let now = state([variables("checkout", "2", &["TOKEN"])]);
    let old = updated(&before, &touched(before.clone(), 1), &now);
    let undone = with(old.clone(), &["spec", "template"], template(&before).clone());
    assert_eq!(updated(&old, &undone, &now), old);
}

#[test]
fn a_forged_record_neither_takes_the_users_own_entries_nor_keeps_anything() {
    let own = json!([{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "own", "key": "password"}}}]);
    let user = with(deployment(), &["spec", "template", "spec", "containers", "0", "env"], own);
    let forged = r#"[{"app":"checkout","revision":"9","secret":"own","strategy":"EnvironmentVariables"}]"#;
    let record = ["spec", "template", "metadata", "annotations", ATTACHMENTS_ANNOTATION];
    let new = annotated(with(user.clone(), &record, forged), ATTACHED_ANNOTATION, forged);
    assert_eq!(created(&new, &state([])), user);
    assert_eq!(updated(&user, &new, &missing()), user);
    assert_eq!(updated(&user, &ignored(new.clone()), &missing()), ignored(user.clone()));
    assert_eq!(updated(&user, &detached(new), &missing()), detached(user));
}

#[test]
fn mounts_whose_volume_somebody_took_out_are_still_scouts() {
    let state = state([files("checkout", "1", "/secrets")]);
    let old = created(&deployment(), &state);
    let new = with(old.clone(), &["spec", "template", "spec", "volumes"], json!([{"name": "cache", "emptyDir": {}}]));
    assert_eq!(updated(&old, &new, &state), old);
    assert_eq!(updated(&old, &detached(new), &state), detached(deployment()));
}

#[test]
fn what_a_template_holds_is_known_from_the_old_object_when_somebody_takes_the_record_out() {
    let old = created(&deployment(), &state([variables("checkout", "1", &["TOKEN"])]));
    let mut new = old.clone();
    new["spec"]["template"]["metadata"].as_object_mut().unwrap().remove("annotations");
    assert_eq!(updated(&old, &detached(new.clone()), &missing()), detached(deployment()));
    let later = updated(&old, &new, &state([variables("checkout", "2", &["TOKEN"])]));
    assert_eq!(env(&later, 0)[1], ("TOKEN".to_owned(), "scout.checkout.2".to_owned()));
}

#[test]
fn operator_mode_leaves_the_template_alone_but_for_the_revision_under_auto() {
    let (name, revision) = ("checkout", "4f9a");
    let object = created(&deployment(), &state([revision_only(name, revision)]));
    let record = r#"[{"app":"checkout","revision":"4f9a","secret":"checkout"}]"#;
    assert_eq!(template(&object)["metadata"]["annotations"], json!({ATTACHMENTS_ANNOTATION: record}));
    assert_eq!(template(&object)["spec"], template(&deployment())["spec"]);
    assert_eq!(created(&deployment(), &state([manual(revision_only(name, revision))])), deployment());
}

#[test]
fn of_two_apps_with_one_variable_the_first_by_name_has_it_and_both_are_named() {
    let both = state([variables("web", "1", &["TOKEN", "WEB"]), variables("checkout", "1", &["TOKEN"])]);
    let (object, warnings) = admitted(&create(&deployment()), &both);
    let expected = [("TOKEN", "scout.checkout.1"), ("WEB", "scout.web.1")];
    assert_eq!(env(&object, 0)[1..], expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let warning = "Deployment shop/api: apps checkout and web both deliver the variable TOKEN: checkout has it; rename it in App web (environments[].keys[].as)";
    assert_eq!(warnings, [warning]);
}

#[test]
fn of_two_apps_with_one_mount_path_the_first_by_name_is_attached() {
    let both = state([files("web", "1", "/secrets/"), files("checkout", "1", "/secrets")]);
    let (object, warnings) = admitted(&create(&deployment()), &both);
    assert_eq!(attachments(&object).iter().map(|one| one.app.as_str()).collect::<Vec<_>>(), ["checkout"]);
    assert!(warnings[0].contains("apps checkout and web both mount /secrets/"), "{warnings:?}");
}

/// What the desired state does not show: checkout waits at its old path, and web arrives there.
#[test]
fn an_app_that_arrives_at_the_path_of_one_that_waits_is_not_attached_and_says_so() {
    let old = created(&deployment(), &state([manual(files("checkout", "1", "/secrets"))]));
    let now = state([manual(files("checkout", "2", "/moved")), files("web", "1", "/secrets")]);
    let (object, warnings) = admitted(&update(&old, &touched(old.clone(), 1)), &now);
    assert_eq!(object, touched(old, 1));
    assert!(warnings[0].contains("app web of Scout is not attached"), "{warnings:?}");
}

#[test]
fn the_containers_annotation_chooses_in_any_order_and_spelling() {
    let state = state([variables("checkout", "1", &["TOKEN"])]);
    let two = json!([{"name": "api", "image": "api"}, {"name": "proxy", "image": "proxy"}]);
    let object = with(deployment(), &["spec", "template", "spec", "containers"], two);
    for list in ["api,migrate", " migrate , api,"] {
        let object = created(&annotated(object.clone(), "scout.commandk.dev/containers", list), &state);
        let pods = &template(&object)["spec"];
        assert!(pods["initContainers"][0].get("env").is_some());
        assert!(pods["containers"][0].get("env").is_some());
        assert!(pods["containers"][1].get("env").is_none());
    }
}

#[test]
fn a_generated_name_is_attached_to_nothing_with_a_warning() {
    let mut object = with(deployment(), &["metadata", "generateName"], "api-");
    object["metadata"].as_object_mut().unwrap().remove("name");
    let (stored, warnings) = admitted(&create(&object), &missing());
    assert_eq!(stored, object);
    assert!(warnings[0].starts_with("Deployment shop/api- has a generated name"), "{warnings:?}");
    let mut copied = created(&deployment(), &state([files("checkout", "1", "/secrets")]));
    copied["metadata"] = object["metadata"].clone();
    assert_eq!(created(&copied, &missing()), object, "the files of the workload that it is a copy of");
}

#[test]
fn a_create_whose_request_has_no_name_goes_by_the_objects_own() {
    let state = state([variables("checkout", "1", &["TOKEN"])]);
    let request = with(create(&deployment()), &["name"], "");
    assert_eq!(admitted(&request, &state).0, created(&deployment(), &state));
}

#[test]
fn null_lists_are_empty_lists() {
    let object = with(deployment(), &["spec", "template", "spec", "containers", "0", "env"], Value::Null);
    let object = created(&object, &state([variables("checkout", "1", &["TOKEN"])]));
    assert_eq!(env(&object, 0), [("TOKEN".to_owned(), "scout.checkout.1".to_owned())]);
}

/// Admission comes before validation: the API server refuses these, in its own words.
#[test]
fn what_has_no_containers_is_accepted_unchanged() {
    for object in [
        json!({}),
        with(deployment(), &["spec"], Value::Null),
        with(deployment(), &["spec", "template"], json!([])),
        with(deployment(), &["spec", "template", "spec"], json!({"containers": []})),
        with(deployment(), &["spec", "template", "spec"], json!({"containers": {"name": "api"}})),
    ] {
        let verdict = admit_with(&Settings::default(), &create(&object), &missing());
        assert_eq!(verdict, (Verdict::Accept { warnings: vec![] }, false), "{object}");
    }
}

#[test]
fn requests_that_are_not_about_a_deployment_pass() {
    let request = create(&deployment());
    for other in [
        with(request.clone(), &["operation"], "DELETE"),
        with(request.clone(), &["operation"], "CONNECT"),
        with(request.clone(), &["subResource"], "status"),
        with(request.clone(), &["kind", "kind"], "ReplicaSet"),
        with(request.clone(), &["kind", "group"], "extensions"),
        with(request.clone(), &["object"], Value::Null),
    ] {
        assert_eq!(admit(&other, &missing()), Verdict::Accept { warnings: vec![] }, "{other}");
    }
}

#[test]
fn a_touch_of_a_workload_that_nothing_is_wanted_of_leaves_only_the_touch() {
    let object = updated(&deployment(), &touched(deployment(), 1), &state([]));
    assert_eq!(object["metadata"]["annotations"], json!({REQUESTED_ANNOTATION: "0123456789.1"}));
}
