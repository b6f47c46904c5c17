//! A real Kubernetes, a faithful policy host, and the scenarios that show what Scout does.

pub mod artifacts;
pub mod cluster;
pub mod gateway;
mod http_server;
pub mod installation;
pub mod manifests;
pub mod policy_host;
pub mod webhook;
