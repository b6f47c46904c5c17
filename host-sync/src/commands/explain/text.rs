//! An explanation for people.

use std::fmt::Write;

use anstyle::Style;
use host_sync_core::history::UnixSeconds;

use super::{Chain, Explanation, Step, StepState};
use crate::commands::output::{BAD, DIM, GOOD, HEADING, WAITS, ago, moment, paint};

/// The width of the longest step's name.
const NAME: usize = "desired state".len();

pub(super) fn text(explanation: &Explanation, now: UnixSeconds) -> String {
    let mut text = format!("{}\n", paint(HEADING, &explanation.workload));
    for chain in &explanation.chains {
        let _ = writeln!(text, "\n{}/{}  {}", paint(HEADING, &chain.app), chain.environment, chain.delivered_as);
        for step in &chain.steps {
            line(&mut text, chain, step, now);
        }
    }
    if !explanation.notes.is_empty() {
        text.push('\n');
    }
    for note in &explanation.notes {
        let _ = writeln!(text, "{note}");
    }
    text
}

fn line(text: &mut String, chain: &Chain, step: &Step, now: UnixSeconds) {
    let (mark, style) = mark(step.state);
    let since = step.at.map(|at| paint(DIM, &format!("  [{}, {} ago]", moment(at), ago(at, now)))).unwrap_or_default();
    let stops = chain.stops_at == Some(step.name);
    let arrow = if stops { "▶" } else { " " };
    let _ = writeln!(text, "{arrow} {} {:NAME$}  {}{since}", paint(style, mark), step.name, step.says);
    if let (true, Some(fix)) = (stops, &step.fix) {
        let _ = writeln!(text, "    {:NAME$}  {} {fix}", "", paint(HEADING, "→"));
    }
}

fn mark(state: StepState) -> (&'static str, Style) {
    match state {
        StepState::Done => ("✓", GOOD),
        StepState::OnItsWay => ("…", WAITS),
        StepState::Waits => ("●", WAITS),
        StepState::Stopped => ("✗", BAD),
        StepState::Unknown => ("?", DIM),
        StepState::NotReached => ("·", DIM),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::chain::explain;
    use super::*;
    use crate::commands::cluster::Seen;
    use crate::commands::examples::{DELIVERED, NOW, Shop, condition, failed, rolling};
    use policy_core::names::WorkloadKind;
    use serde_json::json;

    fn chain(shop: &Shop) -> Explanation {
        let secrets: BTreeMap<String, Seen<Option<i64>>> =
            BTreeMap::from([("scout.checkout.bb".to_owned(), Ok(Some(DELIVERED)))]);
        explain(&shop.facts(), &secrets, "shop", WorkloadKind::Deployment, "api").unwrap()
    }

    fn shown(shop: &Shop) -> String {
        anstream::adapter::strip_str(&text(&chain(shop), NOW)).to_string()
    }

    fn stops_at(shop: &Shop) -> (Option<&'static str>, Step) {
        let chain = chain(shop).chains.remove(0);
        let step = chain.steps.iter().find(|step| chain.stops_at == Some(step.name)).unwrap();
        (chain.stops_at, step.clone())
    }

    #[test]
    fn a_whole_chain_has_a_time_for_every_step() {
        assert_eq!(
            shown(&Shop::default()),
            "Deployment shop/api\n\
             \n\
             checkout/production  EnvironmentVariables, Auto\n  \
             ✓ store          SecretStore files: the latest read of files in /var/scout/secrets succeeded; read again within 66s, or when a file changes  [2001-09-09T01:46:40Z, 5m ago]\n  \
             ✓ Secret         Secret scout.checkout.bb holds revision bb  [2001-09-09T01:46:40Z, 5m ago]\n  \
             ✓ desired state  desired-state.shop wants revision bb here, at the next admission  [2001-09-09T01:46:40Z, 5m ago]\n  \
             ✓ admission      the pod template holds revision bb\n  \
             ✓ rollout        2 of 2 pods run revision bb  [2001-09-09T01:50:00Z, 100s ago]\n"
        );
    }

    #[test]
    fn under_manual_it_stops_at_admission_with_the_command_that_goes_on() {
        let pods = vec![Some("aa"), Some("aa")];
        let text = shown(&Shop { reload: "Manual", attached: Some("aa"), pods, ..Shop::default() });
        assert!(
            text.contains(
                "▶ ● admission      the pod template holds revision aa, wanted is bb: reloadStrategy Manual: restart it to bring the newest revision\n                   → kubectl rollout restart deployment/api -n shop\n"
            ),
            "{text}"
        );
        assert!(text.contains("✓ rollout        2 of 2 pods run revision aa"), "{text}");
    }

    #[test]
    fn a_missing_key_stops_at_the_secret_and_says_what_stays_delivered() {
        let message = "checkout lacks the key \"a\", which the App selects: put it back";
        let mut shop = Shop::default();
        shop.app_status["conditions"] = json!([condition("Delivered", "False", "ContentRefused", message)]);
        let (at, step) = stops_at(&shop);
        assert_eq!((at, step.state), (Some("Secret"), StepState::Stopped));
        assert_eq!(step.says, format!("{message} (ContentRefused); revision bb stays delivered (scout.checkout.bb)"));
    }

    #[test]
    fn a_store_that_cannot_be_read_stops_at_the_store_and_what_is_delivered_is_still_said() {
        let mut shop = Shop::default();
        let message = "the store cannot be read: it did not answer within 30 s";
        shop.app_status["conditions"] = json!([condition("Delivered", "False", "Unavailable", message)]);
        let (at, step) = stops_at(&shop);
        assert_eq!((at, step.state), (Some("store"), StepState::Stopped));
        assert_eq!(step.says, format!("SecretStore files: {message} (Unavailable)"));
        assert!(shown(&shop).contains("✓ Secret         Secret scout.checkout.bb holds revision bb"));
    }

    #[test]
    fn a_touched_workload_is_on_its_way_and_a_contested_one_is_not() {
        let touched = |attempt: u32| {
            let annotations = json!({"scout.commandk.dev/requested": format!("0123456789.{attempt}")});
            stops_at(&Shop { attached: Some("aa"), annotations, ..Shop::default() })
        };
        let (at, step) = touched(1);
        assert_eq!((at, step.state, step.at), (Some("admission"), StepState::OnItsWay, Some(1_000_000_100)));
        assert_eq!(touched(5).1.state, StepState::Stopped);
    }

    #[test]
    fn a_rollout_that_fails_or_goes_on_is_where_it_stops() {
        let (at, step) = stops_at(&Shop { deployment_status: rolling(), ..Shop::default() });
        assert_eq!((at, step.state), (Some("rollout"), StepState::OnItsWay));
        let (at, step) = stops_at(&Shop { deployment_status: failed(), ..Shop::default() });
        assert_eq!((at, step.state), (Some("rollout"), StepState::Stopped));
        assert!(step.says.ends_with("it failed (timed out)") && step.fix.is_some(), "{step:?}");
    }

    #[test]
    fn a_frozen_workload_waits_for_its_user_and_says_how_to_free_it() {
        let annotations = json!({"scout.commandk.dev/mutation-mode": "ignore"});
        let (at, step) = stops_at(&Shop { attached: Some("aa"), annotations, ..Shop::default() });
        assert_eq!((at, step.state), (Some("admission"), StepState::Waits));
        assert_eq!(step.fix.unwrap(), "kubectl annotate deployment api -n shop scout.commandk.dev/mutation-mode-");
    }

    #[test]
    fn a_namespace_of_no_environment_and_a_missing_store_are_named_with_the_fix() {
        let mut facts = Shop::default().facts();
        facts.namespaces.get_mut("shop").unwrap().facts = Ok(Some(host_sync_core::snapshot::NamespaceFacts::default()));
        facts.stores = Ok(BTreeMap::new());
        let chain =
            explain(&facts, &BTreeMap::new(), "shop", WorkloadKind::Deployment, "api").unwrap().chains.remove(0);
        assert_eq!(chain.stops_at, Some("store"));
        assert_eq!(chain.steps[0].says, "SecretStore files does not exist");
        let fix = chain.steps[1].fix.as_deref();
        assert_eq!(fix, Some("kubectl label namespace shop scout.commandk.dev/environment=production"));
    }

    #[test]
    fn a_workload_that_no_app_links_is_told_what_would() {
        let mut facts = Shop { attached: None, ..Shop::default() }.facts();
        let workloads = facts.namespaces.get_mut("shop").unwrap().workloads.as_mut().unwrap();
        workloads[0].facts.name = "web".to_owned();
        let explanation = explain(&facts, &BTreeMap::new(), "shop", WorkloadKind::Deployment, "web").unwrap();
        assert!(explanation.chains.is_empty());
        assert!(explanation.notes[0].starts_with("no App links Deployment shop/web; checkout links others"));
        let error = explain(&facts, &BTreeMap::new(), "shop", WorkloadKind::Deployment, "gone").unwrap_err();
        assert!(error.to_string().starts_with("Deployment shop/gone does not exist"), "{error}");
    }
}
