//! What one database uses right now, and which ceilings the server itself holds for it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::server::Server;

/// One query to the server.
const MEASURE: &str = "SELECT json_build_object(
    'serverVersion', current_setting('server_version_num')::int,
    'database', (SELECT json_build_object(
        'sizeBytes', pg_database_size(d.oid),
        'connections', (SELECT count(*) FROM pg_stat_activity a
            WHERE a.datid = d.oid AND a.backend_type = 'client backend'),
        'connectionLimit', d.datconnlimit,
        'settings', (SELECT s.setconfig FROM pg_db_role_setting s WHERE s.setdatabase = d.oid AND s.setrole = 0),
        'allowConnections', d.datallowconn)
        FROM pg_database d WHERE d.datname = $1)
    )::text";

/// Of each database that is no template; one that is dropped meanwhile has none.
const SIZES: &str = "SELECT coalesce(json_object_agg(datname, size) FILTER (WHERE size IS NOT NULL), '{}')::text
    FROM (SELECT datname, pg_database_size(oid) AS size FROM pg_database WHERE NOT datistemplate) AS sizes";

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseUse {
    pub size_bytes: u64,
    /// Clients connected to it, whoever they are.
    pub connections: u32,
    /// -1 is no limit.
    pub connection_limit: i32,
    /// As Postgres keeps it; absent when none is set on the database.
    pub statement_timeout: Option<String>,
    pub allow_connections: bool,
    /// Postgres' `server_version_num`, e.g. 170006.
    pub server_version: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    server_version: u32,
    database: Option<Database>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Database {
    size_bytes: u64,
    connections: u32,
    connection_limit: i32,
    settings: Option<Vec<String>>,
    allow_connections: bool,
}

impl Server {
    /// Bytes of all databases, by name.
    pub async fn sizes(&mut self) -> Result<BTreeMap<String, u64>, Error> {
        let read = sqlx::query_scalar::<_, String>(SIZES).fetch_one(&mut self.connection).await;
        let text = read.map_err(|source| Error::Sql { doing: "measure databases".into(), source })?;
        serde_json::from_str(&text).map_err(|source| Error::Unreadable { source })
    }

    /// `None` when the server has no such database.
    pub async fn measure(&mut self, database: &str) -> Result<Option<DatabaseUse>, Error> {
        let read = sqlx::query_scalar::<_, String>(MEASURE).bind(database).fetch_one(&mut self.connection).await;
        let text = read.map_err(|source| Error::Sql { doing: "measure a database".into(), source })?;
        let answer: Answer = serde_json::from_str(&text).map_err(|source| Error::Unreadable { source })?;
        Ok(answer.database.map(|found| {
            let timeout = |setting: String| setting.strip_prefix("statement_timeout=").map(str::to_owned);
            DatabaseUse {
                size_bytes: found.size_bytes,
                connections: found.connections,
                connection_limit: found.connection_limit,
                statement_timeout: found.settings.into_iter().flatten().find_map(timeout),
                allow_connections: found.allow_connections,
                server_version: answer.server_version,
            }
        }))
    }
}
