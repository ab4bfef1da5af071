//! Errors as people and programs read them: what happened, why, what to do next.

use std::io::{self, Write};
use std::path::PathBuf;

use super::config;
use crate::manifest::Problems;
use crate::{operator, plan, railway, store};

/// Whatever ends a command early.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{}", .0.count())]
    Manifests(Problems),
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Railway(#[from] railway::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Operator(#[from] operator::Error),
    #[error("the control database belongs to another fleet: {have}, not {want}")]
    OtherFleet { have: String, want: String },
    /// A file that holds something else than it should.
    #[error("{}: {error}", path.display())]
    File {
        path: PathBuf,
        #[source]
        error: plan::Error,
    },
    #[error("{}: {source}", path.display())]
    OpenFile { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Usage(String),
    #[error("nothing is known of {object}")]
    Unknown { object: String },
    #[error("{object} has no database yet")]
    NotMade { object: String },
    #[error("the lease of epoch {epoch} changed hands meanwhile")]
    ChangedHands { epoch: u64 },
    #[error("psql cannot be started: {source}")]
    Psql { source: io::Error },
    #[error("not overwritten: {} there already", there(.paths))]
    Exists { paths: Vec<PathBuf>, flag: &'static str },
    #[error("cannot write {}: {source}", .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Failure {
    fn help(&self) -> String {
        match self {
            Failure::Manifests(_) | Failure::Usage(_) => String::new(),
            Failure::Config(error) => error.help().to_owned(),
            Failure::Railway(error) => error.help(),
            Failure::Store(error) => error.help().to_owned(),
            Failure::Operator(error) => error.help(),
            Failure::OtherFleet { .. } => {
                "check O7S_DATABASE_URL, O7S_MASTER_KEY and the Fleet's name: a fleet is its name under its key"
                    .into()
            }
            Failure::Unknown { .. } => {
                "no manifest declares it and the control database has none: o7s status lists what there is".into()
            }
            Failure::NotMade { .. } => "make it: o7s reconcile --once".into(),
            Failure::ChangedHands { .. } => "look again: o7s lease show".into(),
            Failure::Psql { .. } => {
                "install Postgres' client (package postgresql-client), or give another client o7s tenant url".into()
            }
            Failure::Exists { flag, .. } => format!("name another folder, or overwrite with {flag}"),
            Failure::Write { .. } => "check the path, its permissions and the disk".into(),
            Failure::File { error, .. } => error.help().to_owned(),
            Failure::OpenFile { .. } => "check the path, and that the user o7s runs as may read it".into(),
            Failure::Io(_) => "check the disk, or who reads the output".into(),
        }
    }

    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Manifests(_) => 65,
            Failure::Config(error) => error.exit_code(),
            Failure::Railway(error) => error.exit_code(),
            Failure::Store(error) => operator::store_exit_code(error),
            Failure::Operator(error) => error.exit_code(),
            Failure::OtherFleet { .. } | Failure::Exists { .. } | Failure::ChangedHands { .. } => 4,
            Failure::File { .. } | Failure::OpenFile { .. } => 65,
            Failure::Usage(_) | Failure::Unknown { .. } => 64,
            Failure::NotMade { .. } | Failure::Psql { .. } | Failure::Write { .. } | Failure::Io(_) => 1,
        }
    }

    pub fn print(&self, err: &mut dyn Write) -> io::Result<()> {
        if let Failure::Manifests(problems) = self {
            return err.write_all(problems.render().as_bytes());
        }
        writeln!(err, "error: {}", chain(self))?;
        match self.help() {
            help if help.is_empty() => Ok(()),
            help => writeln!(err, "next: {help}"),
        }
    }
}

fn there(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    format!("{} {}", names.join(", "), if names.len() == 1 { "is" } else { "are" })
}

/// An error and its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(&format!(": {cause_text}"));
        }
        source = cause.source();
    }
    text
}
