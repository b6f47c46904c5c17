//! What users write, parsed once into types that cannot be wrong.
//!
//! host-sync's shell turns the custom resources into these; from here on nothing is a string that should have been a name.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use policy_core::attachment::Strategy;
use policy_core::desired_state::{Apply, Link};
use policy_core::names::{AppName, Environment};

use crate::secret_bytes::Key;
use crate::store::SourcePath;

/// Who brings the secrets to the containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// The policy injects them.
    Agent,
    /// The user wires one Secret of a stable name.
    Operator,
}

/// Whether a new revision rolls what runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reload {
    /// host-sync touches the workload, and it rolls.
    Auto,
    /// The workload follows when somebody changes its pod template.
    Manual,
}

impl Reload {
    /// The desired state's word for it.
    pub fn apply(self) -> Apply {
        match self {
            Self::Auto => Apply::Immediately,
            Self::Manual => Apply::OnTemplateChange,
        }
    }
}

impl From<Apply> for Reload {
    fn from(apply: Apply) -> Self {
        match apply {
            Apply::Immediately => Self::Auto,
            Apply::OnTemplateChange => Self::Manual,
        }
    }
}

/// Which keys of the store's content are delivered, under which names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySelection {
    /// Every key, under its own name.
    All,
    /// These keys: delivered name → the store's name.
    Named(BTreeMap<Key, String>),
}

/// One App.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// Its name.
    pub name: AppName,
    /// Its uid: what its Secrets name as their owner.
    pub uid: String,
    /// Whether its deletion was asked for.
    pub deleting: bool,
    /// Whether Scout's finalizer protects it already.
    pub protected: bool,
    /// The SecretStore.
    pub store: String,
    /// How its secrets reach containers, in every environment.
    pub strategy: Strategy,
    /// The folder that the files appear in.
    pub mount_path: String,
    /// The value of the redeploy annotation.
    pub redeploy: Option<String>,
    /// Its environments.
    pub environments: BTreeMap<Environment, AppEnvironmentConfig>,
}

/// One environment of an App.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppEnvironmentConfig {
    /// Who brings the secrets to the containers.
    pub mode: Mode,
    /// Whether a new revision rolls what runs.
    pub reload: Reload,
    /// Where in the store.
    pub source: SourcePath,
    /// Which keys.
    pub keys: KeySelection,
    /// The stable Secret's name (operator mode).
    pub secret_name: String,
    /// Namespace → the workloads there.
    pub links: BTreeMap<String, BTreeSet<Link>>,
}

/// The name of one app environment: the unit of fetching and delivering.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppEnvironment {
    /// The app.
    pub app: AppName,
    /// Its environment.
    pub environment: Environment,
}

impl fmt::Display for AppEnvironment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.app, self.environment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reload_and_apply_are_two_words_for_one_thing() {
        for reload in [Reload::Auto, Reload::Manual] {
            assert_eq!(Reload::from(reload.apply()), reload);
        }
        assert_eq!(Reload::Manual.apply(), Apply::OnTemplateChange);
    }

    #[test]
    fn an_app_environment_is_shown_as_app_slash_environment() {
        let of = AppEnvironment {
            app: AppName::parse("checkout").unwrap(),
            environment: Environment::parse("production").unwrap(),
        };
        assert_eq!(of.to_string(), "checkout/production");
    }
}
