//! The life of tenants with nothing in memory: renamed, suspended, deleted, brought back, detached; real logins and rows.

use std::fs;

use sqlx::PgConnection;

use crate::real::{Fleet, code, text};
use crate::support::{eventually, execute};

const READER: &str = "  roles: [{ name: reader, grants: read }]\n";

impl Fleet {
    fn rename(&self, from: &str, to: &str, more: &str) {
        self.tenant(to, more);
        let path = self.manifests.path().join(format!("{to}.yaml"));
        let written = fs::read_to_string(&path).expect("read");
        let renamed = written.replace(&format!("name: {to} }}"), &format!("name: {to}, renamedFrom: {from} }}"));
        fs::write(&path, renamed).expect("written");
        fs::remove_file(self.manifests.path().join(format!("{from}.yaml"))).expect("removed");
    }
}

async fn rows(connection: &mut PgConnection) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM orders").fetch_one(connection).await.expect("counted")
}

async fn with_rows(fleet: &Fleet, tenant: &str) -> PgConnection {
    let mut session = fleet.login(tenant, 1).await.expect("may log in");
    execute(&mut session, "CREATE TABLE orders (id int); INSERT INTO orders SELECT generate_series(1, 1000)").await;
    session
}

async fn oid(fleet: &Fleet, database: &str) -> i64 {
    let sql = "SELECT oid::bigint FROM pg_database WHERE datname = $1";
    sqlx::query_scalar(sql).bind(database).fetch_one(&mut fleet.admin("shared-1").await).await.expect("there")
}

/// Property 31: the same database, with clients connected, roles, grants and rows; then killed in the middle of another.
#[tokio::test]
async fn a_renamed_tenant_keeps_its_data_and_gets_the_credentials_of_its_name() {
    let fleet = Fleet::bootstrapped();
    fleet.tenant("acme", READER);
    fleet.settle();
    let mut open = with_rows(&fleet, "acme").await;
    let (before, mutations) = (oid(&fleet, "acme").await, fleet.total("mutations"));
    fleet.rename("acme", "acme2", READER);
    let plan = text(&fleet.o7s(&["plan"]).stdout);
    assert!(plan.contains("> tenant/acme2  (renamed from acme)") && plan.contains("2 to rename"), "{plan}");
    let done = fleet.reconcile();
    assert_eq!(code(&done), 0, "{}{}", text(&done.stdout), text(&done.stderr));
    assert!(text(&fleet.reconcile().stdout).contains("No changes."), "at once, and its former name is in no list");
    assert_eq!((oid(&fleet, "acme2").await, fleet.total("mutations")), (before, mutations));
    let lost = sqlx::query("SELECT 1").execute(&mut open).await;
    assert!(lost.is_err(), "a session under the former name has ended");
    let mut session = fleet.login("acme2", 1).await.expect("by the new name");
    assert_eq!(rows(&mut session).await, 1000);
    let roles: Vec<String> =
        sqlx::query_scalar("SELECT rolname::text FROM pg_roles WHERE rolname LIKE 'acme%' ORDER BY 1")
            .fetch_all(&mut fleet.admin("shared-1").await)
            .await
            .expect("listed");
    assert_eq!(roles, ["acme2", "acme2_reader"]);
    let reads = "SELECT has_table_privilege('acme2_reader', 'orders', 'SELECT')";
    assert!(sqlx::query_scalar::<_, bool>(reads).fetch_one(&mut session).await.expect("asked"));
    fleet.login("acme", 1).await.expect_err("the former name is nobody");

    // Reverted without a word: refused, and no empty database.
    fs::remove_file(fleet.manifests.path().join("acme2.yaml")).expect("removed");
    fleet.tenant("acme", READER);
    let refused = fleet.reconcile();
    assert_eq!(code(&refused), 4, "{}", text(&refused.stdout));
    assert!(text(&refused.stdout).contains("O7S2014"), "{}", text(&refused.stdout));
    // Killed at any moment on the way back, the next run finishes it.
    fleet.tenant("acme2", READER);
    fleet.rename("acme2", "acme", READER);
    let mut run = fleet.in_background(&["reconcile", "--once", "--yes"]);
    let mut control = fleet.control().await;
    eventually("the rename is begun", async || {
        let begun: Option<String> = sqlx::query_scalar("SELECT own FROM o7s.renames WHERE former = 'acme2'")
            .fetch_optional(&mut control)
            .await
            .expect("read");
        begun.map(drop)
    })
    .await;
    run.kill().expect("killed");
    run.wait().expect("over");
    fleet.settle();
    assert_eq!(rows(&mut fleet.login("acme", 1).await.expect("back")).await, 1000);
    assert_eq!(oid(&fleet, "acme").await, before);
}

/// Properties 26, 32 and 33 on the control database's clock.
#[tokio::test]
async fn a_deleted_tenant_is_kept_for_its_grace_time_brought_back_and_dropped_after_it() {
    let fleet = Fleet::bootstrapped();
    fleet.settle();
    drop(with_rows(&fleet, "acme").await);
    let today = chrono::Utc::now().format("%Y-%m-%d");
    let key = format!("tenant/acme@{today}");
    let delete = || fleet.o7s(&["reconcile", "--once", "--yes", "--allow-delete", &key]);
    let gone = "  state: absent\n  deletionPolicy: delete\n";
    fleet.tenant("acme", gone);
    let done = delete();
    assert_eq!(code(&done), 0, "{}{}", text(&done.stdout), text(&done.stderr));
    assert!(text(&done.stdout).contains("kept until"), "{}", text(&done.stdout));
    fleet.login("acme", 1).await.expect_err("deleted");
    assert!(text(&fleet.o7s(&["events", "tenant/acme"]).stdout).contains("kept until"));

    fleet.tenant("acme", "");
    assert!(text(&fleet.o7s(&["plan"]).stdout).contains("its deletion is undone"));
    fleet.settle();
    assert_eq!(rows(&mut fleet.login("acme", 1).await.expect("back")).await, 1000);

    fleet.tenant("acme", gone);
    assert_eq!(code(&delete()), 0);
    let mut control = fleet.control().await;
    execute(&mut control, "UPDATE o7s.deletions SET due_at = now() + interval '1 minute'").await;
    fleet.settle_retained();
    execute(&mut control, "UPDATE o7s.deletions SET due_at = now() - interval '1 second'").await;
    fleet.tenant("acme", "  state: absent\n");
    fleet.settle_retained();
    fleet.tenant("acme", gone);
    assert_eq!(code(&fleet.reconcile()), 0);
    let left: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM pg_database WHERE datname LIKE '%acme%')
            + (SELECT count(*) FROM pg_roles WHERE rolname LIKE '%acme%')",
    )
    .fetch_one(&mut fleet.admin("shared-1").await)
    .await
    .expect("counted");
    assert_eq!(left, 0);
}

impl Fleet {
    /// Nothing to do, and the deleted database is still there.
    fn settle_retained(&self) {
        let done = self.reconcile();
        let said = text(&done.stdout);
        assert!(code(&done) == 0 && said.contains("kept as zz_deleted_") && said.contains("0 to delete"), "{said}");
    }
}

#[tokio::test]
async fn a_detached_tenant_works_on_and_a_paused_one_is_only_shown() {
    let fleet = Fleet::bootstrapped();
    fleet.settle();
    let mut open = with_rows(&fleet, "acme").await;
    fleet.tenant("acme", "  state: absent\n  deletionPolicy: detach\n");
    fleet.tenant("beta", "  paused: true\n  suspended: true\n");
    let done = fleet.reconcile();
    let said = text(&done.stdout);
    assert_eq!(code(&done), 0, "{said}{}", text(&done.stderr));
    assert!(said.contains("~ tenant/acme  (detached") && said.contains("paused tenant/beta"), "{said}");
    assert_eq!(rows(&mut open).await, 1000, "its sessions go on");
    let marks: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_roles WHERE rolname = 'acme' AND rolcanlogin AND
            shobj_description(oid, 'pg_authid') IS NULL",
    )
    .fetch_one(&mut fleet.admin("shared-1").await)
    .await
    .expect("counted");
    assert_eq!(marks, 1);
    let known: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM o7s.routes WHERE tenant = 'acme')
            + (SELECT count(*) FROM o7s.placements WHERE tenant = 'acme')",
    )
    .fetch_one(&mut fleet.control().await)
    .await
    .expect("counted");
    assert_eq!(known, 0);
    fleet.login("beta", 1).await.expect("paused before it could be suspended");
    fleet.tenant("beta", "  suspended: true\n  limits: { connections: 3 }\n");
    let said = text(&fleet.reconcile().stdout);
    assert!(said.contains("suspended tenant/beta"), "what waits is shown: {said}");
    fleet.login("beta", 1).await.expect_err("suspended");
}
