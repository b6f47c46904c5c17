//! Applying a plan: each step as it stands, in order. Nothing is decided here, but that what failed is not tried at once again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result};
use host_sync_core::config;
use host_sync_core::history;
use host_sync_core::plan::{Action, Step};
use host_sync_core::snapshot::ObjectKey;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::Resource;
use kube::{Api, Client, ResourceExt};
use policy_core::desired_state::DesiredState;
use policy_core::names::{AppName, REQUESTED_ANNOTATION, WorkloadKind, delivery_history_name, desired_state_name};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::backoff;
use super::observe::{FIELD_MANAGER, Observed};
use super::secrets::{self, Version};
use super::watches::{Written, WrittenKind, raw};
use crate::api;

/// The longest wait before a step that failed is tried again.
const CAP: Duration = Duration::from_mins(2);

/// What came of one step.
pub(super) struct Applied {
    /// The steps that were done, in order.
    pub(super) done: Vec<Step>,
    /// The steps that were not.
    pub(super) failed: Vec<Failed>,
    /// What the caches must show before the next pass.
    pub(super) written: Vec<Written>,
}

/// A step that was not done.
pub(super) struct Failed {
    pub(super) step: Step,
    /// Why. Values are in no message.
    pub(super) error: String,
    /// Whether it was tried in this pass, or still waits after an earlier failure.
    pub(super) tried: bool,
}

/// Steps that failed, by what they do: how often in a row, and until when to leave them.
#[derive(Default)]
pub(super) struct Failures(BTreeMap<String, (u32, Instant, String)>);

impl Failures {
    /// When the next failed step may be tried again.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.0.values().map(|(_, until, _)| *until).min()
    }
}

/// What effects need.
pub(super) struct Effects<'a> {
    pub(super) client: &'a Client,
    pub(super) own_namespace: &'a str,
    pub(super) observed: &'a Observed,
    pub(super) versions: &'a BTreeMap<ObjectKey, Version>,
}

impl Effects<'_> {
    /// Applies the steps. After a write that failed, the later steps of its namespace wait: their order is what keeps the
    /// promises. A touch that failed holds nobody up.
    pub(super) async fn apply(&self, steps: Vec<Step>, failures: &mut Failures) -> Applied {
        let mut applied = Applied { done: Vec::new(), failed: Vec::new(), written: Vec::new() };
        let mut blocked: BTreeSet<String> = BTreeSet::new();
        let planned: BTreeSet<String> = steps.iter().map(|step| step.action.to_string()).collect();
        failures.0.retain(|what, _| planned.contains(what));
        for step in steps {
            if step.namespace().is_some_and(|namespace| blocked.contains(namespace)) {
                continue;
            }
            let what = step.action.to_string();
            let waiting = failures.0.get(&what).filter(|(_, until, _)| *until > Instant::now());
            let (error, tried) = match waiting {
                Some((_, _, error)) => (error.clone(), false),
                None => match self.step(&step).await {
                    Ok(written) => {
                        tracing::debug!(step = %what, why = %step.why, "done");
                        failures.0.remove(&what);
                        applied.written.extend(written);
                        applied.done.push(step);
                        continue;
                    }
                    Err(error) => {
                        let error = format!("{error:#}");
                        let count = failures.0.get(&what).map_or(0, |(count, _, _)| *count).saturating_add(1);
                        let until = Instant::now() + backoff::delay(count, CAP, backoff::jitter());
                        tracing::warn!(step = %what, %error, "a step failed and is tried again");
                        failures.0.insert(what, (count, until, error.clone()));
                        (error, true)
                    }
                },
            };
            blocked.extend(step.namespace().filter(|_| step.holds_up()).map(str::to_owned));
            applied.failed.push(Failed { step, error, tried });
        }
        applied
    }

    async fn step(&self, step: &Step) -> Result<Option<Written>> {
        match &step.action {
            Action::ProtectApp { app } => self.finalizers(app, &[api::FINALIZER]).await,
            Action::ReleaseApp { app } => self.finalizers(app, &[]).await,
            Action::WriteHistory { namespace, history } => {
                self.write_records(&delivery_history_name(namespace), history::to_data(history)).await
            }
            Action::WriteState { state } => self.write_state(state).await,
            Action::WriteSecret(spec) => {
                let version = self.versions.get(&(spec.namespace.clone(), spec.name.clone()));
                secrets::write(self.client, spec, version).await.map(|()| None)
            }
            Action::ForgetNamespace { namespace } => self.forget(namespace).await,
            Action::Touch { namespace, kind, workload, requested } => {
                self.touch(namespace, *kind, workload, requested).await
            }
            Action::DeleteSecret { namespace, name, app } => {
                secrets::delete(self.client, (namespace, name), app, self.apps()).await.map(|()| None)
            }
        }
    }

    fn apps(&self) -> &BTreeMap<AppName, config::App> {
        &self.observed.snapshot.apps
    }

    async fn write_state(&self, state: &DesiredState) -> Result<Option<Written>> {
        let data = state.to_data().context("encoding the desired state")?;
        self.write_records(&desired_state_name(&state.meta.namespace), data).await
    }

    async fn write_records(&self, name: &str, data: BTreeMap<String, String>) -> Result<Option<Written>> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), self.own_namespace);
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "scout"}},
            "data": data,
        });
        let written = api
            .patch(name, &apply_params(), &Patch::Apply(&object))
            .await
            .with_context(|| format!("writing ConfigMap {}/{name}", self.own_namespace))?;
        Ok(written_as(WrittenKind::ConfigMap, &written))
    }

    async fn forget(&self, namespace: &str) -> Result<Option<Written>> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), self.own_namespace);
        for name in [desired_state_name(namespace), delivery_history_name(namespace)] {
            match api.delete(&name, &DeleteParams::default()).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                other => {
                    other.with_context(|| format!("deleting ConfigMap {}/{name}", self.own_namespace))?;
                }
            }
        }
        Ok(None)
    }

    /// Applies the finalizers that host-sync wants on an App: this one, or none of its own.
    async fn finalizers(&self, app: &AppName, finalizers: &[&str]) -> Result<Option<Written>> {
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &raw::<api::App>());
        let uid = self.observed.apps.get(app.as_str()).and_then(|observed| observed.metadata.uid.clone());
        let object = json!({
            "apiVersion": api::App::api_version(&()), "kind": api::App::kind(&()),
            // The uid keeps an apply from making an App that is gone anew.
            "metadata": {"name": app.as_str(), "uid": uid, "finalizers": finalizers},
        });
        let written = api
            .patch(app.as_str(), &apply_params(), &Patch::Apply(&object))
            .await
            .with_context(|| format!("setting the finalizers of App {app}"))?;
        // Without its last finalizer an App that is being deleted is gone, and no cache will ever show that version.
        Ok(written_as(WrittenKind::App, &written).filter(|_| !finalizers.is_empty()))
    }

    /// The touch: one annotation on the workload's metadata, so that its UPDATE goes through the policy.
    async fn touch(
        &self,
        namespace: &str,
        kind: WorkloadKind,
        workload: &str,
        requested: &str,
    ) -> Result<Option<Written>> {
        let WorkloadKind::Deployment = kind;
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), namespace);
        let metadata = self.observed.workloads.get(&(namespace.to_owned(), workload.to_owned()));
        let object = json!({
            "apiVersion": "apps/v1", "kind": kind.as_str(),
            "metadata": {
                "name": workload,
                "uid": metadata.and_then(|metadata| metadata.uid.clone()),
                "annotations": {REQUESTED_ANNOTATION: requested},
            },
        });
        let touched = api.patch(workload, &apply_params(), &Patch::Apply(&object)).await;
        // A policy server takes 2 MiB, and an UPDATE carries the old object too.
        let too_large = touched.as_ref().is_err_and(|error| error.to_string().contains("413"));
        let hint =
            if too_large { " (its manifest is too large for the policy server: keep it below 1 MiB)" } else { "" };
        let written = touched.with_context(|| format!("touching {kind} {namespace}/{workload}{hint}"))?;
        Ok(written_as(WrittenKind::Workload, &written))
    }
}

/// Server-side apply as host-sync's one field manager; what it applies is its own, so conflicts are settled in its favour.
pub(super) fn apply_params() -> PatchParams {
    PatchParams::apply(FIELD_MANAGER).force()
}

pub(super) fn written_as<K: Resource>(kind: WrittenKind, object: &K) -> Option<Written> {
    Some(Written {
        kind,
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        version: object.resource_version()?,
    })
}

/// Applies a status.
pub(super) async fn write_status<K>(
    client: &Client,
    name: &str,
    kind: WrittenKind,
    status: &Value,
) -> Result<Option<Written>>
where
    K: Resource<DynamicType = ()>,
{
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &raw::<K>());
    let object = json!({
        "apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": {"name": name}, "status": status,
    });
    let written = api
        .patch_status(name, &apply_params(), &Patch::Apply(&object))
        .await
        .with_context(|| format!("writing the status of {} {name}", K::kind(&())))?;
    Ok(written_as(kind, &written))
}
