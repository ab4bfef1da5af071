//! The rules: each a pure function over one file, each with a bad and a good snippet in `rule_tests`.

use super::scan::{Source, find_start, find_word};

/// `path:line: rule; do this instead`
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    pub path: String,
    pub line: usize,
    pub rule: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.rule)
    }
}

pub type Rule = fn(&Source) -> Vec<Finding>;

pub const ALL: [Rule; 14] = [
    arrows,
    no_way_around_the_arrows,
    front_page,
    file_size,
    file_name,
    pure_rooms,
    sql_text,
    printing,
    environment,
    main_size,
    open_ends,
    machine_paths,
    registry_hosts,
    tokens,
];

const LINES_MAX: usize = 600;
const MAIN_LINES_MAX: usize = 40;

fn at_line(source: &Source, line: usize, rule: impl Into<String>) -> Finding {
    Finding { path: source.path.clone(), line, rule: rule.into() }
}

fn at(source: &Source, offset: usize, rule: impl Into<String>) -> Finding {
    at_line(source, source.line_of(offset), rule)
}

fn is_rust(source: &Source) -> bool {
    source.path.ends_with(".rs")
}

/// The rooms a room may use: those to its right, and in the pure column only this order.
fn may_use(room: &str) -> Option<Vec<&'static str>> {
    const WORKING: [&str; 5] = ["operator", "router", "billing", "dashboard", "local"];
    const DOORS: [&str; 3] = ["railway", "store", "postgres"];
    const PURE: [&str; 4] = ["manifest", "plan", "tenancy", "cost"];
    Some(match room {
        "tenancy" => vec![],
        "manifest" | "cost" => vec!["tenancy"],
        "plan" => vec!["manifest", "tenancy", "cost"],
        door if DOORS.contains(&door) => PURE.to_vec(),
        working if WORKING.contains(&working) => [&DOORS[..], &PURE].concat(),
        "cli" => [&WORKING[..], &DOORS, &PURE].concat(),
        _ => return None,
    })
}

fn is_pure(source: &Source) -> bool {
    matches!(source.room(), Some("manifest" | "plan" | "tenancy" | "cost"))
}

/// Tests of a room keep to the arrows too: one that needs more belongs into `tests/it`.
pub fn arrows(source: &Source) -> Vec<Finding> {
    let Some(room) = source.room() else { return Vec::new() };
    let Some(allowed) = may_use(room) else {
        let rule = format!("`{room}` is no room of the house; name it in tests/it/tidy/rules.rs with its arrows");
        return vec![at_line(source, 1, rule)];
    };
    let wrong = |(_, used): &(usize, String)| used != room && !allowed.contains(&used.as_str());
    let show = |(offset, used): (usize, String)| {
        let instead = "move the shared words to `tenancy`, or let a room to the left join the two";
        at(source, offset, format!("room `{room}` must not use `{used}`; {instead}"))
    };
    used_rooms(&source.code).into_iter().filter(wrong).map(show).collect()
}

/// The names behind `crate::`, also those of a group: `crate::{plan::Plan, tenancy}`.
fn used_rooms(code: &str) -> Vec<(usize, String)> {
    let mut used = Vec::new();
    for at in find_word(code, "crate::") {
        let from = at + "crate::".len();
        match code[from..].strip_prefix('{') {
            Some(group) => used.extend(group_heads(group).into_iter().map(|(o, name)| (from + 1 + o, name))),
            None => used.push((from, first_name(&code[from..]))),
        }
    }
    // `crate::Thing` names no room: only lib.rs could hold it, and it holds modules only.
    used.retain(|(_, name)| name.starts_with(|c: char| c.is_ascii_lowercase()));
    used
}

/// The first name of each part of a `{…}` group whose opening brace is already gone.
fn group_heads(group: &str) -> Vec<(usize, String)> {
    let (mut heads, mut depth, mut start) = (Vec::new(), 1_usize, 0);
    for (at, byte) in group.bytes().enumerate() {
        depth = match byte {
            b'{' => depth + 1,
            b'}' => depth - 1,
            _ => depth,
        };
        if depth == 0 || (byte == b',' && depth == 1) {
            let part = &group[start..at];
            let indent = part.len() - part.trim_start().len();
            heads.push((start + indent, first_name(part.trim_start())));
            start = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    heads
}

fn first_name(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

/// As many `super::` as a file is deep reach the crate's root, where the arrows cannot be seen.
pub fn no_way_around_the_arrows(source: &Source) -> Vec<Finding> {
    let Some(inside) = source.path.strip_prefix("src/").filter(|_| source.room().is_some()) else {
        return Vec::new();
    };
    let depth = inside.matches('/').count() + usize::from(!inside.ends_with("/mod.rs"));
    let chain = "super::".repeat(depth);
    let rule = "`super` reaches the crate's root; name the other room by `crate::…`";
    find_word(&source.product, &chain).into_iter().map(|offset| at(source, offset, rule)).collect()
}

pub fn front_page(source: &Source) -> Vec<Finding> {
    let missing = is_rust(source) && !source.text.starts_with("//!");
    let rule = "a file opens with `//!`; say in one sentence what it holds and why";
    missing.then(|| at_line(source, 1, rule)).into_iter().collect()
}

pub fn file_size(source: &Source) -> Vec<Finding> {
    let lines = source.text.lines().count();
    let rule =
        format!("{lines} lines, {LINES_MAX} are the end; split it by reason, tests into `x_tests.rs` next door");
    (is_rust(source) && lines > LINES_MAX).then(|| at_line(source, LINES_MAX, rule)).into_iter().collect()
}

pub fn file_name(source: &Source) -> Vec<Finding> {
    const BANNED: [&str; 6] = ["utils", "util", "helpers", "helper", "common", "misc"];
    let banned = source.path.split('/').find(|part| BANNED.contains(&part.trim_end_matches(".rs")));
    let rule = |part| format!("`{part}` says nothing about what it holds; name it after that");
    banned.map(|part| at_line(source, 1, rule(part))).into_iter().collect()
}

pub fn pure_rooms(source: &Source) -> Vec<Finding> {
    const IMPURE: [(&str, &str); 17] = [
        ("async", "do the waiting in a door or working room, and pass values in"),
        ("tokio", "do the waiting in a door or working room, and pass values in"),
        ("std::env", "let `cli` read it and pass it as an argument"),
        ("env::var", "let `cli` read it and pass it as an argument"),
        ("SystemTime", "take the time as an argument"),
        ("Instant", "take the time as an argument"),
        ("Utc::now", "take the time as an argument"),
        ("Local::now", "take the time as an argument"),
        ("rand", "take the random value as an argument"),
        ("new_v4", "take the id as an argument"),
        ("std::fs", "let `cli` or a door read it and pass the text"),
        ("File::open", "let `cli` or a door read it and pass the text"),
        ("std::net", "let a door talk to it"),
        ("std::process", "let a working room run it"),
        ("std::thread", "let a working room run it"),
        ("reqwest", "let `railway` talk to it"),
        ("sqlx", "let `store` or `postgres` talk to it"),
    ];
    let mut findings = Vec::new();
    for (word, instead) in IMPURE.iter().filter(|_| is_pure(source)) {
        let rule = format!("`{word}` in a pure room; {instead}");
        findings.extend(find_word(&source.product, word).into_iter().map(|offset| at(source, offset, rule.as_str())));
    }
    findings
}

pub fn sql_text(source: &Source) -> Vec<Finding> {
    // A session's own settings are part of the wire protocol, and said in SQL.
    if matches!(source.room(), Some("store" | "postgres")) || source.path.starts_with("src/router/protocol/") {
        return Vec::new();
    }
    let rule = "SQL text outside `store` and `postgres`; give one of them a function that says what you want";
    let sql = source.strings.iter().filter(|(_, text)| is_sql(text));
    sql.map(|(offset, _)| at(source, *offset, rule)).collect()
}

/// A heuristic over the first words, in capitals as we write SQL; "select a tenant" is prose.
fn is_sql(text: &str) -> bool {
    const ALONE: [&str; 6] = ["SELECT", "UPDATE", "GRANT", "REVOKE", "TRUNCATE", "NOTIFY"];
    const PAIRS: [(&str, &[&str]); 5] = [
        ("INSERT", &["INTO"]),
        ("DELETE", &["FROM"]),
        ("CREATE", &["TABLE", "DATABASE", "ROLE", "SCHEMA", "INDEX", "UNIQUE", "EXTENSION"]),
        ("ALTER", &["TABLE", "DATABASE", "ROLE", "SCHEMA", "SYSTEM", "DEFAULT"]),
        ("DROP", &["TABLE", "DATABASE", "ROLE", "SCHEMA", "INDEX"]),
    ];
    let mut words = text.split_whitespace();
    let (first, second) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let pair = |(verb, objects): &(&str, &[&str])| *verb == first && objects.contains(&second);
    (ALONE.contains(&first) && !second.is_empty()) || PAIRS.iter().any(pair)
}

pub fn printing(source: &Source) -> Vec<Finding> {
    const MACROS: [&str; 5] = ["println!", "eprintln!", "print!", "eprint!", "dbg!"];
    let mut findings = Vec::new();
    for word in MACROS.iter().filter(|_| source.room() != Some("cli")) {
        let rule = format!("`{word}` outside `cli`; return a value and let `cli` print it, or log with `tracing`");
        findings.extend(find_word(&source.product, word).into_iter().map(|offset| at(source, offset, rule.as_str())));
    }
    findings
}

pub fn environment(source: &Source) -> Vec<Finding> {
    const READS: [&str; 5] = ["env::var", "env::vars", "env::var_os", "env::vars_os", "env::temp_dir"];
    let mut findings = Vec::new();
    for word in READS.iter().filter(|_| source.room() != Some("cli")) {
        let rule = format!("`{word}` outside `cli`; let `cli::config` read it and pass it as an argument");
        findings.extend(find_word(&source.product, word).into_iter().map(|offset| at(source, offset, rule.as_str())));
    }
    findings
}

pub fn main_size(source: &Source) -> Vec<Finding> {
    let lines = source.text.lines().count();
    let rule = format!("main.rs has {lines} lines, {MAIN_LINES_MAX} are the end; move the work to `cli`");
    (source.path == "src/main.rs" && lines > MAIN_LINES_MAX)
        .then(|| at_line(source, MAIN_LINES_MAX, rule))
        .into_iter()
        .collect()
}

/// The text rules: `wrong` gives the rule that a line breaks, if any. Lock files are made by tools and left alone.
fn by_line(source: &Source, wrong: impl Fn(&str) -> Option<String>) -> Vec<Finding> {
    if source.path.ends_with(".lock") || source.path.ends_with("package-lock.json") {
        return Vec::new();
    }
    let lines = source.text.lines().enumerate();
    lines.filter_map(|(index, line)| wrong(line).map(|rule| at_line(source, index + 1, rule))).collect()
}

pub fn open_ends(source: &Source) -> Vec<Finding> {
    // Written in two halves, so that this file keeps its own rule.
    const MARKS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    by_line(source, |line| {
        let open = MARKS.iter().find(|mark| find_word(line, mark).iter().any(|&at| !names_issue(&line[at..])))?;
        Some(format!("`{open}` without an issue; file one and write `{}(#12)`, or do it now", MARKS[0]))
    })
}

fn names_issue(text: &str) -> bool {
    let inside = text.trim_start_matches(|c: char| c.is_ascii_alphabetic()).strip_prefix("(#");
    inside.and_then(|rest| rest.split_once(')')).is_some_and(|(n, _)| n.parse::<u32>().is_ok())
}

pub fn machine_paths(source: &Source) -> Vec<Finding> {
    const PLACES: [&str; 3] = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
    by_line(source, |line| {
        let starts_path = |at: usize| {
            let before = line[..at].chars().next_back();
            !before.is_some_and(|c| c.is_alphanumeric() || "_-.~}*/".contains(c))
        };
        let place = PLACES.iter().find(|place| line.match_indices(**place).any(|(at, _)| starts_path(at)))?;
        Some(format!("`{place}` is a path of one machine; use a relative path or a temporary folder"))
    })
}

pub fn registry_hosts(source: &Source) -> Vec<Finding> {
    const HOSTS: [&str; 8] = [
        concat!("crates", ".io"),
        concat!("npmjs", ".org"),
        concat!("npmjs", ".com"),
        concat!("pypi", ".org"),
        concat!("pythonhosted", ".org"),
        concat!("rubygems", ".org"),
        concat!("proxy.golang", ".org"),
        concat!("://ghcr", ".io"), // without a scheme it is the name of an image
    ];
    by_line(source, |line| {
        let host = HOSTS.iter().find(|host| line.contains(*host))?;
        Some(format!("`{host}` is a package registry's host; leave it to the package manager's own settings"))
    })
}

pub fn tokens(source: &Source) -> Vec<Finding> {
    by_line(source, |line| {
        let secret = looks_like_token(line) || assigned_secret(line);
        secret.then(|| "looks like a secret; remove it, revoke it, and read it from the environment".to_owned())
    })
}

fn looks_like_token(line: &str) -> bool {
    const STARTS: [(&str, usize); 10] = [
        (concat!("ghp", "_"), 36),
        (concat!("gho", "_"), 36),
        (concat!("ghs", "_"), 36),
        (concat!("github", "_pat_"), 40),
        (concat!("glpat", "-"), 20),
        (concat!("xoxb", "-"), 20),
        (concat!("sk", "_live_"), 20),
        (concat!("npm", "_"), 36),
        (concat!("AK", "IA"), 16),
        (concat!("ey", "J"), 60), // a JSON Web Token's header
    ];
    let body = |text: &str| text.chars().take_while(|c| c.is_ascii_alphanumeric() || "_-.".contains(*c)).count();
    let long = |(start, length): &(&str, usize)| {
        find_start(line, start).iter().any(|at| body(&line[at + start.len()..]) >= *length)
    };
    STARTS.iter().any(long) || (line.contains(concat!("-----BE", "GIN")) && line.contains("PRIVATE KEY"))
}

/// `RAILWAY_TOKEN=…` with a value of 20 characters or more that is no sample.
fn assigned_secret(line: &str) -> bool {
    const NAMES: [&str; 3] = ["RAILWAY_TOKEN=", "RAILWAY_API_TOKEN=", "O7S_MASTER_KEY="];
    let value = |at: usize| {
        let text = line[at..].trim_start_matches(['"', '\'']);
        text.chars().take_while(|c| c.is_ascii_alphanumeric() || "_-+/".contains(*c)).collect::<String>()
    };
    let real = |text: &str| text.len() >= 20 && !text.contains("0123456789") && !text.contains("example");
    NAMES.iter().any(|name| line.match_indices(name).any(|(at, _)| real(&value(at + name.len()))))
}
