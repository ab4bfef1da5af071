//! What a tenant has used of its ceilings, over all routers, and what happened to it there of late.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::connect::Store;
use super::error::Error;
use crate::tenancy::TenantId;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CeilingUse {
    /// Slots that routers hold: sessions that are open, and a few spare ones.
    pub connections: u64,
    /// In the last 60 seconds.
    pub queries: u64,
    pub requests: u64,
    /// Bytes to clients in this month (UTC).
    pub egress: u64,
    /// Bytes, and when they were measured; absent where they never were.
    pub storage: Option<StoredSize>,
    /// By ceiling, in the last hour; zeros left out.
    pub rejected: Vec<Rejected>,
    /// In the last hour, oldest first; at most 20.
    pub events: Vec<CeilingEvent>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredSize {
    pub bytes: u64,
    pub measured_at: DateTime<Utc>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    pub ceiling: String,
    pub count: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CeilingEvent {
    pub at: DateTime<Utc>,
    pub reason: String,
    pub message: String,
}

const READ: &str = "WITH bucket AS (SELECT * FROM o7s.escrow WHERE tenant = $1->>'tenant'),
    minutes AS (SELECT minute.* FROM o7s.meter_minutes AS minute JOIN o7s.meter_places AS place ON place.id = minute.place
        WHERE place.tenant = $1->>'tenant' AND minute.minute > now() - interval '1 hour'),
    rejected AS (SELECT ceiling, sum(count) AS count FROM minutes, LATERAL (VALUES
            ('connections', rejected_connections), ('serverConnections', rejected_server_connections),
            ('queriesPerMinute', rejected_queries), ('requestsPerMinute', rejected_requests),
            ('storage', rejected_storage), ('egressPerMonth', rejected_egress),
            ('statementTimeout', rejected_statement_time)) AS one (ceiling, count)
        GROUP BY ceiling HAVING sum(count) > 0),
    events AS (SELECT * FROM o7s.events WHERE kind = 'tenant' AND name = $1->>'tenant'
            AND reason IN ('NearCeiling', 'OverCeiling') AND at > now() - interval '1 hour' ORDER BY id DESC LIMIT 20)
    SELECT json_build_object(
        'connections', coalesce((SELECT sum(amount) FROM bucket, unnest(held) JOIN o7s.escrow_replicas USING (boot)
            WHERE meter = 0 AND until > now() AND left_at IS NULL AND seen_at > now() - interval '60 seconds'), 0),
        'queries', coalesce((SELECT sum(amount) FROM bucket, unnest(spent)
            WHERE meter = 1 AND second + 60 > extract(epoch FROM now())), 0),
        'requests', coalesce((SELECT sum(amount) FROM bucket, unnest(spent)
            WHERE meter = 2 AND second + 60 > extract(epoch FROM now())), 0),
        'egress', coalesce((SELECT total FROM bucket
            WHERE meter = 3 AND month = date_trunc('month', now() AT TIME ZONE 'UTC')), 0),
        'storage', (SELECT json_build_object('bytes', bytes, 'measuredAt', measured_at) FROM o7s.storage
            WHERE tenant = $1->>'tenant'),
        'rejected', coalesce((SELECT json_agg(rejected ORDER BY ceiling) FROM rejected), '[]'),
        'events', coalesce((SELECT json_agg(json_build_object('at', at, 'reason', reason, 'message', message) ORDER BY id)
            FROM events), '[]'))::text";

impl Store {
    pub async fn ceiling_use(&self, tenant: &TenantId) -> Result<CeilingUse, Error> {
        let doing = "read what is used of the ceilings";
        let text = self.read(doing, READ, Some(&json!({ "tenant": tenant }))).await?;
        let text = text.map_err(|source| Error::Sql { doing, source })?;
        serde_json::from_str(&text)
            .map_err(|source| Error::Unreadable { what: "what is used of the ceilings", source })
    }
}
