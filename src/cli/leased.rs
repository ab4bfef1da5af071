//! What verbs that write share: the lease for the time of one piece of work, and a look at the world under it.

use std::time::Duration;

use clap::Args;

use super::args::{Format, Input};
use super::config;
use super::progress::Progress;
use super::report::Failure;
use super::session::Session;
use super::signals::Signals;
use crate::manifest::Desired;
use crate::operator::{ControlDatabase, Door, Error, Instances, Tell, observe};
use crate::plan::Live;

/// Flags of a verb that changes one object.
#[derive(Debug, Clone, Args)]
pub struct WriteArgs {
    #[command(flatten)]
    pub input: Input,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// How long to wait for another run's lease
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = super::args::duration)]
    pub lock_timeout: Duration,
    /// How long a service may take to come up
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = super::args::duration)]
    pub timeout: Duration,
}

/// Everything the work is done with, under the lease.
pub struct Held<'a> {
    pub door: Door<'a>,
    pub control: ControlDatabase<'a>,
    pub servers: Instances<'a>,
    pub live: Live,
    pub progress: &'a Progress,
}

/// Takes the lease as `who`, looks, does `work`, and gives the lease back however that ends.
pub async fn leased(
    who: &str,
    args: &WriteArgs,
    desired: &Desired,
    work: impl AsyncFnOnce(&Held<'_>) -> Result<u8, Failure>,
) -> Result<u8, Failure> {
    let signals = Signals::listen()?;
    let result = under_signals(who, args, desired, &signals, work).await;
    signals.settle(result)
}

async fn under_signals(
    who: &str,
    args: &WriteArgs,
    desired: &Desired,
    signals: &Signals,
    work: impl AsyncFnOnce(&Held<'_>) -> Result<u8, Failure>,
) -> Result<u8, Failure> {
    let progress = Progress::new();
    let mut session = Session::open(config::from_environment()?, desired).await?;
    let railway = session.take_railway();
    let session = &session;
    let on_wait = |holder: &str| progress.show(&format!("waiting for the lease of {holder}"));
    let holder = format!("{who}, pid {}", std::process::id());
    let lease = tokio::select! {
        lease = session.store.acquire(&holder, args.lock_timeout, on_wait) => lease?,
        () = signals.token.cancelled() => return Err(Error::Stopped.into()),
    };
    let (row, loaded) = session.load().await?;
    let place = session.place(row.as_ref(), desired).await?;
    let show = |tell: Tell<'_>| progress.tell(tell);
    let door = session.door(place, &signals.token, &show, args.timeout)?;
    let servers = session.servers()?;
    let live = progress.beside(observe(&door, &servers, railway, loaded)).await?;
    let control = ControlDatabase::new(&session.store, lease);
    let held = Held { door, control, servers, live, progress: &progress };
    let done = progress.beside(work(&held)).await;
    held.control.release().await;
    progress.clear();
    done
}
