//! `preview`: what the policy makes of a manifest, by the same WebAssembly module that the cluster runs.

#[cfg(feature = "preview")]
mod guest;
mod offline;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{Api, Client, ResourceExt};
use policy_core::names::{ENVIRONMENT_LABEL, WorkloadKind, desired_state_name};
use serde_json::{Value, json};

use super::cluster;
use super::manifests::{self, Document};
use super::output;
use crate::cli::{PreviewArguments, PreviewOutput};

/// The exit code when the policy refuses a manifest.
pub(super) const REJECTED: u8 = 2;

/// What the policy answers.
#[derive(Debug, Clone, PartialEq)]
struct Verdict {
    accepted: bool,
    /// Why not.
    message: Option<String>,
    warnings: Vec<String>,
    /// The object as it is to be, where that is another one.
    mutated: Option<Value>,
}

/// What the policy is to know of a namespace.
#[derive(Debug, Clone, PartialEq)]
enum Place {
    /// Its desired-state ConfigMap, if there is one.
    Associated(Option<Value>),
    /// The policy is never asked about it; the sentence says why.
    Elsewhere(String),
}

/// One document and what became of it.
struct Reviewed {
    document: Document,
    verdict: Option<Verdict>,
    /// Why the policy was not asked.
    note: Option<String>,
}

/// The kind of a document, if it is one that Scout attaches to.
fn kind(document: &Document) -> Option<WorkloadKind> {
    let group = document.at("/apiVersion").split_once('/').map_or("", |(group, _)| group);
    WorkloadKind::of(group, document.at("/kind"))
}

/// A document's object, for people.
fn subject(document: &Document, namespace: &str) -> String {
    let name = document.at("/metadata/name");
    let name = if name.is_empty() { document.at("/metadata/generateName") } else { name };
    format!("{} {namespace}/{name}", document.at("/kind"))
}

/// Prints what the policy makes of the manifests; returns the exit code.
pub(super) async fn run(arguments: &PreviewArguments) -> Result<u8> {
    let documents = manifests::read(&arguments.files)?;
    if documents.is_empty() {
        bail!("there is no object in what -f names");
    }
    let own_namespace = &arguments.scout.scout_namespace;
    let (places, default_namespace) = if arguments.offline {
        let places = offline::places(arguments)?;
        (places, "default".to_owned())
    } else {
        let client = cluster::connect(&arguments.connection).await?;
        let default = client.default_namespace().to_owned();
        let named = arguments.namespace.as_ref().unwrap_or(&default);
        let namespaces: BTreeSet<String> =
            documents.iter().filter(|one| kind(one).is_some()).map(|one| namespace_of(one, named)).collect();
        (online(&client, own_namespace, namespaces).await?, default)
    };
    let default_namespace = arguments.namespace.clone().unwrap_or(default_namespace);
    let policy = Policy::load(arguments, own_namespace, &places)?;
    let mut reviewed = Vec::new();
    for document in documents {
        reviewed.push(review(&policy, &places, document, &default_namespace)?);
    }
    let rejected = reviewed.iter().any(|one| one.verdict.as_ref().is_some_and(|verdict| !verdict.accepted));
    for one in &reviewed {
        for remark in text::remarks(one, &default_namespace) {
            output::say(&remark);
        }
    }
    match arguments.output {
        PreviewOutput::Diff => output::print(&text::diff(&reviewed, &default_namespace)?)?,
        // Half a stream piped into kubectl would be half an application.
        PreviewOutput::Yaml if rejected => {}
        PreviewOutput::Yaml => output::print(&text::yaml(&reviewed)?)?,
    }
    Ok(if rejected { REJECTED } else { 0 })
}

fn namespace_of(document: &Document, default: &str) -> String {
    let named = document.at("/metadata/namespace");
    if named.is_empty() { default.to_owned() } else { named.to_owned() }
}

fn review(
    policy: &Policy,
    places: &BTreeMap<String, Place>,
    document: Document,
    default_namespace: &str,
) -> Result<Reviewed> {
    let Some(kind) = kind(&document) else { return Ok(Reviewed { document, verdict: None, note: None }) };
    let namespace = namespace_of(&document, default_namespace);
    match places.get(&namespace) {
        Some(Place::Associated(_)) => {
            let verdict = policy
                .review(&request(kind, &document.value, &namespace))
                .with_context(|| format!("asking the policy about {}", subject(&document, &namespace)))?;
            Ok(Reviewed { document, verdict: Some(verdict), note: None })
        }
        Some(Place::Elsewhere(why)) => Ok(Reviewed { document, verdict: None, note: Some(why.clone()) }),
        None => {
            let why = format!("nothing was given of namespace {namespace}, so the policy was not asked");
            Ok(Reviewed { document, verdict: None, note: Some(why) })
        }
    }
}

/// The admission request for the creation of an object. What an object is when its pod template changes, it is at its
/// creation too; what an update leaves as it is, is `status` to say.
fn request(kind: WorkloadKind, object: &Value, namespace: &str) -> Value {
    let WorkloadKind::Deployment = kind;
    json!({
        "uid": "preview",
        "kind": {"group": "apps", "version": "v1", "kind": kind.as_str()},
        "resource": {"group": "apps", "version": "v1", "resource": "deployments"},
        "operation": "CREATE",
        "namespace": namespace,
        "name": object.pointer("/metadata/name"),
        "userInfo": {"username": "preview"},
        "object": object,
    })
}

/// What the policy would know of these namespaces now.
async fn online(client: &Client, own_namespace: &str, names: BTreeSet<String>) -> Result<BTreeMap<String, Place>> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let records: Api<ConfigMap> = Api::namespaced(client.clone(), own_namespace);
    let mut places = BTreeMap::new();
    for name in names {
        let namespace = namespaces.get_opt(&name).await.with_context(|| format!("reading namespace {name}"))?;
        let labelled = namespace.is_some_and(|one| one.labels().contains_key(ENVIRONMENT_LABEL));
        let place = if labelled {
            let record = desired_state_name(&name);
            let state = records.get_opt(&record).await.with_context(|| {
                format!("reading ConfigMap {own_namespace}/{record} (a copy of it serves, too: --offline --desired-state FILE)")
            })?;
            let state = state.map(serde_json::to_value).transpose().context("encoding the desired state")?;
            Place::Associated(state)
        } else {
            let label = ENVIRONMENT_LABEL;
            Place::Elsewhere(format!("namespace {name} has no label {label}, so the policy is never asked about it"))
        };
        places.insert(name, place);
    }
    Ok(places)
}

/// Where the module is when nobody says: where `policy/build.sh` puts it.
const MODULE: &str = "target/policy/annotated-policy.wasm";

/// The policy's module, ready to be asked.
#[cfg(feature = "preview")]
struct Policy {
    guest: guest::Guest,
    settings: Value,
}

#[cfg(feature = "preview")]
impl Policy {
    fn load(arguments: &PreviewArguments, own_namespace: &str, places: &BTreeMap<String, Place>) -> Result<Self> {
        let path = arguments.module.clone().unwrap_or_else(|| PathBuf::from(MODULE));
        let module = std::fs::read(&path).with_context(|| {
            format!(
                "reading the policy's module {}: name it with --module or SCOUT_POLICY_MODULE; 'policy/build.sh' makes and prints one",
                path.display()
            )
        })?;
        let states = places.iter().filter_map(|(namespace, place)| match place {
            Place::Associated(Some(state)) => Some((desired_state_name(namespace), state.clone())),
            Place::Associated(None) | Place::Elsewhere(_) => None,
        });
        let settings = json!({"desiredStateNamespace": own_namespace, "onMissingState": "Reject"});
        let guest = guest::Guest::load(&module, states.collect())
            .with_context(|| format!("loading the policy's module {}", path.display()))?;
        Ok(Self { guest, settings })
    }

    fn review(&self, request: &Value) -> Result<Verdict> {
        self.guest.review(request, &self.settings)
    }
}

/// Without the feature `preview` there is nothing to run a module with.
#[cfg(not(feature = "preview"))]
struct Policy;

#[cfg(not(feature = "preview"))]
impl Policy {
    fn load(arguments: &PreviewArguments, _: &str, _: &BTreeMap<String, Place>) -> Result<Self> {
        let path = arguments.module.clone().unwrap_or_else(|| PathBuf::from(MODULE));
        bail!(
            "this host-sync was built without the feature 'preview', so it cannot run {}: use the command line's own build, \
             'cargo install --path host-sync'",
            path.display()
        )
    }

    fn review(&self, _: &Value) -> Result<Verdict> {
        bail!("built without the feature 'preview'")
    }
}
