//! Section 7.5 of docs/OGELNATES-ARCHITECTURE.md counts the seed fleet's manifests as the Kubernetes side was counted:
//! lines that are neither blank nor a comment nor a separator. The counting is done here, not by hand.

use std::fs;
use std::path::Path;

fn count(text: &str) -> (usize, usize) {
    let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
    let (separators, written): (Vec<&str>, Vec<&str>) = lines.partition(|line| *line == "---");
    (separators.len() + 1, written.len())
}

fn count_file(path: &Path) -> (usize, usize) {
    count(&fs::read_to_string(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display())))
}

#[test]
fn the_seed_fleet_is_as_long_as_the_architecture_document_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = ["fleet.yaml", "tiers.yaml", "pools.yaml", "router.yaml"];
    let mut rows: Vec<(String, (usize, usize))> =
        files.iter().map(|file| (format!("`{file}`"), count_file(&root.join("manifests").join(file)))).collect();
    let entries = fs::read_dir(root.join("manifests/tenants")).expect("the seed fleet has tenants");
    let tenants: Vec<_> = entries.map(|entry| count_file(&entry.expect("a listed entry").path())).collect();
    let tenant_sum = tenants.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    rows.push((format!("`tenants/`, {} files", tenants.len()), tenant_sum));
    let sum = rows.iter().fold((0, 0), |sum, (_, one)| (sum.0 + one.0, sum.1 + one.1));
    rows.push(("**all**".into(), sum));

    let document = fs::read_to_string(root.join("docs/OGELNATES-ARCHITECTURE.md")).expect("the document is there");
    let rows = rows.iter().map(|(name, (objects, lines))| format!("| {name} | {objects} | {lines} |"));
    let missing: Vec<String> = rows.filter(|row| !document.contains(row)).collect();
    assert!(missing.is_empty(), "section 7.5 lacks these rows; write them there:\n{}", missing.join("\n"));
}

#[test]
fn blank_lines_comments_and_separators_do_not_count() {
    assert_eq!(count("# why\nkind: A\n\n---\nkind: B\n  # note\nspec: {}\n"), (2, 3));
}
