//! `o7s doctor`: is everything there that a run needs, and what to do where it is not. Works half-way when things are
//! broken: what cannot be looked at is said and skipped.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::args::{Format, Input};
use super::config::{self, Config, Parts};
use super::load::load_desired;
use super::render;
use super::report::Failure;
use super::session::{client, now, servers};
use crate::manifest::Desired;
use crate::operator::{Door, Finding, Level, Search, Tell, Timing, control_url, doctor};
use crate::plan::{ControlLive, RailwayLive};
use crate::railway::Client;
use crate::store::{FleetRow, SCHEMA_VERSION, Store};
use crate::tenancy::{EnvironmentId, ProjectId, Secret, counted};

const CONNECT: Duration = Duration::from_secs(10);
/// The `Date` header has whole seconds, and its answer was a while on the way.
const HEADER_PRECISION: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
#[command(after_help = "\
Looks at the manifests, the token, the plan's limits, the clocks, the control database, the master key, each instance that
is awake, and the versions. Changes nothing, wakes nothing, and sends Railway two to four requests.

Exit codes: 0 all is well or only warned of, 1 something failed")]
pub struct DoctorArgs {
    #[command(flatten)]
    input: Input,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Printed<'a> {
    level: Level,
    findings: &'a [Finding],
    requests: u64,
}

/// What has been found so far.
#[derive(Default)]
struct Round {
    findings: Vec<Finding>,
    requests: u64,
}

impl Round {
    fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
    }
}

pub async fn run(args: DoctorArgs) -> Result<u8, Failure> {
    let mut round = Round::default();
    round.add(versions());
    round.add(psql());
    let desired = manifests(&mut round, &args);
    let parts = config::parts();
    if let Err(problem) = &parts.token {
        round.add(Finding::fail("token", problem.to_string(), problem.help()));
    }
    if let Err(problem) = &parts.keys {
        round.add(Finding::fail("master key", problem.to_string(), problem.help()));
    }
    if let Some(desired) = &desired {
        look(&mut round, desired, parts).await;
    }
    print(&args, &round)?;
    Ok(u8::from(worst(&round.findings) == Level::Fail))
}

fn worst(findings: &[Finding]) -> Level {
    findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
}

fn versions() -> Finding {
    Finding::ok("o7s", format!("version {}, control schema {SCHEMA_VERSION}", env!("CARGO_PKG_VERSION")))
}

/// Only `o7s tenant connect` needs it.
fn psql() -> Finding {
    let asked = std::process::Command::new("psql").arg("--version").stdin(std::process::Stdio::null()).output();
    match asked {
        Ok(answer) if answer.status.success() => {
            Finding::ok("psql", String::from_utf8_lossy(&answer.stdout).trim().to_owned())
        }
        _ => Finding::warn(
            "psql",
            "not found",
            "install Postgres' client if you want o7s tenant connect; nothing else needs it",
        ),
    }
}

fn manifests(round: &mut Round, args: &DoctorArgs) -> Option<Desired> {
    match load_desired(&args.input.files) {
        Ok(desired) => {
            let count = desired.tenants.len();
            round.add(Finding::ok(
                "manifests",
                format!("valid: fleet {}, {}", desired.fleet.name, counted(count, "tenant")),
            ));
            Some(desired)
        }
        Err(problems) => {
            let message = counted(problems.count(), "error");
            let next = "o7s validate shows them; without the Fleet nothing below can be looked at";
            round.add(Finding::fail("manifests", message, next));
            None
        }
    }
}

async fn look(round: &mut Round, desired: &Desired, parts: Parts) {
    let (database_url, complete) = (parts.database_url.clone(), parts.complete().ok());
    let railway = match &complete {
        Some(config) => railway(round, desired, config).await,
        None => None,
    };
    let keys = complete.as_ref().map(|config| &config.keys);
    let url = match (database_url, &railway, keys) {
        (Some(url), _, _) => Some(url),
        (None, Some(seen), Some(_)) => seen.control_url.clone(),
        (None, _, _) => None,
    };
    let loaded = match url {
        Some(url) => database(round, &url).await,
        None => {
            let next = "set O7S_DATABASE_URL, or repair the token: it is found through Railway then";
            round.add(Finding::fail("control database", "its address is not known", next));
            None
        }
    };
    let Some(config) = &complete else { return };
    let fits = loaded.as_ref().is_none_or(|(row, _)| key_fits(round, row.as_ref(), desired, config));
    if let (Some(seen), Some((_, control)), true) = (railway, loaded, fits) {
        instances(round, desired, config, seen, control).await;
    }
}

/// What Railway told.
struct Seen {
    client: Arc<Client>,
    place: (ProjectId, EnvironmentId),
    live: RailwayLive,
    control_url: Option<Secret>,
}

/// Two requests; another one or two when the control database's address is not given.
async fn railway(round: &mut Round, desired: &Desired, config: &Config) -> Option<Seen> {
    let client = match client(config) {
        Ok(client) => Arc::new(client),
        Err(failure) => {
            round.add(Finding::fail("Railway", failure.to_string(), "correct O7S_RAILWAY_URL"));
            return None;
        }
    };
    let seen = ask(round, desired, config, &client).await;
    if let Some(heard) = client.heard() {
        round.findings.extend(doctor::allowance(&heard));
        if let Some(date) = heard.date {
            round.add(doctor::clock("clock", "Railway's", heard.at, date, HEADER_PRECISION));
        }
    }
    round.requests = client.requests().total();
    seen
}

async fn ask(round: &mut Round, desired: &Desired, config: &Config, client: &Arc<Client>) -> Option<Seen> {
    let fleet = &desired.fleet;
    let found = match client.find(&fleet.project, &fleet.environment).await {
        Ok(found) => found,
        Err(error) => {
            round.add(doctor::railway_failed("token", &error));
            return None;
        }
    };
    let there = !found.projects.is_empty();
    round.add(doctor::token(&found.reach, found.workspaces.len(), there, &fleet.project));
    let search = Search { railway: client, keys: &config.keys, fleet };
    let place = match search.chosen(&found) {
        Ok(place) => place,
        Err(error) => {
            round.add(Finding::fail("project", error.to_string(), error.help()));
            return None;
        }
    };
    let uid = config.keys.fleet_uid(&fleet.name);
    let live = match client.read_live(&place.0, &place.1, &config.keys, &uid).await {
        Ok(live) => live,
        Err(error) => {
            round.add(doctor::railway_failed("project", &error));
            return None;
        }
    };
    round.add(Finding::ok("project", format!("{}/{}", live.project_name, live.environment_name)));
    round.findings.extend(doctor::project(&live, desired));
    let control_url = match &config.database_url {
        Some(_) => None,
        None => match search.endpoint((&place.0, &place.1), &live).await {
            Ok(endpoint) => {
                let inside = config.own_environment.as_deref() == Some(place.1.as_str());
                Some(control_url(&config.keys, &endpoint, inside))
            }
            Err(error) => {
                round.add(Finding::fail("control service", error.to_string(), error.help()));
                None
            }
        },
    };
    Some(Seen { client: Arc::clone(client), place, live, control_url })
}

async fn database(round: &mut Round, url: &Secret) -> Option<(Option<FleetRow>, ControlLive)> {
    let store = match Store::connect(url, CONNECT).await {
        Ok(store) => store,
        Err(error) => {
            round.add(doctor::control(&Err(error)));
            return None;
        }
    };
    let (row, state) = match store.load().await {
        Ok((row, control)) => (row, Ok(control)),
        Err(error) => (None, Err(error)),
    };
    round.add(doctor::control(&state));
    let asked = tokio::time::Instant::now();
    if let Ok(server) = store.server().await {
        round.add(Finding::ok("control server", format!("Postgres {}", server.version / 10_000)));
        round.add(doctor::clock("database clock", "the control database's", now(), server.now, asked.elapsed()));
    }
    state.ok().filter(|control| control.schema_version != 0).map(|control| (row, control))
}

/// A fleet is its name under its key.
fn key_fits(round: &mut Round, row: Option<&FleetRow>, desired: &Desired, config: &Config) -> bool {
    let uid = config.keys.fleet_uid(&desired.fleet.name);
    let finding = match row {
        None => {
            Finding::ok("master key", "strong enough; no run has told yet which fleet the control database is of")
        }
        Some(row) if row.uid == uid => Finding::ok("master key", format!("is that of fleet {}", row.name)),
        Some(row) if row.name == desired.fleet.name => Finding::fail(
            "master key",
            format!("fleet {} was made with another key", row.name),
            "set O7S_MASTER_KEY to the key it was made with; with another one no password fits",
        ),
        Some(row) => Finding::fail(
            "master key",
            format!("the control database belongs to fleet {}, the manifests to {}", row.name, desired.fleet.name),
            "check O7S_DATABASE_URL and the Fleet's name",
        ),
    };
    let fits = finding.level == Level::Ok;
    round.add(finding);
    fits
}

async fn instances(round: &mut Round, desired: &Desired, config: &Config, seen: Seen, control: ControlLive) {
    let fleet = config.keys.fleet_uid(&desired.fleet.name);
    let (stop, silent) = (CancellationToken::new(), |_: Tell<'_>| {});
    let inside = config.own_environment.as_deref() == Some(seen.place.1.as_str());
    let door = Door {
        railway: &seen.client,
        project: seen.place.0.clone(),
        environment: seen.place.1.clone(),
        keys: &config.keys,
        fleet: fleet.clone(),
        stop: &stop,
        leading: None,
        progress: &silent,
        clock: &now,
        timing: Timing::default(),
        run: uuid::Uuid::nil(),
        inside,
    };
    let found = doctor::instances(&door, &servers(&config.keys, &fleet), seen.live, control).await;
    round.findings.extend(found);
    round.requests = seen.client.requests().total();
}

fn print(args: &DoctorArgs, round: &Round) -> Result<(), Failure> {
    let level = worst(&round.findings);
    let mut out = anstream::stdout().lock();
    if args.format == Format::Json {
        let printed = Printed { level, findings: &round.findings, requests: round.requests };
        return Ok(render::json(&mut out, &printed)?);
    }
    let width = round.findings.iter().map(|finding| finding.part.len()).max().unwrap_or(0);
    for finding in &round.findings {
        writeln!(out, "{:<4}  {:<width$}  {}", finding.level.as_str(), finding.part, finding.message)?;
        if let Some(next) = &finding.next {
            writeln!(out, "      {:<width$}  next: {next}", "")?;
        }
    }
    let count = |level| round.findings.iter().filter(|finding| finding.level == level).count();
    let (warned, failed) = (count(Level::Warn), count(Level::Fail));
    writeln!(out, "{failed} failed, {warned} warned of; {} to Railway", counted(round.requests, "request"))?;
    Ok(out.flush()?)
}
