//! The local Railway as people use it: the real binary, real sockets, real Postgres processes.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection, Row as _};

use crate::support::{eventually, execute, open_folder};

const IMAGE: &str = "ghcr.io/railwayapp-templates/postgres-ssl:17";
const MOUNT: &str = "/var/lib/postgresql/data";

/// Ended with its databases when the test is over, however that ends.
pub struct Railway {
    pub data: tempfile::TempDir,
    pub exports: BTreeMap<String, String>,
}

pub fn o7s(data: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_o7s"));
    command.arg("local").args(args).arg("--data").arg(data).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// What a shell would have after `eval`, by that shell itself.
fn exported(lines: &str) -> BTreeMap<String, String> {
    let name = |line: &str| line.strip_prefix("export ")?.split_once('=').map(|(name, _)| name.to_owned());
    let names: Vec<String> = lines.lines().map(|line| name(line).expect("only export lines")).collect();
    let show = names.iter().map(|name| format!("printf '%s\\n' \"${name}\"\n")).collect::<String>();
    let answer = Command::new("sh").arg("-eu").arg("-c").arg(format!("{lines}\n{show}")).output().expect("sh runs");
    names.into_iter().zip(text(&answer.stdout).lines().map(str::to_owned)).collect()
}

impl Drop for Railway {
    fn drop(&mut self) {
        o7s(self.data.path(), &["down"]);
    }
}

impl Railway {
    pub fn up(args: &[&str]) -> Railway {
        let data = open_folder();
        let exports = Railway::start(data.path(), args);
        Railway { data, exports }
    }

    fn start(data: &Path, args: &[&str]) -> BTreeMap<String, String> {
        let answer = o7s(data, &[&["up", "--detach"], args].concat());
        assert!(answer.status.success(), "{}", text(&answer.stderr));
        assert_eq!(text(&answer.stderr), "");
        exported(&text(&answer.stdout))
    }

    fn up_again(&mut self) {
        let exports = Railway::start(self.data.path(), &[]);
        assert_eq!(exports, self.exports, "key, token and ports survive");
    }

    pub fn path(&self) -> &Path {
        self.data.path()
    }

    pub fn status(&self) -> Value {
        let answer = o7s(self.path(), &["status", "--format", "json"]);
        assert!(answer.status.success(), "{}", text(&answer.stderr));
        serde_json::from_slice(&answer.stdout).expect("JSON")
    }

    pub fn service(&self, name: &str) -> Value {
        let status = self.status();
        let services = status["services"].as_array().expect("services").clone();
        services.into_iter().find(|service| service["name"] == name).unwrap_or_default()
    }

    async fn send(&self, query: &str, variables: Value) -> Result<Value, reqwest::Error> {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let request = client.post(&self.exports["O7S_RAILWAY_URL"]).bearer_auth(&self.exports["RAILWAY_API_TOKEN"]);
        request.json(&json!({ "query": query, "variables": variables })).send().await?.json().await
    }

    pub async fn ok(&self, query: &str, variables: Value) -> Value {
        let mut body = self.send(query, variables).await.expect("an answer");
        assert_eq!(body.get("errors"), None, "{query}");
        body["data"].take()
    }

    /// Project and environment.
    pub async fn project(&self) -> (String, String) {
        let query = "mutation P { projectCreate(input: { name: \"fleet\" }) { id baseEnvironmentId } }";
        let made = self.ok(query, json!({})).await;
        let part = |name: &str| made["projectCreate"][name].as_str().expect("an id").to_owned();
        (part("id"), part("baseEnvironmentId"))
    }

    /// Database services by name, in three requests as O7s itself makes them; their ids.
    pub async fn databases(&self, place: &(String, String), names: &[&str], password: &str) -> Vec<String> {
        let aliases = |field: &str, kind: &str| {
            let numbers = 0..names.len();
            let head: Vec<String> = numbers.clone().map(|n| format!("$i{n}: {kind}!")).collect();
            let body: Vec<String> = numbers.map(|n| format!("a{n}: {field}(input: $i{n}) {{ id }}")).collect();
            format!("mutation Batch({}) {{ {} }}", head.join(", "), body.join(" "))
        };
        let number = |inputs: Vec<Value>| -> Value {
            inputs.into_iter().enumerate().map(|(n, input)| (format!("i{n}"), input)).collect()
        };
        let inputs = names.iter().map(|name| json!({ "projectId": place.0, "environmentId": place.1, "name": name }));
        let made = self.ok(&aliases("serviceCreate", "ServiceCreateInput"), number(inputs.collect())).await;
        let ids: Vec<String> =
            (0..names.len()).map(|n| made[format!("a{n}")]["id"].as_str().expect("an id").to_owned()).collect();
        let volume = |id: &String| json!({ "projectId": place.0, "environmentId": place.1, "serviceId": id, "mountPath": MOUNT });
        self.ok(&aliases("volumeCreate", "VolumeCreateInput"), number(ids.iter().map(volume).collect())).await;
        let config = json!({
            "source": { "image": IMAGE },
            "deploy": { "startCommand": "wrapper.sh postgres -p 5432 -c listen_addresses='*' -c wal_level=logical" },
            "networking": { "tcpProxies": { "5432": {} } },
            "variables": {
                "POSTGRES_PASSWORD": { "value": password },
                "POSTGRES_USER": { "value": "postgres" },
                "POSTGRES_DB": { "value": "railway" },
            },
        });
        let services: Value = ids.iter().map(|id| (id.clone(), config.clone())).collect();
        let query = "mutation C($e: String!, $p: EnvironmentConfig!) { environmentPatchCommit(environmentId: $e, patch: $p) }";
        self.ok(query, json!({ "e": place.1, "p": { "services": services } })).await;
        ids
    }

    pub async fn proxy(&self, environment: &str, service: &str) -> (String, u64) {
        let query =
            "query T($e: String!, $s: String!) { tcpProxies(environmentId: $e, serviceId: $s) { domain proxyPort } }";
        let data = self.ok(query, json!({ "e": environment, "s": service })).await;
        let proxy = &data["tcpProxies"][0];
        (proxy["domain"].as_str().expect("a domain").to_owned(), proxy["proxyPort"].as_u64().expect("a port"))
    }
}

/// Connects as soon as the server takes connections.
pub async fn connect(url: &str) -> PgConnection {
    eventually("the database answers", async || PgConnection::connect(url).await.ok()).await
}

pub async fn one(connection: &mut PgConnection, sql: &'static str) -> String {
    sqlx::query(sql).fetch_one(connection).await.expect("a row").get(0)
}

/// The server's process on a volume folder, by Postgres' own file.
fn postmaster(volume: &str) -> Option<u32> {
    let file = std::fs::read_to_string(Path::new(volume).join("pgdata/postmaster.pid")).ok()?;
    file.lines().next()?.parse().ok()
}

fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[tokio::test]
async fn databases_run_as_configured_under_no_root_and_their_data_survives_down_and_up() {
    let mut railway = Railway::up(&[]);
    let place = railway.project().await;
    let control = railway.exports["O7S_DATABASE_URL"].clone();
    let password = control.split([':', '@']).nth(2).expect("a password").to_owned();
    let ids = railway.databases(&place, &["o7s-control", "shared-1", "shared-2"], &password).await;

    let mut connection = connect(&control).await;
    assert_eq!(one(&mut connection, "SHOW wal_level").await, "logical");
    assert_eq!(one(&mut connection, "SHOW shared_buffers").await, "16MB");
    execute(&mut connection, "CREATE TABLE kept AS SELECT 'yes'::text AS value").await;
    let (domain, port) = railway.proxy(&place.1, &ids[1]).await;
    let mut other = connect(&format!("postgresql://postgres:{password}@{domain}:{port}/railway")).await;
    assert_eq!(one(&mut other, "SELECT current_database()::text").await, "railway");
    let service = railway.service("o7s-control");
    assert_eq!(service["state"], "SUCCESS");
    let pid = postmaster(service["volume"].as_str().expect("a folder")).expect("a server");
    let owner = std::fs::metadata(format!("/proc/{pid}")).expect("a process");
    assert_ne!(std::os::unix::fs::MetadataExt::uid(&owner), 0);

    assert!(o7s(railway.path(), &["down"]).status.success());
    assert!(!lives(pid), "down returned before the server was gone");
    assert_eq!(
        (railway.status()["running"].clone(), railway.service("shared-2")["state"].clone()),
        (json!(false), json!("SUCCESS"))
    );
    railway.up_again();
    // `up` returns when the databases of the last run answer again.
    let mut connection = PgConnection::connect(&control).await.expect("ready");
    assert_eq!(one(&mut connection, "SELECT value FROM kept").await, "yes");
    assert_eq!(railway.proxy(&place.1, &ids[1]).await, (domain, port));
}

#[tokio::test]
async fn a_killed_railway_has_lost_nothing_and_its_servers_are_found_and_ended() {
    let mut railway = Railway::up(&[]);
    let place = railway.project().await;
    let ids = railway.databases(&place, &["shared-1"], "hunter2").await;
    let (domain, port) = railway.proxy(&place.1, &ids[0]).await;
    let url = format!("postgresql://postgres:hunter2@{domain}:{port}/railway");
    let mut connection = connect(&url).await;
    execute(&mut connection, "CREATE TABLE kept AS SELECT 'yes'::text AS value").await;
    let volume = railway.service("shared-1")["volume"].as_str().expect("a folder").to_owned();
    let before = postmaster(&volume).expect("a server");

    kill_server(&railway);
    assert!(lives(before), "the server outlives a kill of ours");
    railway.up_again();
    assert!(!lives(before), "the stale server was not ended");
    let mut connection = PgConnection::connect(&url).await.expect("ready");
    assert_eq!(one(&mut connection, "SELECT value FROM kept").await, "yes");

    kill_server(&railway);
    let left = postmaster(&volume).expect("a server");
    assert!(lives(left));
    assert!(o7s(railway.path(), &["down"]).status.success());
    assert!(!lives(left), "down left a server behind");
}

fn kill_server(railway: &Railway) {
    let file = std::fs::read(railway.path().join("server.json")).expect("recorded");
    let server: Value = serde_json::from_slice(&file).expect("JSON");
    let pid = server["pid"].as_u64().expect("a pid").to_string();
    assert!(Command::new("kill").args(["-9", &pid]).status().expect("kill runs").success());
}

#[tokio::test]
async fn trouble_strikes_over_http_as_ordered_and_what_it_cost_is_counted() {
    let railway = Railway::up(&["--plan", "hobby"]);
    let place = railway.project().await;
    let order = |args: &[&str]| assert!(o7s(railway.path(), &[&["fault"], args].concat()).status.success());
    let create =
        "mutation Create($n: String!, $p: String!) { serviceCreate(input: { projectId: $p, name: $n }) { id } }";
    order(&["lost-answer", "--operation", "Create"]);
    let lost = railway.send(create, json!({ "n": "lost", "p": place.0 })).await;
    assert!(lost.is_err(), "the answer arrived: {lost:?}");
    order(&["429", "--count", "2"]);
    for _ in 0..2 {
        let body = railway.send(create, json!({ "n": "never", "p": place.0 })).await.expect("a JSON body");
        assert_eq!(body["errors"][0]["message"], "Rate limit exceeded, please try again later");
    }
    order(&["edge-block"]);
    assert!(railway.send(create, json!({ "n": "never", "p": place.0 })).await.is_err(), "HTML is no JSON");
    order(&["lag"]);
    order(&["clear"]);
    let listed = o7s(railway.path(), &["fault", "--list"]);
    assert_eq!(text(&listed.stdout), "no faults are ordered\n");

    let status = railway.status();
    let names: Vec<&str> =
        status["services"].as_array().expect("services").iter().filter_map(|s| s["name"].as_str()).collect();
    assert_eq!(names, ["lost"]);
    assert_eq!(status["plan"], "hobby");
    assert_eq!(status["requests"], json!({ "total": 2, "mutations": 2, "byOperation": { "P": 1, "Create": 1 } }));
}

#[tokio::test]
async fn a_database_that_dies_is_crashed_until_it_is_deployed_again() {
    let railway = Railway::up(&[]);
    let place = railway.project().await;
    let ids = railway.databases(&place, &["shared-1"], "hunter2").await;
    let (domain, port) = railway.proxy(&place.1, &ids[0]).await;
    let url = format!("postgresql://postgres:hunter2@{domain}:{port}/railway");
    connect(&url).await;
    let volume = railway.service("shared-1")["volume"].as_str().expect("a folder").to_owned();
    let pid = postmaster(&volume).expect("a server").to_string();
    assert!(Command::new("kill").args(["-9", &pid]).status().expect("kill runs").success());
    let state = async |wanted: &str| {
        eventually(wanted, async || (railway.service("shared-1")["state"] == wanted).then_some(())).await;
    };
    state("CRASHED").await;
    let redeploy =
        "mutation R($e: String!, $s: String!) { serviceInstanceRedeploy(environmentId: $e, serviceId: $s) }";
    railway.ok(redeploy, json!({ "e": place.1, "s": ids[0] })).await;
    state("SUCCESS").await;
    connect(&url).await;
    assert!(o7s(railway.path(), &["fault", "crash", "--service", "shared-1"]).status.success());
    state("CRASHED").await;
    eventually("its server is gone", async || PgConnection::connect(&url).await.is_err().then_some(())).await;
}

#[test]
fn two_run_side_by_side_and_a_second_up_changes_nothing() {
    let (mut one, other) = (Railway::up(&[]), Railway::up(&[]));
    assert_ne!(one.exports["O7S_RAILWAY_URL"], other.exports["O7S_RAILWAY_URL"]);
    assert_ne!(one.exports["O7S_MASTER_KEY"], other.exports["O7S_MASTER_KEY"]);
    let names: Vec<&str> = one.exports.keys().map(String::as_str).collect();
    assert_eq!(names, ["O7S_DATABASE_URL", "O7S_MASTER_KEY", "O7S_RAILWAY_URL", "RAILWAY_API_TOKEN"]);
    let before = std::fs::read_to_string(one.path().join("server.json")).expect("recorded");
    one.up_again();
    assert_eq!(std::fs::read_to_string(one.path().join("server.json")).expect("recorded"), before);
}

#[test]
fn what_is_not_there_is_said_with_the_next_step() {
    let folder = open_folder();
    let data = folder.path().join("nothing");
    let status = o7s(&data, &["status"]);
    assert_eq!(status.status.code(), Some(1));
    let said = text(&status.stderr);
    assert!(
        said.starts_with("error[O7S8005]: no local Railway runs on ")
            && said.contains("\nnext: start it: o7s local up"),
        "{said}"
    );
    assert!(o7s(&data, &["down"]).status.success(), "ending nothing is no error");
    assert!(!data.exists());
}
