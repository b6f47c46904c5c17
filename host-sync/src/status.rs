//! What `plan` and `status` print.

use std::fmt::Write;

use anyhow::{Context, Result, bail};
use host_sync_core::plan::{Outcome, Plan};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use crate::api::App;
use crate::cli::Output;

/// A plan for people: the steps in order, each with its reason, and what stops a delivery.
pub fn plan_text(plan: &Plan) -> String {
    let mut text = String::new();
    if plan.steps.is_empty() {
        text.push_str("nothing to do: the cluster holds what it is to hold\n");
    }
    for (number, step) in plan.steps.iter().enumerate() {
        let because = if step.why.is_empty() { String::new() } else { format!("\n     because {}", step.why) };
        let _ = writeln!(text, "{:>3}. {}{because}", number + 1, step.action);
    }
    for (of, outcome) in &plan.outcomes {
        if let Outcome::Refused(problems) = outcome {
            for problem in problems {
                let _ = writeln!(text, "  !  {of} is not delivered ({}): {}", problem.reason, problem.message);
            }
        }
    }
    text
}

/// What the Apps' statuses say.
pub async fn status_text(client: &Client, app: Option<&str>, output: Output) -> Result<String> {
    let api: Api<App> = Api::all(client.clone());
    let apps =
        api.list(&ListParams::default()).await.context("listing Apps (are the CRDs installed? host-sync crds)")?;
    let apps: Vec<App> = apps.items.into_iter().filter(|one| app.is_none_or(|app| one.name_any() == app)).collect();
    if let (Some(app), true) = (app, apps.is_empty()) {
        bail!("App {app} does not exist: 'kubectl get apps.scout.commandk.dev' lists those that do");
    }
    match output {
        Output::Table => Ok(table(&apps)),
        Output::Json => {
            let statuses: std::collections::BTreeMap<_, _> =
                apps.iter().map(|app| (app.name_any(), app.status.clone().unwrap_or_default())).collect();
            Ok(serde_json::to_string_pretty(&statuses).context("writing the statuses as JSON")? + "\n")
        }
    }
}

fn table(apps: &[App]) -> String {
    let mut rows = vec![
        ["APP", "ENVIRONMENT", "REVISION", "DELIVERED", "RELOAD", "READY", "ROLLING", "PENDING", "FAILED"]
            .map(str::to_owned),
    ];
    let mut notes = String::new();
    for app in apps {
        let status = app.status.clone().unwrap_or_default();
        for environment in &app.spec.environments {
            let of = status.environments.get(&environment.name).cloned().unwrap_or_default();
            let counts = of.workloads;
            rows.push([
                app.name_any(),
                environment.name.clone(),
                of.revision.unwrap_or_else(|| "-".to_owned()),
                of.delivered_at.map_or_else(|| "-".to_owned(), |time| time.0.to_string()),
                of.reload_strategy.map_or_else(|| "-".to_owned(), |reload| format!("{reload:?}")),
                counts.ready.to_string(),
                counts.rolling.to_string(),
                counts.pending.to_string(),
                counts.failed.to_string(),
            ]);
            for waiting in of.waiting {
                let _ = writeln!(notes, "{} {}: {waiting}", app.name_any(), environment.name);
            }
            for pending in of.pending {
                let _ = writeln!(notes, "{} {}: at the next delivery: {pending}", app.name_any(), environment.name);
            }
        }
        for condition in status.conditions.iter().filter(|one| one.status == "False" && one.type_ == "Ready") {
            let _ = writeln!(notes, "{}: {} ({})", app.name_any(), condition.message, condition.reason);
        }
    }
    let mut text = String::new();
    let widths: Vec<usize> = (0..rows[0].len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    if !notes.is_empty() {
        text.push('\n');
        text.push_str(&notes);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table_lines_up_and_says_what_waits() {
        let app: App = serde_json::from_value(json!({
            "apiVersion": "scout.commandk.dev/v1alpha1", "kind": "App", "metadata": {"name": "checkout"},
            "spec": {
                "storeRef": {"name": "files"}, "deploymentStrategy": "EnvironmentVariables",
                "environments": [{"name": "production", "source": {"path": "checkout"}}],
            },
            "status": {"environments": {"production": {
                "revision": "4f9a2c", "reloadStrategy": "Manual", "waiting": ["Deployment shop/api: Manual"],
                "workloads": {"ready": 1, "rolling": 0, "pending": 1, "failed": 0},
            }}},
        }))
        .unwrap();
        assert_eq!(
            table(&[app]),
            "APP       ENVIRONMENT  REVISION  DELIVERED  RELOAD  READY  ROLLING  PENDING  FAILED\n\
             checkout  production   4f9a2c    -          Manual  1      0        1        0\n\
             \n\
             checkout production: Deployment shop/api: Manual\n"
        );
    }

    #[test]
    fn an_empty_plan_says_so() {
        assert!(plan_text(&Plan::default()).starts_with("nothing to do"));
    }
}
