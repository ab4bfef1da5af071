//! The example workflows, as they are: their shell steps run by bash in a git repository with manifests, against a local
//! Railway over real Postgres. What a hosted runner adds (checkout, artifacts, masking) is not here; comments go to a
//! stand-in for the two APIs' comments on 127.0.0.1. Read: workflow (steps of the files), comments, then the flows.

mod comments;
mod workflow;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use comments::Comments;
use workflow::{github_steps, gitlab_script};

use crate::real::{Fleet, text};

/// A repository with the fleet's manifests, its origin, and a folder for what a runner keeps beside it.
struct Job {
    fleet: Fleet,
    folder: tempfile::TempDir,
    comments: Comments,
}

fn git(at: &Path, args: &[&str]) -> String {
    let mut command = Command::new("git");
    command.current_dir(at).args(["-c", "user.name=ci", "-c", "user.email=ci@example.com"]).args(args);
    let done = command.output().expect("git runs");
    assert!(done.status.success(), "git {args:?}: {}", text(&done.stderr));
    text(&done.stdout)
}

impl Job {
    async fn new() -> Job {
        let fleet = Fleet::bootstrapped();
        fleet.settle();
        let folder = tempfile::tempdir().expect("a folder");
        let job = Job { fleet, folder, comments: Comments::serve().await };
        git(job.folder.path(), &["init", "--quiet", "--bare", "origin"]);
        git(job.folder.path(), &["init", "--quiet", "--initial-branch=main", "repository"]);
        job.change("a", "");
        git(
            &job.repository(),
            &["remote", "add", "origin", job.folder.path().join("origin").to_str().expect("text")],
        );
        git(&job.repository(), &["push", "--quiet", "origin", "main"]);
        job
    }

    fn repository(&self) -> PathBuf {
        self.folder.path().join("repository")
    }

    fn temp(&self) -> PathBuf {
        self.folder.path().join("temp")
    }

    /// A tenant's manifest changed and committed.
    fn change(&self, tenant: &str, more: &str) {
        if tenant != "a" {
            self.fleet.tenant(tenant, more);
        }
        let manifests = self.repository().join("manifests");
        fs::create_dir_all(&manifests).expect("made");
        for file in fs::read_dir(self.fleet.manifests.path()).expect("listed") {
            let file = file.expect("an entry").path();
            fs::copy(&file, manifests.join(file.file_name().expect("a name"))).expect("copied");
        }
        git(&self.repository(), &["add", "-A"]);
        git(&self.repository(), &["commit", "--quiet", "--allow-empty", "-m", "change"]);
    }

    /// As a runner starts a shell: nothing of this process but the path, then the job's own.
    fn bash(&self, script: &str, env: &[(String, String)], token: bool) -> Output {
        let program = Path::new(env!("CARGO_BIN_EXE_o7s"));
        let mut command = Command::new("bash");
        command
            .args(["-eo", "pipefail", "-c", script])
            .current_dir(self.repository())
            .env_clear()
            .stdin(Stdio::null());
        let path = std::env::var("PATH").expect("set");
        command.env("PATH", format!("{}:{path}", self.temp().join("bin").display())).env("HOME", self.temp());
        command.env("RUNNER_TEMP", self.temp()).env("GITHUB_PATH", self.temp().join("path"));
        command.env("GITHUB_WORKSPACE", self.repository()).env("GITHUB_REPOSITORY", "shop/fleet");
        command
            .env("GITHUB_STEP_SUMMARY", self.temp().join("summary"))
            .env("GITHUB_OUTPUT", self.temp().join("output"));
        command.env("GITHUB_API_URL", self.comments.url()).env("CI_API_V4_URL", self.comments.url());
        command
            .env("CI_MERGE_REQUEST_PROJECT_ID", "5")
            .env("CI_MERGE_REQUEST_IID", "7")
            .env("CI_DEFAULT_BRANCH", "main");
        command.env("O7S_URL", format!("file://{}", program.display())).env("O7S_SHA256", self.checksum(program));
        command.env("O7S_GITLAB_TOKEN", "glpat").envs(env.iter().map(|(name, value)| (name, value)));
        let exports = &self.fleet.railway.exports;
        let secret = |name: &str| if token { exports.get(name).cloned().unwrap_or_default() } else { String::new() };
        command.env("O7S_RAILWAY_URL", &exports["O7S_RAILWAY_URL"]).env("O7S_MASTER_KEY", secret("O7S_MASTER_KEY"));
        // The workflows name a project token; the local Railway's export is an account token.
        command
            .env("RAILWAY_API_TOKEN", secret("RAILWAY_API_TOKEN"))
            .env("O7S_DATABASE_URL", secret("O7S_DATABASE_URL"));
        command.output().expect("bash runs")
    }

    fn checksum(&self, program: &Path) -> String {
        let known = self.folder.path().join("checksum");
        if !known.exists() {
            let done = Command::new("sha256sum").arg(program).output().expect("sha256sum runs");
            fs::write(&known, text(&done.stdout).split(' ').next().expect("a sum")).expect("written");
        }
        fs::read_to_string(known).expect("written above")
    }

    /// Runs the steps of an Actions job that has (or lacks) its secrets; the output of all, and what failed.
    fn github(&self, file: &str, token: bool, own: bool) -> (String, Vec<String>) {
        fs::create_dir_all(self.temp()).expect("made");
        let (mut output, mut failed) = (String::new(), Vec::new());
        for step in github_steps(file) {
            let wanted = step.wanted(failed.is_empty(), token, own);
            if !wanted {
                continue;
            }
            let done = self.bash(&step.run, &step.env("3"), token);
            output.push_str(&text(&done.stdout));
            if !done.status.success() {
                output.push_str(&text(&done.stderr));
                failed.push(step.name);
            }
        }
        (output, failed)
    }

    fn gitlab(&self, job: &str, token: bool) -> Output {
        fs::create_dir_all(self.temp()).expect("made");
        let env = if token { vec![("RAILWAY_TOKEN".to_owned(), String::new())] } else { Vec::new() };
        self.bash(&gitlab_script(job), &env, token)
    }

    fn written(&self, name: &str) -> String {
        fs::read_to_string(self.temp().join(name)).unwrap_or_default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_request_shows_plan_price_and_annotations_and_the_merge_reconciles() {
    let job = Job::new().await;
    job.change("acme", "  limits: { connections: 9 }\n");
    job.change("dent", "");
    let (output, failed) = job.github("pull-request.yml", true, true);
    assert!(failed.is_empty(), "{failed:?}: {output}");
    assert!(output.contains("::notice file=manifests/acme.yaml,line=6,title=~ route/acme::"), "{output}");
    assert!(output.contains("::notice title=fleet real::Plan: 2 to create, 1 to update"), "{output}");
    let (summary, outputs) = (job.written("summary"), job.written("output"));
    assert!(summary.contains("### o7s plan: real") && summary.contains("Railway: +$0.00/month"), "{summary}");
    assert!(outputs.contains("changes=3\ndeletes=0\nplan_digest=") && outputs.contains("exitcode=0\n"), "{outputs}");
    assert!(job.written("plan.json").contains("\"plan_digest\""));
    let comments = job.comments.all();
    assert_eq!(comments.len(), 1, "{comments:?}");
    assert!(comments[0].starts_with("<!-- o7s:plan:real -->\n### o7s plan: real\n"), "{}", comments[0]);

    // A later push brings the same comment up to date; a manifest that is wrong is shown in it.
    job.change("dent", "  limits: { conections: 1 }\n");
    let (output, failed) = job.github("pull-request.yml", true, true);
    assert_eq!(failed, ["Validate"], "{output}");
    assert!(
        output.contains("::error file=manifests/dent.yaml,line=6,col=13,title=O7S1101%3A unknown key::"),
        "{output}"
    );
    let comments = job.comments.all();
    assert_eq!(comments.len(), 1, "{comments:?}");
    assert!(
        comments[0].starts_with("<!-- o7s:plan:real -->\n### o7s plan: 1 error in the manifests\n"),
        "{}",
        comments[0]
    );

    let version = job.fleet.routing_version().await;
    job.change("dent", "");
    let (output, failed) = job.github("merge.yml", true, true);
    assert!(failed.is_empty(), "{failed:?}: {output}");
    assert_eq!(job.fleet.routing_version().await, version + 1, "{output}");
    job.fleet.login("dent", 1).await.expect("routed");
    assert!(job.written("summary").contains("### o7s reconcile: real"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forks_pull_request_is_planned_without_a_secret_from_the_scheduled_observation() {
    let job = Job::new().await;
    let (output, failed) = job.github("observe.yml", true, true);
    assert!(failed.is_empty(), "{failed:?}: {output}");
    fs::remove_dir_all(job.temp()).expect("another machine");
    job.change("dent", "");
    let requests = job.fleet.total("total");
    let (output, failed) = job.github("pull-request.yml", false, false);
    assert!(failed.is_empty(), "{failed:?}: {output}");
    assert!(output.contains("::notice file=manifests/dent.yaml,line=5,title=+ tenant/dent::"), "{output}");
    assert!(job.written("summary").contains("2 to create"), "{}", job.written("summary"));
    assert_eq!((job.comments.all().len(), job.fleet.total("total")), (0, requests), "neither comment nor request");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_request_gets_reports_and_one_note_and_the_merge_reconciles() {
    let job = Job::new().await;
    let observed = job.gitlab("observe", true);
    assert!(observed.status.success(), "{}", text(&observed.stderr));
    job.comments.keep_artifact(fs::read_to_string(job.repository().join("live.json")).expect("observed"));
    job.change("dent", "");
    for _ in 0..2 {
        for name in ["validate", "plan", "note"] {
            let done = job.gitlab(name, false);
            assert!(done.status.success(), "{name}: {}{}", text(&done.stdout), text(&done.stderr));
        }
    }
    let report = |name: &str| fs::read_to_string(job.repository().join(name)).expect("a report");
    let json = |name: &str| serde_json::from_str::<serde_json::Value>(&report(name)).expect("JSON");
    assert_eq!(json("report.json"), serde_json::json!({ "create": 2, "update": 0, "delete": 0 }));
    assert_eq!(json("gl-code-quality-report.json"), serde_json::json!([]));
    let notes = job.comments.all();
    assert!(notes.len() == 1 && notes[0].starts_with("<!-- o7s:plan:real -->"), "{notes:?}");

    let version = job.fleet.routing_version().await;
    let done = job.gitlab("reconcile", true);
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert_eq!(job.fleet.routing_version().await, version + 1);

    job.change("dent", "  tiers: free\n");
    assert_eq!(job.gitlab("validate", false).status.code(), Some(65));
    assert_eq!(json("gl-code-quality-report.json")[0]["location"]["path"], "manifests/dent.yaml");
}
