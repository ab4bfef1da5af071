//! Who holds the lease, and how it is taken away from a holder that will not give it back.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::PgConnection;
use sqlx::types::Json;
use tokio::time::{Instant, sleep};

use super::connect::{Store, open};
use super::error::Error;
use super::lease::LOCK;
use super::load::is_undefined;

/// After its session was ended a holder's lock is gone within this, or something holds it that we cannot end.
const GONE_WITHIN: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(100);

/// Sessions that hold our lock in this database; `lock` in `$1` is its number. Postgres shows it in two halves.
macro_rules! holding {
    () => {
        "FROM pg_locks k JOIN pg_stat_activity a ON a.pid = k.pid
            JOIN pg_database d ON d.oid = k.database AND d.datname = current_database()
            WHERE k.locktype = 'advisory' AND k.granted AND k.objsubid = 1
                AND ((k.classid::bigint << 32) | k.objid::bigint) = ($1->>'lock')::bigint"
    };
}

const SHOW: &str = concat!(
    "SELECT json_build_object('epoch', epoch, 'holder', holder, 'takenAt', taken_at, 'now', now(),
        'session', (SELECT json_build_object('pid', a.pid, 'address', host(a.client_addr),
            'connectedAt', a.backend_start, 'lastHeardAt', greatest(a.state_change, a.backend_start)) ",
    holding!(),
    " LIMIT 1))::text FROM o7s.lease WHERE name = 'reconcile'"
);

/// True while `epoch` is the newest and somebody holds the lock; nobody takes the lock without a new epoch.
const HOLDS: &str = concat!(
    "SELECT (EXISTS (SELECT FROM o7s.lease WHERE name = 'reconcile' AND epoch = ($1->>'epoch')::bigint)
        AND EXISTS (SELECT ",
    holding!(),
    "))::text"
);

/// Only from the holder that was seen. It waits for a write of that holder that is under way.
const OVERTAKE: &str = "UPDATE o7s.lease SET epoch = epoch + 1, holder = $2, taken_at = now()
    WHERE name = 'reconcile' AND epoch = $1 RETURNING epoch";

const END: &str = concat!("SELECT count(pg_terminate_backend(a.pid)) ", holding!());

/// The lease as it stands, all times by the control database's clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    pub epoch: u64,
    /// Whoever took it last, whether or not it is still held.
    pub holder: String,
    pub taken_at: DateTime<Utc>,
    pub now: DateTime<Utc>,
    /// Absent: it is free.
    pub session: Option<HolderSession>,
}

/// The connection that the lease hangs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HolderSession {
    /// Of the server's process.
    pub pid: i32,
    pub address: Option<String>,
    pub connected_at: DateTime<Utc>,
    pub last_heard_at: DateTime<Utc>,
}

impl Store {
    pub async fn holder(&self) -> Result<Holder, Error> {
        let doing = "tell who holds the lease";
        let text =
            self.read(doing, SHOW, Some(&json!({ "lock": LOCK }))).await?.map_err(|source| failed(doing, source))?;
        serde_json::from_str(&text).map_err(|source| Error::Unreadable { what: "the lease", source })
    }

    /// Whether a lease of this epoch may still write. On a connection of its own, so that no long write hides the answer.
    pub async fn still_holds(&self, epoch: u64) -> Result<bool, Error> {
        let doing = "tell whether the lease is held";
        let text = self.read(doing, HOLDS, Some(&json!({ "lock": LOCK, "epoch": epoch }))).await?;
        Ok(text.map_err(|source| failed(doing, source))? == "true")
    }

    /// Takes the lease from the holder of `epoch`: first its writes are fenced off by a new epoch, then its session is
    /// ended. Answers the new epoch; `None` when it has changed hands since. Killed between the two, it can be repeated.
    pub async fn steal(&self, epoch: u64, thief: &str) -> Result<Option<u64>, Error> {
        let mut connection = open(&self.options, self.deadline).await?;
        let doing = "take the lease away";
        let seen = i64::try_from(epoch).unwrap_or(i64::MAX);
        let next: Option<i64> = sqlx::query_scalar(OVERTAKE)
            .bind(seen)
            .bind(thief)
            .fetch_optional(&mut connection)
            .await
            .map_err(|source| failed(doing, source))?;
        let Some(next) = next else { return Ok(None) };
        let until = Instant::now() + GONE_WITHIN;
        while end(&mut connection).await? > 0 && Instant::now() < until {
            sleep(POLL).await;
        }
        Ok(Some(next.unsigned_abs()))
    }
}

/// How many sessions were told to end.
async fn end(connection: &mut PgConnection) -> Result<i64, Error> {
    let lock = Json(json!({ "lock": LOCK }));
    let ended = sqlx::query_scalar(END).bind(lock).fetch_one(connection).await;
    ended.map_err(|source| Error::Sql { doing: "end the session of the lease's holder", source })
}

fn failed(doing: &'static str, source: sqlx::Error) -> Error {
    if is_undefined(&source) { Error::NotBootstrapped } else { Error::Sql { doing, source } }
}
