//! The router's routing table, kept as a real control database has it, and what becomes of it while that is away.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ogelnates::local::Cluster;
use ogelnates::manifest::{Identify, Pooling};
use ogelnates::router::follow::{Error, FollowConfig, Followed, Reach, Standing, begin};
use ogelnates::router::table::{Encryption, Login, State, Table};
use ogelnates::store::{FleetRow, Store};
use ogelnates::tenancy::{Credential, Keyring, Route, RouteState, Secret, TenantId};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::store::{World, fleet, route, tenant};
use crate::support::{
    PATIENCE, START_MAX, binaries, eventually, execute, open_folder, server, start_on_free_port, test_settings,
};

fn keys(last: char) -> Keyring {
    Keyring::new(&Secret::new(format!("0123456789abcdef0123456789abcde{last}"))).expect("long enough")
}

fn own_fleet() -> FleetRow {
    FleetRow { uid: keys('f').fleet_uid(&fleet().name), ..fleet() }
}

fn config(database: Secret, cache: Option<&Path>) -> FollowConfig {
    FollowConfig {
        database,
        router: None,
        reach: Reach { private: true, encryption: None },
        cache: cache.map(Path::to_owned),
        address: "127.0.0.1:7000".parse().ok(),
        workers: 1,
        environment: Box::new(|_| None),
    }
}

type Told = Arc<Mutex<Vec<(String, Option<u64>)>>>;

/// A router without its sockets: its one worker has every route in force at once, but those of `slow`.
struct Replica {
    followed: Arc<Followed>,
    told: Told,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Replica {
    async fn start(config: FollowConfig, slow: &'static str) -> Replica {
        let (followed, following) = begin(config, keys('f')).await.expect("begun");
        let (followed, told, stop) = (Arc::new(followed), Told::default(), CancellationToken::new());
        let (applied, list, token) = (followed.applied(), Arc::clone(&told), stop.clone());
        let route = move |name: &Arc<str>, entry: Option<&Arc<ogelnates::router::table::Entry>>| {
            let version = entry.map(|entry| entry.version);
            list.lock().unwrap_or_else(PoisonError::into_inner).push((name.to_string(), version));
            if let Some(version) = version.filter(|_| **name != *slow) {
                applied(name, version);
            }
        };
        #[expect(clippy::disallowed_methods, reason = "joined by `end`")]
        let task = tokio::spawn(async move { following.run(route, token).await });
        Replica { followed, told, stop, task }
    }

    fn table(&self) -> Arc<Table> {
        self.followed.table.borrow().clone()
    }

    fn standing(&self) -> Standing {
        self.followed.standing.borrow().clone()
    }

    fn told(&self) -> Vec<(String, Option<u64>)> {
        std::mem::take(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn at(&self, version: u64) {
        eventually("the version arrives", async || (self.table().version == version).then_some(())).await;
        let in_order = async || (self.standing().trouble.is_none()).then_some(());
        eventually("the control database is followed", in_order).await;
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.expect("ended in order");
    }
}

async fn fleet_of(names: &[&str]) -> World {
    let world = World::migrated().await;
    let mut lease = world.lease().await;
    lease.save_fleet(&own_fleet()).await.expect("saved");
    let routes: Vec<Route> = names.iter().map(|name| route(name)).collect();
    lease.publish_routes(&routes, &[], &[]).await.expect("published");
    lease.release().await;
    world
}

#[tokio::test]
async fn a_route_of_the_control_database_becomes_an_entry_and_follows_it() {
    let world = fleet_of(&["acme", "beta"]).await;
    let replica = Replica::start(config(server().await.url(&world.database), None), "").await;
    let acme = replica.table().get("acme").expect("read at the start");
    assert_eq!((&*acme.instance, &*acme.database, &*acme.tier), ("shared-1", "acme", "starter"));
    assert_eq!((acme.state, acme.version, acme.server_connections), (State::Active, 1, 5));
    assert_eq!(acme.endpoints, [route("acme").endpoint.private]);
    assert_eq!((acme.encryption, acme.pooling), (Encryption::Required, Pooling::Transaction));
    let names: Vec<&str> = acme.roles.named.names().map(AsRef::as_ref).collect();
    assert_eq!(names, ["acme", "acme_reader", "acme_writer"]);
    let owner = Credential::Tenant { tenant: tenant("acme"), role: None, generation: 1 };
    assert_eq!((acme.roles.login("acme"), acme.roles.login("postgres")), (Some(&Login::Derived(owner)), None));

    let mut lease = world.lease().await;
    let beta = Arc::as_ptr(&replica.table().get("beta").expect("there"));
    let adopted = Route { adopted: true, database: "shop".into(), ..route("acme") };
    lease.publish_routes(&[adopted, route("cato")], &[], &[]).await.expect("published");
    replica.at(2).await;
    let acme = replica.table().get("acme").expect("there");
    assert_eq!((acme.roles.login("anybody"), &*acme.database), (Some(&Login::LookUp), "shop"));
    assert_eq!(Arc::as_ptr(&replica.table().get("beta").expect("there")), beta, "nobody else's entry is touched");
    lease.pause(&tenant("acme"), Some(Duration::from_secs(3))).await.expect("paused");
    replica.at(3).await;
    let paused = State::Paused { patience: Duration::from_secs(3) };
    assert_eq!(replica.table().get("acme").expect("there").state, paused);
    let suspended = Route { state: RouteState::Suspended, ..route("acme") };
    lease.publish_routes(&[suspended], &[tenant("cato")], &[]).await.expect("published");
    replica.at(4).await;
    assert_eq!(replica.table().get("acme").expect("there").state, State::Suspended, "whoever is paused as well");
    let mut told = replica.told();
    told.sort();
    let expected = [("acme", Some(2)), ("acme", Some(3)), ("acme", Some(4)), ("cato", None), ("cato", Some(2))];
    let mut expected = expected.map(|(name, version)| (name.to_owned(), version)).to_vec();
    expected.sort();
    assert_eq!(told, expected);

    let spec = json!({ "pooling": "session", "identify": ["user"], "domain": "db.example", "replicas": 2 });
    lease.save_router("edge", &spec).await.expect("saved");
    replica.at(5).await;
    let rules = replica.followed.rules.borrow().clone();
    assert_eq!((&rules.identify[..], rules.domain.as_deref()), (&[Identify::User][..], Some("db.example")));
    let entry = replica.table().get("beta").expect("there");
    assert_eq!((entry.pooling, entry.version), (Pooling::Session, 5));
    replica.end().await;
}

#[tokio::test]
async fn a_pause_is_waited_for_on_every_replica_and_peers_know_each_other() {
    let world = fleet_of(&["acme", "beta"]).await;
    let url = server().await.url(&world.database);
    let quick = Replica::start(config(url.clone(), None), "").await;
    let slow = Replica::start(config(url, None), "acme").await;
    let numbers = (quick.followed.replica, slow.followed.replica);
    assert_ne!(numbers.0, numbers.1);
    let peer = quick.followed.peer();
    eventually("the new replica is known", async || peer(numbers.1).map(drop)).await;
    assert_eq!(peer(numbers.0), None, "itself is no peer");

    let mut lease = world.lease().await;
    let pause = async |lease: &mut ogelnates::store::Lease, name: &str| {
        let asked = lease.pause(&tenant(name), Some(Duration::ZERO)).await.expect("paused");
        asked.expect("it has a route").version
    };
    let lagging = async |name: &str, version| world.store.lagging(&tenant(name), version).await.expect("asked");
    let acme = pause(&mut lease, "acme").await;
    eventually("the quick one says so", async || (lagging("acme", acme).await.lagging == [numbers.1]).then_some(()))
        .await;
    // Another tenant is not held up by one that is slow.
    let beta = pause(&mut lease, "beta").await;
    eventually("both say so", async || lagging("beta", beta).await.lagging.is_empty().then_some(())).await;
    assert_eq!(lagging("acme", acme).await.lagging, [numbers.1]);
    (slow.followed.applied())(&"acme".into(), acme);
    eventually("all say so", async || lagging("acme", acme).await.lagging.is_empty().then_some(())).await;
    slow.end().await;
    assert_eq!(lagging("acme", acme + 9).await.lagging, [numbers.0], "who ends gives its number back");
    quick.end().await;
}

#[tokio::test]
async fn the_control_database_may_go_and_come_back_and_be_away_at_a_start() {
    let folder = open_folder();
    let mut cluster = Cluster::open(binaries(), folder.path()).expect("opened");
    cluster.init(&Secret::new("pw")).await.expect("made");
    let port = start_on_free_port(&mut cluster, &test_settings()).await;
    let url = Secret::new(format!("postgresql://postgres:pw@127.0.0.1:{port}/postgres"));
    let publish = async |names: &[&str], removed: &[TenantId]| {
        let store = Store::connect(&url, PATIENCE).await.expect("connected");
        store.migrate().await.expect("migrated");
        let mut lease = store.acquire("a test", PATIENCE, |_| {}).await.expect("free");
        lease.save_fleet(&own_fleet()).await.expect("saved");
        let routes: Vec<Route> = names.iter().map(|name| route(name)).collect();
        let version = lease.publish_routes(&routes, removed, &[]).await.expect("published");
        lease.release().await;
        version.expect("something new")
    };
    publish(&["acme", "beta"], &[]).await;
    let cache = folder.path().join("routes");
    let replica = Replica::start(config(url.clone(), Some(&cache)), "").await;
    eventually("the table is on disk", async || cache.exists().then_some(())).await;
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&cache).expect("there").permissions());
    assert_eq!(mode & 0o777, 0o600);

    cluster.stop().await.expect("stopped");
    eventually("it is noticed", async || replica.standing().trouble.map(drop)).await;
    assert!(replica.table().get("acme").is_some(), "what was known is served");
    // One that starts meanwhile serves what is on disk, under its former number.
    let late = Replica::start(config(url.clone(), Some(&cache)), "").await;
    let standing = late.standing();
    assert_eq!((standing.version, standing.routes, late.followed.replica), (1, 2, replica.followed.replica));
    assert!(standing.seen.is_some() && standing.trouble.is_some(), "{standing:?}");
    assert_eq!(late.table().get("acme"), replica.table().get("acme"));

    cluster.start(port, &test_settings(), START_MAX).await.expect("started");
    publish(&["cato"], &[tenant("beta")]).await;
    for replica in [&replica, &late] {
        replica.at(2).await;
        let mut told = replica.told();
        told.sort();
        assert_eq!(told, [("beta".to_owned(), None), ("cato".to_owned(), Some(2))]);
    }
    late.end().await;
    replica.end().await;

    // Nobody else's file is believed, nor one that somebody has touched.
    cluster.stop().await.expect("stopped");
    let begun =
        async |key: char, cache: &Path| begin(config(url.clone(), Some(cache)), keys(key)).await.expect("begun");
    let routes = |followed: &Followed| followed.table.borrow().entries.len();
    assert_eq!(routes(&begun('f', &cache).await.0), 2);
    assert_eq!(routes(&begun('e', &cache).await.0), 0, "written under another key");
    let good = std::fs::read(&cache).expect("read");
    for damaged in [&good[..good.len() / 2], &good[..10], &[], &[&good[..100], b"x", &good[101..]].concat()] {
        std::fs::write(&cache, damaged).expect("written");
        let (followed, _) = begun('f', &cache).await;
        let standing = followed.standing.borrow().clone();
        assert!(routes(&followed) == 0 && standing.seen.is_none() && standing.trouble.is_some(), "{standing:?}");
    }
    let elsewhere =
        FollowConfig { reach: Reach { private: false, encryption: None }, ..config(url.clone(), Some(&cache)) };
    std::fs::write(&cache, &good).expect("written");
    let (followed, _) = begin(elsewhere, keys('f')).await.expect("begun");
    assert_eq!(routes(&followed), 0, "its addresses are not for here");
}

#[tokio::test]
async fn what_is_no_control_database_of_this_fleet_is_not_followed() {
    let world = fleet_of(&["acme"]).await;
    let url = server().await.url(&world.database);
    let error = begin(config(url.clone(), None), keys('e')).await.err().expect("another key");
    assert!(matches!(error, Error::OtherFleet { .. }), "{error:?}");
    let bad = begin(config(Secret::new("nonsense"), None), keys('f')).await.err().expect("no URL");
    assert!(matches!(bad, Error::Store(ogelnates::store::Error::BadUrl { .. })), "{bad:?}");
    // While a lost one is being rebuilt, what is missing there is not gone.
    let replica = Replica::start(config(url, None), "").await;
    let mut connection = server().await.connect(&world.database).await;
    execute(&mut connection, "DELETE FROM o7s.fleet").await;
    let mut lease = world.lease().await;
    lease.publish_routes(&[], &[tenant("acme")], &[]).await.expect("published");
    eventually("it is noticed", async || replica.standing().trouble.map(drop)).await;
    assert!(replica.table().get("acme").is_some());
    lease.save_fleet(&own_fleet()).await.expect("saved");
    replica.at(2).await;
    assert!(replica.table().get("acme").is_none());
    replica.end().await;
}

#[tokio::test]
async fn people_pause_and_resume_a_tenant_and_hear_where_it_is_in_force() {
    let world = fleet_of(&["acme"]).await;
    let url = server().await.url(&world.database);
    let replica = Replica::start(config(url.clone(), None), "").await;
    let o7s = async |args: &[&str]| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_o7s"));
        command.current_dir(env!("CARGO_MANIFEST_DIR")).env_clear().env("O7S_DATABASE_URL", url.expose());
        let output = command.arg("tenant").args(args).output().await.expect("run");
        // On stderr it says what it waits for, if it has to wait.
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let done = |text: &str| (Some(0), format!("{text}\n"));
    assert_eq!(
        o7s(&["pause", "acme", "--patience", "3s", "--wait"]).await,
        done("paused acme; in force on 1 of 1 routers")
    );
    let paused = State::Paused { patience: Duration::from_secs(3) };
    assert_eq!(replica.table().get("acme").expect("there").state, paused);
    let again = o7s(&["pause", "acme", "--patience", "3s", "--wait"]).await;
    assert_eq!(again, done("paused acme, as before; in force on 1 of 1 routers"));
    assert_eq!(o7s(&["resume", "acme", "--wait"]).await, done("resumed acme; in force on 1 of 1 routers"));
    assert_eq!(replica.table().get("acme").expect("there").state, State::Active);
    assert_eq!(o7s(&["pause", "nobody"]).await.0, Some(64));
    let events: Vec<String> = sqlx::query_scalar("SELECT reason FROM o7s.events ORDER BY id")
        .fetch_all(&mut server().await.connect(&world.database).await)
        .await
        .expect("read");
    assert_eq!(events, ["Paused", "Resumed"]);
    replica.end().await;
}
