//! What no run may ever do, and what it must say instead.

use chrono::TimeDelta;
use ogelnates::local::world::{Fault, Plan, Rule};
use ogelnates::operator::{Error, Outcome, Verdict};
use ogelnates::plan::{Code, Consent, ReasonCode, Step, Symbol};
use ogelnates::tenancy::{Credential, TenantId};
use serde_json::json;

use super::laws::{bootstrapped, settle, simulate};
use super::sim::{Ended, Kill, Sim, fleet, fleet_text, manifest};

pub async fn run(sim: &Sim, desired: &ogelnates::manifest::Desired) -> Box<ogelnates::operator::Reconciled> {
    match sim.reconcile(desired).await {
        Ended::Done(done) => done,
        Ended::Failed(error) => panic!("{error}"),
        Ended::Killed => panic!("nobody kills here"),
    }
}

/// Properties 24 and 41.
#[test]
fn a_foreign_service_of_our_name_is_refused_untouched_and_the_rest_goes_on() {
    simulate(async || {
        let desired = fleet(&["acme", "beta", "corp"]);
        for variables in [&[][..], &[("O7S_OWNER", "o7s1:00ff:shared-1")][..], &[("O7S_OWNER", "hello")][..]] {
            let sim = bootstrapped(&desired, false).await;
            sim.make_foreign_service("shared-1", variables);
            let before = sim.config_of("shared-1");
            let done = run(&sim, &desired).await;
            assert_eq!(sim.config_of("shared-1"), before, "the foreign service");
            assert_eq!(done.verdict, Verdict::Refused, "{:?}", done.plan.refused);
            assert_eq!(done.plan.refused[0].code, Code::ForeignService);
            let routed: Vec<String> = sim.control.rows.borrow().live.routes.keys().map(ToString::to_string).collect();
            assert_eq!(routed, ["corp"], "the tenant on the other pool is served");
        }
    });
}

/// A copy of a service copies its marker with the first one's id.
#[test]
fn a_copied_marker_means_nothing() {
    simulate(async || {
        let desired = fleet(&["acme"]);
        let sim = bootstrapped(&desired, false).await;
        settle(&sim, &desired, "first").await;
        let marker =
            sim.config_of("shared-1")["variables"]["O7S_OWNER"]["value"].as_str().expect("marked").to_owned();
        sim.make_foreign_service("shared-2", &[("O7S_OWNER", &marker)]);
        let before = sim.config_of("shared-2");
        let two = manifest(&fleet_text(&["acme"]).replace("min: 1", "min: 2"));
        let done = run(&sim, &two).await;
        assert_eq!(done.plan.refused[0].code, Code::ForeignService);
        assert_eq!(sim.config_of("shared-2"), before);
    });
}

/// Property 26, and "a removed manifest deletes nothing".
#[test]
fn a_removed_manifest_changes_nothing_and_is_listed() {
    simulate(async || {
        let sim = bootstrapped(&fleet(&["acme", "beta"]), false).await;
        settle(&sim, &fleet(&["acme", "beta"]), "first").await;
        let (before, picture) = (sim.mutations_made(), sim.picture());
        let one = manifest(
            &fleet_text(&["acme", "beta"])
                .split("---\n")
                .filter(|d| !d.contains("name: acme"))
                .collect::<Vec<_>>()
                .join("---\n"),
        );
        let done = run(&sim, &one).await;
        assert!(done.plan.is_empty(), "{}", ogelnates::plan::render(&done.plan, true));
        assert_eq!(done.plan.retained.len(), 1, "{:?}", done.plan.retained);
        assert_eq!(sim.mutations_made(), before);
        assert_eq!(sim.picture(), picture);
        // Property 32: back again, with nothing to do.
        settle(&sim, &fleet(&["acme", "beta"]), "back").await;
    });
}

pub fn absent(text: &str, tenant: &str) -> String {
    let with = format!("name: {tenant} }}\nspec:\n  state: absent\n  deletionPolicy: delete\n");
    text.replace(&format!("name: {tenant} }}\nspec:\n"), &with)
}

/// Property 29.
#[test]
fn too_many_removals_stop_the_whole_run() {
    simulate(async || {
        let names = ["acme", "beta", "corp", "dent"];
        let sim = bootstrapped(&fleet(&names), false).await;
        settle(&sim, &fleet(&names), "first").await;
        let (before, picture) = (sim.mutations_made(), sim.picture());
        let text = absent(&absent(&fleet_text(&names), "acme"), "beta")
            .replace("deletionPolicy: delete", "deletionPolicy: retain");
        let done = run(&sim, &manifest(&text)).await;
        assert_eq!((done.verdict, done.plan.guard.as_ref().map(|trip| trip.removals)), (Verdict::Refused, Some(2)));
        assert_eq!((sim.mutations_made(), sim.picture()), (before, picture));
    });
}

/// Property 42, until moves exist.
#[test]
fn another_pool_is_a_move_and_refused() {
    simulate(async || {
        let names = ["acme", "beta"];
        let sim = bootstrapped(&fleet(&names), false).await;
        settle(&sim, &fleet(&names), "first").await;
        let text =
            fleet_text(&names).replace("name: acme }\nspec:\n", "name: acme }\nspec:\n  placement: { pool: own }\n");
        let done = run(&sim, &manifest(&text)).await;
        assert_eq!((done.plan.refused[0].code, done.verdict), (Code::Move, Verdict::Refused));
        assert!(done.plan.actions.is_empty(), "{:?}", done.plan.actions);
    });
}

/// Property 59: nothing is written when the plan would not fit.
#[test]
fn a_plan_that_would_break_a_limit_is_not_begun() {
    simulate(async || {
        let text = fleet_text(&["acme"]).replace(
            "spec: { tenantsPerInstance: 50, instances: { min: 1, max: 4 }",
            "spec: { volume: 4Gi, tenantsPerInstance: 50, instances: { min: 12, max: 12 }",
        );
        let text = text.replace("spec: { tenantsPerInstance: 1,", "spec: { volume: 4Gi, tenantsPerInstance: 1,");
        let desired = manifest(&text);
        let sim = Sim::new(Plan::Hobby, 3);
        sim.bootstrap(&desired).await.expect("not killed").expect("bootstraps");
        let before = sim.mutations_made();
        let done = run(&sim, &desired).await;
        assert_eq!((done.verdict, done.plan.breaches[0].code), (Verdict::Limit, Code::VolumeCount));
        assert!(done.plan.breaches[0].message.contains("13 of 10"), "{}", done.plan.breaches[0].message);
        assert_eq!(sim.mutations_made(), before);
    });
}

/// Drift on Railway is put back, and told from a change of the manifests.
#[test]
fn a_change_made_by_hand_on_railway_is_put_back_as_drift() {
    simulate(async || {
        let desired = fleet(&["acme"]);
        let sim = bootstrapped(&desired, false).await;
        settle(&sim, &desired, "first").await;
        let wanted = sim.config_of("shared-1");
        let id = sim.service_id("shared-1");
        let patch = json!({ "services": { id: { "variables": { "PGDATA": { "value": "/elsewhere" } } } } });
        let commit =
            "mutation($e: String!, $p: EnvironmentConfig!) { environmentPatchCommit(environmentId: $e, patch: $p) }";
        sim.ask(commit, json!({ "e": sim.environment(), "p": patch }));
        let done = run(&sim, &desired).await;
        let action = &done.plan.actions[0];
        assert_eq!((action.symbol, action.reason.code), (Symbol::Drift, ReasonCode::Drift));
        assert_eq!(done.verdict, Verdict::Converged, "{:?}", done.report);
        assert_eq!(sim.config_of("shared-1"), wanted);
        let said = sim.control.rows.borrow().events.iter().any(|event| event.reason == "DriftCorrected");
        assert!(said, "an event tells of it");
    });
}

/// And in a server: a password, a limit, a privilege, an open database.
#[test]
fn a_change_made_by_hand_in_postgres_is_put_back_as_drift() {
    simulate(async || {
        let desired = fleet(&["acme", "beta"]);
        let sim = bootstrapped(&desired, false).await;
        settle(&sim, &desired, "first").await;
        let wanted = sim.picture();
        sim.servers.with("shared-1", |server| {
            let role = server.roles.get_mut("acme").expect("there");
            (role.password_ours, role.privileged, role.connection_limit) = (false, true, -1);
            role.member_of.push("postgres".into());
            server.databases.get_mut("acme").expect("there").public_connect = true;
        });
        let done = run(&sim, &desired).await;
        assert_eq!(done.plan.actions.len(), 1, "{:?}", done.plan.actions);
        assert_eq!((done.plan.actions[0].symbol, done.plan.actions[0].fields.len()), (Symbol::Drift, 5));
        assert_eq!(done.verdict, Verdict::Converged);
        assert_eq!(sim.picture(), wanted);
    });
}

/// A service deleted by hand leaves its volume: the data comes back under a new service.
#[test]
fn a_volume_left_by_a_deleted_service_is_attached_again() {
    simulate(async || {
        let desired = fleet(&["acme"]);
        let sim = bootstrapped(&desired, false).await;
        settle(&sim, &desired, "first").await;
        let wanted = sim.servers.picture();
        let delete = "mutation($id: String!, $e: String) { serviceDelete(id: $id, environmentId: $e) }";
        sim.ask(delete, json!({ "id": sim.service_id("shared-1"), "e": sim.environment() }));
        let done = run(&sim, &desired).await;
        assert_eq!(done.verdict, Verdict::Converged, "{:?}", done.report);
        assert_eq!(sim.servers.picture(), wanted, "the same databases");
        sim.assert_nothing_is_doubled("after the service came back");
        settle(&sim, &desired, "second").await;
    });
}

#[test]
fn an_instance_gone_with_its_volume_is_never_replaced_by_an_empty_one() {
    simulate(async || {
        let desired = fleet(&["acme"]);
        let sim = bootstrapped(&desired, false).await;
        settle(&sim, &desired, "first").await;
        let volume = sim.control.rows.borrow().live.instances["shared-1"].volume.clone().expect("known");
        sim.ask("mutation($id: String!) { volumeDelete(volumeId: $id) }", json!({ "id": volume }));
        let delete = "mutation($id: String!, $e: String) { serviceDelete(id: $id, environmentId: $e) }";
        sim.ask(delete, json!({ "id": sim.service_id("shared-1"), "e": sim.environment() }));
        let done = run(&sim, &desired).await;
        assert_eq!(done.plan.refused[0].code, Code::InstanceGone);
        assert!(done.plan.actions.is_empty(), "{:?}", done.plan.actions);
    });
}

/// Property 66: the control database is a cache of marks.
#[test]
fn a_lost_control_database_is_rebuilt_without_a_change_of_anything_else() {
    simulate(async || {
        let desired = fleet(&["acme", "beta", "corp"]);
        let sim = bootstrapped(&desired, false).await;
        settle(&sim, &desired, "first").await;
        let (wanted, before) = (sim.picture(), sim.mutations_made());
        let calls = sim.calls_made();
        sim.control.drop_everything();
        settle(&sim, &desired, "rebuilt").await;
        let calls = sim.calls_made() - calls;
        assert_eq!(sim.picture(), wanted);
        assert_eq!(sim.mutations_made(), before, "Railway was not touched");
        for n in 0..calls {
            let sim = bootstrapped(&desired, false).await;
            settle(&sim, &desired, "first").await;
            sim.control.drop_everything();
            sim.kill_at(Kill::After(n));
            let _ = sim.reconcile(&desired).await;
            sim.quiet();
            settle(&sim, &desired, "rebuilt").await;
            assert_eq!(sim.picture(), wanted, "killed after call {n} of the rebuilding");
        }
    });
}

/// With the memory lost and an instance that cannot be asked, nobody may conclude that a tenant is new.
#[test]
fn no_tenant_is_placed_anew_while_an_instance_that_may_hold_it_is_silent() {
    simulate(async || {
        let desired = fleet(&["acme", "beta"]);
        let sim = bootstrapped(&desired, false).await;
        settle(&sim, &desired, "first").await;
        sim.control.drop_everything();
        sim.railway
            .lock()
            .expect("one thread")
            .order(Rule { service: Some("shared-1".into()), ..Rule::once(Fault::Crash) });
        let done = run(&sim, &desired).await;
        let blocked =
            done.plan.blocked.iter().any(|problem| problem.code == Code::Unseen && problem.address == "tenant/acme");
        let places = done
            .plan
            .actions
            .iter()
            .any(|action| matches!(&action.step, Step::Tenant(step) if step.tenant.as_str() == "acme"));
        assert!(blocked && !places, "{}", ogelnates::plan::render(&done.plan, true));
    });
}

/// Property 54 and 61.
#[test]
fn a_permanent_429_ends_the_run_with_exit_code_7() {
    simulate(async || {
        let desired = fleet(&["acme"]);
        let sim = bootstrapped(&desired, false).await;
        sim.railway.lock().expect("one thread").order(Rule { count: None, ..Rule::once(Fault::TooManyRequests) });
        let Ended::Failed(error) = sim.reconcile(&desired).await else { panic!("cannot succeed") };
        assert_eq!(error.exit_code(), 7, "{error}");
    });
}

#[test]
fn a_wrong_token_is_exit_code_77_and_never_means_gone() {
    simulate(async || {
        let desired = fleet(&["acme"]);
        let sim = bootstrapped(&desired, false).await;
        settle(&sim, &desired, "first").await;
        let before = sim.picture();
        sim.railway.lock().expect("one thread").order(Rule { count: None, ..Rule::once(Fault::NotAuthorized) });
        let Ended::Failed(error @ Error::Railway(_)) = sim.reconcile(&desired).await else {
            panic!("cannot succeed")
        };
        assert_eq!(error.exit_code(), 77, "{error}");
        assert_eq!(sim.picture(), before);
    });
}

/// A database service that never gets healthy: the run says so, its tenants wait, the others are served.
#[test]
fn a_failed_deployment_is_reported_and_repaired_by_the_next_run() {
    simulate(async || {
        let desired = fleet(&["acme", "beta", "corp"]);
        for fault in [Fault::DeployFails, Fault::Unhealthy] {
            let sim = bootstrapped(&desired, false).await;
            sim.railway
                .lock()
                .expect("one thread")
                .order(Rule { service: Some("shared-1".into()), ..Rule::once(fault) });
            let done = run(&sim, &desired).await;
            assert_eq!(done.verdict, Verdict::Partial, "{fault:?}");
            assert!(matches!(done.report.outcomes["instance/shared-1"], Outcome::Failed(_)), "{:?}", done.report);
            assert!(matches!(done.report.outcomes["route/acme"], Outcome::Blocked { .. }));
            assert_eq!(done.report.outcomes["route/corp"], Outcome::Done);
            if fault == Fault::DeployFails {
                settle(&sim, &desired, "repaired").await;
            }
        }
    });
}

/// Property 63: the operator's clock decides nothing that another clock was asked about.
#[test]
fn a_wrong_clock_doubles_nothing() {
    simulate(async || {
        let desired = fleet(&["acme", "corp"]);
        for skew in [TimeDelta::hours(-1), TimeDelta::days(1)] {
            for n in 0..12 {
                let sim = bootstrapped(&desired, true).await;
                sim.kill_at(Kill::After(n));
                let _ = sim.reconcile(&desired).await;
                sim.skew.set(skew);
                settle(&sim, &desired, "skewed").await;
                sim.assert_nothing_is_doubled(&format!("clock {skew} wrong, killed after call {n}"));
            }
        }
    });
}

/// Property 35.
#[test]
fn no_secret_is_in_a_plan_an_event_or_a_condition() {
    simulate(async || {
        let text = fleet_text(&["acme", "beta"]).replace(
            "name: acme }\nspec:\n",
            "name: acme }\nspec:\n  publish: [{ service: api, variable: DATABASE_URL }]\n",
        );
        let desired = manifest(&text);
        let sim = bootstrapped(&desired, false).await;
        sim.make_foreign_service("api", &[("STRIPE_KEY", "canary-of-the-app")]);
        let done = run(&sim, &desired).await;
        assert_eq!(done.verdict, Verdict::Converged, "{:?} {:?}", done.report, done.plan.refused);
        let rows = sim.control.rows.borrow();
        let routes = serde_json::to_string(&rows.live).expect("JSON");
        let mut said = format!("{:?} {:?} {:?} {:?} {routes}", done.plan, done.report, rows.events, rows.conditions);
        said.push_str(&serde_json::to_string(&done.plan).expect("JSON"));
        said.push_str(&ogelnates::plan::render(&done.plan, true));
        let instance = ogelnates::tenancy::InstanceName::parse("shared-1").expect("valid");
        let acme = TenantId::parse("acme").expect("valid");
        let owner = Credential::Tenant { tenant: acme, role: None, generation: 1 };
        for credential in [Credential::Control, Credential::Admin { instance }, owner] {
            let password = sim.keys.password(&credential);
            assert!(!said.contains(password.expose()), "{credential:?}");
        }
        assert!(!said.contains("canary-of-the-app") && !said.contains("simulation-key"));
        // Property 37: the variable is there, and it is the tenant's URL.
        let url = sim.config_of("api")["variables"]["DATABASE_URL"]["value"].as_str().expect("published").to_owned();
        assert!(
            url.starts_with("postgresql://acme:") && url.ends_with("@shared-1.railway.internal:5432/acme"),
            "{url}"
        );
    });
}

#[test]
fn publishing_to_a_service_that_is_not_there_is_refused_with_exit_code_4() {
    simulate(async || {
        let text = fleet_text(&["acme", "beta"]).replace(
            "name: acme }\nspec:\n",
            "name: acme }\nspec:\n  publish: [{ service: nope, variable: DATABASE_URL }]\n",
        );
        let desired = manifest(&text);
        let sim = bootstrapped(&desired, false).await;
        let done = run(&sim, &desired).await;
        assert_eq!((done.plan.refused[0].code, done.exit_code()), (Code::PublishService, 4));
        assert_eq!(sim.control.rows.borrow().live.routes.len(), 2, "the rest is reconciled");
    });
}

/// Without a yes nothing changes anywhere.
#[test]
fn an_unconfirmed_plan_changes_nothing() {
    simulate(async || {
        let desired = fleet(&["acme"]);
        let sim = bootstrapped(&desired, false).await;
        let before = (sim.mutations_made(), sim.picture());
        let Ended::Done(done) = sim.reconcile_with(&desired, &Consent::default(), |_| false).await else {
            panic!("ends")
        };
        assert_eq!((done.verdict, done.exit_code()), (Verdict::Unconfirmed, 4));
        assert_eq!((sim.mutations_made(), sim.picture()), before);
    });
}

/// A killed run leaves a container that was started and does not answer yet; the next waits for it as the first would.
#[test]
fn a_server_that_is_still_starting_is_waited_for() {
    simulate(async || {
        let desired = fleet(&["acme", "beta", "corp"]);
        for n in 8..20 {
            let sim = bootstrapped(&desired, false).await;
            sim.servers.silent_for(9);
            sim.kill_at(Kill::After(n));
            let _ = sim.reconcile(&desired).await;
            sim.quiet();
            let done = run(&sim, &desired).await;
            assert_eq!(
                done.verdict,
                Verdict::Converged,
                "killed after {n}: {:?} {:?}",
                done.plan.blocked,
                done.report
            );
        }
    });
}
