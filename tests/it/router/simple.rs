//! Rows 48 to 58: the simple protocol.

use super::wire::{message, parse, query, sync};
use super::world::world;

#[test]
fn rows_48_to_58_simple_queries_are_answered_as_postgres_answers_them() {
    let world = world();
    let notices = "DO $$ BEGIN FOR i IN 1..3 LOOP RAISE NOTICE 'n%', i; END LOOP; END $$; SELECT 1; \
        DO $$ BEGIN RAISE WARNING 'w'; END $$";
    for (row, sent, heard) in [
        ("48_empty", [query(""), query(";"), query(" -- x")].concat(), "I Z:I I Z:I I Z:I"),
        (
            "49_multi_statement",
            [
                query("CREATE TABLE t49 (a int)"),
                query("INSERT INTO t49 VALUES (1); SELECT 1/0"),
                query("SELECT count(*) FROM t49; DROP TABLE t49"),
            ]
            .concat(),
            "C:CREATE TABLE Z:I C:INSERT 0 1 E:22012 Z:I T D:0 C:SELECT 1 C:DROP TABLE Z:I",
        ),
        ("50_begin_and_select", query("BEGIN; SELECT 1"), "C:BEGIN T D:1 C:SELECT 1 Z:T"),
        (
            "51_commit_and_begin",
            [query("BEGIN"), query("COMMIT; BEGIN"), query("ROLLBACK")].concat(),
            "C:BEGIN Z:T C:COMMIT C:BEGIN Z:T C:ROLLBACK Z:I",
        ),
        ("52_notices", query(notices), "N:00000 N:00000 N:00000 C:DO T D:1 C:SELECT 1 N:01000 C:DO Z:I"),
        (
            "53_parameter_status",
            [query("SET TimeZone = 'Asia/Tokyo'"), query("SHOW TimeZone")].concat(),
            "C:SET S:TimeZone=Asia/Tokyo Z:I T D:Asia/Tokyo C:SHOW Z:I",
        ),
        (
            "54_error_state",
            [query("BEGIN"), query("SELECT 1/0"), query("SELECT 1"), query("COMMIT")].concat(),
            "C:BEGIN Z:T E:22012 Z:E E:25P02 Z:E C:ROLLBACK Z:I",
        ),
    ] {
        assert_eq!(world.compare(&sent), heard, "row {row}");
    }
}

#[test]
fn rows_50_51_54_a_transaction_keeps_its_server_connection() {
    let world = world();
    let (mut a, mut b) = (world.client(), world.client());
    for (begin, end) in
        [("BEGIN; SELECT 1", "COMMIT"), ("BEGIN; COMMIT; BEGIN", "COMMIT"), ("BEGIN; SELECT 1/0", "ROLLBACK")]
    {
        a.ask(begin);
        b.send(&query("SELECT 'b'"));
        b.hears_nothing();
        a.ask(end);
        assert_eq!(b.some(4), "T D:b C:SELECT 1 Z:I", "{begin}");
    }
}

#[test]
fn row_55_a_long_query_passes_piece_by_piece() {
    let world = world();
    let long = format!("SELECT length('{}')", "x".repeat(3 << 20));
    assert_eq!(world.compare(&query(&long)), "T D:3145728 C:SELECT 1 Z:I");
}

#[test]
fn rows_56_57_58_who_breaks_the_protocol_leaves_and_the_server_connection_stays_clean() {
    let world = world();
    let mut other = world.client();
    let backend = other.value("SELECT pg_backend_pid()");
    for (row, sent) in [
        ("56_nul_inside", message(b'Q', b"SELECT 1\0SELECT 2\0")),
        ("56_no_nul", message(b'Q', b"SELECT 1")),
        ("57_unknown_type", message(b'~', b"abc")),
        ("57_m", message(b'm', b"abc")),
        ("57_password", message(b'p', b"abc\0")),
        ("58_length_3", b"Q\0\0\0\x03".to_vec()),
        ("58_negative", b"Q\xff\xff\xff\xff".to_vec()),
        ("58_negative_sync", b"S\x80\0\0\0".to_vec()),
        ("56_bind_without_names", message(b'B', b"abc")),
        ("56_describe_nothing", message(b'D', b"")),
    ] {
        let mut client = world.client();
        client.send(&sent);
        let heard = super::wire::shown(&client.rest());
        assert_eq!(heard, "E:08P01", "row {row}");
        // In a transaction as well: what had begun is rolled back.
        let mut client = world.client();
        client.ask("BEGIN; CREATE TABLE leak (a int)");
        client.send(&sent);
        assert_eq!(super::wire::shown(&client.rest()), "E:08P01", "row {row}");
        assert_eq!(other.value("SELECT to_regclass('leak') IS NULL"), "t", "row {row}");
    }
    assert_eq!(other.value("SELECT pg_backend_pid()"), backend, "the server connection was not touched");
}

#[test]
fn row_57_half_a_message_of_somebody_who_left_reaches_nobody() {
    let world = world();
    let mut other = world.client();
    let long = query(&format!("SELECT '{}'", "x".repeat(200_000)));
    for cut in [3, 5, 100, 70_000, 199_999] {
        let mut client = world.client();
        client.ask("BEGIN");
        client.send(&long[..cut]);
        client.vanish();
        assert_eq!(other.ask("SELECT 'mine'"), "T D:mine C:SELECT 1 Z:I", "cut after {cut}");
        let mut client = world.client();
        client.send(&[parse("", "SELECT 1"), sync(), long[..cut].to_vec()].concat());
        client.vanish();
        assert_eq!(other.ask("SELECT 'mine'"), "T D:mine C:SELECT 1 Z:I", "cut after {cut}");
    }
}
