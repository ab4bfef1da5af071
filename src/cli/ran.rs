//! What became of a run, in each format but JSON.

use std::io::{self, Write};

use serde::Serialize;

use super::github::{Annotation, Level};
use super::{present, render};
use crate::operator::{Error, Outcome, Reconciled, Report, Verdict};
use crate::plan::{Block, Entry, Page, plan_page};

/// Longer lists are cut in the text; the other formats hold everything.
const SHOWN_MAX: usize = 20;

/// Empty when nothing was tried.
pub fn text(done: &Reconciled) -> String {
    let Reconciled { report, rest, error, .. } = done;
    if done.plan.is_empty() || done.plan.is_stopped() || done.verdict == Verdict::Unconfirmed {
        return String::new();
    }
    let mut text = String::new();
    for (address, failure) in done.failures().take(SHOWN_MAX) {
        let (code, message, help) = (failure.code, &failure.message, &failure.help);
        text.push_str(&format!("failed: {address}: {message} [{code}]\n    next: {help}\n"));
    }
    text.push_str(&stop_line(report, error.as_ref()));
    if let Some(rest) = rest {
        text.push_str("still differs after the run:\n");
        for action in rest.actions.iter().take(SHOWN_MAX) {
            text.push_str(&format!("    {} {} ({})\n", action.symbol.as_str(), action.address, action.reason.text));
        }
    }
    text.push_str(&counts(report));
    text
}

fn counts(report: &Report) -> String {
    let count = |wanted: fn(&Outcome) -> bool| report.outcomes.values().filter(|outcome| wanted(outcome)).count();
    let (ok, failed) = (count(|o| *o == Outcome::Done), count(|o| matches!(o, Outcome::Failed(_))));
    let (blocked, skipped) = (count(|o| matches!(o, Outcome::Blocked { .. })), count(|o| *o == Outcome::Skipped));
    let version = report.routing_version.map(|v| format!("; routing table is at version {v}")).unwrap_or_default();
    format!("{ok} done, {failed} failed, {blocked} blocked, {skipped} not finished{version}\n")
}

fn stop_line(report: &Report, error: Option<&Error>) -> String {
    let Some(error) = error else { return String::new() };
    let first = report.outcomes.iter().find(|(_, outcome)| **outcome == Outcome::Skipped);
    let place = first.map(|(address, _)| format!(" at {address}")).unwrap_or_default();
    format!("stopped{place}: {error} [{}]\n    next: {}\n", error.code(), error.help())
}

/// The plan's page with what became of it in front; `cost` is the line about time and requests.
pub fn page(done: &Reconciled, cost: &str, verbose: bool) -> Page {
    let mut page = plan_page(&done.plan, "reconcile", verbose);
    let result = match done.verdict {
        Verdict::Unconfirmed => "Nothing was changed: nobody said yes.\n".to_owned(),
        _ if done.plan.is_stopped() => "Nothing was changed.\n".to_owned(),
        _ if done.plan.is_empty() => String::new(),
        _ => format!("**{}**\n", counts(&done.report).trim_end()),
    };
    page.head.push_str(&format!("{result}{cost}\n"));
    let failed = done.failures().map(|(address, failure)| {
        let (code, message, help) = (failure.code, &failure.message, &failure.help);
        Entry::one(format!("failed: {address}: {message} [{code}]\n    next: {help}\n"))
    });
    let stopped = Some(stop_line(&done.report, done.error.as_ref())).filter(|line| !line.is_empty()).map(Entry::one);
    let rest = done.rest.iter().flat_map(|rest| &rest.actions).map(|action| {
        Entry::one(format!("{} {} ({})\n", action.symbol.as_str(), action.address, action.reason.text))
    });
    let block = |heading: &str, entries: Vec<Entry>| Block {
        heading: heading.to_owned(),
        folded: false,
        language: "text",
        entries,
    };
    let what_became = [
        block("Not carried out", stopped.into_iter().chain(failed).collect()),
        block("Still differs after the run", rest.collect()),
    ];
    page.blocks.splice(0..0, what_became);
    page
}

/// Failures at the lines that asked for it, then what the plan says.
pub fn annotations(done: &Reconciled) -> Vec<Annotation> {
    let cause = |address: &str| done.plan.actions.iter().find(|action| action.address == address);
    let failed = done.failures().map(|(address, failure)| {
        let origin = cause(address).map(|action| &action.cause);
        let title = format!("{}: {}", failure.code, failure.code.title);
        Annotation::at(Level::Error, origin, title, format!("{address}: {}\nnext: {}", failure.message, failure.help))
    });
    let stopped = done.error.as_ref().map(|error| {
        let title = format!("{}: {}", error.code(), error.code().title);
        Annotation::at(Level::Error, None, title, stop_line(&done.report, Some(error)))
    });
    let mut all: Vec<Annotation> = stopped.into_iter().chain(failed).collect();
    all.extend(present::annotations(&done.plan));
    all
}

/// Each change with its outcome on a line, then the rest of the document.
pub fn json_lines(out: &mut dyn Write, document: &impl Serialize) -> io::Result<()> {
    let mut document = serde_json::to_value(document)?;
    let outcomes = document.as_object_mut().and_then(|fields| fields.remove("outcomes")).unwrap_or_default();
    let plan = document.get_mut("plan").and_then(serde_json::Value::as_object_mut);
    let changes = plan.and_then(|plan| plan.remove("changes")).unwrap_or_default();
    for change in changes.as_array().into_iter().flatten() {
        let mut line = change.clone();
        let outcome = change["address"].as_str().and_then(|address| outcomes.get(address)).cloned();
        if let Some(fields) = line.as_object_mut() {
            fields.insert("outcome".into(), outcome.unwrap_or_default());
        }
        render::json_line(out, &line)?;
    }
    render::json_line(out, &document)
}
