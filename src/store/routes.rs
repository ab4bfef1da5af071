//! The routing table. One statement is one version: readers see the table before it or after it, never between.

use serde::Deserialize;
use sqlx::types::Json;

use super::connect::Store;
use super::error::Error;
use super::lease::{Lease, fenced, write_failed};
use super::load::is_undefined;
use crate::tenancy::{Route, TenantId};

/// NOTIFY channel; the payload is the new version.
pub const ROUTES_CHANNEL: &str = "o7s_routes";

/// A row of `o7s.routes` in the shape of [`Route`].
macro_rules! route_json {
    () => {
        "json_build_object('tenant', tenant, 'instance', instance, 'database', database, 'adopted', adopted,
            'endpoint', json_build_object(
                'private', json_build_object('host', private_host, 'port', private_port),
                'public', json_build_object('host', public_host, 'port', public_port)),
            'state', state, 'tier', tier, 'generation', generation, 'roles', roles,
            'limits', limits, 'overLimit', over_limit, 'upgrade', upgrade)"
    };
}
pub(super) use route_json;

const READ: &str = concat!(
    "SELECT json_build_object('version', (SELECT version FROM o7s.routing), 'routes',
        (SELECT coalesce(json_agg(",
    route_json!(),
    " ORDER BY tenant), '[]') FROM o7s.routes))::text"
);

/// Removals are kept for as many versions: who has read none of them reads the whole table.
pub(super) const DELTAS_KEPT: i64 = 10_000;

/// A fenced statement with an expression `changed`, one row a change: with any, the version `next.version` is used up and
/// routers hear of it.
macro_rules! versioned {
    ($($sql:expr),+ $(,)?) => {
        $crate::store::lease::fenced!(
            "next AS MATERIALIZED (SELECT routing.version + 1 AS version FROM o7s.routing, fence FOR UPDATE OF routing), ",
            $($sql),+,
            ", grown AS (UPDATE o7s.routing SET version = next.version, changed_at = now() FROM next
                WHERE EXISTS (SELECT FROM changed) RETURNING routing.version),
            told AS MATERIALIZED (SELECT pg_notify('o7s_routes', grown.version::text) FROM grown)
            SELECT (SELECT count(*) FROM fence) + 0 * (SELECT count(*) FROM told)"
        )
    };
}
pub(super) use versioned;

/// Writes only what differs. The row lock on `routing` orders writers, should there ever be two.
const PUBLISH: &str = fenced!(
    "next AS MATERIALIZED (SELECT routing.version + 1 AS version FROM o7s.routing, fence FOR UPDATE OF routing),
    upserted AS (
        INSERT INTO o7s.routes AS have (tenant, instance, database, adopted, private_host, private_port,
            public_host, public_port, state, tier, generation, roles, limits, over_limit, upgrade, version)
        SELECT r->>'tenant', r->>'instance', r->>'database', coalesce((r->>'adopted')::boolean, false),
            r->'endpoint'->'private'->>'host', (r->'endpoint'->'private'->>'port')::integer,
            r->'endpoint'->'public'->>'host', (r->'endpoint'->'public'->>'port')::integer,
            r->>'state', r->>'tier', (r->>'generation')::bigint,
            ARRAY(SELECT jsonb_array_elements_text(r->'roles')), r->'limits', r->'overLimit',
            nullif(r->'upgrade', 'null'::jsonb), next.version
        FROM next, jsonb_array_elements($2) AS r
        ON CONFLICT (tenant) DO UPDATE SET instance = excluded.instance, database = excluded.database,
            adopted = excluded.adopted, private_host = excluded.private_host, private_port = excluded.private_port,
            public_host = excluded.public_host, public_port = excluded.public_port, state = excluded.state,
            tier = excluded.tier, generation = excluded.generation, roles = excluded.roles,
            limits = excluded.limits, over_limit = excluded.over_limit, upgrade = excluded.upgrade,
            version = excluded.version
        WHERE (have.instance, have.database, have.adopted, have.private_host, have.private_port, have.public_host,
                have.public_port, have.state, have.tier, have.generation, have.roles, have.limits,
                have.over_limit, have.upgrade)
            IS DISTINCT FROM (excluded.instance, excluded.database, excluded.adopted, excluded.private_host, excluded.private_port,
                excluded.public_host, excluded.public_port, excluded.state, excluded.tier, excluded.generation,
                excluded.roles, excluded.limits, excluded.over_limit, excluded.upgrade)
        RETURNING tenant),
    removed AS (DELETE FROM o7s.routes USING fence WHERE tenant = ANY($3) RETURNING tenant),
    buried AS (
        INSERT INTO o7s.removed_routes (tenant, version) SELECT tenant, next.version FROM removed, next
        ON CONFLICT (tenant) DO UPDATE SET version = excluded.version),
    unburied AS (DELETE FROM o7s.removed_routes AS old USING upserted WHERE old.tenant = upserted.tenant),
    -- No row that the two above touch.
    forgotten AS (DELETE FROM o7s.removed_routes AS old USING next WHERE old.version < next.version - $5
        AND old.tenant <> ALL($3) AND NOT EXISTS (SELECT FROM jsonb_array_elements($2) AS r WHERE r->>'tenant' = old.tenant)),
    renamed AS MATERIALIZED (SELECT r->>0 AS former, r->>1 AS own FROM fence, jsonb_array_elements($4) AS r),
    left_place AS (DELETE FROM o7s.placements USING renamed WHERE tenant = former),
    placed AS (
        INSERT INTO o7s.placements (tenant, instance, database)
        SELECT own, r->>'instance', r->>'database' FROM renamed JOIN jsonb_array_elements($2) AS r ON r->>'tenant' = own
        ON CONFLICT (tenant) DO UPDATE SET instance = excluded.instance, database = excluded.database),
    settled AS (UPDATE o7s.renames SET done_at = now() FROM renamed WHERE renames.former = renamed.former),
    old_renames AS (DELETE FROM o7s.renames USING renamed WHERE done_at < now() - interval '90 days'),
    -- No flush is half-way: one that had named a place would not find it any more.
    alone AS MATERIALIZED (SELECT FROM o7s.meter_state WHERE EXISTS (SELECT FROM renamed) FOR UPDATE),
    moved AS MATERIALIZED (SELECT former, own FROM renamed, (SELECT count(*) FROM alone) AS waited (many) WHERE many >= 0),
    moved_usage AS (UPDATE o7s.meter_places AS place SET tenant = own FROM moved WHERE place.tenant = former
        AND NOT EXISTS (SELECT FROM o7s.meter_places AS other WHERE (other.tenant, other.instance) = (own, place.instance))),
    moved_size AS (UPDATE o7s.storage AS size SET tenant = own FROM moved WHERE size.tenant = former
        AND NOT EXISTS (SELECT FROM o7s.storage AS other WHERE other.tenant = own)),
    moved_month AS (UPDATE o7s.escrow AS bucket SET tenant = own FROM moved WHERE bucket.tenant = former AND meter = 3
        AND NOT EXISTS (SELECT FROM o7s.escrow AS other WHERE (other.tenant, other.meter) = (own, 3))),
    old_conditions AS (DELETE FROM o7s.conditions USING renamed WHERE kind = 'tenant' AND name = renamed.former),
    -- A tenant's keys go with its name, and end with it.
    moved_keys AS (UPDATE o7s.api_keys SET tenant = own, version = next.version FROM renamed, next
        WHERE tenant = former AND revoked_at IS NULL RETURNING id),
    ended_keys AS (UPDATE o7s.api_keys SET revoked_at = now(), version = next.version FROM next
        WHERE tenant = ANY($3) AND tenant NOT IN (SELECT former FROM renamed) AND revoked_at IS NULL RETURNING id),
    grown AS (
        UPDATE o7s.routing SET version = next.version, changed_at = now() FROM next
        WHERE EXISTS (SELECT FROM upserted) OR EXISTS (SELECT FROM removed) OR EXISTS (SELECT FROM moved_keys)
            OR EXISTS (SELECT FROM ended_keys) RETURNING routing.version)
    SELECT (SELECT count(*) FROM fence), grown.version,
        CASE WHEN grown.version IS NOT NULL THEN pg_notify('o7s_routes', grown.version::text)::text END
    FROM (SELECT) AS always LEFT JOIN grown ON true"
);

#[derive(Deserialize)]
struct Table {
    version: u64,
    routes: Vec<Route>,
}

impl Store {
    /// The whole table and its version, of one moment; sorted by tenant.
    pub async fn routing(&self) -> Result<(u64, Vec<Route>), Error> {
        let text = self.read("read the routing table", READ, None).await?.map_err(|source| {
            if is_undefined(&source) {
                Error::NotBootstrapped
            } else {
                Error::Sql { doing: "read the routing table", source }
            }
        })?;
        let table: Table =
            serde_json::from_str(&text).map_err(|source| Error::Unreadable { what: "the routing table", source })?;
        Ok((table.version, table.routes))
    }
}

impl Lease {
    /// One transaction, one statement, whatever the number. Answers the new version, or `None` where nothing differed:
    /// then no row is written, no version is used up and nobody is notified. Each tenant at most once, and not in both
    /// lists.
    ///
    /// With each of `renames` (former name, own name, whose route is in `upserts`) place, API keys and usage move as well; the
    /// keys of others that are removed are revoked.
    pub async fn publish_routes(
        &mut self,
        upserts: &[Route],
        removed: &[TenantId],
        renames: &[(TenantId, TenantId)],
    ) -> Result<Option<u64>, Error> {
        let doing = "publish routes";
        let removed: Vec<String> = removed.iter().map(ToString::to_string).collect();
        let query = sqlx::query_as(PUBLISH)
            .bind(self.epoch)
            .bind(Json(upserts))
            .bind(removed)
            .bind(Json(renames))
            .bind(DELTAS_KEPT);
        let answer: Result<(i64, Option<i64>, Option<String>), _> = query.fetch_one(&mut self.connection).await;
        let (fence, version, _notified) = answer.map_err(|error| write_failed(doing, error))?;
        self.check(fence)?;
        Ok(version.map(i64::unsigned_abs))
    }
}
