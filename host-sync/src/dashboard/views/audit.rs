//! The audit trail: who asked, what was done, which revision, what came of it.

use serde::Serialize;

use super::super::rights::Visible;
use crate::audit::{Event, Outcome, Shown, What};

/// One line.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct AuditLine {
    number: u64,
    time: String,
    what: &'static str,
    app: String,
    environment: Option<String>,
    /// What of it the viewer may read.
    to: Vec<String>,
    revision: Option<String>,
    /// Absent where it names something that the viewer may not read.
    why: Option<String>,
    failed: Option<String>,
}

/// The lines about visible Apps in visible namespaces.
pub(crate) fn audit(lines: Vec<Shown>, visible: &Visible) -> Vec<AuditLine> {
    let lines = lines.into_iter().filter(|line| visible.apps.contains(&line.event.app));
    lines.filter_map(|line| audit_line(line, visible)).collect()
}

fn audit_line(line: Shown, visible: &Visible) -> Option<AuditLine> {
    let Event { what, app, environment, to, revision, why, outcome } = line.event;
    let (to, hidden): (Vec<String>, Vec<String>) =
        to.into_iter().partition(|one| visible.namespaces.contains(namespace(what, one)));
    if to.is_empty() {
        return None;
    }
    let tells = |text: &str| hidden.iter().any(|one| text.contains(namespace(what, one)));
    Some(AuditLine {
        number: line.number,
        time: line.time,
        what: match what {
            What::Delivery => "delivery",
            What::Touch => "touch",
            What::Prune => "prune",
        },
        app,
        environment,
        to,
        revision,
        why: Some(why).filter(|why| !tells(why)),
        failed: match outcome {
            Outcome::Done => None,
            Outcome::Failed(message) if !tells(&message) => Some(message),
            Outcome::Failed(_) => Some("it failed".to_owned()),
        },
    })
}

/// The namespace that an event's `to` is about: a namespace, or `Deployment shop/api`.
fn namespace(what: What, to: &str) -> &str {
    match what {
        What::Delivery => to,
        What::Touch | What::Prune => {
            let object = to.split_once(' ').map_or(to, |(_, object)| object);
            object.split_once('/').map_or(object, |(namespace, _)| namespace)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{everything, only};
    use super::*;

    fn shown(what: What, to: &[&str]) -> Shown {
        let event = Event {
            what,
            app: "checkout".into(),
            environment: None,
            to: to.iter().map(|one| (*one).to_owned()).collect(),
            revision: None,
            why: "namespace hidden is newly linked".into(),
            outcome: Outcome::Done,
        };
        Shown { number: 1, time: "2026-11-24T20:00:00Z".into(), event }
    }

    #[test]
    fn a_line_tells_nothing_of_a_namespace_that_one_may_not_read() {
        let line = || shown(What::Delivery, &["hidden", "shop"]);
        let seen = audit(vec![line()], &only("shop"));
        assert_eq!((seen[0].to.as_slice(), &seen[0].why), (["shop".to_owned()].as_slice(), &None));
        assert!(audit(vec![line()], &everything())[0].why.is_some());
        let mut harmless = line();
        harmless.event.why = "the content changed".into();
        assert_eq!(audit(vec![harmless], &only("shop"))[0].why.as_deref(), Some("the content changed"));
        for (what, to) in [(What::Touch, "Deployment hidden/api"), (What::Prune, "Secret hidden/scout.checkout.a1")] {
            assert!(audit(vec![shown(what, &[to])], &only("shop")).is_empty());
            assert_eq!(audit(vec![shown(what, &[to])], &only("hidden")).len(), 1);
        }
    }

    #[test]
    fn a_line_about_an_app_that_one_may_not_get_is_not_there() {
        let mut visible = everything();
        visible.apps = crate::dashboard::rights::Scope::Named(std::collections::BTreeSet::new());
        assert!(audit(vec![shown(What::Delivery, &["shop"])], &visible).is_empty());
    }
}
