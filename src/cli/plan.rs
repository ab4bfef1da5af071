//! `o7s plan`: what reconcile would do. Holds no lease and changes nothing.

use std::io;

use super::args::{Format, PlanArgs};
use super::config;
use super::load::load_desired;
use super::progress::Progress;
use super::render;
use super::report::Failure;
use super::session::Session;
use super::signals::Signals;
use crate::operator::observe;
use crate::plan::{Consent, Plan, check, plan, render as text};

pub async fn run(args: PlanArgs) -> Result<u8, Failure> {
    let desired = load_desired(&args.input.files).map_err(Failure::Manifests)?;
    let (signals, progress) = (Signals::listen()?, Progress::new());
    let mut session = Session::open(config::from_environment()?, &desired).await?;
    let (row, control) = session.load().await?;
    let place = session.place(row.as_ref(), &desired).await?;
    let railway = session.take_railway();
    let show = |line: &str| progress.show(line);
    let door = session.door(place, &signals.token, &show, std::time::Duration::ZERO);
    let live = observe(&door, &session.servers(), railway, control).await?;
    let consent = Consent { deletions: args.allow_delete.iter().cloned().collect() };
    let plan = plan(&desired, &live, &session.config.keys, &consent);
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
