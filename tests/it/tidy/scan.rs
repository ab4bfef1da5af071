//! Just enough of Rust's lexis to tell code from comments and strings, and product code from tests.

/// One file of the tree. For Rust, `code` is the text with comments, strings and characters blanked; every line break
/// stays, so an offset into it has the same line as in the file.
pub struct Source {
    pub path: String,
    pub text: String,
    pub code: String,
    /// `code` without what `#[cfg(test)]` guards; empty in files that hold only tests.
    pub product: String,
    /// Offset of its first character, and content, of each string literal in `product`.
    pub strings: Vec<(usize, String)>,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Source {
        let (code, mut strings) = if path.ends_with(".rs") { blank(text) } else { Default::default() };
        let mut product = if is_test_file(path) { String::new() } else { code.clone() };
        for (from, to) in test_ranges(&product) {
            product.replace_range(from..to, &blanks(&product[from..to]));
            strings.retain(|(at, _)| !(from..to).contains(at));
        }
        if product.is_empty() {
            strings.clear();
        }
        Source { path: path.into(), text: text.into(), code, product, strings }
    }

    /// `src/plan/diff.rs` is in room `plan`; `src/lib.rs` and everything outside `src/` is in none.
    pub fn room(&self) -> Option<&str> {
        let (room, _) = self.path.strip_prefix("src/")?.split_once('/')?;
        Some(room)
    }

    pub fn line_of(&self, offset: usize) -> usize {
        1 + self.text.as_bytes()[..offset].iter().filter(|&&byte| byte == b'\n').count()
    }
}

fn continues_name(c: Option<char>) -> bool {
    c.is_some_and(|c| c.is_alphanumeric() || c == '_')
}

/// Offsets where a name of `text` starts with `start`, or where `start` stands if it is punctuation.
pub fn find_start(text: &str, start: &str) -> Vec<usize> {
    let starts = |at: &usize| !continues_name(text[..*at].chars().next_back());
    text.match_indices(start).map(|(at, _)| at).filter(starts).collect()
}

/// Offsets where `word` stands in `text` and is no part of a longer name.
pub fn find_word(text: &str, word: &str) -> Vec<usize> {
    let ends = |at: &usize| {
        !continues_name(word.chars().next_back()) || !continues_name(text[at + word.len()..].chars().next())
    };
    find_start(text, word).into_iter().filter(ends).collect()
}

fn is_test_file(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    !path.starts_with("src/") || name == "tests.rs" || name.ends_with("_tests.rs")
}

/// From each `#[cfg(test)]` to the end of the item under it: its `;`, or the brace that closes it.
fn test_ranges(code: &str) -> Vec<(usize, usize)> {
    let mut ranges = Vec::new();
    let mut from = 0;
    let guard = |from: usize| ["#[cfg(test)]", "#[cfg(all(test"].iter().filter_map(|g| code[from..].find(g)).min();
    while let Some(at) = guard(from) {
        let start = from + at;
        from = item_end(code, start);
        ranges.push((start, from));
    }
    ranges
}

fn item_end(code: &str, start: usize) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(start) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth <= 1 => return at + 1,
            b'}' => depth -= 1,
            b';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

fn blanks(text: &str) -> String {
    text.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect()
}

/// The code with everything else blanked byte for byte, and the string literals.
fn blank(text: &str) -> (String, Vec<(usize, String)>) {
    let (mut code, mut strings, mut at) = (String::with_capacity(text.len()), Vec::new(), 0);
    while at < text.len() {
        let rest = &text[at..];
        let (length, string) = skippable(rest);
        if length == 0 {
            let c = rest.chars().next().expect("`at` is inside the text and on a character");
            code.push_str(if c.is_ascii() { &rest[..1] } else { "  " });
            code.push_str(&" ".repeat(c.len_utf8().saturating_sub(2)));
            at += c.len_utf8();
            continue;
        }
        if let Some((skip, content)) = string {
            strings.push((at + skip, content));
        }
        code.push_str(&blanks(&rest[..length]));
        at += length;
    }
    (code, strings)
}

/// Length of the comment, string or character that `rest` starts with (0: none), and a string's offset and content.
fn skippable(rest: &str) -> (usize, Option<(usize, String)>) {
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), None);
    }
    if rest.starts_with("/*") {
        return (block_comment(rest), None);
    }
    if rest.starts_with('"') {
        let end = quoted(rest, '"');
        return (end, Some((1, rest.get(1..end - 1).unwrap_or("").to_owned())));
    }
    // No name can stand right before a quote, so an `r` here opens a raw string (`br` and `cr` as well).
    if let Some((open, end)) = raw_string(rest) {
        return (end, Some((open, rest[open..end - (open - 1)].to_owned())));
    }
    (if rest.starts_with('\'') { character(rest) } else { 0 }, None)
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(step) = rest[at..].find(['/', '*']) {
        at += step;
        match rest.get(at..at + 2) {
            Some("/*") => (depth, at) = (depth + 1, at + 2),
            Some("*/") if depth == 1 => return at + 2,
            Some("*/") => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    rest.len()
}

/// Length up to and with the closing `quote`; a backslash hides the character behind it.
fn quoted(rest: &str, quote: char) -> usize {
    let mut hidden = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if hidden => hidden = false,
            '\\' => hidden = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// `r"…"`, `r#"…"#` and so on: length of the opening, and of the whole.
fn raw_string(rest: &str) -> Option<(usize, usize)> {
    let body = rest.strip_prefix('r')?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    let content = body[hashes..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    let end = content.find(&close)?;
    Some((hashes + 2, 2 * hashes + 3 + end))
}

/// Length of a character literal; 0 for a lifetime or label.
fn character(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), _) => quoted(rest, '\''),
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 0,
    }
}
