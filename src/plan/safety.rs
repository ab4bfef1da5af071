//! A second opinion on every plan before it is carried out. It shares no code with planning: it looks at what each step
//! would touch and asks whether that may be touched at all. Anything it finds is a defect of planning.

use std::collections::BTreeSet;

use super::action::{Forgotten, Plan, Step};
use super::change::{DatabaseChange as Change, VariableValue};
use super::live::{InstanceState, Live, Ownership};
use crate::manifest::{DeletionPolicy, Desired, TenantState};
use crate::tenancy::{Credential, InstanceName, OWNER_VARIABLE, RouteState, TenantId};

/// Why the plan must not run; empty when it may.
pub fn check(plan: &Plan, desired: &Desired, live: &Live) -> Vec<String> {
    let mut found = Vec::new();
    let mut addresses = BTreeSet::new();
    let routed = |step: &Step| match step {
        Step::Route { route } | Step::Rename { route, .. } => Some(route.tenant.clone()),
        _ => None,
    };
    let routed: BTreeSet<TenantId> = plan.actions.iter().filter_map(|action| routed(&action.step)).collect();
    for action in &plan.actions {
        if !addresses.insert(&action.address) {
            found.push(format!("{} is changed twice", action.address));
        }
        let bad = match &action.step {
            Step::Instance(step) => {
                touches_foreign(live, &step.spec.name, step.service.as_ref().map(|id| id.as_str()))
            }
            Step::Server { instance, changes } => {
                changes.iter().find_map(|change| server_change(instance, change, live))
            }
            Step::Tenant(step) => {
                step.changes.iter().find_map(|change| tenant_change(&step.tenant, change, desired, live))
            }
            Step::Route { route } | Step::Rename { route, .. } => {
                route_leads_nowhere(plan, live, &route.instance, route.state)
            }
            Step::Publish { service_name, variable, .. } => undeclared_variable(desired, service_name, variable),
            Step::Forget { tenant, why } => forgets_too_early(desired, live, tenant, *why),
            Step::CancelRename { .. } => None,
        };
        if let Step::Rename { former, .. } = &action.step
            && routed.contains(former)
        {
            // Both are one statement, which must not have to choose.
            found.push(format!("{}: would write and remove the route of {former}", action.address));
        }
        let bad = bad.or_else(|| touches_held(desired, live, &action.step));
        found.extend(bad.map(|text| format!("{}: {text}", action.address)));
    }
    found
}

fn touches_foreign(live: &Live, name: &str, id: Option<&str>) -> Option<String> {
    let service =
        live.railway.services.iter().find(|service| service.name == name || Some(service.id.as_str()) == id)?;
    let foreign = matches!(service.owner, Ownership::Foreign | Ownership::Newer);
    let mixed = service.name != name || id.is_some_and(|id| id != service.id.as_str());
    (foreign || mixed).then(|| format!("would change service {} ({}), which is not ours", service.name, service.id))
}

fn server_change(instance: &InstanceName, change: &Change, live: &Live) -> Option<String> {
    let Change::CloseToPublic { database } = change else {
        return Some("a change of a tenant without a tenant".into());
    };
    let Some(InstanceState::Awake(server)) = live.instances.get(instance) else {
        return Some(format!("would change {instance}, which was not read"));
    };
    let owned = server.databases.get(database).is_some_and(|database| database.tenant.is_some());
    owned.then(|| format!("would close {database}, which is a tenant's"))
}

fn tenant_change(tenant: &TenantId, change: &Change, desired: &Desired, live: &Live) -> Option<String> {
    let manifest = desired.tenants.get(tenant);
    let condemned = manifest.is_some_and(|manifest| {
        manifest.state == TenantState::Absent && manifest.deletion_policy == DeletionPolicy::Delete
    });
    match change {
        Change::DropDatabase { database, .. } => {
            let due = live.control.deletions.get(tenant).is_some_and(|row| row.due && row.renamed_to == *database);
            (!(condemned && due)).then(|| format!("would drop {database} without both keys and its grace time"))
        }
        Change::RenameDatabase { database, to } if to.starts_with("zz_deleted_") => {
            let own = database == tenant.as_str();
            (!(condemned && own)).then(|| format!("would delete {database}, which its manifest does not ask for"))
        }
        Change::RenameDatabase { to, .. } => {
            (to != tenant.as_str()).then(|| format!("would rename a database to {to}"))
        }
        Change::RenameTenant { from, to, database, to_database, .. } => {
            renames_too_much(desired, live, (tenant, from, to), (database, to_database))
        }
        Change::Release { tenant: other, .. } => {
            let detached = manifest.is_some_and(|manifest| {
                manifest.state == TenantState::Absent && manifest.deletion_policy == DeletionPolicy::Detach
            });
            (other != tenant || !detached)
                .then(|| format!("would detach {other}, which its manifest does not ask for"))
        }
        Change::CreateRole { tenant: other, .. }
        | Change::CreateDatabase { tenant: other, .. }
        | Change::OpenDatabase { tenant: other, .. }
        | Change::GrantRole { tenant: other, .. }
        | Change::SetPassword { tenant: other, .. }
        | Change::SetLogin { tenant: other, .. }
        | Change::DropPrivileges { tenant: other, .. }
        | Change::RevokeMemberships { tenant: other, .. }
        | Change::SetRoleConnectionLimit { tenant: other, .. }
        | Change::ResetRoleTimeout { tenant: other, .. }
        | Change::SetOwner { tenant: other, .. }
        | Change::DropRole { tenant: other, .. } => (other != tenant).then(|| format!("would change tenant {other}")),
        Change::AdoptDatabase { database, .. } => Some(format!("would adopt {database}, which only a person may")),
        Change::JoinDatabase { tenant: other, database, member_of } => (other != tenant
            || !may_join(live, tenant, database, member_of.as_deref()))
        .then(|| format!("would give {other} database {database}")),
        Change::SetDatabaseConnectionLimit { database, .. }
        | Change::SetStatementTimeout { database, .. }
        | Change::EndConnections { database } => {
            let own = database == tenant.as_str() || was_given(live, tenant, database).next().is_some();
            (!own).then(|| format!("would change database {database}"))
        }
        Change::CloseToPublic { database } => Some(format!("would close {database} in a tenant's step")),
    }
}

/// The servers on which somebody else's database is the tenant's.
fn was_given<'a>(
    live: &'a Live,
    tenant: &'a TenantId,
    database: &'a str,
) -> impl Iterator<Item = (&'a super::live::ServerLive, &'a super::live::DatabaseLive)> {
    live.instances
        .values()
        .filter_map(move |state| match state {
            InstanceState::Awake(server) => server.databases.get(database).map(|database| (&**server, database)),
            _ => None,
        })
        .filter(move |(_, database)| database.adopted && database.tenant.as_ref() == Some(tenant))
}

/// Only its owner's member, and never of a role that may more than a tenant.
fn may_join(live: &Live, tenant: &TenantId, database: &str, group: Option<&str>) -> bool {
    was_given(live, tenant, database).any(|(server, database)| {
        let plain = |group: &str| server.roles.get(group).is_some_and(|role| !role.privileged && role.mark.is_none());
        group.is_none_or(|group| group == database.owner && plain(group))
    })
}

fn route_leads_nowhere(plan: &Plan, live: &Live, instance: &InstanceName, state: RouteState) -> Option<String> {
    let made = plan
        .actions
        .iter()
        .any(|action| matches!(&action.step, Step::Instance(step) if step.spec.name == instance.as_str()));
    let known = live.control.instances.get(instance.as_str()).is_some_and(|record| record.endpoint.is_some());
    (state == RouteState::Active && !made && !known)
        .then(|| format!("would route to {instance}, whose address nobody knows"))
}

/// A paused object is changed in nothing, a suspended tenant in nothing but that.
fn touches_held(desired: &Desired, live: &Live, step: &Step) -> Option<String> {
    if desired.fleet.paused {
        return Some("would change a paused fleet".into());
    }
    let pool = match step {
        Step::Instance(step) => InstanceName::parse(&step.spec.name).ok().map(|name| name.pool()),
        Step::Server { instance, .. } => Some(instance.pool()),
        _ => None,
    };
    if let Some(pool) = pool.and_then(|name| desired.pools.get(&name)).filter(|pool| pool.paused) {
        return Some(format!("would change the paused pool {}", pool.name));
    }
    let (tenant, locks) = match step {
        Step::Tenant(step) => {
            let locks = |change: &Change| {
                matches!(change, Change::SetLogin { login: false, .. } | Change::EndConnections { .. })
            };
            (&step.tenant, step.changes.iter().all(locks))
        }
        Step::Route { route } => (&route.tenant, route.state == RouteState::Suspended),
        Step::Rename { route, .. } => (&route.tenant, true),
        Step::Publish { value: VariableValue::Url { credential: Credential::Tenant { tenant, .. }, .. }, .. } => {
            (tenant, false)
        }
        Step::Forget { tenant, .. } => (tenant, false),
        _ => return None,
    };
    let manifest = desired.tenants.get(tenant)?;
    let renames = matches!(step, Step::Tenant(step) if step.former.is_some());
    let settling = renames || deletion_of(live, tenant).is_some();
    let suspended = manifest.suspended && manifest.state == TenantState::Present && !settling;
    match (manifest.paused, suspended && !locks) {
        (true, _) => Some(format!("would change the paused tenant {tenant}")),
        (false, true) => Some(format!("would change more of the suspended tenant {tenant} than its suspension")),
        (false, false) => None,
    }
}

fn undeclared_variable(desired: &Desired, service: &str, variable: &str) -> Option<String> {
    let declared = desired.tenants.values().flat_map(|tenant| &tenant.publish);
    let declared = declared.into_iter().any(|publish| publish.service == service && publish.variable == variable);
    (!declared || variable == OWNER_VARIABLE)
        .then(|| format!("would set {service}.{variable}, which no manifest publishes"))
}

fn forgets_too_early(desired: &Desired, live: &Live, tenant: &TenantId, why: Forgotten) -> Option<String> {
    let manifest = desired.tenants.get(tenant);
    let present = manifest.is_some_and(|manifest| manifest.state == TenantState::Present);
    let due = live.control.deletions.get(tenant).is_some_and(|row| row.due);
    let detached = manifest.is_some_and(|manifest| manifest.deletion_policy == DeletionPolicy::Detach) && !present;
    match why {
        Forgotten::Dropped => (!due || present).then(|| "would forget a tenant whose database is not due".to_owned()),
        Forgotten::Undone => (!present).then(|| "would undo the deletion of an absent tenant".to_owned()),
        Forgotten::Detached => (!detached).then(|| "would forget a tenant that is not detached".to_owned()),
    }
}

/// A deletion that is recorded, or that a marked database tells.
fn deletion_of<'a>(live: &'a Live, tenant: &TenantId) -> Option<&'a str> {
    let recorded = live.control.deletions.get(tenant).map(|row| row.renamed_to.as_str());
    let servers = live.instances.values().filter_map(|state| match state {
        InstanceState::Awake(server) => Some(server),
        _ => None,
    });
    let mut databases = servers.flat_map(|server| &server.databases);
    let mut told =
        || databases.find(|(name, seen)| name.starts_with("zz_deleted_") && seen.tenant.as_ref() == Some(tenant));
    recorded.or_else(|| told().map(|(name, _)| name.as_str()))
}

/// Only what the manifest names as its former self, and never onto something that is there.
fn renames_too_much(
    desired: &Desired,
    live: &Live,
    (tenant, from, to): (&TenantId, &TenantId, &TenantId),
    (database, to_database): (&str, &str),
) -> Option<String> {
    let begun = |from: &TenantId, to: &TenantId| {
        live.control.renames.get(from).is_some_and(|rename| !rename.done && rename.to == *to)
    };
    let asked = desired.tenants.get(tenant).is_some_and(|manifest| {
        // What was begun is undone by renaming back, in a run that may itself have been killed.
        manifest.renamed_from.as_ref() == Some(from) || begun(to, from) || begun(from, to)
    });
    if to != tenant || !asked || desired.tenants.contains_key(from) {
        return Some(format!("would rename {from} to {to}, which no manifest asks for"));
    }
    for state in live.instances.values() {
        let InstanceState::Awake(server) = state else { continue };
        let marked = |name: &str| server.databases.get(name).and_then(|seen| seen.tenant.as_ref());
        if database != to_database && server.databases.contains_key(to_database) && marked(database) == Some(from) {
            return Some(format!("would rename {database} onto {to_database}"));
        }
    }
    None
}
