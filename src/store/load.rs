//! Reads all that a plan needs of the control database, in one query.

use serde::{Deserialize, Serialize};

use super::connect::Store;
use super::error::Error;
use super::migrate::SCHEMA_VERSION;
use super::routes::route_json;
use crate::plan::ControlLive;
use crate::tenancy::{EnvironmentId, FleetName, FleetUid, ProjectId};

/// Whose control database it is, and where on Railway the fleet lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FleetRow {
    pub uid: FleetUid,
    pub name: FleetName,
    pub project: ProjectId,
    pub environment: EnvironmentId,
}

#[derive(Deserialize)]
struct Loaded {
    fleet: Option<FleetRow>,
    control: ControlLive,
}

/// One object, so that all of it is of one moment.
const LOAD: &str = concat!(
    "SELECT json_build_object(
        'fleet', (SELECT json_build_object('uid', uid, 'name', name, 'project', project_id,
            'environment', environment_id) FROM o7s.fleet),
        'control', json_build_object(
            'known', EXISTS (SELECT FROM o7s.fleet), 'readAt', now(),
            'schemaVersion', (SELECT coalesce(max(version), 0) FROM o7s.migrations WHERE success),
            'epoch', (SELECT coalesce(max(epoch), 0) FROM o7s.lease WHERE name = 'reconcile'),
            'placements', (SELECT coalesce(json_object_agg(tenant, json_build_object('instance', instance,
                'database', database)), '{}') FROM o7s.placements),
            'instances', (SELECT coalesce(json_object_agg(name, json_build_object('service', service_id,
                'volume', volume_id, 'applied', applied, 'volumeRequestedAt', volume_requested_at,
                'endpoint', CASE WHEN private_host IS NOT NULL THEN json_build_object(
                    'private', json_build_object('host', private_host, 'port', private_port),
                    'public', json_build_object('host', public_host, 'port', public_port)) END)), '{}')
                FROM o7s.instances),
            'routingVersion', (SELECT version FROM o7s.routing),
            'routes', (SELECT coalesce(json_object_agg(tenant, ",
    route_json!(),
    "), '{}') FROM o7s.routes),
            'deletions', (SELECT coalesce(json_object_agg(tenant, json_build_object('instance', instance,
                'renamedTo', renamed_to, 'dueAt', due_at, 'due', due_at <= now())), '{}') FROM o7s.deletions),
            'renames', (SELECT coalesce(json_object_agg(former, json_build_object('to', own,
                'done', done_at IS NOT NULL)), '{}') FROM o7s.renames),
            'routers', (SELECT coalesce(json_object_agg(name, spec), '{}') FROM o7s.routers)
        ))::text"
);

pub(super) const VERSION: &str = "SELECT coalesce(max(version), 0)::text FROM o7s.migrations WHERE success";

impl Store {
    /// One query. An empty database answers `(None, ControlLive::default())`, whose schema version is 0.
    pub async fn load(&self) -> Result<(Option<FleetRow>, ControlLive), Error> {
        let doing = "be read whole";
        let text = match self.read(doing, LOAD, None).await? {
            Ok(text) => text,
            Err(source) if is_undefined(&source) => {
                return match self.schema_version().await? {
                    0 => Ok((None, ControlLive::default())),
                    have if have > SCHEMA_VERSION => Err(Error::NewerSchema { have, known: SCHEMA_VERSION }),
                    have if have < SCHEMA_VERSION => Err(Error::OlderSchema { have, known: SCHEMA_VERSION }),
                    // The version is ours, so somebody removed a part of it.
                    _ => Err(Error::Sql { doing, source }),
                };
            }
            Err(source) => return Err(Error::Sql { doing, source }),
        };
        let Loaded { fleet, control } =
            serde_json::from_str(&text).map_err(|source| Error::Unreadable { what: "the whole", source })?;
        check_version(control.schema_version)?;
        Ok((fleet, control))
    }

    /// 0 where there is no schema.
    async fn schema_version(&self) -> Result<u32, Error> {
        match self.read("tell its schema version", VERSION, None).await? {
            Ok(text) => Ok(text.parse().unwrap_or(u32::MAX)),
            Err(error) if is_undefined(&error) => Ok(0),
            Err(source) => Err(Error::Sql { doing: "tell its schema version", source }),
        }
    }
}

fn check_version(have: u32) -> Result<(), Error> {
    match have {
        SCHEMA_VERSION => Ok(()),
        have if have > SCHEMA_VERSION => Err(Error::NewerSchema { have, known: SCHEMA_VERSION }),
        have => Err(Error::OlderSchema { have, known: SCHEMA_VERSION }),
    }
}

/// A schema, table or column that a query names is missing.
pub(super) fn is_undefined(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    matches!(code.as_deref(), Some("3F000" | "42P01" | "42703"))
}
