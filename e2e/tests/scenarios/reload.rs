//! When a new revision rolls what runs, and when it waits.

use e2e::installation::{Answer, container, eventually, variables};
use e2e::manifests::{app, deployment, environment, link, namespace};
use serde_json::{Value, json};

use super::{eventually_admitted, install, install_shop, kubectl, let_pass, restart, template};

#[tokio::test(flavor = "multi_thread")]
async fn s8_under_auto_a_changed_value_rolls_every_linked_deployment_once() {
    let names = ["one", "two", "three"];
    let scout = install_shop("EnvironmentVariables", "Auto", &names).await;
    let first = scout.delivered("checkout", "production", "").await.unwrap();
    let mut before = Vec::new();
    for name in names {
        scout.rolled_out("shop", name, "checkout", &first).await.unwrap();
        before.push(scout.rollouts("shop", name).await.unwrap());
    }
    scout.save("checkout/production.env", "TOKEN=second\n").unwrap();
    let second = scout.delivered("checkout", "production", &first).await.unwrap();
    for name in names {
        let rolled = scout.rolled_out("shop", name, "checkout", &second).await.unwrap();
        assert_eq!(scout.variable(&rolled, "main", "TOKEN").await.unwrap().as_deref(), Some("second"));
    }
    let_pass().await;
    for (name, before) in names.into_iter().zip(before) {
        assert_eq!(scout.rollouts("shop", name).await.unwrap(), before + 1, "{name}");
        let pods =
            scout.list("Pod", "shop", &format!("app={name},scout.commandk.dev/checkout={second}")).await.unwrap();
        assert_eq!(pods.len(), 1, "every pod can be asked for its revision");
    }
    scout.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn s9_under_manual_the_template_stays_byte_identical_until_a_restart_which_brings_the_new_value() {
    let scout = install_shop("EnvironmentVariables", "Manual", &["api"]).await;
    let first = scout.delivered("checkout", "production", "").await.unwrap();
    // A workload that has nothing attached yet is attached at its next admission, which under Manual is its user's doing.
    restart(&scout, "api").await;
    let attached = scout.rolled_out("shop", "api", "checkout", &first).await.unwrap();
    let rollouts = scout.rollouts("shop", "api").await.unwrap();

    scout.save("checkout/production.env", "TOKEN=second\n").unwrap();
    let second = scout.delivered("checkout", "production", &first).await.unwrap();
    let secret = format!("scout.checkout.{second}");
    assert_eq!(
        scout.secret_value("shop", &secret, "TOKEN").await.unwrap().as_deref(),
        Some("second"),
        "it is delivered"
    );
    // Others write to the workload meanwhile: a label, a scale. Neither brings the revision in.
    scout.patch("Deployment", "shop", "api", &json!({"metadata": {"labels": {"team": "a"}}})).await.unwrap();
    kubectl(&scout, &["scale", "deployment/api", "--namespace=shop", "--replicas=2"]).await;
    let_pass().await;
    let waiting = scout.complete("shop", "api").await.unwrap();
    assert_eq!(template(&waiting).to_string(), template(&attached).to_string());
    assert_eq!(scout.rollouts("shop", "api").await.unwrap(), rollouts);
    let message = scout.condition("App", "checkout", "Ready", "True", "Waiting").await.unwrap();
    assert!(message.contains("Deployment shop/api: reloadStrategy Manual: restart it"), "{message}");

    restart(&scout, "api").await;
    let rolled = scout.rolled_out("shop", "api", "checkout", &second).await.unwrap();
    assert_eq!(scout.variable(&rolled, "main", "TOKEN").await.unwrap().as_deref(), Some("second"));
    assert_eq!(scout.rollouts("shop", "api").await.unwrap(), rollouts + 1);
    scout.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn s10_the_reload_strategy_differs_between_the_environments_of_one_app() {
    let scout = install().await;
    let mut environments = Vec::new();
    for (name, of, reload) in [("shop", "production", "Manual"), ("shop-staging", "staging", "Auto")] {
        scout.apply(&namespace(name, of)).await.unwrap();
        eventually_admitted(&scout, name).await;
        scout.save(&format!("checkout/{of}.env"), "TOKEN=first\n").unwrap();
        environments.push(environment("checkout", of, reload, &[link(name, "api")]));
    }
    scout.apply(&app("checkout", "EnvironmentVariables", &environments)).await.unwrap();
    let mut first = Vec::new();
    for (name, of) in [("shop", "production"), ("shop-staging", "staging")] {
        first.push(scout.delivered("checkout", of, "").await.unwrap());
        scout.create(&deployment(name, "api")).await.unwrap();
    }
    let manual = scout.rolled_out("shop", "api", "checkout", &first[0]).await.unwrap();
    scout.rolled_out("shop-staging", "api", "checkout", &first[1]).await.unwrap();
    for of in ["production", "staging"] {
        scout.save(&format!("checkout/{of}.env"), "TOKEN=second\n").unwrap();
    }
    scout.delivered("checkout", "production", &first[0]).await.unwrap();
    let second = scout.delivered("checkout", "staging", &first[1]).await.unwrap();
    scout.rolled_out("shop-staging", "api", "checkout", &second).await.unwrap();
    let_pass().await;
    assert_eq!(template(&scout.get("Deployment", "shop", "api").await.unwrap()), template(&manual));
    scout.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn s11_a_changed_strategy_or_reload_changes_nothing_until_a_delivery_or_a_redeploy_and_is_pending_meanwhile() {
    let scout = install_shop("EnvironmentVariables", "Auto", &["api"]).await;
    let revision = scout.delivered("checkout", "production", "").await.unwrap();
    let before = scout.rolled_out("shop", "api", "checkout", &revision).await.unwrap();
    let links = [link("shop", "api")];
    let changed = app("checkout", "VolumeMount", &[environment("checkout", "production", "Manual", &links)]);
    scout.apply(&changed).await.unwrap();
    let pending = eventually("the status to say what is pending", async || {
        let pending =
            scout.get("App", "", "checkout").await?["status"]["environments"]["production"]["pending"].clone();
        Ok(Answer::when(pending.as_array().is_some_and(|all| !all.is_empty()), pending.clone(), pending))
    })
    .await
    .unwrap();
    assert_eq!(pending, json!(["deploymentStrategy VolumeMount", "reloadStrategy Manual"]));
    let_pass().await;
    let still = scout.get("Deployment", "shop", "api").await.unwrap();
    assert_eq!(template(&still), template(&before));
    let status = scout.get("App", "", "checkout").await.unwrap()["status"]["environments"]["production"].clone();
    assert_eq!(
        (&status["deploymentStrategy"], &status["reloadStrategy"]),
        (&json!("EnvironmentVariables"), &json!("Auto"))
    );

    // With a redeploy the new strategy is delivered; under Manual it enters the template at the next restart.
    let redeploy = json!({"metadata": {"annotations": {"scout.commandk.dev/redeploy": "now"}}});
    scout.patch("App", "", "checkout", &redeploy).await.unwrap();
    eventually("nothing to be pending", async || {
        let status = scout.get("App", "", "checkout").await?["status"]["environments"]["production"].clone();
        let done = status["pending"] == Value::Null && status["deploymentStrategy"] == "VolumeMount";
        Ok(Answer::when(done, (), status))
    })
    .await
    .unwrap();
    let_pass().await;
    assert_eq!(template(&scout.get("Deployment", "shop", "api").await.unwrap()), template(&before));
    restart(&scout, "api").await;
    let switched = eventually("the mount to be in the template", async || {
        let workload = scout.get("Deployment", "shop", "api").await?;
        let mounted = container(&workload, "main")["volumeMounts"] != Value::Null;
        Ok(Answer::when(mounted, workload.clone(), workload))
    })
    .await
    .unwrap();
    assert!(variables(&switched, "main").is_empty(), "the variables of the old strategy are gone");
    scout.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn quick_successive_changes_roll_a_deployment_once() {
    let scout = install_shop("EnvironmentVariables", "Auto", &["api"]).await;
    let first = scout.delivered("checkout", "production", "").await.unwrap();
    scout.rolled_out("shop", "api", "checkout", &first).await.unwrap();
    let before = scout.rollouts("shop", "api").await.unwrap();
    for number in 0..5 {
        scout.save("checkout/production.env", &format!("TOKEN=change {number}\n")).unwrap();
    }
    let second = scout.delivered("checkout", "production", &first).await.unwrap();
    let rolled = scout.rolled_out("shop", "api", "checkout", &second).await.unwrap();
    assert_eq!(scout.variable(&rolled, "main", "TOKEN").await.unwrap().as_deref(), Some("change 4"));
    let_pass().await;
    assert_eq!(scout.rollouts("shop", "api").await.unwrap(), before + 1);
    scout.stop().await.unwrap();
}
