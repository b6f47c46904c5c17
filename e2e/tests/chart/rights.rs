//! The rights that the chart gives, against what host-sync and the policy really asked of the API server.

use std::collections::BTreeSet;

use e2e::cluster::AuditEvent;
use e2e::installation::chart::{Account, RELEASE, chart};
use e2e::installation::{Answer, HostSync, Installation, NAMESPACE, Options, STORE, eventually, variables};
use e2e::manifests::{app, deployment, environment, link, namespace};
use serde_json::{Value, json};

use super::objects;

/// `verb group/resource`, and where: everywhere (`*`), or in one namespace.
type Right = (String, String);

/// The namespaces that this test delivers to. A Role in one is used where it is used in the other.
const NAMESPACES: [&str; 2] = ["shop", "closing"];

fn place(namespace: &str) -> &str {
    if NAMESPACES.contains(&namespace) { NAMESPACES[0] } else { namespace }
}

fn granted(objects: &[Value], account: &str) -> BTreeSet<Right> {
    let names = |field: &Value| -> Vec<String> {
        field.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
    };
    let mut rights = BTreeSet::new();
    for role in objects.iter().filter(|object| object["metadata"]["name"].as_str().unwrap().starts_with(account)) {
        for rule in role["rules"].as_array().into_iter().flatten() {
            for group in names(&rule["apiGroups"]) {
                for resource in names(&rule["resources"]) {
                    let place = role["metadata"]["namespace"].as_str().map_or("*", place);
                    let verbs = names(&rule["verbs"]).into_iter();
                    rights.extend(verbs.map(|verb| (place.to_owned(), format!("{verb} {group}/{resource}"))));
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
        let namespace = event.object_ref.namespace.as_str();
        // A Role goes with its namespace, and what is asked there afterwards is refused.
        let lacks = event.response_status.code == 403 && namespace != "closing";
        assert!(!lacks, "{name} lacks a right: {} {}", event.verb, event.request_uri);
        for right in needed(event) {
            granted.remove(&(place(namespace).to_owned(), right.clone()));
            granted.remove(&("*".to_owned(), right));
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

async fn open(scout: &Installation, name: &str) {
    eventually(&format!("the desired state of {name}"), async || {
        let found = scout.find("ConfigMap", NAMESPACE, &format!("desired-state.{name}")).await?;
        Ok(Answer::when(found.is_some(), (), "nothing"))
    })
    .await
    .unwrap();
}

/// Variables, files and operator mode, a change, a prune, a detach, the end of an App and of a namespace; the namespaces
/// are there already.
async fn everything_that_scout_does(scout: &Installation) {
    for name in NAMESPACES {
        open(scout, name).await;
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

/// Somebody signs in to the dashboard whom the API server knows and who may read nothing of Scout.
async fn somebody_signs_in(scout: &Installation, host_sync: &HostSync) {
    let token = scout.cluster().kubectl(&["create", "token", "default", "--namespace", "shop"]).await.unwrap();
    let (status, answer) = host_sync.sign_in(token.success().unwrap().trim()).await.unwrap();
    assert_eq!(status, 403, "{answer}");
    assert!(answer.contains("it takes get on apps.scout.commandk.dev"), "{answer}");
}

/// As the chart's Deployment runs it, but for what takes long.
fn arguments(further: &[&str]) -> Vec<String> {
    let arguments = [&["--prune-delay=1s", "--revision-history-limit=0", "--leader-election"], further].concat();
    arguments.into_iter().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn host_sync_and_the_policy_use_every_right_that_they_have_and_need_no_other() {
    let options = Options { host_sync_arguments: arguments(&[]), ..Options::default() };
    let scout = Installation::start(options, &|_| {}).await.unwrap();
    let objects = objects(&scout.cluster().helm(), &[]).await;
    for name in NAMESPACES {
        scout.apply(&namespace(name, "production")).await.unwrap();
    }
    everything_that_scout_does(&scout).await;
    somebody_signs_in(&scout, scout.host_sync()).await;
    // A request is in the log before its answer, so nothing is missing once host-sync has ended.
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

#[tokio::test(flavor = "multi_thread")]
async fn with_named_namespaces_host_sync_has_rights_in_these_alone_and_leaves_all_others_as_they_are() {
    let scout = Installation::start(Options::default(), &|_| {}).await.unwrap();
    for name in ["shop", "closing", "other"] {
        scout.apply(&namespace(name, "production")).await.unwrap();
        open(&scout, name).await;
    }
    // Delivered while host-sync reaches everywhere.
    scout.save("shared/production.env", "TOKEN=first\n").unwrap();
    let shared = environment("shared", "production", "Auto", &[link("other", "api")]);
    scout.apply(&app("shared", "EnvironmentVariables", &[shared])).await.unwrap();
    let revision = scout.delivered("shared", "production", "").await.unwrap();
    scout.apply(&deployment("other", "api")).await.unwrap();
    scout.rolled_out("other", "api", "shared", &revision).await.unwrap();
    scout.host_sync().terminate().await.unwrap();

    let chart = chart();
    let named = ["--set", "hostSync.replicas=0,namespaces={shop,closing}"];
    let upgrade = ["upgrade", RELEASE, chart.to_str().unwrap(), "--namespace", NAMESPACE];
    scout.cluster().helm().run(&[&upgrade[..], &named].concat()).await.unwrap();
    // Made anew, which rolls nothing: host-sync needs the right to.
    scout.delete("Secret", NAMESPACE, "scout-revision-key").await.unwrap();
    let before = scout.cluster().audit_events().unwrap().len();
    let host_sync = scout.further_host_sync(arguments(&["--namespaces=shop,closing"]));
    host_sync.start().await.unwrap();
    let message = scout.condition("App", "shared", "Ready", "False", "NamespaceNotWatched").await.unwrap();
    assert!(message.contains("namespace other is none of those"), "{message}");
    let other = scout.get("Deployment", "other", "api").await.unwrap();
    // Which its status takes note of.
    scout.patch("SecretStore", "", STORE, &json!({"spec": {"refreshInterval": "30s"}})).await.unwrap();
    everything_that_scout_does(&scout).await;
    somebody_signs_in(&scout, &host_sync).await;

    // The App may be deleted only once somebody detaches what it left beyond reach: its Secret would go with it.
    let unlinked = environment("shared", "production", "Auto", &[]);
    scout.apply(&app("shared", "EnvironmentVariables", &[unlinked])).await.unwrap();
    scout.delete("App", "", "shared").await.unwrap();
    scout.save("shared/production.env", "TOKEN=second\n").unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(scout.get("Deployment", "other", "api").await.unwrap()["spec"], other["spec"]);
    assert_eq!(scout.variable(&other, "main", "TOKEN").await.unwrap().as_deref(), Some("first"));
    assert!(scout.find("App", "", "shared").await.unwrap().is_some());
    assert!(scout.find("ConfigMap", NAMESPACE, "desired-state.other").await.unwrap().is_some());

    host_sync.terminate().await.unwrap();
    let events = scout.cluster().audit_events().unwrap().split_off(before);
    let objects = objects(&scout.cluster().helm(), &named).await;
    let account = Account::host_sync();
    let superfluous = superfluous(&objects, "scout-host-sync", &account, &events);
    assert!(superfluous.is_empty(), "host-sync may do what it never does: {superfluous:?}");
    scout.stop().await.unwrap();
}
