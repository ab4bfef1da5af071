//! What all kinds share: `apiVersion`, `metadata`, `spec`, and where every field was written.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::code::Code;
use super::error::{Report, quote};
use super::model::{Origin, Origins};
use super::raw::{Entry, Node, Object, Value};
use super::read::{Fields, Scope};
use super::source::{File, Mark};

/// What this version of o7s reads.
pub const API_VERSION: &str = "ogelnates.dev/v1";

/// An object opened: the kind's own check reads `metadata` and `spec`, then closes both.
pub(super) struct Head<'a> {
    pub scope: Scope<'a>,
    pub metadata: Fields<'a>,
    pub spec: Fields<'a>,
    pub origins: Origins,
}

impl<'a> Head<'a> {
    /// `None`, reported, when `metadata` or `spec` is no map.
    pub fn open(object: &'a Object<'a>, report: &'a Report) -> Option<Head<'a>> {
        let scope = Scope { file: object.file, report };
        let first = object.entries().first().map_or(object.root.mark, |entry| entry.mark);
        let mut root = Fields::open(scope, "", first, &object.root)?;
        check_version(&mut root);
        root.node("kind");
        root.need("metadata", "metadata: { name: acme }");
        let metadata = root.map("metadata");
        // Nothing in the spec of some kinds is required, so it may be left out.
        let spec = if root.has("spec") { root.map("spec") } else { Some(Fields::empty(scope, "spec", first)) };
        root.node("spec");
        root.close();
        let mut metadata = metadata?;
        metadata.need("name", "metadata: { name: acme }");
        let origins = origins(object.file, object.entries(), first);
        Some(Head { scope, metadata, spec: spec?, origins })
    }

    /// Only a tenant takes its data along to another name.
    pub fn refuse_rename(&mut self, kind: &str, help: &str) {
        if !self.metadata.has("renamedFrom") {
            return;
        }
        if let Some(node) = self.metadata.node("renamedFrom") {
            let message = format!("a {kind} cannot be renamed by `metadata.renamedFrom`");
            self.scope.error(node.mark, Code::BadRename, message, help);
        }
    }

    pub fn close(self) -> Origins {
        self.metadata.close();
        self.spec.close();
        self.origins
    }
}

impl<'a> Object<'a> {
    pub fn entries(&self) -> &[Entry] {
        match &self.root.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }
}

fn check_version(root: &mut Fields<'_>) {
    root.need("apiVersion", "apiVersion: ogelnates.dev/v1");
    if let Some(version) = root.text("apiVersion")
        && version.value != API_VERSION
    {
        let message = format!("unknown apiVersion {}", quote(version.value));
        root.scope.error(version.mark, Code::WrongApiVersion, message, format!("expected `{API_VERSION}`"));
    }
}

fn origins(file: &File<'_>, entries: &[Entry], first: Mark) -> Origins {
    let mut fields = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.key == "metadata" || entry.key == "spec") {
        record(&mut fields, entry.key.clone(), entry.mark.line, &entry.value);
    }
    let line = fields.get("metadata.name").copied().unwrap_or(first.line);
    Origins { object: Origin { file: Arc::clone(&file.path), line }, fields }
}

/// Recursion is bounded by the depth `yaml` lets through.
fn record(fields: &mut BTreeMap<String, u32>, path: String, line: u32, node: &Node) {
    match &node.value {
        Value::Map(entries) => {
            for entry in entries {
                record(fields, format!("{path}.{}", entry.key), entry.mark.line, &entry.value);
            }
        }
        Value::List(nodes) => {
            for (name, node) in nodes.iter().filter_map(|node| Some((entry_name(node)?, node))) {
                fields.insert(format!("{path}.{name}"), node.mark.line);
            }
        }
        _ => {}
    }
    fields.insert(path, line);
}

/// What tells a list's entry from its neighbours: `reader` of a role, `api/DATABASE_URL` of a publication.
fn entry_name(node: &Node) -> Option<String> {
    let Value::Map(entries) = &node.value else { return None };
    let text = |key: &str| {
        let entry = entries.iter().find(|entry| entry.key == key)?;
        if let Value::Scalar { text, .. } = &entry.value.value { Some(text.clone()) } else { None }
    };
    text("name").or_else(|| Some(format!("{}/{}", text("service")?, text("variable")?)))
}
