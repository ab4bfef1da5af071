//! The plan as a value: printed, saved, reviewed, priced and carried out.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::change::{DatabaseChange, DeletionIntent, VariableValue};
use super::code::Code;
use super::held::Held;
use super::live::Placement;
use super::spec::{ServicePatchSpec, ServiceSpec};
use super::target::Target;
use crate::cost::Nanos;
use crate::manifest::Origin;
use crate::tenancy::{EnvironmentId, FleetUid, InstanceName, ProjectId, Route, ServiceId, TenantId, VolumeId};

/// Everything one run would do, and what it would not do and why. Equal inputs give equal plans, byte for byte. What
/// programs read of it is its document; its own serialisation is what its digest is taken of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    pub fleet: String,
    pub fleet_uid: FleetUid,
    pub project: String,
    pub project_id: ProjectId,
    pub environment: String,
    pub environment_id: EnvironmentId,
    #[serde(skip)]
    pub snapshot: Snapshot,
    /// What the run is limited to; empty is everything.
    pub targets: Vec<Target>,
    /// In the order they are carried out: by wave, then kind, then name.
    pub actions: Vec<Action>,
    /// Objects that are not touched by decision: exit 4. The rest goes on.
    pub refused: Vec<Problem>,
    /// Objects that cannot be worked on now, such as tenants of an unreachable instance: exit 3. The rest goes on.
    pub blocked: Vec<Problem>,
    /// Limits that carrying it out would break: exit 5, nothing is written.
    pub breaches: Vec<Problem>,
    /// Too many removals: exit 4, nothing is written.
    pub guard: Option<GuardTrip>,
    /// What the guard counted, tripped or not.
    pub removals: GuardTrip,
    /// Live, absent from the manifests, kept.
    pub retained: Vec<String>,
    /// Left alone because their manifests say so; what waits is shown.
    pub held: Vec<Held>,
    #[serde(skip)]
    pub warnings: Vec<Warning>,
    /// Lives beside the fleet and is left alone.
    #[serde(skip)]
    pub unknown: Vec<String>,
    pub unchanged: Unchanged,
    pub price: PriceChange,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }

    /// Whether the whole run is refused, not only some objects.
    pub fn is_stopped(&self) -> bool {
        self.guard.is_some() || !self.breaches.is_empty()
    }
}

/// Of what the plan was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub etag: String,
    pub read_at: DateTime<Utc>,
    /// Whether every server answered; what sleeps is not asked.
    pub complete: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Action {
    /// `tenant/acme`, `instance/shared-1`, `route/acme`, `publish/api.DATABASE_URL`.
    pub address: String,
    pub symbol: Symbol,
    pub wave: Wave,
    pub reason: Reason,
    /// Where the wish was written.
    pub cause: Origin,
    pub fields: Vec<Field>,
    pub step: Step,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Symbol {
    Create,
    Update,
    Delete,
    /// The same object under another name.
    Move,
    /// Something changed behind our back is put back.
    Drift,
}

impl Symbol {
    pub fn as_str(self) -> &'static str {
        match self {
            Symbol::Create => "+",
            Symbol::Update => "~",
            Symbol::Delete => "-",
            Symbol::Move => ">",
            Symbol::Drift => "!",
        }
    }
}

/// Each wave is finished before the next begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wave {
    Instances,
    Databases,
    Routes,
    Variables,
    Removals,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    pub code: ReasonCode,
    pub text: String,
}

/// A closed list, so that a policy can match on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasonCode {
    NotFound,
    Unfinished,
    SpecChanged,
    Drift,
    Rotation,
    ConfirmedDelete,
    Moved,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    pub path: String,
    /// `None` prints as `(none)`.
    pub old: Option<String>,
    pub new: Option<String>,
}

/// What to do, with nothing left to decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "step")]
pub enum Step {
    Instance(Box<InstanceStep>),
    /// Changes inside an instance that belong to no tenant.
    Server {
        instance: InstanceName,
        changes: Vec<DatabaseChange>,
    },
    Tenant(Box<TenantStep>),
    Route {
        route: Box<RouteDraft>,
    },
    Publish {
        service: ServiceId,
        service_name: String,
        variable: String,
        value: VariableValue,
    },
    /// Rows of the control database that are no longer true.
    Forget {
        tenant: TenantId,
        why: Forgotten,
    },
    /// The routing table and the memory of places, from a former name to the tenant's own, in one transaction.
    Rename {
        former: TenantId,
        route: Box<RouteDraft>,
    },
    /// A rename that was begun on nothing yet and is wanted no more.
    CancelRename {
        former: TenantId,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Forgotten {
    /// The deletion was undone: only its record goes.
    Undone,
    /// Its database is dropped: the tenant's placement and route go too.
    Dropped,
    /// Its marks are gone: placement and route go too, database and roles stay.
    Detached,
}

/// Brings one database service from wherever it is to running. What exists is named, what does not is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStep {
    pub spec: ServiceSpec,
    pub service: Option<ServiceId>,
    pub volume: Option<VolumeId>,
    /// The volume exists but hangs on no service.
    pub attach: bool,
    /// A `volumeCreate` may have been sent before and its answer lost: look until 90 s after this before another.
    /// `None`: surely none was sent.
    #[serde(skip)]
    pub volume_requested_at: Option<DateTime<Utc>>,
    pub patch: ServicePatchSpec,
    /// The last deployment failed and nothing in the patch would start a new one.
    pub redeploy: bool,
    /// The deployment that the patch or the redeploy replaces, to tell the new one from it.
    pub replaces: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TenantStep {
    pub tenant: TenantId,
    /// Written to the control database before anything is made.
    pub placement: Placement,
    pub changes: Vec<DatabaseChange>,
    /// Written before the changes; its time is set by the control database's clock.
    pub deletion: Option<DeletionIntent>,
    /// The tenant's former name, whose route is suspended before the changes.
    #[serde(default)]
    pub former: Option<TenantId>,
}

/// A route without its instance's address, which a new instance does not have yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteDraft {
    pub tenant: TenantId,
    pub database: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
    pub instance: InstanceName,
    pub state: crate::tenancy::RouteState,
    pub tier: crate::tenancy::TierName,
    pub generation: u32,
    pub roles: Vec<crate::tenancy::RoleName>,
    pub limits: crate::tenancy::Limits,
    pub over_limit: crate::tenancy::OverLimit,
    pub upgrade: Option<crate::tenancy::Upgrade>,
}

impl RouteDraft {
    pub fn at(self, endpoint: crate::tenancy::Endpoint) -> Route {
        Route {
            tenant: self.tenant,
            instance: self.instance,
            database: self.database,
            adopted: self.adopted,
            endpoint,
            state: self.state,
            tier: self.tier,
            generation: self.generation,
            roles: self.roles,
            limits: self.limits,
            over_limit: self.over_limit,
            upgrade: self.upgrade,
        }
    }

    pub fn of(route: &Route) -> RouteDraft {
        RouteDraft {
            tenant: route.tenant.clone(),
            database: route.database.clone(),
            adopted: route.adopted,
            instance: route.instance.clone(),
            state: route.state,
            tier: route.tier.clone(),
            generation: route.generation,
            roles: route.roles.clone(),
            limits: route.limits.clone(),
            over_limit: route.over_limit.clone(),
            upgrade: route.upgrade.clone(),
        }
    }
}

/// Something in the way, with the next step for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    pub code: Code,
    pub address: String,
    pub message: String,
    pub help: String,
    pub cause: Option<Origin>,
}

/// What to know before it is carried out, as one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The line of the manifests it is about.
    pub cause: Option<Origin>,
    pub text: String,
}

impl Warning {
    pub fn at(cause: Origin, text: String) -> Warning {
        Warning { cause: Some(cause), text }
    }
}

impl From<String> for Warning {
    fn from(text: String) -> Warning {
        Warning { cause: None, text }
    }
}

/// On one line, its place in front.
impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Some(cause) => write!(f, "{cause}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// As it is displayed.
impl Serialize for Warning {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct GuardTrip {
    pub removals: u32,
    pub live: u32,
    pub allowed: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unchanged {
    pub instances: u32,
    pub tenants: u32,
}

/// Per month at list prices, in nano-dollars.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceChange {
    /// New instances doing nothing.
    pub at_rest: Nanos,
    /// New instances at their caps with full volumes; absent when a pool has no cap.
    pub at_caps: Option<Nanos>,
    /// What tenants pay by their tiers.
    pub revenue: Nanos,
}

/// Counts for the last line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    pub create: u32,
    pub update: u32,
    pub replace: u32,
    pub delete: u32,
    #[serde(default, rename = "move")]
    pub moved: u32,
    pub drift: u32,
    pub retained: u32,
    pub unchanged: u32,
}

/// How a field shows what it may not.
pub const SECRET: &str = "(secret)";
/// A secret that differs from the one before.
pub const SECRET_CHANGED: &str = "(secret, changed)";
/// A value that only carrying the plan out can tell.
pub const KNOWN_AFTER: &str = "(known after apply)";

impl Field {
    pub fn is_sensitive(&self) -> bool {
        let secret = |text: &String| text.ends_with(SECRET) || text.ends_with(SECRET_CHANGED);
        self.old.iter().chain(&self.new).any(secret)
    }

    pub fn is_unknown(&self) -> bool {
        self.new.as_deref() == Some(KNOWN_AFTER)
    }
}

impl Plan {
    pub fn summary(&self) -> Summary {
        let mut by_symbol: BTreeMap<&str, u32> = BTreeMap::new();
        for action in &self.actions {
            *by_symbol.entry(action.symbol.as_str()).or_default() += 1;
        }
        let count = |symbol: Symbol| by_symbol.get(symbol.as_str()).copied().unwrap_or(0);
        Summary {
            create: count(Symbol::Create),
            update: count(Symbol::Update),
            replace: 0,
            delete: count(Symbol::Delete),
            moved: count(Symbol::Move),
            drift: count(Symbol::Drift),
            retained: u32::try_from(self.retained.len()).unwrap_or(u32::MAX),
            unchanged: self.unchanged.instances + self.unchanged.tenants,
        }
    }
}
