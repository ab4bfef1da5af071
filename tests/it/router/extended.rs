//! Rows 59 to 87: the extended protocol, pipelines, statements, portals.

use super::wire::*;
use super::world::{Wish, World, world};

#[expect(clippy::too_many_lines, reason = "a table")]
#[test]
fn rows_59_to_87_pipelines_are_answered_as_postgres_answers_them() {
    let world = world();
    let all = |name: &str| [describe(b'S', name), bind("", name, &[]), execute("", 0)].concat();
    let rows = "SELECT i FROM generate_series(1, 5) i";
    for (row, sent, heard) in [
        (
            "59_one_write",
            vec![parse("", "SELECT 1"), bind("", "", &[]), describe(b'P', ""), execute("", 0), sync()],
            "1 2 T D:1 C:SELECT 1 Z:I",
        ),
        ("61_sync_alone", vec![sync(), sync()], "Z:I Z:I"),
        (
            "63_error_in_the_middle",
            vec![run("SELECT 1/0"), run("SELECT 1"), sync(), run("SELECT 2"), sync()],
            "1 E:22012 Z:I 1 2 D:2 C:SELECT 1 Z:I",
        ),
        (
            "63_implicit_transaction",
            vec![
                query("CREATE TABLE t63 (a int)"),
                run("INSERT INTO t63 VALUES (1)"),
                run("SELECT 1/0"),
                sync(),
                query("SELECT count(*) FROM t63; DROP TABLE t63"),
            ],
            "C:CREATE TABLE Z:I 1 2 C:INSERT 0 1 1 E:22012 Z:I T D:0 C:SELECT 1 C:DROP TABLE Z:I",
        ),
        ("64_extended_then_simple", vec![parse("", "SELECT nope"), query("SELECT 1"), sync()], "E:42703 Z:I"),
        (
            "64_both_good",
            vec![run("SELECT 1"), query("SELECT 2"), sync()],
            "1 2 D:1 C:SELECT 1 T D:2 C:SELECT 1 Z:I Z:I",
        ),
        (
            "66_describe",
            vec![parse("a", "SELECT $1::int"), describe(b'S', "a"), sync(), describe(b'S', "a"), sync()],
            "1 t T Z:I t T Z:I",
        ),
        (
            "67_close",
            vec![
                parse("a", "SELECT 1"),
                close(b'S', "a"),
                parse("a", "SELECT 'x', 2"),
                all("a"),
                sync(),
                close(b'S', "none"),
                sync(),
            ],
            "1 3 1 t T 2 D:x C:SELECT 1 Z:I 3 Z:I",
        ),
        (
            "67_close_skipped",
            vec![
                parse("a", "SELECT 1"),
                sync(),
                run("SELECT 1/0"),
                close(b'S', "a"),
                parse("a", "SELECT 2"),
                sync(),
                all("a"),
                sync(),
                run("SELECT 1/0"),
                query("DEALLOCATE a"),
                sync(),
                all("a"),
                sync(),
            ],
            "1 Z:I 1 E:22012 Z:I t T 2 D:1 C:SELECT 1 Z:I 1 E:22012 Z:I t T 2 D:1 C:SELECT 1 Z:I",
        ),
        (
            "67_unknown_and_failed_names",
            vec![
                parse("a", "SELECT nope"),
                sync(),
                all("a"),
                sync(),
                bind("", "o7s_1", &[]),
                sync(),
                describe(b'S', "o7s_1"),
                sync(),
                close(b'S', "o7s_1"),
                sync(),
            ],
            "E:42703 Z:I E:26000 Z:I E:26000 Z:I E:26000 Z:I 3 Z:I",
        ),
        (
            "68_used_name",
            vec![parse("a", "SELECT 1"), sync(), parse("a", "SELECT 2"), sync(), all("a"), sync()],
            "1 Z:I E:42P05 Z:I t T 2 D:1 C:SELECT 1 Z:I",
        ),
        (
            "68_used_name_in_one",
            vec![parse("a", "SELECT 1"), parse("a", "SELECT 1"), sync(), all("a"), sync()],
            "1 E:42P05 Z:I t T 2 D:1 C:SELECT 1 Z:I",
        ),
        (
            "69_failed_parse",
            vec![
                parse("a", "SELECT a + 1 FROM t69"),
                sync(),
                query("CREATE TABLE t69 (a int)"),
                parse("a", "SELECT a + 1 FROM t69"),
                all("a"),
                sync(),
                query("DROP TABLE t69"),
            ],
            "E:42P01 Z:I C:CREATE TABLE Z:I 1 t T 2 C:SELECT 0 Z:I C:DROP TABLE Z:I",
        ),
        (
            "70_other_types",
            vec![
                parse_typed("a", "SELECT $1", &[23]),
                parse_typed("b", "SELECT $1", &[25]),
                bind("", "a", &[b"1"]),
                bind("p", "b", &[b"x"]),
                execute("", 0),
                execute("p", 0),
                sync(),
            ],
            "1 1 2 2 D:1 C:SELECT 1 D:x C:SELECT 1 Z:I",
        ),
        (
            "77_unnamed",
            vec![parse("", "SELECT 7"), sync(), bind("", "", &[]), execute("", 0), sync()],
            "1 Z:I 2 D:7 C:SELECT 1 Z:I",
        ),
        (
            "77_unnamed_gone",
            vec![parse("", "SELECT 7"), sync(), query("SELECT 1"), bind("", "", &[]), sync()],
            "1 Z:I T D:1 C:SELECT 1 Z:I E:26000 Z:I",
        ),
        (
            "77_never_parsed",
            vec![bind("", "", &[]), sync(), describe(b'S', ""), sync(), bind("", "none", &[]), sync()],
            "E:26000 Z:I E:26000 Z:I E:26000 Z:I",
        ),
        (
            "78_portal_with_limit",
            vec![
                query("BEGIN"),
                parse("", rows),
                bind("p", "", &[]),
                execute("p", 2),
                sync(),
                execute("p", 2),
                sync(),
                execute("p", 2),
                sync(),
                query("COMMIT"),
            ],
            "C:BEGIN Z:T 1 2 D:1 D:2 s Z:T D:3 D:4 s Z:T D:5 C:SELECT 1 Z:T C:COMMIT Z:I",
        ),
        (
            "78_portal_ends",
            vec![parse("", rows), bind("p", "", &[]), execute("p", 2), sync(), execute("p", 2), sync()],
            "1 2 D:1 D:2 s Z:I E:34000 Z:I",
        ),
        (
            "80_separate_names",
            vec![
                query("BEGIN"),
                parse("x", "SELECT 1"),
                bind("x", "x", &[]),
                close(b'P', "x"),
                execute("x", 0),
                sync(),
                query("ROLLBACK"),
                all("x"),
                sync(),
            ],
            "C:BEGIN Z:T 1 2 3 E:34000 Z:E C:ROLLBACK Z:I t T 2 D:1 C:SELECT 1 Z:I",
        ),
        (
            "81_binary",
            vec![
                parse_typed("", "SELECT $1::int, $2::text", &[23, 25]),
                bind_in("", "", &[1, 0], &[b"\0\0\0\x07", b"x"], &[0, 1]),
                execute("", 0),
                sync(),
                query("BEGIN; DECLARE c BINARY CURSOR FOR SELECT 1; FETCH c; COMMIT"),
            ],
            "1 2 D:7 C:SELECT 1 Z:I C:BEGIN C:DECLARE CURSOR T D:\0\0\0\u{1} C:FETCH 1 C:COMMIT Z:I",
        ),
        (
            "84_order",
            vec![
                parse("n", "CREATE TABLE t84 (a int)"),
                describe(b'S', "n"),
                bind("", "n", &[]),
                describe(b'P', ""),
                sync(),
            ],
            "1 t n 2 n Z:I",
        ),
        (
            "86_aborted",
            vec![query("BEGIN"), query("SELECT 1/0"), run("SELECT 1"), sync(), query("ROLLBACK")],
            "C:BEGIN Z:T E:22012 Z:E E:25P02 Z:E C:ROLLBACK Z:I",
        ),
        // int4pl, by number, with ints in binary; its answer in text.
        (
            "87_function_call",
            vec![
                message(b'F', b"\0\0\0\xb1\0\x01\0\x01\0\x02\0\0\0\x04\0\0\0\x01\0\0\0\x04\0\0\0\x02\0\0"),
                message(b'F', b"\0\0\0\x01\0\0\0\0\0\0"),
            ],
            "",
        ),
        (
            "75_sql_prepare",
            vec![
                query("PREPARE s AS SELECT 75"),
                query("EXECUTE s"),
                bind("", "s", &[]),
                execute("", 0),
                sync(),
                query("DEALLOCATE s"),
                query("EXECUTE s"),
            ],
            "C:PREPARE Z:I T D:75 C:SELECT 1 Z:I 2 D:75 C:SELECT 1 Z:I C:DEALLOCATE Z:I E:26000 Z:I",
        ),
        (
            "74_deallocate",
            vec![
                parse("a", "SELECT 1"),
                sync(),
                query("DEALLOCATE a"),
                bind("", "a", &[]),
                sync(),
                query("DEALLOCATE a"),
                query("DEALLOCATE ALL"),
            ],
            "1 Z:I C:DEALLOCATE Z:I E:26000 Z:I E:26000 Z:I C:DEALLOCATE ALL Z:I",
        ),
        (
            "74_discard",
            vec![
                parse("a", "SELECT 1"),
                sync(),
                query("DISCARD PLANS"),
                bind("", "a", &[]),
                sync(),
                query("DISCARD ALL"),
                bind("", "a", &[]),
                sync(),
            ],
            "1 Z:I C:DISCARD PLANS Z:I 2 Z:I C:DISCARD ALL Z:I E:26000 Z:I",
        ),
    ] {
        let told = world.compare(&sent.concat());
        if !heard.is_empty() {
            assert_eq!(told, heard, "row {row}");
        }
    }
}

#[test]
fn row_60_flush_brings_the_replies_and_the_server_connection_stays() {
    let world = world();
    let (mut a, mut b) = (world.client(), world.client());
    a.send(&[run("SELECT 1"), flush()].concat());
    assert_eq!(a.some(4), "1 2 D:1 C:SELECT 1");
    b.send(&query("SELECT 2"));
    b.hears_nothing();
    assert_eq!(a.tell(&sync()), "Z:I");
    assert_eq!(b.some(4), "T D:2 C:SELECT 1 Z:I");
    // A statement the router has already: what it answers itself must come as well.
    a.tell(&[parse("s", "SELECT 3"), sync()].concat());
    a.tell(&[close(b'S', "s"), sync()].concat());
    a.send(&[parse("s", "SELECT 3"), flush()].concat());
    assert_eq!(a.some(1), "1");
    assert_eq!(a.tell(&sync()), "Z:I");
}

#[test]
fn rows_61_62_syncs_are_each_answered() {
    let world = world();
    world.compare(&sync().repeat(1000));
    let mut pipeline = Vec::new();
    for n in 0..300 {
        pipeline.extend([run(&format!("SELECT {n}")), sync(), sync()].concat());
    }
    let told = world.compare(&pipeline);
    assert_eq!(told.matches("Z:I").count(), 600);
}

#[test]
fn rows_65_66_a_statement_is_prepared_wherever_it_is_needed() {
    let world = World::new(Wish { servers: 2, ..Wish::default() });
    let (mut a, mut b) = (world.client(), world.client());
    assert_eq!(a.tell(&[parse("s", "SELECT $1::int + 1"), sync()].concat()), "1 Z:I");
    // The server connection that knows it is taken; the next one does not.
    let mut holders = Vec::new();
    for _ in 0..2 {
        assert_eq!(a.tell(&[bind("", "s", &[b"1"]), execute("", 0), sync()].concat()), "2 D:2 C:SELECT 1 Z:I");
        assert_eq!(a.tell(&[describe(b'S', "s"), sync()].concat()), "t T Z:I");
        if holders.is_empty() {
            b.ask("BEGIN");
            holders.push(());
        }
    }
    b.ask("COMMIT");
    assert_eq!(b.tell(&[bind("", "s", &[b"1"]), sync()].concat()), "E:26000 Z:I", "it is a's name only");
    assert_eq!(
        b.tell(&[parse("s", "SELECT 'other'"), bind("", "s", &[]), execute("", 0), sync()].concat()),
        "1 2 D:other C:SELECT 1 Z:I"
    );
    assert_eq!(a.tell(&[bind("", "s", &[b"4"]), execute("", 0), sync()].concat()), "2 D:5 C:SELECT 1 Z:I");
}

#[test]
fn rows_67_74_what_one_closes_others_keep() {
    let world = world();
    let (mut a, mut b) = (world.client(), world.client());
    for client in [&mut a, &mut b] {
        assert_eq!(client.tell(&[parse("s", "SELECT 1"), sync()].concat()), "1 Z:I");
    }
    let used = [bind("", "s", &[]), execute("", 0), sync()].concat();
    for end in
        [[close(b'S', "s"), sync()].concat(), query("DEALLOCATE s"), query("DEALLOCATE ALL"), query("DISCARD ALL")]
    {
        a.tell(&end);
        assert_eq!(a.tell(&used), "E:26000 Z:I");
        assert_eq!(b.tell(&used), "2 D:1 C:SELECT 1 Z:I");
        a.tell(&[parse("s", "SELECT 1"), sync()].concat());
    }
}

#[test]
fn row_71_the_search_path_decides_what_a_text_means() {
    let world = world();
    world.direct().ask("CREATE SCHEMA one; CREATE SCHEMA two; CREATE TABLE one.t AS SELECT 1 AS a; CREATE TABLE two.t AS SELECT 2 AS a");
    let mut clients: Vec<_> =
        ["one", "two"].map(|path| world.client_with(&[("search_path", path)]).expect("logged in")).into();
    for client in &mut clients {
        client.tell(&[parse("s", "SELECT a FROM t"), sync()].concat());
    }
    for _ in 0..3 {
        for (client, a) in clients.iter_mut().zip(1..) {
            let told = client.tell(&[bind("", "s", &[]), execute("", 0), sync()].concat());
            assert_eq!(told, format!("2 D:{a} C:SELECT 1 Z:I"));
        }
    }
}

#[test]
fn row_73_a_table_that_has_changed_is_noticed_where_it_must_be() {
    let world = world();
    world.direct().ask("CREATE TABLE t AS SELECT 1 AS a");
    let mut a = world.client();
    a.tell(&[parse("s", "SELECT * FROM t"), sync()].concat());
    let described = [bind("", "s", &[]), describe(b'P', ""), execute("", 0), sync()].concat();
    let undescribed = [bind("", "s", &[]), execute("", 0), sync()].concat();
    assert_eq!(a.tell(&described), "2 T D:1 C:SELECT 1 Z:I");
    for (round, text) in ["b int", "c text", "d text"].iter().enumerate() {
        world.direct().ask(&format!("ALTER TABLE t ADD {text}"));
        a.send(&described);
        let heard = a.until_ready(1);
        assert_eq!(shown(&heard), "2 T D:1 C:SELECT 1 Z:I");
        let columns = heard[1].1[1];
        assert_eq!(usize::from(columns), round + 2);
    }
    world.direct().ask("ALTER TABLE t DROP b");
    assert_eq!(a.tell(&[describe(b'S', "s"), sync()].concat()), "t T Z:I");
    // Who relies on the columns it was told before must hear of it, and in a transaction there is no second try.
    world.direct().ask("ALTER TABLE t DROP c");
    assert_eq!(a.tell(&undescribed), "E:0A000 Z:I");
    a.ask("BEGIN");
    assert_eq!(a.tell(&described), "E:0A000 Z:E");
    a.ask("ROLLBACK");
    let anew = [close(b'S', "s"), parse("s", "SELECT * FROM t"), sync()].concat();
    assert_eq!(a.tell(&anew), "3 1 Z:I");
    assert_eq!(a.tell(&undescribed), "2 D:1 C:SELECT 1 Z:I");
}

#[test]
fn row_76_more_names_than_a_server_connection_keeps() {
    let world = world();
    let mut a = world.client();
    let parses: Vec<u8> = (0..1500).flat_map(|n| parse(&format!("s{n}"), &format!("SELECT {n}"))).collect();
    a.send(&[parses, sync()].concat());
    assert_eq!(a.until_ready(1).len(), 1501);
    for n in [0, 1499, 3, 700, 0] {
        let told = a.tell(&[bind("", &format!("s{n}"), &[]), execute("", 0), sync()].concat());
        assert_eq!(told, format!("2 D:{n} C:SELECT 1 Z:I"));
    }
    let kept: u32 = a.value("SELECT count(*) FROM pg_prepared_statements").parse().expect("a number");
    assert!(kept <= 520, "{kept}");
}

#[test]
fn row_76_a_request_of_very_many_messages_is_answered() {
    let world = world();
    let mut a = world.client();
    let parses: Vec<u8> = (0..9000).flat_map(|n| parse(&format!("s{n}"), "SELECT 1")).collect();
    a.send(&[parses, sync()].concat());
    assert_eq!(a.until_ready(1).len(), 9001);
}

#[test]
fn row_77_the_unnamed_statement_is_its_clients_own() {
    let world = world();
    let (mut a, mut b) = (world.client(), world.client());
    assert_eq!(a.tell(&[parse("", "SELECT 'a'"), sync()].concat()), "1 Z:I");
    assert_eq!(b.tell(&[bind("", "", &[]), execute("", 0), sync()].concat()), "E:26000 Z:I");
    b.tell(&[parse("", "SELECT 'b'"), sync()].concat());
    let used = [bind("", "", &[]), execute("", 0), sync()].concat();
    assert_eq!(a.tell(&used), "2 D:a C:SELECT 1 Z:I");
    assert_eq!(b.tell(&used), "2 D:b C:SELECT 1 Z:I");
}

#[test]
fn row_79_a_suspended_portal_without_sync_keeps_the_server_connection() {
    let world = world();
    let (mut a, mut b) = (world.client(), world.client());
    a.send(&[parse("", "SELECT generate_series(1, 4)"), bind("", "", &[]), execute("", 2), flush()].concat());
    assert_eq!(a.some(5), "1 2 D:1 D:2 s");
    b.send(&query("SELECT 'b'"));
    b.hears_nothing();
    assert_eq!(a.tell(&[execute("", 0), sync()].concat()), "D:3 D:4 C:SELECT 2 Z:I");
    assert_eq!(b.some(4), "T D:b C:SELECT 1 Z:I");
}

#[test]
fn rows_82_83_many_and_long_parameters_pass() {
    let world = world();
    let values: Vec<&[u8]> = vec![b"1"; 65_535];
    let many =
        [parse("m", "SELECT 1 WHERE $65535::int = 1"), bind("", "m", &values), execute("", 0), sync()].concat();
    world.compare(&many);
    let long = vec![b'x'; 8 << 20];
    let long = [parse("l", "SELECT length($1::text)"), bind("", "l", &[&long]), execute("", 0), sync()].concat();
    assert_eq!(world.compare(&long), "1 2 D:8388608 C:SELECT 1 Z:I");
}

#[test]
fn row_85_a_pipeline_nobody_reads_stands_still_and_goes_on() {
    let world = world();
    let mut a = world.client();
    let one = [run("SELECT repeat('x', 20000)"), sync()].concat();
    let all = one.repeat(1000);
    let rest = a.send_unread(&all).to_vec();
    let mut writer = a.second();
    let writing = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &rest));
    let heard = a.until_ready(1000);
    writing.join().expect("ended").expect("written");
    assert_eq!(heard.iter().filter(|(tag, _)| *tag == b'D').count(), 1000);
    assert_eq!(world.client().ask("SELECT 1"), "T D:1 C:SELECT 1 Z:I");
}

#[test]
fn row_76_whatever_way_all_names_are_forgotten_each_is_free_again() {
    let world = world();
    for all in ["DEALLOCATE ALL", "DISCARD ALL"] {
        let use_again = [parse("a", "SELECT 2"), bind("", "a", &[]), execute("", 0), sync()].concat();
        let prepared = [parse("a", "SELECT 1"), parse("all", all), sync()].concat();
        let forgotten = [bind("", "all", &[]), execute("", 0)].concat();
        // In one go, and with a Sync between; by a client that is pinned by then as well.
        let one = [&prepared[..], &forgotten, &use_again].concat();
        let two = [&prepared[..], &forgotten, &sync(), &use_again].concat();
        let pinned = [&query("LISTEN bell")[..], &prepared, &query(all), &use_again].concat();
        for bytes in [one, two, pinned] {
            assert!(world.compare(&bytes).contains("D:2"));
        }
    }
    let one =
        [query("LISTEN bell"), parse("a", "SELECT 1"), sync(), query("DEALLOCATE a"), parse("a", "SELECT 2"), sync()];
    assert!(!world.compare(&one.concat()).contains("E:"));
}
