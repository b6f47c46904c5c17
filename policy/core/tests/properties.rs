//! What holds for every Deployment and every desired state.
#![allow(clippy::unwrap_used)]

mod support;

use policy_core::desired_state::{Apply, Entry, Injection};
use policy_core::names::{AppName, MUTATION_MODE_ANNOTATION, REQUESTED_ANNOTATION};
use policy_core::{Settings, StateRead, Verdict};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};
use support::*;

const VARIABLES: [&str; 5] = ["A", "B", "C", "D", "E"];
const APPS: [&str; 3] = ["billing", "checkout", "web"];

/// Any JSON, for fields that this version does not know. No empty maps: Kubernetes drops them on its way here.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-zA-Z0-9 \"\\\\é]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 1..3).prop_map(Value::from),
            btree_map("[a-z]{1,4}", inner, 1..3).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn object(fields: Vec<(&str, Option<Value>)>) -> Value {
    let present = fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Value::Object(present.collect::<Map<_, _>>())
}

fn variable() -> impl Strategy<Value = Value> {
    let sources = [
        json!({"value": "x"}),
        json!({"valueFrom": {"secretKeyRef": {"name": "own", "key": "k"}}}),
        json!({"valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}),
    ];
    (select(&["A", "B", "OWN", "LOG"][..]), select(sources.to_vec())).prop_map(|(name, source)| {
        let mut variable = source;
        variable["name"] = name.into();
        variable
    })
}

fn container(name: &'static str) -> impl Strategy<Value = Value> {
    let mount = prop_oneof![Just("/cache"), Just("/data"), Just("/secrets")];
    let mounts = btree_set(mount, 1..3).prop_map(|paths| {
        paths.into_iter().map(|path| json!({"name": "cache", "mountPath": path})).collect::<Vec<_>>().into()
    });
    (
        proptest::option::of(vec(variable(), 1..4).prop_map(Value::from)),
        proptest::option::weighted(0.3, mounts),
        proptest::option::of(anything()),
    )
        .prop_map(move |(env, mounts, unknown)| {
            object(vec![
                ("name", Some(name.into())),
                ("env", env),
                ("volumeMounts", mounts),
                ("unknownToScout", unknown),
            ])
        })
}

fn texts() -> impl Strategy<Value = Value> {
    btree_map("[a-z]{1,3}(\\.io/[a-z]{1,3})?", "[a-z]{1,4}", 1..3)
        .prop_map(|map| Value::Object(map.into_iter().map(|(key, value)| (key, value.into())).collect()))
}

/// Labels and annotations, where there are any.
fn metadata() -> impl Strategy<Value = Option<Value>> {
    (proptest::option::of(texts()), proptest::option::of(texts())).prop_map(|(labels, annotations)| {
        let metadata = object(vec![("labels", labels), ("annotations", annotations)]);
        metadata.as_object().is_some_and(|fields| !fields.is_empty()).then_some(metadata)
    })
}

/// A Deployment as its user wrote it.
fn manifest() -> impl Strategy<Value = Value> {
    let init = proptest::option::of(container("migrate").prop_map(|one| json!([one])));
    let second = proptest::option::of(container("proxy"));
    let volumes = proptest::option::of(Just(json!([{"name": "cache", "emptyDir": {}}])));
    let unknown = (proptest::option::of(anything()), proptest::option::of(anything()));
    (metadata(), metadata(), init, container("api"), second, volumes, unknown).prop_map(
        |(own, pods, init, first, second, volumes, (in_pods, in_spec))| {
            let containers = Some(std::iter::once(first).chain(second).collect());
            let spec = object(vec![
                ("initContainers", init),
                ("containers", containers),
                ("volumes", volumes),
                ("unknownToScout", in_pods),
            ]);
            let template = object(vec![("metadata", pods), ("spec", Some(spec))]);
            let mut metadata = own.unwrap_or_else(|| json!({}));
            metadata["name"] = "api".into();
            let spec = object(vec![("template", Some(template)), ("unknownToScout", in_spec)]);
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec})
        },
    )
}

fn delivery(name: &'static str) -> impl Strategy<Value = (AppName, Entry)> {
    let keys = subsequence(VARIABLES.to_vec(), 1..4);
    let path = prop_oneof![Just("/secrets"), Just("/secrets/"), Just("/run/a"), Just("/run/b")];
    ("[1-9]", any::<bool>(), 0..5, keys, path).prop_map(move |(revision, is_manual, kind, keys, path)| {
        let entry = match kind {
            0 => revision_only(name, &revision),
            1 | 2 => files(name, &revision, path),
            _ => variables(name, &revision, &keys),
        };
        if is_manual { manual(entry) } else { entry }
    })
}

fn deliveries() -> impl Strategy<Value = Vec<(AppName, Entry)>> {
    subsequence(APPS.to_vec(), 0..=APPS.len())
        .prop_flat_map(|apps| apps.into_iter().map(|name| delivery(name).boxed()).collect::<Vec<_>>())
}

/// What the API server stores, unless the policy refuses: a clash with the manifest is the user's to solve.
fn stored(request: &Value, state: &StateRead) -> Option<Value> {
    match admit(request, state) {
        Verdict::Accept { .. } => Some(request["object"].clone()),
        Verdict::Mutate { object, .. } => Some(object),
        Verdict::Reject { message } => {
            assert!(message.contains("of the manifest mounts its volume"), "{message}");
            None
        }
    }
}

fn without_annotation(mut object: Value, annotation: &str) -> Value {
    let metadata = object["metadata"].as_object_mut().unwrap();
    let annotations = metadata["annotations"].as_object_mut().unwrap();
    annotations.remove(annotation);
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
    object
}

fn reversed(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let fields =
                map.iter().rev().map(|(key, value)| format!("{}:{}", Value::from(key.as_str()), reversed(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        }
        Value::Array(list) => format!("[{}]", list.iter().map(reversed).collect::<Vec<_>>().join(",")),
        leaf => leaf.to_string(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, max_global_rejects: 100_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutating_twice_is_mutating_once(manifest in manifest(), deliveries in deliveries()) {
        let state = state(deliveries);
        if let Some(once) = stored(&create(&manifest), &state) {
            prop_assert_eq!(stored(&create(&once), &state), Some(once.clone()));
            let again = touched(once.clone(), 1);
            prop_assert_eq!(stored(&update(&once, &again), &state), Some(again));
        }
    }

    #[test]
    fn detaching_restores_the_manifest_whatever_was_attached(manifest in manifest(), first in deliveries(), then in deliveries()) {
        let Some(old) = stored(&create(&manifest), &state(first)) else { return Ok(()) };
        let Some(now) = stored(&update(&old, &touched(old.clone(), 1)), &state(then)) else { return Ok(()) };
        let detached = stored(&update(&now, &detached(now.clone())), &missing()).unwrap();
        prop_assert_eq!(without_annotation(detached, MUTATION_MODE_ANNOTATION).to_string(), manifest.to_string());
        let stripped = stored(&update(&now, &touched(now.clone(), 2)), &state([])).unwrap();
        prop_assert_eq!(without_annotation(stripped, REQUESTED_ANNOTATION).to_string(), manifest.to_string());
    }

    #[test]
    fn what_the_user_wrote_is_all_there_and_in_its_order(manifest in manifest(), deliveries in deliveries()) {
        fn is_within(own: &Value, all: &Value) -> bool {
            match (own, all) {
                (Value::Object(own), Value::Object(all)) => {
                    own.iter().all(|(key, value)| all.get(key).is_some_and(|other| is_within(value, other)))
                }
                // The user's entries come first: what is added is appended.
                (Value::Array(own), Value::Array(all)) => {
                    own.len() <= all.len() && own.iter().zip(all).all(|(value, other)| is_within(value, other))
                }
                (own, all) => own == all,
            }
        }
        if let Some(object) = stored(&create(&manifest), &state(deliveries)) {
            prop_assert!(is_within(&manifest, &object), "{} in {}", manifest, object);
        }
    }

    #[test]
    fn the_order_of_input_does_not_matter(manifest in manifest(), deliveries in deliveries(), shift in 0..3usize) {
        let straight = config_map(deliveries.clone());
        let mut shifted = deliveries;
        let shift = shift.min(shifted.len());
        shifted.rotate_left(shift);
        let mut shuffled = config_map(shifted);
        for text in shuffled["data"].as_object_mut().unwrap().values_mut() {
            let json: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
            *text = reversed(&json).into();
        }
        let shuffled: Value = serde_json::from_str(&reversed(&shuffled)).unwrap();
        let request: Value = serde_json::from_str(&reversed(&create(&manifest))).unwrap();
        prop_assert_eq!(admit(&create(&manifest), &StateRead::Found(straight)), admit(&request, &StateRead::Found(shuffled)));
    }

    #[test]
    fn nothing_but_the_object_and_the_desired_state_decides(manifest in manifest(), deliveries in deliveries(), noise in anything()) {
        let state = state(deliveries);
        let mut request = create(&manifest);
        let verdict = admit(&request, &state);
        for field in ["uid", "userInfo", "requestKind", "options", "dryRun", "resource"] {
            request[field] = noise.clone();
        }
        prop_assert_eq!(admit(&request, &state), verdict);
    }

    #[test]
    fn what_changes_neither_template_nor_labels_nor_scouts_annotations_reads_nothing(
        manifest in manifest(), deliveries in deliveries(), replicas in 0..9i64, status in anything(),
    ) {
        let Some(old) = stored(&create(&manifest), &state(deliveries)) else { return Ok(()) };
        let mut new = annotated(old.clone(), "deployment.kubernetes.io/revision", "7");
        new["spec"]["replicas"] = replicas.into();
        new["status"] = status;
        let verdict = admit_with(&Settings::default(), &update(&old, &new), &missing());
        prop_assert_eq!(verdict, (Verdict::Accept { warnings: vec![] }, false));
    }

    /// I3. Two apps with one mount path are left out: host-sync refuses to deliver the second.
    #[test]
    fn under_manual_a_touch_never_changes_what_is_attached(manifest in manifest(), first in deliveries(), then in deliveries()) {
        let Some(old) = stored(&create(&manifest), &state(first)) else { return Ok(()) };
        let attached = attachments(&old);
        let is_attached = |(app, _): &(AppName, Entry)| attached.of_app(app).is_some();
        let all_go_on = attached.iter().all(|one| then.iter().any(|(app, _)| *app == one.app));
        let paths: Vec<_> = then.iter().filter_map(|(_, entry)| match &entry.injection {
            Injection::VolumeMount { mount_path } => Some(mount_path.trim_end_matches('/')),
            _ => None,
        }).collect();
        let are_apart = (1..paths.len()).all(|n| !paths[..n].contains(&paths[n]));
        prop_assume!(are_apart && all_go_on && then.iter().all(is_attached));
        let then = state(then.into_iter().map(manual));
        let touched = touched(old.clone(), 1);
        prop_assert_eq!(stored(&update(&old, &touched), &then), Some(touched));
    }

    /// I4.
    #[test]
    fn ignore_keeps_whatever_the_desired_state_and_the_new_template_say(
        manifest in manifest(), first in deliveries(), then in deliveries(),
    ) {
        let Some(old) = stored(&create(&manifest), &state(first)) else { return Ok(()) };
        let Some(other) = stored(&create(&manifest), &state(then.clone())) else { return Ok(()) };
        for new in [old.clone(), manifest, other] {
            let object = stored(&update(&old, &ignored(new)), &state(then.clone())).unwrap();
            prop_assert_eq!(attachments(&object), attachments(&old));
            for container in 0..template(&old)["spec"]["containers"].as_array().unwrap().len() {
                let (mut is, mut was) = (env(&object, container), env(&old, container));
                is.sort();
                was.sort();
                prop_assert_eq!(is, was);
            }
        }
    }

    /// I10: where a workload came from does not show in what it ends up with.
    #[test]
    fn what_is_attached_converges_to_the_desired_state(manifest in manifest(), first in deliveries(), then in deliveries()) {
        let now = |(app, entry): (AppName, Entry)| (app, Entry { apply: Apply::Immediately, ..entry });
        let then = state(then.into_iter().map(now));
        let (Some(old), Some(fresh)) = (stored(&create(&manifest), &state(first)), stored(&create(&manifest), &then)) else {
            return Ok(());
        };
        let object = stored(&update(&old, &touched(old.clone(), 1)), &then).unwrap();
        prop_assert_eq!(attachments(&object), attachments(&fresh));
        for container in 0..template(&fresh)["spec"]["containers"].as_array().unwrap().len() {
            let (mut is, mut ought) = (env(&object, container), env(&fresh, container));
            is.sort();
            ought.sort();
            prop_assert_eq!(is, ought);
        }
    }

    /// I1: nothing of Scout stands in a template that the record does not account for.
    #[test]
    fn every_reference_is_recorded(manifest in manifest(), first in deliveries(), then in deliveries()) {
        let wanted: Vec<String> = then.iter().map(|(_, entry)| match &entry.injection {
            Injection::EnvironmentVariables { secret, .. } | Injection::RevisionOnly { secret } => secret.clone(),
            Injection::VolumeMount { .. } => String::new(),
        }).collect();
        let Some(old) = stored(&create(&manifest), &state(first)) else { return Ok(()) };
        let Some(object) = stored(&update(&old, &touched(old.clone(), 1)), &state(then)) else { return Ok(()) };
        let recorded: Vec<String> = attachments(&object).iter().map(|one| one.secret.clone()).collect();
        for (_, secret) in env(&object, 0).into_iter().filter(|(_, secret)| secret.starts_with("scout.")) {
            prop_assert!(recorded.contains(&secret), "{secret} of {wanted:?} is not in {recorded:?}");
        }
    }
}
