//! What CI shows of a plan: annotations on the lines that cause something, and outputs for later steps.

use std::collections::BTreeMap;

use super::github::{Annotation, Level};
use crate::manifest::Origin;
use crate::plan::{Action, Plan, Problem, Symbol, Warning, price_line, summary_line};
use crate::tenancy::counted;

/// What is in the way first, then what is told to be careful about, then what would change.
pub fn annotations(plan: &Plan) -> Vec<Annotation> {
    let in_the_way = plan.breaches.iter().chain(&plan.refused).chain(&plan.blocked);
    let mut all: Vec<Annotation> = in_the_way.map(of_problem).collect();
    all.extend(plan.guard.iter().map(|trip| Annotation {
        level: Level::Error,
        place: None,
        title: format!("{}: too many removals at once", crate::plan::Code::RemovalGuard),
        message: format!(
            "this plan removes, suspends or renames {} of {}; `safety.maxRemovals` allows {}",
            trip.removals,
            counted(trip.live, "tenant"),
            trip.allowed
        ),
    }));
    all.extend(plan.warnings.iter().map(|Warning { cause, text }| {
        Annotation::at(Level::Warning, cause.as_ref(), "warning".into(), text.clone())
    }));
    all.push(Annotation {
        level: Level::Notice,
        place: None,
        title: format!("fleet {}", plan.fleet),
        message: format!("{}{}", summary_line(plan), price_line(plan)),
    });
    all.extend(by_place(&plan.actions).iter().map(|(place, actions)| of_changes(place, actions)));
    all
}

fn of_problem(problem: &Problem) -> Annotation {
    let Problem { code, address, message, help, cause } = problem;
    let title = format!("{code}: {}", code.entry().title);
    Annotation::at(Level::Error, cause.as_ref(), title, format!("{address}: {message}\nnext: {help}"))
}

/// One line of a manifest often causes several actions, such as a tenant's and its route's.
fn by_place(actions: &[Action]) -> Vec<(&Origin, Vec<&Action>)> {
    let mut places: Vec<(&Origin, Vec<&Action>)> = Vec::new();
    let mut known: BTreeMap<(&str, u32), usize> = BTreeMap::new();
    for action in actions {
        let place = *known.entry((&*action.cause.file, action.cause.line)).or_insert_with(|| {
            places.push((&action.cause, Vec::new()));
            places.len() - 1
        });
        places[place].1.push(action);
    }
    places
}

fn of_changes(place: &Origin, actions: &[&Action]) -> Annotation {
    let deletes = actions.iter().any(|action| action.symbol == Symbol::Delete);
    let addresses = actions.iter().map(|action| format!("{} {}", action.symbol.as_str(), action.address));
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "(none)".into());
    let lines = actions.iter().flat_map(|action| {
        let fields = action.fields.iter();
        let fields = fields.map(|field| format!("    {}: {} -> {}", field.path, text(&field.old), text(&field.new)));
        std::iter::once(format!("{} {} ({})", action.symbol.as_str(), action.address, action.reason.text))
            .chain(fields)
    });
    Annotation::at(
        if deletes { Level::Warning } else { Level::Notice },
        Some(place),
        addresses.collect::<Vec<_>>().join(" "),
        lines.collect::<Vec<_>>().join("\n"),
    )
}

/// For the steps that follow.
pub fn outputs(plan: &Plan, exit_code: u8) -> Vec<(&'static str, String)> {
    vec![
        ("changes", plan.actions.len().to_string()),
        ("deletes", plan.summary().delete.to_string()),
        ("plan_digest", plan.digest().to_string()),
        ("exitcode", exit_code.to_string()),
    ]
}
