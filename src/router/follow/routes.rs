//! From rows of the control database to the table. Pure.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::manifest::{Identify, Jwt, Pooling};
use crate::router::identify::Rules;
use crate::router::table::{Encryption, Entry, Login, Names, Roles, State, Table};
use crate::store::{Changes, RouteRow, RouterRow};
use crate::tenancy::{Address, Credential, RouteState, RouterName, role_name};

/// How this router gets to the instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// By their addresses inside their Railway environment.
    pub private: bool,
    /// Without one: to all but the loopback.
    pub encryption: Option<Encryption>,
}

/// What the router obeys of its manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouterSpec {
    pub domain: Option<String>,
    pub pooling: Pooling,
    pub identify: Vec<Identify>,
    /// Sessions are told when a ceiling is nearly reached.
    pub notices: bool,
    /// Of clients on other machines.
    pub require_tls: bool,
    /// Whose tokens are believed.
    pub jwt: Option<Jwt>,
}

impl Default for RouterSpec {
    fn default() -> RouterSpec {
        let identify = vec![Identify::Sni, Identify::Options, Identify::User, Identify::Database];
        let (domain, jwt, pooling) = (None, None, Pooling::Transaction);
        RouterSpec { domain, pooling, identify, notices: false, require_tls: false, jwt }
    }
}

impl RouterSpec {
    /// Of the manifest of that name; without a name the only one, or the first. With it the version it is of.
    pub fn of(name: Option<&RouterName>, routers: &[RouterRow]) -> Result<(RouterSpec, u64), serde_json::Error> {
        let row = routers.iter().find(|row| name.is_none_or(|name| name.as_str() == row.name));
        let Some(row) = row else { return Ok((RouterSpec::default(), 0)) };
        Ok((RouterSpec::deserialize(&row.spec)?, row.version))
    }

    pub fn rules(&self) -> Rules {
        let (identify, domain) = (self.identify.clone(), self.domain.clone());
        Rules { identify, domain, notices: self.notices, require_tls: self.require_tls }
    }
}

/// What clients get that ask for neither, and since which version of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultPooling {
    pub pooling: Pooling,
    pub since: u64,
}

/// A tenant whose entry is another one now, or gone.
pub type Changed = (Arc<str>, Option<Arc<Entry>>);

/// The table after `changes`, and the tenants that are not as before. Entries that stayed are shared with `old`.
pub fn apply(old: &Table, changes: &Changes, pooling: DefaultPooling, reach: Reach) -> (Table, Vec<Changed>) {
    let mut entries = if changes.whole { HashMap::new() } else { old.entries.clone() };
    let (mut changed, mut names) = (Vec::new(), Names::default());
    for tenant in &changes.removed {
        changed.extend(entries.remove_entry(tenant.as_str()).map(|(name, _)| (name, None)));
    }
    for row in &changes.routes {
        let new = entry(row, pooling, reach, &mut names);
        match old.entries.get(&new.tenant) {
            Some(have) if **have == new => drop(entries.insert(Arc::clone(&have.tenant), Arc::clone(have))),
            _ => {
                let new = Arc::new(new);
                changed.push((Arc::clone(&new.tenant), Some(Arc::clone(&new))));
                entries.insert(Arc::clone(&new.tenant), new);
            }
        }
    }
    if changes.whole {
        let gone = old.entries.keys().filter(|name| !entries.contains_key(*name));
        changed.extend(gone.map(|name| (Arc::clone(name), None)));
    }
    for have in entries.values_mut().filter(|have| have.pooling != pooling.pooling) {
        let version = have.version.max(pooling.since);
        *have = Arc::new(Entry { pooling: pooling.pooling, version, ..Entry::clone(have) });
        changed.push((Arc::clone(&have.tenant), Some(Arc::clone(have))));
    }
    (Table { version: changes.version, entries, wildcard: None }, changed)
}

fn entry(row: &RouteRow, pooling: DefaultPooling, reach: Reach, names: &mut Names) -> Entry {
    let route = &row.route;
    let tenant: Arc<str> = route.tenant.as_str().into();
    let derived = |role: Option<&crate::tenancy::RoleName>| {
        let (tenant, role) = (route.tenant.clone(), role.cloned());
        Login::Derived(Credential::Tenant { tenant, role, generation: route.generation })
    };
    let declared = route.roles.iter().map(|role| (role_name(&route.tenant, Some(role)).into(), derived(Some(role))));
    let named = std::iter::once((Arc::clone(&tenant), derived(None))).chain(declared).collect();
    let address = if reach.private { &route.endpoint.private } else { &route.endpoint.public };
    Entry {
        instance: names.get(route.instance.as_str()),
        database: if route.database == *tenant { Arc::clone(&tenant) } else { route.database.as_str().into() },
        encryption: reach.encryption.unwrap_or_else(|| encryption(address)),
        endpoints: vec![address.clone()],
        pooling: pooling.pooling,
        state: match (route.state, row.patience_ms) {
            (RouteState::Active, None) => State::Active,
            (RouteState::Active, Some(patience)) => State::Paused { patience: Duration::from_millis(patience) },
            (RouteState::Suspended, _) => State::Suspended,
            (RouteState::Retired, _) => State::Retired,
        },
        roles: Roles { named, others: route.adopted.then_some(Login::LookUp) },
        server_connections: route.limits.server_connections.max(1),
        tier: names.get(route.tier.as_str()),
        allowance: Some(names.allowance(&route.limits, &route.over_limit)),
        upgrade: route.upgrade.clone(),
        version: row.version.max(pooling.since),
        tenant,
    }
}

fn encryption(address: &Address) -> Encryption {
    let host = address.host.trim_start_matches('[').trim_end_matches(']');
    let loopback = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if loopback { Encryption::Disabled } else { Encryption::Required }
}
