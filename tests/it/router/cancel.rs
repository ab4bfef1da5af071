//! Rows 39 to 47: cancel requests.

use super::wire::*;
use super::world::{World, soon, world};

/// So many of the database's sessions run `pg_sleep`.
pub fn sleeping(world: &World, count: usize) {
    let mut direct = world.direct();
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
    soon("pg_sleep runs", || direct.value(sql) == count.to_string());
}

#[test]
fn row_39_the_key_is_the_routers_own() {
    let world = world();
    let (mut a, b) = (world.client(), world.client());
    assert_ne!(a.value("SELECT pg_backend_pid()"), a.process.to_string());
    assert_ne!((a.process, &a.secret), (b.process, &b.secret));
    assert_ne!(a.secret, b.secret);
    assert_eq!(a.secret.len(), 32, "protocol 3.2");
}

#[test]
fn rows_40_47_a_query_is_cancelled_and_nothing_else_is_heard() {
    let world = world();
    let mut a = world.client();
    a.send(&query("SELECT pg_sleep(10)"));
    sleeping(&world, 1);
    a.cancel();
    assert_eq!(a.some(3), "T E:57014 Z:I");
    a.hears_nothing();
    assert_eq!(a.ask("SELECT 1"), "T D:1 C:SELECT 1 Z:I");
}

#[test]
fn rows_41_42_a_cancel_never_meets_another_clients_query() {
    let world = world();
    let (mut a, mut b) = (world.client(), world.client());
    for round in 0..100 {
        a.send(&query("SELECT 1"));
        if round % 2 == 0 {
            a.until_ready(1);
        }
        let (port, process, secret) = a.key();
        let late = std::thread::spawn(move || cancel(port, process, &secret));
        let told = b.ask("SELECT pg_sleep(0.002), 'b'");
        assert!(told.ends_with("C:SELECT 1 Z:I"), "{told}");
        late.join().expect("sent");
        if round % 2 == 1 {
            a.until_ready(1);
        }
    }
}

#[test]
fn row_43_a_client_in_the_queue_is_cancelled() {
    let world = world();
    let (mut a, mut b) = (world.client(), world.client());
    a.ask("BEGIN");
    b.send(&query("SELECT 1"));
    b.hears_nothing();
    b.cancel();
    assert_eq!(b.some(2), "E:57014 Z:I");
    b.send(&[run("SELECT 1"), sync()].concat());
    b.hears_nothing();
    b.cancel();
    assert_eq!(b.some(2), "E:57014 Z:I");
    a.ask("COMMIT");
    assert_eq!(b.ask("SELECT 1"), "T D:1 C:SELECT 1 Z:I");
}

#[test]
fn row_44_a_cancel_of_nothing_does_nothing() {
    let world = world();
    let mut a = world.client();
    a.cancel();
    assert_eq!(a.ask("SELECT 1"), "T D:1 C:SELECT 1 Z:I");
    a.ask("BEGIN");
    a.cancel();
    assert_eq!(a.ask("SELECT pg_sleep(0.01)"), "T D: C:SELECT 1 Z:T");
}

#[test]
fn row_46_a_wrong_key_cancels_nothing() {
    let world = world();
    let mut a = world.client();
    a.send(&query("SELECT pg_sleep(0.3)"));
    sleeping(&world, 1);
    let (port, process, secret) = a.key();
    for n in 0..50 {
        let mut wrong = secret.clone();
        wrong[n % 32] ^= 1 << (n % 8);
        cancel(port, process, &wrong);
        cancel(port, process.wrapping_add(1), &secret);
        cancel(port, process, &secret[..4]);
    }
    assert_eq!(a.some(4), "T D: C:SELECT 1 Z:I");
}
