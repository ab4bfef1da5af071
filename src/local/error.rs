//! What the local Railway refuses, in the words Railway uses (reported in third-party clients, 2026), and what can go
//! wrong around it.

use std::path::PathBuf;

/// A refusal that a client sees as a GraphQL error. The texts are what clients match on: Railway sends one code for
/// nearly everything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("Not Authorized")]
    NotAuthorized,
    #[error("Project Token not found")]
    NoProjectToken,
    #[error("{0} not found")]
    NotFound(&'static str),
    #[error("A {kind} named \"{name}\" already exists in this project")]
    NameTaken { kind: &'static str, name: String },
    #[error("You are creating volumes too quickly, please try again in a second")]
    TooQuickly,
    #[error("Invalid input: {0}")]
    Invalid(String),
    #[error("{0}")]
    Limit(String),
    #[error("Cannot redeploy without a snapshot")]
    NoSnapshot,
    #[error("Problem processing request")]
    Injected,
    /// Never an invented value: a client that needs more is told what is missing.
    #[error("{0} is not simulated by the local Railway")]
    NotSimulated(String),
}

/// What stops `o7s local`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {doing} {path}")]
    File { doing: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{path} is not a state this version reads: {reason}")]
    State { path: PathBuf, reason: String },
    #[error("port {port} on 127.0.0.1, which this local Railway was given, is in use by another program")]
    PortTaken { port: u16, source: std::io::Error },
    #[error("no free port found on 127.0.0.1 between {from} and {to}")]
    NoPort { from: u16, to: u16 },
    #[error("no local Railway runs on {data}")]
    NotRunning { data: PathBuf },
    #[error("the local Railway on {data} does not answer")]
    Silent { data: PathBuf, source: Option<reqwest::Error> },
    #[error("the local Railway ended before it was ready; its last words are in {log}")]
    DiedEarly { log: PathBuf },
    #[error("process {pid} of the local Railway on {data} did not end within {waited_s} s")]
    WontEnd { pid: u32, data: PathBuf, waited_s: u64 },
    #[error("the master key kept in {path} is damaged: {reason}")]
    Key { path: PathBuf, reason: String },
    #[error("the local Railway refused the fault: {0}")]
    Fault(String),
    #[error("cannot start the runtime")]
    Runtime(#[source] std::io::Error),
}
