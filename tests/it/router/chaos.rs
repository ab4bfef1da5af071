//! Clients that die after each of their messages, and many at once on one server connection.

use super::state::LEFT;
use super::wire::*;
use super::world::{Wish, World, world};

#[expect(clippy::too_many_lines, reason = "a table")]
fn scripts() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    vec![
        (
            "transaction",
            vec![
                query("BEGIN"),
                query("INSERT INTO t VALUES (1)"),
                query("SET work_mem = '1MB'"),
                query("SELECT 1/0"),
                query("ROLLBACK"),
            ],
        ),
        (
            "pipeline",
            vec![
                parse("s", "INSERT INTO t VALUES ($1)"),
                bind("", "s", &[b"x"]),
                execute("", 0),
                describe(b'S', "s"),
                close(b'S', "s"),
                sync(),
                run("SELECT 1"),
                flush(),
                sync(),
            ],
        ),
        (
            "portal",
            vec![
                query("BEGIN"),
                parse("", "SELECT generate_series(1, 9)"),
                bind("p", "", &[]),
                execute("p", 2),
                flush(),
                execute("p", 2),
                sync(),
            ],
        ),
        (
            "copy",
            vec![
                query("BEGIN"),
                query("COPY t FROM STDIN"),
                copy_data("1\n"),
                copy_data("2\n"),
                copy_done(),
                query("ROLLBACK"),
            ],
        ),
        (
            "copy_extended",
            vec![query("BEGIN"), run("COPY t FROM STDIN"), sync(), copy_data("1\n"), copy_fail("x"), sync()],
        ),
        (
            "state",
            vec![
                query("SET search_path TO nowhere"),
                query("CREATE TEMP TABLE x (a int)"),
                query("SELECT pg_advisory_lock(9)"),
                query("LISTEN c"),
                query("PREPARE p AS SELECT 1"),
                query("SET ROLE pg_monitor"),
                query("BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT"),
            ],
        ),
        (
            "slow",
            vec![
                query("SET statement_timeout = '1min'"),
                query("SELECT pg_sleep(0.05)"),
                query("BEGIN; SELECT pg_sleep(0.05)"),
                query("SELECT pg_sleep(5)"),
            ],
        ),
    ]
}

#[test]
fn a_client_cut_after_any_message_leaves_nothing_to_the_next() {
    let world = world();
    let mut next = world.client();
    next.ask("CREATE TABLE t (a text)");
    for (name, script) in scripts() {
        for cut in 1..=script.len() {
            for (answered, half) in [(true, false), (false, false), (false, true)] {
                let mut client = world.client();
                for message in &script[..cut] {
                    client.send(message);
                    if answered {
                        // Long enough for most answers to be under way.
                        std::thread::yield_now();
                    }
                }
                if half {
                    client.send(&query("INSERT INTO t VALUES ('half')")[..9]);
                }
                if answered && cut == script.len() {
                    client.send(&terminate());
                }
                client.vanish();
                let left = next.ask(LEFT);
                assert_eq!(left, "T D: C:SELECT 1 Z:I", "{name} cut after {cut}, {answered} {half}");
            }
        }
    }
    let rows = next.value("SELECT count(*) FROM t WHERE a = 'half'");
    assert_eq!(rows, "0");
}

#[test]
fn many_clients_on_one_server_connection_hear_their_own_answers() {
    let world = World::new(Wish::default());
    std::thread::scope(|scope| {
        for n in 0..8 {
            let world = &world;
            scope.spawn(move || {
                let mut client = world.client();
                client.ask(&format!("SET application_name = 'client{n}'"));
                client.tell(&[parse("s", "SELECT $1::text || current_setting('application_name')"), sync()].concat());
                let mut seed: u64 = n * 7 + 1;
                for q in 0..60 {
                    seed = (seed * 1_103_515_245 + 12_345) & 0x7fff_ffff;
                    let tag = format!("c{n}q{q}-");
                    let own = format!("D:{tag}client{n}");
                    match seed >> 8 & 3 {
                        0 => assert!(
                            client
                                .ask(&format!("SELECT '{tag}' || current_setting('application_name')"))
                                .contains(&own)
                        ),
                        1 => {
                            let told =
                                client.tell(&[bind("", "s", &[tag.as_bytes()]), execute("", 0), sync()].concat());
                            assert!(told.contains(&own), "{told}");
                        }
                        2 => {
                            client.send(
                                &[query("BEGIN"), run(&format!("SELECT '{tag}client{n}'")), sync(), query("COMMIT")]
                                    .concat(),
                            );
                            let told = shown(&client.until_ready(3));
                            assert!(told.contains(&own), "{told}");
                        }
                        _ => {
                            let told = client.tell(
                                &[run(&format!("SELECT '{tag}client{n}'")), run("SELECT 1/0"), sync()].concat(),
                            );
                            assert!(told.contains(&own) && told.ends_with("E:22012 Z:I"), "{told}");
                        }
                    }
                }
            });
        }
    });
    assert_eq!(world.client().value(LEFT), "");
}
