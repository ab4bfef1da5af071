//! API keys. Each change of one uses up a version of the routing table, so that routers hear of it as they hear of routes.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::types::Json;
use uuid::Uuid;

use super::connect::Store;
use super::error::Error;
use super::lease::{Lease, fenced, write_failed};
use super::load::is_undefined;
use crate::tenancy::{ApiKey, RoleName, TenantId};

/// In use at a time: routers keep them all.
pub const API_KEYS_MAX: u64 = 100_000;

/// What people are shown of a key; never the key, nor its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyInfo {
    pub id: Uuid,
    pub tenant: TenantId,
    pub name: String,
    /// As declared; `None` is the owner.
    pub role: Option<RoleName>,
    pub created_at: DateTime<Utc>,
    pub revoked_at: Option<DateTime<Utc>>,
    /// Of the routing table: what routers acknowledge once they have it as it is.
    pub version: u64,
}

/// What became of a wish to make a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    Key(Box<ApiKeyInfo>),
    /// The tenant has a key of that name in use.
    NameTaken,
    /// [`API_KEYS_MAX`] are in use.
    Full,
}

macro_rules! info {
    () => {
        "json_build_object('id', id, 'tenant', tenant, 'name', name, 'role', role, 'createdAt', created_at,
            'revokedAt', revoked_at, 'version', version)"
    };
}
/// After `changed`, at most one key, and `next`: the version is used up, routers hear of it, people find it.
macro_rules! told {
    ($reason:literal) => {
        concat!(
            "grown AS (UPDATE o7s.routing SET version = next.version, changed_at = now() FROM next
                WHERE EXISTS (SELECT FROM changed) RETURNING routing.version),
            told AS MATERIALIZED (SELECT pg_notify('o7s_routes', grown.version::text) FROM grown),
            happened AS (INSERT INTO o7s.events (kind, name, reason, message, run, epoch)
                SELECT 'tenant', changed.tenant, '",
            $reason,
            "', format('API key %s, id %s', changed.name, changed.id), gen_random_uuid(), lease.epoch
                FROM changed, o7s.lease WHERE lease.name = 'reconcile')"
        )
    };
}

/// Those revoked long ago are forgotten, once no router can ask for what changed since.
const CREATE: &str = fenced!(
    "next AS MATERIALIZED (SELECT routing.version + 1 AS version FROM o7s.routing, fence FOR UPDATE OF routing),
    counted AS MATERIALIZED (SELECT count(*) < $3 AS room,
            count(*) FILTER (WHERE tenant = $2->>'tenant' AND name = $2->>'name') AS same
        FROM o7s.api_keys WHERE revoked_at IS NULL),
    changed AS (INSERT INTO o7s.api_keys (id, tenant, name, role, hash, version)
        SELECT ($2->>'id')::uuid, $2->>'tenant', $2->>'name', $2->>'role', decode($2->>'hash', 'hex'), next.version
        FROM next, counted WHERE room AND same = 0 RETURNING *),
    forgotten AS (DELETE FROM o7s.api_keys USING next
        WHERE revoked_at < now() - interval '90 days' AND api_keys.version < next.version - $4),
    ",
    told!("KeyCreated"),
    " SELECT (SELECT count(*) FROM fence), json_build_object('room', room, 'told', (SELECT count(*) FROM told),
        'made', (SELECT ",
    info!(),
    " FROM changed))::text FROM counted"
);

/// Needs no lease: it is not to wait for a run that holds it, and takes nothing from one.
const REVOKE: &str = concat!(
    "WITH next AS MATERIALIZED (SELECT version + 1 AS version FROM o7s.routing FOR UPDATE),
    changed AS (UPDATE o7s.api_keys SET revoked_at = now(), version = next.version FROM next
        WHERE id = ($1->>'id')::uuid AND revoked_at IS NULL RETURNING api_keys.*),
    ",
    told!("KeyRevoked"),
    " SELECT json_build_object('told', (SELECT count(*) FROM told), 'key', coalesce((SELECT ",
    info!(),
    " FROM changed), (SELECT ",
    info!(),
    " FROM o7s.api_keys WHERE id = ($1->>'id')::uuid)))::text"
);

const LIST: &str = concat!(
    "SELECT coalesce(json_agg(",
    info!(),
    " ORDER BY tenant, created_at, id), '[]')::text FROM o7s.api_keys
        WHERE ($1->>'tenant' IS NULL OR tenant = $1->>'tenant') AND (revoked_at IS NULL OR ($1->>'revoked')::boolean)"
);

impl Lease {
    /// `name` is unique among the tenant's keys in use. Under the lease, because a rename must find every key.
    pub async fn create_api_key(&mut self, key: &ApiKey, name: &str) -> Result<Created, Error> {
        #[derive(Deserialize)]
        struct Answer {
            room: bool,
            made: Option<ApiKeyInfo>,
        }
        let doing = "create an API key";
        let mut wish = json!(key);
        wish["name"] = json!(name);
        let query = sqlx::query_as(CREATE).bind(self.epoch).bind(Json(wish));
        let query = query.bind(API_KEYS_MAX.cast_signed()).bind(super::routes::DELTAS_KEPT);
        let answer: Result<(i64, String), _> = query.fetch_one(&mut self.connection).await;
        let (fence, text) = answer.map_err(|error| write_failed(doing, error))?;
        self.check(fence)?;
        let Answer { room, made } = read(&text)?;
        Ok(match made {
            Some(made) => Created::Key(Box::new(made)),
            None if room => Created::NameTaken,
            None => Created::Full,
        })
    }
}

impl Store {
    /// `None` when there is no such key. One that was revoked before is answered as it is.
    pub async fn revoke_api_key(&self, id: Uuid) -> Result<Option<ApiKeyInfo>, Error> {
        #[derive(Deserialize)]
        struct Answer {
            key: Option<ApiKeyInfo>,
        }
        let Answer { key } = self.keys("revoke an API key", REVOKE, &json!({ "id": id })).await?;
        Ok(key)
    }

    /// By tenant and age; of one tenant or of all; with those that were revoked or without.
    pub async fn api_keys(&self, tenant: Option<&TenantId>, revoked: bool) -> Result<Vec<ApiKeyInfo>, Error> {
        self.keys("list API keys", LIST, &json!({ "tenant": tenant, "revoked": revoked })).await
    }

    async fn keys<T: for<'a> Deserialize<'a>>(
        &self,
        doing: &'static str,
        sql: &'static str,
        about: &serde_json::Value,
    ) -> Result<T, Error> {
        let text = self.read(doing, sql, Some(about)).await?;
        read(&text.map_err(|source| match is_undefined(&source) {
            true => Error::NotBootstrapped,
            false => Error::Sql { doing, source },
        })?)
    }
}

fn read<T: for<'a> Deserialize<'a>>(text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|source| Error::Unreadable { what: "API keys", source })
}
