//! What Scout does not do: write without need, and let a value out.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use e2e::manifests::{app, environment, link};
use sha2::{Digest, Sha256};

use super::{install_shop, let_pass};

#[tokio::test(flavor = "multi_thread")]
async fn at_rest_for_60_s_host_sync_writes_nothing() {
    let scout = install_shop("EnvironmentVariables", "Auto", &["api", "web"]).await;
    let first = scout.delivered("checkout", "production", "").await.unwrap();
    scout.rolled_out("shop", "api", "checkout", &first).await.unwrap();
    scout.save("checkout/production.env", "TOKEN=second\n").unwrap();
    let second = scout.delivered("checkout", "production", &first).await.unwrap();
    for name in ["api", "web"] {
        scout.rolled_out("shop", name, "checkout", &second).await.unwrap();
    }
    scout.condition("App", "checkout", "Ready", "True", "Ready").await.unwrap();
    // One that cannot be delivered is tried again and again, which is no reason to write either.
    scout.save("broken/production.yaml", "TOKEN: [unfinished\n").unwrap();
    let broken = environment("broken", "production", "Auto", &[link("shop", "web")]);
    scout.apply(&app("broken", "EnvironmentVariables", &[broken])).await.unwrap();
    scout.condition("App", "broken", "Ready", "False", "Malformed").await.unwrap();
    let_pass().await;

    let before = scout.host_sync_writes().unwrap();
    assert!(before.len() > 10, "host-sync's writes are in the audit log: {}", before.len());
    tokio::time::sleep(Duration::from_mins(1)).await;
    let after = scout.host_sync_writes().unwrap();
    let written: Vec<_> = after[before.len()..].iter().map(|event| (&event.verb, &event.request_uri)).collect();
    assert!(written.is_empty(), "{written:?}");
    scout.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn values_appear_nowhere_outside_secrets() {
    const VALUES: [&str; 3] = ["correct-horse-battery", "staple-of-the-second", "unparsable-but-secret"];
    let scout = install_shop("EnvironmentVariables", "Auto", &["api"]).await;
    let zeroth = scout.delivered("checkout", "production", "").await.unwrap();
    scout.save("checkout/production.env", &format!("TOKEN={}\n", VALUES[0])).unwrap();
    let first = scout.delivered("checkout", "production", &zeroth).await.unwrap();
    scout.rolled_out("shop", "api", "checkout", &first).await.unwrap();
    scout.save("files/production.yaml", &format!("FILE: {}\n", VALUES[1])).unwrap();
    let files = environment("files", "production", "Auto", &[link("shop", "api")]);
    scout.apply(&app("files", "VolumeMount", &[files])).await.unwrap();
    let revision = scout.delivered("files", "production", "").await.unwrap();
    scout.rolled_out("shop", "api", "files", &revision).await.unwrap();
    scout.save("files/production.yaml", &format!("FILE: {}\nBROKEN: [{}\n", VALUES[1], VALUES[2])).unwrap();
    scout.condition("App", "files", "Ready", "False", "Malformed").await.unwrap();
    let found = scout.secret_value("shop", &format!("scout.checkout.{first}"), "TOKEN").await.unwrap();
    assert_eq!(found.as_deref(), Some(VALUES[0]), "where they belong, they are");

    let mut seen = Vec::new();
    for kind in ["ConfigMap", "Deployment", "ReplicaSet", "Pod", "Event", "App", "SecretStore", "Namespace"] {
        let objects = scout.list_everywhere(kind).await.unwrap();
        assert!(!objects.is_empty(), "there are {kind}s to look at");
        seen.push((kind.to_owned(), serde_json::to_string(&objects).unwrap()));
    }
    let plan = scout.host_sync_command(&["plan"]).await.unwrap();
    let status = scout.host_sync_command(&["status", "--output=json"]).await.unwrap();
    let (code, metrics) = scout.host_sync().endpoint("/metrics").await.unwrap();
    assert_eq!(code, 200);
    assert!(metrics.contains("scout_deliveries_total"), "{metrics}");
    for (name, text) in [("plan", plan), ("status", status), ("metrics", metrics)] {
        seen.push((format!("host-sync's {name}"), text));
    }
    // host-sync's own log (at debug level), the cluster's, and the audit log.
    for entry in std::fs::read_dir(scout.cluster().logs_dir()).unwrap().flatten() {
        let text = String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap()).into_owned();
        seen.push((entry.path().display().to_string(), text));
    }
    for (file, what) in [("host-sync-1.log", "delivered"), ("host-sync-audit-trail.jsonl", "Delivery")] {
        assert!(seen.iter().any(|(name, text)| name.contains(file) && text.contains(what)), "{file} holds {what}");
    }
    for value in VALUES {
        let hash: String = Sha256::digest(value).iter().fold(String::new(), |hash, byte| format!("{hash}{byte:02x}"));
        let encoded = BASE64_STANDARD.encode(value);
        // The first characters of an encoded value do not depend on what follows it.
        for trace in [value, &encoded[..encoded.len() - 4], &hash[..10], &hash] {
            for (name, text) in &seen {
                assert!(!text.contains(trace), "{name} holds {trace}");
            }
        }
    }
    scout.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_what_would_be_done_and_why_and_does_none_of_it() {
    let scout = install_shop("EnvironmentVariables", "Auto", &["api"]).await;
    let first = scout.delivered("checkout", "production", "").await.unwrap();
    scout.rolled_out("shop", "api", "checkout", &first).await.unwrap();
    scout.condition("App", "checkout", "Ready", "True", "Ready").await.unwrap();
    scout.host_sync().terminate().await.unwrap();
    let plan = scout.host_sync_command(&["plan"]).await.unwrap();
    assert_eq!(plan, "nothing to do: the cluster holds what it is to hold\n");

    scout.save("checkout/production.env", "TOKEN=second\n").unwrap();
    // Two touches of one workload within five seconds are one: by then, the first is long enough ago.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let writes = || {
        let events = scout.cluster().audit_events().unwrap();
        events.into_iter().filter(|event| event.is_write() && event.user.username == "e2e-admin").count()
    };
    let before = writes();
    let plan = scout.host_sync_command(&["plan"]).await.unwrap();
    assert_eq!(writes(), before);
    let secret = plan.find("write Secret shop/scout.checkout.").unwrap();
    let state = plan.find("write the desired state of namespace shop").unwrap();
    let touch = plan.find("touch Deployment shop/api").unwrap();
    assert!(secret < state && state < touch, "Secrets, then the desired state, then touches: {plan}");
    assert!(plan.contains("because checkout/production: the content changed"), "{plan}");
    assert!(!plan.contains("second"), "{plan}");
    scout.save("checkout/production.env", "TOKEN='second").unwrap();
    let plan = scout.host_sync_command(&["plan"]).await.unwrap();
    assert!(plan.contains("checkout/production is not delivered (Malformed)"), "{plan}");
    scout.stop().await.unwrap();
}
