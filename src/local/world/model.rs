//! The things a Railway workspace consists of. The config blob of an environment is the truth for everything a patch
//! can write; the objects here hold what a blob does not: identity, age, deployments, addresses.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::applies::Apply;
use super::backups::Schedule;
use super::faults::DeployTrouble;

/// Railway's ids are opaque texts; the types in `tenancy` are for those we manage, here they are all alike.
pub type Id = String;

/// Railway's default region for a project that named none.
pub const DEFAULT_REGION: &str = "us-west2";

#[derive(Clone, Serialize, Deserialize)]
pub struct Project {
    pub id: Id,
    pub name: String,
    pub description: Option<String>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub deleted_at: Option<DateTime<Utc>>,
    pub base_environment: Id,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct Environment {
    pub id: Id,
    pub project: Id,
    pub name: String,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub deleted_at: Option<DateTime<Utc>>,
    /// Made from another environment. A service created in one that is no fork appears in all that are no forks.
    pub fork_of: Option<Id>,
    pub ephemeral: bool,
    /// `services`, `volumes`, `sharedVariables`: always objects.
    pub config: Value,
    /// Grows with each write of the config; `configEtag` is made of it.
    pub revision: u64,
    pub staged: Patch,
    /// Committed ones, oldest first, at most [`PATCHES_KEPT`].
    pub patches: Vec<Patch>,
    /// Change sets, oldest first.
    #[serde(default)]
    pub applies: Vec<Apply>,
    pub instances: BTreeMap<Id, ServiceInstance>,
    pub volume_instances: BTreeMap<Id, VolumeInstance>,
}

pub const PATCHES_KEPT: usize = 100;
/// Of one service in one environment; the newest ones.
pub const DEPLOYMENTS_KEPT: usize = 20;

#[derive(Clone, Serialize, Deserialize)]
pub struct Patch {
    pub id: Id,
    pub message: Option<String>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub applied_at: Option<DateTime<Utc>>,
    pub content: Value,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct Service {
    pub id: Id,
    pub project: Id,
    pub name: String,
    pub icon: Option<String>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub deleted_at: Option<DateTime<Utc>>,
    /// Later than now while lists lag behind its creation.
    pub visible_at: DateTime<Utc>,
}

/// A service in one environment.
#[derive(Clone, Serialize, Deserialize)]
pub struct ServiceInstance {
    pub id: Id,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    /// Later than now while lists and the config blob lag behind its creation.
    pub visible_at: DateTime<Utc>,
    /// The private DNS label, settled at creation: renaming the service leaves it.
    pub dns_name: String,
    /// Where its Postgres listens on this machine, and so the public port of its TCP proxy. Given by the host.
    pub port: Option<u16>,
    /// By the port inside the container.
    pub proxies: BTreeMap<u16, TcpProxy>,
    /// When it last sent anything to anybody, as far as the host told.
    #[serde(default)]
    pub sent_at: Option<DateTime<Utc>>,
    /// Oldest first, at most [`DEPLOYMENTS_KEPT`].
    pub deployments: Vec<Deployment>,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct TcpProxy {
    pub id: Id,
    pub created_at: DateTime<Utc>,
    /// Made outside a patch: nothing listens there before the next deployment.
    #[serde(default)]
    pub needs_deploy: bool,
    /// On its way out since.
    #[serde(default)]
    pub deleted_at: Option<DateTime<Utc>>,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct Volume {
    pub id: Id,
    pub project: Id,
    pub name: String,
    pub created_at: DateTime<Utc>,
}

/// A volume in one environment. Which service it is mounted in, and where, follows the config blob.
#[derive(Clone, Serialize, Deserialize)]
pub struct VolumeInstance {
    pub id: Id,
    pub service: Option<Id>,
    pub mount_path: String,
    pub region: String,
    pub size_mb: u64,
    /// Bytes of the data on it, as last measured; file-system metadata comes on top.
    pub data_bytes: u64,
    pub created_at: DateTime<Utc>,
    pub visible_at: DateTime<Utc>,
    /// When it is gone for good; until then it lies in its grave.
    pub dies_at: Option<DateTime<Utc>>,
    /// A server has initialised its data folder here: passwords of later variables have no effect.
    pub initialised: bool,
    /// Its data is being put back from a backup.
    #[serde(default)]
    pub restoring: bool,
    #[serde(default)]
    pub schedules: Vec<Schedule>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    Initializing,
    Deploying,
    Success,
    Sleeping,
    Failed,
    Crashed,
    Removing,
    Removed,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Initializing => "INITIALIZING",
            Status::Deploying => "DEPLOYING",
            Status::Success => "SUCCESS",
            Status::Sleeping => "SLEEPING",
            Status::Failed => "FAILED",
            Status::Crashed => "CRASHED",
            Status::Removing => "REMOVING",
            Status::Removed => "REMOVED",
        }
    }

    pub fn is_on_its_way(self) -> bool {
        matches!(self, Status::Initializing | Status::Deploying)
    }

    /// A container of it is being started, runs, or sleeps.
    pub fn has_container(self) -> bool {
        matches!(self, Status::Deploying | Status::Success | Status::Sleeping)
    }
}

#[derive(Clone, Serialize, Deserialize)]
pub struct Deployment {
    pub id: Id,
    pub instance_id: Id,
    pub created_at: DateTime<Utc>,
    pub status: Status,
    pub status_at: DateTime<Utc>,
    /// Stopped on request: service, variables and volume stay.
    pub stopped: bool,
    /// One more for each restart: whoever runs the container starts it anew.
    pub starts: u32,
    pub trouble: Option<DeployTrouble>,
    /// Why it failed or crashed, for people.
    pub reason: Option<String>,
    /// Each status it had, oldest first, at most [`STEPS_KEPT`].
    #[serde(default)]
    pub steps: Vec<Step>,
    pub snapshot: Snapshot,
}

pub const STEPS_KEPT: usize = 50;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub status: Status,
    pub at: DateTime<Utc>,
}

/// What a deployment was made from; later writes of the config do not reach it.
#[derive(Clone, Serialize, Deserialize)]
pub struct Snapshot {
    pub image: Option<String>,
    pub start_command: Option<String>,
    /// Rendered.
    pub variables: BTreeMap<String, String>,
    pub mount: Option<Mount>,
    #[serde(default)]
    pub healthcheck: Option<Healthcheck>,
    /// It is put to sleep when it has sent nothing for a while.
    #[serde(default)]
    pub sleeps: bool,
}

/// An HTTP request that has to succeed once before a deployment counts as up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healthcheck {
    pub path: String,
    pub timeout_s: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    pub volume: Id,
    pub path: String,
}

/// A service in an environment, as an argument: two bare ids in a row invite the wrong order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At {
    pub environment: Id,
    pub service: Id,
}

/// What a token may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Caller {
    Account,
    Workspace,
    Project { token: Id, name: String, project: Id, environment: Id, created_at: DateTime<Utc> },
}

/// Only the digest is kept: a secret of a project token is shown once.
#[derive(Clone, Serialize, Deserialize)]
pub struct Token {
    pub digest: String,
    pub caller: Caller,
}
