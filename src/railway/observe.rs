//! Reads one project and environment to the last page and translates it into the plan's words at once: behind this file
//! no variable has a text any more, only what it was recognised as.

use serde_json::Value;

use super::client::Client;
use super::config::{read_adopted, read_owner, read_service};
use super::documents::{PollConfigEtag, ReadLiveState, poll_config_etag, read_live_state as page};
use super::error::Error;
use super::limits::plan_limits;
use crate::manifest::RailwayPlan;
use crate::plan::{Deployment, Ownership, RailwayLive, ServiceLive, VolumeLive};
use crate::tenancy::{EnvironmentId, FleetUid, Keyring, ProjectId, ServiceId, VolumeId};

/// Of 500 services each.
const PAGES_MAX: usize = 100;
const OPERATION: &str = page::OPERATION_NAME;

type Service = page::ReadLiveStateProjectServicesEdgesNode;
type Instance = page::ReadLiveStateEnvironmentServiceInstancesEdgesNode;
type LatestDeployment = page::ReadLiveStateEnvironmentServiceInstancesEdgesNodeLatestDeployment;
type Volume = page::ReadLiveStateEnvironmentVolumeInstancesEdgesNode;

impl Client {
    /// Complete, or an error: one request for a project of up to 500 services.
    pub async fn read_live(
        &self,
        project: &ProjectId,
        environment: &EnvironmentId,
        keyring: &Keyring,
        fleet: &FleetUid,
    ) -> Result<RailwayLive, Error> {
        let mut cursors = Cursors::default();
        let mut whole = self.read_page(project, environment, &cursors).await?;
        let mut more = cursors.advance(&whole)?;
        for _ in 1..PAGES_MAX {
            if !more {
                return translate(whole, project, environment, keyring, fleet);
            }
            let next = self.read_page(project, environment, &cursors).await?;
            more = cursors.advance(&next)?;
            append(&mut whole, next)?;
        }
        Err(incomplete(format!("no end after {PAGES_MAX} pages")))
    }

    /// Changes with any change of the configuration, and costs Railway next to nothing.
    pub async fn poll_etag(&self, environment: &EnvironmentId) -> Result<String, Error> {
        let variables = poll_config_etag::Variables { environment_id: environment.to_string() };
        Ok(self.read::<PollConfigEtag>(variables).await?.environment.config_etag)
    }

    async fn read_page(
        &self,
        project: &ProjectId,
        environment: &EnvironmentId,
        cursors: &Cursors,
    ) -> Result<page::ResponseData, Error> {
        let variables = page::Variables {
            project_id: project.to_string(),
            environment_id: environment.to_string(),
            services_after: cursors.services.clone(),
            instances_after: cursors.instances.clone(),
            volumes_after: cursors.volumes.clone(),
        };
        self.read::<ReadLiveState>(variables).await
    }
}

/// Where each list goes on.
#[derive(Default)]
struct Cursors {
    services: Option<String>,
    instances: Option<String>,
    volumes: Option<String>,
}

impl Cursors {
    /// True when a list has a further page.
    fn advance(&mut self, page: &page::ResponseData) -> Result<bool, Error> {
        let services = &page.project.services.page_info;
        let instances = &page.environment.service_instances.page_info;
        let volumes = &page.environment.volume_instances.page_info;
        let more = [
            step(&mut self.services, services.has_next_page, services.end_cursor.as_ref())?,
            step(&mut self.instances, instances.has_next_page, instances.end_cursor.as_ref())?,
            step(&mut self.volumes, volumes.has_next_page, volumes.end_cursor.as_ref())?,
        ];
        Ok(more.contains(&true))
    }
}

fn step(cursor: &mut Option<String>, more: bool, end: Option<&String>) -> Result<bool, Error> {
    if more && (end.is_none() || end == cursor.as_ref()) {
        return Err(incomplete("a list says it goes on, and not where".into()));
    }
    if let Some(end) = end {
        *cursor = Some(end.clone());
    }
    Ok(more)
}

fn append(whole: &mut page::ResponseData, next: page::ResponseData) -> Result<(), Error> {
    if whole.environment.config_etag != next.environment.config_etag {
        return Err(incomplete("the configuration changed between two pages".into()));
    }
    whole.project.services.edges.extend(next.project.services.edges);
    whole.environment.service_instances.edges.extend(next.environment.service_instances.edges);
    whole.environment.volume_instances.edges.extend(next.environment.volume_instances.edges);
    Ok(())
}

fn translate(
    page: page::ResponseData,
    project: &ProjectId,
    environment: &EnvironmentId,
    keyring: &Keyring,
    fleet: &FleetUid,
) -> Result<RailwayLive, Error> {
    if page.project.deleted_at.is_some() || page.environment.deleted_at.is_some() {
        return Err(incomplete("the project or environment has just been deleted".into()));
    }
    let plan = railway_plan(page.project.subscription_type);
    let volumes = volumes(page.environment.volume_instances.edges.into_iter().map(|edge| edge.node))?;
    let instances: Vec<Instance> =
        page.environment.service_instances.edges.into_iter().map(|edge| edge.node).collect();
    let config = page.environment.config;
    let mut services = Vec::new();
    for service in page.project.services.edges.into_iter().map(|edge| edge.node) {
        let entry = config.get("services").and_then(|all| all.get(&service.id)).filter(|entry| entry.is_object());
        if service.deleted_at.is_some() || entry.is_some_and(is_deleted) {
            continue;
        }
        let instance = instances.iter().find(|instance| instance.service_id == service.id);
        services.push(service_live(service, entry, instance, &volumes, (keyring, fleet))?);
    }
    services.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    Ok(RailwayLive {
        project: project.clone(),
        project_name: page.project.name,
        environment: environment.clone(),
        environment_name: page.environment.name,
        plan,
        limits: plan_limits(plan),
        config_etag: page.environment.config_etag,
        staged_changes: page.environment.unmerged_changes_count.unwrap_or(0).try_into().unwrap_or(0),
        services,
        volumes,
    })
}

fn is_deleted(entry: &Value) -> bool {
    entry.get("isDeleted").and_then(Value::as_bool).unwrap_or(false)
}

fn service_live(
    service: Service,
    entry: Option<&Value>,
    instance: Option<&Instance>,
    volumes: &[VolumeLive],
    (keyring, fleet): (&Keyring, &FleetUid),
) -> Result<ServiceLive, Error> {
    let id = ServiceId::parse(&service.id).map_err(|_| incomplete("a service without an id".into()))?;
    let owner = match entry.map(|entry| read_owner(entry, fleet, &service.name, &id)) {
        None => Ownership::Unknown,
        Some(Ok(owner)) => owner,
        Some(Err(_masked)) => return Err(incomplete("this token may not read the variables' values".into())),
    };
    let mut config = entry.map(|entry| read_service(entry, &service.name, keyring));
    if let Some(config) = &mut config {
        // A volume that was made for a service is mounted, whether the configuration repeats it or not.
        let attached = |volume: &&VolumeLive| volume.service.as_ref() == Some(&id);
        let mut attached = volumes.iter().filter(attached).filter(|v| v.mount_path == super::POSTGRES_MOUNT);
        // What somebody else starts may hold a secret, and is nothing to us.
        config.start_command = config.start_command.take().filter(|_| owner != Ownership::Foreign);
        config.mounted_volume = config.mounted_volume.take().or_else(|| attached.next().map(|v| v.id.clone()));
    }
    let latest = instance.and_then(|instance| instance.latest_deployment.as_ref());
    let deployment = latest.map_or(Deployment::None, deployment);
    let deployment_id = latest.map(|latest| latest.id.clone());
    let (name, created_at) = (service.name, service.created_at);
    let adopted = owner == Ownership::Ours && entry.is_some_and(read_adopted);
    Ok(ServiceLive { id, name, created_at, owner, adopted, config, deployment, deployment_id })
}

fn deployment(latest: &LatestDeployment) -> Deployment {
    use page::DeploymentStatus as Status;
    match &latest.status {
        Status::SUCCESS => running(latest),
        Status::SLEEPING => Deployment::Sleeping,
        // The newest one is on its way out: it was torn down, not replaced.
        Status::REMOVED | Status::REMOVING => Deployment::None,
        Status::FAILED => failed("FAILED"),
        Status::CRASHED => failed("CRASHED"),
        Status::SKIPPED => failed("SKIPPED"),
        Status::INITIALIZING => pending("INITIALIZING"),
        Status::QUEUED => pending("QUEUED"),
        Status::WAITING => pending("WAITING"),
        Status::NEEDS_APPROVAL => pending("NEEDS_APPROVAL"),
        Status::BUILDING => pending("BUILDING"),
        Status::DEPLOYING => pending("DEPLOYING"),
        Status::Other(status) => pending(status),
    }
}

/// SUCCESS says that a container was started; only its instance says that it still runs.
fn running(latest: &LatestDeployment) -> Deployment {
    use page::DeploymentInstanceStatus as Status;
    let statuses = || latest.instances.iter().map(|instance| &instance.status);
    if statuses().any(|status| matches!(status, Status::RUNNING)) {
        return Deployment::Running;
    }
    let ended = |status: &&Status| {
        matches!(status, Status::CRASHED | Status::EXITED | Status::STOPPED | Status::REMOVED | Status::REMOVING)
    };
    if latest.deployment_stopped {
        failed("STOPPED")
    } else if latest.instances.is_empty() || !statuses().all(|status| ended(&status)) {
        pending("SUCCESS")
    } else if statuses().any(|status| matches!(status, Status::CRASHED)) {
        failed("CRASHED")
    } else {
        failed("EXITED")
    }
}

fn pending(status: &str) -> Deployment {
    Deployment::Pending { status: status.to_owned() }
}

fn failed(status: &str) -> Deployment {
    Deployment::Failed { status: status.to_owned() }
}

/// Without those that are going: their data cannot be had back by an API call.
fn volumes(nodes: impl Iterator<Item = Volume>) -> Result<Vec<VolumeLive>, Error> {
    let mut volumes = Vec::new();
    for node in nodes {
        let going = matches!(node.state, Some(page::VolumeState::DELETING | page::VolumeState::DELETED));
        if going || node.is_pending_deletion || node.deleted_at.is_some() {
            continue;
        }
        volumes.push(VolumeLive {
            id: VolumeId::parse(&node.volume_id).map_err(|_| incomplete("a volume without an id".into()))?,
            service: node.service_id.as_deref().and_then(|id| ServiceId::parse(id).ok()),
            mount_path: node.mount_path,
            size_mib: node.size_mb.try_into().unwrap_or(0),
            used_mib: node.current_size_mb.max(0.0).ceil() as u64,
        });
    }
    volumes.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(volumes)
}

fn railway_plan(plan: page::SubscriptionPlanType) -> RailwayPlan {
    use page::SubscriptionPlanType as Plan;
    match plan {
        Plan::free => RailwayPlan::Free,
        Plan::trial => RailwayPlan::Trial,
        Plan::hobby => RailwayPlan::Hobby,
        Plan::pro => RailwayPlan::Pro,
        Plan::Other(name) if name == "enterprise" => RailwayPlan::Enterprise,
        Plan::Other(name) => {
            // Refusing too much before the first mutation is better than failing in the middle.
            tracing::warn!(plan = name, "unknown Railway plan: its limits are taken to be Hobby's");
            RailwayPlan::Hobby
        }
    }
}

fn incomplete(what: String) -> Error {
    Error::Incomplete { operation: OPERATION, what }
}
