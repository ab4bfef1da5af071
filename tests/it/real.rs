//! The promises once more with nothing in memory: the real binary, the local Railway over real Postgres servers, real
//! logins. Each test has a Railway of its own.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use ogelnates::operator::Watch;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

use crate::local::Railway;
use crate::support::{eventually, execute};

pub struct Fleet {
    pub railway: Railway,
    pub manifests: tempfile::TempDir,
}

const HEAD: &str = "apiVersion: ogelnates.dev/v1\nkind: ";

impl Fleet {
    /// A local Railway with a control database, and manifests for two tenants on a shared and one on its own instance.
    pub fn bootstrapped() -> Fleet {
        let fleet = Fleet { railway: Railway::up(&[]), manifests: tempfile::tempdir().expect("a folder") };
        fleet.write(
            "fleet.yaml",
            &format!(
                "{HEAD}Fleet\nmetadata: {{ name: real }}\nspec: {{}}\n---\n\
                 {HEAD}Tier\nmetadata: {{ name: free }}\nspec:\n  limits: {{ connections: 5, serverConnections: 2 }}\n  placement: {{ pool: shared }}\n---\n\
                 {HEAD}DatabasePool\nmetadata: {{ name: shared }}\nspec: {{ tenantsPerInstance: 100, instances: {{ min: 1, max: 2 }} }}\n---\n\
                 {HEAD}DatabasePool\nmetadata: {{ name: own }}\nspec: {{ tenantsPerInstance: 1, instances: {{ min: 0, max: 3 }} }}\n"
            ),
        );
        fleet.tenant("acme", "");
        fleet.tenant("beta", "");
        fleet.tenant("corp", "  placement: { pool: own }\n");
        let done = fleet.o7s(&["bootstrap", "--yes"]);
        assert!(done.status.success(), "{}", text(&done.stderr));
        fleet
    }

    pub fn write(&self, name: &str, content: &str) {
        fs::write(self.manifests.path().join(name), content).expect("written");
    }

    pub fn tenant(&self, name: &str, more: &str) {
        self.write(
            &format!("{name}.yaml"),
            &format!("{HEAD}Tenant\nmetadata: {{ name: {name} }}\nspec:\n  tier: free\n{more}"),
        );
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_o7s"));
        command
            .args(args)
            .arg("-f")
            .arg(self.manifests.path())
            .envs(&self.railway.exports)
            .env_remove("RAILWAY_TOKEN");
        command
    }

    pub fn o7s(&self, args: &[&str]) -> Output {
        self.command(args).stdin(Stdio::null()).output().expect("the binary runs")
    }

    pub fn reconcile(&self) -> Output {
        self.o7s(&["reconcile", "--once", "--yes"])
    }

    /// Runs until the plan is empty, at most three times.
    pub fn settle(&self) {
        for _ in 0..3 {
            let done = self.reconcile();
            if done.status.success() && text(&done.stdout).contains("No changes.") {
                return;
            }
        }
        let done = self.reconcile();
        assert!(text(&done.stdout).contains("No changes."), "{}{}", text(&done.stdout), text(&done.stderr));
    }

    pub fn in_background(&self, args: &[&str]) -> Child {
        self.command(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("starts")
    }

    pub fn fault(&self, args: &[&str]) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_o7s"));
        let done = command
            .args(["local", "fault"])
            .args(args)
            .arg("--data")
            .arg(self.railway.path())
            .output()
            .expect("runs");
        assert!(done.status.success(), "{}", text(&done.stderr));
    }

    pub fn requests(&self, operation: &str) -> u64 {
        self.railway.status()["requests"]["byOperation"][operation].as_u64().unwrap_or(0)
    }

    pub fn total(&self, what: &str) -> u64 {
        self.railway.status()["requests"][what].as_u64().expect("a count")
    }

    fn services(&self) -> Vec<String> {
        let status = self.railway.status();
        let services = status["services"].as_array().expect("services").iter();
        let mut names: Vec<String> =
            services.map(|service| service["name"].as_str().expect("a name").to_owned()).collect();
        names.sort();
        names
    }

    fn assert_whole(&self) {
        assert_eq!(self.services(), ["o7s-control", "own-1", "shared-1"]);
        let status: Value = serde_json::from_slice(&self.o7s(&["status", "--format", "json"]).stdout).expect("JSON");
        let not_ready: Vec<&Value> =
            status["objects"].as_array().expect("objects").iter().filter(|o| o["ready"] != "yes").collect();
        assert!(not_ready.is_empty(), "{not_ready:?}");
    }

    pub async fn control(&self) -> PgConnection {
        PgConnection::connect(&self.railway.exports["O7S_DATABASE_URL"]).await.expect("the control database answers")
    }

    /// A superuser's session on the instance of a tenant.
    pub async fn admin(&self, instance: &str) -> PgConnection {
        let keys = self.keys();
        let instance = ogelnates::tenancy::InstanceName::parse(instance).expect("valid");
        let password = keys.password(&ogelnates::tenancy::Credential::Admin { instance: instance.clone() });
        let mut control = self.control().await;
        let port: i32 = sqlx::query_scalar("SELECT public_port FROM o7s.instances WHERE name = $1")
            .bind(instance.as_str())
            .fetch_one(&mut control)
            .await
            .expect("recorded");
        let url = format!("postgresql://postgres:{}@127.0.0.1:{port}/postgres", password.expose());
        PgConnection::connect(&url).await.expect("the instance answers")
    }

    pub fn keys(&self) -> ogelnates::tenancy::Keyring {
        let key = ogelnates::tenancy::Secret::new(self.railway.exports["O7S_MASTER_KEY"].clone());
        ogelnates::tenancy::Keyring::new(&key).expect("strong")
    }

    /// As the router will: by the routing table and the derived password.
    pub async fn login(&self, tenant: &str, generation: u32) -> Result<PgConnection, sqlx::Error> {
        let mut control = self.control().await;
        let (database, port): (String, i32) =
            sqlx::query_as("SELECT database, public_port FROM o7s.routes WHERE tenant = $1")
                .bind(tenant)
                .fetch_one(&mut control)
                .await?;
        let name = ogelnates::tenancy::TenantId::parse(tenant).expect("valid");
        let credential = ogelnates::tenancy::Credential::Tenant { tenant: name, role: None, generation };
        let password = self.keys().password(&credential);
        PgConnection::connect(&format!("postgresql://{tenant}:{}@127.0.0.1:{port}/{database}", password.expose()))
            .await
    }

    /// Ids of project and environment.
    pub async fn place(&self) -> (String, String) {
        sqlx::query_as("SELECT project_id, environment_id FROM o7s.fleet")
            .fetch_one(&mut self.control().await)
            .await
            .expect("known")
    }

    /// Property 35: no token, no key, no password that is derived from it, and nothing of an app's own.
    pub fn assert_without_secrets(&self, output: &[u8]) {
        use ogelnates::tenancy::{Credential, InstanceName, TenantId};
        let said = text(output);
        let instance = |name| InstanceName::parse(name).expect("valid");
        let owner = |(tenant, generation)| {
            let tenant = TenantId::parse(tenant).expect("valid");
            Credential::Tenant { tenant, role: None, generation }
        };
        let credentials = ["shared-1", "own-1"].map(|name| Credential::Admin { instance: instance(name) });
        let owners = [("acme", 1), ("acme", 2), ("beta", 1), ("corp", 1)].map(owner);
        for credential in credentials.into_iter().chain(owners).chain([Credential::Control]) {
            assert!(!said.contains(self.keys().password(&credential).expose()), "{credential:?}");
        }
        for secret in ["O7S_MASTER_KEY", "RAILWAY_API_TOKEN"].map(|name| self.railway.exports[name].as_str()) {
            assert!(!said.contains(secret) && !said.contains("canary"));
        }
    }

    pub async fn routing_version(&self) -> i64 {
        sqlx::query_scalar("SELECT version FROM o7s.routing")
            .fetch_one(&mut self.control().await)
            .await
            .expect("a version")
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn code(output: &Output) -> i32 {
    output.status.code().expect("not killed")
}

#[tokio::test]
async fn a_fleet_is_routed_changed_rotated_and_then_costs_one_request() {
    let fleet = Fleet::bootstrapped();
    let done = fleet.reconcile();
    assert!(done.status.success(), "{}{}", text(&done.stdout), text(&done.stderr));
    fleet.assert_whole();
    for tenant in ["acme", "beta", "corp"] {
        fleet.login(tenant, 1).await.unwrap_or_else(|error| panic!("{tenant}: {error}"));
    }
    let (total, mutations) = (fleet.total("total"), fleet.total("mutations"));
    assert!(text(&fleet.reconcile().stdout).contains("No changes. 3 tenants match."));
    assert_eq!((fleet.total("total") - total, fleet.total("mutations") - mutations), (1, 0));

    let version = fleet.routing_version().await;
    fleet.tenant("acme", "  limits: { connections: 9 }\n  credentials: { generation: 2 }\n");
    fleet.tenant("beta", "  suspended: true\n");
    assert_eq!(code(&fleet.o7s(&["plan", "--detailed-exitcode"])), 2);
    fleet.settle();
    assert_eq!(fleet.routing_version().await, version + 1, "one rewrite for both");
    fleet.login("acme", 2).await.expect("the new password");
    fleet.login("acme", 1).await.expect_err("the old password");
    fleet.login("beta", 1).await.expect_err("suspended");
}

/// Killed while a request hangs that may have been carried out. (A hanging `CreateVolumes` makes the next run look for
/// a volume for 90 s; the simulation kills there in virtual time.)
#[tokio::test]
async fn a_run_killed_in_a_hanging_request_is_finished_and_nothing_is_doubled() {
    for operation in ["CreateServices", "CommitPatch"] {
        let fleet = Fleet::bootstrapped();
        fleet.fault(&["timeout", "--operation", operation]);
        let reads = fleet.total("total");
        let mut run = fleet.in_background(&["reconcile", "--once", "--yes"]);
        let before = match operation {
            "CreateServices" => "ReadLiveState",
            _ => "CreateVolumes",
        };
        let made = fleet.requests(before);
        eventually("the run reaches its request", async || {
            (fleet.requests(before) > made || fleet.total("total") > reads + 3).then_some(())
        })
        .await;
        run.kill().expect("killed");
        run.wait().expect("over");
        fleet.fault(&["clear"]);
        fleet.settle();
        fleet.assert_whole();
    }
}

#[tokio::test]
async fn lost_answers_of_all_creating_requests_double_nothing() {
    let fleet = Fleet::bootstrapped();
    for operation in ["CreateServices", "CreateVolumes", "CommitPatch"] {
        fleet.fault(&["lost-answer", "--operation", operation]);
    }
    fleet.settle();
    fleet.assert_whole();
}

#[tokio::test]
async fn a_run_killed_among_its_sql_statements_is_finished_by_the_next() {
    let fleet = Fleet::bootstrapped();
    fleet.settle();
    for n in 0..60 {
        fleet.tenant(&format!("many{n}"), "");
    }
    for wanted in [5i64, 20, 40] {
        let mut run = fleet.in_background(&["reconcile", "--once", "--yes"]);
        let mut admin = fleet.admin("shared-1").await;
        let count = "SELECT count(*) FROM pg_database WHERE datname LIKE 'many%'";
        eventually("some databases are made", async || {
            let made: i64 = sqlx::query_scalar(count).fetch_one(&mut admin).await.expect("counted");
            (made >= wanted).then_some(())
        })
        .await;
        run.kill().expect("killed");
        run.wait().expect("over");
    }
    fleet.settle();
    fleet.assert_whole();
    for n in [0, 30, 59] {
        fleet.login(&format!("many{n}"), 1).await.expect("may log in");
    }
}

#[tokio::test]
async fn what_a_person_changed_on_railway_or_in_postgres_is_put_back_and_said() {
    let fleet = Fleet::bootstrapped();
    fleet.settle();
    let mut admin = fleet.admin("shared-1").await;
    execute(
        &mut admin,
        "ALTER ROLE acme PASSWORD 'mine' CONNECTION LIMIT 90; GRANT CONNECT ON DATABASE beta TO PUBLIC",
    )
    .await;
    let id: String = sqlx::query_scalar("SELECT service_id FROM o7s.instances WHERE name = 'own-1'")
        .fetch_one(&mut fleet.control().await)
        .await
        .expect("recorded");
    let environment: String = sqlx::query_scalar("SELECT environment_id FROM o7s.fleet")
        .fetch_one(&mut fleet.control().await)
        .await
        .expect("known");
    let patch = json!({ "services": { id: { "variables": { "SSL_CERT_DAYS": { "value": "1" } } } } });
    let commit =
        "mutation C($e: String!, $p: EnvironmentConfig!) { environmentPatchCommit(environmentId: $e, patch: $p) }";
    fleet.railway.ok(commit, json!({ "e": environment, "p": patch })).await;
    let done = fleet.reconcile();
    assert!(
        text(&done.stdout).contains("! tenant/acme") && text(&done.stdout).contains("! instance/own-1"),
        "{}",
        text(&done.stdout)
    );
    fleet.settle();
    fleet.login("acme", 1).await.expect("the derived password again");
    let events = text(&fleet.o7s(&["events"]).stdout);
    assert_eq!(events.matches("DriftCorrected").count(), 3, "{events}");
}

#[tokio::test]
async fn what_a_person_renamed_is_refused_and_the_statement_that_is_shown_brings_it_back() {
    let fleet = Fleet::bootstrapped();
    fleet.settle();
    let mut own = fleet.login("acme", 1).await.expect("its own database");
    execute(&mut own, "CREATE TABLE kept AS SELECT 7 AS v").await;
    own.close().await.expect("closed");
    let mut admin = fleet.admin("shared-1").await;
    for (rename, kind) in
        [("ALTER DATABASE acme RENAME TO \"old one\"", "DATABASE"), ("ALTER ROLE acme RENAME TO gone", "ROLE")]
    {
        execute(&mut admin, rename).await;
        let refused = fleet.reconcile();
        let said = text(&refused.stdout);
        assert_eq!(code(&refused), 4, "{said}");
        assert!(said.contains("[O7S2013]"), "{said}");
        let back =
            said.lines().find_map(|line| line.split_once("as postgres").map(|(_, rest)| rest)).expect("a way back");
        let back = &back[back.find("ALTER").expect("a statement")..];
        let back = back.split(';').next().expect("one statement");
        assert!(back.contains(kind), "{back}");
        execute(&mut admin, back).await;
        fleet.settle();
        let mut own = fleet.login("acme", 1).await.expect("its own database again");
        let kept: i32 = sqlx::query_scalar("SELECT v FROM kept").fetch_one(&mut own).await.expect("its data");
        assert_eq!(kept, 7);
        own.close().await.expect("closed");
    }
}

#[tokio::test]
async fn a_lost_control_database_is_rebuilt_from_the_marks() {
    let fleet = Fleet::bootstrapped();
    fleet.settle();
    execute(&mut fleet.control().await, "DROP SCHEMA o7s CASCADE").await;
    let lost = fleet.reconcile();
    assert!(text(&lost.stderr).contains("o7s bootstrap"), "{}", text(&lost.stderr));
    let mutations = fleet.total("mutations");
    assert!(fleet.o7s(&["bootstrap", "--yes"]).status.success());
    fleet.settle();
    fleet.assert_whole();
    assert_eq!(fleet.total("mutations"), mutations, "Railway was not touched");
    fleet.login("acme", 1).await.expect("as before");
}

#[tokio::test]
async fn of_two_reconciles_the_second_waits_or_exits_6() {
    let fleet = Fleet::bootstrapped();
    fleet.fault(&["timeout", "--operation", "CreateServices"]);
    let mut first = fleet.in_background(&["reconcile", "--once", "--yes"]);
    let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";
    let mut control = fleet.control().await;
    eventually("the first holds the lease", async || {
        let locks: i64 = sqlx::query_scalar(held).fetch_one(&mut control).await.expect("counted");
        (locks > 0).then_some(())
    })
    .await;
    let second = fleet.o7s(&["reconcile", "--once", "--yes", "--lock-timeout", "1s"]);
    assert_eq!(code(&second), 6, "{}", text(&second.stderr));
    assert!(text(&second.stderr).contains("o7s reconcile, pid"), "{}", text(&second.stderr));
    first.kill().expect("killed");
    first.wait().expect("over");
    // A killed holder blocks nobody for long.
    fleet.settle();
    fleet.assert_whole();
}

#[tokio::test]
async fn a_foreign_service_of_our_name_is_refused_and_the_rest_goes_on() {
    let fleet = Fleet::bootstrapped();
    let (project, environment) = fleet.place().await;
    let create = "mutation F($i: ServiceCreateInput!) { serviceCreate(input: $i) { id } }";
    let input = json!({ "projectId": project, "environmentId": environment, "name": "shared-1" });
    fleet.railway.ok(create, json!({ "i": input })).await;
    let done = fleet.reconcile();
    assert_eq!(code(&done), 4, "{}", text(&done.stdout));
    assert!(text(&done.stdout).contains("O7S2001"), "{}", text(&done.stdout));
    fleet.login("corp", 1).await.expect("the other pool is served");
}

#[test]
fn without_a_control_database_without_a_yes_and_with_a_wrong_token_nothing_happens() {
    let fleet = Fleet::bootstrapped();
    let mutations = fleet.total("mutations");
    let unconfirmed = fleet.o7s(&["reconcile", "--once"]);
    assert_eq!(code(&unconfirmed), 4, "{}", text(&unconfirmed.stderr));
    let gone = fleet
        .command(&["reconcile", "--once", "--yes"])
        .env("O7S_DATABASE_URL", "postgresql://p:x@127.0.0.1:1/railway")
        .output();
    let gone = gone.expect("runs");
    assert_eq!(code(&gone), 7);
    let said = text(&gone.stderr);
    assert!(said.contains("is down") && said.contains("deployment runs, at 127.0.0.1:"), "{said}");
    assert!(said.contains("nothing answers as control database at 127.0.0.1:1"), "{said}");
    assert!(!said.contains("bootstrap"), "it is there: {said}");
    let wrong = fleet.command(&["plan"]).env("RAILWAY_API_TOKEN", "wrong").output().expect("runs");
    assert_eq!(code(&wrong), 77, "{}", text(&wrong.stderr));
    let none = fleet.command(&["plan"]).env_remove("RAILWAY_API_TOKEN").output().expect("runs");
    assert_eq!(code(&none), 77, "{}", text(&none.stderr));
    let other_key =
        fleet.command(&["plan"]).env("O7S_MASTER_KEY", "another-key-another-key-another-key").output().expect("runs");
    assert_eq!(code(&other_key), 4, "{}", text(&other_key.stderr));
    let empty = tempfile::tempdir().expect("a folder");
    for missing in [empty.path().to_owned(), PathBuf::from("no/such/folder")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_o7s"));
        command.args(["reconcile", "--once", "--yes", "-f"]).arg(&missing).envs(&fleet.railway.exports);
        assert_eq!(code(&command.output().expect("runs")), 65, "{}", missing.display());
    }
    // Property 30: one wrong manifest among good ones that wait for their first run.
    let requests = fleet.total("total");
    fleet.tenant("dent", "  tiers: free\n");
    assert_eq!(code(&fleet.o7s(&["reconcile", "--once", "--yes"])), 65);
    assert_eq!(fleet.total("total"), requests, "Railway is not even asked");
    assert_eq!(fleet.total("mutations"), mutations);
}

#[tokio::test]
async fn ctrl_c_finishes_the_call_says_where_it_stopped_and_the_next_run_goes_on() {
    let fleet = Fleet::bootstrapped();
    fleet.fault(&["unhealthy", "--service", "shared-1"]);
    let run = fleet.in_background(&["reconcile", "--once", "--yes"]);
    eventually("the run waits for its instances", async || (fleet.requests("ReadEndpoints") > 1).then_some(())).await;
    let pid = run.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill runs").success());
    let done = run.wait_with_output().expect("over");
    assert_eq!(done.status.code(), Some(130), "{}", text(&done.stdout));
    assert!(text(&done.stdout).contains("stopped"), "{}", text(&done.stdout));
}

#[tokio::test]
async fn without_o7s_database_url_the_control_database_is_found_in_three_requests() {
    let fleet = Fleet::bootstrapped();
    fleet.settle();
    let before = fleet.total("total");
    let plan = fleet.command(&["plan"]).env_remove("O7S_DATABASE_URL").output().expect("runs");
    assert!(text(&plan.stdout).contains("No changes."), "{}{}", text(&plan.stdout), text(&plan.stderr));
    assert_eq!(fleet.total("total") - before, 3);
}

/// Two silences that look alike from outside, with two different next steps.
#[test]
fn a_control_database_that_was_never_made_is_told_from_one_that_is_down() {
    let fleet = Fleet::bootstrapped();
    fleet.fault(&["crash", "--service", "o7s-control"]);
    let with_and_without_url = |fleet: &Fleet| {
        let found = fleet.command(&["plan"]).env_remove("O7S_DATABASE_URL").output().expect("runs");
        [fleet.o7s(&["plan"]), found]
    };
    for down in with_and_without_url(&fleet) {
        let said = text(&down.stderr);
        assert_eq!(code(&down), 7, "{said}");
        assert!(said.contains("service `o7s-control` is there, its deployment is CRASHED"), "{said}");
        assert!(said.contains("restart or redeploy it") && !said.contains("bootstrap"), "{said}");
    }
    let fleet = Fleet { railway: Railway::up(&[]), manifests: fleet.manifests };
    for unmade in with_and_without_url(&fleet) {
        let said = text(&unmade.stderr);
        assert_eq!(code(&unmade), 1, "{said}");
        assert!(said.contains("no project `real`") && said.contains("run `o7s bootstrap --yes`"), "{said}");
    }
}

/// The loop finds its control database once, however often it looks.
#[tokio::test]
async fn a_watching_run_keeps_the_way_to_its_control_database() {
    let fleet = Fleet::bootstrapped();
    fleet.settle();
    let before = fleet.total("total");
    let mut command = fleet.command(&["reconcile", "--watch", "--yes"]);
    command.env_remove("O7S_DATABASE_URL").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut watching = command.spawn().expect("starts");
    let looks = async |n| eventually("a look", async || (fleet.requests("PollConfigEtag") == n).then_some(())).await;
    looks(1).await;
    // The next one comes a whole poll after the run.
    tokio::time::sleep(Watch::default().poll).await;
    looks(2).await;
    watching.kill().expect("killed");
    watching.wait().expect("over");
    // To the control database 3, a look 1, the run's own read 1, a look 1.
    assert_eq!(fleet.total("total") - before, 6);
}
