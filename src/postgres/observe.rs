//! What a server holds, in one query.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::error::Error;
use super::server::Server;
use crate::plan::{DatabaseLive, RoleLive, RoleMark, RoleTimeout, ServerLive};
use crate::tenancy::{DatabaseMarker, FleetUid, Keyring, RoleMarker, TenantId};

/// What a server comes with: no tenant's, and none of their business.
pub(super) const SERVER_DATABASES: [&str; 3] = ["postgres", "railway", "template1"];

/// `datacl` NULL means the default, under which PUBLIC may connect. Role 0 in an ACL is PUBLIC.
const OBSERVE: &str = "SELECT json_build_object(
    'version', current_setting('server_version_num')::int,
    'max_connections', current_setting('max_connections')::int,
    'databases', (SELECT coalesce(json_agg(json_build_object(
        'name', d.datname, 'owner', pg_get_userbyid(d.datdba), 'comment', shobj_description(d.oid, 'pg_database'),
        'allow', d.datallowconn, 'limit', d.datconnlimit,
        'public', d.datacl IS NULL OR EXISTS (SELECT FROM aclexplode(d.datacl) a
            WHERE a.grantee = 0 AND a.privilege_type = 'CONNECT'),
        'strangers', EXISTS (SELECT FROM aclexplode(d.datacl) a WHERE a.privilege_type = 'CONNECT'
            AND a.grantee NOT IN (0, d.datdba)
            AND coalesce(shobj_description(a.grantee, 'pg_authid'), '') NOT LIKE 'o7s1:%:role:' || d.datname || ':%'),
        'connect', (SELECT coalesce(json_agg(pg_get_userbyid(a.grantee)), '[]') FROM aclexplode(d.datacl) a
            WHERE a.privilege_type = 'CONNECT' AND a.grantee <> 0),
        'settings', (SELECT s.setconfig FROM pg_db_role_setting s WHERE s.setdatabase = d.oid AND s.setrole = 0))), '[]')
        FROM pg_database d),
    'roles', (SELECT coalesce(json_agg(json_build_object(
        'name', r.rolname, 'comment', shobj_description(r.oid, 'pg_authid'), 'login', r.rolcanlogin AND coalesce(r.rolvaliduntil, 'infinity') = 'infinity',
        'privileged', r.rolsuper OR r.rolcreatedb OR r.rolcreaterole OR r.rolreplication OR r.rolbypassrls,
        'limit', r.rolconnlimit, 'verifier', r.rolpassword,
        'member_of', (SELECT coalesce(json_agg(g.rolname ORDER BY g.rolname), '[]') FROM pg_auth_members m
            JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid))), '[]')
        FROM pg_authid r WHERE r.rolname !~ '^pg_'),
    'role_timeouts', (SELECT coalesce(json_agg(json_build_object(
        'role', r.rolname, 'database', d.datname, 'setting', c) ORDER BY d.datname NULLS FIRST), '[]')
        FROM pg_db_role_setting s JOIN pg_authid r ON r.oid = s.setrole
        LEFT JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) c WHERE c LIKE 'statement\\_timeout=%')
    )::text";

#[derive(Deserialize)]
struct Answer {
    version: u32,
    max_connections: u32,
    databases: Vec<Database>,
    roles: Vec<Role>,
    /// Of roles; those of databases are with them. Other settings are the tenant's own business.
    role_timeouts: Vec<Timeout>,
}

#[derive(Deserialize)]
struct Timeout {
    role: String,
    database: Option<String>,
    setting: String,
}

#[derive(Deserialize)]
struct Database {
    name: String,
    owner: String,
    comment: Option<String>,
    allow: bool,
    limit: i32,
    public: bool,
    /// Roles that are neither the owner nor the tenant's were given CONNECT; the owner may do that.
    strangers: bool,
    /// Roles that were given CONNECT.
    connect: Vec<String>,
    settings: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Role {
    name: String,
    comment: Option<String>,
    login: bool,
    privileged: bool,
    limit: i32,
    verifier: Option<String>,
    member_of: Vec<String>,
}

impl Server {
    pub async fn observe(&mut self, keys: &Keyring, fleet: &FleetUid) -> Result<ServerLive, Error> {
        let read = sqlx::query_scalar::<_, String>(OBSERVE).fetch_one(&mut self.connection).await;
        let text = read.map_err(|source| Error::Sql { doing: "read databases and roles".into(), source })?;
        let answer: Answer = serde_json::from_str(&text).map_err(|source| Error::Unreadable { source })?;
        Ok(translate(answer, keys, fleet))
    }
}

fn translate(answer: Answer, keys: &Keyring, fleet: &FleetUid) -> ServerLive {
    let mut server =
        ServerLive { version: answer.version, max_connections: answer.max_connections, ..Default::default() };
    server.roles = answer.roles.into_iter().map(|role| role_live(role, keys, fleet)).collect::<BTreeMap<_, _>>();
    for Timeout { role, database, setting } in answer.role_timeouts {
        let of = server.roles.get_mut(&role).zip(statement_timeout_ms(&setting));
        of.into_iter()
            .for_each(|(role, ms)| role.statement_timeouts.push(RoleTimeout { database: database.clone(), ms }));
    }
    let marks = server.roles.iter().filter_map(|(name, role)| Some((name, role.mark.as_ref()?)));
    let adopted: BTreeMap<String, (String, TenantId)> =
        marks.filter_map(|(name, mark)| Some((mark.adopted.clone()?, (name.clone(), mark.tenant.clone())))).collect();
    for database in answer.databases {
        let owner = server.roles.get(&database.owner).and_then(|role| role.mark.as_ref()).map(|mark| &mark.tenant);
        let (name, live) = match adopted.get(&database.name) {
            Some((role, tenant)) => adopted_live(database, role, tenant),
            None => database_live(database, fleet, owner),
        };
        // Nobody can connect to `template0`; the others hold nothing, and a session there could still read the catalogue.
        match live {
            Kind::Tenants(live) => drop(server.databases.insert(name, live)),
            Kind::Servers { open: true } => server.public_databases.push(name),
            Kind::Servers { open: false } => {}
        }
    }
    server.public_databases.sort();
    server
}

enum Kind {
    Tenants(DatabaseLive),
    /// `postgres`, `template1`, `railway`.
    Servers {
        open: bool,
    },
}

/// Whatever its comment says, and even where it is one that servers come with: Railway's template makes `railway`.
fn adopted_live(database: Database, role: &String, tenant: &TenantId) -> (String, Kind) {
    let may_connect = database.connect.contains(role);
    let live = DatabaseLive {
        owner: database.owner,
        tenant: Some(tenant.clone()),
        adopted: true,
        allow_connections: database.allow,
        public_connect: database.public || !may_connect,
        connection_limit: database.limit,
        statement_timeout_ms: timeout(database.settings),
    };
    (database.name, Kind::Tenants(live))
}

fn timeout(settings: Option<Vec<String>>) -> Option<u64> {
    settings.into_iter().flatten().find_map(|setting| statement_timeout_ms(&setting))
}

fn database_live(database: Database, fleet: &FleetUid, owner: Option<&TenantId>) -> (String, Kind) {
    if SERVER_DATABASES.contains(&database.name.as_str()) || database.name == "template0" {
        return (database.name, Kind::Servers { open: database.public && database.allow });
    }
    let mark = database.comment.as_deref().and_then(|text| DatabaseMarker::parse(text).ok());
    // A database's owner can write its comment, and could name another tenant in it; nobody can write a role's. A mark
    // that the owner's contradicts counts as none, so it is set again.
    let mark = mark.filter(|mark| owner.is_none_or(|owner| *owner == mark.tenant));
    let live = DatabaseLive {
        owner: database.owner,
        tenant: mark.filter(|mark| mark.fleet == *fleet).map(|mark| mark.tenant),
        adopted: false,
        allow_connections: database.allow,
        public_connect: database.public || database.strangers,
        connection_limit: database.limit,
        statement_timeout_ms: timeout(database.settings),
    };
    (database.name, Kind::Tenants(live))
}

/// Postgres keeps the text as it was written. We write plain milliseconds, a person may write a unit; what we cannot
/// read counts as above any ceiling.
fn statement_timeout_ms(setting: &str) -> Option<u64> {
    let value = setting.strip_prefix("statement_timeout=")?.trim();
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let (number, unit) = value.split_at(digits);
    let number = number.parse::<u64>().ok();
    let ms = match unit.trim_start() {
        "" | "ms" => number,
        "us" => number.map(|number| number.saturating_add(500) / 1000),
        "s" => number.and_then(|number| number.checked_mul(1000)),
        "min" => number.and_then(|number| number.checked_mul(60_000)),
        "h" => number.and_then(|number| number.checked_mul(3_600_000)),
        "d" => number.and_then(|number| number.checked_mul(86_400_000)),
        _ => None,
    };
    Some(ms.unwrap_or(u64::MAX))
}

fn role_live(role: Role, keys: &Keyring, fleet: &FleetUid) -> (String, RoleLive) {
    let marker =
        role.comment.as_deref().and_then(|text| RoleMarker::parse(text).ok()).filter(|mark| mark.fleet == *fleet);
    let verifier = role.verifier.as_deref().map(|text| keys.fingerprint(text));
    let password_ours = marker.as_ref().is_some_and(|marker| verifier.as_ref() == Some(&marker.verifier));
    let mark = marker.map(|marker| {
        let adopted = marker.adopted();
        let grants = adopted.as_ref().map_or(marker.grants, |_| "owner".to_owned());
        RoleMark { tenant: marker.tenant, role: marker.role, generation: marker.generation, grants, adopted }
    });
    let live = RoleLive {
        mark,
        can_login: role.login,
        privileged: role.privileged,
        connection_limit: role.limit,
        password_ours,
        member_of: role.member_of,
        statement_timeouts: Vec::new(),
    };
    (role.name, live)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_read_in_any_unit_postgres_takes() {
        let read = |value: &str| statement_timeout_ms(&format!("statement_timeout={value}"));
        for (text, ms) in [("0", 0), ("1500", 1500), ("30s", 30_000), ("5 min", 300_000), ("1h", 3_600_000)] {
            assert_eq!(read(text), Some(ms), "{text}");
        }
        for (text, ms) in [("400us", 0), ("500us", 1), ("2d", 172_800_000), ("250ms", 250)] {
            assert_eq!(read(text), Some(ms), "{text}");
        }
        for text in ["1.5h", "0x10", "", "99999999999999999999", "99999999999999999d"] {
            assert_eq!(read(text), Some(u64::MAX), "{text}");
        }
        assert_eq!(statement_timeout_ms("work_mem=4MB"), None);
    }
}
