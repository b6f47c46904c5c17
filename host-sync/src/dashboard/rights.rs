//! What one viewer may see, asked of the API server: nobody sees on the dashboard what kubectl would not show them.

use std::collections::BTreeSet;

use anyhow::Result;
use futures::{StreamExt, TryStreamExt, stream};

use super::cluster::{Attempt, Cluster, User};
use super::facts::Facts;

/// How many questions are put to the API server at a time.
const CONCURRENCY: usize = 8;
/// The API group of Apps and SecretStores.
const SCOUT: &str = "scout.commandk.dev";

/// Objects of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Every one.
    All,
    /// These.
    Named(BTreeSet<String>),
}

impl Scope {
    /// Whether an object is among them.
    pub(crate) fn contains(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.contains(name),
        }
    }

    fn is_empty(&self) -> bool {
        *self == Self::Named(BTreeSet::new())
    }
}

/// What a viewer may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Visible {
    /// The Apps that they may get.
    pub(crate) apps: Scope,
    /// The SecretStores that they may get.
    pub(crate) stores: Scope,
    /// The namespaces whose Deployments they may get.
    pub(crate) namespaces: Scope,
}

impl Visible {
    /// Whether there is nothing to show them.
    pub(crate) fn is_nothing(&self) -> bool {
        self.apps.is_empty()
    }
}

fn get(group: &'static str, resource: &'static str) -> Attempt {
    Attempt { verb: "get", group, resource, namespace: None, name: None }
}

/// Asks what somebody may see of what there is. One question a kind for those who may see all of it.
pub(crate) async fn visible(cluster: &dyn Cluster, user: &User, facts: &Facts) -> Result<Visible> {
    let apps = |name| Attempt { name, ..get(SCOUT, "apps") };
    let stores = |name| Attempt { name, ..get(SCOUT, "secretstores") };
    let deployments = |namespace| Attempt { namespace, ..get("apps", "deployments") };
    let associated = facts.namespaces.iter().filter(|(_, namespace)| namespace.environment.is_some());
    let associated: BTreeSet<&String> =
        associated.map(|(name, _)| name).chain(facts.states.keys()).chain(facts.workloads.keys()).collect();
    Ok(Visible {
        apps: scope(cluster, user, apps, facts.apps.keys().collect()).await?,
        stores: scope(cluster, user, stores, facts.stores.keys().collect()).await?,
        namespaces: scope(cluster, user, deployments, associated.into_iter().collect()).await?,
    })
}

async fn scope(
    cluster: &dyn Cluster,
    user: &User,
    attempt: impl Fn(Option<String>) -> Attempt,
    names: Vec<&String>,
) -> Result<Scope> {
    if cluster.may(user, &attempt(None)).await? {
        return Ok(Scope::All);
    }
    let attempts: Vec<(String, Attempt)> =
        names.into_iter().map(|name| (name.clone(), attempt(Some(name.clone())))).collect();
    let asked = stream::iter(attempts).map(|(name, attempt)| async move {
        let may = cluster.may(user, &attempt).await?;
        anyhow::Ok(may.then_some(name))
    });
    let allowed: BTreeSet<Option<String>> = asked.buffer_unordered(CONCURRENCY).try_collect().await?;
    Ok(Scope::Named(allowed.into_iter().flatten().collect()))
}

/// Whether somebody may ask for a delivery of an App.
pub(crate) async fn may_redeploy(cluster: &dyn Cluster, user: &User, app: &str) -> Result<bool> {
    let attempt =
        Attempt { verb: "update", group: SCOUT, resource: "apps", namespace: None, name: Some(app.to_owned()) };
    cluster.may(user, &attempt).await
}
