//! A database that sleeps: its process ends, its address stays, and whoever connects brings it back.

use serde_json::json;
use sqlx::{Connection as _, PgConnection};

use crate::local::{Railway, connect, o7s, one};
use crate::support::{eventually, execute};

#[tokio::test]
async fn behaviour_14_a_sleeping_database_has_no_process_and_wakes_for_whoever_connects() {
    let railway = Railway::up(&[]);
    let place = railway.project().await;
    let service = railway.databases(&place, &["db"], "secret").await.remove(0);
    let patch = json!({ "services": { &service: { "deploy": { "sleepApplication": true } } } });
    let query =
        "mutation C($e: String!, $p: EnvironmentConfig!) { environmentPatchCommit(environmentId: $e, patch: $p) }";
    railway.ok(query, json!({ "e": place.1, "p": patch })).await;
    let (host, port) = railway.proxy(&place.1, &service).await;
    let url = format!("postgresql://postgres:secret@{host}:{port}/railway");
    eventually("the second deployment runs", async || {
        (running(&railway, &place.1, &service).await == 1).then_some(())
    })
    .await;
    let mut connection = connect(&url).await;
    execute(&mut connection, "CREATE TABLE kept AS SELECT 1 AS n").await;

    let ordered = o7s(railway.path(), &["fault", "sleep", "--service", "db"]);
    assert!(ordered.status.success(), "{}", String::from_utf8_lossy(&ordered.stderr));
    eventually("it sleeps", async || (railway.service("db")["state"] == "SLEEPING").then_some(())).await;
    let volume = railway.service("db")["volume"].as_str().expect("a folder").to_owned();
    let pid_file = std::path::Path::new(&volume).join("pgdata/postmaster.pid");
    eventually("its process has ended", async || (!pid_file.exists()).then_some(())).await;
    // The open connection went with it.
    sqlx::query("SELECT 1").execute(&mut connection).await.expect_err("cut off");

    eventually("somebody's connection wakes it", async || {
        if railway.service("db")["state"] != "SLEEPING" {
            return Some(());
        }
        // Between the server's end and the open door a connection does not even knock.
        PgConnection::connect(&url).await.expect_err("nobody is awake");
        None
    })
    .await;
    let mut connection = connect(&url).await;
    assert_eq!(one(&mut connection, "SELECT n::text FROM kept").await, "1");
    assert_eq!(running(&railway, &place.1, &service).await, 1, "no new deployment");
}

/// Deployments that run, of the two there are.
async fn running(railway: &Railway, environment: &str, service: &str) -> usize {
    let query = "query Q($in: DeploymentListInput!) { deployments(input: $in) { edges { node { status } } } }";
    let data = railway.ok(query, json!({ "in": { "environmentId": environment, "serviceId": service } })).await;
    let edges = data["deployments"]["edges"].as_array().expect("edges").clone();
    let states: Vec<_> = edges.iter().map(|edge| edge["node"]["status"].clone()).collect();
    assert_eq!(states.len(), 2, "{states:?}");
    if states == [json!("SUCCESS"), json!("REMOVED")] { 1 } else { 0 }
}
