//! The examples of docs/manifests.md are one valid fleet, and the page names every key a manifest may hold.

use ogelnates::manifest::{Problems, Source, load};

fn page() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/manifests.md");
    std::fs::read_to_string(path).expect("the page is in the tree")
}

/// The fenced YAML blocks, each as a file named after the page.
fn examples(page: &str) -> Vec<Source> {
    let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let source =
        |(index, text): (usize, &str)| Source { path: format!("docs/manifests.md-{index}"), text: text.into() };
    blocks.enumerate().map(source).collect()
}

#[test]
fn the_examples_of_the_manifest_page_are_one_valid_fleet() {
    let examples = examples(&page());
    assert_eq!(examples.len(), 5, "one block a kind");
    let fleet = load(&examples).unwrap_or_else(|problems| panic!("{}", problems.render()));
    assert_eq!((fleet.tiers.len(), fleet.pools.len(), fleet.routers.len(), fleet.tenants.len()), (2, 2, 1, 2));
}

/// What may stand in a map is asked of the checks themselves: each lists the allowed keys when it meets an unknown one.
#[test]
fn the_manifest_page_names_every_key() {
    let page = page();
    let mut asked = 0;
    for source in examples(&page) {
        for text in with_unknown_keys(&source.text) {
            let problems = load(&[Source { path: "asked.yaml".into(), text }]).expect_err("a key is unknown");
            for key in allowed_keys(&problems) {
                asked += 1;
                let named = page.contains(&format!("{key}`")) || page.contains(&format!("{key}:"));
                assert!(named, "docs/manifests.md does not name the key `{key}`");
            }
        }
    }
    assert!(asked > 60, "only {asked} keys were asked for: the errors no longer list them");
}

/// The text with `nonsense: 1` put into each of its maps in turn.
fn with_unknown_keys(text: &str) -> Vec<String> {
    let inline = text.match_indices("{ ").map(|(at, open)| {
        let (before, after) = text.split_at(at + open.len());
        format!("{before}nonsense: 1, {after}")
    });
    let block = text.match_indices("spec:\n").map(|(at, open)| {
        let (before, after) = text.split_at(at + open.len());
        format!("{before}  nonsense: 1\n{after}")
    });
    inline.chain(block).collect()
}

/// "expected one of a, b, c", or "expected `a`".
fn allowed_keys(problems: &Problems) -> Vec<String> {
    let views = problems.views();
    let about = views.iter().filter(|view| view.message.contains("nonsense"));
    let lists = about.filter_map(|view| view.help.lines().next()?.strip_prefix("expected "));
    let words = lists.flat_map(|list| list.strip_prefix("one of ").unwrap_or(list).split(", "));
    words.map(|word| word.trim_matches('`').to_owned()).collect()
}
