//! `diff`: what the next delivery would change. Keys, revisions and names; a value is compared and never shown.

mod changes;
mod text;

use anyhow::{Result, bail};
use kube::Client;

use super::output::{self, TextOutput};
use crate::cli::DiffArguments;
use crate::controller::look_once;

/// The exit code of `--exit-code` when something would change.
pub(super) const DIFFERENT: u8 = 3;

/// Prints the changes; returns the exit code.
pub(super) async fn run(client: &Client, arguments: &DiffArguments) -> Result<u8> {
    let (snapshot, plan) = look_once(client, &arguments.settings()).await?;
    if let Some(app) = &arguments.app {
        let known = snapshot.apps.keys().chain(&snapshot.unparsable_apps).any(|one| one.as_str() == app);
        if !known {
            bail!("App {app} does not exist: 'kubectl get apps.scout.commandk.dev' lists those that do");
        }
    }
    let mut changes = changes::changes(&snapshot, &plan);
    drop((snapshot, plan));
    if let Some(app) = &arguments.app {
        changes.retain(app);
    }
    output::print(&match arguments.output {
        TextOutput::Text => text::text(&changes),
        TextOutput::Json => output::json(&changes)?,
        TextOutput::Yaml => output::yaml(&changes)?,
    })?;
    Ok(if arguments.exit_code && !changes.is_empty() { DIFFERENT } else { 0 })
}
