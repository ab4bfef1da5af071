//! Every dependency's licence is one we agreed to, from the packages' own metadata and without network.

use std::process::Command;

const ALLOWED: [&str; 12] = [
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unlicense",
    "0BSD",
    "CC0-1.0",
    "Unicode-3.0",
    "BSL-1.0",
];

/// Named one by one, with the reason.
const EXCEPTIONS: [(&str, &str); 3] = [
    ("webpki-roots", "CDLA-Permissive-2.0"),      // certificate data
    ("webpki-root-certs", "CDLA-Permissive-2.0"), // certificate data
    ("jsonpath-rust", ""), // MIT by its licence file; below apollo-compiler, feature `local` only
];

/// An SPDX expression: all parts of an AND, any part of an OR. OR binds weaker; the old `MIT/Apache-2.0` is an OR.
fn is_allowed(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    let parts = split_outside_parentheses(&expression, " OR ");
    if parts.len() > 1 {
        return parts.into_iter().any(is_allowed);
    }
    let parts = split_outside_parentheses(&expression, " AND ");
    if parts.len() > 1 {
        return parts.into_iter().all(is_allowed);
    }
    let one = expression.trim();
    match one.strip_prefix('(').and_then(|inside| inside.strip_suffix(')')) {
        Some(inside) => is_allowed(inside),
        None => ALLOWED.contains(&one.trim_end_matches(" WITH LLVM-exception")),
    }
}

fn split_outside_parentheses<'a>(text: &'a str, separator: &str) -> Vec<&'a str> {
    let (mut parts, mut start) = (Vec::new(), 0);
    for (at, _) in text.match_indices(separator) {
        let before = &text[..at];
        if before.matches('(').count() == before.matches(')').count() {
            parts.push(&text[start..at]);
            start = at + separator.len();
        }
    }
    parts.push(&text[start..]);
    parts
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo and rustc print UTF-8")
}

#[test]
fn every_dependency_has_a_licence_we_agreed_to() {
    // For this platform only: the packages of others need not be on the disk, and nothing is fetched here.
    let version = run("rustc", &["-vV"]);
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host");
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let metadata =
        run(&cargo, &["metadata", "--offline", "--locked", "--format-version", "1", "--filter-platform", host]);
    let metadata: serde_json::Value = serde_json::from_str(&metadata).expect("cargo metadata prints JSON");
    let packages = metadata["packages"].as_array().expect("cargo metadata lists packages");
    assert!(packages.len() > 50, "only {} packages: the metadata is not whole", packages.len());
    let bad = packages.iter().filter_map(|package| {
        let name = package["name"].as_str().unwrap_or("?");
        let licence = package["license"].as_str().unwrap_or("");
        (!is_allowed(licence) && !EXCEPTIONS.contains(&(name, licence))).then(|| format!("{name}: `{licence}`"))
    });
    let bad: Vec<String> = bad.collect();
    assert!(bad.is_empty(), "not on the allow list; drop it, or argue it in docs/decisions:\n{}", bad.join("\n"));
}

#[test]
fn an_expression_is_read_with_or_weaker_than_and() {
    for good in ["MIT", "MIT/Apache-2.0", "GPL-3.0 OR MIT", "(MIT OR GPL-3.0) AND Unicode-3.0", "MIT AND (ISC)"] {
        assert!(is_allowed(good), "{good}");
    }
    for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND MPL-2.0", "MPL-2.0 OR GPL-3.0"] {
        assert!(!is_allowed(bad), "{bad}");
    }
}
