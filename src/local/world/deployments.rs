//! Deployments walk INITIALIZING, DEPLOYING, then SUCCESS or CRASHED (images are not built). Two of one service never
//! run at once, because a volume cannot be mounted twice. SUCCESS means "the container started", never "healthy".

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, Utc};
use serde_json::Value;

use super::faults::DeployTrouble;
use super::model::{
    At, DEPLOYMENTS_KEPT, Deployment, Environment, Id, ServiceInstance, Snapshot, Status, TcpProxy, VolumeInstance,
};
use super::{Fault, Host, Refusal, VariableScope, World, blob};

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
        if !matches!(deployment.status, Status::Success | Status::Crashed) {
            return Err(Refusal::Invalid("only an active or crashed deployment can be restarted".into()));
        }
        deployment.starts += 1;
        deployment.stopped = false;
        deployment.turn(Status::Deploying, now, None);
        Ok(())
    }

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

    /// Servers that ought to run on this machine, at most one a service and environment.
    pub fn containers(&self) -> Vec<Container> {
        let mut all = Vec::new();
        for environment in self.environments.values().filter(|e| e.deleted_at.is_none()) {
            for (service, instance) in &environment.instances {
                let live = |d: &&Deployment| matches!(d.status, Status::Deploying | Status::Success) && !d.stopped;
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
        let live = matches!(deployment.status, Status::Deploying | Status::Success);
        if !live || deployment.starts != starts || deployment.status == to {
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

    /// TCP proxies follow the blob; a removed one loses its id, a new one keeps the service's port.
    pub(super) fn follow_proxies(&mut self, environment: &str, now: DateTime<Utc>) {
        let Some(there) = self.environments.get(environment) else { return };
        let wanted: Vec<(At, Vec<u16>)> =
            there.instances.keys().map(|service| (there.at(service), there.proxied_ports(service))).collect();
        for (at, ports) in wanted {
            let Ok(instance) = self.instance_mut(&at) else { continue };
            instance.proxies.retain(|port, _| ports.contains(port));
            let missing: Vec<u16> = ports.into_iter().filter(|port| !instance.proxies.contains_key(port)).collect();
            for port in missing {
                let proxy = TcpProxy { id: self.new_id(), created_at: now };
                if let Ok(instance) = self.instance_mut(&at) {
                    instance.proxies.insert(port, proxy);
                }
                // Without a spare port the proxy stays CREATING until the host brings more.
                drop(self.ensure_port(&at));
            }
        }
    }

    /// One port a service and environment, for its whole life: its proxy's, and on this machine its server's own.
    pub fn ensure_port(&mut self, at: &At) -> Result<(), Refusal> {
        if self.instance(at)?.port.is_some() {
            return Ok(());
        }
        let name = &self.service(&at.service)?.name;
        let in_use = |port: u16| {
            self.environments.values().flat_map(|e| e.instances.values()).any(|instance| instance.port == Some(port))
        };
        let reserved = self.reserved_ports.get(name).copied().filter(|port| !in_use(*port));
        let port = match (reserved, &self.host) {
            (Some(port), _) => Some(port),
            (None, Host::Machine) => self.spare_ports.pop(),
            (None, Host::Virtual { .. }) => {
                let port = 10_000 + (self.chance() % 50_000);
                u16::try_from(port).ok()
            }
        };
        self.instance_mut(at)?.port = port;
        Ok(())
    }

    /// The host found the port of a service taken by somebody else before it was ever used.
    pub fn change_port(&mut self, at: &At) -> Option<u16> {
        let instance = self.instance_mut(at).ok()?;
        let taken = instance.port.take();
        // One that is reserved by name comes back: others were promised it.
        drop(self.ensure_port(at));
        let port = self.instance(at).ok()?.port;
        port.or(taken)
    }

    pub fn proxy_domain(&self, proxy: &TcpProxy) -> String {
        const WORDS: [&str; 8] =
            ["acela", "ballast", "caboose", "gondola", "hopper", "interchange", "trolley", "viaduct"];
        match self.host {
            Host::Machine => "127.0.0.1".into(),
            Host::Virtual { .. } => {
                let at = proxy.id.bytes().map(usize::from).sum::<usize>() % WORDS.len();
                format!("{}.proxy.rlwy.net", WORDS[at])
            }
        }
    }
}

impl Environment {
    fn proxied_ports(&self, service: &str) -> Vec<u16> {
        let proxies = self.service_blob(service).and_then(|blob| blob.pointer("/networking/tcpProxies"));
        let ports = proxies.and_then(Value::as_object).into_iter().flatten();
        ports.filter_map(|(port, _)| port.parse().ok()).collect()
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
        Status::Deploying => match deployment.cannot_start(volumes) {
            Some(reason) => Some((Status::Crashed, deployment.status_at, Some(reason))),
            None => {
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
    /// The newest deployment; a removed one does not count, so "torn down" reads like "never deployed".
    pub fn latest(&self) -> Option<&Deployment> {
        self.deployments.last().filter(|deployment| deployment.status != Status::Removed)
    }

    /// The deployment at `index` moved: those before it give way. One that failed before it started changes nothing.
    fn supersede(&mut self, index: usize) {
        let (status, since) = (self.deployments[index].status, self.deployments[index].status_at);
        for older in &mut self.deployments[..index] {
            match (status, older.status) {
                (Status::Deploying, Status::Initializing | Status::Deploying) => {
                    older.turn(Status::Removed, since, None);
                }
                (Status::Deploying, Status::Success | Status::Crashed) => older.turn(Status::Removing, since, None),
                (Status::Success | Status::Crashed, Status::Removing) => older.turn(Status::Removed, since, None),
                _ => {}
            }
        }
    }
}

impl Deployment {
    fn turn(&mut self, status: Status, since: DateTime<Utc>, reason: Option<String>) {
        self.status = status;
        self.status_at = since;
        self.reason = reason;
    }

    pub fn is_running(&self) -> bool {
        self.status == Status::Success && !self.stopped
    }

    /// By the image's own name: `ghcr.io/railwayapp-templates/postgres-ssl:17`, `postgres:16`.
    pub fn is_postgres(&self) -> bool {
        let image = self.snapshot.image.as_deref().unwrap_or_default();
        image.rsplit('/').next().is_some_and(|name| name.contains("postgres"))
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

    /// `DeploymentInstanceStatus`.
    pub fn container_status(&self) -> &'static str {
        match self.status {
            Status::Initializing => "CREATED",
            Status::Deploying if self.starts > 1 => "RESTARTING",
            Status::Deploying => "INITIALIZING",
            Status::Success if self.stopped => "STOPPED",
            Status::Success => "RUNNING",
            Status::Failed => "SKIPPED",
            Status::Crashed => "CRASHED",
            Status::Removing => "REMOVING",
            Status::Removed => "REMOVED",
        }
    }
}
