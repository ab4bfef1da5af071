//! What leaves, and what comes back: deletions with their two keys, grace time and undo, and detached tenants.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::TimeDelta;
use ogelnates::operator::Verdict;
use ogelnates::plan::{Code, Consent, ServerLive, render};
use ogelnates::tenancy::RouteState;

use super::laws::{settle, simulate};
use super::life_laws::{NAMES, at_every_call, id, settled, with};
use super::safety_laws::{absent, run};
use super::sim::{Ended, Kill, Sim, fleet, fleet_text, manifest};

const GRACE: Duration = Duration::from_secs(7 * 86_400);

fn key(sim: &Sim) -> Consent {
    Consent { deletions: BTreeMap::from([(id("acme"), sim.now().date_naive())]), ..Consent::default() }
}

fn is_kept(server: &mut ServerLive) -> bool {
    server.databases.keys().any(|name| name.starts_with("zz_deleted_"))
}

fn gone() -> String {
    absent(&fleet_text(&NAMES), "acme")
}

/// A world where acme is deleted, at this moment.
async fn deleted() -> Sim {
    let sim = settled(&fleet_text(&NAMES)).await;
    let Ended::Done(done) = sim.reconcile_with(&manifest(&gone()), &key(&sim), |_| true).await else {
        panic!("ends")
    };
    assert_eq!(done.verdict, Verdict::Converged, "{:?}", done.report);
    let shown = render(&done.plan, true);
    assert!(shown.contains("kept until  (none) -> 2026-12-02"), "{shown}");
    sim
}

/// Properties 26 and 33.
#[test]
fn data_goes_only_with_both_keys_and_after_its_grace_time() {
    simulate(async || {
        let (sim, gone) = (settled(&fleet_text(&NAMES)).await, manifest(&gone()));
        let done = run(&sim, &gone).await;
        assert_eq!((done.plan.refused[0].code, done.verdict), (Code::KeyMissing, Verdict::Refused));
        assert!(sim.servers.with("shared-1", |server| server.databases.contains_key("acme")));
        let old = sim.now().date_naive() - TimeDelta::days(2);
        let stale = Consent { deletions: BTreeMap::from([(id("acme"), old)]), ..Consent::default() };
        let Ended::Done(done) = sim.reconcile_with(&gone, &stale, |_| true).await else { panic!("ends") };
        assert_eq!(done.plan.refused[0].code, Code::KeyMissing, "a key of the day before yesterday");

        let sim = deleted().await;
        assert_eq!(sim.control.rows.borrow().live.routes[&id("acme")].state, RouteState::Retired);
        let due = sim.control.rows.borrow().live.deletions[&id("acme")].due_at;
        let second = TimeDelta::seconds(1);
        tokio::time::advance((due - second - sim.now()).to_std().expect("ahead")).await;
        let done = run(&sim, &gone).await;
        assert_eq!(sim.now(), due - second, "a run without work takes no time");
        assert!(
            done.plan.is_empty() && done.plan.retained[0].contains("until 2026-12-02"),
            "{:?}",
            done.plan.retained
        );
        assert!(sim.servers.with("shared-1", is_kept), "waits for its grace time");
        // Nobody's clock but the control database's counts.
        sim.skew.set(TimeDelta::days(30));
        assert!(run(&sim, &gone).await.plan.is_empty());
        sim.skew.set(TimeDelta::zero());
        tokio::time::advance(Duration::from_secs(1)).await;
        for unconfirmed in [gone_but("retain"), without_acme()] {
            assert!(run(&sim, &unconfirmed).await.plan.is_empty());
            assert!(sim.servers.with("shared-1", is_kept), "not dropped without its first key");
        }
        let done = run(&sim, &gone).await;
        assert_eq!(done.verdict, Verdict::Converged, "{:?}", done.report);
        assert!(!sim.servers.with("shared-1", is_kept), "dropped");
        assert!(!sim.control.rows.borrow().live.routes.contains_key(&id("acme")));
        assert!(run(&sim, &gone).await.plan.is_empty());
    });
}

fn gone_but(policy: &str) -> ogelnates::manifest::Desired {
    manifest(&gone().replace("deletionPolicy: delete", &format!("deletionPolicy: {policy}")))
}

fn without_acme() -> ogelnates::manifest::Desired {
    let text = fleet_text(&NAMES);
    manifest(&text.split("---\n").filter(|part| !part.contains("name: acme")).collect::<Vec<_>>().join("---\n"))
}

#[test]
fn a_deletion_killed_at_any_call_is_finished_and_keeps_its_data() {
    simulate(async || {
        at_every_call(&fleet_text(&NAMES), &gone(), key).await;
    });
}

#[test]
fn a_deletion_in_its_grace_time_is_undone_by_the_manifest_wherever_a_run_is_killed() {
    simulate(async || {
        let wanted = settled(&fleet_text(&NAMES)).await.picture();
        for n in 0..20 {
            let sim = deleted().await;
            sim.kill_at(Kill::After(n));
            let _ = sim.reconcile(&fleet(&NAMES)).await;
            sim.quiet();
            settle(&sim, &fleet(&NAMES), "undone").await;
            assert_eq!(sim.picture(), wanted, "killed after call {n}");
            assert!(sim.control.rows.borrow().live.deletions.is_empty());
        }
        let sim = deleted().await;
        let shown = render(&run(&sim, &fleet(&NAMES)).await.plan, false);
        assert!(shown.contains("~ tenant/acme  (its deletion is undone)"), "{shown}");
        assert!(shown.contains("zz_deleted_20261125_acme -> acme"), "{shown}");
    });
}

/// The control database may be lost while a deletion waits: nothing is made in its place, and nothing dropped early.
#[test]
fn a_deletion_whose_record_is_lost_begins_its_grace_time_anew_and_can_be_undone() {
    simulate(async || {
        let wanted = settled(&fleet_text(&NAMES)).await.picture();
        let (sim, gone) = (deleted().await, manifest(&gone()));
        tokio::time::advance(GRACE).await;
        sim.control.drop_everything();
        settle(&sim, &gone, "rebuilt").await;
        assert!(sim.servers.with("shared-1", is_kept));
        tokio::time::advance(GRACE - Duration::from_secs(60)).await;
        assert!(run(&sim, &gone).await.plan.is_empty(), "a whole grace time again");
        settle(&sim, &fleet(&NAMES), "undone").await;
        assert_eq!(sim.picture(), wanted);

        let sim = deleted().await;
        sim.control.drop_everything();
        settle(&sim, &fleet(&NAMES), "rebuilt and undone at once").await;
        assert_eq!(sim.picture(), wanted);
    });
}

#[test]
fn a_detached_tenant_is_forgotten_and_goes_on_working() {
    simulate(async || {
        let text = gone().replace("deletionPolicy: delete", "deletionPolicy: detach");
        let end = at_every_call(&fleet_text(&NAMES), &text, |_| Consent::default()).await;
        assert!(!end.contains("placement acme") && !end.contains("route acme"), "{end}");
        let sim = settled(&fleet_text(&NAMES)).await;
        settle(&sim, &manifest(&text), "detached").await;
        sim.servers.with("shared-1", |server| {
            assert!(server.databases["acme"].allow_connections && server.databases["acme"].tenant.is_none());
            assert!(server.roles["acme"].can_login && server.roles["acme"].mark.is_none());
        });
        // It is somebody else's now.
        let done = run(&sim, &fleet(&NAMES)).await;
        assert_eq!(done.plan.refused[0].code, Code::ForeignRole, "{}", render(&done.plan, true));
        let help = &done.plan.refused[0].help;
        assert!(help.contains("o7s adopt tenant/acme --database acme --on instance/shared-1"), "{help}");
        let guarded = with(&text, "beta", "state: absent\n  deletionPolicy: detach");
        let done = run(&settled(&fleet_text(&NAMES)).await, &manifest(&guarded)).await;
        assert_eq!(done.plan.guard.map(|trip| trip.removals), Some(2), "to unroute is to remove");
    });
}

/// Whatever takes two of three tenants from their clients, or lets two go that had none, stops the run; one may go.
#[test]
fn the_removal_guard_counts_every_way_to_lose_a_tenant() {
    simulate(async || {
        let text = fleet_text(&NAMES);
        let generous = |text: &str| text.replace("plan: pro }", "plan: pro }\n  safety: { maxRemovals: 3 }");
        let each = |text: &str, more: &str| with(&with(text, "acme", more), "beta", more);
        let (suspended, retired) = ("suspended: true", "state: absent");
        let (deleted, detached) =
            ("state: absent\n  deletionPolicy: delete", "state: absent\n  deletionPolicy: detach");
        let renamed = |text: &str, names: &[&str]| {
            names.iter().fold(text.to_owned(), |text, name| {
                text.replace(&format!("name: {name} }}"), &format!("name: {name}2, renamedFrom: {name} }}"))
            })
        };
        let served = settled(&text).await;
        let out_of_service = async |more| {
            let sim = settled(&text).await;
            settle(&sim, &manifest(&generous(&each(&text, more))), more).await;
            sim
        };
        let trips = async |sim: &Sim, text: &str| {
            let desired = manifest(text);
            let consent = Consent {
                deletions: desired.tenants.keys().map(|name| (name.clone(), sim.now().date_naive())).collect(),
                ..Consent::default()
            };
            let plan = ogelnates::plan::plan(&desired, &sim.observe().await, &consent);
            assert_eq!(plan.guard.is_some(), plan.removals.removals > plan.removals.allowed, "{:?}", plan.removals);
            (plan.removals.removals, plan.guard.is_some())
        };
        for more in [suspended, retired, deleted, detached] {
            assert_eq!(trips(&served, &each(&text, more)).await, (2, true), "{more}");
            assert_eq!(trips(&served, &with(&text, "acme", more)).await, (1, false), "{more}");
        }
        assert_eq!(trips(&served, &renamed(&text, &["acme", "beta"])).await, (2, true));
        assert_eq!(trips(&served, &renamed(&text, &["acme"])).await, (1, false));
        for sim in [&out_of_service(suspended).await, &out_of_service(retired).await] {
            for more in [deleted, detached] {
                assert_eq!(trips(sim, &each(&text, more)).await, (2, true), "{more}");
            }
            assert_eq!(trips(sim, &renamed(&each(&text, suspended), &["acme", "beta"])).await, (2, true));
            // Back to service is no loss.
            assert_eq!(trips(sim, &text).await, (0, false));
        }
        // What was begun within one limit may be finished within another.
        let both = renamed(&text, &["acme", "beta"]);
        served.kill_at(Kill::After(4 + 2 + 2));
        assert!(matches!(served.reconcile(&manifest(&generous(&both))).await, Ended::Killed));
        served.quiet();
        let begun = served.control.rows.borrow().live.renames.values().filter(|rename| !rename.done).count();
        assert_eq!((begun, trips(&served, &both).await), (2, (0, false)));
    });
}
