//! What a person renamed inside a server. A mark stays on its object through a rename, so an empty database is not made
//! in place of a full one, nor a second role beside the one that owns the tables.
//!
//! It is refused and not put back: whoever renames a database may be about to restore another in its place, and a
//! rename ends every connection to it.

use std::collections::BTreeMap;

use super::action::Problem;
use super::code::Code;
use super::live::{InstanceState, Live, Placement, ServerLive};
use super::place::Place;
use super::planner::{Draft, problem};
use super::removals::DELETED_PREFIX;
use super::tenants::role_name;
use crate::manifest::{Tenant, TenantState};
use crate::tenancy::{InstanceName, TenantId};

/// Databases that carry a tenant's mark, are not called after it and are no deletion in its grace time.
pub(super) type Renamed = BTreeMap<TenantId, Vec<Placement>>;

pub(super) fn found(live: &Live) -> Renamed {
    let mut found = Renamed::new();
    for (instance, state) in &live.instances {
        let InstanceState::Awake(server) = state else { continue };
        for (name, seen) in server.databases.iter().filter(|(name, _)| !name.starts_with(DELETED_PREFIX)) {
            if let Some(tenant) = seen.tenant.as_ref().filter(|_| !seen.is_at_home(name)) {
                let place = Placement { instance: instance.clone(), database: name.clone() };
                found.entry(tenant.clone()).or_default().push(place);
            }
        }
    }
    found
}

/// Where the marks say that tenants are, to remember it. One under another name counts for the place it had: once it is
/// renamed back on a sleeping instance, nothing but the memory tells that it exists.
pub fn found_places(live: &Live) -> Vec<(TenantId, Placement)> {
    let mut places: BTreeMap<TenantId, Placement> = BTreeMap::new();
    for (instance, state) in &live.instances {
        let InstanceState::Awake(server) = state else { continue };
        for (database, seen) in &server.databases {
            if let Some(tenant) = seen.tenant.as_ref().filter(|_| seen.is_at_home(database)) {
                let place = Placement { instance: instance.clone(), database: database.clone() };
                places.entry(tenant.clone()).or_insert(place);
            }
        }
    }
    for (tenant, others) in found(live) {
        for Placement { instance, .. } in others {
            let database = tenant.to_string();
            places.entry(tenant.clone()).or_insert(Placement { instance, database });
        }
    }
    places.into_iter().collect()
}

/// Where the tenant's database is, if the place it should have is empty for sure.
pub(super) fn database<'a>(
    live: &Live,
    found: &'a Renamed,
    tenant: &TenantId,
    known: Option<&Placement>,
) -> Option<&'a Placement> {
    let is_empty = |instance: &InstanceName| match live.instances.get(instance) {
        Some(InstanceState::Awake(server)) => !server.databases.contains_key(tenant.as_str()),
        _ => false,
    };
    let places = found.get(tenant).filter(|_| known.is_none_or(|place| is_empty(&place.instance)))?;
    places.iter().find(|place| is_empty(&place.instance))
}

/// Of tenants that have their own: a second database with the mark is nobody's concern, but somebody's disk space.
pub(super) fn warn_of_copies(draft: &mut Draft<'_>, found: &Renamed, places: &BTreeMap<&TenantId, Place>) {
    let has_own = |tenant: &TenantId| matches!(places.get(tenant), Some(Place::Remembered(_) | Place::Chosen(_)));
    for (tenant, copies) in found.iter().filter(|(tenant, _)| has_own(tenant)) {
        for Placement { instance, database } in copies {
            let text =
                format!("tenant/{tenant}: database {database} on {instance} carries its mark too and is left alone");
            draft.plan.warnings.push(text.into());
        }
    }
}

pub(super) fn database_problem(tenant: &Tenant, found: &Placement) -> Problem {
    let Placement { instance, database } = found;
    let message =
        format!("its database on {instance} was renamed to `{database}`; no empty one is made in its place");
    let (have, name) = (quoted(database), quoted(tenant.name.as_str()));
    let mut help =
        format!("rename it back, as postgres with nobody connected to it: ALTER DATABASE {have} RENAME TO {name}");
    if tenant.state == TenantState::Present {
        help.push_str(&format!("; or, to let o7s make an empty one: COMMENT ON DATABASE {have} IS NULL"));
    }
    renamed(tenant, message, &help)
}

/// Roles of a server that are there under another name only: that name and the wanted one, of each tenant the first.
pub(super) type StrangeRoles = BTreeMap<TenantId, (String, String)>;

pub(super) fn strange_roles(server: &ServerLive) -> StrangeRoles {
    let mut strange = StrangeRoles::new();
    for (have, mark) in server.roles.iter().filter_map(|(have, role)| Some((have, role.mark.as_ref()?))) {
        let name = role_name(&mark.tenant, mark.role.as_ref());
        if *have != name && !server.roles.contains_key(&name) {
            strange.entry(mark.tenant.clone()).or_insert((have.clone(), name));
        }
    }
    strange
}

/// Of all servers that were read.
pub(super) fn all_strange_roles(live: &Live) -> BTreeMap<InstanceName, StrangeRoles> {
    let strange = live.instances.iter().filter_map(|(name, state)| match state {
        InstanceState::Awake(server) => Some((name.clone(), strange_roles(server))),
        _ => None,
    });
    strange.filter(|(_, roles)| !roles.is_empty()).collect()
}

pub(super) fn role_problem(strange: &StrangeRoles, tenant: &Tenant, place: &Placement) -> Option<Problem> {
    let (have, name) = strange.get(&tenant.name)?;
    let message = format!("its role `{name}` on {} was renamed to `{have}`", place.instance);
    let help = format!("rename it back, as postgres: ALTER ROLE {} RENAME TO {}", quoted(have), quoted(name));
    Some(renamed(tenant, message, &help))
}

fn renamed(tenant: &Tenant, message: String, help: &str) -> Problem {
    let address = format!("tenant/{}", tenant.name);
    problem(Code::RenamedByHand, address, message, help, Some(tenant.origins.object.clone()))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
