//! Everything that is wrong with the manifests, each error at the place it was written.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::code::Code;
use super::source::{File, Mark};
use crate::tenancy::FleetName;

/// A run that finds more keeps the first and says how many it left out.
const PROBLEMS_MAX: usize = 1_000;
/// Longer source lines are cut around the place.
const SHOWN_MAX: usize = 110;
/// Longer texts of the user are cut where a message quotes them.
const QUOTED_MAX: usize = 60;

/// One error. The fields of the place count from 1; columns count characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub code: Code,
    pub path: Arc<str>,
    pub line: u32,
    pub col: u32,
    /// One line: what is wrong.
    pub message: String,
    /// What was expected, and the nearest right word.
    pub help: String,
    /// The source line as shown (cut, control characters replaced) and where its mark goes; absent for errors about
    /// a whole file.
    shown: Option<Shown>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Shown {
    text: String,
    /// Characters in front of the carets, and how many carets.
    indent: usize,
    width: usize,
}

impl Problem {
    /// About a file or folder as a whole, or one that could not be read.
    pub fn of_path(code: Code, path: &str, message: impl Into<String>, help: impl Into<String>) -> Problem {
        let (message, help) = (printable(&message.into()), help.into());
        Problem { code, path: Arc::from(path), line: 1, col: 1, message, help, shown: None }
    }

    /// At a byte of a text that is not valid UTF-8, so that there is no line to show.
    pub fn at_line(mut self, line: u32, col: u32) -> Problem {
        (self.line, self.col) = (line, col);
        self
    }

    fn in_file(file: &File<'_>, mark: Mark, code: Code, message: String, help: String) -> Problem {
        let mark = file.clamp(mark);
        let message = printable(&message);
        let shown = (!file.text.is_empty()).then(|| show(file, mark));
        Problem { code, path: Arc::clone(&file.path), line: mark.line, col: mark.col, message, help, shown }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { code, line, col, message, .. } = self;
        writeln!(f, "{}:{line}:{col}: error[{code}]: {message}", printable(&self.path))?;
        let margin = " ".repeat(line.to_string().len());
        if let Some(shown) = &self.shown {
            writeln!(f, "{margin} |\n{line} | {}", shown.text)?;
            writeln!(f, "{margin} | {}{}", " ".repeat(shown.indent), "^".repeat(shown.width))?;
        }
        self.help.lines().try_for_each(|help| writeln!(f, "{margin} = {help}"))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f)
    }
}

/// Cuts a long line around the mark and makes every character take one cell, so that the carets stand right.
fn show(file: &File<'_>, mark: Mark) -> Shown {
    let col = mark.col as usize - 1;
    let start = if col > SHOWN_MAX - 30 { col - 40 } else { 0 };
    let rest = file.line_from(mark.line, u32::try_from(start + 1).unwrap_or(u32::MAX));
    let mut text: String = rest.chars().take(SHOWN_MAX).map(visible).collect();
    let length = text.chars().count();
    let width = (mark.width as usize).min(length.saturating_sub(col - start)).max(1);
    if rest.chars().nth(SHOWN_MAX).is_some() {
        text.push('…');
    }
    let cut = if start > 0 { "…" } else { "" };
    Shown { text: format!("{cut}{}", text.trim_end()), indent: col - start + cut.chars().count(), width }
}

/// A terminal must not obey what a manifest holds: no escape sequence, no text direction trick.
fn visible(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '·',
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => '·',
        c => c,
    }
}

fn printable(text: &str) -> String {
    text.chars().map(visible).collect()
}

/// A user's text inside a message: in backquotes, on one line, cut when long.
pub(super) fn quote(text: &str) -> String {
    let cut: String = text.chars().take(QUOTED_MAX).map(visible).collect();
    let more = if text.chars().nth(QUOTED_MAX).is_some() { "…" } else { "" };
    format!("`{cut}{more}`")
}

/// At least one error, in the order of their places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    list: Vec<Problem>,
    left_out: usize,
    /// Whose manifests they are, where that could be read.
    fleet: Option<FleetName>,
}

impl Problems {
    pub fn one(problem: Problem) -> Problems {
        Problems { list: vec![problem], left_out: 0, fleet: None }
    }

    /// `None` when there are none.
    pub fn of(list: Vec<Problem>) -> Option<Problems> {
        Problems::sorted(list, 0, None)
    }

    fn sorted(mut list: Vec<Problem>, left_out: usize, fleet: Option<FleetName>) -> Option<Problems> {
        if list.is_empty() {
            return None;
        }
        list.sort_by(|a, b| {
            (&a.path, a.line, a.col, a.code, &a.message).cmp(&(&b.path, b.line, b.col, b.code, &b.message))
        });
        Some(Problems { list, left_out, fleet })
    }

    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }

    pub fn fleet(&self) -> Option<&FleetName> {
        self.fleet.as_ref()
    }

    /// Those left out included.
    pub fn count(&self) -> usize {
        self.list.len() + self.left_out
    }

    /// Those of both, for errors of reading and of checking in one report.
    pub fn and(mut self, other: Problems) -> Problems {
        let left_out = self.left_out + other.left_out;
        self.list.extend(other.list);
        Problems::sorted(self.list, left_out, self.fleet.or(other.fleet)).expect("both hold at least one")
    }

    /// All of them as plain text: one unwrapped line `PATH:LINE:COL: error[CODE]: …` each, the source line, the help.
    pub fn render(&self) -> String {
        let mut text: String = self.list.iter().map(|problem| format!("{problem}\n")).collect();
        if self.left_out > 0 {
            text.push_str(&format!("… and {} more\n\n", self.left_out));
        }
        text.push_str(&format!("{self}\n"));
        text
    }

    /// For `--format json`.
    pub fn views(&self) -> Vec<ProblemView<'_>> {
        fn view(problem: &Problem) -> ProblemView<'_> {
            let Problem { code, path, line, col, message, help, .. } = problem;
            ProblemView { code: *code, file: path, line: *line, column: *col, message, help }
        }
        self.list.iter().map(view).collect()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.count();
        write!(f, "{count} {} in the manifests", if count == 1 { "error" } else { "errors" })
    }
}

impl std::error::Error for Problems {}

/// One error as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProblemView<'a> {
    pub code: Code,
    pub file: &'a str,
    pub line: u32,
    pub column: u32,
    pub message: &'a str,
    pub help: &'a str,
}

/// Collects errors while the checks go on. Shared by reference: every reader of a value may report.
#[derive(Debug, Default)]
pub(super) struct Report {
    found: RefCell<(Vec<Problem>, usize)>,
    fleet: RefCell<Option<FleetName>>,
}

impl Report {
    pub fn add(&self, file: &File<'_>, mark: Mark, code: Code, message: impl Into<String>, help: impl Into<String>) {
        if self.is_full() {
            self.found.borrow_mut().1 += 1;
        } else {
            let problem = Problem::in_file(file, mark, code, message.into(), help.into());
            self.found.borrow_mut().0.push(problem);
        }
    }

    /// Whether a further error would only be counted: then its text need not be made.
    pub fn is_full(&self) -> bool {
        self.found.borrow().0.len() >= PROBLEMS_MAX
    }

    pub fn is_of(&self, fleet: &FleetName) {
        *self.fleet.borrow_mut() = Some(fleet.clone());
    }

    pub fn add_whole(&self, problem: Problem) {
        self.found.borrow_mut().0.push(problem);
    }

    pub fn into_problems(self) -> Option<Problems> {
        let (list, left_out) = self.found.into_inner();
        Problems::sorted(list, left_out, self.fleet.into_inner())
    }
}

/// ``did you mean `connections`?`` when a word of `known` is near enough to be what was meant.
pub(super) fn did_you_mean<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<String> {
    let near = known.into_iter().map(|known| (distance(word, known), known)).min()?;
    let allowed = (word.chars().count() / 3).clamp(1, 3);
    (near.0 <= allowed).then(|| format!("did you mean `{}`?", near.1))
}

/// `expected one of …` with at most 20 words, and the nearest on a line of its own.
pub(super) fn expected_one_of<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let mut help = match known.len() {
        0 => "none is declared".to_owned(),
        1 => format!("expected `{}`", known[0]),
        n if n <= 20 => format!("expected one of {}", known.join(", ")),
        n => format!("expected one of {} and {} more", known[..20].join(", "), n - 20),
    };
    if let Some(near) = did_you_mean(word, known) {
        help.push('\n');
        help.push_str(&near);
    }
    help
}

/// Edits (insert, remove, replace, swap neighbours) between two words, upper and lower case taken as equal.
/// Words past 64 characters are nobody's typing error and count as far.
fn distance(a: &str, b: &str) -> usize {
    let lower = |text: &str| text.chars().flat_map(char::to_lowercase).take(65).collect::<Vec<char>>();
    let (a, b) = (lower(a), lower(b));
    if a.len() > 64 || b.len() > 64 || a.len().abs_diff(b.len()) > 3 {
        return usize::MAX;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut best = (above[j] + usize::from(x != y)).min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_finds_its_word_and_another_word_does_not() {
        let known = ["connections", "serverConnections", "storage"];
        assert_eq!(did_you_mean("conections", known).as_deref(), Some("did you mean `connections`?"));
        assert_eq!(did_you_mean("Storage", known).as_deref(), Some("did you mean `storage`?"));
        assert_eq!(did_you_mean("stroage", known).as_deref(), Some("did you mean `storage`?"));
        assert_eq!(did_you_mean("region", known), None);
        assert_eq!((distance("ab", "ba"), distance("", "abc"), distance("kitten", "sitting")), (1, 3, 3));
    }

    #[test]
    fn a_long_line_is_cut_around_its_mark_and_nothing_in_it_reaches_the_terminal() {
        let line = format!("{}\u{1b}[31mbad{}", "x".repeat(300), "y".repeat(300));
        let source = crate::manifest::Source { path: "x.yaml".into(), text: line };
        let shown = show(&File::new(&source), Mark { line: 1, col: 306, width: 3 });
        let under: String = shown.text.chars().skip(shown.indent).take(shown.width).collect();
        assert_eq!(under, "bad");
        assert!(!shown.text.contains('\u{1b}') && shown.text.chars().count() <= SHOWN_MAX + 2);
    }
}
