//! `o7s status`: what the control database says of each tenant and instance. Asks neither Railway nor the instances.

use std::io::Write as _;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::args::{Input, ReportFormat, ReportOutput, duration};
use super::github::{Annotation, Github, Level};
use super::load::load_desired;
use super::progress::{Progress, say};
use super::report::{Failure, marker};
use super::session::{Session, now};
use super::signals::Signals;
use super::{config, render};
use crate::manifest::Desired;
use crate::operator::{self, ObjectStatus, Readiness, statuses};
use crate::plan::{Block, Entry, Page};
use crate::store::FleetRow;
use crate::tenancy::counted;

/// Between two looks of `--wait`; each is two queries.
const POLL: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
#[command(after_help = "\
STATE  active, suspended, paused, pending (no run has made it yet), retained (no manifest declares it), retired,
       leaving (state: absent, not confirmed), deleting (in its grace time), detached (o7s has forgotten it), renaming (a
       former name, not finished); running or asleep for instances
READY  yes when the last run saw it as its manifest asks and in use, so no for a suspended tenant
AGE    how long readiness and its reason have stood; the last error is the message

With O7S_DATABASE_URL neither a Railway token nor the master key is needed.

What is suspended as asked, paused or on its way out counts only when it is asked for by name.

Examples:
  o7s status
  o7s status --wait
  o7s status tenant/acme --wait=Ready --timeout 2m

Exit codes: 0 ready, 1 no control database yet, 2 something is not ready (with --wait: not in time), 7 the control database
is unreachable, 64 no such object, 65 invalid manifest, 77 not allowed")]
pub struct StatusArgs {
    /// Only this object, as in tenant/acme or instance/shared-1
    #[arg(value_name = "KIND/NAME")]
    object: Option<String>,
    #[command(flatten)]
    input: Input,
    #[command(flatten)]
    output: ReportOutput,
    /// Wait until it is so; without a condition until it is Ready
    #[arg(long, value_enum, value_name = "CONDITION", ignore_case = true, num_args = 0..=1, require_equals = true,
        default_missing_value = "Ready")]
    wait: Option<Wanted>,
    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration, requires = "wait")]
    timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Wanted {
    #[value(name = "Ready")]
    Ready,
}

#[derive(Serialize)]
struct Printed<'a> {
    fleet: Option<&'a FleetRow>,
    routing_version: u64,
    ready: bool,
    objects: &'a [ObjectStatus],
}

struct Seen {
    fleet: Option<FleetRow>,
    routing_version: u64,
    routes: usize,
    objects: Vec<ObjectStatus>,
}

impl Seen {
    /// Of what somebody waits for.
    fn is_ready(&self, named: bool) -> bool {
        self.objects.iter().filter(|one| named || !one.is_aside()).all(ObjectStatus::is_ready)
    }
}

pub async fn run(args: StatusArgs) -> Result<u8, Failure> {
    let desired = load_desired(&args.input.files).map_err(Failure::Manifests)?;
    let signals = Signals::listen()?;
    let session = Session::read_only(config::parts(), &desired).await?;
    let shown = async {
        let seen = wait(&args, &desired, &session, &signals).await?;
        show(&args, &seen)
    };
    signals.settle(shown.await)
}

fn show(args: &StatusArgs, seen: &Seen) -> Result<u8, Failure> {
    let ready = seen.is_ready(args.object.is_some());
    print(args, seen, ready)?;
    if !ready && args.wait.is_some() {
        say(&format!("not ready within {} s", args.timeout.as_secs()));
    }
    Ok(if ready { 0 } else { 2 })
}

/// Looks once, or until all is ready or the time is over.
async fn wait(args: &StatusArgs, desired: &Desired, session: &Session, signals: &Signals) -> Result<Seen, Failure> {
    let (progress, until) = (Progress::new(), Instant::now() + args.timeout);
    loop {
        let seen = look(args, desired, session).await?;
        if args.wait.is_none() || seen.is_ready(args.object.is_some()) || Instant::now() >= until {
            progress.clear();
            return Ok(seen);
        }
        let open = seen.objects.iter().filter(|one| !one.is_ready() && !one.is_aside());
        let first = open.clone().next().map(ObjectStatus::address).unwrap_or_default();
        progress.show(&format!("still waiting: {} not ready, {first} first", open.count()));
        tokio::select! {
            () = signals.token.cancelled() => return Err(operator::Error::Stopped.into()),
            () = sleep(POLL) => {}
        }
    }
}

async fn look(args: &StatusArgs, desired: &Desired, session: &Session) -> Result<Seen, Failure> {
    let (fleet, control) = session.load().await?;
    let conditions = session.store.conditions().await?;
    let mut objects = statuses(desired, &control, &conditions);
    if let Some(wanted) = &args.object {
        objects.retain(|one| one.address() == *wanted);
        if objects.is_empty() {
            return Err(Failure::unknown(&control, wanted));
        }
    }
    Ok(Seen { fleet, routing_version: control.routing_version, routes: control.routes.len(), objects })
}

fn print(args: &StatusArgs, seen: &Seen, ready: bool) -> Result<(), Failure> {
    let (fleet, objects) = (seen.fleet.as_ref(), &seen.objects[..]);
    let printed = || Printed { fleet, routing_version: seen.routing_version, ready, objects };
    let name = fleet.map_or("(not known yet)", |fleet| fleet.name.as_str());
    let mut out = anstream::stdout().lock();
    match args.output.format {
        ReportFormat::Text => write!(out, "{}", text(name, seen))?,
        ReportFormat::Json => render::json(&mut out, &printed())?,
        ReportFormat::Jsonl => render::json_lines(&mut out, &printed(), "objects")?,
        ReportFormat::Markdown => {
            let marker = marker("status", fleet.map(|fleet| fleet.name.as_str()));
            let room = args.output.max_bytes as usize - marker.len();
            write!(out, "{marker}{}", page(name, seen).render(room))?;
        }
        ReportFormat::Github => {
            let outputs = [("exitcode", if ready { 0 } else { 2 }.to_string())];
            let notes = annotations(seen, args.object.is_some());
            Github::of_environment().publish(&mut out, &text(name, seen), &notes, page(name, seen), &outputs)?;
        }
    }
    if seen.objects.iter().all(|one| one.ready == Readiness::Unknown) {
        say("no run has looked at this fleet yet: o7s reconcile --once");
    }
    Ok(out.flush()?)
}

fn text(fleet: &str, seen: &Seen) -> String {
    let at = now();
    let rows: Vec<Vec<String>> = seen.objects.iter().map(|one| row(one, at)).collect();
    let table = render::table_text(&["OBJECT", "READY", "STATE", "INSTANCE", "TIER", "AGE", "MESSAGE"], &rows);
    let routes = counted(seen.routes, "route");
    format!("fleet {fleet}  routing table version {}, {routes}\n{table}", seen.routing_version)
}

fn page(fleet: &str, seen: &Seen) -> Page {
    let text = text(fleet, seen);
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    // The head of the table is no object.
    let objects = |place: usize| usize::from(place > 0);
    let entries = lines.enumerate().map(|(place, line)| Entry { text: format!("{line}\n"), objects: objects(place) });
    let block = Block { language: "text", entries: entries.collect(), ..Block::default() };
    Page { head: format!("### o7s status: {fleet}\n\n{first}\n\n"), blocks: vec![block] }
}

fn annotations(seen: &Seen, named: bool) -> Vec<Annotation> {
    let open = seen.objects.iter().filter(|one| !one.is_ready() && (named || !one.is_aside()));
    open.map(|one| Annotation {
        level: Level::Error,
        place: None,
        title: format!("{} is not ready", one.address()),
        message: format!("{}: {}", one.state, one.message),
    })
    .collect()
}

fn row(one: &ObjectStatus, at: DateTime<Utc>) -> Vec<String> {
    let text = |value: Option<String>| value.unwrap_or_default();
    vec![
        one.address(),
        one.ready.as_str().to_owned(),
        one.state.to_string(),
        text(one.instance.as_ref().map(ToString::to_string)),
        text(one.tier.as_ref().map(ToString::to_string)),
        text(one.since.map(|since| age(at - since))),
        one.message.clone(),
    ]
}

/// The largest unit, rounded down. The two clocks may differ; an age is never negative.
fn age(time: chrono::TimeDelta) -> String {
    match time.num_seconds().max(0) {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7_200 => format!("{}m", seconds / 60),
        seconds @ 7_200..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_told_in_its_largest_unit() {
        let shown = |seconds| age(chrono::TimeDelta::seconds(seconds));
        assert_eq!(
            [-5, 0, 119, 120, 7_199, 7_200, 172_799, 172_800].map(shown),
            ["0s", "0s", "119s", "2m", "119m", "2h", "47h", "2d"]
        );
    }
}
