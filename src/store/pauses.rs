//! Pauses of tenants: their routes stay, and routers let no new transaction begin.

use std::time::Duration;

use super::error::Error;
use super::lease::{Lease, fenced, write_failed};
use crate::tenancy::TenantId;

/// Answers the version in which the tenant is as asked for: a new one only where it was not so before.
const SET: &str = fenced!(
    "next AS MATERIALIZED (SELECT routing.version + 1 AS version FROM o7s.routing, fence FOR UPDATE OF routing),
    changed AS (UPDATE o7s.routes SET patience_ms = $3, version = next.version FROM next
        WHERE tenant = $2 AND patience_ms IS DISTINCT FROM $3 RETURNING tenant),
    grown AS (UPDATE o7s.routing SET version = next.version, changed_at = now() FROM next
        WHERE EXISTS (SELECT FROM changed) RETURNING routing.version),
    told AS MATERIALIZED (SELECT pg_notify('o7s_routes', grown.version::text) FROM grown)
    SELECT (SELECT count(*) FROM fence), (SELECT count(*) FROM told) = 1,
        coalesce((SELECT version FROM grown), (SELECT version FROM o7s.routes WHERE tenant = $2))"
);

/// What asking for a pause or its end did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pausing {
    /// It was not so before.
    pub changed: bool,
    /// What routers acknowledge once it is in force.
    pub version: u64,
}

impl Lease {
    /// Pauses the tenant, or with no patience lets it go on. What runs has `patience` to end by itself. `None` where it
    /// has no route.
    pub async fn pause(&mut self, tenant: &TenantId, patience: Option<Duration>) -> Result<Option<Pausing>, Error> {
        let doing = if patience.is_some() { "pause a tenant" } else { "let a tenant go on" };
        let patience = patience.map(|time| i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
        let query = sqlx::query_as(SET).bind(self.epoch).bind(tenant.as_str()).bind(patience);
        let answer: Result<(i64, bool, Option<i64>), _> = query.fetch_one(&mut self.connection).await;
        let (fence, changed, version) = answer.map_err(|error| write_failed(doing, error))?;
        self.check(fence)?;
        Ok(version.map(|version| Pausing { changed, version: version.unsigned_abs() }))
    }
}
