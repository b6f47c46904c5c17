//! The rights that the chart gives, against what host-sync and the policy really asked of the API server.

use std::collections::BTreeSet;

use e2e::cluster::AuditEvent;
use e2e::installation::chart::Account;
use e2e::installation::{Answer, Installation, NAMESPACE, Options, eventually, variables};
use e2e::manifests::{app, deployment, environment, link, namespace};
use serde_json::{Value, json};

use super::objects;

/// What one rule allows, one by one: `verb group/resource`, and where: everywhere, or in host-sync's namespace.
type Right = (bool, String);

fn granted(objects: &[Value], account: &str) -> BTreeSet<Right> {
    let names = |field: &Value| -> Vec<String> {
        field.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
    };
    let mut rights = BTreeSet::new();
    for role in objects.iter().filter(|object| object["metadata"]["name"] == account) {
        for rule in role["rules"].as_array().into_iter().flatten() {
            for (group, resource) in names(&rule["apiGroups"])
                .iter()
                .flat_map(|group| names(&rule["resources"]).into_iter().map(move |resource| (group.clone(), resource)))
            {
                for verb in names(&rule["verbs"]) {
                    rights.insert((role["kind"] == "ClusterRole", format!("{verb} {group}/{resource}")));
                }
            }
        }
    }
    rights
}

/// The verbs that a request needed: an apply that makes an object is recorded as a patch, and the API server asks for both.
fn needed(event: &AuditEvent) -> impl Iterator<Item = String> {
    let object = &event.object_ref;
    let resource = [object.resource.as_str(), object.subresource.as_str()];
    let resource = resource.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
    let resource = format!("{}/{resource}", object.api_group);
    let made = event.verb == "patch" && event.response_status.code == 201;
    let verbs = [Some(event.verb.clone()), made.then(|| "create".to_owned())];
    verbs.into_iter().flatten().map(move |verb| format!("{verb} {resource}"))
}

/// What an account may do that it never did, as far as these requests go; panics at a request that was forbidden.
fn superfluous(objects: &[Value], name: &str, account: &Account, events: &[AuditEvent]) -> BTreeSet<Right> {
    let mut granted = granted(objects, name);
    assert!(!granted.is_empty(), "{name} may do something");
    for event in events.iter().filter(|event| event.user.username == account.user) {
        assert_ne!(event.response_status.code, 403, "{name} lacks a right: {} {}", event.verb, event.request_uri);
        for right in needed(event) {
            let everywhere = (true, right);
            granted.remove(&everywhere);
            if event.object_ref.namespace == NAMESPACE {
                granted.remove(&(false, everywhere.1));
            }
        }
    }
    granted
}

async fn gone(scout: &Installation, kind: &str, namespace: &str, name: &str) {
    eventually(&format!("{kind} {namespace}/{name} to be gone"), async || {
        let found = scout.find(kind, namespace, name).await?;
        Ok(Answer::when(found.is_none(), (), format!("{found:?}")))
    })
    .await
    .unwrap();
}

/// Variables, files and operator mode, a change, a prune, a detach, the end of an App and of a namespace.
async fn everything_that_scout_does(scout: &Installation) {
    for name in ["shop", "closing"] {
        scout.apply(&namespace(name, "production")).await.unwrap();
        eventually(&format!("the desired state of {name}"), async || {
            let found = scout.find("ConfigMap", NAMESPACE, &format!("desired-state.{name}")).await?;
            Ok(Answer::when(found.is_some(), (), "nothing"))
        })
        .await
        .unwrap();
    }
    let plain = scout.apply(&deployment("shop", "api")).await.unwrap();
    scout.apply(&deployment("shop", "files")).await.unwrap();
    for name in ["checkout", "files", "operated"] {
        scout.save(&format!("{name}/production.env"), "TOKEN=first\n").unwrap();
    }
    let links = [link("shop", "api")];
    scout
        .apply(&app("checkout", "EnvironmentVariables", &[environment("checkout", "production", "Auto", &links)]))
        .await
        .unwrap();
    let files = environment("files", "production", "Auto", &[link("shop", "files")]);
    scout.apply(&app("files", "VolumeMount", &[files])).await.unwrap();
    let mut operated = environment("operated", "production", "Auto", &[link("shop", "api"), link("closing", "none")]);
    operated["mode"] = json!("Operator");
    scout.apply(&app("operated", "EnvironmentVariables", &[operated])).await.unwrap();
    let mut revisions = Vec::new();
    for (name, workload) in [("checkout", "api"), ("files", "files"), ("operated", "api")] {
        let revision = scout.delivered(name, "production", "").await.unwrap();
        scout.rolled_out("shop", workload, name, &revision).await.unwrap();
        revisions.push(revision);
    }
    let [first, first_files, _] = revisions.as_slice() else { panic!("{revisions:?}") };
    // Two more deliveries of an App within minutes: its event is then counted, which is a patch of it.
    let mut before = first.clone();
    for text in ["TOKEN=second\n", "TOKEN=third\n"] {
        scout.save("checkout/production.env", text).unwrap();
        before = scout.delivered("checkout", "production", &before).await.unwrap();
        scout.rolled_out("shop", "api", "checkout", &before).await.unwrap();
    }
    scout.save("files/production.env", "TOKEN=second\n").unwrap();
    let files = scout.delivered("files", "production", first_files).await.unwrap();
    scout.rolled_out("shop", "files", "files", &files).await.unwrap();
    gone(scout, "Secret", "shop", &format!("scout.checkout.{first}")).await;
    scout.delete("Namespace", "", "closing").await.unwrap();
    gone(scout, "ConfigMap", NAMESPACE, "desired-state.closing").await;
    // Unlinked, an App is detached everywhere and may be deleted.
    let unlinked = app("checkout", "EnvironmentVariables", &[environment("checkout", "production", "Auto", &[])]);
    scout.apply(&unlinked).await.unwrap();
    eventually("the Deployment to be detached", async || {
        let workload = scout.get("Deployment", "shop", "api").await?;
        Ok(Answer::when(variables(&workload, "main") == variables(&plain, "main"), (), workload))
    })
    .await
    .unwrap();
    scout.delete("App", "", "checkout").await.unwrap();
    gone(scout, "App", "", "checkout").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn host_sync_and_the_policy_use_every_right_that_they_have_and_need_no_other() {
    // As the chart's Deployment runs it, but for what takes long.
    let arguments = ["--prune-delay=1s", "--revision-history-limit=0", "--leader-election"].map(str::to_owned).to_vec();
    let scout =
        Installation::start(Options { host_sync_arguments: arguments, ..Options::default() }, &|_| {}).await.unwrap();
    let objects = objects(&scout.cluster().helm(), &[]).await;
    everything_that_scout_does(&scout).await;

    // The last hop of every request is in the log before its answer, so nothing is missing once host-sync has ended.
    scout.host_sync().terminate().await.unwrap();
    let events = scout.cluster().audit_events().unwrap();
    for (name, account) in
        [("scout-host-sync", Account::host_sync()), ("scout-policy-server", Account::policy_server())]
    {
        let superfluous = superfluous(&objects, name, &account, &events);
        assert!(superfluous.is_empty(), "{name} may do what it never does: {superfluous:?}");
    }
    scout.stop().await.unwrap();
}
