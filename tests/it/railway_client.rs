//! The Railway client against the local Railway's world in memory: the same documents, masks, lags and faults, with time
//! that passes only when everybody waits.

use std::sync::Arc;
use std::time::Duration;

use ogelnates::local::world::{Caller, Fault, Plan, Rule};
use ogelnates::manifest::{RailwayPlan, Resources};
use ogelnates::plan::{Deployment, LiveValue, Ownership, RailwayLive};
use ogelnates::railway::{
    Client, Error, NewService, NewVolume, POSTGRES_MOUNT, Patch, ServicePatch, Token, VolumePatch,
};
use ogelnates::tenancy::{
    Bytes, Credential, EnvironmentId, FleetName, FleetUid, InstanceName, Keyring, ProjectId, Secret, ServiceId,
    ServiceMarker, VolumeId,
};

use crate::far::Far;

/// A project of the name `shop` and a client that may do everything in it.
struct Shop {
    far: Arc<Far>,
    client: Client,
    project: ProjectId,
    environment: EnvironmentId,
    keyring: Keyring,
    fleet: FleetUid,
}

impl Shop {
    async fn open(plan: Plan) -> Shop {
        let far = Far::new(plan);
        let client = far.account();
        let (project, environment) = client.create_project("shop", "production", None).await.expect("a new project");
        let keyring = Keyring::new(&Secret::new("0123456789abcdef0123456789abcdef")).expect("long enough");
        let fleet = keyring.fleet_uid(&FleetName::parse("shop").expect("valid"));
        Shop { far, client, project, environment, keyring, fleet }
    }

    fn new_services(&self, names: &[&str]) -> Vec<NewService> {
        let new = |name: &&str| NewService { name: (*name).to_owned(), marker: self.marker(name, None) };
        names.iter().map(new).collect()
    }

    fn marker(&self, name: &str, service: Option<&ServiceId>) -> String {
        let (fleet, service) = (self.fleet.clone(), service.cloned());
        ServiceMarker { fleet, service_name: name.to_owned(), service, adopted: false }.to_string()
    }

    async fn services(&self, names: &[&str]) -> Vec<ServiceId> {
        let new = self.new_services(names);
        self.client.create_services(&self.project, &self.environment, &new).await.expect("made")
    }

    async fn live(&self) -> RailwayLive {
        let live = self.client.read_live(&self.project, &self.environment, &self.keyring, &self.fleet).await;
        live.expect("complete")
    }

    async fn volumes(&self, services: &[ServiceId]) -> Vec<VolumeId> {
        let new: Vec<NewVolume> =
            services.iter().map(|service| NewVolume { service: service.clone(), region: None }).collect();
        self.client.create_volumes(&self.project, &self.environment, &new).await.expect("made")
    }

    fn database(&self, name: &str, service: &ServiceId, volume: &VolumeId) -> ServicePatch {
        ServicePatch {
            marker: Some(self.marker(name, Some(service))),
            image: Some("ghcr.io/railwayapp-templates/postgres-ssl:17".into()),
            start_command: Some("postgres -c wal_level=logical".into()),
            region: Some("us-west2".into()),
            caps: Some(caps()),
            sleep: Some(false),
            tcp_proxy: Some(true),
            mount: Some(volume.clone()),
            created: true,
            variables: [("POSTGRES_PASSWORD".to_owned(), Some(self.keyring.password(&admin(name))))].into(),
        }
    }
}

fn admin(name: &str) -> Credential {
    Credential::Admin { instance: InstanceName::parse(name).expect("valid") }
}

fn caps() -> Resources {
    Resources { vcpu_milli: 1500, memory: Bytes(2 << 30) }
}

fn owners(live: &RailwayLive) -> Vec<(&str, Ownership)> {
    live.services.iter().map(|service| (service.name.as_str(), service.owner)).collect()
}

#[tokio::test(start_paused = true)]
async fn three_databases_come_up_in_three_requests() {
    let shop = Shop::open(Plan::Pro).await;
    let names = ["shared-1", "shared-2", "big-1"];
    let services = shop.services(&names).await;
    let volumes = shop.volumes(&services).await;
    let each = || names.iter().zip(services.iter().zip(&volumes));
    let patch = Patch {
        services: each().map(|(name, (s, v))| (s.clone(), shop.database(name, s, v))).collect(),
        volumes: volumes.iter().map(|v| (v.clone(), VolumePatch { size_mib: Some(60_000), created: true })).collect(),
    };
    shop.client.commit_patch(&shop.environment, &patch, "three databases").await.expect("committed");
    assert_eq!(shop.client.requests().mutations, 4);
    tokio::time::sleep(Duration::from_secs(30)).await;

    let live = shop.live().await;
    assert_eq!((live.project_name.as_str(), live.environment_name.as_str()), ("shop", "production"));
    assert_eq!((live.plan, live.staged_changes), (RailwayPlan::Pro, 0));
    assert_eq!(
        owners(&live),
        [("big-1", Ownership::Ours), ("shared-1", Ownership::Ours), ("shared-2", Ownership::Ours)]
    );
    for (name, (service, volume)) in each() {
        let found = live.service(name).expect("listed");
        assert_eq!((&found.id, &found.deployment), (service, &Deployment::Running), "{name}");
        let config = found.config.as_ref().expect("visible");
        assert_eq!(config.image.as_deref(), Some("ghcr.io/railwayapp-templates/postgres-ssl:17"));
        assert_eq!((config.region.as_deref(), config.caps), (Some("us-west2"), Some(caps())));
        assert_eq!((config.tcp_proxy, config.mounted_volume.as_ref()), (true, Some(volume)));
        assert_eq!(config.variables["POSTGRES_PASSWORD"], LiveValue::Password { credential: admin(name) });
        let attached = live.volume_of(service).expect("attached");
        assert_eq!((attached.size_mib, attached.mount_path.as_str()), (60_000, POSTGRES_MOUNT));
    }
    let endpoints = shop.client.read_endpoints(&shop.project, &shop.environment, &services).await.expect("known");
    for (name, endpoint) in names.iter().zip(&endpoints) {
        assert_eq!(endpoint.private_host.as_deref(), Some(format!("{name}.railway.internal").as_str()));
        assert!(endpoint.public.as_ref().is_some_and(|public| !public.host.ends_with('.') && public.port > 0));
    }
    assert_eq!(shop.client.poll_etag(&shop.environment).await, Ok(live.config_etag));
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_token_finds_the_project() {
    let shop = Shop::open(Plan::Pro).await;
    let found = shop.client.find("shop", "production").await.expect("an account");
    assert_eq!(found.projects.len(), 1);
    assert_eq!(found.projects[0].id, shop.project);
    assert_eq!(found.projects[0].environments, [(shop.environment.clone(), "production".to_owned())]);
    assert!(found.workspace.is_some());
    assert_eq!(shop.client.find("other", "production").await.expect("an account").projects, []);

    let (project, environment) = (shop.project.to_string(), shop.environment.to_string());
    let (token, name, created_at) = ("t-1".to_owned(), "ci".to_owned(), shop.far.now());
    let bound = Caller::Project { token, name, project, environment, created_at };
    shop.far.inside().world_mut().admit(&Secret::new("workspace"), Caller::Workspace);
    shop.far.inside().world_mut().admit(&Secret::new("project"), bound);
    for token in [Token::Api(Secret::new("workspace")), Token::Project(Secret::new("project"))] {
        let found = shop.far.client(token.clone()).find("shop", "production").await;
        let found = found.unwrap_or_else(|error| panic!("{token:?}: {error}"));
        assert_eq!(found.projects.len(), 1, "{token:?}");
        assert_eq!(found.projects[0].id, shop.project);
    }
    let elsewhere = shop.far.client(Token::Project(Secret::new("project"))).find("shop", "staging").await;
    assert!(matches!(elsewhere, Err(Error::TokenElsewhere { .. })), "{elsewhere:?}");
    for wrong in [Token::Api(Secret::new("wrong")), Token::Project(Secret::new("wrong"))] {
        let found = shop.far.client(wrong).find("shop", "production").await;
        assert!(matches!(found, Err(Error::Unauthorized { .. })), "{found:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_taken_stops_a_batch_after_those_before_it() {
    let shop = Shop::open(Plan::Pro).await;
    shop.services(&["b-1"]).await;
    let new = shop.new_services(&["a-1", "b-1", "c-1"]);
    let failure = shop.client.create_services(&shop.project, &shop.environment, &new).await.expect_err("b-1 exists");
    assert!(matches!(failure.error, Error::NameTaken { .. }), "{failure:?}");
    assert_eq!((failure.ran, failure.failed), (1, Some(1)));
    let unconfigured = [("a-1", Ownership::OursUnconfigured), ("b-1", Ownership::OursUnconfigured)];
    assert_eq!(owners(&shop.live().await), unconfigured);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_told_as_lost_and_what_was_made_can_be_seen() {
    let shop = Shop::open(Plan::Pro).await;
    // Once as a broken connection, once as a gateway's 504.
    for name in ["a-1", "b-1"] {
        shop.far.order(Fault::LostAnswer);
        let new = shop.new_services(&[name]);
        let failure = shop.client.create_services(&shop.project, &shop.environment, &new).await.expect_err("lost");
        assert!(matches!(failure.error, Error::Lost { .. }), "{failure:?}");
    }
    assert_eq!(owners(&shop.live().await).len(), 2);
    assert_eq!(shop.client.requests().by_operation["CreateServices"], 2);
}

#[tokio::test(start_paused = true)]
async fn what_had_no_effect_is_repeated_and_doubles_nothing() {
    let shop = Shop::open(Plan::Pro).await;
    for (name, fault) in [("a-1", Fault::TooManyRequests), ("b-1", Fault::EdgeBlock)] {
        shop.far.order(fault);
        shop.services(&[name]).await;
    }
    for fault in [Fault::ServerError, Fault::Timeout, Fault::TooManyRequests, Fault::EdgeBlock] {
        shop.far.order(fault);
        assert_eq!(shop.live().await.services.len(), 2, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_spent_share_of_the_hour_is_waited_for_or_told() {
    let shop = Shop::open(Plan::Free).await;
    let mut last = Ok(String::new());
    for _ in 0..200 {
        last = shop.client.poll_etag(&shop.environment).await;
        if last.is_err() {
            break;
        }
    }
    let Err(error @ Error::ShareSpent { again_in, .. }) = last else { panic!("{last:?}") };
    assert_eq!((error.exit_code(), shop.client.requests().total()), (7, 50), "half of what Free allows");
    tokio::time::sleep(again_in).await;
    assert!(shop.client.poll_etag(&shop.environment).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_volume_too_many_is_the_plans_limit() {
    let shop = Shop::open(Plan::Free).await;
    let services = shop.services(&["a-1", "a-2"]).await;
    let new: Vec<NewVolume> = services.iter().map(|s| NewVolume { service: s.clone(), region: None }).collect();
    let failure = shop.client.create_volumes(&shop.project, &shop.environment, &new).await.expect_err("one is all");
    assert!(matches!(failure.error, Error::PlanLimit { .. }), "{failure:?}");
    assert_eq!((failure.ran, failure.failed, failure.error.exit_code()), (1, Some(1), 5));
    assert_eq!(shop.live().await.volumes.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_volume_of_a_deleted_service_can_be_given_to_another() {
    let shop = Shop::open(Plan::Pro).await;
    let services = shop.services(&["a-1", "b-1"]).await;
    let volumes = shop.volumes(&services[..1]).await;
    let now = shop.far.now();
    let deleted = shop.far.inside().world_mut().delete_service(services[0].as_str(), None, now);
    deleted.expect("a person at the dashboard may");
    assert_eq!(shop.live().await.volumes[0].service, None);
    shop.client.attach_volume(&volumes[0], &shop.environment, &services[1]).await.expect("attached");
    let live = shop.live().await;
    assert_eq!(live.volume_of(&services[1]).map(|volume| &volume.id), Some(&volumes[0]));
    let config = live.service("b-1").and_then(|service| service.config.as_ref()).expect("visible");
    assert_eq!(config.mounted_volume.as_ref(), Some(&volumes[0]));
}

#[tokio::test(start_paused = true)]
async fn one_deleted_service_does_not_hide_the_addresses_of_the_others() {
    let shop = Shop::open(Plan::Pro).await;
    let services = shop.services(&["a-1", "b-1", "c-1"]).await;
    let now = shop.far.now();
    let deleted = shop.far.inside().world_mut().delete_service(services[1].as_str(), None, now);
    deleted.expect("a person at the dashboard may");
    let endpoints = shop.client.read_endpoints(&shop.project, &shop.environment, &services).await.expect("answered");
    let known: Vec<bool> = endpoints.iter().map(|endpoint| endpoint.private_host.is_some()).collect();
    assert_eq!(known, [true, false, true]);
}

#[tokio::test(start_paused = true)]
async fn new_things_that_are_not_seen_yet_are_unknown_and_never_foreign() {
    let shop = Shop::open(Plan::Pro).await;
    shop.far.inside().order(Rule { count: None, ..Rule::once(Fault::Lag) });
    shop.services(&["a-1", "b-1", "c-1"]).await;
    for _ in 0..40 {
        let live = shop.live().await;
        let seen = owners(&live);
        let fits = |owner: &Ownership| matches!(owner, Ownership::Unknown | Ownership::OursUnconfigured);
        assert!(seen.iter().all(|(_, owner)| fits(owner)), "{seen:?}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(owners(&shop.live().await).iter().all(|(_, owner)| *owner == Ownership::OursUnconfigured));
}
