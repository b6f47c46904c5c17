//! What is delivered to whom.

use e2e::installation::{container, variables};
use e2e::manifests::{app, deployment, environment, link, link_by_label, namespace};
use serde_json::{Value, json};

use super::{eventually_admitted, install, install_shop, let_pass, template};

#[tokio::test(flavor = "multi_thread")]
async fn s1_operator_mode_gives_a_secret_of_a_stable_name_and_leaves_the_template_but_for_the_revision_under_auto() {
    let scout = install().await;
    scout.apply(&namespace("shop", "production")).await.unwrap();
    eventually_admitted(&scout, "shop").await;
    let mut wired = deployment("shop", "api");
    let variable = json!({"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "wired", "key": "TOKEN"}}});
    wired["spec"]["template"]["spec"]["containers"][0]["env"] = json!([variable]);
    let before = scout.apply(&wired).await.unwrap();
    scout.save("checkout/production.env", "TOKEN=first\n").unwrap();
    let mut production = environment("checkout", "production", "Auto", &[link("shop", "api")]);
    production["mode"] = json!("Operator");
    production["secretName"] = json!("wired");
    scout.apply(&app("checkout", "EnvironmentVariables", &[production.clone()])).await.unwrap();

    let first = scout.delivered("checkout", "production", "").await.unwrap();
    let rolled = scout.rolled_out("shop", "api", "checkout", &first).await.unwrap();
    assert_eq!(scout.secret_value("shop", "wired", "TOKEN").await.unwrap().as_deref(), Some("first"));
    assert_eq!(template(&rolled)["spec"], template(&before)["spec"], "the user's wiring is the user's");
    scout.save("checkout/production.env", "TOKEN=second\n").unwrap();
    let second = scout.delivered("checkout", "production", &first).await.unwrap();
    let rolled = scout.rolled_out("shop", "api", "checkout", &second).await.unwrap();
    assert_eq!(scout.secret_value("shop", "wired", "TOKEN").await.unwrap().as_deref(), Some("second"));
    assert_eq!(template(&rolled)["spec"], template(&before)["spec"]);

    // Under Manual not even the revision gets in: a workload that is linked anew keeps the template that its user wrote.
    scout.apply(&deployment("shop", "manual")).await.unwrap();
    let untouched = scout.complete("shop", "manual").await.unwrap();
    production["reloadStrategy"] = json!("Manual");
    production["secretName"] = json!("wired-by-hand");
    production["links"] = json!([link("shop", "manual")]);
    scout.apply(&app("other", "EnvironmentVariables", &[production.clone()])).await.unwrap();
    scout.delivered("other", "production", "").await.unwrap();
    let_pass().await;
    assert_eq!(scout.secret_value("shop", "wired-by-hand", "TOKEN").await.unwrap().as_deref(), Some("second"));
    assert_eq!(template(&scout.get("Deployment", "shop", "manual").await.unwrap()), template(&untouched));

    // A Secret that is wired by hand stays as long as a pod names it, linked or not.
    production["links"] = json!([]);
    production["secretName"] = json!("wired");
    scout.apply(&app("checkout", "EnvironmentVariables", &[production])).await.unwrap();
    let_pass().await;
    let_pass().await;
    assert!(scout.find("Secret", "shop", "wired").await.unwrap().is_some(), "Deployment shop/api still names it");
    scout.delete("Deployment", "shop", "api").await.unwrap();
    e2e::installation::eventually("Secret wired to be pruned", async || {
        let found = scout.find("Secret", "shop", "wired").await?;
        Ok(e2e::installation::Answer::when(found.is_none(), (), "it is there"))
    })
    .await
    .unwrap();
    scout.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn s2_variables_and_mounts_appear_on_a_deployment_that_has_none_at_create_and_on_one_that_was_there_before() {
    let scout = install_shop("EnvironmentVariables", "Auto", &["before"]).await;
    scout.save("files/production.yaml", "tls.crt: a certificate\n").unwrap();
    let links = [link("shop", "before"), link("shop", "fresh")];
    scout.apply(&app("files", "VolumeMount", &[environment("files", "production", "Auto", &links)])).await.unwrap();
    let links = [link("shop", "before"), link("shop", "fresh")];
    let checkout = app("checkout", "EnvironmentVariables", &[environment("checkout", "production", "Auto", &links)]);
    scout.apply(&checkout).await.unwrap();
    let files = scout.delivered("files", "production", "").await.unwrap();
    let revision = scout.delivered("checkout", "production", "").await.unwrap();
    scout.rolled_out("shop", "before", "files", &files).await.unwrap();
    let before = scout.rolled_out("shop", "before", "checkout", &revision).await.unwrap();
    // The answer to the CREATE itself shows it: nothing had to come after.
    let fresh = scout.create(&deployment("shop", "fresh")).await.unwrap();
    for (workload, name) in [(&before, "before"), (&fresh, "fresh")] {
        for of in ["main", "prepare"] {
            let secret = format!("scout.checkout.{revision}");
            assert_eq!(variables(workload, of)["TOKEN"], (secret, "TOKEN".to_owned()), "{name} {of}");
            assert_eq!(scout.variable(workload, of, "TOKEN").await.unwrap().as_deref(), Some("first"));
            let mounts = &container(workload, of)["volumeMounts"];
            assert_eq!(mounts[0]["mountPath"], "/var/run/secrets/scout/files", "{name} {of}: {mounts}");
            assert_eq!(mounts[0]["readOnly"], true);
        }
        assert_eq!(container(workload, "main")["env"][0], json!({"name": "PLAIN", "value": "as written"}));
        let secret = template(workload)["spec"]["volumes"][0]["secret"]["secretName"].as_str().unwrap();
        assert_eq!(secret, format!("scout.files.deployment.{name}"));
        assert_eq!(scout.secret_value("shop", secret, "tls.crt").await.unwrap().as_deref(), Some("a certificate"));
    }
    scout.complete("shop", "fresh").await.unwrap();
    assert_eq!(scout.rollouts("shop", "fresh").await.unwrap(), 1, "attached at its CREATE, so it rolled out once");
    scout.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_a_second_environment_on_a_namespace_is_impossible_and_a_relabelled_namespace_switches() {
    let scout = install().await;
    scout.apply(&namespace("shop", "production")).await.unwrap();
    eventually_admitted(&scout, "shop").await;
    scout.apply(&deployment("shop", "api")).await.unwrap();
    scout.save("checkout/production.env", "TOKEN=of production\n").unwrap();
    scout.save("checkout/staging.env", "TOKEN=of staging\n").unwrap();
    let links = [link("shop", "api")];
    let environments = ["production", "staging"].map(|name| environment("checkout", name, "Auto", &links));
    scout.apply(&app("checkout", "EnvironmentVariables", &environments)).await.unwrap();

    let production = scout.delivered("checkout", "production", "").await.unwrap();
    let rolled = scout.rolled_out("shop", "api", "checkout", &production).await.unwrap();
    assert_eq!(scout.variable(&rolled, "main", "TOKEN").await.unwrap().as_deref(), Some("of production"));
    let message = scout.condition("App", "checkout", "Ready", "False", "NamespaceInOtherEnvironment").await.unwrap();
    assert!(message.contains("namespace shop is labelled scout.commandk.dev/environment=production"), "{message}");
    let status = scout.get("App", "", "checkout").await.unwrap()["status"].clone();
    assert_eq!(status["environments"]["staging"]["revision"], Value::Null, "only one environment is delivered");

    scout.apply(&namespace("shop", "staging")).await.unwrap();
    let staging = scout.delivered("checkout", "staging", "").await.unwrap();
    let rolled = scout.rolled_out("shop", "api", "checkout", &staging).await.unwrap();
    assert_eq!(scout.variable(&rolled, "main", "TOKEN").await.unwrap().as_deref(), Some("of staging"));
    let entry = scout.desired_state("shop").await.unwrap()["checkout"].clone();
    let entry: Value = serde_json::from_str(entry.as_str().unwrap()).unwrap();
    assert_eq!(entry["environment"], "staging");
    scout.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn s4_one_app_environment_feeds_three_deployments_by_name_and_a_fourth_by_selector_at_its_create() {
    let scout = install_shop("EnvironmentVariables", "Auto", &["one", "two", "three"]).await;
    let mut links = ["one", "two", "three"].map(|name| link("shop", name)).to_vec();
    links.push(link_by_label("shop", "tier", "web"));
    let environment = environment("checkout", "production", "Auto", &links);
    scout.apply(&app("checkout", "EnvironmentVariables", &[environment])).await.unwrap();
    let revision = scout.delivered("checkout", "production", "").await.unwrap();
    for name in ["one", "two", "three"] {
        scout.rolled_out("shop", name, "checkout", &revision).await.unwrap();
    }
    let mut fourth = deployment("shop", "four");
    fourth["metadata"]["labels"]["tier"] = json!("web");
    // The selector may be in the desired state an instant after the names.
    e2e::installation::eventually("the selector to be in the desired state", async || {
        let state = scout.desired_state("shop").await?.to_string();
        Ok(e2e::installation::Answer::when(state.contains("tier"), (), state))
    })
    .await
    .unwrap();
    let created = scout.create(&fourth).await.unwrap();
    assert_eq!(scout.variable(&created, "main", "TOKEN").await.unwrap().as_deref(), Some("first"));
    scout.complete("shop", "four").await.unwrap();
    assert_eq!(scout.rollouts("shop", "four").await.unwrap(), 1);
    let secrets = scout.list("Secret", "shop", "app.kubernetes.io/managed-by=scout").await.unwrap();
    assert_eq!(secrets.len(), 1, "four workloads share one Secret");
    // A workload that no link means gets nothing, whatever it calls itself.
    let stranger = scout.create(&deployment("shop", "stranger")).await.unwrap();
    assert!(variables(&stranger, "main").is_empty());
    scout.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn s7_the_strategy_is_per_app_for_all_its_environments() {
    let scout = install().await;
    let mut environments = Vec::new();
    for (name, environment_name) in [("shop", "production"), ("shop-staging", "staging")] {
        scout.apply(&namespace(name, environment_name)).await.unwrap();
        eventually_admitted(&scout, name).await;
        scout.apply(&deployment(name, "api")).await.unwrap();
        scout.save(&format!("checkout/{environment_name}.env"), &format!("TOKEN={environment_name}\n")).unwrap();
        environments.push(environment("checkout", environment_name, "Auto", &[link(name, "api")]));
    }
    scout.apply(&app("checkout", "VolumeMount", &environments)).await.unwrap();
    for (name, environment_name) in [("shop", "production"), ("shop-staging", "staging")] {
        let revision = scout.delivered("checkout", environment_name, "").await.unwrap();
        let rolled = scout.rolled_out(name, "api", "checkout", &revision).await.unwrap();
        assert!(variables(&rolled, "main").is_empty());
        assert_eq!(container(&rolled, "main")["volumeMounts"][0]["name"], "scout-checkout");
        let value = scout.secret_value(name, "scout.checkout.deployment.api", "TOKEN").await.unwrap();
        assert_eq!(value.as_deref(), Some(environment_name));
    }
    environments[0]["deploymentStrategy"] = json!("EnvironmentVariables");
    let error = scout.apply(&app("checkout", "VolumeMount", &environments)).await.unwrap_err();
    assert!(format!("{error:#}").contains("deploymentStrategy"), "{error:#}");
    scout.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_readme_shows_works_as_written() {
    let scout = install().await;
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let shown = readme.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let example = shown.replace("/var/scout/secrets", scout.store().to_str().unwrap());
    assert_ne!(shown, example, "the store's folder is this installation's");
    let apply = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    scout.cluster().kubectl_with_input(&apply, &example).await.unwrap().success().unwrap();
    scout.save("checkout/production.yaml", "DB_URL: postgres://db\n").unwrap();
    let first = scout.delivered("checkout", "production", "").await.unwrap();
    let created = scout.create(&deployment("shop", "api")).await.unwrap();
    assert_eq!(scout.variable(&created, "main", "DB_URL").await.unwrap().as_deref(), Some("postgres://db"));
    scout.save("checkout/production.yaml", "DB_URL: postgres://other\n").unwrap();
    let second = scout.delivered("checkout", "production", &first).await.unwrap();
    let rolled = scout.rolled_out("shop", "api", "checkout", &second).await.unwrap();
    assert_eq!(scout.variable(&rolled, "main", "DB_URL").await.unwrap().as_deref(), Some("postgres://other"));
    assert_eq!(scout.rollouts("shop", "api").await.unwrap(), 2, "at its CREATE, and once for the change");
    scout.stop().await.unwrap();
}
