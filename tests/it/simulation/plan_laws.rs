//! Laws of the plan as a value: it is a function of what it is made of, a part of it stands on its own feet, and a saved
//! one is carried out as it was reviewed or not at all.

use std::collections::BTreeSet;

use ogelnates::manifest::Desired;
use ogelnates::operator::{Error, Verdict};
use ogelnates::plan::{
    Consent, Inputs, InstanceState, Live, LiveValue, Observation, Pin, Placement, Plan, Reads, Target, plan, render,
};
use ogelnates::tenancy::{Credential, Digest, InstanceName, PoolName, ServiceId, TenantId, VolumeId};
use proptest::prelude::*;
use serde_json::Value;

use super::laws::{bootstrapped, settle, simulate};
use super::random_laws::{desired, wishes};
use super::sim::{Ended, Sim, fleet, fleet_text, manifest};

fn document(plan: &Plan) -> Value {
    let inputs = Inputs { digest: Digest::of(b"manifests"), files: 1 };
    serde_json::to_value(plan.document(&inputs, Reads { requests: 1, budget: None })).expect("JSON")
}

fn pin(plan: &Plan) -> Pin {
    Pin::read(document(plan).to_string().as_bytes()).expect("our own document")
}

fn pinned(pin: Pin) -> Consent {
    Consent { only: pin.targets().to_vec(), pinned: Some(pin), ..Consent::default() }
}

fn only(targets: &[&str]) -> Consent {
    let only = targets.iter().map(|target| Target::parse(target).expect("valid")).collect();
    Consent { only, ..Consent::default() }
}

fn addresses(plan: &Plan) -> BTreeSet<&str> {
    plan.actions.iter().map(|action| action.address.as_str()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Properties 16 and 18: the same bytes on another thread, and the same digest at another time; each change once.
    #[test]
    fn a_plan_is_a_function(first in wishes(), second in wishes()) {
        simulate(async || {
            let (first, second) = (desired(&first), desired(&second));
            let sim = bootstrapped(&first, false).await;
            settle(&sim, &first, "first").await;
            let live = sim.observe().await;
            let here = plan(&second, &live, &Consent::default());
            let there = std::thread::scope(|scope| {
                scope.spawn(|| document(&plan(&second, &live, &Consent::default())).to_string()).join()
            });
            assert_eq!(document(&here).to_string(), there.expect("plans"));
            let later = Live { observed_at: live.observed_at + chrono::TimeDelta::hours(5), ..live.clone() };
            assert_eq!(plan(&second, &later, &Consent::default()).digest(), here.digest());
            let changes = document(&here)["changes"].as_array().expect("changes").len();
            assert_eq!((changes, addresses(&here).len()), (here.actions.len(), here.actions.len()));
        });
    }

    /// Property 22.
    #[test]
    fn a_partial_plan_is_a_part_that_needs_nothing_else_and_deletes_nothing(first in wishes(), second in wishes(), name in "acme|beta|\\*") {
        simulate(async || {
            let (first, second) = (desired(&first), desired(&second));
            let sim = bootstrapped(&first, false).await;
            settle(&sim, &first, "first").await;
            let live = sim.observe().await;
            let whole = plan(&second, &live, &Consent::default());
            let part = plan(&second, &live, &only(&[&format!("tenant/{name}")]));
            for action in &part.actions {
                assert!(whole.actions.contains(action), "{} is not in the whole plan", action.address);
                let text = serde_json::to_string(action).expect("JSON");
                assert!(!text.contains("dropRole") && !text.contains("dropDatabase") && !text.contains("\"delete\""), "{text}");
            }
            let there = addresses(&part);
            for change in document(&whole)["changes"].as_array().expect("changes") {
                let needs = change["depends_on"].as_array().expect("a list");
                if there.contains(change["address"].as_str().expect("an address")) {
                    assert!(needs.iter().all(|needed| there.contains(needed.as_str().expect("an address"))), "{change}");
                }
            }
        });
    }

    /// Property 21: a saved plan meets another world or other manifests. Either the plan is the same, or nothing is done.
    #[test]
    fn a_saved_plan_is_carried_out_as_it_is_or_not_at_all(first in wishes(), second in wishes(), third in wishes()) {
        simulate(async || {
            let (first, second, third) = (desired(&first), desired(&second), desired(&third));
            let sim = bootstrapped(&first, false).await;
            settle(&sim, &first, "first").await;
            let saved = plan(&second, &sim.observe().await, &Consent::default());
            settle(&sim, &third, "another run in between").await;
            let now = plan(&second, &sim.observe().await, &Consent::default());
            let (picture, mutations) = (sim.picture(), sim.mutations_made());
            match sim.reconcile_with(&second, &pinned(pin(&saved)), |_| true).await {
                Ended::Failed(Error::StalePlan { .. }) => {
                    assert_ne!(saved.digest(), now.digest());
                    assert_eq!((sim.picture(), sim.mutations_made()), (picture, mutations));
                }
                Ended::Done(done) => assert_eq!((done.plan.digest(), done.verdict), (saved.digest(), Verdict::Converged)),
                _ => panic!("a quiet run failed"),
            }
        });
    }
}

async fn run(sim: &Sim, desired: &Desired, consent: &Consent) -> Result<Verdict, String> {
    match sim.reconcile_with(desired, consent, |_| true).await {
        Ended::Done(done) => Ok(done.verdict),
        Ended::Failed(error) => Err(error.to_string()),
        Ended::Killed => panic!("nobody kills here"),
    }
}

#[test]
fn a_saved_plan_fits_once_and_what_is_left_of_it_only_where_that_is_allowed() {
    simulate(async || {
        let (one, two) = (fleet(&["acme"]), fleet(&["acme", "beta"]));
        let sim = bootstrapped(&one, false).await;
        settle(&sim, &one, "first").await;
        let saved = pin(&plan(&two, &sim.observe().await, &Consent::default()));
        let part = run(&sim, &two, &only(&["instance/own-1"])).await;
        assert_eq!(part, Ok(Verdict::Converged));
        let mutations = sim.mutations_made();
        let stale = run(&sim, &two, &pinned(saved.clone())).await.expect_err("the instance is there already");
        assert!(
            stale.contains("done already, or not wanted any more: instance/own-1")
                && stale.contains("Railway's configuration"),
            "{stale}"
        );
        assert_eq!(sim.mutations_made(), mutations);
        let three = fleet(&["acme", "beta", "corp"]);
        let more = run(&sim, &three, &pinned(saved.clone().or_smaller())).await.expect_err("corp was not reviewed");
        assert!(more.contains("new: ") && more.contains("tenant/corp"), "{more}");
        assert_eq!(run(&sim, &two, &pinned(saved.clone().or_smaller())).await, Ok(Verdict::Converged));
        assert!(run(&sim, &two, &pinned(saved.clone())).await.is_err(), "nothing is left to do");
        assert_eq!(run(&sim, &two, &pinned(saved.or_smaller())).await, Ok(Verdict::Converged));
        settle(&sim, &two, "all of it").await;
    });
}

#[test]
fn a_saved_plan_of_a_later_format_or_something_else_is_refused() {
    simulate(async || {
        let desired = fleet(&["acme"]);
        let sim = bootstrapped(&desired, false).await;
        let text = document(&plan(&desired, &sim.observe().await, &Consent::default())).to_string();
        let refused = |text: &str| Pin::read(text.as_bytes()).expect_err("refused").to_string();
        let newer = text.replace("\"format_version\":\"1.0\"", "\"format_version\":\"2.0\"");
        assert!(refused(&newer).contains("is a plan of format 2.0"), "{}", refused(&newer));
        assert!(Pin::read(text.replace("\"1.0\"", "\"1.7\"").as_bytes()).is_ok(), "a minor version only adds");
        for bad in ["", "{}", "[]", &text[..text.len() / 2]] {
            assert_eq!(refused(bad), "is no saved plan of o7s");
        }
    });
}

/// A target that names nothing must not look like "no changes".
#[test]
fn a_target_reaches_what_it_needs_and_a_misspelt_one_is_refused() {
    simulate(async || {
        let desired = fleet(&["acme", "beta"]);
        let sim = bootstrapped(&desired, false).await;
        let live = sim.observe().await;
        let of = |targets: &[&str]| {
            let plan = plan(&desired, &live, &only(targets));
            plan.actions.into_iter().map(|action| action.address).collect::<Vec<_>>()
        };
        assert_eq!(of(&["tenant/acme"]), ["instance/shared-1", "tenant/acme", "route/acme"]);
        assert_eq!(of(&["pool/own"]), ["instance/own-1"]);
        assert_eq!(of(&["route/b*"]), ["instance/own-1", "tenant/beta", "route/beta"]);
        let nothing = plan(&desired, &live, &only(&["tenant/acmee"]));
        assert_eq!((nothing.actions.len(), nothing.refused[0].code.to_string()), (0, "O7S2020".to_owned()));
        insta::assert_snapshot!(render(&nothing, false).replace(&nothing.snapshot.etag[..8], "ETAG"));
        assert_eq!(run(&sim, &desired, &only(&["tenant/acme"])).await, Ok(Verdict::Converged));
        assert!(sim.picture().contains("acme") && !sim.picture().contains("service own-1"));
    });
}

/// Property 20: what is written as its default and what is left out are the same wish.
#[test]
fn a_default_written_out_changes_nothing_and_saving_twice_neither() {
    simulate(async || {
        let short = fleet(&["acme", "beta"]);
        let long = fleet_text(&["acme", "beta"])
            .replace("  tier: free\n", "  tier: free\n  suspended: false\n  paused: false\n  credentials: { generation: 1 }\n  state: present\n  deletionPolicy: retain\n")
            .replace("{ tenantsPerInstance: 50,", "{ sleepWhenIdle: false, paused: false, tenantsPerInstance: 50,");
        let long = manifest(&long);
        let sim = bootstrapped(&short, false).await;
        let live = sim.observe().await;
        let steps = |desired: &Desired, live: &Live| {
            let plan = plan(desired, live, &Consent::default());
            plan.actions.into_iter().map(|a| (a.address.clone(), a.fields.clone(), a.digest())).collect::<Vec<_>>()
        };
        assert_eq!(steps(&short, &live), steps(&long, &live));
        settle(&sim, &short, "short").await;
        assert!(plan(&long, &sim.observe().await, &Consent::default()).is_empty());
        let save =
            |live: Live| serde_json::to_string(&Observation::new(short.fleet.name.clone(), live)).expect("JSON");
        let once = save(live);
        let again = Observation::read(once.as_bytes()).expect("ours").of(&short.fleet).expect("this fleet's");
        assert_eq!(save(again), once);
    });
}

/// What `requests.writes` promises is what a quiet run sends.
#[test]
fn a_plan_knows_how_many_requests_it_needs() {
    simulate(async || {
        let text = fleet_text(&["acme", "beta"]).replace(
            "name: acme }\nspec:\n",
            "name: acme }\nspec:\n  publish: [{ service: api, variable: DATABASE_URL }]\n",
        );
        let desired = manifest(&text);
        let sim = bootstrapped(&desired, false).await;
        sim.make_foreign_service("api", &[]);
        let wanted = plan(&desired, &sim.observe().await, &Consent::default()).writes();
        let before = sim.mutating_requests();
        settle(&sim, &desired, "all").await;
        assert_eq!((wanted, sim.mutating_requests() - before), (4, 4));
    });
}

/// Tenants of the pattern of acme on as many instances as hold a hundred of them each.
fn grown(live: &Live, count: usize) -> Live {
    let mut live = live.clone();
    for number in 2..=count.div_ceil(100) {
        add_instance(&mut live, u32::try_from(number).expect("small"));
    }
    for n in 0..count {
        add_tenant(&mut live, n, &instance(u32::try_from(n / 100 + 1).expect("small")));
    }
    live
}

fn instance(number: u32) -> InstanceName {
    InstanceName::of(&PoolName::parse("shared").expect("valid"), number)
}

fn add_instance(live: &mut Live, number: u32) {
    let (first, name) = (instance(1), instance(number));
    let mut service = live.railway.service(first.as_str()).expect("made").clone();
    let mut volume = live.railway.volume_of(&service.id).expect("made").clone();
    service.id = ServiceId::parse(&format!("service-{number}")).expect("valid");
    service.name = name.to_string();
    volume.id = VolumeId::parse(&format!("volume-{number}")).expect("valid");
    volume.service = Some(service.id.clone());
    let config = service.config.as_mut().expect("visible");
    config.mounted_volume = Some(volume.id.clone());
    let password = LiveValue::Password { credential: Credential::Admin { instance: name.clone() } };
    config.variables.insert("POSTGRES_PASSWORD".into(), password);
    let record = live.control.instances[first.as_str()].clone();
    live.control.instances.insert(name.to_string(), record);
    live.railway.services.push(service);
    live.railway.volumes.push(volume);
    let InstanceState::Awake(server) = &live.instances[&first] else { panic!("awake") };
    let mut server = server.clone();
    server.databases.clear();
    server.roles.retain(|name, _| name == "postgres");
    live.instances.insert(name, InstanceState::Awake(server));
}

fn add_tenant(live: &mut Live, n: usize, on: &InstanceName) {
    let acme = TenantId::parse("acme").expect("valid");
    let InstanceState::Awake(server) = &live.instances[&instance(1)] else { panic!("awake") };
    let (mut database, mut role) = (server.databases["acme"].clone(), server.roles["acme"].clone());
    let name = TenantId::parse(&format!("t{n}")).expect("valid");
    role.mark.as_mut().expect("ours").tenant = name.clone();
    (database.owner, database.tenant) = (name.to_string(), Some(name.clone()));
    let Some(InstanceState::Awake(server)) = live.instances.get_mut(on) else { panic!("awake") };
    server.max_connections = 1_000;
    server.databases.insert(name.to_string(), database);
    server.roles.insert(name.to_string(), role);
    let mut route = live.control.routes[&acme].clone();
    (route.tenant, route.database, route.instance) = (name.clone(), name.to_string(), on.clone());
    live.control.routes.insert(name.clone(), route);
    live.control.placements.insert(name.clone(), Placement { database: name.to_string(), instance: on.clone() });
}

/// Property 23: one reason for ten thousand tenants is read on a few screens, and each is in the JSON once.
#[test]
fn ten_thousand_changes_with_one_reason_fit_on_the_screen() {
    simulate(async || {
        let count = 10_000;
        let sim = bootstrapped(&fleet(&["acme"]), false).await;
        settle(&sim, &fleet(&["acme"]), "one").await;
        let live = grown(&sim.observe().await, count);
        let names: Vec<String> = (0..count).map(|n| format!("t{n}")).chain(["acme".to_owned()]).collect();
        let text = fleet_text(&[]) + &names.iter().map(|name| {
            format!("---\napiVersion: ogelnates.dev/v1\nkind: Tenant\nmetadata: {{ name: {name} }}\nspec: {{ tier: free }}\n")
        }).collect::<String>();
        let same = plan(&manifest(&text), &live, &Consent::default());
        assert!(same.is_empty(), "{}", render(&same, false));
        let raised = text.replace("serverConnections: 2", "serverConnections: 3");
        let raised = plan(&manifest(&raised), &live, &Consent::default());
        // Role, database and route of each.
        assert_eq!(raised.actions.len(), 2 * (count + 1));
        let shown = render(&raised, false);
        assert!(shown.lines().count() < 200, "{} lines:\n{shown}", shown.lines().count());
        assert!(render(&raised, true).lines().count() > count);
        let document = document(&raised);
        let once: BTreeSet<&str> = document["changes"]
            .as_array()
            .expect("changes")
            .iter()
            .map(|c| c["address"].as_str().expect("text"))
            .collect();
        assert_eq!(once.len(), raised.actions.len());
    });
}

/// The document, as controllers and CI read it.
#[test]
fn the_document_of_a_plan_reads_well() {
    simulate(async || {
        let text = fleet_text(&["acme"]).replace(
            "name: acme }\nspec:\n",
            "name: acme }\nspec:\n  publish: [{ service: api, variable: DATABASE_URL }]\n",
        );
        let sim = bootstrapped(&manifest(&text), false).await;
        let api = sim.make_foreign_service("api", &[("A", "b")]);
        settle(&sim, &manifest(&text), "first").await;
        let rotated = manifest(&text.replace("  tier: free\n", "  tier: free\n  credentials: { generation: 2 }\n"));
        let plan = plan(&rotated, &sim.observe().await, &Consent::default());
        let mut document = document(&plan);
        for (path, value) in [
            ("/fleet/uid", "UID"),
            ("/project_id", "PROJECT"),
            ("/environment_id", "ENVIRONMENT"),
            ("/snapshot/etag", "ETAG"),
            ("/snapshot/read_at", "TIME"),
            ("/plan_digest", "DIGEST"),
            ("/o7s_version", "VERSION"),
        ] {
            *document.pointer_mut(path).unwrap_or_else(|| panic!("{path}")) = Value::from(value);
        }
        for change in document["changes"].as_array_mut().expect("changes") {
            change["digest"] = Value::from("DIGEST");
        }
        let text = serde_json::to_string_pretty(&document).expect("JSON").replace(&api, "API");
        insta::assert_snapshot!(text);
    });
}
