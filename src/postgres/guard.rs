//! The look right before a write, in the same transaction: the plan may be older than what a person just did. Each guard
//! is a block that raises [`FOREIGN`], [`MISSING`] or [`TAKEN`], which [`super::Error`] knows again.

use super::ident::text;
use crate::plan::role_name;
use crate::tenancy::{DatabaseMarker, FleetUid, RoleMarker, RoleName, TenantId};

/// SQLSTATEs of ours: classes beyond `J` are free for applications (SQL standard; Postgres' appendix A uses none of
/// them but `P0` and `XX`).
pub(super) const FOREIGN: &str = "O7F01";
pub(super) const MISSING: &str = "O7M01";
pub(super) const TAKEN: &str = "O7T01";

/// What a guard does where the object does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absent {
    Refuse,
    Allow,
}

/// Runs `body` in PL/pgSQL. Quoted whole as a literal, so no text inside can end it.
pub(super) fn block(declare: &str, body: &str) -> String {
    format!("DO {}", text(&format!("DECLARE {declare} BEGIN {body} END")))
}

pub(super) fn raise_foreign(what: &str) -> String {
    raise(FOREIGN, what)
}

pub(super) fn raise_missing(what: &str) -> String {
    raise(MISSING, what)
}

pub(super) fn raise_taken(what: &str) -> String {
    raise(TAKEN, what)
}

fn raise(code: &str, what: &str) -> String {
    format!("RAISE EXCEPTION USING ERRCODE = '{code}', MESSAGE = {};", text(what))
}

/// The role is the tenant's and ours by its mark, which its own user cannot write.
pub(super) fn role(fleet: &FleetUid, tenant: &TenantId, role: Option<&RoleName>, absent: Absent) -> String {
    let full = role_name(tenant, role);
    let missing = match absent {
        Absent::Refuse => format!("IF found IS NULL THEN {} END IF;", raise(MISSING, &format!("role `{full}`"))),
        Absent::Allow => String::new(),
    };
    let body = format!(
        "SELECT true, starts_with(shobj_description(oid, 'pg_authid'), {}) INTO found, ours FROM pg_roles
            WHERE rolname = {};
        IF found AND ours IS NOT TRUE THEN {} END IF; {missing}",
        text(&RoleMarker::prefix(fleet, tenant, role)),
        text(&full),
        raise(FOREIGN, &format!("role `{full}`")),
    );
    block("found boolean; ours boolean;", &body)
}

/// The database is ours: by its mark, because its owner is an owner role of ours, or because a role's mark says that it
/// was adopted. The second counts as well, because
/// a database has no mark until it is finished, and because its owner can overwrite the comment that holds the mark.
/// With `tenant` it must be that tenant's.
pub(super) fn database(fleet: &FleetUid, database: &str, tenant: Option<&TenantId>, absent: Absent) -> String {
    let missing = match absent {
        Absent::Refuse => {
            format!("IF found IS NULL THEN {} END IF;", raise(MISSING, &format!("database `{database}`")))
        }
        Absent::Allow => String::new(),
    };
    let adopted = match tenant {
        Some(tenant) => super::adopt::is_adopted(fleet, tenant, database),
        None => super::adopt::is_anyones(fleet, database),
    };
    let (marked, owned) = match tenant {
        Some(tenant) => {
            let mark = DatabaseMarker { fleet: fleet.clone(), tenant: tenant.clone() };
            // A tenant can write another one's mark on its own database; whose it is, its owner's mark says then.
            let marked = format!(
                "shobj_description(d.oid, 'pg_database') = {}
                    AND starts_with(shobj_description(r.oid, 'pg_authid'), {}) IS NOT TRUE",
                text(&mark.to_string()),
                text(&RoleMarker::prefix_of_fleet(fleet))
            );
            (marked, text(&RoleMarker::prefix(fleet, tenant, None)))
        }
        None => {
            let prefix = text(&DatabaseMarker::prefix(fleet));
            let marked = format!("starts_with(shobj_description(d.oid, 'pg_database'), {prefix})");
            // An owner role carries its tenant's name, and its mark names no role.
            let fleet = text(&RoleMarker::prefix_of_fleet(fleet));
            (marked, format!("{fleet} || r.rolname || '::'"))
        }
    };
    let body = format!(
        "SELECT true, coalesce({marked}, false)
                OR coalesce(starts_with(shobj_description(r.oid, 'pg_authid'), {owned}), false) OR {adopted}
            INTO found, ours FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba WHERE d.datname = {};
        IF found AND NOT ours THEN {} END IF; {missing}",
        text(database),
        raise(FOREIGN, &format!("database `{database}`")),
    );
    block("found boolean; ours boolean;", &body)
}
