//! Leader election: of several replicas, one works and the others stand by.
//!
//! A Lease of `coordination.k8s.io` says who. As in client-go, a replica that stands by does not compare clocks: a lease is
//! up for grabs when this replica has *seen it unchanged* for as long as it lasts. Whoever cannot renew in time stops working
//! before anybody else may begin. Correctness does not hang on it (every step is idempotent); it saves double work.
//! Source of the protocol: `k8s.io/client-go/tools/leaderelection`.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// The Lease's name, in host-sync's own namespace.
pub const NAME: &str = "scout-host-sync";
/// How long a lease lasts without being renewed.
const DURATION: Duration = Duration::from_secs(15);
/// How long the leader tries to renew before it gives up; less than [`DURATION`], so that two never work at once.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// How long between two looks or renewals.
const RETRY: Duration = Duration::from_secs(2);

/// What to do about a lease as it was read.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    /// Nobody has it, this replica has it, or its holder is gone.
    Take,
    /// Somebody else has it.
    StandBy(String),
}

/// Decides; `unchanged` is how long this replica has seen this very record.
fn decide(spec: &LeaseSpec, identity: &str, unchanged: Duration) -> Decision {
    let holder = spec.holder_identity.as_deref().unwrap_or_default();
    let lasts = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let lasts = lasts.map_or(DURATION, Duration::from_secs);
    if holder.is_empty() || holder == identity || unchanged > lasts {
        Decision::Take
    } else {
        Decision::StandBy(holder.to_owned())
    }
}

/// A candidate, and then the leader.
pub struct Election {
    api: Api<Lease>,
    identity: String,
    observed: Option<(LeaseSpec, Instant)>,
}

impl Election {
    /// A candidate of this name, which no other replica may have.
    pub fn new(client: Client, namespace: &str, identity: String) -> Self {
        Self { api: Api::namespaced(client, namespace), identity, observed: None }
    }

    /// Waits until this replica leads.
    pub async fn win(&mut self) -> Result<()> {
        let mut known = String::new();
        loop {
            match self.try_to_take().await {
                Ok(Decision::Take) => return Ok(()),
                Ok(Decision::StandBy(holder)) if holder != known => {
                    tracing::info!(%holder, "standing by: another replica leads");
                    known = holder;
                }
                Ok(Decision::StandBy(_)) => {}
                Err(error) => tracing::warn!("the lease could not be taken and is tried again: {error:#}"),
            }
            sleep(RETRY).await;
        }
    }

    /// Renews until told to stop, and then gives the lease back. An error means that this replica leads no longer.
    pub async fn keep(mut self, stop: CancellationToken) -> Result<()> {
        let mut renewed = Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => return self.release().await,
                () = sleep(RETRY) => {}
            }
            let left = RENEW_DEADLINE.saturating_sub(renewed.elapsed());
            match timeout(left, self.try_to_take()).await {
                Ok(Ok(Decision::Take)) => renewed = Instant::now(),
                Ok(Ok(Decision::StandBy(holder))) => bail!("{holder} has taken the lease over"),
                Ok(Err(error)) if renewed.elapsed() < RENEW_DEADLINE => {
                    tracing::warn!("the lease could not be renewed and is tried again: {error:#}");
                }
                Ok(Err(error)) => return Err(error).context("renewing the lease in time"),
                Err(_) => bail!("the lease could not be renewed within {} s", RENEW_DEADLINE.as_secs()),
            }
        }
    }

    async fn try_to_take(&mut self) -> Result<Decision> {
        let context = || format!("Lease {NAME}");
        let now = MicroTime(Timestamp::now());
        let Some(mut lease) = self.api.get_opt(NAME).await.with_context(context)? else {
            let spec = self.spec(now, 0);
            let metadata = ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(spec) };
            return match self.api.create(&PostParams::default(), &lease).await {
                Ok(_) => Ok(Decision::Take),
                Err(kube::Error::Api(status)) if status.code == 409 => {
                    Ok(Decision::StandBy("another replica".to_owned()))
                }
                Err(error) => Err(error).with_context(context),
            };
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let since = match &self.observed {
            Some((seen, since)) if *seen == spec => *since,
            _ => Instant::now(),
        };
        self.observed = Some((spec.clone(), since));
        let decision = decide(&spec, &self.identity, since.elapsed());
        if decision == Decision::Take {
            let mine = spec.holder_identity.as_deref() == Some(&self.identity);
            let transitions = spec.lease_transitions.unwrap_or_default();
            let mut renewed = self.spec(now, if mine { transitions } else { transitions.saturating_add(1) });
            if mine {
                renewed.acquire_time = spec.acquire_time;
            }
            lease.spec = Some(renewed);
            // The version that was read goes with it: of two that take it at once, one is refused.
            match self.api.replace(NAME, &PostParams::default(), &lease).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 409 => {
                    return Ok(Decision::StandBy("another replica".to_owned()));
                }
                Err(error) => return Err(error).with_context(context),
            }
        }
        Ok(decision)
    }

    fn spec(&self, now: MicroTime, transitions: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    /// Gives the lease back, so that another replica need not wait for it to run out.
    async fn release(&self) -> Result<()> {
        let Some(mut lease) = self.api.get_opt(NAME).await.context("reading the lease to give it back")? else {
            return Ok(());
        };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return Ok(());
        }
        spec.holder_identity = None;
        match self.api.replace(NAME, &PostParams::default(), &lease).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(error).context("giving the lease back"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: &str) -> LeaseSpec {
        LeaseSpec { holder_identity: Some(holder.to_owned()), lease_duration_seconds: Some(15), ..LeaseSpec::default() }
    }

    #[test]
    fn a_lease_is_taken_when_it_is_free_ones_own_or_its_holder_is_silent_too_long() {
        let second = Duration::from_secs(1);
        assert_eq!(decide(&LeaseSpec::default(), "a", second), Decision::Take);
        assert_eq!(decide(&held_by("a"), "a", second), Decision::Take);
        assert_eq!(decide(&held_by("b"), "a", second), Decision::StandBy("b".into()));
        assert_eq!(decide(&held_by("b"), "a", Duration::from_secs(16)), Decision::Take);
    }

    #[test]
    fn the_leader_gives_up_before_anybody_may_take_over() {
        assert!(RENEW_DEADLINE + RETRY < DURATION);
    }
}
