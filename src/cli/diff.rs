//! `o7s diff`: field by field what differs between the world and the manifests, for people who read diffs. It follows
//! diff(1): 0 the same, 1 different, 2 trouble.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use super::args::{Color, Format};
use super::planned::{Wanted, planned};
use super::render;
use super::report::Failure;
use crate::plan::{Change, Plan, Problem, render_diff, render_problem};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  o7s diff                            every field that differs, one hunk an object
  o7s diff --target tenant/acme       of one tenant
  o7s diff --live live.json           without token, key or network

Exit codes, as of diff(1): 0 no difference, 1 something differs, 2 trouble")]
pub struct DiffArgs {
    #[command(flatten)]
    pub wanted: Wanted,
    /// How the result, or what went wrong, is written; progress always goes to stderr
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// When to colour; NO_COLOR is honoured
    #[arg(long, value_enum, default_value_t = Color::Auto)]
    pub color: Color,
}

pub async fn run(args: DiffArgs) -> Result<u8, Failure> {
    match diff(&args).await {
        Err(failure) if failure.is_broken_pipe() => Err(failure),
        // Every failure is trouble: 1 would say that something differs.
        Err(failure) => Err(failure.trouble()),
        Ok(code) => Ok(code),
    }
}

#[derive(Serialize)]
struct Printed<'a> {
    different: bool,
    changes: Vec<Change<'a>>,
    refused: &'a [Problem],
    blocked: &'a [Problem],
}

async fn diff(args: &DiffArgs) -> Result<u8, Failure> {
    let plan = planned(&args.wanted).await?.plan;
    let text = render_diff(&plan);
    if args.format == Format::Json {
        let (refused, blocked) = (&plan.refused[..], &plan.blocked[..]);
        let printed = Printed { different: !plan.is_empty(), changes: plan.changes().collect(), refused, blocked };
        render::json(&mut io::stdout().lock(), &printed)?;
        return Ok(exit_code(&plan, &text));
    }
    // Not through `anstream`: who asks for colours in a file gets them.
    let mut out = io::stdout().lock();
    for line in text.lines() {
        match style(line).filter(|_| args.color.wanted()) {
            Some(style) => writeln!(out, "{style}{line}{style:#}")?,
            None => writeln!(out, "{line}")?,
        }
    }
    out.flush()?;
    let mut err = anstream::stderr().lock();
    for (mark, problem) in troubles(&plan) {
        write!(err, "{}", render_problem(mark, problem))?;
    }
    Ok(exit_code(&plan, &text))
}

fn troubles(plan: &Plan) -> impl Iterator<Item = (&'static str, &Problem)> {
    let refused = plan.refused.iter().map(|problem| ("refused", problem));
    refused.chain(plan.blocked.iter().map(|problem| ("blocked", problem)))
}

/// What could not be compared is trouble.
fn exit_code(plan: &Plan, text: &str) -> u8 {
    match (troubles(plan).next().is_some(), text.is_empty()) {
        (true, _) => 2,
        (false, false) => 1,
        (false, true) => 0,
    }
}

fn style(line: &str) -> Option<Style> {
    let plain = Style::new();
    Some(match line.as_bytes().first()? {
        _ if line.starts_with("--- ") || line.starts_with("+++ ") => plain.bold(),
        b'@' => plain.fg_color(Some(AnsiColor::Cyan.into())),
        b'-' => plain.fg_color(Some(AnsiColor::Red.into())),
        b'+' => plain.fg_color(Some(AnsiColor::Green.into())),
        _ => return None,
    })
}
