//! host-sync's decisions on a model of a cluster, with the real policy at its admission.
#![allow(clippy::unwrap_used)]
// A test crate has no public items, whatever its modules share.
#![allow(missing_docs, unreachable_pub)]

mod actions;
mod admission;
mod cluster;
mod golden;
mod invariants;
mod passes;
mod refusals;
mod scenarios;
mod upkeep;
