//! Rows 113 to 144: clients and servers that fail, and bounds.

use std::time::Duration;

use ogelnates::router::table::State;
use ogelnates::router::worker::Timing;

use super::cancel::sleeping;
use super::wire::*;
use super::world::{Wish, World, soon, world};

#[test]
fn row_111_a_pin_nobody_uses_ends_when_others_wait() {
    let timing = Timing { pin_idle: Duration::from_millis(300), ..Timing::default() };
    let world = World::new(Wish { timing, ..Wish::default() });
    let mut a = world.client();
    a.ask("CREATE TEMP TABLE mine (a int)");
    // As long as nobody waits it may stay.
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(a.ask("SELECT count(*) FROM mine"), "T D:0 C:SELECT 1 Z:I");
    let mut b = world.client();
    assert_eq!(b.ask("SELECT 1"), "T D:1 C:SELECT 1 Z:I");
    let (tag, body) = a.next().expect("a reason");
    assert_eq!((tag, field(&body, b'C').as_deref()), (b'E', Some("57P05")));
    assert!(field(&body, b'D').expect("why").contains("temporary table"), "{body:?}");
    assert_eq!(a.next(), None);
    // One that works keeps it, however long that takes.
    let mut c = world.client();
    c.ask("CREATE TEMP TABLE mine (a int)");
    c.send(&query("SELECT pg_sleep(1)"));
    sleeping(&world, 1);
    b.send(&query("SELECT 'b'"));
    assert_eq!(c.some(4), "T D: C:SELECT 1 Z:I");
    assert_eq!(b.some(4), "T D:b C:SELECT 1 Z:I");
}

#[test]
fn row_113_a_client_gone_in_a_transaction_has_rolled_back() {
    let world = world();
    let mut b = world.client();
    b.ask("CREATE TABLE t (a int)");
    for round in 0..50 {
        let mut a = world.client();
        a.send(&query("BEGIN; INSERT INTO t VALUES (1)"));
        if round % 3 > 0 {
            a.until_ready(1);
        }
        a.send(&[query("INSERT INTO t VALUES (2)"), query("SELECT 'a'")].concat());
        if round % 3 == 2 {
            a.until_ready(1);
        }
        a.vanish();
        assert_eq!(b.ask("SELECT count(*) FROM t"), "T D:0 C:SELECT 1 Z:I", "round {round}");
    }
}

#[test]
fn row_114_a_query_of_a_client_that_is_gone_is_cancelled() {
    let world = world();
    let mut a = world.client();
    a.send(&query("SELECT pg_sleep(30)"));
    sleeping(&world, 1);
    a.vanish();
    sleeping(&world, 0);
    assert_eq!(world.client().ask("SELECT 1"), "T D:1 C:SELECT 1 Z:I");
}

#[test]
fn rows_115_133_what_was_sent_before_the_goodbye_is_done() {
    let world = world();
    world.direct().ask("CREATE TABLE t (a int)");
    let mut a = world.client();
    a.send(&query("SELECT pg_sleep(0.1); INSERT INTO t VALUES (1)"));
    a.end_sending();
    assert_eq!(shown(&a.rest()), "T D: C:SELECT 1 C:INSERT 0 1 Z:I");
    let backend = world.backends();
    let mut b = world.client();
    b.send(&[query("SELECT pg_sleep(0.1); INSERT INTO t VALUES (2)"), terminate()].concat());
    assert_eq!(shown(&b.rest()), "T D: C:SELECT 1 C:INSERT 0 1 Z:I");
    assert_eq!(world.client().value("SELECT count(*) FROM t"), "2");
    assert_eq!(world.backends(), backend, "the server connection was kept");
}

#[test]
fn row_117_a_server_killed_in_a_query_is_told_once() {
    let world = world();
    for begin in ["SELECT 1", "BEGIN"] {
        let mut a = world.client();
        a.ask(begin);
        a.send(&query("SELECT pg_sleep(30)"));
        sleeping(&world, 1);
        world.direct().ask(TERMINATE);
        assert_eq!(shown(&a.rest()), "T E:57P01", "after {begin}");
        assert_eq!(world.client().ask("SELECT 1"), "T D:1 C:SELECT 1 Z:I");
    }
}

const TERMINATE: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
    WHERE datname = current_database() AND pid <> pg_backend_pid()";

#[test]
fn rows_118_136_a_server_closed_in_the_pool_is_never_lent() {
    let world = world();
    let mut a = world.client();
    for _ in 0..20 {
        a.ask("SELECT 1");
        world.direct().ask(TERMINATE);
        soon("it is gone", || world.backends().is_empty());
        assert_eq!(a.ask("SELECT 1"), "T D:1 C:SELECT 1 Z:I");
    }
}

#[test]
fn row_119_a_server_lost_in_a_transaction_ends_the_session_with_a_reason() {
    let world = world();
    let mut a = world.client();
    a.ask("BEGIN");
    world.direct().ask(TERMINATE);
    let told = shown(&a.rest());
    assert!(told == "E:57P01" || told == "E:08006", "{told}");
    assert_eq!(world.client().ask("SELECT 1"), "T D:1 C:SELECT 1 Z:I");
}

#[test]
fn row_121_what_was_sent_is_never_run_again() {
    let world = World::new(Wish { servers: 2, ..Wish::default() });
    world.direct().ask("CREATE TABLE t (a int)");
    for round in 0..20 {
        let mut a = world.client();
        a.ask("SELECT 1");
        if round % 2 == 0 {
            // Nothing was sent when it went: the statement goes to another one, once.
            world.direct().ask(TERMINATE);
            soon("it is gone", || world.backends().is_empty());
            assert_eq!(a.ask("INSERT INTO t VALUES (1)"), "C:INSERT 0 1 Z:I");
        } else {
            // It had run, and perhaps was about to be committed, when the server went.
            a.send(&query("INSERT INTO t SELECT 2 FROM (SELECT pg_sleep(30)) x"));
            sleeping(&world, 1);
            world.direct().ask(TERMINATE);
            assert_eq!(shown(&a.rest()), "E:57P01");
        }
    }
    assert_eq!(world.direct().value("SELECT count(*) || ' ' || sum(a) FROM t"), "10 10");
}

#[test]
fn row_123_a_transaction_left_open_ends_as_the_role_says() {
    let world = world();
    let database = world.database.clone();
    world.direct().ask(&format!("ALTER DATABASE \"{database}\" SET idle_in_transaction_session_timeout = '200ms'"));
    let mut a = world.client();
    world.direct().ask("CREATE TABLE t (a int)");
    a.ask("BEGIN; INSERT INTO t VALUES (1)");
    assert_eq!(shown(&a.rest()), "E:25P03");
    let mut b = world.client();
    assert_eq!(b.ask("SELECT count(*) FROM t"), "T D:0 C:SELECT 1 Z:I");
    // A client may ask for another limit itself, as with Postgres.
    b.ask("SET idle_in_transaction_session_timeout = 0");
    b.ask("BEGIN");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(b.ask("COMMIT"), "C:COMMIT Z:I");
}

#[test]
fn rows_124_125_who_waits_too_long_is_refused_and_stays() {
    let timing = Timing { query_wait: Duration::from_millis(150), ..Timing::default() };
    let world = World::new(Wish { timing, ..Wish::default() });
    let (mut a, mut b) = (world.client(), world.client());
    a.ask("BEGIN");
    assert_eq!(b.ask("SELECT 1"), "E:53300 Z:I");
    assert_eq!(b.tell(&[parse("s", "SELECT 1"), bind("", "s", &[]), execute("", 0), sync()].concat()), "E:53300 Z:I");
    a.ask("COMMIT");
    assert_eq!(
        b.tell(&[parse("s", "SELECT 1"), bind("", "s", &[]), execute("", 0), sync()].concat()),
        "1 2 D:1 C:SELECT 1 Z:I"
    );
}

#[test]
fn row_125_who_waits_is_told_so_once() {
    let timing = Timing { wait_notice: Duration::from_millis(150), ..Timing::default() };
    let world = World::new(Wish { timing, ..Wish::default() });
    let (mut a, mut b) = (world.client(), world.client());
    a.ask("BEGIN");
    b.send(&query("SELECT 1"));
    let (tag, body) = b.next().expect("a notice");
    assert_eq!((tag, field(&body, b'M').as_deref()), (b'N', Some("waiting for a server connection")));
    std::thread::sleep(Duration::from_millis(400));
    a.ask("COMMIT");
    assert_eq!(b.some(4), "T D:1 C:SELECT 1 Z:I");
    // And another time.
    a.ask("BEGIN");
    b.send(&query("SELECT 2"));
    assert_eq!(b.next().expect("a notice").0, b'N');
    a.ask("COMMIT");
    assert_eq!(b.some(4), "T D:2 C:SELECT 1 Z:I");
}

#[test]
fn row_134_told_to_stop_it_says_so_to_clients_at_rest() {
    let mut world = world();
    let mut a = world.client();
    a.ask("SELECT 1");
    world.stop();
    assert_eq!(shown(&a.rest()), "E:57P01");
}

#[test]
fn row_135_a_pause_holds_new_transactions_and_lets_open_ones_end() {
    let world = World::new(Wish { servers: 2, ..Wish::default() });
    let (mut a, mut b) = (world.client(), world.client());
    a.ask("BEGIN");
    world.set_state(State::Paused { patience: Duration::from_secs(10) });
    b.hears_nothing();
    b.send(&query("SELECT 'b'"));
    b.hears_nothing();

    assert_eq!(a.ask("COMMIT"), "C:COMMIT Z:I");
    a.send(&query("SELECT 'a'"));
    a.hears_nothing();
    world.set_state(State::Active);
    assert_eq!(a.some(4), "T D:a C:SELECT 1 Z:I");
    assert_eq!(b.some(4), "T D:b C:SELECT 1 Z:I");
}
