//! Leases of ceilings in a real control database, compared with the model that the replicas' half is tested against.

use std::collections::HashMap;
use std::time::Duration;

use ogelnates::store::{Escrow, LeaseAsk};
use ogelnates::tenancy::escrow::{Answer, Ask, Meter};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::store::{World, route};
use crate::support::{PATIENCE, server};

use ogelnates::tenancy::escrow;
#[path = "../../src/tenancy/escrow_model.rs"]
mod escrow_model;
use escrow_model::Bucket;

const LIMIT: u64 = 200;
/// 2026-11-10, far from a month's end.
const ORIGIN_MS: u64 = 1_794_300_000_000;

#[derive(Debug, Clone)]
struct Step {
    pass: u64,
    replica: u32,
    spend: u64,
    keep: u64,
    want: u64,
}

fn step() -> impl Strategy<Value = Step> {
    (prop_oneof![4 => 0..2_000_u64, 1 => 0..70_000_u64], 0..5_u32, 0..12_u64, 0..6_u64, 0..40_u64)
        .prop_map(|(pass, replica, spend, keep, want)| Step { pass, replica, spend, keep, want })
}

async fn limited(world: &World) {
    let mut lease = world.lease().await;
    let mut acme = route("acme");
    acme.limits.connections = u32::try_from(LIMIT).expect("small");
    acme.limits.queries_per_minute = Some(LIMIT);
    acme.limits.egress_per_month = Some(ogelnates::tenancy::Bytes(LIMIT));
    lease.publish_routes(&[acme], &[], &[]).await.expect("published");
}

async fn at(connection: &mut PgConnection, now: u64, boot: Uuid, number: i64, asks: Value) -> Option<Value> {
    let sql = "SELECT o7s.exchange_at(to_timestamp($1::numeric / 1000), $2, $3, $4)";
    let query = sqlx::query_scalar::<_, Option<sqlx::types::Json<Value>>>(sql);
    let now = i64::try_from(now).expect("a time");
    let answer = query.bind(now).bind(boot).bind(number).bind(sqlx::types::Json(asks)).fetch_one(connection).await;
    answer.expect("answered").map(|json| json.0)
}

fn answer(value: &Value) -> Answer {
    let number = |name: &str| value[name].as_u64().unwrap_or_default();
    Answer { granted: number("granted"), used: number("used"), frees_in: value["freesIn"].as_u64() }
}

/// Plays random requests of five replicas to both and compares every answer.
async fn compared(meter: Meter) {
    let world = World::migrated().await;
    limited(&world).await;
    let mut connection = server().await.connect(&world.database).await;
    let mut runner = TestRunner::deterministic();
    for _ in 0..12 {
        let steps = prop::collection::vec(step(), 1..60).new_tree(&mut runner).expect("steps").current();
        world.sql("TRUNCATE o7s.escrow, o7s.escrow_replicas").await;
        let boots: Vec<Uuid> = (0..5).map(|_| Uuid::new_v4()).collect();
        let (mut now, mut bucket) = (ORIGIN_MS, Bucket::default());
        let (mut spent, mut seen, mut number) = ([0; 5], HashMap::<u32, u64>::new(), 0);
        for step in steps {
            now += step.pass;
            number += 1;
            let who = step.replica as usize;
            spent[who] += if meter == Meter::Connections { 0 } else { step.spend };
            let ask = Ask { spent: spent[who], keep: step.keep, want: step.want };
            seen.insert(step.replica, now);
            // The first four have shares of a twentieth each; the fifth has none.
            let parts = if meter == Meter::Egress { 0 } else { (seen.len().min(4) as u64) * (LIMIT * 50 / 1000) };
            let dead =
                |replica: u32| replica != step.replica && seen.get(&replica).is_some_and(|at| at + 60_000 < now);
            let wanted = bucket.exchange(now, (step.replica, ask), meter, (LIMIT, parts), dead);
            let row = json!({ "tenant": "acme", "meter": meter.number(), "lease": 7, "spent": ask.spent,
                "keep": ask.keep, "want": ask.want });
            let got = at(&mut connection, now, boots[who], number, json!([row])).await.expect("newest");
            let got = answer(&got["answers"][0]);
            let month =
                |answer: Answer| if meter == Meter::Egress { Answer { frees_in: None, ..answer } } else { answer };
            assert_eq!(month(got), wanted, "{meter:?} at {now} after {step:?}");
        }
    }
}

#[tokio::test]
async fn the_control_database_grants_what_the_model_grants() {
    for meter in [Meter::Queries, Meter::Connections, Meter::Egress] {
        compared(meter).await;
    }
}

fn ask(lease: u64, spent: u64, keep: u64, want: u64) -> LeaseAsk {
    LeaseAsk { tenant: "acme".into(), meter: Meter::Queries, lease, ask: Ask { spent, keep, want } }
}

#[tokio::test]
async fn a_request_that_comes_late_changes_nothing() {
    let world = World::migrated().await;
    limited(&world).await;
    let mut connection = server().await.connect(&world.database).await;
    let boot = Uuid::new_v4();
    let asks = |want: u64| json!([{ "tenant": "acme", "meter": 1, "lease": 1, "spent": 0, "keep": 0, "want": want }]);
    assert!(at(&mut connection, ORIGIN_MS, boot, 2, asks(10)).await.is_some());
    assert_eq!(at(&mut connection, ORIGIN_MS, boot, 1, asks(100)).await, None);
    let other = at(&mut connection, ORIGIN_MS, Uuid::new_v4(), 1, asks(500)).await.expect("answered");
    // The ten of the first are counted, and no two routers may hold more than a tenth each.
    assert_eq!(answer(&other["answers"][0]), Answer { granted: 20, used: 30, frees_in: Some(70_000) });
}

#[tokio::test]
async fn slots_of_a_killed_router_come_back_and_those_of_one_that_is_cut_off_do_not() {
    let world = World::migrated().await;
    limited(&world).await;
    let url = server().await.url(&world.database);
    let slots =
        |lease: u64, keep: u64, want: u64| LeaseAsk { meter: Meter::Connections, ..ask(lease, 0, keep, want) };
    let mut other = Escrow::new(&url, PATIENCE, Uuid::new_v4()).expect("a good URL");
    let alive = Uuid::new_v4();
    let mut first = Escrow::new(&url, PATIENCE, alive).expect("a good URL");
    assert_eq!(first.exchange(&[slots(1, 0, 150)], &[], false).await.expect("answered").answers[0].1.granted, 150);
    let silent =
        format!("UPDATE o7s.escrow_replicas SET seen_at = now() - interval '2 minutes' WHERE boot = '{alive}'");
    world.sql(&silent).await;
    // Two shares of ten stay with those who have them.
    assert_eq!(other.exchange(&[slots(1, 0, 100)], &[], false).await.expect("answered").answers[0].1.granted, 30);
    drop(first);
    let freed = async || {
        let answer = other.exchange(&[slots(1, 30, 100)], &[], false).await.expect("answered").answers[0].1;
        if answer.granted == 100 { Some(()) } else { None }
    };
    let mut freed = freed;
    for _ in 0..100 {
        if freed().await.is_some() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the slots did not come back");
}

#[tokio::test]
async fn tenants_without_a_route_get_nothing_and_unlimited_ones_all() {
    let world = World::migrated().await;
    limited(&world).await;
    let mut lease = world.lease().await;
    let mut free = route("beta");
    free.limits.queries_per_minute = None;
    lease.publish_routes(&[free], &[], &[]).await.expect("published");
    let mut escrow = Escrow::new(&server().await.url(&world.database), PATIENCE, Uuid::new_v4()).expect("a good URL");
    let of = |tenant: &str, lease: u64| LeaseAsk { tenant: tenant.into(), ..ask(lease, 0, 0, 1_000_000) };
    let exchanged = escrow.exchange(&[of("beta", 1), of("nobody", 2)], &[], false).await.expect("answered");
    let granted: Vec<(u64, u64)> = exchanged.answers.iter().map(|(lease, answer)| (*lease, answer.granted)).collect();
    assert_eq!(granted, [(1, 1_000_000), (2, 0)]);
    escrow.leave().await.expect("left");
}
