//! What the changes that take away mean in SQL. Each looks first whether its object is there at all, because the run
//! before this one may have come further than anybody knows.

use super::guard::{Absent, block, database as guard_database, role as guard_role};
use super::ident::{name, text};
use super::script::Message;
use crate::plan::{DatabaseChange as Change, role_name};
use crate::tenancy::{DatabaseMarker, FleetUid, RoleMarker, RoleName, TenantId};

pub(super) fn messages(fleet: &FleetUid, change: &Change) -> Vec<Message> {
    match change {
        Change::EndConnections { database } => vec![
            Message::Together(guard_database(fleet, database, None, Absent::Allow)),
            // Apart, so that what was closed before it is committed, and nobody slips in again.
            // In an adopted database only the tenant's own: other roles are not its.
            Message::Apart(end_sessions(&format!(
                "datname = {} AND (NOT {} OR starts_with(shobj_description(usesysid, 'pg_authid'), {}))",
                text(database),
                super::adopt::is_anyones(fleet, database),
                text(&RoleMarker::prefix_of_fleet(fleet))
            ))),
        ],
        Change::DropRole { tenant, database, role } => drop_role(fleet, tenant, database, role),
        Change::RenameDatabase { database, to } => rename(fleet, database, to),
        Change::Release { tenant, database } => vec![Message::Apart(release(fleet, tenant, database))],
        Change::DropDatabase { tenant, database } => drop_database(fleet, tenant, database),
        _ => Vec::new(),
    }
}

/// Waits up to 5 s for each to be gone.
pub(super) fn end_sessions(whose: &str) -> String {
    format!(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {whose} AND pid <> pg_backend_pid()
            AND backend_type = 'client backend'"
    )
}

/// What it made goes to the tenant; what it was granted goes away; then the role itself.
fn drop_role(fleet: &FleetUid, tenant: &TenantId, database: &str, role: &RoleName) -> Vec<Message> {
    let full = role_name(tenant, Some(role));
    let (quoted, literal) = (name(&full), text(&full));
    let if_there = |what: &str| {
        block("", &format!("IF EXISTS (SELECT FROM pg_roles WHERE rolname = {literal}) THEN {what} END IF;"))
    };
    let close = if_there(&format!("ALTER ROLE {quoted} NOLOGIN;"));
    let owner = name(tenant.as_str());
    let remove =
        if_there(&format!("REASSIGN OWNED BY {quoted} TO {owner}; DROP OWNED BY {quoted}; DROP ROLE {quoted};"));
    vec![
        Message::Apart(format!("{}; {close}", guard_role(fleet, tenant, Some(role), Absent::Allow))),
        Message::Apart(end_sessions(&format!("usename = {literal}"))),
        Message::Inside { database: database.to_owned(), sql: remove },
    ]
}

/// Closed first, and committed, so that nobody comes back while the sessions end.
fn rename(fleet: &FleetUid, database: &str, to: &str) -> Vec<Message> {
    let literal = text(database);
    let if_there = |what: &str| {
        block("", &format!("IF EXISTS (SELECT FROM pg_database WHERE datname = {literal}) THEN {what} END IF;"))
    };
    let close = if_there(&format!("ALTER DATABASE {} ALLOW_CONNECTIONS false;", name(database)));
    let rename = if_there(&format!("ALTER DATABASE {} RENAME TO {};", name(database), name(to)));
    vec![
        Message::Apart(format!("{}; {close}", guard_database(fleet, database, None, Absent::Allow))),
        Message::Apart(end_sessions(&format!("datname = {literal}"))),
        // Under its old or its new name it must be there.
        Message::Apart(format!("{rename}; {}", guard_database(fleet, to, None, Absent::Refuse))),
    ]
}

/// Exactly the marks of this tenant, and what is marked otherwise stays: so it can run again, when none is left.
fn release(fleet: &FleetUid, tenant: &TenantId, database: &str) -> String {
    let mark = DatabaseMarker { fleet: fleet.clone(), tenant: tenant.clone() };
    let body = format!(
        "IF EXISTS (SELECT FROM pg_database WHERE datname = {} AND shobj_description(oid, 'pg_database') = {}) THEN
            COMMENT ON DATABASE {} IS NULL; END IF;
        FOR r IN SELECT rolname FROM pg_roles WHERE starts_with(shobj_description(oid, 'pg_authid'), {}) LOOP
            EXECUTE format('COMMENT ON ROLE %I IS NULL', r); END LOOP;",
        text(database),
        text(&mark.to_string()),
        name(database),
        text(&RoleMarker::prefix_of_tenant(fleet, tenant))
    );
    block("r text;", &body)
}

/// The roles go last: while one is left, its mark tells whose the database was.
fn drop_database(fleet: &FleetUid, tenant: &TenantId, database: &str) -> Vec<Message> {
    let roles = format!(
        "FOR r IN SELECT rolname FROM pg_roles WHERE starts_with(shobj_description(oid, 'pg_authid'), {}) LOOP
            EXECUTE format('DROP ROLE %I', r); END LOOP;",
        text(&RoleMarker::prefix_of_tenant(fleet, tenant))
    );
    vec![
        Message::Apart(guard_database(fleet, database, Some(tenant), Absent::Allow)),
        Message::Apart(format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", name(database))),
        Message::Together(block("r text;", &roles)),
    ]
}
