//! What Scout promises, each sentence a test of that name, on a real API server with real admission and host-sync as a
//! process with its own rights. Pods run on fake nodes; where a container must truly see something, on a real one.
#![allow(clippy::unwrap_used)]

mod bad_input;
mod containers;
mod delivery;
mod detach;
mod outages;
mod quiet;
mod refusals;
mod reload;

use std::time::Duration;

use e2e::installation::{Installation, Options};
use e2e::manifests::{app, deployment, environment, link, namespace};
use serde_json::{Value, json};

/// Scout in a cluster with one fake node.
async fn install() -> Installation {
    install_with(Options::default()).await
}

async fn install_with(options: Options) -> Installation {
    Installation::start(options, &|_| {}).await.unwrap()
}

/// Scout with namespace `shop` in environment `production`, and an App `checkout` of one key `TOKEN=first` that goes to
/// the Deployments named, which exist already.
async fn install_shop(strategy: &str, reload: &str, deployments: &[&str]) -> Installation {
    let scout = install().await;
    open_shop(&scout, strategy, reload, deployments).await;
    scout
}

async fn open_shop(scout: &Installation, strategy: &str, reload: &str, deployments: &[&str]) {
    scout.apply(&namespace("shop", "production")).await.unwrap();
    eventually_admitted(scout, "shop").await;
    for name in deployments {
        scout.apply(&deployment("shop", name)).await.unwrap();
        scout.complete("shop", name).await.unwrap();
    }
    scout.save("checkout/production.env", "TOKEN=first\n").unwrap();
    let links: Vec<Value> = deployments.iter().map(|name| link("shop", name)).collect();
    let environment = environment("checkout", "production", reload, &links);
    scout.apply(&app("checkout", strategy, &[environment])).await.unwrap();
}

/// Waits until a namespace that was just labelled has a desired state: before that, a CREATE in it is refused.
async fn eventually_admitted(scout: &Installation, namespace: &str) {
    use e2e::installation::{Answer, NAMESPACE, eventually};
    let name = format!("desired-state.{namespace}");
    eventually(&format!("ConfigMap {name}"), async || {
        let found = scout.find("ConfigMap", NAMESPACE, &name).await?;
        Ok(Answer::when(found.is_some(), (), "nothing"))
    })
    .await
    .unwrap();
}

/// Long enough for host-sync to do what it should not, if it were going to.
async fn let_pass() {
    tokio::time::sleep(Duration::from_secs(4)).await;
}

/// Runs kubectl as an administrator would, and insists on its success.
async fn kubectl(scout: &Installation, arguments: &[&str]) {
    scout.cluster().kubectl(arguments).await.unwrap().success().unwrap();
}

/// Restarts a Deployment of namespace `shop`.
async fn restart(scout: &Installation, name: &str) {
    kubectl(scout, &["rollout", "restart", &format!("deployment/{name}"), "--namespace=shop"]).await;
}

/// A Deployment's pod template.
fn template(workload: &Value) -> &Value {
    &workload["spec"]["template"]
}

/// The annotation of a workload by which its user tells Scout what to leave alone.
fn mutation_mode(mode: Option<&str>) -> Value {
    json!({"metadata": {"annotations": {"scout.commandk.dev/mutation-mode": mode}}})
}
