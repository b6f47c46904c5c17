//! Changes for people.

use std::fmt::Write;

use super::changes::{Changes, Delivery};
use crate::commands::output::{BAD, DIM, GOOD, HEADING, WAITS, paint};

pub(super) fn text(changes: &Changes) -> String {
    let mut text = String::new();
    for delivery in &changes.deliveries {
        describe(&mut text, delivery);
    }
    for refused in &changes.refused {
        let of = format!("{}/{}", refused.app, refused.environment);
        let _ = writeln!(text, "{} {of}: {} ({})", paint(BAD, "not delivered:"), refused.message, refused.reason);
    }
    let mut list = |title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            let _ = writeln!(text, "\n{}", paint(HEADING, title));
        }
        for line in lines {
            let _ = writeln!(text, "  {line}");
        }
    };
    list("rolls at once:", changes.rolls.iter().map(|one| one.workload.clone()).collect());
    list(
        "waits:",
        changes.waits.iter().map(|one| format!("{} ({}/{})", one.waits, one.app, one.environment)).collect(),
    );
    list("is pruned:", changes.pruned.iter().map(|one| format!("Secret {}: {}", one.secret, one.why)).collect());
    if changes.is_empty() && changes.refused.is_empty() {
        text.insert_str(0, "no change: the cluster holds what the stores hold\n");
    }
    text
}

fn describe(text: &mut String, delivery: &Delivery) {
    let of = format!("{}/{} in namespace {}", delivery.app, delivery.environment, delivery.namespace);
    let from = delivery.from_revision.as_deref().unwrap_or("nothing");
    let revisions = if from == delivery.to_revision {
        format!("{from} stays")
    } else {
        format!("{from} → {}", delivery.to_revision)
    };
    let _ = writeln!(text, "{}: {revisions} ({})", paint(HEADING, &of), delivery.why);
    let keys = &delivery.keys;
    let signs = [("+", GOOD, &keys.added), ("-", BAD, &keys.removed), ("~", WAITS, &keys.changed)];
    for (sign, style, names) in signs {
        for name in names {
            let _ = writeln!(text, "  {}", paint(style, &format!("{sign} {name}")));
        }
    }
    if keys.unknown {
        let sentence = "its keys cannot be compared: the Secret of the revision before is not there";
        let _ = writeln!(text, "  {}", paint(DIM, sentence));
    }
    for setting in &delivery.settings {
        let _ = writeln!(text, "  {}", paint(WAITS, &format!("~ {setting}")));
    }
}
