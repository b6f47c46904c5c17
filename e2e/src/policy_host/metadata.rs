//! What a module says about itself in its custom section `io.kubewarden.metadata`.
//!
//! The format is `Metadata` of Kubewarden's policy-evaluator; only what decides how a policy is served is read.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// The version of policy-server that this host stands for: major and minor.
const KUBEWARDEN: (u64, u64) = (1, 36);

/// What a policy may use.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    protocol_version: Option<String>,
    #[serde(default = "kubewarden_wapc")]
    execution_mode: String,
    minimum_kubewarden_version: Option<String>,
    #[serde(default)]
    context_aware_resources: BTreeSet<ContextAwareResource>,
    host_capabilities: Option<BTreeSet<String>>,
}

/// A kind of object that the policy may read.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContextAwareResource {
    api_version: String,
    kind: String,
}

fn kubewarden_wapc() -> String {
    "kubewarden-wapc".to_owned()
}

impl Metadata {
    /// Reads a module's section and refuses what policy-server would not serve.
    pub(super) fn of(module: &[u8]) -> Result<Self> {
        let section = policy_annotate::read_metadata(module).context("reading the module's metadata")?;
        let section = section.context(
            "the module has no custom section io.kubewarden.metadata: annotate it, as 'make policy' or 'kwctl annotate' do",
        )?;
        let metadata: Self = serde_json::from_value(section).context("parsing the module's metadata")?;
        ensure!(
            metadata.execution_mode == "kubewarden-wapc",
            "the policy's executionMode is '{}', and this host runs kubewarden-wapc only",
            metadata.execution_mode
        );
        match metadata.protocol_version.as_deref() {
            Some("v1") => {}
            Some(other) => bail!("Policy uses protocol version {other} but only V1 is supported"),
            None => bail!(
                "Policy is missing protocol version, which is required for KubewardenWapc execution mode: \
                 write protocolVersion \"v1\" into its metadata"
            ),
        }
        metadata.check_minimum_version()?;
        Ok(metadata)
    }

    /// Only major and minor count, as in policy-server.
    fn check_minimum_version(&self) -> Result<()> {
        let Some(version) = &self.minimum_kubewarden_version else { return Ok(()) };
        let mut numbers = version.split('.').map(str::parse::<u64>);
        let (Some(Ok(major)), Some(Ok(minor)), Some(_)) = (numbers.next(), numbers.next(), numbers.next()) else {
            bail!("minimumKubewardenVersion is '{version}': write it as 1.20.0");
        };
        let (our_major, our_minor) = KUBEWARDEN;
        ensure!(
            (major, minor) <= KUBEWARDEN,
            "Policy required Kubewarden version {major}.{minor}.0 but is running on {our_major}.{our_minor}.0"
        );
        Ok(())
    }

    /// Whether the policy's `contextAwareResources` name this kind.
    pub(super) fn may_read(&self, api_version: &str, kind: &str) -> bool {
        self.context_aware_resources
            .contains(&ContextAwareResource { api_version: api_version.to_owned(), kind: kind.to_owned() })
    }

    /// Whether the policy's `hostCapabilities` name this call, e.g. `kubernetes/get_resource`; `oci/*` names all below `oci/`.
    ///
    /// An operator's policy-server grants capabilities by such a list; this host grants what the policy says it needs, and
    /// everything to a policy that has no list.
    pub(super) fn may_call(&self, capability: &str) -> bool {
        let Some(granted) = &self.host_capabilities else { return true };
        granted.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => capability.starts_with(prefix),
            None => pattern == capability,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn metadata(value: serde_json::Value) -> Metadata {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_policy_may_call_what_its_list_names() {
        let listed = metadata(json!({"hostCapabilities": ["kubernetes/get_resource", "oci/*"]}));
        assert!(listed.may_call("kubernetes/get_resource") && listed.may_call("oci/v1/verify"));
        assert!(!listed.may_call("kubernetes/list_resources_all") && !listed.may_call("net/v1/dns_lookup_host"));
        assert!(metadata(json!({})).may_call("net/v1/dns_lookup_host"));
    }

    #[test]
    fn a_policy_for_a_newer_kubewarden_is_refused() {
        let checked = |version: &str| metadata(json!({"minimumKubewardenVersion": version})).check_minimum_version();
        assert!(checked("1.36.9").is_ok() && checked("1.9.0").is_ok());
        let error = checked("1.37.0").unwrap_err().to_string();
        assert_eq!(error, "Policy required Kubewarden version 1.37.0 but is running on 1.36.0");
        assert!(checked("soon").is_err());
    }
}
