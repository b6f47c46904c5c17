//! Which apps the desired state attaches to a workload, and where two of them get into each other's way.
//!
//! host-sync asks the same questions of the same functions: what it compares with a workload's `attached` annotation is
//! what the policy will write there.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::attachment::{Attachment, Attachments};
use crate::desired_state::{DesiredState, Entry, Injection};
use crate::names::{AppName, WorkloadKind, workload_secret_name};
use crate::selector::Labels;

/// A workload, as far as links see it.
#[derive(Debug, Clone, Copy)]
pub struct Workload<'a> {
    /// Its kind.
    pub kind: WorkloadKind,
    /// Its name.
    pub name: &'a str,
    /// The labels of its metadata (not of its pods).
    pub labels: &'a Labels,
}

/// Two apps that deliver the same thing to one workload. The first in the order of names has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Error)]
pub enum Clash {
    /// The same variable.
    #[error(
        "apps {first} and {second} both deliver the variable {variable}: {first} has it; rename it in App {second} (environments[].keys[].as)"
    )]
    Variable {
        /// What both deliver.
        variable: String,
        /// The app that has it.
        first: AppName,
        /// The app that goes without.
        second: AppName,
    },
    /// The same folder.
    #[error(
        "apps {first} and {second} both mount {path}: {first} has it; set another mountPath in App {second} and redeploy it"
    )]
    MountPath {
        /// What both mount.
        path: String,
        /// The app that has it.
        first: AppName,
        /// The app that goes without.
        second: AppName,
    },
}

impl Clash {
    /// The app that goes without.
    pub fn second(&self) -> &AppName {
        match self {
            Self::Variable { second, .. } | Self::MountPath { second, .. } => second,
        }
    }
}

/// The entries for one workload, without what a clash takes away.
#[derive(Debug, Default)]
pub struct Matches<'a> {
    /// The entries, by app.
    pub entries: BTreeMap<&'a AppName, &'a Entry>,
    /// What clashes. A clashing variable is left out of its entry at injection, a clashing mount is left out altogether.
    pub clashes: Vec<Clash>,
}

/// The path that two mounts must not share, whatever slash one of them ends with.
pub(crate) fn same_path(path: &str) -> &str {
    path.trim_end_matches('/')
}

/// The entries of `state` for `workload`.
pub fn matches<'a>(state: &'a DesiredState, workload: Workload<'_>) -> Matches<'a> {
    let mut found = Matches::default();
    let mut variables: BTreeMap<&str, &AppName> = BTreeMap::new();
    let mut paths: BTreeMap<&str, &AppName> = BTreeMap::new();
    for (app, entry) in &state.apps {
        if !entry.matches(workload.kind, workload.name, workload.labels) {
            continue;
        }
        match &entry.injection {
            Injection::EnvironmentVariables { variables: delivered, .. } => {
                for variable in delivered.keys() {
                    if let Some(first) = variables.get(variable.as_str()) {
                        found.clashes.push(Clash::Variable {
                            variable: variable.clone(),
                            first: (*first).clone(),
                            second: app.clone(),
                        });
                    } else {
                        variables.insert(variable, app);
                    }
                }
            }
            Injection::VolumeMount { mount_path } => {
                if let Some(first) = paths.get(same_path(mount_path)) {
                    let clash =
                        Clash::MountPath { path: mount_path.clone(), first: (*first).clone(), second: app.clone() };
                    found.clashes.push(clash);
                    continue;
                }
                paths.insert(same_path(mount_path), app);
            }
            Injection::RevisionOnly { .. } => {}
        }
        found.entries.insert(app, entry);
    }
    found
}

/// What a template with this entry records.
pub fn attachment(app: &AppName, entry: &Entry, workload: Workload<'_>) -> Attachment {
    let secret = match &entry.injection {
        Injection::EnvironmentVariables { secret, .. } | Injection::RevisionOnly { secret } => secret.clone(),
        Injection::VolumeMount { .. } => workload_secret_name(app, workload.kind, workload.name),
    };
    Attachment { app: app.clone(), revision: entry.revision.clone(), secret, strategy: entry.injection.strategy() }
}

/// What a template holds once everything wanted is applied.
pub fn wanted_attachments(state: &DesiredState, workload: Workload<'_>) -> Attachments {
    matches(state, workload).entries.into_iter().map(|(app, entry)| attachment(app, entry, workload)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired_state::{Apply, Link, NamedLink};
    use crate::names::{Environment, Revision};

    fn state(apps: &[(&str, Injection)]) -> DesiredState {
        let mut state = DesiredState::empty("shop", Environment::parse("production").unwrap());
        for (app, injection) in apps {
            let entry = Entry {
                apply: Apply::Immediately,
                environment: Environment::parse("production").unwrap(),
                injection: injection.clone(),
                links: vec![Link::Named(NamedLink { kind: WorkloadKind::Deployment, name: "api".to_owned() })],
                revision: Revision::parse("1").unwrap(),
            };
            state.apps.insert(AppName::parse(app).unwrap(), entry);
        }
        state
    }

    fn files(path: &str) -> Injection {
        Injection::VolumeMount { mount_path: path.to_owned() }
    }

    #[test]
    fn only_the_linked_workload_is_matched() {
        let (state, labels) = (state(&[("checkout", files("/a"))]), Labels::new());
        let workload = |name| Workload { kind: WorkloadKind::Deployment, name, labels: &labels };
        assert_eq!(wanted_attachments(&state, workload("api")).iter().count(), 1);
        assert!(wanted_attachments(&state, workload("worker")).is_empty());
    }

    #[test]
    fn the_second_app_goes_without_whatever_slash_its_path_ends_with() {
        let (state, labels) =
            (state(&[("web", files("/a/")), ("api", files("/b")), ("checkout", files("/a"))]), Labels::new());
        let found = matches(&state, Workload { kind: WorkloadKind::Deployment, name: "api", labels: &labels });
        assert_eq!(found.entries.keys().map(|app| app.as_str()).collect::<Vec<_>>(), ["api", "checkout"]);
        assert_eq!(found.clashes.iter().map(|clash| clash.second().as_str()).collect::<Vec<_>>(), ["web"]);
    }

    #[test]
    fn files_come_from_a_secret_of_the_workloads_own() {
        let (state, labels) = (state(&[("checkout", files("/a"))]), Labels::new());
        let workload = Workload { kind: WorkloadKind::Deployment, name: "api", labels: &labels };
        let secrets = wanted_attachments(&state, workload);
        assert_eq!(
            secrets.iter().map(|one| one.secret.as_str()).collect::<Vec<_>>(),
            ["scout.checkout.deployment.api"]
        );
    }
}
