//! What a run leaves for people: its record, events and conditions.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use uuid::Uuid;

use super::connect::Store;
use super::error::Error;
use super::lease::{Lease, fenced};
use super::load::is_undefined;

/// One thing that happened to one object in one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// `Tenant`, `Instance`, `Router`, …
    pub kind: String,
    pub name: String,
    /// One CamelCase word, for programs.
    pub reason: String,
    /// For people; what passes 2,000 characters is cut off.
    pub message: String,
    /// `manifests/tenants/acme.yaml:9`
    pub cause: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredEvent {
    /// Grows with time.
    pub id: i64,
    /// By the control database's clock.
    pub at: DateTime<Utc>,
    pub run: Uuid,
    pub epoch: u64,
    #[serde(flatten)]
    pub event: Event,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ConditionType {
    Ready,
    Progressing,
    Degraded,
    Blocked,
    /// Put back again and again: read off the events, stored nowhere.
    Flapping,
    /// `o7s tenant pause` is in force: read off the routes.
    Paused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConditionStatus {
    True,
    False,
    Unknown,
}

/// How one object is doing in one respect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    pub kind: String,
    pub name: String,
    pub condition: ConditionType,
    pub status: ConditionStatus,
    pub reason: String,
    pub message: String,
    /// Of the manifest it speaks of.
    pub digest: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredCondition {
    /// When its status or reason last changed, by the control database's clock.
    pub since: DateTime<Utc>,
    #[serde(flatten)]
    pub condition: Condition,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    Unchanged,
    Applied,
    /// Some of it; the rest failed.
    Partly,
    Refused,
    Failed,
    Interrupted,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunRecord {
    pub id: Uuid,
    pub started: DateTime<Utc>,
    pub ended: DateTime<Utc>,
    pub outcome: Outcome,
    pub plan_digest: Option<String>,
    /// Sent to Railway.
    pub requests: u32,
    /// Of those, the ones that change something.
    pub mutations: u32,
}

/// The newest `limit` events, or the first `limit` after the event `after`; oldest first either way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventFilter {
    /// Kind and name.
    pub object: Option<(String, String)>,
    pub limit: u32,
    pub after: Option<i64>,
}

/// The newest 100,000 events and 10,000 runs are kept. Numbers of failed inserts are never used, so it may be fewer.
const RECORD: &str = fenced!(
    "run AS (INSERT INTO o7s.runs (id, epoch, started_at, ended_at, outcome, plan_digest, requests, mutations)
        SELECT ($2->>'id')::uuid, fence.epoch, ($2->>'started')::timestamptz, ($2->>'ended')::timestamptz,
            $2->>'outcome', $2->>'planDigest', ($2->>'requests')::bigint, ($2->>'mutations')::bigint FROM fence),
    happened AS (INSERT INTO o7s.events (kind, name, reason, message, cause, run, epoch)
        SELECT e.kind, e.name, e.reason, left(e.message, 2000), e.cause, ($2->>'id')::uuid, fence.epoch
        FROM fence, jsonb_to_recordset($3)
            AS e (kind text, name text, reason text, message text, cause text)),
    stands AS (INSERT INTO o7s.conditions AS have (kind, name, condition, status, reason, message, digest)
        SELECT c.kind, c.name, c.condition, c.status, c.reason, left(c.message, 2000), c.digest
        FROM fence, jsonb_to_recordset($4)
            AS c (kind text, name text, condition text, status text, reason text, message text, digest text)
        ON CONFLICT (kind, name, condition) DO UPDATE SET status = excluded.status, reason = excluded.reason,
            message = excluded.message, digest = excluded.digest,
            since = CASE WHEN (have.status, have.reason) = (excluded.status, excluded.reason)
                THEN have.since ELSE now() END
        WHERE (have.status, have.reason, have.message, have.digest)
            IS DISTINCT FROM (excluded.status, excluded.reason, excluded.message, excluded.digest)),
    old_events AS (DELETE FROM o7s.events USING fence WHERE id <= (SELECT max(id) FROM o7s.events) - 100000),
    old_runs AS (DELETE FROM o7s.runs USING fence WHERE number <= (SELECT max(number) FROM o7s.runs) - 10000)
    SELECT count(*) FROM fence"
);
/// The word of events that tell of something changed by other hands and put back.
pub const CORRECTED: &str = "DriftCorrected";
/// And of those that tell of a pause.
pub const PAUSED: &str = "Paused";
/// Three corrections of one object within a day by this database's clock are no accident any more.
const CONDITIONS: &str = "SELECT coalesce(json_agg(json_build_object('kind', kind, 'name', name,
        'condition', condition, 'status', status, 'reason', reason, 'message', message, 'digest', digest,
        'since', since) ORDER BY kind, name, condition), '[]')::text
    FROM (SELECT kind, name, condition, status, reason, message, digest, since FROM o7s.conditions
        UNION ALL SELECT kind, name, 'Flapping', 'True', 'PutBackAgainAndAgain',
            format('put back %s times within a day, last: %s', count(*), (array_agg(message ORDER BY id DESC))[1]),
            NULL, (array_agg(at ORDER BY id))[3]
        FROM o7s.events WHERE reason = $1->>0 AND at > now() - interval '1 day'
        GROUP BY kind, name HAVING count(*) >= 3
        UNION ALL SELECT 'tenant', tenant, 'Paused', 'True', 'TenantPause',
            format('paused: new transactions wait until o7s tenant resume %s; what ran had %s s to end', tenant,
                (patience_ms / 1000.0)::real), NULL,
            coalesce((SELECT max(at) FROM o7s.events WHERE kind = 'tenant' AND name = tenant AND reason = $1->>1),
                (SELECT changed_at FROM o7s.routing))
        FROM o7s.routes WHERE patience_ms IS NOT NULL) AS stands";
const EVENTS: &str = "SELECT coalesce(json_agg(json_build_object('id', id, 'at', at, 'kind', kind, 'name', name,
        'reason', reason, 'message', message, 'cause', cause, 'run', run, 'epoch', epoch) ORDER BY id), '[]')::text
    FROM (SELECT * FROM o7s.events
        WHERE ($1->'object' = 'null' OR (kind = $1->'object'->>0 AND name = $1->'object'->>1))
            AND ($1->'after' = 'null' OR id > ($1->>'after')::bigint)
        ORDER BY CASE WHEN $1->'after' = 'null' THEN -id ELSE id END
        LIMIT ($1->>'limit')::bigint) AS chosen";

impl Lease {
    /// One statement, so that a run is recorded whole or not at all. Conditions that are as before cost no write; each
    /// (kind, name, condition) at most once.
    pub async fn record(&mut self, run: &RunRecord, events: &[Event], conditions: &[Condition]) -> Result<(), Error> {
        let query = sqlx::query_scalar(RECORD).bind(self.epoch);
        self.write("record the run", query.bind(Json(run)).bind(Json(events)).bind(Json(conditions))).await
    }
}

impl Store {
    /// Sorted by kind, name and condition. `Flapping` and `Paused` are there only while it is so.
    pub async fn conditions(&self) -> Result<Vec<StoredCondition>, Error> {
        self.read_list("read the conditions", CONDITIONS, &serde_json::json!([CORRECTED, PAUSED])).await
    }

    pub async fn events(&self, filter: &EventFilter) -> Result<Vec<StoredEvent>, Error> {
        let filter = serde_json::to_value(filter)
            .map_err(|source| Error::Unreadable { what: "the filter of events", source })?;
        self.read_list("read the events", EVENTS, &filter).await
    }

    async fn read_list<T: for<'a> Deserialize<'a>>(
        &self,
        doing: &'static str,
        sql: &'static str,
        parameter: &serde_json::Value,
    ) -> Result<Vec<T>, Error> {
        let text = self.read(doing, sql, Some(parameter)).await?;
        let text =
            text.map_err(
                |source| {
                    if is_undefined(&source) { Error::NotBootstrapped } else { Error::Sql { doing, source } }
                },
            )?;
        serde_json::from_str(&text).map_err(|source| Error::Unreadable { what: "a list", source })
    }
}
