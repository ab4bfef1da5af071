//! One connection to an instance's server as its superuser.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};
use tokio::time::timeout;

use super::error::Error;
use crate::tenancy::{Address, Secret};

/// The oldest server that gives PUBLIC no right to create in `public`.
const VERSION_MIN: u32 = 150_000;

/// A statement that waits longer for a lock has met a person's session, and the next run tries again. A statement whose
/// client was killed ends within 2 s, before the next run comes.
const SETTINGS: [(&str, &str); 3] =
    [("lock_timeout", "10s"), ("statement_timeout", "60s"), ("client_connection_check_interval", "2s")];

/// Who O7s is on a server that somebody else made: a superuser of its own, beside theirs.
pub const ADMIN_ROLE: &str = "o7s_admin";
/// The superuser of a server that O7s made.
pub const SUPERUSER: &str = "postgres";

pub struct Server {
    pub(super) connection: PgConnection,
    /// To open further connections to other databases of the same server.
    pub(super) options: PgConnectOptions,
    pub(super) deadline: Duration,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Server({}:{})", self.options.get_host(), self.options.get_port())
    }
}

impl Server {
    /// One attempt of at most `deadline`. Encrypted unless it stays on this machine; the certificate is not verified,
    /// because Railway's image names only `localhost` in it.
    pub async fn connect(
        address: &Address,
        (user, password): (&str, &Secret),
        deadline: Duration,
    ) -> Result<Server, Error> {
        let local =
            address.host == "localhost" || address.host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let options = PgConnectOptions::new_without_pgpass()
            .host(&address.host)
            .port(address.port)
            .username(user)
            .password(password.expose())
            .database("postgres")
            .ssl_mode(if local { PgSslMode::Prefer } else { PgSslMode::Require })
            .application_name("o7s")
            .options(SETTINGS)
            .disable_statement_logging();
        let connection = open(&options, deadline).await?;
        let server = Server { connection, options, deadline };
        match server.connection.server_version_num().unwrap_or(VERSION_MIN) {
            version if version < VERSION_MIN => {
                Err(Error::TooOld { address: address.to_string(), version: version / 10_000 })
            }
            _ => Ok(server),
        }
    }

    /// A connection of its own to another database of this server.
    pub(super) async fn open_database(&self, database: &str) -> Result<PgConnection, Error> {
        open(&self.options.clone().database(database), self.deadline).await
    }

    /// Ends the session in order, so that the server logs no broken connection.
    pub async fn close(self) {
        // It is over either way.
        let _ = self.connection.close().await;
    }
}

async fn open(options: &PgConnectOptions, deadline: Duration) -> Result<PgConnection, Error> {
    let late = || sqlx::Error::Io(std::io::Error::from(std::io::ErrorKind::TimedOut));
    let opened = timeout(deadline, options.connect()).await.unwrap_or_else(|_| Err(late()));
    opened.map_err(|source| {
        let address = format!("{}:{}", options.get_host(), options.get_port());
        let code = source.as_database_error().and_then(|error| error.code()).unwrap_or_default().into_owned();
        match (&source, code.as_str()) {
            (_, "28P01" | "28000") => Error::WrongPassword { address },
            (sqlx::Error::Tls(_), _) => Error::NotEncrypted { address, source },
            (sqlx::Error::Io(_) | sqlx::Error::Protocol(_), _) | (_, "57P03") => {
                Error::NotListening { address, source }
            }
            _ => Error::Sql { doing: format!("connect to {address}"), source },
        }
    })
}
