//! Change sets: what a client intends, in Railway's words, by address ("database.acme") and never by id.

use serde_json::{Map, Value, json};

use super::Refusal;

/// Versions of the format that are understood.
const VERSIONS: [u64; 2] = [0, 1];
/// Railway states no bound; a set of this many changes is no work of a person.
const CHANGES_MAX: usize = 1_000;

/// A checked change set.
#[derive(Debug, Clone)]
pub struct ChangeSet {
    pub changes: Vec<Change>,
    /// As it came, which is how a preview gives it back.
    pub sent: Value,
}

#[derive(Debug, Clone)]
pub struct Change {
    pub kind: String,
    pub path: Value,
    pub summary: Value,
    pub target: Address,
    pub intent: Intent,
}

#[derive(Debug, Clone)]
pub enum Intent {
    Create(Map<String, Value>),
    /// A field of the resource and its whole new content.
    Update {
        field: String,
        after: Value,
    },
    Delete,
    /// `None`: whatever it is, it stays.
    SetVariable {
        name: String,
        value: Option<String>,
    },
    DeleteVariable {
        name: String,
    },
}

/// `service.web`, `database.acme`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub database: bool,
    pub name: String,
}

impl ChangeSet {
    pub fn read(sent: &Value) -> Result<ChangeSet, Refusal> {
        let version = sent.get("version").and_then(Value::as_u64);
        if !version.is_some_and(|version| VERSIONS.contains(&version)) {
            return Err(invalid("its version must be one of 0, 1"));
        }
        let list =
            sent.get("changes").and_then(Value::as_array).ok_or_else(|| invalid("`changes` must be a list"))?;
        if list.len() > CHANGES_MAX {
            return Err(invalid(&format!("at most {CHANGES_MAX} changes are allowed")));
        }
        let changes = list.iter().map(Change::read).collect::<Result<_, _>>()?;
        Ok(ChangeSet { changes, sent: sent.clone() })
    }

    /// What applying it would do to whom, worst first for nobody: in the order of the changes.
    pub fn effects(&self) -> Vec<Value> {
        self.changes.iter().map(Change::effect).collect()
    }
}

impl Change {
    fn read(sent: &Value) -> Result<Change, Refusal> {
        let kind = text(sent, "kind")?;
        let target = Address::parse(&text(sent, "address")?)?;
        let variable = || text(sent, "variable");
        let intent = match kind.as_str() {
            "resource.create" => {
                let resource = sent.get("resource").and_then(Value::as_object);
                Intent::Create(resource.cloned().ok_or_else(|| invalid("`resource` must be an object"))?)
            }
            "resource.update" => Intent::Update {
                field: text(sent, "field")?,
                after: sent.get("after").cloned().ok_or_else(|| invalid("`after` is missing"))?,
            },
            "resource.delete" => Intent::Delete,
            "variable.set" => {
                let after = sent.get("after").ok_or_else(|| invalid("`after` is missing"))?;
                Intent::SetVariable { name: variable()?, value: variable_text(after)? }
            }
            "variable.delete" => Intent::DeleteVariable { name: variable()? },
            other => return Err(Refusal::NotSimulated(format!("the change kind `{other}`"))),
        };
        let shown = |name: &str| sent.get(name).cloned().unwrap_or(Value::Null);
        Ok(Change { path: shown("path"), summary: shown("summary"), kind, target, intent })
    }

    /// How the change came out, or would.
    pub fn outcome(&self, status: &str, outputs: Value) -> Value {
        json!({ "kind": self.kind, "path": self.path, "summary": self.summary, "status": status, "outputs": outputs })
    }

    fn effect(&self) -> Value {
        let destructive = matches!(self.intent, Intent::Delete | Intent::DeleteVariable { .. });
        json!({
            "kind": self.kind,
            "path": self.path,
            "summary": self.summary,
            "severity": if destructive { "destructive" } else { "safe" },
            "deployEffect": "deploy",
        })
    }
}

impl Address {
    fn parse(text: &str) -> Result<Address, Refusal> {
        match text.split_once('.') {
            Some((_, "")) | None => Err(invalid(&format!("`{text}` is no address"))),
            Some(("database", name)) => Ok(Address { database: true, name: name.into() }),
            Some(("service", name)) => Ok(Address { database: false, name: name.into() }),
            Some((kind, _)) => Err(Refusal::NotSimulated(format!("a change of a `{kind}`"))),
        }
    }
}

/// A variable's value as the config blob holds it; references between resources become Railway's own.
pub fn variable_text(value: &Value) -> Result<Option<String>, Refusal> {
    match value.get("type").and_then(Value::as_str) {
        Some("literal" | "raw") => text(value, "value").map(Some),
        Some("reference") => {
            let (target, output) = (Address::parse(&text(value, "resource")?)?, text(value, "output")?);
            Ok(Some(format!("${{{{{}.{output}}}}}", target.name)))
        }
        Some("preserve") => Ok(None),
        Some(other) => Err(Refusal::NotSimulated(format!("a variable of the type `{other}`"))),
        None => Err(invalid("a variable's value needs a `type`")),
    }
}

fn text(value: &Value, name: &str) -> Result<String, Refusal> {
    let found = value.get(name).and_then(Value::as_str);
    found.map(str::to_owned).ok_or_else(|| invalid(&format!("`{name}` must be a text")))
}

fn invalid(reason: &str) -> Refusal {
    Refusal::Invalid(format!("the change set: {reason}"))
}
