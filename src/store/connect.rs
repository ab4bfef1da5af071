//! Reaches the control database.

use std::str::FromStr as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::types::Json;
use sqlx::{ConnectOptions as _, PgConnection};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::error::Error;
use crate::tenancy::Secret;

/// Reads at the same time; each has a connection of its own.
const READS_MAX: usize = 2;

/// The control database. Reads share one connection that is kept between them; writes go through a [`super::Lease`].
pub struct Store {
    pub(super) options: PgConnectOptions,
    pub(super) deadline: Duration,
    idle: Mutex<Option<PgConnection>>,
    reads: Semaphore,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({})", address(&self.options))
    }
}

impl Store {
    /// One connection attempt of at most `deadline`. Without `sslmode` in `url` the connection is encrypted, unless
    /// it stays on this machine; the certificate is not verified, because Railway's names only `localhost`.
    pub async fn connect(url: &Secret, deadline: Duration) -> Result<Store, Error> {
        let options = options(url)?;
        let connection = open(&options, deadline).await?;
        Ok(Store { options, deadline, idle: Mutex::new(Some(connection)), reads: Semaphore::new(READS_MAX) })
    }

    /// Runs a query that answers one text. A kept connection may have died meanwhile; a read can safely go again.
    pub(super) async fn read(
        &self,
        doing: &'static str,
        sql: &'static str,
        parameter: Option<&serde_json::Value>,
    ) -> Result<Result<String, sqlx::Error>, Error> {
        let _permit = self.reads.acquire().await.map_err(|_| closed(doing))?;
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut connection) = kept {
            match fetch(&mut connection, sql, parameter).await {
                Err(error) if is_ended(&error) => {}
                answer => return Ok(self.keep(connection, answer)),
            }
        }
        let mut connection = open(&self.options, self.deadline).await?;
        let answer = fetch(&mut connection, sql, parameter).await;
        Ok(self.keep(connection, answer))
    }

    fn keep<T>(&self, connection: PgConnection, answer: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        if answer.as_ref().err().is_none_or(|error| !is_ended(error)) {
            *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
        }
        answer
    }
}

/// The session is over: the socket broke, or the server ended it (57P01 and its like, an administrator's or a restart's).
pub(super) fn is_ended(error: &sqlx::Error) -> bool {
    let told = error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code.starts_with("57P"));
    told || matches!(error, sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::Tls(_))
}

/// The semaphore is never closed; should it be, the caller hears it as a failed read.
fn closed(doing: &'static str) -> Error {
    Error::Sql { doing, source: sqlx::Error::PoolClosed }
}

async fn fetch(
    connection: &mut PgConnection,
    sql: &'static str,
    parameter: Option<&serde_json::Value>,
) -> Result<String, sqlx::Error> {
    let query = sqlx::query_scalar(sql);
    match parameter {
        None => query.fetch_one(connection).await,
        Some(value) => query.bind(Json(value)).fetch_one(connection).await,
    }
}

pub(super) fn options(url: &Secret) -> Result<PgConnectOptions, Error> {
    let bad = |problem: &str| Error::BadUrl { problem: problem.to_owned() };
    let text = url.expose();
    let known = ["postgresql://", "postgres://"].iter().any(|scheme| text.starts_with(scheme));
    let rest = text.split_once("://").map_or("", |(_, rest)| rest);
    let (login, place) = rest.split_once('@').ok_or_else(|| bad("it has no user"))?;
    if !known || !login.contains(':') || !place.contains('/') {
        return Err(bad("a part is missing"));
    }
    // The parser's own message could quote the URL.
    let options = PgConnectOptions::from_str(text).map_err(|_| bad("it cannot be parsed"))?;
    let mode = match (text.contains("sslmode="), is_loopback(options.get_host())) {
        (true, _) => options.get_ssl_mode(),
        (false, true) => PgSslMode::Prefer,
        (false, false) => PgSslMode::Require,
    };
    let options = options.ssl_mode(mode).application_name("o7s").options([("statement_timeout", "30s")]);
    Ok(options.disable_statement_logging())
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

pub(super) async fn open(options: &PgConnectOptions, deadline: Duration) -> Result<PgConnection, Error> {
    let late = || sqlx::Error::Io(std::io::Error::from(std::io::ErrorKind::TimedOut));
    let opened = timeout(deadline, options.connect()).await.unwrap_or_else(|_| Err(late()));
    opened.map_err(|source| unreachable_because(address(options), source))
}

pub(super) fn address(options: &PgConnectOptions) -> String {
    format!("{}:{}", options.get_host(), options.get_port())
}

fn unreachable_because(address: String, source: sqlx::Error) -> Error {
    let code = source.as_database_error().and_then(|error| error.code()).unwrap_or_default().into_owned();
    match (&source, code.as_str()) {
        (_, "28P01" | "28000") => Error::WrongPassword { address },
        // The image makes the database after the server's first start; a proxy may answer before either.
        (_, "57P03" | "3D000") => Error::NotListening { address, source },
        (sqlx::Error::Tls(_), _) => Error::NotEncrypted { address, source },
        (sqlx::Error::Io(_) | sqlx::Error::Protocol(_), _) => Error::NotListening { address, source },
        _ => Error::Sql { doing: "be connected to", source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str) -> PgSslMode {
        options(&Secret::new(url)).expect("a good URL").get_ssl_mode()
    }

    #[test]
    fn what_leaves_the_machine_is_encrypted_unless_the_url_says_otherwise() {
        assert!(matches!(mode("postgresql://postgres:x@127.0.0.1:5433/railway"), PgSslMode::Prefer));
        assert!(matches!(mode("postgresql://postgres:x@[::1]:5433/railway"), PgSslMode::Prefer));
        assert!(matches!(mode("postgresql://postgres:x@a.proxy.example:5433/railway"), PgSslMode::Require));
        assert!(matches!(mode("postgresql://postgres:x@a.example/railway?sslmode=disable"), PgSslMode::Disable));
    }

    #[test]
    fn a_bad_url_is_refused_and_never_quoted() {
        for bad in ["", "hunter2", "mysql://u:hunter2@h/d", "postgres://h/d", "postgresql://u:hunter2@h:x/d"] {
            let error = options(&Secret::new(bad)).expect_err(bad);
            let text = format!("{error} {error:?}");
            assert!(matches!(error, Error::BadUrl { .. }) && !text.contains("hunter2"), "{text}");
        }
    }
}
