//! The GraphQL surface: what a client trips over on Railway, it must trip over here.

use serde_json::{Value, json};

use super::bench::{Bench, CREATE_SERVICE, CREATE_VOLUME, text};
use super::gateway::{Fate, Headers};
use super::world::{Fault, Plan, Rule};

fn batch(bench: &Bench, names: [&str; 3]) -> (String, Value) {
    let query = "mutation Batch($a: ServiceCreateInput!, $b: ServiceCreateInput!, $c: ServiceCreateInput!) {
        s0: serviceCreate(input: $a) { id } s1: serviceCreate(input: $b) { id } s2: serviceCreate(input: $c) { id } }";
    let input = |name: &str| json!({ "projectId": bench.project, "environmentId": bench.environment, "name": name });
    let [a, b, c] = names.map(input);
    (query.into(), json!({ "a": a, "b": b, "c": c }))
}

fn names(bench: &mut Bench) -> Vec<String> {
    let query = "query Q($p: String!) { project(id: $p) { services(first: 500) { edges { node { name } } } } }";
    let data = bench.ok(query, json!({ "p": bench.project }));
    let edges = data.pointer("/project/services/edges").and_then(Value::as_array).expect("edges");
    let mut names: Vec<String> = edges.iter().map(|edge| text(edge, "/node/name")).collect();
    names.sort();
    names
}

#[test]
fn behaviour_2_a_failing_alias_nulls_the_answer_keeps_what_ran_before_it_and_stops_what_follows() {
    let mut bench = Bench::new(Plan::Pro);
    bench.service("taken");
    let (query, variables) = batch(&bench, ["first", "taken", "third"]);
    let body = bench.ask(&query, variables);
    assert_eq!(body["data"], Value::Null);
    assert_eq!(body["errors"][0]["path"], json!(["s1"]));
    assert_eq!(body["errors"][0]["message"], "A service named \"taken\" already exists in this project");
    assert_eq!(body["errors"][0]["extensions"]["code"], "INTERNAL_SERVER_ERROR");
    assert_eq!(body["errors"].as_array().map(Vec::len), Some(1));
    assert_eq!(names(&mut bench), ["first", "taken"]);
}

#[test]
fn an_ordered_alias_fails_like_one_of_its_own_accord() {
    let mut bench = Bench::new(Plan::Pro);
    let rule = Rule { alias: Some("s1".into()), operation: Some("Batch".into()), ..Rule::once(Fault::FailAlias) };
    bench.railway.order(rule);
    let (query, variables) = batch(&bench, ["first", "second", "third"]);
    let body = bench.ask(&query, variables.clone());
    assert_eq!((&body["data"], &body["errors"][0]["path"]), (&Value::Null, &json!(["s1"])));
    assert_eq!(names(&mut bench), ["first"]);
    let ran: Vec<(String, bool)> =
        bench.railway.mutations().map(|m| (m.ran.alias.clone(), m.ran.succeeded)).collect();
    assert_eq!(ran[1..], [("s0".to_owned(), true), ("s1".to_owned(), false)]);
}

#[test]
fn behaviour_11_variables_are_masked_unless_asked_for_and_sealed_ones_never_shown() {
    let mut bench = Bench::new(Plan::Pro);
    let service = bench.service("db");
    bench.commit(json!({ "services": { &service: { "variables": {
        "PLAIN": { "value": "open" }, "SECRET": { "value": "sesame", "isSealed": true },
    } } } }));
    let masked = bench.config(false);
    let shown = bench.config(true);
    let at = |config: &Value, name: &str| config["services"][&service]["variables"][name]["value"].clone();
    assert_eq!((at(&masked, "PLAIN"), at(&shown, "PLAIN")), (json!("*****"), json!("open")));
    assert_eq!((at(&masked, "SECRET"), at(&shown, "SECRET")), (Value::Null, Value::Null));
    let query = "query Q($p: String!, $e: String!, $s: String!) {
        variables(projectId: $p, environmentId: $e, serviceId: $s, unrendered: true) }";
    let raw = bench.ok(query, json!({ "p": bench.project, "e": bench.environment, "s": service }));
    assert_eq!(raw["variables"]["PLAIN"], "open");
    assert_eq!(raw["variables"].get("SECRET"), None);
}

#[test]
fn what_the_schema_has_and_this_has_not_is_named() {
    let mut bench = Bench::new(Plan::Pro);
    let query = "query Q($p: String!) { project(id: $p) { id plugins { edges { node { id } } } } }";
    let message = bench.refused(query, json!({ "p": bench.project }));
    assert_eq!(message, "field `Project.plugins` is not simulated by the local Railway");
    let message =
        bench.refused("mutation { webhookTest: bucketCreate(input: { projectId: \"x\" }) { id } }", json!({}));
    assert_eq!(message, "field `Mutation.bucketCreate` is not simulated by the local Railway");
    let input = json!({ "input": { "projectId": bench.project, "name": "x", "templateId": "t" } });
    let message = bench.refused(CREATE_SERVICE, input);
    assert_eq!(message, "input `ServiceCreateInput.templateId` is not simulated by the local Railway");
}

#[test]
fn what_the_schema_has_not_is_refused_with_its_position() {
    let mut bench = Bench::new(Plan::Pro);
    let body = bench.ask("query {\n  project(id: \"x\") { id colour } }", json!({}));
    assert_eq!(body.get("data"), None);
    assert_eq!(body["errors"][0]["locations"][0], json!({ "line": 2, "column": 25 }));
    assert_eq!(body["errors"][0]["extensions"]["code"], "GRAPHQL_VALIDATION_FAILED");
}

#[test]
fn variables_of_a_request_are_coerced_to_the_schema() {
    let mut bench = Bench::new(Plan::Pro);
    let message = bench.refused(CREATE_SERVICE, json!({ "input": { "name": "x" } }));
    assert!(message.contains("projectId"), "{message}");
    let message = bench.refused(CREATE_SERVICE, json!({ "input": { "projectId": "p", "nmae": "x" } }));
    assert!(message.contains("nmae"), "{message}");
}

#[test]
fn introspection_is_served() {
    let mut bench = Bench::new(Plan::Pro);
    let query = "{ __type(name: \"ServiceCreateInput\") { inputFields { name } } __schema { queryType { name } } }";
    let data = bench.ok(query, json!({}));
    assert_eq!(data["__schema"]["queryType"]["name"], "Query");
    let fields = data["__type"]["inputFields"].as_array().expect("fields");
    assert!(fields.contains(&json!({ "name": "variables" })));
}

#[test]
fn pages_follow_one_another_by_their_cursors() {
    let mut bench = Bench::new(Plan::Pro);
    for number in 0..5 {
        bench.service(&format!("s{number}"));
    }
    let query = "query Q($p: String!, $after: String) { project(id: $p) { services(first: 2, after: $after) {
        edges { cursor node { name } } pageInfo { hasNextPage endCursor } } } }";
    let (mut after, mut seen, mut pages) = (Value::Null, Vec::new(), 0);
    loop {
        let data = bench.ok(query, json!({ "p": bench.project, "after": after }));
        let services = &data["project"]["services"];
        seen.extend(services["edges"].as_array().expect("edges").iter().map(|edge| text(edge, "/node/name")));
        pages += 1;
        if services["pageInfo"]["hasNextPage"] == json!(false) {
            break;
        }
        after = services["pageInfo"]["endCursor"].clone();
    }
    seen.sort();
    assert_eq!((pages, seen), (3, (0..5).map(|n| format!("s{n}")).collect::<Vec<_>>()));
    let message = bench.refused(query, json!({ "p": bench.project, "after": "???" }));
    assert!(message.contains("cursor"), "{message}");
}

#[test]
fn behaviour_17_a_project_token_reaches_its_own_environment_and_nothing_else() {
    let mut bench = Bench::new(Plan::Pro);
    let other = bench.ok(
        "mutation M($in: EnvironmentCreateInput!) { environmentCreate(input: $in) { id } }",
        json!({ "in": { "projectId": bench.project, "name": "staging" } }),
    );
    let other = text(&other, "/environmentCreate/id");
    let made = bench.ok(
        "mutation M($in: ProjectTokenCreateInput!) { projectTokenCreate(input: $in) }",
        json!({ "in": { "projectId": bench.project, "environmentId": bench.environment, "name": "ci" } }),
    );
    let headers = Headers::from([("project-access-token".to_owned(), text(&made, "/projectTokenCreate"))]);
    let mut ask = |query: &str, variables: Value| -> Value {
        serde_json::from_str(&bench.send(&headers, query, &variables).body).expect("JSON")
    };
    let whose = ask("{ projectToken { name environment { name } } }", json!({}));
    assert_eq!(whose["data"]["projectToken"], json!({ "name": "ci", "environment": { "name": "production" } }));
    let refused = "Not Authorized";
    assert_eq!(ask("{ me { id } }", json!({}))["errors"][0]["message"], refused);
    let query = "query Q($e: String!) { environment(id: $e) { id } }";
    assert_eq!(ask(query, json!({ "e": other }))["errors"][0]["message"], refused);
    let query = "mutation M { projectCreate(input: {}) { id } }";
    assert_eq!(ask(query, json!({}))["errors"][0]["message"], refused);
}

#[test]
fn a_wrong_or_missing_token_is_told_apart_by_its_header() {
    let mut bench = Bench::new(Plan::Pro);
    for (header, message) in [
        (Some(("authorization", "Bearer wrong")), "Not Authorized"),
        (Some(("project-access-token", "wrong")), "Project Token not found"),
        (None, "Not Authorized"),
    ] {
        let headers = header.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let response = bench.send(&headers, "{ me { id } }", &json!({}));
        let body: Value = serde_json::from_str(&response.body).expect("JSON");
        assert_eq!((response.status, text(&body, "/errors/0/message")), (200, message.to_owned()));
    }
}

#[test]
fn behaviour_18_an_unknown_object_is_not_found_and_a_deleted_one_not_authorized() {
    let mut bench = Bench::new(Plan::Pro);
    let query = "query Q($id: String!) { service(id: $id) { id } }";
    assert_eq!(bench.refused(query, json!({ "id": "nobody" })), "Service not found");
    let service = bench.service("short-lived");
    bench.ok("mutation M($id: String!) { serviceDelete(id: $id) }", json!({ "id": service }));
    assert_eq!(bench.refused(query, json!({ "id": service })), "Not Authorized");
}

#[test]
fn behaviour_4_hobby_allows_ten_requests_a_second_and_says_when_to_come_back() {
    let mut bench = Bench::new(Plan::Hobby);
    bench.wait(5);
    let headers = bench.railway.headers();
    let statuses: Vec<u16> =
        (0..12).map(|_| bench.send(&headers, "{ platformStatus { isStable } }", &json!({})).status).collect();
    assert_eq!((&statuses[..10], &statuses[10..]), (&[200; 10][..], &[429; 2][..]));
    let refused = bench.send(&headers, "{ platformStatus { isStable } }", &json!({}));
    let header = |name: &str| refused.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
    assert_eq!((header("retry-after"), header("x-ratelimit-limit")), (Some("1"), Some("1000")));
    bench.wait(1);
    assert_eq!(bench.send(&headers, "{ platformStatus { isStable } }", &json!({})).status, 200);
}

#[test]
fn behaviour_4_the_hourly_budget_runs_out_and_comes_back() {
    let mut bench = Bench::new(Plan::Free);
    let headers = bench.railway.headers();
    for _ in 1..100 {
        bench.wait(1);
        assert_eq!(bench.send(&headers, "{ platformStatus { isStable } }", &json!({})).status, 200);
    }
    bench.wait(1);
    let refused = bench.send(&headers, "{ platformStatus { isStable } }", &json!({}));
    let retry = refused.headers.iter().find(|(name, _)| name == "retry-after").map(|(_, value)| value.clone());
    assert_eq!((refused.status, retry.as_deref()), (429, Some("3501")));
    bench.wait(3_501);
    assert_eq!(bench.send(&headers, "{ platformStatus { isStable } }", &json!({})).status, 200);
}

#[test]
fn behaviour_20_a_lost_answer_took_effect_and_a_time_out_did_not() {
    let mut bench = Bench::new(Plan::Pro);
    let headers = bench.railway.headers();
    let create = |bench: &mut Bench, name: &str, fault: Fault| {
        bench.railway.order(Rule { operation: Some("serviceCreate".into()), ..Rule::once(fault) });
        let input = json!({ "input": { "projectId": bench.project, "name": name } });
        bench.send(&headers, CREATE_SERVICE, &input)
    };
    assert_eq!(create(&mut bench, "cut", Fault::LostAnswer).fate, Fate::Cut);
    assert_eq!(create(&mut bench, "late", Fault::LostAnswer).status, 504);
    assert_eq!(create(&mut bench, "never", Fault::Timeout).fate, Fate::Never);
    assert_eq!(create(&mut bench, "bad", Fault::ServerError).status, 502);
    let blocked = create(&mut bench, "edge", Fault::EdgeBlock);
    assert_eq!((blocked.status, blocked.headers.len()), (403, 1));
    assert_eq!(create(&mut bench, "spent", Fault::TooManyRequests).status, 429);
    assert_eq!(names(&mut bench), ["cut", "late"]);
}

#[test]
fn trouble_planned_for_a_request_meets_that_request_only() {
    let mut bench = Bench::new(Plan::Pro);
    let next = bench.railway.seen();
    bench.railway.plan_faults([(next + 1, Rule::once(Fault::ServerError))].into());
    let headers = bench.railway.headers();
    let mut status = || bench.send(&headers, "{ platformStatus { isStable } }", &json!({})).status;
    assert_eq!([status(), status(), status()], [200, 502, 200]);
}

#[test]
fn behaviour_1_new_objects_appear_late_while_lists_lag_and_the_truth_does_not() {
    let mut bench = Bench::new(Plan::Pro);
    bench.railway.order(Rule { count: None, ..Rule::once(Fault::Lag) });
    let made: Vec<String> = (0..8).map(|n| bench.service(&format!("s{n}"))).collect();
    let volume = bench.volume(&made[0]);
    let visible = names(&mut bench).len();
    assert!(visible < 8, "all were visible at once");
    let blob = bench.config(true);
    let shown = blob.get("services").and_then(Value::as_object).map_or(0, serde_json::Map::len);
    assert!(shown < 8, "the blob did not lag");
    bench.wait(31);
    assert_eq!(names(&mut bench).len(), 8);
    assert!(bench.config(true)["volumes"].get(&volume).is_some());
}

#[test]
fn requests_are_counted_by_the_name_in_their_document() {
    let mut bench = Bench::new(Plan::Pro);
    bench.service("a");
    bench.ask("{ platformStatus { isStable } regions { name } }", json!({}));
    let input = bench.volume_input(None);
    bench.ok(CREATE_VOLUME, input);
    let requests = bench.railway.requests();
    assert_eq!((requests.total, requests.mutations), (4, 3));
    let counted: Vec<(&str, u64)> = requests.by_operation.iter().map(|(name, n)| (name.as_str(), *n)).collect();
    assert_eq!(counted, [("CreateService", 1), ("CreateVolume", 1), ("M", 1), ("platformStatus,regions", 1)]);
}
