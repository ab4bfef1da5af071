//! One pure state machine: a Railway workspace. No I/O, no clock, no ambient randomness: time is an argument, chance is
//! a seed kept in the state, so that a run can be repeated.
//!
//! It always masks variables, keeps plan limits, names unique and one volume a service; trouble comes only on order.
//! Read: model, plan, blob, projects, services, volumes, variables, patch, change_set, applies, deployments, walk, events,
//! sleep, proxies, faults, then the rest.

mod applies;
mod backups;
mod blob;
mod change_set;
mod deployments;
mod events;
mod faults;
mod instance_limits;
mod logs;
mod model;
mod notifications;
mod patch;
mod plan;
mod postgres_service;
mod projects;
mod proxies;
mod services;
mod sleep;
mod variables;
mod volumes;
mod walk;
mod workflows;

#[cfg(test)]
mod behaviour_tests;
#[cfg(test)]
mod change_set_tests;
#[cfg(test)]
mod laws_tests;
#[cfg(test)]
mod rules_tests;

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};

use super::error::Refusal;

pub use applies::{Apply, NewApply};
pub use backups::{Backup, Schedule, ScheduleKind, VolumePlace};
pub use blob::{masked, replicas};
pub use deployments::Container;
pub use faults::{DeployTrouble, Fault, Faults, Late, RULES_MAX, Rule};
pub use logs::{LogFilter, LogLine, Logs};
pub use model::{
    At, Caller, DEFAULT_REGION, Deployment, Environment, Id, Mount, Patch, Project, Service, ServiceInstance,
    Snapshot, Status, Step, TcpProxy, Token, Volume, VolumeInstance,
};
pub use notifications::{Channel, NewNotificationRule, NotificationRule};
pub use plan::{Allowance, Plan};
pub use projects::{NewEnvironment, NewProject};
pub use proxies::id_beside;
pub use services::NewService;
pub use variables::VariableScope;
pub use volumes::{NewVolume, Placement};
pub use workflows::{Work, Workflow, WorkflowState};

/// Names Railway's user and workspace have here.
pub const USER_NAME: &str = "local";
pub const USER_EMAIL: &str = "local@localhost";
pub const WORKSPACE_NAME: &str = "local";

/// The longest that new objects stay out of sight while lists lag (over 28 s was seen on the live service).
const LAG_MS_MAX: u64 = 30_000;

/// Who brings containers up, and where proxies answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "host", rename_all = "lowercase")]
pub enum Host {
    /// Nobody: time alone takes a deployment to SUCCESS, and proxy ports are invented.
    Virtual { initializing_ms: i64, deploying_ms: i64 },
    /// This machine: [`World::container_started`] and [`World::container_exited`] tell how a deployment went.
    Machine,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct World {
    pub plan: Plan,
    pub host: Host,
    pub user: Id,
    pub workspace: Id,
    pub made_at: DateTime<Utc>,
    /// State of the generator behind ids, invented names and lags.
    chance: u64,
    pub tokens: Vec<Token>,
    pub projects: BTreeMap<Id, Project>,
    pub environments: BTreeMap<Id, Environment>,
    pub services: BTreeMap<Id, Service>,
    pub volumes: BTreeMap<Id, Volume>,
    #[serde(default)]
    pub backups: BTreeMap<Id, Backup>,
    /// Oldest first.
    #[serde(default)]
    pub workflows: Vec<Workflow>,
    #[serde(default)]
    pub notification_rules: Vec<NotificationRule>,
    /// Ports kept for services that do not exist yet, by name.
    pub reserved_ports: BTreeMap<String, u16>,
    /// Free ports the host has found; it brings more as they are used.
    #[serde(skip)]
    pub spare_ports: Vec<u16>,
    /// Shared, because a preview works on a copy of the world.
    #[serde(skip)]
    pub logs: std::sync::Arc<Logs>,
    #[serde(skip)]
    pub faults: Faults,
}

impl World {
    pub fn new(plan: Plan, host: Host, seed: u64, now: DateTime<Utc>) -> World {
        let mut world = World {
            plan,
            host,
            user: Id::new(),
            workspace: Id::new(),
            made_at: now,
            chance: seed,
            tokens: Vec::new(),
            projects: BTreeMap::new(),
            environments: BTreeMap::new(),
            services: BTreeMap::new(),
            volumes: BTreeMap::new(),
            backups: BTreeMap::new(),
            workflows: Vec::new(),
            notification_rules: Vec::new(),
            reserved_ports: BTreeMap::new(),
            spare_ports: Vec::new(),
            logs: Default::default(),
            faults: Faults::default(),
        };
        world.user = world.new_id();
        world.workspace = world.new_id();
        world
    }

    /// SplitMix64: small, seedable, and the same everywhere.
    fn chance(&mut self) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.chance;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn new_id(&mut self) -> Id {
        let bytes = (u128::from(self.chance()) << 64) | u128::from(self.chance());
        uuid::Builder::from_random_bytes(bytes.to_be_bytes()).into_uuid().to_string()
    }

    /// When an object made now can be seen: at once, unless lists lag.
    fn seen_from(&mut self, object: Late, now: DateTime<Utc>) -> DateTime<Utc> {
        match self.faults.strike_late(object) {
            None => now,
            Some(rule) => {
                let late = rule.late_ms.map_or_else(|| self.chance() % (LAG_MS_MAX + 1), u64::from);
                now + Duration::milliseconds(i64::try_from(late).unwrap_or(0))
            }
        }
    }

    /// A password as Railway's own generator makes them, from the seed.
    fn letters(&mut self, count: usize) -> String {
        const LETTERS: &[u8; 52] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let letter = |chance: u64| char::from(LETTERS[usize::try_from(chance % 52).unwrap_or(0)]);
        (0..count).map(|_| letter(self.chance())).collect()
    }

    /// One of `words`, by chance.
    fn pick<'w>(&mut self, words: &[&'w str]) -> &'w str {
        words[usize::try_from(self.chance() % words.len() as u64).unwrap_or(0)]
    }

    pub fn project(&self, id: &str) -> Result<&Project, Refusal> {
        not_empty(id)?;
        live(self.projects.get(id), |project| project.deleted_at, "Project")
    }

    pub fn environment(&self, id: &str) -> Result<&Environment, Refusal> {
        not_empty(id)?;
        live(self.environments.get(id), |environment| environment.deleted_at, "Environment")
    }

    pub(super) fn environment_mut(&mut self, id: &str) -> Result<&mut Environment, Refusal> {
        self.environment(id)?;
        self.environments.get_mut(id).ok_or(Refusal::NotFound("Environment"))
    }

    pub fn service(&self, id: &str) -> Result<&Service, Refusal> {
        not_empty(id)?;
        live(self.services.get(id), |service| service.deleted_at, "Service")
    }

    pub fn volume(&self, id: &str) -> Result<&Volume, Refusal> {
        self.volumes.get(id).ok_or(Refusal::NotFound("Volume"))
    }

    pub fn instance(&self, at: &At) -> Result<&ServiceInstance, Refusal> {
        let environment = self.environment(&at.environment)?;
        environment.instances.get(&at.service).ok_or(Refusal::NotFound("ServiceInstance"))
    }

    fn instance_mut(&mut self, at: &At) -> Result<&mut ServiceInstance, Refusal> {
        let environment = self.environment_mut(&at.environment)?;
        environment.instances.get_mut(&at.service).ok_or(Refusal::NotFound("ServiceInstance"))
    }

    /// Environments of a project that are not deleted, oldest first.
    pub fn environments_of(&self, project: &str) -> Vec<&Environment> {
        let mine = |e: &&Environment| e.project == project && e.deleted_at.is_none();
        let mut found: Vec<&Environment> = self.environments.values().filter(mine).collect();
        found.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        found
    }

    /// Services of a project that are not deleted; seen or not.
    pub fn services_of(&self, project: &str) -> impl Iterator<Item = &Service> {
        self.services.values().filter(move |service| service.project == project && service.deleted_at.is_none())
    }

    /// Where a write of `environment` reaches: a fork alone, else all environments that are no forks.
    fn reach(&self, project: &str, environment: Option<&str>) -> Result<Vec<Id>, Refusal> {
        if let Some(id) = environment {
            let named = self.environment(id)?;
            if named.project != project {
                return Err(Refusal::NotFound("Environment"));
            }
            if named.fork_of.is_some() {
                return Ok(vec![named.id.clone()]);
            }
        }
        let all = self.environments_of(project).into_iter();
        Ok(all.filter(|e| e.fork_of.is_none()).map(|e| e.id.clone()).collect())
    }

    /// Lets time pass: deployments walk on, graves close.
    pub fn tick(&mut self, now: DateTime<Utc>) -> bool {
        let mut moved = false;
        let ids: Vec<Id> = self.environments.keys().cloned().collect();
        for id in ids {
            moved |= self.finish_applies(&id, now);
            moved |= self.walk_deployments(&id, now);
            moved |= self.fall_asleep(&id, now);
            moved |= self.drop_proxies(&id, now);
            moved |= self.close_graves(&id, now);
        }
        moved |= self.work_by_time(now) | self.keep_backups(now);
        self.crash_on_order(now) | self.redeploy_on_order(now) | moved
    }
}

/// An empty id, usually from an empty variable of a client, is "Not Authorized" and not "not found".
fn not_empty(id: &str) -> Result<(), Refusal> {
    if id.is_empty() { Err(Refusal::NotAuthorized) } else { Ok(()) }
}

/// An unknown id is "not found"; one that existed is "Not Authorized", as Railway answers for deleted objects.
fn live<'w, T>(
    found: Option<&'w T>,
    deleted_at: impl Fn(&T) -> Option<DateTime<Utc>>,
    kind: &'static str,
) -> Result<&'w T, Refusal> {
    match found {
        None => Err(Refusal::NotFound(kind)),
        Some(object) if deleted_at(object).is_some() => Err(Refusal::Gone),
        Some(object) => Ok(object),
    }
}
