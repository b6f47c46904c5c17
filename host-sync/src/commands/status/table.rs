//! The status for people.

use std::fmt::Write;

use anstyle::Style;
use host_sync_core::history::UnixSeconds;

use super::rows::{AppNote, PodsOfRevision, Row, State};
use crate::commands::output::{BAD, DIM, GOOD, HEADING, WAITS, ago, columns, paint};

pub(super) fn text(rows: &[Row], apps: &[AppNote], unknown: &[String], now: UnixSeconds, wide: bool) -> String {
    let mut text = String::new();
    if rows.is_empty() {
        text.push_str("no workload is linked here\n");
    } else {
        text.push_str(&table(rows, now, wide));
    }
    let mut notes = String::new();
    for app in apps {
        for (environment, pending) in &app.pending {
            let _ = writeln!(notes, "{}/{environment}: at the next delivery: {}", app.app, pending.join(", "));
        }
        if app.ready == Some(false) {
            let reason = app.reason.as_deref().unwrap_or_default();
            let message = app.message.as_deref().unwrap_or_default();
            let _ = writeln!(notes, "{}: {message} ({reason})", paint(BAD, &app.app));
        } else if app.ready.is_none() {
            let _ =
                writeln!(notes, "{}: host-sync has not said anything of it yet: does it run?", paint(WAITS, &app.app));
        }
    }
    for sentence in unknown {
        let _ = writeln!(notes, "{}", paint(DIM, &format!("not everything is shown: {sentence}")));
    }
    if !notes.is_empty() {
        text.push('\n');
        text.push_str(&notes);
    }
    text
}

fn table(rows: &[Row], now: UnixSeconds, wide: bool) -> String {
    let mut titles = vec!["NAMESPACE", "WORKLOAD", "APP", "DESIRED", "ATTACHED", "PODS", "RELOAD", "DELIVERED"];
    if wide {
        titles.extend(["ENVIRONMENT", "STRATEGY", "STORE", "NEXT REFRESH"]);
    }
    titles.push("STATE");
    let mut table = vec![titles.into_iter().map(|title| (title.to_owned(), HEADING)).collect::<Vec<_>>()];
    let plain = Style::new();
    for row in rows {
        let mut cells = vec![
            (row.namespace.clone(), plain),
            (format!("{}/{}", row.kind.to_ascii_lowercase(), row.workload), plain),
            (row.app.clone(), plain),
            (or_dash(row.desired_revision.clone()), plain),
            (
                or_dash(row.attached_revision.clone()),
                if row.attached_revision == row.desired_revision { plain } else { WAITS },
            ),
            (pods(row), plain),
            (or_dash(row.reload.map(str::to_owned)), plain),
            (row.delivered_at.map_or_else(|| "-".to_owned(), |at| format!("{} ago", ago(at, now))), plain),
        ];
        if wide {
            cells.extend([
                (row.environment.clone(), plain),
                (or_dash(row.strategy.map(|strategy| format!("{strategy:?}"))), plain),
                (row.store.clone(), plain),
                (row.next_refresh.clone(), plain),
            ]);
        }
        cells.push(state(row));
        table.push(cells);
    }
    columns(&table)
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

/// How many pods run what is desired, and what the others run.
fn pods(row: &Row) -> String {
    let Some(pods) = &row.pods else { return "?".to_owned() };
    let total: usize = pods.iter().map(|one| one.pods).sum();
    let current = |one: &&PodsOfRevision| one.revision.is_some() && one.revision == row.desired_revision;
    let newest: usize = pods.iter().filter(current).map(|one| one.pods).sum();
    let others: Vec<String> = pods
        .iter()
        .filter(|one| !current(one))
        .map(|one| format!("{} run {}", one.pods, one.revision.as_deref().unwrap_or("none")))
        .collect();
    let others = if others.is_empty() { String::new() } else { format!(" ({})", others.join(", ")) };
    format!("{newest}/{total}{others}")
}

fn state(row: &Row) -> (String, Style) {
    let (word, style) = match row.state {
        State::Ready => ("ready", GOOD),
        State::Rolling => ("rolling", WAITS),
        State::Waiting => ("waits", WAITS),
        State::LeftAlone => ("left alone", DIM),
        State::Failed => ("failed", BAD),
        State::NotDelivered => ("not delivered", BAD),
        State::Missing => ("missing", WAITS),
    };
    let reason = row.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    (format!("{word}{reason}"), style)
}

#[cfg(test)]
mod tests {
    use super::super::rows::{notes, rows};
    use super::*;
    use crate::commands::examples::{NOW, Shop, condition, failed, rolling};
    use serde_json::json;

    fn shown(shop: &Shop, wide: bool) -> String {
        let facts = shop.facts();
        let unknown: Vec<String> = facts.unknown().into_iter().cloned().collect();
        anstream::adapter::strip_str(&text(&rows(&facts), &notes(&facts), &unknown, NOW, wide)).to_string()
    }

    #[test]
    fn a_workload_that_runs_the_newest_revision_is_one_quiet_line() {
        assert_eq!(
            shown(&Shop::default(), false),
            "NAMESPACE  WORKLOAD        APP       DESIRED  ATTACHED  PODS  RELOAD  DELIVERED  STATE\n\
             shop       deployment/api  checkout  bb       bb        2/2   Auto    5m ago     ready\n"
        );
    }

    #[test]
    fn the_wide_table_says_how_it_was_delivered_and_when_the_store_is_read_again() {
        let wide = shown(&Shop::default(), true);
        let line = wide.lines().nth(1).unwrap();
        assert!(line.contains("production   EnvironmentVariables  files  within 66s"), "{wide}");
    }

    #[test]
    fn a_rollout_shows_which_pods_run_what() {
        let pods = vec![Some("bb"), Some("aa"), None];
        let text = shown(&Shop { pods, deployment_status: rolling(), ..Shop::default() }, false);
        assert!(text.contains("1/3 (1 run none, 1 run aa)"), "{text}");
        assert!(text.ends_with("rolling\n"), "{text}");
    }

    #[test]
    fn what_waits_is_said_with_host_syncs_own_reason() {
        let waiting = json!(["Deployment shop/api: 10 rollouts are in flight"]);
        let mut shop = Shop { attached: Some("aa"), ..Shop::default() };
        shop.app_status["environments"]["production"]["waiting"] = waiting;
        assert!(shown(&shop, false).contains("waits: 10 rollouts are in flight"));
        let manual = Shop { attached: Some("aa"), reload: "Manual", ..Shop::default() };
        assert!(shown(&manual, false).contains("waits: reloadStrategy Manual: restart it"));
    }

    #[test]
    fn an_ignored_and_a_failed_workload_say_so() {
        let annotations = json!({"scout.commandk.dev/mutation-mode": "ignore"});
        let ignored = shown(&Shop { attached: Some("aa"), annotations, ..Shop::default() }, false);
        assert!(ignored.contains("left alone: frozen by mutation-mode: ignore"), "{ignored}");
        let failed = shown(&Shop { deployment_status: failed(), ..Shop::default() }, false);
        assert!(failed.contains("failed: its rollout failed (timed out)"), "{failed}");
    }

    #[test]
    fn without_rights_the_apps_status_stands_in_and_the_missing_right_is_named() {
        let mut facts = Shop { attached: Some("aa"), ..Shop::default() }.facts();
        let shop = facts.namespaces.get_mut("shop").unwrap();
        let why = "you have no right to get ConfigMaps in namespace scout-system, which hold what is delivered";
        (shop.state, shop.history) = (Err(why.to_owned()), Err(why.to_owned()));
        shop.pods = Err("you have no right to list Pods in namespace shop".to_owned());
        let unknown: Vec<String> = facts.unknown().into_iter().cloned().collect();
        let text = text(&rows(&facts), &notes(&facts), &unknown, NOW, false);
        let text = anstream::adapter::strip_str(&text).to_string();
        assert!(text.contains("checkout  bb       aa        ?     Auto    5m ago     waits"), "{text}");
        assert!(text.contains("not everything is shown: you have no right to get ConfigMaps"), "{text}");
        assert_eq!(text.matches("hold what is delivered").count(), 1, "each sentence once: {text}");
    }

    #[test]
    fn what_is_wrong_with_an_app_and_what_is_pending_stand_below() {
        let status = json!({
            "conditions": [condition("Ready", "False", "KeysMissing", "checkout lacks the key \"a\"")],
            "environments": {"production": {"pending": ["reloadStrategy Manual"]}},
        });
        let text = shown(&Shop { app_status: status, ..Shop::default() }, false);
        assert!(text.contains("checkout/production: at the next delivery: reloadStrategy Manual\n"), "{text}");
        assert!(text.ends_with("checkout: checkout lacks the key \"a\" (KeysMissing)\n"), "{text}");
    }
}
