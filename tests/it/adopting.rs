//! Taking over what somebody else made, and letting it go: a Postgres service made by hand on the local Railway, with a
//! login role and data of its own, through the real binary.

use serde_json::Value;
use sqlx::{Connection as _, PgConnection};

use crate::real::{Fleet, code, text};
use crate::support::execute;

const OWN_PASSWORD: &str = "canary-of-the-superuser";

/// Where a service made by hand is reached, and what o7s did not make there.
struct ByHand {
    service: String,
    port: u64,
}

impl ByHand {
    /// A server with `shop`, owned by the login role `shop_app`, in which a second role may only read.
    async fn made(fleet: &Fleet) -> ByHand {
        let place = fleet.place().await;
        let service = fleet.railway.databases(&place, &["Postgres"], OWN_PASSWORD).await.remove(0);
        let (_, port) = fleet.railway.proxy(&place.1, &service).await;
        let by_hand = ByHand { service, port };
        let mut admin = crate::support::eventually("it starts", async || by_hand.admin("postgres").await.ok()).await;
        execute(&mut admin, "CREATE ROLE shop_app LOGIN PASSWORD 'app-canary'").await;
        execute(&mut admin, "CREATE ROLE shop_report LOGIN PASSWORD 'report-canary'").await;
        execute(&mut admin, "CREATE DATABASE shop OWNER shop_app").await;
        execute(&mut admin, "COMMENT ON DATABASE shop IS 'the shop'").await;
        let mut app = by_hand.as_app().await.expect("its own password");
        execute(&mut app, "CREATE TABLE orders (id int); INSERT INTO orders VALUES (1), (2)").await;
        execute(&mut app, "GRANT SELECT ON orders TO shop_report").await;
        by_hand
    }

    async fn login(&self, user: &str, password: &str, database: &str) -> Result<PgConnection, sqlx::Error> {
        let url = format!("postgresql://{user}:{password}@127.0.0.1:{}/{database}", self.port);
        PgConnection::connect(&url).await
    }

    async fn admin(&self, database: &str) -> Result<PgConnection, sqlx::Error> {
        self.login("postgres", OWN_PASSWORD, database).await
    }

    async fn as_app(&self) -> Result<PgConnection, sqlx::Error> {
        self.login("shop_app", "app-canary", "shop").await
    }

    /// Everything that was there before works as it did.
    async fn assert_untouched(&self, when: &str) {
        let count = "SELECT count(*) FROM orders";
        for (user, password) in
            [("shop_app", "app-canary"), ("shop_report", "report-canary"), ("postgres", OWN_PASSWORD)]
        {
            let mut session =
                self.login(user, password, "shop").await.unwrap_or_else(|error| panic!("{when}: {user}: {error}"));
            let orders: i64 = sqlx::query_scalar(count).fetch_one(&mut session).await.expect("may read");
            assert!(orders >= 2, "{when}: {user} sees {orders}");
        }
        let comment: String = sqlx::query_scalar(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'shop'",
        )
        .fetch_one(&mut self.admin("postgres").await.expect("in"))
        .await
        .expect("there");
        assert_eq!(comment, "the shop", "{when}");
    }
}

fn succeed(fleet: &Fleet, args: &[&str]) -> String {
    let done = fleet.o7s(args);
    fleet.assert_without_secrets(&done.stdout);
    fleet.assert_without_secrets(&done.stderr);
    assert_eq!(code(&done), 0, "{args:?}: {}{}", text(&done.stdout), text(&done.stderr));
    text(&done.stdout)
}

fn assert_no_changes(fleet: &Fleet) {
    let done = fleet.o7s(&["plan", "--detailed-exitcode"]);
    assert!(text(&done.stdout).contains("No changes."), "{}{}", text(&done.stdout), text(&done.stderr));
}

#[tokio::test]
async fn a_service_and_a_database_made_by_hand_are_adopted_and_let_go_and_keep_working() {
    let fleet = Fleet::bootstrapped();
    fleet.settle();
    let by_hand = ByHand::made(&fleet).await;

    let asked = fleet.o7s(&["adopt", "instance/shared-2", "--id", &by_hand.service]);
    assert_eq!(code(&asked), 4, "nobody said yes");
    assert!(text(&asked.stdout).contains("startCommand"), "{}", text(&asked.stdout));
    let mutations = fleet.total("mutations");
    for (id, name) in [("nothing", "shared-2"), (by_hand.service.as_str(), "shared-1"), (&by_hand.service, "none-1")]
    {
        let refused = fleet.o7s(&["adopt", &format!("instance/{name}"), "--id", id, "--yes"]);
        assert_eq!(code(&refused), 4, "{}", text(&refused.stderr));
    }
    assert_eq!(fleet.total("mutations"), mutations, "nothing was changed");

    succeed(&fleet, &["adopt", "instance/shared-2", "--id", &by_hand.service, "--yes"]);
    assert_eq!(fleet.railway.service("shared-2")["name"], "shared-2");
    assert!(words(&fleet).contains(&"Adopted".to_owned()));
    by_hand.assert_untouched("adopted").await;
    let again =
        succeed(&fleet, &["adopt", "instance/shared-2", "--id", &by_hand.service, "--yes", "--format", "json"]);
    let again: Value = serde_json::from_str(&again).expect("JSON");
    assert_eq!((&again["object"], &again["adopted"]), (&"instance/shared-2".into(), &true.into()));
    fleet.settle();
    by_hand.assert_untouched("reconciled").await;

    let no_manifest = fleet.o7s(&["adopt", "tenant/shop", "--database", "shop", "--yes"]);
    assert_eq!(code(&no_manifest), 4, "{}", text(&no_manifest.stderr));
    // Room for all who look on side by side: the ceiling is the database's, and old roles count too.
    let limits = "  limits: { connections: 20, serverConnections: 12 }\n";
    fleet.tenant("shop", &format!("{limits}  roles: [{{ name: reader, grants: read }}]\n"));
    succeed(&fleet, &["adopt", "tenant/shop", "--database", "shop", "--yes"]);
    by_hand.assert_untouched("database adopted").await;
    fleet.settle();
    by_hand.assert_untouched("tenant reconciled").await;
    assert_no_changes(&fleet);

    let mut tenant = fleet.login("shop", 1).await.expect("the derived password");
    execute(&mut tenant, "INSERT INTO orders VALUES (3); ALTER TABLE orders ADD COLUMN note text").await;
    execute(&mut tenant, "CREATE TABLE made_by_tenant (id int)").await;
    execute(&mut by_hand.as_app().await.expect("in"), "ALTER TABLE made_by_tenant ADD COLUMN more int").await;
    let mut reader = by_hand.login("shop_reader", &password_of(&fleet, "shop", "reader"), "shop").await.expect("in");
    execute(&mut reader, "SELECT * FROM made_by_tenant, orders").await;
    assert!(sqlx::raw_sql("INSERT INTO orders VALUES (4)").execute(&mut reader).await.is_err());
    let url = text(&fleet.o7s(&["tenant", "url", "shop"]).stdout);
    let mut by_url = PgConnection::connect(url.trim()).await.expect("the URL leads there");
    execute(&mut by_url, "SELECT * FROM orders").await;
    let stranger = by_hand.login("acme", "x", "shop").await;
    assert!(stranger.is_err());

    export_is_empty(&fleet);
    // All that is remembered comes back from the marks.
    let mut control = fleet.control().await;
    execute(&mut control, "DROP SCHEMA o7s CASCADE").await;
    // It prints the URL of the control database, so its output is not looked through for secrets.
    assert_eq!(code(&fleet.o7s(&["bootstrap", "--yes"])), 0);
    fleet.settle();
    fleet.login("shop", 1).await.expect("routed again");

    assert_eq!(code(&fleet.o7s(&["release", "tenant/shop"])), 4, "nobody said yes");
    let released = succeed(&fleet, &["release", "tenant/shop", "--yes", "--format", "json"]);
    let released: Value = serde_json::from_str(&released).expect("JSON");
    assert_eq!((&released["released"], &released["tenants"][0]), (&true.into(), &"shop".into()));
    by_hand.assert_untouched("tenant released").await;
    execute(&mut tenant, "SELECT * FROM orders").await;
    let plan = fleet.o7s(&["plan"]);
    assert_eq!(code(&plan), 4, "no second one is made: {}", text(&plan.stdout));
    std::fs::remove_file(fleet.manifests.path().join("shop.yaml")).expect("removed");
    assert_no_changes(&fleet);
    succeed(&fleet, &["release", "instance/shared-2", "--yes"]);
    by_hand.assert_untouched("instance released").await;
    let closed = by_hand.login("o7s_admin", "x", "postgres").await.expect_err("closed").to_string();
    assert!(closed.contains("o7s_admin"), "{closed}");
    let again = fleet.o7s(&["release", "instance/shared-2", "--yes"]);
    assert_eq!(code(&again), 4, "nothing is known of it any more");
    assert!(words(&fleet).contains(&"Released".to_owned()));
}

fn export_is_empty(fleet: &Fleet) {
    // Its plan is empty: export itself looks and exits 3 otherwise.
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().to_str().expect("text");
    succeed(fleet, &["export", "--out", out]);
    let tenant_file = std::fs::read_to_string(folder.path().join("tenants/shop.yaml")).expect("written");
    assert!(tenant_file.contains("{ name: reader, grants: read }"), "{tenant_file}");
    assert_eq!(code(&fleet.o7s(&["export", "--out", out])), 4, "nothing is overwritten");
    let exported = succeed(fleet, &["export", "--out", out, "--force", "--format", "json"]);
    let exported: Value = serde_json::from_str(&exported).expect("JSON");
    assert_eq!(exported["changes"], 0);
}

/// What the events of the adopted instance say happened.
fn words(fleet: &Fleet) -> Vec<String> {
    let events = succeed(fleet, &["events", "instance/shared-2", "--format", "json"]);
    let events: Value = serde_json::from_str(&events).expect("JSON");
    let words = events.as_array().expect("a list").iter().filter_map(|event| event["reason"].as_str());
    words.map(str::to_owned).collect()
}

/// Railway's template puts everything into `railway`, owned by `postgres`: a membership would make the tenant a superuser.
#[tokio::test]
async fn a_superusers_database_is_given_without_making_its_tenant_more_than_a_tenant() {
    let fleet = Fleet::bootstrapped();
    fleet.settle();
    let by_hand = ByHand::made(&fleet).await;
    let mut admin = by_hand.admin("railway").await.expect("in");
    execute(&mut admin, "CREATE TABLE notes (id serial, text text); INSERT INTO notes (text) VALUES ('kept')").await;
    succeed(&fleet, &["adopt", "instance/shared-2", "--id", &by_hand.service, "--yes"]);
    fleet.settle();
    fleet.tenant("base", "  limits: { connections: 20, serverConnections: 12 }\n  suspended: false\n");
    // Two instances have one.
    let unclear = fleet.o7s(&["adopt", "tenant/base", "--database", "railway", "--yes"]);
    assert_eq!(code(&unclear), 4, "{}", text(&unclear.stderr));
    succeed(&fleet, &["adopt", "tenant/base", "--database", "railway", "--on", "instance/shared-2", "--yes"]);
    fleet.settle();
    assert_no_changes(&fleet);

    let mut tenant = fleet.login("base", 1).await.expect("the derived password");
    execute(&mut tenant, "INSERT INTO notes (text) VALUES ('more'); UPDATE notes SET text = text || '!'").await;
    let (privileged, groups): (bool, i64) = sqlx::query_as(
        "SELECT rolsuper OR rolcreaterole OR rolcreatedb, (SELECT count(*) FROM pg_auth_members WHERE member = r.oid)
            FROM pg_roles r WHERE rolname = current_user",
    )
    .fetch_one(&mut tenant)
    .await
    .expect("read");
    assert_eq!((privileged, groups), (false, 0));
    let promoted = sqlx::raw_sql("SET ROLE postgres").execute(&mut tenant).await;
    assert!(promoted.is_err(), "it cannot become its database's owner");
    let mut admin = by_hand.admin("railway").await.expect("its own password");
    execute(&mut admin, "CREATE TABLE later (id int)").await;
    execute(&mut tenant, "INSERT INTO later VALUES (1)").await;

    // Suspending shuts out the tenant and nobody else.
    fleet.tenant("base", "  limits: { connections: 20, serverConnections: 12 }\n  suspended: true\n");
    fleet.settle();
    fleet.login("base", 1).await.expect_err("suspended");
    execute(&mut admin, "SELECT * FROM notes").await;
    by_hand.assert_untouched("suspended").await;
}

fn password_of(fleet: &Fleet, tenant: &str, role: &str) -> String {
    use ogelnates::tenancy::{Credential, RoleName, TenantId};
    let (tenant, role) = (TenantId::parse(tenant).expect("valid"), RoleName::parse(role).ok());
    fleet.keys().password(&Credential::Tenant { tenant, role, generation: 1 }).expose().to_owned()
}
