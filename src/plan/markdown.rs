//! The plan for a comment on a pull request or a job's summary: counts and price first, then what is in the way, then
//! the changes by kind.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::action::{Action, Plan, Problem, Symbol};
use super::page::{Block, Entry, Page};
use super::text::{group_lines, groups, guard_text, held_text, price_line, printable, render_problem, summary_line};

/// Blocks of at most this many changes are open.
const OPEN_MAX: usize = 20;
const SYMBOLS: [(Symbol, &str); 5] = [
    (Symbol::Create, "create"),
    (Symbol::Update, "update"),
    (Symbol::Move, "rename"),
    (Symbol::Delete, "delete"),
    (Symbol::Drift, "put back"),
];

/// `verb` is the command whose result it is; `verbose` lists what else would be collapsed.
pub fn page(plan: &Plan, verb: &str, verbose: bool) -> Page {
    let by_kind = by_kind(&plan.actions);
    let mut head = format!(
        "### o7s {verb}: {}\n\nRailway project `{}`, environment `{}`\n\n**{}**  \n{}\n",
        plan.fleet,
        printable(&plan.project),
        printable(&plan.environment),
        summary_line(plan).trim_end(),
        price_line(plan)
    );
    if !by_kind.is_empty() {
        head.push_str(&table(&by_kind));
    }
    let mut blocks: Vec<Block> = problems(plan);
    let open = plan.actions.len() <= OPEN_MAX;
    blocks.extend(by_kind.iter().map(|(kind, actions)| changes(kind, actions, open, verbose)));
    let folded = |heading: &str, entries: Vec<Entry>| Block {
        heading: format!("{heading}: {}", entries.len()),
        folded: true,
        language: "text",
        entries,
    };
    let retained = plan.retained.iter().map(|line| Entry::one(format!("= {line}\n")));
    blocks.push(folded("kept although absent from the manifests", retained.collect()));
    let held = plan.held.iter().map(|held| Entry::one(held_text(held, verbose)));
    blocks.push(folded("left alone because their manifests say so", held.collect()));
    Page { head, blocks }
}

/// In the order of their first change.
fn by_kind(actions: &[Action]) -> Vec<(&str, Vec<&Action>)> {
    let mut kinds: Vec<(&str, Vec<&Action>)> = Vec::new();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for action in actions {
        let kind = action.address.split('/').next().unwrap_or_default();
        let place = *places.entry(kind).or_insert_with(|| {
            kinds.push((kind, Vec::new()));
            kinds.len() - 1
        });
        kinds[place].1.push(action);
    }
    kinds
}

fn count(actions: &[&Action], symbol: Symbol) -> usize {
    actions.iter().filter(|action| action.symbol == symbol).count()
}

fn table(kinds: &[(&str, Vec<&Action>)]) -> String {
    let used: Vec<_> =
        SYMBOLS.into_iter().filter(|(symbol, _)| kinds.iter().any(|(_, all)| count(all, *symbol) > 0)).collect();
    let mut table = String::from("| |");
    used.iter().for_each(|(_, word)| _ = write!(table, " {word} |"));
    table.push_str("\n|---|");
    used.iter().for_each(|_| table.push_str("--:|"));
    for (kind, actions) in kinds {
        let _ = write!(table, "\n| {kind} |");
        for (symbol, _) in &used {
            let cell = match count(actions, *symbol) {
                0 => String::new(),
                some => some.to_string(),
            };
            let _ = write!(table, " {cell} |");
        }
    }
    table.push_str("\n\n");
    table
}

fn problems(plan: &Plan) -> Vec<Block> {
    let block = |heading: &str, entries: Vec<Entry>| Block {
        heading: heading.to_owned(),
        folded: false,
        language: "text",
        entries,
    };
    let of = |mark: &str, problems: &[Problem]| {
        problems.iter().map(|problem| Entry::one(render_problem(mark, problem))).collect::<Vec<_>>()
    };
    let mut stops = of("limit", &plan.breaches);
    stops.extend(plan.guard.iter().map(|trip| Entry::one(guard_text(trip))));
    let warnings = plan.warnings.iter().map(|warning| Entry::one(format!("warning: {warning}\n"))).collect();
    vec![
        block("Nothing would be written", stops),
        block("Refused; the rest goes on", of("refused", &plan.refused)),
        block("Blocked; the rest goes on", of("blocked", &plan.blocked)),
        block("Warnings", warnings),
    ]
}

fn changes(kind: &str, actions: &[&Action], open: bool, verbose: bool) -> Block {
    let counts = SYMBOLS.iter().map(|(symbol, word)| (count(actions, *symbol), word)).filter(|(count, _)| *count > 0);
    let counts = counts.map(|(count, word)| format!("{count} to {word}")).collect::<Vec<_>>().join(", ");
    let lines = groups(actions.iter().copied()).into_iter().flat_map(|group| group_lines(&group, verbose));
    let entries = lines.map(|(text, objects)| Entry { text, objects }).collect();
    Block { heading: format!("{kind}: {counts}"), folded: !open, language: "diff", entries }
}
