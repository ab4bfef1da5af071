//! The `postgres` room on a real server: what tenants can and cannot do, what a crash leaves, and that the model the
//! simulation proves plans against means the same as the SQL.

use std::time::Duration;

use ogelnates::manifest::Grants;
use ogelnates::plan::{DatabaseChange as Change, RoleLive, RoleTimeout, ServerLive, role_name};
use ogelnates::postgres::{Error, Many, Server, change_many};
use ogelnates::tenancy::{Address, Credential, FleetName, FleetUid, Keyring, RoleName, Secret, TenantId};
use sqlx::{Connection as _, PgConnection};

use crate::cut::Wire;
use crate::simulation::apply;
use crate::support::{self, execute};

const DEADLINE: Duration = Duration::from_secs(30);

struct Place {
    server: &'static support::Server,
    keys: Keyring,
    fleet: FleetUid,
}

/// Names nobody else on the shared server has.
fn tenant() -> TenantId {
    TenantId::parse(&format!("t{}", &uuid::Uuid::new_v4().simple().to_string()[..12])).expect("valid")
}

fn role(text: &str) -> RoleName {
    RoleName::parse(text).expect("valid")
}

impl Place {
    async fn open() -> Place {
        let keys = Keyring::new(&Secret::new("postgres-tests-postgres-tests-00")).expect("long enough");
        let fleet = keys.fleet_uid(&FleetName::parse("tests").expect("valid"));
        Place { server: support::server().await, keys, fleet }
    }

    fn address(&self) -> Address {
        Address { host: "127.0.0.1".into(), port: self.server.port }
    }

    async fn connect(&self) -> Server {
        Server::connect(&self.address(), ("postgres", &self.server.password), DEADLINE)
            .await
            .expect("the test server answers")
    }

    async fn change(&self, changes: &[Change]) -> Result<(), Error> {
        self.change_through(self.server.port, changes).await
    }

    async fn change_through(&self, port: u16, changes: &[Change]) -> Result<(), Error> {
        let address = Address { port, ..self.address() };
        let many = Many {
            address: &address,
            user: "postgres",
            password: &self.server.password,
            deadline: DEADLINE,
            keys: &self.keys,
            fleet: &self.fleet,
            parallel: 2,
        };
        change_many(&many, &[changes.to_vec()], &|_| ()).await.remove(0)
    }

    async fn changed(&self, changes: &[Change]) {
        self.change(changes).await.unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)));
    }

    /// Only what belongs to `tenant`.
    async fn look(&self, tenant: &TenantId) -> ServerLive {
        let mut server = self.connect().await;
        let mut live = server.observe(&self.keys, &self.fleet).await.expect("observed");
        server.close().await;
        of_tenant(&mut live, tenant);
        live
    }

    /// As a tenant's driver does: with the derived password, over the wire.
    async fn login(
        &self,
        tenant: &TenantId,
        role: Option<&RoleName>,
        generation: u32,
        database: &str,
    ) -> Result<PgConnection, sqlx::Error> {
        let password =
            self.keys.password(&Credential::Tenant { tenant: tenant.clone(), role: role.cloned(), generation });
        let (user, port) = (role_name(tenant, role), self.server.port);
        PgConnection::connect(&format!("postgresql://{user}:{}@127.0.0.1:{port}/{database}", password.expose())).await
    }
}

fn of_tenant(live: &mut ServerLive, tenant: &TenantId) {
    live.databases.retain(|name, _| name.trim_end_matches('x').ends_with(tenant.as_str().trim_end_matches('x')));
    live.roles.retain(|name, _| name.starts_with(tenant.as_str()));
    (live.version, live.max_connections) = (0, 0);
    live.public_databases.clear();
}

fn new_tenant(tenant: &TenantId) -> Vec<Change> {
    let (tenant, database) = (tenant.clone(), tenant.to_string());
    vec![
        Change::CreateRole { tenant: tenant.clone(), role: None, generation: 1, connection_limit: 5, login: true },
        Change::CreateDatabase { tenant: tenant.clone(), database: database.clone(), connection_limit: 5 },
        Change::OpenDatabase { tenant: tenant.clone(), database: database.clone() },
        Change::SetStatementTimeout { database: database.clone(), ms: Some(30_000) },
        Change::CreateRole {
            tenant: tenant.clone(),
            role: Some(role("reader")),
            generation: 1,
            connection_limit: 5,
            login: true,
        },
        Change::GrantRole { tenant, database, role: role("reader"), grants: Grants::Read },
    ]
}

fn sqlstate(error: &sqlx::Error) -> String {
    error.as_database_error().and_then(|error| error.code()).unwrap_or_default().into_owned()
}

async fn fails(connection: &mut PgConnection, sql: &str) -> String {
    let result = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(connection).await;
    sqlstate(&result.expect_err(sql))
}

#[tokio::test]
async fn the_model_of_the_simulation_means_what_the_sql_does() {
    let (place, tenant) = (Place::open().await, tenant());
    let database = tenant.to_string();
    let renamed = TenantId::parse(&format!("{tenant}x")).expect("valid");
    let reader = Some(role("reader"));
    let mut changes = new_tenant(&tenant);
    changes.extend([
        Change::SetPassword { tenant: tenant.clone(), role: None, generation: 2 },
        Change::SetPassword { tenant: tenant.clone(), role: reader.clone(), generation: 2 },
        Change::SetRoleConnectionLimit { tenant: tenant.clone(), role: reader.clone(), limit: 2 },
        Change::SetDatabaseConnectionLimit { database: database.clone(), limit: 9 },
        Change::SetStatementTimeout { database: database.clone(), ms: None },
        Change::SetLogin { tenant: tenant.clone(), role: reader.clone(), login: false },
        Change::GrantRole {
            tenant: tenant.clone(),
            database: database.clone(),
            role: role("reader"),
            grants: Grants::Write,
        },
        Change::DropPrivileges { tenant: tenant.clone(), role: None },
        Change::ResetRoleTimeout { tenant: tenant.clone(), role: None, database: None },
        Change::ResetRoleTimeout { tenant: tenant.clone(), role: None, database: Some(database.clone()) },
        Change::EndConnections { database: database.clone() },
        Change::DropRole { tenant: tenant.clone(), database: database.clone(), role: role("reader") },
        Change::RenameDatabase { database: database.clone(), to: format!("zz_deleted_1_{tenant}") },
        Change::RenameDatabase { database: format!("zz_deleted_1_{tenant}"), to: database.clone() },
        Change::OpenDatabase { tenant: tenant.clone(), database: database.clone() },
        Change::RenameTenant {
            from: tenant.clone(),
            to: renamed.clone(),
            database: database.clone(),
            to_database: renamed.to_string(),
            generation: 3,
            roles: vec![role("later")],
        },
        Change::RenameTenant {
            from: renamed,
            to: tenant.clone(),
            database: format!("{database}x"),
            to_database: database.clone(),
            generation: 2,
            roles: Vec::new(),
        },
        Change::DropDatabase { tenant: tenant.clone(), database: database.clone() },
    ]);
    changes.extend(new_tenant(&tenant));
    changes.push(Change::Release { tenant: tenant.clone(), database });
    let mut model = ServerLive::default();
    for change in &changes {
        // Each runs twice: a run may be killed between a change and the next.
        place.changed(std::slice::from_ref(change)).await;
        place.changed(std::slice::from_ref(change)).await;
        apply(&mut model, change);
        assert_eq!(place.look(&tenant).await, model, "after {change:?}");
    }
}

#[tokio::test]
async fn a_run_that_was_killed_after_any_change_is_finished_by_running_all_of_them() {
    let place = Place::open().await;
    let wanted = {
        let tenant = tenant();
        place.changed(&new_tenant(&tenant)).await;
        anonymous(place.look(&tenant).await, &tenant)
    };
    for killed_after in 0..new_tenant(&tenant()).len() {
        let tenant = tenant();
        let changes = new_tenant(&tenant);
        place.changed(&changes[..killed_after]).await;
        place.changed(&changes).await;
        assert_eq!(anonymous(place.look(&tenant).await, &tenant), wanted, "killed after {killed_after}");
    }
}

/// Everything that happens to a tenant, from its first role to its last.
fn whole_life(tenant: &TenantId) -> Vec<Vec<Change>> {
    let (owner, database, to) = (tenant.clone(), tenant.to_string(), format!("zz_deleted_1_{tenant}"));
    let rotate = |role| Change::SetPassword { tenant: owner.clone(), role, generation: 2 };
    vec![
        new_tenant(tenant),
        vec![rotate(None), rotate(Some(role("reader")))],
        vec![
            Change::SetLogin { tenant: owner.clone(), role: None, login: false },
            Change::EndConnections { database: database.clone() },
        ],
        vec![Change::DropRole { tenant: owner.clone(), database: database.clone(), role: role("reader") }],
        vec![Change::RenameDatabase { database, to: to.clone() }],
        vec![Change::DropDatabase { tenant: owner, database: to }],
    ]
}

#[tokio::test]
async fn a_client_killed_after_any_statement_is_followed_by_one_that_finishes() {
    let place = Place::open().await;
    let mut wanted = Vec::new();
    let smooth = tenant();
    for stage in whole_life(&smooth) {
        place.changed(&stage).await;
        wanted.push(anonymous(place.look(&smooth).await, &smooth));
    }
    let mut cuts = 0;
    for (stage, wanted) in wanted.iter().enumerate() {
        for statements in 0.. {
            let tenant = tenant();
            let life = whole_life(&tenant);
            for before in &life[..stage] {
                place.changed(before).await;
            }
            let wire = Wire::cut_after(statements, place.server.port).await;
            let killed = place.change_through(wire.port, &life[stage]).await;
            place.changed(&life[stage]).await;
            let live = anonymous(place.look(&tenant).await, &tenant);
            assert_eq!(live, *wanted, "stage {stage} cut after {statements}");
            match killed {
                Ok(()) => break,
                Err(error) => assert!(matches!(error, Error::Sql { .. } | Error::NotListening { .. }), "{error:?}"),
            }
            cuts += 1;
        }
    }
    assert!(cuts > 12, "the wire was cut only {cuts} times");
}

fn anonymous(live: ServerLive, tenant: &TenantId) -> String {
    format!("{live:?}").replace(tenant.as_str(), "T")
}

#[tokio::test]
async fn no_tenant_reaches_or_lists_another_ones_data() {
    let (place, acme, beta) = (Place::open().await, tenant(), tenant());
    for tenant in [&acme, &beta] {
        place.changed(&new_tenant(tenant)).await;
    }
    let close = ["postgres", "template1"].map(|database| Change::CloseToPublic { database: database.into() });
    place.changed(&close).await;
    let mut own = place.login(&acme, None, 1, acme.as_str()).await.expect("its own database");
    execute(&mut own, "CREATE TABLE secret (v text); INSERT INTO secret VALUES ('x')").await;
    for database in [beta.as_str(), "postgres", "template1"] {
        let refused = place.login(&acme, None, 1, database).await.expect_err(database);
        assert_eq!(sqlstate(&refused), "42501", "{database}: {refused}");
    }
    // Not even the reader role, whose rights reach over schemas, reads the catalogue of passwords.
    let mut reader =
        place.login(&acme, Some(&role("reader")), 1, acme.as_str()).await.expect("the reader's database");
    for sql in [
        "SELECT rolpassword FROM pg_authid",
        "CREATE ROLE x",
        "CREATE DATABASE x",
        "SELECT pg_read_file('PG_VERSION')",
    ] {
        assert_eq!(fails(&mut own, sql).await, "42501", "owner: {sql}");
        assert_eq!(fails(&mut reader, sql).await, "42501", "reader: {sql}");
    }
    assert_eq!(fails(&mut own, &format!("SET ROLE \"{beta}\"")).await, "42501");
    // It sees that others are connected, not what they run.
    let _other = place.login(&beta, None, 1, beta.as_str()).await.expect("beta's database");
    let seen: Vec<Option<String>> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
        "SELECT query FROM pg_stat_activity WHERE usename = '{beta}'"
    )))
    .fetch_all(&mut own)
    .await
    .expect("its own view");
    assert!(seen.iter().flatten().all(|query| query == "<insufficient privilege>"), "{seen:?}");
}

#[tokio::test]
async fn a_reader_reads_what_is_and_what_comes_and_writes_nothing_and_a_writer_writes() {
    let (place, acme) = (Place::open().await, tenant());
    place.changed(&new_tenant(&acme)).await;
    let mut own = place.login(&acme, None, 1, acme.as_str()).await.expect("its own database");
    execute(
        &mut own,
        "CREATE TABLE later (v int); INSERT INTO later VALUES (7); CREATE SCHEMA s; CREATE TABLE s.t (v int)",
    )
    .await;
    let mut reader =
        place.login(&acme, Some(&role("reader")), 1, acme.as_str()).await.expect("the reader's database");
    let read: i32 = sqlx::query_scalar("SELECT v FROM later").fetch_one(&mut reader).await.expect("may read");
    assert_eq!(read, 7);
    execute(&mut reader, "SELECT * FROM s.t").await;
    assert_eq!(fails(&mut reader, "INSERT INTO later VALUES (8)").await, "42501");
    assert_eq!(fails(&mut reader, "CREATE TABLE mine (v int)").await, "42501");
    let database = acme.to_string();
    place
        .changed(&[Change::GrantRole { tenant: acme.clone(), database, role: role("reader"), grants: Grants::Write }])
        .await;
    execute(&mut reader, "INSERT INTO later VALUES (8); UPDATE s.t SET v = 1").await;
    // And back: a right that is taken is taken on what is there, too.
    let database = acme.to_string();
    place
        .changed(&[Change::GrantRole { tenant: acme.clone(), database, role: role("reader"), grants: Grants::Read }])
        .await;
    assert_eq!(fails(&mut reader, "INSERT INTO later VALUES (9)").await, "42501");
}

#[tokio::test]
async fn ceilings_that_postgres_can_hold_are_held() {
    let (place, acme) = (Place::open().await, tenant());
    place.changed(&new_tenant(&acme)).await;
    let database = acme.to_string();
    place.changed(&[Change::SetRoleConnectionLimit { tenant: acme.clone(), role: None, limit: 1 }]).await;
    place.changed(&[Change::SetStatementTimeout { database: database.clone(), ms: Some(50) }]).await;
    let mut first = place.login(&acme, None, 1, &database).await.expect("one is allowed");
    let second = place.login(&acme, None, 1, &database).await.expect_err("two are not");
    assert_eq!(sqlstate(&second), "53300");
    assert_eq!(fails(&mut first, "SELECT pg_sleep(30)").await, "57014");
}

#[tokio::test]
async fn a_rotation_lets_the_new_password_in_and_the_old_one_not() {
    let (place, acme) = (Place::open().await, tenant());
    place.changed(&new_tenant(&acme)).await;
    place.changed(&[Change::SetPassword { tenant: acme.clone(), role: None, generation: 2 }]).await;
    place.login(&acme, None, 2, acme.as_str()).await.expect("the new one");
    let old = place.login(&acme, None, 1, acme.as_str()).await.expect_err("the old one");
    assert_eq!(sqlstate(&old), "28P01");
}

#[tokio::test]
async fn what_a_person_changed_by_hand_is_seen() {
    let (place, acme) = (Place::open().await, tenant());
    place.changed(&new_tenant(&acme)).await;
    let mut admin = place.server.connect("postgres").await;
    execute(&mut admin, &format!("ALTER ROLE \"{acme}\" PASSWORD 'mine' SUPERUSER CONNECTION LIMIT 77")).await;
    execute(&mut admin, &format!("ALTER ROLE \"{acme}_reader\" VALID UNTIL '2000-01-01'")).await;
    execute(&mut admin, &format!("GRANT pg_monitor TO \"{acme}\"; GRANT CONNECT ON DATABASE \"{acme}\" TO PUBLIC"))
        .await;
    let live = place.look(&acme).await;
    let RoleLive { password_ours, privileged, connection_limit, member_of, .. } = &live.roles[acme.as_str()];
    assert_eq!((*password_ours, *privileged, *connection_limit), (false, true, 77));
    assert_eq!(member_of, &["pg_monitor"]);
    assert!(live.databases[acme.as_str()].public_connect);
    let reader = role_name(&acme, Some(&role("reader")));
    assert!(!live.roles[&reader].can_login, "its password has run out");
    place.changed(&[Change::SetLogin { tenant: acme.clone(), role: Some(role("reader")), login: true }]).await;
    place.login(&acme, Some(&role("reader")), 1, acme.as_str()).await.expect("for ever again");
}

/// A tenant needs no right but its login to lift its own statement time.
#[tokio::test]
async fn a_statement_timeout_that_a_role_set_for_itself_is_seen_and_taken_away() {
    let (place, acme) = (Place::open().await, tenant());
    place.changed(&new_tenant(&acme)).await;
    let wanted = place.look(&acme).await;
    let mut own = place.login(&acme, None, 1, acme.as_str()).await.expect("its own database");
    execute(
        &mut own,
        "ALTER ROLE CURRENT_USER SET statement_timeout = 0; ALTER ROLE CURRENT_USER SET work_mem = '8MB'",
    )
    .await;
    let within = format!("ALTER ROLE CURRENT_USER IN DATABASE \"{acme}\" SET statement_timeout = '5min'");
    execute(&mut own, &within).await;
    let seen = place.look(&acme).await.roles[acme.as_str()].statement_timeouts.clone();
    let here = Some(acme.to_string());
    let lifted = [RoleTimeout { database: None, ms: 0 }, RoleTimeout { database: here.clone(), ms: 300_000 }];
    assert_eq!(seen, lifted);
    let reset = |database| Change::ResetRoleTimeout { tenant: acme.clone(), role: None, database };
    place.changed(&[reset(None), reset(here)]).await;
    assert_eq!(place.look(&acme).await, wanted);
    let mut fresh = place.login(&acme, None, 1, acme.as_str()).await.expect("its own database");
    let show = |name| format!("SELECT current_setting('{name}')");
    let read = async |own: &mut PgConnection, sql: String| -> String {
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(own).await.expect("a setting")
    };
    assert_eq!(read(&mut fresh, show("statement_timeout")).await, "30s");
    assert_eq!(read(&mut fresh, show("work_mem")).await, "8MB", "not ours to manage");
}

#[tokio::test]
async fn what_is_not_ours_is_refused_and_stays_as_it_is() {
    let (place, acme) = (Place::open().await, tenant());
    let mut admin = place.server.connect("postgres").await;
    execute(&mut admin, &format!("CREATE ROLE \"{acme}\" LOGIN PASSWORD 'theirs'")).await;
    execute(&mut admin, &format!("CREATE DATABASE \"{acme}\"")).await;
    for change in new_tenant(&acme).into_iter().take(3) {
        let error = place.change(std::slice::from_ref(&change)).await.expect_err("foreign");
        assert!(matches!(error, Error::Foreign { .. }), "{change:?}: {error}");
    }
    let port = place.server.port;
    PgConnection::connect(&format!("postgresql://{acme}:theirs@127.0.0.1:{port}/{acme}")).await.expect("as it was");
}

#[tokio::test]
async fn nobody_elses_role_or_database_is_changed_whatever_the_plan_says() {
    let (place, acme, beta) = (Place::open().await, tenant(), tenant());
    place.changed(&new_tenant(&acme)).await;
    let mut admin = place.server.connect("postgres").await;
    // `beta` has a role of ours; the database of that name is a person's.
    let owner = new_tenant(&beta).remove(0);
    place.changed(std::slice::from_ref(&owner)).await;
    execute(&mut admin, &format!("CREATE DATABASE \"{beta}\"")).await;
    let (database, to) = (beta.to_string(), format!("zz_deleted_1_{beta}"));
    let before = place.look(&beta).await;
    for change in [
        Change::SetOwner { database: database.clone(), tenant: beta.clone() },
        Change::SetStatementTimeout { database: database.clone(), ms: Some(1) },
        Change::SetDatabaseConnectionLimit { database: database.clone(), limit: 1 },
        Change::EndConnections { database: database.clone() },
        Change::RenameDatabase { database: database.clone(), to },
        Change::DropDatabase { tenant: beta.clone(), database: database.clone() },
        // Ours, and another tenant's.
        Change::OpenDatabase { tenant: beta.clone(), database: acme.to_string() },
        Change::DropDatabase { tenant: beta.clone(), database: acme.to_string() },
    ] {
        let error = place.change(std::slice::from_ref(&change)).await.expect_err("foreign");
        assert!(matches!(error, Error::Foreign { .. }), "{change:?}: {error:?}");
    }
    assert_eq!(place.look(&beta).await, before);
    place.login(&acme, None, 1, acme.as_str()).await.expect("as it was");
}

#[tokio::test]
async fn an_owner_who_overwrites_the_mark_of_the_database_stays_within_reach() {
    let (place, acme) = (Place::open().await, tenant());
    place.changed(&new_tenant(&acme)).await;
    let wanted = place.look(&acme).await;
    let mut own = place.login(&acme, None, 1, acme.as_str()).await.expect("its own database");
    let beta = tenant();
    // The mark of another tenant of the same fleet, which it can guess from its own.
    let forged = format!("o7s1:{}:database:{beta}", place.fleet.as_str());
    execute(&mut own, &format!("COMMENT ON DATABASE \"{acme}\" IS '{forged}'")).await;
    assert_eq!(place.look(&acme).await.databases[acme.as_str()].tenant, None, "half made, for the plan");
    let steal = Change::DropDatabase { tenant: beta, database: acme.to_string() };
    place.change(&[steal]).await.expect_err("named after another tenant");
    let lock_out = [
        Change::SetLogin { tenant: acme.clone(), role: None, login: false },
        Change::EndConnections { database: acme.to_string() },
    ];
    place.changed(&lock_out).await;
    assert!(sqlx::query("SELECT 1").execute(&mut own).await.is_err(), "its session was ended");
    place.login(&acme, None, 1, acme.as_str()).await.expect_err("locked out");
    place.changed(&[Change::SetLogin { tenant: acme.clone(), role: None, login: true }]).await;
    place.changed(&[Change::OpenDatabase { tenant: acme.clone(), database: acme.to_string() }]).await;
    assert_eq!(place.look(&acme).await, wanted);
}

#[tokio::test]
async fn memberships_go_whoever_gave_them() {
    let (place, acme, beta) = (Place::open().await, tenant(), tenant());
    place.changed(&new_tenant(&acme)).await;
    place.changed(&new_tenant(&beta)).await;
    let mut admin = place.server.connect("postgres").await;
    // beta's owner gives acme its own rights, as only an owner with the admin option can since version 16.
    let giver = format!("\"{beta}_reader\"");
    execute(&mut admin, &format!("GRANT \"{beta}\" TO {giver} WITH ADMIN OPTION; SET ROLE {giver}")).await;
    execute(&mut admin, &format!("GRANT \"{beta}\" TO \"{acme}\"; RESET ROLE; GRANT pg_monitor TO \"{acme}\"")).await;
    let member_of = place.look(&acme).await.roles[acme.as_str()].member_of.clone();
    assert_eq!(member_of, ["pg_monitor".to_owned(), beta.to_string()]);
    place.changed(&[Change::RevokeMemberships { tenant: acme.clone(), role: None, member_of }]).await;
    assert!(place.look(&acme).await.roles[acme.as_str()].member_of.is_empty());
}

#[tokio::test]
async fn a_role_that_is_dropped_leaves_what_it_made_to_its_tenant() {
    let (place, acme) = (Place::open().await, tenant());
    place.changed(&new_tenant(&acme)).await;
    let mut own = place.login(&acme, None, 1, acme.as_str()).await.expect("its own database");
    execute(&mut own, &format!("GRANT CREATE ON SCHEMA public TO \"{acme}_reader\"")).await;
    let mut reader = place.login(&acme, Some(&role("reader")), 1, acme.as_str()).await.expect("the reader");
    execute(&mut reader, "CREATE TABLE kept AS SELECT 7 AS v").await;
    let drop = Change::DropRole { tenant: acme.clone(), database: acme.to_string(), role: role("reader") };
    place.changed(std::slice::from_ref(&drop)).await;
    assert!(sqlx::query("SELECT 1").execute(&mut reader).await.is_err(), "its session was ended");
    let kept: i32 = sqlx::query_scalar("SELECT v FROM kept").fetch_one(&mut own).await.expect("the owner's now");
    assert_eq!(kept, 7);
}

#[tokio::test]
async fn one_bad_change_does_not_take_its_neighbours_with_it_and_is_named() {
    let (place, acme) = (Place::open().await, tenant());
    place.changed(&new_tenant(&acme)).await;
    let limit = |limit| Change::SetRoleConnectionLimit { tenant: acme.clone(), role: None, limit };
    let missing = Change::SetLogin { tenant: acme.clone(), role: Some(role("nobody")), login: true };
    let error = place.change(&[limit(3), missing, limit(4)]).await.expect_err("no such role");
    assert_eq!(error.to_string(), format!("role `{acme}_nobody` is not there any more"));
    assert_eq!(place.look(&acme).await.roles[acme.as_str()].connection_limit, 3, "what came before it is done");
}

#[tokio::test]
async fn a_server_that_is_not_there_or_knows_another_password_is_told_apart() {
    let place = Place::open().await;
    let nobody = Address { host: "127.0.0.1".into(), port: 1 };
    let error =
        Server::connect(&nobody, ("postgres", &place.server.password), DEADLINE).await.expect_err("nobody there");
    assert!(matches!(error, Error::NotListening { .. }), "{error}");
    let wrong = Server::connect(&place.address(), ("postgres", &Secret::new("wrong")), DEADLINE)
        .await
        .expect_err("wrong password");
    assert!(matches!(wrong, Error::WrongPassword { .. }), "{wrong}");
}

/// A tenant owns its database, so it can let others in; that is seen and undone.
#[tokio::test]
async fn a_tenant_that_lets_another_in_is_closed_again() {
    let (place, acme, beta) = (Place::open().await, tenant(), tenant());
    for tenant in [&acme, &beta] {
        place.changed(&new_tenant(tenant)).await;
    }
    let mut own = place.login(&acme, None, 1, acme.as_str()).await.expect("its own database");
    execute(&mut own, &format!("GRANT CONNECT ON DATABASE \"{acme}\" TO \"{beta}\"")).await;
    place.login(&beta, None, 1, acme.as_str()).await.expect("let in");
    assert!(place.look(&acme).await.databases[acme.as_str()].public_connect);
    place.changed(&[Change::OpenDatabase { tenant: acme.clone(), database: acme.to_string() }]).await;
    assert!(!place.look(&acme).await.databases[acme.as_str()].public_connect);
    place.login(&beta, None, 1, acme.as_str()).await.expect_err("closed again");
    place.login(&acme, Some(&role("reader")), 1, acme.as_str()).await.expect("its own reader");
}

/// The look of its own and the one in the change: the tenant's open session notices neither.
#[tokio::test]
async fn a_taken_name_refuses_a_rename_before_anything_is_closed() {
    let (place, from) = (Place::open().await, tenant());
    place.changed(&new_tenant(&from)).await;
    let to = TenantId::parse(&format!("{from}x")).expect("valid");
    let rename = Change::RenameTenant {
        from: from.clone(),
        to: to.clone(),
        database: from.to_string(),
        to_database: to.to_string(),
        generation: 1,
        // One of them is declared and not there yet.
        roles: vec![role("reader"), role("writer")],
    };
    let look = async || {
        let mut server = place.connect().await;
        let looked = server.look_before_rename(&place.fleet, &rename).await;
        server.close().await;
        looked
    };
    let mut admin = place.server.connect("postgres").await;
    let mut session = place.login(&from, None, 1, from.as_str()).await.expect("open");
    for (kind, name) in [
        ("ROLE", to.to_string()),
        ("ROLE", format!("{to}_reader")),
        ("ROLE", format!("{to}_writer")),
        ("DATABASE", to.to_string()),
    ] {
        execute(&mut admin, &format!("CREATE {kind} {name}")).await;
        for result in [look().await, place.change(std::slice::from_ref(&rename)).await] {
            let error = result.expect_err("taken");
            let wanted = format!("{} `{name}`", kind.to_lowercase());
            assert!(matches!(&error, Error::Taken { what } if *what == wanted), "{error}");
        }
        execute(&mut session, "SELECT 1").await;
        drop(place.login(&from, None, 1, from.as_str()).await.expect("still open"));
        execute(&mut admin, &format!("DROP {kind} {name}")).await;
    }
    look().await.expect("free");
    place.changed(std::slice::from_ref(&rename)).await;
    look().await.expect("done, and its own names are no obstacle");
    place.changed(std::slice::from_ref(&rename)).await;
    place.login(&to, Some(&role("reader")), 1, to.as_str()).await.expect("renamed");
    execute(&mut admin, &format!("DROP DATABASE {to}")).await;
    assert!(matches!(look().await, Err(Error::Missing { .. })));
}
