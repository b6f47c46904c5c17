//! The cluster's revision key, in a Secret of host-sync's own namespace.

use anyhow::{Context, Result};
use host_sync_core::content::RevisionKey;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

use super::observe::FIELD_MANAGER;

/// The Secret.
pub(super) const NAME: &str = "scout-revision-key";
/// Its key.
const FIELD: &str = "key";

/// Reads the key; `None` where there is none yet.
pub(super) async fn read(client: &Client, namespace: &str) -> Result<Option<RevisionKey>> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = api.get_opt(NAME).await.with_context(|| format!("reading Secret {namespace}/{NAME}"))?;
    let Some(secret) = secret else { return Ok(None) };
    let bytes = secret.data.and_then(|mut data| data.remove(FIELD)).map(|ByteString(bytes)| bytes);
    let key = bytes.and_then(RevisionKey::from_bytes).with_context(|| {
        format!(
            "Secret {namespace}/{NAME} holds no usable key: delete it and a new one is made (nothing is renamed or rolled by that)"
        )
    })?;
    Ok(Some(key))
}

/// A new random key.
pub(super) fn generate() -> Result<(RevisionKey, Vec<u8>)> {
    let mut bytes = vec![0; RevisionKey::LENGTH];
    getrandom::fill(&mut bytes).context("asking the system for random bytes")?;
    let key = RevisionKey::from_bytes(bytes.clone()).context("making a revision key")?;
    Ok((key, bytes))
}

/// Reads the key, or makes one: whoever creates the Secret first decides.
pub(super) async fn read_or_create(client: &Client, namespace: &str) -> Result<RevisionKey> {
    if let Some(key) = read(client, namespace).await? {
        return Ok(key);
    }
    let (key, bytes) = generate()?;
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            labels: Some([("app.kubernetes.io/managed-by".to_owned(), "scout".to_owned())].into()),
            ..ObjectMeta::default()
        },
        data: Some([(FIELD.to_owned(), ByteString(bytes))].into()),
        immutable: Some(true),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    };
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    match api.create(&params, &secret).await {
        Ok(_) => Ok(key),
        Err(kube::Error::Api(status)) if status.code == 409 => read(client, namespace)
            .await?
            .with_context(|| format!("Secret {namespace}/{NAME} vanished while it was read")),
        Err(error) => Err(error).with_context(|| format!("creating Secret {namespace}/{NAME}")),
    }
}
