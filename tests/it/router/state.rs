//! Rows 97 to 112 and 146: what a session leaves behind, where sessions share a server connection.

use super::wire::*;
use super::world::{soon, world};

/// What a session of Postgres can leave; empty where it left nothing.
pub const LEFT: &str = "SELECT concat_ws(' ', \
    (SELECT 'lock' FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() LIMIT 1), \
    (SELECT 'cursor' FROM pg_cursors LIMIT 1), \
    (SELECT 'listen' FROM pg_listening_channels() LIMIT 1), \
    (SELECT 'temp' FROM pg_class WHERE relpersistence = 't' LIMIT 1), \
    (SELECT 'statement ' || name FROM pg_prepared_statements WHERE name NOT LIKE 'o7s%' LIMIT 1), \
    (SELECT 'transaction' WHERE pg_current_xact_id_if_assigned() IS NOT NULL), \
    (SELECT 'role' WHERE current_user <> 'postgres' OR session_user <> 'postgres'), \
    (SELECT string_agg(name || '=' || setting, ' ') FROM pg_settings \
        WHERE source = 'session' AND name NOT IN ('application_name', 'client_encoding')))";

#[test]
fn row_97_a_set_belongs_to_its_client() {
    let world = world();
    let (mut a, mut b) = (world.client(), world.client());
    let usual = b.value("SHOW work_mem");
    assert_eq!(a.ask("SET work_mem = '1MB'"), "C:SET Z:I");
    a.ask("set session time zone 'Asia/Tokyo'");
    a.tell(&[run("SET search_path TO a, \"B c\""), sync()].concat());
    for _ in 0..2 {
        assert_eq!(b.value("SHOW work_mem"), usual);
        assert_eq!(b.value(LEFT), "");
        assert_eq!(a.value("SHOW work_mem"), "1MB");
        assert_eq!(a.value("SHOW TimeZone"), "Asia/Tokyo");
        assert_eq!(a.value("SHOW search_path"), "a, \"B c\"");
    }
}

#[test]
fn rows_98_99_what_rolls_back_or_is_local_is_forgotten() {
    let world = world();
    for sent in [
        "BEGIN; SET work_mem = '1MB'; ROLLBACK",
        "BEGIN; SET LOCAL work_mem = '1MB'; COMMIT",
        "SET work_mem = '1MB'; SELECT 1/0",
        "SET LOCAL work_mem = '1MB'",
    ] {
        let (mut a, mut b) = (world.client(), world.client());
        let usual = b.value("SHOW work_mem");
        a.ask(sent);
        assert_eq!(a.value("SHOW work_mem"), usual, "{sent}");
        b.ask("SET work_mem = '2MB'");
        assert_eq!(a.value("SHOW work_mem"), usual, "{sent}");
        assert_eq!(b.value("SHOW work_mem"), "2MB", "{sent}");
    }
    let (mut a, mut b) = (world.client(), world.client());
    a.ask("BEGIN; SET work_mem = '1MB'; SAVEPOINT s; SET work_mem = '3MB'; ROLLBACK TO s; COMMIT");
    a.ask("SELECT 1");
    drop(b.second());
    assert_eq!(a.value("SHOW work_mem"), "1MB");
    a.send(&terminate());
    assert_eq!(b.value(LEFT), "");
}

#[test]
fn row_101_reset_goes_back_to_what_the_client_started_with() {
    let world = world();
    let mut b = world.client();
    for reset in ["RESET search_path", "RESET ALL", "SET search_path TO DEFAULT", "DISCARD ALL"] {
        let mut a = world.client_with(&[("options", "-c search_path=one")]).expect("logged in");
        assert_eq!(a.value("SHOW search_path"), "one");
        a.ask("SET search_path TO two");
        b.ask("SELECT 1");
        assert_eq!(a.value("SHOW search_path"), "two");
        a.ask(reset);
        b.ask("SELECT 1");
        assert_eq!(a.value("SHOW search_path"), "one", "{reset}");
        assert_eq!(b.value("SHOW search_path"), "\"$user\", public", "{reset}");
    }
}

/// Does `what`, which pins; another client must wait for the server connection, and find it clean once the first is gone.
fn pins(what: &[&str]) {
    let world = world();
    world.direct().ask("CREATE SEQUENCE s; CREATE TABLE t (a serial)");
    for leave in [terminate(), Vec::new()] {
        let (mut a, mut b) = (world.client(), world.client());
        for sql in what {
            let told = a.ask(sql);
            assert!(!told.contains("E:"), "{sql}: {told}");
        }
        b.send(&query(LEFT));
        b.hears_nothing();
        a.send(&leave);
        a.vanish();
        assert_eq!(b.some(4), "T D: C:SELECT 1 Z:I", "{what:?}");
    }
}

#[test]
fn row_100_set_config_pins() {
    pins(&["SELECT pg_catalog.set_config('search_path', '', false)"]);
}

#[test]
fn row_102_another_role_pins_and_is_never_lent() {
    pins(&["SET ROLE pg_read_all_data"]);
    pins(&["SET SESSION AUTHORIZATION pg_monitor"]);
    pins(&["SET LOCAL work_mem = '1MB'; SET ROLE pg_read_all_data"]);
}

#[test]
fn row_103_read_only_is_no_strangers_fate() {
    let world = world();
    let (mut a, mut b) = (world.client(), world.client());
    a.ask("SET default_transaction_read_only = on");
    assert_eq!(b.ask("CREATE TABLE t (a int)"), "C:CREATE TABLE Z:I");
    assert_eq!(a.ask("CREATE TABLE u (a int)"), "E:25006 Z:I");
    assert_eq!(b.ask("DROP TABLE t"), "C:DROP TABLE Z:I");
}

#[test]
fn row_104_do_pins() {
    pins(&["DO $$ BEGIN PERFORM set_config('work_mem', '1MB', false); END $$"]);
}

#[test]
fn rows_105_to_108_and_110_state_that_cannot_be_carried_pins() {
    pins(&["CREATE TEMP TABLE x (a int)"]);
    pins(&["SELECT 1 AS a INTO TEMP x"]);
    pins(&["BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1", "COMMIT"]);
    pins(&["SELECT pg_advisory_lock(1)"]);
    pins(&["SELECT pg_try_advisory_lock_shared(1, 2)"]);
    pins(&["LISTEN a"]);
    pins(&["SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"]);
    pins(&["PREPARE p AS SELECT 1"]);
}

#[test]
fn more_settings_than_are_carried_pin() {
    let many: Vec<String> = (0..200).map(|n| format!("SET x.v{n} = '{n}'")).collect();
    pins(&[&many.join(";")]);
    pins(&[&format!("SET x.v = '{}'", "z".repeat(60_000))]);
}

#[test]
fn texts_whose_quotes_are_in_doubt_pin() {
    pins(&["SET client_encoding = 'SJIS'"]);
    for (name, value, text) in [
        ("client_encoding", "SJIS", "SELECT 'é'"),
        ("standard_conforming_strings", "off", r"SELECT '\' ; SET work_mem = '6MB'; --'"),
    ] {
        let world = world();
        let (mut a, mut b) = (world.client_with(&[(name, value)]).expect("logged in"), world.client());
        a.ask(text);
        b.send(&query("SHOW work_mem"));
        b.hears_nothing();
        a.send(&terminate());
        assert_eq!(b.some(4), "T D:4MB C:SHOW Z:I", "{name}");
    }
}

#[test]
fn row_107_locks_end_with_their_client() {
    let world = world();
    let mut a = world.client();
    a.tell(&[parse("l", "SELECT pg_advisory_lock(7)"), sync(), bind("", "l", &[]), execute("", 0), sync()].concat());
    a.until_ready(1);
    a.vanish();
    let mut direct = world.direct();
    soon("the lock is free", || {
        direct.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())") == "0"
    });
}

#[test]
fn rows_108_109_notifications_arrive_in_order_and_none_is_lost() {
    let world = world();
    let (mut listener, mut sender) = (world.client(), world.direct());
    listener.ask("LISTEN a");
    for n in 0..200 {
        sender.ask(&format!("NOTIFY a, '{n}'"));
        if n % 10 == 0 {
            listener.send(&query("SELECT 1"));
        }
    }
    let mut heard = Vec::new();
    while heard.len() < 200 {
        let (tag, body) = listener.next().expect("it stays");
        if tag == b'A' {
            let payload = body[6..].split(|&byte| byte == 0).next().expect("text");
            heard.push(String::from_utf8_lossy(payload).parse::<u32>().expect("a number"));
        }
    }
    assert_eq!(heard, (0..200).collect::<Vec<_>>());
}

#[test]
fn row_112_discard_all_of_a_clean_session_needs_no_server() {
    let world = world();
    let (mut a, mut b) = (world.client(), world.client());
    a.tell(&[parse("s", "SELECT 1"), sync()].concat());
    b.ask("BEGIN");
    assert_eq!(a.ask("DISCARD ALL"), "C:DISCARD ALL Z:I");
    b.ask("COMMIT");
    assert_eq!(a.tell(&[bind("", "s", &[]), sync()].concat()), "E:26000 Z:I");
}

#[test]
fn row_146_sequences_tell_no_client_another_ones_value() {
    let world = world();
    let (mut a, mut b) = (world.client(), world.client());
    a.ask("CREATE SEQUENCE s");
    a.ask("SELECT nextval('s')");
    assert_eq!(b.ask("SELECT lastval()"), "T E:55000 Z:I");
    b.send(&terminate());
    let mut c = world.client();
    assert_eq!(c.ask("SELECT currval('s')"), "T E:55000 Z:I");
    c.send(&terminate());
    let mut d = world.client();
    assert_eq!(
        d.ask("BEGIN; SELECT nextval('s') > 0; SELECT lastval() > 0; COMMIT"),
        "C:BEGIN T D:t C:SELECT 1 T D:t C:SELECT 1 C:COMMIT Z:I"
    );
}
