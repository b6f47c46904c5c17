//! The certificate authority of one cluster.

use anyhow::{Context, Result, bail};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// The attribute "organization" by its number.
const ORGANIZATION: [u64; 4] = [2, 5, 4, 10];

/// Signs every certificate of a cluster; its key never leaves the process except for the controller manager's signer.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, both as PEM.
pub(super) struct Identity {
    pub(super) certificate: String,
    pub(super) key: String,
}

impl Authority {
    pub(super) fn new() -> Result<Self> {
        let mut params =
            CertificateParams::new(Vec::new()).context("describing the cluster's certificate authority")?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, "scout e2e");
        let issuer =
            CertifiedIssuer::self_signed(params, key()?).context("signing the cluster's certificate authority")?;
        Ok(Self(issuer))
    }

    pub(super) fn certificate(&self) -> String {
        self.0.pem()
    }

    pub(super) fn key(&self) -> String {
        self.0.key().serialize_pem()
    }

    /// A client certificate: Kubernetes reads the user from its common name and the groups from its organizations.
    pub(super) fn client(&self, user: &str, groups: &[&str]) -> Result<Identity> {
        let mut params = CertificateParams::new(Vec::new()).with_context(|| format!("describing {user}"))?;
        params.distinguished_name.push(DnType::CommonName, user);
        // rcgen holds one value per kind of attribute; naming the kind by its number makes room for a second one.
        let kinds = [DnType::OrganizationName, DnType::CustomDnType(ORGANIZATION.to_vec())];
        if groups.len() > kinds.len() {
            bail!("{user} has {} groups, and a certificate made here holds {}", groups.len(), kinds.len());
        }
        for (kind, group) in kinds.into_iter().zip(groups) {
            params.distinguished_name.push(kind, *group);
        }
        self.sign(params, ExtendedKeyUsagePurpose::ClientAuth).with_context(|| format!("signing for {user}"))
    }

    /// A server certificate for these names and addresses.
    pub(super) fn server(&self, name: &str, addresses: &[&str]) -> Result<Identity> {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(addresses).with_context(|| format!("describing {name}"))?;
        params.distinguished_name.push(DnType::CommonName, name);
        self.sign(params, ExtendedKeyUsagePurpose::ServerAuth).with_context(|| format!("signing for {name}"))
    }

    fn sign(&self, mut params: CertificateParams, usage: ExtendedKeyUsagePurpose) -> Result<Identity> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let key = key()?;
        let certificate = params.signed_by(&key, &self.0)?;
        Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

/// A fresh key pair.
pub(super) fn key() -> Result<KeyPair> {
    KeyPair::generate().context("generating a key pair")
}
