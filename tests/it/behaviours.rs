//! Every numbered behaviour in `docs/local-railway.md` has a test of its number.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[test]
fn each_behaviour_of_the_local_railway_has_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let page = read("docs/local-railway.md");
    let number = |line: &str| line.strip_prefix("| ")?.split_once(' ')?.0.parse::<u32>().ok();
    let promised: BTreeSet<u32> = page.lines().filter_map(number).collect();
    let tests = [
        "src/local/graphql_tests.rs",
        "src/local/world/behaviour_tests.rs",
        "src/local/world/change_set_tests.rs",
        "src/local/world/rules_tests.rs",
        "tests/it/local_sleep.rs",
    ];
    let number = |line: &str| line.trim().split_once("fn behaviour_")?.1.split_once('_')?.0.parse::<u32>().ok();
    let tested: BTreeSet<u32> =
        tests.iter().flat_map(|path| read(path).lines().filter_map(number).collect::<Vec<_>>()).collect();
    assert!(promised.len() >= 20, "the page has its table: {promised:?}");
    assert_eq!(promised, tested, "promised and tested");
}
