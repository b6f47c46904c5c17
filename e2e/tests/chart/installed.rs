//! The chart in a real API server: what it says of every rendering, and what upgrade and uninstall do.

use std::path::Path;

use e2e::cluster::{Cluster, Options};
use e2e::installation::chart::{RELEASE, chart, install, install_neighbours};
use e2e::installation::{Answer, Installation, NAMESPACE, eventually, variables};
use e2e::manifests::{app, deployment, environment, link, namespace};
use e2e::webhook;
use serde_json::{Value, json};

use super::{VARIANTS, render};

#[tokio::test(flavor = "multi_thread")]
async fn a_real_api_server_takes_every_rendering_without_a_warning() {
    let cluster = Cluster::start(Options::default(), &|_| {}).await.unwrap();
    install_neighbours(&cluster).await.unwrap();
    // The strictest of the Pod Security Standards, as warnings too: they come for a Deployment already.
    let restricted = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/warn": "restricted"}},
    });
    cluster.kubectl_with_input(&["apply", "-f", "-"], &restricted.to_string()).await.unwrap().success().unwrap();
    let dry_run = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"];
    for variant in VARIANTS {
        let rendered = render(&cluster.helm(), variant).await.unwrap();
        let output = cluster.kubectl_with_input(&dry_run, &rendered).await.unwrap();
        assert_eq!(output.stderr, "", "{variant:?}");
        output.success().unwrap();
    }
    // That it could fail: a field that is misspelt, in the kinds that are defined here and in Kubernetes' own.
    let rendered = render(&cluster.helm(), &[]).await.unwrap();
    for (field, misspelt) in
        [("timeoutEvalSeconds:", "timeoutEvalSecond:"), ("readOnlyRootFilesystem:", "readOnlyRoot:")]
    {
        let output = cluster.kubectl_with_input(&dry_run, &rendered.replace(field, misspelt)).await.unwrap();
        let error = output.success().unwrap_err().to_string();
        assert!(error.contains(misspelt.trim_end_matches(':')), "{error}");
    }
    cluster.stop().await.unwrap();
}

/// A copy of the chart with another version, in which a custom resource has one more column for people.
fn newer_chart(folder: &Path) {
    let copied = std::process::Command::new("cp").arg("-r").arg(chart()).arg(folder).status().unwrap();
    assert!(copied.success());
    let edit = |file: &str, from: &str, to: &str| {
        let path = folder.join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file}");
        std::fs::write(path, text.replacen(from, to, 1)).unwrap();
    };
    edit("Chart.yaml", "\nversion: ", "\nversion: 9");
    edit(
        "files/crds.yaml",
        "additionalPrinterColumns:\n",
        "additionalPrinterColumns:\n    - {name: Newer, type: date, jsonPath: .metadata.creationTimestamp}\n",
    );
}

/// What runs because of Scout in namespace `shop`, and must not be disturbed: pods by their uid, and the Secrets.
async fn running(scout: &Installation) -> Value {
    let workload = scout.get("Deployment", "shop", "api").await.unwrap();
    let facts = |objects: Vec<Value>| -> Vec<Value> {
        let facts = objects.into_iter().map(|one| {
            json!({"name": one["metadata"]["name"], "uid": one["metadata"]["uid"], "spec": one["spec"], "data": one["data"]})
        });
        facts.collect()
    };
    json!({
        "template": workload["spec"]["template"],
        "generation": workload["metadata"]["generation"],
        "pods": facts(scout.list("Pod", "shop", "").await.unwrap()),
        "secrets": facts(scout.list("Secret", "shop", "").await.unwrap()),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_changes_what_it_should_and_uninstall_leaves_running_workloads_as_they_are() {
    let scout = Installation::start(e2e::installation::Options::default(), &|_| {}).await.unwrap();
    let helm = scout.cluster().helm();
    scout.apply(&namespace("shop", "production")).await.unwrap();
    scout.save("checkout/production.env", "TOKEN=first\n").unwrap();
    let environment = environment("checkout", "production", "Auto", &[link("shop", "api")]);
    scout.apply(&app("checkout", "EnvironmentVariables", &[environment])).await.unwrap();
    let revision = scout.delivered("checkout", "production", "").await.unwrap();
    scout.apply(&deployment("shop", "api")).await.unwrap();
    scout.rolled_out("shop", "api", "checkout", &revision).await.unwrap();
    let before = running(&scout).await;
    assert_eq!(before["secrets"].as_array().unwrap().len(), 1);

    let folder = scout.cluster().dir().join("newer-chart");
    newer_chart(&folder);
    let values = "hostSync.rolloutsInFlight=3,policy.onMissingState=Accept";
    let upgrade =
        ["upgrade", RELEASE, folder.to_str().unwrap(), "--namespace", NAMESPACE, "--reuse-values", "--set", values];
    helm.run(&upgrade).await.unwrap();
    let host_sync = scout.get("Deployment", NAMESPACE, "scout-host-sync").await.unwrap();
    assert_eq!(host_sync["spec"]["replicas"], 0, "earlier values are kept");
    let arguments = &host_sync["spec"]["template"]["spec"]["containers"][0]["args"];
    assert!(arguments.as_array().unwrap().contains(&json!("--rollouts-in-flight=3")), "{arguments}");
    let get = ["get", "clusteradmissionpolicy", "scout", "--output=jsonpath={.spec.settings.onMissingState}"];
    assert_eq!(scout.cluster().kubectl(&get).await.unwrap().success().unwrap(), "Accept");
    let columns = [
        "get",
        "crd",
        "secretstores.scout.commandk.dev",
        "--output=jsonpath={.spec.versions[0].additionalPrinterColumns[*].name}",
    ];
    let columns = scout.cluster().kubectl(&columns).await.unwrap().success().unwrap();
    assert!(columns.split(' ').any(|column| column == "Newer"), "the custom resources are upgraded too: {columns}");
    assert_eq!(running(&scout).await, before);

    // host-sync's pods go with their Deployment, and Kubewarden's controller takes the webhook away with its policy.
    scout.host_sync().terminate().await.unwrap();
    webhook::remove(&scout.cluster().client(), scout.policy_host()).await.unwrap();
    helm.run(&["uninstall", RELEASE, "--namespace", NAMESPACE]).await.unwrap();
    eventually("the Deployment of host-sync to be gone", async || {
        let found = scout.find("Deployment", NAMESPACE, "scout-host-sync").await?;
        Ok(Answer::when(found.is_none(), (), "it is there"))
    })
    .await
    .unwrap();
    // Time for the garbage collector to take what it should not, if it were going to.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(running(&scout).await, before);
    assert!(scout.find("App", "", "checkout").await.unwrap().is_some(), "Apps own the Secrets, so they stay");
    // Its own user may still roll it, and a new pod still has its variables.
    scout
        .cluster()
        .kubectl(&["rollout", "restart", "deployment/api", "--namespace", "shop"])
        .await
        .unwrap()
        .success()
        .unwrap();
    let restarted = scout.complete("shop", "api").await.unwrap();
    assert_eq!(variables(&restarted, "main"), variables(&json!({"spec": {"template": before["template"]}}), "main"));
    assert_eq!(scout.variable(&restarted, "main", "TOKEN").await.unwrap().as_deref(), Some("first"));

    // Installed again, it takes over what it left, and rolls nothing.
    let before = running(&scout).await;
    install(scout.cluster(), &["--set", "hostSync.replicas=0"]).await.unwrap();
    webhook::install(&scout.cluster().client(), scout.policy_host()).await.unwrap();
    scout.host_sync().start().await.unwrap();
    scout.condition("App", "checkout", "Ready", "True", "Ready").await.unwrap();
    assert_eq!(running(&scout).await, before);
    scout.stop().await.unwrap();
}
