//! `o7s plan`: what reconcile would do. Holds no lease and changes nothing.

use std::fs;
use std::io::{self, Write as _};

use super::args::{PlanArgs, ReportFormat};
use super::github::Github;
use super::planned::{Planned, planned};
use super::present::{annotations, outputs};
use super::render;
use super::report::{Failure, marker};
use crate::plan::{Plan, View, plan_page, render_as};

pub async fn run(args: PlanArgs) -> Result<u8, Failure> {
    let Planned { plan, inputs, reads, seen } = planned(&args.wanted).await?;
    let document = plan.document(&inputs, reads);
    if let Some(path) = &args.out {
        let mut file = Vec::new();
        render::json(&mut file, &document)?;
        fs::write(path, file).map_err(|source| Failure::Write { path: path.clone(), source })?;
    }
    let code = exit_code(&plan, args.detailed_exitcode);
    let view = View { verbose: args.output.verbose, seen };
    // Not through `anstream`: who asks for colours in a file gets them.
    let mut out = io::stdout().lock();
    match args.output.format {
        ReportFormat::Text => render::plan_text(&mut out, &render_as(&plan, view), args.output.coloured())?,
        ReportFormat::Json => render::json(&mut out, &document)?,
        ReportFormat::Jsonl => render::json_lines(&mut out, &document, "changes")?,
        ReportFormat::Markdown => {
            let marker = marker("plan", Some(&plan.fleet));
            let page = plan_page(&plan, "plan", view.verbose).render(args.output.max_bytes as usize - marker.len());
            write!(out, "{marker}{page}")?;
        }
        ReportFormat::Github => {
            let (text, page) = (render_as(&plan, view), plan_page(&plan, "plan", view.verbose));
            let (notes, outputs) = (annotations(&plan), outputs(&plan, code));
            Github::of_environment().publish(&mut out, &text, &notes, page, &outputs)?;
        }
    }
    out.flush()?;
    Ok(code)
}

/// A refusal wins over pending changes.
fn exit_code(plan: &Plan, detailed: bool) -> u8 {
    match plan {
        plan if plan.guard.is_some() || !plan.refused.is_empty() => 4,
        plan if !plan.breaches.is_empty() => 5,
        plan if !plan.blocked.is_empty() => 3,
        plan if detailed && !plan.is_empty() => 2,
        _ => 0,
    }
}
