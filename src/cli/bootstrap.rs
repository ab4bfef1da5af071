//! `o7s bootstrap`: from a token to a running, empty control database.

use std::io::Write as _;

use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::args::{BootstrapArgs, Format};
use super::config::Config;
use super::load::load_desired;
use super::progress::{Progress, confirm};
use super::report::Failure;
use super::session::{client, now};
use super::signals::Signals;
use super::{config, render};
use crate::manifest::Desired;
use crate::operator::{self, Bootstrapped, Ground, Tell, Timing, bootstrap, control_url};
use crate::store::{Error as StoreError, FleetRow, Store};
use crate::tenancy::{Secret, counted};

const CONNECT: std::time::Duration = std::time::Duration::from_secs(5);

#[derive(Serialize)]
struct Printed<'a> {
    project: &'a str,
    environment: &'a str,
    made: &'a [String],
    database_url: &'a str,
    requests: u64,
    mutations: u64,
}

pub async fn run(args: BootstrapArgs) -> Result<u8, Failure> {
    let desired = load_desired(&args.input.files).map_err(Failure::Manifests)?;
    let config = config::from_environment()?;
    refuse_another_fleets(&config, &desired).await?;
    let question = format!("Make what is missing of project {} on Railway?", desired.fleet.project);
    if !args.yes && !confirm(&question) {
        super::progress::say("nothing was changed: say yes at the prompt, or give --yes");
        return Ok(4);
    }
    let signals = Signals::listen()?;
    signals.settle(make(&args, &desired, &config, &signals).await)
}

/// A control database that is given by its URL and is another fleet's: what is made would be a second project, and
/// every verb after it would find the first. One that does not answer or is empty says nothing.
async fn refuse_another_fleets(config: &Config, desired: &Desired) -> Result<(), Failure> {
    let Some(url) = &config.database_url else { return Ok(()) };
    let Ok(store) = Store::connect(url, CONNECT).await else { return Ok(()) };
    let Ok((Some(row), _)) = store.load().await else { return Ok(()) };
    let uid = config.keys.fleet_uid(&desired.fleet.name);
    if row.uid == uid {
        return Ok(());
    }
    let have = format!("{} ({})", row.name, row.uid.as_str());
    Err(Failure::OtherFleet { have, want: format!("{} ({})", desired.fleet.name, uid.as_str()) })
}

async fn make(args: &BootstrapArgs, desired: &Desired, config: &Config, signals: &Signals) -> Result<u8, Failure> {
    let (progress, railway) = (Progress::new(), client(config)?);
    let show = |tell: Tell<'_>| progress.tell(tell);
    let ground = Ground {
        railway: &railway,
        keys: &config.keys,
        stop: &signals.token,
        progress: &show,
        clock: &now,
        timing: Timing { ready: args.timeout, ..Timing::default() },
    };
    let done = progress.beside(bootstrap(&ground, &desired.fleet)).await?;
    let inside = config.own_environment.as_deref() == Some(done.environment.as_str());
    let url = control_url(&config.keys, &done.endpoint, inside);
    let store = connect(&url, args.timeout, signals, &|line| progress.show(line)).await?;
    store.migrate().await?;
    let uid = config.keys.fleet_uid(&desired.fleet.name);
    let row = FleetRow {
        uid,
        name: desired.fleet.name.clone(),
        project: done.project.clone(),
        environment: done.environment.clone(),
    };
    remember(&store, row, &done, args.timeout).await?;
    progress.clear();
    let requests = railway.requests();
    if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        super::progress::say("what follows holds the control database's password: keep it out of logs and chats");
    }
    let mut out = anstream::stdout().lock();
    match args.format {
        Format::Json => render::json(
            &mut out,
            &Printed {
                project: done.project.as_str(),
                environment: done.environment.as_str(),
                made: &done.made,
                database_url: url.expose(),
                requests: requests.total(),
                mutations: requests.mutations,
            },
        )?,
        Format::Text => {
            done.made.iter().try_for_each(|made| writeln!(out, "made {made}"))?;
            writeln!(out, "the control database is ready ({}); set", counted(requests.total(), "request"))?;
            writeln!(out, "O7S_DATABASE_URL={}", url.expose())?;
        }
    }
    Ok(0)
}

/// The container runs before its server answers.
async fn connect(
    url: &Secret,
    within: std::time::Duration,
    signals: &Signals,
    show: &dyn Fn(&str),
) -> Result<Store, Failure> {
    let deadline = Instant::now() + within;
    loop {
        match Store::connect(url, CONNECT).await {
            Ok(store) => return Ok(store),
            Err(StoreError::NotListening { .. }) if Instant::now() < deadline => {
                show("still waiting: the control database does not answer yet");
                tokio::select! {
                    () = signals.token.cancelled() => return Err(operator::Error::Stopped.into()),
                    () = sleep(Timing::default().poll) => {}
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Only a fleet without instances is known from the start; with instances the next run rebuilds what is remembered of
/// them, and says so by this row.
async fn remember(
    store: &Store,
    row: FleetRow,
    done: &Bootstrapped,
    wait: std::time::Duration,
) -> Result<(), Failure> {
    let (have, _) = store.load().await?;
    if have.is_some() || done.has_instances {
        return Ok(());
    }
    let mut lease = store.acquire("o7s bootstrap", wait, |_| ()).await?;
    lease.save_fleet(&row).await?;
    lease.release().await;
    Ok(())
}
