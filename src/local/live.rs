//! A local Railway that is being served: its gateway, saved after every change before anybody hears of it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tracing::error;

use super::counters::Requests;
use super::error::Error;
use super::gateway::{Gateway, Headers, LocalResponse, unavailable};
use super::keep::{Identity, Keep, State, random_seed};
use super::overview::{self, Around};
use super::ports;
use super::world::{At, Caller, Container, Environment, Host, Id, LogLine, Plan, Rule, Work, World};
use crate::tenancy::CONTROL_SERVICE;

/// A patch of ten services with a proxy each finds its ports without a pause.
const SPARE_PORTS: usize = 32;

pub struct Live {
    gateway: Mutex<Gateway>,
    pub keep: Keep,
    pub identity: Identity,
    /// Tells the keeper of the servers to look again.
    pub changed: Notify,
}

/// What `o7s local status` shows.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub running: bool,
    /// Every server that ought to run does.
    pub ready: bool,
    pub url: String,
    pub data: String,
    pub plan: Plan,
    pub services: Vec<ServiceStatus>,
    pub requests: Requests,
    pub faults: Vec<Rule>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    pub name: String,
    pub project: String,
    pub environment: String,
    /// The newest deployment's, in Railway's words; NONE without one.
    pub state: String,
    /// Why it failed or crashed.
    pub reason: Option<String>,
    /// Of its server on 127.0.0.1.
    pub port: Option<u16>,
    /// The folder of its volume.
    pub volume: Option<String>,
}

impl Live {
    /// The saved world, or an empty workspace. `plan` changes the plan of a saved one; the default is Pro.
    pub fn load(keep: Keep, identity: Identity, plan: Option<Plan>, now: DateTime<Utc>) -> Result<Live, Error> {
        let mut gateway = match keep.load()? {
            Some(State { requests, budget, world }) => {
                let mut gateway = Gateway::new(world);
                (gateway.requests, gateway.budget) = (requests, budget);
                gateway
            }
            None => {
                let mut world = World::new(plan.unwrap_or(Plan::Pro), Host::Machine, random_seed()?, now);
                world.admit(&identity.token, Caller::Account);
                world.reserved_ports.insert(CONTROL_SERVICE.into(), identity.control_port);
                Gateway::new(world)
            }
        };
        gateway.world.plan = plan.unwrap_or(gateway.world.plan);
        let live = Live { gateway: Mutex::new(gateway), keep, identity, changed: Notify::new() };
        live.refill_ports(&mut live.gateway())?;
        live.save()?;
        Ok(live)
    }

    fn gateway(&self) -> MutexGuard<'_, Gateway> {
        // A panic while it was held can leave a request half-done, which Railway itself may also do.
        self.gateway.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One request. A change that cannot be saved is answered as an outage, because a kill would lose it.
    pub fn handle(&self, now: DateTime<Utc>, headers: &Headers, body: &str) -> LocalResponse {
        let mut gateway = self.gateway();
        if let Err(error) = self.refill_ports(&mut gateway) {
            error!(%error, "no spare ports");
        }
        let response = gateway.handle(now, headers, body);
        match self.save_changed(&mut gateway) {
            Ok(()) => response,
            Err(error) => {
                error!(%error, "the state cannot be saved");
                unavailable(&error.to_string())
            }
        }
    }

    /// What the host itself changes.
    pub fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let mut gateway = self.gateway();
        let result = change(&mut gateway.world);
        gateway.changed = true;
        if let Err(error) = self.save_changed(&mut gateway) {
            // The next change tries again; after a kill the keeper finds out about its servers anew.
            error!(%error, "the state cannot be saved");
        }
        result
    }

    /// The servers that ought to run now.
    pub fn containers(&self, now: DateTime<Utc>) -> Vec<Container> {
        let mut gateway = self.gateway();
        let moved = gateway.world.tick(now);
        gateway.changed |= moved;
        if let Err(error) = self.save_changed(&mut gateway) {
            error!(%error, "the state cannot be saved");
        }
        gateway.world.containers()
    }

    fn save_changed(&self, gateway: &mut Gateway) -> Result<(), Error> {
        if !gateway.changed {
            return Ok(());
        }
        self.keep.save(&gateway.requests, &gateway.budget, &gateway.world)?;
        gateway.changed = false;
        self.changed.notify_one();
        Ok(())
    }

    pub fn save(&self) -> Result<(), Error> {
        let gateway = self.gateway();
        self.keep.save(&gateway.requests, &gateway.budget, &gateway.world)
    }

    fn refill_ports(&self, gateway: &mut Gateway) -> Result<(), Error> {
        let world = &mut gateway.world;
        if world.spare_ports.len() >= SPARE_PORTS / 2 {
            return Ok(());
        }
        let mut avoid: BTreeSet<u16> = world.spare_ports.iter().copied().collect();
        avoid.extend([self.identity.port, self.identity.control_port]);
        let instances = world.environments.values().flat_map(|environment| environment.instances.values());
        avoid.extend(instances.filter_map(|instance| instance.port));
        let missing = SPARE_PORTS - world.spare_ports.len();
        world.spare_ports.extend(ports::find(missing, &avoid)?);
        Ok(())
    }

    /// What the world waits for.
    pub fn work(&self) -> Vec<(Id, Work)> {
        self.gateway().world.work()
    }

    /// Lines of logs are no state that has to survive: the files they come from do.
    pub fn logged(&self, deployment: &str, lines: Vec<LogLine>) {
        if !lines.is_empty() {
            self.gateway().world.logged(deployment, lines);
        }
    }

    /// The service sent something. Every second of it is not worth a write of the state.
    pub fn sent(&self, at: &At, when: DateTime<Utc>) {
        self.gateway().world.sent(at, when);
    }

    pub fn has_logs(&self, deployment: &str) -> bool {
        self.gateway().world.has_logs(deployment)
    }

    /// Folders of backups the world knows.
    pub fn backups(&self) -> BTreeSet<PathBuf> {
        self.gateway().world.backups.keys().map(|id| self.keep.backup(id)).collect()
    }

    /// Volumes by their environment, of those in their grave too.
    pub fn volumes(&self) -> BTreeSet<(Id, Id)> {
        let gateway = self.gateway();
        let of = |e: &Environment| e.volume_instances.keys().map(|v| (e.id.clone(), v.clone())).collect::<Vec<_>>();
        gateway.world.environments.values().flat_map(of).collect()
    }

    /// False when too many orders are open.
    pub fn order(&self, rule: Rule) -> bool {
        let ordered = self.gateway().world.faults.order(rule);
        self.changed.notify_one();
        ordered
    }

    pub fn clear_faults(&self) {
        self.gateway().world.faults.clear();
    }

    /// The page for people, of the world as it is by `now`.
    pub fn overview(&self, ready: bool, now: DateTime<Utc>) -> String {
        let mut gateway = self.gateway();
        gateway.changed |= gateway.world.tick(now);
        if let Err(error) = self.save_changed(&mut gateway) {
            error!(%error, "the state cannot be saved");
        }
        let (faults, requests) = (gateway.world.faults.list(), &gateway.requests);
        overview::page(&gateway.world, &Around { requests, faults, ready, url: self.identity.url() }, now)
    }

    pub fn status(&self, ready: bool) -> Status {
        let gateway = self.gateway();
        let faults = gateway.world.faults.list().to_vec();
        let (world, requests) = (&gateway.world, gateway.requests.clone());
        Status { running: true, ready, faults, ..describe(&self.keep, &self.identity, world, requests) }
    }
}

/// The status of a world that is not being served.
pub fn describe(keep: &Keep, identity: &Identity, world: &World, requests: Requests) -> Status {
    let live = world.environments.values().filter(|environment| environment.deleted_at.is_none());
    let mut services: Vec<ServiceStatus> =
        live.flat_map(|environment| services_of(keep, world, environment)).collect();
    services.sort_by(|a, b| (&a.name, &a.project, &a.environment).cmp(&(&b.name, &b.project, &b.environment)));
    Status {
        running: false,
        ready: false,
        url: identity.url(),
        data: keep.dir().display().to_string(),
        plan: world.plan,
        services,
        requests,
        faults: Vec::new(),
    }
}

fn services_of(keep: &Keep, world: &World, environment: &Environment) -> Vec<ServiceStatus> {
    let project = world.projects.get(&environment.project).map_or("", |project| &project.name);
    let describe = |(id, instance): (&Id, &super::world::ServiceInstance)| {
        let latest = instance.latest();
        let volume = environment.mount_of(id).map(|mount| keep.volume(&environment.id, &mount.volume));
        Some(ServiceStatus {
            name: world.services.get(id)?.name.clone(),
            project: project.to_owned(),
            environment: environment.name.clone(),
            state: latest.map_or("NONE", |deployment| deployment.status.as_str()).to_owned(),
            reason: latest.and_then(|deployment| deployment.reason.clone()),
            port: instance.port,
            volume: volume.map(|folder| folder.display().to_string()),
        })
    };
    environment.instances.iter().filter_map(describe).collect()
}
