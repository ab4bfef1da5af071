//! The shapes of YAML as written: a small tree in which every key and value knows its place.
//!
//! Not serde structs: serde stops at the first unknown key or wrong type, and we report all of them.

use super::source::{File, Mark};

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub mark: Mark,
    pub value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// `quoted` holds for everything but a plain scalar; only a plain one can be a number, boolean or null.
    Scalar {
        text: String,
        quoted: bool,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// Already reported (an alias, a tag): whoever meets it stays silent.
    Refused,
}

/// One `key: value` of a map. Keys are unique within their map: `yaml` reports and drops repeats.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub key: String,
    pub mark: Mark,
    pub value: Node,
}

/// What a plain scalar is by YAML's core schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plain {
    Null,
    Bool,
    Number,
    Text,
}

impl Node {
    /// In words, for "expected a map, found …".
    pub fn describe(&self) -> &'static str {
        match &self.value {
            Value::Scalar { quoted: true, .. } => "quoted text",
            Value::Scalar { text, .. } => match plain_kind(text) {
                Plain::Null => "nothing",
                Plain::Bool => "a boolean",
                Plain::Number => "a number",
                Plain::Text => "text",
            },
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
            Value::Refused => "something refused",
        }
    }
}

pub(super) fn plain_kind(text: &str) -> Plain {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Plain::Null,
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => Plain::Bool,
        _ if is_number(text) => Plain::Number,
        _ => Plain::Text,
    }
}

/// The core schema's integers and floats: `12`, `-3`, `0x1F`, `0o7`, `1.5e3`, `.inf`, `.nan`.
fn is_number(text: &str) -> bool {
    let all = |digits: &str, ok: fn(&u8) -> bool| !digits.is_empty() && digits.as_bytes().iter().all(ok);
    if let Some(hex) = text.strip_prefix("0x") {
        return all(hex, u8::is_ascii_hexdigit);
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return all(octal, |b| (b'0'..=b'7').contains(b));
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let whole = exponent.is_none_or(|e| all(e.strip_prefix(['+', '-']).unwrap_or(e), u8::is_ascii_digit));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    whole && digits(before) && digits(after) && !(before.is_empty() && after.is_empty())
}

/// The five kinds, by the word after `kind:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Fleet,
    Tier,
    DatabasePool,
    Router,
    Tenant,
}

impl Kind {
    pub const WORDS: [(&'static str, Kind); 5] = [
        ("Fleet", Kind::Fleet),
        ("Tier", Kind::Tier),
        ("DatabasePool", Kind::DatabasePool),
        ("Router", Kind::Router),
        ("Tenant", Kind::Tenant),
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Fleet => "Fleet",
            Kind::Tier => "Tier",
            Kind::DatabasePool => "DatabasePool",
            Kind::Router => "Router",
            Kind::Tenant => "Tenant",
        }
    }
}

/// One document whose kind is known, its keys not looked at yet.
#[derive(Debug)]
pub(super) struct Object<'a> {
    pub file: &'a File<'a>,
    pub kind: Kind,
    pub root: Node,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_scalar_is_what_yaml_1_2_says_it_is() {
        for number in ["0", "12", "-3", "+3", "0x1F", "0o17", "1.50", ".5", "5.", "1e3", "1.5E-3", "-.inf", ".nan"] {
            assert_eq!(plain_kind(number), Plain::Number, "{number}");
        }
        for text in ["no", "yes", "on", "1_000", "2Gi", "40%", "0xZZ", "1.2.3", ".", "-", "e5", "5e", "2026-11-24"] {
            assert_eq!(plain_kind(text), Plain::Text, "{text}");
        }
        assert_eq!((plain_kind("~"), plain_kind("True")), (Plain::Null, Plain::Bool));
    }
}
