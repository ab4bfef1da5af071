//! The control database, on a real server.

use std::time::Duration;

use ogelnates::plan::{ControlLive, DeletionIntent, InstanceRecord, Placement, Rename};
use ogelnates::store::{
    Condition, ConditionStatus, ConditionType, Error, Event, EventFilter, FleetRow, Lease, Outcome, ROUTES_CHANNEL,
    RunRecord, SCHEMA_VERSION, Store,
};
use ogelnates::tenancy::{
    Address, Bytes, Digest, Endpoint, EnvironmentId, FleetName, FleetUid, InstanceName, Limits, Millis, OverLimit,
    ProjectId, RoleName, Route, RouteState, Secret, ServiceId, TenantId, TierName, Upgrade,
};
use sqlx::postgres::PgListener;
use uuid::Uuid;

use crate::support::{PATIENCE, eventually, execute, server};

pub struct World {
    pub database: String,
    pub store: Store,
}

impl World {
    async fn empty() -> World {
        let database = server().await.fresh_database().await;
        let store = Store::connect(&server().await.url(&database), PATIENCE).await.expect("connected");
        World { database, store }
    }

    pub async fn migrated() -> World {
        let world = World::empty().await;
        world.store.migrate().await.expect("migrated");
        world
    }

    pub async fn lease(&self) -> Lease {
        self.store.acquire("a test", PATIENCE, |_| {}).await.expect("free")
    }

    /// But for the moment when it was read.
    async fn control(&self) -> ControlLive {
        ControlLive { read_at: None, ..self.store.load().await.expect("loaded").1 }
    }

    pub async fn sql(&self, sql: &str) {
        execute(&mut server().await.connect(&self.database).await, sql).await;
    }
}

pub fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).expect("a good name")
}

pub fn shared(number: u32) -> InstanceName {
    InstanceName::parse(&format!("shared-{number}")).expect("a good name")
}

fn address(host: &str, port: u16) -> Address {
    Address { host: host.into(), port }
}

fn endpoint() -> Endpoint {
    Endpoint { private: address("shared-1.railway.internal", 5432), public: address("proxy.example", 65535) }
}

pub fn route(name: &str) -> Route {
    Route {
        tenant: tenant(name),
        instance: shared(1),
        database: name.into(),
        adopted: false,
        endpoint: endpoint(),
        state: RouteState::Active,
        tier: TierName::parse("starter").expect("a good name"),
        generation: 1,
        roles: vec![RoleName::parse("reader").expect("a good name"), RoleName::parse("writer").expect("a good name")],
        limits: Limits {
            connections: 20,
            server_connections: 5,
            queries_per_minute: Some(3000),
            requests_per_minute: None,
            storage: Some(Bytes(2 << 30)),
            egress_per_month: None,
            statement_timeout: Some(Millis(30_000)),
        },
        over_limit: OverLimit::default(),
        upgrade: Some(Upgrade { to: "pro".into(), message: Some("more".into()), url: None }),
    }
}

pub fn fleet() -> FleetRow {
    FleetRow {
        uid: FleetUid::from_stored("00ff"),
        name: FleetName::parse("ogelbase").expect("a good name"),
        project: ProjectId::parse("p-1").expect("a good id"),
        environment: EnvironmentId::parse("e-1").expect("a good id"),
    }
}

fn run(outcome: Outcome) -> RunRecord {
    let at = "2026-11-24T08:00:00Z".parse().expect("a time");
    RunRecord { id: Uuid::new_v4(), started: at, ended: at, outcome, plan_digest: None, requests: 1, mutations: 0 }
}

fn event(name: &str, reason: &str) -> Event {
    let cause = Some("manifests/tenants/acme.yaml:9".to_owned());
    Event { kind: "Tenant".into(), name: name.into(), reason: reason.into(), message: "it's done".into(), cause }
}

fn ready(name: &str, status: ConditionStatus) -> Condition {
    Condition {
        kind: "Tenant".into(),
        name: name.into(),
        condition: ConditionType::Ready,
        status,
        reason: "Routed".into(),
        message: "serving".into(),
        digest: Some("d1".into()),
    }
}

fn all_events() -> EventFilter {
    EventFilter { object: None, limit: 1000, after: None }
}

#[tokio::test]
async fn an_empty_database_is_told_from_a_bootstrapped_one_and_migrating_repeats_harmlessly() {
    let world = World::empty().await;
    assert_eq!(world.store.load().await.expect("loaded"), (None, ControlLive::default()));
    for error in [
        world.store.acquire("a test", Duration::ZERO, |_| {}).await.expect_err("no schema"),
        world.store.routing().await.expect_err("no schema"),
        world.store.conditions().await.expect_err("no schema"),
    ] {
        assert!(matches!(error, Error::NotBootstrapped), "{error}");
    }
    // Two bootstraps at once, and one after them.
    let (one, other) = tokio::join!(world.store.migrate(), world.store.migrate());
    one.and(other).expect("migrated");
    world.store.migrate().await.expect("nothing to do");
    let (fleet, control) = world.store.load().await.expect("loaded");
    assert_eq!(
        (fleet, control.known, control.schema_version, control.routing_version),
        (None, false, SCHEMA_VERSION, 0)
    );
    let apart = control.read_at.expect("told") - chrono::Utc::now();
    assert!(apart.abs() < chrono::TimeDelta::minutes(1), "{apart}");
}

#[tokio::test]
async fn a_half_made_or_newer_schema_is_said_to_be_so() {
    let world = World::empty().await;
    // What a kill between sqlx's own statements leaves.
    world
        .sql(
            "CREATE SCHEMA o7s; CREATE TABLE o7s.migrations (version bigint, description text NOT NULL,
        installed_on timestamptz NOT NULL DEFAULT now(), success boolean NOT NULL, checksum bytea NOT NULL,
        execution_time bigint NOT NULL)",
        )
        .await;
    assert_eq!(world.control().await, ControlLive::default());
    world.store.migrate().await.expect("migrated");
    world.sql("INSERT INTO o7s.migrations VALUES (99, 'later', now(), true, '', 0)").await;
    for error in [world.store.load().await.expect_err("newer"), world.store.migrate().await.expect_err("newer")] {
        assert!(matches!(error, Error::NewerSchema { have: 99, known: SCHEMA_VERSION }), "{error:?}");
    }
    // A later version may well have moved what this one reads.
    world.sql("ALTER TABLE o7s.placements RENAME TO homes").await;
    let error = world.store.load().await.expect_err("newer");
    assert!(matches!(error, Error::NewerSchema { have: 99, known: SCHEMA_VERSION }), "{error:?}");
}

#[tokio::test]
async fn what_is_remembered_comes_back_as_it_was() {
    let world = World::migrated().await;
    let mut lease = world.lease().await;
    let record = InstanceRecord {
        service: ServiceId::parse("s-1").ok(),
        volume: None,
        volume_requested_at: Some("2026-11-24T08:00:00Z".parse().expect("a time")),
        endpoint: Some(endpoint()),
        applied: Some(Digest::from_stored("ab12")),
    };
    let bare = InstanceRecord::default();
    lease.save_instance("shared-1", &bare).await.expect("saved");
    lease.save_instance("shared-1", &record).await.expect("saved again");
    lease.save_instance("o7s-control", &bare).await.expect("saved");
    let place = |number, database: &str| Placement { instance: shared(number), database: database.into() };
    let placements = [(tenant("acme"), place(1, "acme")), (tenant("gone"), place(1, "gone"))];
    lease.save_placements(&placements).await.expect("saved");
    lease.save_placements(&[(tenant("acme"), place(2, "acme"))]).await.expect("saved again");
    lease.remove_placement(&tenant("gone")).await.expect("removed");
    let spec = serde_json::json!({ "replicas": 2 });
    lease.save_router("edge", &spec).await.expect("saved");
    lease.save_router("old", &spec).await.expect("saved");
    lease.remove_router("old").await.expect("removed");
    assert!(!world.control().await.known, "the fleet's row is still missing");
    lease.save_fleet(&fleet()).await.expect("saved");

    let (loaded_fleet, control) = world.store.load().await.expect("loaded");
    assert_eq!(loaded_fleet, Some(fleet()));
    assert!(control.known);
    assert_eq!(control.epoch, lease.epoch());
    assert_eq!(control.instances, [("shared-1".into(), record), ("o7s-control".into(), bare)].into());
    assert_eq!(control.placements, [(tenant("acme"), place(2, "acme"))].into());
    assert_eq!(control.routers, [("edge".into(), spec)].into());
}

#[tokio::test]
async fn a_deletion_is_due_by_the_servers_clock_and_asking_twice_does_not_put_it_off() {
    let world = World::migrated().await;
    let mut lease = world.lease().await;
    // A machine whose clock is decades off.
    let far = "1999-01-01T00:00:00Z".parse().expect("a time");
    let intent = DeletionIntent {
        tenant: tenant("acme"),
        instance: shared(1),
        renamed_to: "zz_deleted_20261124_acme".into(),
        due_at: far,
    };
    lease.start_deletion(&intent, Duration::from_secs(7 * 86_400)).await.expect("begun");
    let first = world.control().await.deletions[&tenant("acme")].clone();
    assert!(!first.due && first.renamed_to == intent.renamed_to, "{first:?}");
    lease.start_deletion(&intent, Duration::ZERO).await.expect("begun again");
    assert_eq!(world.control().await.deletions[&tenant("acme")], first);
    world.sql("UPDATE o7s.deletions SET due_at = now() - interval '1 second'").await;
    assert!(world.control().await.deletions[&tenant("acme")].due);
    lease.finish_deletion(&tenant("acme")).await.expect("finished");
    assert!(world.control().await.deletions.is_empty());
}

#[tokio::test]
async fn a_rename_suspends_the_former_route_and_moves_place_and_route_at_once() {
    let world = World::migrated().await;
    let mut lease = world.lease().await;
    let place = |n, database: &str| Placement { instance: shared(n), database: database.into() };
    let (acme, own) = (tenant("acme"), tenant("acme2"));
    lease.save_placements(&[(acme.clone(), place(2, "acme"))]).await.expect("saved");
    lease.publish_routes(&[route("acme"), route("beta")], &[], &[]).await.expect("published");
    for _ in 0..2 {
        lease.begin_rename(&acme, &own).await.expect("begun");
        let control = world.control().await;
        assert_eq!((control.routes[&acme].state, control.routing_version), (RouteState::Suspended, 2));
        assert_eq!(control.renames, [(acme.clone(), Rename { to: own.clone(), done: false })].into());
    }
    let renames = [(acme.clone(), own.clone())];
    let now = Route { instance: shared(2), database: "acme2".into(), ..route("acme2") };
    let version = lease.publish_routes(std::slice::from_ref(&now), std::slice::from_ref(&acme), &renames).await;
    assert_eq!(version.expect("published"), Some(3));
    let control = world.control().await;
    assert_eq!(control.placements, [(own.clone(), place(2, "acme2"))].into());
    assert_eq!(control.routes.keys().collect::<Vec<_>>(), [&own, &tenant("beta")]);
    assert_eq!(control.renames, [(acme.clone(), Rename { to: own.clone(), done: true })].into());
    // Back: the former name is nobody's former name any more.
    lease.begin_rename(&own, &acme).await.expect("begun");
    assert_eq!(world.control().await.renames, [(own.clone(), Rename { to: acme, done: false })].into());
    lease.cancel_rename(&own).await.expect("undone");
    assert!(world.control().await.renames.is_empty());
}

#[tokio::test]
async fn routes_come_back_as_published_and_the_version_grows_only_with_a_difference() {
    let world = World::migrated().await;
    let mut lease = world.lease().await;
    let (acme, beta) = (route("acme"), Route { upgrade: None, roles: vec![], ..route("beta") });
    assert_eq!(lease.publish_routes(&[beta.clone(), acme.clone()], &[], &[]).await.expect("published"), Some(1));
    assert_eq!(world.store.routing().await.expect("read"), (1, vec![acme.clone(), beta.clone()]));
    assert_eq!(lease.publish_routes(&[acme.clone(), beta.clone()], &[], &[]).await.expect("published"), None);
    assert_eq!(lease.publish_routes(&[], &[tenant("nobody")], &[]).await.expect("published"), None);

    // Each field alone is a difference.
    let mut now = acme.clone();
    let steps: [fn(&mut Route); 11] = [
        |route| route.instance = shared(2),
        |route| route.database = "acme_2".into(),
        |route| route.adopted = true,
        |route| route.endpoint.private.port = 5433,
        |route| route.endpoint.public.host = "other.example".into(),
        |route| route.state = RouteState::Suspended,
        |route| route.generation = u32::MAX,
        |route| route.roles.truncate(1),
        |route| route.limits.egress_per_month = Some(Bytes(i64::MAX as u64)),
        |route| route.over_limit.connections = ogelnates::tenancy::Over::Queue(Millis(5000)),
        |route| route.upgrade = None,
    ];
    for (version, change) in (2..).zip(steps) {
        change(&mut now);
        assert_eq!(
            lease.publish_routes(&[now.clone(), beta.clone()], &[], &[]).await.expect("published"),
            Some(version)
        );
        assert_eq!(world.store.routing().await.expect("read"), (version, vec![now.clone(), beta.clone()]));
    }
    let rows: Vec<(String, i64)> = sqlx::query_as("SELECT tenant, version FROM o7s.routes ORDER BY tenant")
        .fetch_all(&mut server().await.connect(&world.database).await)
        .await
        .expect("read");
    assert_eq!(rows, [("acme".into(), 12), ("beta".into(), 1)], "only what differed was written");
    assert_eq!(lease.publish_routes(&[], &[tenant("acme")], &[]).await.expect("published"), Some(13));
    assert_eq!(world.control().await.routes, [(tenant("beta"), beta)].into());
}

#[tokio::test]
async fn a_listener_hears_of_each_version_once_and_a_reader_never_sees_half_of_one() {
    let world = World::migrated().await;
    let url = server().await.url(&world.database);
    let mut listener = PgListener::connect(url.expose()).await.expect("connected");
    listener.listen(ROUTES_CHANNEL).await.expect("listening");
    let table = |round: u64| -> Vec<Route> {
        let tier = TierName::parse(&format!("t{round}")).expect("a good name");
        (0..200).map(|n| Route { tier: tier.clone(), ..route(&format!("t-{n}")) }).collect()
    };
    const ROUNDS: u64 = 20;
    let write = async {
        let mut lease = world.lease().await;
        for round in 1..=ROUNDS {
            assert_eq!(lease.publish_routes(&table(round), &[], &[]).await.expect("published"), Some(round));
            assert_eq!(lease.publish_routes(&table(round), &[], &[]).await.expect("published"), None);
        }
    };
    let read = async {
        let reader = Store::connect(&url, PATIENCE).await.expect("connected");
        let mut seen = 0;
        while seen < ROUNDS {
            let (version, routes) = reader.routing().await.expect("read");
            assert!(version >= seen, "the version went back from {seen} to {version}");
            assert_eq!(routes.len(), if version == 0 { 0 } else { 200 });
            assert!(routes.iter().all(|route| route.tier.as_str() == format!("t{version}")), "half of {version}");
            seen = version;
        }
    };
    let hear = async {
        for round in 1..=ROUNDS {
            let heard = listener.recv().await.expect("a notification");
            assert_eq!(heard.payload(), round.to_string());
        }
    };
    tokio::time::timeout(PATIENCE, async { tokio::join!(write, read, hear) }).await.expect("all ended");
    let mut lease = world.lease().await;
    lease.publish_routes(&[], &[tenant("t-0")], &[]).await.expect("published");
    let next = listener.recv().await.expect("a notification");
    assert_eq!(next.payload(), (ROUNDS + 1).to_string(), "nothing was sent where nothing differed");
}

#[tokio::test]
async fn a_lease_is_held_by_one_and_waiting_for_it_is_bounded_and_names_the_holder() {
    let world = World::migrated().await;
    let first = world.store.acquire("ci, run 17", PATIENCE, |_| {}).await.expect("free");
    let mut told = Vec::new();
    let waiting = world.store.acquire("laptop", Duration::from_millis(600), |holder| told.push(holder.to_owned()));
    let error = waiting.await.expect_err("held");
    assert!(matches!(&error, Error::LeaseHeld { holder, .. } if holder == "ci, run 17"), "{error}");
    assert_eq!(told, ["ci, run 17"], "told once, however often it looks");
    let epoch = first.epoch();
    // The socket closes without a goodbye, as it does when the process is killed.
    drop(first);
    let second = world.lease().await;
    assert_eq!(second.epoch(), epoch + 1);
    second.release().await;
    assert_eq!(world.lease().await.epoch(), epoch + 2);
}

#[tokio::test]
async fn every_write_of_an_overtaken_holder_is_refused_and_changes_nothing() {
    let world = World::migrated().await;
    let mut lease = world.lease().await;
    lease.publish_routes(&[route("acme")], &[], &[]).await.expect("published");
    world.sql("UPDATE o7s.lease SET epoch = epoch + 1").await;
    let before = world.control().await;
    let name = tenant("acme");
    let place = Placement { instance: shared(1), database: "acme".into() };
    let bare = InstanceRecord::default();
    let intent = DeletionIntent {
        tenant: name.clone(),
        instance: shared(1),
        renamed_to: "zz".into(),
        due_at: "2026-11-24T08:00:00Z".parse().expect("a time"),
    };
    let answers = [
        lease.save_fleet(&fleet()).await,
        lease.save_instance("shared-1", &bare).await,
        lease.save_placements(&[(name.clone(), place)]).await,
        lease.remove_placement(&name).await,
        lease.save_router("edge", &serde_json::json!({})).await,
        lease.remove_router("edge").await,
        lease.start_deletion(&intent, Duration::ZERO).await,
        lease.finish_deletion(&name).await,
        lease.begin_rename(&name, &tenant("acme2")).await,
        lease.cancel_rename(&name).await,
        lease.publish_routes(&[route("beta")], std::slice::from_ref(&name), &[]).await.map(|_| ()),
        lease.record(&run(Outcome::Applied), &[event("acme", "X")], &[ready("acme", ConditionStatus::True)]).await,
    ];
    for (number, answer) in answers.into_iter().enumerate() {
        assert!(matches!(answer, Err(Error::StaleEpoch { .. })), "write {number}: {answer:?}");
    }
    assert_eq!(world.control().await, before);
    assert!(world.store.events(&all_events()).await.expect("read").is_empty());
    assert!(world.store.conditions().await.expect("read").is_empty());
}

#[tokio::test]
async fn a_lost_connection_is_a_lost_lease_for_writes_and_a_new_connection_for_reads() {
    let world = World::migrated().await;
    let mut lease = world.lease().await;
    world.control().await;
    world
        .sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'o7s'",
        )
        .await;
    let error = lease.remove_router("edge").await.expect_err("its session was ended");
    assert!(matches!(error, Error::LeaseLost { .. }), "{error:?}");
    assert_eq!(world.control().await.schema_version, SCHEMA_VERSION);
}

#[tokio::test]
async fn a_run_leaves_events_and_conditions_and_a_condition_keeps_its_time_until_its_status_changes() {
    let world = World::migrated().await;
    let mut lease = world.lease().await;
    let first = run(Outcome::Applied);
    let long = Event { message: "x".repeat(3000), ..event("beta", "Failed") };
    let events = [event("acme", "Created"), long];
    lease.record(&first, &events, &[ready("acme", ConditionStatus::True)]).await.expect("recorded");
    let since = world.store.conditions().await.expect("read")[0].since;
    let changed = Condition { message: "still serving".into(), ..ready("acme", ConditionStatus::True) };
    lease.record(&run(Outcome::Unchanged), &[], std::slice::from_ref(&changed)).await.expect("recorded");
    let stored = world.store.conditions().await.expect("read");
    assert_eq!((stored.len(), &stored[0].condition, stored[0].since), (1, &changed, since));
    let second = run(Outcome::Failed);
    let failed = ready("acme", ConditionStatus::False);
    lease.record(&second, &[event("acme", "Failed")], &[failed]).await.expect("recorded");
    assert!(world.store.conditions().await.expect("read")[0].since > since);

    let all = world.store.events(&all_events()).await.expect("read");
    let reasons: Vec<&str> = all.iter().map(|stored| stored.event.reason.as_str()).collect();
    assert_eq!(reasons, ["Created", "Failed", "Failed"]);
    assert_eq!((all[0].run, all[2].run, all[0].epoch), (first.id, second.id, lease.epoch()));
    assert_eq!((all[0].event.clone(), all[1].event.message.len()), (event("acme", "Created"), 2000));
    let of_acme = Some(("Tenant".to_owned(), "acme".to_owned()));
    let filter = EventFilter { object: of_acme, limit: 1, after: None };
    let newest = world.store.events(&filter).await.expect("read");
    assert_eq!(newest, [all[2].clone()]);
    let following = EventFilter { object: None, limit: 1, after: Some(all[0].id) };
    assert_eq!(world.store.events(&following).await.expect("read"), [all[1].clone()]);
}

#[tokio::test]
async fn events_and_runs_are_kept_up_to_a_bound() {
    let world = World::migrated().await;
    let mut lease = world.lease().await;
    lease.record(&run(Outcome::Applied), &[event("acme", "Old")], &[]).await.expect("recorded");
    world
        .sql(
            "ALTER TABLE o7s.events ALTER COLUMN id RESTART WITH 100001;
        ALTER TABLE o7s.runs ALTER COLUMN number RESTART WITH 10001",
        )
        .await;
    lease.record(&run(Outcome::Applied), &[event("acme", "New")], &[]).await.expect("recorded");
    lease.record(&run(Outcome::Unchanged), &[], &[]).await.expect("recorded");
    let kept = world.store.events(&all_events()).await.expect("read");
    assert_eq!(kept.iter().map(|stored| stored.event.reason.as_str()).collect::<Vec<_>>(), ["New"]);
    let mut connection = server().await.connect(&world.database).await;
    let runs: Vec<i64> = sqlx::query_scalar("SELECT number FROM o7s.runs ORDER BY number")
        .fetch_all(&mut connection)
        .await
        .expect("read");
    assert_eq!(runs, [10001, 10002]);
}

/// What the server counted for one database, whoever sent it, without the counting itself.
async fn statements(database: &str) -> Vec<(String, i64)> {
    sqlx::query_as(
        "SELECT query, calls FROM pg_stat_statements AS s JOIN pg_database AS d ON d.oid = s.dbid
         WHERE d.datname = $1 AND toplevel ORDER BY query",
    )
    .bind(database)
    .fetch_all(&mut server().await.connect("postgres").await)
    .await
    .expect("counted")
}

#[tokio::test]
async fn a_run_without_changes_costs_three_statements_and_a_thousand_tenants_cost_one_each() {
    let mut admin = server().await.connect("postgres").await;
    execute(&mut admin, "CREATE EXTENSION IF NOT EXISTS pg_stat_statements").await;
    let world = World::migrated().await;
    let names: Vec<TenantId> = (0..1000).map(|n| tenant(&format!("t-{n}"))).collect();
    let routes: Vec<Route> = names.iter().map(|name| route(name.as_str())).collect();
    let place = |name: &TenantId| Placement { instance: shared(1), database: name.to_string() };
    let placements: Vec<_> = names.iter().map(|name| (name.clone(), place(name))).collect();
    let conditions: Vec<Condition> = names.iter().map(|name| ready(name.as_str(), ConditionStatus::True)).collect();
    let events: Vec<Event> = names.iter().map(|name| event(name.as_str(), "Created")).collect();
    let counted = async || statements(&world.database).await.iter().map(|(_, calls)| calls).sum::<i64>();

    // A process of its own, as `reconcile --once` is.
    let before = counted().await;
    let store = Store::connect(&server().await.url(&world.database), PATIENCE).await.expect("connected");
    let mut lease = store.acquire("a test", PATIENCE, |_| {}).await.expect("free");
    lease.save_placements(&placements).await.expect("saved");
    lease.publish_routes(&routes, &[], &[]).await.expect("published");
    store.load().await.expect("loaded");
    lease.record(&run(Outcome::Applied), &events, &conditions).await.expect("recorded");
    lease.release().await;
    let applied = counted().await;
    assert_eq!(applied - before, 5);

    let store = Store::connect(&server().await.url(&world.database), PATIENCE).await.expect("connected");
    let mut lease = store.acquire("a test", PATIENCE, |_| {}).await.expect("free");
    let (_, control) = store.load().await.expect("loaded");
    assert_eq!((control.routes.len(), control.placements.len()), (1000, 1000));
    lease.record(&run(Outcome::Unchanged), &[], &conditions).await.expect("recorded");
    assert_eq!(counted().await - applied, 3, "{:#?}", statements(&world.database).await);
}

#[tokio::test]
async fn what_stands_between_us_and_the_server_is_named() {
    let server = server().await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = nobody.local_addr().expect("bound").port();
    let short = Duration::from_millis(300);
    let url = |port: u16, password: &str| Secret::new(format!("postgresql://postgres:{password}@127.0.0.1:{port}/x"));
    // Accepts and says nothing, as a proxy without a server behind it may.
    let silent = Store::connect(&url(port, "x"), short).await.expect_err("silent");
    drop(nobody);
    let refused = Store::connect(&url(port, "x"), PATIENCE).await.expect_err("refused");
    let unknown = Secret::new("postgresql://postgres:x@nowhere.invalid:5432/x");
    let unknown = Store::connect(&unknown, PATIENCE).await.expect_err("no such host");
    let missing = Store::connect(&server.url("never_made"), PATIENCE).await.expect_err("no such database");
    for error in [silent, refused, unknown, missing] {
        assert!(matches!(error, Error::NotListening { .. }), "{error:?}");
    }
    let wrong = Store::connect(&url(server.port, "wrong"), PATIENCE).await.expect_err("wrong password");
    assert!(matches!(wrong, Error::WrongPassword { .. }), "{wrong:?}");
    // This server has no TLS, and a URL may insist on it.
    let insists = Secret::new(format!("{}?sslmode=require", server.url("postgres").expose()));
    let plain = Store::connect(&insists, PATIENCE).await.expect_err("no TLS");
    assert!(matches!(plain, Error::NotEncrypted { .. }), "{plain:?}");
}

#[tokio::test]
async fn a_holder_that_is_gone_frees_the_lease_for_one_that_waits() {
    let world = World::migrated().await;
    let first = world.lease().await;
    let mut waits = false;
    let second = world.store.acquire("second", PATIENCE, |_| waits = true);
    tokio::pin!(second);
    // It must have begun to wait before the first one goes.
    let early = tokio::time::timeout(Duration::from_millis(500), &mut second).await;
    assert!(early.is_err(), "two hold the lease");
    drop(first);
    let lease = tokio::time::timeout(PATIENCE, second).await.expect("in time").expect("free");
    assert_eq!(lease.epoch(), 2);
    eventually("the row says who holds it", async || {
        let mut connection = server().await.connect(&world.database).await;
        let holder: String =
            sqlx::query_scalar("SELECT holder FROM o7s.lease").fetch_one(&mut connection).await.expect("read");
        (holder == "second").then_some(())
    })
    .await;
}
