//! Reading addresses of many services at once although one bad service spoils the whole answer.

use serde_json::{Map, Value, json};

use super::scripted::{Reply, Script, data, refusal};
use super::*;
use crate::plan::ServiceEndpoint;
use crate::tenancy::{Address, EnvironmentId, ProjectId, ServiceId};

fn id(text: &str) -> ServiceId {
    ServiceId::parse(text).expect("valid")
}

fn proxy(domain: &str, port: u16) -> Value {
    json!({
        "domain": domain, "proxyPort": port, "applicationPort": 5432, "syncStatus": "ACTIVE", "deletedAt": null,
    })
}

/// The answer for services in that order, each with one proxy and its private name.
fn answer(services: &[&str]) -> Reply {
    let mut fields = Map::new();
    for (n, service) in services.iter().enumerate() {
        fields.insert(format!("p{n}"), json!([proxy("x.proxy.rlwy.net", 4000 + n as u16)]));
        let host = format!("{service}.railway.internal");
        fields.insert(format!("v{n}"), json!({ "RAILWAY_PRIVATE_DOMAIN": host, "POSTGRES_PASSWORD": "hunter2" }));
    }
    data(Value::Object(fields))
}

async fn read(
    services: &[&str],
    replies: impl IntoIterator<Item = Reply>,
) -> (Result<Vec<ServiceEndpoint>, Error>, usize) {
    let script = Script::new(replies);
    let (project, environment) = (ProjectId::parse("p").expect("valid"), EnvironmentId::parse("e").expect("valid"));
    let services: Vec<ServiceId> = services.iter().map(|service| id(service)).collect();
    let endpoints = script.client().read_endpoints(&project, &environment, &services).await;
    let sent = script.sent().len();
    (endpoints, sent)
}

/// The private hosts, with `-` for a service without addresses.
fn hosts(endpoints: &[ServiceEndpoint]) -> String {
    let host = |one: &ServiceEndpoint| match (&one.private_host, &one.public) {
        (Some(host), Some(_)) => host.trim_end_matches(".railway.internal").to_owned(),
        (None, None) => "-".to_owned(),
        other => format!("{other:?}"),
    };
    endpoints.iter().map(host).collect::<Vec<_>>().join(" ")
}

#[tokio::test(start_paused = true)]
async fn one_request_answers_for_all() {
    let (endpoints, sent) = read(&["a", "b"], [answer(&["a", "b"])]).await;
    let endpoint = |service: &str, port| ServiceEndpoint {
        service: id(service),
        public: Some(Address { host: "x.proxy.rlwy.net".into(), port }),
        private_host: Some(format!("{service}.railway.internal")),
    };
    assert_eq!((endpoints, sent), (Ok(vec![endpoint("a", 4000), endpoint("b", 4001)]), 1));
    assert_eq!(read(&[], []).await, (Ok(vec![]), 0));
}

#[tokio::test(start_paused = true)]
async fn only_a_living_proxy_on_postgres_port_counts_and_dots_are_taken_off() {
    let dead = |key: &str, value: Value| {
        let mut proxy = proxy("dead.proxy.rlwy.net", 1);
        proxy[key] = value;
        proxy
    };
    let proxies = json!([
        dead("syncStatus", json!("DELETING")),
        dead("deletedAt", json!("2026-11-24T08:00:00.000Z")),
        dead("applicationPort", json!(8080)),
        proxy("alive.proxy.rlwy.net.", 2),
    ]);
    let fields = json!({ "p0": proxies, "v0": { "RAILWAY_PRIVATE_DOMAIN": "a.railway.internal." } });
    let endpoints = read(&["a"], [data(fields)]).await.0.expect("answered");
    assert_eq!(endpoints[0].public, Some(Address { host: "alive.proxy.rlwy.net".into(), port: 2 }));
    assert_eq!(endpoints[0].private_host.as_deref(), Some("a.railway.internal"));
    let nothing_yet = json!({ "p0": [], "v0": { "RAILWAY_PRIVATE_DOMAIN": "" } });
    assert_eq!(hosts(&read(&["a"], [data(nothing_yet)]).await.0.expect("answered")), "-");
}

#[tokio::test(start_paused = true)]
async fn a_blamed_service_is_left_out_and_the_rest_asked_again() {
    let replies = [refusal("Not Authorized", Some("p1")), answer(&["a", "c"])];
    let (endpoints, sent) = read(&["a", "b", "c"], replies).await;
    assert_eq!((hosts(&endpoints.expect("answered")), sent), ("a - c".to_owned(), 2));
}

#[tokio::test(start_paused = true)]
async fn an_unnamed_culprit_is_found_by_halving() {
    let shrug = || refusal("Problem processing request", None);
    // [a b c d] fails, [c d] fails, [d] answers, [c] fails, [a b] answers.
    let replies = [shrug(), shrug(), answer(&["d"]), shrug(), answer(&["a", "b"])];
    let (endpoints, sent) = read(&["a", "b", "c", "d"], replies).await;
    assert_eq!((hosts(&endpoints.expect("answered")), sent), ("a b - d".to_owned(), 5));
}

#[tokio::test(start_paused = true)]
async fn when_no_service_can_be_read_it_is_an_error_after_a_bounded_number_of_requests() {
    let names: Vec<String> = (0..50).map(|n| format!("s{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (endpoints, sent) = read(&names, (0..40).map(|_| refusal("Not Authorized", None))).await;
    assert!(matches!(endpoints, Err(Error::Unauthorized { .. })), "{endpoints:?}");
    assert_eq!(sent, 40);
    let (endpoints, sent) = read(&["a"], [refusal("Not Authorized", Some("p0"))]).await;
    assert!(matches!(endpoints, Err(Error::Unauthorized { .. })), "{endpoints:?}");
    assert_eq!(sent, 1);
}

#[tokio::test(start_paused = true)]
async fn more_than_fifty_are_asked_in_groups() {
    let names: Vec<String> = (0..60).map(|n| format!("s{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    // The last group goes first.
    let (endpoints, sent) = read(&names, [answer(&names[50..]), answer(&names[..50])]).await;
    assert_eq!((hosts(&endpoints.expect("answered")), sent), (names.join(" "), 2));
}
