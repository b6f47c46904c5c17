//! Pod templates as raw JSON: what belongs to Scout in them, taking it out, and putting it in.
//!
//! A typed round trip would drop fields that this crate does not know, and the host's diff would then remove them from
//! the user's workload. What belongs to Scout is recognised by the Secret names that the attachments record, wherever the
//! entry stands; nothing else is ever touched.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::attachment::{Attachment, Attachments, Strategy};
use crate::names::{ATTACHMENTS_ANNOTATION, WorkloadKind, is_secret_of, revision_label, volume_name};

/// A JSON object.
pub type Object = Map<String, Value>;

/// The lists of a pod spec that hold containers with an environment of their own.
const CONTAINER_LISTS: [&str; 2] = ["initContainers", "containers"];

/// The JSON pointer of the pod template in a workload of this kind.
pub fn template_pointer(kind: WorkloadKind) -> &'static str {
    match kind {
        WorkloadKind::Deployment => "/spec/template",
    }
}

/// The pod template of a workload that has containers. Admission comes before validation, so it may well have none.
pub fn pod_template(workload: &Value, kind: WorkloadKind) -> Option<&Value> {
    let template = workload.pointer(template_pointer(kind))?;
    (!containers(template).is_empty()).then_some(template)
}

/// Every container of a pod template, init containers first.
pub fn containers(template: &Value) -> Vec<&Object> {
    let Some(spec) = template.get("spec").and_then(Value::as_object) else { return Vec::new() };
    CONTAINER_LISTS.into_iter().flat_map(|field| list(spec, field)).collect()
}

fn containers_mut(template: &mut Value) -> impl Iterator<Item = &mut Object> {
    template
        .get_mut("spec")
        .and_then(Value::as_object_mut)
        .into_iter()
        .flat_map(Object::iter_mut)
        .filter(|(list, _)| CONTAINER_LISTS.contains(&list.as_str()))
        .filter_map(|(_, containers)| containers.as_array_mut())
        .flatten()
        .filter_map(Value::as_object_mut)
}

/// The text at `key` of an object; empty where there is none.
pub(crate) fn text<'a>(object: &'a Object, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The entries of the list `field`.
pub(crate) fn list<'a>(object: &'a Object, field: &str) -> Vec<&'a Object> {
    let entries = object.get(field).and_then(Value::as_array);
    entries.map(|entries| entries.iter().filter_map(Value::as_object).collect()).unwrap_or_default()
}

/// The volumes of a pod template.
pub(crate) fn volumes(template: &Value) -> Vec<&Object> {
    template.get("spec").and_then(Value::as_object).map(|spec| list(spec, "volumes")).unwrap_or_default()
}

/// What of a pod template belongs to Scout: the union of what its attachments, old and new, record.
#[derive(Debug, Default)]
pub struct Managed {
    secrets: Vec<(Strategy, String)>,
    /// The names that Scout's volumes have, should one be gone while its mounts are still there.
    volumes: Vec<String>,
    labels: Vec<String>,
}

impl Managed {
    /// What these attachments account for.
    pub fn by<'a>(attachments: impl IntoIterator<Item = &'a Attachment>) -> Self {
        let mut managed = Self::default();
        for attachment in attachments {
            managed.labels.push(revision_label(&attachment.app));
            // Without a strategy the user wires the Secret, and a Secret of another name is the user's: so are its entries.
            let Some(strategy) = attachment.strategy.filter(|_| is_secret_of(&attachment.app, &attachment.secret))
            else {
                continue;
            };
            managed.secrets.push((strategy, attachment.secret.clone()));
            if strategy == Strategy::VolumeMount {
                managed.volumes.push(volume_name(&attachment.app));
            }
        }
        managed
    }

    fn holds(&self, strategy: Strategy, secret: Option<&Value>) -> bool {
        let secret = secret.and_then(Value::as_str);
        secret.is_some_and(|secret| self.secrets.iter().any(|(one, name)| *one == strategy && name == secret))
    }

    /// Whether the variable is read from one of Scout's Secrets.
    pub(crate) fn variable(&self, variable: &Object) -> bool {
        let secret = variable.get("valueFrom").and_then(|from| from.get("secretKeyRef")?.get("name"));
        self.holds(Strategy::EnvironmentVariables, secret)
    }

    /// Whether the volume is one of Scout's Secrets, and nothing else was merged into it.
    pub(crate) fn volume(&self, volume: &Object) -> bool {
        let secret = volume.get("secret").and_then(|secret| secret.get("secretName"));
        self.holds(Strategy::VolumeMount, secret) && volume.keys().all(|key| key == "name" || key == "secret")
    }

    /// The names of Scout's volumes in a pod template, those included that somebody took out without their mounts.
    pub(crate) fn volume_names(&self, template: &Value) -> Vec<String> {
        let mut gone = self.volumes.clone();
        let mut names = Vec::new();
        for volume in volumes(template) {
            let name = text(volume, "name");
            gone.retain(|one| one != name);
            if self.volume(volume) {
                names.push(name.to_owned());
            }
        }
        names.append(&mut gone);
        names
    }
}

/// The list entries that a pod template is to hold because of Scout, complete: what is not here is taken out.
#[derive(Debug, Default)]
pub struct Wanted {
    /// What the template records.
    pub attachments: Vec<Attachment>,
    /// Container name → its variables.
    pub variables: BTreeMap<String, Vec<Value>>,
    /// Container name → its mounts.
    pub mounts: BTreeMap<String, Vec<Value>>,
    /// The pod's volumes.
    pub volumes: Vec<Value>,
}

/// Makes a pod template hold exactly `wanted` of what is `managed`: entries keep their positions, new ones are appended,
/// no list or map is left empty that was not, and everything else stays as it is.
pub fn reconcile(template: &mut Value, managed: &Managed, wanted: &Wanted) {
    let volume_names = managed.volume_names(template);
    for container in containers_mut(template) {
        let name = text(container, "name").to_owned();
        release_overridden_variables(container, managed);
        let variables = wanted.variables.get(&name).map_or(&[][..], Vec::as_slice);
        reconcile_list(container, "env", "name", &|entry| managed.variable(entry), variables);
        let mounts = wanted.mounts.get(&name).map_or(&[][..], Vec::as_slice);
        let is_managed = |entry: &Object| volume_names.iter().any(|name| name == text(entry, "name"));
        reconcile_list(container, "volumeMounts", "mountPath", &is_managed, mounts);
    }
    if let Some(spec) = template.get_mut("spec").and_then(Value::as_object_mut) {
        reconcile_list(spec, "volumes", "name", &|entry| managed.volume(entry), &wanted.volumes);
    }
    reconcile_metadata(template, managed, wanted);
}

/// A copy of the pod template without anything of Scout: what its user wrote.
pub fn without_managed(template: &Value, managed: &Managed) -> Value {
    let mut template = template.clone();
    reconcile(&mut template, managed, &Wanted::default());
    template
}

/// `kubectl apply` merges a variable that the manifest newly sets into Scout's entry of that name, which then has both a
/// value and a source, or two sources, and the API server would refuse it. The manifest wins: Scout's source goes.
fn release_overridden_variables(container: &mut Object, managed: &Managed) {
    let variables = container.get_mut("env").and_then(Value::as_array_mut).into_iter().flatten();
    for variable in variables.filter_map(Value::as_object_mut) {
        if !managed.variable(variable) {
            continue;
        }
        if !text(variable, "value").is_empty() {
            variable.remove("valueFrom");
        } else if let Some(sources) = variable.get_mut("valueFrom").and_then(Value::as_object_mut)
            && sources.len() > 1
        {
            sources.remove("secretKeyRef");
        }
    }
}

fn reconcile_list(
    owner: &mut Object,
    field: &str,
    merge_key: &str,
    is_managed: &dyn Fn(&Object) -> bool,
    wanted: &[Value],
) {
    let present = match owner.get(field) {
        None | Some(Value::Null) => &[][..],
        Some(Value::Array(present)) => present,
        Some(_) => return, // not a list: the API server will say so in its own words
    };
    let mut remaining: Vec<&Value> = wanted.iter().collect();
    let mut result = Vec::with_capacity(present.len() + wanted.len());
    for entry in present {
        if !entry.as_object().is_some_and(is_managed) {
            result.push(entry.clone());
        } else if let Some(found) = remaining.iter().position(|one| one.get(merge_key) == entry.get(merge_key)) {
            result.push(remaining.remove(found).clone());
        }
    }
    result.extend(remaining.into_iter().cloned());
    if result == present {
        return;
    }
    if result.is_empty() {
        owner.remove(field);
    } else {
        owner.insert(field.to_owned(), Value::Array(result));
    }
}

fn reconcile_metadata(template: &mut Value, managed: &Managed, wanted: &Wanted) {
    let Some(template) = template.as_object_mut() else { return };
    let attachments: Attachments = wanted.attachments.iter().cloned().collect();
    let record = (!attachments.is_empty()).then(|| attachments.to_json());
    set_text(template, &["metadata", "annotations"], ATTACHMENTS_ANNOTATION, record);
    for label in &managed.labels {
        set_text(template, &["metadata", "labels"], label, None);
    }
    for attachment in &attachments {
        let revision = Some(attachment.revision.to_string());
        set_text(template, &["metadata", "labels"], &revision_label(&attachment.app), revision);
    }
}

/// Sets or removes one text in a nested map; maps that this leaves empty go too, maps that it needs come.
pub(crate) fn set_text(object: &mut Object, path: &[&str], key: &str, value: Option<String>) {
    let Some((first, rest)) = path.split_first() else {
        match value {
            Some(value) => object.insert(key.to_owned(), Value::String(value)),
            None => object.remove(key),
        };
        return;
    };
    let present = object.get(*first).is_some_and(|inner| !inner.is_null());
    if !present && value.is_none() {
        return;
    }
    if !present {
        object.insert((*first).to_owned(), json!({}));
    }
    let Some(inner) = object.get_mut(*first).and_then(Value::as_object_mut) else { return };
    let was_empty = inner.is_empty();
    set_text(inner, rest, key, value);
    if inner.is_empty() && present && !was_empty {
        object.remove(*first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{AppName, Revision};

    fn attachment(secret: &str, strategy: Option<Strategy>) -> Attachment {
        let (app, revision) = (AppName::parse("checkout").unwrap(), Revision::parse("1").unwrap());
        Attachment { app, revision, secret: secret.to_owned(), strategy }
    }

    fn variable(secret: &str) -> Value {
        json!({"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": secret, "key": "token"}}})
    }

    #[test]
    fn scouts_are_the_entries_from_recorded_secrets_of_scouts_names() {
        let variables = Some(Strategy::EnvironmentVariables);
        for (recorded, strategy, present, expected) in [
            ("scout.checkout.1", variables, "scout.checkout.1", true),
            ("scout.checkout.1", variables, "scout.checkout.2", false),
            ("scout.checkout.1", Some(Strategy::VolumeMount), "scout.checkout.1", false),
            ("own", variables, "own", false),
            ("scout.checkout.1", None, "scout.checkout.1", false),
        ] {
            let managed = Managed::by([&attachment(recorded, strategy)]);
            assert_eq!(managed.variable(variable(present).as_object().unwrap()), expected, "{recorded} {present}");
        }
    }

    #[test]
    fn a_volume_that_something_was_merged_into_is_the_users() {
        let managed = Managed::by([&attachment("scout.checkout.deployment.api", Some(Strategy::VolumeMount))]);
        let mut volume = json!({"name": "scout-checkout", "secret": {"secretName": "scout.checkout.deployment.api"}});
        assert!(managed.volume(volume.as_object().unwrap()));
        volume["emptyDir"] = json!({});
        assert!(!managed.volume(volume.as_object().unwrap()));
        let template = json!({"spec": {"volumes": [volume]}});
        assert!(managed.volume_names(&template).is_empty());
        assert_eq!(managed.volume_names(&json!({"spec": {}})), ["scout-checkout"]);
    }

    #[test]
    fn taking_out_leaves_no_empty_list_or_map_and_every_one_that_was_there() {
        let managed = Managed::by([&attachment("scout.checkout.1", Some(Strategy::EnvironmentVariables))]);
        let template = json!({
            "metadata": {"labels": {"scout.commandk.dev/checkout": "1"}, "annotations": {}},
            "spec": {"containers": [{"name": "api", "env": [variable("scout.checkout.1")], "volumeMounts": []}]},
        });
        let expected = json!({
            "metadata": {"annotations": {}},
            "spec": {"containers": [{"name": "api", "volumeMounts": []}]},
        });
        assert_eq!(without_managed(&template, &managed), expected);
    }

    #[test]
    fn a_text_is_set_in_maps_that_come_and_go_with_it() {
        let mut object = Object::new();
        set_text(&mut object, &["metadata", "labels"], "a", Some("1".to_owned()));
        assert_eq!(Value::Object(object.clone()), json!({"metadata": {"labels": {"a": "1"}}}));
        set_text(&mut object, &["metadata", "labels"], "a", None);
        assert!(object.is_empty());
    }
}
