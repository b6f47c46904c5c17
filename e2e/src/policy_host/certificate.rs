//! The certificate that the host serves with.

use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

/// A server certificate for 127.0.0.1, and the authority that signed it.
pub(super) struct Certificate {
    /// The authority's certificate, PEM.
    pub(super) authority: String,
    /// Serves with the certificate.
    pub(super) acceptor: TlsAcceptor,
}

impl Certificate {
    /// Makes a fresh authority and has it sign.
    pub(super) fn new() -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new()).context("describing the policy host's authority")?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "scout e2e policy host authority");
        let key = KeyPair::generate().context("generating the key of the policy host's authority")?;
        let authority = CertifiedIssuer::self_signed(params, key).context("signing the policy host's authority")?;

        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).context("describing the policy host")?;
        params.distinguished_name.push(DnType::CommonName, "scout e2e policy host");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().context("generating the policy host's key")?;
        let certificate = params.signed_by(&key, &authority).context("signing the policy host's certificate")?;

        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config =
            server_config(vec![certificate.der().clone()], key).context("preparing TLS for the policy host")?;
        Ok(Self { authority: authority.pem(), acceptor: TlsAcceptor::from(Arc::new(config)) })
    }
}

fn server_config(
    chain: Vec<rustls::pki_types::CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    // Named, because rustls refuses to choose where another crate of the build enables a second provider.
    ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
}
