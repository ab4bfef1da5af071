//! Reads typed values out of one map of the tree. Every key asked for is a known one: [`Fields::close`] reports the rest.
//!
//! A value that cannot be read is reported and then counts as absent. Checks that conclude something from an absence
//! ask [`Fields::has`] first, so that one mistake makes one error.

use std::ops::RangeInclusive;

use crate::tenancy::{BadName, BadQuantity, Bytes, Millis, Percent};

use super::code::Code;
use super::error::{Report, did_you_mean, expected_one_of, quote};
use super::raw::{Entry, Node, Plain, Value, plain_kind};
use super::source::{File, Mark};

/// Where errors of one object go.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub file: &'a File<'a>,
    pub report: &'a Report,
}

impl Scope<'_> {
    pub fn error(&self, mark: Mark, code: Code, message: impl Into<String>, help: impl Into<String>) {
        self.report.add(self.file, mark, code, message, help);
    }

    fn wrong_type(&self, node: &Node, path: &str, wanted: &str) {
        if node.value == Value::Refused {
            return;
        }
        let found = match &node.value {
            Value::Scalar { text, .. } if node.describe() != "nothing" => {
                format!("{} {}", node.describe(), quote(text))
            }
            _ => node.describe().to_owned(),
        };
        let what = if path.is_empty() { "the document".to_owned() } else { format!("`{path}`") };
        let message = format!("{what} must be {wanted}, found {found}");
        let help = match node.describe() {
            "nothing" => "write a value, or remove the key".to_owned(),
            "quoted text" if wanted.contains("number") => "write it without quotes".to_owned(),
            "a number" | "a boolean" if wanted.starts_with("text") => "put it in quotes".to_owned(),
            _ => format!("expected {wanted}"),
        };
        self.error(node.mark, Code::WrongType, message, help);
    }
}

/// A value and where it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At<T> {
    pub value: T,
    pub mark: Mark,
}

/// One map being read.
pub(super) struct Fields<'a> {
    pub scope: Scope<'a>,
    path: String,
    /// The key that holds the map: where a missing key is reported.
    mark: Mark,
    entries: &'a [Entry],
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// `None`, reported, when the node is no map.
    pub fn open(scope: Scope<'a>, path: &str, mark: Mark, node: &'a Node) -> Option<Fields<'a>> {
        let Value::Map(entries) = &node.value else {
            scope.wrong_type(node, path, "a map");
            return None;
        };
        Some(Fields { scope, path: path.to_owned(), mark, entries, known: Vec::new() })
    }

    /// A map without keys, for one that may be left out.
    pub fn empty(scope: Scope<'a>, path: &str, mark: Mark) -> Fields<'a> {
        Fields { scope, path: path.to_owned(), mark, entries: &[], known: Vec::new() }
    }

    pub fn mark(&self) -> Mark {
        self.mark
    }

    /// `spec.limits.connections`.
    pub fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Whether the key is written, readable or not.
    pub fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key)
    }

    /// The same, or a key that is most likely meant to be it: that one is reported as unknown, which is enough.
    pub fn seems_written(&self, key: &'static str) -> bool {
        let near =
            |entry: &Entry| !self.known.contains(&entry.key.as_str()) && did_you_mean(&entry.key, [key]).is_some();
        self.has(key) || self.entries.iter().any(near)
    }

    /// All entries, for a map whose keys are the user's own words.
    pub fn entries(&self) -> &'a [Entry] {
        self.entries
    }

    fn entry(&mut self, key: &'static str) -> Option<&'a Entry> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.entries.iter().find(|entry| entry.key == key)
    }

    pub fn node(&mut self, key: &'static str) -> Option<&'a Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// Reports a missing key; `example` is a line that would do.
    pub fn need(&mut self, key: &'static str, example: &str) {
        if self.seems_written(key) {
            return;
        }
        let path = self.path_of(key);
        let message = format!("missing key `{path}`");
        self.scope.error(self.mark, Code::MissingKey, message, format!("add it, as in `{example}`"));
    }

    pub fn map(&mut self, key: &'static str) -> Option<Fields<'a>> {
        let path = self.path_of(key);
        let entry = self.entry(key)?;
        Fields::open(self.scope, &path, entry.mark, &entry.value)
    }

    /// Reports more than `max` entries.
    pub fn list(&mut self, key: &'static str, max: usize) -> Option<&'a [Node]> {
        let (path, scope) = (self.path_of(key), self.scope);
        let node = self.node(key)?;
        let Value::List(nodes) = &node.value else {
            scope.wrong_type(node, &path, "a list");
            return None;
        };
        if nodes.len() > max {
            let message = format!("`{path}` has {} entries", nodes.len());
            scope.error(node.mark, Code::OutOfRange, message, format!("at most {max} are allowed"));
            return None;
        }
        Some(nodes)
    }

    /// Text, quoted or not; a plain number, boolean or null is none.
    pub fn text(&mut self, key: &'static str) -> Option<At<&'a str>> {
        let (path, scope) = (self.path_of(key), self.scope);
        text_of(scope, self.node(key)?, &path)
    }

    /// Text of 1 to `max` characters that holds no control character.
    pub fn line(&mut self, key: &'static str, max: usize) -> Option<At<&'a str>> {
        let path = self.path_of(key);
        let text = self.text(key)?;
        let length = text.value.chars().count();
        let fault = match text.value {
            value if value.trim().is_empty() => "is empty".to_owned(),
            _ if length > max => format!("has {length} characters, at most {max} are allowed"),
            value if value.chars().any(char::is_control) => "holds a control character".to_owned(),
            _ => return Some(text),
        };
        self.scope.error(text.mark, Code::BadText, format!("`{path}` {fault}"), "write it on one line");
        None
    }

    pub fn name<T>(&mut self, key: &'static str, what: &str, parse: fn(&str) -> Result<T, BadName>) -> Option<At<T>> {
        let text = self.text(key)?;
        name_of(self.scope, text, what, parse)
    }

    /// A whole number in plain digits.
    pub fn count(&mut self, key: &'static str, allowed: RangeInclusive<u64>) -> Option<At<u64>> {
        let (path, scope) = (self.path_of(key), self.scope);
        let node = self.node(key)?;
        let digits = match &node.value {
            Value::Scalar { text, quoted: false } if is_negative(text) => {
                negative(scope, node.mark, &path, text);
                return None;
            }
            Value::Scalar { text, quoted: false } if is_digits(text) => text,
            _ => {
                scope.wrong_type(node, &path, "a whole number");
                return None;
            }
        };
        let value = digits.parse::<u64>().unwrap_or(u64::MAX);
        in_range(scope, At { value, mark: node.mark }, &path, digits, &allowed)
    }

    /// Exactly `true` or `false`.
    pub fn flag(&mut self, key: &'static str) -> Option<bool> {
        let (path, scope) = (self.path_of(key), self.scope);
        let node = self.node(key)?;
        match &node.value {
            Value::Scalar { text, quoted: false } if text == "true" => Some(true),
            Value::Scalar { text, quoted: false } if text == "false" => Some(false),
            _ => {
                scope.wrong_type(node, &path, "`true` or `false`");
                None
            }
        }
    }

    pub fn bytes(&mut self, key: &'static str, allowed: RangeInclusive<Bytes>) -> Option<At<Bytes>> {
        self.quantity(key, "a size such as `2Gi`", Bytes::parse, &allowed)
    }

    pub fn millis(&mut self, key: &'static str, allowed: RangeInclusive<Millis>) -> Option<At<Millis>> {
        self.quantity(key, "a time such as `30s`", Millis::parse, &allowed)
    }

    pub fn percent(&mut self, key: &'static str) -> Option<At<Percent>> {
        self.quantity(key, "a share such as `40%`", Percent::parse, &(Percent(0)..=Percent(100)))
    }

    fn quantity<T: PartialOrd + std::fmt::Display>(
        &mut self,
        key: &'static str,
        wanted: &str,
        parse: fn(&str) -> Result<T, BadQuantity>,
        allowed: &RangeInclusive<T>,
    ) -> Option<At<T>> {
        let (path, scope) = (self.path_of(key), self.scope);
        let node = self.node(key)?;
        let text = match &node.value {
            Value::Scalar { text, .. } if node.describe() != "nothing" && node.describe() != "a boolean" => text,
            _ => {
                scope.wrong_type(node, &path, wanted);
                return None;
            }
        };
        if is_negative(text) {
            negative(scope, node.mark, &path, text);
            return None;
        }
        match parse(text) {
            Ok(value) => in_range(scope, At { value, mark: node.mark }, &path, text, allowed),
            Err(error) => {
                let message = match error {
                    BadQuantity::Unit { unit, known } if unit.is_empty() => {
                        format!("`{path}`: {} has no unit; use one of {known}", quote(text))
                    }
                    error => format!("`{path}`: {} {error}", quote(text)),
                };
                scope.error(node.mark, Code::BadQuantity, message, format!("expected {wanted}"));
                None
            }
        }
    }

    /// A plain decimal with at most `decimals` digits behind the point, in units of its last digit: with 9, `0.12` is
    /// 120,000,000. Kept exactly: the text never becomes a float.
    pub fn decimal(&mut self, key: &'static str, decimals: usize, allowed: RangeInclusive<u64>) -> Option<At<u64>> {
        let (path, scope) = (self.path_of(key), self.scope);
        let node = self.node(key)?;
        let Value::Scalar { text, quoted: false } = &node.value else {
            scope.wrong_type(node, &path, "a decimal number");
            return None;
        };
        if is_negative(text) {
            negative(scope, node.mark, &path, text);
            return None;
        }
        let Some(value) = parse_decimal(text, decimals) else {
            let help = format!("expected digits with at most {decimals} decimals, such as `9.00` or `0.5`");
            let message = format!("`{path}`: {} is no plain decimal number", quote(text));
            scope.error(node.mark, Code::BadDecimal, message, help);
            return None;
        };
        if allowed.contains(&value) {
            return Some(At { value, mark: node.mark });
        }
        let (low, high) = (show_decimal(*allowed.start(), decimals), show_decimal(*allowed.end(), decimals));
        let message = format!("`{path}` is {}, which is out of range", quote(text));
        scope.error(node.mark, Code::OutOfRange, message, format!("expected {low} to {high}"));
        None
    }

    pub fn word<T: Copy>(&mut self, key: &'static str, words: &[(&'static str, T)]) -> Option<At<T>> {
        let (path, scope) = (self.path_of(key), self.scope);
        word_of(scope, self.node(key)?, &path, words)
    }

    /// Reports every key that was not asked for.
    pub fn close(self) {
        for entry in self.entries.iter().filter(|entry| !self.known.contains(&entry.key.as_str())) {
            let place = if self.path.is_empty() { String::new() } else { format!(" in `{}`", self.path) };
            let message = format!("unknown key {}{place}", quote(&entry.key));
            let help = expected_one_of(&entry.key, self.known.iter().copied());
            self.scope.error(entry.mark, Code::UnknownKey, message, help);
        }
    }
}

pub(super) fn text_of<'a>(scope: Scope<'_>, node: &'a Node, path: &str) -> Option<At<&'a str>> {
    match &node.value {
        Value::Scalar { text, quoted } if *quoted || plain_kind(text) == Plain::Text => {
            Some(At { value: text, mark: node.mark })
        }
        _ => {
            scope.wrong_type(node, path, "text");
            None
        }
    }
}

pub(super) fn word_of<T: Copy>(
    scope: Scope<'_>,
    node: &Node,
    path: &str,
    words: &[(&'static str, T)],
) -> Option<At<T>> {
    let text = text_of(scope, node, path)?;
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text.value) {
        return Some(At { value: *value, mark: text.mark });
    }
    let help = expected_one_of(text.value, words.iter().map(|(word, _)| *word));
    scope.error(text.mark, Code::UnknownWord, format!("`{path}` cannot be {}", quote(text.value)), help);
    None
}

pub(super) fn name_of<T>(
    scope: Scope<'_>,
    text: At<&str>,
    what: &str,
    parse: fn(&str) -> Result<T, BadName>,
) -> Option<At<T>> {
    match parse(text.value) {
        Ok(value) => Some(At { value, mark: text.mark }),
        Err(error) => {
            let (code, help) = match error {
                BadName::Reserved => (Code::ReservedName, "choose another name".to_owned()),
                BadName::TooLong { max, .. } => (Code::NameTooLong, format!("expected at most {max} characters")),
                _ => (Code::BadName, name_help(text.value, parse)),
            };
            scope.error(text.mark, code, format!("the {what} {} {error}", quote(text.value)), help);
            None
        }
    }
}

/// Offers the name in a form that would do, if there is one.
fn name_help<T>(text: &str, parse: fn(&str) -> Result<T, BadName>) -> String {
    let rule = match parse("a_b") {
        Ok(_) => "expected a-z, 0-9 and `_`, a letter first",
        Err(_) => "expected a-z, 0-9 and `-`, a letter first and no `-` at the end",
    };
    let with = |joint: char| -> String {
        let lower = text.chars().take(64).flat_map(char::to_lowercase);
        let kept = lower.map(|c| if c.is_ascii_alphanumeric() { c } else { joint });
        kept.collect::<String>().trim_matches(|c: char| c == joint || c.is_ascii_digit()).to_owned()
    };
    match ['-', '_'].into_iter().map(with).find(|near| parse(near).is_ok()) {
        Some(near) => format!("{rule}\ndid you mean `{near}`?"),
        None => rule.to_owned(),
    }
}

fn in_range<T: PartialOrd + std::fmt::Display>(
    scope: Scope<'_>,
    at: At<T>,
    path: &str,
    text: &str,
    allowed: &RangeInclusive<T>,
) -> Option<At<T>> {
    if allowed.contains(&at.value) {
        return Some(at);
    }
    let message = format!("`{path}` is {}, which is out of range", quote(text));
    scope.error(at.mark, Code::OutOfRange, message, format!("expected {} to {}", allowed.start(), allowed.end()));
    None
}

fn negative(scope: Scope<'_>, mark: Mark, path: &str, text: &str) {
    let message = format!("`{path}` cannot be negative, found {}", quote(text));
    scope.error(mark, Code::Negative, message, "remove the minus sign; leave a limit out for no limit");
}

fn is_negative(text: &str) -> bool {
    text.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit() || c == '.'))
}

/// Plain digits; a leading zero would be octal to some readers, so it is no number here.
fn is_digits(text: &str) -> bool {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits && (text.len() == 1 || !text.starts_with('0'))
}

fn parse_decimal(text: &str, decimals: usize) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    if !is_digits(whole) || part.is_empty() || part.len() > decimals || !part.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    format!("{whole}{part:0<decimals$}").parse().ok().or(Some(u64::MAX))
}

fn show_decimal(value: u64, decimals: usize) -> String {
    let digits = format!("{value:0>width$}", width = decimals + 1);
    let (whole, part) = digits.split_at(digits.len() - decimals);
    let part = part.trim_end_matches('0');
    if part.is_empty() { whole.to_owned() } else { format!("{whole}.{part}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_is_exact_or_refused() {
        for (text, value) in [("9.00", 9_000_000_000), ("0.12", 120_000_000), ("7", 7_000_000_000), ("0", 0)] {
            assert_eq!(parse_decimal(text, 9), Some(value), "{text}");
        }
        assert_eq!(parse_decimal("0.5", 3), Some(500));
        for bad in ["", ".", "1.", ".5", "01", "1e3", "1,5", "+1", "0.1234567891", "0x1", "1_0"] {
            assert_eq!(parse_decimal(bad, 9), None, "{bad}");
        }
        assert_eq!((show_decimal(50, 3), show_decimal(2_000, 3)), ("0.05".to_owned(), "2".to_owned()));
    }
}
