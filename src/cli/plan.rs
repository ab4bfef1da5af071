//! `o7s plan`: what reconcile would do. Holds no lease and changes nothing.

use std::fs;
use std::io::{self, Write as _};

use super::args::{Format, PlanArgs};
use super::planned::{Planned, planned};
use super::render;
use super::report::Failure;
use crate::plan::{Plan, View, render_as};

pub async fn run(args: PlanArgs) -> Result<u8, Failure> {
    let Planned { plan, inputs, reads, seen } = planned(&args.wanted).await?;
    let document = plan.document(&inputs, reads);
    if let Some(path) = &args.out {
        let mut file = Vec::new();
        render::json(&mut file, &document)?;
        fs::write(path, file).map_err(|source| Failure::Write { path: path.clone(), source })?;
    }
    // Not through `anstream`: who asks for colours in a file gets them.
    let mut out = io::stdout().lock();
    match args.output.format {
        Format::Json => render::json(&mut out, &document)?,
        Format::Text => {
            let view = View { verbose: args.output.verbose, seen };
            render::plan_text(&mut out, &render_as(&plan, view), args.output.coloured())?;
        }
    }
    drop(out);
    io::stdout().flush()?;
    Ok(exit_code(&plan, args.detailed_exitcode))
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
