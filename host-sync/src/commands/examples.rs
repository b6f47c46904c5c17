//! What the tests of the commands look at: one App, one namespace, one workload, as parsed from the objects themselves.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use policy_core::attachment::{Attachment, Attachments, Strategy};
use policy_core::desired_state::{Apply, DesiredState, Entry, Injection, Link, NamedLink};
use policy_core::names::{AppName, Environment, Revision, WorkloadKind};
use serde_json::{Value, json};

use host_sync_core::history::AppHistory;
use host_sync_core::snapshot::{NamespaceFacts, StateFacts};

use super::cluster::{AppSeen, Facts, NamespaceSeen, PodSeen, StoreSeen, workload_seen};
use crate::parse;

/// When everything is looked at.
pub(super) const NOW: i64 = 1_000_000_300;
/// When the revision `bb` was delivered.
pub(super) const DELIVERED: i64 = 1_000_000_000;

pub(super) fn app_name() -> AppName {
    AppName::parse("checkout").unwrap()
}

pub(super) fn production() -> Environment {
    Environment::parse("production").unwrap()
}

/// Which revision the workload's template holds, and those of its pods.
pub(super) struct Shop {
    pub(super) reload: &'static str,
    pub(super) attached: Option<&'static str>,
    pub(super) pods: Vec<Option<&'static str>>,
    pub(super) annotations: Value,
    pub(super) deployment_status: Value,
    pub(super) app_status: Value,
}

impl Default for Shop {
    /// Revision `bb` is delivered and runs everywhere.
    fn default() -> Self {
        Self {
            reload: "Auto",
            attached: Some("bb"),
            pods: vec![Some("bb"), Some("bb")],
            annotations: json!({}),
            deployment_status: json!({
                "observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2,
                "conditions": [{
                    "type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable", "message": "",
                    "lastUpdateTime": "2001-09-09T01:50:00Z", "lastTransitionTime": "2001-09-09T01:50:00Z",
                }],
            }),
            app_status: json!({
                "conditions": [
                    condition("Delivered", "True", "Delivered", "the newest content is in the cluster"),
                    condition("Ready", "True", "Ready", "every linked workload runs the newest revision"),
                ],
                "environments": {"production": {"revision": "bb", "deliveredAt": "2001-09-09T01:46:40Z", "reloadStrategy": "Auto"}},
            }),
        }
    }
}

pub(super) fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Value {
    let since = "2001-09-09T01:46:40Z";
    json!({"type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": since})
}

impl Shop {
    pub(super) fn facts(&self) -> Facts {
        let namespace = NamespaceSeen {
            facts: Ok(Some(NamespaceFacts { environment: Some(production()), terminating: false, unwatched: false })),
            state: Ok(Some(StateFacts::Readable(self.state()))),
            history: Ok(Some(BTreeMap::from([(app_name(), AppHistory::new(DELIVERED, production()))]))),
            workloads: Ok(vec![workload_seen(&self.deployment())]),
            pods: Ok(self.pods.iter().map(|revision| pod(*revision)).collect()),
        };
        Facts {
            now: NOW,
            apps: vec![self.app()],
            stores: Ok(BTreeMap::from([("files".to_owned(), store())])),
            namespaces: BTreeMap::from([("shop".to_owned(), namespace)]),
        }
    }

    fn app(&self) -> AppSeen {
        let link = json!({"namespace": "shop", "kind": "Deployment", "name": "api"});
        let object = json!({
            "apiVersion": "scout.commandk.dev/v1alpha1", "kind": "App", "metadata": {"name": "checkout"},
            "spec": {
                "storeRef": {"name": "files"}, "deploymentStrategy": "EnvironmentVariables",
                "environments": [{
                    "name": "production", "reloadStrategy": self.reload, "source": {"path": "checkout"}, "links": [link],
                }],
            },
        });
        let app = serde_json::from_value(object).unwrap();
        AppSeen {
            name: "checkout".to_owned(),
            config: Ok(parse::app(&app).unwrap()),
            status: serde_json::from_value(self.app_status.clone()).unwrap(),
        }
    }

    fn state(&self) -> DesiredState {
        let mut state = DesiredState::empty("shop", production());
        let link = Link::Named(NamedLink { kind: WorkloadKind::Deployment, name: "api".into() });
        let entry = Entry {
            apply: if self.reload == "Auto" { Apply::Immediately } else { Apply::OnTemplateChange },
            environment: production(),
            injection: Injection::EnvironmentVariables {
                secret: "scout.checkout.bb".into(),
                variables: BTreeMap::new(),
            },
            links: vec![link],
            revision: Revision::parse("bb").unwrap(),
        };
        state.apps.insert(app_name(), entry);
        state
    }

    fn deployment(&self) -> Deployment {
        let mut annotations = self.annotations.clone();
        if let Some(revision) = self.attached {
            let attachment = Attachment {
                app: app_name(),
                revision: Revision::parse(revision).unwrap(),
                secret: format!("scout.checkout.{revision}"),
                strategy: Some(Strategy::EnvironmentVariables),
            };
            annotations["scout.commandk.dev/attached"] = json!(Attachments::from_iter([attachment]).to_json());
        }
        let object = json!({
            "metadata": {
                "name": "api", "namespace": "shop", "generation": 2, "annotations": annotations,
                "managedFields": [{"manager": "scout-host-sync", "operation": "Apply", "time": "2001-09-09T01:48:20Z"}],
            },
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "api"}}, "template": {}},
            "status": self.deployment_status,
        });
        serde_json::from_value(object).unwrap()
    }
}

fn pod(revision: Option<&str>) -> PodSeen {
    let mut labels = BTreeMap::from([("app".to_owned(), "api".to_owned())]);
    labels.extend(revision.map(|revision| ("scout.commandk.dev/checkout".to_owned(), revision.to_owned())));
    PodSeen { labels }
}

fn store() -> StoreSeen {
    let message = "the latest read of files in /var/scout/secrets succeeded";
    StoreSeen {
        spec: serde_json::from_value(json!({"file": {"path": "/var/scout/secrets"}})).unwrap(),
        status: serde_json::from_value(json!({"conditions": [condition("Ready", "True", "Readable", message)]}))
            .unwrap(),
    }
}

/// A rollout with one old pod left.
pub(super) fn rolling() -> Value {
    json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 1, "availableReplicas": 2})
}

/// A rollout whose deadline passed.
pub(super) fn failed() -> Value {
    let condition = json!({
        "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out",
        "lastUpdateTime": "2001-09-09T01:50:00Z",
    });
    json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 1, "availableReplicas": 2, "conditions": [condition]})
}
