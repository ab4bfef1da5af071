//! A tenant's database, roles and route.

use super::action::{Action, Field, Reason, ReasonCode, RouteDraft, Step, Symbol, TenantStep, Wave};
use super::ceilings;
use super::change::DatabaseChange as Change;
use super::code::Code;
use super::instances::{Status, field};
use super::live::{DatabaseLive, Placement, RoleLive, ServerLive};
use super::planner::{Draft, problem};
use super::renamed;
use crate::manifest::{Desired, Origin, Role, Tenant};
use crate::tenancy::{InstanceName, RoleName, Route, RouteState, TenantId};

/// The changes of one tenant with what each means for people.
#[derive(Default)]
pub(super) struct Work {
    changes: Vec<Change>,
    /// Login is taken away only after the route is.
    after: Vec<Change>,
    fields: Vec<Field>,
    created: bool,
    rotated: bool,
    /// Something differs that the manifests did not ask to change since it was last applied.
    drifted: bool,
}

impl Work {
    pub(super) fn change(&mut self, change: Change, path: &str, old: Option<&str>, new: Option<&str>) {
        self.changes.push(change);
        self.fields.push(field(path, old, new));
    }
}

/// Where the tenant's place was asked for: its own manifest, else its tier's.
pub(super) fn placement_cause(tenant: &Tenant, desired: &Desired) -> Origin {
    let own = ["spec.placement.instance", "spec.placement.pool", "spec.tier"];
    let written = own.iter().find(|path| tenant.origins.fields.contains_key(**path));
    match (written, desired.tiers.get(&tenant.tier)) {
        (Some(path), _) => tenant.origins.at(path),
        (None, Some(tier)) => tier.origins.at("spec.placement.pool"),
        (None, None) => tenant.origins.object.clone(),
    }
}

pub(super) fn plan(draft: &mut Draft<'_>, tenant: &Tenant, placement: &Placement, remembered: bool) {
    let address = format!("tenant/{}", tenant.name);
    let status = draft.instances.get(&placement.instance).cloned();
    let server = match status {
        Some(Status::Awake(server)) => Some(server),
        Some(Status::Fresh) => None,
        Some(Status::Unread) if !needs_server(draft, tenant, placement) => {
            let before = draft.plan.actions.len();
            push_route(draft, tenant, placement);
            draft.plan.unchanged.tenants += u32::from(draft.plan.actions.len() == before);
            return;
        }
        Some(Status::Unread) => None,
        Some(Status::Down { code, why }) => {
            let help = "the rest goes on; see the instance's own line, then run again";
            let problem = problem(code, address, why, help, Some(tenant.origins.object.clone()));
            draft.plan.blocked.push(problem);
            return;
        }
        None => return,
    };
    let route = draft.live.control.routes.get(&tenant.name);
    let refusal = server.and_then(|server| foreign(server, tenant, placement));
    if let Some((code, message)) = refusal {
        let help = "drop or rename it by hand, or name the tenant otherwise; o7s never changes what it did not make";
        draft.refuse(problem(code, address, message, help, Some(tenant.origins.object.clone())));
        return;
    }
    if let Some(problem) = server.and_then(|server| renamed::role_problem(server, tenant, placement)) {
        return draft.refuse(problem);
    }
    let mut work = match server {
        Some(server) => compare(draft, tenant, placement, server, route),
        None => from_nothing(tenant, placement),
    };
    if remembered && work.created && route.is_some() && server.is_some() {
        work.drifted = true;
        let text = format!("tenant/{}: its database was dropped outside o7s and is made again, empty", tenant.name);
        draft.plan.warnings.push(text);
    }
    let newest = route.map_or(0, |route| route.generation);
    if newest > tenant.generation {
        let (at, now) = (tenant.origins.at("spec.credentials.generation"), tenant.generation);
        let text =
            format!("{at}: credentials.generation goes back from {newest} to {now}: an old password is valid again");
        draft.plan.warnings.push(text);
    }
    let before = draft.plan.actions.len();
    push_actions(draft, tenant, placement, work);
    push_route(draft, tenant, placement);
    if draft.plan.actions.len() == before {
        draft.plan.unchanged.tenants += 1;
    }
}

/// A server that was not read needs a visit only for what the routing table shows as not yet applied.
fn needs_server(draft: &Draft<'_>, tenant: &Tenant, placement: &Placement) -> bool {
    let route = draft.live.control.routes.get(&tenant.name);
    route.is_none_or(|route| RouteDraft::of(route) != wanted_route(draft, tenant, placement))
}

fn foreign(server: &ServerLive, tenant: &Tenant, placement: &Placement) -> Option<(Code, String)> {
    let owner = tenant.name.as_str();
    let ours = |name: &str| server.roles.get(name).is_none_or(|role| marked_for(role, &tenant.name));
    let on = &placement.instance;
    if !ours(owner) {
        return Some((Code::ForeignRole, format!("a role `{owner}` exists on {on} and is not ours")));
    }
    let declared = tenant.roles.iter().map(|role| role_name(&tenant.name, Some(&role.name)));
    if let Some(name) = declared.into_iter().find(|name| !ours(name)) {
        return Some((Code::ForeignRole, format!("a role `{name}` exists on {on} and is not ours")));
    }
    let database = server.databases.get(&placement.database)?;
    let half_made = database.tenant.is_none() && database.owner == owner && server.roles.contains_key(owner);
    let ours = database.tenant.as_ref() == Some(&tenant.name) || half_made;
    (!ours).then(|| {
        (Code::ForeignDatabase, format!("a database `{}` exists on {on} and is not ours", placement.database))
    })
}

fn marked_for(role: &RoleLive, tenant: &TenantId) -> bool {
    role.mark.as_ref().is_some_and(|mark| mark.tenant == *tenant)
}

/// `acme` or `acme_reader`.
pub fn role_name(tenant: &TenantId, role: Option<&RoleName>) -> String {
    role.map_or_else(|| tenant.to_string(), |role| format!("{tenant}_{role}"))
}

/// Every change can run twice, so this also brings a database from any unread state to the wanted one.
fn from_nothing(tenant: &Tenant, placement: &Placement) -> Work {
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

fn compare(
    draft: &Draft<'_>,
    tenant: &Tenant,
    placement: &Placement,
    server: &ServerLive,
    route: Option<&Route>,
) -> Work {
    let mut work = Work::default();
    let deletion = draft.live.control.deletions.get(&tenant.name);
    let applied = route.is_some_and(|route| RouteDraft::of(route) == wanted_route(draft, tenant, placement));
    compare_role(&mut work, tenant, None, server, applied);
    match (server.databases.get(&placement.database), deletion) {
        (Some(database), _) => compare_database(&mut work, tenant, placement, database),
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
    if !live.member_of.is_empty() {
        let member_of = live.member_of.clone();
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

fn compare_database(work: &mut Work, tenant: &Tenant, placement: &Placement, live: &DatabaseLive) {
    let database = &placement.database;
    if live.owner != tenant.name.as_str() {
        let change = Change::SetOwner { database: database.clone(), tenant: tenant.name.clone() };
        work.change(change, "database.owner", Some(&live.owner), Some(tenant.name.as_str()));
    }
    if live.tenant.is_none() || live.public_connect || !live.allow_connections {
        let old = match (live.tenant.is_none(), live.public_connect) {
            (true, _) => "half made",
            (false, true) => "open to every role",
            (false, false) => "closed",
        };
        let change = Change::OpenDatabase { tenant: tenant.name.clone(), database: database.clone() };
        work.change(change, "database.access", Some(old), Some("its own roles"));
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

fn push_actions(draft: &mut Draft<'_>, tenant: &Tenant, placement: &Placement, work: Work) {
    let undone = draft.live.control.deletions.contains_key(&tenant.name);
    if undone {
        let reason = Reason { code: ReasonCode::SpecChanged, text: "its deletion is undone".into() };
        let step = Step::Forget { tenant: tenant.name.clone(), dropped: false };
        draft.act(action(
            tenant,
            "deletion",
            Symbol::Update,
            Wave::Routes,
            reason,
            tenant.origins.at("spec.state"),
            step,
        ));
    }
    if !work.after.is_empty() {
        let reason = Reason { code: ReasonCode::SpecChanged, text: "suspended".into() };
        let mut changes = work.after.clone();
        changes.push(Change::EndConnections { database: placement.database.clone() });
        let step = tenant_step(tenant, placement, changes);
        let mut action = action(
            tenant,
            "login",
            Symbol::Update,
            Wave::Removals,
            reason,
            tenant.origins.at("spec.suspended"),
            step,
        );
        action.fields = work.fields.iter().filter(|field| field.path.ends_with(".login")).cloned().collect();
        draft.act(action);
    }
    if work.changes.is_empty() {
        return;
    }
    let (symbol, reason) = reason(&work, placement, undone);
    let step = tenant_step(tenant, placement, work.changes);
    let cause = cause(draft.desired, tenant, &reason, &work.fields);
    let fields =
        work.fields.into_iter().filter(|field| work.after.is_empty() || !field.path.ends_with(".login")).collect();
    let mut action = action(tenant, "", symbol, Wave::Databases, reason, cause, step);
    action.fields = fields;
    draft.act(action);
}

fn reason(work: &Work, placement: &Placement, undone: bool) -> (Symbol, Reason) {
    let (symbol, code, text) = match work {
        _ if undone => (Symbol::Update, ReasonCode::SpecChanged, "its deletion is undone".to_owned()),
        Work { drifted: true, .. } => {
            (Symbol::Drift, ReasonCode::Drift, format!("changed by hand on {}", placement.instance))
        }
        Work { created: true, .. } => {
            (Symbol::Create, ReasonCode::NotFound, format!("new on {}", placement.instance))
        }
        Work { rotated: true, .. } => (Symbol::Update, ReasonCode::Rotation, "credentials.generation".to_owned()),
        _ => (Symbol::Update, ReasonCode::SpecChanged, "limits or roles changed".to_owned()),
    };
    (symbol, Reason { code, text })
}

fn cause(desired: &Desired, tenant: &Tenant, reason: &Reason, fields: &[Field]) -> Origin {
    match reason.code {
        ReasonCode::NotFound => placement_cause(tenant, desired),
        ReasonCode::Rotation => tenant.origins.at("spec.credentials.generation"),
        _ => limit_cause(desired, tenant, fields),
    }
}

/// The line that set what changed: the tenant's own, else its tier's.
fn limit_cause(desired: &Desired, tenant: &Tenant, fields: &[Field]) -> Origin {
    let changed = |part: &str| fields.iter().any(|field| field.path.to_lowercase().contains(&part.to_lowercase()));
    let paths = [
        ("serverConnections", "spec.limits.serverConnections"),
        ("serverConnections", "spec.limits.connections"),
        ("connections", "spec.limits.connections"),
        ("statementTimeout", "spec.limits.statementTimeout"),
        ("queriesPerMinute", "spec.limits.queriesPerMinute"),
        ("storage", "spec.limits.storage"),
        ("egressPerMonth", "spec.limits.egressPerMonth"),
        ("login", "spec.suspended"),
        ("state", "spec.suspended"),
        ("tier", "spec.tier"),
        ("role", "spec.roles"),
        ("grants", "spec.roles"),
        ("password", "spec.credentials.generation"),
        ("generation", "spec.credentials.generation"),
    ];
    let own = paths.iter().find(|(part, path)| changed(part) && tenant.origins.fields.contains_key(*path));
    if let Some((_, path)) = own {
        return tenant.origins.at(path);
    }
    let tier = desired.tiers.get(&tenant.tier);
    let inherited = paths.iter().find_map(|(part, path)| {
        let tier = tier.filter(|tier| changed(part) && tier.origins.fields.contains_key(*path))?;
        Some(tier.origins.at(path))
    });
    inherited.unwrap_or_else(|| tenant.origins.object.clone())
}

fn action(
    tenant: &Tenant,
    part: &str,
    symbol: Symbol,
    wave: Wave,
    reason: Reason,
    cause: Origin,
    step: Step,
) -> Action {
    let address = match part {
        "" => format!("tenant/{}", tenant.name),
        part => format!("tenant/{}.{part}", tenant.name),
    };
    Action { address, symbol, wave, reason, cause, fields: Vec::new(), step }
}

pub(super) fn tenant_step(tenant: &Tenant, placement: &Placement, changes: Vec<Change>) -> Step {
    let (tenant, placement) = (tenant.name.clone(), placement.clone());
    Step::Tenant(Box::new(TenantStep { tenant, placement, changes, deletion: None }))
}

fn wanted_route(draft: &Draft<'_>, tenant: &Tenant, placement: &Placement) -> RouteDraft {
    let tier = draft.desired.tiers.get(&tenant.tier);
    RouteDraft {
        tenant: tenant.name.clone(),
        database: placement.database.clone(),
        instance: placement.instance.clone(),
        state: if tenant.suspended { RouteState::Suspended } else { RouteState::Active },
        tier: tenant.tier.clone(),
        generation: tenant.generation,
        roles: tenant.roles.iter().map(|role| role.name.clone()).collect(),
        limits: tenant.limits.clone(),
        over_limit: tier.map(|tier| tier.over_limit.clone()).unwrap_or_default(),
        upgrade: tier.and_then(|tier| tier.upgrade.clone()),
    }
}

fn push_route(draft: &mut Draft<'_>, tenant: &Tenant, placement: &Placement) {
    let wanted = wanted_route(draft, tenant, placement);
    let have = draft.live.control.routes.get(&tenant.name);
    let endpoint = endpoint_of(draft, &placement.instance);
    let same_place = have.is_some_and(|route| endpoint.is_some_and(|endpoint| route.endpoint == *endpoint));
    if same_place && have.map(RouteDraft::of).as_ref() == Some(&wanted) {
        return;
    }
    let fields = route_fields(have, &wanted, same_place);
    let (symbol, code, text) = match have {
        None => (Symbol::Create, ReasonCode::NotFound, format!("new route to {}", placement.instance)),
        Some(route) if route.tier != wanted.tier => {
            (Symbol::Update, ReasonCode::SpecChanged, format!("tier {} -> {}", route.tier, wanted.tier))
        }
        Some(_) => (Symbol::Update, ReasonCode::SpecChanged, "the route changed".to_owned()),
    };
    let cause = match have {
        None => tenant.origins.object.clone(),
        Some(route) if route.tier != wanted.tier => tenant.origins.at("spec.tier"),
        Some(_) => limit_cause(draft.desired, tenant, &fields),
    };
    let (address, reason) = (format!("route/{}", tenant.name), Reason { code, text });
    let step = Step::Route { route: Box::new(wanted) };
    draft.act(Action { address, symbol, wave: Wave::Routes, reason, cause, fields, step });
}

/// Where the instance is; `None` while it has no address, which is also so for one that this plan makes anew.
pub(super) fn endpoint_of<'a>(draft: &Draft<'a>, instance: &InstanceName) -> Option<&'a crate::tenancy::Endpoint> {
    if draft.remade.contains(instance) {
        return None;
    }
    draft.live.control.instances.get(instance.as_str())?.endpoint.as_ref()
}

/// Only what differs; a new route shows where it leads.
fn route_fields(have: Option<&Route>, wanted: &RouteDraft, same_place: bool) -> Vec<Field> {
    let Some(have) = have else {
        let place = format!("{}/{}", wanted.instance, wanted.database);
        return vec![field("to", None, Some(&place)), field("tier", None, Some(wanted.tier.as_str()))];
    };
    let pair = |path: &str, old: Option<String>, new: Option<String>| {
        (old != new).then_some(Field { path: path.to_owned(), old, new })
    };
    let (a, b) = (&have.limits, &wanted.limits);
    let text = |value: &dyn ToString| Some(value.to_string());
    let place = |instance: &InstanceName, database: &str| Some(format!("{instance}/{database}"));
    let upgrade = |upgrade: &Option<crate::tenancy::Upgrade>| upgrade.as_ref().map(|upgrade| upgrade.to.clone());
    let mut fields: Vec<Field> = [
        pair("to", place(&have.instance, &have.database), place(&wanted.instance, &wanted.database)),
        pair("state", text(&have.state.as_str()), text(&wanted.state.as_str())),
        pair("tier", text(&have.tier), text(&wanted.tier)),
        pair("generation", text(&have.generation), text(&wanted.generation)),
        pair("roles", text(&join_roles(&have.roles)), text(&join_roles(&wanted.roles))),
        pair("limits.connections", text(&a.connections), text(&b.connections)),
        pair("limits.serverConnections", text(&a.server_connections), text(&b.server_connections)),
        pair(
            "limits.queriesPerMinute",
            a.queries_per_minute.map(|n| n.to_string()),
            b.queries_per_minute.map(|n| n.to_string()),
        ),
        pair("limits.storage", a.storage.map(|n| n.to_string()), b.storage.map(|n| n.to_string())),
        pair(
            "limits.egressPerMonth",
            a.egress_per_month.map(|n| n.to_string()),
            b.egress_per_month.map(|n| n.to_string()),
        ),
        pair(
            "limits.statementTimeout",
            a.statement_timeout.map(|n| n.to_string()),
            b.statement_timeout.map(|n| n.to_string()),
        ),
        pair("upgrade.to", upgrade(&have.upgrade), upgrade(&wanted.upgrade)),
    ]
    .into_iter()
    .flatten()
    .collect();
    if have.over_limit != wanted.over_limit {
        fields.push(field("overLimit", Some("(old)"), Some("(changed)")));
    }
    if !same_place {
        fields.push(field("address", Some(&have.endpoint.public.to_string()), Some("the instance's new address")));
    }
    fields
}

fn join_roles(roles: &[RoleName]) -> String {
    roles.iter().map(RoleName::as_str).collect::<Vec<_>>().join(", ")
}
