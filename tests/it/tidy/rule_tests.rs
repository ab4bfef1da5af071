//! Each rule on a bad snippet and on a good one.

use super::rules::{self, Rule};
use super::scan::Source;

fn lines(rule: Rule, path: &str, text: &str) -> Vec<usize> {
    rule(&Source::new(path, text)).iter().map(|finding| finding.line).collect()
}

fn check(rule: Rule, bad: (&str, &str, &[usize]), good: &[(&str, &str)]) {
    let (path, text, expected) = bad;
    assert_eq!(lines(rule, path, text), expected, "bad: {path}\n{text}");
    for (path, text) in good {
        assert_eq!(lines(rule, path, text), Vec::<usize>::new(), "good: {path}\n{text}");
    }
}

#[test]
fn an_import_against_the_arrows_is_found_and_one_along_them_is_not() {
    let bad = "//! x\nuse crate::plan::Plan;\nuse crate::{tenancy::TenantId,\n    store::Store};\nfn f() { crate::cli::run() }\n";
    check(
        rules::arrows,
        ("src/railway/client.rs", bad, &[4, 5]),
        &[
            ("src/railway/client.rs", "use crate::plan::Plan;\nuse crate::railway::budget;\n// crate::store::x\n"),
            ("src/cli/plan.rs", "use crate::{operator, local::{up, down}, plan::Plan};"),
            ("src/plan/diff.rs", "use crate::manifest::Desired;\nuse crate::cost::Nanos;\nlet s = \"crate::cli\";"),
            ("src/lib.rs", "pub mod cli;"),
            ("tests/it/main.rs", "use crate::tidy;"),
        ],
    );
}

#[test]
fn the_pure_rooms_and_the_rooms_of_one_column_keep_their_order() {
    for (from, to) in [
        ("tenancy", "manifest"),
        ("manifest", "plan"),
        ("manifest", "cost"),
        ("cost", "plan"),
        ("store", "postgres"),
        ("local", "operator"),
        ("operator", "local"),
        ("plan", "store"),
        ("operator", "cli"),
    ] {
        let text = format!("//! x\nuse crate::{to}::X;\n");
        assert_eq!(lines(rules::arrows, &format!("src/{from}/a.rs"), &text), [2], "{from} -> {to}");
    }
}

#[test]
fn a_room_nobody_knows_is_found() {
    check(rules::arrows, ("src/shed/mod.rs", "//! x\n", &[1]), &[]);
}

#[test]
fn a_way_around_the_arrows_is_found() {
    check(
        rules::no_way_around_the_arrows,
        ("src/plan/diff.rs", "use super::live;\nuse super::super::store::X;\n", &[2]),
        &[
            ("src/local/world/volume.rs", "use super::super::faults::Fault;\n"),
            ("src/plan/diff.rs", "#[cfg(test)]\nmod tests { use super::super::live; }\n"),
            ("src/lib.rs", "pub mod cli;"),
        ],
    );
    check(rules::no_way_around_the_arrows, ("src/plan/mod.rs", "use super::store::X;\n", &[1]), &[]);
}

#[test]
fn a_file_without_a_front_page_is_found() {
    check(
        rules::front_page,
        ("src/plan/diff.rs", "use x;\n//! late\n", &[1]),
        &[("src/plan/diff.rs", "//! Want, have -> steps.\nuse x;\n"), ("README.md", "# Ogelnates\n")],
    );
}

#[test]
fn a_file_too_long_is_found() {
    check(
        rules::file_size,
        ("tests/it/a.rs", &"x\n".repeat(601), &[600]),
        &[("tests/it/a.rs", &"x\n".repeat(600)), ("docs/long.md", &"x\n".repeat(601))],
    );
}

#[test]
fn a_name_that_says_nothing_is_found() {
    check(rules::file_name, ("src/plan/utils.rs", "", &[1]), &[("src/plan/commonwealth.rs", "")]);
    check(rules::file_name, ("src/plan/helpers/order.rs", "", &[1]), &[]);
}

#[test]
fn io_clock_environment_and_chance_in_a_pure_room_are_found() {
    let bad = "use std::fs;\nfn now() { chrono::Utc::now() }\nasync fn f() {}\nlet x = rand::random();\n";
    check(
        rules::pure_rooms,
        ("src/plan/diff.rs", bad, &[3, 2, 4, 1]),
        &[
            (
                "src/plan/diff.rs",
                "//! No async, no tokio, no rand.\nfn branding() -> &'static str { \"std::env\" }\n",
            ),
            ("src/plan/diff.rs", "#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n"),
            ("src/plan/diff_tests.rs", "use std::fs;\n"),
            ("src/store/mod.rs", bad),
        ],
    );
    let around = "#[cfg(test)]\nmod diff_tests;\nuse std::net::TcpStream;\n";
    check(rules::pure_rooms, ("src/plan/mod.rs", around, &[3]), &[]);
}

#[test]
fn sql_text_outside_its_two_rooms_is_found() {
    let bad =
        "fn f() {\n    g(\"SELECT 1\");\n    g(r#\"\n  INSERT INTO t VALUES (1)\"#);\n    g(\"ALTER ROLE x\");\n}\n";
    check(
        rules::sql_text,
        ("src/local/postgres.rs", bad, &[2, 3, 5]),
        &[
            ("src/store/routes.rs", bad),
            ("src/postgres/admin.rs", bad),
            ("tests/it/postgres.rs", bad),
            (
                "src/cli/plan.rs",
                "// \"SELECT 1\"\nlet x = \"select a tenant\"; let y = \"UPDATE\"; let z = \"CREATE something\";",
            ),
        ],
    );
}

#[test]
fn printing_outside_cli_is_found() {
    let bad = "fn f() {\n    println!(\"x\");\n    anstream::eprint!(\"y\");\n}\n";
    check(
        rules::printing,
        ("src/operator/mod.rs", bad, &[2, 3]),
        &[
            ("src/cli/render.rs", bad),
            ("tests/it/a.rs", bad),
            ("src/operator/mod.rs", "//! println!\n#[cfg(test)]\nmod tests { fn f() { println!(\"x\") } }\n"),
            ("src/operator/mod.rs", "fn f() { write!(f, \"println!\") }\n"),
        ],
    );
}

#[test]
fn reading_the_environment_outside_cli_is_found() {
    let bad = "fn f() {\n    std::env::var(\"HOME\")\n}\n";
    check(
        rules::environment,
        ("src/local/mod.rs", bad, &[2]),
        &[
            ("src/cli/config.rs", bad),
            ("tests/it/a.rs", bad),
            ("src/local/mod.rs", "command.env(\"PGDATA\", folder);\n"),
        ],
    );
}

#[test]
fn a_main_that_works_is_found() {
    check(
        rules::main_size,
        ("src/main.rs", &"x\n".repeat(41), &[40]),
        &[("src/main.rs", &"x\n".repeat(40)), ("tests/it/main.rs", &"x\n".repeat(41))],
    );
}

#[test]
fn an_open_end_without_an_issue_is_found() {
    let mark = concat!("TO", "DO");
    let bad = format!("x\n// {mark}: later\n// {mark}(#x)\n");
    check(
        rules::open_ends,
        ("Makefile", &bad, &[2, 3]),
        &[
            ("src/plan/diff.rs", &format!("// {mark}(#12): when moves exist\n")),
            ("src/plan/diff.rs", &format!("fn {mark}LIST() {{}}\n")),
            ("Cargo.lock", &bad),
        ],
    );
}

#[test]
fn a_path_of_one_machine_is_found() {
    let home = concat!("/ho", "me/");
    check(
        rules::machine_paths,
        ("README.md", &format!("x\ncd {home}ann/o7s\n"), &[2]),
        &[
            ("README.md", &format!("https://example.com{home}page and a{home}b and ~{home}x\n")),
            ("README.md", "the homework /homestead/ /usr/lib/\n"),
        ],
    );
}

#[test]
fn a_registry_host_is_found_and_an_image_name_is_not() {
    let bad = format!("x\nsee https://{}.io/crates/x\n", "crates");
    check(
        rules::registry_hosts,
        ("README.md", &bad, &[2]),
        &[
            ("Cargo.lock", &bad),
            ("manifests/pools.yaml", &format!("image: {}.io/railwayapp-templates/postgres-ssl:17\n", "ghcr")),
        ],
    );
}

#[test]
fn what_looks_like_a_secret_is_found() {
    let bad = format!(
        "x\n{}{}\nRAILWAY_TOKEN={}\n-----BE{} PRIVATE KEY-----\n",
        concat!("ghp", "_"),
        "aB3".repeat(12),
        "k7Qz".repeat(6),
        "GIN"
    );
    check(
        rules::tokens,
        ("README.md", &bad, &[2, 3, 4]),
        &[
            ("Cargo.lock", &bad),
            ("README.md", "export RAILWAY_TOKEN=\"$TOKEN\"\nO7S_MASTER_KEY=0123456789abcdef0123456789abcdef\n"),
        ],
    );
}

#[test]
fn comments_strings_and_characters_are_told_from_code() {
    let text =
        "/* a /* b */ c */ let x = 'a'; let y = '\\''; fn f<'a>() {} \"s\\\"t\" r#\"u\"v\"# br\"\\\" // w\nend";
    let source = Source::new("src/plan/a.rs", text);
    assert_eq!(
        source.code.split_whitespace().collect::<Vec<_>>().join(" "),
        "let x = ; let y = ; fn f<'a>() {} b end"
    );
    let strings: Vec<&str> = source.strings.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(strings, ["s\\\"t", "u\"v", "\\"]);
    assert_eq!(source.code.len(), text.len());
}

#[test]
fn a_finding_reads_as_place_rule_and_way_out() {
    let finding = rules::front_page(&Source::new("src/plan/a.rs", "x")).remove(0).to_string();
    assert_eq!(finding, "src/plan/a.rs:1: a file opens with `//!`; say in one sentence what it holds and why");
}
