//! Railway's own program against the local Railway. It has to be a debug build of the published crate, because only
//! such a one can be pointed elsewhere; `make test-railway-cli` builds it, which takes a while.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use super::{Caller, queries};
use crate::real::Fleet;

/// The program with a home of its own, so that neither a login nor a linked project of the user's is seen or changed.
struct Program<'f> {
    path: PathBuf,
    home: tempfile::TempDir,
    fleet: &'f Fleet,
    settings: Vec<(&'static str, String)>,
}

impl Program<'_> {
    fn new(fleet: &Fleet) -> Program<'_> {
        let path = std::env::var_os("O7S_TEST_RAILWAY_CLI").expect("O7S_TEST_RAILWAY_CLI names Railway's CLI");
        let home = tempfile::tempdir().expect("a folder");
        let account = ("RAILWAY_API_TOKEN", fleet.railway.exports["RAILWAY_API_TOKEN"].clone());
        Program { path: path.into(), home, fleet, settings: vec![account] }
    }

    /// The same, told other things by its environment.
    fn told(&self, settings: &[(&'static str, &str)]) -> Program<'_> {
        let settings = settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Program { path: self.path.clone(), home: tempfile::tempdir().expect("a folder"), fleet: self.fleet, settings }
    }

    /// What it said, on both channels.
    fn run(&self, args: &[&str]) -> (bool, String) {
        let mut command = Command::new(&self.path);
        command.args(args).current_dir(self.home.path()).stdin(Stdio::null()).env_clear();
        command.env("HOME", self.home.path()).env("NO_COLOR", "1").env("PATH", "/usr/bin:/bin");
        for silent in ["DO_NOT_TRACK", "RAILWAY_NO_TELEMETRY", "RAILWAY_NO_AUTO_UPDATE"] {
            command.env(silent, "1");
        }
        command.env("RAILWAY_BACKBOARD_URL", &self.fleet.railway.exports["O7S_RAILWAY_URL"]);
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        let Output { status, stdout, stderr } = command.output().expect("Railway's CLI runs");
        let said = [stdout, stderr].map(|channel| String::from_utf8_lossy(&channel).into_owned()).concat();
        println!("$ railway {}\n{said}", args.join(" ")); // read with --nocapture
        (status.success(), said)
    }

    fn ok(&self, args: &[&str]) -> String {
        let (succeeded, said) = self.run(args);
        assert!(succeeded, "railway {}: {said}", args.join(" "));
        said
    }

    fn says(&self, args: &[&str], parts: &[&str]) {
        let said = self.ok(args);
        for part in parts {
            assert!(said.contains(part), "{part} is not in\n{said}");
        }
    }

    fn json(&self, args: &[&str]) -> Value {
        let said = self.ok(args);
        let start = said.find(['{', '[']).unwrap_or_else(|| panic!("no JSON: {said}"));
        let mut values = serde_json::Deserializer::from_str(&said[start..]).into_iter::<Value>();
        values.next().and_then(Result::ok).unwrap_or_else(|| panic!("no JSON: {said}"))
    }

    fn fails(&self, args: &[&str], part: &str) {
        let (succeeded, said) = self.run(args);
        assert!(!succeeded && said.contains(part), "{part} is not in\n{said}");
    }
}

fn looks_around(railway: &Program<'_>) {
    railway.says(&["whoami"], &["Logged in as local (local@localhost)"]);
    railway.says(&["list"], &["local", "real"]);
    assert_eq!(railway.json(&["list", "--json"])[0]["name"], "real");
    railway.says(&["api", "{ me { name } }"], &["\"name\": \"local\""]);
    let described = railway.json(&["api", "describe", "Project"]);
    assert!(described["matches"][0]["fields"].as_array().is_some_and(|fields| fields.len() > 20), "{described}");
    railway.fails(&["link", "--project", "nosuch"], "Available: real");
    let link = ["link", "--project", "real", "--environment", "production", "--service", "shared-1"];
    railway.says(&link, &["Project real linked successfully"]);
}

fn shows_the_linked_project(railway: &Program<'_>) {
    let volume = "/var/lib/postgresql/data";
    railway.says(&["status"], &["Workspace:", "real", "Linked service", "Online", volume, "own-1", "o7s-control"]);
    let status = railway.json(&["status", "--json"]);
    assert_eq!((&status["name"], &status["workspace"]["name"]), (&json!("real"), &json!("local")));
    let instances = status.pointer("/environments/edges/0/node/serviceInstances/edges").and_then(Value::as_array);
    let mut names: Vec<&str> =
        instances.into_iter().flatten().filter_map(|edge| edge["node"]["serviceName"].as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["o7s-control", "own-1", "shared-1"]);
    railway.says(&["environment", "list"], &["production (linked)"]);
    let environments = railway.json(&["environment", "list", "--json"]);
    assert!(environments.to_string().contains("\"production\""), "{environments}");
    railway.says(&["service", "list"], &["own-1", "o7s-control", "shared-1", "Online"]);
    railway.says(&["service", "status"], &["Service: shared-1", "Status: SUCCESS"]);
    railway.says(&["service", "link", "own-1"], &["own-1"]);
    railway.says(&["service", "status", "--service", "o7s-control"], &["Service: o7s-control", "Status: SUCCESS"]);
    railway.says(&["volume", "list"], &["Attached to: own-1", "Attached to: shared-1", "Status: Ready"]);
    railway.says(&["tcp-proxy", "list", "--service", "shared-1"], &["127.0.0.1:", "5432", "ACTIVE"]);
    railway.says(&["deployment", "list", "--service", "shared-1"], &["SUCCESS"]);
    railway
        .says(&["logs", "--service", "own-1", "--lines", "5"], &["database system is ready to accept connections"]);
}

fn changes_variables(railway: &Program<'_>) {
    let shared = ["--service", "shared-1"];
    let with = |args: &[&'static str]| [args, &shared[..]].concat();
    railway.says(&with(&["variable", "set", "ALPHA=1", "BETA=two words", "--skip-deploys"]), &["ALPHA", "BETA"]);
    let variables = railway.json(&with(&["variable", "list", "--json"]));
    assert_eq!((&variables["ALPHA"], &variables["BETA"]), (&json!("1"), &json!("two words")));
    assert!(variables["O7S_OWNER"].as_str().is_some_and(|mark| mark.contains("shared-1")), "{variables}");
    railway.ok(&with(&["variable", "delete", "ALPHA"]));
    let variables = railway.json(&with(&["variable", "list", "--json"]));
    assert_eq!((variables.get("ALPHA"), &variables["BETA"]), (None, &json!("two words")));
    let graph = railway.json(&["config", "pull", "--json"]);
    assert_eq!(graph["project"]["name"], "real");
    let resources = graph["resources"].as_array().expect("resources");
    let service = resources.iter().find(|resource| resource["address"] == "service.shared-1").expect("shared-1");
    assert_eq!(service["source"]["image"], "ghcr.io/railwayapp-templates/postgres-ssl:17");
    assert_eq!(service["variables"]["BETA"]["type"], "preserve", "masked values are kept, not shown: {service}");
}

fn is_refused(railway: &Program<'_>) {
    let stranger = railway.told(&[("RAILWAY_API_TOKEN", "wrong")]);
    for command in ["whoami", "list"] {
        stranger.fails(&[command], "Unauthorized");
    }
    let wrong = railway.told(&[("RAILWAY_TOKEN", "wrong")]);
    wrong.fails(&["status"], "Invalid RAILWAY_TOKEN");
    let nowhere = "00000000-0000-4000-8000-000000000000";
    let account = &railway.settings[0].1;
    let lost = [
        ("RAILWAY_API_TOKEN", account.as_str()),
        ("RAILWAY_PROJECT_ID", nowhere),
        ("RAILWAY_ENVIRONMENT_ID", nowhere),
    ];
    railway.told(&lost).fails(&["status"], "Project not found");
}

/// A CI job's token needs no link: it says which project and environment.
fn works_with_a_project_token(railway: &Program<'_>, token: &str) {
    let ci = railway.told(&[("RAILWAY_TOKEN", token)]);
    ci.says(&["status"], &["real", "production", "shared-1", "Online"]);
    assert_eq!(ci.json(&["status", "--json"])["name"], "real");
    ci.says(&["environment", "list"], &["production"]);
    ci.says(&["service", "list"], &["own-1", "shared-1"]);
    ci.says(&["service", "status", "--service", "own-1"], &["Status: SUCCESS"]);
    ci.ok(&["variable", "set", "GAMMA=3", "--service", "own-1", "--skip-deploys"]);
    assert_eq!(ci.json(&["variable", "list", "--json", "--service", "own-1"])["GAMMA"], "3");
    ci.ok(&["variable", "delete", "GAMMA", "--service", "own-1"]);
    assert_eq!(ci.json(&["config", "pull", "--json"])["project"]["name"], "real");
    ci.fails(&["whoami"], "Unauthorized");
}

#[tokio::test]
#[ignore = "needs Railway's CLI, which takes long to build: make test-railway-cli"]
async fn railways_own_program_works() {
    let fleet = Fleet::bootstrapped();
    fleet.settle();
    let railway = Program::new(&fleet);
    looks_around(&railway);
    shows_the_linked_project(&railway);
    changes_variables(&railway);
    is_refused(&railway);
    let (project, environment) = fleet.place().await;
    let input = json!({ "projectId": project, "environmentId": environment, "name": "ci" });
    let made = Caller::account(&fleet).ok("Make", queries::MAKE_TOKEN, json!({ "input": input })).await;
    works_with_a_project_token(&railway, made["projectTokenCreate"].as_str().expect("a token"));
}
