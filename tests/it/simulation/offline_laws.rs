//! Laws of planning away from the world: an observation says all that a plan needs, and no secret.

use ogelnates::manifest::Desired;
use ogelnates::plan::{Consent, Live, Observation, plan};
use ogelnates::tenancy::{Credential, InstanceName, RoleName, Secret, TenantId};
use proptest::prelude::*;
use serde_json::json;

use super::laws::{bootstrapped, settle, simulate};
use super::random_laws::{desired, wishes};
use super::sim::{Sim, fleet_text, manifest};

/// The world of a fleet whose tenant acme is published to an app that has secrets of its own.
const PUBLISH: &str = "  publish: [{ service: api, variable: DATABASE_URL }, \
                       { service: api, variable: READER_URL, role: reader }]\n  roles: [{ name: reader, grants: read }]\n";

fn published(generation: u32) -> Desired {
    let credentials = format!("  credentials: {{ generation: {generation} }}\n");
    let acme = format!("name: acme }}\nspec:\n{PUBLISH}{credentials}");
    manifest(&fleet_text(&["acme", "beta"]).replace("name: acme }\nspec:\n", &acme))
}

async fn published_world() -> Sim {
    let sim = bootstrapped(&published(1), false).await;
    let id = sim.make_foreign_service("api", &[("STRIPE_KEY", "canary-of-the-app"), ("EMPTY", "")]);
    let patch =
        json!({ "services": { id: { "deploy": { "startCommand": "serve --token=canary-of-the-command" } } } });
    let commit =
        "mutation($e: String!, $p: EnvironmentConfig!) { environmentPatchCommit(environmentId: $e, patch: $p) }";
    sim.ask(commit, json!({ "e": sim.environment(), "p": patch }));
    settle(&sim, &published(1), "published").await;
    sim
}

fn saved(live: &Live, desired: &Desired) -> String {
    serde_json::to_string(&Observation::new(desired.fleet.name.clone(), live.clone())).expect("JSON")
}

fn planned(live: &Live, desired: &Desired) -> String {
    serde_json::to_string(&plan(desired, live, &Consent::default())).expect("JSON")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_saved_observation_gives_the_same_plan_to_the_byte(first in wishes(), second in wishes()) {
        simulate(async || {
            let (first, second) = (desired(&first), desired(&second));
            let sim = bootstrapped(&first, false).await;
            settle(&sim, &first, "first").await;
            let live = sim.observe().await;
            let text = saved(&live, &first);
            let read = Observation::read(text.as_bytes()).expect("ours").of(&second.fleet).expect("this fleet's");
            assert_eq!(planned(&read, &second), planned(&live, &second));
            assert!(plan(&first, &read, &Consent::default()).is_empty());
        });
    }
}

/// Property 35 for what `observe` writes.
#[test]
fn no_secret_is_in_an_observation() {
    simulate(async || {
        let sim = published_world().await;
        let text = saved(&sim.observe().await, &published(1));
        let acme = || TenantId::parse("acme").expect("valid");
        let tenant = |role: Option<&str>| Credential::Tenant {
            tenant: acme(),
            role: role.map(|role| RoleName::parse(role).expect("valid")),
            generation: 1,
        };
        let admin = Credential::Admin { instance: InstanceName::parse("shared-1").expect("valid") };
        for credential in [Credential::Control, admin, tenant(None), tenant(Some("reader"))] {
            let password: Secret = sim.keys.password(&credential);
            assert!(!text.contains(password.expose()), "{credential:?}");
        }
        for canary in ["canary-of-the-app", "canary-of-the-command", "simulation-key", "SCRAM-SHA-256"] {
            assert!(!text.contains(canary), "{canary}");
        }
        assert!(text.contains("STRIPE_KEY"), "the name is there, so what was looked through is what counts");
    });
}

/// A value of another generation, of another place or of somebody else is seen as another value.
#[test]
fn what_an_observation_recognised_is_compared_with_what_is_wanted_now() {
    simulate(async || {
        let sim = published_world().await;
        let live = sim.observe().await;
        let addresses = |generation, live: &Live| {
            let plan = plan(&published(generation), live, &Consent::default());
            plan.actions.into_iter().map(|action| action.address).collect::<Vec<_>>()
        };
        assert_eq!(addresses(1, &live), [""; 0]);
        let rotated = ["tenant/acme", "route/acme", "publish/api.DATABASE_URL", "publish/api.READER_URL"];
        assert_eq!(addresses(2, &live), rotated);
        let mut moved = live.clone();
        let record = moved.control.instances.get_mut("shared-1").expect("recorded");
        record.endpoint.as_mut().expect("an address").private.port += 1;
        let changed = addresses(1, &moved);
        assert!(changed.contains(&"publish/api.DATABASE_URL".to_owned()), "{changed:?}");
    });
}

#[test]
fn an_observation_of_another_format_version_or_fleet_is_refused() {
    simulate(async || {
        let desired = published(1);
        let sim = bootstrapped(&desired, false).await;
        let text = saved(&sim.observe().await, &desired);
        let refused = |text: &str| match Observation::read(text.as_bytes()).and_then(|seen| seen.of(&desired.fleet)) {
            Ok(_) => "taken".to_owned(),
            Err(error) => error.to_string(),
        };
        assert_eq!(refused(&text), "taken");
        let version = env!("CARGO_PKG_VERSION");
        let newer = text.replace("\"formatVersion\":2", "\"formatVersion\":3");
        let said = format!("is an observation of format 3, written by o7s {version}; this version reads format 2");
        assert_eq!(refused(&newer), said);
        // Also when the rest has changed beyond recognition.
        assert_eq!(refused(&newer.replace("\"railway\":", "\"somethingElse\":")), said);
        let other = text.replace("\"fleetName\":\"sim\"", "\"fleetName\":\"another\"");
        assert_eq!(refused(&other), "is an observation of fleet another, the manifests are of fleet sim");
        for bad in ["", "{}", "[1]", &text[..text.len() - 9], &text.replace("\"railway\":", "\"somethingElse\":")] {
            assert_eq!(refused(bad), "is no observation of o7s", "{bad:.40}");
        }
    });
}
