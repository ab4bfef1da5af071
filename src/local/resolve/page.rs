//! Relay connections: `first` and `after`, with cursors that survive deletions because they name a place in the order.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::args::Args;
use super::{Answer, Object, Refusal};

/// Railway documents no default; clients are well advised to send `first`.
const FIRST_DEFAULT: usize = 100;
/// The largest that Railway's own CLI asks for.
const FIRST_MAX: usize = 5_000;

/// One page of a list.
#[derive(Clone)]
pub struct Page {
    nodes: Vec<(String, Object)>,
    has_next: bool,
    has_previous: bool,
}

/// `all` is the whole list in its order, each with a key that sorts it there.
pub fn page(args: &Args, all: Vec<(String, Object)>) -> Result<Answer, Refusal> {
    for backwards in ["last", "before"] {
        if args.get(backwards).is_some_and(|value| !value.is_null()) {
            return Err(Refusal::NotSimulated(format!("paging with `{backwards}`")));
        }
    }
    let first = match args.count("first") {
        None => FIRST_DEFAULT,
        Some(first) => usize::try_from(first).map_err(|_| Refusal::Invalid("`first` is negative".into()))?,
    };
    let after = args.maybe("after").map(|cursor| key_of(&cursor)).transpose()?;
    let start = after.as_ref().map_or(0, |after| all.partition_point(|(key, _)| key <= after));
    let (has_previous, total) = (start > 0, all.len());
    let nodes: Vec<_> = all.into_iter().skip(start).take(first.min(FIRST_MAX)).collect();
    let has_next = start + nodes.len() < total;
    Ok(Answer::Page(Page { nodes, has_next, has_previous }))
}

fn cursor(key: &str) -> String {
    URL_SAFE_NO_PAD.encode(key)
}

fn key_of(cursor: &str) -> Result<String, Refusal> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok();
    let key = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    key.ok_or_else(|| Refusal::Invalid("`after` is no cursor of ours".into()))
}

impl Page {
    pub fn field(&self, name: &str) -> Answer {
        match name {
            "edges" => Answer::Edges(self.nodes.iter().map(|(key, node)| (cursor(key), node.clone())).collect()),
            "pageInfo" => Answer::Json(json!({
                "hasNextPage": self.has_next,
                "hasPreviousPage": self.has_previous,
                "startCursor": self.nodes.first().map(|(key, _)| cursor(key)),
                "endCursor": self.nodes.last().map(|(key, _)| cursor(key)),
            })),
            _ => Answer::Absent,
        }
    }
}

pub fn edge(cursor: &str, node: &Object, name: &str) -> Answer {
    match name {
        "cursor" => Answer::Json(Value::String(cursor.to_owned())),
        "node" => Answer::One(node.clone()),
        _ => Answer::Absent,
    }
}
