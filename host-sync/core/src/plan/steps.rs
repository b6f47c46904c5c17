//! The vocabulary of a plan: one thing to do, and why.

use policy_core::desired_state::DesiredState;
use policy_core::names::{AppName, Environment, Revision, WorkloadKind};

use crate::history::History;
use crate::secret_bytes::Content;

/// A Secret as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSpec {
    /// Where.
    pub namespace: String,
    /// Under which name.
    pub name: String,
    /// Whose it is.
    pub app: AppName,
    /// The App's uid, for the owner reference.
    pub app_uid: String,
    /// Of which environment.
    pub environment: Environment,
    /// Which content this is.
    pub revision: Revision,
    /// The content.
    pub content: Content,
    /// Whether Kubernetes is to refuse every later change of it.
    pub immutable: bool,
    /// Whether it was there when it was looked up. What was not there is created, and never written over.
    pub exists: bool,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Add Scout's finalizer to an App, so that it is protected while it is linked.
    ProtectApp {
        /// The App.
        app: AppName,
    },
    /// Write the history of a namespace.
    WriteHistory {
        /// The associated namespace.
        namespace: String,
        /// Its history, whole.
        history: History,
    },
    /// Create or update a Secret.
    WriteSecret(Box<SecretSpec>),
    /// Write the desired state of a namespace.
    WriteState {
        /// The desired state, whole.
        state: DesiredState,
    },
    /// Remove the ConfigMaps of a namespace that is gone.
    ForgetNamespace {
        /// The namespace that is gone.
        namespace: String,
    },
    /// Touch a workload, so that its UPDATE goes through the policy.
    Touch {
        /// The workload's namespace.
        namespace: String,
        /// Its kind.
        kind: WorkloadKind,
        /// Its name.
        workload: String,
        /// The annotation's value.
        requested: String,
    },
    /// Delete a Secret that nothing refers to.
    DeleteSecret {
        /// The Secret's namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The app that it must still belong to.
        app: AppName,
    },
    /// Remove Scout's finalizer from an App whose deletion was asked for and that nothing links any more.
    ReleaseApp {
        /// The App.
        app: AppName,
    },
}

/// One thing to do, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What.
    pub action: Action,
    /// Why, in a clause that can follow "because".
    pub why: String,
    /// The app it is done for, where it is one.
    pub app: Option<AppName>,
}

impl Step {
    /// Whether later steps rely on this one: a touch or a deletion that fails holds nobody up.
    pub fn holds_up(&self) -> bool {
        !matches!(self.action, Action::Touch { .. } | Action::DeleteSecret { .. })
    }

    /// The namespace that the step is about. When a step fails, the later ones of its namespace must wait for the next pass.
    pub fn namespace(&self) -> Option<&str> {
        match &self.action {
            Action::WriteHistory { namespace, .. }
            | Action::ForgetNamespace { namespace }
            | Action::Touch { namespace, .. }
            | Action::DeleteSecret { namespace, .. } => Some(namespace),
            Action::WriteSecret(secret) => Some(&secret.namespace),
            Action::WriteState { state } => Some(&state.meta.namespace),
            Action::ProtectApp { .. } | Action::ReleaseApp { .. } => None,
        }
    }
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ProtectApp { app } => write!(f, "protect App {app} with a finalizer"),
            Self::WriteHistory { namespace, .. } => write!(f, "record the deliveries of namespace {namespace}"),
            Self::WriteSecret(secret) => {
                write!(f, "write Secret {}/{} ({} keys)", secret.namespace, secret.name, secret.content.len())
            }
            Self::WriteState { state } => write!(f, "write the desired state of namespace {}", state.meta.namespace),
            Self::ForgetNamespace { namespace } => write!(f, "remove the records of namespace {namespace}"),
            Self::Touch { namespace, kind, workload, .. } => write!(f, "touch {kind} {namespace}/{workload}"),
            Self::DeleteSecret { namespace, name, .. } => write!(f, "delete Secret {namespace}/{name}"),
            Self::ReleaseApp { app } => write!(f, "release App {app}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_steps_about_an_app_as_a_whole_are_about_no_namespace() {
        let app = AppName::parse("checkout").unwrap();
        let step = |action| Step { action, why: String::new(), app: None };
        assert_eq!(step(Action::ReleaseApp { app: app.clone() }).namespace(), None);
        let delete = Action::DeleteSecret { namespace: "shop".into(), name: "scout.checkout.aa".into(), app };
        assert_eq!(delete.to_string(), "delete Secret shop/scout.checkout.aa");
        assert_eq!(step(delete).namespace(), Some("shop"));
    }
}
