//! A tenant under another name: database, roles and marks in one transaction, so that a server only ever shows the state
//! before or after. The objects stay the same ones, with all grants and settings on them.

use super::guard::{Absent, TAKEN, block, database as guard_database, raise_missing, raise_taken};
use super::ident::{name, text};
use super::removal::end_sessions;
use super::script::{Maker, Message, credential, role_mark};
use crate::plan::{DatabaseChange as Change, role_name};
use crate::tenancy::{DatabaseMarker, FleetUid, RoleMarker, RoleName, TenantId, Verifier};

/// The look before anything is closed: whose the database is, and that nothing has one of the new names. Once the rename is
/// done nothing is left under the former ones, and then it finds no fault. `None` of another change.
pub(super) fn look(fleet: &FleetUid, change: &Change) -> Option<String> {
    let Change::RenameTenant { from, to, database, to_database, roles, .. } = change else { return None };
    let (have, want, owner) = (text(database), text(to_database), text(to.as_str()));
    let moves = database != to_database;
    let marked = format!(
        "FROM pg_roles WHERE starts_with(shobj_description(oid, 'pg_authid'), {})",
        text(&RoleMarker::prefix_of_tenant(fleet, from))
    );
    let named = |name: &str| format!("EXISTS (SELECT FROM pg_database WHERE datname = {name})");
    let begun = if moves { format!("NOT {}", named(&have)) } else { "true".to_owned() };
    let onto = match moves {
        true => format!("IF {} THEN {} END IF;", named(&want), raise_taken(&format!("database `{to_database}`"))),
        false => String::new(),
    };
    let declared: Vec<String> =
        [None].into_iter().chain(roles.iter().map(Some)).map(|role| text(&role_name(to, role))).collect();
    let body = format!(
        "IF NOT {} AND NOT {} THEN {} END IF;
        IF {begun} AND NOT EXISTS (SELECT {marked}) THEN RETURN; END IF; {onto}
        SELECT rolname INTO r FROM pg_roles WHERE rolname IN (SELECT unnest(ARRAY[{}]) UNION ALL
            SELECT {owner} || CASE m[5] WHEN '' THEN '' ELSE '_' || m[5] END
            FROM (SELECT string_to_array(shobj_description(oid, 'pg_authid'), ':') AS m {marked}) AS marked);
        IF FOUND THEN RAISE EXCEPTION USING ERRCODE = '{TAKEN}', MESSAGE = format('role `%s`', r); END IF;",
        named(&have),
        named(&want),
        raise_missing(&format!("database `{database}`")),
        declared.join(", "),
    );
    // A database that keeps its name is the former tenant's on the first run, and the new one's on a second.
    let ours = guard_database(fleet, database, moves.then_some(from), Absent::Allow);
    Some(format!("{ours}; {}", block("r text;", &body)))
}

/// Closed first, and committed, so that nobody comes back while the sessions end: a database in use keeps its name.
pub(super) fn messages(maker: Maker<'_>, change: &Change) -> Vec<Message> {
    let Change::RenameTenant { from, to, database, to_database, generation, roles } = change else {
        return Vec::new();
    };
    let fleet = maker.fleet;
    let look = look(fleet, change).unwrap_or_default();
    let literal = text(database);
    let if_there = |what: &str| {
        block("", &format!("IF EXISTS (SELECT FROM pg_database WHERE datname = {literal}) THEN {what} END IF;"))
    };
    let close = if_there(&format!("ALTER DATABASE {} ALLOW_CONNECTIONS false;", name(database)));
    let mut rename = vec![look.clone()];
    if database != to_database {
        rename.push(if_there(&format!("ALTER DATABASE {} RENAME TO {};", name(database), name(to_database))));
    }
    rename.push(rename_roles(maker, from, to));
    rename
        .extend([None].into_iter().chain(roles.iter().map(Some)).map(|role| password(maker, to, role, *generation)));
    // Its owner has the new name by now, and its mark follows.
    rename.push(guard_database(fleet, to_database, Some(to), Absent::Refuse));
    let mark = DatabaseMarker { fleet: fleet.clone(), tenant: to.clone() };
    let (quoted, mark) = (name(to_database), text(&mark.to_string()));
    rename.push(format!("COMMENT ON DATABASE {quoted} IS {mark}; ALTER DATABASE {quoted} ALLOW_CONNECTIONS true"));
    vec![
        Message::Apart(format!("{look}; {close}")),
        Message::Apart(end_sessions(&format!("datname = {literal}"))),
        Message::Apart(rename.join("; ")),
    ]
}

/// Found by their marks, which name the tenant in their fourth field and the role in their fifth.
fn rename_roles(maker: Maker<'_>, from: &TenantId, to: &TenantId) -> String {
    let body = format!(
        "FOR r, m IN SELECT rolname, string_to_array(shobj_description(oid, 'pg_authid'), ':') FROM pg_roles
            WHERE starts_with(shobj_description(oid, 'pg_authid'), {}) LOOP
            n := {to} || CASE m[5] WHEN '' THEN '' ELSE '_' || m[5] END;
            m[4] := {to};
            EXECUTE format('ALTER ROLE %I RENAME TO %I', r, n);
            EXECUTE format('COMMENT ON ROLE %I IS %L', n, array_to_string(m, ':'));
        END LOOP;",
        text(&RoleMarker::prefix_of_tenant(maker.fleet, from)),
        to = text(to.as_str()),
    );
    block("r text; n text; m text[];", &body)
}

/// Passwords are derived from the tenant's name. A role that is not there yet is made by a later change.
fn password(maker: Maker<'_>, tenant: &TenantId, role: Option<&RoleName>, generation: u32) -> String {
    let full = role_name(tenant, role);
    let verifier = Verifier::of(maker.keys, &credential(tenant, role, generation));
    let mark = role_mark(maker, (tenant, role, generation), &verifier, "");
    let body = format!(
        "SELECT shobj_description(oid, 'pg_authid') INTO c FROM pg_roles WHERE rolname = {literal};
        IF starts_with(c, {}) THEN
            EXECUTE format('ALTER ROLE %I PASSWORD %L', {literal}, {});
            EXECUTE format('COMMENT ON ROLE %I IS %L', {literal}, {} || split_part(c, ':', 8));
        END IF;",
        text(&RoleMarker::prefix(maker.fleet, tenant, role)),
        text(&verifier.to_string()),
        text(&mark),
        literal = text(&full),
    );
    block("c text;", &body)
}
