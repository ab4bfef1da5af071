//! Usage in a real control database: each batch once, and every level adds up to the same.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ogelnates::postgres::{SUPERUSER, Server};
use ogelnates::store::{Flushed, Meters, UsageFilter};
use ogelnates::tenancy::{Address, Metered, Minute, Usage};
use uuid::Uuid;

use crate::store::{World, route, tenant};
use crate::support::{PATIENCE, server};

async fn meters(world: &World) -> Meters {
    Meters::connect(&server().await.url(&world.database), PATIENCE).await.expect("connected")
}

fn line(at: DateTime<Utc>, tenant: &str, instance: &str, reads: u64) -> Metered {
    let usage = Usage { reads, bytes_out: reads * 7, ..Usage::default() };
    let minute = Minute::of_unix_ms(at.timestamp_millis());
    Metered { minute, tenant: tenant.into(), instance: instance.into(), usage }
}

async fn number(world: &World, sql: &str) -> i64 {
    let mut connection = server().await.connect(&world.database).await;
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned())).fetch_one(&mut connection).await.expect("a number")
}

async fn sum(world: &World, table: &str) -> i64 {
    number(world, &format!("SELECT coalesce(sum(reads), 0)::bigint FROM o7s.{table}")).await
}

/// The reads that `o7s usage` would tell, with steps of so many seconds.
async fn told(world: &World, step: u64) -> BTreeMap<String, u64> {
    let filter = UsageFilter { tenant: None, since: 40 * 86_400, step };
    let mut told = BTreeMap::new();
    for row in world.store.usage(&filter).await.expect("read").rows {
        *told.entry(row.tenant).or_default() += row.usage.reads;
        assert_eq!(row.usage.bytes_out, row.usage.reads * 7);
    }
    told
}

/// There is room for minutes of the last two days, as in a control database that is that old.
async fn two_days_old() -> World {
    let world = World::migrated().await;
    world.sql("UPDATE o7s.meter_state SET minutes_from = minutes_from - interval '2 days', minutes_until = minutes_until - interval '2 days'").await;
    while meters(&world).await.upkeep().await.expect("done") {}
    world
}

#[tokio::test]
async fn every_counter_has_a_column_at_every_level() {
    let world = World::migrated().await;
    let mut connection = server().await.connect(&world.database).await;
    for table in ["meter_minutes", "meter_hours", "meter_days"] {
        let sql = "SELECT attname::text FROM pg_attribute WHERE attrelid = ('o7s.' || $1)::regclass AND attnum > 2
            ORDER BY attnum";
        let columns: Vec<String> =
            sqlx::query_scalar(sql).bind(table).fetch_all(&mut connection).await.expect("read");
        assert_eq!(columns, Usage::NAMES, "{table}");
    }
}

#[tokio::test]
async fn a_batch_is_taken_once_and_only_in_its_turn() {
    let world = World::migrated().await;
    let (mut meters, writer, now) = (meters(&world).await, Uuid::new_v4(), Utc::now());
    assert_eq!(meters.watermark(writer).await.expect("told"), None);
    meters.begin(writer, "main", None).await.expect("begun");
    meters.begin(writer, "main", None).await.expect("begun again, which changes nothing");
    let lines =
        [line(now, "acme", "shared-1", 5), line(now, "acme", "shared-2", 6), line(now, "beta", "shared-1", 7)];
    assert_eq!(meters.flush(writer, 2, now, &lines).await.expect("asked"), Flushed::OutOfTurn);
    for (seq, taken) in [(1, true), (1, false), (2, true), (1, false), (4, false)] {
        let flushed = meters.flush(writer, seq, now, &lines).await.expect("asked");
        assert_eq!(matches!(flushed, Flushed::Committed { .. }), taken, "batch {seq}");
    }
    assert_eq!(meters.watermark(writer).await.expect("told"), Some(2));
    assert_eq!(told(&world, 60).await, [("acme".into(), 22), ("beta".into(), 14)].into());
    assert_eq!(told(&world, 3600).await, [("acme".into(), 22), ("beta".into(), 14)].into());
    assert_eq!(number(&world, "SELECT count(*) FROM o7s.meter_minutes").await, 3);
    // Nobody it was counted for is needed for it to stay, and its own tenant sees nothing else.
    let filter = UsageFilter { tenant: Some(tenant("beta")), since: 3600, step: 3600 };
    let report = world.store.usage(&filter).await.expect("read");
    assert!(report.rows.iter().all(|row| row.tenant == "beta") && !report.rows.is_empty());
}

#[tokio::test]
async fn a_life_that_ended_without_a_word_leaves_a_gap_and_one_that_lives_does_not() {
    let world = World::migrated().await;
    let (mut meters, now) = (meters(&world).await, Utc::now());
    let [clean, killed, silent, alive, next] = [(); 5].map(|()| Uuid::new_v4());
    for writer in [clean, killed, silent, alive] {
        meters.begin(writer, "main", None).await.expect("begun");
        meters.flush(writer, 1, now, &[line(now, "acme", "shared-1", 1)]).await.expect("flushed");
    }
    meters.beat(clean, 1, now, true).await.expect("ended");
    world
        .sql(&format!(
            "UPDATE o7s.meter_writers SET seen_at = now() - interval '2 minutes' WHERE writer = '{silent}'"
        ))
        .await;
    meters.begin(next, "main", Some(killed)).await.expect("begun");
    let gaps = async || -> Vec<Uuid> {
        let mut connection = server().await.connect(&world.database).await;
        let sql = "SELECT writer FROM o7s.meter_gaps ORDER BY writer";
        sqlx::query_scalar(sql).fetch_all(&mut connection).await.expect("read")
    };
    let mut expected = vec![killed, silent];
    expected.sort();
    assert_eq!(gaps().await, expected);
    // It was only out of reach.
    meters.flush(silent, 2, Utc::now(), &[line(now, "acme", "shared-1", 1)]).await.expect("flushed");
    assert_eq!(gaps().await, [killed]);
    let report = world.store.usage(&UsageFilter { tenant: None, since: 3600, step: 3600 }).await.expect("read");
    assert_eq!(report.gaps.len(), 1);
    assert!(report.gaps[0].since <= report.gaps[0].until && report.gaps[0].router == "main");
}

#[tokio::test]
async fn minutes_become_hours_and_days_that_say_the_same_and_are_dropped_in_time() {
    let world = two_days_old().await;
    let (mut meters, writer, now) = (meters(&world).await, Uuid::new_v4(), Utc::now());
    meters.begin(writer, "main", None).await.expect("begun");
    let mut seq = 0;
    let mut flush = async |meters: &mut Meters, lines: &[Metered]| {
        seq += 1;
        let flushed = meters.flush(writer, seq, now, lines).await.expect("asked");
        assert!(matches!(flushed, Flushed::Committed { .. }));
    };
    let ago = |hours: i64| now - TimeDelta::hours(hours);
    // Two days old or far in the future it counts at the edge, and counts.
    let hours = [0, 0, 1, 2, 3, 24, 25, 40, 200, -100];
    let lines: Vec<Metered> = hours.iter().map(|&hours| line(ago(hours), "acme", "shared-1", 1)).collect();
    flush(&mut meters, &lines).await;
    let expected = async |many: u64| {
        for step in [60, 3600, 7200, 86_400, 864_000] {
            assert_eq!(told(&world, step).await, [("acme".into(), many)].into(), "steps of {step} s");
        }
    };
    expected(10).await;
    while meters.upkeep().await.expect("done") {}
    expected(10).await;
    // Two minutes after their end: of the ten lines four are too young in the first two minutes of an hour.
    assert!(sum(&world, "meter_hours").await >= 6, "hours that have ended are set");
    assert!(sum(&world, "meter_days").await >= 1, "and days");
    // Late counts make an hour and its day dirty again; setting them twice adds nothing.
    flush(&mut meters, &[line(ago(25), "acme", "shared-1", 1), line(ago(3), "acme", "shared-2", 1)]).await;
    expected(12).await;
    while meters.upkeep().await.expect("done") {}
    expected(12).await;
    world.sql("INSERT INTO o7s.meter_dirty SELECT 'hour', hour FROM o7s.meter_hours UNION SELECT 'day', day FROM o7s.meter_days").await;
    while meters.upkeep().await.expect("done") {}
    expected(12).await;
    // A day later the oldest minutes are dropped, and nothing of the hours.
    let partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'o7s.meter_minutes'::regclass";
    assert_eq!(number(&world, partitions).await, 4);
    world.sql("UPDATE o7s.meter_state SET minutes_from = minutes_from - interval '1 day', minutes_until = minutes_until").await;
    let oldest = "SELECT extract(epoch FROM minutes_from)::bigint FROM o7s.meter_state";
    let day = DateTime::from_timestamp(number(&world, oldest).await, 0).expect("a time");
    world
        .sql(&format!(
            "CREATE TABLE o7s.meter_minutes_{} PARTITION OF o7s.meter_minutes FOR VALUES FROM ('{}') TO ('{}')",
            day.format("%Y%m%d"),
            day.to_rfc3339(),
            (day + TimeDelta::days(1)).to_rfc3339()
        ))
        .await;
    flush(&mut meters, &[line(day, "acme", "shared-1", 3)]).await;
    while meters.upkeep().await.expect("done") {}
    assert_eq!(number(&world, partitions).await, 4);
    for step in [3600, 86_400] {
        assert_eq!(told(&world, step).await, [("acme".into(), 15)].into(), "steps of {step} s");
    }
}

#[tokio::test]
async fn what_tenants_store_is_measured_in_one_query_and_kept_by_tenant() {
    let (world, shared) = (World::migrated().await, server().await);
    let at = Address { host: "127.0.0.1".into(), port: shared.port };
    let mut instance = Server::connect(&at, (SUPERUSER, &shared.password), PATIENCE).await.expect("connected");
    let sizes = instance.sizes().await.expect("measured");
    assert!(sizes[&world.database] > 1 << 20 && !sizes.contains_key("template1"), "{sizes:?}");
    let mut lease = world.lease().await;
    lease.publish_routes(&[route("acme"), route("beta")], &[], &[]).await.expect("published");
    for bytes in [5, 7] {
        let sizes = [("acme", bytes), ("strange", 9)].map(|(name, bytes)| ("shared-1".into(), name.into(), bytes));
        lease.save_sizes(&sizes).await.expect("saved");
    }
    let report = world.store.usage(&UsageFilter { tenant: None, since: 3600, step: 3600 }).await.expect("read");
    let stored: Vec<(&str, u64)> = report.storage.iter().map(|one| (one.tenant.as_str(), one.bytes)).collect();
    assert_eq!(stored, [("acme", 7)], "what was never measured has none");
}

#[tokio::test]
async fn usage_follows_a_new_name_stays_when_its_tenant_is_gone_and_ceilings_of_the_gone_are_dropped() {
    let world = World::migrated().await;
    let (mut meters, writer, now) = (meters(&world).await, Uuid::new_v4(), Utc::now());
    let mut lease = world.lease().await;
    lease.publish_routes(&[route("acme"), route("beta")], &[], &[]).await.expect("published");
    meters.begin(writer, "main", None).await.expect("begun");
    let lines =
        [line(now, "acme", "shared-1", 5), line(now, "acme", "shared-2", 1), line(now, "beta", "shared-1", 2)];
    meters.flush(writer, 1, now, &lines).await.expect("flushed");
    world
        .sql(
            "INSERT INTO o7s.escrow (tenant, meter, month, total) VALUES
                ('acme', 3, date_trunc('month', now() AT TIME ZONE 'UTC'), 77), ('beta', 1, NULL, 0), ('gone', 1, NULL, 0),
                ('gone', 3, date_trunc('month', now() AT TIME ZONE 'UTC'), 5);
            INSERT INTO o7s.storage (tenant, bytes) VALUES ('acme', 7), ('gone', 9)",
        )
        .await;
    lease.begin_rename(&tenant("acme"), &tenant("apex")).await.expect("begun");
    let renames = [(tenant("acme"), tenant("apex"))];
    lease.publish_routes(&[route("apex")], &[tenant("acme")], &renames).await.expect("published");
    assert_eq!(told(&world, 3600).await, [("apex".into(), 6), ("beta".into(), 2)].into());
    assert_eq!(number(&world, "SELECT total FROM o7s.escrow WHERE tenant = 'apex' AND meter = 3").await, 77);
    assert_eq!(number(&world, "SELECT bytes FROM o7s.storage WHERE tenant = 'apex'").await, 7);
    // What a router had not flushed by then comes under the old name, and what a deleted tenant has used comes at all.
    lease.publish_routes(&[], &[tenant("beta")], &[]).await.expect("published");
    let late = [line(now, "acme", "shared-1", 1), line(now, "beta", "shared-1", 4)];
    let flushed = meters.flush(writer, 2, now, &late).await.expect("asked");
    assert!(matches!(flushed, Flushed::Committed { .. }));
    assert_eq!(told(&world, 3600).await, [("acme".into(), 1), ("apex".into(), 6), ("beta".into(), 6)].into());

    world.sql("UPDATE o7s.meter_state SET cleaned_at = now() - interval '7 hours'").await;
    while meters.upkeep().await.expect("done") {}
    let mut connection = server().await.connect(&world.database).await;
    let sql = "SELECT string_agg(tenant || ' ' || meter, ', ' ORDER BY tenant) FROM o7s.escrow";
    let left: String = sqlx::query_scalar(sql).fetch_one(&mut connection).await.expect("read");
    assert_eq!(left, "apex 3, gone 3", "bytes of this month are kept for one that is made again");
    assert_eq!(number(&world, "SELECT count(*) FROM o7s.storage WHERE tenant = 'gone'").await, 0);
}

/// Numbers that look random, the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// A router: the batch it is trying to flush, and what it counts meanwhile.
struct Router {
    writer: Uuid,
    seq: u64,
    flight: Option<Vec<Metered>>,
    open: Vec<Metered>,
}

/// Batches that are cut off in the middle, repeated, passed by zombies; restarts, wrong clocks, hours and days set meanwhile.
#[expect(clippy::too_many_lines, reason = "an arm for each thing that may happen")]
#[tokio::test]
async fn random_lives_of_routers_count_everything_once() {
    let world = two_days_old().await;
    let mut dice = Dice(7);
    let mut keeper = meters(&world).await;
    let mut connection = meters(&world).await;
    let mut routers = Vec::new();
    for _ in 0..3 {
        let writer = Uuid::new_v4();
        connection.begin(writer, "main", None).await.expect("begun");
        routers.push(Router { writer, seq: 0, flight: None, open: Vec::new() });
    }
    let mut old: Vec<(Uuid, u64, Vec<Metered>)> = Vec::new();
    let (mut counted, mut lost) = (0, 0);
    for _ in 0..500 {
        let at = usize::try_from(dice.below(3)).expect("small");
        let now = Utc::now() - TimeDelta::minutes(i64::try_from(dice.below(3000)).expect("small") - 60);
        let router = &mut routers[at];
        match dice.below(12) {
            0..5 => {
                let instance = ["shared-1", "shared-2"][usize::try_from(dice.below(2)).expect("small")];
                let reads = 1 + dice.below(9);
                counted += reads;
                router.open.push(line(now, ["acme", "beta", "gamma"][at], instance, reads));
            }
            5..9 => {
                if router.flight.is_none() {
                    router.seq += 1;
                    router.flight = Some(std::mem::take(&mut router.open));
                }
                let batch = router.flight.clone().expect("a batch");
                old.push((router.writer, router.seq, batch.clone()));
                // Dropped in the middle, at a moment nobody chose: committed or not, the reply is lost.
                let cut = Duration::from_micros(
                    [200, 1_000, 3_000, 20_000_000][usize::try_from(dice.below(4)).expect("small")],
                );
                let flushed =
                    tokio::time::timeout(cut, connection.flush(router.writer, router.seq, Utc::now(), &batch)).await;
                match flushed {
                    Ok(flushed) => {
                        assert!(matches!(flushed.expect("asked"), Flushed::Committed { .. }));
                        router.flight = None;
                    }
                    Err(_cut) => {
                        connection = meters(&world).await;
                        settle(&mut connection, router).await;
                    }
                }
            }
            9 if !old.is_empty() => {
                // A zombie, or a packet that came late. It is the next in turn only if it was never taken.
                let which = usize::try_from(dice.below(old.len() as u64)).expect("small");
                let (writer, seq, batch) = old[which].clone();
                connection.flush(writer, seq, Utc::now(), &batch).await.expect("asked");
                for router in &mut routers {
                    settle(&mut connection, router).await;
                }
            }
            10 => {
                // Killed: what was open or in doubt is lost, but for what is in.
                settle(&mut connection, router).await;
                let gone = router.open.drain(..).chain(router.flight.take().into_iter().flatten());
                lost += gone.map(|line| line.usage.reads).sum::<u64>();
                old.retain(|(writer, ..)| *writer != router.writer);
                (router.writer, router.seq) = (Uuid::new_v4(), 0);
                connection.begin(router.writer, "main", None).await.expect("begun");
            }
            _ => drop(keeper.upkeep().await.expect("done")),
        }
        let waiting: u64 = routers
            .iter()
            .flat_map(|router| router.open.iter().chain(router.flight.iter().flatten()))
            .map(|line| line.usage.reads)
            .sum();
        assert_eq!(sum(&world, "meter_minutes").await.unsigned_abs() + waiting + lost, counted);
    }
    while keeper.upkeep().await.expect("done") {}
    let minutes = told(&world, 60).await;
    assert!(minutes.values().sum::<u64>() > 500, "{minutes:?}");
    for step in [3600, 86_400, 604_800] {
        assert_eq!(told(&world, step).await, minutes, "steps of {step} s");
    }
    let hours = "SELECT count(*) FROM o7s.meter_dirty WHERE span = 'hour' AND since < now() - interval '2 hours'";
    assert_eq!(number(&world, hours).await, 0);
}

/// What became of a batch of which nobody knows is told by the watermark. Where a cut connection's transaction may still be
/// under way, the answer waits for it, as the next flush would.
async fn settle(connection: &mut Meters, router: &mut Router) {
    let Some(batch) = &router.flight else { return };
    match connection.watermark(router.writer).await.expect("told") {
        Some(seq) if seq == router.seq => router.flight = None,
        Some(seq) if seq + 1 == router.seq => {
            let flushed = connection.flush(router.writer, router.seq, Utc::now(), batch).await.expect("asked");
            if matches!(flushed, Flushed::OutOfTurn) {
                let seq = connection.watermark(router.writer).await.expect("told");
                assert_eq!(seq, Some(router.seq), "it came in meanwhile");
            }
            router.flight = None;
        }
        other => panic!("the watermark is {other:?}, and batch {} is in doubt", router.seq),
    }
}
