//! How deployments move: by time, by what the host tells of their containers, by their health check, and on order.

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, Utc};

use super::deployments::POSTGRES_MOUNT;
use super::faults::DeployTrouble;
use super::model::{At, Deployment, Id, STEPS_KEPT, ServiceInstance, Status, Step, VolumeInstance};
use super::{Fault, Host, World};

impl World {
    pub(super) fn walk_deployments(&mut self, environment: &str, now: DateTime<Utc>) -> bool {
        let host = self.host.clone();
        let Some(there) = self.environments.get_mut(environment) else { return false };
        let mut moved = false;
        for instance in there.instances.values_mut() {
            for at in 0..instance.deployments.len() {
                while let Some((status, since, reason)) =
                    next(&instance.deployments[at], &host, &there.volume_instances, now)
                {
                    moved = true;
                    instance.deployments[at].turn(status, since, reason);
                    instance.supersede(at);
                    if status == Status::Success {
                        mark_initialised(&mut there.volume_instances, &instance.deployments[at]);
                    }
                }
            }
        }
        moved
    }

    /// The host started the container of a deployment.
    pub fn container_started(&mut self, deployment: &str, starts: u32, now: DateTime<Utc>) -> bool {
        self.settle(deployment, starts, Status::Success, None, now)
    }

    /// The process of a deployment ended although nobody asked it to, or could not be started.
    pub fn container_exited(&mut self, deployment: &str, starts: u32, reason: String, now: DateTime<Utc>) -> bool {
        self.settle(deployment, starts, Status::Crashed, Some(reason), now)
    }

    fn settle(&mut self, id: &str, starts: u32, to: Status, reason: Option<String>, now: DateTime<Utc>) -> bool {
        let Ok(at) = self.deployment(id) else { return false };
        let Some(there) = self.environments.get_mut(&at.environment) else { return false };
        let Some(instance) = there.instances.get_mut(&at.service) else { return false };
        let Some(index) = instance.deployments.iter().position(|d| d.id == id) else { return false };
        let deployment = &mut instance.deployments[index];
        let unproven = to == Status::Success && deployment.is_unhealthy();
        if !deployment.status.has_container() || deployment.starts != starts || deployment.status == to || unproven {
            return false;
        }
        deployment.turn(to, now, reason);
        instance.supersede(index);
        if to == Status::Success {
            mark_initialised(&mut there.volume_instances, &instance.deployments[index]);
        }
        true
    }

    /// Strikes running database servers as long as orders for a crash are open.
    pub(super) fn crash_on_order(&mut self, now: DateTime<Utc>) -> bool {
        if !self.faults.list().iter().any(|rule| rule.fault == Fault::Crash) {
            return false;
        }
        let mut crashed = false;
        for environment in self.environments.values_mut() {
            for (service, instance) in &mut environment.instances {
                let name = self.services.get(service).map(|service| service.name.as_str());
                let running = |d: &&mut Deployment| d.is_running() && d.is_postgres();
                for deployment in instance.deployments.iter_mut().filter(running) {
                    if self.faults.strike(Fault::Crash, name).is_some() {
                        deployment.turn(Status::Crashed, now, Some("its process was killed on order".into()));
                        crashed = true;
                    }
                }
            }
        }
        crashed
    }

    /// Railway deploys what runs anew, as it does when it moves hosts; asked for by an order.
    pub(super) fn redeploy_on_order(&mut self, now: DateTime<Utc>) -> bool {
        if !self.faults.list().iter().any(|rule| rule.fault == Fault::Redeploy) {
            return false;
        }
        let runs = |instance: &ServiceInstance| instance.deployments.iter().any(Deployment::is_running);
        let live = self.environments.values().filter(|e| e.deleted_at.is_none());
        let running: Vec<At> = live
            .flat_map(|e| e.instances.iter().filter(|(_, i)| runs(i)).map(|(service, _)| e.at(service)))
            .collect();
        let mut moved = false;
        for at in running {
            let name = self.services.get(&at.service).map(|service| service.name.clone());
            if self.faults.strike(Fault::Redeploy, name.as_deref()).is_some() {
                moved |= self.deploy(&at, now).is_ok();
            }
        }
        moved
    }
}

/// The next status of a deployment that is due by `now`, and since when.
fn next(
    deployment: &Deployment,
    host: &Host,
    volumes: &BTreeMap<Id, VolumeInstance>,
    now: DateTime<Utc>,
) -> Option<(Status, DateTime<Utc>, Option<String>)> {
    if deployment.stopped {
        return None;
    }
    let (initializing, deploying) = match host {
        Host::Virtual { initializing_ms, deploying_ms } => (*initializing_ms, Some(*deploying_ms)),
        // Only what runs here keeps this machine's time; the rest has nothing to wait for.
        Host::Machine if deployment.is_postgres() && deployment.trouble.is_none() => (0, None),
        Host::Machine => (0, Some(0)),
    };
    match deployment.status {
        Status::Initializing => {
            let due = deployment.created_at + Duration::milliseconds(initializing);
            let fated = deployment.trouble == Some(DeployTrouble::Fails);
            let status = if fated { Status::Failed } else { Status::Deploying };
            (due <= now).then(|| (status, due, fated.then(|| "the deployment failed on order".into())))
        }
        Status::Deploying => match (deployment.cannot_start(volumes), deployment.unhealthy_from()) {
            (Some(reason), _) => Some((Status::Crashed, deployment.status_at, Some(reason))),
            (None, Some(due)) => {
                let path = deployment.snapshot.healthcheck.as_ref().map_or("", |check| &check.path);
                (due <= now).then(|| (Status::Failed, due, Some(format!("no healthy answer from {path} in time"))))
            }
            (None, None) => {
                let due = deployment.status_at + Duration::milliseconds(deploying?);
                (due <= now).then_some((Status::Success, due, None))
            }
        },
        _ => None,
    }
}

fn mark_initialised(volumes: &mut BTreeMap<Id, VolumeInstance>, deployment: &Deployment) {
    let mount =
        deployment.snapshot.mount.as_ref().filter(|_| deployment.is_postgres() && deployment.trouble.is_none());
    if let Some(volume) = mount.and_then(|mount| volumes.get_mut(&mount.volume)) {
        volume.initialised = true;
    }
}

impl ServiceInstance {
    /// The deployment at `index` moved: those before it give way. One that failed before it started changes nothing,
    /// and one that has to prove its health first lets those before it serve, unless they hold its volume.
    fn supersede(&mut self, index: usize) {
        let newer = &self.deployments[index];
        let (status, since) = (newer.status, newer.status_at);
        let overlaps = newer.snapshot.healthcheck.is_some() && newer.snapshot.mount.is_none();
        for older in &mut self.deployments[..index] {
            match (status, older.status) {
                (Status::Deploying, Status::Initializing | Status::Deploying) => {
                    older.turn(Status::Removed, since, None);
                }
                (Status::Deploying, Status::Success | Status::Sleeping) if overlaps => {}
                (Status::Deploying, Status::Success | Status::Sleeping | Status::Crashed) => {
                    older.turn(Status::Removing, since, None);
                }
                (Status::Success, Status::Success | Status::Sleeping)
                | (Status::Success | Status::Crashed | Status::Failed, Status::Removing) => {
                    older.turn(Status::Removed, since, None);
                }
                _ => {}
            }
        }
    }
}

impl Deployment {
    pub(super) fn turn(&mut self, status: Status, since: DateTime<Utc>, reason: Option<String>) {
        self.status = status;
        self.status_at = since;
        self.reason = reason;
        self.steps.push(Step { status, at: since });
        let surplus = self.steps.len().saturating_sub(STEPS_KEPT);
        self.steps.drain(..surplus);
    }

    /// Its health check cannot succeed: a Postgres speaks no HTTP, and what is fated to be unhealthy answers nothing.
    fn is_unhealthy(&self) -> bool {
        let silent = self.is_postgres() || self.trouble == Some(DeployTrouble::Unhealthy);
        self.snapshot.healthcheck.is_some() && silent
    }

    /// When Railway gives up waiting for it.
    fn unhealthy_from(&self) -> Option<DateTime<Utc>> {
        let check = self.snapshot.healthcheck.as_ref().filter(|_| self.is_unhealthy())?;
        Some(self.status_at + Duration::seconds(i64::try_from(check.timeout_s).unwrap_or(i64::from(u32::MAX))))
    }

    /// Why the image's entry point gives up at once.
    fn cannot_start(&self, volumes: &BTreeMap<Id, VolumeInstance>) -> Option<String> {
        if !self.is_postgres() {
            return None;
        }
        let Some(mount) = self.snapshot.mount.as_ref().filter(|mount| mount.path == POSTGRES_MOUNT) else {
            return Some(format!("no volume is mounted at {POSTGRES_MOUNT}"));
        };
        let initialised = volumes.get(&mount.volume).is_some_and(|volume| volume.initialised);
        let variables = &self.snapshot.variables;
        if variables.get("PGDATA").is_some_and(|folder| !folder.starts_with(POSTGRES_MOUNT)) {
            return Some(format!("PGDATA does not start with {POSTGRES_MOUNT}"));
        }
        let password = variables.get("POSTGRES_PASSWORD").is_some_and(|password| !password.is_empty());
        if !initialised && !password {
            return Some("the data folder is empty and POSTGRES_PASSWORD is not set".into());
        }
        None
    }
}
