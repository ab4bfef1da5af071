//! Leases of tenants' ceilings, as one router gets them: all that it has to say, in one statement.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnectOptions;
use sqlx::types::Json;
use sqlx::{Connection as _, PgConnection};
use tokio::time::timeout;
use uuid::Uuid;

use super::connect::{address, open, options};
use super::error::Error;
use crate::tenancy::Secret;
use crate::tenancy::escrow::{Answer, Ask, Meter};

/// What a router says of one lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseAsk {
    pub tenant: String,
    pub meter: Meter,
    /// Unique among all leases of this process.
    pub lease: u64,
    pub ask: Ask,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exchanged {
    /// Of each ceiling, in thousandths: what this router may spend without asking.
    pub share: u64,
    /// By lease.
    pub answers: Vec<(u64, Answer)>,
}

/// Something that happened to a tenant at one of its ceilings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct News {
    pub tenant: String,
    /// `NearCeiling`, `OverCeiling`
    pub reason: &'static str,
    pub message: String,
}

#[derive(Serialize)]
struct AskRow<'a> {
    tenant: &'a str,
    meter: i16,
    lease: u64,
    spent: u64,
    keep: u64,
    want: u64,
}

#[derive(Deserialize)]
struct Answered {
    share: u64,
    answers: Vec<AnswerRow>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnswerRow {
    lease: u64,
    granted: u64,
    used: u64,
    frees_in: Option<u64>,
}

/// Of no run: its number is that of the router's process.
const TELL: &str = "INSERT INTO o7s.events (kind, name, reason, message, run, epoch)
    SELECT 'tenant', tenant, reason, message, $2, 0 FROM jsonb_to_recordset($1) AS news (tenant text, reason text, message text)";
const SIZES: &str =
    "SELECT tenant, bytes, measured_at FROM o7s.storage WHERE measured_at > coalesce($1, '-infinity')";

/// The connection over which one process asks. While it stands the process is known to be alive.
pub struct Escrow {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
    deadline: Duration,
    boot: Uuid,
    number: i64,
    /// Sizes measured until then were read.
    measured: Option<DateTime<Utc>>,
}

impl std::fmt::Debug for Escrow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Escrow({}, {})", address(&self.options), self.boot)
    }
}

impl Escrow {
    /// For the process `boot`. Connects when it is first used.
    pub fn new(url: &Secret, deadline: Duration, boot: Uuid) -> Result<Escrow, Error> {
        let options = options(url)?.application_name(&format!("o7s router {boot}"));
        Ok(Escrow { options, connection: None, deadline, boot, number: 0, measured: None })
    }

    /// Says all of `asks`. After an error nobody knows whether they were heard; the next call is understood either way.
    pub async fn exchange(&mut self, asks: &[LeaseAsk]) -> Result<Exchanged, Error> {
        let row = |ask: &LeaseAsk| {
            let Ask { spent, keep, want } = ask.ask;
            serde_json::to_value(AskRow {
                tenant: &ask.tenant,
                meter: ask.meter.number(),
                lease: ask.lease,
                spent: bigint(spent),
                keep: bigint(keep),
                want: bigint(want),
            })
        };
        let unreadable = |source| Error::Unreadable { what: "the answer to leases", source };
        let asks = asks.iter().map(row).collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
        self.number += 1;
        let query = sqlx::query_scalar::<_, Option<Json<Answered>>>("SELECT o7s.exchange($1, $2, $3)");
        let query = query.bind(self.boot).bind(self.number).bind(Json(asks));
        let doing = "lease parts of the ceilings";
        let answer = self.within(doing, async |connection| query.fetch_one(connection).await).await?;
        let Some(Json(Answered { share, answers })) = answer else { return Ok(Exchanged::default()) };
        let answer =
            |row: AnswerRow| (row.lease, Answer { granted: row.granted, used: row.used, frees_in: row.frees_in });
        Ok(Exchanged { share, answers: answers.into_iter().map(answer).collect() })
    }

    /// Sizes of tenants' databases in bytes, those that were measured since the last time.
    pub async fn sizes(&mut self) -> Result<HashMap<String, u64>, Error> {
        let query = sqlx::query_as::<_, (String, i64, DateTime<Utc>)>(SIZES).bind(self.measured);
        let doing = "read the sizes of databases";
        let rows = self.within(doing, async |connection| query.fetch_all(connection).await).await?;
        self.measured = rows.iter().map(|(_, _, at)| *at).max().or(self.measured);
        Ok(rows.into_iter().map(|(tenant, bytes, _)| (tenant, bytes.unsigned_abs())).collect())
    }

    /// Writes events of tenants at their ceilings.
    pub async fn tell(&mut self, news: &[News]) -> Result<(), Error> {
        let query = sqlx::query(TELL).bind(Json(news)).bind(self.boot);
        self.within("write events of ceilings", async |connection| query.execute(connection).await).await.map(drop)
    }

    /// Connects where nothing is connected; a connection that has failed is not used again.
    async fn within<T>(
        &mut self,
        doing: &'static str,
        query: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, Error> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => open(&self.options, self.deadline).await?,
        };
        let late = || Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()));
        let answer = timeout(self.deadline, query(&mut connection)).await.unwrap_or_else(|_| late());
        let answer = answer.map_err(|source| Error::Sql { doing, source })?;
        self.connection = Some(connection);
        Ok(answer)
    }

    /// The process ends; it holds nothing any more.
    pub async fn leave(mut self) -> Result<(), Error> {
        let Some(mut connection) = self.connection.take() else { return Ok(()) };
        let query =
            sqlx::query("UPDATE o7s.escrow_replicas SET left_at = clock_timestamp() WHERE boot = $1").bind(self.boot);
        let left = timeout(self.deadline, query.execute(&mut connection)).await;
        let _ = connection.close().await;
        match left {
            Ok(Err(source)) => Err(Error::Sql { doing: "give leases back", source }),
            Ok(Ok(_)) | Err(_) => Ok(()),
        }
    }
}

/// What Postgres can hold.
fn bigint(number: u64) -> u64 {
    number.min(i64::MAX as u64 / 4)
}
