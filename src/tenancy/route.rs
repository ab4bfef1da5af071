//! One row of the routing table: where a tenant's connections go and what they may do there.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::id::{InstanceName, RoleName, TenantId, TierName};
use super::limits::{Limits, OverLimit, Upgrade};

/// A host and a port, as a client dials them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Where an instance is reached: `private` from inside its Railway environment, `public` (its TCP proxy) from anywhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub private: Address,
    pub public: Address,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RouteState {
    Active,
    /// Kept, and answered with the reason.
    Suspended,
    /// The tenant was removed; kept so that its clients hear why.
    Retired,
}

impl RouteState {
    pub const ALL: [RouteState; 3] = [RouteState::Active, RouteState::Suspended, RouteState::Retired];

    pub fn as_str(self) -> &'static str {
        match self {
            RouteState::Active => "active",
            RouteState::Suspended => "suspended",
            RouteState::Retired => "retired",
        }
    }
}

/// Holds no secret: routers derive passwords from the master key and `generation`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    pub tenant: TenantId,
    pub instance: InstanceName,
    pub database: String,
    /// Somebody else made the database; its roles log in with their own passwords.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
    pub endpoint: Endpoint,
    pub state: RouteState,
    pub tier: TierName,
    /// Credential generation.
    pub generation: u32,
    pub roles: Vec<RoleName>,
    pub limits: Limits,
    pub over_limit: OverLimit,
    pub upgrade: Option<Upgrade>,
}
