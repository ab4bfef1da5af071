//! Other hands at work while a run is under way: a second operator that no lease keeps away, a person at the dashboard
//! or in a server, somebody who never stops, and the loss of the control database.

use std::time::Duration;

use chrono::TimeDelta;
use ogelnates::operator::{Verdict, Watch, watch};
use ogelnates::plan::{DatabaseLive, RoleLive, ServerLive};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::laws::{bootstrapped, settle, simulate, undisturbed};
use super::life_laws::{NAMES, assert_routes_lead_somewhere, id, settled};
use super::random_laws::tenants_of;
use super::safety_laws::run;
use super::sim::{Ended, Kill, Sim, fleet, fleet_text, manifest};

/// The longest any run may take, whatever another one does meanwhile.
const RUN_MAX: TimeDelta = TimeDelta::minutes(30);

/// The same fleet as others want it: another limit, another volume, one tenant fewer and one more.
fn other_text() -> String {
    fleet_text(&["acme", "dent", "corp"])
        .replace("serverConnections: 2", "serverConnections: 3")
        .replace("spec: { tenantsPerInstance: 50,", "spec: { volume: 90Gi, tenantsPerInstance: 50,")
}

fn commit(sim: &Sim, patch: &Value) {
    let commit =
        "mutation($e: String!, $p: EnvironmentConfig!) { environmentPatchCommit(environmentId: $e, patch: $p) }";
    sim.ask(commit, json!({ "e": sim.environment(), "p": patch }));
}

/// Which databases there are, wherever they are.
fn databases(sim: &Sim) -> Vec<String> {
    let mut names: Vec<String> =
        sim.servers.contents.borrow().values().flat_map(|server| server.databases.keys().cloned()).collect();
    names.sort();
    names
}

/// Property 45: one operator stands still at any of its calls while another, with other manifests, does all of its
/// work.
#[test]
fn two_operators_without_a_lease_double_nothing_and_touch_nothing_foreign() {
    simulate(async || {
        let (ours, theirs) = (fleet(&NAMES), manifest(&other_text()));
        let wanted = settled(&other_text()).await;
        let wanted = tenants_of(&wanted, &theirs);
        for (lag, begun) in [(false, false), (true, false), (false, true)] {
            for n in 0.. {
                let context = format!("held at call {n}, lag {lag}, begun {begun}");
                let sim = bootstrapped(&ours, lag).await;
                sim.make_foreign_service("api", &[("STRIPE_KEY", "theirs")]);
                let foreign = sim.config_of("api");
                if begun {
                    settle(&sim, &theirs, &context).await;
                }
                let since = sim.now();
                let meanwhile = async || {
                    let ended = sim.reconcile(&theirs).await;
                    assert!(!matches!(ended, Ended::Killed), "{context}");
                };
                if sim.reconcile_around(&ours, n, meanwhile).await.is_none() {
                    assert!(n > 12, "{context}: a run of so few calls");
                    break;
                }
                assert!(sim.now() - since < RUN_MAX, "{context}: took {}", sim.now() - since);
                sim.assert_nothing_is_doubled(&context);
                assert_routes_lead_somewhere(&sim, &context);
                settle(&sim, &theirs, &context).await;
                sim.assert_nothing_is_doubled(&context);
                assert_eq!(tenants_of(&sim, &theirs), wanted, "{context}");
                assert_eq!(sim.config_of("api"), foreign, "{context}");
                let kept = databases(&sim);
                for name in ["acme", "corp", "dent"] {
                    assert_eq!(kept.iter().filter(|one| *one == name).count(), 1, "{context}: {kept:?}");
                }
            }
        }
    });
}

/// Property 45: of two clashing patches one is refused, because the etag moved after its run had read. What Railway's API
/// leaves open is the time of the patch itself: it names no base, so a run held there writes, and the other run's next
/// look says so.
#[test]
fn an_etag_refuses_one_of_two_clashing_patches() {
    simulate(async || {
        let with_memory = |size: &str| {
            let pool = format!("spec: {{ resources: {{ vcpu: 2, memory: {size} }}, tenantsPerInstance: 50,");
            manifest(&fleet_text(&NAMES).replace("spec: { tenantsPerInstance: 50,", &pool))
        };
        let (ours, theirs) = (with_memory("2Gi"), with_memory("3Gi"));
        for begun in [true, false] {
            let (mut refused, mut overwritten) = (Vec::new(), Vec::new());
            for n in 0.. {
                let context = format!("held at call {n}, begun {begun}");
                let sim = bootstrapped(&fleet(&NAMES), false).await;
                if begun {
                    settle(&sim, &fleet(&NAMES), &context).await;
                }
                let mut meant = Vec::new();
                let meanwhile = async || {
                    let Ended::Done(done) = sim.reconcile(&theirs).await else { panic!("{context}: it ends") };
                    assert_eq!(done.verdict, Verdict::Converged, "{context}");
                    meant.push(caps(&sim));
                };
                let Some(ended) = sim.reconcile_around(&ours, n, meanwhile).await else { break };
                let Ended::Done(done) = ended else { panic!("{context}: it ends") };
                let overtaken = done.failures().filter(|(_, failure)| failure.code.to_string() == "O7S7107").count();
                if overtaken > 0 {
                    assert_eq!((done.verdict, vec![caps(&sim)]), (Verdict::Partial, meant), "{context}");
                    refused.push(n);
                } else if vec![caps(&sim)] != meant {
                    overwritten.push(n);
                }
            }
            let (first, last) = (refused[0], refused[refused.len() - 1]);
            assert_eq!(refused, (first..=last).collect::<Vec<u64>>(), "begun {begun}");
            // Who reads after the other is done plans on what that one left; the patch itself is the next call.
            let clashed: Vec<u64> = overwritten.into_iter().filter(|n| *n >= first).collect();
            assert_eq!(clashed, [last + 1], "begun {begun}: overwritten unseen, {refused:?} were refused");
        }
    });
}

fn caps(sim: &Sim) -> String {
    sim.config_of("shared-1")["deploy"]["limitOverride"].to_string()
}

/// What an editor may set beside us: parts of a configuration that no manifest speaks of, and one that we do manage.
fn edit_railway(sim: &Sim) {
    let (ours, api) = (sim.service_id("shared-1"), sim.service_id("api"));
    let patch = json!({ "services": {
        ours: {
            "deploy": { "drainingSeconds": 7, "restartPolicyMaxRetries": 3 },
            "variables": { "NOTE": { "value": "mine" }, "PGDATA": { "value": "/elsewhere" } },
        },
        api: { "variables": { "STRIPE_KEY": { "value": "rotated" } } },
    } });
    commit(sim, &patch);
}

fn edit_server(server: &mut ServerLive) {
    let database = DatabaseLive {
        owner: "analyst".into(),
        tenant: None,
        connection_limit: -1,
        ..server.databases["acme"].clone()
    };
    server.databases.insert("reports".into(), database);
    let role = RoleLive { mark: None, connection_limit: -1, ..server.roles["acme"].clone() };
    server.roles.insert("analyst".into(), role);
    if let Some(role) = server.roles.get_mut("acme") {
        role.connection_limit = 99;
    }
}

/// Property 49: what no manifest speaks of stays byte for byte as the editor left it, and what one does is put back.
#[test]
fn an_edit_between_reading_and_writing_loses_only_managed_fields() {
    simulate(async || {
        let after = fleet_text(&NAMES).replace("serverConnections: 2", "serverConnections: 3").replace(
            "spec: { tenantsPerInstance: 50,",
            "spec: { volume: 90Gi, resources: { vcpu: 4, memory: 4Gi }, tenantsPerInstance: 50,",
        );
        let desired = manifest(&after);
        // Edited when nobody was at work: what every other schedule has to come to.
        let mut wanted: Option<(Value, Value, String)> = None;
        for n in 0.. {
            let context = format!("edited before call {n}");
            let sim = bootstrapped(&fleet(&NAMES), false).await;
            sim.make_foreign_service("api", &[("STRIPE_KEY", "theirs")]);
            settle(&sim, &fleet(&NAMES), &context).await;
            let edit = || {
                edit_railway(&sim);
                let mut contents = sim.servers.contents.borrow_mut();
                edit_server(contents.values_mut().find(|one| one.databases.contains_key("acme")).expect("there"));
            };
            if wanted.is_none() {
                edit();
            } else if sim.reconcile_around(&desired, n - 1, async || edit()).await.is_none() {
                assert!(n > 12, "{context}: a run of so few calls");
                break;
            }
            settle(&sim, &desired, &context).await;
            let end = (sim.config_of("shared-1"), sim.config_of("api"), sim.picture());
            let (config, ..) = &end;
            assert_eq!(
                (&config["deploy"]["drainingSeconds"], &config["variables"]["NOTE"]["value"]),
                (&json!(7), &json!("mine"))
            );
            assert_eq!(&end, wanted.get_or_insert_with(|| end.clone()), "{context}");
            sim.servers.with("shared-1", |server| assert!(server.databases.contains_key("reports")));
        }
    });
}

/// Property 50: somebody undoes our work all the time. Each interval puts it back at most once, in one request.
#[test]
fn an_editor_who_never_stops_costs_one_correction_an_interval() {
    simulate(async || {
        let desired = fleet(&NAMES);
        let sim = settled(&fleet_text(&NAMES)).await;
        let wanted = sim.config_of("shared-1");
        let patch = json!({ "services": { sim.service_id("shared-1"): { "variables": { "PGDATA": { "value": "/elsewhere" } } } } });
        let (before, stop, watching) = (sim.mutating_requests(), CancellationToken::new(), Watch::default());
        let (runs, edits) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
        let look = async || Some((String::new(), etag(&sim)));
        let reconcile = async || {
            runs.set(runs.get() + 1);
            let done = run(&sim, &desired).await;
            (done.verdict == Verdict::Converged).then_some(done.etag)
        };
        let editor = async {
            for _ in 0..360 {
                tokio::time::sleep(Duration::from_secs(10)).await;
                commit(&sim, &patch);
                edits.set(edits.get() + 1);
            }
        };
        tokio::select! {
            () = watch(watching, &stop, look, reconcile) => {}
            () = editor => {}
        }
        let corrections = u64::try_from(sim.mutating_requests() - before).expect("small") - edits.get();
        let intervals = 3_600 / watching.poll.as_secs();
        assert!(corrections > 60 && corrections <= intervals, "{corrections} corrections in {} runs", runs.get());
        settle(&sim, &desired, "the editor stopped").await;
        assert_eq!(sim.config_of("shared-1"), wanted);
    });
}

fn etag(sim: &Sim) -> String {
    let read = "query($e: String!) { environment(id: $e) { configEtag } }";
    sim.ask(read, json!({ "e": sim.environment() }))["environment"]["configEtag"]
        .as_str()
        .expect("an etag")
        .to_owned()
}

/// Property 66: the control database is lost at any call of a run that has work to do, and the run may be killed there.
#[test]
fn a_control_database_lost_in_the_middle_of_a_run_costs_nothing_but_itself() {
    simulate(async || {
        let after =
            fleet_text(&["acme", "beta", "dent", "corp"]).replace("serverConnections: 2", "serverConnections: 3");
        let desired = manifest(&after);
        let wanted = settled(&fleet_text(&NAMES)).await;
        settle(&wanted, &desired, "undisturbed").await;
        let wanted = wanted.picture();
        for killed in [false, true] {
            for n in 0.. {
                let context = format!("lost before call {n}, killed {killed}");
                let sim = settled(&fleet_text(&NAMES)).await;
                let lose = async || {
                    sim.control.drop_everything();
                    if killed {
                        sim.kill_at(Kill::Before(0));
                    }
                };
                if sim.reconcile_around(&desired, n, lose).await.is_none() {
                    assert!(n > 12, "{context}: a run of so few calls");
                    break;
                }
                sim.quiet();
                sim.assert_nothing_is_doubled(&context);
                let changes = sim.mutations_made();
                settle(&sim, &desired, &context).await;
                assert_eq!(sim.picture(), wanted, "{context}");
                assert_eq!(sim.mutations_made(), changes, "{context}: Railway is as it was");
                assert!(sim.control.rows.borrow().live.placements.contains_key(&id("dent")), "{context}");
            }
        }
        let (made, ..) = undisturbed(&desired).await;
        assert_eq!(made, wanted, "whichever way it was come to");
    });
}
