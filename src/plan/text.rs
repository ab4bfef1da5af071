//! The plan as people read it: same input, same bytes, whatever machine or locale. No colour here; the first character
//! of a line tells what it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Write as _};
use std::time::Duration;

use super::action::{Action, GuardTrip, Plan, Problem, Summary};
use super::code::Code;
use super::held::Held;
use crate::tenancy::counted;

/// More objects than this with one reason are shown as three and a count.
const SHOWN_ALL_MAX: usize = 20;
const SHOWN_OF_MANY: usize = 3;
/// More reasons than this for one kind of change are shown as one.
const REASONS_MAX: usize = 5;

/// How a plan is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct View {
    /// Every object, and what lives beside the fleet.
    pub verbose: bool,
    pub seen: Seen,
}

/// Where what the plan was made of came from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Seen {
    #[default]
    Unsaid,
    /// Read just now, by so many requests to Railway.
    Read { requests: u64, took: Duration },
    /// From a file.
    Saved,
}

/// `verbose` prints every object.
pub fn render(plan: &Plan, verbose: bool) -> String {
    render_as(plan, View { verbose, seen: Seen::Unsaid })
}

pub fn render_as(plan: &Plan, View { verbose, seen }: View) -> String {
    let mut out = head(plan, seen);
    out.push_str(&render_body(plan, verbose));
    out.push_str(&price_line(plan));
    out.push_str(&summary_line(plan));
    out
}

/// A name that Railway's people chose, in a form that no terminal obeys and no comment is broken by.
pub(super) fn printable(name: &str) -> String {
    name.chars().map(|c| if c.is_control() || "`<>[]@".contains(c) { '·' } else { c }).collect()
}

/// Everything between head and price.
pub fn render_body(plan: &Plan, verbose: bool) -> String {
    let mut out = String::new();
    for group in groups(plan.actions.iter()) {
        group_lines(&group, verbose).iter().for_each(|(line, _)| out.push_str(line));
    }
    listed(&mut out, "=", &plan.retained, verbose);
    held(&mut out, &plan.held, verbose);
    if verbose {
        listed(&mut out, "?", &plan.unknown, verbose);
    }
    listed(&mut out, "warning:", &plan.warnings, verbose);
    problems(&mut out, "refused", &plan.refused, verbose);
    problems(&mut out, "blocked", &plan.blocked, verbose);
    problems(&mut out, "limit", &plan.breaches, verbose);
    plan.guard.iter().for_each(|trip| out.push_str(&guard_text(trip)));
    out
}

pub(super) fn guard_text(GuardTrip { removals, live, allowed }: &GuardTrip) -> String {
    let code = Code::RemovalGuard;
    format!(
        "refused: this plan removes, suspends or renames {removals} of {}; `safety.maxRemovals` allows {allowed} [{code}]\n    \
         next: check the manifests; if it is meant, raise `safety.maxRemovals` in the Fleet for this change\n",
        counted(*live, "tenant")
    )
}

fn head(plan: &Plan, seen: Seen) -> String {
    let etag: String = plan.snapshot.etag.chars().take(8).collect();
    let (project, environment) = (printable(&plan.project), printable(&plan.environment));
    let mut line = format!("fleet {}  project {project}/{environment}  etag {etag}", plan.fleet);
    match seen {
        Seen::Unsaid => {}
        Seen::Read { requests, took } => {
            let _ = write!(line, "  read {}, {:.1} s", counted(requests, "request"), took.as_secs_f64());
        }
        Seen::Saved => {
            let _ = write!(line, "  observed {}", plan.snapshot.read_at.format("%Y-%m-%d %H:%M:%S UTC"));
        }
    }
    if seen != Seen::Unsaid && !plan.is_empty() {
        let _ = write!(line, "  apply needs {}", counted(plan.writes(), "request"));
    }
    line.push('\n');
    if !plan.targets.is_empty() {
        let targets = plan.targets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let _ = writeln!(line, "partial: only {targets} and what that needs; nothing is deleted");
    }
    line
}

/// Runs of actions that differ in nothing but whom they are for; where too many reasons differ only in a place, those.
pub(super) fn groups<'a>(actions: impl Iterator<Item = &'a Action> + Clone) -> Vec<Vec<&'a Action>> {
    let alike = |action: &Action| {
        let kind = action.address.split('/').next().unwrap_or_default().to_owned();
        (action.wave, kind, action.symbol.as_str(), format!("{:?}", action.reason.code))
    };
    let mut reasons: BTreeMap<_, BTreeSet<&str>> = BTreeMap::new();
    for action in actions.clone() {
        reasons.entry(alike(action)).or_default().insert(&action.reason.text);
    }
    let (mut groups, mut places): (Vec<Vec<&Action>>, BTreeMap<_, usize>) = (Vec::new(), BTreeMap::new());
    for action in actions {
        let alike = alike(action);
        let one = reasons.get(&alike).is_some_and(|texts| texts.len() > REASONS_MAX);
        let text = if one { "" } else { action.reason.text.as_str() };
        let place = *places.entry((alike, text)).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[place].push(action);
    }
    groups
}

/// The text of each, and how many objects it stands for.
pub(super) fn group_lines(group: &[&Action], verbose: bool) -> Vec<(String, usize)> {
    let shown = if verbose || group.len() <= SHOWN_ALL_MAX { group.len() } else { SHOWN_OF_MANY };
    let mut lines: Vec<_> = group[..shown].iter().map(|action| (action_text(action), 1)).collect();
    if shown < group.len() {
        let (more, like) = (group.len() - shown, &group[0]);
        let kind = like.address.split('/').next().unwrap_or_default();
        let (symbol, reason) = (like.symbol.as_str(), &like.reason.text);
        lines.push((format!("{symbol} … and {more} more of {kind} ({reason}); -v shows them\n"), more));
    }
    lines
}

fn action_text(action: &Action) -> String {
    let mut out = String::new();
    let (symbol, address) = (action.symbol.as_str(), &action.address);
    let _ = writeln!(out, "{symbol} {address}  ({})  {}", action.reason.text, action.cause);
    let width = action.fields.iter().map(|field| field.path.chars().count()).max().unwrap_or(0);
    for field in &action.fields {
        let show = |value: &Option<String>| value.clone().unwrap_or_else(|| "(none)".into());
        let _ = writeln!(out, "    {:width$}  {} -> {}", field.path, show(&field.old), show(&field.new));
    }
    out
}

fn held(out: &mut String, all: &[Held], verbose: bool) {
    let shown = if verbose || all.len() <= SHOWN_ALL_MAX { all.len() } else { SHOWN_OF_MANY };
    all[..shown].iter().for_each(|held| out.push_str(&held_text(held, verbose)));
    if shown < all.len() {
        let _ = writeln!(out, "held … and {} more", all.len() - shown);
    }
}

/// What waits is shown under the object it waits for.
pub(super) fn held_text(Held { address, why, cause, pending, problems }: &Held, verbose: bool) -> String {
    let waits = match pending.len() {
        0 => "nothing is pending".to_owned(),
        1 => "1 change is pending".to_owned(),
        many => format!("{many} changes are pending"),
    };
    let mut out = format!("{} {address}  ({waits})  {cause}\n", why.as_str());
    let mut block = String::new();
    for group in groups(pending.iter()) {
        group_lines(&group, verbose).iter().for_each(|(line, _)| block.push_str(line));
    }
    problems.iter().for_each(|problem| block.push_str(&render_problem("in its way", problem)));
    block.lines().for_each(|line| _ = writeln!(out, "  {line}"));
    out
}

fn listed(out: &mut String, mark: &str, lines: &[impl Display], verbose: bool) {
    let shown = if verbose || lines.len() <= SHOWN_ALL_MAX { lines.len() } else { SHOWN_OF_MANY };
    for line in &lines[..shown] {
        let _ = writeln!(out, "{mark} {line}");
    }
    if shown < lines.len() {
        let _ = writeln!(out, "{mark} … and {} more", lines.len() - shown);
    }
}

/// Objects with one and the same problem, such as the tenants of a silent instance, share its lines.
fn problems(out: &mut String, mark: &str, problems: &[Problem], verbose: bool) {
    let mut alike: Vec<Vec<&Problem>> = Vec::new();
    let mut places: BTreeMap<(&str, Code, &str, &str), usize> = BTreeMap::new();
    for problem in problems {
        let kind = problem.address.split('/').next().unwrap_or_default();
        let place = *places.entry((kind, problem.code, &problem.message, &problem.help)).or_insert(alike.len());
        match alike.get_mut(place).filter(|_| !verbose) {
            Some(group) => group.push(problem),
            None => alike.push(vec![problem]),
        }
    }
    let shown = if verbose || alike.len() <= SHOWN_ALL_MAX { alike.len() } else { SHOWN_OF_MANY };
    for group in &alike[..shown] {
        out.push_str(&render_alike(mark, group));
    }
    if shown < alike.len() {
        let more: usize = alike[shown..].iter().map(Vec::len).sum();
        let _ = writeln!(out, "{mark}: … and {more} more; -v shows them");
    }
}

fn render_alike(mark: &str, group: &[&Problem]) -> String {
    let [first, _, ..] = group else { return group.iter().map(|problem| render_problem(mark, problem)).collect() };
    let named = &group[..group.len().min(SHOWN_OF_MANY)];
    let mut address = named.iter().map(|problem| problem.address.as_str()).collect::<Vec<_>>().join(", ");
    if named.len() < group.len() {
        let _ = write!(address, " and {} more", group.len() - named.len());
    }
    // Each has a line of its own in the manifests, which says nothing about a cause that they share.
    render_problem(mark, &Problem { address, cause: None, ..(*first).clone() })
}

/// Three lines: where and what, and the next step.
pub fn render_problem(mark: &str, problem: &Problem) -> String {
    let cause = problem.cause.as_ref().map(|cause| format!("  {cause}")).unwrap_or_default();
    let Problem { address, message, code, help, .. } = problem;
    format!("{mark}: {address}: {message} [{code}]{cause}\n    next: {help}\n")
}

pub fn price_line(plan: &Plan) -> String {
    let price = &plan.price;
    let caps = price
        .at_caps
        .map_or_else(|| "unbounded (no caps)".to_owned(), |caps| format!("at most {} at the caps", caps.signed()));
    match price.at_rest.0 {
        0 => format!("Railway: +$0.00/month; tenants pay {}/month\n", price.revenue.signed()),
        _ => format!(
            "Railway: {}/month at rest, {caps} (list prices); tenants pay {}/month\n",
            price.at_rest.signed(),
            price.revenue.signed()
        ),
    }
}

/// The last line, always.
pub fn summary_line(plan: &Plan) -> String {
    let Summary { create, update, replace, delete, moved, drift, retained, unchanged } = plan.summary();
    let nothing = plan.actions.is_empty() && plan.refused.is_empty() && plan.blocked.is_empty() && !plan.is_stopped();
    if nothing && retained == 0 && plan.held.iter().all(Held::is_quiet) {
        let (tenants, match_) =
            (plan.unchanged.tenants, if plan.unchanged.tenants == 1 { "matches" } else { "match" });
        return format!("No changes. {} {match_}.\n", counted(tenants, "tenant"));
    }
    let moved = if moved > 0 { format!("{moved} to rename, ") } else { String::new() };
    format!(
        "Plan: {create} to create, {update} to update, {moved}{replace} to replace, {delete} to delete, {retained} retained, \
         {drift} drift, {unchanged} unchanged{}.\n",
        in_the_way(plan)
    )
}

/// `; 2 refused, 50 blocked`, of what there is.
fn in_the_way(plan: &Plan) -> String {
    let counts =
        [(plan.refused.len(), "refused"), (plan.blocked.len(), "blocked"), (plan.breaches.len(), "over a limit")];
    let counts = counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    match counts.collect::<Vec<_>>().join(", ") {
        text if text.is_empty() => text,
        text => format!("; {text}"),
    }
}
