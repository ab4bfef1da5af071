//! A small fleet from nothing to gone, by what any client has of a Railway: an endpoint and a token. It runs against the
//! local Railway with all other tests, and against Railway itself when asked to (`make test-railway`). It knows nothing
//! of either's insides, makes a project of its own and deletes it however it ends.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::process::{Output, Stdio};
use std::time::Duration;

use futures_util::FutureExt as _;
use ogelnates::tenancy::{Credential, Keyring, Secret, TenantId};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::local::Railway;

const RAILWAY_URL: &str = "https://backboard.railway.com/graphql/v2";
/// What marks a project of this suite, so that one left behind is recognised.
const NAME_PREFIX: &str = "o7s-e2e-";
const HEAD: &str = "apiVersion: ogelnates.dev/v1\nkind: ";
/// A request that fails on its way is sent again this often.
const TRIES: u32 = 5;

/// All that is known of the Railway under test.
struct Site {
    endpoint: String,
    token: String,
    /// How long a deployment may take; minutes where machines are found and images loaded.
    patience: Duration,
    /// Between two looks.
    pause: Duration,
}

struct Run<'s> {
    site: &'s Site,
    project: String,
    key: String,
    manifests: tempfile::TempDir,
    http: reqwest::Client,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn nodes(connection: &Value) -> Vec<Value> {
    let edges = connection["edges"].as_array().unwrap_or_else(|| panic!("no edges in {connection}"));
    edges.iter().map(|edge| edge["node"].clone()).collect()
}

impl Run<'_> {
    fn new(site: &Site) -> Run<'_> {
        let random = || uuid::Uuid::new_v4().simple().to_string();
        let http = reqwest::Client::builder().timeout(Duration::from_secs(60)).build().expect("a client");
        let project = format!("{NAME_PREFIX}{}", &random()[..12]);
        let run =
            Run { site, project, key: random() + &random(), manifests: tempfile::tempdir().expect("a folder"), http };
        run.write_fleet();
        run
    }

    /// One shared pool, and with the control database two services and two volumes: what all plans but Free allow.
    fn write_fleet(&self) {
        let fleet = format!(
            "{HEAD}Fleet\nmetadata: {{ name: end-to-end }}\nspec:\n  railway: {{ project: {} }}\n---\n\
             {HEAD}Tier\nmetadata: {{ name: free }}\nspec:\n  limits: {{ connections: 5, serverConnections: 2 }}\n  placement: {{ pool: shared }}\n---\n\
             {HEAD}DatabasePool\nmetadata: {{ name: shared }}\nspec:\n  volume: 400Mi\n  resources: {{ vcpu: 1, memory: 512Mi }}\n  tenantsPerInstance: 10\n  instances: {{ min: 1, max: 1 }}\n",
            self.project
        );
        self.write("fleet.yaml", &fleet);
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.manifests.path().join(name), content).expect("written");
    }

    fn tenant(&self, name: &str, connections: u32) {
        let limits = format!("{{ connections: {connections}, serverConnections: {connections} }}");
        let spec = format!("metadata: {{ name: {name} }}\nspec:\n  tier: free\n  limits: {limits}\n");
        self.write(&format!("{name}.yaml"), &format!("{HEAD}Tenant\n{spec}"));
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_o7s"));
        command.args(args).arg("-f").arg(self.manifests.path()).stdin(Stdio::null()).kill_on_drop(true);
        command.env_remove("RAILWAY_TOKEN").env_remove("O7S_DATABASE_URL").env("RAILWAY_API_TOKEN", &self.site.token);
        command.env("O7S_RAILWAY_URL", &self.site.endpoint).env("O7S_MASTER_KEY", &self.key);
        command
    }

    /// Fails unless it ends with `code`; what it said on standard output.
    async fn o7s(&self, args: &[&str], code: i32) -> String {
        let Output { status, stdout, stderr } = self.command(args).output().await.expect("o7s runs");
        println!("$ o7s {} -> {status}", args.join(" ")); // progress, read with --nocapture
        assert_eq!(status.code(), Some(code), "o7s {}\n{}{}", args.join(" "), text(&stdout), text(&stderr));
        text(&stdout)
    }

    async fn reconcile(&self) -> String {
        let timeout = format!("{}s", self.site.patience.as_secs());
        self.o7s(&["reconcile", "--once", "--yes", "--timeout", &timeout], 0).await
    }

    /// `Err` with the refusal's text.
    async fn ask(&self, query: &str, variables: Value) -> Result<Value, String> {
        let body = json!({ "query": query, "variables": variables });
        let mut last = String::new();
        for _ in 0..TRIES {
            let sent = self.http.post(&self.site.endpoint).bearer_auth(&self.site.token).json(&body).send().await;
            let mut wait = self.site.pause;
            match sent {
                Ok(response) if response.status().is_success() => match response.json::<Value>().await {
                    Ok(answer) if answer.get("errors").is_none() => return Ok(answer["data"].clone()),
                    Ok(answer) => return Err(answer["errors"].to_string()),
                    Err(error) => last = error.to_string(),
                },
                Ok(response) => {
                    last = format!("{} {:?}", response.status(), response.headers());
                    let asked =
                        response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
                    wait = asked.map_or(wait, Duration::from_secs);
                }
                Err(error) => last = error.to_string(),
            }
            if wait > self.site.patience {
                break;
            }
            sleep(wait).await;
        }
        Err(last)
    }

    async fn until<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + self.site.patience;
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(Instant::now() < deadline, "{what}: not within {:?}", self.site.patience);
            sleep(self.site.pause).await;
        }
    }

    /// Ids of the suite's projects by name, this run's among them.
    async fn projects(&self) -> Result<Vec<(String, String)>, String> {
        let query = "query Projects { projects(first: 500) { edges { node { id name deletedAt } } } }";
        let listed = nodes(&self.ask(query, json!({})).await?["projects"]);
        let living = listed.into_iter().filter(|project| project["deletedAt"].is_null());
        let part = |project: &Value, name: &str| project[name].as_str().unwrap_or_default().to_owned();
        let all = living.map(|project| (part(&project, "name"), part(&project, "id")));
        Ok(all.filter(|(name, _)| name.starts_with(NAME_PREFIX)).collect())
    }

    async fn project_id(&self) -> Result<Option<String>, String> {
        Ok(self.projects().await?.into_iter().find(|(name, _)| *name == self.project).map(|(_, id)| id))
    }

    /// Names of the project's services, sorted, and how many volumes it has.
    async fn made(&self, project: &str) -> (Vec<String>, usize) {
        let query = "query Made($id: String!) { project(id: $id) {
            services(first: 100) { edges { node { name deletedAt } } } volumes(first: 100) { edges { node { id } } } } }";
        let made = self.ask(query, json!({ "id": project })).await.expect("the project can be read");
        let services = nodes(&made["project"]["services"]).into_iter().filter(|s| s["deletedAt"].is_null());
        let mut names: Vec<String> = services.filter_map(|s| s["name"].as_str().map(str::to_owned)).collect();
        names.sort();
        (names, nodes(&made["project"]["volumes"]).len())
    }

    /// Logs in as the routing table says, and reads what Postgres allows.
    async fn connections_allowed(&self, control: &str, tenant: &str) -> i32 {
        let mut connection = PgConnection::connect(control).await.expect("the control database answers");
        let route: (String, String, i32) =
            sqlx::query_as("SELECT database, public_host, public_port FROM o7s.routes WHERE tenant = $1")
                .bind(tenant)
                .fetch_one(&mut connection)
                .await
                .expect("a route");
        let (database, host, port) = route;
        let name = TenantId::parse(tenant).expect("valid");
        let keys = Keyring::new(&Secret::new(self.key.clone())).expect("strong");
        let password = keys.password(&Credential::Tenant { tenant: name, role: None, generation: 1 });
        let url = format!("postgresql://{tenant}:{}@{host}:{port}/{database}", password.expose());
        let mut own = PgConnection::connect(&url).await.expect("the tenant logs in");
        let read = sqlx::query_scalar("SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user");
        read.fetch_one(&mut own).await.expect("a limit")
    }

    /// False when there was nothing to delete.
    async fn delete_project(&self) -> Result<bool, String> {
        let Some(id) = self.project_id().await? else { return Ok(false) };
        let delete = self.ask("mutation Delete($id: String!) { projectDelete(id: $id) }", json!({ "id": id })).await;
        let deadline = Instant::now() + self.site.patience;
        // The answer may be lost, and it may come before the deed: what counts is that the project is gone.
        while self.project_id().await?.is_some() {
            if Instant::now() > deadline {
                return Err(format!("it is still there; projectDelete answered {delete:?}"));
            }
            sleep(self.site.pause).await;
        }
        Ok(true)
    }
}

/// A first run is killed when its instance's volume has appeared; the next one finishes it and doubles nothing. (Killed
/// before that, it costs the next run 90 s of looking for a volume that may show late.)
async fn killed_then_finished(run: &Run<'_>, project: &str) {
    let mut child =
        run.command(&["reconcile", "--once", "--yes"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let child = child.as_mut().expect("starts");
    run.until("the instance's volume appears", async || (run.made(project).await.1 == 2).then_some(())).await;
    assert_eq!(child.try_wait().expect("known"), None, "it was over before it could be killed");
    child.kill().await.expect("killed");
    run.reconcile().await;
    assert_eq!(run.made(project).await, (vec!["o7s-control".into(), "shared-1".into()], 2));
    assert!(run.o7s(&["plan", "--detailed-exitcode"], 0).await.contains("No changes."));
}

/// A change of one tenant and a new one, cut off as soon as the run has said something.
async fn changed_then_killed_then_finished(run: &Run<'_>, control: &str) {
    assert_eq!(run.connections_allowed(control, "acme").await, 5);
    run.tenant("acme", 7);
    run.tenant("beta", 3);
    run.o7s(&["plan", "--detailed-exitcode"], 2).await;
    let mut child = run.command(&["reconcile", "--once", "--yes"]);
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("starts");
    let mut said = BufReader::new(child.stdout.take().expect("piped")).lines();
    said.next_line().await.expect("readable").expect("it says something");
    child.kill().await.expect("killed");
    run.reconcile().await;
    assert_eq!(run.connections_allowed(control, "acme").await, 7);
    assert_eq!(run.connections_allowed(control, "beta").await, 3);
}

async fn whole_life(run: &Run<'_>) {
    run.tenant("acme", 5);
    run.o7s(&["validate"], 0).await;
    let timeout = format!("{}s", run.site.patience.as_secs());
    let made = run.o7s(&["bootstrap", "--yes", "--format", "json", "--timeout", &timeout], 0).await;
    let made: Value = serde_json::from_str(&made).expect("JSON");
    let (project, control) =
        (made["project"].as_str().expect("an id"), made["database_url"].as_str().expect("a URL"));
    assert_eq!(run.project_id().await.expect("listed").as_deref(), Some(project));
    run.o7s(&["plan", "--detailed-exitcode"], 2).await;
    killed_then_finished(run, project).await;
    changed_then_killed_then_finished(run, control).await;
    assert!(run.o7s(&["plan", "--detailed-exitcode"], 0).await.contains("No changes."));
    let status: Value = serde_json::from_str(&run.o7s(&["status", "--format", "json"], 0).await).expect("JSON");
    let objects = status["objects"].as_array().expect("objects");
    let not_ready: Vec<&Value> = objects.iter().filter(|object| object["ready"] != "yes").collect();
    assert!(!objects.is_empty() && not_ready.is_empty(), "{not_ready:?}");
    assert_eq!(run.made(project).await, (vec!["o7s-control".into(), "shared-1".into()], 2));
}

/// The project goes, whatever became of the run: also after a failure, and after Ctrl-C.
async fn run_and_delete(site: &Site) {
    let run = Run::new(site);
    println!("project {}", run.project);
    let left: Vec<String> =
        run.projects().await.expect("the token lists projects").into_iter().map(|p| p.0).collect();
    if !left.is_empty() {
        println!("left behind by earlier runs, yours to look at and delete: {}", left.join(", "));
    }
    let outcome = tokio::select! {
        outcome = AssertUnwindSafe(whole_life(&run)).catch_unwind() => outcome,
        _ = tokio::signal::ctrl_c() => Err(Box::new("interrupted") as Box<_>),
    };
    match run.delete_project().await {
        Ok(there) => println!("project {} {}", run.project, if there { "deleted" } else { "was never made" }),
        Err(why) => println!("project {} IS LEFT BEHIND, delete it in the dashboard: {why}", run.project),
    }
    let gone = run.project_id().await;
    outcome.unwrap_or_else(|failure| resume_unwind(failure));
    assert_eq!(gone, Ok(None), "the suite's project is gone");
}

#[tokio::test]
async fn a_fleet_lives_its_whole_life_on_the_local_railway() {
    let railway = Railway::up(&["--plan", "hobby"]);
    let site = Site {
        endpoint: railway.exports["O7S_RAILWAY_URL"].clone(),
        token: railway.exports["RAILWAY_API_TOKEN"].clone(),
        patience: Duration::from_secs(60),
        pause: Duration::from_millis(250),
    };
    run_and_delete(&site).await;
    println!("{} requests", railway.status()["requests"]["total"]);
    assert_eq!(railway.status()["services"], json!([]), "its servers too");
}

#[tokio::test]
#[ignore = "makes and deletes a project on Railway, with O7S_TEST_RAILWAY_TOKEN: make test-railway"]
async fn a_fleet_lives_its_whole_life_on_railway() {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let site = Site {
        endpoint: set("O7S_TEST_RAILWAY_URL").unwrap_or_else(|| RAILWAY_URL.to_owned()),
        token: set("O7S_TEST_RAILWAY_TOKEN").expect("O7S_TEST_RAILWAY_TOKEN holds an account or workspace token"),
        patience: Duration::from_secs(900),
        pause: Duration::from_secs(5),
    };
    run_and_delete(&site).await;
}
