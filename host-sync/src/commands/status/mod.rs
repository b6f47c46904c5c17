//! `status`: one line per linked workload, and what waits and why.

mod rows;
mod table;

use std::time::Duration;

use anyhow::Result;
use kube::Client;
use serde::Serialize;

use super::cluster::{self, Facts};
use super::output::{self, Output};
use crate::cli::StatusArguments;

pub(super) use rows::{Row, State, condition, next_refresh, rows};

/// How often `--watch` looks again.
const LOOK: Duration = Duration::from_secs(2);

/// What programs get.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    workloads: Vec<Row>,
    apps: Vec<rows::AppNote>,
    /// What could not be read, and what is shown instead.
    unknown: Vec<String>,
}

impl Report {
    fn of(facts: &Facts) -> Self {
        Self {
            workloads: rows(facts),
            apps: rows::notes(facts),
            unknown: facts.unknown().into_iter().cloned().collect(),
        }
    }
}

/// Prints the status once, or again and again.
pub(super) async fn run(client: &Client, arguments: &StatusArguments) -> Result<()> {
    let (app, namespace) = (arguments.app.as_deref(), arguments.namespace.as_deref());
    let mut before = String::new();
    loop {
        let facts = cluster::read(client, &arguments.scout.scout_namespace, app, namespace).await?;
        let report = Report::of(&facts);
        let text = match arguments.output {
            Output::Json => output::json(&report)?,
            Output::Yaml => output::yaml(&report)?,
            Output::Table | Output::Wide => table::text(
                &report.workloads,
                &report.apps,
                &report.unknown,
                facts.now,
                arguments.output == Output::Wide,
            ),
        };
        if !arguments.watch {
            return output::print(&text);
        }
        if text != before {
            output::print(&output::page(&text))?;
            before = text;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            interrupted = tokio::signal::ctrl_c() => return interrupted.map_err(Into::into),
        }
    }
}
