//! What the manifests ask for, valid as a set: references resolved, defaults filled in. Only `check` makes these.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::tenancy::{
    Bytes, FleetName, InstanceName, Limits, Millis, OverLimit, Percent, PoolName, RoleName, RouterName, TenantId,
    TierName, Upgrade,
};

/// Where something was written, for causes and errors: `manifests/tenants/acme.yaml:9`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Origin {
    pub file: Arc<str>,
    /// Counts from 1.
    pub line: u32,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Where each field of one object was written, by its path (`spec.tier`, `spec.limits.connections`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origins {
    /// The object itself: the line of `metadata.name`.
    pub object: Origin,
    pub fields: BTreeMap<String, u32>,
}

impl Origins {
    /// The line of `path` or of the nearest written parent (`spec.limits` for an inherited `spec.limits.storage`),
    /// else the object's.
    pub fn at(&self, path: &str) -> Origin {
        let mut path = path;
        loop {
            if let Some(&line) = self.fields.get(path) {
                return Origin { file: Arc::clone(&self.object.file), line };
            }
            match path.rsplit_once('.') {
                // `spec` itself says nothing: the object's name is the better cause.
                Some((parent, _)) if parent != "spec" => path = parent,
                _ => return self.object.clone(),
            }
        }
    }
}

/// Everything the manifests ask for. Maps are sorted, so order of files and documents has no effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    pub fleet: Fleet,
    pub tiers: BTreeMap<TierName, Tier>,
    pub pools: BTreeMap<PoolName, Pool>,
    pub routers: BTreeMap<RouterName, Router>,
    pub tenants: BTreeMap<TenantId, Tenant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RailwayPlan {
    Free,
    Trial,
    Hobby,
    Pro,
    Enterprise,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fleet {
    pub name: FleetName,
    /// Name of the Railway project; defaults to the fleet's.
    pub project: String,
    /// Name of the Railway environment; defaults to `production`.
    pub environment: String,
    /// The plan the fleet was written for; the live one decides limits.
    pub plan: Option<RailwayPlan>,
    pub default_tier: Option<TierName>,
    pub billing: Billing,
    pub safety: Safety,
    pub paused: bool,
    pub origins: Origins,
}

/// Kept for the bill; nothing else reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Billing {
    pub currency: String,
    pub overhead: Overhead,
    /// Added to the cost, in percent (may pass 100).
    pub markup_percent: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overhead {
    Proportional,
    Even,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Safety {
    /// Above this many removals a plan is refused whole.
    pub max_removals: RemovalGuard,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemovalGuard {
    /// Of the live tenants, rounded down, but at least one.
    Percent(Percent),
    Count(u32),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tier {
    pub name: TierName,
    pub limits: Limits,
    pub over_limit: OverLimit,
    /// Where tenants of this tier go unless they say otherwise.
    pub pool: Option<PoolName>,
    pub price: Option<TierPrice>,
    pub upgrade: Option<Upgrade>,
    pub origins: Origins,
}

/// Amounts in nano-dollars (10^-9 USD).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierPrice {
    pub monthly_nanos: i128,
    pub included_egress: Option<Bytes>,
    pub overage_egress_nanos_per_gib: Option<i128>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    pub name: PoolName,
    pub image: String,
    /// Asked for explicitly; absent means derived when an instance is made, see `plan::instance`.
    pub max_connections: Option<u32>,
    pub region: Option<String>,
    pub volume: Bytes,
    pub resources: Option<Resources>,
    /// At least 1; 1 means dedicated.
    pub tenants_per_instance: u32,
    pub instances_min: u32,
    /// At least `instances_min` and at least 1.
    pub instances_max: u32,
    pub sleep_when_idle: bool,
    pub outgrow: Option<Outgrow>,
    pub paused: bool,
    pub origins: Origins,
}

/// A cap per instance: nothing else bounds what one costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// Thousandths of a vCPU.
    pub vcpu_milli: u32,
    pub memory: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgrow {
    pub storage: Option<Bytes>,
    pub server_time_share: Option<Percent>,
    pub lasting: Option<Millis>,
    pub to: PoolName,
    /// Move without being asked; otherwise only propose.
    pub auto: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Router {
    pub name: RouterName,
    pub replicas: u32,
    pub domain: Option<String>,
    pub pooling: Pooling,
    /// In this order; each at most once.
    pub identify: Vec<Identify>,
    /// Sessions are told when a ceiling is nearly reached.
    pub notices: bool,
    /// Clients on other machines must encrypt.
    pub require_tls: bool,
    pub jwt: Option<Jwt>,
    pub paused: bool,
    pub origins: Origins,
}

/// Whose signed tokens are believed, and what in them names tenant and role. Routers read it as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Jwt {
    #[serde(flatten)]
    pub keys: JwtKeys,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    pub tenant_claim: String,
    pub role_claim: String,
    /// Sessions go on when the tokens that began them expire.
    #[serde(default)]
    pub sessions_outlive: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum JwtKeys {
    /// Where the issuer publishes its key set.
    Jwks(String),
    /// The environment variable of the router that holds a shared secret.
    SecretFrom(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Pooling {
    Transaction,
    Session,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Identify {
    Sni,
    Options,
    User,
    Database,
    Jwt,
    ApiKey,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    pub name: TenantId,
    pub labels: BTreeMap<String, String>,
    pub renamed_from: Option<TenantId>,
    pub tier: TierName,
    /// Its own, its pinned instance's, or its tier's.
    pub pool: PoolName,
    pub pinned: Option<InstanceName>,
    /// The tier's, with the tenant's own on top.
    pub limits: Limits,
    /// Sorted by name.
    pub roles: Vec<Role>,
    pub suspended: bool,
    /// Read, compared and shown, never written.
    pub paused: bool,
    /// At least 1; one more rotates every password of the tenant.
    pub generation: u32,
    pub state: TenantState,
    pub deletion_policy: DeletionPolicy,
    pub publish: Vec<Publish>,
    pub origins: Origins,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Role {
    pub name: RoleName,
    pub grants: Grants,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Grants {
    Read,
    Write,
}

impl Grants {
    pub fn as_str(self) -> &'static str {
        match self {
            Grants::Read => "read",
            Grants::Write => "write",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TenantState {
    Present,
    Absent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeletionPolicy {
    Retain,
    Detach,
    Delete,
}

/// Sets `variable` of the app service `service` to the tenant's connection URL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Publish {
    pub service: String,
    pub variable: String,
    /// The declared role to connect as; the owner when absent.
    pub role: Option<RoleName>,
}
