//! The JSON Schema in the tree is the one `o7s schema` prints, takes every manifest of the tree, and refuses what the
//! checks refuse for its shape. After a change of the model: `O7S_REWRITE=1 cargo test --test it manifest_schema`.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use boon::{Compiler, SchemaIndex, Schemas};
use ogelnates::manifest::{self, Code, Source};
use proptest::prelude::*;
use serde_json::{Value, json};

const SCHEMA: &str = "manifests/schema/ogelnates.schema.json";

fn in_tree(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

struct Judge {
    schemas: Schemas,
    index: SchemaIndex,
}

/// Compiled once: it takes longer than all it is asked.
static JUDGE: LazyLock<Judge> = LazyLock::new(Judge::new);

impl Judge {
    fn new() -> Judge {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.add_resource("manifest.json", manifest::schema()).expect("a schema");
        let index = compiler.compile("manifest.json", &mut schemas).expect("the schema compiles");
        Judge { schemas, index }
    }

    fn takes(&self, document: &Value) -> Result<(), String> {
        self.schemas.validate(document, self.index).map_err(|error| format!("{error:#}"))
    }
}

#[test]
fn the_schema_in_the_tree_is_the_one_that_is_printed() {
    let printed = format!("{:#}\n", manifest::schema());
    let path = in_tree(SCHEMA);
    if std::env::var_os("O7S_REWRITE").is_some() {
        std::fs::write(&path, &printed).expect("the schema can be written");
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == printed, "{SCHEMA} is behind the source: O7S_REWRITE=1 cargo test --test it manifest_schema");
}

fn yaml_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        match entry.is_dir() {
            // Workflows are no manifests.
            true if entry.ends_with("examples/ci") => {}
            true => yaml_files(&entry, found),
            false if entry.extension().is_some_and(|end| end == "yaml") => found.push(entry),
            false => {}
        }
    }
}

#[test]
fn every_manifest_of_the_tree_names_the_schema_and_passes_it() {
    let mut files = Vec::new();
    yaml_files(&in_tree("manifests"), &mut files);
    yaml_files(&in_tree("examples"), &mut files);
    yaml_files(&in_tree("src/cli/init"), &mut files);
    assert!(files.len() > 20, "only {} manifests found", files.len());
    for file in files {
        let text = std::fs::read_to_string(&file).expect("text");
        let first = text.lines().next().unwrap_or_default();
        let named = first.strip_prefix("# yaml-language-server: $schema=");
        let named = named.unwrap_or_else(|| panic!("{} does not begin with the schema's line", file.display()));
        // What `init` writes gets its schema written beside it.
        let init = file.starts_with(in_tree("src/cli/init"));
        assert!(init || file.with_file_name(named).exists(), "{}: no {named}", file.display());
        for document in text.split("\n---\n") {
            let value: Value = serde_yaml::from_str(document).expect("YAML");
            JUDGE.takes(&value).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        }
    }
}

/// One document of each kind with every key.
fn whole() -> Vec<Value> {
    let head = |kind: &str, spec: Value| json!({ "apiVersion": "ogelnates.dev/v1", "kind": kind, "metadata": { "name": "x" }, "spec": spec });
    vec![
        head(
            "Fleet",
            json!({
                "railway": { "project": "p", "environment": "e", "plan": "pro" }, "defaults": { "tier": "free" },
                "billing": { "currency": "USD", "overhead": "even", "markup": { "percent": 4 } },
                "safety": { "maxRemovals": "10%" }, "paused": false,
            }),
        ),
        head(
            "Tier",
            json!({
                "limits": { "connections": 5, "serverConnections": 2, "queriesPerMinute": 3, "storage": "1Gi",
                    "egressPerMonth": "1Gi", "statementTimeout": "1s" },
                "overLimit": { "connections": { "queue": "1s" }, "queriesPerMinute": { "slow": "1s" },
                    "egressPerMonth": "reject", "storage": "readOnly" },
                "placement": { "pool": "shared" },
                "price": { "monthly": 1.5, "included": { "egress": "1Gi" }, "overage": { "egressPerGi": 0.1 } },
                "upgrade": { "to": "pro", "message": "m", "url": "https://x.example" },
            }),
        ),
        head(
            "DatabasePool",
            json!({
                "postgres": { "image": "a/b:17", "maxConnections": 99 }, "region": "us-west2", "volume": "5Gi",
                "resources": { "vcpu": 0.5, "memory": "1Gi" }, "tenantsPerInstance": 3, "instances": { "min": 1, "max": 2 },
                "sleepWhenIdle": true, "paused": true,
                "outgrow": { "storage": "1Gi", "serverTimeShare": "4%", "for": "2m", "to": "big", "auto": true },
            }),
        ),
        head(
            "Router",
            json!({
                "replicas": 2, "domain": "db.x.example", "pooling": "session", "identify": ["sni", "jwt"], "jwt": { "secretFrom": "JWT_SECRET", "issuer": "us" }, "paused": false,
            }),
        ),
        json!({
            "apiVersion": "ogelnates.dev/v1", "kind": "Tenant",
            "metadata": { "name": "x", "labels": { "a": "b" }, "renamedFrom": "y" },
            "spec": {
                "tier": "free", "placement": { "pool": "shared" }, "limits": { "connections": 9 },
                "roles": [{ "name": "reader", "grants": "read" }], "suspended": true, "paused": true,
                "credentials": { "generation": 2 }, "state": "absent", "deletionPolicy": "detach",
                "publish": [{ "service": "api", "variable": "DATABASE_URL", "role": "reader" }],
            },
        }),
    ]
}

/// Every place of a document, as JSON pointers.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(map) => map.iter().for_each(|(key, inner)| pointers(inner, &format!("{at}/{key}"), found)),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(index, inner)| pointers(inner, &format!("{at}/{index}"), found));
        }
        _ => {}
    }
}

/// One change somewhere in one of the whole documents.
fn changed() -> impl Strategy<Value = Value> {
    let values = [
        json!(0),
        json!(1),
        json!(-1),
        json!(0.25),
        json!(1_000_000_001),
        json!("1Gi"),
        json!("5s"),
        json!("7%"),
        json!(""),
        json!("free"),
        json!("Nope"),
        json!("a_b"),
        json!("reject"),
        json!(true),
        json!([]),
        json!({}),
        json!(["sni"]),
        json!({ "nonsense": 1 }),
        json!({ "slow": "1s" }),
        json!({ "pool": "a", "instance": "a-1" }),
    ];
    let place = (0..whole().len()).prop_flat_map(|index| {
        let mut places = Vec::new();
        pointers(&whole()[index], "", &mut places);
        (Just(index), proptest::sample::select(places))
    });
    let change = proptest::option::weighted(0.8, proptest::sample::select(values.to_vec()));
    (place, change).prop_map(|((index, place), value)| {
        let mut document = whole().remove(index);
        match value {
            Some(value) => *document.pointer_mut(&place).expect("a place") = value,
            None => remove(&mut document, &place),
        }
        document
    })
}

fn remove(document: &mut Value, place: &str) {
    let Some((parent, key)) = place.rsplit_once('/') else { return };
    if let Some(map) = document.pointer_mut(parent).and_then(Value::as_object_mut) {
        map.remove(key);
    }
}

/// Errors about the shape of one document, which a schema can see too. A quantity's bounds it cannot.
fn shape_errors(document: &Value) -> Vec<String> {
    let shape = [
        Code::UnknownKey,
        Code::MissingKey,
        Code::WrongType,
        Code::UnknownKind,
        Code::WrongApiVersion,
        Code::UnknownWord,
        Code::Negative,
        Code::BadName,
    ];
    let source = Source { path: "x.yaml".into(), text: document.to_string() };
    let Err(problems) = manifest::load(&[source]) else { return Vec::new() };
    let about = problems.views().into_iter().filter(|view| shape.contains(&view.code));
    about.map(|view| format!("{}: {}", view.code, view.message)).collect()
}

/// Errors of one document by itself, whatever they are.
fn own_errors(document: &Value) -> Vec<String> {
    let of_the_set = [Code::NoFleet, Code::UnknownTier, Code::UnknownPool, Code::NoTier, Code::NoPool];
    let source = Source { path: "x.yaml".into(), text: document.to_string() };
    let Err(problems) = manifest::load(&[source]) else { return Vec::new() };
    let own = problems.views().into_iter().filter(|view| !of_the_set.contains(&view.code));
    own.map(|view| format!("{}: {}", view.code, view.message)).collect()
}

#[test]
fn whole_documents_pass_both() {
    for document in whole() {
        JUDGE.takes(&document).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(own_errors(&document), Vec::<String>::new());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_schema_never_refuses_what_the_checks_take(document in changed()) {
        if own_errors(&document).is_empty() {
            let verdict = JUDGE.takes(&document);
            prop_assert!(verdict.is_ok(), "{document}\n{}", verdict.unwrap_err());
        }
    }

    #[test]
    fn the_schema_refuses_a_wrong_shape(document in changed()) {
        let errors = shape_errors(&document);
        if !errors.is_empty() {
            prop_assert!(JUDGE.takes(&document).is_err(), "{document}\n{errors:?}");
        }
    }
}
