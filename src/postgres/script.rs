//! What each change means in SQL: messages, of which each is one transaction and can run again.

use super::adopt;
use super::guard::{Absent, block, database as guard_database, role as guard_role};
use super::ident::{name, text};
use super::observe::SERVER_DATABASES;
use super::removal;
use super::rename;
use crate::manifest::Grants;
use crate::plan::{DatabaseChange as Change, role_name};
use crate::tenancy::{Credential, DatabaseMarker, FleetUid, Keyring, RoleMarker, RoleName, TenantId, Verifier};

/// Who makes the changes: every mark carries the fleet, every password comes from the keys.
#[derive(Debug, Clone, Copy)]
pub struct Maker<'a> {
    pub keys: &'a Keyring,
    pub fleet: &'a FleetUid,
}

/// One message to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    /// May share a transaction with its neighbours.
    Together(String),
    /// Must be committed before the next, or sees only what was committed before.
    Apart(String),
    /// `CREATE DATABASE` refuses to share a transaction; that the database is there already is no failure.
    Create(String),
    /// On a connection to the tenant's database.
    Inside { database: String, sql: String },
}

pub(super) fn messages(maker: Maker<'_>, change: &Change) -> Vec<Message> {
    let fleet = maker.fleet;
    match change {
        Change::CreateRole { tenant, role, generation, connection_limit, login } => {
            let whose = (tenant, role.as_ref(), *generation);
            vec![Message::Together(create_role(maker, whose, *connection_limit, *login))]
        }
        Change::CreateDatabase { tenant, database, connection_limit } => {
            create_database(fleet, tenant, database, *connection_limit)
        }
        Change::OpenDatabase { tenant, database } => {
            let mark = DatabaseMarker { fleet: fleet.clone(), tenant: tenant.clone() };
            let (quoted, mark) = (name(database), text(&mark.to_string()));
            // Of an adopted database a server that was not read may be told to do this; its own access is another's.
            let body = format!(
                "IF NOT {} THEN REVOKE ALL ON DATABASE {quoted} FROM PUBLIC; {} COMMENT ON DATABASE {quoted} IS {mark};
                ALTER DATABASE {quoted} ALLOW_CONNECTIONS true; END IF;",
                adopt::is_adopted(fleet, tenant, database),
                revoke_from_strangers(database)
            );
            vec![Message::Together(format!(
                "{}; {}",
                guard_database(fleet, database, Some(tenant), Absent::Refuse),
                block("r text;", &body)
            ))]
        }
        Change::GrantRole { tenant, database, role, grants } => {
            let sql = grant(fleet, tenant, database, role, *grants);
            vec![Message::Inside { database: database.clone(), sql }]
        }
        Change::SetPassword { tenant, role, generation } => {
            vec![Message::Together(set_password(maker, tenant, role.as_ref(), *generation))]
        }
        Change::SetLogin { tenant, role, login } => {
            alter_role(fleet, tenant, role.as_ref(), if *login { "LOGIN VALID UNTIL 'infinity'" } else { "NOLOGIN" })
        }
        Change::DropPrivileges { tenant, role } => alter_role(fleet, tenant, role.as_ref(), UNPRIVILEGED),
        Change::SetRoleConnectionLimit { tenant, role, limit } => {
            alter_role(fleet, tenant, role.as_ref(), &format!("CONNECTION LIMIT {limit}"))
        }
        Change::RevokeMemberships { tenant, role, member_of } => revoke(fleet, tenant, role.as_ref(), member_of),
        Change::SetDatabaseConnectionLimit { database, limit } => {
            alter_database(fleet, database, None, &format!("CONNECTION LIMIT {limit}"))
        }
        Change::SetStatementTimeout { database, ms } => {
            let set = ms.map_or("RESET statement_timeout".to_owned(), |ms| format!("SET statement_timeout = {ms}"));
            alter_database(fleet, database, None, &set)
        }
        Change::ResetRoleTimeout { tenant, role, database } => {
            let within =
                database.as_ref().map_or_else(String::new, |database| format!("IN DATABASE {} ", name(database)));
            alter_role(fleet, tenant, role.as_ref(), &format!("{within}RESET statement_timeout"))
        }
        Change::SetOwner { database, tenant } => {
            let owner = format!("OWNER TO {}", name(tenant.as_str()));
            alter_database(fleet, database, Some(tenant), &owner)
        }
        Change::CloseToPublic { database } => close_to_public(database),
        Change::RenameTenant { .. } => rename::messages(maker, change),
        Change::AdoptDatabase { .. } | Change::JoinDatabase { .. } => adopt::messages(maker, change),
        Change::EndConnections { .. }
        | Change::Release { .. }
        | Change::DropRole { .. }
        | Change::RenameDatabase { .. }
        | Change::DropDatabase { .. } => removal::messages(fleet, change),
    }
}

const UNPRIVILEGED: &str = "NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS";

fn alter_role(fleet: &FleetUid, tenant: &TenantId, role: Option<&RoleName>, what: &str) -> Vec<Message> {
    let guard = guard_role(fleet, tenant, role, Absent::Refuse);
    vec![Message::Together(format!("{guard}; ALTER ROLE {} {what}", name(&role_name(tenant, role))))]
}

fn alter_database(fleet: &FleetUid, database: &str, tenant: Option<&TenantId>, what: &str) -> Vec<Message> {
    let guard = guard_database(fleet, database, tenant, Absent::Refuse);
    vec![Message::Together(format!("{guard}; ALTER DATABASE {} {what}", name(database)))]
}

pub(super) fn credential(tenant: &TenantId, role: Option<&RoleName>, generation: u32) -> Credential {
    Credential::Tenant { tenant: tenant.clone(), role: role.cloned(), generation }
}

pub(super) fn role_mark(
    maker: Maker<'_>,
    (tenant, role, generation): (&TenantId, Option<&RoleName>, u32),
    verifier: &Verifier,
    grants: &str,
) -> String {
    let marker = RoleMarker {
        fleet: maker.fleet.clone(),
        tenant: tenant.clone(),
        role: role.cloned(),
        generation,
        verifier: maker.keys.fingerprint(&verifier.to_string()),
        grants: grants.to_owned(),
    };
    marker.to_string()
}

/// Role, rights, password and mark in one transaction; again, it brings an existing role of ours to the same state.
pub(super) fn create_role(
    maker: Maker<'_>,
    whose: (&TenantId, Option<&RoleName>, u32),
    connection_limit: u32,
    login: bool,
) -> String {
    // A declared role has no grants yet; the word is set when they are given.
    let grants = if whose.1.is_none() { "owner" } else { "none" };
    let guard = guard_role(maker.fleet, whose.0, whose.1, Absent::Allow);
    format!("{guard}; {}", role_with(maker, whose, (connection_limit, login), grants))
}

/// Without a guard. What the mark of an owner role says of an adopted database stays.
pub(super) fn role_with(
    maker: Maker<'_>,
    whose: (&TenantId, Option<&RoleName>, u32),
    (connection_limit, login): (u32, bool),
    grants: &str,
) -> String {
    let (tenant, role, generation) = whose;
    let full = role_name(tenant, role);
    let verifier = Verifier::of(maker.keys, &credential(tenant, role, generation));
    let mark = role_mark(maker, whose, &verifier, "");
    let comment = format!(
        "EXECUTE format('COMMENT ON ROLE %I IS %L', {full}, {} || coalesce((SELECT substring(
            shobj_description(oid, 'pg_authid') FROM ':(adopted/[^:]*)$') FROM pg_roles WHERE rolname = {full}), {}));",
        text(&mark),
        text(grants),
        full = text(&full),
    );
    let create = format!(
        "IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {}) THEN CREATE ROLE {}; END IF;",
        text(&full),
        name(&full)
    );
    format!(
        "{}; ALTER ROLE {quoted} {} {UNPRIVILEGED} CONNECTION LIMIT {connection_limit} PASSWORD {}; {}",
        block("", &create),
        if login { "LOGIN VALID UNTIL 'infinity'" } else { "NOLOGIN" },
        text(&verifier.to_string()),
        block("", &comment),
        quoted = name(&full),
    )
}

/// Of `template0`, so that nothing a person put into `template1` reaches tenants; closed until it is marked.
///
/// Copied through the log: `FILE_COPY` takes less CPU (5 ms instead of 13 where files are made fast, Postgres 15), but
/// forces two checkpoints for each database, which every tenant of the instance would feel.
fn create_database(fleet: &FleetUid, tenant: &TenantId, database: &str, connection_limit: u32) -> Vec<Message> {
    let create = format!(
        "CREATE DATABASE {} OWNER {} TEMPLATE template0 STRATEGY wal_log ALLOW_CONNECTIONS false CONNECTION LIMIT {connection_limit}",
        name(database),
        name(tenant.as_str())
    );
    // Where it was there already, it must be the tenant's, and gets the ceiling it would have been made with.
    let limit = format!("CONNECTION LIMIT {connection_limit}");
    let owner = guard_role(fleet, tenant, None, Absent::Refuse);
    let mut messages = vec![Message::Together(owner), Message::Create(create)];
    messages.extend(alter_database(fleet, database, Some(tenant), &limit));
    messages
}

/// Keeps what the mark says of grants. The mark is text of ours, split at its colons.
fn set_password(maker: Maker<'_>, tenant: &TenantId, role: Option<&RoleName>, generation: u32) -> String {
    let full = role_name(tenant, role);
    let verifier = Verifier::of(maker.keys, &credential(tenant, role, generation));
    let mark = role_mark(maker, (tenant, role, generation), &verifier, "");
    let comment = format!(
        "EXECUTE format('COMMENT ON ROLE %I IS %L', {full}, {} || split_part(
            (SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = {full}), ':', 8));",
        text(&mark),
        full = text(&full),
    );
    format!(
        "{}; ALTER ROLE {} PASSWORD {}; {}",
        guard_role(maker.fleet, tenant, role, Absent::Refuse),
        name(&full),
        text(&verifier.to_string()),
        block("", &comment)
    )
}

/// Rights on what is there and, by default privileges, on what the owner makes later; whatever it had before is taken
/// first. Recorded in the mark by the same transaction. `pg_read_all_data` would be shorter, and would let a tenant
/// read `pg_authid`.
fn grant(fleet: &FleetUid, tenant: &TenantId, database: &str, role: &RoleName, grants: Grants) -> String {
    let full = role_name(tenant, Some(role));
    let (quoted, owner, literal) = (name(&full), name(tenant.as_str()), text(&full));
    let (tables, sequences) = match grants {
        Grants::Read => ("SELECT", "SELECT"),
        Grants::Write => ("SELECT, INSERT, UPDATE, DELETE", "USAGE, SELECT, UPDATE"),
    };
    let existing = format!(
        "FOR s IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP
            EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA %I FROM %I', s, {literal});
            EXECUTE format('REVOKE ALL ON ALL SEQUENCES IN SCHEMA %I FROM %I', s, {literal});
            EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', s, {literal});
            EXECUTE format('GRANT {tables} ON ALL TABLES IN SCHEMA %I TO %I', s, {literal});
            EXECUTE format('GRANT {sequences} ON ALL SEQUENCES IN SCHEMA %I TO %I', s, {literal});
        END LOOP;"
    );
    let record = format!(
        "m := string_to_array((SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = {literal}), ':');
        m[8] := {}; EXECUTE format('COMMENT ON ROLE %I IS %L', {literal}, array_to_string(m, ':'));",
        text(grants.as_str())
    );
    format!(
        "{}; {}; GRANT CONNECT ON DATABASE {} TO {quoted}; {};
        ALTER DEFAULT PRIVILEGES FOR ROLE {owner} REVOKE ALL ON TABLES FROM {quoted};
        ALTER DEFAULT PRIVILEGES FOR ROLE {owner} REVOKE ALL ON SEQUENCES FROM {quoted};
        ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT USAGE ON SCHEMAS TO {quoted};
        ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT {tables} ON TABLES TO {quoted};
        ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT {sequences} ON SEQUENCES TO {quoted}; {}; {}",
        guard_role(fleet, tenant, Some(role), Absent::Refuse),
        guard_database(fleet, database, Some(tenant), Absent::Refuse),
        name(database),
        block("s text;", &existing),
        adopt::defaults_of_owner(tenant, &full, tables, sequences),
        block("m text[];", &record),
    )
}

/// Since version 16 a membership belongs to who gave it, and a plain REVOKE would warn and leave it.
fn revoke(fleet: &FleetUid, tenant: &TenantId, role: Option<&RoleName>, member_of: &[String]) -> Vec<Message> {
    let groups: Vec<String> = member_of.iter().map(|group| text(group)).collect();
    let body = format!(
        "FOR m IN SELECT g.rolname AS role, r.rolname AS member, b.rolname AS giver FROM pg_auth_members a
                JOIN pg_roles g ON g.oid = a.roleid JOIN pg_roles r ON r.oid = a.member
                LEFT JOIN pg_roles b ON b.oid = a.grantor
            WHERE r.rolname = {} AND g.rolname = ANY (ARRAY[{}]::text[]) LOOP
            IF m.giver IS NOT NULL AND current_setting('server_version_num')::int >= 160000 THEN
                EXECUTE format('REVOKE %I FROM %I GRANTED BY %I CASCADE', m.role, m.member, m.giver);
            ELSE EXECUTE format('REVOKE %I FROM %I CASCADE', m.role, m.member); END IF;
        END LOOP;",
        text(&role_name(tenant, role)),
        groups.join(", ")
    );
    let guard = guard_role(fleet, tenant, role, Absent::Refuse);
    vec![Message::Together(format!("{guard}; {}", block("m record;", &body)))]
}

/// Only the server's own databases; any other is a tenant's or a person's.
fn close_to_public(database: &str) -> Vec<Message> {
    if !SERVER_DATABASES.contains(&database) {
        return Vec::new();
    }
    let body = format!(
        "IF EXISTS (SELECT FROM pg_database WHERE datname = {}) THEN
            {} REVOKE CONNECT, TEMPORARY ON DATABASE {} FROM PUBLIC; END IF;",
        text(database),
        adopt::keep_access(database),
        name(database)
    );
    vec![Message::Together(block("r text;", &body))]
}

/// Whoever is neither the owner nor one of the tenant's roles; a tenant may let others in, and nobody else may want that.
fn revoke_from_strangers(database: &str) -> String {
    let literal = text(database);
    format!(
        "FOR r IN SELECT DISTINCT a.grantee::regrole::text FROM pg_database d, aclexplode(d.datacl) a \
         WHERE d.datname = {literal} AND a.grantee NOT IN (0, d.datdba) AND \
         coalesce(shobj_description(a.grantee, 'pg_authid'), '') NOT LIKE 'o7s1:%:role:' || d.datname || ':%' \
         LOOP EXECUTE format('REVOKE ALL ON DATABASE %I FROM %s CASCADE', {literal}, r); END LOOP;"
    )
}
