//! What is wrong in a manifest, in the policy's settings or in a desired state: a sentence that names the object and the
//! fix, and nothing lost. What is wrong in Apps, stores and Secrets is in [`crate::refusals`].

use std::time::{Duration, Instant};

use e2e::artifacts::policy_module;
use e2e::cluster::KubectlOutput;
use e2e::installation::chart::Account;
use e2e::installation::{Answer, Installation, NAMESPACE, container, eventually, variables};
use e2e::manifests::{app, deployment, environment, link, namespace};
use e2e::policy_host::{PolicyHost, PolicyHostOptions};
use e2e::webhook;
use serde_json::{Value, json};

use super::{eventually_admitted, install, install_shop, let_pass, template};

/// What a user may wait for one request, a loaded machine included; the API server itself gives a webhook 10 s.
const IN_TIME: Duration = Duration::from_secs(30);

/// Applies a manifest as a user does, at a shell.
async fn apply(scout: &Installation, manifest: &Value) -> KubectlOutput {
    kubectl(scout, &["apply", "--server-side", "--force-conflicts"], manifest).await
}

async fn kubectl(scout: &Installation, command: &[&str], manifest: &Value) -> KubectlOutput {
    let arguments = [command, &["--filename=-"]].concat();
    scout.cluster().kubectl_with_input(&arguments, &manifest.to_string()).await.unwrap()
}

/// What is sent is refused; returns what the user reads. The Deployment stays as it was, or absent.
async fn refused(scout: &Installation, command: &[&str], manifest: &Value) -> String {
    let text = |field: &str| manifest["metadata"][field].as_str().unwrap();
    let written = async || {
        let found = scout.find("Deployment", text("namespace"), text("name")).await.unwrap();
        found.map(|found| {
            (found["spec"].clone(), found["metadata"]["annotations"]["scout.commandk.dev/attached"].clone())
        })
    };
    let before = written().await;
    let output = kubectl(scout, command, manifest).await;
    assert!(!output.status.success(), "{}/{} was admitted", text("namespace"), text("name"));
    // Not by assert_eq: a mebibyte is nothing to read.
    assert!(written().await == before, "changed although refused: {}", output.stderr);
    output.stderr
}

/// A manifest is refused, at its CREATE or as an UPDATE of what is there; returns what the user reads.
async fn refused_manifest(scout: &Installation, manifest: &Value) -> String {
    refused(scout, &["apply", "--server-side", "--force-conflicts"], manifest).await
}

/// A manifest is admitted with a warning; returns what the user reads.
async fn warned(scout: &Installation, manifest: &Value) -> String {
    let output = apply(scout, manifest).await;
    assert!(output.status.success() && output.stderr.contains("Warning: "), "{}", output.stderr);
    output.stderr
}

pub(crate) fn assert_says(message: &str, sentences: &[&str]) {
    for sentence in sentences {
        assert!(message.contains(sentence), "{sentence:?} is not in {message:?}");
    }
}

fn annotated(name: &str, annotation: &str, value: &str) -> Value {
    let mut manifest = deployment("shop", name);
    manifest["metadata"]["annotations"] = json!({format!("scout.commandk.dev/{annotation}"): value});
    manifest
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_manifest_is_refused_with_the_fix_and_what_was_there_stays() {
    let scout = install_shop("EnvironmentVariables", "Auto", &["api"]).await;
    let revision = scout.delivered("checkout", "production", "").await.unwrap();
    scout.rolled_out("shop", "api", "checkout", &revision).await.unwrap();
    an_unknown_mutation_mode_is_refused_with_the_two_valid_values(&scout).await;
    a_container_that_is_not_there_is_refused_with_those_that_are(&scout).await;
    a_manifest_without_containers_is_refused_in_the_api_servers_own_words(&scout).await;
    a_volume_or_a_path_that_an_app_needs_is_refused_with_both_names(&scout).await;
    scout.stop().await.unwrap();
}

async fn an_unknown_mutation_mode_is_refused_with_the_two_valid_values(scout: &Installation) {
    for (name, value) in [("api", "ignored"), ("api", "Ignore"), ("api", ""), ("fresh", "detach")] {
        let message = refused_manifest(scout, &annotated(name, "mutation-mode", value)).await;
        let subject = format!("annotation scout.commandk.dev/mutation-mode of Deployment shop/{name} is {value:?}");
        assert_says(&message, &[&subject, r#"use "ignore" or "ignore-and-detach", or remove it"#]);
    }
}

async fn a_container_that_is_not_there_is_refused_with_those_that_are(scout: &Installation) {
    for (name, value, problem) in [
        ("api", "main,sidecar", r#"names "sidecar", which is no container of it"#),
        ("fresh", "sidecar", r#"names "sidecar", which is no container of it"#),
        ("api", " , ", "names no container"),
    ] {
        let message = refused_manifest(scout, &annotated(name, "containers", value)).await;
        let sentence = format!("annotation scout.commandk.dev/containers of Deployment shop/{name} {problem}");
        let fix = "it has prepare, main; correct the list, or remove the annotation to mean all";
        assert_says(&message, &[&sentence, fix]);
    }
    let both = scout.get("Deployment", "shop", "api").await.unwrap();
    assert!(variables(&both, "prepare").contains_key("TOKEN") && variables(&both, "main").contains_key("TOKEN"));
    apply(scout, &annotated("api", "containers", "main")).await.success().unwrap();
    let one = scout.complete("shop", "api").await.unwrap();
    assert!(variables(&one, "prepare").is_empty(), "what the message asks for helps");
    assert_eq!(variables(&one, "main"), variables(&both, "main"));
}

async fn a_manifest_without_containers_is_refused_in_the_api_servers_own_words(scout: &Installation) {
    let mut none = deployment("shop", "api");
    none["spec"]["template"]["spec"]["containers"] = json!([]);
    let mut neither = none.clone();
    neither["spec"]["template"]["spec"].as_object_mut().unwrap().remove("initContainers");
    let mut no_template = deployment("shop", "api");
    no_template["spec"].as_object_mut().unwrap().remove("template");
    for mut manifest in [none, neither, no_template] {
        let message = refused(scout, &["replace"], &manifest).await;
        assert_says(&message, &[r#"The Deployment "api" is invalid"#, "spec.template.spec.containers: Required value"]);
        assert!(!message.contains("admission webhook"), "{message}");
        manifest["metadata"]["name"] = json!("fresh");
        let message = refused(scout, &["create"], &manifest).await;
        assert_says(
            &message,
            &[r#"The Deployment "fresh" is invalid"#, "spec.template.spec.containers: Required value"],
        );
        assert!(!message.contains("admission webhook"), "{message}");
    }
}

async fn a_volume_or_a_path_that_an_app_needs_is_refused_with_both_names(scout: &Installation) {
    scout.save("files/production.env", "FILE=first\n").unwrap();
    let environment = environment("files", "production", "Auto", &[link("shop", "mounting")]);
    scout.apply(&app("files", "VolumeMount", &[environment])).await.unwrap();
    let revision = scout.delivered("files", "production", "").await.unwrap();

    let mut volume = deployment("shop", "mounting");
    volume["spec"]["template"]["spec"]["volumes"] = json!([{"name": "scout-files", "emptyDir": {}}]);
    let mut path = deployment("shop", "mounting");
    path["spec"]["template"]["spec"]["volumes"] = json!([{"name": "data", "emptyDir": {}}]);
    path["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "data", "mountPath": "/var/run/secrets/scout/files"}]);
    let refusals = async || {
        let message = refused_manifest(scout, &volume).await;
        assert_says(
            &message,
            &[
                "Deployment shop/mounting: the manifest has a volume of its own named scout-files",
                "the volume of app files of Scout: rename the manifest's volume",
            ],
        );
        let message = refused_manifest(scout, &path).await;
        assert_says(
            &message,
            &[
                "Deployment shop/mounting: container main of the manifest mounts its volume data at /var/run/secrets/scout/files",
                "where app files of Scout is mounted",
                "set another mountPath in App files",
            ],
        );
    };
    refusals().await;
    let created = scout.create(&deployment("shop", "mounting")).await.unwrap();
    assert_eq!(container(&created, "main")["volumeMounts"][0]["name"], "scout-files");
    scout.rolled_out("shop", "mounting", "files", &revision).await.unwrap();
    refusals().await;
}

/// A Deployment whose pods have an argument of so many bytes.
fn large_deployment(name: &str, bytes: usize) -> Value {
    let mut manifest = deployment("shop", name);
    manifest["spec"]["template"]["spec"]["containers"][0]["args"] = json!(["x".repeat(bytes)]);
    manifest
}

/// What is asked of the API server is answered in time, whatever the answer is.
async fn in_time<T>(what: &str, request: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let answer = request.await;
    assert!(began.elapsed() < IN_TIME, "{what} took {:?}", began.elapsed());
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_of_a_mebibyte_is_admitted_in_time_and_a_larger_one_is_refused_in_the_servers_words() {
    let scout = install_shop("EnvironmentVariables", "Auto", &["api"]).await;
    let first = scout.delivered("checkout", "production", "").await.unwrap();
    let links = ["api", "large", "larger"].map(|name| link("shop", name));
    let environment = environment("checkout", "production", "Auto", &links);
    scout.apply(&app("checkout", "EnvironmentVariables", &[environment])).await.unwrap();
    eventually("the new links to be in the desired state", async || {
        let state = scout.desired_state("shop").await?.to_string();
        Ok(Answer::when(state.contains("larger"), (), state))
    })
    .await
    .unwrap();

    let mut large = large_deployment("large", 900_000);
    let created = in_time("CREATE", scout.create(&large)).await.unwrap();
    assert_eq!(scout.variable(&created, "main", "TOKEN").await.unwrap().as_deref(), Some("first"));
    scout.rolled_out("shop", "large", "checkout", &first).await.unwrap();
    large["spec"]["template"]["spec"]["containers"][0]["image"] = json!("newer");
    in_time("UPDATE", apply(&scout, &large)).await.success().unwrap();
    let updated = scout.rolled_out("shop", "large", "checkout", &first).await.unwrap();
    assert_eq!(variables(&updated, "main"), variables(&created, "main"));

    // An UPDATE carries the object twice, and policy-server reads 2 MiB: from one MiB on, a workload is attached at its
    // CREATE and cannot be updated. It stays as it is, the App says which, and nobody else waits for it.
    let mut larger = large_deployment("larger", 1 << 20);
    larger["spec"]["replicas"] = json!(0);
    let created = in_time("CREATE", scout.create(&larger)).await.unwrap();
    assert_eq!(scout.variable(&created, "main", "TOKEN").await.unwrap().as_deref(), Some("first"));
    larger["spec"]["template"]["spec"]["containers"][0]["image"] = json!("newer");
    let message = in_time("UPDATE", refused(&scout, &["replace"], &larger)).await;
    assert_says(&message, &[r#"failed calling webhook "scout.kubewarden.admission""#, "413"]);
    scout.save("checkout/production.env", "TOKEN=second\n").unwrap();
    let second = scout.delivered("checkout", "production", &first).await.unwrap();
    for name in ["api", "large"] {
        scout.rolled_out("shop", name, "checkout", &second).await.unwrap();
    }
    let message = scout.condition("App", "checkout", "Delivered", "False", "ApplyFailed").await.unwrap();
    assert_says(&message, &["touching Deployment shop/larger", "413"]);
    let kept = scout.get("Deployment", "shop", "larger").await.unwrap();
    assert_eq!(scout.variable(&kept, "main", "TOKEN").await.unwrap().as_deref(), Some("first"));

    let mut annotated = deployment("shop", "largest");
    annotated["metadata"]["annotations"] = json!({"long": "x".repeat(300_000)});
    for (manifest, words) in [
        (annotated, "metadata.annotations: Too long"),
        (large_deployment("largest", 2_000_000), "etcdserver: request is too large"),
        (large_deployment("largest", 3_200_000), "Request entity too large: limit is 3145728"),
    ] {
        let message = in_time(words, refused(&scout, &["create"], &manifest)).await;
        assert_says(&message, &[words]);
    }
    scout.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_desired_state_that_somebody_broke_strips_nothing_and_deleting_it_heals_without_a_roll() {
    let scout = install_shop("EnvironmentVariables", "Auto", &["api"]).await;
    let revision = scout.delivered("checkout", "production", "").await.unwrap();
    let attached = scout.rolled_out("shop", "api", "checkout", &revision).await.unwrap();
    let broken = json!({"data": {"checkout": "{\"apply\":"}});
    scout.patch("ConfigMap", NAMESPACE, "desired-state.shop", &broken).await.unwrap();
    let message = scout.condition("App", "checkout", "Delivered", "False", "DesiredStateUnreadable").await.unwrap();
    assert_says(&message, &["data.checkout of ConfigMap desired-state.shop is malformed", "delete that ConfigMap"]);

    let mut edited = deployment("shop", "api");
    edited["spec"]["template"]["spec"]["containers"][0]["image"] = json!("newer");
    let warning = warned(&scout, &edited).await;
    let state = "the desired state of namespace shop (ConfigMap scout-system/desired-state.shop) cannot be read: \
                 data.checkout of ConfigMap desired-state.shop is malformed";
    assert_says(&warning, &[state, "Deployment shop/api keeps what Scout attached before"]);
    let kept = scout.rolled_out("shop", "api", "checkout", &revision).await.unwrap();
    assert_eq!(container(&kept, "main")["image"], "newer");
    for of in ["main", "prepare"] {
        assert_eq!(container(&kept, of)["env"], container(&attached, of)["env"]);
    }
    let message = refused_manifest(&scout, &deployment("shop", "fresh")).await;
    assert_says(
        &message,
        &["To mend it, delete that ConfigMap", state, "Deployment shop/fresh would start without its secrets"],
    );
    let rollouts = scout.rollouts("shop", "api").await.unwrap();
    let_pass().await;
    let secret = format!("scout.checkout.{revision}");
    assert_eq!(scout.secret_value("shop", &secret, "TOKEN").await.unwrap().as_deref(), Some("first"));

    scout.delete("ConfigMap", NAMESPACE, "desired-state.shop").await.unwrap();
    eventually_admitted(&scout, "shop").await;
    scout.condition("App", "checkout", "Ready", "True", "Ready").await.unwrap();
    let_pass().await;
    let healed = scout.get("Deployment", "shop", "api").await.unwrap();
    assert_eq!(template(&healed), template(&kept));
    assert_eq!(scout.rollouts("shop", "api").await.unwrap(), rollouts);
    assert_eq!(scout.variable(&healed, "main", "TOKEN").await.unwrap().as_deref(), Some("first"));
    let fresh = scout.create(&deployment("shop", "fresh")).await.unwrap();
    assert_eq!(template(&fresh)["metadata"], template(&deployment("shop", "fresh"))["metadata"], "no app links it");
    scout.save("checkout/production.env", "TOKEN=second\n").unwrap();
    let second = scout.delivered("checkout", "production", &revision).await.unwrap();
    scout.rolled_out("shop", "api", "checkout", &second).await.unwrap();
    scout.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_say_whether_a_workload_without_a_desired_state_is_admitted_and_malformed_ones_are_not_served() {
    let scout = install().await;
    scout.host_sync().terminate().await.unwrap();
    scout.apply(&namespace("late", "production")).await.unwrap();
    let message = refused_manifest(&scout, &deployment("late", "api")).await;
    let state = "the desired state of namespace late (ConfigMap scout-system/desired-state.late) cannot be read";
    let reason = "Cannot find v1/ConfigMap named 'desired-state.late'";
    let fix = "Deployment late/api would start without its secrets. Check that host-sync runs in namespace scout-system; \
               to admit without secrets instead, set onMissingState: Accept in the policy's settings";
    assert_says(&message, &[state, reason, fix]);

    let options = PolicyHostOptions {
        module: policy_module().await.unwrap(),
        id: "scout".to_owned(),
        settings: json!({}),
        allowed_to_mutate: true,
        client: Account::policy_server().client(scout.cluster()).await.unwrap(),
        port: None,
    };
    for (settings, problem) in [
        (json!({"onMissing": "Accept"}), "`onMissing`"),
        (json!({"onMissingState": "Ignore"}), "Ignore"),
        (json!({"desiredStateNamespace": 7}), "is a number"),
        (json!(["scout-system"]), "object"),
        (json!({"desiredStateNamespace": "Scout System"}), "\"Scout System\" is not a namespace name"),
    ] {
        let error = PolicyHost::start(PolicyHostOptions { settings, ..options.clone() }).await.err().unwrap();
        let message = format!("{error:#}");
        assert_says(&message, &["Policy settings are invalid: ", problem, "desiredStateNamespace"]);
        let fixes =
            ["correct spec.settings of the ClusterAdmissionPolicy", "set it to the namespace that host-sync runs in"];
        assert!(fixes.iter().any(|fix| message.contains(fix)), "{message}");
    }

    let settings = json!({"onMissingState": "Accept"});
    let lenient = PolicyHost::start(PolicyHostOptions { settings, ..options }).await.unwrap();
    webhook::install(&scout.cluster().client(), &lenient).await.unwrap();
    let warning = warned(&scout, &deployment("late", "api")).await;
    assert_says(&warning, &[state, reason, "Deployment late/api starts without secrets until host-sync attaches them"]);
    let without = scout.complete("late", "api").await.unwrap();
    assert_eq!(template(&without)["metadata"], template(&deployment("late", "api"))["metadata"]);
    assert!(variables(&without, "main").is_empty());

    scout.save("checkout/production.env", "TOKEN=first\n").unwrap();
    let environment = environment("checkout", "production", "Auto", &[link("late", "api")]);
    scout.apply(&app("checkout", "EnvironmentVariables", &[environment])).await.unwrap();
    scout.host_sync().start().await.unwrap();
    let revision = scout.delivered("checkout", "production", "").await.unwrap();
    let healed = scout.rolled_out("late", "api", "checkout", &revision).await.unwrap();
    assert_eq!(scout.variable(&healed, "main", "TOKEN").await.unwrap().as_deref(), Some("first"));
    assert_eq!(scout.rollouts("late", "api").await.unwrap(), 2);
    scout.stop().await.unwrap();
}
