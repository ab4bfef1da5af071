//! What the control database's server says of itself.

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::connect::Store;
use super::error::Error;

const SERVER: &str = "SELECT json_build_object('version', current_setting('server_version_num')::int,
    'now', clock_timestamp())::text";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct ControlServer {
    /// Postgres' `server_version_num`, e.g. 170006.
    pub version: u32,
    pub now: DateTime<Utc>,
}

impl Store {
    pub async fn server(&self) -> Result<ControlServer, Error> {
        let doing = "tell its version and time";
        let text = self.read(doing, SERVER, None).await?.map_err(|source| Error::Sql { doing, source })?;
        serde_json::from_str(&text).map_err(|source| Error::Unreadable { what: "its version and time", source })
    }
}
