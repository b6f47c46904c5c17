//! What the dashboard asks of the API server: who somebody is, what they may do, and the one write.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use policy_core::names::REDEPLOY_ANNOTATION;
use serde_json::json;

use crate::api::App;

/// How long a field manager's name may be, in bytes. Source: `FieldManagerMaxLength` of apimachinery.
const FIELD_MANAGER_MAX: usize = 128;

/// Somebody, as the API server knows them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// Their name.
    pub name: String,
    /// Their uid, if the API server gives one.
    pub uid: Option<String>,
    /// Their groups.
    pub groups: Vec<String>,
    /// What else authorizers may look at.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// What somebody may want to do: a verb on a resource, of one name and namespace or of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// `get` or `update`.
    pub verb: &'static str,
    /// The API group.
    pub group: &'static str,
    /// The plural resource.
    pub resource: &'static str,
    /// The namespace; `None` means all of them, or none for what lives in none.
    pub namespace: Option<String>,
    /// The object; `None` means every one.
    pub name: Option<String>,
}

/// The API server, as the dashboard needs it.
#[async_trait]
pub trait Cluster: Send + Sync {
    /// Whose token this is; `None` where it is nobody's.
    async fn who(&self, token: &str) -> Result<Option<User>>;
    /// Whether they may.
    async fn may(&self, user: &User, attempt: &Attempt) -> Result<bool>;
    /// Asks host-sync to deliver an App now, for a user who may.
    async fn redeploy(&self, app: &str, request: &str, user: &User) -> Result<()>;
}

#[async_trait]
impl Cluster for Client {
    async fn who(&self, token: &str) -> Result<Option<User>> {
        let review = TokenReview {
            spec: TokenReviewSpec { token: token.to_owned(), ..TokenReviewSpec::default() },
            ..TokenReview::default()
        };
        let api: Api<TokenReview> = Api::all(self.clone());
        let review = api.create(&PostParams::default(), &review).await.context(
            "asking the API server whose token this is: host-sync needs create on tokenreviews.authentication.k8s.io",
        )?;
        let status = review.status.unwrap_or_default();
        let user = status.user.filter(|_| status.authenticated == Some(true));
        Ok(user.map(|user| User {
            name: user.username.unwrap_or_default(),
            uid: user.uid,
            groups: user.groups.unwrap_or_default(),
            extra: user.extra.unwrap_or_default(),
        }))
    }

    async fn may(&self, user: &User, attempt: &Attempt) -> Result<bool> {
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.name.clone()),
                uid: user.uid.clone(),
                groups: Some(user.groups.clone()),
                extra: Some(user.extra.clone()),
                resource_attributes: Some(ResourceAttributes {
                    verb: Some(attempt.verb.to_owned()),
                    group: Some(attempt.group.to_owned()),
                    resource: Some(attempt.resource.to_owned()),
                    namespace: attempt.namespace.clone(),
                    name: attempt.name.clone(),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.clone());
        let review = api.create(&PostParams::default(), &review).await.with_context(|| {
            format!(
                "asking the API server what {} may do: host-sync needs create on subjectaccessreviews.authorization.k8s.io",
                user.name
            )
        })?;
        Ok(review.status.is_some_and(|status| status.allowed && status.denied != Some(true)))
    }

    async fn redeploy(&self, app: &str, request: &str, user: &User) -> Result<()> {
        let api: Api<App> = Api::all(self.clone());
        let patch = json!({"metadata": {"annotations": {REDEPLOY_ANNOTATION: request}}});
        let params = PatchParams { field_manager: Some(field_manager(user)), ..PatchParams::default() };
        match api.patch_metadata(app, &params, &Patch::Merge(&patch)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => {
                bail!("App {app} does not exist any more")
            }
            Err(error) => Err(error).with_context(|| format!("asking for a redeploy of App {app}")),
        }
    }
}

/// The field manager of the redeploy annotation: the audit trail reads from it who asked.
fn field_manager(user: &User) -> String {
    let printable = user.name.chars().map(|c| if c.is_ascii_graphic() { c } else { '_' });
    "scout-dashboard/".chars().chain(printable).take(FIELD_MANAGER_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_manager_names_the_user_within_what_the_api_server_takes() {
        let manager = |name: &str| field_manager(&User { name: name.to_owned(), ..User::default() });
        assert_eq!(manager("system:serviceaccount:shop:jane"), "scout-dashboard/system:serviceaccount:shop:jane");
        assert_eq!(manager("jané doe"), "scout-dashboard/jan__doe");
        assert_eq!(manager(&"x".repeat(300)).len(), FIELD_MANAGER_MAX);
    }
}
