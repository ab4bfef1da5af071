//! Who may write. A lease is an advisory lock held by a connection, so that a killed run loses it with its socket, and
//! an epoch that grows with each holder, so that a write of an earlier holder is refused whatever it believes.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::{PgArguments, Postgres};
use sqlx::query::QueryScalar;
use sqlx::{Connection as _, PgConnection};
use tokio::time::{Instant, sleep};

use super::connect::{Store, is_ended, open};
use super::error::Error;
use super::load::is_undefined;

/// "o7s" and a number of ours; nobody else locks in this database.
pub(super) const LOCK: i64 = 0x006f_3773_0001;
const POLL: Duration = Duration::from_millis(250);

/// Takes lock and epoch at once, so that no crash can separate them. No row: somebody else holds the lock.
const ACQUIRE: &str = "WITH got AS MATERIALIZED (SELECT pg_try_advisory_lock($1) AS locked)
    UPDATE o7s.lease SET epoch = epoch + 1, holder = $2, taken_at = now() FROM got
    WHERE name = 'reconcile' AND got.locked RETURNING epoch";
const HOLDER: &str = "SELECT holder, taken_at FROM o7s.lease WHERE name = 'reconcile'";

/// The server looks every 2 s whether a client whose query runs is still there, and asks an idle one after 2 s of
/// silence; together with 2 unanswered probes a vanished holder blocks the next for less than 5 s.
const VANISHED: [(&str, &str); 6] = [
    ("client_connection_check_interval", "2s"),
    ("tcp_keepalives_idle", "2"),
    ("tcp_keepalives_interval", "1"),
    ("tcp_keepalives_count", "2"),
    ("tcp_user_timeout", "4000"),
    ("idle_in_transaction_session_timeout", "30s"),
];

/// Begins a statement that writes nothing unless the lease's epoch ($1) is the newest. The row lock makes a change of
/// holder wait for this transaction, and this one see it; a plain comparison would compare with the past.
macro_rules! fenced {
    ($($sql:expr),+ $(,)?) => {
        concat!(
            "WITH fence AS MATERIALIZED (SELECT epoch FROM o7s.lease
                WHERE name = 'reconcile' AND epoch = $1 FOR SHARE), ",
            $($sql),+
        )
    };
}
pub(super) use fenced;

/// The right to write, and the connection it hangs on. Dropping it gives both back.
pub struct Lease {
    pub(super) connection: PgConnection,
    pub(super) epoch: i64,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lease({})", self.epoch)
    }
}

impl Store {
    /// One query when it is free. While another holds it, asks again every 250 ms for at most `wait`; `on_wait` hears
    /// once who holds it. `holder` is what others will be told.
    pub async fn acquire(&self, holder: &str, wait: Duration, mut on_wait: impl FnMut(&str)) -> Result<Lease, Error> {
        let options = self.options.clone().options(VANISHED);
        let mut connection = open(&options, self.deadline).await?;
        let until = Instant::now() + wait;
        let mut told = false;
        loop {
            if let Some(epoch) = try_acquire(&mut connection, holder).await? {
                return Ok(Lease { connection, epoch });
            }
            let over = Instant::now() >= until;
            if over || !told {
                let (holder, since) = look(&mut connection).await?;
                if over {
                    return Err(Error::LeaseHeld { holder, since, waited: wait });
                }
                on_wait(&holder);
                told = true;
            }
            sleep(POLL).await;
        }
    }
}

async fn try_acquire(connection: &mut PgConnection, holder: &str) -> Result<Option<i64>, Error> {
    let query = sqlx::query_scalar(ACQUIRE).bind(LOCK).bind(holder);
    query.fetch_optional(connection).await.map_err(|error| failed("give the lease", error))
}

async fn look(connection: &mut PgConnection) -> Result<(String, DateTime<Utc>), Error> {
    let row = sqlx::query_as(HOLDER).fetch_one(connection).await;
    row.map_err(|error| failed("tell who holds the lease", error))
}

fn failed(doing: &'static str, source: sqlx::Error) -> Error {
    if is_undefined(&source) { Error::NotBootstrapped } else { Error::Sql { doing, source } }
}

impl Lease {
    pub fn epoch(&self) -> u64 {
        self.epoch.unsigned_abs()
    }

    /// Gives the lease back at once, without waiting for the server to notice that the connection is gone.
    pub async fn release(self) {
        // The lease ends with the connection however this goes.
        let _ = self.connection.close().await;
    }

    /// Runs a statement made with [`fenced!`] that answers how many rows the fence had.
    pub(super) async fn write(
        &mut self,
        doing: &'static str,
        query: QueryScalar<'_, Postgres, i64, PgArguments>,
    ) -> Result<(), Error> {
        let fence = query.fetch_one(&mut self.connection).await.map_err(|error| write_failed(doing, error))?;
        self.check(fence)
    }

    pub(super) fn check(&self, fence: i64) -> Result<(), Error> {
        if fence == 1 { Ok(()) } else { Err(Error::StaleEpoch { epoch: self.epoch() }) }
    }
}

pub(super) fn write_failed(doing: &'static str, source: sqlx::Error) -> Error {
    if is_ended(&source) { Error::LeaseLost { doing, source } } else { Error::Sql { doing, source } }
}
