//! `o7s observe`: everything a plan needs to know of the world, as one JSON document without a secret. Changes nothing.

use std::io::{self, Write as _};
use std::path::Path;

use super::args::Input;
use super::config;
use super::load::load_desired;
use super::planned::read_file;
use super::progress::Progress;
use super::report::Failure;
use super::session::Session;
use super::signals::Signals;
use crate::manifest::Desired;
use crate::operator::{Tell, observe};
use crate::plan::{Live, Observation, Reads};

/// Some 2 kB a tenant: above this it is no observation of ours.
const FILE_BYTES_MAX: u64 = 1 << 30;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  o7s observe > live.json             where token and key are
  o7s plan --live live.json           where they are not, as for a fork's pull request

The document holds no password, no token and no value of a variable that o7s did not write.

Exit codes: 0 observed, 4 refused, 7 unreachable, 65 invalid manifest, 77 not allowed")]
pub struct ObserveArgs {
    #[command(flatten)]
    pub input: Input,
}

pub async fn run(args: ObserveArgs) -> Result<u8, Failure> {
    let desired = load_desired(&args.input.files).map_err(Failure::Manifests)?;
    let progress = Progress::new();
    let live = look(&desired, &progress).await?.live;
    progress.clear();
    let mut out = io::BufWriter::new(io::stdout().lock());
    serde_json::to_writer(&mut out, &Observation::new(desired.fleet.name.clone(), live)).map_err(io::Error::from)?;
    writeln!(out)?;
    out.flush()?;
    Ok(0)
}

/// What was seen, and what it cost.
pub struct Looked {
    pub live: Live,
    pub reads: Reads,
}

/// Holds no lease: what is seen may be in the middle of another run's work.
pub async fn look(desired: &Desired, progress: &Progress) -> Result<Looked, Failure> {
    let signals = Signals::listen()?;
    let mut session = Session::open(config::from_environment()?, desired).await?;
    let (row, control) = session.load().await?;
    let place = session.place(row.as_ref(), desired).await?;
    let railway = session.take_railway();
    let show = |tell: Tell<'_>| progress.tell(tell);
    let door = session.door(place, &signals.token, &show, std::time::Duration::ZERO)?;
    let live = progress.beside(observe(&door, &session.servers()?, railway, control)).await?;
    let client = session.client()?;
    let reads = Reads { requests: client.requests().total(), budget: client.remaining() };
    Ok(Looked { live, reads })
}

/// What a file says instead, without environment or network.
pub fn read(path: &Path, desired: &Desired) -> Result<Live, Failure> {
    let bytes = read_file(path, FILE_BYTES_MAX)?;
    let read = Observation::read(&bytes).and_then(|observation| observation.of(&desired.fleet));
    read.map_err(|error| Failure::File { path: path.to_owned(), error })
}
