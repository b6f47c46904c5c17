//! The command line on a real cluster: one installation, and each command in the situations that it is for.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Output;

use e2e::artifacts::policy_module;
use e2e::installation::{Answer, Installation, NAMESPACE, Options, eventually, variables};
use e2e::manifests::{app, deployment, environment, link, namespace};
use serde_json::{Value, json};
use tempfile::TempDir;

/// What a command came to.
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ran {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        Self { code: output.status.code().unwrap_or(-1), stdout, stderr }
    }

    /// What it printed, if it ended with this code.
    fn ended(self, code: i32) -> String {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        assert!(!self.stdout.contains('\u{1b}') && !self.stderr.contains('\u{1b}'), "no terminal, no colour");
        self.stdout
    }
}

async fn run_as(scout: &Installation, kubeconfig: &Path, arguments: &[&str], input: &str) -> Ran {
    Ran::of(&scout.host_sync_output(arguments, kubeconfig, input).await.unwrap())
}

async fn run(scout: &Installation, arguments: &[&str]) -> Ran {
    run_as(scout, scout.cluster().kubeconfig(), arguments, "").await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_says_what_there_is_and_does_what_it_is_asked() {
    let scout = Installation::start(Options::default(), &|_| {}).await.unwrap();
    open_shop(&scout).await;
    status_is_one_line_a_workload_for_people_and_programs(&scout).await;
    explain_stops_at_admission_under_manual_and_its_command_goes_on(&scout).await;
    without_rights_status_says_which_and_shows_the_rest(&scout).await;
    preview_is_what_the_cluster_makes_of_a_manifest(&scout).await;
    preview_rejects_with_2_and_shows_mistakes_where_they_stand(&scout).await;
    preview_needs_no_cluster(&scout).await;
    check_store_names_keys_and_no_value(&scout).await;
    a_missing_key_stops_at_the_secret(&scout).await;
    diff_tells_the_next_delivery_and_redeploy_follows_it_to_the_end(&scout).await;
    completion_is_a_script_that_bash_takes(&scout).await;
    a_link_named_kubectl_scout_is_a_plugin(&scout).await;
    scout.stop().await.unwrap();
}

/// Namespace `shop`: App `checkout` goes to Deployment `api` under Auto, App `billing` to `web` under Manual.
async fn open_shop(scout: &Installation) {
    scout.apply(&namespace("shop", "production")).await.unwrap();
    eventually("the desired state of namespace shop", async || {
        let found = scout.find("ConfigMap", NAMESPACE, "desired-state.shop").await?;
        Ok(Answer::when(found.is_some(), (), "nothing"))
    })
    .await
    .unwrap();
    for (name, of, reload) in [("api", "checkout", "Auto"), ("web", "billing", "Manual")] {
        scout.apply(&deployment("shop", name)).await.unwrap();
        scout.complete("shop", name).await.unwrap();
        scout.save(&format!("{of}/production.env"), "TOKEN=very-secret-first\n").unwrap();
        let environment = environment(of, "production", reload, &[link("shop", name)]);
        scout.apply(&app(of, "EnvironmentVariables", &[environment])).await.unwrap();
    }
    let revision = scout.delivered("checkout", "production", "").await.unwrap();
    scout.rolled_out("shop", "api", "checkout", &revision).await.unwrap();
    scout.delivered("billing", "production", "").await.unwrap();
    scout.condition("App", "checkout", "Ready", "True", "Ready").await.unwrap();
}

async fn status_is_one_line_a_workload_for_people_and_programs(scout: &Installation) {
    let table = run(scout, &["status"]).await.ended(0);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("NAMESPACE  WORKLOAD"), "{table}");
    assert!(lines[1].starts_with("shop       deployment/api  checkout") && lines[1].ends_with("  ready"), "{table}");
    assert!(lines[2].contains("waits: reloadStrategy Manual"), "{table}");

    let json: Value = serde_json::from_str(&run(scout, &["status", "checkout", "-o", "json"]).await.ended(0)).unwrap();
    let row = &json["workloads"][0];
    let revision = scout.get("App", "", "checkout").await.unwrap()["status"]["environments"]["production"].clone();
    assert_eq!(row["desiredRevision"], revision["revision"]);
    assert_eq!(row["attachedRevision"], revision["revision"]);
    assert_eq!(row["pods"], json!([{"revision": revision["revision"], "pods": 1}]));
    assert_eq!((&row["strategy"], &row["reload"]), (&json!("EnvironmentVariables"), &json!("Auto")));
    assert_eq!(row["deliveredAt"], revision["deliveredAt"], "a moment is written as Kubernetes writes it");
    assert_eq!(json["workloads"].as_array().unwrap().len(), 1, "only that App: {json}");

    let yaml = run(scout, &["status", "checkout", "-o", "yaml"]).await.ended(0);
    assert_eq!(serde_saphyr::from_str::<Value>(&yaml).unwrap(), json);
    let wide = run(scout, &["status", "-n", "shop", "-o", "wide"]).await.ended(0);
    assert!(wide.contains("NEXT REFRESH") && wide.contains("within 66s"), "{wide}");
    let missing = run(scout, &["status", "nothing"]).await;
    assert!(missing.stderr.contains("App nothing does not exist"), "{}", missing.stderr);
    missing.ended(1);
}

async fn explain_stops_at_admission_under_manual_and_its_command_goes_on(scout: &Installation) {
    let whole = run(scout, &["explain", "deployment/api", "-n", "shop"]).await.ended(0);
    assert_eq!(whole.matches('✓').count(), 5, "{whole}");
    let stops = run(scout, &["explain", "web", "-n", "shop"]).await.ended(0);
    assert!(stops.contains("▶ ● admission"), "{stops}");
    let command = stops.lines().find_map(|line| line.split_once("→ kubectl ")).unwrap().1;
    assert_eq!(command, "rollout restart deployment/web -n shop");
    scout.cluster().kubectl(&command.split(' ').collect::<Vec<_>>()).await.unwrap().success().unwrap();
    eventually("the chain of Deployment shop/web to be whole", async || {
        let json = scout.host_sync_command(&["explain", "web", "-n", "shop", "-o", "json"]).await?;
        let chain = serde_json::from_str::<Value>(&json)?["chains"][0].clone();
        Ok(Answer::when(chain["stopsAt"].is_null() && chain["app"] == "billing", (), chain))
    })
    .await
    .unwrap();
}

async fn without_rights_status_says_which_and_shows_the_rest(scout: &Installation) {
    let rbac = "rbac.authorization.k8s.io";
    let rule = |group: &str, resources: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": ["get", "list"]});
    let objects = [
        json!({
            "apiVersion": format!("{rbac}/v1"), "kind": "ClusterRole", "metadata": {"name": "viewer"},
            "rules": [rule("scout.commandk.dev", &["apps"]), rule("apps", &["deployments"])],
        }),
        json!({
            "apiVersion": format!("{rbac}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": "viewer"},
            "subjects": [{"kind": "User", "apiGroup": rbac, "name": "viewer"}],
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "viewer"},
        }),
    ];
    for object in &objects {
        scout.apply(object).await.unwrap();
    }
    let kubeconfig = scout.cluster().kubeconfig_for("viewer", &[]).unwrap();
    let text = run_as(scout, &kubeconfig, &["status", "checkout"], "").await.ended(0);
    assert!(text.lines().nth(1).unwrap().ends_with("ready"), "{text}");
    for right in ["get ConfigMaps in namespace scout-system", "list Pods in namespace shop", "list SecretStores"] {
        assert!(text.contains(&format!("not everything is shown: you have no right to {right}")), "{text}");
    }
}

/// The policy's module as a file, and the folder that it is in.
async fn module() -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.wasm");
    std::fs::write(&path, policy_module().await.unwrap()).unwrap();
    let path = path.display().to_string();
    (folder, path)
}

fn manifest(name: &str) -> String {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "api", "namespace": "shop"}});
    format!("# as written\n---\n{service}\n---\n{}\n", deployment("shop", name))
}

async fn preview_is_what_the_cluster_makes_of_a_manifest(scout: &Installation) {
    let (_folder, module) = module().await;
    let kubeconfig = scout.cluster().kubeconfig();
    let arguments = ["preview", "-f", "-", "--module", &module];
    let diff = run_as(scout, kubeconfig, &arguments, &manifest("api")).await.ended(0);
    assert!(
        diff.starts_with("--- Deployment shop/api (standard input)\n+++ Deployment shop/api (admitted)\n"),
        "{diff}"
    );
    assert!(diff.contains("\n+") && diff.contains("secretKeyRef"), "{diff}");

    let yaml = run_as(scout, kubeconfig, &[&arguments[..], &["-o", "yaml"]].concat(), &manifest("api")).await.ended(0);
    let documents: Vec<Value> = serde_saphyr::from_multiple(&yaml).unwrap();
    assert_eq!(documents[0]["kind"], "Service", "what is no workload passes through");
    let live = scout.get("Deployment", "shop", "api").await.unwrap();
    let previewed = variables(&documents[1], "main");
    assert!(!previewed.is_empty());
    assert_eq!(previewed, variables(&live, "main"), "the preview is what was admitted");
}

async fn preview_rejects_with_2_and_shows_mistakes_where_they_stand(scout: &Installation) {
    let (_folder, module) = module().await;
    let kubeconfig = scout.cluster().kubeconfig();
    let arguments = ["preview", "-f", "-", "--module", &module];
    let mut bad = deployment("shop", "api");
    bad["metadata"]["annotations"] = json!({"scout.commandk.dev/mutation-mode": "off"});
    let rejected = run_as(scout, kubeconfig, &[&arguments[..], &["-o", "yaml"]].concat(), &bad.to_string()).await;
    assert!(rejected.stderr.contains("rejected: Deployment shop/api (standard input): "), "{}", rejected.stderr);
    assert!(rejected.stderr.contains("use \"ignore\" or \"ignore-and-detach\""), "{}", rejected.stderr);
    assert_eq!(rejected.ended(2), "", "nothing to pipe on");

    let broken = run_as(scout, kubeconfig, &arguments, "kind: Deployment\nmetadata: {name: [api}\n").await;
    assert!(broken.stderr.contains("standard input") && broken.stderr.contains('^'), "{}", broken.stderr);
    broken.ended(1);
    let absent =
        run_as(scout, kubeconfig, &["preview", "-f", "-", "--module", "/nowhere.wasm"], &manifest("api")).await;
    assert!(absent.stderr.contains("--module or SCOUT_POLICY_MODULE"), "{}", absent.stderr);
    absent.ended(1);
}

async fn preview_needs_no_cluster(scout: &Installation) {
    let (folder, module) = module().await;
    let nowhere = folder.path().join("no-kubeconfig");
    let file = folder.path().join("app.yaml");
    let environment = environment("checkout", "production", "Auto", &[link("shop", "api")]);
    std::fs::write(&file, app("checkout", "EnvironmentVariables", &[environment]).to_string()).unwrap();
    let file = file.display().to_string();
    let arguments = ["preview", "-f", "-", "--module", &module, "--offline", "--app", &file];
    let unknown = run_as(scout, &nowhere, &arguments, &manifest("api")).await;
    assert!(unknown.stderr.contains("name them with --keys checkout=KEY,KEY"), "{}", unknown.stderr);
    unknown.ended(1);
    let arguments = [&arguments[..], &["--keys", "TOKEN,DB_URL"]].concat();
    let diff = run_as(scout, &nowhere, &arguments, &manifest("api")).await.ended(0);
    assert!(diff.contains("DB_URL") && diff.contains("scout.checkout.preview"), "{diff}");

    let state = scout.get("ConfigMap", NAMESPACE, "desired-state.shop").await.unwrap();
    let file = folder.path().join("state.json");
    std::fs::write(&file, state.to_string()).unwrap();
    let file = file.display().to_string();
    let arguments = ["preview", "-f", "-", "--module", &module, "--offline", "--desired-state", &file];
    let diff = run_as(scout, &nowhere, &arguments, &manifest("api")).await.ended(0);
    assert!(diff.contains("TOKEN") && diff.contains("scout.checkout."), "{diff}");
}

async fn check_store_names_keys_and_no_value(scout: &Installation) {
    let ran = run(scout, &["check-store", "files"]).await;
    assert!(ran.stdout.contains("checkout/production: 1 key: TOKEN"), "{}", ran.stdout);
    assert!(ran.stdout.contains("App billing/production: can be delivered"), "{}", ran.stdout);
    assert!(!ran.stdout.contains("very-secret"));
    ran.ended(0);
    let ran = run(scout, &["check-store", "files", "checkout/nothing"]).await;
    assert!(ran.stdout.contains("(NotFound)") && ran.stdout.contains("→ create checkout/nothing"), "{}", ran.stdout);
    ran.ended(1);
}

async fn a_missing_key_stops_at_the_secret(scout: &Installation) {
    let good = environment("checkout", "production", "Auto", &[link("shop", "api")]);
    let mut bad = good.clone();
    bad["keys"] = json!([{"name": "GONE"}]);
    scout.apply(&app("checkout", "EnvironmentVariables", &[bad])).await.unwrap();
    scout.condition("App", "checkout", "Delivered", "False", "ContentRefused").await.unwrap();
    let text = run(scout, &["explain", "api", "-n", "shop"]).await.ended(0);
    let stop = text.lines().find(|line| line.starts_with('▶')).unwrap();
    assert!(stop.starts_with("▶ ✗ Secret") && stop.contains("lacks the key \"GONE\""), "{text}");
    assert!(text.contains("✓ rollout        1 of 1 pod run revision"), "what was delivered runs on: {text}");
    let checked = run(scout, &["check-store", "files"]).await;
    assert!(
        checked.stdout.contains("✗ App checkout/production: checkout/production lacks the key"),
        "{}",
        checked.stdout
    );
    checked.ended(1);
    scout.apply(&app("checkout", "EnvironmentVariables", &[good])).await.unwrap();
    scout.condition("App", "checkout", "Delivered", "True", "Delivered").await.unwrap();
}

async fn diff_tells_the_next_delivery_and_redeploy_follows_it_to_the_end(scout: &Installation) {
    let quiet = run(scout, &["diff", "checkout", "--exit-code"]).await.ended(0);
    assert!(quiet.starts_with("no change"), "{quiet}");
    let unchanged = run(scout, &["redeploy", "checkout"]).await.ended(0);
    assert_eq!(unchanged, "App checkout is delivered; 1 workload ready\n");
    let before = scout.delivered("checkout", "production", "").await.unwrap();

    // While host-sync is away, the store changes: that is the next delivery.
    scout.host_sync().terminate().await.unwrap();
    scout.save("checkout/production.env", "TOKEN=very-secret-second\nADDED=very-secret-third\n").unwrap();
    // Right after a touch the next one waits a few seconds, and the diff says so; then it would roll.
    let diff = eventually("a diff in which Deployment shop/api rolls", async || {
        let diff = run(scout, &["diff", "checkout", "--exit-code"]).await.ended(3);
        Ok(Answer::when(diff.contains("rolls at once:\n  Deployment shop/api\n"), diff.clone(), diff))
    })
    .await
    .unwrap();
    assert!(diff.starts_with(&format!("checkout/production in namespace shop: {before} → ")), "{diff}");
    assert!(diff.contains("\n  + ADDED\n  ~ TOKEN\n"), "{diff}");
    assert!(!diff.contains("very-secret"), "{diff}");
    let late = run(scout, &["redeploy", "checkout", "--timeout", "2s"]).await;
    assert!(late.stderr.contains("after 2 s App checkout still waits, and goes on in the cluster"), "{}", late.stderr);
    late.ended(1);
    let interrupted = tokio::process::Command::new("timeout")
        .args(["--preserve-status", "--signal=INT", "2"])
        .arg(e2e::artifacts::host_sync_binary().await.unwrap())
        .args(["redeploy", "checkout"])
        .env("KUBECONFIG", scout.cluster().kubeconfig())
        .output();
    let interrupted = Ran::of(&interrupted.await.unwrap());
    assert!(
        interrupted.stderr.contains("the delivery of App checkout goes on in the cluster"),
        "{}",
        interrupted.stderr
    );
    interrupted.ended(130);
    let asked = run(scout, &["redeploy", "checkout", "--no-wait"]).await.ended(0);
    assert!(asked.contains("a delivery is asked for"), "{asked}");

    let (followed, started) = tokio::join!(run(scout, &["redeploy", "checkout"]), scout.host_sync().start());
    started.unwrap();
    let after = scout.delivered("checkout", "production", &before).await.unwrap();
    assert!(followed.stderr.contains("waiting for the delivery of production"), "{}", followed.stderr);
    assert!(followed.stderr.contains(&format!("Deployment shop/api runs revision {after}")), "{}", followed.stderr);
    assert_eq!(followed.ended(0), "App checkout is delivered; 1 workload ready\n");
    let rolled = scout.rolled_out("shop", "api", "checkout", &after).await.unwrap();
    let value = scout.variable(&rolled, "main", "TOKEN").await.unwrap();
    assert_eq!(value.as_deref(), Some("very-secret-second"));
}

async fn completion_is_a_script_that_bash_takes(scout: &Installation) {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(scout, &["completion", shell]).await.ended(0);
        assert!(script.contains("check-store") && script.contains("redeploy"), "{shell}");
        if shell == "bash" {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), script).unwrap();
            let checked = tokio::process::Command::new("bash").arg("-n").arg(file.path()).output().await.unwrap();
            assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
        }
    }
}

async fn a_link_named_kubectl_scout_is_a_plugin(scout: &Installation) {
    let folder = tempfile::tempdir().unwrap();
    let binary = e2e::artifacts::host_sync_binary().await.unwrap();
    std::os::unix::fs::symlink(binary, folder.path().join("kubectl-scout")).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap_or_default());
    let kubectl = |arguments: &'static [&'static str]| {
        let mut command = tokio::process::Command::new(scout.cluster().kubectl_program());
        command.args(arguments).env("PATH", &path).env("KUBECONFIG", scout.cluster().kubeconfig());
        async move { Ran::of(&command.output().await.unwrap()) }
    };
    let help = kubectl(&["scout", "--help"]).await.ended(0);
    assert!(
        help.contains("Usage: kubectl scout <COMMAND>") && help.contains("kubectl scout redeploy checkout"),
        "{help}"
    );
    let status = kubectl(&["scout", "status", "checkout"]).await.ended(0);
    assert!(status.contains("deployment/api"), "{status}");
    let error = kubectl(&["scout", "explain", "service/api"]).await;
    assert!(error.stderr.starts_with("kubectl scout: service is no kind"), "{}", error.stderr);
    error.ended(1);
}
