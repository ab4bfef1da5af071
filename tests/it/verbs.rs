//! The verbs of every day, on the real binary, a local Railway and real Postgres servers.

use std::process::{Output, Stdio};

use serde_json::Value;
use sqlx::{Connection as _, PgConnection};

use crate::real::{Fleet, code, text};
use crate::support::{eventually, execute};

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", text(&output.stdout), text(&output.stderr)))
}

fn lines(output: &Output) -> Vec<String> {
    text(&output.stdout).lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_tenant_is_listed_shown_measured_and_connected_to() {
    let fleet = Fleet::bootstrapped();
    fleet.tenant("acme", "  roles: [{ name: reader, grants: read }]\n  limits: { connections: 9, storage: 1Gi }\n");

    // Before anything was made: known and not there is told from unknown, in every verb alike.
    let early = fleet.o7s(&["tenant", "url", "acme"]);
    assert_eq!((code(&early), text(&early.stdout).as_str()), (1, ""), "{}", text(&early.stderr));
    assert!(text(&early.stderr).contains("has no database yet"), "{}", text(&early.stderr));
    assert_eq!(code(&fleet.o7s(&["events", "tenant/acme"])), 0);
    assert_eq!(code(&fleet.o7s(&["status"])), 2);
    for args in [&["status", "tenant/nope"][..], &["events", "tenant/nope"], &["tenant", "show", "nope"]] {
        let unknown = fleet.o7s(args);
        assert_eq!(code(&unknown), 64, "{args:?}");
        assert!(text(&unknown.stderr).contains("nothing is known of tenant/nope"), "{}", text(&unknown.stderr));
    }
    let late = fleet.o7s(&["status", "--wait", "tenant/acme", "--timeout", "1s"]);
    assert_eq!(code(&late), 2, "{}", text(&late.stderr));
    let waiting = fleet.in_background(&["status", "--wait=ready", "--timeout", "5m", "--format", "json"]);
    fleet.settle();
    let waited = waiting.wait_with_output().expect("over");
    assert_eq!((code(&waited), json(&waited)["ready"].clone()), (0, Value::Bool(true)));

    assert_eq!(lines(&fleet.o7s(&["tenant", "list", "--quiet"])), ["acme", "beta", "corp"]);
    assert_eq!(lines(&fleet.o7s(&["tenant", "list", "--quiet", "--pool", "own"])), ["corp"]);
    let listed = json(&fleet.o7s(&["tenant", "list", "--state", "active", "--format", "json"]));
    assert_eq!(listed.as_array().map(Vec::len), Some(3), "{listed}");

    let url = lines(&fleet.o7s(&["tenant", "url", "acme", "--role", "reader"]));
    let mut reader = PgConnection::connect(&url[0]).await.expect("the URL logs in");
    let user: String = sqlx::query_scalar("SELECT current_user").fetch_one(&mut reader).await.expect("answered");
    assert_eq!((url.len(), user.as_str()), (1, "acme_reader"));
    let private = lines(&fleet.o7s(&["tenant", "url", "acme", "--private"]));
    assert!(private[0].ends_with("@shared-1.railway.internal:5432/acme"), "{}", private[0]);
    assert_eq!(code(&fleet.o7s(&["tenant", "url", "acme", "--role", "writer"])), 64);

    let limits = json(&fleet.o7s(&["tenant", "limits", "tenant/acme", "--format", "json"]));
    let ceiling = |name: &str| {
        let all = limits["limits"].as_array().expect("a list").iter();
        all.clone().find(|one| one["name"] == name).cloned().unwrap_or_else(|| panic!("{name} in {limits}"))
    };
    let (mine, tiers) = (ceiling("connections"), ceiling("serverConnections"));
    // The reader came past the routers.
    assert_eq!(
        (&mine["value"], &mine["used"], &tiers["used"], &mine["unit"]),
        (&9.into(), &0.into(), &1.into(), &"count".into()),
        "{mine} {tiers}"
    );
    assert_eq!((&ceiling("storage")["value"], &ceiling("storage")["unit"]), (&(1 << 30).into(), &"bytes".into()));
    assert!(mine["setBy"].as_str().is_some_and(|at| at.ends_with("acme.yaml:7")), "{mine}");
    assert!(tiers["setBy"].as_str().is_some_and(|at| at.starts_with("tier free, ")), "{tiers}");
    assert_eq!(tiers["heldBy"], "Postgres, CONNECTION LIMIT 2");
    assert!(limits["measured"]["sizeBytes"].as_u64().is_some_and(|size| size > 1 << 20), "{limits}");

    let shown = fleet.o7s(&["tenant", "show", "acme"]);
    for part in ["acme_reader (read)", "shared-1", "generation  1", "Created"] {
        assert!(text(&shown.stdout).contains(part), "{part} in {}", text(&shown.stdout));
    }
    let password = fleet.o7s(&["tenant", "show", "acme", "--format", "json"]);
    let secret = url[0].split(['@', ':']).nth(2).expect("a password");
    assert!(!text(&password.stdout).contains(secret) && json(&password)["route"]["tenant"] == "acme");

    fleet.tenant("beta", "  suspended: true\n");
    fleet.settle();
    std::fs::remove_file(fleet.manifests.path().join("corp.yaml")).expect("removed");
    assert_eq!(code(&fleet.reconcile()), 0);
    let of_state = |state: &str| lines(&fleet.o7s(&["tenant", "list", "-q", "--state", state]));
    assert_eq!((of_state("suspended"), of_state("retained")), (vec!["beta".to_owned()], vec!["corp".to_owned()]));
    let suspended = fleet.o7s(&["tenant", "url", "beta"]);
    assert!(text(&suspended.stderr).contains("is suspended"), "{}", text(&suspended.stderr));
    let status = fleet.o7s(&["status"]);
    let all = text(&status.stdout);
    assert!(all.contains("suspended") && all.contains("no manifest declares it"), "{all}");
    assert_eq!(code(&status), 0, "{all}");
    assert_eq!(json(&fleet.o7s(&["status", "tenant/beta", "--format", "json"]))["objects"][0]["ready"], "no");
}

#[test]
fn a_tenant_that_was_renamed_deleted_or_detached_is_told_as_that_and_has_no_url() {
    let fleet = Fleet::bootstrapped();
    fleet.settle();
    let of_state = |state: &str| lines(&fleet.o7s(&["tenant", "list", "-q", "--state", state]));
    let renamed = "apiVersion: ogelnates.dev/v1\nkind: Tenant\nmetadata: { name: zeta, renamedFrom: acme }\nspec:\n  tier: free\n";
    std::fs::remove_file(fleet.manifests.path().join("acme.yaml")).expect("removed");
    fleet.write("zeta.yaml", renamed);
    fleet.tenant("beta", "  state: absent\n  deletionPolicy: delete\n");
    fleet.tenant("corp", "  placement: { pool: own }\n  state: absent\n  deletionPolicy: detach\n");
    let fleet_text = std::fs::read_to_string(fleet.manifests.path().join("fleet.yaml")).expect("readable");
    fleet.write("fleet.yaml", &fleet_text.replacen("spec: {}", "spec: { safety: { maxRemovals: 5 } }", 1));
    let key = format!("tenant/beta@{}", chrono::Utc::now().date_naive());
    let done = fleet.o7s(&["reconcile", "--once", "--yes", "--allow-delete", &key]);
    assert_eq!(code(&done), 0, "{}{}", text(&done.stdout), text(&done.stderr));
    for (name, exit_code, said) in [
        ("acme", 64, "tenant/acme is a former name of tenant/zeta"),
        ("beta", 1, "tenant/beta is deleted; its database is kept as zz_deleted_"),
        ("corp", 1, "tenant/corp is detached: its database stays"),
    ] {
        let url = fleet.o7s(&["tenant", "url", name]);
        assert_eq!((code(&url), text(&url.stdout).as_str()), (exit_code, ""), "{name}");
        assert!(text(&url.stderr).contains(said), "{}", text(&url.stderr));
    }
    assert_eq!((of_state("deleting"), of_state("detached")), (vec!["beta".to_owned()], vec!["corp".to_owned()]));
    assert_eq!(code(&fleet.o7s(&["status", "tenant/acme"])), 64);
}

#[test]
fn what_only_reads_the_control_database_needs_no_railway_token() {
    let fleet = Fleet::bootstrapped();
    fleet.settle();
    let without = |names: &[&str], args: &[&str]| {
        let mut command = fleet.command(args);
        names.iter().for_each(|name| _ = command.env_remove(name));
        command.stdin(Stdio::null()).output().expect("runs")
    };
    let token = &["RAILWAY_API_TOKEN", "RAILWAY_TOKEN", "O7S_RAILWAY_URL"][..];
    let neither = &[token, &["O7S_MASTER_KEY"]].concat()[..];
    let requests = fleet.total("total");
    for names in [token, neither] {
        let status = without(names, &["status", "tenant/acme", "--format", "json"]);
        assert_eq!((code(&status), &json(&status)["ready"]), (0, &true.into()), "{}", text(&status.stderr));
        assert_eq!(lines(&without(names, &["tenant", "list", "-q"])), ["acme", "beta", "corp"]);
        assert_eq!(json(&without(names, &["lease", "show", "--format", "json"]))["session"], Value::Null);
        assert_eq!(json(&without(names, &["lease", "steal", "--yes", "--format", "json"]))["stolen"], false);
        assert!(text(&without(names, &["events", "tenant/acme"]).stdout).contains("Created"));
        // The instance itself is asked with a password that is derived from the key.
        let limits = without(names, &["tenant", "limits", "acme"]);
        assert_eq!(code(&limits), 0, "{}", text(&limits.stderr));
        let unmeasured = text(&limits.stderr).contains("nothing was measured: O7S_MASTER_KEY is not set");
        assert_eq!(unmeasured, names == neither, "{}", text(&limits.stderr));
        assert!(text(&without(names, &["tenant", "show", "acme"]).stdout).contains("shared-1"));
    }
    assert_eq!(lines(&without(token, &["tenant", "url", "acme"])), lines(&fleet.o7s(&["tenant", "url", "acme"])));
    let url = without(neither, &["tenant", "url", "acme"]);
    assert_eq!((code(&url), text(&url.stdout).as_str()), (64, ""));
    assert!(text(&url.stderr).contains("O7S_MASTER_KEY is not set"), "{}", text(&url.stderr));
    assert_eq!(code(&without(token, &["plan"])), 77);
    assert_eq!(fleet.total("total"), requests, "Railway was not asked");

    fleet.write(
        "fleet.yaml",
        &std::fs::read_to_string(fleet.manifests.path().join("fleet.yaml"))
            .expect("readable")
            .replace("name: real", "name: other"),
    );
    let other = without(neither, &["status"]);
    assert_eq!(code(&other), 4, "{}", text(&other.stderr));
    assert!(text(&other.stderr).contains("belongs to another fleet: real ("), "{}", text(&other.stderr));
}

#[test]
fn connect_runs_psql_as_the_tenant_and_says_so_where_there_is_none() {
    let fleet = Fleet::bootstrapped();
    fleet.settle();
    let none = fleet.command(&["tenant", "connect", "acme"]).env("PATH", "/nowhere").output().expect("runs");
    assert_eq!(code(&none), 1);
    assert!(text(&none.stderr).contains("install Postgres' client"), "{}", text(&none.stderr));

    // Stands for psql: shows what it was handed.
    let folder = tempfile::tempdir().expect("a folder");
    let script =
        "#!/bin/sh\necho \"$@\"; echo $PGUSER $PGDATABASE $PGHOST ${#PGPASSWORD} ${O7S_MASTER_KEY-no key}; exit 3\n";
    let psql = folder.path().join("psql");
    std::fs::write(&psql, script).expect("written");
    let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
    std::fs::set_permissions(&psql, mode).expect("runnable");
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap_or_default());
    let mut command = fleet.command(&["tenant", "connect", "acme"]);
    let done = command.args(["--", "-c", "select 1"]).env("PATH", path).output().expect("runs");
    assert_eq!(lines(&done), ["-c select 1", "acme acme 127.0.0.1 43 no key"], "{}", text(&done.stderr));
    assert_eq!(code(&done), 3, "psql's own");
}

#[tokio::test]
async fn a_stuck_run_is_robbed_of_its_lease_and_the_next_one_finishes() {
    let fleet = Fleet::bootstrapped();
    let free = fleet.o7s(&["lease", "steal", "--yes", "--format", "json"]);
    assert_eq!(json(&free)["stolen"], false, "{}", text(&free.stderr));
    fleet.fault(&["timeout", "--operation", "CreateServices"]);
    let mut stuck = fleet.in_background(&["reconcile", "--once", "--yes"]);
    let held = eventually("the first holds the lease", async || {
        let shown = json(&fleet.o7s(&["lease", "show", "--format", "json"]));
        // The lock shows a moment before the name of who took it.
        let named = shown["holder"].as_str().is_some_and(|holder| holder.starts_with("o7s reconcile, pid"));
        (!shown["session"].is_null() && named).then_some(shown)
    })
    .await;
    assert_eq!(code(&fleet.o7s(&["lease", "steal"])), 4, "nobody said yes");
    let stolen = json(&fleet.o7s(&["lease", "steal", "--yes", "--format", "json"]));
    assert_eq!(stolen["epoch"].as_u64(), held["epoch"].as_u64().map(|epoch| epoch + 1), "{stolen}");
    let shown = fleet.o7s(&["lease", "show"]);
    assert!(text(&shown.stdout).starts_with("the lease is free"), "{}", text(&shown.stdout));
    fleet.fault(&["clear"]);
    fleet.settle();
    stuck.kill().expect("killed");
    stuck.wait().expect("over");
    fleet.login("acme", 1).await.expect("made by the second");
}

/// Property 46: its lock goes with its socket, and whoever waits less than a time to live leads next and finishes.
#[tokio::test]
async fn a_killed_leader_is_followed_within_the_time_to_live() {
    let fleet = Fleet::bootstrapped();
    fleet.fault(&["timeout", "--operation", "CreateServices"]);
    let mut first = fleet.in_background(&["reconcile", "--once", "--yes"]);
    eventually("the first holds the lease", async || {
        (!json(&fleet.o7s(&["lease", "show", "--format", "json"]))["session"].is_null()).then_some(())
    })
    .await;
    first.kill().expect("killed");
    first.wait().expect("over");
    fleet.fault(&["clear"]);
    let mut next = fleet.command(&["reconcile", "--once", "--yes", "--lock-timeout", "13s"]);
    let next = next.stdin(Stdio::null()).output().expect("runs");
    assert_ne!(code(&next), 6, "{}", text(&next.stderr));
    fleet.settle();
}

#[tokio::test]
async fn a_rotation_is_written_into_the_manifest_and_carried_out_by_the_next_run() {
    let fleet = Fleet::bootstrapped();
    fleet.settle();
    let path = fleet.manifests.path().join("acme.yaml");
    let before = std::fs::read_to_string(&path).expect("readable");
    let rotated = json(&fleet.o7s(&["rotate", "tenant/acme", "--format", "json"]));
    assert_eq!((&rotated["from"], &rotated["to"]), (&1.into(), &2.into()), "{rotated}");
    let after = std::fs::read_to_string(&path).expect("readable");
    assert_eq!(after.replace("  credentials: { generation: 2 }\n", ""), before);
    for _ in 0..2 {
        assert_eq!(code(&fleet.o7s(&["rotate", "tenant/acme", "--generation", "2"])), 0, "repeats harmlessly");
    }
    assert_eq!(std::fs::read_to_string(&path).expect("readable"), after);
    assert_eq!(code(&fleet.o7s(&["rotate", "tenant/acme", "--generation", "1"])), 4);
    assert_eq!(code(&fleet.o7s(&["rotate", "tenant/nope"])), 64);
    fleet.settle();
    fleet.login("acme", 2).await.expect("the new password");
    fleet.login("acme", 1).await.expect_err("the old password");
}

#[test]
fn the_doctor_finds_what_is_wrong_and_goes_on_without_what_is_missing() {
    let fleet = Fleet::bootstrapped();
    fleet.settle();
    let level = |report: &Value, part: &str| {
        let all = report["findings"].as_array().expect("findings").iter();
        let found = all.clone().find(|one| one["part"] == part).unwrap_or_else(|| panic!("{part} in {report}"));
        found["level"].as_str().expect("a level").to_owned()
    };
    let asked = |change: &dyn Fn(&mut std::process::Command)| {
        let mut command = fleet.command(&["doctor", "--format", "json"]);
        change(&mut command);
        let done = command.stdin(Stdio::null()).output().expect("runs");
        (code(&done), json(&done))
    };
    let (well, report) = asked(&|_| {});
    assert_eq!(well, 0, "{report}");
    let parts =
        ["manifests", "token", "plan", "volumes", "clock", "control database", "database clock", "master key"];
    for part in parts.into_iter().chain(["instance/shared-1", "instance/own-1"]) {
        assert_eq!(level(&report, part), "ok", "{part}: {report}");
    }
    assert_eq!(report["requests"], 2, "{report}");

    let (failed, report) = asked(&|command| {
        command.env_remove("RAILWAY_API_TOKEN");
    });
    assert_eq!(
        (failed, level(&report, "token"), level(&report, "control database")),
        (1, "fail".into(), "ok".into())
    );
    let (failed, report) = asked(&|command| {
        command.env_remove("O7S_MASTER_KEY");
    });
    assert_eq!(
        (failed, level(&report, "master key"), level(&report, "control database")),
        (1, "fail".into(), "ok".into())
    );
    let other = "another-key-another-key-another-key";
    let (failed, report) = asked(&|command| {
        command.env("O7S_MASTER_KEY", other);
    });
    assert_eq!((failed, level(&report, "master key")), (1, "fail".into()), "{report}");
    let nowhere = "postgresql://postgres:x@127.0.0.1:1/railway";
    let (failed, report) = asked(&|command| {
        command.env("O7S_DATABASE_URL", nowhere);
    });
    assert_eq!(
        (failed, level(&report, "control database"), level(&report, "token")),
        (1, "fail".into(), "ok".into())
    );
    let (well, report) = asked(&|command| {
        command.env_remove("O7S_DATABASE_URL");
    });
    assert_eq!((well, level(&report, "control database")), (0, "ok".into()), "{report}");
}

#[test]
fn explain_tells_what_reconcile_would_do_and_where_it_cannot_know() {
    let fleet = Fleet::bootstrapped();
    fleet.settle();
    let folder = tempfile::tempdir().expect("a folder");
    let live = folder.path().join("live.json");
    std::fs::write(&live, fleet.o7s(&["observe"]).stdout).expect("written");
    fleet.tenant("acme", "  limits: { serverConnections: 3 }\n");
    let without_token = |args: &[&str]| {
        let done = fleet.command(args).env_remove("RAILWAY_API_TOKEN").stdin(Stdio::null()).output().expect("runs");
        assert_eq!(code(&done), 0, "{}", text(&done.stderr));
        let after = text(&done.stdout);
        after.split_once("\n\n").map(|(_, would)| would.to_owned()).unwrap_or_else(|| panic!("{after}"))
    };
    let here = text(&fleet.o7s(&["explain", "tenant/acme"]).stdout);
    let saved = without_token(&["explain", "tenant/acme", "--live", live.to_str().expect("plain")]);
    assert!(here.starts_with("FIELD") && here.ends_with(&saved), "{here}{saved}");
    let path = fleet.manifests.path().to_str().expect("plain");
    insta::assert_snapshot!(saved.replace(path, "manifests"), @r"
    reconcile would do this (+ create, ~ update, - delete, > rename, ! put back):
    ~ tenant/acme  (limits or roles changed)  manifests/acme.yaml:6
        acme.serverConnections      2 -> 3
        database.serverConnections  2 -> 3
    ~ route/acme  (the route changed)  manifests/acme.yaml:6
        limits.serverConnections  2 -> 3
    ");
    let lacking = without_token(&["explain", "tenant/acme"]);
    assert!(lacking.starts_with("what reconcile would do is not known here: no Railway token"), "{lacking}");
    assert!(lacking.contains("--live FILE"), "{lacking}");
    let quiet = text(&fleet.o7s(&["explain", "tenant/beta"]).stdout);
    assert!(quiet.ends_with("reconcile would change nothing of it\n"), "{quiet}");
    let document = json(&fleet.o7s(&["explain", "tenant/acme", "--format", "json"]));
    assert_eq!(document["plan"]["changes"][0]["address"], "tenant/acme", "{document}");

    // Of `diff` in JSON: the result, and what went wrong, where the result would have been.
    let differs = fleet.o7s(&["diff", "--format", "json"]);
    assert_eq!((code(&differs), &json(&differs)["different"]), (1, &true.into()));
    let trouble = fleet.command(&["diff", "--format", "json"]).env_remove("O7S_MASTER_KEY").output().expect("runs");
    assert_eq!((code(&trouble), &json(&trouble)["exit_code"]), (2, &2.into()), "{}", text(&trouble.stdout));

    // The control database of this fleet, for another one.
    let whole = std::fs::read_to_string(fleet.manifests.path().join("fleet.yaml")).expect("readable");
    fleet.write("fleet.yaml", &whole.replace("name: real", "name: other"));
    let requests = fleet.total("total");
    let other = fleet.o7s(&["bootstrap", "--yes"]);
    assert_eq!(code(&other), 4, "{}", text(&other.stderr));
    assert!(text(&other.stderr).contains("belongs to another fleet: real ("), "{}", text(&other.stderr));
    assert_eq!(fleet.total("total"), requests, "nothing was asked, and so nothing made");
}

#[test]
fn a_wrong_use_names_the_help_of_its_own_verb() {
    let told = |args: &[&str]| {
        let done = std::process::Command::new(env!("CARGO_BIN_EXE_o7s")).args(args).output().expect("runs");
        assert_eq!(code(&done), 64, "{args:?}");
        text(&done.stderr).lines().last().unwrap_or_default().to_owned()
    };
    assert_eq!(told(&["plan", "--bogus"]), "next: see `o7s plan --help`");
    assert_eq!(told(&["explain", "nonsense"]), "next: see `o7s explain --help`");
    assert_eq!(told(&["plane"]), "next: see `o7s --help`");
    assert_eq!(told(&["--bogus"]), "next: see `o7s --help`");
}

/// Property 50: what others undo again and again is told as that; so is a pause, for as long as it lasts.
#[tokio::test]
async fn a_tenant_that_flaps_or_is_paused_is_told_as_that() {
    let fleet = Fleet::bootstrapped();
    fleet.settle();
    let told = |name: &str| json(&fleet.o7s(&["status", name, "--format", "json"]))["objects"][0].clone();
    for _ in 0..3 {
        assert_eq!(told("tenant/acme")["remarks"], Value::Null, "an accident or two");
        execute(&mut fleet.admin("shared-1").await, "ALTER ROLE acme CONNECTION LIMIT 99").await;
        assert_eq!(code(&fleet.reconcile()), 0);
    }
    let flapping = told("tenant/acme");
    assert_eq!((&flapping["ready"], &flapping["remarks"][0]["condition"]), (&"yes".into(), &"Flapping".into()));
    let message = flapping["message"].as_str().expect("a text");
    assert!(message.starts_with("put back 3 times within a day, last: changed by hand on shared-1"), "{message}");
    assert!(message.contains("99 -> "), "{message}");
    assert_eq!(told("tenant/beta")["remarks"], Value::Null);
    execute(&mut fleet.control().await, "UPDATE o7s.events SET at = at - interval '2 days'").await;
    assert_eq!(told("tenant/acme")["remarks"], Value::Null, "it has been quiet for a day");

    let pause = fleet.o7s(&["tenant", "pause", "beta", "--patience", "3s"]);
    assert_eq!(code(&pause), 0, "{}", text(&pause.stderr));
    let shown = text(&fleet.o7s(&["tenant", "show", "beta"]).stdout);
    let said = "paused: new transactions wait until o7s tenant resume beta; what ran had 3 s to end (since 20";
    assert!(shown.contains(said), "{shown}");
    assert!(text(&fleet.o7s(&["status"]).stdout).contains(said));
    assert_eq!(told("tenant/beta")["remarks"][0]["condition"], "Paused");
    assert_eq!(code(&fleet.o7s(&["tenant", "resume", "beta"])), 0);
    assert_eq!(told("tenant/beta")["remarks"], Value::Null);
}
