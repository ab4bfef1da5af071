//! `o7s lease`: who may write, and taking it from one that is stuck.

use std::io::Write as _;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::args::{Format, Input};
use super::progress::{confirm, say};
use super::reconcile::holder_named;
use super::report::Failure;
use super::session::Session;
use super::{config, load, render};
use crate::store::Holder;

#[derive(Debug, Args)]
pub struct LeaseArgs {
    #[command(subcommand)]
    command: LeaseCommand,
}

#[derive(Debug, Subcommand)]
enum LeaseCommand {
    /// Show who holds the lease
    Show(ShowArgs),
    /// Take the lease from its holder: its writes are refused from then on
    Steal(StealArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
A lease has no end of its own: it is held by a connection, and free at most 5 s after that breaks. All times are those of
the control database's clock. With O7S_DATABASE_URL neither a Railway token nor the master key is needed.

Exit codes: 0 shown, 1 no control database yet, 7 it is unreachable, 65 invalid manifest, 77 not allowed")]
struct ShowArgs {
    #[command(flatten)]
    input: Input,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Args)]
#[command(after_help = "\
For a run that hangs or was frozen and whose connection still stands. Its epoch is overtaken first, so that nothing it
sends afterwards is written, then its connection is ended. A request to Railway that it has already sent may still take
effect; the next run finds that.

Exit codes: 0 taken, or nobody held it; 1 no control database yet, 4 not confirmed, or it changed hands meanwhile,
7 the control database is unreachable, 65 invalid manifest, 77 not allowed")]
struct StealArgs {
    #[command(flatten)]
    input: Input,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Stolen {
    stolen: bool,
    from: Holder,
    /// The newest one now.
    epoch: u64,
}

pub async fn run(args: LeaseArgs) -> Result<u8, Failure> {
    match args.command {
        LeaseCommand::Show(args) => show(&args).await,
        LeaseCommand::Steal(args) => steal(&args).await,
    }
}

async fn open(input: &Input) -> Result<Session, Failure> {
    let desired = load::load_desired(&input.files).map_err(Failure::Manifests)?;
    let session = Session::read_only(config::parts(), &desired).await?;
    session.load().await?;
    Ok(session)
}

async fn show(args: &ShowArgs) -> Result<u8, Failure> {
    let holder = open(&args.input).await?.store.holder().await?;
    let mut out = anstream::stdout().lock();
    match args.format {
        Format::Json => render::json(&mut out, &holder)?,
        Format::Text => {
            writeln!(out, "{}", describe(&holder))?;
            out.flush()?;
        }
    }
    Ok(0)
}

fn describe(holder: &Holder) -> String {
    let at = |time: chrono::DateTime<chrono::Utc>| {
        let ago = (holder.now - time).num_seconds().max(0);
        format!("{} UTC ({ago} s ago)", time.format("%Y-%m-%d %H:%M:%S"))
    };
    let epoch = holder.epoch;
    match &holder.session {
        None if epoch == 0 => "the lease is free and was never taken".to_owned(),
        None => format!(
            "the lease is free\nlast holder  {}, since {}\nepoch        {epoch}",
            holder.holder,
            at(holder.taken_at)
        ),
        Some(session) => format!(
            "the lease is held\nholder       {}\nsince        {}\nepoch        {epoch}\nconnection   from {}, last heard {}\n\
             ends         at most 5 s after its connection",
            holder.holder,
            at(holder.taken_at),
            session.address.as_deref().unwrap_or("the server's own machine"),
            at(session.last_heard_at),
        ),
    }
}

async fn steal(args: &StealArgs) -> Result<u8, Failure> {
    let session = open(&args.input).await?;
    let from = session.store.holder().await?;
    if from.session.is_none() {
        say("nobody holds the lease: nothing to steal");
        return print(args, Stolen { stolen: false, epoch: from.epoch, from });
    }
    say(&describe(&from));
    if !args.yes && !confirm("Take the lease away from it?") {
        say("nothing was changed: say yes at the prompt, or give --yes");
        return Ok(4);
    }
    match session.store.steal(from.epoch, &holder_named("o7s lease steal")).await? {
        Some(epoch) => print(args, Stolen { stolen: true, from, epoch }),
        None => Err(Failure::ChangedHands { epoch: from.epoch }),
    }
}

fn print(args: &StealArgs, stolen: Stolen) -> Result<u8, Failure> {
    let mut out = anstream::stdout().lock();
    match args.format {
        Format::Json => render::json(&mut out, &stolen)?,
        Format::Text if stolen.stolen => {
            writeln!(
                out,
                "taken from {}; the newest epoch is {}, and the lease is free",
                stolen.from.holder, stolen.epoch
            )?;
        }
        Format::Text => {}
    }
    out.flush()?;
    Ok(0)
}
