//! What an explanation says, for programs and people.

use host_sync_core::history::UnixSeconds;
use serde::Serialize;

use crate::commands::output::as_moment;

/// How a step of a chain stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(in crate::commands) enum StepState {
    /// It is done.
    Done,
    /// Nobody has to do anything but wait.
    OnItsWay,
    /// It waits for somebody's decision, as was asked for.
    Waits,
    /// Something is wrong, and somebody must do something.
    Stopped,
    /// It cannot be known with the rights of whoever asks.
    Unknown,
    /// An earlier step has to come first.
    NotReached,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::commands) struct Step {
    /// `store`, `Secret`, `desired state`, `admission` or `rollout`.
    #[serde(rename = "step")]
    pub(in crate::commands) name: &'static str,
    /// How it stands.
    pub(in crate::commands) state: StepState,
    /// Since when, where that is known.
    #[serde(serialize_with = "as_moment")]
    pub(in crate::commands) at: Option<UnixSeconds>,
    /// What there is to say.
    pub(in crate::commands) says: String,
    /// What to do, where somebody must do something.
    pub(in crate::commands) fix: Option<String>,
}

/// One app at the workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::commands) struct Chain {
    /// The app.
    pub(in crate::commands) app: String,
    /// Its environment.
    pub(in crate::commands) environment: String,
    /// Strategy and reload as delivered, in words.
    pub(in crate::commands) delivered_as: String,
    /// The steps, in order.
    pub(in crate::commands) steps: Vec<Step>,
    /// The first step that is not done; absent where all are.
    pub(in crate::commands) stops_at: Option<&'static str>,
}

/// Everything about one workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::commands) struct Explanation {
    /// Kind, namespace and name.
    pub(in crate::commands) workload: String,
    /// By app.
    pub(in crate::commands) chains: Vec<Chain>,
    /// What else there is to know.
    pub(in crate::commands) notes: Vec<String>,
}

/// A step that says this.
pub(super) fn step(name: &'static str, state: StepState, at: Option<UnixSeconds>, says: impl Into<String>) -> Step {
    Step { name, state, at, says: says.into(), fix: None }
}

impl Step {
    /// The same step, with what to do.
    pub(super) fn fixed_by(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}
