//! A pure model of one server: what each change of a plan means, without SQL. Plans are proved against it, and
//! `examples/generate_fleet.rs` makes its observations with it.

use ogelnates::plan::{DatabaseChange as Change, DatabaseLive, RoleLive, RoleMark, ServerLive, role_name};
use ogelnates::tenancy::{RoleName, TenantId};

/// As the image makes it.
pub fn fresh(max_connections: u32) -> ServerLive {
    ServerLive {
        version: 170_000,
        max_connections,
        public_databases: vec!["postgres".into(), "railway".into(), "template1".into()],
        ..ServerLive::default()
    }
}

/// What each change means, without SQL: the pure model that plans are proved against.
pub fn apply(server: &mut ServerLive, change: &Change) {
    match change {
        Change::CreateRole { tenant, role, generation, connection_limit, login } => {
            create_role(server, (tenant, role.as_ref()), *generation, (*connection_limit, *login));
        }
        Change::CreateDatabase { tenant, database, connection_limit } => {
            let fresh = || half_made(tenant, *connection_limit);
            let live = server.databases.entry(database.clone()).or_insert_with(fresh);
            live.connection_limit = signed(*connection_limit);
        }
        Change::OpenDatabase { tenant, database } => with_database(server, database, |live| {
            if live.adopted {
                return;
            }
            live.tenant = Some(tenant.clone());
            live.public_connect = false;
            live.allow_connections = true;
        }),
        Change::GrantRole { tenant, role, grants, .. } => with_role(server, tenant, Some(role), |live| {
            live.mark.iter_mut().for_each(|mark| mark.grants = grants.as_str().to_owned());
        }),
        Change::SetPassword { tenant, role, generation } => with_role(server, tenant, role.as_ref(), |live| {
            live.mark.iter_mut().for_each(|mark| mark.generation = *generation);
            live.password_ours = true;
        }),
        Change::SetLogin { tenant, role, login } => {
            with_role(server, tenant, role.as_ref(), |live| live.can_login = *login)
        }
        Change::DropPrivileges { tenant, role } => {
            with_role(server, tenant, role.as_ref(), |live| live.privileged = false)
        }
        Change::RevokeMemberships { tenant, role, member_of } => {
            with_role(server, tenant, role.as_ref(), |live| live.member_of.retain(|group| !member_of.contains(group)))
        }
        Change::AdoptDatabase { .. } | Change::JoinDatabase { .. } => adopt(server, change),
        Change::SetRoleConnectionLimit { tenant, role, limit } => {
            with_role(server, tenant, role.as_ref(), |live| live.connection_limit = signed(*limit));
        }
        Change::SetDatabaseConnectionLimit { database, limit } => {
            with_database(server, database, |live| live.connection_limit = signed(*limit));
        }
        Change::SetStatementTimeout { database, ms } => {
            with_database(server, database, |live| live.statement_timeout_ms = *ms)
        }
        Change::ResetRoleTimeout { tenant, role, database } => with_role(server, tenant, role.as_ref(), |live| {
            live.statement_timeouts.retain(|own| own.database != *database);
        }),
        Change::SetOwner { database, tenant } => {
            with_database(server, database, |live| live.owner = tenant.to_string())
        }
        Change::DropRole { tenant, role, .. } => drop(server.roles.remove(&role_name(tenant, Some(role)))),
        Change::EndConnections { .. } => {}
        Change::RenameDatabase { database, to } => {
            if let Some(mut live) = server.databases.remove(database) {
                live.allow_connections = false;
                server.databases.insert(to.clone(), live);
            }
        }
        Change::RenameTenant { from, to, database, to_database, generation, roles } => {
            rename(server, (from, to), (database, to_database), *generation, roles);
        }
        Change::Release { tenant, database } => release(server, tenant, database),
        Change::CloseToPublic { database } => server.public_databases.retain(|open| open != database),
        Change::DropDatabase { tenant, database } => {
            server.databases.remove(database);
            server.roles.retain(|_, role| role.mark.as_ref().is_none_or(|mark| mark.tenant != *tenant));
        }
    }
}

/// Again, it keeps what the mark says of an adopted database, and its memberships.
fn create_role(
    server: &mut ServerLive,
    (tenant, role): (&TenantId, Option<&RoleName>),
    generation: u32,
    (connection_limit, login): (u32, bool),
) {
    let mut fresh = fresh_role(tenant, role, generation, connection_limit, login);
    if let Some(have) = server.roles.get(&role_name(tenant, role)) {
        fresh.member_of.clone_from(&have.member_of);
        let adopted = have.mark.as_ref().and_then(|mark| mark.adopted.clone());
        fresh.mark.iter_mut().for_each(|mark| mark.adopted = adopted.clone());
    }
    server.roles.insert(role_name(tenant, role), fresh);
}

fn adopt(server: &mut ServerLive, change: &Change) {
    match change {
        Change::AdoptDatabase { tenant, database, generation, connection_limit, .. } => {
            let mut role = fresh_role(tenant, None, *generation, *connection_limit, true);
            role.mark.iter_mut().for_each(|mark| mark.adopted = Some(database.clone()));
            server.roles.insert(role_name(tenant, None), role);
            with_database(server, database, |live| {
                (live.tenant, live.adopted, live.public_connect) = (Some(tenant.clone()), true, true);
            });
        }
        Change::JoinDatabase { tenant, database, member_of } => {
            with_role(server, tenant, None, |live| {
                live.member_of.retain(|group| Some(group) != member_of.as_ref());
                live.member_of.extend(member_of.clone());
            });
            with_database(server, database, |live| live.public_connect = false);
        }
        _ => {}
    }
}

fn is_of(role: &RoleLive, tenant: &TenantId) -> bool {
    role.mark.as_ref().is_some_and(|mark| mark.tenant == *tenant)
}

fn release(server: &mut ServerLive, tenant: &TenantId, database: &str) {
    // Who was let in by name is a stranger without a mark.
    let declared = |role: &RoleLive| is_of(role, tenant) && role.mark.iter().any(|mark| mark.role.is_some());
    let let_in = server.roles.values().any(declared);
    if let Some(live) = server.databases.get_mut(database).filter(|live| live.tenant.as_ref() == Some(tenant)) {
        (live.tenant, live.public_connect) = (None, live.public_connect || let_in);
        live.adopted = false;
    }
    let roles = server.roles.values_mut();
    roles.filter(|role| is_of(role, tenant)).for_each(|role| (role.mark, role.password_ours) = (None, false));
}

/// All of it or nothing, and nothing the second time.
fn rename(
    server: &mut ServerLive,
    (from, to): (&TenantId, &TenantId),
    (database, to_database): (&str, &str),
    generation: u32,
    roles: &[RoleName],
) {
    if let Some(live) = server.databases.remove(database) {
        assert!(!server.databases.contains_key(to_database), "{database} is renamed onto {to_database}");
        server.databases.insert(to_database.to_owned(), live);
    }
    let names: Vec<String> =
        server.roles.iter().filter(|(_, role)| is_of(role, from)).map(|(name, _)| name.clone()).collect();
    for name in names {
        let mut role = server.roles.remove(&name).expect("listed");
        let mark = role.mark.as_mut().expect("marked");
        mark.tenant = to.clone();
        let name = role_name(to, mark.role.as_ref());
        if mark.role.as_ref().is_none_or(|name| roles.contains(name)) {
            (mark.generation, role.password_ours) = (generation, true);
        }
        assert!(server.roles.insert(name.clone(), role).is_none(), "a role is renamed onto {name}");
    }
    with_database(server, to_database, |live| {
        (live.owner, live.tenant, live.allow_connections) = (to.to_string(), Some(to.clone()), true);
    });
}

fn fresh_role(tenant: &TenantId, role: Option<&RoleName>, generation: u32, limit: u32, login: bool) -> RoleLive {
    let grants = role.map_or("owner", |_| "none").to_owned();
    let mark = RoleMark { tenant: tenant.clone(), role: role.cloned(), generation, grants, adopted: None };
    RoleLive {
        mark: Some(mark),
        can_login: login,
        privileged: false,
        connection_limit: signed(limit),
        password_ours: true,
        member_of: Vec::new(),
        statement_timeouts: Vec::new(),
    }
}

/// Closed, and without our mark yet.
fn half_made(tenant: &TenantId, limit: u32) -> DatabaseLive {
    DatabaseLive {
        owner: tenant.to_string(),
        tenant: None,
        adopted: false,
        allow_connections: false,
        public_connect: true,
        connection_limit: signed(limit),
        statement_timeout_ms: None,
    }
}

fn signed(limit: u32) -> i32 {
    i32::try_from(limit).expect("small")
}

fn with_database(server: &mut ServerLive, name: &str, change: impl FnOnce(&mut DatabaseLive)) {
    change(server.databases.get_mut(name).unwrap_or_else(|| panic!("no database {name}")));
}

fn with_role(
    server: &mut ServerLive,
    tenant: &TenantId,
    role: Option<&RoleName>,
    change: impl FnOnce(&mut RoleLive),
) {
    let name = role_name(tenant, role);
    change(server.roles.get_mut(&name).unwrap_or_else(|| panic!("no role {name}")));
}
