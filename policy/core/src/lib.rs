//! What Scout's policy decides, and nothing that it does: names, the desired state's codec, workloads as raw JSON,
//! and the mutation. This crate cannot reach a cluster, a clock or a random number; its manifest proves it.
//!
//! The way through it, for a reader: a [`review::Review`] is parsed from an admission request and triaged (most requests
//! need no look at the desired state), [`matching`] says which apps the desired state attaches to a workload,
//! [`injection`] turns that into list entries, and [`template`] edits them into the pod template.

pub mod attachment;
pub mod desired_state;
mod fields;
pub mod injection;
pub mod matching;
pub mod names;
pub mod review;
pub mod selector;
pub mod settings;
pub mod template;

pub use review::{Review, StateRead, Triage, Verdict};
pub use settings::Settings;
