//! Databases that somebody else made and owns, and that were given to a tenant. Their owner, its password and its way in
//! stay; the tenant's role is a member of the owner, unless that would make it more than a tenant.

use std::collections::BTreeSet;

use super::action::Problem;
use super::change::DatabaseChange as Change;
use super::code::Code;
use super::compare::Work;
use super::live::{DatabaseLive, InstanceState, Live, Placement, ServerLive};
use super::planner::{Draft, problem};
use crate::manifest::Tenant;
use crate::tenancy::{InstanceName, TenantId};

impl DatabaseLive {
    /// Whether it has the name that its tenant's database has. An adopted one keeps its own.
    pub(super) fn is_at_home(&self, name: &str) -> bool {
        self.adopted || self.tenant.as_ref().is_some_and(|tenant| tenant.as_str() == name)
    }
}

/// The owner of the database that the tenant was given, if its role is to be a member of it.
pub fn owner_to_join<'a>(server: &'a ServerLive, tenant: &TenantId) -> Option<&'a str> {
    let mark = server.roles.get(tenant.as_str())?.mark.as_ref()?;
    let database = server.databases.get(mark.adopted.as_ref()?)?;
    let owner = database.owner.as_str();
    may_be_joined(server, owner).then_some(owner)
}

/// A member can become the role and all that the role is a member of. So none of them may be a superuser or its like,
/// one of Postgres' own (`pg_read_all_data` reads every password's verifier), or a tenant's.
pub fn may_be_joined(server: &ServerLive, role: &str) -> bool {
    let (mut seen, mut open) = (BTreeSet::new(), vec![role]);
    while let Some(name) = open.pop() {
        let Some(live) = server.roles.get(name) else { return false };
        if live.privileged || live.mark.is_some() {
            return false;
        }
        if seen.insert(name) {
            open.extend(live.member_of.iter().map(String::as_str));
        }
    }
    true
}

pub(super) fn compare_access(
    work: &mut Work,
    tenant: &Tenant,
    place: &Placement,
    server: &ServerLive,
    live: &DatabaseLive,
) {
    let member_of = owner_to_join(server, &tenant.name);
    let role = server.roles.get(tenant.name.as_str());
    let is_member = |owner: &str| role.is_some_and(|role| role.member_of.iter().any(|group| group == owner));
    let lacks_membership = member_of.is_some_and(|owner| !is_member(owner));
    if !live.public_connect && !lacks_membership {
        return;
    }
    let (old, new) = match member_of {
        Some(owner) => (lacks_membership.then_some("not a member of its owner"), format!("member of {owner}")),
        None => (None, format!("all rights on what {} owns", live.owner)),
    };
    let (tenant, database) = (tenant.name.clone(), place.database.clone());
    let change = Change::JoinDatabase { tenant, database, member_of: member_of.map(str::to_owned) };
    work.change(change, "database.access", old.or(Some("not closed to PUBLIC yet")), Some(&new));
}

pub(super) fn unread(tenant: &Tenant, place: &Placement) -> Problem {
    let message = format!("the adopted instance {} was not read", place.instance);
    let help = "run again once it is awake: connect to it, which wakes it";
    let address = format!("tenant/{}", tenant.name);
    problem(Code::Unseen, address, message, help, Some(tenant.origins.object.clone()))
}

/// What was adopted and is gone was never ours to make again.
pub(super) fn gone(server: &ServerLive, tenant: &Tenant, place: &Placement) -> Option<Problem> {
    let mark = server.roles.get(tenant.name.as_str())?.mark.as_ref()?;
    let database = mark.adopted.as_ref().filter(|name| !server.databases.contains_key(*name))?;
    let message = format!("its adopted database `{database}` is not on {} any more", place.instance);
    let help = format!(
        "rename it back or restore it under that name; or let o7s forget it: o7s release tenant/{}",
        tenant.name
    );
    let address = format!("tenant/{}", tenant.name);
    Some(problem(Code::AdoptedGone, address, message, &help, Some(tenant.origins.object.clone())))
}

/// An adopted database is deleted by whoever made it.
pub(super) fn refuse_deletion(draft: &mut Draft<'_>, tenant: &Tenant, place: &Placement) -> bool {
    let adopted = is_adopted(draft.live, &tenant.name, &place.instance, &place.database);
    if adopted {
        let message =
            format!("database {} on {} was adopted; o7s deletes only what it made", place.database, place.instance);
        let help = format!(
            "let o7s forget it (o7s release tenant/{}), then drop it by hand; or `deletionPolicy: retain`",
            tenant.name
        );
        let cause = Some(tenant.origins.at("spec.deletionPolicy"));
        draft.refuse(problem(Code::AdoptedDeletion, format!("tenant/{}", tenant.name), message, &help, cause));
    }
    adopted
}

pub(super) fn is_adopted(live: &Live, tenant: &TenantId, instance: &InstanceName, database: &str) -> bool {
    let Some(InstanceState::Awake(server)) = live.instances.get(instance) else { return false };
    let seen = server.databases.get(database);
    seen.is_some_and(|seen| seen.adopted && seen.tenant.as_ref() == Some(tenant))
}

/// On a server that was not read and was adopted itself, whatever is there may be.
pub(super) fn may_be_adopted(live: &Live, tenant: &TenantId, place: &Placement) -> bool {
    match live.instances.get(&place.instance) {
        Some(InstanceState::Awake(_)) => is_adopted(live, tenant, &place.instance, &place.database),
        _ => live.railway.is_adopted(place.instance.as_str()),
    }
}

/// For a tenant without a place: a database or role of its name that nobody marked, on any instance that answers. It was
/// released, or made by hand; a second one elsewhere would look like its data were lost.
pub(super) fn namesake(live: &Live, tenant: &TenantId) -> Option<(InstanceName, &'static str)> {
    live.instances.iter().find_map(|(instance, state)| {
        let InstanceState::Awake(server) = state else { return None };
        let role = server
            .roles
            .get(tenant.as_str())
            .filter(|role| role.mark.as_ref().is_none_or(|mark| mark.tenant == *tenant && mark.adopted.is_some()));
        let database = server.databases.get(tenant.as_str()).filter(|database| database.tenant.is_none());
        let half_made = database.is_some_and(|database| {
            database.owner == tenant.as_str() && role.is_none() && server.roles.contains_key(tenant.as_str())
        });
        match (role, database) {
            (Some(_), _) => Some((instance.clone(), "role")),
            (None, Some(_)) if !half_made => Some((instance.clone(), "database")),
            _ => None,
        }
    })
}

pub(super) fn namesake_problem(tenant: &Tenant, instance: &InstanceName, what: &str) -> Problem {
    let name = &tenant.name;
    let code = if what == "role" { Code::ForeignRole } else { Code::ForeignDatabase };
    let message = format!("a {what} `{name}` exists on {instance} and is not ours; no second tenant {name} is made");
    let take = format!("`o7s adopt tenant/{name} --database {name} --on instance/{instance}`");
    let way = match what {
        "role" => format!("rename the role by hand, then take its database back: {take}"),
        _ => format!("take it back: {take}"),
    };
    let help = format!("{way}; or name the tenant otherwise; or remove its manifest, and all stays as it is");
    problem(code, format!("tenant/{name}"), message, &help, Some(tenant.origins.object.clone()))
}
