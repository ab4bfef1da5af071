//! Rows 88 to 94: COPY.

use super::wire::*;
use super::world::{soon, world};

#[expect(clippy::too_many_lines, reason = "a table")]
#[test]
fn rows_89_to_93_copies_are_answered_as_postgres_answers_them() {
    let world = world();
    world.direct().ask("CREATE TABLE t (a int)");
    let copy = || query("COPY t FROM STDIN");
    for (row, sent, heard) in [
        (
            "88_in",
            vec![
                copy(),
                copy_data("1\n2"),
                copy_data("\n3\n"),
                copy_done(),
                query("SELECT count(*) FROM t; TRUNCATE t"),
            ],
            "G C:COPY 3 Z:I T D:3 C:SELECT 1 C:TRUNCATE TABLE Z:I",
        ),
        (
            "89_fail",
            vec![copy(), copy_data("1\n"), copy_fail("no"), query("SELECT count(*) FROM t")],
            "G E:57014 Z:I T D:0 C:SELECT 1 Z:I",
        ),
        (
            "91_bad_row",
            vec![copy(), copy_data("x\n"), copy_data("2\n"), copy_data("3\n"), copy_done(), query("SELECT 1")],
            "G E:22P02 Z:I T D:1 C:SELECT 1 Z:I",
        ),
        (
            "91_bad_row_extended",
            vec![run("COPY t FROM STDIN"), copy_data("x\n"), copy_done(), sync(), query("SELECT 1")],
            "1 2 G E:22P02 Z:I T D:1 C:SELECT 1 Z:I",
        ),
        (
            "92_sync_inside",
            vec![
                run("COPY t FROM STDIN"),
                sync(),
                flush(),
                copy_data("1\n"),
                sync(),
                copy_done(),
                sync(),
                query("TRUNCATE t"),
            ],
            "1 2 G C:COPY 1 Z:I C:TRUNCATE TABLE Z:I",
        ),
        (
            "93_two_in_one",
            vec![
                query("COPY t FROM STDIN; COPY t FROM STDIN; SELECT count(*) FROM t; TRUNCATE t"),
                copy_data("1\n"),
                copy_done(),
                copy_data("2\n"),
                copy_done(),
            ],
            "G C:COPY 1 G C:COPY 1 T D:2 C:SELECT 1 C:TRUNCATE TABLE Z:I",
        ),
        ("94_out", vec![query("COPY (SELECT generate_series(1, 3)) TO STDOUT")], "H d:1 d:2 d:3 c C:COPY 3 Z:I"),
        ("94_out_extended", vec![run("COPY (SELECT 1) TO STDOUT"), sync()], "1 2 H d:1 c C:COPY 1 Z:I"),
        (
            "88_in_a_transaction",
            vec![
                query("BEGIN"),
                copy(),
                copy_data("1\n"),
                copy_done(),
                query("ROLLBACK"),
                query("SELECT count(*) FROM t"),
            ],
            "C:BEGIN Z:T G C:COPY 1 Z:T C:ROLLBACK Z:I T D:0 C:SELECT 1 Z:I",
        ),
        ("92_stray_copy_data", vec![copy_data("1\n"), copy_done(), query("SELECT 1")], "T D:1 C:SELECT 1 Z:I"),
    ] {
        assert_eq!(world.compare(&sent.concat()), heard, "row {row}");
    }
}

#[test]
fn row_88_much_data_passes_both_ways() {
    let world = world();
    world.direct().ask("CREATE TABLE t (a text)");
    let line = format!("{}\n", "x".repeat(999));
    let data = copy_data(&line.repeat(50)).repeat(200);
    let sent =
        [query("COPY t FROM STDIN"), data, copy_done(), query("SELECT sum(length(a)) FROM t; TRUNCATE t")].concat();
    assert_eq!(world.compare(&sent), "G C:COPY 10000 Z:I T D:9990000 C:SELECT 1 C:TRUNCATE TABLE Z:I");
    world.compare(&query("COPY (SELECT repeat('y', 1000) FROM generate_series(1, 10000)) TO STDOUT"));
}

#[test]
fn row_90_a_client_that_dies_in_copy_in_leaves_nothing() {
    let world = world();
    let mut other = world.client();
    other.ask("CREATE TABLE t (a int)");
    for begin in [query("COPY t FROM STDIN"), run("COPY t FROM STDIN"), [run("COPY t FROM STDIN"), sync()].concat()] {
        for data in [vec![], copy_data("1\n"), [copy_data("1\n"), copy_data("2\n")[..6].to_vec()].concat()] {
            let mut client = world.client();
            client.send(&[&begin[..], &flush(), &data].concat());
            while client.next().is_some_and(|(tag, _)| tag != b'G') {}
            client.vanish();
            // A notice about the abandoned transaction is the router's, not this client's.
            assert_eq!(other.ask("SELECT count(*) FROM t"), "T D:0 C:SELECT 1 Z:I");
        }
    }
}

#[test]
fn row_91_an_error_is_told_while_the_client_still_sends() {
    let world = world();
    let mut client = world.client();
    client.ask("CREATE TABLE t (a int)");
    client.send(&[query("COPY t FROM STDIN"), copy_data("x\n")].concat());
    client.send(&copy_data("1\n").repeat(1000));
    assert_eq!(client.some(3), "G E:22P02 Z:I");
    // The rest of the copy is swallowed, whoever has the server connection by now.
    let mut other = world.client();
    other.ask("BEGIN");
    client.send(&[copy_data("1\n").repeat(1000), copy_done(), query("SELECT 'after'")].concat());
    client.hears_nothing();
    assert_eq!(other.ask("COMMIT"), "C:COMMIT Z:I");
    assert_eq!(client.some(4), "T D:after C:SELECT 1 Z:I");
}

#[test]
fn row_94_a_reader_that_stops_stops_the_server() {
    let world = world();
    let mut client = world.client();
    client.send(&query("COPY (SELECT repeat('x', 10000) FROM generate_series(1, 5000)) TO STDOUT"));
    assert_eq!(client.some(1), "H");
    soon("the server waits", || {
        let mut direct = world.direct();
        direct.value(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'ClientWrite'",
        ) == "1"
    });
    assert_eq!(client.until_ready(1).iter().filter(|(tag, _)| *tag == b'd').count(), 5000);
}
