//! What a database service of ours must look like on Railway, and how far a live one is from it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::change::VariableValue;
use super::live::{ServiceConfig, VolumeLive};
use crate::manifest::{Desired, Pool, Resources};
use crate::tenancy::{Credential, InstanceName};

/// Connections kept back from tenants: Postgres' own three, the operator, moves and a person with psql.
pub const RESERVED_CONNECTIONS: u32 = 10;
const CONNECTIONS_MIN: u32 = 100;
/// A pool may be made before its tenants, and more connections later mean a restart; an unused slot costs some 20 kB.
const CONNECTIONS_PER_TENANT_MIN: u32 = 5;
/// Above it the connection slots alone cost some 100 MB; a pool that wants more says so with `maxConnections`.
const CONNECTIONS_DERIVED_MAX: u32 = 5_000;

/// Railway's own Postgres image, see its docs on databases.
const CONTROL_IMAGE: &str = "ghcr.io/railwayapp-templates/postgres-ssl:17";

/// Where the image keeps its data; it refuses to start with its volume anywhere else (postgres-ssl wrapper.sh).
pub const MOUNT_PATH: &str = "/var/lib/postgresql/data";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec {
    /// The service's name on Railway.
    pub name: String,
    pub image: String,
    pub start_command: String,
    pub region: Option<String>,
    pub caps: Option<Resources>,
    pub sleep: bool,
    /// At least this many MiB; a volume never shrinks.
    pub volume_mib: u64,
    pub variables: BTreeMap<String, VariableValue>,
}

/// The part of a [`ServiceSpec`] that a live service lacks. Only what is set is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePatchSpec {
    pub marker: bool,
    pub image: Option<String>,
    pub start_command: Option<String>,
    pub region: Option<String>,
    pub caps: Option<Resources>,
    pub sleep: Option<bool>,
    pub tcp_proxy: bool,
    pub volume_mib: Option<u64>,
    pub variables: BTreeMap<String, VariableValue>,
}

impl ServicePatchSpec {
    pub fn is_empty(&self) -> bool {
        *self == ServicePatchSpec::default()
    }

    /// Whether applying it restarts the server: everything but a grown volume and the marker does.
    pub fn restarts(&self) -> bool {
        let quiet = ServicePatchSpec { marker: self.marker, volume_mib: self.volume_mib, ..Default::default() };
        *self != quiet
    }
}

/// The control database's service. It needs no cap a person could get wrong, and no tenant connects to it.
pub fn control_spec() -> ServiceSpec {
    ServiceSpec {
        name: crate::tenancy::CONTROL_SERVICE.to_owned(),
        image: CONTROL_IMAGE.to_owned(),
        start_command: start_command(CONNECTIONS_MIN),
        region: None,
        caps: None,
        sleep: false,
        volume_mib: 0,
        variables: postgres_variables(Credential::Control),
    }
}

/// `live_command` is the running server's start command: its `max_connections` stays unless the manifest names one,
/// because changing it restarts the server and its tenants.
///
/// An adopted service keeps all its variables: they hold its superuser's password, and what else uses them we cannot know.
pub fn instance_spec(
    pool: &Pool,
    desired: &Desired,
    name: &InstanceName,
    live_command: Option<&str>,
    adopted: bool,
) -> ServiceSpec {
    let derived = || derived_max_connections(pool, desired);
    let kept = live_command.and_then(max_connections_of);
    ServiceSpec {
        name: name.to_string(),
        image: pool.image.clone(),
        start_command: start_command(pool.max_connections.or(kept).unwrap_or_else(derived)),
        region: pool.region.clone(),
        caps: pool.resources,
        sleep: pool.sleep_when_idle,
        volume_mib: pool.volume.mebibytes(),
        variables: match adopted {
            true => BTreeMap::new(),
            false => postgres_variables(Credential::Admin { instance: name.clone() }),
        },
    }
}

/// Room for a full instance of the pool's largest tenants, or of tenants that come to it later.
pub fn derived_max_connections(pool: &Pool, desired: &Desired) -> u32 {
    let of_tiers = desired.tiers.values().filter(|tier| tier.pool.as_ref() == Some(&pool.name));
    let of_tenants = desired.tenants.values().filter(|tenant| tenant.pool == pool.name);
    let largest = of_tiers
        .map(|tier| tier.limits.server_connections)
        .chain(of_tenants.map(|tenant| tenant.limits.server_connections))
        .chain([CONNECTIONS_PER_TENANT_MIN])
        .max()
        .unwrap_or(CONNECTIONS_PER_TENANT_MIN);
    let wanted = pool.tenants_per_instance.saturating_mul(largest).saturating_add(RESERVED_CONNECTIONS);
    wanted.clamp(CONNECTIONS_MIN, CONNECTIONS_DERIVED_MAX)
}

/// The whole line, because a start command replaces the image's entry point and its command (FACTS: inferred). What
/// later steps need and no running server can be given without a restart is on from the start: logical decoding and
/// the slots, senders and workers that moves use.
fn start_command(max_connections: u32) -> String {
    let settings = [
        ("wal_level", "logical".to_owned()),
        ("max_replication_slots", "20".to_owned()),
        ("max_wal_senders", "20".to_owned()),
        ("max_logical_replication_workers", "16".to_owned()),
        ("max_worker_processes", "24".to_owned()),
        ("max_connections", max_connections.to_string()),
    ];
    let mut line = "tini -g -- wrapper.sh postgres -p 5432 -c listen_addresses='*'".to_owned();
    for (name, value) in settings {
        line.push_str(&format!(" -c {name}={value}"));
    }
    line
}

/// The `max_connections` a start command of ours sets.
pub fn max_connections_of(start_command: &str) -> Option<u32> {
    start_command.split_whitespace().find_map(|word| word.strip_prefix("max_connections="))?.parse().ok()
}

pub(super) fn postgres_variables(superuser: Credential) -> BTreeMap<String, VariableValue> {
    let plain = [
        ("PGDATA", "/var/lib/postgresql/data/pgdata"),
        ("POSTGRES_USER", "postgres"),
        ("POSTGRES_DB", "railway"),
        ("PGHOST", "${{RAILWAY_PRIVATE_DOMAIN}}"),
        ("PGPORT", "5432"),
        ("PGUSER", "${{POSTGRES_USER}}"),
        ("PGPASSWORD", "${{POSTGRES_PASSWORD}}"),
        ("PGDATABASE", "${{POSTGRES_DB}}"),
        ("SSL_CERT_DAYS", "820"),
        ("RAILWAY_DEPLOYMENT_DRAINING_SECONDS", "60"),
    ];
    plain
        .into_iter()
        .map(|(name, text)| (name.to_owned(), VariableValue::Plain { text: text.to_owned() }))
        .chain([("POSTGRES_PASSWORD".to_owned(), VariableValue::Password { credential: superuser })])
        .collect()
}

/// What `config` lacks of `spec`. A field Railway does not show compares as absent.
pub fn missing(spec: &ServiceSpec, config: &ServiceConfig, volume: Option<&VolumeLive>) -> ServicePatchSpec {
    let differs = |have: Option<&String>, want: &String| (have != Some(want)).then(|| want.clone());
    let mut patch = ServicePatchSpec {
        marker: false,
        image: differs(config.image.as_ref(), &spec.image),
        start_command: differs(config.start_command.as_ref(), &spec.start_command),
        region: spec.region.as_ref().and_then(|want| differs(config.region.as_ref(), want)),
        caps: spec.caps.filter(|want| config.caps != Some(*want)),
        sleep: (config.sleep != spec.sleep).then_some(spec.sleep),
        tcp_proxy: !config.tcp_proxy,
        volume_mib: volume.filter(|v| v.size_mib < spec.volume_mib).map(|_| spec.volume_mib),
        variables: BTreeMap::new(),
    };
    for (name, want) in &spec.variables {
        // None of them needs an address.
        if !config.variables.get(name).is_some_and(|have| have.is(want, |_| None)) {
            patch.variables.insert(name.clone(), want.clone());
        }
    }
    patch
}

/// The image's major version by its tag: `…/postgres-ssl:17` and `:17.6` are 17.
pub fn image_major(image: &str) -> Option<u32> {
    let (_, tag) = image.rsplit_once(':')?;
    let digits = tag.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// The share of an instance's memory, CPU and volume that is used when no tenant does anything (measured on a local
/// Postgres 15 and rounded up, see docs/performance.md).
pub const REST_VCPU_MILLI: u64 = 4;
pub const REST_MEMORY_MIB: u64 = 123;
