//! docs/errors.md is generated from the codes themselves. After a change: `O7S_REWRITE=1 cargo test --test it error_page`.

use ogelnates::{manifest, plan};

fn generated() -> String {
    let mut page = String::from(
        "# Error codes\n\nStable numbers: scripts may match on them, and none is used again for something else. This page is \
         made from the\nsource by `tests/it/error_page.rs`; what the program prints adds the place and the next step for \
         the case at hand.\n\n## Manifests (exit 65)\n\n| code | what | cause and next step |\n|---|---|---|\n",
    );
    for code in manifest::Code::ALL {
        page.push_str(&format!("| {code} | {} | {} |\n", code.title(), code.explanation()));
    }
    page.push_str("\n## Plans (exit 3, 4 or 5)\n\n| code | what |\n|---|---|\n");
    for code in plan::Code::ALL {
        page.push_str(&format!("| {code} | {} |\n", code.about()));
    }
    page
}

#[test]
fn the_page_of_error_codes_is_what_the_source_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/errors.md");
    let page = generated();
    if std::env::var_os("O7S_REWRITE").is_some() {
        std::fs::write(path, &page).expect("the page can be written");
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == page, "docs/errors.md is behind the source: O7S_REWRITE=1 cargo test --test it error_page");
}
