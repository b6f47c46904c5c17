//! The dashboard in a real browser: the story on a real cluster, and a thousand workloads. Pictures of every page, in both
//! themes, wide and narrow, go to `target/dashboard/`.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::routing::post;
use e2e::installation::{Answer, Installation, NAMESPACE, Options, eventually};
use e2e::manifests::{app, deployment, environment, link, namespace};
use host_sync::dashboard::facts::{AppFacts, Facts, channel};
use host_sync::dashboard::{Attempt, Cluster, Dashboard, Files, User, router};
use host_sync_core::config::{App, AppEnvironmentConfig, KeySelection, Mode, Reload};
use host_sync_core::plan::AppReport;
use host_sync_core::snapshot::{MutationMode, NamespaceFacts, Rollout, WorkloadFacts};
use host_sync_core::store::SourcePath;
use policy_core::attachment::{Attachment, Attachments, Strategy};
use policy_core::desired_state::{Apply, DesiredState, Entry, Injection, Link, Meta, NamedLink, SCHEMA};
use policy_core::names::{AppName, Environment, Revision, WorkloadKind, revision_secret_name};
use serde_json::json;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Figures are shown even for a test that passes.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Whether there is a browser; where there cannot be one, that is a failure in CI and a remark elsewhere.
async fn has_browser() -> bool {
    let install = workspace().join("e2e/browser/install.sh");
    let output = Command::new(install).stdin(Stdio::null()).output().await.unwrap();
    if output.status.success() {
        return true;
    }
    let obstacle = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    assert!(std::env::var("CI").is_err(), "{obstacle}");
    say(&format!("not tried here: {obstacle}"));
    false
}

/// Runs a script of `e2e/browser/`.
async fn browse(script: &str, variables: &[(&str, &str)]) {
    let output = Command::new("node")
        .arg(script)
        .current_dir(workspace().join("e2e/browser"))
        .env("SCREENSHOTS", workspace().join("target/dashboard"))
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let (told, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script}:\n{told}{errors}");
    say(told.trim());
}

/// The folder of the preview's module.
async fn preview() -> PathBuf {
    let build = workspace().join("policy/preview/build.sh");
    let output = Command::new(build).stdin(Stdio::null()).stderr(Stdio::inherit()).output().await.unwrap();
    assert!(output.status.success(), "policy/preview/build.sh failed: what it wrote above says why");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// A service account in `shop` that may get and update Apps, get SecretStores, and get the Deployments of `shop`; its token.
async fn sign_up(scout: &Installation) -> String {
    let rbac = "rbac.authorization.k8s.io/v1";
    let reference = |kind: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": "viewer"});
    let subjects = json!([{"kind": "ServiceAccount", "name": "viewer", "namespace": "shop"}]);
    let objects = [
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "viewer", "namespace": "shop"}}),
        json!({"apiVersion": rbac, "kind": "ClusterRole", "metadata": {"name": "viewer"}, "rules": [
            {"apiGroups": ["scout.commandk.dev"], "resources": ["apps"], "verbs": ["get", "update"]},
            {"apiGroups": ["scout.commandk.dev"], "resources": ["secretstores"], "verbs": ["get"]},
        ]}),
        json!({
            "apiVersion": rbac, "kind": "ClusterRoleBinding", "metadata": {"name": "viewer"},
            "subjects": subjects, "roleRef": reference("ClusterRole"),
        }),
        json!({
            "apiVersion": rbac, "kind": "Role", "metadata": {"name": "viewer", "namespace": "shop"},
            "rules": [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]}],
        }),
        json!({
            "apiVersion": rbac, "kind": "RoleBinding", "metadata": {"name": "viewer", "namespace": "shop"},
            "subjects": subjects, "roleRef": reference("Role"),
        }),
    ];
    for object in objects {
        scout.apply(&object).await.unwrap();
    }
    let token = scout.cluster().kubectl(&["create", "token", "viewer", "--namespace", "shop"]).await.unwrap();
    token.success().unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_shows_a_change_as_it_happens_and_redeploys() {
    if !has_browser().await {
        return;
    }
    let mut options = Options::default();
    options.host_sync_arguments.push(format!("--preview-folder={}", preview().await.display()));
    let scout = Installation::start(options, &|_| {}).await.unwrap();
    for name in ["shop", "backoffice"] {
        scout.apply(&namespace(name, "production")).await.unwrap();
        let state = format!("desired-state.{name}");
        eventually(&format!("ConfigMap {state}"), async || {
            Ok(Answer::when(scout.find("ConfigMap", NAMESPACE, &state).await?.is_some(), (), "nothing"))
        })
        .await
        .unwrap();
    }
    let linked = [("shop", "api"), ("shop", "web"), ("backoffice", "ledger")];
    for (namespace, name) in linked {
        scout.apply(&deployment(namespace, name)).await.unwrap();
    }
    scout.save("checkout/production.env", "TOKEN=first-value-never-shown\n").unwrap();
    let production = environment("checkout", "production", "Auto", &linked.map(|(one, name)| link(one, name)));
    scout.apply(&app("checkout", "EnvironmentVariables", &[production])).await.unwrap();
    let first = scout.delivered("checkout", "production", "").await.unwrap();
    for (namespace, name) in linked {
        scout.rolled_out(namespace, name, "checkout", &first).await.unwrap();
    }

    let token = sign_up(&scout).await;
    let url = format!("http://{}", scout.host_sync().address().unwrap());
    let file = scout.store().join("checkout/production.env");
    let variables = [("DASHBOARD", url.as_str()), ("TOKEN", token.as_str()), ("STORE_FILE", file.to_str().unwrap())];
    browse("story.mjs", &variables).await;

    // The button asked for it, by host-sync's own right, and the log says who did.
    let object = scout.get("App", "", "checkout").await.unwrap();
    assert!(object["metadata"]["annotations"]["scout.commandk.dev/redeploy"].is_string(), "{}", object["metadata"]);
    let log = std::fs::read_to_string(scout.host_sync().log()).unwrap();
    let asked = log.lines().find(|line| line.contains("redeploy asked for on the dashboard")).unwrap();
    assert!(asked.contains("system:serviceaccount:shop:viewer"), "{asked}");
    assert!(!log.contains(&token) && !log.contains("never-shown"));
    scout.stop().await.unwrap();
}

/// Lets everybody do everything.
struct Anybody;

#[async_trait]
impl Cluster for Anybody {
    async fn who(&self, token: &str) -> anyhow::Result<Option<User>> {
        Ok(Some(User { name: token.to_owned(), ..User::default() }))
    }

    async fn may(&self, _: &User, _: &Attempt) -> anyhow::Result<bool> {
        Ok(true)
    }

    async fn redeploy(&self, _: &str, _: &str, _: &User) -> anyhow::Result<()> {
        Ok(())
    }
}

/// App `checkout` in `production`, delivered to a thousand Deployments of one namespace: most are ready, some are not.
fn thousand() -> Facts {
    let (app, production) = (AppName::parse("checkout").unwrap(), Environment::parse("production").unwrap());
    let (old, new) = (Revision::parse("a1").unwrap(), Revision::parse("b2").unwrap());
    let attachment = |revision: &Revision| Attachment {
        app: app.clone(),
        revision: revision.clone(),
        secret: revision_secret_name(&app, revision),
        strategy: Some(Strategy::EnvironmentVariables),
    };
    let workloads: Vec<WorkloadFacts> = (0..1_000)
        .map(|number| WorkloadFacts {
            kind: WorkloadKind::Deployment,
            name: format!("workload-{number:04}"),
            labels: BTreeMap::default(),
            mode: if number % 97 == 0 { MutationMode::Ignore } else { MutationMode::Normal },
            attached: Attachments::from_iter([attachment(if number % 5 == 0 { &old } else { &new })]),
            requested: None,
            rollout: match number % 40 {
                1 => Rollout::Failed("ReplicaSet \"workload\" has timed out progressing.".to_owned()),
                2 | 3 => Rollout::Rolling,
                _ => Rollout::Ready,
            },
            last_manager: Some("kubectl".to_owned()),
        })
        .collect();
    let links: BTreeSet<Link> =
        workloads.iter().map(|one| Link::Named(NamedLink { kind: one.kind, name: one.name.clone() })).collect();
    let entry = Entry {
        apply: Apply::Immediately,
        environment: production.clone(),
        injection: Injection::EnvironmentVariables {
            secret: revision_secret_name(&app, &new),
            variables: BTreeMap::from([("TOKEN".to_owned(), "TOKEN".to_owned())]),
        },
        links: links.iter().cloned().collect(),
        revision: new,
    };
    let config = AppEnvironmentConfig {
        mode: Mode::Agent,
        reload: Reload::Auto,
        source: SourcePath::parse("checkout/production").unwrap(),
        keys: KeySelection::All,
        secret_name: "checkout".into(),
        links: BTreeMap::from([("shop".to_owned(), links)]),
    };
    let spec = App {
        name: app.clone(),
        uid: "u".into(),
        deleting: false,
        protected: true,
        store: "files".into(),
        strategy: Strategy::EnvironmentVariables,
        mount_path: "/x".into(),
        redeploy: None,
        environments: BTreeMap::from([(production.clone(), config)]),
    };
    let meta = Meta { environment: production.clone(), namespace: "shop".into(), schema: SCHEMA };
    let state = DesiredState { meta, apps: BTreeMap::from([(app, entry)]) };
    let shop = NamespaceFacts { environment: Some(production), terminating: false, unwatched: false };
    let app = AppFacts { spec: Some(spec), report: AppReport::default(), problems: Vec::new() };
    Facts {
        apps: BTreeMap::from([("checkout".to_owned(), app)]),
        namespaces: BTreeMap::from([("shop".to_owned(), shop)]),
        states: BTreeMap::from([("shop".to_owned(), state)]),
        workloads: BTreeMap::from([("shop".to_owned(), workloads)]),
        ..Facts::default()
    }
}

/// Serves on a free port of loopback until the test ends.
async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_workloads_stay_smooth() {
    if !has_browser().await {
        return;
    }
    let (publisher, latest) = channel();
    publisher.publish(thousand());
    let stop = CancellationToken::new();
    let dashboard = Dashboard::new(latest, Arc::new(Anybody), Files::default(), stop.clone());
    let url = serve(router(dashboard)).await;
    let news = serve(Router::new().route(
        "/",
        post(move || async move {
            let mut facts = thousand();
            facts.workloads.get_mut("shop").unwrap()[1].rollout = Rollout::Ready;
            publisher.publish(facts);
        }),
    ))
    .await;
    browse("many.mjs", &[("DASHBOARD", &url), ("TOKEN", "jane"), ("NEWS", &news)]).await;
    stop.cancel();
}
