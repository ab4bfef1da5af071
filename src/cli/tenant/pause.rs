//! `o7s tenant pause` and `o7s tenant resume`: what runs ends, what comes waits, nobody is cut off.

use std::io::Write as _;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::{World, tenant_name};
use crate::cli::args::{Format, Input, duration};
use crate::cli::progress::{Progress, say};
use crate::cli::reconcile::holder_named;
use crate::cli::render;
use crate::cli::report::Failure;
use crate::cli::session::now;
use crate::cli::signals::Signals;
use crate::store::{Event, Lagging, Outcome, PAUSED, Pausing, RunRecord};
use crate::tenancy::TenantId;

const POLL: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
struct Asked {
    #[arg(value_name = "TENANT", value_parser = tenant_name)]
    tenant: TenantId,
    /// Return when every running router has it in force
    #[arg(long)]
    wait: bool,
    /// How long to wait for that
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = duration, requires = "wait")]
    timeout: Duration,
    #[command(flatten)]
    input: Input,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// How long to wait for another run's lease
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    lock_timeout: Duration,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Its clients stay connected; whoever begins a transaction waits. A reconcile leaves the pause: end it with
o7s tenant resume.

Exit codes: 0 paused, 1 the tenant has no database yet, 2 not in force everywhere in time, 6 another run holds the lease,
7 the control database is unreachable, 64 no such tenant, 65 invalid manifest, 77 not allowed")]
pub(super) struct PauseArgs {
    #[command(flatten)]
    asked: Asked,
    /// How long what runs may take to end by itself, before it is ended
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    patience: Duration,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 resumed, 1 the tenant has no database yet, 2 not in force everywhere in time, 6 another run holds the lease,
7 the control database is unreachable, 64 no such tenant, 65 invalid manifest, 77 not allowed")]
pub(super) struct ResumeArgs {
    #[command(flatten)]
    asked: Asked,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Printed<'a> {
    tenant: &'a TenantId,
    paused: bool,
    changed: bool,
    version: u64,
    routers: &'a Lagging,
}

pub(super) async fn pause(args: &PauseArgs) -> Result<u8, Failure> {
    run(&args.asked, Some(args.patience)).await
}

pub(super) async fn resume(args: &ResumeArgs) -> Result<u8, Failure> {
    run(&args.asked, None).await
}

async fn run(args: &Asked, patience: Option<Duration>) -> Result<u8, Failure> {
    let signals = Signals::listen()?;
    let done = signals.token.run_until_cancelled(set(args, patience)).await;
    signals.settle(done.unwrap_or_else(|| Err(crate::operator::Error::Stopped.into())))
}

async fn set(args: &Asked, patience: Option<Duration>) -> Result<u8, Failure> {
    let world = World::open(&args.input).await?;
    world.route(&args.tenant)?;
    let pausing = write(&world, args, patience).await?;
    let store = &world.session.store;
    let (until, progress) = (Instant::now() + args.timeout, Progress::new());
    let mut routers = store.lagging(&args.tenant, pausing.version).await?;
    while args.wait && !routers.lagging.is_empty() && Instant::now() < until {
        progress.show(&format!("waiting for {} of {} routers", routers.lagging.len(), routers.live));
        sleep(POLL).await;
        routers = store.lagging(&args.tenant, pausing.version).await?;
    }
    progress.clear();
    print(args, patience, pausing, &routers)?;
    Ok(if args.wait && !routers.lagging.is_empty() { 2 } else { 0 })
}

async fn write(world: &World, args: &Asked, patience: Option<Duration>) -> Result<Pausing, Failure> {
    let (verb, reason) = if patience.is_some() { ("pause", PAUSED) } else { ("resume", "Resumed") };
    let on_wait = |holder: &str| say(&format!("waiting for the lease of {holder}"));
    let holder = holder_named(&format!("o7s tenant {verb}"));
    let mut lease = world.session.store.acquire(&holder, args.lock_timeout, on_wait).await?;
    let started = now();
    let Some(pausing) = lease.pause(&args.tenant, patience).await? else { return Err(world.not_made(&args.tenant)) };
    if pausing.changed {
        let message = match patience {
            Some(time) => format!("new transactions wait; what runs has {time:?} to end"),
            None => "transactions begin again".to_owned(),
        };
        let (kind, name) = ("tenant".to_owned(), args.tenant.to_string());
        let event = Event { kind, name, reason: reason.to_owned(), message, cause: None };
        let (id, outcome) = (uuid::Uuid::new_v4(), Outcome::Applied);
        let run = RunRecord { id, started, ended: now(), outcome, plan_digest: None, requests: 0, mutations: 0 };
        lease.record(&run, &[event], &[]).await?;
    }
    lease.release().await;
    Ok(pausing)
}

fn print(args: &Asked, patience: Option<Duration>, pausing: Pausing, routers: &Lagging) -> Result<(), Failure> {
    let Pausing { changed, version } = pausing;
    let (tenant, paused) = (&args.tenant, patience.is_some());
    let mut out = anstream::stdout().lock();
    if args.format == Format::Json {
        return Ok(render::json(&mut out, &Printed { tenant, paused, changed, version, routers })?);
    }
    let word = if paused { "paused" } else { "resumed" };
    let again = if changed { "" } else { ", as before" };
    let there = routers.live - routers.lagging.len() as u64;
    writeln!(out, "{word} {tenant}{again}; in force on {there} of {} routers", routers.live)?;
    for number in &routers.lost {
        say(&format!("router {number} was not seen for 15 s: gone, or cut off and still serving what it had"));
    }
    Ok(())
}
