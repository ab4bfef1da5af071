//! Rules about the source itself, run over the whole tree as one plain test. Read: scan, rules, rule_tests.

mod rule_tests;
mod rules;
mod scan;

use std::fs;
use std::path::{Path, PathBuf};

use scan::Source;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// What git ignores at the top (`/target`, `/.o7s`) and git's own folder; read from `.gitignore`, so git is not needed.
fn ignored(root: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string(root.join(".gitignore")).expect("the tree has a .gitignore");
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix('/'));
    lines.chain([".git"]).map(|name| root.join(name.trim_end_matches('/'))).collect()
}

fn files_below(folder: &Path, ignored: &[PathBuf], found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("cannot list {}: {error}", folder.display()))
        .map(|entry| entry.expect("an entry of a folder that was just listed"))
        .collect();
    entries.sort_by_key(fs::DirEntry::path);
    for entry in entries.into_iter().filter(|entry| !ignored.contains(&entry.path())) {
        let kind = entry.file_type().expect("a listed entry has a kind");
        match kind.is_dir() {
            true => files_below(&entry.path(), ignored, found),
            false if kind.is_file() => found.push(entry.path()),
            // A link's target is read where it lies, if it lies in the tree.
            false => {}
        }
    }
}

/// Every text file of the tree; what is not UTF-8 is no text.
fn tree() -> Vec<Source> {
    let root = root();
    let mut files = Vec::new();
    files_below(&root, &ignored(&root), &mut files);
    let read = |path: &PathBuf| {
        let text = String::from_utf8(fs::read(path).ok()?).ok()?;
        let name = path.strip_prefix(&root).expect("found below the root").to_str()?;
        Some(Source::new(name, &text))
    };
    files.iter().filter_map(read).collect()
}

#[test]
fn the_tree_is_tidy() {
    let tree = tree();
    // A walk that finds nothing would pass every rule.
    assert!(tree.iter().any(|source| source.path == "src/main.rs"), "the walk did not reach src/main.rs");
    let findings: Vec<String> = tree
        .iter()
        .flat_map(|source| rules::ALL.iter().flat_map(|rule| rule(source)))
        .map(|f| f.to_string())
        .collect();
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

/// A clock that is set must not end, hold or hurry anybody: on the way of a connection, times are `Instant`s.
#[test]
fn row_140_no_deadline_of_a_connection_knows_the_calendar() {
    let on_the_way = |path: &str| {
        let folders = ["worker/", "protocol/", "open/"];
        let files = ["listener.rs", "login.rs", "serve.rs", "throttle.rs", "wire.rs"];
        let within = path.strip_prefix("src/router/").unwrap_or_default();
        folders.iter().any(|folder| within.starts_with(folder)) || files.contains(&within)
    };
    // It dates what it has counted.
    let dates = |path: &str| path == "src/router/worker/meter.rs";
    let mut seen = 0;
    for source in tree().iter().filter(|source| on_the_way(&source.path) && !dates(&source.path)) {
        seen += usize::from(!scan::find_word(&source.product, "Instant").is_empty());
        for calendar in ["Utc", "SystemTime", "chrono"] {
            assert_eq!(scan::find_word(&source.product, calendar), [0_usize; 0], "{calendar} in {}", source.path);
        }
    }
    assert!(seen > 5, "the walk has reached files that have deadlines: {seen}");
}
