//! What can go wrong with an instance's server, by what a person does next.

use super::code::Code;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("nothing answers at {address}")]
    NotListening { address: String, source: sqlx::Error },
    #[error("the server at {address} does not take the derived password of its superuser")]
    WrongPassword { address: String },
    #[error("the server at {address} cannot be reached encrypted")]
    NotEncrypted { address: String, source: sqlx::Error },
    #[error("Postgres {version} at {address} is too old; 15 is the oldest that keeps tenants apart by default")]
    TooOld { address: String, version: u32 },
    /// A role or database of this name was not made by us.
    #[error("{what} exists and is not ours")]
    Foreign { what: String },
    /// Somebody removed it since it was looked at.
    #[error("{what} is not there any more")]
    Missing { what: String },
    /// Of a rename, before anything of it is done.
    #[error("{what} is there already, and nothing is renamed onto it")]
    Taken { what: String },
    #[error("cannot {doing}")]
    Sql { doing: String, source: sqlx::Error },
    #[error("what the server answered cannot be read")]
    Unreadable { source: serde_json::Error },
}

impl Error {
    /// The session is over; whether its last message took effect is not known.
    pub(super) fn lost_connection(&self) -> bool {
        match self {
            Error::NotListening { .. } | Error::NotEncrypted { .. } => true,
            Error::Sql { source, .. } => {
                let ended = source.as_database_error().and_then(|error| error.code());
                ended.is_some_and(|code| code.starts_with("57P"))
                    || matches!(source, sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::Tls(_))
            }
            Error::WrongPassword { .. }
            | Error::TooOld { .. }
            | Error::Foreign { .. }
            | Error::Missing { .. }
            | Error::Taken { .. }
            | Error::Unreadable { .. } => false,
        }
    }

    pub fn code(&self) -> Code {
        match self {
            Error::NotListening { .. } => Code::NotListening,
            Error::WrongPassword { .. } => Code::WrongPassword,
            Error::NotEncrypted { .. } => Code::NotEncrypted,
            Error::TooOld { .. } => Code::TooOld,
            Error::Foreign { .. } => Code::Foreign,
            Error::Missing { .. } => Code::Missing,
            Error::Taken { .. } => Code::Taken,
            Error::Sql { .. } => Code::Sql,
            Error::Unreadable { .. } => Code::Unreadable,
        }
    }

    pub fn help(&self) -> &'static str {
        match self {
            Error::NotListening { .. } => "look at the instance's deployment on Railway, then run again",
            Error::WrongPassword { .. } => {
                "check O7S_MASTER_KEY; if somebody changed the password of `postgres`, put the derived one back"
            }
            Error::NotEncrypted { .. } => "use the image of the pool's manifest, which offers TLS",
            Error::TooOld { .. } => "use an image of Postgres 15 or later in the pool's manifest",
            Error::Foreign { .. } => "drop or rename it by hand, or name the tenant otherwise",
            Error::Missing { .. } => "run again: it is made again where it is still wanted",
            Error::Taken { .. } => "drop or rename it by hand, or choose another name, then run again",
            Error::Sql { .. } => "run again; if it stays, the server's own words tell what holds it",
            Error::Unreadable { .. } => "run again; if it stays, report it with the version of the server",
        }
    }
}
