//! The policy host answers as policy-server does; the webhook and the gateway do what the scenarios rely on.
#![allow(clippy::unwrap_used)]

mod recorded;

use std::fmt::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::artifacts;
use e2e::cluster::{Cluster, Options};
use e2e::gateway::{Gateway, Verdict};
use e2e::policy_host::{PolicyHost, PolicyHostOptions, Requests};
use e2e::webhook;
use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::client::Body;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use policy_core::names::ENVIRONMENT_LABEL;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

/// Answers `validate_settings` with this, `validate` with the instructions of a test.
const VALID: &str = r#"{"valid":true}"#;

/// A guest in WebAssembly text: `body` is what `validate` does, `$text` writes of it are answers.
fn guest(metadata: Option<&Value>, settings: &str, texts: &[&str], body: &str) -> Vec<u8> {
    let section = metadata.map_or_else(String::new, |metadata| {
        format!("(@custom \"io.kubewarden.metadata\" \"{}\")", escaped(&metadata.to_string()))
    });
    let mut data = String::new();
    for (number, text) in [&settings].into_iter().chain(texts).enumerate() {
        let _ = write!(data, "(data (i32.const {}) \"{}\")", 4096 * number, escaped(text));
    }
    let wat = format!(
        r#"(module {section}
            (import "wapc" "__guest_response" (func $respond (param i32 i32)))
            (import "wapc" "__guest_error" (func $fail (param i32 i32)))
            (import "wapc" "__host_call" (func $call (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
            (import "wapc" "__host_response_len" (func $response_length (result i32)))
            (import "wapc" "__host_response" (func $response (param i32)))
            (import "wapc" "__host_error_len" (func $error_length (result i32)))
            (import "wapc" "__host_error" (func $error (param i32)))
            (memory (export "memory") 64)
            (global $calls (mut i32) (i32.const 0))
            {data}
            (func (export "__guest_call") (param $operation i32) (param $length i32) (result i32)
                (if (i32.eq (local.get $operation) (i32.const {}))
                    (then (call $respond (i32.const 0) (i32.const {})) (return (i32.const 1))))
                {body}))"#,
        "validate_settings".len(),
        settings.len(),
    );
    wat::parse_str(wat).unwrap()
}

fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut all, byte| {
        let _ = write!(all, "\\{byte:02x}");
        all
    })
}

/// A guest that always answers this.
fn guest_that_answers(answer: &Value) -> Vec<u8> {
    let answer = answer.to_string();
    let body = format!("(call $respond (i32.const 4096) (i32.const {})) (i32.const 1)", answer.len());
    guest(Some(&metadata()), VALID, &[&answer], &body)
}

/// A guest that makes one host call: it fails with the host's error, or mutates the object into the host's answer.
fn guest_that_calls(metadata: &Value, namespace: &str, operation: &str, payload: &Value) -> Vec<u8> {
    let (payload, before) = (payload.to_string(), r#"{"accepted":true,"mutated_object":"#);
    let texts = ["kubewarden", namespace, operation, &payload, before];
    let call: String = texts[..4].iter().enumerate().fold(String::new(), |mut all, (number, text)| {
        let _ = write!(all, "(i32.const {}) (i32.const {})", 4096 * (number + 1), text.len());
        all
    });
    // The answer is put behind the text `before`, the closing brace behind the answer.
    let (start, answer) = (4096 * 5, 4096 * 5 + before.len());
    let body = format!(
        "(if (result i32) (call $call {call})
            (then
                (call $response (i32.const {answer}))
                (i32.store8 (i32.add (i32.const {answer}) (call $response_length)) (i32.const 125))
                (call $respond (i32.const {start}) (i32.add (i32.const {}) (call $response_length)))
                (i32.const 1))
            (else
                (call $error (i32.const 65536))
                (call $fail (i32.const 65536) (call $error_length))
                (i32.const 0)))",
        before.len() + 1,
    );
    guest(Some(metadata), VALID, &texts, &body)
}

fn metadata() -> Value {
    json!({"protocolVersion": "v1", "mutating": true, "executionMode": "kubewarden-wapc",
        "contextAwareResources": [{"apiVersion": "v1", "kind": "ConfigMap"}],
        "hostCapabilities": ["kubernetes/get_resource"]})
}

fn options(module: Vec<u8>, client: kube::Client) -> PolicyHostOptions {
    PolicyHostOptions {
        module,
        id: "scout".to_owned(),
        settings: json!({}),
        allowed_to_mutate: true,
        client,
        port: None,
    }
}

/// A client for a cluster that is not there.
fn nowhere() -> kube::Client {
    kube::Client::try_from(Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap()
}

async fn host(module: Vec<u8>) -> PolicyHost {
    PolicyHost::start(options(module, nowhere())).await.unwrap()
}

/// A request for a Deployment; its object is small.
fn review(object: &Value) -> Value {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
        "resource": {"group": "apps", "version": "v1", "resource": "deployments"},
        "name": "api", "namespace": "shop", "operation": "CREATE", "userInfo": {"username": "somebody"},
        "object": object, "oldObject": null, "dryRun": false,
    }})
}

/// Posts to the host over TLS, trusting its CA bundle only.
async fn post(host: &PolicyHost, url: &str, content_type: &str, body: Vec<u8>) -> Result<(u16, Value)> {
    let authority = CertificateDer::from_pem_slice(host.ca_bundle().as_bytes())?;
    let (server, path) = url.split_at(url.find("/validate").context("no path")?);
    let mut config = Config::new(server.parse()?);
    config.root_cert = Some(vec![authority.to_vec()]);
    let request = axum::http::Request::post(path).header("content-type", content_type).body(Body::from(body))?;
    let response = kube::Client::try_from(config)?.send(request).await?;
    let status = response.status().as_u16();
    let body = response.into_body().collect_bytes().await?;
    Ok((status, serde_json::from_slice(&body)?))
}

async fn ask(host: &PolicyHost, object: &Value) -> Value {
    let body = review(object).to_string().into_bytes();
    let (status, answer) = post(host, &host.url(), "application/json", body).await.unwrap();
    assert_eq!((status, &answer["kind"]), (200, &json!("AdmissionReview")), "{answer}");
    assert_eq!(answer["response"]["uid"], "705ab4f5-6393-11e8-b7cc-42010a800002");
    answer["response"].clone()
}

fn patch_of(response: &Value) -> Value {
    assert_eq!(response["patchType"], "JSONPatch", "{response}");
    serde_json::from_slice(&STANDARD.decode(response["patch"].as_str().unwrap()).unwrap()).unwrap()
}

/// The guest's own object as the host's answer has it.
fn object_from(response: &Value) -> Value {
    let mut object = json!({});
    json_patch::patch(&mut object, &serde_json::from_value::<json_patch::Patch>(patch_of(response)).unwrap()).unwrap();
    object
}

fn object<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

async fn start_cluster() -> Cluster {
    Cluster::start(Options::default(), &|_| {}).await.unwrap()
}

async fn refused_at_load(module: Vec<u8>) -> String {
    let outcome = PolicyHost::start(options(module, nowhere())).await;
    format!("{:#}", outcome.err().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_without_metadata_or_protocol_version_is_refused_at_load() {
    let error = refused_at_load(guest(None, VALID, &[], "unreachable")).await;
    assert!(error.contains("no custom section io.kubewarden.metadata") && error.contains("make policy"), "{error}");
    let error = refused_at_load(guest(Some(&json!({"mutating": true})), VALID, &[], "unreachable")).await;
    assert!(error.contains("missing protocol version"), "{error}");
    let error = refused_at_load(b"not a module".to_vec()).await;
    assert!(error.contains("metadata"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_the_policy_refuses_are_refused_at_load_with_its_words() {
    let settings = r#"{"valid":false,"message":"unknown field 'x'"}"#;
    let error = refused_at_load(guest(Some(&metadata()), settings, &[], "unreachable")).await;
    assert_eq!(error, "Policy settings are invalid: unknown field 'x'");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_is_a_refusal_with_code_500_and_the_next_request_gets_a_fresh_instance() {
    let trapping = host(guest(Some(&metadata()), VALID, &[], "unreachable")).await;
    for _ in 0..2 {
        let response = ask(&trapping, &json!({})).await;
        assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(500)));
        let message = response["status"]["message"].as_str().unwrap();
        assert!(message.starts_with("internal server error: Guest call failure: "), "{message}");
    }
    // This one traps where its global outlived a request.
    let answer = r#"{"accepted":true}"#;
    let body = format!(
        "(if (global.get $calls) (then unreachable)) (global.set $calls (i32.const 1))
         (call $respond (i32.const 4096) (i32.const {})) (i32.const 1)",
        answer.len()
    );
    let fresh = host(guest(Some(&metadata()), VALID, &[answer], &body)).await;
    for _ in 0..2 {
        assert_eq!(ask(&fresh, &json!({})).await["allowed"], true);
    }
    assert_eq!(fresh.requests(), Requests { reviews: 2, host_calls: 0, reads: 0 });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_loop_is_cut_off_within_two_ticks() {
    let host = host(guest(Some(&metadata()), VALID, &[], "(loop $again (br $again)) unreachable")).await;
    let began = Instant::now();
    let response = ask(&host, &json!({})).await;
    let took = began.elapsed();
    assert!((1.0..3.5).contains(&took.as_secs_f64()), "cut off after {took:?}");
    assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(500)));
    let expected = "internal server error: Guest call failure: guest code interrupted, execution deadline exceeded";
    assert_eq!(response["status"]["message"], expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_no_answer_is_a_refusal_with_code_500() {
    let response = ask(&host(guest_that_answers(&json!({"verdict": "fine"}))).await, &json!({})).await;
    assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(500)));
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.starts_with("internal server error: invalid response from policy: "), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_review_for_this_policy_is_a_client_error() {
    let host = host(guest_that_answers(&json!({"accepted": true}))).await;
    let good = review(&json!({})).to_string().into_bytes();
    let other = host.url().replace("/scout", "/other");
    let (status, body) = post(&host, &other, "application/json", good.clone()).await.unwrap();
    assert_eq!((status, body), (404, json!({"message": "unknown policy: other", "status": 404})));
    let cases = [
        ("application/json", b"{\"request\":".to_vec(), 400),
        ("application/json", b"{\"request\": {\"uid\": 1}}".to_vec(), 422),
        ("text/plain", good, 415),
        ("application/json", vec![b' '; 3 << 20], 413),
    ];
    for (content_type, body, expected) in cases {
        let (status, body) = post(&host, &host.url(), content_type, body).await.unwrap();
        assert_eq!((status, &body["status"]), (expected, &json!(expected)), "{body}");
        assert!(!body["message"].as_str().unwrap().is_empty());
    }
    assert_eq!(host.requests().reviews, 0, "the guest saw none of them");
    let large = json!({"metadata": {"annotations": {"a": "x".repeat(1 << 20)}}});
    assert_eq!(ask(&host, &large).await["allowed"], true, "1 MiB is no client error");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mutation_becomes_a_patch_and_warnings_and_messages_pass() {
    let answer = json!({"accepted": true, "mutated_object": {"a": 1, "b": [2]}, "warnings": ["look"]});
    let response = ask(&host(guest_that_answers(&answer)).await, &json!({"a": 1})).await;
    assert_eq!((&response["allowed"], &response["warnings"]), (&json!(true), &json!(["look"])));
    assert_eq!(patch_of(&response), json!([{"op": "add", "path": "/b", "value": [2]}]));

    let answer = json!({"accepted": true, "mutated_object": {"a": 1}});
    let response = ask(&host(guest_that_answers(&answer)).await, &json!({"a": 1})).await;
    assert_eq!((&response["patch"], &response["patchType"]), (&Value::Null, &Value::Null), "nothing changed");

    let answer = json!({"accepted": false, "message": "no such container", "code": 422});
    let response = ask(&host(guest_that_answers(&answer)).await, &json!({})).await;
    assert_eq!(response["status"], json!({"message": "no such container", "code": 422}));
    assert_eq!(response["allowed"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mutation_that_is_not_allowed_is_refused() {
    let answer = json!({"accepted": true, "mutated_object": {"a": 2}});
    let not_allowed = PolicyHostOptions { allowed_to_mutate: false, ..options(guest_that_answers(&answer), nowhere()) };
    let response = ask(&PolicyHost::start(not_allowed).await.unwrap(), &json!({"a": 1})).await;
    assert_eq!((&response["allowed"], &response["patch"]), (&json!(false), &Value::Null));
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.starts_with("Request rejected by policy scout. The policy attempted to mutate"), "{message}");

    let deleting = host(guest_that_answers(&answer)).await;
    let response = ask(&deleting, &Value::Null).await;
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.starts_with("Incoming object is null, which happens only with DELETE"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_down_refuses_connections_until_it_is_up_again() {
    let host = host(guest_that_answers(&json!({"accepted": true}))).await;
    let port = host.url().split([':', '/']).find_map(|part| part.parse::<u16>().ok()).unwrap();
    assert_eq!(ask(&host, &json!({})).await["allowed"], true);
    host.stop().await;
    let error = TcpStream::connect(("127.0.0.1", port)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    host.resume().await.unwrap();
    assert_eq!(ask(&host, &json!({})).await["allowed"], true);
    assert_eq!(host.requests().reviews, 2);
    drop(host);
    let began = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_ok() {
        assert!(began.elapsed() < Duration::from_secs(5), "a dropped host still listens");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The payload of `get_resource` for a `ConfigMap` of `default`.
fn get_config_map(name: &str, disable_cache: bool) -> Value {
    json!({"api_version": "v1", "kind": "ConfigMap", "name": name, "namespace": "default",
        "disable_cache": disable_cache, "field_masks": null})
}

async fn host_that_gets(client: kube::Client, payload: &Value) -> PolicyHost {
    let module = guest_that_calls(&metadata(), "kubernetes", "get_resource", payload);
    PolicyHost::start(options(module, client)).await.unwrap()
}

fn guest_error(response: &Value) -> &str {
    assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(500)), "{response}");
    response["status"]["message"].as_str().unwrap().strip_prefix("internal server error: Guest call failure: ").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_reads_only_what_its_metadata_names() {
    let refusal =
        |what: &str| format!("Policy has not been granted access to {what}. The violation has been reported.");
    let cases = [
        ("kubernetes", "get_resource", "Secret", refusal("Kubernetes v1/Secret resources")),
        (
            "kubernetes",
            "list_resources_all",
            "ConfigMap",
            refusal("the 'kubernetes/list_resources_all' host capability"),
        ),
        ("oci", "v1/verify", "ConfigMap", refusal("the 'oci/v1/verify' host capability")),
    ];
    for (namespace, operation, kind, expected) in cases {
        let mut payload = get_config_map("x", true);
        payload["kind"] = json!(kind);
        let host = host(guest_that_calls(&metadata(), namespace, operation, &payload)).await;
        assert_eq!(guest_error(&ask(&host, &json!({})).await), expected);
        assert_eq!(host.requests(), Requests { reviews: 1, host_calls: 1, reads: 0 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_come_from_the_real_cluster_and_only_successes_are_cached_for_five_seconds() {
    let cluster = start_cluster().await;
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client(), "default");
    let cached = host_that_gets(cluster.client(), &get_config_map("state", false)).await;
    let uncached = host_that_gets(cluster.client(), &get_config_map("state", true)).await;

    // Not found is a text, and is not kept.
    let not_found =
        "Callback evaluation failure: Cannot find v1/ConfigMap named 'state' inside of namespace 'Some(\"default\")'";
    assert_eq!(guest_error(&ask(&cached, &json!({})).await), not_found);
    let map = object(json!({"metadata": {"name": "state"}, "data": {"k": "first"}}));
    maps.create(&PostParams::default(), &map).await.unwrap();
    let began = Instant::now();
    let read = object_from(&ask(&cached, &json!({})).await);
    assert_eq!((&read["data"]["k"], &read["kind"]), (&json!("first"), &json!("ConfigMap")));

    // A change is seen past the cache at once, and through it after five seconds.
    maps.patch("state", &PatchParams::default(), &Patch::Merge(json!({"data": {"k": "second"}}))).await.unwrap();
    assert_eq!(object_from(&ask(&uncached, &json!({})).await)["data"]["k"], "second");
    let stale = object_from(&ask(&cached, &json!({})).await)["data"]["k"].clone();
    assert!(stale == "first" || began.elapsed() > Duration::from_secs(5), "the cache holds for five seconds");
    tokio::time::sleep(Duration::from_millis(5200).saturating_sub(began.elapsed())).await;
    assert_eq!(object_from(&ask(&cached, &json!({})).await)["data"]["k"], "second");
    assert_eq!(cached.requests(), Requests { reviews: 4, host_calls: 4, reads: 3 });
    assert_eq!(uncached.requests(), Requests { reviews: 1, host_calls: 1, reads: 1 });

    // A mask prunes all but what names the object.
    let mut payload = get_config_map("state", true);
    payload["field_masks"] = json!(["data.other"]);
    let masked = object_from(&ask(&host_that_gets(cluster.client(), &payload).await, &json!({})).await);
    assert_eq!((&masked["data"], &masked["metadata"]["name"]), (&json!({}), &json!("state")));
    payload["namespace"] = Value::Null;
    let error = ask(&host_that_gets(cluster.client(), &payload).await, &json!({})).await;
    let expected = "Callback evaluation failure: Resource v1/ConfigMap is namespaced, but no namespace was provided";
    assert_eq!(guest_error(&error), expected);

    // An account without rights hears what the API server says.
    let stranger = cluster.client_for("stranger", &[]).await.unwrap();
    let error = ask(&host_that_gets(stranger, &get_config_map("state", true)).await, &json!({})).await;
    let error = guest_error(&error);
    assert!(error.starts_with("Callback evaluation failure: ") && error.contains("is forbidden"), "{error}");
    cluster.stop().await.unwrap();
}

async fn create_namespace(client: &kube::Client, name: &str, labels: &Value) {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = object(json!({"metadata": {"name": name, "labels": labels}}));
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();
}

fn deployment(name: &str) -> Deployment {
    object(json!({"metadata": {"name": name}, "spec": {
        "replicas": 1,
        "selector": {"matchLabels": {"app": name}},
        "template": {
            "metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "main", "image": "none"}]},
        },
    }}))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_webhook_guards_labelled_namespaces_and_spares_the_controllers() {
    let cluster = start_cluster().await;
    let client = cluster.client();
    let answer = json!({"accepted": false, "message": "the test's policy refuses everything"});
    let host = PolicyHost::start(options(guest_that_answers(&answer), client.clone())).await.unwrap();
    create_namespace(&client, "shop", &json!({ENVIRONMENT_LABEL: "production"})).await;
    create_namespace(&client, "elsewhere", &json!({})).await;
    let shop: Api<Deployment> = Api::namespaced(client.clone(), "shop");
    let elsewhere: Api<Deployment> = Api::namespaced(client.clone(), "elsewhere");
    let parameters = PostParams::default();
    shop.create(&parameters, &deployment("before")).await.unwrap();
    webhook::install(&client, &host).await.unwrap();

    let error = shop.create(&parameters, &deployment("api")).await.unwrap_err().to_string();
    assert!(error.contains("the test's policy refuses everything"), "{error}");
    let reviews = host.requests().reviews;
    elsewhere.create(&parameters, &deployment("api")).await.unwrap();
    assert_eq!(host.requests().reviews, reviews, "a namespace without the label is left alone");

    // The built-in controllers go on, with the policy down too; everybody else hears why not.
    host.stop().await;
    let name = "system:serviceaccount:kube-system:deployment-controller";
    let controller = cluster.client_for(name, &["system:masters"]).await.unwrap();
    let spared: Api<Deployment> = Api::namespaced(controller, "shop");
    spared.create(&parameters, &deployment("spared")).await.unwrap();
    let error = shop.create(&parameters, &deployment("api")).await.unwrap_err().to_string();
    assert!(error.contains("failed calling webhook \"scout.kubewarden.admission\""), "{error}");
    let pods = ["get", "pods", "--namespace=shop", "--output=name"];
    let began = Instant::now();
    while cluster.kubectl(&pods).await.unwrap().success().unwrap().lines().count() < 2 {
        assert!(began.elapsed() < Duration::from_secs(30), "two Deployments' pods are created");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    host.resume().await.unwrap();
    let error = shop.create(&parameters, &deployment("api")).await.unwrap_err().to_string();
    assert!(error.contains("the test's policy refuses everything"), "{error}");

    webhook::remove(&client, &host).await.unwrap();
    shop.create(&parameters, &deployment("api")).await.unwrap();
    cluster.stop().await.unwrap();
}

async fn through(gateway: &Gateway) -> Result<kube::Client> {
    let content = Kubeconfig::read_from(gateway.kubeconfig())?;
    Ok(kube::Client::try_from(Config::from_custom_kubeconfig(content, &KubeConfigOptions::default()).await?)?)
}

fn config_map(name: &str) -> ConfigMap {
    object(json!({"metadata": {"name": name}}))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_holds_exactly_the_write_that_a_test_picks() {
    let cluster = start_cluster().await;
    let gateway = Gateway::start(cluster.client(), cluster.dir()).await.unwrap();
    let inside: Api<ConfigMap> = Api::namespaced(through(&gateway).await.unwrap(), "default");
    let outside: Api<ConfigMap> = Api::namespaced(cluster.client(), "default");
    let watched = inside.watch(&WatchParams::default().fields("metadata.name=third"), "0").await.unwrap();
    let mut watched = watched.boxed();
    let create = |name: &'static str| {
        let inside = inside.clone();
        tokio::spawn(async move { inside.create(&PostParams::default(), &config_map(name)).await })
    };

    // Before: the API server knows nothing, and a program that dies there has written nothing.
    gateway.hold_nth(2, Verdict::HoldBefore, |write| write.method == "POST");
    create("first").await.unwrap().unwrap();
    let held_back = create("second");
    let held = gateway.held().await.unwrap();
    assert_eq!((held.write.path.as_str(), held.carried_out), ("/api/v1/namespaces/default/configmaps", false));
    assert!(outside.get_opt("second").await.unwrap().is_none());
    held_back.abort();
    assert!(held_back.await.unwrap_err().is_cancelled());
    // Its connection closes a moment after it is gone.
    tokio::time::sleep(Duration::from_millis(200)).await;
    held.release();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(outside.get_opt("second").await.unwrap().is_none(), "the writer had gone");

    // After: the API server has it, the program does not know.
    gateway.on_write(|_| Verdict::HoldAfter);
    let waiting = create("third");
    let held = gateway.held().await.unwrap();
    assert!(held.carried_out && !waiting.is_finished());
    assert!(outside.get_opt("third").await.unwrap().is_some());
    held.release();
    assert_eq!(waiting.await.unwrap().unwrap().metadata.name.unwrap(), "third");
    let refused = create("fourth");
    gateway.held().await.unwrap().refuse();
    let error = refused.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("the test refused this write"), "{error}");

    // Reads and watches are never held; an error of the API server comes through as it is.
    gateway.on_write(|_| Verdict::Forward);
    let added = async {
        loop {
            // A bookmark may come first.
            if let WatchEvent::Added(map) = watched.next().await.unwrap().unwrap() {
                return map.metadata.name.unwrap();
            }
        }
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(10), added).await.unwrap(), "third");
    let error = create("third").await.unwrap().unwrap_err().to_string();
    assert!(error.contains("already exists"), "{error}");
    inside.delete("third", &DeleteParams::default()).await.unwrap();
    let methods: Vec<String> = gateway.writes().iter().map(|write| write.method.to_string()).collect();
    assert_eq!(methods, ["POST", "POST", "POST", "POST", "POST", "DELETE"]);
    gateway.stop().await;
    assert!(inside.get("first").await.is_err(), "the door is closed");
    cluster.stop().await.unwrap();
}

/// The desired state of `shop`: app `checkout` gives `TOKEN` to Deployment `api`.
fn desired_state() -> ConfigMap {
    let entry = json!({
        "apply": "Immediately",
        "environment": "production",
        "injection": {
            "kind": "EnvironmentVariables",
            "secret": "scout.checkout.4f9a",
            "variables": {"TOKEN": "token"},
        },
        "links": [{"kind": "Deployment", "name": "api"}],
        "revision": "4f9a",
    });
    let meta = json!({"environment": "production", "namespace": "shop", "schema": 1});
    object(json!({
        "metadata": {"name": "desired-state.shop"},
        "data": {"meta": meta.to_string(), "checkout": entry.to_string()},
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_policy_attaches_at_a_real_admission_with_one_uncached_read() {
    let module = artifacts::policy_module().await.unwrap();
    let cluster = start_cluster().await;
    let client = cluster.client();
    let settings = json!({"desiredStateNamespace": "scout-system", "onMissingState": "Reject"});
    let unknown = json!({"desiredStateNamespaces": "scout-system"});
    let refused = PolicyHostOptions { settings: unknown, ..options(module.clone(), client.clone()) };
    let error = PolicyHost::start(refused).await.err().unwrap().to_string();
    assert!(error.starts_with("Policy settings are invalid: ") && error.contains("desiredStateNamespaces"), "{error}");

    let host = PolicyHost::start(PolicyHostOptions { settings, ..options(module, client.clone()) }).await.unwrap();
    create_namespace(&client, "scout-system", &json!({})).await;
    create_namespace(&client, "shop", &json!({ENVIRONMENT_LABEL: "production"})).await;
    webhook::install(&client, &host).await.unwrap();
    let shop: Api<Deployment> = Api::namespaced(client.clone(), "shop");
    let states: Api<ConfigMap> = Api::namespaced(client.clone(), "scout-system");
    let parameters = PostParams::default();

    let error = shop.create(&parameters, &deployment("api")).await.unwrap_err().to_string();
    assert!(error.contains("Cannot find v1/ConfigMap named 'desired-state.shop'"), "{error}");
    states.create(&parameters, &desired_state()).await.unwrap();
    let before = host.requests();
    shop.create(&parameters, &deployment("api")).await.unwrap();
    let after = host.requests();
    assert_eq!((after.host_calls - before.host_calls, after.reads - before.reads), (1, 1), "one read, past the cache");

    let created = serde_json::to_value(shop.get("api").await.unwrap()).unwrap();
    let env = &created["spec"]["template"]["spec"]["containers"][0]["env"][0];
    assert_eq!(env["name"], "TOKEN");
    assert_eq!(env["valueFrom"]["secretKeyRef"], json!({"name": "scout.checkout.4f9a", "key": "token"}));
    assert_eq!(created["spec"]["template"]["metadata"]["labels"]["scout.commandk.dev/checkout"], "4f9a");

    let before = host.requests();
    shop.patch("api", &PatchParams::default(), &Patch::Merge(json!({"spec": {"replicas": 3}}))).await.unwrap();
    let after = host.requests();
    // The API server asks again where the deployment controller's status came between.
    assert!(after.reviews > before.reviews, "the policy was asked");
    assert_eq!(after.host_calls, before.host_calls, "scaling needs no host call");
    cluster.stop().await.unwrap();
}
