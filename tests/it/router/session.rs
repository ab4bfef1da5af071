//! Rows 19 to 21, 95 and 96: what a session is told at its start, replication, and what is counted of it.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::wire::*;
use super::world::{Wish, World, soon, world};

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

/// A way to the server at `port` on which it gives itself out as of the version 99 once `upgraded`. Ends with the process.
fn way_to_a_server_that_is_upgraded(port: u16, upgraded: &Arc<AtomicBool>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let own = listener.local_addr().expect("bound").port();
    let upgraded = Arc::clone(upgraded);
    std::thread::spawn(move || {
        for router in listener.incoming().flatten() {
            let server = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
            let (mut from_router, mut to_server) =
                (router.try_clone().expect("cloned"), server.try_clone().expect("cloned"));
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from_router, &mut to_server);
                let _ = to_server.shutdown(std::net::Shutdown::Write);
            });
            let upgraded = Arc::clone(&upgraded);
            std::thread::spawn(move || passed_back(server, router, &upgraded));
        }
    });
    own
}

/// The end of its login comes in one piece.
fn passed_back(mut server: TcpStream, mut router: TcpStream, upgraded: &AtomicBool) {
    let mut part = [0; 64 * 1024];
    while let Ok(read @ 1..) = server.read(&mut part) {
        let name = b"server_version\0";
        if upgraded.load(Ordering::SeqCst)
            && let Some(at) = memchr::memmem::find(&part[..read], name)
        {
            part[at + name.len()..][..2].copy_from_slice(b"99");
        }
        if router.write_all(&part[..read]).is_err() {
            break;
        }
    }
    let _ = router.shutdown(std::net::Shutdown::Both);
}

#[test]
fn row_21_after_its_upgrade_a_server_is_announced_as_what_it_is() {
    let upgraded = Arc::new(AtomicBool::new(false));
    let way = way_to_a_server_that_is_upgraded(world().server().0, &upgraded);
    let world = World::new(Wish { at: Some(way), ..Wish::default() });
    let version = |client: &Client| {
        let told = client.parameters.iter().find(|(name, _)| name == "server_version");
        told.map(|(_, value)| value.clone()).expect("told")
    };
    let mut a = world.client();
    assert!(!version(&a).starts_with("99"));
    a.ask("SET work_mem = '5MB'");
    upgraded.store(true, Ordering::SeqCst);
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    world.direct().ask(end);
    soon("it is gone", || world.backends().is_empty());
    // Who was there before goes on, once the router has heard of the end; what is prepared for it says nothing of the version.
    soon("it goes on", || a.ask("SHOW work_mem") == "T D:5MB C:SHOW Z:I");
    for _ in 0..2 {
        assert!(version(&world.client()).starts_with("99"));
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
