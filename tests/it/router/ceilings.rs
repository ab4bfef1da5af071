//! Ceilings of a tenant, as its clients meet them: rows 126 and 129 to 132, and what the tier says happens above each.

use ogelnates::manifest::Pooling;
use ogelnates::router::table::Allowance;
use ogelnates::tenancy::{Bytes, Limits, Millis, Over, OverLimit};

use super::wire::{bind, execute, parse, query, sync};
use super::world::{Wish, World, soon};

fn limits() -> Limits {
    Limits {
        connections: 100,
        server_connections: 5,
        queries_per_minute: None,
        requests_per_minute: None,
        storage: None,
        egress_per_month: None,
        statement_timeout: None,
    }
}

fn limited(limits: Limits, over: OverLimit) -> World {
    World::new(Wish { servers: 2, allowance: Some(Allowance { limits, over }), ..Wish::default() })
}

fn queries(limit: u64, over: Over) -> World {
    let limits = Limits { queries_per_minute: Some(limit), ..limits() };
    limited(limits, OverLimit { queries_per_minute: over, ..OverLimit::default() })
}

#[test]
fn the_next_connection_is_refused_and_says_why_until_one_is_closed() {
    let world = limited(Limits { connections: 3, ..limits() }, OverLimit::default());
    let mut clients: Vec<_> = (0..3).map(|_| world.client()).collect();
    let refused = world.client_with(&[]).map(drop).expect_err("one too many");
    let name = &world.database;
    assert!(refused.contains(&format!("tenant \"{name}\" has 3 of 3 connections of tier \"pro\" open")), "{refused}");
    let hint = "Close idle connections, or upgrade to \"starter\" (20 connections): https://example.com/upgrade";
    assert!(refused.contains("53300") && refused.contains(hint), "{refused}");
    clients.pop();
    soon("the slot is free", || world.client_with(&[]).is_ok());
    assert!(world.usage().rejected_connections >= 1);
}

#[test]
fn a_connection_waits_in_the_queue_where_the_tier_says_so() {
    let over = OverLimit { connections: Over::Queue(Millis(20_000)), ..OverLimit::default() };
    let world = limited(Limits { connections: 1, ..limits() }, over);
    let first = world.client();
    std::thread::scope(|scope| {
        let second = scope.spawn(|| world.client());
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert!(!second.is_finished(), "let in above the ceiling");
        drop(first);
        assert_eq!(second.join().expect("let in").value("SELECT 7"), "7");
    });
}

#[test]
fn a_connection_gives_up_when_its_time_in_the_queue_is_over() {
    let over = OverLimit { connections: Over::Queue(Millis(300)), ..OverLimit::default() };
    let world = limited(Limits { connections: 1, ..limits() }, over);
    let _first = world.client();
    let refused = world.client_with(&[]).map(drop).expect_err("the ceiling stands");
    assert!(refused.contains("has 1 of 1 connections"), "{refused}");
}

#[test]
fn a_query_above_the_ceiling_is_refused_and_the_session_goes_on() {
    let world = queries(5, Over::Reject);
    let mut client = world.client();
    for _ in 0..5 {
        assert_eq!(client.ask("SELECT 1"), "T D:1 C:SELECT 1 Z:I");
    }
    client.send(&query("SELECT 1"));
    let heard = client.some(2);
    assert_eq!(heard, "E:53400 Z:I");
    let text = client.last_error();
    assert!(text.contains("has used 5 of 5 queries per minute of tier \"pro\""), "{text}");
    assert!(text.contains("Try again in") && text.contains("or upgrade to \"starter\""), "{text}");
    // Again, and of the extended protocol up to the Sync.
    client.send(&[parse("", "SELECT 1"), bind("", "", &[]), execute("", 0), sync()].concat());
    assert_eq!(client.some(2), "E:53400 Z:I");
    assert_eq!(world.usage().rejected_queries, 2);
    // Closing is free, as is what needs no server.
    client.send(&sync());
    assert_eq!(client.some(1), "Z:I");
}

#[test]
fn row_129_in_the_middle_of_a_pipeline_the_rest_is_skipped_and_undone() {
    let world = queries(4, Over::Reject);
    world.direct().ask("CREATE TABLE t (a int)");
    let mut client = world.client();
    let insert = [parse("", "INSERT INTO t VALUES (1)"), bind("", "", &[]), execute("", 0)].concat();
    client.send(&[insert.clone(), insert.clone(), insert.clone(), insert.clone(), insert.clone(), sync()].concat());
    let heard = client.some(16);
    assert!(heard.ends_with("C:INSERT 0 1 1 2 E:53400 Z:I"), "{heard}");
    assert_eq!(world.direct().value("SELECT count(*) FROM t"), "0");
}

#[test]
fn rows_129_130_in_a_transaction_only_its_end_is_let_through() {
    for session in [false, true] {
        let allowance =
            Allowance { limits: Limits { queries_per_minute: Some(4), ..limits() }, over: OverLimit::default() };
        let pooling = if session { Pooling::Session } else { Pooling::Transaction };
        let world = World::new(Wish { servers: 2, pooling, allowance: Some(allowance), ..Wish::default() });
        world.direct().ask("CREATE TABLE t (a int)");
        let mut client = world.client();
        assert_eq!(client.ask("BEGIN"), "C:BEGIN Z:T");
        for _ in 0..3 {
            assert_eq!(client.ask("INSERT INTO t VALUES (1)"), "C:INSERT 0 1 Z:T");
        }
        assert_eq!(client.ask("INSERT INTO t VALUES (1)"), "E:53400 Z:T");
        assert_eq!(client.ask("COMMIT"), "C:COMMIT Z:I");
        assert_eq!(client.ask("SELECT 1"), "E:53400 Z:I");
        assert_eq!(world.direct().value("SELECT count(*) FROM t"), "3");
    }
}

#[test]
fn row_130_extended_the_end_of_a_transaction_is_free() {
    let world = queries(2, Over::Reject);
    let mut client = world.client();
    let run = |sql: &str| [parse("", sql), bind("", "", &[]), execute("", 0), sync()].concat();
    client.send(&run("BEGIN"));
    assert_eq!(client.some(4), "1 2 C:BEGIN Z:T");
    client.send(&run("SELECT 1"));
    assert_eq!(client.some(5), "1 2 D:1 C:SELECT 1 Z:T");
    client.send(&run("SELECT 1"));
    assert_eq!(client.some(4), "1 2 E:53400 Z:T");
    client.send(&run("ROLLBACK"));
    assert_eq!(client.some(4), "1 2 C:ROLLBACK Z:I");
}

#[test]
fn a_text_of_several_statements_is_charged_for_each() {
    let world = queries(5, Over::Reject);
    let mut client = world.client();
    client.ask("SELECT 1; SELECT 2; SELECT 3; SELECT 4");
    soon("what was owed is paid", || {
        client.ask("SELECT 1");
        client.ask("SELECT 1").starts_with("E:53400")
    });
    assert!(world.usage().reads <= 5, "{:?}", world.usage());
}

#[test]
fn queries_are_slowed_down_where_the_tier_says_so_and_none_is_refused() {
    let world = queries(5, Over::Slow(Millis(400)));
    let mut client = world.client();
    for _ in 0..9 {
        assert_eq!(client.ask("SELECT 1"), "T D:1 C:SELECT 1 Z:I");
    }
    assert_eq!(world.usage().rejected_queries, 0);
}

#[test]
fn a_query_waits_in_the_queue_and_may_be_cancelled_there() {
    let world = queries(2, Over::Queue(Millis(30_000)));
    let mut client = world.client();
    client.ask("SELECT 1");
    client.ask("SELECT 1");
    client.send(&query("SELECT 1"));
    client.hears_nothing();
    client.cancel();
    assert_eq!(client.some(2), "E:57014 Z:I");
    // A higher ceiling lets the next one through at once.
    client.send(&query("SELECT 1"));
    client.hears_nothing();
    let limits = Limits { queries_per_minute: Some(1000), ..limits() };
    world.allow(Allowance { limits, over: OverLimit::default() });
    assert_eq!(client.some(4), "T D:1 C:SELECT 1 Z:I");
}

#[test]
fn row_131_132_a_full_database_takes_deletes_and_no_writes() {
    let world = limited(Limits { storage: Some(Bytes(100 << 20)), ..limits() }, OverLimit::default());
    let mut client = world.client();
    client.ask("CREATE TABLE t (a int); INSERT INTO t VALUES (1), (2)");
    client.send(&[parse("put", "INSERT INTO t VALUES (3)"), sync()].concat());
    assert_eq!(client.some(2), "1 Z:I");
    world.stored(100 << 20);
    assert_eq!(client.ask("INSERT INTO t VALUES (3)"), "E:53100 Z:I");
    let text = client.last_error();
    assert!(text.contains("uses 100Mi of 100Mi storage of tier \"pro\": writes are refused"), "{text}");
    client.send(&[bind("", "put", &[]), execute("", 0), sync()].concat());
    assert_eq!(client.some(2), "E:53100 Z:I");
    assert_eq!(client.ask("SET transaction_read_only = off"), "C:SET Z:I");
    assert_eq!(client.ask("INSERT INTO t VALUES (3)"), "E:53100 Z:I");
    assert_eq!(client.ask("SELECT count(*) FROM t"), "T D:2 C:SELECT 1 Z:I");
    assert_eq!(client.ask("DELETE FROM t WHERE a = 1"), "C:DELETE 1 Z:I");
    world.stored(110 << 20);
    assert_eq!(client.ask("SELECT count(*) FROM t"), "E:53100 Z:I");
    assert_eq!(client.ask("TRUNCATE t"), "C:TRUNCATE TABLE Z:I");
    assert_eq!(client.ask("VACUUM FULL t"), "C:VACUUM Z:I");
    world.stored(50 << 20);
    assert_eq!(client.ask("INSERT INTO t VALUES (3)"), "C:INSERT 0 1 Z:I");
}

#[test]
fn row_126_a_statement_that_runs_too_long_is_ended_whatever_the_client_has_set() {
    let world = limited(Limits { statement_timeout: Some(Millis(500)), ..limits() }, OverLimit::default());
    let mut client = world.client();
    client.ask("SET statement_timeout = 0");
    assert_eq!(client.ask("SELECT pg_sleep(30)"), "T E:57014 Z:I");
    let text = client.last_error();
    assert!(text.contains("ran longer than 500ms, the limit of tier \"pro\""), "{text}");
    assert_eq!(client.ask("SELECT 1"), "T D:1 C:SELECT 1 Z:I");
}

#[test]
fn egress_above_the_ceiling_of_the_month_ends_with_the_month() {
    let world = limited(Limits { egress_per_month: Some(Bytes(2 << 20)), ..limits() }, OverLimit::default());
    let mut client = world.client();
    let mut refused = String::new();
    soon("the ceiling", || {
        refused = client.ask("SELECT repeat('x', 500000)").chars().take(8).collect();
        refused.starts_with('E')
    });
    assert_eq!(refused, "E:53400 ");
    let text = client.last_error();
    assert!(text.contains("egress of this month") && text.contains("It frees in"), "{text}");
    assert!(world.usage().bytes_out >= 2 << 20);
}

#[test]
fn a_ceiling_below_what_is_open_ends_nobody_and_lets_nobody_in() {
    let world = limited(Limits { connections: 5, ..limits() }, OverLimit::default());
    let mut clients: Vec<_> = (0..4).map(|_| world.client()).collect();
    world.allow(Allowance { limits: Limits { connections: 2, ..limits() }, over: OverLimit::default() });
    soon("nobody comes in", || world.client_with(&[]).is_err());
    for client in &mut clients {
        assert_eq!(client.value("SELECT 1"), "1");
    }
    clients.truncate(1);
    soon("one comes in again", || world.client_with(&[]).is_ok());
}

#[test]
fn a_full_database_takes_no_write_behind_a_quote_or_a_name_in_doubt() {
    let world = limited(Limits { storage: Some(Bytes(100 << 20)), ..limits() }, OverLimit::default());
    let mut client = world.client_with(&[("standard_conforming_strings", "off")]).expect("logged in");
    client.ask("CREATE TABLE t (a text)");
    world.stored(100 << 20);
    // A DELETE with one long string where backslashes are plain; here the string ends before the INSERT.
    let text = r"DELETE FROM t WHERE a = '\''; INSERT INTO t VALUES (1) --'";
    assert_eq!(client.ask(text), "E:53100 Z:I");
    assert_eq!(world.client().ask(r"DELETE FROM t WHERE a = '\'"), "C:DELETE 0 Z:I");
    // What SQL's PREPARE has made has a name of which nothing is known here.
    world.stored(50 << 20);
    let mut other = world.client();
    other.ask("PREPARE put AS INSERT INTO t VALUES ('x')");
    world.stored(100 << 20);
    other.send(&[bind("", "put", &[]), execute("", 0), sync()].concat());
    assert_eq!(other.some(2), "E:53100 Z:I");
    assert_eq!(world.direct().value("SELECT count(*) FROM t"), "0");
}

#[test]
fn whoever_hangs_up_at_the_door_leaves_the_queue_at_once() {
    let over = OverLimit { connections: Over::Queue(Millis(25_000)), ..OverLimit::default() };
    let world = limited(Limits { connections: 1, ..limits() }, over);
    let first = world.client();
    std::thread::scope(|scope| {
        // It would wait for 25 s; its program ends sooner.
        let gone = scope.spawn(|| world.client_within(std::time::Duration::from_millis(300)).map(drop));
        soon("it waits", || world.clients() == 2);
        gone.join().expect("it ran").expect_err("the ceiling stands");
        soon("it is noticed", || world.clients() == 1);
    });
    drop(first);
    assert_eq!(world.client().value("SELECT 7"), "7");
}

#[test]
fn without_a_measured_size_nothing_is_limited_and_without_a_ceiling_nothing_is_leased() {
    let world = limited(Limits { storage: Some(Bytes(1)), ..limits() }, OverLimit::default());
    let mut client = world.client();
    assert_eq!(client.ask("CREATE TABLE t (a int)"), "C:CREATE TABLE Z:I");
    let many: Vec<String> = (0..300).map(|_| client.ask("INSERT INTO t VALUES (1)")).collect();
    assert!(many.iter().all(|heard| heard == "C:INSERT 0 1 Z:I"), "a rate that is not in the manifest is unlimited");
    let leased = world.control_value("SELECT string_agg(DISTINCT meter::text, ',') FROM o7s.escrow");
    assert_eq!(leased, "0", "slots for connections, and nothing else");
    // Measured at last, and above its ceiling by far.
    world.stored(1 << 20);
    assert_eq!(client.ask("INSERT INTO t VALUES (1)"), "E:53100 Z:I");
}
