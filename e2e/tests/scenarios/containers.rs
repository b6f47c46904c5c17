//! What a container truly sees, on a node that runs containers.

use std::io::Write;
use std::time::Instant;

use e2e::cluster::Cluster;
use e2e::installation::{Answer, Installation, Options, eventually};
use e2e::manifests::{app, environment, link, namespace, real_deployment};
use serde_json::Value;

use super::{eventually_admitted, install_with, let_pass, mutation_mode};

/// Scout on a real node; `None` where this machine cannot have one, which in CI is a failure.
async fn install_on_real_node() -> Option<Installation> {
    if let Some(obstacle) = Cluster::real_node_obstacle() {
        assert!(std::env::var("CI").is_err(), "{obstacle}");
        say(&format!("not tried here: {obstacle}"));
        return None;
    }
    let scout = install_with(Options { real_node: true, fake_nodes: 0, ..Options::default() }).await;
    scout.apply(&namespace("shop", "production")).await.unwrap();
    eventually_admitted(&scout, "shop").await;
    Some(scout)
}

/// Figures are shown even for a test that passes.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The one Ready pod of a Deployment that runs a revision: its name and uid.
async fn pod(scout: &Installation, name: &str, app: &str, revision: &str) -> (String, String) {
    eventually(&format!("a pod of {name} to run revision {revision}"), async || {
        let selector = format!("app={name},scout.commandk.dev/{app}={revision}");
        let pods = scout.list("Pod", "shop", &selector).await?;
        let ready = |pod: &&Value| {
            let conditions = pod["status"]["conditions"].as_array();
            conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(match pods.iter().find(ready) {
            Some(pod) => Answer::Is((text(&pod["metadata"]["name"]), text(&pod["metadata"]["uid"]))),
            None => Answer::NotYet(format!("{:?}", pods.iter().map(|pod| &pod["status"]).collect::<Vec<_>>())),
        })
    })
    .await
    .unwrap()
}

async fn file(scout: &Installation, pod: &str) -> String {
    let path = "/var/run/secrets/scout/checkout/TOKEN";
    scout.cluster().exec("shop", pod, "main", &["cat", path]).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn s5_a_real_container_sees_the_variables() {
    let Some(scout) = install_on_real_node().await else { return };
    let script = "echo token=$TOKEN; exec sleep 2147483647";
    scout.save("checkout/production.env", "TOKEN=first\n").unwrap();
    let production = environment("checkout", "production", "Auto", &[link("shop", "api")]);
    scout.apply(&app("checkout", "EnvironmentVariables", &[production])).await.unwrap();
    let first = scout.delivered("checkout", "production", "").await.unwrap();
    scout.apply(&real_deployment("shop", "api", script)).await.unwrap();
    let (name, uid) = pod(&scout, "api", "checkout", &first).await;
    assert_eq!(scout.cluster().container_logs("shop", &name, "main").await.unwrap(), "token=first\n");

    let saved = Instant::now();
    scout.save("checkout/production.env", "TOKEN=second\n").unwrap();
    let second = scout.delivered("checkout", "production", &first).await.unwrap();
    let (name, later) = pod(&scout, "api", "checkout", &second).await;
    say(&format!("first new pod Ready {:.1} s after the file was saved", saved.elapsed().as_secs_f32()));
    assert_ne!(uid, later);
    assert_eq!(scout.cluster().container_logs("shop", &name, "main").await.unwrap(), "token=second\n");
    scout.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn s6_a_real_containers_file_follows_the_new_value_in_the_same_pod_without_a_restart() {
    let Some(scout) = install_on_real_node().await else { return };
    scout.save("checkout/production.env", "TOKEN=first\n").unwrap();
    // Under Manual nothing rolls, and the files follow all the same.
    let links = [link("shop", "api"), link("shop", "frozen")];
    let production = environment("checkout", "production", "Manual", &links);
    scout.apply(&app("checkout", "VolumeMount", &[production])).await.unwrap();
    let first = scout.delivered("checkout", "production", "").await.unwrap();
    for name in ["api", "frozen"] {
        scout.apply(&real_deployment("shop", name, "exec sleep 2147483647")).await.unwrap();
    }
    let (name, uid) = pod(&scout, "api", "checkout", &first).await;
    let (frozen, _) = pod(&scout, "frozen", "checkout", &first).await;
    assert_eq!(file(&scout, &name).await, "first");
    // What is ignored keeps its file, too (S12 seen from inside a container).
    scout.patch("Deployment", "shop", "frozen", &mutation_mode(Some("ignore"))).await.unwrap();

    let saved = Instant::now();
    scout.save("checkout/production.env", "TOKEN=second\n").unwrap();
    eventually("the file to follow", async || {
        let seen = file(&scout, &name).await;
        Ok(Answer::when(seen == "second", (), seen))
    })
    .await
    .unwrap();
    say(&format!("the file in the pod followed {:.1} s after the store's was saved", saved.elapsed().as_secs_f32()));
    let pod = scout.get("Pod", "shop", &name).await.unwrap();
    assert_eq!(pod["metadata"]["uid"], uid.as_str());
    assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0);
    let_pass().await;
    assert_eq!(file(&scout, &frozen).await, "first");
    assert_eq!(scout.rollouts("shop", "api").await.unwrap(), 1, "nothing rolled");
    scout.stop().await.unwrap();
}
