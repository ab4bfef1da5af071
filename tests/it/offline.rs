//! Planning away from the world, with the real binary: what one place observed is planned with in another that has
//! neither token nor key nor network.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::real::{Fleet, code, text};
use crate::support::{eventually, execute};

/// The binary where nothing is set.
fn in_a_bare_place(manifests: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_o7s"));
    command.env_clear().args(args).arg("-f").arg(manifests).stdin(Stdio::null());
    command.output().expect("the binary runs")
}

/// The way of a pull request from a fork: `observe` where the secrets are, `plan --live` where they are not.
#[tokio::test]
async fn a_pull_request_is_planned_with_an_observation_and_without_any_variable() {
    let fleet = Fleet::bootstrapped();
    fleet.settle();
    let (project, environment) = fleet.place().await;
    let create = "mutation F($i: ServiceCreateInput!) { serviceCreate(input: $i) { id } }";
    let variables = json!({ "STRIPE_KEY": "canary-of-the-app" });
    let input = json!({ "projectId": project, "environmentId": environment, "name": "api", "variables": variables });
    fleet.railway.ok(create, json!({ "i": input })).await;
    fleet.tenant("acme", "  publish: [{ service: api, variable: DATABASE_URL }]\n");
    fleet.settle();

    let (mutations, folder) = (fleet.total("mutations"), tempfile::tempdir().expect("a folder"));
    let seen = fleet.o7s(&["observe"]);
    assert_eq!(code(&seen), 0, "{}", text(&seen.stderr));
    assert_eq!(fleet.total("mutations"), mutations);
    fleet.assert_without_secrets(&seen.stdout);
    let live = folder.path().join("live.json");
    fs::write(&live, &seen.stdout).expect("written");
    let live = live.to_str().expect("a plain path");

    let offline =
        |args: &[&str]| in_a_bare_place(fleet.manifests.path(), &[&["plan", "--live", live], args].concat());
    let same = offline(&[]);
    assert_eq!((code(&same), text(&same.stderr)), (0, String::new()));
    assert!(text(&same.stdout).contains("No changes. 3 tenants match."), "{}", text(&same.stdout));

    fleet.tenant("acme", "  publish: [{ service: api, variable: DATABASE_URL }]\n  credentials: { generation: 2 }\n");
    fleet.tenant("dent", "");
    let requests = fleet.total("total");
    let there = offline(&["--detailed-exitcode", "--format", "json"]);
    assert_eq!(fleet.total("total"), requests, "nobody was asked");
    let here = fleet.o7s(&["plan", "--detailed-exitcode", "--format", "json"]);
    assert_eq!((code(&there), code(&here)), (2, 2), "{}", text(&there.stderr));
    let plan: Value = serde_json::from_slice(&there.stdout).expect("JSON");
    let same: Value = serde_json::from_slice(&here.stdout).expect("JSON");
    for part in ["plan_digest", "inputs", "changes", "summary", "price", "warnings"] {
        assert_eq!(plan[part], same[part], "{part}");
    }
    fleet.assert_without_secrets(&there.stdout);
}

/// The way of a merge: what was reviewed is carried out, or nothing.
#[tokio::test]
async fn a_saved_plan_is_carried_out_as_reviewed_or_refused_without_a_change() {
    let fleet = Fleet::bootstrapped();
    fleet.settle();
    fleet.tenant("dent", "");
    let folder = tempfile::tempdir().expect("a folder");
    let saved = folder.path().join("plan.json");
    let saved = saved.to_str().expect("a plain path");
    let plan = fleet.o7s(&["plan", "--detailed-exitcode", "--out", saved]);
    assert_eq!(code(&plan), 2, "{}", text(&plan.stderr));
    fleet.assert_without_secrets(&fs::read(saved).expect("saved"));

    let (mutations, version) = (fleet.total("mutations"), fleet.routing_version().await);
    let carry_out = |more: &[&str]| fleet.o7s(&[&["reconcile", "--once", "--yes", "--plan", saved], more].concat());
    let refused = |why: &str, more: &[&str]| {
        let done = carry_out(more);
        let stderr = text(&done.stderr);
        assert_eq!(code(&done), 4, "{}{stderr}", text(&done.stdout));
        assert!(stderr.contains("no longer fits") && stderr.contains(why), "{stderr}");
    };
    // Other manifests.
    fleet.tenant("extra", "");
    refused("new: route/extra, tenant/extra", &[]);
    refused("new: route/extra, tenant/extra", &["--replan-if-safe"]);
    fs::remove_file(fleet.manifests.path().join("extra.yaml")).expect("removed");
    fleet.tenant("dent", "  limits: { serverConnections: 1 }\n");
    refused("different: route/dent", &[]);
    refused("tenant/dent (in what no field shows)", &[]);
    fleet.tenant("dent", "");
    // Another world, of which Railway's etag knows nothing.
    execute(&mut fleet.admin("shared-1").await, "ALTER ROLE acme CONNECTION LIMIT 90").await;
    refused("new: tenant/acme", &[]);
    assert_eq!((fleet.total("mutations"), fleet.routing_version().await), (mutations, version));
    fleet.login("dent", 1).await.expect_err("was not made");

    let only = fleet.o7s(&["reconcile", "--once", "--yes", "--target", "tenant/acme"]);
    assert_eq!(code(&only), 0, "{}", text(&only.stderr));
    assert!(text(&only.stdout).contains("partial: only tenant/acme and what that needs"), "{}", text(&only.stdout));
    fleet.login("dent", 1).await.expect_err("was not asked for");
    let done = carry_out(&[]);
    assert_eq!(code(&done), 0, "{}{}", text(&done.stdout), text(&done.stderr));
    fleet.login("dent", 1).await.expect("was made");
    refused("nothing is left to do of it", &[]);
    assert_eq!(code(&carry_out(&["--replan-if-safe"])), 0, "nothing is left to do");
    fleet.settle();
}

#[test]
fn diff_tells_same_from_different_from_trouble() {
    let fleet = Fleet::bootstrapped();
    fleet.settle();
    let same = fleet.o7s(&["diff"]);
    assert_eq!((code(&same), text(&same.stdout)), (0, String::new()), "{}", text(&same.stderr));
    fleet.tenant("acme", "  limits: { serverConnections: 3 }\n");
    fleet.tenant("dent", "");
    let other = fleet.o7s(&["diff", "--color", "never"]);
    assert_eq!(code(&other), 1, "{}", text(&other.stderr));
    let path = fleet.manifests.path().to_str().expect("a plain path");
    insta::assert_snapshot!(text(&other.stdout).replace(path, "manifests"));
    let some = fleet.o7s(&["diff", "--target", "tenant/d*", "--color", "always"]);
    assert!(text(&some.stdout).contains("\u{1b}[32m+database: dent on shared-1"), "{}", text(&some.stdout));
    assert!(!text(&some.stdout).contains("acme"));
    fleet.tenant("dent", "  tiers: free\n");
    assert_eq!(code(&fleet.o7s(&["diff"])), 2);
}

/// Property 67 in the control database and on a service; of the observation see below.
#[tokio::test]
async fn what_a_later_version_marked_or_migrated_is_refused_without_a_change() {
    let fleet = Fleet::bootstrapped();
    fleet.settle();
    fleet.tenant("acme", "  credentials: { generation: 2 }\n");
    let (_, environment) = fleet.place().await;
    let mut control = fleet.control().await;
    let id: String = sqlx::query_scalar("SELECT service_id FROM o7s.instances WHERE name = 'shared-1'")
        .fetch_one(&mut control)
        .await
        .expect("recorded");
    let patch =
        json!({ "services": { id: { "variables": { "O7S_OWNER": { "value": "o7s2:what:a-later-one:wrote" } } } } });
    let commit =
        "mutation C($e: String!, $p: EnvironmentConfig!) { environmentPatchCommit(environmentId: $e, patch: $p) }";
    fleet.railway.ok(commit, json!({ "e": environment, "p": patch })).await;
    eventually("the server is back after its redeploy", async || fleet.login("acme", 1).await.ok()).await;
    let mutations = fleet.total("mutations");
    let marked = fleet.reconcile();
    assert_eq!(code(&marked), 4, "{}{}", text(&marked.stdout), text(&marked.stderr));
    assert!(text(&marked.stdout).contains("O7S2002"), "{}", text(&marked.stdout));

    execute(&mut control, "INSERT INTO o7s.migrations (version, description, success, checksum, execution_time) VALUES (99, 'later', true, '', 0)").await;
    let migrated = fleet.reconcile();
    assert_eq!(code(&migrated), 4, "{}{}", text(&migrated.stdout), text(&migrated.stderr));
    fleet.login("acme", 1).await.expect("nothing was rotated");
    assert_eq!(fleet.total("mutations"), mutations);
}

#[test]
fn a_file_that_is_no_observation_of_this_version_is_refused_by_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let manifests = folder.path().join("fleet.yaml");
    fs::write(&manifests, "apiVersion: ogelnates.dev/v1\nkind: Fleet\nmetadata: { name: real }\n").expect("written");
    let live = folder.path().join("live.json");
    for (content, said) in [
        (
            r#"{"kind":"Observation","formatVersion":99,"o7sVersion":"9.9.9","live":{}}"#,
            "format 99, written by o7s 9.9.9",
        ),
        ("{}", "is no observation of o7s"),
    ] {
        fs::write(&live, content).expect("written");
        let path = live.to_str().expect("a plain path");
        let done = in_a_bare_place(&manifests, &["plan", "--live", path]);
        assert_eq!(code(&done), 65, "{}", text(&done.stderr));
        let stderr = text(&done.stderr);
        assert!(stderr.contains(path) && stderr.contains(said) && stderr.contains("next: "), "{stderr}");
    }
    let done = in_a_bare_place(&manifests, &["plan", "--live", "no/such/file"]);
    assert_eq!(code(&done), 65, "{}", text(&done.stderr));
}
