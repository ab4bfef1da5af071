//! Takes a token to a running control database: project, environment, service `o7s-control`, schema. Every part is
//! looked for before it is made, so it repeats harmlessly.

use chrono::{DateTime, Utc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::error::Error;
use super::find::choose;
use super::ready::bring_up;
use super::services;
use super::tell::Tell;
use super::world::{Door, Memory, Timing};
use crate::manifest::Fleet;
use crate::plan::{InstanceRecord, Ownership, RailwayLive, control_step};
use crate::railway::Client;
use crate::tenancy::{
    CONTROL_SERVICE, Credential, Endpoint, EnvironmentId, InstanceName, Keyring, ProjectId, Secret,
};

/// Where the control database is, and what had to be made for it.
#[derive(Debug)]
pub struct Bootstrapped {
    pub project: ProjectId,
    pub environment: EnvironmentId,
    pub endpoint: Endpoint,
    pub made: Vec<String>,
    /// Instances of this fleet were there before: the control database is rebuilt from their marks by the next run.
    pub has_instances: bool,
}

/// What bootstrap works with before there is an environment.
pub struct Ground<'a> {
    pub railway: &'a Client,
    pub keys: &'a Keyring,
    pub stop: &'a CancellationToken,
    pub progress: &'a dyn Fn(Tell<'_>),
    pub clock: &'a dyn Fn() -> DateTime<Utc>,
    pub timing: Timing,
}

/// There is no control database yet that could remember anything.
struct Nowhere;

impl Memory for Nowhere {
    async fn save_instance(&self, _name: &str, _record: &InstanceRecord) -> Result<(), Error> {
        Ok(())
    }
}

pub async fn bootstrap(ground: &Ground<'_>, fleet: &Fleet) -> Result<Bootstrapped, Error> {
    let since = Instant::now();
    let mut made = Vec::new();
    let (project, environment, is_new) = find_or_make(ground, fleet, &mut made).await?;
    let door = Door {
        railway: ground.railway,
        project,
        environment,
        keys: ground.keys,
        fleet: ground.keys.fleet_uid(&fleet.name),
        stop: ground.stop,
        leading: None,
        progress: ground.progress,
        clock: ground.clock,
        timing: ground.timing,
        run: uuid::Uuid::nil(),
        inside: false,
    };
    // A project that was made a moment ago holds nothing.
    let live = if is_new { None } else { Some(services::read(&door).await?) };
    let service = live.as_ref().and_then(|live| live.service(CONTROL_SERVICE));
    if service.is_some_and(|service| matches!(service.owner, Ownership::Foreign | Ownership::Newer)) {
        return Err(Error::ForeignControl { name: CONTROL_SERVICE.to_owned() });
    }
    if service.is_none() {
        made.push(format!("service {CONTROL_SERVICE}"));
    }
    let step = control_step(live.as_ref(), (ground.clock)());
    let brought = bring_up(&door, &Nowhere, vec![(step, None)], (since, None)).await?;
    let endpoint = match brought.into_values().next() {
        Some(Ok(endpoint)) => endpoint,
        Some(Err(failure)) => return Err(Error::ControlFailed { reason: failure.message, help: failure.help }),
        None => return Err(Error::ControlFailed { reason: "nothing was made".into(), help: "run again".into() }),
    };
    let has_instances = live.as_ref().is_some_and(holds_instances);
    Ok(Bootstrapped { project: door.project, environment: door.environment, endpoint, made, has_instances })
}

fn holds_instances(live: &RailwayLive) -> bool {
    let ours = |owner| matches!(owner, Ownership::Ours | Ownership::OursUnconfigured | Ownership::Unknown);
    live.services.iter().any(|service| InstanceName::parse(&service.name).is_ok() && ours(service.owner))
}

async fn find_or_make(
    ground: &Ground<'_>,
    fleet: &Fleet,
    made: &mut Vec<String>,
) -> Result<(ProjectId, EnvironmentId, bool), Error> {
    let found = ground.railway.find(&fleet.project, &fleet.environment).await?;
    let Some((project, environment)) = choose(&found.projects, fleet)? else {
        let workspace = match (&found.workspace, found.workspaces.len()) {
            (Some((id, _)), _) => Some(id.as_str()),
            (None, 0) => None,
            (None, count) => {
                let names = found.workspaces.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(", ");
                return Err(Error::WhichWorkspace { project: fleet.project.clone(), count, names });
            }
        };
        stop_here(ground)?;
        made.push(format!("project {} with environment {}", fleet.project, fleet.environment));
        let ids = ground.railway.create_project(&fleet.project, &fleet.environment, workspace).await?;
        return Ok((ids.0, ids.1, true));
    };
    if let Some(environment) = environment {
        return Ok((project, environment, false));
    }
    stop_here(ground)?;
    made.push(format!("environment {}", fleet.environment));
    let environment = ground.railway.create_environment(&project, &fleet.environment).await?;
    Ok((project, environment, false))
}

fn stop_here(ground: &Ground<'_>) -> Result<(), Error> {
    if ground.stop.is_cancelled() { Err(Error::Stopped) } else { Ok(()) }
}

/// The control database's URL. The password is derived, so it is the same after any loss.
pub fn control_url(keys: &Keyring, endpoint: &Endpoint, inside: bool) -> Secret {
    let address = if inside { &endpoint.private } else { &endpoint.public };
    let password = keys.password(&Credential::Control);
    Secret::new(format!("postgresql://postgres:{}@{address}/railway", password.expose()))
}
