//! Every name that Scout gives or reads: annotations, labels, and the names of the objects it writes.
//!
//! The policy and host-sync must agree on them to the letter, so they stand here once.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::fields::unknown_choice;

/// The prefix of every annotation and label, and the domain of the API group.
pub const PREFIX: &str = "scout.commandk.dev/";

/// Namespace label: the environment that the namespace belongs to. A label has one value, so a namespace has one environment.
pub const ENVIRONMENT_LABEL: &str = "scout.commandk.dev/environment";
/// Workload annotation: absent, `ignore` or `ignore-and-detach`.
pub const MUTATION_MODE_ANNOTATION: &str = "scout.commandk.dev/mutation-mode";
/// Workload annotation: a comma list of the containers to attach to; absent means all, init containers included.
pub const CONTAINERS_ANNOTATION: &str = "scout.commandk.dev/containers";
/// Pod template annotation, written by the policy: what the template holds because of Scout.
pub const ATTACHMENTS_ANNOTATION: &str = "scout.commandk.dev/attachments";
/// Workload annotation, written by the policy: the same facts, where a metadata-only watch sees them.
pub const ATTACHED_ANNOTATION: &str = "scout.commandk.dev/attached";
/// Workload annotation, written by host-sync: the touch. `<digest of the wanted attachments>.<attempt>`.
pub const REQUESTED_ANNOTATION: &str = "scout.commandk.dev/requested";
/// App annotation: any new value asks for a delivery now.
pub const REDEPLOY_ANNOTATION: &str = "scout.commandk.dev/redeploy";

/// Secret annotation, written by host-sync: the revision that the Secret holds.
pub const REVISION_ANNOTATION: &str = "scout.commandk.dev/revision";

/// The longest app name, in bytes: `scout-<app>` must be a volume name (63) with room to spare for what is appended elsewhere.
pub const APP_NAME_MAX: usize = 50;
/// The longest object name that Kubernetes takes, in bytes (a DNS-1123 subdomain).
pub const OBJECT_NAME_MAX: usize = 253;

/// Why a name is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what} {name:?} is not valid: use {rule}")]
pub struct NameError {
    what: &'static str,
    name: String,
    rule: &'static str,
}

/// Whether `name` is a DNS-1123 label of at most `max` bytes.
fn is_dns_label(name: &str, max: usize) -> bool {
    let bytes = name.as_bytes();
    let edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    bytes.len() <= max
        && bytes.first().is_some_and(edge)
        && bytes.last().is_some_and(edge)
        && bytes.iter().all(|byte| edge(byte) || *byte == b'-')
}

/// Whether `value` can stand as the value of a Kubernetes label (and is not empty).
fn is_label_value(value: &str) -> bool {
    let bytes = value.as_bytes();
    bytes.len() <= 63
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Parses the name, or says what it must look like.
            pub fn parse(name: &str) -> Result<Self, NameError> {
                if $valid(name) {
                    Ok(Self(name.to_owned()))
                } else {
                    Err(NameError { what: $what, name: name.to_owned(), rule: $rule })
                }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;

            fn try_from(name: String) -> Result<Self, NameError> {
                Self::parse(&name)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }
    };
}

name!(
    /// The name of an App: a DNS-1123 label of at most 50 bytes, because it becomes part of label keys and volume names.
    AppName,
    "app name",
    "at most 50 lower-case letters, digits and '-', beginning and ending with a letter or digit",
    |name: &str| is_dns_label(name, APP_NAME_MAX)
);

name!(
    /// The name of an environment: a label value, because a namespace names its environment in a label.
    Environment,
    "environment",
    "at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit",
    is_label_value
);

name!(
    /// The opaque id of one delivered content: lower-case letters and digits, at most 32.
    Revision,
    "revision",
    "1 to 32 lower-case letters and digits",
    |name: &str| is_dns_label(name, 32) && !name.contains('-')
);

/// The kinds of workload that Scout attaches to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum WorkloadKind {
    /// `apps/v1` Deployment.
    Deployment,
}

impl WorkloadKind {
    /// The kind of an admission request's object, if it is one that Scout attaches to.
    pub fn of(group: &str, kind: &str) -> Option<Self> {
        match (group, kind) {
            ("apps", "Deployment") => Some(Self::Deployment),
            _ => None,
        }
    }

    /// The kind that manifests write like this, if it is one that Scout attaches to.
    pub fn parse(kind: &str) -> Result<Self, String> {
        match kind {
            "Deployment" => Ok(Self::Deployment),
            other => Err(unknown_choice("kind", other, "Deployment")),
        }
    }

    /// The kind as manifests write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
        }
    }
}

impl fmt::Display for WorkloadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The pod template label that carries an app's revision: ReplicaSets and pods inherit it.
pub fn revision_label(app: &AppName) -> String {
    format!("{PREFIX}{app}")
}

/// The ConfigMap, in host-sync's own namespace, that holds the desired state of `namespace`.
pub fn desired_state_name(namespace: &str) -> String {
    format!("desired-state.{namespace}")
}

/// The ConfigMap, in host-sync's own namespace, that holds what was delivered to `namespace` and when.
pub fn delivery_history_name(namespace: &str) -> String {
    format!("delivery-history.{namespace}")
}

/// The immutable Secret of one revision. No app name holds a dot, so no two apps can meet in one name.
pub fn revision_secret_name(app: &AppName, revision: &Revision) -> String {
    format!("scout.{app}.{revision}")
}

/// The Secret that one workload mounts; a workload name that would make it too long is cut and told apart by a digest.
pub fn workload_secret_name(app: &AppName, kind: WorkloadKind, workload: &str) -> String {
    let name = format!("scout.{app}.{}.{workload}", kind.as_str().to_ascii_lowercase());
    if name.len() <= OBJECT_NAME_MAX {
        return name;
    }
    let digest = short_digest(workload.as_bytes());
    let keep = OBJECT_NAME_MAX - digest.len() - 1;
    let mut end = keep;
    // A cut may not end in a dot: each part of a subdomain ends with a letter or digit.
    while !name.is_char_boundary(end) || !name.as_bytes()[end - 1].is_ascii_alphanumeric() {
        end -= 1;
    }
    format!("{}-{digest}", &name[..end])
}

/// Whether a Secret is of a name that Scout gives to the Secrets of this app's agent-mode deliveries. What an annotation
/// claims to be Scout's is Scout's only then: an annotation is within anybody's reach.
pub fn is_secret_of(app: &AppName, secret: &str) -> bool {
    secret
        .strip_prefix("scout.")
        .and_then(|rest| rest.strip_prefix(app.as_str()))
        .is_some_and(|rest| rest.starts_with('.'))
}

/// The volume, and so the mount, of an app in a pod template.
pub fn volume_name(app: &AppName) -> String {
    format!("scout-{app}")
}

/// Where an app's files appear when the App names no mount path.
pub fn default_mount_path(app: &AppName) -> String {
    format!("/var/run/secrets/scout/{app}")
}

/// Ten hexadecimal digits of SHA-256: to tell names apart. Never used on secret bytes, whose digest must be keyed.
pub fn short_digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)[..5].iter().fold(String::new(), |mut digest, byte| {
        use fmt::Write;
        let _ = write!(digest, "{byte:02x}");
        digest
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_name_with_a_dot_is_refused_with_the_rule() {
        let error = AppName::parse("check.out").unwrap_err();
        assert_eq!(
            error.to_string(),
            "app name \"check.out\" is not valid: use at most 50 lower-case letters, digits and '-', beginning and ending with a letter or digit"
        );
    }

    #[test]
    fn an_environment_may_be_any_label_value() {
        assert!(Environment::parse("Production_EU.1").is_ok());
        assert!(Environment::parse("").is_err());
        assert!(Environment::parse("-production").is_err());
    }

    #[test]
    fn names_parsed_from_json_are_checked() {
        assert!(serde_json::from_str::<AppName>("\"UPPER\"").is_err());
        assert!(serde_json::from_str::<Revision>("\"4f9a\"").is_ok());
    }

    #[test]
    fn a_workload_secret_name_of_a_long_workload_is_cut_and_still_tells_workloads_apart() {
        let app = AppName::parse("checkout").unwrap();
        let long = "a".repeat(250);
        let one = workload_secret_name(&app, WorkloadKind::Deployment, &format!("{long}-one"));
        let two = workload_secret_name(&app, WorkloadKind::Deployment, &format!("{long}-two"));
        assert!(one.len() <= OBJECT_NAME_MAX);
        assert_ne!(one, two);
        assert_eq!(workload_secret_name(&app, WorkloadKind::Deployment, "api"), "scout.checkout.deployment.api");
    }

    #[test]
    fn only_a_name_that_scout_gives_is_a_secret_of_the_app() {
        let app = AppName::parse("checkout").unwrap();
        assert!(is_secret_of(&app, &revision_secret_name(&app, &Revision::parse("4f9a").unwrap())));
        assert!(is_secret_of(&app, &workload_secret_name(&app, WorkloadKind::Deployment, "api")));
        for other in ["db-credentials", "scout.checkout", "scout.checkout-eu.4f9a", "checkout.4f9a"] {
            assert!(!is_secret_of(&app, other), "{other}");
        }
    }

    #[test]
    fn a_cut_name_never_puts_a_dash_behind_a_dot() {
        let app = AppName::parse("checkout").unwrap();
        for dots in 230..253 {
            let workload = format!("{}.{}", "a".repeat(dots), "b".repeat(253));
            let name = workload_secret_name(&app, WorkloadKind::Deployment, &workload);
            assert!(!name.contains(".-"), "{name}");
        }
    }
}
