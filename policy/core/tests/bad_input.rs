//! Input that cannot be worked with: each ends in one clear sentence that names the object and the fix, and loses nothing.
#![allow(clippy::unwrap_used)]

mod support;

use policy_core::names::{CONTAINERS_ANNOTATION, MUTATION_MODE_ANNOTATION};
use policy_core::{Settings, StateRead, Verdict};
use serde_json::{Value, json};
use support::*;

#[test]
fn an_unknown_mutation_mode_is_refused_with_the_two_valid_values() {
    for value in ["Ignore", "ignore ", "", "detach"] {
        let object = annotated(deployment(), MUTATION_MODE_ANNOTATION, value);
        let expected = format!(
            "annotation scout.commandk.dev/mutation-mode of Deployment shop/api is {value:?}: use \"ignore\" or \"ignore-and-detach\", or remove it"
        );
        assert_eq!(rejection(&create(&object), &missing()), expected);
    }
}

#[test]
fn a_container_that_does_not_exist_is_refused_with_those_that_do() {
    let of = |list: &str| rejection(&create(&annotated(deployment(), CONTAINERS_ANNOTATION, list)), &missing());
    assert_eq!(
        of("api,sidecar"),
        "annotation scout.commandk.dev/containers of Deployment shop/api names \"sidecar\", which is no container of it: it has migrate, api; correct the list, or remove the annotation to mean all"
    );
    assert!(of(" , ").contains("names no container: it has migrate, api"));
}

#[test]
fn a_volume_name_that_the_manifest_uses_itself_is_refused_with_both_names() {
    let own = json!([{"name": "scout-checkout", "emptyDir": {}}]);
    let object = with(deployment(), &["spec", "template", "spec", "volumes"], own);
    assert_eq!(
        rejection(&create(&object), &state([files("checkout", "1", "/secrets")])),
        "Deployment shop/api: the manifest has a volume of its own named scout-checkout, which is the volume of app checkout of Scout: rename the manifest's volume"
    );
}

#[test]
fn a_mount_path_that_the_manifest_uses_itself_is_refused_with_both_names() {
    for path in ["/cache", "/cache/"] {
        let message = rejection(&create(&deployment()), &state([files("checkout", "1", path)]));
        let expected = format!(
            "Deployment shop/api: container api of the manifest mounts its volume cache at {path}, where app checkout of Scout is mounted: move that mount, or set another mountPath in App checkout and redeploy it"
        );
        assert_eq!(message, expected);
    }
}

#[test]
fn a_malformed_config_map_is_named_with_the_key_and_what_is_wrong_and_nothing_is_lost() {
    let good = config_map([variables("checkout", "1", &["TOKEN"])]);
    let old = created(&deployment(), &StateRead::Found(good.clone()));
    let half = &good["data"]["checkout"].as_str().unwrap()[..20];
    let meta = |text: &str| with(good.clone(), &["data", "meta"], text);
    for (config_map, problem) in [
        (with(good.clone(), &["data", "checkout"], half), "data.checkout of ConfigMap desired-state.shop is malformed"),
        (with(good.clone(), &["data", "UPPER"], "{}"), "data.UPPER of ConfigMap desired-state.shop is for no app"),
        (meta(r#"{"schema":7}"#), "ConfigMap desired-state.shop has schema 7, and this version reads schema 1"),
        (
            meta(r#"{"environment":"production","namespace":"other","schema":1}"#),
            "ConfigMap desired-state.shop says that it is for namespace other",
        ),
        (json!({"data": {}}), "ConfigMap desired-state.shop has no data.meta: it was not written by host-sync"),
        (json!(["not", "a", "ConfigMap"]), "ConfigMap desired-state.shop has no data.meta"),
    ] {
        let state = StateRead::Found(config_map);
        let (object, warnings) = admitted(&update(&old, &touched(old.clone(), 1)), &state);
        assert_eq!(object, touched(old.clone(), 1));
        let message = rejection(&create(&deployment()), &state);
        for sentence in [&warnings[0], &message] {
            assert!(sentence.contains(problem), "{sentence}");
        }
        let upgrade = problem.contains("schema 7");
        let fix = if upgrade { "upgrade the policy and host-sync together" } else { "delete that ConfigMap" };
        assert!(message.contains("Deployment shop/api") && message.contains(fix), "{message}");
    }
}

#[test]
fn a_payload_that_is_no_admission_request_is_refused_with_what_it_lacks() {
    let request = create(&deployment());
    for (request, problem) in [
        (json!("request"), "the admission request is not a JSON object"),
        (with(request.clone(), &["operation"], Value::Null), "the admission request names no operation"),
        (with(request.clone(), &["kind"], "Deployment"), "the admission request names no kind"),
        (with(request, &["namespace"], ""), "the admission request for a Deployment names no namespace"),
    ] {
        assert_eq!(rejection(&request, &missing()), problem);
    }
}

#[test]
fn a_request_of_one_mebibyte_is_admitted_like_any_other() {
    let mut object = annotated(deployment(), "example.com/large", &"x".repeat(1 << 20));
    let many: Vec<Value> = (0..2000).map(|n| json!({"name": format!("V{n}"), "value": "x"})).collect();
    object["spec"]["template"]["spec"]["containers"][0]["env"] = many.into();
    let object = created(&object, &state([variables("checkout", "1", &["TOKEN"])]));
    assert_eq!(env(&object, 0).len(), 2001);
}

#[test]
fn odd_values_where_kubernetes_has_maps_or_lists_are_left_to_the_api_server() {
    let odd = [json!("text"), json!(7), json!([1]), json!([{"name": 7}]), json!({"a": 1})];
    let state = state([variables("checkout", "1", &["TOKEN"]), files("web", "1", "/secrets")]);
    for value in odd {
        for pointer in [
            &["metadata", "annotations"][..],
            &["metadata", "labels"],
            &["spec", "template", "metadata"],
            &["spec", "template", "metadata", "labels"],
            &["spec", "template", "spec", "volumes"],
            &["spec", "template", "spec", "containers", "0", "env"],
            &["spec", "template", "spec", "containers", "0", "volumeMounts"],
        ] {
            let object = with(deployment(), pointer, value.clone());
            let verdict = admit_with(&Settings::default(), &create(&object), &state).0;
            assert!(!matches!(verdict, Verdict::Reject { .. }), "{object}: {verdict:?}");
        }
    }
}
