//! What the local Railway refuses, in the words Railway uses (reported in third-party clients, 2026), and what can go
//! wrong around it.

use std::path::PathBuf;

use super::cluster_error::ClusterError;
use super::code::Code;

/// A refusal that a client sees as a GraphQL error. The texts are what clients match on: Railway sends one code for
/// nearly everything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("Not Authorized")]
    NotAuthorized,
    /// It was there once: Railway does not say "not found" then.
    #[error("Not Authorized")]
    Gone,
    #[error("Project Token not found")]
    NoProjectToken,
    #[error("{0} not found")]
    NotFound(&'static str),
    #[error("A {kind} named \"{name}\" already exists in this project")]
    NameTaken { kind: &'static str, name: String },
    #[error("You are creating {0} too quickly, please try again in a second")]
    TooQuickly(&'static str),
    #[error("Invalid input: {0}")]
    Invalid(String),
    #[error("{0}")]
    Limit(String),
    #[error("An operation is already in progress, please try again")]
    InProgress,
    #[error("Cannot redeploy without a snapshot")]
    NoSnapshot,
    #[error(
        "The environment changed since this plan was computed. Re-run plan and review the changes before applying."
    )]
    StaleBase,
    #[error("Problem processing request")]
    Injected,
    /// Never an invented value: a client that needs more is told what is missing.
    #[error("{0} is not simulated by the local Railway")]
    NotSimulated(String),
}

impl Refusal {
    /// `extensions.code` of the error with this text: all but one are alike on Railway.
    pub fn code(text: &str) -> &'static str {
        if text == Refusal::StaleBase.to_string() { "STALE_ENVIRONMENT_BASE" } else { "INTERNAL_SERVER_ERROR" }
    }
}

/// What stops `o7s local`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {doing} {}", path.display())]
    File { doing: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{} cannot be read: {reason}", path.display())]
    State { path: PathBuf, reason: String },
    #[error("the master key in {} is damaged: {reason}", path.display())]
    Key { path: PathBuf, reason: String },
    #[error("port {port} of 127.0.0.1 is in use by another program")]
    PortTaken { port: u16, source: std::io::Error },
    #[error("no free port found on 127.0.0.1 from {from} to {to}")]
    NoPort { from: u16, to: u16 },
    #[error("the system gives no random bytes")]
    NoChance,
    #[error("no local Railway runs on {}", data.display())]
    NotRunning { data: PathBuf },
    #[error("the local Railway on {} does not answer", data.display())]
    Silent { data: PathBuf, source: reqwest::Error },
    #[error("the local Railway was not ready within {waited_s} s")]
    NotReady { waited_s: u64, log: PathBuf },
    #[error("the local Railway ended before it was ready: {said}")]
    DiedEarly { said: String, log: PathBuf },
    #[error("process {pid}, the local Railway on {}, does not end", data.display())]
    DoesNotEnd { pid: u32, data: PathBuf },
    #[error("the local Railway refused: {0}")]
    Refused(String),
    #[error(transparent)]
    Postgres(#[from] ClusterError),
    #[error("cannot start a runtime or a process")]
    System(#[from] std::io::Error),
}

impl Error {
    pub fn code(&self) -> Code {
        match self {
            Error::File { .. } => Code::File,
            Error::State { .. } | Error::Key { .. } => Code::State,
            Error::PortTaken { .. } => Code::PortTaken,
            Error::NoPort { .. } | Error::NoChance | Error::System(_) => Code::Resources,
            Error::NotRunning { .. } => Code::NotRunning,
            Error::Silent { .. } => Code::Silent,
            Error::NotReady { .. } | Error::DiedEarly { .. } => Code::NotReady,
            Error::DoesNotEnd { .. } => Code::DoesNotEnd,
            Error::Refused(_) => Code::Refused,
            Error::Postgres(_) => Code::Postgres,
        }
    }

    /// The next step for whoever sees it.
    pub fn help(&self) -> String {
        match self {
            Error::File { .. } => "check the folder's owner and free space, or choose another with --data".into(),
            Error::State { path, .. } | Error::Key { path, .. } => format!(
                "it was written by another version or by hand; remove {} to begin with an empty local Railway",
                path.parent().unwrap_or(path).display()
            ),
            Error::PortTaken { .. } => "stop that program, or start another local Railway with --data".into(),
            Error::NoPort { .. } | Error::NoChance | Error::System(_) => "free some resources of this machine".into(),
            Error::NotRunning { data } => format!("start it: o7s local up --detach --data {}", data.display()),
            Error::Silent { data, .. } => {
                format!("restart it: o7s local down --data {0}, then o7s local up --data {0}", data.display())
            }
            Error::NotReady { log, .. } | Error::DiedEarly { log, .. } => format!("its log is {}", log.display()),
            Error::DoesNotEnd { pid, .. } => format!("end it yourself: kill -9 {pid}"),
            Error::Refused(_) => "see o7s local fault --help".into(),
            // Its texts name their way out.
            Error::Postgres(_) => String::new(),
        }
    }
}
