//! What is: Railway's project, the control database and the awake instances, as one value without secrets.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::recognise::LiveValue;
use crate::manifest::{RailwayPlan, Resources};
use crate::tenancy::{
    Address, Digest, Endpoint, EnvironmentId, FleetUid, InstanceName, ProjectId, RoleName, Route, ServiceId,
    TenantId, VolumeId,
};

/// Inside Railway's private network.
const POSTGRES_PORT: u16 = 5432;

/// One observation. `complete` parts only: what could not be read is `None` or an [`InstanceState`] that says so, and
/// nothing is ever concluded from an absence in a part that was not read whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Live {
    /// By the operator's clock.
    pub observed_at: DateTime<Utc>,
    pub fleet: FleetUid,
    pub railway: RailwayLive,
    pub control: ControlLive,
    /// Instances whose server answered, or why it did not; keyed by the service's name.
    pub instances: BTreeMap<InstanceName, InstanceState>,
}

impl Live {
    /// By the control database's clock where it told its time. A deletion's dates are all of that one clock.
    pub(super) fn control_now(&self) -> DateTime<Utc> {
        self.control.read_at.unwrap_or(self.observed_at)
    }
}

/// One Railway environment, read to its last page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RailwayLive {
    pub project: ProjectId,
    pub project_name: String,
    pub environment: EnvironmentId,
    pub environment_name: String,
    pub plan: RailwayPlan,
    pub limits: PlanLimits,
    pub config_etag: String,
    /// Changes a person has staged in the dashboard; never committed by us.
    pub staged_changes: u32,
    /// Sorted by name.
    pub services: Vec<ServiceLive>,
    /// Volume instances of this environment that are not pending deletion, sorted by id.
    pub volumes: Vec<VolumeLive>,
}

impl RailwayLive {
    pub fn service(&self, name: &str) -> Option<&ServiceLive> {
        self.services.iter().find(|service| service.name == name)
    }

    /// Whether a database service of ours was made by somebody else.
    pub fn is_adopted(&self, name: &str) -> bool {
        self.service(name).is_some_and(|service| service.adopted)
    }

    pub fn volume_of(&self, service: &ServiceId) -> Option<&VolumeLive> {
        self.volumes.iter().find(|volume| volume.service.as_ref() == Some(service))
    }
}

/// What the Railway plan allows; from the published plan table (railway docs, pricing/plans, read 2026-11-24).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanLimits {
    /// Volumes per project; `None` is unlimited.
    pub volumes: Option<u32>,
    /// Size a volume has when it is made, in MiB.
    pub volume_mib_at_creation: u64,
    /// Size a volume can be grown to, in MiB.
    pub volume_mib_max: u64,
    /// Per service.
    pub vcpu_milli_max: u32,
    pub memory_mib_max: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceLive {
    pub id: ServiceId,
    pub name: String,
    pub created_at: DateTime<Utc>,
    pub owner: Ownership,
    /// Ours by adoption: its variables and the password of its superuser are somebody else's and stay as they are.
    #[serde(default)]
    pub adopted: bool,
    /// `None` while the service has no instance in this environment, or the read lags behind its creation.
    pub config: Option<ServiceConfig>,
    pub deployment: Deployment,
    /// Of the newest deployment; tells a restarted server from the one before.
    pub deployment_id: Option<String>,
}

/// Whose service it is, by its marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ownership {
    /// Our fleet's marker for this very service name, with this service's id.
    Ours,
    /// Our fleet's marker for this name, still without an id: made by us, not configured yet.
    OursUnconfigured,
    /// No marker, another fleet's, or a copied one. Never changed.
    Foreign,
    /// A marker of a later format than this version reads. Never changed.
    Newer,
    /// Listed, but its configuration is not visible yet: it may be ours.
    Unknown,
}

/// The managed part of a service's configuration. Other fields are neither read nor written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceConfig {
    pub image: Option<String>,
    pub start_command: Option<String>,
    pub region: Option<String>,
    pub caps: Option<Resources>,
    pub sleep: bool,
    /// A TCP proxy on 5432 is configured.
    pub tcp_proxy: bool,
    /// The volume mounted at Postgres' data folder.
    pub mounted_volume: Option<VolumeId>,
    /// By name. The owner variable is not in it.
    pub variables: BTreeMap<String, LiveValue>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum Deployment {
    /// Never deployed, or torn down.
    None,
    /// On its way; `status` is Railway's word.
    Pending {
        status: String,
    },
    /// SUCCESS with a running instance.
    Running,
    Sleeping,
    /// FAILED, CRASHED or a running deployment whose instance is not.
    Failed {
        status: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeLive {
    pub id: VolumeId,
    pub service: Option<ServiceId>,
    pub mount_path: String,
    pub size_mib: u64,
    pub used_mib: u64,
}

/// What the control database remembers. All of it can be rebuilt from markers; see `known`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ControlLive {
    /// False for a schema that was just made (or remade): then an absent placement does not mean "never placed", and
    /// an absent [`InstanceRecord`] does not mean "never created".
    pub known: bool,
    /// By the control database's own clock; `None` of one without a schema, and in files of before it was asked.
    #[serde(default)]
    pub read_at: Option<DateTime<Utc>>,
    /// Migrations applied; 0 before the first.
    pub schema_version: u32,
    pub epoch: u64,
    pub placements: BTreeMap<TenantId, Placement>,
    pub instances: BTreeMap<String, InstanceRecord>,
    pub routing_version: u64,
    pub routes: BTreeMap<TenantId, Route>,
    /// Databases renamed away and waiting to be dropped.
    pub deletions: BTreeMap<TenantId, PendingDeletion>,
    /// By former name.
    #[serde(default)]
    pub renames: BTreeMap<TenantId, Rename>,
    /// JSON of each Router manifest as stored, by name.
    pub routers: BTreeMap<String, serde_json::Value>,
}

/// Where a tenant's database is; chosen once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    pub instance: InstanceName,
    /// Normally the tenant's name.
    pub database: String,
}

/// Progress and addresses of one of our services, kept because Railway's answers can be lost and its reads lag.
/// Written before the call it speaks of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceRecord {
    pub service: Option<ServiceId>,
    pub volume: Option<VolumeId>,
    /// When a `volumeCreate` for it was last sent; its answer may have been lost.
    pub volume_requested_at: Option<DateTime<Utc>>,
    pub endpoint: Option<Endpoint>,
    /// Digest of the specification last applied whole: a live difference is drift while this is still wanted.
    pub applied: Option<Digest>,
}

/// A tenant's rename: begun, or done and remembered for some weeks, because manifests may be put back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rename {
    pub to: TenantId,
    pub done: bool,
}

/// A deletion in its grace time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingDeletion {
    pub instance: InstanceName,
    /// `zz_deleted_<date>_<tenant>`.
    pub renamed_to: String,
    /// By the control database's clock.
    pub due_at: DateTime<Utc>,
    pub due: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum InstanceState {
    Awake(Box<ServerLive>),
    /// Not asked, so that it can go on sleeping.
    Asleep,
    Unreachable {
        reason: String,
    },
}

/// What one query to an instance's server answered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerLive {
    /// Postgres' `server_version_num`, e.g. 170006.
    pub version: u32,
    pub max_connections: u32,
    /// Databases no tenant owns where PUBLIC may still connect, sorted.
    pub public_databases: Vec<String>,
    pub databases: BTreeMap<String, DatabaseLive>,
    pub roles: BTreeMap<String, RoleLive>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseLive {
    pub owner: String,
    /// The tenant of our marker in its comment, or of the role that says it was adopted.
    pub tenant: Option<TenantId>,
    /// Somebody else made it and owns it. Its owner's and other roles' access stays.
    #[serde(default)]
    pub adopted: bool,
    pub allow_connections: bool,
    /// Whether PUBLIC (every role of the server), or a role that is not the tenant's, may connect; of an adopted one,
    /// whether PUBLIC may or the tenant's role may not.
    pub public_connect: bool,
    pub connection_limit: i32,
    /// `statement_timeout` set on the database, in milliseconds; `None` when unset.
    pub statement_timeout_ms: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoleLive {
    /// `None` for a role without our marker: foreign, never changed.
    pub mark: Option<RoleMark>,
    pub can_login: bool,
    /// Has superuser, createdb, createrole, replication or bypassrls: a tenant's role must have none.
    pub privileged: bool,
    pub connection_limit: i32,
    /// Whether its password is still the one we set for the mark's generation.
    pub password_ours: bool,
    /// Roles it is a member of, sorted; a tenant's role must be in none but its own owner's.
    pub member_of: Vec<String>,
    /// Its own settings of `statement_timeout`, which win over the database's. Any role can make them for itself.
    #[serde(default)]
    pub statement_timeouts: Vec<RoleTimeout>,
}

/// `ALTER ROLE … [IN DATABASE …] SET statement_timeout`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoleTimeout {
    /// `None`: in all of them.
    pub database: Option<String>,
    /// 0 is no limit; `u64::MAX` is text that we cannot read.
    pub ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoleMark {
    pub tenant: TenantId,
    pub role: Option<RoleName>,
    pub generation: u32,
    /// `owner`, `read` or `write`.
    pub grants: String,
    /// Of an owner role: the database it was given that somebody else owns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopted: Option<String>,
}

/// An address pair that Railway told us, by service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceEndpoint {
    pub service: ServiceId,
    pub public: Option<Address>,
    pub private_host: Option<String>,
}

impl ServiceEndpoint {
    /// Both addresses of the service called `name`; `None` while its TCP proxy is not up. The private name is told only
    /// once the first deployment runs, and every service gets this one.
    pub fn of_postgres(&self, name: &str) -> Option<Endpoint> {
        let host = self.private_host.clone().unwrap_or_else(|| format!("{name}.railway.internal"));
        Some(Endpoint { private: Address { host, port: POSTGRES_PORT }, public: self.public.clone()? })
    }
}
