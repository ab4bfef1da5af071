//! Text to trees of [`Node`]s: the only file that knows the YAML library.
//!
//! It reads the parser's events instead of deserializing, because only they carry the place of every key and value and
//! let reading go on behind an error. Depth, size, count and aliases are bounded here, before anything is built.

use serde_yaml::granit_parser::{self, ErrorKind, Event, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::code::Code;
use super::error::{Report, quote};
use super::raw::{Entry, Node, Plain, Value, plain_kind};
use super::source::{File, Mark};

pub const FILE_BYTES_MAX: usize = 1 << 20;
const DEPTH_MAX: usize = 32;
const NODES_MAX: usize = 250_000;

/// The documents of a file that could be read, and whether all could. Comments and empty documents yield nothing.
pub(super) fn read(file: &File<'_>, report: &Report) -> (Vec<Node>, bool) {
    if let Some((mark, code, message, help)) = refuse_text(file) {
        report.add(file, mark, code, message, help);
        return (Vec::new(), false);
    }
    let mut reader = Reader { parser: parser(file.text), file, report, nodes: 0 };
    let (mut documents, mut complete) = (Vec::new(), true);
    loop {
        match reader.document() {
            Ok(Some(node)) => documents.extend(node),
            Ok(None) => return (documents, complete),
            Err(stop) => {
                complete = false;
                if !reader.recover(stop) {
                    return (documents, complete);
                }
            }
        }
    }
}

/// What can be told without parsing. YAML allows no control characters but tab and line breaks.
fn refuse_text(file: &File<'_>) -> Option<(Mark, Code, String, String)> {
    let help = |text: &str| text.to_owned();
    if file.text.len() > FILE_BYTES_MAX {
        let message = format!("the file has {} bytes, {FILE_BYTES_MAX} (1 MiB) are allowed", file.text.len());
        return Some((Mark::START, Code::FileTooLarge, message, help("split it into several files")));
    }
    if file.text.trim().is_empty() {
        let message = "the file is empty".to_owned();
        return Some((Mark::START, Code::Empty, message, help("remove the file, or write a manifest into it")));
    }
    let refused = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}');
    let at = file.text.find(refused)?;
    let code = file.text[at..].chars().next().map_or(0, u32::from);
    let message = format!("the file holds the control character U+{code:04X}: it is no text file");
    Some((file.mark_at(at), Code::NotText, message, help("remove the character, or the file from the folder")))
}

fn parser(text: &str) -> Parser<'_, StrInput<'_>> {
    // The parser's own nesting limits only stop what ours would refuse anyway, before its stack grows.
    let options = granit_parser::options! {
        emit_comments: false,
        emit_anchor_events: true,
        emit_unresolved_aliases: true,
        flow_nesting_limit: DEPTH_MAX + 1,
        block_nesting_limit: DEPTH_MAX + 1,
    };
    Parser::new_from_str_with_options(text, options)
}

/// Why a document was given up.
enum Stop {
    Scan(ScanError),
    Deep(Mark),
    /// The whole file was: there is no point in going on behind it.
    Nodes(Mark),
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    file: &'a File<'a>,
    report: &'a Report,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, Stop> {
        self.parser.next_event().transpose().map_err(Stop::Scan)
    }

    /// `Some(None)` is a document with nothing in it; `None` the end of the file.
    fn document(&mut self) -> Result<Option<Option<Node>>, Stop> {
        loop {
            match self.next()? {
                None | Some((Event::StreamEnd, _)) => return Ok(None),
                Some((Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd, _)) => {}
                Some((event, span)) => {
                    let node = self.node(event, span, 1)?;
                    let empty = matches!(&node.value, Value::Scalar { text, quoted: false }
                        if plain_kind(text) == Plain::Null);
                    return Ok(Some((!empty).then_some(node)));
                }
            }
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Stop> {
        let mark = mark_of(span);
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(Stop::Nodes(mark));
        }
        if depth > DEPTH_MAX {
            return Err(Stop::Deep(mark));
        }
        let refused = self.refuse_tag(&event, span) | self.refuse_anchor(&event)?;
        let value = match event {
            Event::Scalar(text, style, ..) => {
                Value::Scalar { text: text.into_owned(), quoted: style != ScalarStyle::Plain }
            }
            Event::SequenceStart(..) => Value::List(self.list(depth)?),
            Event::MappingStart(..) => Value::Map(self.map(depth)?),
            // An alias: what it stands for was refused where it was written.
            _ => {
                self.refuse_alias(mark, "the alias");
                Value::Refused
            }
        };
        Ok(Node { mark, value: if refused { Value::Refused } else { value } })
    }

    fn refuse_tag(&self, event: &Event<'_>, span: Span) -> bool {
        let Some(tag) = event.tag() else { return false };
        let mark = span.tag_span().map_or(mark_of(span), mark_of);
        let message = format!("the tag {} is refused", quote(&tag.original()));
        self.report.add(self.file, mark, Code::Tag, message, "remove it; quote a value that should be text");
        true
    }

    /// The parser sends the anchor right behind the node it belongs to.
    fn refuse_anchor(&mut self, event: &Event<'_>) -> Result<bool, Stop> {
        if event.anchor_id().is_none() {
            return Ok(false);
        }
        if let Some((Event::Anchor(_, _), span)) = self.next()? {
            self.refuse_alias(mark_of(span), "the anchor");
        }
        Ok(true)
    }

    fn refuse_alias(&self, mark: Mark, what: &str) {
        // Finding the word means walking its line, which may be long: not for errors that are only counted.
        let rest = if self.report.is_full() { "" } else { self.file.line_from(mark.line, mark.col) };
        let word: String = rest.chars().take(mark.width as usize).collect();
        let help = "write the value out; what many tenants share belongs into their Tier";
        self.report.add(self.file, mark, Code::Alias, format!("{what} {} is refused", quote(&word)), help);
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Stop> {
        let mut nodes = Vec::new();
        loop {
            match self.next()? {
                None | Some((Event::SequenceEnd, _)) => return Ok(nodes),
                Some((event, span)) => nodes.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<Entry>, Stop> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut lines = std::collections::HashMap::new();
        loop {
            let key = match self.next()? {
                None | Some((Event::MappingEnd, _)) => return Ok(entries),
                Some((event, span)) => self.node(event, span, depth + 1)?,
            };
            let Some((event, span)) = self.next()? else { return Ok(entries) };
            let value = self.node(event, span, depth + 1)?;
            let Some(entry) = self.entry(key, value) else { continue };
            match lines.get(&entry.key) {
                Some(&line) => self.refuse_repeat(&entry, line),
                None => {
                    lines.insert(entry.key.clone(), entry.mark.line);
                    entries.push(entry);
                }
            }
        }
    }

    fn entry(&self, key: Node, mut value: Node) -> Option<Entry> {
        let mark = key.mark;
        match key.value {
            Value::Scalar { text, quoted: false } if text == "<<" => {
                self.refuse_alias(mark, "the merge key");
                None
            }
            Value::Scalar { text, quoted } if quoted || plain_kind(&text) != Plain::Null => {
                if let Value::Scalar { quoted: false, .. } = value.value
                    && value.mark.width == 0
                {
                    // Nothing was written: the key is the place to show.
                    value.mark = mark;
                }
                Some(Entry { key: text, mark, value })
            }
            Value::Refused => None,
            _ => {
                let message = format!("a key must be plain text, found {}", key.describe());
                self.report.add(self.file, mark, Code::BadKey, message, "write `key: value`");
                None
            }
        }
    }

    fn refuse_repeat(&self, entry: &Entry, first: u32) {
        let message = format!("duplicate key {}", quote(&entry.key));
        self.report.add(
            self.file,
            entry.mark,
            Code::DuplicateKey,
            message,
            format!("first written at line {first}; remove one"),
        );
    }

    /// Reports, then moves to the next document; false when there is none to go on with.
    fn recover(&mut self, stop: Stop) -> bool {
        let go_on = !matches!(stop, Stop::Nodes(_));
        let (mark, code, message, help) = match stop {
            Stop::Scan(error) => explain(&error),
            Stop::Deep(mark) => too_deep(mark),
            Stop::Nodes(mark) => {
                let message = format!("the file holds more than {NODES_MAX} keys and values");
                (mark, Code::TooManyNodes, message, "split it into several files".to_owned())
            }
        };
        self.report.add(self.file, mark, code, message, help);
        go_on && self.parser.proceed_next_document().unwrap_or(false)
    }
}

fn too_deep(mark: Mark) -> (Mark, Code, String, String) {
    let message = format!("nested deeper than {DEPTH_MAX} levels");
    (mark, Code::TooDeep, message, "no manifest needs more than six; check the brackets".to_owned())
}

fn explain(error: &ScanError) -> (Mark, Code, String, String) {
    let at = error.marker();
    let mark = Mark { line: number(at.line()), col: number(at.col() + 1), width: 1 };
    if *error.kind() == ErrorKind::RecursionLimitExceeded {
        return too_deep(mark);
    }
    let help = match error.kind() {
        ErrorKind::TabInIndentation
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInPlainScalar
        | ErrorKind::TabAtBlockScalarStart
        | ErrorKind::TabNotAllowed => "indent with spaces, not with tabs",
        ErrorKind::MappingValueNotAllowed => "quote a value that holds `: `, and check the indentation",
        ErrorKind::UnclosedFlowCollection { .. }
        | ErrorKind::UnexpectedEofFlowSequence
        | ErrorKind::UnexpectedEofFlowMapping
        | ErrorKind::ExpectedFlowMappingSeparator
        | ErrorKind::ExpectedFlowSequenceSeparator => {
            "a bracket opened here or above is not closed, or a comma is missing"
        }
        ErrorKind::UnclosedQuotedScalar => "close the quote",
        ErrorKind::UnexpectedCharacter { .. } => "quote a value that starts with a special character",
        _ => "check the colons, brackets, quotes and indentation here and on the line above",
    };
    (mark, Code::Syntax, format!("not valid YAML: {}", error.info()), help.to_owned())
}

/// The width of a place that spans lines is that of its start.
fn mark_of(span: Span) -> Mark {
    let width =
        if span.start.line() == span.end.line() { span.end.col().saturating_sub(span.start.col()) } else { 1 };
    Mark { line: number(span.start.line()), col: number(span.start.col() + 1), width: number(width) }
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
