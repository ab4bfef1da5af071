//! `metadata.renamedFrom`: the same data under another name, whatever strikes on the way.

use std::time::Duration;

use ogelnates::operator::Verdict;
use ogelnates::plan::{Code, Consent, Rename, Symbol, render};
use ogelnates::tenancy::RouteState;

use super::laws::{settle, simulate};
use super::life_laws::{NAMES, assert_routes_lead_somewhere, at_every_call, databases, id, settled, with};
use super::safety_laws::run;
use super::sim::{Kill, Sim, fleet_text, manifest};

const ROLES: &str = "roles: [{ name: reader, grants: read }]";

fn before() -> String {
    with(&fleet_text(&NAMES), "acme", ROLES)
}

fn renamed(text: &str, from: &str, to: &str) -> String {
    text.replace(&format!("name: {from} }}"), &format!("name: {to}, renamedFrom: {from} }}"))
}

fn named(text: &str, from: &str, to: &str) -> String {
    text.replace(&format!("name: {from} }}"), &format!("name: {to} }}"))
}

fn without(text: &str, name: &str) -> String {
    text.split("---\n").filter(|part| !part.contains(&format!("name: {name}"))).collect::<Vec<_>>().join("---\n")
}

/// Property 31: nothing is deleted or made, and the end is as if the tenant had always had its name.
#[test]
fn a_rename_killed_at_any_call_ends_as_if_the_name_had_always_been_that() {
    simulate(async || {
        let end = at_every_call(&before(), &renamed(&before(), "acme", "acme2"), |_| Consent::default()).await;
        let straight = settled(&named(&before(), "acme", "acme2")).await.picture();
        assert_eq!(end, straight);

        let sim = settled(&before()).await;
        let (service, mutations) = (sim.service_id("shared-1"), sim.mutations_made());
        let done = run(&sim, &manifest(&renamed(&before(), "acme", "acme2"))).await;
        let shown = render(&done.plan, false);
        assert!(shown.contains("> tenant/acme2  (renamed from acme)"), "{shown}");
        assert!(shown.contains("2 to rename") && !shown.contains("retained: "), "{shown}");
        assert!(done.plan.actions.iter().all(|action| action.symbol == Symbol::Move), "{shown}");
        assert_eq!((sim.service_id("shared-1"), sim.mutations_made()), (service, mutations));
    });
}

/// What else the manifest changes is done in the same run.
#[test]
fn a_rename_goes_with_other_changes_and_with_a_suspension() {
    simulate(async || {
        for (more, state) in [
            ("credentials: { generation: 3 }\n  limits: { serverConnections: 4 }", RouteState::Active),
            ("suspended: true", RouteState::Suspended),
        ] {
            let text = with(&fleet_text(&NAMES), "acme", more).replace("connections: 5,", "connections: 9,");
            let sim = settled(&before()).await;
            let data = databases(&sim);
            let done = run(&sim, &manifest(&renamed(&text, "acme", "acme2"))).await;
            assert_eq!(done.verdict, Verdict::Converged, "{}", render(&done.plan, true));
            settle(&sim, &manifest(&renamed(&text, "acme", "acme2")), more).await;
            assert_eq!((databases(&sim), sim.control.rows.borrow().live.routes[&id("acme2")].state), (data, state));
        }
    });
}

#[test]
fn renames_may_follow_each_other_and_stay_written() {
    simulate(async || {
        let sim = settled(&before()).await;
        let (data, one, two) = (databases(&sim), renamed(&before(), "acme", "acme2"), before());
        settle(&sim, &manifest(&one), "once").await;
        assert!(run(&sim, &manifest(&one)).await.plan.is_empty(), "left in place, it has no effect");
        let two = two.replace("name: acme }", "name: acme3, renamedFrom: acme2 }");
        settle(&sim, &manifest(&two), "twice").await;
        // And back to the first name.
        let back = before().replace("name: acme }", "name: acme, renamedFrom: acme3 }");
        settle(&sim, &manifest(&back), "back").await;
        assert_eq!((databases(&sim), sim.picture()), (data, settled(&before()).await.picture()));
        sim.control.drop_everything();
        settle(&sim, &manifest(&back), "rebuilt from marks").await;
        assert_eq!(databases(&sim), data);
    });
}

/// A commit that renamed is reverted: no empty database stands in for the renamed one.
#[test]
fn a_name_that_was_given_up_is_not_made_anew_while_its_data_has_no_manifest() {
    simulate(async || {
        let sim = settled(&before()).await;
        settle(&sim, &manifest(&renamed(&before(), "acme", "acme2")), "renamed").await;
        let picture = sim.picture();
        let done = run(&sim, &manifest(&before())).await;
        assert_eq!((done.verdict, done.plan.refused[0].code), (Verdict::Refused, Code::Rename));
        assert!(done.plan.refused[0].help.contains("renamedFrom: acme2"), "{}", done.plan.refused[0].help);
        assert_eq!(sim.picture().replace("tenant acme ready false\n", ""), picture);
        // A tenant that only has the name is a new one.
        let both = format!("{}---\n{}", named(&before(), "acme", "acme2"), tenant("acme"));
        settle(&sim, &manifest(&both), "both").await;
        assert!(sim.servers.with("shared-1", |server| server.databases.contains_key("acme")));
    });
}

fn tenant(name: &str) -> String {
    format!("apiVersion: ogelnates.dev/v1\nkind: Tenant\nmetadata: {{ name: {name} }}\nspec:\n  tier: free\n")
}

/// Wherever the run was killed, the manifests may have gone back or away by the next one.
#[test]
fn a_rename_that_was_begun_is_finished_or_undone_whatever_the_manifests_say_next() {
    simulate(async || {
        let (after, nobody) = (renamed(&before(), "acme", "acme2"), without(&before(), "acme"));
        for n in 0..14 {
            for next in [&before(), &nobody] {
                let context = format!("killed after {n}");
                let sim = settled(&before()).await;
                let data = databases(&sim);
                sim.kill_at(Kill::After(n));
                let _ = sim.reconcile(&manifest(&after)).await;
                sim.quiet();
                for _ in 0..3 {
                    run(&sim, &manifest(next)).await;
                    assert_routes_lead_somewhere(&sim, &context);
                }
                assert!(run(&sim, &manifest(next)).await.plan.is_empty(), "{context}");
                assert_eq!(databases(&sim), data, "{context}");
                let routes = sim.control.rows.borrow().live.routes.clone();
                let routed = routes.values().filter(|route| route.state == RouteState::Active).count();
                assert_eq!((routed, routes.len()), (3, 3), "{context}: {routes:?}");
            }
        }
    });
}

async fn refused(sim: &Sim, text: &str, code: Code) {
    let picture = sim.picture();
    let done = run(sim, &manifest(text)).await;
    assert_eq!(done.plan.refused.first().map(|problem| problem.code), Some(code), "{}", render(&done.plan, true));
    assert!(done.plan.actions.iter().all(|action| !action.address.contains("acme")), "{}", render(&done.plan, true));
    let lines = |picture: String| {
        picture.lines().filter(|line| !line.contains(" ready ")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(lines(sim.picture()), lines(picture));
}

#[test]
fn what_cannot_be_renamed_is_refused_untouched() {
    simulate(async || {
        let after = renamed(&before(), "acme", "acme2");
        // Both have data.
        let sim = settled(&format!("{}---\n{}", before(), tenant("acme2"))).await;
        refused(&sim, &after, Code::Rename).await;
        // Something that is not ours has the name.
        let sim = settled(&before()).await;
        sim.servers.with("shared-1", |server| {
            let mut foreign = server.roles["beta"].clone();
            foreign.mark = None;
            server.roles.insert("acme2".into(), foreign);
        });
        refused(&sim, &after, Code::Rename).await;
        // To another pool is a move.
        let sim = settled(&before()).await;
        refused(&sim, &renamed(&with(&before(), "acme", "placement: { pool: own }"), "acme", "acme2"), Code::Move)
            .await;
        // The former database is gone.
        let sim = settled(&before()).await;
        sim.servers.with("shared-1", |server| server.databases.remove("acme"));
        refused(&sim, &after, Code::Rename).await;
    });
}

#[test]
fn a_paused_rename_waits_and_is_shown() {
    simulate(async || {
        let sim = settled(&before()).await;
        let picture = sim.picture();
        let done = run(&sim, &manifest(&renamed(&with(&before(), "acme", "paused: true"), "acme", "acme2"))).await;
        assert!(done.plan.actions.is_empty() && done.plan.refused.is_empty(), "{}", render(&done.plan, true));
        assert!(render(&done.plan, true).contains("  > tenant/acme2  (renamed from acme)"));
        assert_eq!(sim.picture(), picture);
    });
}

/// An application learns the new name, in the run that renames.
#[test]
fn the_published_url_follows_the_name() {
    simulate(async || {
        let text = with(&before(), "acme", "publish: [{ service: api, variable: DATABASE_URL }]");
        let sim = settled(&before()).await;
        sim.make_foreign_service("api", &[]);
        settle(&sim, &manifest(&text), "published").await;
        let url = |sim: &Sim| sim.config_of("api")["variables"]["DATABASE_URL"]["value"].to_string();
        assert!(url(&sim).contains("//acme:"), "{}", url(&sim));
        settle(&sim, &manifest(&renamed(&text, "acme", "acme2")), "renamed").await;
        assert!(url(&sim).contains("//acme2:") && url(&sim).contains("/acme2\""), "{}", url(&sim));
    });
}

fn sleepy() -> String {
    before().replace("{ tenantsPerInstance: 50,", "{ sleepWhenIdle: true, tenantsPerInstance: 50,")
}

/// A settled world whose shared instance nobody has used for a while, so that no run reads it.
async fn asleep(text: &str) -> Sim {
    let sim = settled(text).await;
    tokio::time::sleep(Duration::from_secs(660)).await;
    sim
}

async fn wake(sim: &Sim) {
    sim.servers.wake("shared-1");
    tokio::time::sleep(Duration::from_secs(60)).await;
}

fn assert_all_are_served(sim: &Sim, context: &str) {
    assert_routes_lead_somewhere(sim, context);
    let rows = sim.control.rows.borrow();
    let routes = &rows.live.routes;
    let active = routes.values().filter(|route| route.state == RouteState::Active).count();
    assert_eq!((active, routes.len()), (3, 3), "{context}: {routes:?}");
    assert!(rows.live.renames.values().all(|rename| rename.done), "{context}: {:?}", rows.live.renames);
}

/// Nobody knows how far it got, and it wakes between none, the first or the second of the next runs, whatever they ask.
#[test]
fn a_rename_on_an_instance_that_was_not_read_is_finished_or_undone_as_well() {
    simulate(async || {
        let after = renamed(&sleepy(), "acme", "acme2");
        let (forgotten, nobody) = (named(&sleepy(), "acme", "acme2"), without(&sleepy(), "acme"));
        let sim = asleep(&sleepy()).await;
        let calls = sim.calls_made();
        let done = run(&sim, &manifest(&after)).await;
        assert_eq!(done.verdict, Verdict::Converged, "{}", render(&done.plan, true));
        let (calls, data) = (sim.calls_made() - calls, databases(&sim));
        assert!(run(&sim, &manifest(&after)).await.plan.is_empty(), "while it sleeps");
        wake(&sim).await;
        settle(&sim, &manifest(&after), "awake").await;
        assert_eq!(sim.picture(), settled(&named(&sleepy(), "acme", "acme2")).await.picture());
        for n in 0..calls {
            for next in [&after, &sleepy(), &nobody, &forgotten] {
                for runs_asleep in 0..3 {
                    let context = format!("killed after {n}, {runs_asleep} runs asleep, then\n{next}");
                    let sim = asleep(&sleepy()).await;
                    sim.kill_at(Kill::After(n));
                    let _ = sim.reconcile(&manifest(&after)).await;
                    sim.quiet();
                    for _ in 0..runs_asleep {
                        run(&sim, &manifest(next)).await;
                        assert_routes_lead_somewhere(&sim, &context);
                    }
                    if runs_asleep == 2 && *next == sleepy() {
                        assert_all_are_served(&sim, &context);
                    }
                    wake(&sim).await;
                    for _ in 0..3 {
                        run(&sim, &manifest(next)).await;
                        assert_routes_lead_somewhere(&sim, &context);
                    }
                    assert!(run(&sim, &manifest(next)).await.plan.is_empty(), "{context}");
                    if *next != forgotten {
                        assert_eq!(databases(&sim), data, "{context}");
                        assert_all_are_served(&sim, &context);
                    }
                    let rows = sim.control.rows.borrow();
                    let shut = rows.live.routes.values().find(|route| route.state != RouteState::Active);
                    assert!(shut.is_none(), "{context}: {shut:?}");
                }
            }
        }
    });
}

fn take_the_name(sim: &Sim) {
    sim.servers.with("shared-1", |server| {
        let mut foreign = server.roles["acme"].clone();
        foreign.mark = None;
        server.roles.insert("acme2".into(), foreign);
    });
}

/// Found out before anything is written: the tenant goes on under its former name.
#[test]
fn a_taken_name_on_an_instance_that_was_not_read_shuts_nobody_out() {
    simulate(async || {
        let sim = asleep(&sleepy()).await;
        take_the_name(&sim);
        let done = run(&sim, &manifest(&renamed(&sleepy(), "acme", "acme2"))).await;
        let failures: Vec<_> = done.failures().map(|(at, failure)| (at.to_owned(), failure.code)).collect();
        assert_eq!(failures, [("tenant/acme2".to_owned(), ogelnates::postgres::Code::Taken.into())]);
        assert_all_are_served(&sim, "as before");
        assert!(sim.control.rows.borrow().live.renames.is_empty());
    });
}

/// One run is enough, however long the sleeper takes to come up.
#[test]
fn a_rename_waits_for_the_instance_that_it_wakes() {
    simulate(async || {
        let sim = asleep(&sleepy()).await;
        // The first of them is the plan's look at own-1, which blocks corp; the others are of the rename.
        sim.servers.silent_for(3);
        let done = run(&sim, &manifest(&renamed(&sleepy(), "acme", "acme2"))).await;
        assert_eq!(done.failures().count(), 0, "{:?}", done.report);
        assert_all_are_served(&sim, "renamed");
        assert!(sim.servers.with("shared-1", |server| server.databases.contains_key("acme2")));
    });
}

/// The name was taken after a run was killed that had closed the database.
#[test]
fn a_refused_rename_that_was_begun_is_undone() {
    simulate(async || {
        let after = renamed(&before(), "acme", "acme2");
        let sim = settled(&before()).await;
        let (data, picture) = (databases(&sim), sim.picture());
        sim.control.rows.borrow_mut().live.renames.insert(id("acme"), Rename { to: id("acme2"), done: false });
        let suspend = |route: &mut ogelnates::tenancy::Route| route.state = RouteState::Suspended;
        sim.control.rows.borrow_mut().live.routes.get_mut(&id("acme")).into_iter().for_each(suspend);
        let close = |database: &mut ogelnates::plan::DatabaseLive| database.allow_connections = false;
        sim.servers.with("shared-1", |server| server.databases.get_mut("acme").into_iter().for_each(close));
        take_the_name(&sim);
        let done = run(&sim, &manifest(&after)).await;
        assert_eq!(done.plan.refused[0].code, Code::Rename, "{}", render(&done.plan, true));
        assert!(render(&done.plan, false).contains("a rename that was begun is undone"));
        assert_all_are_served(&sim, "undone");
        sim.servers.with("shared-1", |server| server.roles.remove("acme2"));
        assert_eq!(databases(&sim), data);
        assert_eq!(sim.picture().replace("tenant acme2 ready false\n", ""), picture);
        // And once the name is free, it is done.
        settle(&sim, &manifest(&after), "free").await;
    });
}

#[test]
fn a_plan_that_writes_and_removes_one_route_is_refused_by_the_second_opinion() {
    simulate(async || {
        let sim = settled(&before()).await;
        let (desired, live) = (manifest(&renamed(&before(), "acme", "acme2")), sim.observe().await);
        let mut plan = ogelnates::plan::plan(&desired, &live, &Consent::default());
        assert!(ogelnates::plan::check(&plan, &desired, &live).is_empty());
        for action in &mut plan.actions {
            if let ogelnates::plan::Step::Rename { former, route } = &mut action.step {
                *former = route.tenant.clone();
            }
        }
        let found = ogelnates::plan::check(&plan, &desired, &live);
        assert_eq!(found, ["route/acme2: would write and remove the route of acme2"]);
    });
}
