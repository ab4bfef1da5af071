//! What a key means, by its path: `Tenant.spec.limits.connections`. Everything said comes from the schema.

use serde::Serialize;
use serde_json::Value;

use super::error::{did_you_mean, quote};
use super::raw::Kind;
use super::schema::of_kind;

/// So many paths are named to somebody who wrote only their end.
const NAMED_MAX: usize = 4;

/// A kind, or one of its keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explained {
    /// `Tenant.spec.limits`; entries of a list have no part of their own.
    pub path: String,
    pub description: String,
    #[serde(flatten)]
    pub value: Takes,
    /// The keys of a map, sorted by name.
    pub keys: Vec<ExplainedKey>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedKey {
    pub name: String,
    pub required: bool,
    pub description: String,
    #[serde(flatten)]
    pub value: Takes,
}

/// What may be written for a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Takes {
    /// In words: `a size from 16Mi to 64Ti`.
    pub takes: String,
    /// Each allowed word with what it means, where the key takes words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
}

/// Completes "`Tenant.spec.limit` …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotExplained {
    #[error("begins with no kind: expected one of {}{near}", kinds())]
    Kind { near: String },
    #[error("is no key: {parent} has {known}{near}")]
    Key { parent: String, known: String, near: String },
    #[error("is no key: {parent} holds no keys")]
    Leaf { parent: String },
}

fn kinds() -> String {
    Kind::WORDS.map(|(word, _)| word).join(", ")
}

/// Reads a path as people write it: the kind in any case, list brackets left out or written as `[]`.
pub fn explain(path: &str) -> Result<Explained, NotExplained> {
    let mut parts = path.split('.').map(|part| part.trim_end_matches("[]")).filter(|part| !part.is_empty());
    let first = parts.next().unwrap_or_default();
    let kind = Kind::WORDS.iter().find(|(word, _)| word.eq_ignore_ascii_case(first));
    let &(word, kind) = kind.ok_or_else(|| NotExplained::Kind { near: near_path(path) })?;
    let (mut schema, mut path) = (of_kind(kind), word.to_owned());
    for part in parts {
        schema = step(&schema, &path, part)?;
        path = format!("{path}.{part}");
    }
    Ok(Explained { path, description: text(&schema, "description"), value: takes(&schema), keys: keys(&schema) })
}

fn near<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    did_you_mean(word, known).map(|near| format!("; {near}")).unwrap_or_default()
}

/// For a path that begins with no kind: whole paths that end like it, else the nearest word.
fn near_path(path: &str) -> String {
    let mut all = Vec::new();
    Kind::WORDS.iter().for_each(|&(word, kind)| paths(&of_kind(kind), word, &mut all));
    let end = format!(".{}", path.to_lowercase());
    let alike = all.iter().filter(|known| known.to_lowercase().ends_with(&end));
    let alike: Vec<String> = alike.take(NAMED_MAX).map(|known| quote(known)).collect();
    if alike.is_empty() {
        let last = |path: &'_ String| path.rsplit('.').next().unwrap_or_default().to_owned();
        let words: Vec<String> =
            Kind::WORDS.iter().map(|(word, _)| (*word).to_owned()).chain(all.iter().map(last)).collect();
        return near(path.split('.').next().unwrap_or(path), words.iter().map(String::as_str));
    }
    format!("; did you mean {}?", alike.join(" or "))
}

/// Of every key below.
fn paths(schema: &Value, path: &str, all: &mut Vec<String>) {
    for key in keys(schema) {
        let below = format!("{path}.{}", key.name);
        if let Ok(inner) = step(schema, path, &key.name) {
            paths(&inner, &below, all);
        }
        all.push(below);
    }
}

fn step(schema: &Value, parent: &str, key: &str) -> Result<Value, NotExplained> {
    let known = keys(schema);
    if known.is_empty() {
        return Err(NotExplained::Leaf { parent: parent.to_owned() });
    }
    let names: Vec<&str> = known.iter().map(|key| key.name.as_str()).collect();
    let at = |choice: &Value| choice["properties"].get(key).cloned();
    let found = at(entry(schema)).or_else(|| list(schema, "anyOf").iter().find_map(at));
    found.ok_or_else(|| {
        let near = near(key, names.iter().copied());
        let quoted: Vec<String> = names.iter().map(|name| quote(name)).collect();
        NotExplained::Key { parent: parent.to_owned(), known: quoted.join(", "), near }
    })
}

/// Of a list, what each entry is.
fn entry(schema: &Value) -> &Value {
    schema.get("items").unwrap_or(schema)
}

fn keys(schema: &Value) -> Vec<ExplainedKey> {
    let entry = entry(schema);
    let required = |of: &Value, key: &str| list(of, "required").iter().any(|name| name == key);
    let of = |choice: &Value| {
        let properties = choice["properties"].as_object().cloned().unwrap_or_default();
        let key = |(name, inner): (String, Value)| ExplainedKey {
            required: required(choice, &name),
            description: text(&inner, "description"),
            value: takes(&inner),
            name,
        };
        properties.into_iter().map(key).collect::<Vec<_>>()
    };
    let mut keys = of(entry);
    keys.extend(list(entry, "anyOf").iter().flat_map(of));
    keys
}

fn list<'v>(schema: &'v Value, key: &str) -> &'v [Value] {
    schema[key].as_array().map_or(&[], Vec::as_slice)
}

fn text(schema: &Value, key: &str) -> String {
    schema[key].as_str().unwrap_or_default().to_owned()
}

pub(super) fn takes(schema: &Value) -> Takes {
    let default = schema.get("default").map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    Takes { takes: in_words(schema), words: words(schema), default }
}

fn words(schema: &Value) -> Vec<(String, String)> {
    let described = list(schema, "oneOf").iter().map(|choice| (text(choice, "const"), text(choice, "description")));
    let plain = list(schema, "enum").iter().filter_map(Value::as_str).map(|word| (word.to_owned(), String::new()));
    let of_entries = schema.get("items").into_iter().flat_map(words);
    described.chain(plain).chain(of_entries).collect()
}

fn in_words(schema: &Value) -> String {
    if !list(schema, "anyOf").is_empty() {
        let choices: Vec<String> = list(schema, "anyOf").iter().map(choice).collect();
        return choices.join(" or ");
    }
    if let Some(constant) = schema["const"].as_str() {
        return format!("`{constant}`");
    }
    if !words(schema).is_empty() && schema.get("items").is_none() {
        return either(&words(schema)).unwrap_or_else(|| "a word".to_owned());
    }
    let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str()).unwrap_or("any value");
    match kind {
        "object" if schema["properties"].is_object() => "a map".to_owned(),
        "object" => "a map of text".to_owned(),
        "array" => format!("a list{}", bound(schema, "maxItems", " of up to ")),
        "boolean" => "`true` or `false`".to_owned(),
        "integer" => format!("a whole number{}", range(schema)),
        "number" => format!("a decimal number{}", range(schema)),
        _ => string(schema),
    }
}

/// One or two words are said at once.
fn either(words: &[(String, String)]) -> Option<String> {
    (words.len() <= 2).then(|| words.iter().map(|(word, _)| quote(word)).collect::<Vec<_>>().join(" or "))
}

fn choice(schema: &Value) -> String {
    let map = schema["properties"].as_object().and_then(|map| map.keys().next());
    match (map, &words(schema)[..]) {
        (Some(key), _) => format!("`{{ {key}: TIME }}`"),
        (None, words) => either(words).unwrap_or_else(|| "a word".to_owned()),
    }
}

fn string(schema: &Value) -> String {
    let pattern = schema["pattern"].as_str().unwrap_or_default();
    let what = match (schema["x-to"].as_str(), pattern) {
        (Some(to), _) if to.ends_with('%') => "a share",
        (Some(_), pattern) if pattern.contains("Gi") => "a size",
        (Some(_), _) => "a time",
        (None, pattern) if pattern.contains('%') => "a share or a number",
        (None, pattern) if pattern.starts_with("^[a-z](") || pattern.starts_with("^[a-z][") => "a name",
        _ => "text",
    };
    match (schema["x-from"].as_str(), schema["x-to"].as_str()) {
        (Some(from), Some(to)) => format!("{what} from {from} to {to}"),
        _ => format!("{what}{}{}", bound(schema, "maxLength", " of up to "), characters(schema)),
    }
}

fn characters(schema: &Value) -> &'static str {
    if schema.get("maxLength").is_some() { " characters" } else { "" }
}

fn bound(schema: &Value, key: &str, before: &str) -> String {
    schema.get(key).map(|max| format!("{before}{max}")).unwrap_or_default()
}

fn range(schema: &Value) -> String {
    match (schema.get("minimum"), schema.get("maximum")) {
        (Some(from), Some(to)) => format!(" from {from} to {to}"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_as_people_write_it() {
        for path in ["Tenant.spec.roles.name", "tenant.spec.roles[].name"] {
            assert_eq!(explain(path).expect("a key").value.takes, "a name of up to 61 characters");
        }
        let storage = explain("Tier.spec.limits.storage").expect("a key");
        assert_eq!(storage.value.takes, "a size from 16Mi to 64Ti");
        let slow = explain("Tier.spec.overLimit.queriesPerMinute").expect("a key");
        assert_eq!(slow.value.takes, "`reject` or `{ queue: TIME }` or `{ slow: TIME }`");
        assert_eq!(slow.value.default.as_deref(), Some("reject"));
        assert_eq!(slow.keys.iter().map(|key| key.name.as_str()).collect::<Vec<_>>(), ["queue", "slow"]);
        assert!(explain("Tier.spec.overLimit.queriesPerMinute.slow").is_ok());
    }

    #[test]
    fn a_wrong_path_is_answered_with_the_nearest_right_one() {
        let say = |path: &str| explain(path).expect_err("no such path").to_string();
        assert!(say("Tennant.spec").ends_with("did you mean `Tenant`?"), "{}", say("Tennant.spec"));
        assert!(say("Tenant.spec.limit").ends_with("did you mean `limits`?"), "{}", say("Tenant.spec.limit"));
        for (part, whole) in [
            ("deletionPolicy", "did you mean `Tenant.spec.deletionPolicy`?"),
            ("spec.tier", "did you mean `Tenant.spec.tier`?"),
            ("renamedfrom", "did you mean `Tenant.metadata.renamedFrom`?"),
            ("limits.storage", "did you mean `Tier.spec.limits.storage` or `Tenant.spec.limits.storage`?"),
            ("deletionPolcy", "did you mean `deletionPolicy`?"),
        ] {
            assert!(say(part).ends_with(whole), "{}", say(part));
        }
        assert_eq!(say("Tenant.spec.tier.x"), "is no key: Tenant.spec.tier holds no keys");
    }

    #[test]
    fn every_key_can_be_explained() {
        fn below(path: &str) -> usize {
            let explained = explain(path).unwrap_or_else(|error| panic!("{path} {error}"));
            assert!(explained.value.takes != "any value", "{path}");
            1 + explained.keys.iter().map(|key| below(&format!("{path}.{}", key.name))).sum::<usize>()
        }
        assert!(Kind::WORDS.iter().map(|(word, _)| below(word)).sum::<usize>() > 100);
    }
}
