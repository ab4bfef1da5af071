//! Planning away from the world, with the real binary: what one place observed is planned with in another that has
//! neither token nor key nor network.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::real::{Fleet, code, text};

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
    assert_eq!(plan, serde_json::from_slice::<Value>(&here.stdout).expect("JSON"));
    fleet.assert_without_secrets(&there.stdout);
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
