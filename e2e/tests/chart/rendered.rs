//! What the chart renders, compared with what it is made from. No cluster is needed.

use std::path::Path;

use clap::Parser;
use e2e::cluster::Helm;
use e2e::webhook::SPARED_ACCOUNTS;
use host_sync::cli::{Cli, Command};
use serde_json::{Value, json};

use super::{VARIANTS, objects, render, the};

async fn helm() -> (Helm, tempfile::TempDir) {
    let home = tempfile::tempdir().unwrap();
    (Helm::locate(home.path()).await.unwrap(), home)
}

fn file(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&file(path)).unwrap()
}

#[tokio::test]
async fn unknown_and_impossible_values_are_refused_by_name() {
    let (helm, _home) = helm().await;
    let cases = [
        ("replicas=3", "additional properties 'replicas' not allowed"),
        ("hostSync.replica=3", "additional properties 'replica' not allowed"),
        ("policy.failurePolicy=Ignore", "additional properties 'failurePolicy' not allowed"),
        ("policy.onMissingState=Strip", "value must be one of 'Reject', 'Accept'"),
        ("policy.timeoutSeconds=31", "/policy/timeoutSeconds"),
        ("policy.timeoutSeconds=4", "policy.timeoutEvalSeconds must not exceed policy.timeoutSeconds"),
        ("namespaces={shop,scout-system}", "namespaces must not hold scout-system"),
        ("hostSync.rolloutsInFlight=0", "/hostSync/rolloutsInFlight"),
        ("hostSync.pruneDelay=soon", "/hostSync/pruneDelay"),
        ("hostSync.image.digest=latest", "/hostSync/image/digest"),
    ];
    for (values, expected) in cases {
        let error = render(&helm, &["--set", values]).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{values}: {error}");
    }
}

#[tokio::test]
async fn the_policy_is_the_one_of_its_metadata_and_of_the_webhook_that_the_scenarios_run_with() {
    let (helm, _home) = helm().await;
    let objects = objects(&helm, &[]).await;
    let (policy, metadata) = (&the(&objects, "ClusterAdmissionPolicy")["spec"], yaml("policy/metadata.yml"));
    for field in ["rules", "contextAwareResources", "mutating", "backgroundAudit"] {
        assert_eq!(policy[field], metadata[field], "{field}");
    }
    assert_eq!(policy["failurePolicy"], "Fail");
    let [condition] = policy["matchConditions"].as_array().unwrap().as_slice() else { panic!("{policy}") };
    let accounts = condition["expression"].as_str().unwrap();
    let accounts = accounts.strip_prefix("!(request.userInfo.username in ").and_then(|text| text.strip_suffix(')'));
    assert_eq!(serde_json::from_str::<Value>(accounts.unwrap()).unwrap(), json!(SPARED_ACCOUNTS));
    assert_eq!(
        policy["namespaceSelector"],
        json!({"matchExpressions": [
            {"key": policy_core::names::ENVIRONMENT_LABEL, "operator": "Exists"},
            {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kubewarden", "scout-system"]},
        ]})
    );
    let settings = policy_core::settings::Settings::parse(&policy["settings"]).unwrap();
    settings.validate().unwrap();
    assert_eq!(settings.desired_state_namespace(), "scout-system");
    // Kubewarden gives a policy no more time than the API server waits.
    assert!(policy["timeoutEvalSeconds"].as_u64() <= policy["timeoutSeconds"].as_u64());
    let server = the(&objects, "PolicyServer");
    assert_eq!(policy["policyServer"], server["metadata"]["name"]);
    let oldest = format!(":v{}", metadata["minimumKubewardenVersion"].as_str().unwrap());
    assert!(
        server["spec"]["image"].as_str().unwrap().ends_with(&oldest),
        "the policy server is of a version that is tried"
    );
    let url = metadata["annotations"]["io.kubewarden.policy.ociUrl"].as_str().unwrap();
    assert_eq!(policy["module"], format!("registry://{url}:v{}", env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn the_values_that_the_readme_shows_are_taken() {
    let (helm, home) = helm().await;
    let readme = file("host-sync/chart/README.md");
    let blocks: Vec<&str> = readme.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        let values = home.path().join("values.yaml");
        std::fs::write(&values, block).unwrap();
        let objects = objects(&helm, &["--values", values.to_str().unwrap()]).await;
        let pod = &the(&objects, "Deployment")["spec"]["template"]["spec"];
        assert_eq!(pod["volumes"][0]["name"], pod["containers"][0]["volumeMounts"][0]["name"]);
    }
}

#[tokio::test]
async fn a_digest_is_what_counts() {
    let (helm, _home) = helm().await;
    let digest = format!("sha256:{}", "0".repeat(64));
    let values =
        format!("policy.module.digest={digest},hostSync.image.digest={digest},policyServer.image.digest={digest}");
    let objects = objects(&helm, &["--set", &values]).await;
    let module = format!("registry://ghcr.io/commandk-dev/scout/policy@{digest}");
    assert_eq!(the(&objects, "ClusterAdmissionPolicy")["spec"]["module"], module);
    let image = &the(&objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!(image, &json!(format!("ghcr.io/commandk-dev/scout/host-sync@{digest}")));
    let image = &the(&objects, "PolicyServer")["spec"]["image"];
    assert_eq!(image, &json!(format!("ghcr.io/kubewarden/adm-controller/policy-server@{digest}")));
}

#[tokio::test]
async fn the_custom_resources_are_those_of_the_binary_and_are_kept_at_uninstall() {
    let (helm, _home) = helm().await;
    let expected = host_sync::api::crds().into_iter().map(|crd| serde_json::to_value(crd).unwrap());
    let expected: Vec<Value> = expected.collect();
    let fix = "make chart";
    let stored: Vec<Value> = serde_saphyr::from_multiple(&file("host-sync/chart/files/crds.yaml")).unwrap();
    assert_eq!(stored, expected, "host-sync/chart/files/crds.yaml is out of date: {fix}");
    let objects = objects(&helm, &[]).await;
    for crd in expected {
        let name = &crd["metadata"]["name"];
        let rendered = objects.iter().find(|object| object["metadata"]["name"] == *name).unwrap();
        assert_eq!(rendered["spec"], crd["spec"], "{name}");
        assert_eq!(rendered["metadata"]["annotations"]["helm.sh/resource-policy"], "keep", "{name}");
    }
}

#[tokio::test]
async fn versions_agree() {
    let (helm, _home) = helm().await;
    let (chart, metadata) = (yaml("host-sync/chart/Chart.yaml"), yaml("policy/metadata.yml"));
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(chart["version"], version, "host-sync/chart/Chart.yaml");
    assert_eq!(chart["appVersion"], version, "host-sync/chart/Chart.yaml");
    assert_eq!(metadata["annotations"]["io.kubewarden.policy.version"], version, "policy/metadata.yml");
    let objects = objects(&helm, &[]).await;
    let image = &the(&objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]["image"];
    assert!(image.as_str().unwrap().ends_with(&format!(":v{version}")), "{image}");
    let listed = chart["annotations"]["artifacthub.io/images"].as_str().unwrap();
    let listed: Value = serde_saphyr::from_str(listed).unwrap();
    assert_eq!(listed[0]["image"], *image, "artifacthub.io/images of host-sync/chart/Chart.yaml");
    let crds: Vec<Value> =
        serde_saphyr::from_str(chart["annotations"]["artifacthub.io/crds"].as_str().unwrap()).unwrap();
    let mut named: Vec<&Value> = crds.iter().map(|crd| &crd["name"]).collect();
    named.sort_by_key(ToString::to_string);
    let rendered = objects.iter().filter(|object| object["kind"] == "CustomResourceDefinition");
    let mut rendered: Vec<&Value> = rendered.map(|crd| &crd["metadata"]["name"]).collect();
    rendered.sort_by_key(ToString::to_string);
    assert_eq!(named, rendered, "artifacthub.io/crds of host-sync/chart/Chart.yaml");
}

#[tokio::test]
async fn nobody_may_list_or_watch_secrets_and_nobody_may_everything() {
    let (helm, _home) = helm().await;
    for variant in VARIANTS {
        let objects = objects(&helm, variant).await;
        let roles = objects.iter().filter(|object| ["Role", "ClusterRole"].contains(&object["kind"].as_str().unwrap()));
        for rule in roles.flat_map(|role| role["rules"].as_array().unwrap()) {
            let holds = |field: &str, value: &str| rule[field].as_array().unwrap().contains(&json!(value));
            let secrets = holds("resources", "secrets");
            assert!(!(secrets && (holds("verbs", "list") || holds("verbs", "watch"))), "{rule}");
            assert!(!["apiGroups", "resources", "verbs"].iter().any(|field| holds(field, "*")), "{rule}");
        }
    }
}

#[tokio::test]
async fn without_the_dashboard_nobody_is_asked_about() {
    let (helm, _home) = helm().await;
    let reviews = async |arguments: &[&str]| {
        let text = render(&helm, arguments).await.unwrap();
        text.matches("reviews]").count()
    };
    assert_eq!(reviews(&[]).await, 2);
    assert_eq!(reviews(&["--set", "hostSync.dashboard=false"]).await, 0);
}

#[tokio::test]
async fn with_named_namespaces_no_right_on_namespaced_objects_is_cluster_wide_and_the_policy_sees_no_other() {
    let (helm, _home) = helm().await;
    let objects = objects(&helm, &["--set-json", r#"namespaces=["shop","42"]"#]).await;
    for rule in the(&objects, "ClusterRole")["rules"].as_array().unwrap() {
        let named = rule["resources"] == json!(["namespaces"]) && rule["resourceNames"] == json!(["shop", "42"]);
        // What the dashboard asks: whose token it is, and what they may do. Neither is an object of a namespace.
        let reviews = ["tokenreviews", "subjectaccessreviews"].iter().any(|one| rule["resources"] == json!([one]));
        assert!(named || reviews || rule["apiGroups"] == json!(["scout.commandk.dev"]), "{rule}");
    }
    let expressions = &the(&objects, "ClusterAdmissionPolicy")["spec"]["namespaceSelector"]["matchExpressions"];
    let expected = json!({"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["shop", "42"]});
    assert!(expressions.as_array().unwrap().contains(&expected), "{expressions}");
}

#[tokio::test]
async fn host_sync_is_locked_down_and_its_command_line_is_understood() {
    let (helm, _home) = helm().await;
    for variant in VARIANTS {
        let objects = objects(&helm, variant).await;
        let pod = &the(&objects, "Deployment")["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"], json!({"type": "RuntimeDefault"}));
        let [container] = pod["containers"].as_array().unwrap().as_slice() else { panic!("{pod}") };
        assert_eq!(
            container["securityContext"],
            json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}})
        );
        let arguments = container["args"].as_array().unwrap().iter().map(|argument| argument.as_str().unwrap());
        let cli = Cli::try_parse_from(std::iter::once("host-sync").chain(arguments)).unwrap();
        let Command::Run { cluster, listen, leader_election, .. } = cli.command else { panic!("{variant:?}") };
        assert_eq!(cluster.namespace, "scout-system");
        assert!(leader_election && listen.ip().is_unspecified(), "{variant:?}");
        assert_eq!(container["ports"][0]["containerPort"], listen.port());
    }
}
