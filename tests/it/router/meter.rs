//! What the router counts of its clients, against what they did.

use std::time::Duration;

use ogelnates::tenancy::Usage;

use super::wire::*;
use super::world::{World, soon, world};

/// Of all that was counted so far, what a test of commands looks at.
fn commands(usage: &Usage) -> String {
    let Usage { reads, writes, ddl, other, rows, transactions, .. } = usage;
    format!("{reads} reads, {writes} writes, {ddl} ddl, {other} other; {rows} rows; {transactions} transactions")
}

/// What `bytes` adds to the counts.
fn counted(world: &World, bytes: &[u8], answers: usize) -> Usage {
    let mut client = world.client();
    let before = world.usage();
    client.send(bytes);
    client.until_ready(answers);
    world.usage().since(&before)
}

#[test]
fn commands_rows_and_transactions_are_counted_once_whatever_the_protocol() {
    let world = world();
    let simple = query(
        "CREATE TABLE t (a int); BEGIN; INSERT INTO t SELECT generate_series(1, 5); UPDATE t SET a = a WHERE a < 3; \
         SELECT * FROM t; COMMIT; TRUNCATE t; SET work_mem = '1MB'",
    );
    let usage = counted(&world, &simple, 1);
    assert_eq!(commands(&usage), "1 reads, 3 writes, 1 ddl, 3 other; 12 rows; 1 transactions");
    assert_eq!((usage.queries, usage.errors()), (1, 0));
    let pipeline = [
        run("INSERT INTO t VALUES (1), (2)"),
        run("SELECT * FROM t"),
        sync(),
        run("BEGIN"),
        sync(),
        run("DELETE FROM t"),
        run("COMMIT"),
        sync(),
        parse("", "SELECT 1"),
        sync(),
    ]
    .concat();
    let usage = counted(&world, &pipeline, 4);
    // A Parse alone is nobody's work.
    assert_eq!(commands(&usage), "1 reads, 2 writes, 0 ddl, 2 other; 6 rows; 2 transactions");
    assert_eq!(usage.queries, 5);
    let copies = [
        query("COPY t FROM STDIN"),
        copy_data("1\n2\n3\n"),
        copy_done(),
        query("COPY t TO STDOUT"),
        run("COPY t FROM STDIN"),
        copy_data("4\n"),
        copy_done(),
        sync(),
    ];
    let usage = counted(&world, &copies.concat(), 3);
    assert_eq!(commands(&usage), "1 reads, 2 writes, 0 ddl, 0 other; 7 rows; 3 transactions");
}

#[test]
fn errors_are_counted_by_class_and_what_the_router_does_itself_is_not() {
    let world = world();
    world.direct().ask("CREATE TABLE t (a int PRIMARY KEY)");
    let failing = [
        query("SELECT 1/0"),
        query("SELECT nothing"),
        query("INSERT INTO t VALUES (1), (1)"),
        query("BEGIN; SELECT 1/0"),
        query("SELECT 1"),
        query("ROLLBACK"),
    ];
    let usage = counted(&world, &failing.concat(), 6);
    let classes = [usage.errors_statement, usage.errors_constraint, usage.errors_transaction, usage.errors_resources];
    assert_eq!((usage.errors(), classes), (5, [3, 1, 1, 0]));
    assert_eq!(commands(&usage), "0 reads, 0 writes, 0 ddl, 2 other; 0 rows; 4 transactions");
    // Settings that follow their client, and making a connection clean, are SQL of the router's own.
    let mut client = world.client();
    client.ask("SET work_mem = '1MB'");
    let before = world.usage();
    world.client().ask("SELECT 1");
    client.ask("SELECT 1");
    client.ask("CREATE TEMPORARY TABLE mine ()");
    drop(client);
    world.client().ask("SELECT 1");
    let usage = world.usage().since(&before);
    assert_eq!(commands(&usage), "3 reads, 0 writes, 1 ddl, 0 other; 3 rows; 4 transactions");
}

#[test]
fn bytes_are_those_between_client_and_router() {
    let world = world();
    let mut client = world.client();
    let before = world.usage();
    let sent = query("SELECT repeat('x', 300000)");
    client.send(&sent);
    let heard: usize = client.until_ready(1).iter().map(|(_, body)| 5 + body.len()).sum();
    let usage = world.usage().since(&before);
    assert_eq!((usage.bytes_in, usage.bytes_out), (sent.len() as u64, heard as u64));
}

#[test]
fn time_is_that_of_the_server_and_connections_count_as_long_as_they_are_held() {
    let world = world();
    let mut client = world.client();
    client.ask("SELECT 1");
    let before = world.usage();
    let begun = tokio::time::Instant::now();
    client.ask("SELECT pg_sleep(0.3)");
    let took = begun.elapsed();
    let usage = world.usage().since(&before);
    let worked = Duration::from_micros(usage.server_micros);
    assert!((Duration::from_millis(290)..=took).contains(&worked), "{worked:?} of {took:?}");
    // A request that comes in parts begins with the last, and idling in a transaction is not the server's work.
    client.ask("BEGIN");
    let before = world.usage();
    client.send(&run("SELECT 1"));
    std::thread::sleep(Duration::from_millis(300));
    client.tell(&sync());
    std::thread::sleep(Duration::from_millis(300));
    let usage = world.usage().since(&before);
    let most = begun.elapsed();
    assert!(usage.server_micros < 290_000, "{} us", usage.server_micros);
    // Held all the time, although nothing was asked.
    assert!((590..=u64::try_from(most.as_millis()).expect("short")).contains(&usage.connection_ms), "{usage:?}");
    // A query that has not ended yet counts as far as it has come.
    let before = world.usage();
    client.send(&query("SELECT pg_sleep(60)"));
    soon("a long query counts before its end", || world.usage().since(&before).server_micros > 100_000);
}

#[test]
fn what_was_counted_before_the_end_is_handed_over_at_the_end() {
    let mut world = world();
    let mut client = world.client();
    for _ in 0..100 {
        client.ask("SELECT 1");
    }
    world.stop();
    let usage = world.handed_over();
    assert_eq!((usage.reads, usage.transactions, usage.sessions), (100, 100, 1));
    assert!(usage.connection_ms > 0);
}
