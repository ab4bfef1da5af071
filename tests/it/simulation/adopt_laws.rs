//! What somebody else made: adopted and released under every kill, and never more of it changed than was asked for.

use ogelnates::manifest::{Desired, Source, load};
use ogelnates::operator::{self, foreign_fleet};
use ogelnates::plan::{
    Code, Consent, DatabaseLive, Release, RoleLive, ServerLive, adopt_instance, adopt_tenant, export, plan,
    release_instance, release_tenant, render,
};
use ogelnates::tenancy::{InstanceName, ServiceId, TenantId};
use proptest::prelude::*;
use serde_json::json;

use super::laws::{bootstrapped, settle, simulate};
use super::random_laws::{Wish, desired as wished, wishes};
use super::safety_laws::run;
use super::sim::{Kill, Sim, fleet, fleet_text, manifest};

const IMAGE: &str = "ghcr.io/railwayapp-templates/postgres-ssl:17";
const MOUNT: &str = "/var/lib/postgresql/data";

fn instance() -> InstanceName {
    InstanceName::parse("shared-7").expect("valid")
}

fn shop() -> TenantId {
    TenantId::parse("shop").expect("valid")
}

/// The fleet with the tenant that is to be adopted.
fn with_shop() -> Desired {
    let tenant = "---\napiVersion: ogelnates.dev/v1\nkind: Tenant\nmetadata: { name: shop }\nspec:\n  tier: free\n  \
                  roles: [{ name: reader, grants: read }]\n";
    manifest(&format!("{}{tenant}", fleet_text(&["acme", "beta"])))
}

fn stranger(name: &str) -> (String, RoleLive) {
    let role = RoleLive {
        mark: None,
        can_login: true,
        privileged: name == "postgres",
        connection_limit: -1,
        password_ours: false,
        member_of: Vec::new(),
        statement_timeouts: Vec::new(),
    };
    (name.to_owned(), role)
}

/// A server as Railway's template makes it, with a database `store` of the role `store_app`.
async fn made_by_hand(sim: &Sim, owner: &str, marker: Option<&str>) -> String {
    let variables: Vec<(&str, &str)> =
        [("POSTGRES_PASSWORD", "canary")].into_iter().chain(marker.map(|marker| ("O7S_OWNER", marker))).collect();
    let id = sim.make_foreign_service("Postgres", &variables);
    let environment = sim.environment();
    let live = sim.observe().await;
    let volume = json!({ "projectId": live.railway.project, "environmentId": environment, "serviceId": id, "mountPath": MOUNT });
    sim.ask("mutation V($i: VolumeCreateInput!) { volumeCreate(input: $i) { id } }", json!({ "i": volume }));
    let config = json!({ "services": { id.clone(): {
        "source": { "image": IMAGE },
        "deploy": { "startCommand": "wrapper.sh postgres -c shared_buffers=256MB" },
        "networking": { "tcpProxies": { "5432": {} } },
    } } });
    let commit =
        "mutation C($e: String!, $p: EnvironmentConfig!) { environmentPatchCommit(environmentId: $e, patch: $p) }";
    sim.ask(commit, json!({ "e": environment, "p": config }));
    tokio::time::sleep(std::time::Duration::from_secs(120)).await;
    let database = DatabaseLive {
        owner: owner.to_owned(),
        tenant: None,
        adopted: false,
        allow_connections: true,
        public_connect: true,
        connection_limit: -1,
        statement_timeout_ms: None,
    };
    let mut server = ServerLive { version: 170_000, max_connections: 260, ..ServerLive::default() };
    server.public_databases = vec!["postgres".into(), "railway".into()];
    server.databases.insert("store".into(), database);
    server.roles.extend(["postgres", "store_app"].map(stranger));
    let volume = {
        let now = sim.now();
        let mut railway = sim.railway.lock().expect("one thread");
        railway.world(now).volumes_at(&environment, Some(&id))[0].to_owned()
    };
    sim.servers.contents.borrow_mut().insert(volume, server);
    id
}

async fn adopt_service(sim: &Sim, desired: &Desired, id: &str, force: bool) -> Option<Result<(), String>> {
    let id = ServiceId::parse(id).expect("an id");
    let work = async |door: &operator::Door<'_>, live| {
        let adoption = adopt_instance(desired, &live, &instance(), &id).map_err(|problem| problem.message)?;
        let entrance = door.railway.read_entrance(&door.project, &door.environment, &id).await;
        let entrance = entrance.map_err(|error| error.to_string())?;
        if foreign_fleet(&entrance, &door.fleet).is_some() && !force {
            return Err("another fleet's".to_owned());
        }
        let doors = (&sim.control, &sim.servers);
        let done = operator::adopt_instance(door, doors, &adoption, &entrance, force).await;
        done.map_err(|hindrance| format!("{hindrance:?}"))
    };
    sim.under_lease(work).await
}

async fn adopt_database(sim: &Sim, desired: &Desired) -> Option<Result<(), String>> {
    let work = async |door: &operator::Door<'_>, live: ogelnates::plan::Live| {
        let adoption = adopt_tenant(desired, &live, (&shop(), "store"), None).map_err(|problem| problem.message)?;
        let endpoint = live.control.instances[adoption.place.instance.as_str()].endpoint.clone().expect("reached");
        let doors = (&sim.control, &sim.servers);
        let done = operator::adopt_tenant(door, doors, &adoption, &endpoint, false).await;
        done.map_err(|hindrance| format!("{hindrance:?}"))
    };
    sim.under_lease(work).await
}

async fn let_go(sim: &Sim, whole: bool) -> Option<Result<(), String>> {
    let work = async |door: &operator::Door<'_>, live: ogelnates::plan::Live| {
        let (what, named): (Result<Release, _>, _) = match whole {
            true => (release_instance(&live, &instance()), Some(instance())),
            false => (release_tenant(&live, &shop()), None),
        };
        let what = what.map_err(|problem| problem.message)?;
        let doors = (&sim.control, &sim.servers);
        let done = operator::release(door, doors, &live, named.as_ref(), &what).await;
        done.map_err(|hindrance| format!("{hindrance:?}"))
    };
    sim.under_lease(work).await
}

/// Everything of the adopted server that o7s did not make.
fn theirs(sim: &Sim) -> String {
    let contents = sim.servers.contents.borrow();
    let server = contents.values().find(|server| server.databases.contains_key("store")).expect("there");
    let roles: Vec<_> = ["postgres", "store_app"].map(|name| &server.roles[name]).into_iter().collect();
    format!("{roles:?} {}", server.databases["store"].owner)
}

/// From nothing to a settled world with an adopted tenant; each stage is killed at `kill` and then repeated.
async fn adopted(owner: &str, kill: impl Fn(&Sim)) -> Sim {
    let desired = with_shop();
    let before = fleet(&["acme", "beta"]);
    let sim = bootstrapped(&before, false).await;
    settle(&sim, &before, "first").await;
    let id = made_by_hand(&sim, owner, None).await;
    let (variables, untouched) = (sim.config_of("Postgres")["variables"].clone(), theirs(&sim));
    kill(&sim);
    let _ = adopt_service(&sim, &desired, &id, false).await;
    sim.calls_are_safe();
    adopt_service(&sim, &desired, &id, false).await.expect("not killed").expect("adopted");
    kill(&sim);
    let _ = adopt_database(&sim, &desired).await;
    sim.calls_are_safe();
    adopt_database(&sim, &desired).await.expect("not killed").expect("adopted");
    kill(&sim);
    let _ = sim.reconcile(&desired).await;
    sim.calls_are_safe();
    settle(&sim, &desired, "adopted").await;
    sim.assert_nothing_is_doubled("adopted");
    let mut now = sim.config_of("shared-7")["variables"].clone();
    now.as_object_mut().expect("a map").remove("O7S_OWNER").expect("marked");
    assert_eq!(now, variables, "no variable of an adopted service is changed");
    assert_eq!(theirs(&sim), untouched, "no role or password that was there before is changed");
    sim
}

/// Properties 4, 5, 24 and 34 of what is adopted.
#[test]
fn adopting_killed_at_any_call_is_finished_by_doing_it_again() {
    simulate(async || {
        let wanted = adopted("store_app", |_| ()).await.picture();
        assert!(wanted.contains("route shop to shared-7/store active"), "{wanted}");
        for n in 0..14 {
            for kill in [Kill::Before(n), Kill::After(n)] {
                let sim = adopted("store_app", |sim| sim.kill_at(kill)).await;
                assert_eq!(sim.picture(), wanted, "{kill:?}");
            }
        }
    });
}

#[test]
fn a_superusers_database_is_given_without_a_membership() {
    simulate(async || {
        let sim = adopted("postgres", |_| ()).await;
        sim.servers.with("shared-7", |server| assert!(server.roles["shop"].member_of.is_empty()));
        let sim = adopted("store_app", |_| ()).await;
        sim.servers.with("shared-7", |server| {
            assert_eq!(server.roles["shop"].member_of, ["store_app"]);
            server.roles.get_mut("store_app").expect("there").privileged = true;
        });
        settle(&sim, &with_shop(), "its owner became a superuser").await;
        sim.servers.with("shared-7", |server| assert!(server.roles["shop"].member_of.is_empty()));
    });
}

#[test]
fn a_lost_control_database_knows_adopted_tenants_by_their_roles_marks() {
    simulate(async || {
        let sim = adopted("store_app", |_| ()).await;
        let wanted = sim.picture();
        sim.control.drop_everything();
        settle(&sim, &with_shop(), "rebuilt").await;
        assert_eq!(sim.picture(), wanted);
    });
}

#[test]
fn an_adopted_database_that_is_gone_is_not_made_again_and_never_deleted() {
    simulate(async || {
        let sim = adopted("store_app", |_| ()).await;
        let text = format!(
            "{}---\napiVersion: ogelnates.dev/v1\nkind: Tenant\nmetadata: {{ name: shop }}\nspec:\n  \
                            tier: free\n  state: absent\n  deletionPolicy: delete\n",
            fleet_text(&["acme", "beta"])
        );
        let consent = Consent { deletions: [(shop(), sim.now().date_naive())].into(), ..Consent::default() };
        let plan = plan(&manifest(&text), &sim.observe().await, &consent);
        assert_eq!(plan.refused.iter().map(|p| p.code).collect::<Vec<_>>(), [Code::AdoptedDeletion]);
        sim.servers.with("shared-7", |server| drop(server.databases.remove("store")));
        let done = run(&sim, &with_shop()).await;
        assert_eq!(done.plan.refused.iter().map(|p| p.code).collect::<Vec<_>>(), [Code::AdoptedGone]);
        sim.servers.with("shared-7", |server| assert!(server.databases.is_empty()));
    });
}

/// Property 25: another fleet's marker is respected, and taken only when a person says so.
#[test]
fn another_fleets_service_is_adopted_only_by_force() {
    simulate(async || {
        let desired = fleet(&["acme", "beta"]);
        let sim = bootstrapped(&desired, false).await;
        settle(&sim, &desired, "first").await;
        let id = made_by_hand(&sim, "store_app", Some("o7s1:00ff:Postgres")).await;
        let before = (sim.config_of("Postgres"), sim.mutations_made());
        adopt_service(&sim, &desired, &id, false).await.expect("not killed").expect_err("refused");
        assert_eq!((sim.config_of("Postgres"), sim.mutations_made()), before);
        adopt_service(&sim, &desired, &id, true).await.expect("not killed").expect("forced");
        settle(&sim, &desired, "forced").await;
        assert!(sim.picture().contains("service shared-7"));
    });
}

#[test]
fn releasing_killed_at_any_call_is_finished_by_doing_it_again_and_nothing_is_made_twice() {
    simulate(async || {
        let mut first: Option<String> = None;
        for kill in [None].into_iter().chain((0..9).flat_map(|n| [Some(Kill::Before(n)), Some(Kill::After(n))])) {
            let sim = adopted("store_app", |_| ()).await;
            let untouched = theirs(&sim);
            for whole in [false, true] {
                kill.iter().for_each(|kill| sim.kill_at(*kill));
                let done = let_go(&sim, whole).await;
                sim.calls_are_safe();
                if done.is_none() {
                    // Finished, or nothing was left to do.
                    let _ = let_go(&sim, whole).await.expect("not killed");
                }
                if !whole {
                    let done = run(&sim, &with_shop()).await;
                    let refused: Vec<_> = done.plan.refused.iter().map(|p| (p.address.as_str(), p.code)).collect();
                    assert_eq!(refused, [("tenant/shop", Code::ForeignRole)], "{kill:?}");
                }
            }
            settle(&sim, &fleet(&["acme", "beta"]), "released").await;
            assert_eq!(theirs(&sim), untouched, "{kill:?}");
            let marker = sim.config_of("shared-7")["variables"]["O7S_OWNER"]["value"].clone();
            assert_eq!(marker, "released", "{kill:?}");
            let picture = sim.picture();
            assert!(!picture.contains("route shop") && !picture.contains("placement shop"), "{kill:?}: {picture}");
            assert_eq!(*first.get_or_insert(picture.clone()), picture, "{kill:?}");
        }
    });
}

async fn assert_export_changes_nothing(sim: &Sim, desired: &Desired, context: &str) {
    let live = sim.observe().await;
    let exported = export(&desired.fleet, &live);
    let sources: Vec<Source> =
        exported.files.iter().map(|file| Source { path: file.path.clone(), text: file.text.clone() }).collect();
    let again = load(&sources).unwrap_or_else(|problems| panic!("{context}: {}", problems.render()));
    let plan = plan(&again, &live, &Consent::default());
    let quiet = plan.is_empty() && plan.refused.is_empty() && plan.breaches.is_empty() && plan.blocked.is_empty();
    let texts: String = exported.files.iter().map(|file| file.text.as_str()).collect();
    assert!(quiet, "{context}:\n{}\n{texts}", render(&plan, true));
    assert!(!texts.contains("canary"), "{context}: a secret in {texts}");
    let routed = live.control.routes.len();
    let left_out = exported.notes.iter().filter(|note| note.contains("left out")).count();
    assert_eq!(again.tenants.len() + left_out, routed, "{context}: every tenant is in it or named");
}

#[test]
fn an_export_of_an_adopted_and_of_a_suspended_world_changes_nothing() {
    simulate(async || {
        let sim = adopted("store_app", |_| ()).await;
        assert_export_changes_nothing(&sim, &with_shop(), "adopted").await;
        let absent = fleet_text(&["acme", "beta"]).replace(
            "name: acme }\nspec:\n  tier: free\n",
            "name: acme }\nspec:\n  tier: free\n  state: absent\n  deletionPolicy: retain\n",
        );
        settle(&sim, &manifest(&absent), "absent").await;
        assert_export_changes_nothing(&sim, &with_shop(), "one absent, one retained").await;
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Property 19, over what two states of the manifests, one after the other, lead to.
    #[test]
    fn an_export_changes_nothing(first in wishes(), second in wishes(), public in any::<bool>()) {
        simulate(async || {
            let (one, two): (&[Wish], &[Wish]) = (&first, &second);
            let sim = bootstrapped(&wished(one), false).await;
            settle(&sim, &wished(one), "first").await;
            if public {
                sim.make_foreign_service("api", &[("DATABASE_URL", "canary")]);
            }
            settle(&sim, &wished(two), "second").await;
            assert_export_changes_nothing(&sim, &wished(two), &format!("{one:?} then {two:?}")).await;
        });
    }
}
