//! What somebody else made: how a tenant gets into a database it does not own. Roles,
//! passwords and rights that were there before stay as they are.

use super::error::Error;
use super::guard::{Absent, block, database as guard_database, raise_foreign, role as guard_role};
use super::ident::{name, text};
use super::script::{Maker, Message, role_with};
use super::server::{ADMIN_ROLE, Server};
use crate::plan::DatabaseChange as Change;
use crate::tenancy::{Credential, FleetUid, InstanceName, RoleMarker, TenantId, Verifier, adopted_grants};

/// How the mark of any fleet's role begins.
const ANY_ROLE_MARK: &str = "o7s1:";

pub(super) fn messages(maker: Maker<'_>, change: &Change) -> Vec<Message> {
    let fleet = maker.fleet;
    match change {
        Change::AdoptDatabase { tenant, database, generation, connection_limit, force } => {
            let guards =
                format!("{}; {}", free_role(fleet, tenant, database, *force), free_database(fleet, tenant, database));
            let role =
                role_with(maker, (tenant, None, *generation), (*connection_limit, true), &adopted_grants(database));
            vec![Message::Apart(format!("{guards}; {role}"))]
        }
        Change::JoinDatabase { tenant, database, member_of } => join(fleet, tenant, database, member_of.as_deref()),
        _ => Vec::new(),
    }
}

/// Whether the mark of the tenant's owner role says that it was given this very database.
pub(super) fn is_adopted(fleet: &FleetUid, tenant: &TenantId, database: &str) -> String {
    format!(
        "EXISTS (SELECT FROM pg_roles WHERE starts_with(shobj_description(oid, 'pg_authid'), {})
            AND split_part(shobj_description(oid, 'pg_authid'), ':', 8) = {})",
        text(&RoleMarker::prefix(fleet, tenant, None)),
        text(&adopted_grants(database))
    )
}

/// Whether any owner role of the fleet was given this database.
pub(super) fn is_anyones(fleet: &FleetUid, database: &str) -> String {
    format!(
        "EXISTS (SELECT FROM pg_roles WHERE starts_with(shobj_description(oid, 'pg_authid'), {})
            AND split_part(shobj_description(oid, 'pg_authid'), ':', 8) = {})",
        text(&RoleMarker::prefix_of_fleet(fleet)),
        text(&adopted_grants(database))
    )
}

/// The role is not there, or is the one that a run before this one made for this database; with `force` it may carry
/// another fleet's mark. A role without a mark keeps its password.
fn free_role(fleet: &FleetUid, tenant: &TenantId, database: &str, force: bool) -> String {
    let forced = if force { format!("starts_with(mark, {})", text(ANY_ROLE_MARK)) } else { "false".to_owned() };
    let body = format!(
        "SELECT true, coalesce(shobj_description(oid, 'pg_authid'), '') INTO found, mark FROM pg_roles
            WHERE rolname = {role};
        IF found AND NOT ((starts_with(mark, {ours}) AND split_part(mark, ':', 8) = {grants})
            OR (NOT starts_with(mark, {fleet}) AND {forced})) THEN {raise} END IF;",
        role = text(tenant.as_str()),
        ours = text(&RoleMarker::prefix(fleet, tenant, None)),
        grants = text(&adopted_grants(database)),
        fleet = text(&RoleMarker::prefix_of_fleet(fleet)),
        raise = raise_foreign(&format!("role `{tenant}`")),
    );
    block("found boolean; mark text;", &body)
}

/// The database is there and no other tenant's: neither its mark, nor its owner's, nor another role's says so.
fn free_database(fleet: &FleetUid, tenant: &TenantId, database: &str) -> String {
    let body = format!(
        "IF NOT EXISTS (SELECT FROM pg_database WHERE datname = {name}) THEN {missing} END IF;
        IF EXISTS (SELECT FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba WHERE d.datname = {name}
                AND starts_with(shobj_description(r.oid, 'pg_authid'), {fleet}))
            OR ({anyones} AND NOT {own}) THEN {foreign} END IF;",
        name = text(database),
        missing = super::guard::raise_missing(&format!("database `{database}`")),
        fleet = text(&RoleMarker::prefix_of_fleet(fleet)),
        anyones = is_anyones(fleet, database),
        own = is_adopted(fleet, tenant, database),
        foreign = raise_foreign(&format!("database `{database}`")),
    );
    block("", &body)
}

/// PL/pgSQL that lets every role go on which may connect only because everybody may. `r` must be declared. Superusers
/// need no right; a role with a mark of ours is another tenant's.
pub(super) fn keep_access(database: &str) -> String {
    let literal = text(database);
    format!(
        "FOR r IN SELECT rolname FROM pg_roles WHERE rolcanlogin AND NOT rolsuper
                AND has_database_privilege(oid, {literal}, 'CONNECT')
                AND coalesce(shobj_description(oid, 'pg_authid'), '') NOT LIKE 'o7s1:%:role:%' LOOP
            EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', {literal}, r); END LOOP;"
    )
}

/// CONNECT for the tenant's role comes last: it is what says that the rest is done. Sessions of a member begin as the
/// owner, so that what they make belongs to it like everything else there, and `$user` in a search path means the same.
fn join(fleet: &FleetUid, tenant: &TenantId, database: &str, member_of: Option<&str>) -> Vec<Message> {
    let (role, quoted) = (name(tenant.as_str()), name(database));
    let guards = || {
        format!(
            "{}; {}",
            guard_role(fleet, tenant, None, Absent::Refuse),
            guard_database(fleet, database, Some(tenant), Absent::Refuse)
        )
    };
    let close = block(
        "r text;",
        &format!(
            "IF EXISTS (SELECT FROM pg_database d WHERE d.datname = {} AND (d.datacl IS NULL OR EXISTS (SELECT FROM
                aclexplode(d.datacl) a WHERE a.grantee = 0 AND a.privilege_type = 'CONNECT'))) THEN
            {} REVOKE CONNECT ON DATABASE {quoted} FROM PUBLIC; END IF;",
            text(database),
            keep_access(database)
        ),
    );
    let open = format!("GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {quoted} TO {role}");
    match member_of {
        Some(owner) => vec![Message::Apart(format!(
            "{}; {close}; GRANT {} TO {role}; ALTER ROLE {role} IN DATABASE {quoted} SET role = {}; {open}",
            guards(),
            name(owner),
            text(owner)
        ))],
        None => vec![
            Message::Apart(format!("{}; {close}; ALTER ROLE {role} IN DATABASE {quoted} RESET role", guards())),
            Message::Inside { database: database.to_owned(), sql: format!("{}; {}", guards(), all_rights(tenant)) },
            Message::Apart(open),
        ],
    }
}

/// On what is there and on what the database's owner makes later.
fn all_rights(tenant: &TenantId) -> String {
    let role = text(tenant.as_str());
    let body = format!(
        "FOR s IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP
            EXECUTE format('GRANT ALL ON SCHEMA %I TO %I', s, {role});
            EXECUTE format('GRANT ALL ON ALL TABLES IN SCHEMA %I TO %I', s, {role});
            EXECUTE format('GRANT ALL ON ALL SEQUENCES IN SCHEMA %I TO %I', s, {role});
            EXECUTE format('GRANT ALL ON ALL ROUTINES IN SCHEMA %I TO %I', s, {role});
        END LOOP;
        SELECT pg_get_userbyid(datdba) INTO o FROM pg_database WHERE datname = current_database();
        FOREACH s IN ARRAY ARRAY['TABLES', 'SEQUENCES', 'ROUTINES', 'SCHEMAS'] LOOP
            EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I GRANT ALL ON %s TO %I', o, s, {role}); END LOOP;"
    );
    block("s text; o text;", &body)
}

/// What the owner of an adopted database makes later is for declared roles as well. Nothing where the tenant owns it.
pub(super) fn defaults_of_owner(tenant: &TenantId, role: &str, tables: &str, sequences: &str) -> String {
    let role = text(role);
    let body = format!(
        "SELECT pg_get_userbyid(datdba) INTO o FROM pg_database WHERE datname = current_database();
        IF o <> {} THEN
            EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I REVOKE ALL ON TABLES FROM %I', o, {role});
            EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I REVOKE ALL ON SEQUENCES FROM %I', o, {role});
            EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I GRANT USAGE ON SCHEMAS TO %I', o, {role});
            EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I GRANT {tables} ON TABLES TO %I', o, {role});
            EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I GRANT {sequences} ON SEQUENCES TO %I', o, {role});
        END IF;",
        text(tenant.as_str())
    );
    block("o text;", &body)
}

impl Server {
    /// A superuser of our own with the derived password, beside the one that this session is of. One that carries another
    /// fleet's mark, or none, is taken over with `force` only.
    pub async fn admit_admin(&mut self, maker: Maker<'_>, instance: &InstanceName, force: bool) -> Result<(), Error> {
        let credential = Credential::Admin { instance: instance.clone() };
        let keys = maker.keys.clone();
        // Half a millisecond of hashing, once.
        let verifier = Verifier::of(&keys, &credential);
        let (role, quoted) = (text(ADMIN_ROLE), name(ADMIN_ROLE));
        let mark = text(&format!("o7s1:{}:admin", maker.fleet.as_str()));
        let body = format!(
            "SELECT true, coalesce(shobj_description(oid, 'pg_authid') = {mark}, false) INTO found, ours FROM pg_roles
                WHERE rolname = {role};
            IF found AND NOT ours AND NOT {force} THEN {} END IF;
            IF found IS NULL THEN CREATE ROLE {quoted}; END IF;",
            raise_foreign(&format!("role `{ADMIN_ROLE}`"))
        );
        let sql = format!(
            "{}; ALTER ROLE {quoted} SUPERUSER LOGIN CONNECTION LIMIT -1 VALID UNTIL 'infinity' PASSWORD {};
            COMMENT ON ROLE {quoted} IS {mark}",
            block("found boolean; ours boolean;", &body),
            text(&verifier.to_string())
        );
        self.run(&format!("make role {ADMIN_ROLE}"), &sql).await
    }

    /// The last thing done as that role: it stays, because what it granted hangs on it, and lets nobody in.
    pub async fn dismiss_admin(&mut self) -> Result<(), Error> {
        let sql = format!("ALTER ROLE {} NOLOGIN PASSWORD NULL", name(ADMIN_ROLE));
        self.run(&format!("close role {ADMIN_ROLE}"), &sql).await
    }
}
