//! docs/errors.md is generated from the codes themselves. After a change: `O7S_REWRITE=1 cargo test --test it error_page`.

use ogelnates::cli::codes::chapters;

fn generated() -> String {
    let mut page = String::from(
        "# Error codes\n\nStable numbers: scripts may match on them, and none is used again for something else. \
         `o7s` prints them as `error[O7S1101]`,\nand as `code` with `--format json`. This page is made from the source by \
         `tests/it/error_page.rs`; what the program prints\nadds the place and the next step for the case at hand.\n",
    );
    for chapter in chapters() {
        let title = chapter.title;
        page.push_str(&format!("\n## {title}\n\n| code | what | cause and next step |\n|---|---|---|\n"));
        for code in chapter.codes {
            page.push_str(&format!("| {code} | {} | {} |\n", code.title, code.explanation));
        }
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
