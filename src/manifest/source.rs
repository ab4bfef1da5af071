//! One file's text with its lines, so that every position named in an error can be shown.

use std::sync::Arc;

/// The text of one manifest file. Reading it from disk is the caller's work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// As it is printed in errors and causes: `manifests/tenants/acme.yaml`.
    pub path: String,
    pub text: String,
}

/// A place in a file: line and column count from 1, columns count characters. `width` is at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    pub line: u32,
    pub col: u32,
    pub width: u32,
}

impl Mark {
    /// The first character of a file: where errors about a whole file point.
    pub const START: Mark = Mark { line: 1, col: 1, width: 1 };
}

/// A [`Source`] split into lines.
#[derive(Debug)]
pub(super) struct File<'a> {
    pub path: Arc<str>,
    pub text: &'a str,
    /// Then characters are bytes, and a place in a line of a mebibyte is found without counting.
    ascii: bool,
    /// Each with the byte it starts at.
    lines: Vec<(usize, &'a str)>,
}

impl<'a> File<'a> {
    pub fn new(source: &'a Source) -> File<'a> {
        let (path, text) = (Arc::from(source.path.as_str()), source.text.as_str());
        File { path, text, ascii: text.is_ascii(), lines: split_lines(text) }
    }

    /// The nearest place that is in the file: at the end of a file the parser points one line further than an editor.
    pub fn clamp(&self, mark: Mark) -> Mark {
        let last = u32::try_from(self.lines.len()).unwrap_or(u32::MAX).max(1);
        let line = mark.line.clamp(1, last);
        let text = self.line(line);
        let end = 1 + if self.ascii { text.len() } else { text.chars().count() };
        let end = u32::try_from(end).unwrap_or(u32::MAX);
        // A mark behind the last line belongs behind that line's last character.
        let col = if mark.line > last { end } else { mark.col.clamp(1, end) };
        Mark { line, col, width: mark.width.clamp(1, (end - col).max(1)) }
    }

    /// Empty for a line that is not in the file.
    pub fn line(&self, number: u32) -> &'a str {
        let index = (number as usize).saturating_sub(1);
        self.lines.get(index).map_or("", |(_, line)| line)
    }

    /// What a line holds from a column on; empty behind its end.
    pub fn line_from(&self, number: u32, col: u32) -> &'a str {
        let (line, skip) = (self.line(number), (col as usize).saturating_sub(1));
        let start = if self.ascii { Some(skip) } else { line.char_indices().nth(skip).map(|(at, _)| at) };
        start.and_then(|start| line.get(start..)).unwrap_or("")
    }

    /// Line and column of a byte offset.
    pub fn mark_at(&self, offset: usize) -> Mark {
        let index = self.lines.partition_point(|(start, _)| *start <= offset).saturating_sub(1);
        let (start, line) = self.lines.get(index).copied().unwrap_or((0, ""));
        let col = line.char_indices().take_while(|(at, _)| start + at < offset).count() + 1;
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        self.clamp(Mark { line: number(index + 1), col: number(col), width: 1 })
    }
}

/// YAML's line breaks: LF, CR LF and a lone CR. What follows the last break is a line only if it holds something.
fn split_lines(text: &str) -> Vec<(usize, &str)> {
    let mut lines = Vec::new();
    let mut start = 0;
    while let Some(length) = text[start..].find(['\n', '\r']) {
        let end = start + length;
        lines.push((start, &text[start..end]));
        start = end + if text[end..].starts_with("\r\n") { 2 } else { 1 };
    }
    if start < text.len() || lines.is_empty() {
        lines.push((start, &text[start..]));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_at_each_kind_of_break() {
        assert_eq!(split_lines("a\nb\r\nc\rd"), [(0, "a"), (2, "b"), (5, "c"), (7, "d")]);
        assert_eq!(split_lines("a\n"), [(0, "a")]);
        assert_eq!(split_lines(""), [(0, "")]);
    }

    #[test]
    fn a_place_behind_the_end_becomes_the_end_of_the_last_line() {
        let source = Source { path: "x.yaml".into(), text: "a: [\n".into() };
        let file = File::new(&source);
        let mark = file.clamp(Mark { line: 2, col: 1, width: 9 });
        assert_eq!(mark, Mark { line: 1, col: 5, width: 1 });
    }

    #[test]
    fn a_byte_offset_becomes_line_and_character() {
        let source = Source { path: "x.yaml".into(), text: "é: 1\nüb: x\n".into() };
        let file = File::new(&source);
        let at = source.text.find('x').expect("there");
        assert_eq!((file.mark_at(at).line, file.mark_at(at).col), (2, 5));
    }
}
