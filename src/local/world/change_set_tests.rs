//! Change sets: previewed, applied as a whole or not at all, refused on a base that has moved.

use serde_json::{Value, json};

use crate::local::bench::{Bench, MOUNT, text};
use crate::local::world::{Fault, Plan, Rule};

const PREVIEW: &str = "mutation M($e: String!, $in: JSON!) {
    environmentPreviewChangeSet(environmentId: $e, input: $in) { changeSet diagnostics effects } }";
const APPLY: &str = "mutation M($e: String!, $in: JSON!, $base: String, $wait: Boolean) {
    environmentApplyChangeSet(environmentId: $e, input: $in, baseConfigEtag: $base, waitForCompletion: $wait) {
        id status stagedPatchId deploymentId diagnostics changes { kind path status summary outputs } } }";
const OUTCOME: &str = "query Q($e: String!, $id: String!) { environmentChangeSetApply(environmentId: $e, id: $id) {
    id status diagnostics deploymentId changes { status outputs } } }";
const NAMES: &str = "query Q($p: String!) { project(id: $p) { services { edges { node { name } } } } }";

fn database(name: &str) -> Value {
    json!({
        "kind": "resource.create", "address": format!("database.{name}"),
        "path": format!("resources.database.{name}"), "summary": format!("Create database {name}"),
        "severity": "safe", "deployEffect": "deploy",
        "resource": {
            "address": format!("database.{name}"), "type": "database", "kind": "database", "engine": "postgres",
            "name": name, "output": "DATABASE_URL", "defaultMountPath": MOUNT,
            "deploy": { "multiRegionConfig": { "europe-west4-drams3a": { "numReplicas": 1 } } },
        },
    })
}

fn set(changes: &[Value]) -> Value {
    json!({ "version": 1, "diagnostics": [], "changes": changes })
}

fn names(bench: &mut Bench) -> usize {
    let data = bench.ok(NAMES, json!({ "p": bench.project }));
    data.pointer("/project/services/edges").and_then(Value::as_array).map_or(0, Vec::len)
}

fn apply(bench: &mut Bench, input: &Value, base: Option<&str>, wait: bool) -> Value {
    let variables = json!({ "e": bench.environment, "in": input, "base": base, "wait": wait });
    bench.ask(APPLY, variables)
}

#[test]
fn a_preview_tells_the_effects_and_changes_nothing() {
    let mut bench = Bench::new(Plan::Pro);
    let etag = bench.etag();
    let delete = json!({ "kind": "resource.delete", "address": "service.api", "path": "resources.service.api" });
    bench.service("api");
    let before = bench.etag();
    let data = bench.ok(PREVIEW, json!({ "e": bench.environment, "in": set(&[database("acme"), delete]) }));
    let effects = &data["environmentPreviewChangeSet"]["effects"];
    assert_eq!((&effects[0]["severity"], &effects[0]["summary"]), (&json!("safe"), &json!("Create database acme")));
    assert_eq!(effects[1]["severity"], "destructive");
    assert_eq!(data["environmentPreviewChangeSet"]["changeSet"]["changes"][0], database("acme"));
    assert_ne!(etag, before);
    assert_eq!((bench.etag(), names(&mut bench)), (before, 1));
}

#[test]
fn behaviour_22_an_apply_answers_applying_and_finishes_later_with_a_whole_database() {
    let mut bench = Bench::new(Plan::Pro);
    let etag = bench.etag();
    let made = apply(&mut bench, &set(&[database("acme")]), Some(&etag), false);
    let made = &made["data"]["environmentApplyChangeSet"];
    assert_eq!((&made["status"], &made["changes"][0]["status"]), (&json!("applying"), &json!("applying")));
    assert_eq!(names(&mut bench), 0, "accepted is not applied");
    bench.wait(3);
    let data = bench.ok(OUTCOME, json!({ "e": bench.environment, "id": made["id"] }));
    let outcome = &data["environmentChangeSetApply"];
    assert_eq!((&outcome["status"], &outcome["changes"][0]["status"]), (&json!("applied"), &json!("applied")));
    let service = text(outcome, "/changes/0/outputs/serviceId");
    let config = bench.config(true);
    assert_eq!(config["services"][&service]["volumeMounts"].as_object().map(serde_json::Map::len), Some(1));
    assert_eq!(text(&config, &format!("/services/{service}/variables/POSTGRES_PASSWORD/value")).len(), 32);
    bench.wait(10);
    assert_eq!(bench.status(&service), Some(("SUCCESS".into(), Some("RUNNING".into()))));
    assert_eq!(bench.deployments(&service), 1);
}

#[test]
fn behaviour_9_a_stale_base_is_refused_with_its_code_and_nothing_is_applied() {
    let mut bench = Bench::new(Plan::Pro);
    let base = bench.etag();
    bench.service("api");
    let body = apply(&mut bench, &set(&[database("acme")]), Some(&base), true);
    assert_eq!(body.pointer("/errors/0/extensions/code"), Some(&json!("STALE_ENVIRONMENT_BASE")));
    assert!(text(&body, "/errors/0/message").starts_with("The environment changed since this plan was computed."));
    assert_eq!(names(&mut bench), 1);
    let base = bench.etag();
    bench.railway.order(Rule::once(Fault::StaleBase));
    let body = apply(&mut bench, &set(&[database("acme")]), Some(&base), true);
    assert_eq!(body.pointer("/errors/0/extensions/code"), Some(&json!("STALE_ENVIRONMENT_BASE")));
    let body = apply(&mut bench, &set(&[database("acme")]), Some(&base), true);
    assert_eq!(text(&body, "/data/environmentApplyChangeSet/status"), "applied");
    assert_eq!(names(&mut bench), 2);
}

#[test]
fn a_change_that_is_refused_leaves_nothing_of_those_before_it() {
    let mut bench = Bench::new(Plan::Pro);
    bench.service("taken");
    let before = bench.etag();
    let body = apply(&mut bench, &set(&[database("acme"), database("taken")]), None, true);
    assert_eq!(text(&body, "/errors/0/message"), "A service named \"taken\" already exists in this project");
    assert_eq!((names(&mut bench), bench.etag()), (1, before));
}

#[test]
fn an_apply_that_no_longer_fits_when_it_is_due_fails_and_says_why() {
    let mut bench = Bench::new(Plan::Pro);
    let made = apply(&mut bench, &set(&[database("acme")]), None, false);
    let id = made.pointer("/data/environmentApplyChangeSet/id").cloned();
    bench.service("acme");
    bench.wait(3);
    let data = bench.ok(OUTCOME, json!({ "e": bench.environment, "id": id }));
    let outcome = &data["environmentChangeSetApply"];
    assert_eq!(outcome["status"], "failed");
    assert!(text(outcome, "/diagnostics/0/message").contains("already exists"));
}

#[test]
fn variables_updates_and_deletions_go_by_address_and_deploy_once() {
    let mut bench = Bench::new(Plan::Pro);
    let body = apply(&mut bench, &set(&[database("db")]), None, true);
    let db = text(&body, "/data/environmentApplyChangeSet/changes/0/outputs/serviceId");
    let literal = |value: &str| json!({ "type": "literal", "value": value });
    let api = json!({
        "kind": "resource.create", "address": "service.api",
        "resource": { "source": { "type": "image", "image": "ghcr.io/acme/api:1" }, "variables": { "A": literal("1") } },
    });
    let body = apply(&mut bench, &set(&[api]), None, true);
    let api = text(&body, "/data/environmentApplyChangeSet/changes/0/outputs/serviceId");
    assert_eq!(bench.deployments(&api), 1);
    let changes = [
        json!({ "kind": "variable.set", "address": "service.api", "variable": "B", "after": literal("2") }),
        json!({ "kind": "variable.set", "address": "service.api", "variable": "URL",
            "after": { "type": "reference", "resource": "database.db", "output": "POSTGRES_PASSWORD" } }),
        json!({ "kind": "variable.delete", "address": "service.api", "variable": "A" }),
        json!({ "kind": "resource.update", "address": "service.api", "field": "deploy", "after": { "startCommand": "x" } }),
    ];
    apply(&mut bench, &set(&changes), None, true);
    assert_eq!(bench.deployments(&api), 2);
    let config = bench.config(true);
    let variables = &config["services"][&api]["variables"];
    assert_eq!((variables["B"]["value"].clone(), variables.get("A")), (json!("2"), None));
    assert_eq!(config["services"][&api]["deploy"]["startCommand"], "x");
    let query = "query Q($p: String!, $e: String!, $s: String!) { variables(projectId: $p, environmentId: $e, serviceId: $s) }";
    let read = bench.ok(query, json!({ "p": bench.project, "e": bench.environment, "s": api }));
    assert_eq!(read["variables"]["URL"], config["services"][&db]["variables"]["POSTGRES_PASSWORD"]["value"]);
    let gone = json!({ "kind": "resource.delete", "address": "database.db" });
    apply(&mut bench, &set(&[gone]), None, true);
    let now = bench.now;
    let left = bench.railway.world(now).volumes_at(&bench.environment, None).len();
    assert_eq!((names(&mut bench), left), (1, 1), "its volume stays");
}

#[test]
fn what_is_not_understood_is_named() {
    let mut bench = Bench::new(Plan::Pro);
    let cases = [
        (json!({ "version": 9, "changes": [] }), "Invalid input: the change set: its version must be one of 0, 1"),
        (
            set(&[json!({ "kind": "domain.create", "address": "service.api" })]),
            "the change kind `domain.create` is not simulated by the local Railway",
        ),
        (
            set(&[json!({ "kind": "resource.delete", "address": "bucket.media" })]),
            "a change of a `bucket` is not simulated by the local Railway",
        ),
        (set(&[json!({ "kind": "resource.delete", "address": "service.none" })]), "Service not found"),
    ];
    for (input, expected) in cases {
        assert_eq!(bench.refused(PREVIEW, json!({ "e": bench.environment, "in": input })), expected);
    }
}
