//! The routing table as routers follow it: read whole once, then what has changed since a version. One connection hears
//! of changes, reads them and keeps the router's number, so that a dead one is noticed by the next heartbeat.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use serde::Deserialize;
use serde_json::Value;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{Acquire as _, Connection as _, PgConnection};
use tokio::time::timeout;

use super::connect::{address, open, options};
use super::error::Error;
use super::load::{FleetRow, VERSION, is_undefined};
use super::migrate::SCHEMA_VERSION;
use super::routes::{DELTAS_KEPT, ROUTES_CHANNEL, route_json};
use crate::tenancy::{ApiKey, Route, Secret, TenantId};

/// Reading 10,000 routes takes a fifth of a second.
const WHOLE_MAX: Duration = Duration::from_secs(30);

macro_rules! replica_json {
    () => {
        "json_build_object('number', number, 'address', address)"
    };
}
macro_rules! is_live {
    () => {
        "seen_at > now() - interval '15 seconds'"
    };
}
pub(super) use {is_live, replica_json};

/// Everything after version `$1`, of one moment; each row says what it is.
const READ: &str = concat!(
    "SELECT 'version' AS kind, json_build_object('version', version, 'fleet',
        (SELECT json_build_object('uid', uid, 'name', name, 'project', project_id, 'environment', environment_id)
            FROM o7s.fleet))::text AS body FROM o7s.routing
    UNION ALL SELECT 'router', json_build_object('name', name, 'spec', spec, 'version', version)::text FROM o7s.routers
    UNION ALL SELECT 'replica', ",
    replica_json!(),
    "::text FROM o7s.router_replicas WHERE ",
    is_live!(),
    " UNION ALL SELECT 'removed', to_json(tenant)::text FROM o7s.removed_routes WHERE version > $1
    UNION ALL SELECT 'route', json_build_object('version', version, 'patienceMs', patience_ms, 'route', ",
    route_json!(),
    ")::text FROM o7s.routes WHERE version > $1
    UNION ALL SELECT 'key', json_build_object('id', id, 'tenant', tenant, 'role', role, 'hash', encode(hash, 'hex'),
        'revoked', revoked_at IS NOT NULL)::text FROM o7s.api_keys WHERE version > $1 AND ($1 >= 0 OR revoked_at IS NULL)"
);

/// A row of `o7s.routes`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteRow {
    pub route: Route,
    /// That of the table when the row became what it is.
    pub version: u64,
    /// Of a paused tenant: how long what runs has to end by itself.
    pub patience_ms: Option<u64>,
}

/// A Router manifest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RouterRow {
    pub name: String,
    pub spec: Value,
    pub version: u64,
}

/// An API key, or that it is none any more.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ApiKeyRow {
    #[serde(flatten)]
    pub key: ApiKey,
    pub revoked: bool,
}

/// A router that was seen within its time.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Replica {
    pub number: u8,
    /// Where it takes cancel requests of its clients.
    pub address: Option<SocketAddr>,
}

/// What is different since a version, all of one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// The version that this leads to.
    pub version: u64,
    /// `routes` and `keys` are all there are, and others are gone.
    pub whole: bool,
    /// Absent while a lost control database is being rebuilt: then nothing may be concluded from what is missing.
    pub fleet: Option<FleetRow>,
    pub routes: Vec<RouteRow>,
    pub removed: Vec<TenantId>,
    pub keys: Vec<ApiKeyRow>,
    /// All of them, by name.
    pub routers: Vec<RouterRow>,
    /// All of them.
    pub replicas: Vec<Replica>,
}

#[derive(Deserialize)]
struct Head {
    version: u64,
    fleet: Option<FleetRow>,
}

/// A connection to the control database. After an error it is of no use any more.
pub struct Follower {
    listener: PgListener,
    options: PgConnectOptions,
    deadline: Duration,
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Follower({})", address(&self.options))
    }
}

impl Follower {
    /// One attempt; it, and each call but a reading of everything, takes at most `deadline`.
    pub async fn connect(url: &Secret, deadline: Duration) -> Result<Follower, Error> {
        let options = options(url)?.application_name("o7s router");
        // sqlx's pool would try until the deadline, and then not say what was wrong.
        let probe = open(&options, deadline).await?;
        let _ = probe.close().await;
        let pool = PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None);
        let pool = pool.acquire_timeout(deadline).connect_lazy_with(options.clone());
        let failed = |source| Error::NotListening { address: address(&options), source };
        let mut listener = PgListener::connect_with(&pool).await.map_err(failed)?;
        // A lost connection is to be seen, because what was said meanwhile is lost with it.
        listener.eager_reconnect(false);
        listener.ignore_pool_close_event(true);
        listener.listen(ROUTES_CHANNEL).await.map_err(failed)?;
        Ok(Follower { listener, options, deadline })
    }

    /// Returns when something has changed since the last reading. Cancel safe.
    pub async fn changed(&mut self) -> Result<(), Error> {
        let heard = self.listener.try_recv().await;
        let lost = || sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into());
        heard.and_then(|heard| heard.ok_or_else(lost)).map_err(|source| self.lost(source))?;
        // One reading answers them all.
        while self.listener.next_buffered().is_some() {}
        Ok(())
    }

    /// What has changed after version `since`; all there is without one, or where that is too long ago to tell.
    pub async fn read(&mut self, since: Option<u64>) -> Result<Changes, Error> {
        let from = since.and_then(|since| i64::try_from(since).ok()).unwrap_or(-1);
        let read = self.read_after(from).await?;
        let gap = i64::try_from(read.version).unwrap_or(i64::MAX) - from;
        if from < 0 || (0..=DELTAS_KEPT).contains(&gap) { Ok(read) } else { self.read_after(-1).await }
    }

    async fn read_after(&mut self, version: i64) -> Result<Changes, Error> {
        let mut changes = Changes { whole: version < 0, ..Changes::default() };
        let within = if changes.whole { WHOLE_MAX } else { self.deadline };
        self.ask("read the routing table", within, async |connection| {
            let mut rows = sqlx::query_as::<_, (String, String)>(READ).bind(version).fetch(connection);
            while let Some((kind, body)) = rows.try_next().await? {
                take(&mut changes, &kind, &body).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
            }
            Ok(())
        })
        .await?;
        changes.routers.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(changes)
    }

    /// Runs `query` on the connection within a time.
    pub(super) async fn ask<T>(
        &mut self,
        doing: &'static str,
        within: Duration,
        query: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, Error> {
        let listener = &mut self.listener;
        let answer = timeout(within, async { query(listener.acquire().await?).await }).await;
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(source)) if is_undefined(&source) => Err(self.other_schema(doing, source).await),
            Ok(Err(sqlx::Error::Decode(source))) => match source.downcast::<serde_json::Error>() {
                Ok(source) => Err(Error::Unreadable { what: "the routing table", source: *source }),
                Err(source) => Err(Error::Sql { doing, source: sqlx::Error::Decode(source) }),
            },
            Ok(Err(source)) if super::connect::is_ended(&source) => Err(self.lost(source)),
            Ok(Err(source)) => Err(Error::Sql { doing, source }),
            Err(_late) => Err(self.lost(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()))),
        }
    }

    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    fn lost(&self, source: sqlx::Error) -> Error {
        Error::NotListening { address: address(&self.options), source }
    }

    /// Something that is asked for does not exist.
    async fn other_schema(&mut self, doing: &'static str, source: sqlx::Error) -> Error {
        let Ok(connection) = self.listener.acquire().await else { return self.lost(source) };
        let version = sqlx::query_scalar::<_, String>(VERSION).fetch_one(connection).await;
        match version.ok().and_then(|text| text.parse().ok()) {
            None | Some(0) => Error::NotBootstrapped,
            Some(have) if have > SCHEMA_VERSION => Error::NewerSchema { have, known: SCHEMA_VERSION },
            Some(have) if have < SCHEMA_VERSION => Error::OlderSchema { have, known: SCHEMA_VERSION },
            Some(_) => Error::Sql { doing, source },
        }
    }
}

fn take(changes: &mut Changes, kind: &str, body: &str) -> Result<(), serde_json::Error> {
    match kind {
        "route" => changes.routes.push(serde_json::from_str(body)?),
        "key" => changes.keys.push(serde_json::from_str(body)?),
        "removed" => changes.removed.push(serde_json::from_str(body)?),
        "router" => changes.routers.push(serde_json::from_str(body)?),
        "replica" => changes.replicas.push(serde_json::from_str(body)?),
        _ => {
            let Head { version, fleet } = serde_json::from_str(body)?;
            (changes.version, changes.fleet) = (version, fleet);
        }
    }
    Ok(())
}
