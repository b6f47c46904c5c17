//! What is wrong in Apps, stores and Secrets: a condition, or the API server, names the object and the fix; what was
//! delivered last stays, and what is put right is delivered without anybody asking.

use e2e::installation::{Answer, Installation, container, eventually, variables};
use e2e::manifests::{app, deployment, environment, link};
use serde_json::{Value, json};

use super::bad_input::assert_says;
use super::{install, install_shop, let_pass, open_shop, template};

/// An App of one environment that goes to one Deployment; the Deployment is there, and complete.
async fn add_app(scout: &Installation, name: &str, to: &str, edit: impl FnOnce(&mut Value)) -> Value {
    if scout.find("Deployment", "shop", to).await.unwrap().is_none() {
        scout.apply(&deployment("shop", to)).await.unwrap();
    }
    scout.complete("shop", to).await.unwrap();
    let mut added = one_app(name, to);
    edit(&mut added);
    scout.apply(&added).await.unwrap();
    added
}

fn one_app(name: &str, to: &str) -> Value {
    app(name, "EnvironmentVariables", &[environment(name, "production", "Auto", &[link("shop", to)])])
}

/// Waits until an App says that it is not delivered for this reason; returns the sentence.
async fn undelivered(scout: &Installation, app: &str, reason: &str) -> String {
    scout.condition("App", app, "Delivered", "False", reason).await.unwrap()
}

async fn deployment_template(scout: &Installation, name: &str) -> Value {
    template(&scout.get("Deployment", "shop", name).await.unwrap()).clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_has_is_left_to_them_and_said_in_the_condition_with_the_fix() {
    let scout = install_shop("EnvironmentVariables", "Auto", &["api"]).await;
    a_secret_of_somebody_else_is_never_written_over_and_the_delivery_follows_once_it_is_gone(&scout).await;
    the_second_app_that_claims_a_secret_is_refused_with_the_first_ones_name(&scout).await;
    of_two_apps_with_one_variable_the_second_is_refused_with_both_names_and_the_first_keeps_it(&scout).await;
    a_workload_whose_own_mount_is_where_an_app_mounts_keeps_its_template_until_one_of_them_moves(&scout).await;
    scout.stop().await.unwrap();
}

async fn a_secret_of_somebody_else_is_never_written_over_and_the_delivery_follows_once_it_is_gone(
    scout: &Installation,
) {
    scout.save("operated/production.env", "TOKEN=first\n").unwrap();
    scout.save("mounted/production.env", "TOKEN=first\n").unwrap();
    let secrets = ["wired", "scout.mounted.deployment.mounted"];
    let mut theirs = Vec::new();
    for name in secrets {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "shop"},
            "stringData": {"TOKEN": "theirs"},
        });
        theirs.push(scout.create(&secret).await.unwrap());
    }
    add_app(scout, "operated", "operated", |app| {
        app["spec"]["environments"][0]["mode"] = json!("Operator");
        app["spec"]["environments"][0]["secretName"] = json!("wired");
    })
    .await;
    add_app(scout, "mounted", "mounted", |app| app["spec"]["deploymentStrategy"] = json!("VolumeMount")).await;
    let message = undelivered(scout, "operated", "SecretNotOwned").await;
    let sentence = "Secret shop/wired cannot be written: Scout does not own it";
    assert_says(&message, &[sentence, "set another secretName in App operated, or remove that Secret"]);
    let message = undelivered(scout, "mounted", "SecretNotOwned").await;
    let sentence = "Secret shop/scout.mounted.deployment.mounted cannot be written: Scout does not own it";
    assert_says(&message, &[sentence, "remove that Secret"]);
    let_pass().await;
    for (name, theirs) in secrets.into_iter().zip(theirs) {
        assert_eq!(scout.get("Secret", "shop", name).await.unwrap(), theirs, "not a byte of it changed");
    }
    for (name, secret) in ["operated", "mounted"].into_iter().zip(secrets) {
        let untouched = deployment_template(scout, name).await;
        assert_eq!(untouched["metadata"], template(&deployment("shop", name))["metadata"]);
        scout.delete("Secret", "shop", secret).await.unwrap();
        let revision = scout.delivered(name, "production", "").await.unwrap();
        scout.rolled_out("shop", name, name, &revision).await.unwrap();
        assert_eq!(scout.secret_value("shop", secret, "TOKEN").await.unwrap().as_deref(), Some("first"));
    }
}

async fn the_second_app_that_claims_a_secret_is_refused_with_the_first_ones_name(scout: &Installation) {
    scout.save("rival/production.env", "TOKEN=of the rival\n").unwrap();
    let mut rival = add_app(scout, "rival", "rival", |app| {
        app["spec"]["environments"][0]["mode"] = json!("Operator");
        app["spec"]["environments"][0]["secretName"] = json!("wired");
    })
    .await;
    let message = undelivered(scout, "rival", "SecretNotOwned").await;
    let sentence = "Secret shop/wired cannot be written: App operated delivers it";
    assert_says(&message, &[sentence, "set another secretName in App rival"]);
    assert_eq!(scout.secret_value("shop", "wired", "TOKEN").await.unwrap().as_deref(), Some("first"));
    rival["spec"]["environments"][0]["secretName"] = json!("of-the-rival");
    scout.apply(&rival).await.unwrap();
    scout.delivered("rival", "production", "").await.unwrap();
    let value = scout.secret_value("shop", "of-the-rival", "TOKEN").await.unwrap();
    assert_eq!(value.as_deref(), Some("of the rival"));
    assert_eq!(scout.secret_value("shop", "wired", "TOKEN").await.unwrap().as_deref(), Some("first"));
}

async fn of_two_apps_with_one_variable_the_second_is_refused_with_both_names_and_the_first_keeps_it(
    scout: &Installation,
) {
    let first = scout.delivered("checkout", "production", "").await.unwrap();
    let before = scout.rolled_out("shop", "api", "checkout", &first).await.unwrap();
    scout.save("fraud/production.env", "TOKEN=of fraud\n").unwrap();
    let mut fraud = add_app(scout, "fraud", "api", |_| {}).await;
    let message = undelivered(scout, "fraud", "Clash").await;
    let sentence = "on Deployment shop/api: apps checkout and fraud both deliver the variable TOKEN: checkout has it";
    assert_says(&message, &[sentence, "rename it in App fraud (environments[].keys[].as)"]);
    let_pass().await;
    assert_eq!(deployment_template(scout, "api").await, *template(&before));
    assert_eq!(scout.variable(&before, "main", "TOKEN").await.unwrap().as_deref(), Some("first"));
    scout.condition("App", "checkout", "Ready", "True", "Ready").await.unwrap();
    assert!(scout.desired_state("shop").await.unwrap().get("fraud").is_none());

    fraud["spec"]["environments"][0]["keys"] = json!([{"name": "TOKEN", "as": "FRAUD_TOKEN"}]);
    scout.apply(&fraud).await.unwrap();
    let revision = scout.delivered("fraud", "production", "").await.unwrap();
    let both = scout.rolled_out("shop", "api", "fraud", &revision).await.unwrap();
    assert_eq!(scout.variable(&both, "main", "TOKEN").await.unwrap().as_deref(), Some("first"));
    assert_eq!(scout.variable(&both, "main", "FRAUD_TOKEN").await.unwrap().as_deref(), Some("of fraud"));
}

async fn a_workload_whose_own_mount_is_where_an_app_mounts_keeps_its_template_until_one_of_them_moves(
    scout: &Installation,
) {
    let mut manifest = deployment("shop", "occupied");
    manifest["spec"]["template"]["spec"]["volumes"] = json!([{"name": "data", "emptyDir": {}}]);
    manifest["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "data", "mountPath": "/var/run/secrets/scout/files"}]);
    let before = scout.apply(&manifest).await.unwrap();
    scout.save("files/production.env", "FILE=first\n").unwrap();
    let mut files =
        add_app(scout, "files", "occupied", |app| app["spec"]["deploymentStrategy"] = json!("VolumeMount")).await;
    let message = undelivered(scout, "files", "ApplyFailed").await;
    assert_says(
        &message,
        &[
            "touching Deployment shop/occupied",
            "container main of the manifest mounts its volume data at /var/run/secrets/scout/files",
            "where app files of Scout is mounted",
            "set another mountPath in App files",
        ],
    );
    assert_eq!(deployment_template(scout, "occupied").await, *template(&before));

    // A path is captured at delivery, as a strategy is: the status says that it waits, and a redeploy brings it.
    let first = scout.delivered("files", "production", "").await.unwrap();
    files["spec"]["mountPath"] = json!("/elsewhere");
    scout.apply(&files).await.unwrap();
    eventually("the status to say that the path waits", async || {
        let status = scout.get("App", "", "files").await?["status"].clone();
        let pending = &status["environments"]["production"]["pending"];
        Ok(Answer::when(*pending == json!(["mountPath /elsewhere"]), (), pending))
    })
    .await
    .unwrap();
    files["metadata"]["annotations"] = json!({"scout.commandk.dev/redeploy": "moved"});
    scout.apply(&files).await.unwrap();
    let revision = scout.delivered("files", "production", &first).await.unwrap();
    let mounted = scout.rolled_out("shop", "occupied", "files", &revision).await.unwrap();
    let mounts = &container(&mounted, "main")["volumeMounts"];
    assert_eq!(mounts[0]["mountPath"], "/var/run/secrets/scout/files", "the user's own stays where it was");
    assert_eq!((&mounts[1]["name"], &mounts[1]["mountPath"]), (&json!("scout-files"), &json!("/elsewhere")));
    scout.condition("App", "files", "Ready", "True", "Ready").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_store_cannot_give_or_kubernetes_not_hold_is_said_in_the_condition_and_the_last_delivery_stays() {
    let scout = install_shop("EnvironmentVariables", "Auto", &["api"]).await;
    a_key_that_kubernetes_cannot_hold_refuses_the_whole_delivery_with_the_key_and_the_fix(&scout).await;
    a_store_that_is_missing_is_named_and_what_it_holds_is_delivered_once_it_is_there(&scout).await;
    scout.stop().await.unwrap();
}

async fn a_key_that_kubernetes_cannot_hold_refuses_the_whole_delivery_with_the_key_and_the_fix(scout: &Installation) {
    scout.save("keyed/production.yaml", "TOKEN: first\n").unwrap();
    let mut keyed = add_app(scout, "keyed", "keyed", |_| {}).await;
    let first = scout.delivered("keyed", "production", "").await.unwrap();
    let before = scout.rolled_out("shop", "keyed", "keyed", &first).await.unwrap();
    scout.save("keyed/production.yaml", "TOKEN: second\n\"DB PASSWORD\": hidden\n").unwrap();
    let message = undelivered(scout, "keyed", "ContentRefused").await;
    assert_says(
        &message,
        &[
            r#"a key of keyed/production cannot be delivered: Kubernetes cannot hold a key named "DB PASSWORD""#,
            "rename it with keys: [{name: …, as: …}] in the App",
        ],
    );
    assert!(!message.contains("hidden") && !message.contains("second"), "no value is in a message: {message}");
    let_pass().await;
    assert_eq!(deployment_template(scout, "keyed").await, *template(&before));
    assert_eq!(scout.variable(&before, "main", "TOKEN").await.unwrap().as_deref(), Some("first"));
    assert_eq!(scout.delivered("keyed", "production", "").await.unwrap(), first, "half a delivery is none");

    keyed["spec"]["environments"][0]["keys"] = json!([{"name": "TOKEN"}, {"name": "DB PASSWORD", "as": "DB_PASSWORD"}]);
    scout.apply(&keyed).await.unwrap();
    let second = scout.delivered("keyed", "production", &first).await.unwrap();
    let renamed = scout.rolled_out("shop", "keyed", "keyed", &second).await.unwrap();
    assert_eq!(scout.variable(&renamed, "main", "TOKEN").await.unwrap().as_deref(), Some("second"));
    assert_eq!(scout.variable(&renamed, "main", "DB_PASSWORD").await.unwrap().as_deref(), Some("hidden"));
}

async fn a_store_that_is_missing_is_named_and_what_it_holds_is_delivered_once_it_is_there(scout: &Installation) {
    scout.save("vault/stored/production.env", "TOKEN=first\n").unwrap();
    add_app(scout, "stored", "stored", |app| app["spec"]["storeRef"]["name"] = json!("vault")).await;
    let sentences = [
        "SecretStore vault of App stored does not exist or cannot be used",
        "create or correct it, or name another one in storeRef",
    ];
    assert_says(&undelivered(scout, "stored", "StoreMissing").await, &sentences);
    let untouched = deployment_template(scout, "stored").await;
    assert_eq!(untouched["metadata"], template(&deployment("shop", "stored"))["metadata"]);

    let mut vault = json!({
        "apiVersion": "scout.commandk.dev/v1alpha1", "kind": "SecretStore", "metadata": {"name": "vault"},
        "spec": {"file": {"path": scout.store().join("vault")}},
    });
    scout.apply(&vault).await.unwrap();
    let revision = scout.delivered("stored", "production", "").await.unwrap();
    let before = scout.rolled_out("shop", "stored", "stored", &revision).await.unwrap();
    // Too short an interval, which the schema cannot say, makes it unusable; so does its end.
    vault["spec"]["refreshInterval"] = json!("1s");
    scout.apply(&vault).await.unwrap();
    let message = scout.condition("SecretStore", "vault", "Ready", "False", "InvalidSpec").await.unwrap();
    assert_says(&message, &[r#"refreshInterval "1s" is not valid: use a number with s, m or h, at least 5s"#]);
    assert_says(&undelivered(scout, "stored", "StoreMissing").await, &sentences);
    scout.delete("SecretStore", "", "vault").await.unwrap();
    let_pass().await;
    assert_says(&undelivered(scout, "stored", "StoreMissing").await, &sentences);
    assert_eq!(deployment_template(scout, "stored").await, *template(&before));
    assert_eq!(scout.variable(&before, "main", "TOKEN").await.unwrap().as_deref(), Some("first"));
    assert_eq!(scout.delivered("stored", "production", "").await.unwrap(), revision);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_or_store_that_makes_no_sense_is_refused_by_the_api_server_or_in_its_condition_with_the_fix() {
    let scout = install().await;
    what_a_schema_can_say_is_refused_where_it_is_written(&scout).await;
    open_shop(&scout, "EnvironmentVariables", "Auto", &["api"]).await;
    what_a_schema_cannot_say_is_in_the_condition_and_what_was_delivered_stays(&scout).await;
    scout.stop().await.unwrap();
}

async fn what_a_schema_can_say_is_refused_where_it_is_written(scout: &Installation) {
    let edited = |edit: &dyn Fn(&mut Value)| {
        let mut app = one_app("checkout", "api");
        edit(&mut app);
        app
    };
    let store = |spec: Value| {
        json!({
            "apiVersion": "scout.commandk.dev/v1alpha1", "kind": "SecretStore", "metadata": {"name": "other"},
            "spec": spec,
        })
    };
    let link = "a link names one workload (name) or selects some (selector): set exactly one of the two";
    let name = "an App's name becomes part of label keys and volume names: use at most 50 characters and no dot";
    let environment = environment("checkout", "production", "Auto", &[]);
    for (manifest, field, words) in [
        (
            edited(&|app| {
                app["spec"]["environments"][0]["links"][0]["selector"] = json!({"matchLabels": {"tier": "web"}});
            }),
            "spec.environments[0].links[0]",
            link,
        ),
        (
            edited(&|app| {
                app["spec"]["environments"][0]["links"] = json!([{"namespace": "shop", "kind": "Deployment"}]);
            }),
            "spec.environments[0].links[0]",
            link,
        ),
        (edited(&|app| app["metadata"]["name"] = json!("a".repeat(51))), "App", name),
        (edited(&|app| app["metadata"]["name"] = json!("check.out")), "App", name),
        (
            edited(&|app| app["spec"]["environments"][0]["reloadStrategi"] = json!("Manual")),
            "spec.environments[0].reloadStrategi",
            "unknown field",
        ),
        (
            edited(&|app| app["spec"]["deploymentStrategy"] = json!("Variables")),
            "spec.deploymentStrategy",
            "VolumeMount",
        ),
        (edited(&|app| app["spec"]["mountPath"] = json!("relative")), "spec.mountPath", "should match"),
        (
            edited(&|app| app["spec"]["environments"] = json!([environment, environment])),
            "spec.environments[1]",
            "Duplicate value",
        ),
        (store(json!({})), "spec", "name a backend: file"),
        (store(json!({"file": {"path": "relative"}})), "spec.file.path", "should match"),
        (store(json!({"file": {"path": "/x"}, "refreshInterval": "often"})), "spec.refreshInterval", "should match"),
    ] {
        let input = manifest.to_string();
        let output = scout.cluster().kubectl_with_input(&["create", "--filename=-"], &input).await.unwrap();
        assert!(!output.status.success(), "accepted: {input}");
        assert_says(&output.stderr, &[field, words]);
    }
    assert_eq!(scout.list_everywhere("App").await.unwrap(), Vec::<Value>::new());
    assert_eq!(scout.list_everywhere("SecretStore").await.unwrap().len(), 1, "the installation's own");
}

async fn what_a_schema_cannot_say_is_in_the_condition_and_what_was_delivered_stays(scout: &Installation) {
    let first = scout.delivered("checkout", "production", "").await.unwrap();
    let before = scout.rolled_out("shop", "api", "checkout", &first).await.unwrap();
    let path = json!({"source": {"path": "../etc"}});
    let keys = json!({"keys": [{"name": "TOKEN", "as": "X"}, {"name": "X"}]});
    for (spec, sentence) in [
        (path, r#"environment production: source path "../etc" is not valid: use names separated by '/'"#),
        (keys, "environment production delivers two keys as X: set another name for one of them (keys[].as)"),
    ] {
        let mut broken = one_app("checkout", "api");
        let environment = broken["spec"]["environments"][0].as_object_mut().unwrap();
        environment.extend(spec.as_object().unwrap().clone());
        scout.apply(&broken).await.unwrap();
        let message = eventually("the condition to say it", async || {
            let message = scout.condition("App", "checkout", "Delivered", "False", "InvalidSpec").await?;
            Ok(Answer::when(message.contains(sentence), message.clone(), message))
        })
        .await
        .unwrap();
        assert_says(&message, &["what was delivered stays as it is"]);
    }
    let_pass().await;
    assert_eq!(deployment_template(scout, "api").await, *template(&before));
    assert_eq!(scout.variable(&before, "main", "TOKEN").await.unwrap().as_deref(), Some("first"));
    let rollouts = scout.rollouts("shop", "api").await.unwrap();
    scout.apply(&one_app("checkout", "api")).await.unwrap();
    scout.condition("App", "checkout", "Ready", "True", "Ready").await.unwrap();
    assert_eq!(scout.delivered("checkout", "production", "").await.unwrap(), first);
    assert_eq!(variables(&scout.get("Deployment", "shop", "api").await.unwrap(), "main"), variables(&before, "main"));
    assert_eq!(scout.rollouts("shop", "api").await.unwrap(), rollouts, "back to what was delivered rolls nothing");
}
