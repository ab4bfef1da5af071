//! How far what a server showed of one tenant is from what its manifest asks for.

use super::action::{Field, RouteDraft};
use super::change::DatabaseChange as Change;
use super::instances::field;
use super::live::{DatabaseLive, Placement, ServerLive};
use super::planner::Draft;
use super::route::wanted_route;
use super::tenants::role_name;
use super::{adopted, ceilings};
use crate::manifest::{Role, Tenant};
use crate::tenancy::{RoleName, Route};

/// The changes of one tenant with what each means for people.
#[derive(Default)]
pub(super) struct Work {
    pub changes: Vec<Change>,
    /// Login is taken away only after the route is.
    pub after: Vec<Change>,
    pub fields: Vec<Field>,
    pub created: bool,
    pub rotated: bool,
    /// A run before did not come to its end.
    pub unfinished: bool,
    /// Something differs that the manifests did not ask to change since it was last applied.
    pub drifted: bool,
}

impl Work {
    pub fn change(&mut self, change: Change, path: &str, old: Option<&str>, new: Option<&str>) {
        self.changes.push(change);
        self.fields.push(field(path, old, new));
    }
}

/// Every change can run twice, so this also brings a database from any unread state to the wanted one.
pub(super) fn from_nothing(tenant: &Tenant, placement: &Placement) -> Work {
    let mut work = Work { created: true, ..Work::default() };
    let Placement { instance, database } = placement;
    let limit = tenant.limits.server_connections;
    work.change(create_role(tenant, None), "role", None, Some(tenant.name.as_str()));
    let create =
        Change::CreateDatabase { tenant: tenant.name.clone(), database: database.clone(), connection_limit: limit };
    work.change(create, "database", None, Some(&format!("{database} on {instance}")));
    work.changes.push(Change::OpenDatabase { tenant: tenant.name.clone(), database: database.clone() });
    if let Some(timeout) = tenant.limits.statement_timeout {
        let change = Change::SetStatementTimeout { database: database.clone(), ms: Some(timeout.0) };
        work.change(change, "statementTimeout", None, Some(&timeout.to_string()));
    }
    for role in &tenant.roles {
        add_role(&mut work, tenant, database, role);
    }
    work
}

fn create_role(tenant: &Tenant, role: Option<&RoleName>) -> Change {
    Change::CreateRole {
        tenant: tenant.name.clone(),
        role: role.cloned(),
        generation: tenant.generation,
        connection_limit: tenant.limits.server_connections,
        login: !tenant.suspended,
    }
}

fn grant(tenant: &Tenant, database: &str, role: &Role) -> Change {
    Change::GrantRole {
        tenant: tenant.name.clone(),
        database: database.to_owned(),
        role: role.name.clone(),
        grants: role.grants,
    }
}

fn add_role(work: &mut Work, tenant: &Tenant, database: &str, role: &Role) {
    let shown = format!("{} ({})", role_name(&tenant.name, Some(&role.name)), role.grants.as_str());
    work.change(create_role(tenant, Some(&role.name)), "role", None, Some(&shown));
    work.changes.push(grant(tenant, database, role));
}

/// The field that says why a tenant's limits changed, when another tier is why.
pub(super) const TIER: &str = "tier";

pub(super) fn compare(
    draft: &Draft<'_>,
    tenant: &Tenant,
    placement: &Placement,
    server: &ServerLive,
    route: Option<&Route>,
) -> Work {
    let mut work = Work::default();
    let deletion = draft.deletions.get(&tenant.name);
    let applied = route.is_some_and(|route| RouteDraft::of(route) == wanted_route(draft, tenant, placement));
    compare_role(&mut work, tenant, None, server, applied);
    match (server.databases.get(&placement.database), deletion) {
        (Some(database), _) => compare_database(&mut work, tenant, placement, (server, database)),
        (None, Some(deletion)) if server.databases.contains_key(&deletion.renamed_to) => {
            let (from, to) = (deletion.renamed_to.clone(), placement.database.clone());
            let rename = Change::RenameDatabase { database: from.clone(), to: to.clone() };
            work.change(rename, "database", Some(&from), Some(&to));
            work.changes.push(Change::OpenDatabase { tenant: tenant.name.clone(), database: to });
        }
        (None, _) => {
            let mut fresh = from_nothing(tenant, placement);
            // The owner role was compared above; declared roles are compared below.
            fresh.changes.retain(|change| {
                matches!(
                    change,
                    Change::CreateDatabase { .. } | Change::OpenDatabase { .. } | Change::SetStatementTimeout { .. }
                )
            });
            fresh.fields.retain(|field| field.path != "role");
            work.changes.extend(fresh.changes);
            work.fields.extend(fresh.fields);
            work.created = true;
        }
    }
    for role in &tenant.roles {
        compare_declared(&mut work, tenant, placement, role, server, applied);
    }
    drop_undeclared(&mut work, tenant, placement, server);
    work.drifted |= applied && !work.fields.is_empty();
    // Routes are written after all of a tenant's database is done, and only a lost control database forgets them.
    let control = &draft.live.control;
    let was_there = deletion.is_some()
        || draft.formers.contains_key(&tenant.name)
        || server.databases.get(&placement.database).is_some_and(|database| database.adopted);
    work.unfinished = control.known && route.is_none() && !work.created && !was_there;
    let switched = route.filter(|route| route.tier != tenant.tier && !work.fields.is_empty());
    if let Some(route) = switched {
        work.fields.insert(0, field(TIER, Some(route.tier.as_str()), Some(tenant.tier.as_str())));
    }
    work
}

fn compare_declared(
    work: &mut Work,
    tenant: &Tenant,
    placement: &Placement,
    role: &Role,
    server: &ServerLive,
    applied: bool,
) {
    let name = role_name(&tenant.name, Some(&role.name));
    let Some(live) = server.roles.get(&name) else { return add_role(work, tenant, &placement.database, role) };
    compare_role(work, tenant, Some(&role.name), server, applied);
    let granted = live.mark.as_ref().map_or("", |mark| mark.grants.as_str());
    if work.created || granted != role.grants.as_str() {
        let old = (!granted.is_empty()).then_some(granted);
        work.change(
            grant(tenant, &placement.database, role),
            &format!("{name}.grants"),
            old,
            Some(role.grants.as_str()),
        );
    }
}

fn drop_undeclared(work: &mut Work, tenant: &Tenant, placement: &Placement, server: &ServerLive) {
    for (name, live) in &server.roles {
        let Some(mark) = live.mark.as_ref().filter(|mark| mark.tenant == tenant.name) else { continue };
        let Some(role) =
            mark.role.as_ref().filter(|role| tenant.roles.iter().all(|declared| declared.name != **role))
        else {
            continue;
        };
        let (tenant, database) = (tenant.name.clone(), placement.database.clone());
        work.change(Change::DropRole { tenant, database, role: role.clone() }, "role", Some(name), None);
    }
}

fn compare_role(work: &mut Work, tenant: &Tenant, role: Option<&RoleName>, server: &ServerLive, applied: bool) {
    let name = role_name(&tenant.name, role);
    let Some(live) = server.roles.get(&name) else {
        work.created = !applied;
        return work.change(create_role(tenant, role), "role", None, Some(&name));
    };
    let (owner, role) = (tenant.name.clone(), role.cloned());
    let generation = live.mark.as_ref().map_or(0, |mark| mark.generation);
    if generation != tenant.generation || !live.password_ours {
        work.rotated |= generation != tenant.generation;
        let (old, new) =
            (format!("generation {generation} (secret)"), format!("generation {} (secret)", tenant.generation));
        let old = if live.password_ours { old } else { "(secret, changed)".to_owned() };
        let change = Change::SetPassword { tenant: owner.clone(), role: role.clone(), generation: tenant.generation };
        work.change(change, &format!("{name}.password"), Some(&old), Some(&new));
    }
    if live.privileged {
        let change = Change::DropPrivileges { tenant: owner.clone(), role: role.clone() };
        work.change(change, &format!("{name}.privileges"), Some("superuser or alike"), Some("none"));
    }
    let joined = if role.is_none() { adopted::owner_to_join(server, &tenant.name) } else { None };
    let member_of: Vec<String> =
        live.member_of.iter().filter(|group| Some(group.as_str()) != joined).cloned().collect();
    if !member_of.is_empty() {
        let old = member_of.join(", ");
        let change = Change::RevokeMemberships { tenant: owner.clone(), role: role.clone(), member_of };
        work.change(change, &format!("{name}.memberOf"), Some(&old), None);
    }
    let limit = tenant.limits.server_connections;
    if i64::from(live.connection_limit) != i64::from(limit) {
        let change = Change::SetRoleConnectionLimit { tenant: owner.clone(), role: role.clone(), limit };
        let old = live.connection_limit.to_string();
        work.change(change, &format!("{name}.serverConnections"), Some(&old), Some(&limit.to_string()));
    }
    ceilings::compare_role(work, tenant, role.as_ref(), live);
    if live.can_login == tenant.suspended {
        let login = !tenant.suspended;
        let change = Change::SetLogin { tenant: owner, role, login };
        let (old, new) = if login { ("no", "yes") } else { ("yes", "no") };
        work.fields.push(field(&format!("{name}.login"), Some(old), Some(new)));
        if login { work.changes.push(change) } else { work.after.push(change) }
    }
}

fn compare_database(
    work: &mut Work,
    tenant: &Tenant,
    placement: &Placement,
    (server, live): (&ServerLive, &DatabaseLive),
) {
    let database = &placement.database;
    if live.adopted {
        adopted::compare_access(work, tenant, placement, server, live);
    } else {
        compare_access(work, tenant, database, live);
    }
    let limit = tenant.limits.server_connections;
    if i64::from(live.connection_limit) != i64::from(limit) {
        let change = Change::SetDatabaseConnectionLimit { database: database.clone(), limit };
        work.change(
            change,
            "database.serverConnections",
            Some(&live.connection_limit.to_string()),
            Some(&limit.to_string()),
        );
    }
    ceilings::compare_database(work, tenant, database, live);
}

fn compare_access(work: &mut Work, tenant: &Tenant, database: &str, live: &DatabaseLive) {
    if live.owner != tenant.name.as_str() {
        let change = Change::SetOwner { database: database.to_owned(), tenant: tenant.name.clone() };
        work.change(change, "database.owner", Some(&live.owner), Some(tenant.name.as_str()));
    }
    if live.tenant.is_none() || live.public_connect || !live.allow_connections {
        let old = match (live.tenant.is_none(), live.public_connect) {
            (true, _) => "half made",
            (false, true) => "open to every role",
            (false, false) => "closed",
        };
        let change = Change::OpenDatabase { tenant: tenant.name.clone(), database: database.to_owned() };
        work.change(change, "database.access", Some(old), Some("its own roles"));
    }
}
