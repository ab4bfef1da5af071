//! Names and texts inside SQL. Statements that make roles and databases take no parameters, so they are built as text,
//! and this file is the only one that turns a value into SQL.

/// `"name"`, safe as an identifier: quotes inside are doubled. Postgres allows no zero byte in a name, so none is sent.
pub fn name(text: &str) -> String {
    format!("\"{}\"", text.replace('\0', "").replace('"', "\"\""))
}

/// `'text'`, safe as a literal whatever `standard_conforming_strings` says.
pub fn text(text: &str) -> String {
    let escaped = text.replace('\0', "").replace('\'', "''");
    if escaped.contains('\\') { format!(" E'{}'", escaped.replace('\\', "\\\\")) } else { format!("'{escaped}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_backslashes_cannot_end_what_they_are_in() {
        assert_eq!(name("a\"b"), "\"a\"\"b\"");
        assert_eq!(text("it's"), "'it''s'");
        assert_eq!(text("a\\'b"), " E'a\\\\''b'");
        assert_eq!(text("a\0b"), "'ab'");
    }
}
