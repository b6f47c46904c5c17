//! The requests that `policy/test_data` records for kwctl, through the module itself: served by the policy host, with the
//! recorded ConfigMaps on a real API server.
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use e2e::artifacts::policy_module;
use e2e::cluster::{Cluster, Options};
use e2e::policy_host::{PolicyHost, PolicyHostOptions};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde::Deserialize;
use serde_json::{Value, json};

use super::post;

/// One exchange with the host, as kwctl records and replays it.
#[derive(Deserialize)]
struct Exchange {
    response: Response,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum Response {
    Success { payload: String },
    Error,
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The recorded ConfigMap; `None` where the host had none.
fn recorded(folder: &Path) -> Option<ConfigMap> {
    let text = fs::read_to_string(folder.join("exchanges.yml")).ok()?;
    let exchanges: Vec<Exchange> = serde_saphyr::from_str(&text).unwrap();
    assert!(exchanges.len() < 2, "{}: one call at most", folder.display());
    match &exchanges.first()?.response {
        Response::Success { payload } => Some(serde_json::from_str(payload).unwrap()),
        Response::Error => None,
    }
}

async fn answer(host: &PolicyHost, request: &Value) -> Value {
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
    let body = review.to_string().into_bytes();
    post(host, &host.url(), "application/json", body).await.unwrap().1["response"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_module_answers_every_recorded_request_as_recorded() {
    let cluster = Cluster::start(Options::default(), &|_| {}).await.unwrap();
    let namespaces: Api<Namespace> = Api::all(cluster.client());
    let namespace = serde_json::from_value(json!({"metadata": {"name": "scout-system"}})).unwrap();
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    let config_maps: Api<ConfigMap> = Api::namespaced(cluster.client(), "scout-system");
    let module = policy_module().await.unwrap();
    let host_with = async |settings: Value| {
        let options = PolicyHostOptions {
            module: module.clone(),
            id: "scout".to_owned(),
            settings,
            allowed_to_mutate: true,
            client: cluster.client(),
            port: None,
        };
        PolicyHost::start(options).await
    };
    let host = host_with(json!({})).await.unwrap();
    let test_data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy/test_data");
    let mut cases: Vec<PathBuf> = fs::read_dir(test_data).unwrap().flatten().map(|entry| entry.path()).collect();
    cases.retain(|path| path.is_dir());
    cases.sort();
    assert!(cases.len() > 15, "{} cases", cases.len());
    for case in cases {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let own = match case.join("settings.json") {
            path if path.exists() => match host_with(read(&path)).await {
                Ok(host) => Some(host),
                // A host refuses such settings when it loads the policy, before any request.
                Err(error) => {
                    assert!(format!("{error:#}").contains("Policy settings are invalid"), "{name}: {error:#}");
                    continue;
                }
            },
            _ => None,
        };
        let config_map = recorded(&case);
        if let Some(config_map) = &config_map {
            config_maps.create(&PostParams::default(), config_map).await.unwrap();
        }
        let request = read(&case.join("request.json"));
        let calls = || own.as_ref().unwrap_or(&host).requests().host_calls;
        let before = calls();
        let given = answer(own.as_ref().unwrap_or(&host), &request).await;
        assert_eq!(calls() - before, u64::from(case.join("exchanges.yml").exists()), "{name}: host calls");
        compare(&name, &request, &given, &read(&case.join("response.json")));
        if let Some(name) = config_map.and_then(|config_map| config_map.metadata.name) {
            config_maps.delete(&name, &DeleteParams::default()).await.unwrap();
        }
    }
    cluster.stop().await.unwrap();
}

/// Compares what an API server was answered with what the policy's own response was recorded to be.
fn compare(name: &str, request: &Value, given: &Value, recorded: &Value) {
    assert_eq!(given["allowed"], recorded["accepted"], "{name}: {given}");
    assert_eq!(given["warnings"], recorded["warnings"], "{name}");
    if recorded["accepted"] == false {
        let message = given["status"]["message"].as_str().unwrap();
        let recorded = recorded["message"].as_str().unwrap();
        // The host's own words about a ConfigMap that is not there stand in the middle of some.
        let start = recorded.split("cannot be read").next().unwrap();
        assert!(message.starts_with(start), "{name}: {message}");
    }
    let mut object = request["object"].clone();
    if let Some(patch) = given["patch"].as_str() {
        let patch: json_patch::Patch = serde_json::from_slice(&BASE64_STANDARD.decode(patch).unwrap()).unwrap();
        json_patch::patch(&mut object, &patch).unwrap();
    }
    let wanted = if recorded["mutated_object"].is_null() { &request["object"] } else { &recorded["mutated_object"] };
    assert_eq!(object, *wanted, "{name}");
}
