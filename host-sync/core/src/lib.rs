//! What host-sync decides, and nothing that it does: configuration, secret bytes, the store port, and the plan with its
//! reasons. This crate cannot reach a cluster, a clock or a random number; its manifest proves it.
//!
//! The way through it, for a reader: a [`snapshot::Snapshot`] is everything observed and fetched at one moment,
//! [`plan::wanted_fetches`] and [`plan::lookups`] say what is still to be read for it, and [`plan::plan`] says what to do,
//! in order, and why.

pub mod config;
pub mod content;
pub mod history;
pub mod plan;
pub mod secret_bytes;
pub mod snapshot;
pub mod store;
