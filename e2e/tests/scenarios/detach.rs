//! Freezing, detaching, and coming back.

use e2e::installation::{Answer, Installation, container, eventually, variables};
use e2e::manifests::{app, deployment, environment, link};
use serde_json::{Value, json};

use super::{install_shop, let_pass, mutation_mode, template};

/// Adds an App `files` with the volume strategy to the Deployments named; returns its revision.
async fn mount_files(scout: &Installation, deployments: &[&str]) -> String {
    scout.save("files/production.env", "FILE=first\n").unwrap();
    let links: Vec<Value> = deployments.iter().map(|name| link("shop", name)).collect();
    scout.apply(&app("files", "VolumeMount", &[environment("files", "production", "Auto", &links)])).await.unwrap();
    scout.delivered("files", "production", "").await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn s12_ignore_freezes_variables_and_file_content() {
    let scout = install_shop("EnvironmentVariables", "Auto", &["frozen", "sibling"]).await;
    let first = scout.delivered("checkout", "production", "").await.unwrap();
    let files = mount_files(&scout, &["frozen", "sibling"]).await;
    for name in ["frozen", "sibling"] {
        scout.rolled_out("shop", name, "checkout", &first).await.unwrap();
        scout.rolled_out("shop", name, "files", &files).await.unwrap();
    }
    let frozen = scout.patch("Deployment", "shop", "frozen", &mutation_mode(Some("ignore"))).await.unwrap();
    scout.save("checkout/production.env", "TOKEN=second\n").unwrap();
    scout.save("files/production.env", "FILE=second\n").unwrap();
    let second = scout.delivered("checkout", "production", &first).await.unwrap();
    let later_files = scout.delivered("files", "production", &files).await.unwrap();
    scout.rolled_out("shop", "sibling", "checkout", &second).await.unwrap();
    scout.rolled_out("shop", "sibling", "files", &later_files).await.unwrap();
    let_pass().await;
    let now = scout.get("Deployment", "shop", "frozen").await.unwrap();
    assert_eq!(template(&now), template(&frozen));
    assert_eq!(scout.variable(&now, "main", "TOKEN").await.unwrap().as_deref(), Some("first"));
    let file = |name: &str| format!("scout.files.deployment.{name}");
    assert_eq!(scout.secret_value("shop", &file("frozen"), "FILE").await.unwrap().as_deref(), Some("first"));
    assert_eq!(scout.secret_value("shop", &file("sibling"), "FILE").await.unwrap().as_deref(), Some("second"));
    // Not even a manifest that tries to take them out changes what an ignored workload holds.
    let mut stripped = deployment("shop", "frozen");
    stripped["metadata"]["annotations"] = json!({"scout.commandk.dev/mutation-mode": "ignore"});
    scout
        .cluster()
        .kubectl_with_input(&["replace", "-f", "-"], &stripped.to_string())
        .await
        .unwrap()
        .success()
        .unwrap();
    let replaced = scout.get("Deployment", "shop", "frozen").await.unwrap();
    assert_eq!(scout.variable(&replaced, "main", "TOKEN").await.unwrap().as_deref(), Some("first"));
    scout.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn s13_ignore_and_detach_removes_everything_of_scout_and_the_secrets_that_nothing_else_needs() {
    let scout = install_shop("EnvironmentVariables", "Auto", &["leaving", "sibling"]).await;
    let revision = scout.delivered("checkout", "production", "").await.unwrap();
    let files = mount_files(&scout, &["leaving", "sibling"]).await;
    for name in ["leaving", "sibling"] {
        scout.rolled_out("shop", name, "checkout", &revision).await.unwrap();
        scout.rolled_out("shop", name, "files", &files).await.unwrap();
    }
    let detached =
        scout.patch("Deployment", "shop", "leaving", &mutation_mode(Some("ignore-and-detach"))).await.unwrap();
    let written = deployment("shop", "leaving");
    assert_eq!(template(&detached)["metadata"], template(&written)["metadata"], "label and annotation are gone");
    for of in ["main", "prepare"] {
        assert!(variables(&detached, of).is_empty());
        assert_eq!(container(&detached, of)["volumeMounts"], Value::Null);
    }
    assert_eq!(template(&detached)["spec"]["volumes"], Value::Null);
    assert_eq!(detached["metadata"]["annotations"]["scout.commandk.dev/attached"], Value::Null);
    scout.complete("shop", "leaving").await.unwrap();

    gone(&scout, "scout.files.deployment.leaving").await;
    // The sibling needs the shared Secret, and has its own files.
    let shared = format!("scout.checkout.{revision}");
    assert_eq!(scout.secret_value("shop", &shared, "TOKEN").await.unwrap().as_deref(), Some("first"));
    assert!(scout.find("Secret", "shop", "scout.files.deployment.sibling").await.unwrap().is_some());
    scout.patch("Deployment", "shop", "sibling", &mutation_mode(Some("ignore-and-detach"))).await.unwrap();
    scout.complete("shop", "sibling").await.unwrap();
    gone(&scout, &shared).await;
    gone(&scout, "scout.files.deployment.sibling").await;
    let left = scout.list("Secret", "shop", "app.kubernetes.io/managed-by=scout").await.unwrap();
    assert_eq!(left, Vec::<Value>::new());
    scout.stop().await.unwrap();
}

async fn gone(scout: &Installation, secret: &str) {
    eventually(&format!("Secret {secret} to be pruned"), async || {
        let found = scout.find("Secret", "shop", secret).await?;
        Ok(Answer::when(found.is_none(), (), "it is there"))
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn s14_removing_the_annotation_restores_all_of_it() {
    let scout = install_shop("EnvironmentVariables", "Auto", &["api"]).await;
    let first = scout.delivered("checkout", "production", "").await.unwrap();
    let files = mount_files(&scout, &["api"]).await;
    scout.rolled_out("shop", "api", "checkout", &first).await.unwrap();
    let attached = scout.rolled_out("shop", "api", "files", &files).await.unwrap();
    scout.patch("Deployment", "shop", "api", &mutation_mode(Some("ignore-and-detach"))).await.unwrap();
    scout.complete("shop", "api").await.unwrap();
    gone(&scout, "scout.files.deployment.api").await;
    gone(&scout, &format!("scout.checkout.{first}")).await;
    scout.patch("Deployment", "shop", "api", &mutation_mode(None)).await.unwrap();
    scout.rolled_out("shop", "api", "checkout", &first).await.unwrap();
    let restored = scout.rolled_out("shop", "api", "files", &files).await.unwrap();
    assert_eq!(template(&restored), template(&attached));
    assert_eq!(scout.variable(&restored, "main", "TOKEN").await.unwrap().as_deref(), Some("first"));
    let file = scout.secret_value("shop", "scout.files.deployment.api", "FILE").await.unwrap();
    assert_eq!(file.as_deref(), Some("first"));

    // From `ignore` too: what was delivered meanwhile comes in at once.
    scout.patch("Deployment", "shop", "api", &mutation_mode(Some("ignore"))).await.unwrap();
    scout.save("checkout/production.env", "TOKEN=second\n").unwrap();
    let second = scout.delivered("checkout", "production", &first).await.unwrap();
    scout.patch("Deployment", "shop", "api", &mutation_mode(None)).await.unwrap();
    let rolled = scout.rolled_out("shop", "api", "checkout", &second).await.unwrap();
    assert_eq!(scout.variable(&rolled, "main", "TOKEN").await.unwrap().as_deref(), Some("second"));
    scout.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_a_link_detaches_and_an_app_that_is_deleted_while_linked_goes_on_until_then() {
    let scout = install_shop("EnvironmentVariables", "Auto", &["api"]).await;
    let first = scout.delivered("checkout", "production", "").await.unwrap();
    scout.rolled_out("shop", "api", "checkout", &first).await.unwrap();
    scout.delete("App", "", "checkout").await.unwrap();
    let message = scout.condition("App", "checkout", "Terminating", "True", "Linked").await.unwrap();
    assert!(message.contains("environment production in namespace shop"), "{message}");
    scout.save("checkout/production.env", "TOKEN=second\n").unwrap();
    let second = scout.delivered("checkout", "production", &first).await.unwrap();
    scout.rolled_out("shop", "api", "checkout", &second).await.unwrap();

    let unlinked = app("checkout", "EnvironmentVariables", &[environment("checkout", "production", "Auto", &[])]);
    scout.apply(&unlinked).await.unwrap();
    let detached = eventually("the Deployment to be detached", async || {
        let workload = scout.get("Deployment", "shop", "api").await?;
        Ok(Answer::when(variables(&workload, "main").is_empty(), workload.clone(), workload))
    })
    .await
    .unwrap();
    assert_eq!(template(&detached)["metadata"], template(&deployment("shop", "api"))["metadata"]);
    eventually("the App to be gone", async || {
        let found = scout.find("App", "", "checkout").await?;
        Ok(Answer::when(found.is_none(), (), format!("{found:?}")))
    })
    .await
    .unwrap();
    gone(&scout, &format!("scout.checkout.{second}")).await;
    gone(&scout, &format!("scout.checkout.{first}")).await;
    scout.stop().await.unwrap();
}
