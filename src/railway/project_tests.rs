//! Finding and making projects with each kind of token.

use serde_json::{Value, json};

use super::scripted::{Reply, Script, data, refusal};
use super::*;
use crate::tenancy::{EnvironmentId, ProjectId, Secret};

fn project(id: &str, name: &str) -> Value {
    let environment = json!({ "id": format!("{id}-env"), "name": "production", "deletedAt": null });
    let old = json!({ "id": "old", "name": "old", "deletedAt": "2026-11-24T08:00:00.000Z" });
    json!({
        "id": id, "name": name, "deletedAt": null, "workspaceId": "w1",
        "environments": {
            "edges": [{ "node": old }, { "node": environment }],
            "pageInfo": { "hasNextPage": false },
        },
    })
}

fn list(projects: Vec<Value>, next: Option<&str>) -> Value {
    let edges: Vec<Value> = projects.into_iter().map(|node| json!({ "node": node })).collect();
    json!({ "edges": edges, "pageInfo": { "hasNextPage": next.is_some(), "endCursor": next } })
}

fn account(workspaces: Vec<(&str, Value)>) -> Reply {
    let workspace = |(id, projects)| json!({ "id": id, "name": format!("{id} name"), "projects": projects });
    let workspaces: Vec<Value> = workspaces.into_iter().map(workspace).collect();
    data(json!({ "me": { "workspaces": workspaces } }))
}

async fn find(replies: impl IntoIterator<Item = Reply>) -> (Result<Found, Error>, Vec<&'static str>) {
    let script = Script::new(replies);
    let found = script.client().find("shop", "production").await;
    (found, script.operations())
}

fn ids(found: &Found) -> Vec<&str> {
    found.projects.iter().map(|project| project.id.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn an_account_finds_a_project_in_one_request() {
    let mut gone = project("p0", "shop");
    gone["deletedAt"] = json!("2026-11-24T08:00:00.000Z");
    let projects = vec![gone, project("p1", "shop"), project("p2", "other")];
    let (found, operations) = find([account(vec![("w1", list(projects, None))])]).await;
    let found = found.expect("found");
    assert_eq!((ids(&found), operations), (vec!["p1"], vec!["FindProject"]));
    assert_eq!(found.workspace, Some(("w1".into(), "w1 name".into())));
    let environment = EnvironmentId::parse("p1-env").expect("valid");
    assert_eq!(found.projects[0].environments, [(environment, "production".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn a_project_on_a_later_page_is_found_too() {
    let first = account(vec![("w1", list(vec![project("p1", "other")], Some("next")))]);
    let second = data(json!({ "projects": list(vec![project("p2", "shop")], None) }));
    let (found, operations) = find([first, second]).await;
    assert_eq!(ids(&found.expect("found")), ["p2"]);
    assert_eq!(operations, ["FindProject", "ListProjects"]);
}

#[tokio::test(start_paused = true)]
async fn with_several_workspaces_none_is_chosen_for_the_user() {
    let none = || list(vec![], None);
    let (found, _) = find([account(vec![("w1", none()), ("w2", none())])]).await;
    let found = found.expect("an answer");
    assert_eq!((found.workspace, found.workspaces.len(), found.projects.len()), (None, 2, 0));
    let twice = account(vec![("w1", list(vec![project("p1", "shop"), project("p2", "shop")], None))]);
    assert_eq!(ids(&find([twice]).await.0.expect("found")), ["p1", "p2"]);
}

#[tokio::test(start_paused = true)]
async fn a_workspace_token_goes_round_what_it_may_not_read() {
    let me = || refusal("Not Authorized", Some("me"));
    let reach = json!([{ "id": "w1", "name": "Team" }]);
    let all = |projects| data(json!({ "apiToken": { "workspaces": reach }, "projects": list(projects, None) }));
    let (found, operations) = find([me(), all(vec![project("p1", "shop")])]).await;
    let found = found.expect("found");
    assert_eq!(found.workspace, Some(("w1".into(), "Team".into())));
    assert_eq!((ids(&found), operations.len()), (vec!["p1"], 2));
    // Not in the token's own list: asked for by workspace before anybody makes it a second time.
    let by_workspace = data(json!({ "projects": list(vec![project("p9", "shop")], None) }));
    let (found, operations) = find([me(), all(vec![]), by_workspace]).await;
    assert_eq!(ids(&found.expect("found")), ["p9"]);
    assert_eq!(operations, ["FindProject", "FindProjectByWorkspaceToken", "ListProjects"]);
}

async fn find_existing(replies: impl IntoIterator<Item = Reply>) -> (Result<Found, Error>, Vec<&'static str>) {
    let script = Script::new(replies);
    let found = script.client().find_existing("shop", "production").await;
    (found, script.operations())
}

#[tokio::test(start_paused = true)]
async fn a_project_that_is_there_is_found_in_one_request_whatever_the_token() {
    let own = |projects, next| data(json!({ "projects": list(projects, next) }));
    let (found, operations) = find_existing([own(vec![project("p2", "other"), project("p1", "shop")], None)]).await;
    assert_eq!((ids(&found.expect("found")), operations), (vec!["p1"], vec!["ListProjects"]));
    // Two of one name are both told, on whichever pages they are.
    let pages = [own(vec![project("p1", "shop")], Some("next")), own(vec![project("p2", "shop")], None)];
    assert_eq!(ids(&find_existing(pages).await.0.expect("found")), ["p1", "p2"]);
    // What this list does not show is not missing before everything was asked.
    let account = account(vec![("w1", list(vec![project("p1", "shop")], None))]);
    let (found, operations) = find_existing([own(vec![], None), account]).await;
    assert_eq!((ids(&found.expect("found")), operations), (vec!["p1"], vec!["ListProjects", "FindProject"]));
    let (wrong, operations) = find_existing([refusal("Not Authorized", Some("projects"))]).await;
    assert!(matches!(wrong, Err(Error::Unauthorized { .. })) && operations.len() == 1, "{wrong:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wrong_token_is_not_an_empty_workspace() {
    let (found, _) = find([refusal("Not Authorized", Some("me")), refusal("Not Authorized", Some("apiToken"))]).await;
    assert!(matches!(found, Err(Error::Unauthorized { .. })), "{found:?}");
}

#[tokio::test(start_paused = true)]
async fn a_project_token_is_held_against_the_manifests() {
    let bound = || {
        let project = json!({ "id": "p1", "name": "shop", "workspaceId": "w1" });
        let environment = json!({ "id": "e1", "name": "production" });
        data(json!({ "projectToken": { "project": project, "environment": environment } }))
    };
    let client = |script: &std::sync::Arc<Script>| {
        script.client_with(ClientConfig::new(Token::Project(Secret::new("token")), 1))
    };
    let script = Script::new([bound(), bound()]);
    let found = client(&script).find("shop", "production").await.expect("found");
    assert_eq!((ids(&found), script.operations()), (vec!["p1"], vec!["ProbeProjectToken"]));
    let error = client(&script).find("shop", "staging").await.expect_err("another environment");
    assert!(matches!(error, Error::TokenElsewhere { .. }) && error.exit_code() == 77, "{error:?}");
    assert!(error.to_string().contains("staging") && error.to_string().contains("production"));
}

#[tokio::test(start_paused = true)]
async fn a_new_project_comes_with_its_environment() {
    let made = |environments: Value| {
        data(json!({ "projectCreate": { "id": "p1", "baseEnvironmentId": "base",
            "environments": { "edges": environments } } }))
    };
    let environment = json!([{ "node": { "id": "e1", "name": "production" } }]);
    for (answer, environment) in [(made(environment), "e1"), (made(json!([])), "base")] {
        let script = Script::new([answer]);
        let ids = script.client().create_project("shop", "production", Some("w1")).await.expect("made");
        assert_eq!((ids.0.as_str(), ids.1.as_str()), ("p1", environment));
        let input = &script.sent()[0].body["variables"]["input"];
        assert_eq!((&input["defaultEnvironmentName"], &input["workspaceId"]), (&json!("production"), &json!("w1")));
    }
    let script = Script::new([data(json!({ "environmentCreate": { "id": "e2" } }))]);
    let project = ProjectId::parse("p1").expect("valid");
    let made = script.client().create_environment(&project, "staging").await;
    assert_eq!(made, Ok(EnvironmentId::parse("e2").expect("valid")));
}
