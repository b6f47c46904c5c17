//! Scout's store backends: one module each, one contract for all (`tests/contract.rs`).
//!
//! A backend with a heavy SDK is a cargo feature of its own; the embedded [`file`] store is always there.

pub mod file;
#[cfg(feature = "memory")]
pub mod memory;
