//! `plan`: what would be done now, step by step, and why.

use std::fmt::Write;

use host_sync_core::plan::{Outcome, Plan};

/// A plan for people: the steps in order, each with its reason, and what stops a delivery.
pub(super) fn text(plan: &Plan) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_plan_says_so() {
        assert!(text(&Plan::default()).starts_with("nothing to do"));
    }
}
