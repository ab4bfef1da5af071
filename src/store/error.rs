//! What can go wrong with the control database, by what the caller does next.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::code::Code;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the control database's URL is no postgresql:// URL with host, user, password and database: {problem}")]
    BadUrl { problem: String },
    /// Refused, unknown host, no answer in time, or not started up yet.
    #[error("nothing answers as control database at {address}")]
    NotListening { address: String, source: sqlx::Error },
    #[error("the control database at {address} does not take this user and password")]
    WrongPassword { address: String },
    #[error("the control database at {address} cannot be reached encrypted")]
    NotEncrypted { address: String, source: sqlx::Error },
    /// The server answers, and holds no schema of ours.
    #[error("the control database is empty")]
    NotBootstrapped,
    #[error("the control database has schema version {have}, and this o7s needs {known}")]
    OlderSchema { have: u32, known: u32 },
    #[error("the control database has schema version {have}, and this o7s knows {known} at most")]
    NewerSchema { have: u32, known: u32 },
    #[error("another run holds the lease: {holder}, since {since}; waited {waited:?}")]
    LeaseHeld { holder: String, since: DateTime<Utc>, waited: Duration },
    /// Somebody else has taken the lease since: nothing more may be written.
    #[error("the lease of epoch {epoch} is not the newest any more")]
    StaleEpoch { epoch: u64 },
    /// The connection that held the lease is gone, and the lease with it.
    #[error("the lease was lost while trying to {doing}")]
    LeaseLost { doing: &'static str, source: sqlx::Error },
    #[error("the control database cannot {doing}")]
    Sql { doing: &'static str, source: sqlx::Error },
    #[error("the control database's schema cannot be brought up to date")]
    Migrate { source: sqlx::migrate::MigrateError },
    #[error("what the control database holds cannot be read ({what})")]
    Unreadable { what: &'static str, source: serde_json::Error },
}

impl Error {
    pub fn code(&self) -> Code {
        match self {
            Error::BadUrl { .. } => Code::BadUrl,
            Error::NotListening { .. } => Code::NotListening,
            Error::WrongPassword { .. } => Code::WrongPassword,
            Error::NotEncrypted { .. } => Code::NotEncrypted,
            Error::NotBootstrapped => Code::NotBootstrapped,
            Error::OlderSchema { .. } => Code::OlderSchema,
            Error::NewerSchema { .. } => Code::NewerSchema,
            Error::LeaseHeld { .. } => Code::LeaseHeld,
            Error::StaleEpoch { .. } => Code::StaleEpoch,
            Error::LeaseLost { .. } => Code::LeaseLost,
            Error::Sql { .. } => Code::Sql,
            Error::Migrate { .. } => Code::Migrate,
            Error::Unreadable { .. } => Code::Unreadable,
        }
    }

    /// What a person does about it.
    pub fn help(&self) -> &'static str {
        match self {
            Error::BadUrl { .. } => "correct O7S_DATABASE_URL",
            Error::NotListening { .. } => {
                "look at service `o7s-control` on Railway, then run again; a fleet that has none yet needs `o7s bootstrap`"
            }
            Error::NotBootstrapped => "run o7s bootstrap",
            Error::WrongPassword { .. } => {
                "check O7S_MASTER_KEY and O7S_DATABASE_URL: the password is derived from the key the fleet was made with"
            }
            Error::NotEncrypted { .. } => "switch the server's TLS on, or add ?sslmode=disable to O7S_DATABASE_URL",
            Error::OlderSchema { .. } => "run o7s bootstrap, which brings it up to date",
            Error::NewerSchema { .. } => "use the newer o7s that changed it",
            Error::LeaseHeld { .. } => "wait for the other run, or raise --lock-timeout",
            Error::StaleEpoch { .. } | Error::LeaseLost { .. } => {
                "run it again; what was done is found, and nothing is done twice"
            }
            Error::Sql { .. } => "run it again; if it stays, the cause above is the server's own word",
            Error::Migrate { .. } => "nothing was changed; the cause above is the server's own word",
            Error::Unreadable { .. } => "somebody changed the rows by hand, or a newer o7s did: put them back",
        }
    }
}
