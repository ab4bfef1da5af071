//! Usage as it gets older: room for the minutes to come, hours and days set from what is below them, and the end of what is
//! old enough. Every step is one transaction, may be repeated, and is done by whichever router comes first.

use std::fmt::Write as _;
use std::sync::LazyLock;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::error::Error;
use super::meters::Meters;
use crate::tenancy::Usage;

/// Days for which minutes can be written ahead, and whole days that they are kept.
const DAYS_AHEAD: i64 = 2;
const MINUTE_DAYS: i64 = 2;

/// Nobody flushes, sums up or drops meanwhile; whoever cannot have it soon comes again.
const ALONE: &str = "SET LOCAL lock_timeout = '3s'";
const STATE: &str =
    "SELECT minutes_from, minutes_until, date_trunc('day', now(), 'UTC') FROM o7s.meter_state FOR UPDATE";
const ROOM: &str = "UPDATE o7s.meter_state SET minutes_from = $1, minutes_until = $2";

/// An hour that has ended, and two minutes for what comes late; all that are dirty where they are about to be dropped.
const HOUR: &str = "SELECT min(since) FROM o7s.meter_dirty
    WHERE span = 'hour' AND (since <= now() - interval '62 minutes' OR since < $1)";
/// A day that has ended and whose hours are all set.
const DAY: &str =
    "SELECT min(since) FROM o7s.meter_dirty AS day WHERE span = 'day' AND since <= now() - interval '1 day'
    AND NOT EXISTS (SELECT FROM o7s.meter_dirty AS hour
        WHERE hour.span = 'hour' AND hour.since >= day.since AND hour.since < day.since + interval '1 day')";
const CLEAN: &str = "DELETE FROM o7s.meter_dirty WHERE span = $1 AND since = $2";

/// What is old enough, once in six hours.
const OLD: [&str; 7] = [
    "DELETE FROM o7s.meter_hours WHERE hour < date_trunc('day', now(), 'UTC') - interval '90 days'",
    "DELETE FROM o7s.meter_days WHERE day < date_trunc('day', now(), 'UTC') - interval '13 months'",
    "DELETE FROM o7s.meter_gaps WHERE until < now() - interval '13 months'",
    "DELETE FROM o7s.meter_writers WHERE seen_at < now() - interval '90 days'",
    // A tenant that is made again within the month has used what it had.
    "DELETE FROM o7s.escrow AS bucket WHERE NOT EXISTS (SELECT FROM o7s.routes WHERE routes.tenant = bucket.tenant)
        AND (month IS NULL OR month < date_trunc('month', now() AT TIME ZONE 'UTC'))
        AND NOT EXISTS (SELECT FROM unnest(held) WHERE until > now() - interval '1 minute')
        AND NOT EXISTS (SELECT FROM unnest(spent) WHERE second > extract(epoch FROM now()) - 61)",
    "DELETE FROM o7s.storage WHERE NOT EXISTS (SELECT FROM o7s.routes WHERE routes.tenant = storage.tenant)",
    "UPDATE o7s.meter_state SET cleaned_at = now()",
];
const OLD_DUE: &str = "SELECT cleaned_at < now() - interval '6 hours' FROM o7s.meter_state FOR UPDATE";

/// Routers that ended without a word and had no successor.
const SILENT: &str = "INSERT INTO o7s.meter_gaps (writer, router, since, until)
    SELECT writer, router, counted_until, now() FROM o7s.meter_writers
    WHERE NOT clean AND seen_at BETWEEN now() - interval '1 day' AND now() - interval '10 minutes'
    ON CONFLICT DO NOTHING";

struct RollUp {
    empty: &'static str,
    fill: String,
}

fn roll_up(of: &str, from: &str, into: &str, span: &str, width: &str) -> String {
    let (mut names, mut sums) = (String::new(), String::new());
    for name in Usage::NAMES {
        let _ = write!(names, ", {name}");
        let _ = write!(sums, ", sum({name})::bigint");
    }
    format!(
        "INSERT INTO o7s.{into} ({span}, place{names}) SELECT $1, place{sums} FROM o7s.{of}
        WHERE {from} >= $1 AND {from} < $1 + interval '{width}' GROUP BY place ORDER BY place"
    )
}

static HOURS: LazyLock<RollUp> = LazyLock::new(|| RollUp {
    empty: "DELETE FROM o7s.meter_hours WHERE hour = $1",
    fill: roll_up("meter_minutes", "minute", "meter_hours", "hour", "1 hour"),
});
static DAYS: LazyLock<RollUp> = LazyLock::new(|| RollUp {
    empty: "DELETE FROM o7s.meter_days WHERE day = $1",
    fill: roll_up("meter_hours", "hour", "meter_days", "day", "1 day"),
});

impl Meters {
    /// The most urgent thing that is due; answers whether there was one. Somebody else at it is no error.
    pub async fn upkeep(&mut self) -> Result<bool, Error> {
        let done = self
            .within("keep its usage in order", async |connection| {
                Ok(room(connection).await?
                    || sum_up(connection, "hour", HOUR, &HOURS).await?
                    || sum_up(connection, "day", DAY, &DAYS).await?
                    || clean(connection).await?)
            })
            .await;
        match done {
            Err(Error::Sql { source, .. }) if is_locked(&source) => Ok(false),
            done => done,
        }
    }

    pub(super) async fn make_room(&mut self) -> Result<bool, Error> {
        self.within("make room for usage", async |connection| room(connection).await).await
    }
}

fn is_locked(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).as_deref() == Some("55P03")
}

/// Partitions for the days to come, and none for those that are over; their hours are set before.
async fn room(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::query(ALONE).execute(&mut *transaction).await?;
    let (from, until, today): (DateTime<Utc>, DateTime<Utc>, DateTime<Utc>) =
        sqlx::query_as(STATE).fetch_one(&mut *transaction).await?;
    let days = TimeDelta::days;
    // A database that was away for long skips the days nobody can write of any more.
    let (want_from, want_until) = (today - days(MINUTE_DAYS), today + days(DAYS_AHEAD));
    if until >= want_until && from >= want_from {
        // A transaction that is only dropped stays open until the connection's next query, and its lock with it.
        transaction.rollback().await?;
        return Ok(false);
    }
    let kept = from.max(want_from);
    while sum_up_one(&mut transaction, "hour", HOUR, &HOURS, Some(kept)).await? {}
    let mut day = from;
    while day < until && day < kept {
        let name = partition(day);
        sqlx::query(AssertSqlSafe(format!("DROP TABLE o7s.{name}"))).execute(&mut *transaction).await?;
        day += days(1);
    }
    let mut day = until.max(kept);
    let made_until = want_until.max(until);
    while day < made_until {
        let (name, next) = (partition(day), day + days(1));
        let text = format!(
            "CREATE TABLE o7s.{name} PARTITION OF o7s.meter_minutes FOR VALUES FROM ('{}') TO ('{}')",
            day.to_rfc3339(),
            next.to_rfc3339()
        );
        sqlx::query(AssertSqlSafe(text)).execute(&mut *transaction).await?;
        day = next;
    }
    sqlx::query(ROOM).bind(kept).bind(made_until).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(true)
}

fn partition(day: DateTime<Utc>) -> String {
    format!("meter_minutes_{}", day.format("%Y%m%d"))
}

async fn sum_up(
    connection: &mut PgConnection,
    span: &str,
    due: &'static str,
    sql: &RollUp,
) -> Result<bool, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::query(ALONE).execute(&mut *transaction).await?;
    let _: (DateTime<Utc>, DateTime<Utc>, DateTime<Utc>) = sqlx::query_as(STATE).fetch_one(&mut *transaction).await?;
    let done = sum_up_one(&mut transaction, span, due, sql, None).await?;
    transaction.commit().await?;
    Ok(done)
}

/// Sets one interval from all that is below it, whatever was there.
async fn sum_up_one(
    connection: &mut PgConnection,
    span: &str,
    due: &'static str,
    sql: &RollUp,
    before: Option<DateTime<Utc>>,
) -> Result<bool, sqlx::Error> {
    let query = sqlx::query_scalar(due);
    let query = if span == "hour" { query.bind(before) } else { query };
    let found: Option<DateTime<Utc>> = query.fetch_one(&mut *connection).await?;
    let Some(since) = found else { return Ok(false) };
    sqlx::query(sql.empty).bind(since).execute(&mut *connection).await?;
    sqlx::query(AssertSqlSafe(sql.fill.as_str())).bind(since).execute(&mut *connection).await?;
    sqlx::query(CLEAN).bind(span).bind(since).execute(&mut *connection).await?;
    Ok(true)
}

async fn clean(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query(SILENT).execute(&mut *connection).await?;
    let mut transaction = connection.begin().await?;
    sqlx::query(ALONE).execute(&mut *transaction).await?;
    if !sqlx::query_scalar(OLD_DUE).fetch_one(&mut *transaction).await? {
        transaction.rollback().await?;
        return Ok(false);
    }
    for delete in OLD {
        sqlx::query(delete).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(true)
}
