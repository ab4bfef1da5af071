//! The schema and `check` know the same keys, words and bounds: each is asked about what the other says.

use serde_json::{Value, json};

use super::super::source::Source;
use super::super::{Code, load};
use super::*;
use crate::tenancy::{Bytes, Millis};

/// A place in a document: keys, and `0` for a list's entry.
type Path = Vec<String>;

/// Every schema of a kind below its document, with where it applies.
fn places(kind: Kind) -> Vec<(Path, Value)> {
    let mut found = Vec::new();
    walk(&of_kind(kind), Vec::new(), &mut found);
    found.retain(|(path, _)| !matches!(path.first().map(String::as_str), None | Some("kind" | "apiVersion")));
    assert!(found.len() > 5, "{kind:?} has hardly a key");
    found
}

fn walk(schema: &Value, path: Path, found: &mut Vec<(Path, Value)>) {
    found.push((path.clone(), schema.clone()));
    let below = |key: &str| path.iter().cloned().chain([key.to_owned()]).collect();
    for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
        walk(inner, below(key), found);
    }
    if schema.get("items").is_some() {
        walk(&schema["items"], below("0"), found);
    }
}

/// A document that holds `value` at `path` and little else. JSON is YAML.
fn with(kind: Kind, path: &[String], value: Value) -> String {
    let wrapped = path.iter().rev().fold(value, |inner, key| match key.as_str() {
        "0" => json!([inner]),
        key => json!({ key: inner }),
    });
    let mut document =
        json!({ "apiVersion": "ogelnates.dev/v1", "kind": kind.as_str(), "metadata": { "name": "x" } });
    merge(&mut document, wrapped);
    document.to_string()
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

#[derive(Debug)]
struct Said {
    code: Code,
    message: String,
    help: String,
}

fn problems(text: String) -> Vec<Said> {
    match load(&[Source { path: "x.yaml".into(), text }]) {
        Ok(_) => Vec::new(),
        Err(problems) => {
            let views = problems.views().into_iter();
            views.map(|view| Said { code: view.code, message: view.message.into(), help: view.help.into() }).collect()
        }
    }
}

/// What `check` says of a value at a place, leaving out what the document lacks.
fn said(kind: Kind, path: &[String], value: Value) -> Vec<Said> {
    const OF_THE_VALUE: [Code; 9] = [
        Code::UnknownKey,
        Code::WrongType,
        Code::UnknownWord,
        Code::Negative,
        Code::OutOfRange,
        Code::BadQuantity,
        Code::BadDecimal,
        Code::BadText,
        Code::BadName,
    ];
    let all = problems(with(kind, path, value)).into_iter();
    all.filter(|problem| OF_THE_VALUE.contains(&problem.code)).collect()
}

fn listed(help: &str) -> Vec<&str> {
    let list = help.lines().find_map(|line| line.strip_prefix("expected ")).unwrap_or_default();
    let mut words: Vec<&str> = list.split(", ").flat_map(|part| part.split(" or ")).collect();
    words.iter_mut().for_each(|word| *word = word.trim_start_matches("one of ").trim_matches('`'));
    words.sort_unstable();
    words
}

#[test]
fn each_map_of_the_schema_holds_the_keys_that_check_reads() {
    for (_, kind) in Kind::WORDS {
        for (path, schema) in places(kind) {
            let Some(keys) = schema["properties"].as_object() else { continue };
            let mut keys: Vec<&str> = keys.keys().map(String::as_str).collect();
            keys.sort_unstable();
            let unknown = said(kind, &path, json!({ "nonsense": 1 }));
            let problem = unknown.iter().find(|problem| problem.code == Code::UnknownKey);
            let problem = problem.unwrap_or_else(|| panic!("{kind:?} {path:?}: `check` reads no map here"));
            assert_eq!(listed(&problem.help), keys, "{kind:?} {path:?}");
            assert_eq!(schema["additionalProperties"], json!(false), "{kind:?} {path:?}");
        }
    }
}

#[test]
fn required_keys_are_those_that_check_misses() {
    for (_, kind) in Kind::WORDS {
        for (path, schema) in places(kind) {
            let Some(keys) = schema["properties"].as_object() else { continue };
            let missing = problems(with(kind, &path, json!({ "nonsense": 1 })));
            let dotted: Path = path.iter().filter(|key| *key != "0").cloned().collect();
            for key in keys.keys() {
                let name = dotted.iter().cloned().chain([key.clone()]).collect::<Vec<_>>().join(".");
                let message = format!("missing key `{name}`");
                let misses = missing.iter().any(|problem| problem.message == message);
                let required = schema["required"].as_array().is_some_and(|keys| keys.contains(&json!(key)));
                assert!(misses == required || name == "metadata.name", "{kind:?} {name}: {misses} {required}");
            }
        }
    }
}

/// Values just inside and just outside of a leaf's bounds.
fn bounds(schema: &Value) -> Option<([Value; 2], Vec<Value>)> {
    let below = |n: u64| n.checked_sub(1).map(Value::from);
    let (from, to) = (schema["x-from"].as_str(), schema["x-to"].as_str());
    if schema["type"] == "number" {
        let (low, high) = (schema["minimum"].clone(), schema["maximum"].clone());
        let above = high.as_u64().expect("a whole number") + 1;
        return Some(([low, high], vec![json!(-1), json!(above)]));
    }
    if let (Some(from), Some(to), true) = (from, to, schema["pattern"].as_str()?.contains("Gi")) {
        let (low, high) = (Bytes::parse(from).expect("a size").0, Bytes::parse(to).expect("a size").0);
        assert_eq!((schema["minimum"].as_u64(), schema["maximum"].as_u64()), (Some(low), Some(high)));
        return Some(([json!(from), json!(to)], below(low).into_iter().chain([json!(high + 1)]).collect()));
    }
    let (from, to) = (from?, to?);
    if to.ends_with('%') {
        return Some(([json!(from), json!(to)], vec![json!("101%"), json!("5")]));
    }
    let (low, high) = (Millis::parse(from).expect("a time").0, Millis::parse(to).expect("a time").0);
    Some(([json!(from), json!(to)], vec![json!(format!("{}ms", low - 1)), json!(format!("{}ms", high + 1))]))
}

fn whole_bounds(schema: &Value) -> Option<([Value; 2], Vec<Value>)> {
    let (low, high) = (schema["minimum"].as_u64()?, schema["maximum"].as_u64()?);
    let outside = low.checked_sub(1).into_iter().chain([high + 1]).map(Value::from).collect();
    (schema["type"] == "integer").then(|| ([json!(low), json!(high)], outside))
}

#[test]
fn bounds_are_those_of_check() {
    let mut tried = 0;
    for (_, kind) in Kind::WORDS {
        for (path, schema) in places(kind) {
            let Some((inside, outside)) = whole_bounds(&schema).or_else(|| bounds(&schema)) else { continue };
            tried += 1;
            for value in inside {
                let said = said(kind, &path, value.clone());
                assert!(said.is_empty(), "{kind:?} {path:?} refuses {value}: {said:?}");
            }
            for value in outside {
                assert!(!said(kind, &path, value.clone()).is_empty(), "{kind:?} {path:?} takes {value}");
            }
        }
    }
    assert!(tried > 25, "only {tried} keys have bounds");
}

#[test]
fn words_are_those_of_check() {
    let mut tried = 0;
    for (_, kind) in Kind::WORDS {
        for (path, schema) in places(kind) {
            let words = choices(&schema);
            if words.is_empty() {
                continue;
            }
            tried += 1;
            for word in &words {
                assert!(said(kind, &path, json!(word)).is_empty(), "{kind:?} {path:?} refuses {word}");
            }
            let unknown = said(kind, &path, json!("nonsense"));
            let problem = unknown.iter().find(|problem| problem.code == Code::UnknownWord);
            let problem = problem.unwrap_or_else(|| panic!("{kind:?} {path:?}: `check` reads no word here"));
            assert_eq!(listed(&problem.help), words, "{kind:?} {path:?}");
        }
    }
    assert!(tried > 8, "only {tried} keys take a word");
}

/// The words of a leaf, sorted; none for one that takes other values.
pub(super) fn choices(schema: &Value) -> Vec<String> {
    let one_of = schema["oneOf"].as_array().into_iter().flatten().map(|choice| &choice["const"]);
    let listed = schema["enum"].as_array().into_iter().flatten();
    let mut words: Vec<String> = one_of.chain(listed).filter_map(Value::as_str).map(str::to_owned).collect();
    words.sort_unstable();
    words
}

#[test]
fn a_default_is_a_value_that_check_takes() {
    for (_, kind) in Kind::WORDS {
        for (path, schema) in places(kind).into_iter().filter(|(_, schema)| schema.get("default").is_some()) {
            let said = said(kind, &path, schema["default"].clone());
            assert!(said.is_empty(), "{kind:?} {path:?}: {said:?}");
        }
    }
}

#[test]
fn every_key_is_described() {
    for (_, kind) in Kind::WORDS {
        for (path, schema) in places(kind).into_iter().filter(|(path, _)| path.last().is_some_and(|key| key != "0")) {
            let text = schema["description"].as_str().unwrap_or_default();
            assert!(text.len() > 5 && text.ends_with('.'), "{kind:?} {path:?}: {text:?}");
        }
    }
}
