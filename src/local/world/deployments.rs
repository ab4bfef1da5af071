//! Deployments walk INITIALIZING, DEPLOYING, then SUCCESS or CRASHED (images are not built). Two of one service never
//! run at once, because a volume cannot be mounted twice. SUCCESS means "the container started", never "healthy".

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::faults::DeployTrouble;
use super::model::{
    At, DEPLOYMENTS_KEPT, Deployment, Environment, Healthcheck, Id, ServiceInstance, Snapshot, Status, Step,
};
use super::{Fault, Refusal, VariableScope, World, blob};

/// Where the Postgres images expect their volume, and refuse to start without it.
pub const POSTGRES_MOUNT: &str = "/var/lib/postgresql/data";

/// A database server that ought to run on this machine now.
#[derive(Clone)]
pub struct Container {
    pub at: At,
    pub deployment: Id,
    /// Another number than the running one's means: stop that, start anew.
    pub starts: u32,
    pub port: u16,
    pub volume: Id,
    pub snapshot: Snapshot,
    pub service_name: String,
    /// Nothing but its address is up: whoever connects there wakes it.
    pub asleep: bool,
}

impl World {
    /// A service without a source has nothing to run.
    pub(super) fn deploy_if_sourced(&mut self, environment: &str, service: &str, now: DateTime<Utc>) -> Option<Id> {
        let there = self.environments.get(environment)?;
        there.service_blob(service)?.pointer("/source/image")?;
        let at = there.at(service);
        self.deploy(&at, now).ok()
    }

    /// Deploys the services whose part of the blob differs from `before`, and those that use changed shared variables.
    pub(super) fn deploy_touched(&mut self, before: &Environment, now: DateTime<Utc>) {
        let Some(after) = self.environments.get(&before.id) else { return };
        let shared_changed = before.config.get("sharedVariables") != after.config.get("sharedVariables");
        let touched = |service: &&Id| {
            let blob = after.service_blob(service);
            let uses_shared =
                || blob.and_then(|b| b.get("variables")).is_some_and(|v| v.to_string().contains("shared."));
            blob != before.service_blob(service) || (shared_changed && uses_shared())
        };
        let touched: Vec<Id> = after.instances.keys().filter(touched).cloned().collect();
        for service in touched {
            self.deploy_if_sourced(&before.id, &service, now);
        }
    }

    pub fn deploy(&mut self, at: &At, now: DateTime<Utc>) -> Result<Id, Refusal> {
        self.ensure_port(at)?;
        let snapshot = self.snapshot(at)?;
        if snapshot.image.is_none() {
            return Err(Refusal::Invalid("Cannot deploy a service without a source".into()));
        }
        let name = self.service(&at.service)?.name.clone();
        let trouble = if self.faults.strike(Fault::DeployFails, Some(&name)).is_some() {
            Some(DeployTrouble::Fails)
        } else {
            self.faults.strike(Fault::Unhealthy, Some(&name)).map(|_| DeployTrouble::Unhealthy)
        };
        let (id, instance_id) = (self.new_id(), self.new_id());
        let deployment = Deployment {
            id: id.clone(),
            instance_id,
            created_at: now,
            status: Status::Initializing,
            status_at: now,
            stopped: false,
            starts: 1,
            trouble,
            reason: None,
            steps: vec![Step { status: Status::Initializing, at: now }],
            snapshot,
        };
        let instance = self.instance_mut(at)?;
        instance.deployments.push(deployment);
        let surplus = instance.deployments.len().saturating_sub(DEPLOYMENTS_KEPT);
        instance.deployments.drain(..surplus);
        Ok(id)
    }

    fn snapshot(&self, at: &At) -> Result<Snapshot, Refusal> {
        let environment = self.environment(&at.environment)?;
        let config = environment.service_blob(&at.service).ok_or(Refusal::NotFound("ServiceInstance"))?;
        let scope = VariableScope { environment: at.environment.clone(), service: Some(at.service.clone()) };
        Ok(Snapshot {
            image: blob::text(config, "/source/image"),
            start_command: blob::text(config, "/deploy/startCommand"),
            variables: self.rendered_variables(&scope, true)?,
            mount: environment.mount_of(&at.service),
            healthcheck: healthcheck(config),
            sleeps: config.pointer("/deploy/sleepApplication").and_then(Value::as_bool).unwrap_or(false),
        })
    }

    /// Brings a stopped or crashed service back; needs something that was deployed before.
    pub fn redeploy(&mut self, at: &At, now: DateTime<Utc>) -> Result<Id, Refusal> {
        if self.instance(at)?.deployments.is_empty() {
            return Err(Refusal::NoSnapshot);
        }
        self.deploy(at, now)
    }

    /// Where the deployment belongs.
    pub fn deployment(&self, id: &str) -> Result<At, Refusal> {
        for environment in self.environments.values().filter(|e| e.deleted_at.is_none()) {
            let holds = |instance: &ServiceInstance| instance.deployments.iter().any(|d| d.id == id);
            if let Some((service, _)) = environment.instances.iter().find(|(_, instance)| holds(instance)) {
                return Ok(environment.at(service));
            }
        }
        Err(Refusal::NotFound("Deployment"))
    }

    fn deployment_mut(&mut self, id: &str) -> Result<&mut Deployment, Refusal> {
        let at = self.deployment(id)?;
        let found = self.instance_mut(&at)?.deployments.iter_mut().find(|d| d.id == id);
        found.ok_or(Refusal::NotFound("Deployment"))
    }

    /// Service, variables and volume stay.
    pub fn stop_deployment(&mut self, id: &str, now: DateTime<Utc>) -> Result<(), Refusal> {
        let deployment = self.deployment_mut(id)?;
        if !deployment.stopped {
            deployment.stopped = true;
            deployment.status_at = now;
        }
        Ok(())
    }

    /// The same deployment, its process anew.
    pub fn restart_deployment(&mut self, id: &str, now: DateTime<Utc>) -> Result<(), Refusal> {
        let deployment = self.deployment_mut(id)?;
        if !matches!(deployment.status, Status::Success | Status::Sleeping | Status::Crashed) {
            return Err(Refusal::Invalid("only an active or crashed deployment can be restarted".into()));
        }
        deployment.starts += 1;
        deployment.stopped = false;
        deployment.turn(Status::Deploying, now, None);
        Ok(())
    }

    /// Servers that ought to run on this machine, at most one a service and environment.
    pub fn containers(&self) -> Vec<Container> {
        let mut all = Vec::new();
        for environment in self.environments.values().filter(|e| e.deleted_at.is_none()) {
            for (service, instance) in &environment.instances {
                let live = |d: &&Deployment| d.status.has_container() && !d.stopped;
                let Some(deployment) = instance.deployments.iter().rev().find(live) else { continue };
                let wanted = deployment.is_postgres() && deployment.trouble.is_none();
                let (Some(mount), Some(port), true) = (&deployment.snapshot.mount, instance.port, wanted) else {
                    continue;
                };
                all.push(Container {
                    at: environment.at(service),
                    deployment: deployment.id.clone(),
                    starts: deployment.starts,
                    port,
                    volume: mount.volume.clone(),
                    snapshot: deployment.snapshot.clone(),
                    asleep: deployment.status == Status::Sleeping,
                    service_name: self.services.get(service).map_or_else(String::new, |s| s.name.clone()),
                });
            }
        }
        all
    }

    /// Whether a Postgres answers behind this service.
    pub fn is_listening(&self, at: &At) -> bool {
        let running = |d: &Deployment| d.is_running() && d.is_postgres() && d.trouble.is_none();
        self.instance(at).is_ok_and(|instance| instance.deployments.iter().any(running))
    }
}

/// Railway waits this long for the first good answer unless told otherwise.
const HEALTHCHECK_S: u64 = 300;

fn healthcheck(config: &Value) -> Option<Healthcheck> {
    let path = blob::text(config, "/deploy/healthcheckPath").filter(|path| !path.is_empty())?;
    let timeout_s = config.pointer("/deploy/healthcheckTimeout").and_then(Value::as_u64).unwrap_or(HEALTHCHECK_S);
    Some(Healthcheck { path, timeout_s })
}

impl Environment {
    pub(super) fn newest_deployment_since(&self, since: DateTime<Utc>) -> Option<Id> {
        let all = self.instances.values().flat_map(|instance| &instance.deployments);
        let newest = all.filter(|deployment| deployment.created_at >= since).max_by_key(|d| d.created_at)?;
        Some(newest.id.clone())
    }
}

impl ServiceInstance {
    /// The newest deployment; a removed one does not count, so "torn down" reads like "never deployed".
    pub fn latest(&self) -> Option<&Deployment> {
        self.deployments.last().filter(|deployment| deployment.status != Status::Removed)
    }
}

impl Deployment {
    pub fn is_running(&self) -> bool {
        self.status == Status::Success && !self.stopped
    }

    /// By the image's own name: `ghcr.io/railwayapp-templates/postgres-ssl:17`, `postgres:16`.
    pub fn is_postgres(&self) -> bool {
        let image = self.snapshot.image.as_deref().unwrap_or_default();
        image.rsplit('/').next().is_some_and(|name| name.contains("postgres"))
    }

    /// `DeploymentInstanceStatus`.
    pub fn container_status(&self) -> &'static str {
        match self.status {
            Status::Initializing => "CREATED",
            Status::Deploying if self.starts > 1 => "RESTARTING",
            Status::Deploying => "INITIALIZING",
            Status::Success if self.stopped => "STOPPED",
            Status::Success => "RUNNING",
            Status::Sleeping => "STOPPED",
            Status::Failed => "SKIPPED",
            Status::Crashed => "CRASHED",
            Status::Removing => "REMOVING",
            Status::Removed => "REMOVED",
        }
    }
}
