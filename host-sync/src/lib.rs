//! Scout's companion: it reads secrets from a store, delivers them as Kubernetes Secrets, writes the desired state that the
//! policy injects from, and triggers rollouts. What it decides is in `host-sync-core`; this crate observes and acts.

pub mod api;
pub mod audit;
pub mod cli;
pub mod commands;
pub mod controller;
pub mod dashboard;
pub mod health;
pub mod lease;
pub mod metrics;
pub mod parse;
pub mod server;
