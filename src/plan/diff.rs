//! The plan as a unified diff: a hunk an object, a line a field. What is done about it is not said.

use std::fmt::Write as _;

use super::action::{Action, Plan};
use super::text::printable;

/// Empty where nothing differs.
pub fn render_diff(plan: &Plan) -> String {
    if plan.is_empty() {
        return String::new();
    }
    let mut out = format!(
        "--- live {}/{}\n+++ manifests of fleet {}\n",
        printable(&plan.project),
        printable(&plan.environment),
        plan.fleet
    );
    plan.actions.iter().for_each(|action| hunk(&mut out, action));
    out
}

fn hunk(out: &mut String, Action { address, cause, fields, reason, .. }: &Action) {
    let _ = writeln!(out, "@@ {address} @@ {cause}");
    if fields.is_empty() {
        let _ = writeln!(out, " {}", reason.text);
    }
    for field in fields {
        for (sign, value) in [('-', &field.old), ('+', &field.new)] {
            if let Some(value) = value {
                let _ = writeln!(out, "{sign}{}: {value}", field.path);
            }
        }
    }
}
