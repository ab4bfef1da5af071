//! What holds after any sequence of requests, sensible or not.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use crate::local::bench::{Bench, CREATE_SERVICE, CREATE_VOLUME, MOUNT, database_config};
use crate::local::world::{Fault, Plan, Rule, Status};

#[derive(Debug, Clone)]
enum Step {
    CreateService(u8),
    CreateVolume(Option<u8>),
    DeleteService(u8),
    DeleteVolume(u8),
    Attach(u8, Option<u8>),
    Mount(u8, u8),
    Configure(u8),
    Rename(u8, u8),
    Fork(u8),
    Trouble(u8),
    Wait(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let few = 0..6_u8;
    prop_oneof![
        few.clone().prop_map(Step::CreateService),
        proptest::option::of(few.clone()).prop_map(Step::CreateVolume),
        few.clone().prop_map(Step::DeleteService),
        few.clone().prop_map(Step::DeleteVolume),
        (few.clone(), proptest::option::of(few.clone())).prop_map(|(v, s)| Step::Attach(v, s)),
        (few.clone(), few.clone()).prop_map(|(s, v)| Step::Mount(s, v)),
        few.clone().prop_map(Step::Configure),
        (few.clone(), few.clone()).prop_map(|(s, n)| Step::Rename(s, n)),
        few.clone().prop_map(Step::Fork),
        few.prop_map(Step::Trouble),
        (0..90_u8).prop_map(Step::Wait),
    ]
}

/// Services and volumes made so far; some of them are gone.
#[derive(Default)]
struct Made {
    services: Vec<String>,
    volumes: Vec<String>,
}

fn at(list: &[String], index: u8) -> String {
    list.get(usize::from(index)).cloned().unwrap_or_else(|| "nobody".into())
}

fn take(bench: &mut Bench, made: &mut Made, step: &Step) {
    let environment = bench.environment.clone();
    let created = |body: serde_json::Value, field: &str| {
        body.pointer(&format!("/data/{field}/id")).and_then(|id| id.as_str().map(str::to_owned))
    };
    match step {
        Step::CreateService(name) => {
            let input =
                json!({ "projectId": bench.project, "environmentId": environment, "name": format!("s{name}") });
            made.services.extend(created(bench.ask(CREATE_SERVICE, json!({ "input": input })), "serviceCreate"));
        }
        Step::CreateVolume(service) => {
            let service = service.map(|service| at(&made.services, service));
            let input = bench.volume_input(service.as_deref());
            made.volumes.extend(created(bench.ask(CREATE_VOLUME, input), "volumeCreate"));
        }
        Step::DeleteService(service) => {
            let query = "mutation M($id: String!, $e: String) { serviceDelete(id: $id, environmentId: $e) }";
            bench.ask(query, json!({ "id": at(&made.services, *service), "e": environment }));
        }
        Step::DeleteVolume(volume) => {
            bench.ask(
                "mutation M($v: String!) { volumeDelete(volumeId: $v) }",
                json!({ "v": at(&made.volumes, *volume) }),
            );
        }
        Step::Attach(volume, service) => {
            let query = "mutation M($v: String!, $s: String) {
                volumeInstanceUpdate(volumeId: $v, input: { serviceId: $s }) }";
            let service = service.map(|service| at(&made.services, service));
            bench.ask(query, json!({ "v": at(&made.volumes, *volume), "s": service }));
        }
        Step::Mount(service, volume) => {
            let mount = json!({ "volumeMounts": { at(&made.volumes, *volume): { "mountPath": MOUNT } } });
            bench.commit(json!({ "services": { at(&made.services, *service): mount } }));
        }
        Step::Configure(service) => {
            bench.commit(json!({ "services": { at(&made.services, *service): database_config() } }));
        }
        Step::Rename(service, name) => {
            let query =
                "mutation M($id: String!, $n: String!) { serviceUpdate(id: $id, input: { name: $n }) { id } }";
            bench.ask(query, json!({ "id": at(&made.services, *service), "n": format!("s{name}") }));
        }
        Step::Fork(number) => {
            let query = "mutation M($in: EnvironmentCreateInput!) { environmentCreate(input: $in) { id } }";
            let name = format!("pr-{number}");
            let input = json!({ "projectId": bench.project, "name": name, "sourceEnvironmentId": environment });
            bench.ask(query, json!({ "in": input }));
        }
        Step::Trouble(kind) => {
            let faults =
                [Fault::Lag, Fault::DeployFails, Fault::Unhealthy, Fault::Crash, Fault::FailAlias, Fault::TooQuickly];
            bench.railway.order(Rule::once(faults[usize::from(*kind)]));
        }
        Step::Wait(seconds) => bench.wait(i64::from(*seconds)),
    }
}

fn check(bench: &mut Bench) -> Result<(), TestCaseError> {
    let now = bench.now;
    let project = bench.project.clone();
    let world = bench.railway.world(now);
    let mut names = BTreeSet::new();
    for service in world.services_of(&project) {
        prop_assert!(names.insert(service.name.clone()), "two services are called {}", service.name);
        let held = world.environments_of(&project).iter().any(|e| e.instances.contains_key(&service.id));
        prop_assert!(held, "{} is in no environment", service.name);
    }
    let mut ports = BTreeSet::new();
    for environment in world.environments_of(&project) {
        let mut mounted = BTreeSet::new();
        for (volume, instance) in &environment.volume_instances {
            if let Some(service) = &instance.service {
                prop_assert!(instance.dies_at.is_none(), "{volume} is mounted in its grave");
                prop_assert!(environment.instances.contains_key(service), "{volume} is mounted nowhere");
                prop_assert!(mounted.insert(service.clone()), "{service} has two volumes");
                prop_assert_eq!(environment.mount_of(service).map(|mount| mount.volume), Some(volume.clone()));
            }
        }
        for (service, instance) in &environment.instances {
            prop_assert!(environment.service_blob(service).is_some(), "an instance without a blob");
            let running = instance.deployments.iter().filter(|d| d.status == Status::Success).count();
            prop_assert!(running <= 1, "{running} deployments of {service} run at once");
            if let Some(port) = instance.port {
                prop_assert!(ports.insert(port), "port {port} twice");
            }
        }
        let blobs = environment.config["services"].as_object().map_or(0, serde_json::Map::len);
        prop_assert_eq!(blobs, environment.instances.len());
    }
    let alive = |volume: &&String| {
        let mut instances = world.environments.values().filter_map(|e| e.volume_instances.get(*volume));
        instances.any(|instance| instance.dies_at.is_none())
    };
    let live = world.volumes.keys().filter(alive).count();
    prop_assert!(live <= 3, "{live} volumes on a plan with 3");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn names_stay_unique_volumes_single_and_deployments_alone(steps in proptest::collection::vec(step(), 1..40)) {
        let mut bench = Bench::new(Plan::Trial);
        let mut made = Made::default();
        for step in &steps {
            // Out of the way of the rate limit, which has tests of its own.
            bench.now += chrono::Duration::milliseconds(100);
            take(&mut bench, &mut made, step);
            check(&mut bench)?;
        }
    }

    #[test]
    fn a_saved_world_goes_on_as_if_nothing_had_happened(steps in proptest::collection::vec(step(), 1..20)) {
        let (mut one, mut made) = (Bench::new(Plan::Trial), Made::default());
        for step in &steps {
            one.now += chrono::Duration::milliseconds(100);
            take(&mut one, &mut made, step);
        }
        let now = one.now;
        let saved = serde_json::to_string(one.railway.world(now)).expect("a world can be saved");
        let loaded: crate::local::world::World = serde_json::from_str(&saved).expect("a saved world can be loaded");
        prop_assert_eq!(serde_json::to_string(&loaded).expect("a world can be saved"), saved);
    }
}
