//! Scout's Helm chart: what it renders, what a real API server says of it, its upgrade and its end, and that the rights it
//! gives are those that are used.
#![allow(clippy::unwrap_used)]

mod installed;
mod rendered;
mod rights;

use e2e::cluster::Helm;
use e2e::installation::NAMESPACE;
use e2e::installation::chart::{RELEASE, chart};
use serde_json::Value;

/// Every switch of the chart and every value that changes more than a text, each as arguments of Helm.
const VARIANTS: [&[&str]; 10] = [
    &[],
    &["--set", "crds.install=false,podDisruptionBudget.enabled=false,hostSync.replicas=1,policyServer.replicas=1"],
    &["--set", "namespaces={default,kube-public}"],
    &["--set", "networkPolicy.enabled=true"],
    &[
        "--set-json",
        r#"networkPolicy={"enabled":true,"from":[{"namespaceSelector":{"matchLabels":{"name":"monitoring"}}}],
            "egress":[{"to":[{"ipBlock":{"cidr":"10.0.0.0/8"}}],"ports":[{"port":8200,"protocol":"TCP"}]}],"apiServerPorts":[6443]}"#,
    ],
    &["--set", "serviceMonitor.enabled=true,serviceMonitor.labels.release=prometheus"],
    &["--set", "grafanaDashboard.enabled=true"],
    &[
        "--set-json",
        r#"hostSync={"extraVolumes":[{"name":"secrets","secret":{"secretName":"mine"}},{"name":"audit","emptyDir":{}}],
            "extraVolumeMounts":[{"name":"secrets","mountPath":"/var/scout/secrets","readOnly":true},{"name":"audit","mountPath":"/var/scout/audit"}],
            "auditTrail":"/var/scout/audit/trail.jsonl"}"#,
    ],
    &[
        "--set-json",
        r#"hostSync={"image":{"digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000"},
            "imagePullSecrets":[{"name":"registry"}],"listenAddress":"::","dashboard":false,"logFormat":"text","podLabels":{"a":"b"},
            "podAnnotations":{"c":"d"},"nodeSelector":{"kubernetes.io/os":"linux"},"priorityClassName":"system-cluster-critical",
            "tolerations":[{"key":"x","operator":"Exists"}],"resources":{},
            "affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[
                {"matchExpressions":[{"key":"kubernetes.io/arch","operator":"Exists"}]}]}}}}"#,
    ],
    &[
        "--set",
        "policy.module.digest=sha256:0000000000000000000000000000000000000000000000000000000000000000,policy.onMissingState=Accept,\
         policyServer.imagePullSecret=registry,policyServer.verificationConfig=sigstore",
    ],
];

/// What Helm renders, as text.
async fn render(helm: &Helm, arguments: &[&str]) -> anyhow::Result<String> {
    let chart = chart();
    let template = ["template", RELEASE, chart.to_str().unwrap(), "--namespace", NAMESPACE];
    helm.run(&[&template[..], arguments].concat()).await
}

/// What Helm renders, as objects.
async fn objects(helm: &Helm, arguments: &[&str]) -> Vec<Value> {
    let text = render(helm, arguments).await.unwrap();
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    objects.into_iter().filter(|object| !object.is_null()).collect()
}

/// The one object of a kind.
fn the<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let found: Vec<&Value> = objects.iter().filter(|object| object["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "there is one {kind}");
    found[0]
}
