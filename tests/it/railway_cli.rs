//! What Railway's own command line asks for, answered by the local Railway: first the shapes of its requests, sent over
//! HTTP with its headers; then, where it is installed, the program itself (`make test-railway-cli`).

mod program;
mod queries;

use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};

use crate::real::Fleet;

/// Speaks to a local Railway as Railway's CLI does.
struct Caller<'f> {
    fleet: &'f Fleet,
    header: (&'static str, String),
}

impl Caller<'_> {
    fn account(fleet: &Fleet) -> Caller<'_> {
        Caller { fleet, header: ("authorization", format!("Bearer {}", fleet.railway.exports["RAILWAY_API_TOKEN"])) }
    }

    /// Variables are null when there are none, and the operation is named although it is the only one.
    async fn ask(&self, operation: &str, query: &str, variables: Value) -> Value {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let request = client.post(&self.fleet.railway.exports["O7S_RAILWAY_URL"]);
        let request = request.header(self.header.0, &self.header.1).header("x-source", "CLI 5.71.0");
        let request = request.header("user-agent", "CLI 5.71.0");
        let variables =
            if variables.as_object().is_some_and(serde_json::Map::is_empty) { Value::Null } else { variables };
        let body = json!({ "query": query, "variables": variables, "operationName": operation });
        request.json(&body).send().await.expect("an answer").json().await.expect("JSON")
    }

    async fn ok(&self, operation: &str, query: &str, variables: Value) -> Value {
        let mut body = self.ask(operation, query, variables).await;
        assert_eq!(body.get("errors"), None, "{operation}");
        body["data"].take()
    }

    async fn refused(&self, operation: &str, query: &str, variables: Value) -> String {
        let body = self.ask(operation, query, variables).await;
        body["errors"][0]["message"].as_str().unwrap_or_else(|| panic!("no refusal: {body}")).to_owned()
    }

    /// The only node of a connection.
    fn only(connection: &Value) -> &Value {
        let edges = connection["edges"].as_array().unwrap_or_else(|| panic!("no edges in {connection}"));
        assert_eq!(edges.len(), 1, "{connection}");
        &edges[0]["node"]
    }
}

/// Project, environment and the one service of a fleet that is only bootstrapped.
struct Place {
    project: String,
    environment: String,
    service: String,
}

async fn place(caller: &Caller<'_>) -> Place {
    let listed = caller.ok("Everything", queries::EVERYTHING, json!({})).await;
    assert_eq!(listed["externalWorkspaces"], json!([]));
    let workspace = &listed["me"]["workspaces"][0];
    assert_eq!((&workspace["name"], &workspace["team"]), (&json!("local"), &Value::Null));
    let favourites = caller.ok("Favourites", queries::FAVOURITES, json!({ "workspace": workspace["id"] })).await;
    assert_eq!(favourites, json!({ "projectFavorites": [] }));
    let project = Caller::only(&workspace["projects"]);
    let environment = Caller::only(&project["environments"]);
    assert_eq!((&project["name"], &project["deletedAt"]), (&json!("real"), &Value::Null));
    assert_eq!((&environment["name"], &environment["canAccess"]), (&json!("production"), &json!(true)));
    let service = Caller::only(&project["services"]);
    assert_eq!(service["name"], "o7s-control");
    let id = |of: &Value| of["id"].as_str().expect("an id").to_owned();
    Place { project: id(project), environment: id(environment), service: id(service) }
}

#[tokio::test]
async fn login_list_link_and_status_get_what_they_ask_for() {
    let fleet = Fleet::bootstrapped();
    let caller = Caller::account(&fleet);
    let who = caller.ok("Who", "query Who { me { email name id } }", json!({})).await;
    assert_eq!((&who["me"]["name"], &who["me"]["email"]), (&json!("local"), &json!("local@localhost")));
    let place = place(&caller).await;

    let project = caller.ok("OneProject", queries::PROJECT, json!({ "project": place.project })).await;
    let project = &project["project"];
    assert_eq!((&project["workspace"]["name"], &project["buckets"]["edges"]), (&json!("local"), &json!([])));
    assert_eq!(Caller::only(&project["environments"])["unmergedChangesCount"], 0);
    let regions = caller.ok("Where", queries::REGIONS, json!({ "project": place.project })).await;
    assert_eq!(regions["regions"].as_array().map(Vec::len), Some(4));
    let environments =
        caller.ok("List", queries::ENVIRONMENTS, json!({ "project": place.project, "first": 500 })).await;
    let environment = Caller::only(&environments["environments"]);
    assert_eq!((&environment["meta"], &environment["sourceEnvironment"]), (&Value::Null, &Value::Null));

    let ids = json!({ "environment": place.environment, "project": place.project, "first": 500 });
    let instances = caller.ok("Instances", queries::INSTANCES, ids).await;
    let instance = Caller::only(&instances["environment"]["serviceInstances"]);
    assert_eq!(instance["serviceName"], "o7s-control");
    assert_eq!(instance["domains"], json!({ "serviceDomains": [], "customDomains": [] }));
    assert_eq!((&instance["tracingEnabled"], &instance["cronSchedule"]), (&json!(false), &Value::Null));
    let latest = &instance["latestDeployment"];
    assert_eq!((&latest["status"], &latest["canRedeploy"]), (&json!("SUCCESS"), &json!(true)));
    assert_eq!(latest["meta"]["image"], instance["source"]["image"]);
    assert_eq!(latest["instances"][0]["status"], "RUNNING");
    assert_eq!(instance["activeDeployments"][0]["id"], latest["id"]);
    let volume = Caller::only(&instances["environment"]["volumeInstances"]);
    assert_eq!((&volume["serviceId"], &volume["state"]), (&json!(place.service), &json!("READY")));

    let ids = json!({ "environment": place.environment, "service": place.service });
    let proxies = caller.ok("Proxies", queries::PROXIES, ids).await;
    assert_eq!(
        (&proxies["tcpProxies"][0]["domain"], &proxies["tcpProxies"][0]["syncStatus"]),
        (&json!("127.0.0.1"), &json!("ACTIVE"))
    );
}

#[tokio::test]
async fn variables_config_and_introspection_get_what_they_ask_for() {
    let fleet = Fleet::bootstrapped();
    let caller = Caller::account(&fleet);
    let place = place(&caller).await;
    let ids = json!({ "project": place.project, "environment": place.environment, "service": place.service });
    let with = |more: Value| {
        let (mut all, more) = (ids.clone(), more.as_object().cloned().expect("an object"));
        all.as_object_mut().expect("an object").extend(more);
        all
    };
    let set = with(json!({ "variables": { "ALPHA": "1", "BETA": "two words" }, "skip": true }));
    assert_eq!(caller.ok("Put", queries::PUT_VARIABLES, set).await, json!({ "variableCollectionUpsert": true }));
    let variables =
        caller.ok("Variables", queries::VARIABLES, ids.clone()).await["variablesForServiceDeployment"].clone();
    assert_eq!((&variables["ALPHA"], &variables["BETA"]), (&json!("1"), &json!("two words")));
    assert_eq!(variables["RAILWAY_SERVICE_NAME"], "o7s-control");
    let gone = caller.ok("Drop", queries::DROP_VARIABLE, with(json!({ "name": "ALPHA" }))).await;
    assert_eq!(gone, json!({ "variableDelete": true }));
    let left = caller.ok("Variables", queries::VARIABLES, ids.clone()).await["variablesForServiceDeployment"].clone();
    assert_eq!((left.get("ALPHA"), &left["BETA"]), (None, &json!("two words")));

    let ids = json!({ "environment": place.environment, "decrypt": false });
    let partials = caller.refused("Config", queries::CONFIG_WITH_PARTIALS, ids.clone()).await;
    assert!(partials.contains("iacPartials"), "the CLI asks again without the field that is named: {partials}");
    let config = caller.ok("Config", queries::CONFIG, ids).await["environment"].clone();
    let blob = &config["config"]["services"][&place.service];
    assert_eq!(blob["variables"]["BETA"]["value"], "*****");
    assert_eq!((&config["canvasGroupRefs"], &config["isEphemeral"]), (&json!({}), &json!(false)));
    assert!(config["configEtag"].as_str().is_some_and(|etag| !etag.is_empty()));
    let names = caller.ok("Names", queries::NAMES, json!({ "project": place.project })).await;
    assert_eq!(Caller::only(&names["project"]["services"])["templateServiceId"], Value::Null);
    assert_eq!(Caller::only(&names["project"]["volumes"])["name"], "pgdata");

    let schema =
        caller.ok("Look", "query Look { __schema { queryType { name } types { name kind } } }", json!({})).await;
    let types = schema["__schema"]["types"].as_array().expect("types");
    assert!(types.iter().any(|kind| kind["name"] == "EnvironmentPatch" && kind["kind"] == "OBJECT"));
}

#[tokio::test]
async fn a_wrong_token_a_wrong_project_and_a_project_token_hear_what_railway_says() {
    let fleet = Fleet::bootstrapped();
    let account = Caller::account(&fleet);
    let place = place(&account).await;
    let nowhere = json!({ "project": "00000000-0000-4000-8000-000000000000" });
    assert_eq!(account.refused("OneProject", queries::PROJECT, nowhere).await, "Project not found");
    let stranger = Caller { fleet: &fleet, header: ("authorization", "Bearer wrong".into()) };
    assert_eq!(stranger.refused("Who", "query Who { me { id } }", json!({})).await, "Not Authorized");
    let wrong = Caller { fleet: &fleet, header: ("project-access-token", "wrong".into()) };
    let said = wrong.refused("Token", queries::PROJECT_TOKEN, json!({})).await;
    // The CLI compares without regard to case.
    assert_eq!(said.to_lowercase(), "project token not found");

    let input = json!({ "projectId": place.project, "environmentId": place.environment, "name": "ci" });
    let token = account.ok("Make", queries::MAKE_TOKEN, json!({ "input": input })).await;
    let token = token["projectTokenCreate"].as_str().expect("a token").to_owned();
    let ci = Caller { fleet: &fleet, header: ("project-access-token", token) };
    let shown = ci.ok("Token", queries::PROJECT_TOKEN, json!({})).await;
    assert_eq!(shown["projectToken"]["project"], json!({ "id": place.project, "name": "real" }));
    assert_eq!(shown["projectToken"]["environment"], json!({ "id": place.environment, "name": "production" }));
    let project = ci.ok("OneProject", queries::PROJECT, json!({ "project": place.project })).await;
    assert_eq!(project["project"]["workspace"]["name"], "local", "every command reads it first");
    let plan = "query Plan($project: String!) { project(id: $project) { workspace { plan } } }";
    assert_eq!(ci.refused("Plan", plan, json!({ "project": place.project })).await, "Not Authorized");
    assert_eq!(ci.refused("Who", "query Who { me { id } }", json!({})).await, "Not Authorized");
    let input = json!({ "projectId": place.project, "name": "other", "sourceEnvironmentId": place.environment });
    let other = account.ok("Fork", queries::MAKE_ENVIRONMENT, json!({ "input": input })).await;
    let other = json!({ "environment": other["environmentCreate"]["id"], "decrypt": false });
    assert_eq!(ci.refused("Config", queries::CONFIG, other).await, "Not Authorized");
}

fn get(fleet: &Fleet, path: &str) -> RequestBuilder {
    let url = &fleet.railway.exports["O7S_RAILWAY_URL"];
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    client.get(url.replace("/graphql/v2", path))
}

async fn page(request: RequestBuilder) -> Response {
    request.send().await.expect("an answer")
}

#[tokio::test]
async fn a_page_shows_people_the_world_without_a_token_and_without_a_secret() {
    let fleet = Fleet::bootstrapped();
    fleet.fault(&["lag", "--count", "3"]);
    let before = fleet.total("total");
    let answer = page(get(&fleet, "/")).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/html; charset=utf-8");
    let policy = answer.headers()["content-security-policy"].to_str().expect("text").to_owned();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    let body = answer.text().await.expect("text");
    for part in
        ["Project real", "Environment production", "o7s-control", "SUCCESS", "pgdata", "POSTGRES_PASSWORD", "lag"]
    {
        assert!(body.contains(part), "{part} is not in\n{body}");
    }
    let control = &fleet.railway.exports["O7S_DATABASE_URL"];
    let password = control.split([':', '@']).nth(2).expect("a password");
    for secret in [password, &fleet.railway.exports["RAILWAY_API_TOKEN"], &fleet.railway.exports["O7S_MASTER_KEY"]] {
        assert!(!body.contains(secret));
    }
    assert_eq!(fleet.total("total"), before, "it counts as no request");

    let bent = page(get(&fleet, "/").header("host", "rebound.example")).await;
    assert_eq!(bent.status(), 421, "only who asks for this machine by its own name is told");
    assert_eq!(page(get(&fleet, "/other")).await.status(), 404);
}
