//! Running routers: the number each holds, that it is alive, and which routes it has in force.

use std::net::SocketAddr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::connect::Store;
use super::error::Error;
use super::follow::{Follower, Replica, is_live, replica_json};
use crate::tenancy::TenantId;
use serde_json::json;

/// A router that was not seen for longer has lost its number.
pub const REPLICA_TTL: Duration = Duration::from_secs(15);
pub const REPLICAS_MAX: usize = 256;

/// Its own number, the one it would like, one that nobody had yet, one whose owner is gone the longest. No row: somebody
/// else was quicker, or all are taken.
const TAKE: &str = concat!(
    "WITH free AS MATERIALIZED (
        SELECT n::smallint AS number FROM generate_series(0, 255) AS n LEFT JOIN o7s.router_replicas ON number = n
        WHERE number IS NULL OR boot = $1 OR NOT ",
    is_live!(),
    " ORDER BY boot = $1 DESC NULLS LAST, n = $3 DESC, seen_at NULLS FIRST, n LIMIT 1),
    taken AS (INSERT INTO o7s.router_replicas AS have (number, boot, address) SELECT number, $1, $2 FROM free
        ON CONFLICT (number) DO UPDATE SET boot = excluded.boot, address = excluded.address, applied = 0,
            started_at = now(), seen_at = now()
        WHERE have.boot = excluded.boot OR NOT have.",
    is_live!(),
    " RETURNING number),
    cleaned AS (DELETE FROM o7s.route_acks USING taken WHERE replica = taken.number),
    forgotten AS (DELETE FROM o7s.router_replicas WHERE seen_at < now() - interval '1 day'
        AND number NOT IN (SELECT number FROM free)),
    told AS MATERIALIZED (SELECT pg_notify('o7s_routes', version::text) FROM o7s.routing, taken)
    SELECT number FROM taken, (SELECT count(*) FROM told) AS always"
);

const BEAT: &str = concat!(
    "WITH mine AS (UPDATE o7s.router_replicas SET seen_at = now() WHERE number = $1 AND boot = $2 RETURNING number)
    SELECT json_build_object('held', EXISTS (SELECT FROM mine), 'version', (SELECT version FROM o7s.routing),
        'replicas', (SELECT coalesce(json_agg(",
    replica_json!(),
    "), '[]') FROM o7s.router_replicas WHERE ",
    is_live!(),
    "))::text"
);

/// What is in force with all of its version needs no row of its own. The two changes touch different rows.
const ACKNOWLEDGE: &str =
    "WITH mine AS (UPDATE o7s.router_replicas SET applied = $3 WHERE number = $1 AND boot = $2 RETURNING number),
    cleaned AS (DELETE FROM o7s.route_acks USING mine WHERE replica = mine.number AND version <= $3
        AND tenant <> ALL($4)),
    written AS (INSERT INTO o7s.route_acks AS have (replica, tenant, version)
        SELECT mine.number, new.* FROM mine, unnest($4::text[], $5::bigint[]) AS new
        ON CONFLICT (replica, tenant) DO UPDATE SET version = excluded.version, at = now())
    SELECT count(*) FROM mine";

const GIVE_BACK: &str = "DELETE FROM o7s.router_replicas WHERE number = $1 AND boot = $2";

/// Live and lost replicas on which the tenant's route of that version is not known to be in force.
const LAGGING: &str = concat!(
    "SELECT json_build_object('live', count(*) FILTER (WHERE ",
    is_live!(),
    "), 'lagging', coalesce(json_agg(number ORDER BY number) FILTER (WHERE behind AND ",
    is_live!(),
    "), '[]'), 'lost', coalesce(json_agg(number ORDER BY number) FILTER (WHERE behind AND NOT ",
    is_live!(),
    "), '[]'))::text FROM (SELECT number, seen_at, applied < ($1->>'version')::bigint AND NOT EXISTS (
        SELECT FROM o7s.route_acks WHERE replica = number AND tenant = $1->>'tenant'
            AND version >= ($1->>'version')::bigint) AS behind FROM o7s.router_replicas) AS replicas"
);

const ROUTERS: &str = concat!(
    "SELECT json_build_object('version', (SELECT version FROM o7s.routing), 'routers', (SELECT coalesce(json_agg(
        json_build_object('replica', number, 'address', address, 'applied', applied, 'startedAt', started_at,
            'seenAt', seen_at, 'live', ",
    is_live!(),
    ") ORDER BY number), '[]') FROM o7s.router_replicas), 'paused',
        (SELECT coalesce(json_agg(tenant ORDER BY tenant), '[]') FROM o7s.routes WHERE patience_ms IS NOT NULL))::text"
);

/// The routers as the control database knows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routers {
    /// The newest of the routing table.
    pub version: u64,
    /// By number; those that were seen within a day.
    pub routers: Vec<RouterSeen>,
    /// Tenants whose new transactions wait.
    pub paused: Vec<TenantId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouterSeen {
    pub replica: u8,
    /// Where it takes cancel requests of its clients.
    pub address: Option<String>,
    /// All routes of this version are in force there.
    pub applied: u64,
    pub started_at: DateTime<Utc>,
    pub seen_at: DateTime<Utc>,
    /// Seen within [`REPLICA_TTL`].
    pub live: bool,
}

/// What a heartbeat answers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Beat {
    /// The number is still this router's.
    pub held: bool,
    /// The newest of the routing table.
    pub version: u64,
    /// All that were seen within their time.
    pub replicas: Vec<Replica>,
}

/// Where a route of one version is not in force yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lagging {
    /// How many replicas there are.
    pub live: u64,
    /// Of those, the ones that have not said so.
    pub lagging: Vec<u8>,
    /// Not seen within their time, and never said so: gone, or cut off and still serving what they had.
    pub lost: Vec<u8>,
}

impl Follower {
    /// A number for the process `boot`, best the `preferred` one; `None` when all are taken. The number is lost
    /// [`REPLICA_TTL`] after the last heartbeat if somebody else takes it.
    pub async fn take_number(
        &mut self,
        boot: Uuid,
        address: Option<SocketAddr>,
        preferred: Option<u8>,
    ) -> Result<Option<u8>, Error> {
        let (within, address) = (self.deadline(), address.map(|address| address.to_string()));
        let preferred = preferred.map_or(-1, i32::from);
        self.ask("give the router its number", within, async |connection| {
            for _ in 0..3 {
                let taken: Option<i16> = sqlx::query_scalar(TAKE)
                    .bind(boot)
                    .bind(&address)
                    .bind(preferred)
                    .fetch_optional(&mut *connection)
                    .await?;
                if let Some(number) = taken.and_then(|number| u8::try_from(number).ok()) {
                    return Ok(Some(number));
                }
            }
            Ok(None)
        })
        .await
    }

    pub async fn beat(&mut self, number: u8, boot: Uuid) -> Result<Beat, Error> {
        let text: String = self
            .ask("hear that the router is alive", self.deadline(), async |connection| {
                sqlx::query_scalar(BEAT).bind(i16::from(number)).bind(boot).fetch_one(connection).await
            })
            .await?;
        serde_json::from_str(&text).map_err(|source| Error::Unreadable { what: "the routers", source })
    }

    /// All routes of version `applied` are in force here, and those of `routes` of the version beside them. Answers
    /// whether the number is still this router's; otherwise nothing was written.
    pub async fn acknowledge(
        &mut self,
        (number, boot): (u8, Uuid),
        applied: u64,
        routes: &[(String, u64)],
    ) -> Result<bool, Error> {
        let signed = |version: u64| i64::try_from(version).unwrap_or(i64::MAX);
        let tenants: Vec<&str> = routes.iter().map(|(tenant, _)| tenant.as_str()).collect();
        let versions: Vec<i64> = routes.iter().map(|(_, version)| signed(*version)).collect();
        let held: i64 = self
            .ask("take acknowledgements", self.deadline(), async |connection| {
                let query = sqlx::query_scalar(ACKNOWLEDGE).bind(i16::from(number)).bind(boot).bind(signed(applied));
                query.bind(tenants).bind(versions).fetch_one(connection).await
            })
            .await?;
        Ok(held == 1)
    }

    /// Of a router that ends: nobody need wait for it.
    pub async fn give_back(&mut self, number: u8, boot: Uuid) -> Result<(), Error> {
        self.ask("take the router's number back", self.deadline(), async |connection| {
            sqlx::query(GIVE_BACK).bind(i16::from(number)).bind(boot).execute(connection).await.map(drop)
        })
        .await
    }
}

impl Store {
    pub async fn routers(&self) -> Result<Routers, Error> {
        let doing = "tell which routers there are";
        let text = self.read(doing, ROUTERS, None).await?.map_err(|source| Error::Sql { doing, source })?;
        serde_json::from_str(&text).map_err(|source| Error::Unreadable { what: "the routers", source })
    }

    /// The replicas on which the tenant's route of `version`, or a later one, is not known to be in force.
    pub async fn lagging(&self, tenant: &TenantId, version: u64) -> Result<Lagging, Error> {
        let doing = "tell which routers follow";
        let about = json!({ "tenant": tenant, "version": version });
        let text = self.read(doing, LAGGING, Some(&about)).await?.map_err(|source| Error::Sql { doing, source })?;
        serde_json::from_str(&text).map_err(|source| Error::Unreadable { what: "the routers", source })
    }
}
