//! What each change means in SQL. A change is one or two transactions, each of which can run again.

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use super::error::Error;
use super::ident::{name, text};
use super::scram::Verifier;
use super::server::Server;
use crate::manifest::Grants;
use crate::plan::{DatabaseChange as Change, role_name};
use crate::tenancy::{Credential, DatabaseMarker, FleetUid, Keyring, RoleMarker, RoleName, TenantId};

/// Who makes the changes: every mark carries the fleet, every password comes from the keys.
#[derive(Clone, Copy)]
pub struct Maker<'a> {
    pub keys: &'a Keyring,
    pub fleet: &'a FleetUid,
}

/// What one change sends.
enum Sql {
    /// Several statements as one transaction.
    Together(String),
    /// `CREATE DATABASE` and its like refuse to run in a transaction; the flag: only where the database is (not) there.
    Alone { statement: String, database: String, unless_there: bool },
    /// Inside a tenant's database.
    Inside { database: String, statements: String },
}

impl Server {
    /// Not cancel safe between its statements, and safe to run again after any of them.
    pub async fn change(&mut self, maker: Maker<'_>, change: &Change) -> Result<(), Error> {
        let there = self.refuse_foreign(maker, change).await?;
        if !there && matches!(change, Change::DropRole { .. }) {
            return Ok(());
        }
        let doing = describe(change);
        for sql in statements(maker, change) {
            let done = match sql {
                Sql::Together(statements) => send(&mut self.connection, &statements).await,
                Sql::Alone { statement, database, unless_there } => {
                    let there = is_there(&mut self.connection, &database).await;
                    match there {
                        Ok(there) if there == unless_there => Ok(()),
                        Ok(_) => send(&mut self.connection, &statement).await,
                        Err(error) => Err(error),
                    }
                }
                Sql::Inside { database, statements } => {
                    let mut inside = self.open_database(&database).await?;
                    let done = send(&mut inside, &statements).await;
                    let _ = inside.close().await;
                    done
                }
            };
            done.map_err(|source| Error::Sql { doing: doing.clone(), source })?;
        }
        Ok(())
    }

    /// A second look right before the write: the plan may be older than what a person just did. Tells whether the role
    /// or database is there at all.
    async fn refuse_foreign(&mut self, maker: Maker<'_>, change: &Change) -> Result<bool, Error> {
        let (sql, subject, mark) = match change {
            Change::CreateRole { tenant, role, .. }
            | Change::SetPassword { tenant, role, .. }
            | Change::SetLogin { tenant, role, .. }
            | Change::DropPrivileges { tenant, role }
            | Change::RevokeMemberships { tenant, role, .. }
            | Change::SetRoleConnectionLimit { tenant, role, .. } => (
                ROLE_COMMENT,
                role_name(tenant, role.as_ref()),
                format!("o7s1:{}:role:{tenant}:", maker.fleet.as_str()),
            ),
            Change::DropRole { tenant, role, .. } | Change::GrantRole { tenant, role, .. } => {
                (ROLE_COMMENT, role_name(tenant, Some(role)), format!("o7s1:{}:role:{tenant}:", maker.fleet.as_str()))
            }
            Change::CreateDatabase { tenant, database, .. } | Change::OpenDatabase { tenant, database } => {
                (DATABASE_OWNER, database.clone(), tenant.to_string())
            }
            Change::RenameDatabase { database, .. } | Change::DropDatabase { database, .. } => {
                (DATABASE_COMMENT, database.clone(), format!("o7s1:{}:database:", maker.fleet.as_str()))
            }
            _ => return Ok(true),
        };
        let found =
            sqlx::query_scalar::<_, Option<String>>(sql).bind(&subject).fetch_optional(&mut self.connection).await;
        let found = found.map_err(|source| Error::Sql { doing: format!("look at {subject}"), source })?;
        match found {
            Some(comment) if !comment.as_deref().unwrap_or("").starts_with(&mark) => {
                Err(Error::Foreign { what: format!("`{subject}`") })
            }
            found => Ok(found.is_some()),
        }
    }
}

const ROLE_COMMENT: &str = "SELECT shobj_description(oid, 'pg_authid') FROM pg_authid WHERE rolname = $1";
const DATABASE_OWNER: &str = "SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = $1";
const DATABASE_COMMENT: &str = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = $1";

async fn is_there(connection: &mut PgConnection, database: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
        .bind(database)
        .fetch_one(connection)
        .await
}

/// One message of the simple protocol: Postgres runs its statements as one transaction.
async fn send(connection: &mut PgConnection, statements: &str) -> Result<(), sqlx::Error> {
    connection.execute(sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))).await.map(drop)
}

fn credential(tenant: &TenantId, role: Option<&RoleName>, generation: u32) -> Credential {
    Credential::Tenant { tenant: tenant.clone(), role: role.cloned(), generation }
}

/// The comment on a role, as an SQL literal. A declared role gets its grants recorded when they are given.
fn role_mark(
    maker: Maker<'_>,
    tenant: &TenantId,
    role: Option<&RoleName>,
    generation: u32,
    verifier: &Verifier,
    grants: &str,
) -> String {
    let marker = RoleMarker {
        fleet: maker.fleet.clone(),
        tenant: tenant.clone(),
        role: role.cloned(),
        generation,
        verifier: maker.keys.fingerprint(verifier.as_str()),
        grants: grants.to_owned(),
    };
    text(&marker.to_string())
}

fn statements(maker: Maker<'_>, change: &Change) -> Vec<Sql> {
    let together = |sql: String| vec![Sql::Together(sql)];
    let alter = |tenant: &TenantId, role: &Option<RoleName>, what: &str| {
        together(format!("ALTER ROLE {} {what}", name(&role_name(tenant, role.as_ref()))))
    };
    match change {
        Change::CreateRole { tenant, role, generation, connection_limit, login } => {
            together(create_role(maker, (tenant, role.as_ref(), *generation), *connection_limit, *login))
        }
        Change::CreateDatabase { tenant, database, connection_limit } => vec![Sql::Alone {
            // template0, so that nothing a person put into template1 reaches tenants; closed until it is marked.
            statement: format!(
                "CREATE DATABASE {} OWNER {} TEMPLATE template0 ALLOW_CONNECTIONS false CONNECTION LIMIT {connection_limit}",
                name(database),
                name(tenant.as_str())
            ),
            database: database.clone(),
            unless_there: true,
        }],
        Change::OpenDatabase { tenant, database } => {
            let mark = DatabaseMarker { fleet: maker.fleet.clone(), tenant: tenant.clone() };
            let (database, mark) = (name(database), text(&mark.to_string()));
            together(format!(
                "REVOKE ALL ON DATABASE {database} FROM PUBLIC; COMMENT ON DATABASE {database} IS {mark}; \
                 ALTER DATABASE {database} ALLOW_CONNECTIONS true"
            ))
        }
        Change::GrantRole { tenant, database, role, grants } => grant(tenant, database, role, *grants),
        Change::SetPassword { tenant, role, generation } => {
            together(set_password(maker, tenant, role.as_ref(), *generation))
        }
        Change::SetLogin { tenant, role, login } => alter(tenant, role, if *login { "LOGIN" } else { "NOLOGIN" }),
        Change::DropPrivileges { tenant, role } => {
            alter(tenant, role, "NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS")
        }
        Change::RevokeMemberships { tenant, role, member_of } => {
            let member = name(&role_name(tenant, role.as_ref()));
            let revokes = member_of.iter().map(|group| format!("REVOKE {} FROM {member}", name(group)));
            together(revokes.collect::<Vec<_>>().join("; "))
        }
        Change::SetRoleConnectionLimit { tenant, role, limit } => {
            alter(tenant, role, &format!("CONNECTION LIMIT {limit}"))
        }
        Change::SetDatabaseConnectionLimit { database, limit } => {
            together(format!("ALTER DATABASE {} CONNECTION LIMIT {limit}", name(database)))
        }
        Change::SetStatementTimeout { database, ms: Some(ms) } => {
            together(format!("ALTER DATABASE {} SET statement_timeout = {ms}", name(database)))
        }
        Change::SetStatementTimeout { database, ms: None } => {
            together(format!("ALTER DATABASE {} RESET statement_timeout", name(database)))
        }
        Change::SetOwner { database, tenant } => {
            together(format!("ALTER DATABASE {} OWNER TO {}", name(database), name(tenant.as_str())))
        }
        Change::EndConnections { database } => {
            let database = text(database);
            together(format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {database} AND pid <> pg_backend_pid()"
            ))
        }
        Change::CloseToPublic { database } => {
            together(format!("REVOKE CONNECT, TEMPORARY ON DATABASE {} FROM PUBLIC", name(database)))
        }
        Change::DropRole { .. } | Change::RenameDatabase { .. } | Change::DropDatabase { .. } => {
            removal(maker, change)
        }
    }
}

/// Role, rights, password and mark in one transaction; again, it brings an existing role of ours to the same state.
fn create_role(
    maker: Maker<'_>,
    (tenant, role, generation): (&TenantId, Option<&RoleName>, u32),
    limit: u32,
    login: bool,
) -> String {
    let full = role_name(tenant, role);
    let verifier = Verifier::of(maker.keys, &credential(tenant, role, generation));
    let login = if login { "LOGIN" } else { "NOLOGIN" };
    let options = format!(
        "{login} NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS CONNECTION LIMIT {limit} PASSWORD {}",
        text(verifier.as_str())
    );
    // A declared role has no grants yet; the word is set when they are given.
    let grants = if role.is_none() { "owner" } else { "none" };
    let (quoted, literal) = (name(&full), text(&full));
    let mark = role_mark(maker, tenant, role, generation, &verifier, grants);
    format!(
        "DO $o7s$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {literal}) THEN CREATE ROLE {quoted}; END IF; \
         END $o7s$; ALTER ROLE {quoted} {options}; COMMENT ON ROLE {quoted} IS {mark}"
    )
}

/// Keeps what the mark says of grants. The mark is text of ours, split at its colons.
fn set_password(maker: Maker<'_>, tenant: &TenantId, role: Option<&RoleName>, generation: u32) -> String {
    let full = role_name(tenant, role);
    let verifier = Verifier::of(maker.keys, &credential(tenant, role, generation));
    let mark = role_mark(maker, tenant, role, generation, &verifier, "");
    let (quoted, literal) = (name(&full), text(&full));
    format!(
        "ALTER ROLE {quoted} PASSWORD {}; DO $o7s$ BEGIN EXECUTE format('COMMENT ON ROLE %I IS %L', {literal}, {mark} || \
         split_part((SELECT shobj_description(oid, 'pg_authid') FROM pg_authid WHERE rolname = {literal}), ':', 8)); \
         END $o7s$",
        text(verifier.as_str())
    )
}

/// Rights on what is there and, by default privileges, on what the owner makes later. Recorded in the mark last, so
/// that a crash in between grants again. `pg_read_all_data` would be shorter and let a tenant read `pg_authid`.
fn grant(tenant: &TenantId, database: &str, role: &RoleName, grants: Grants) -> Vec<Sql> {
    let full = role_name(tenant, Some(role));
    let (quoted, owner, literal) = (name(&full), name(tenant.as_str()), text(&full));
    let (tables, sequences) = match grants {
        Grants::Read => ("SELECT", "SELECT"),
        Grants::Write => ("SELECT, INSERT, UPDATE, DELETE", "USAGE, SELECT, UPDATE"),
    };
    let connect = format!("GRANT CONNECT ON DATABASE {} TO {quoted}", name(database));
    let inside = format!(
        "DO $o7s$ DECLARE s text; BEGIN FOR s IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> \
         'information_schema' LOOP EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA %I FROM %I', s, {literal}); \
         EXECUTE format('REVOKE ALL ON ALL SEQUENCES IN SCHEMA %I FROM %I', s, {literal}); \
         EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', s, {literal}); \
         EXECUTE format('GRANT {tables} ON ALL TABLES IN SCHEMA %I TO %I', s, {literal}); \
         EXECUTE format('GRANT {sequences} ON ALL SEQUENCES IN SCHEMA %I TO %I', s, {literal}); END LOOP; END $o7s$; \
         ALTER DEFAULT PRIVILEGES FOR ROLE {owner} REVOKE ALL ON TABLES FROM {quoted}; \
         ALTER DEFAULT PRIVILEGES FOR ROLE {owner} REVOKE ALL ON SEQUENCES FROM {quoted}; \
         ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT USAGE ON SCHEMAS TO {quoted}; \
         ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT {tables} ON TABLES TO {quoted}; \
         ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT {sequences} ON SEQUENCES TO {quoted}"
    );
    let record = format!(
        "DO $o7s$ DECLARE m text[] := string_to_array((SELECT shobj_description(oid, 'pg_authid') FROM pg_authid WHERE rolname = \
         {literal}), ':'); BEGIN m[8] := {}; EXECUTE format('COMMENT ON ROLE %I IS %L', {literal}, array_to_string(m, ':')); \
         END $o7s$",
        text(grants.as_str())
    );
    vec![
        Sql::Together(connect),
        Sql::Inside { database: database.to_owned(), statements: inside },
        Sql::Together(record),
    ]
}

fn removal(maker: Maker<'_>, change: &Change) -> Vec<Sql> {
    match change {
        Change::DropRole { tenant, database, role } => {
            let (quoted, owner) = (name(&role_name(tenant, Some(role))), name(tenant.as_str()));
            vec![
                Sql::Together(format!("ALTER ROLE {quoted} NOLOGIN")),
                // What it made goes to the tenant; what it was granted goes away.
                Sql::Inside {
                    database: database.clone(),
                    statements: format!("REASSIGN OWNED BY {quoted} TO {owner}; DROP OWNED BY {quoted}"),
                },
                Sql::Together(format!("DROP ROLE IF EXISTS {quoted}")),
            ]
        }
        Change::RenameDatabase { database, to } => {
            let (from, quoted) = (name(database), name(to));
            vec![
                Sql::Alone {
                    statement: format!("ALTER DATABASE {from} ALLOW_CONNECTIONS false"),
                    database: database.clone(),
                    unless_there: false,
                },
                Sql::Together(format!(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {}",
                    text(database)
                )),
                Sql::Alone {
                    statement: format!("ALTER DATABASE {from} RENAME TO {quoted}"),
                    database: database.clone(),
                    unless_there: false,
                },
            ]
        }
        Change::DropDatabase { tenant, database } => {
            let mark = text(&format!("o7s1:{}:role:{tenant}:%", maker.fleet.as_str()));
            vec![
                Sql::Together(format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", name(database))),
                Sql::Together(format!(
                    "DO $o7s$ DECLARE r text; BEGIN FOR r IN SELECT rolname FROM pg_authid WHERE \
                     shobj_description(oid, 'pg_authid') LIKE {mark} LOOP EXECUTE format('DROP ROLE %I', r); END LOOP; END $o7s$"
                )),
            ]
        }
        _ => Vec::new(),
    }
}

/// Completes "cannot …".
fn describe(change: &Change) -> String {
    match change {
        Change::CreateRole { tenant, role, .. } => format!("make role {}", role_name(tenant, role.as_ref())),
        Change::CreateDatabase { database, .. } => format!("make database {database}"),
        Change::OpenDatabase { database, .. } => format!("open database {database}"),
        Change::GrantRole { tenant, role, .. } => format!("grant to role {}", role_name(tenant, Some(role))),
        Change::SetPassword { tenant, role, .. } => {
            format!("set the password of {}", role_name(tenant, role.as_ref()))
        }
        Change::SetLogin { tenant, role, .. }
        | Change::DropPrivileges { tenant, role }
        | Change::RevokeMemberships { tenant, role, .. }
        | Change::SetRoleConnectionLimit { tenant, role, .. } => {
            format!("alter role {}", role_name(tenant, role.as_ref()))
        }
        Change::SetDatabaseConnectionLimit { database, .. }
        | Change::SetStatementTimeout { database, .. }
        | Change::SetOwner { database, .. }
        | Change::CloseToPublic { database } => format!("alter database {database}"),
        Change::DropRole { tenant, role, .. } => format!("drop role {}", role_name(tenant, Some(role))),
        Change::EndConnections { database } => format!("end the connections to {database}"),
        Change::RenameDatabase { database, to } => format!("rename database {database} to {to}"),
        Change::DropDatabase { database, .. } => format!("drop database {database}"),
    }
}
