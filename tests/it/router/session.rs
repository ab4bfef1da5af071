//! Rows 19 to 21, 95 and 96: what a session is told at its start, replication, and what is counted of it.

use super::wire::*;
use super::world::world;

#[test]
fn rows_19_20_the_parameters_at_login_are_this_clients_own() {
    let world = world();
    for _ in 0..2 {
        for zone in ["Asia/Tokyo", "Europe/Vienna"] {
            let mut a = world.client_with(&[("TimeZone", zone), ("application_name", "")]).expect("logged in");
            let told = |name: &str| a.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| &**value);
            assert_eq!((told("TimeZone"), told("application_name")), (Some(zone), Some("")));
            assert_eq!(a.ask("SHOW TimeZone"), format!("T D:{zone} C:SHOW Z:I"));
            assert_eq!(a.ask("SHOW application_name"), "T D: C:SHOW Z:I");
        }
    }
}

#[test]
fn row_95_replication_passes_both_ways_on_a_server_connection_of_its_own() {
    let world = world();
    let at = world.direct().value("SELECT pg_current_wal_lsn()");
    let mut a = world.client_with(&[("replication", "database")]).expect("logged in");
    assert!(a.ask("IDENTIFY_SYSTEM").ends_with("C:IDENTIFY_SYSTEM Z:I"));
    a.send(&query(&format!("START_REPLICATION PHYSICAL {at}")));
    assert_eq!(a.some(1), "W");
    world.direct().ask("CREATE TABLE t (a int)");
    let (tag, body) = a.next().expect("some WAL");
    assert_eq!((tag, matches!(body[0], b'w' | b'k')), (b'd', true));
    // A status update, which asks for an answer.
    let status = [&b"r"[..], &[0; 32], &[1]].concat();
    a.send(&message(b'd', &status));
    while a.next().expect("an answer").1.first() != Some(&b'k') {}
    a.send(&copy_done());
    let rest = shown(&a.until_ready(1));
    assert!(rest.ends_with("Z:I"), "{rest}");
}

#[test]
fn row_96_every_byte_is_counted() {
    let world = world();
    let mut a = world.client();
    let before = world.counts();
    let sent = [
        query("CREATE TEMP TABLE t (a text); COPY t FROM STDIN"),
        copy_data(&"x\n".repeat(10_000)),
        copy_done(),
        query("COPY t TO STDOUT"),
    ];
    let mut heard = Vec::new();
    for bytes in &sent {
        a.send(bytes);
    }
    heard.extend(a.until_ready(2));
    let bytes: usize = heard.iter().map(|(_, body)| body.len() + 5).sum();
    let after = world.counts();
    let total: usize = sent.iter().map(Vec::len).sum();
    assert_eq!(after.bytes_in - before.bytes_in, total as u64);
    assert_eq!(after.bytes_out - before.bytes_out, bytes as u64);
}
