//! `o7s plan`: what reconcile would do. Holds no lease and changes nothing.

use std::io;

use super::args::{Format, PlanArgs};
use super::load::load_desired;
use super::observe;
use super::progress::Progress;
use super::render;
use super::report::Failure;
use crate::plan::{Consent, Plan, check, plan, render as text};

pub async fn run(args: PlanArgs) -> Result<u8, Failure> {
    let desired = load_desired(&args.input.files).map_err(Failure::Manifests)?;
    let progress = Progress::new();
    let live = match &args.live {
        Some(path) => observe::read(path, &desired)?,
        None => observe::look(&desired, &progress).await?,
    };
    let consent = Consent { deletions: args.allow_delete.iter().cloned().collect() };
    let plan = plan(&desired, &live, &consent);
    let found = check(&plan, &desired, &live);
    if !found.is_empty() {
        return Err(crate::operator::Error::Unsafe { found }.into());
    }
    progress.clear();
    let mut out = anstream::stdout().lock();
    match args.output.format {
        Format::Json => render::json(&mut out, &plan)?,
        Format::Text => render::plan_text(&mut out, &text(&plan, args.output.verbose), args.output.coloured())?,
    }
    drop(out);
    io::Write::flush(&mut io::stdout())?;
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
