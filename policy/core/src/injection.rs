//! From attachments to the list entries of a pod template.
//!
//! The manifest's own entries win or clash here: a variable that it sets itself is left to it with a warning; a volume
//! name or a mount path that it uses itself is refused with both names.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use thiserror::Error;

use crate::attachment::Attachment;
use crate::desired_state::{Entry, Injection};
use crate::matching::same_path;
use crate::names::{AppName, volume_name};
use crate::template::{Managed, Object, Wanted, containers, list, text, volumes};

/// The mode of mounted files, the API server's own default (octal 0644): said, so that defaulting never makes a difference.
const DEFAULT_MODE: i32 = 0o644;

/// Why an app cannot be attached to this manifest.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[allow(missing_docs)]
pub enum InjectionError {
    #[error(
        "container {container} of the manifest mounts its volume {volume} at {path}, where app {app} of Scout is mounted: move that mount, or set another mountPath in App {app} and redeploy it"
    )]
    MountPath { container: String, volume: String, path: String, app: AppName },
    #[error(
        "the manifest has a volume of its own named {volume}, which is the volume of app {app} of Scout: rename the manifest's volume"
    )]
    VolumeName { volume: String, app: AppName },
}

/// Collects what a pod template is to hold, app by app.
pub struct Injector<'a> {
    /// The template as its user wrote it.
    user: &'a Value,
    /// The containers to attach to; `None` means all.
    containers: Option<&'a BTreeSet<String>>,
    wanted: Wanted,
    warnings: Vec<String>,
}

impl<'a> Injector<'a> {
    /// Starts with nothing wanted, on a template without anything of Scout.
    pub fn new(user: &'a Value, containers: Option<&'a BTreeSet<String>>) -> Self {
        Self { user, containers, wanted: Wanted::default(), warnings: Vec::new() }
    }

    /// What is wanted in all, and the warnings for whoever sent the manifest.
    pub fn finish(self) -> (Wanted, Vec<String>) {
        (self.wanted, self.warnings)
    }

    /// Wants what the desired state says.
    pub fn attach(&mut self, attachment: Attachment, entry: &Entry) -> Result<(), InjectionError> {
        if let Injection::VolumeMount { mount_path } = &entry.injection
            && self.is_mounted(&attachment.app, mount_path)
        {
            return Ok(());
        }
        let user = self.user;
        let mut targets = containers(user);
        if let Some(chosen) = self.containers {
            targets.retain(|container| chosen.contains(text(container, "name")));
        }
        match &entry.injection {
            Injection::EnvironmentVariables { secret, variables } => {
                for container in targets {
                    for (variable, key) in variables {
                        let source = json!({ "secretKeyRef": { "name": secret, "key": key } });
                        self.want_variable(
                            container,
                            &attachment.app,
                            json!({ "name": variable, "valueFrom": source }),
                        );
                    }
                }
            }
            Injection::VolumeMount { mount_path } => {
                let name = volume_name(&attachment.app);
                let source = json!({ "secretName": attachment.secret, "defaultMode": DEFAULT_MODE });
                self.want_volume(&attachment.app, json!({ "name": name, "secret": source }))?;
                for container in targets {
                    let mount = json!({ "name": name, "mountPath": mount_path, "readOnly": true });
                    self.want_mount(container, &attachment.app, mount)?;
                }
            }
            Injection::RevisionOnly { .. } => {}
        }
        self.wanted.attachments.push(attachment);
        Ok(())
    }

    /// Wants what `old` holds of the attachment, entry by entry.
    pub fn keep(&mut self, attachment: &Attachment, old: &Value) -> Result<(), InjectionError> {
        let managed = Managed::by([attachment]);
        let volume_names = managed.volume_names(old);
        let app = &attachment.app;
        let is_ours = |mount: &Object| volume_names.iter().any(|name| name == text(mount, "name"));
        let old_containers = containers(old);
        for container in &old_containers {
            for mount in list(container, "volumeMounts") {
                if is_ours(mount) && self.is_mounted(app, text(mount, "mountPath")) {
                    return Ok(());
                }
            }
        }
        for volume in volumes(old) {
            if managed.volume(volume) {
                self.want_volume(app, Value::Object(volume.clone()))?;
            }
        }
        let user = self.user;
        for container in containers(user) {
            let same = old_containers.iter().find(|one| text(one, "name") == text(container, "name"));
            let Some(old_container) = same else { continue };
            for variable in list(old_container, "env") {
                if managed.variable(variable) {
                    self.want_variable(container, app, Value::Object(variable.clone()));
                }
            }
            for mount in list(old_container, "volumeMounts") {
                if is_ours(mount) {
                    self.want_mount(container, app, Value::Object(mount.clone()))?;
                }
            }
        }
        self.wanted.attachments.push(attachment.clone());
        Ok(())
    }

    /// Whether another app's files are at the path already, which then keeps them, with a warning: one app may wait with
    /// an old path while the other arrives with a new one, which the desired state by itself does not show.
    fn is_mounted(&mut self, app: &AppName, path: &str) -> bool {
        let path_of = |mount: &Value| mount.get("mountPath").and_then(Value::as_str).unwrap_or_default().to_owned();
        let taken = self.wanted.mounts.values().flatten().any(|mount| same_path(&path_of(mount)) == same_path(path));
        if taken {
            self.warnings.push(format!(
                "app {app} of Scout is not attached: the files of another app are at {path}; set another mountPath in App {app} and redeploy it"
            ));
        }
        taken
    }

    fn want_variable(&mut self, container: &Object, app: &AppName, entry: Value) {
        let name = entry.get("name").and_then(Value::as_str).unwrap_or_default();
        let container_name = text(container, "name");
        if list(container, "env").iter().any(|own| text(own, "name") == name) {
            self.warnings.push(format!(
                "container {container_name} sets the variable {name} itself, so it does not get the one of app {app} of Scout"
            ));
            return;
        }
        let variables = self.wanted.variables.entry(container_name.to_owned()).or_default();
        // The first app by name has a variable that two deliver; the caller has warned of the clash.
        if !variables.iter().any(|one| one.get("name") == entry.get("name")) {
            variables.push(entry);
        }
    }

    fn want_volume(&mut self, app: &AppName, entry: Value) -> Result<(), InjectionError> {
        let name = entry.get("name").and_then(Value::as_str).unwrap_or_default();
        if volumes(self.user).iter().any(|own| text(own, "name") == name) {
            return Err(InjectionError::VolumeName { volume: name.to_owned(), app: app.clone() });
        }
        self.wanted.volumes.push(entry);
        Ok(())
    }

    fn want_mount(&mut self, container: &Object, app: &AppName, entry: Value) -> Result<(), InjectionError> {
        let path = entry.get("mountPath").and_then(Value::as_str).unwrap_or_default();
        let container_name = text(container, "name");
        let own = list(container, "volumeMounts");
        if let Some(own) = own.iter().find(|own| same_path(text(own, "mountPath")) == same_path(path)) {
            return Err(InjectionError::MountPath {
                container: container_name.to_owned(),
                volume: text(own, "name").to_owned(),
                path: path.to_owned(),
                app: app.clone(),
            });
        }
        self.wanted.mounts.entry(container_name.to_owned()).or_default().push(entry);
        Ok(())
    }
}
