//! What fails, and what is lost by it: nothing.

use e2e::gateway::{Verdict, Write};
use e2e::installation::{Answer, Installation, Options, eventually};
use e2e::manifests::{deployment, namespace};
use serde_json::{Value, json};

use super::{install_shop, install_with, kubectl, let_pass, open_shop, template};

/// A step of a delivery at which host-sync is killed: what it is, how its write is told, and whether the write is done.
type Step = (&'static str, Verdict, fn(&Write) -> bool);

#[tokio::test(flavor = "multi_thread")]
async fn killing_host_sync_at_any_step_loses_nothing_and_rolls_nothing_twice() {
    let arguments = ["--prune-delay=1s", "--revision-history-limit=0"].map(str::to_owned).to_vec();
    let scout = install_with(Options { host_sync_arguments: arguments, ..Options::default() }).await;
    let names = ["one", "two"];
    open_shop(&scout, "EnvironmentVariables", "Auto", &names).await;
    let mut revision = scout.delivered("checkout", "production", "").await.unwrap();
    for name in names {
        scout.rolled_out("shop", name, "checkout", &revision).await.unwrap();
    }
    let in_secrets: fn(&Write) -> bool = |write| write.path.contains("/namespaces/shop/secrets");
    let steps: [Step; 7] = [
        ("before the Secret's name is written down", Verdict::HoldBefore, |write| {
            write.path.contains("delivery-history.shop")
        }),
        ("after the Secret's name is written down", Verdict::HoldAfter, |write| {
            write.path.contains("delivery-history.shop")
        }),
        ("after the Secret is created", Verdict::HoldAfter, in_secrets),
        ("after the desired state is written", Verdict::HoldAfter, |write| write.path.contains("desired-state.shop")),
        ("before the first touch", Verdict::HoldBefore, |write| write.path.contains("/deployments/")),
        ("after the first touch", Verdict::HoldAfter, |write| write.path.contains("/deployments/")),
        ("after the old Secret is deleted", Verdict::HoldAfter, |write| {
            write.method == "DELETE" && write.path.contains("/namespaces/shop/secrets")
        }),
    ];
    for (number, (what, verdict, picks)) in steps.into_iter().enumerate() {
        let mut before = Vec::new();
        for name in names {
            before.push(scout.rollouts("shop", name).await.unwrap());
        }
        scout.gateway().hold_nth(1, verdict, picks);
        scout.save("checkout/production.env", &format!("TOKEN=value {number}\n")).unwrap();
        let held = scout.gateway().held().await.unwrap();
        scout.host_sync().kill();
        drop(held);
        scout.gateway().on_write(|_| Verdict::Forward);
        scout.host_sync().start().await.unwrap();

        revision = settled(&scout, &names, &revision, &format!("value {number}"), what).await;
        for (name, before) in names.into_iter().zip(before) {
            assert_eq!(scout.rollouts("shop", name).await.unwrap(), before + 1, "killed {what}: {name}");
        }
    }
    // Everything superseded is pruned in the end, although host-sync was killed while it was at it.
    eventually("the superseded Secrets to be pruned", async || {
        let secrets = scout.list("Secret", "shop", "app.kubernetes.io/managed-by=scout").await?;
        let names: Vec<_> = secrets.iter().map(|secret| secret["metadata"]["name"].clone()).collect();
        Ok(Answer::when(names == [format!("scout.checkout.{revision}")], (), format!("{names:?}")))
    })
    .await
    .unwrap();
    // The audit trail survived every kill: its chain is whole, and the newest delivery is in it.
    let trail = scout.host_sync().audit_trail();
    let verified = scout.host_sync_command(&["audit", "verify", trail.to_str().unwrap()]).await.unwrap();
    assert!(verified.contains("none changed or missing"), "{verified}");
    let trail = std::fs::read_to_string(trail).unwrap();
    assert!(trail.lines().any(|line| line.contains("\"what\":\"Delivery\"") && line.contains(&revision)), "{trail}");
    scout.stop().await.unwrap();
}

/// Waits until every Deployment runs the value, and a while longer; returns the revision.
async fn settled(scout: &Installation, names: &[&str], before: &str, value: &str, what: &str) -> String {
    let revision = scout.delivered("checkout", "production", before).await.unwrap();
    for name in names {
        let rolled = scout.rolled_out("shop", name, "checkout", &revision).await.unwrap();
        let found = scout.variable(&rolled, "main", "TOKEN").await.unwrap();
        assert_eq!(found.as_deref(), Some(value), "killed {what}: {name}");
    }
    let_pass().await;
    revision
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_policy_host_is_down_deploys_of_linked_apps_are_refused_clearly_and_pods_restart_freely() {
    let scout = install_shop("EnvironmentVariables", "Auto", &["api"]).await;
    let first = scout.delivered("checkout", "production", "").await.unwrap();
    scout.rolled_out("shop", "api", "checkout", &first).await.unwrap();
    scout.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "elsewhere"}})).await.unwrap();
    scout.policy_host().stop().await;

    let error = scout.create(&deployment("shop", "new")).await.unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains("failed calling webhook \"scout.kubewarden.admission\""), "{error}");
    scout.create(&deployment("elsewhere", "new")).await.unwrap();
    // A pod that goes comes back, and a scale counts.
    let pods = scout.list("Pod", "shop", "app=api").await.unwrap();
    let gone = pods[0]["metadata"]["name"].as_str().unwrap().to_owned();
    scout.delete("Pod", "shop", &gone).await.unwrap();
    kubectl(&scout, &["scale", "deployment/api", "--namespace=shop", "--replicas=2"]).await;
    let scaled = eventually("two pods in place of the one", async || {
        let found = scout.get("Deployment", "shop", "api").await?;
        let pods = scout.list("Pod", "shop", "app=api").await?;
        let names: Vec<_> =
            pods.iter().map(|pod| pod["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect();
        let done = found["status"]["availableReplicas"] == 2 && !names.contains(&gone);
        Ok(Answer::when(done, found.clone(), format!("{names:?} {}", found["status"])))
    })
    .await
    .unwrap();
    // What is delivered meanwhile waits: the Secret is there, and the refused touch is reported.
    scout.save("checkout/production.env", "TOKEN=second\n").unwrap();
    let second = scout.delivered("checkout", "production", &first).await.unwrap();
    let message = scout.condition("App", "checkout", "Ready", "False", "ApplyFailed").await.unwrap();
    assert!(message.contains("touching Deployment shop/api") && message.contains("webhook"), "{message}");
    assert_eq!(template(&scout.get("Deployment", "shop", "api").await.unwrap()), template(&scaled));

    scout.policy_host().resume().await.unwrap();
    scout.rolled_out("shop", "api", "checkout", &second).await.unwrap();
    scout.condition("App", "checkout", "Ready", "True", "Ready").await.unwrap();
    scout.create(&deployment("shop", "new")).await.unwrap();
    scout.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_returns_nothing_fails_or_loses_a_key_deletes_nothing() {
    let scout = install_shop("EnvironmentVariables", "Auto", &["api"]).await;
    let zeroth = scout.delivered("checkout", "production", "").await.unwrap();
    scout.save("checkout/production.env", "TOKEN=first\nUSER=shop\n").unwrap();
    let first = scout.delivered("checkout", "production", &zeroth).await.unwrap();
    let before = scout.rolled_out("shop", "api", "checkout", &first).await.unwrap();
    let secret = format!("scout.checkout.{first}");
    let delivered = scout.get("Secret", "shop", &secret).await.unwrap();
    let kept = async |what: &str| {
        let_pass().await;
        assert_eq!(scout.get("Secret", "shop", &secret).await.unwrap(), delivered, "{what}");
        assert_eq!(template(&scout.get("Deployment", "shop", "api").await.unwrap()), template(&before), "{what}");
    };

    scout.save("checkout/production.env", "").unwrap();
    let message = scout.condition("App", "checkout", "Ready", "False", "ContentRefused").await.unwrap();
    assert!(message.contains("checkout/production holds no keys"), "{message}");
    kept("it returned nothing").await;
    scout.remove("checkout/production.env").unwrap();
    let message = scout.condition("App", "checkout", "Ready", "False", "NotFound").await.unwrap();
    assert!(message.contains("checkout/production is not there"), "{message}");
    kept("it failed").await;
    scout.save("checkout/production.env", "TOKEN=first\nUSER='sho").unwrap();
    let message = scout.condition("App", "checkout", "Ready", "False", "Malformed").await.unwrap();
    assert!(message.contains("checkout/production.env is malformed at line 2"), "{message}");
    let message = scout.condition("SecretStore", "files", "Ready", "False", "Malformed").await.unwrap();
    assert!(message.starts_with("checkout/production: "), "{message}");
    kept("a file was half written").await;
    scout.save("checkout/production.env", "TOKEN=second\n").unwrap();
    let message = scout.condition("App", "checkout", "Ready", "False", "KeysMissing").await.unwrap();
    assert!(message.contains("lacks USER") && message.contains("confirm the removal with a redeploy"), "{message}");
    kept("it lost a key").await;

    // A person's word takes the key out.
    let redeploy = json!({"metadata": {"annotations": {"scout.commandk.dev/redeploy": "1"}}});
    scout.patch("App", "", "checkout", &redeploy).await.unwrap();
    let second = scout.delivered("checkout", "production", &first).await.unwrap();
    let rolled = scout.rolled_out("shop", "api", "checkout", &second).await.unwrap();
    assert_eq!(scout.variable(&rolled, "main", "TOKEN").await.unwrap().as_deref(), Some("second"));
    assert_eq!(scout.variable(&rolled, "main", "USER").await.unwrap(), None);
    scout.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_loses_its_label_keeps_what_it_has_and_says_so() {
    let scout = install_shop("EnvironmentVariables", "Auto", &["api"]).await;
    let first = scout.delivered("checkout", "production", "").await.unwrap();
    let before = scout.rolled_out("shop", "api", "checkout", &first).await.unwrap();
    let unlabelled = json!({"metadata": {"labels": {"scout.commandk.dev/environment": Value::Null}}});
    scout.patch("Namespace", "", "shop", &unlabelled).await.unwrap();
    let message = scout.condition("App", "checkout", "Ready", "False", "NamespaceNotLabelled").await.unwrap();
    assert!(message.contains("what it holds stays as it is"), "{message}");
    let_pass().await;
    assert_eq!(template(&scout.get("Deployment", "shop", "api").await.unwrap()), template(&before));
    assert!(scout.find("Secret", "shop", &format!("scout.checkout.{first}")).await.unwrap().is_some());
    scout.apply(&namespace("shop", "production")).await.unwrap();
    scout.condition("App", "checkout", "Ready", "True", "Ready").await.unwrap();
    scout.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_replicas_one_works_and_the_other_takes_over_when_it_ends() {
    let arguments = ["--prune-delay=2s", "--leader-election"].map(str::to_owned).to_vec();
    let scout = install_with(Options { host_sync_arguments: arguments.clone(), ..Options::default() }).await;
    open_shop(&scout, "EnvironmentVariables", "Auto", &["api"]).await;
    let further = scout.further_host_sync(arguments);
    further.start().await.unwrap();
    let says = |log: std::path::PathBuf, what: &str| std::fs::read_to_string(log).unwrap().contains(what);
    let first = scout.delivered("checkout", "production", "").await.unwrap();
    scout.rolled_out("shop", "api", "checkout", &first).await.unwrap();
    assert!(says(further.log(), "standing by") && !says(further.log(), "watching"));

    // One that ends in order gives the lease back, and the other need not wait for it to run out.
    let asked = std::time::Instant::now();
    scout.host_sync().terminate().await.unwrap();
    scout.save("checkout/production.env", "TOKEN=second\n").unwrap();
    let second = scout.delivered("checkout", "production", &first).await.unwrap();
    assert!(asked.elapsed().as_secs() < 12, "{:?}", asked.elapsed());
    scout.rolled_out("shop", "api", "checkout", &second).await.unwrap();
    // One that is killed is waited for as long as its lease lasts.
    scout.host_sync().start().await.unwrap();
    further.kill();
    scout.save("checkout/production.env", "TOKEN=third\n").unwrap();
    let third = scout.delivered("checkout", "production", &second).await.unwrap();
    scout.rolled_out("shop", "api", "checkout", &third).await.unwrap();
    scout.stop().await.unwrap();
}
