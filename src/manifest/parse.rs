//! Files to raw objects: each document's tree with its kind known. What a kind may hold is `check`'s business.

use super::code::Code;
use super::error::{Report, expected_one_of, quote};
use super::raw::{Kind, Node, Object, Value};
use super::read::{Fields, Scope, text_of};
use super::source::{File, Mark};
use super::yaml;

/// Ten thousand tenants are the design's size; more than five times that is a wrong folder.
const OBJECTS_MAX: usize = 50_000;

pub(super) struct Parsed<'a> {
    files: &'a [File<'a>],
    pub objects: Vec<Object<'a>>,
    /// False when a document could not be read far enough to know which object it is: then a name that seems to be
    /// missing may be in there.
    pub complete: bool,
}

impl Parsed<'_> {
    pub fn first_path(&self) -> Option<&str> {
        self.files.first().map(|file| &*file.path)
    }
}

pub(super) fn parse<'a>(files: &'a [File<'a>], report: &'a Report) -> Parsed<'a> {
    let mut parsed = Parsed { files, objects: Vec::new(), complete: true };
    for file in files {
        let (documents, complete) = yaml::read(file, report);
        parsed.complete &= complete;
        for root in documents {
            match kind_of(Scope { file, report }, &root) {
                Some(kind) => parsed.objects.push(Object { file, kind, root }),
                None => parsed.complete = false,
            }
        }
        if parsed.objects.len() > OBJECTS_MAX {
            let message = format!("more than {OBJECTS_MAX} objects");
            report.add(file, Mark::START, Code::TooMany, message, "check that `-f` names the manifests only");
            return parsed;
        }
    }
    parsed
}

fn kind_of(scope: Scope<'_>, root: &Node) -> Option<Kind> {
    let first = match &root.value {
        Value::Map(entries) => entries.first().map_or(root.mark, |entry| entry.mark),
        _ => root.mark,
    };
    let mut fields = Fields::open(scope, "", first, root)?;
    fields.need("kind", "kind: Tenant");
    let Some(kind) = fields.node("kind") else {
        // Nobody else reads this document, so a key that was meant to be `kind` is said here.
        for known in ["apiVersion", "metadata", "spec"] {
            fields.node(known);
        }
        fields.close();
        return None;
    };
    kind_word(scope, kind)
}

fn kind_word(scope: Scope<'_>, node: &Node) -> Option<Kind> {
    let text = text_of(scope, node, "kind")?;
    let known = Kind::WORDS.iter().find(|(word, _)| *word == text.value);
    if known.is_none() {
        let help = expected_one_of(text.value, Kind::WORDS.iter().map(|(word, _)| *word));
        scope.error(text.mark, Code::UnknownKind, format!("unknown kind {}", quote(text.value)), help);
    }
    known.map(|(_, kind)| *kind)
}
