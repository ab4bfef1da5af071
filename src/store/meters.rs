//! Usage as routers write it: batches of counted minutes, each exactly once.
//!
//! A batch is one transaction: the writer's watermark moves from the number before to its own, and its counts are added. A
//! batch whose outcome nobody knows is found by the watermark to be in, or not.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::LazyLock;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::time::timeout;
use uuid::Uuid;

use super::connect::{address, is_ended, open, options};
use super::error::Error;
use super::load::is_undefined;
use crate::tenancy::{Metered, Minute, Secret, Usage};

/// A count of a few seconds that is larger is none; a thousand such batches still fit a column.
const COUNT_MAX: u64 = 1 << 53;

/// The one row is held as long as the batch is on its way.
const STATE: &str = "SELECT extract(epoch FROM now())::bigint, extract(epoch FROM minutes_from)::bigint,
        extract(epoch FROM minutes_until)::bigint
    FROM o7s.meter_state FOR SHARE";

const ADVANCE: &str = "UPDATE o7s.meter_writers SET seq = $2, seen_at = now(),
        counted_until = greatest(counted_until, least(now(), $3))
    WHERE writer = $1 AND seq = $2 - 1";

/// Without a conflict no number is used up.
const PLACES: &str = "INSERT INTO o7s.meter_places (tenant, instance)
    SELECT DISTINCT new.tenant, new.instance FROM unnest($1::text[], $2::text[]) AS new (tenant, instance)
        LEFT JOIN o7s.meter_places AS have USING (tenant, instance) WHERE have.id IS NULL ORDER BY 1, 2
    ON CONFLICT DO NOTHING";

const DIRTY: &str = "INSERT INTO o7s.meter_dirty (span, since)
    SELECT DISTINCT span, date_trunc(span, to_timestamp(minute), 'UTC')
        FROM unnest($1::bigint[]) AS minute, unnest(ARRAY['hour', 'day']) AS span
    ON CONFLICT DO NOTHING";

/// It lives, so nothing of it is missing.
const NO_GAP: &str = "DELETE FROM o7s.meter_gaps WHERE writer = $1";

const BEGIN: &str = "INSERT INTO o7s.meter_writers (writer, router) VALUES ($1, $2) ON CONFLICT DO NOTHING";

/// Of `$3`, whose end is known, and of those of this router's name that have been silent for a minute.
const GAPS: &str = "INSERT INTO o7s.meter_gaps (writer, router, since, until)
    SELECT writer, router, counted_until, now() FROM o7s.meter_writers
    WHERE NOT clean AND writer <> $1
        AND (writer = $3 OR router = $2 AND seen_at < now() - interval '1 minute')
    ON CONFLICT DO NOTHING";

const WATERMARK: &str = "SELECT seq FROM o7s.meter_writers WHERE writer = $1";

/// Nothing new: all that was counted until `$2` is in.
const BEAT: &str = "UPDATE o7s.meter_writers SET seen_at = now(), clean = $3,
        counted_until = greatest(counted_until, least(now(), $2))
    WHERE writer = $1 AND seq = $4";

/// Adds to what is there.
static ADD: LazyLock<String> = LazyLock::new(|| {
    let (mut names, mut types, mut sums) = (String::new(), String::new(), String::new());
    for (at, name) in Usage::NAMES.iter().enumerate() {
        let _ = write!(names, ", {name}");
        let _ = write!(types, ", ${}::bigint[]", at + 4);
        let comma = if at == 0 { "" } else { ", " };
        let _ = write!(sums, "{comma}{name} = coalesce(have.{name} + excluded.{name}, have.{name}, excluded.{name})");
    }
    format!(
        "INSERT INTO o7s.meter_minutes AS have (minute, place{names})
        SELECT to_timestamp(minute), id{names}
            FROM unnest($1::bigint[], $2::text[], $3::text[]{types}) AS new (minute, tenant, instance{names})
            JOIN o7s.meter_places USING (tenant, instance) ORDER BY 1, 2
        ON CONFLICT (minute, place) DO UPDATE SET {sums}"
    )
});

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flushed {
    /// It is in; so late it was by the control database's clock.
    Committed { now: DateTime<Utc> },
    /// It is not the next of this writer's; nothing was changed.
    OutOfTurn,
}

/// A connection of a router's own, for its counts. After an error it is of no use any more.
pub struct Meters {
    pub(super) connection: PgConnection,
    address: String,
    deadline: Duration,
}

impl std::fmt::Debug for Meters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Meters({})", self.address)
    }
}

impl Meters {
    /// One attempt; it, and each call, takes at most `deadline`.
    pub async fn connect(url: &Secret, deadline: Duration) -> Result<Meters, Error> {
        let options = options(url)?.application_name("o7s meters");
        let connection = open(&options, deadline).await?;
        Ok(Meters { connection, address: address(&options), deadline })
    }

    /// Makes `writer` known. `former` is an earlier life of this router that has certainly ended; what it had not flushed is
    /// noted as a gap, unless it ended well.
    pub async fn begin(&mut self, writer: Uuid, router: &str, former: Option<Uuid>) -> Result<(), Error> {
        self.within("begin to take usage", async |connection| {
            sqlx::query(BEGIN).bind(writer).bind(router).execute(&mut *connection).await?;
            sqlx::query(GAPS).bind(writer).bind(router).bind(former).execute(connection).await.map(drop)
        })
        .await
    }

    /// The last batch of the writer's that is in; `None` for a writer that is not known.
    pub async fn watermark(&mut self, writer: Uuid) -> Result<Option<u64>, Error> {
        let seq: Option<i64> = self
            .within("tell which usage it has", async |connection| {
                sqlx::query_scalar(WATERMARK).bind(writer).fetch_optional(connection).await
            })
            .await?;
        Ok(seq.map(i64::unsigned_abs))
    }

    /// One batch, whole or not at all. After an error only [`Meters::watermark`], on another connection, can tell which.
    /// Counts of minutes that are later than a minute from now, or older than what is kept, go to the nearest good one.
    pub async fn flush(
        &mut self,
        writer: Uuid,
        seq: u64,
        sealed: DateTime<Utc>,
        counted: &[Metered],
    ) -> Result<Flushed, Error> {
        let seq = i64::try_from(seq).unwrap_or(i64::MAX);
        loop {
            let turn = self
                .within("take usage", async |connection| flush(connection, (writer, seq, sealed), counted).await)
                .await?;
            match turn {
                Turn::Done(flushed) => return Ok(flushed),
                Turn::NoRoom => drop(self.make_room().await?),
            }
        }
    }

    /// Nothing was counted up to `sealed` that is not in. `clean`: nor will be.
    pub async fn beat(&mut self, writer: Uuid, seq: u64, sealed: DateTime<Utc>, clean: bool) -> Result<(), Error> {
        let seq = i64::try_from(seq).unwrap_or(i64::MAX);
        self.within("hear of a router", async |connection| {
            sqlx::query(BEAT).bind(writer).bind(sealed).bind(clean).bind(seq).execute(connection).await.map(drop)
        })
        .await
    }

    pub(super) async fn within<T>(
        &mut self,
        doing: &'static str,
        query: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, Error> {
        let address = &self.address;
        let lost = |source| Error::NotListening { address: address.clone(), source };
        match timeout(self.deadline, query(&mut self.connection)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(source)) if is_undefined(&source) => Err(Error::NotBootstrapped),
            Ok(Err(source)) if is_ended(&source) => Err(lost(source)),
            Ok(Err(source)) => Err(Error::Sql { doing, source }),
            Err(_late) => Err(lost(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()))),
        }
    }
}

enum Turn {
    Done(Flushed),
    /// There is no partition for these minutes yet.
    NoRoom,
}

async fn flush(
    connection: &mut PgConnection,
    (writer, seq, sealed): (Uuid, i64, DateTime<Utc>),
    counted: &[Metered],
) -> Result<Turn, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let (now, from, until): (i64, i64, i64) = sqlx::query_as(STATE).fetch_one(&mut *transaction).await?;
    let counted = stamped(counted, now, from);
    if counted.last_key_value().is_some_and(|((minute, ..), _)| minute.unix_seconds() >= until) {
        transaction.rollback().await?;
        return Ok(Turn::NoRoom);
    }
    let moved = sqlx::query(ADVANCE).bind(writer).bind(seq).bind(sealed).execute(&mut *transaction).await?;
    if moved.rows_affected() != 1 {
        transaction.rollback().await?;
        return Ok(Turn::Done(Flushed::OutOfTurn));
    }
    let minutes: Vec<i64> = counted.keys().map(|(minute, ..)| minute.unix_seconds()).collect();
    let tenants: Vec<&str> = counted.keys().map(|(_, tenant, _)| *tenant).collect();
    let instances: Vec<&str> = counted.keys().map(|(_, _, instance)| *instance).collect();
    sqlx::query(PLACES).bind(&tenants).bind(&instances).execute(&mut *transaction).await?;
    let mut add = sqlx::query(AssertSqlSafe(ADD.as_str())).bind(&minutes).bind(&tenants).bind(&instances);
    for at in 0..Usage::COUNT {
        let column: Vec<Option<i64>> = counted.values().map(|usage| column(usage.values()[at])).collect();
        add = add.bind(column);
    }
    add.execute(&mut *transaction).await?;
    sqlx::query(DIRTY).bind(&minutes).execute(&mut *transaction).await?;
    sqlx::query(NO_GAP).bind(writer).execute(&mut *transaction).await?;
    transaction.commit().await?;
    let now = DateTime::from_timestamp(now, 0).unwrap_or_default();
    Ok(Turn::Done(Flushed::Committed { now }))
}

fn column(count: u64) -> Option<i64> {
    if count == 0 { None } else { i64::try_from(count.min(COUNT_MAX)).ok() }
}

type Counted<'a> = BTreeMap<(Minute, &'a str, &'a str), Usage>;

/// `now` and `from` in seconds by the control database's clock.
fn stamped(counted: &[Metered], now: i64, from: i64) -> Counted<'_> {
    let minute_of = |seconds: i64| Minute(seconds.div_euclid(60));
    let mut stamped = Counted::new();
    for Metered { minute, tenant, instance, usage } in counted {
        let minute = if minute.unix_seconds() > now + 60 { minute_of(now) } else { *minute };
        let minute = minute.max(minute_of(from));
        stamped.entry((minute, tenant, instance)).or_default().add(usage);
    }
    stamped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_clock_moves_counts_to_the_nearest_good_minute_and_loses_none() {
        let metered = |minute, reads| Metered {
            minute: Minute(minute),
            tenant: "acme".into(),
            instance: "shared-1".into(),
            usage: Usage { reads, ..Usage::default() },
        };
        let counted = [metered(5, 1), metered(100, 2), metered(101, 4), metered(102, 8), metered(9_000, 16)];
        // It is 40 s past minute 100, and what is older than minute 50 is dropped.
        let stamped = stamped(&counted, 6040, 3000);
        let minutes: Vec<(i64, u64)> = stamped.iter().map(|((minute, ..), usage)| (minute.0, usage.reads)).collect();
        assert_eq!(minutes, [(50, 1), (100, 2 + 8 + 16), (101, 4)]);
    }
}
