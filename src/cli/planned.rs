//! From manifests and the world, or an observation of it, to a plan: what `plan` and `diff` share.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use clap::Args;
use tokio::time::Instant;

use super::args::{Input, deletion_key};
use super::load::load_with_sources;
use super::observe::{self, Looked};
use super::progress::Progress;
use super::report::Failure;
use crate::manifest::{Desired, Source};
use crate::plan::{Consent, Inputs, Pin, Plan, Reads, Seen, Target, check, plan};
use crate::tenancy::{Digest, TenantId};

/// A plan of 10,000 changes has some 10 MB: above this it is no plan of ours.
const PLAN_BYTES_MAX: u64 = 1 << 28;

/// What is planned, and with what.
#[derive(Debug, Args)]
pub struct Wanted {
    #[command(flatten)]
    pub input: Input,
    /// Plan with this observation (see `o7s observe`) instead of looking: needs no token, key or network
    #[arg(long, value_name = "FILE")]
    pub live: Option<PathBuf>,
    #[command(flatten)]
    pub allowed: Allowed,
}

/// What a run may do.
#[derive(Debug, Args)]
pub struct Allowed {
    /// Only this and what it needs, as in tenant/acme, pool/shared, 'tenant/a*'; repeatable; deletes nothing
    #[arg(long = "target", value_name = "KIND/NAME", value_parser = Target::parse)]
    pub targets: Vec<Target>,
    /// Second key of a deletion: tenant/NAME@YYYY-MM-DD, no older than a day
    #[arg(long, value_name = "tenant/NAME@DATE", value_parser = deletion_key)]
    pub allow_delete: Vec<(TenantId, chrono::NaiveDate)>,
}

impl Allowed {
    /// `pinned` brings its own targets.
    pub fn consent(&self, pinned: Option<Pin>) -> Consent {
        let only = pinned.as_ref().map_or_else(|| self.targets.clone(), |pin| pin.targets().to_vec());
        Consent { deletions: self.allow_delete.iter().cloned().collect(), only, pinned }
    }
}

pub struct Planned {
    pub plan: Plan,
    pub inputs: Inputs,
    pub reads: Reads,
    pub seen: Seen,
}

pub async fn planned(wanted: &Wanted) -> Result<Planned, Failure> {
    let loaded = manifests(&wanted.input)?;
    let fleet = loaded.0.fleet.name.to_string();
    planned_of(wanted, loaded).await.map_err(|failure| failure.of(&fleet))
}

async fn planned_of(wanted: &Wanted, (desired, inputs): (Desired, Inputs)) -> Result<Planned, Failure> {
    let (plan, reads, seen) = plan_of(&desired, wanted.live.as_deref(), &wanted.allowed.consent(None)).await?;
    Ok(Planned { plan, inputs, reads, seen })
}

/// With the observation in the file `live`; without one it looks.
pub async fn plan_of(
    desired: &Desired,
    live: Option<&Path>,
    consent: &Consent,
) -> Result<(Plan, Reads, Seen), Failure> {
    let (progress, begun) = (Progress::new(), Instant::now());
    let (live, reads, seen) = match live {
        Some(path) => (observe::read(path, desired)?, Reads::default(), Seen::Saved),
        None => {
            let Looked { live, reads } = observe::look(desired, &progress).await?;
            (live, reads, Seen::Read { requests: reads.requests, took: begun.elapsed() })
        }
    };
    progress.clear();
    let plan = plan(desired, &live, consent);
    let found = check(&plan, desired, &live);
    if !found.is_empty() {
        return Err(crate::operator::Error::Unsafe { found }.into());
    }
    Ok((plan, reads, seen))
}

pub fn manifests(input: &Input) -> Result<(Desired, Inputs), Failure> {
    let (desired, mut sources) = load_with_sources(&input.files).map_err(Failure::Manifests)?;
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    Ok((desired, Inputs { digest: digest(&sources), files: sources.len() }))
}

/// The length in front keeps a path and its text apart from the next ones.
fn digest(sources: &[Source]) -> Digest {
    let mut bytes = Vec::with_capacity(sources.iter().map(|source| source.path.len() + source.text.len() + 16).sum());
    for part in sources.iter().flat_map(|source| [&source.path, &source.text]) {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    Digest::of(&bytes)
}

/// A plan that `plan --out` saved.
pub fn read_pin(path: &Path) -> Result<Pin, Failure> {
    let bytes = read_file(path, PLAN_BYTES_MAX)?;
    Pin::read(&bytes).map_err(|error| Failure::File { path: path.to_owned(), error })
}

/// A longer file is cut, and then is not what it should be.
pub fn read_file(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = |file: File| -> io::Result<usize> {
        // Room for the whole at once: growing step by step would copy a large file several times.
        let len = file.metadata()?.len().min(bytes_max);
        bytes.reserve(usize::try_from(len).unwrap_or(0) + 1);
        file.take(bytes_max).read_to_end(&mut bytes)
    };
    match File::open(path).and_then(read) {
        Ok(_) => Ok(bytes),
        Err(source) => Err(Failure::OpenFile { path: path.to_owned(), source }),
    }
}
