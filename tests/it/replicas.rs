//! What routers read and write in the control database, on a real server.

use std::time::Duration;

use ogelnates::store::{Changes, Follower, Lagging, Lease, Replica};
use ogelnates::tenancy::{RouteState, TenantId};
use serde_json::json;
use tokio::time::timeout;
use uuid::Uuid;

use crate::store::{World, fleet, route, tenant};
use crate::support::{PATIENCE, server};

async fn follower(world: &World) -> Follower {
    Follower::connect(&server().await.url(&world.database), PATIENCE).await.expect("connected")
}

async fn heard(follower: &mut Follower) {
    timeout(PATIENCE, follower.changed()).await.expect("in time").expect("connected");
}

async fn silent(follower: &mut Follower) -> bool {
    timeout(Duration::from_millis(200), follower.changed()).await.is_err()
}

fn names(changes: &Changes) -> (u64, bool, Vec<&str>, Vec<&str>) {
    let mut routes: Vec<&str> = changes.routes.iter().map(|row| row.route.tenant.as_str()).collect();
    routes.sort_unstable();
    (changes.version, changes.whole, routes, changes.removed.iter().map(TenantId::as_str).collect())
}

async fn pause(lease: &mut Lease, name: &str, patience: Option<u64>) -> Option<(bool, u64)> {
    let asked = lease.pause(&tenant(name), patience.map(Duration::from_millis)).await.expect("written");
    asked.map(|pausing| (pausing.changed, pausing.version))
}

#[tokio::test]
async fn a_follower_reads_the_whole_once_and_then_what_has_changed_and_what_has_gone() {
    let world = World::migrated().await;
    let mut lease = world.lease().await;
    let mut follower = follower(&world).await;
    assert_eq!(follower.read(None).await.expect("read").fleet, None, "a database that is not known yet says so");
    lease.save_fleet(&fleet()).await.expect("saved");
    lease.publish_routes(&[route("acme"), route("beta"), route("gone")], &[], &[]).await.expect("published");
    heard(&mut follower).await;
    let whole = follower.read(None).await.expect("read");
    assert_eq!(names(&whole), (1, true, vec!["acme", "beta", "gone"], vec![]));
    assert_eq!(whole.fleet, Some(fleet()));
    assert_eq!(names(&follower.read(Some(1)).await.expect("read")), (1, false, vec![], vec![]));

    lease.publish_routes(&[route("beta"), route("cato")], &[tenant("gone")], &[]).await.expect("published");
    lease.publish_routes(&[], &[tenant("cato")], &[]).await.expect("published");
    heard(&mut follower).await;
    assert_eq!(names(&follower.read(Some(1)).await.expect("read")), (3, false, vec![], vec!["gone", "cato"]));
    assert_eq!(names(&follower.read(Some(2)).await.expect("read")), (3, false, vec![], vec!["cato"]));
    lease.publish_routes(&[route("gone")], &[], &[]).await.expect("published");
    assert_eq!(names(&follower.read(Some(1)).await.expect("read")), (4, false, vec!["gone"], vec!["cato"]));

    // Of longer ago nothing is kept, and of a version that was never there nothing can be told.
    world.sql("UPDATE o7s.routing SET version = 20000").await;
    lease.publish_routes(&[route("dora")], &[], &[]).await.expect("published");
    assert_eq!(names(&follower.read(Some(10_001)).await.expect("read")), (20_001, false, vec!["dora"], vec![]));
    for since in [10_000, 20_002] {
        let read = follower.read(Some(since)).await.expect("read");
        assert_eq!(names(&read), (20_001, true, vec!["acme", "beta", "dora", "gone"], vec![]));
    }
}

#[tokio::test]
async fn routers_hear_of_manifests_renames_and_pauses_and_of_nothing_that_stayed_as_it_was() {
    let world = World::migrated().await;
    let mut lease = world.lease().await;
    lease.publish_routes(&[route("acme")], &[], &[]).await.expect("published");
    let mut follower = follower(&world).await;
    let spec = json!({ "pooling": "session" });
    lease.save_router("edge", &spec).await.expect("saved");
    heard(&mut follower).await;
    let read = follower.read(Some(1)).await.expect("read");
    assert_eq!((read.version, read.routers[0].version, &read.routers[0].spec), (2, 2, &spec));
    lease.save_router("edge", &spec).await.expect("saved");
    assert!(silent(&mut follower).await);

    assert_eq!(pause(&mut lease, "acme", Some(9000)).await, Some((true, 3)));
    assert_eq!(pause(&mut lease, "acme", Some(9000)).await, Some((false, 3)), "it was paused already");
    heard(&mut follower).await;
    let read = follower.read(Some(2)).await.expect("read");
    assert_eq!((read.routes[0].version, read.routes[0].patience_ms), (3, Some(9000)));
    // What a reconcile writes leaves the pause.
    let moved = ogelnates::tenancy::Route { state: RouteState::Suspended, ..route("acme") };
    lease.publish_routes(&[moved], &[], &[]).await.expect("published");
    assert_eq!(follower.read(Some(3)).await.expect("read").routes[0].patience_ms, Some(9000));
    assert_eq!(pause(&mut lease, "acme", None).await, Some((true, 5)));
    assert_eq!(follower.read(Some(4)).await.expect("read").routes[0].patience_ms, None);
    assert_eq!(pause(&mut lease, "nobody", None).await, None);

    lease.remove_router("edge").await.expect("removed");
    assert_eq!(follower.read(Some(5)).await.expect("read").version, 6);
    lease.remove_router("edge").await.expect("removed");
    assert_eq!(follower.read(Some(5)).await.expect("read").version, 6);
}

#[tokio::test]
async fn a_number_is_its_routers_until_it_was_silent_for_its_time() {
    let world = World::migrated().await;
    let mut follower = follower(&world).await;
    let [one, two, three] = [(); 3].map(|()| Uuid::new_v4());
    let address = "10.0.0.1:6432".parse().ok();
    assert_eq!(follower.take_number(one, address, None).await.expect("asked"), Some(0));
    assert_eq!(follower.take_number(two, None, Some(7)).await.expect("asked"), Some(7));
    assert_eq!(follower.take_number(three, None, Some(7)).await.expect("asked"), Some(1), "taken");
    assert_eq!(follower.take_number(one, address, Some(9)).await.expect("asked"), Some(0), "it has one");
    let beat = follower.beat(0, one).await.expect("asked");
    let expected: Vec<Replica> =
        [(0, address), (7, None), (1, None)].map(|(number, address)| Replica { number, address }).into();
    assert!(beat.held && beat.replicas.iter().all(|replica| expected.contains(replica)), "{beat:?}");
    assert_eq!(beat.replicas.len(), 3);
    assert!(!follower.beat(0, two).await.expect("asked").held);

    world.sql("UPDATE o7s.router_replicas SET seen_at = now() - interval '16 s' WHERE number = 7").await;
    assert_eq!(follower.beat(0, one).await.expect("asked").replicas.len(), 2);
    assert!(follower.beat(7, two).await.expect("asked").held, "nobody wanted it meanwhile");
    world.sql("UPDATE o7s.router_replicas SET seen_at = now() - interval '16 s' WHERE number = 7").await;
    assert_eq!(follower.take_number(Uuid::new_v4(), None, Some(7)).await.expect("asked"), Some(7));
    assert!(!follower.beat(7, two).await.expect("asked").held);
    follower.give_back(1, three).await.expect("asked");
    world.sql("INSERT INTO o7s.router_replicas (number, boot) SELECT n, gen_random_uuid() FROM generate_series(1, 255) n ON CONFLICT DO NOTHING").await;
    assert_eq!(follower.take_number(two, None, None).await.expect("asked"), None, "all are taken");
}

#[tokio::test]
async fn who_waits_for_a_pause_hears_of_every_replica_that_has_not_said_so() {
    let world = World::migrated().await;
    let mut follower = follower(&world).await;
    let (one, two) = (Uuid::new_v4(), Uuid::new_v4());
    let acme = tenant("acme");
    let lagging = async |version| world.store.lagging(&acme, version).await.expect("asked");
    assert_eq!(lagging(5).await, Lagging { live: 0, lagging: vec![], lost: vec![] });
    follower.take_number(one, None, None).await.expect("asked");
    follower.take_number(two, None, None).await.expect("asked");
    assert_eq!(lagging(5).await, Lagging { live: 2, lagging: vec![0, 1], lost: vec![] });
    // One is through with all of version 5; the other still waits for another tenant.
    assert!(follower.acknowledge((0, one), 5, &[("acme".into(), 5)]).await.expect("asked"));
    assert_eq!(lagging(5).await.lagging, [1]);
    assert!(follower.acknowledge((1, two), 4, &[("acme".into(), 5)]).await.expect("asked"));
    assert!(lagging(5).await.lagging.is_empty());
    assert_eq!(lagging(6).await.lagging, [0, 1]);
    assert!(follower.acknowledge((1, two), 6, &[("beta".into(), 6)]).await.expect("asked"));
    assert_eq!(lagging(6).await.lagging, [0]);
    assert!(!follower.acknowledge((1, one), 9, &[("acme".into(), 9)]).await.expect("asked"), "not its number");
    world.sql("UPDATE o7s.router_replicas SET seen_at = now() - interval '16 s' WHERE number = 0").await;
    assert_eq!(lagging(6).await, Lagging { live: 1, lagging: vec![], lost: vec![0] });
    let mut connection = server().await.connect(&world.database).await;
    let left: Vec<(i16, String)> = sqlx::query_as("SELECT replica, tenant FROM o7s.route_acks ORDER BY 1, 2")
        .fetch_all(&mut connection)
        .await
        .expect("read");
    assert_eq!(left, [(0, "acme".into()), (1, "beta".into())], "what the whole covers is cleaned");
    // Another process under the number begins anew.
    follower.take_number(Uuid::new_v4(), None, Some(0)).await.expect("asked");
    assert_eq!(lagging(5).await.lagging, [0]);
}

#[tokio::test]
async fn a_follower_whose_session_ends_or_whose_schema_is_another_says_so() {
    use ogelnates::store::Error;
    let world = World::migrated().await;
    let mut lost = follower(&world).await;
    world
        .sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'o7s router'",
        )
        .await;
    let error = timeout(PATIENCE, lost.changed()).await.expect("in time").expect_err("its session was ended");
    assert!(matches!(error, Error::NotListening { .. }), "{error:?}");
    let mut older = follower(&world).await;
    world.sql("DROP TABLE o7s.removed_routes; DELETE FROM o7s.migrations WHERE version > 2").await;
    let error = older.read(None).await.expect_err("older");
    assert!(matches!(error, Error::OlderSchema { have: 2, .. }), "{error:?}");
}
