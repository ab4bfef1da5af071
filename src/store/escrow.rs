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
    /// Of tenants' databases, in bytes, those that were measured since they were last read.
    pub sizes: HashMap<String, u64>,
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

/// One statement for all that a router has to say. An event is of no run: its number is that of the router's process.
const EXCHANGE: &str = "WITH told AS (INSERT INTO o7s.events (kind, name, reason, message, run, epoch)
        SELECT 'tenant', tenant, reason, message, $1, 0
        FROM jsonb_to_recordset($4) AS news (tenant text, reason text, message text))
    SELECT o7s.exchange($1, $2, $3), latest,
        (SELECT json_object_agg(tenant, bytes) FROM o7s.storage WHERE measured_at > coalesce($6, '-infinity') AND $5)
    FROM (SELECT max(measured_at) AS latest FROM o7s.storage WHERE $5) AS storage";

type Row = (Option<Json<Answered>>, Option<DateTime<Utc>>, Option<Json<HashMap<String, u64>>>);

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

    /// Says all of `asks` and of `news`, and reads `sizes` where they are wanted. After an error nobody knows whether it was
    /// heard; the next call is understood either way.
    pub async fn exchange(&mut self, asks: &[LeaseAsk], news: &[News], sizes: bool) -> Result<Exchanged, Error> {
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
        let query = sqlx::query_as::<_, Row>(EXCHANGE).bind(self.boot).bind(self.number).bind(Json(asks));
        let query = query.bind(Json(news)).bind(sizes).bind(self.measured);
        let doing = "lease parts of the ceilings";
        let (answer, latest, sizes) =
            self.within(doing, async |connection| query.fetch_one(connection).await).await?;
        self.measured = latest.or(self.measured);
        let sizes = sizes.map(|Json(sizes)| sizes).unwrap_or_default();
        let Some(Json(Answered { share, answers })) = answer else {
            return Ok(Exchanged { sizes, ..Exchanged::default() });
        };
        let answer =
            |row: AnswerRow| (row.lease, Answer { granted: row.granted, used: row.used, frees_in: row.frees_in });
        Ok(Exchanged { share, answers: answers.into_iter().map(answer).collect(), sizes })
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
