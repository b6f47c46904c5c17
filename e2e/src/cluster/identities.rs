//! Who may talk to the cluster: certificates as files, and kubeconfigs that name them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use serde_json::json;

use super::certificates::{self, Authority, Identity};

/// Makes the cluster's certificates and kubeconfigs, in its directory.
pub(super) struct Identities {
    authority: Authority,
    folder: PathBuf,
    server: String,
    kubeconfigs: AtomicUsize,
}

/// The paths of a certificate, or public key, and of its private key.
pub(super) type Pair = (PathBuf, PathBuf);

impl Identities {
    /// Makes an authority for a cluster with this directory and API server address.
    pub(super) fn create(folder: &Path, server: String) -> Result<Self> {
        let authority = Authority::new()?;
        let identities = Self { authority, folder: folder.to_owned(), server, kubeconfigs: AtomicUsize::new(0) };
        identities.write("ca.crt", &identities.authority.certificate())?;
        identities.write("ca.key", &identities.authority.key())?;
        Ok(identities)
    }

    pub(super) fn server_address(&self) -> &str {
        &self.server
    }

    /// The authority's own certificate and key.
    pub(super) fn authority(&self) -> Pair {
        (self.path("ca.crt"), self.path("ca.key"))
    }

    pub(super) fn server(&self, name: &str, addresses: &[&str]) -> Result<Pair> {
        self.write_pair(name, &self.authority.server(name, addresses)?)
    }

    pub(super) fn client(&self, name: &str, user: &str, groups: &[&str]) -> Result<Pair> {
        self.write_pair(name, &self.authority.client(user, groups)?)
    }

    /// The key pair that service account tokens are signed and checked with.
    pub(super) fn service_accounts(&self) -> Result<Pair> {
        let key = certificates::key()?;
        let public = self.write("service-accounts.pub", &key.public_key_pem())?;
        Ok((public, self.write("service-accounts.key", &key.serialize_pem())?))
    }

    /// Writes a kubeconfig with a fresh client certificate.
    pub(super) fn kubeconfig(&self, user: &str, groups: &[&str]) -> Result<PathBuf> {
        let number = self.kubeconfigs.fetch_add(1, Ordering::Relaxed);
        let name: String = user.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let name = format!("client-{number}-{name}");
        let (certificate, key) = self.client(&name, user, groups)?;
        // JSON is YAML too.
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "e2e", "cluster": {
                "server": self.server,
                "certificate-authority": self.authority().0,
            }}],
            "users": [{"name": user, "user": {"client-certificate": certificate, "client-key": key}}],
            "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": user}}],
            "current-context": "e2e",
        });
        self.write(&format!("{name}.kubeconfig"), &format!("{config:#}\n"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join("pki").join(name)
    }

    fn write_pair(&self, name: &str, identity: &Identity) -> Result<Pair> {
        let certificate = self.write(&format!("{name}.crt"), &identity.certificate)?;
        Ok((certificate, self.write(&format!("{name}.key"), &identity.key)?))
    }

    fn write(&self, name: &str, content: &str) -> Result<PathBuf> {
        let path = self.path(name);
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }
}

/// A client made from a kubeconfig.
pub(super) async fn connect(kubeconfig: &Path) -> Result<kube::Client> {
    let content = Kubeconfig::read_from(kubeconfig).with_context(|| format!("reading {}", kubeconfig.display()))?;
    let config = Config::from_custom_kubeconfig(content, &KubeConfigOptions::default())
        .await
        .with_context(|| format!("understanding {}", kubeconfig.display()))?;
    kube::Client::try_from(config).with_context(|| format!("making a client from {}", kubeconfig.display()))
}
