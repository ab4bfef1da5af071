//! First stage of an instance: its Railway service. The name is unique in a project, so it is the key that makes a
//! repeated create harmless; the marker travels in the create itself, so a service is recognised from its first moment.

use tokio::time::{Instant, sleep};

use super::code::Code;
use super::error::Error;
use super::outcome::Failure;
use super::tell::Tell;
use super::world::{Door, Pace};
use crate::plan::{InstanceStep, Ownership, RailwayLive, ServiceLive};
use crate::railway::{self, BatchFailure, NewService};
use crate::tenancy::{Endpoint, ErrorCode, ServiceId, ServiceMarker, VolumeId};

pub(super) const CHUNK: usize = crate::plan::INSTANCES_AT_ONCE;
/// A batch is sent again after each alias that failed, and after a lost answer.
const ROUNDS_MAX: usize = CHUNK + 3;

/// One database service on its way to running.
pub(super) struct Item {
    pub step: InstanceStep,
    pub service: Option<ServiceId>,
    pub volume: Option<VolumeId>,
    pub endpoint: Option<Endpoint>,
    /// Found by looking, so what it lacks must be compared again.
    pub adopted: bool,
    pub failure: Option<Failure>,
    /// Its create was answered "name taken", or ran in a batch whose answer was lost with another's error.
    exists: bool,
}

impl Item {
    pub fn new(step: InstanceStep, endpoint: Option<Endpoint>) -> Item {
        let (service, volume) = (step.service.clone(), step.volume.clone());
        Item { step, service, volume, endpoint, adopted: false, failure: None, exists: false }
    }

    pub fn name(&self) -> &str {
        &self.step.spec.name
    }

    pub fn is_alive(&self) -> bool {
        self.failure.is_none()
    }

    pub fn fail(&mut self, code: impl Into<ErrorCode>, message: String, help: &str) {
        self.failure = Some(Failure { code: code.into(), message, help: help.to_owned() });
    }

    pub fn fail_with(&mut self, error: &railway::Error) {
        self.fail(error.code(), error.to_string(), &error.help());
    }
}

/// Errors that concern the token or the line and not one object: the run ends.
pub(super) fn ends_the_run(error: &railway::Error) -> bool {
    use railway::Error::{
        BadEndpoint, EdgeBlock, RateLimited, ShareSpent, TokenElsewhere, Unauthorized, Unreachable,
    };
    matches!(
        error,
        BadEndpoint { .. }
            | EdgeBlock { .. }
            | RateLimited { .. }
            | ShareSpent { .. }
            | TokenElsewhere { .. }
            | Unauthorized { .. }
            | Unreachable { .. }
    )
}

pub(super) async fn ensure(door: &Door<'_>, items: &mut [Item]) -> Result<(), Error> {
    for _ in 0..ROUNDS_MAX {
        let wanted: Vec<usize> = missing(items);
        if wanted.is_empty() {
            break;
        }
        door.go_on()?;
        let new: Vec<NewService> = wanted.iter().map(|&index| new_service(door, items[index].name())).collect();
        match door.railway.create_services(&door.project, &door.environment, &new).await {
            Ok(ids) => wanted.iter().zip(ids).for_each(|(&index, id)| items[index].service = Some(id)),
            Err(failure) if ends_the_run(&failure.error) => return Err(failure.error.into()),
            Err(failure) => learn(items, &wanted, failure).await,
        }
    }
    for index in missing(items) {
        items[index].fail(
            Code::NotAnswered,
            "its creation was never answered".into(),
            "run again: the next run looks what became of it",
        );
    }
    look(door, items).await
}

fn missing(items: &[Item]) -> Vec<usize> {
    let missing = |item: &Item| item.service.is_none() && item.is_alive() && !item.exists;
    items.iter().enumerate().filter(|(_, item)| missing(item)).map(|(index, _)| index).collect()
}

fn new_service(door: &Door<'_>, name: &str) -> NewService {
    let marker =
        ServiceMarker { fleet: door.fleet.clone(), service_name: name.to_owned(), service: None, adopted: false };
    NewService { name: name.to_owned(), marker: marker.to_string() }
}

/// Everything before the failed alias was made and everything behind it was not.
async fn learn(items: &mut [Item], wanted: &[usize], failure: BatchFailure) {
    let BatchFailure { error, ran, failed } = failure;
    wanted.iter().take(ran).for_each(|&index| items[index].exists = true);
    match (&error, failed.and_then(|failed| wanted.get(failed))) {
        (railway::Error::NameTaken { .. }, Some(&index)) => items[index].exists = true,
        (railway::Error::NameTaken { .. }, None) => wanted.iter().for_each(|&index| items[index].exists = true),
        // The names are the keys: whatever was made answers "taken" next time.
        (railway::Error::Lost { .. } | railway::Error::TooQuickly { .. }, _) => sleep(super::volumes::PAUSE).await,
        (_, Some(&index)) => items[index].fail_with(&error),
        (_, None) => wanted.iter().skip(ran).for_each(|&index| items[index].fail_with(&error)),
    }
}

/// Finds the ids of services that exist but were not told to us; a list may hide them for a while.
async fn look(door: &Door<'_>, items: &mut [Item]) -> Result<(), Error> {
    let deadline = Instant::now() + door.timing.settle;
    let open = |items: &[Item]| items.iter().any(|item| item.is_alive() && item.service.is_none());
    let mut pace = Pace::until(deadline, &door.timing);
    while open(items) {
        let live = read(door).await?;
        for item in items.iter_mut().filter(|item| item.is_alive() && item.service.is_none()) {
            adopt(item, live.service(item.name()));
        }
        if !open(items) {
            break;
        }
        if Instant::now() >= deadline {
            let hidden = items.iter_mut().filter(|item| item.is_alive() && item.service.is_none());
            hidden.for_each(|item| {
                let message = format!(
                    "a service `{}` exists in the project, but this environment does not show it",
                    item.name()
                );
                item.fail(
                    Code::ElsewhereTaken,
                    message,
                    "look at the project's other environments; rename or delete that service",
                );
            });
            break;
        }
        (door.progress)(Tell::Now("waiting for Railway to list services that were just made"));
        door.wait(pace.pause()).await?;
    }
    Ok(())
}

fn adopt(item: &mut Item, found: Option<&ServiceLive>) {
    let Some(service) = found else { return };
    match service.owner {
        Ownership::Ours | Ownership::OursUnconfigured => {
            item.service = Some(service.id.clone());
            item.adopted = true;
        }
        Ownership::Unknown => {}
        Ownership::Foreign | Ownership::Newer => item.fail(
            crate::plan::Code::ForeignService,
            format!("a Railway service `{}` exists and is not ours", service.name),
            "rename or delete that service on Railway; o7s never changes a foreign service",
        ),
    }
}

pub(super) async fn read(door: &Door<'_>) -> Result<RailwayLive, Error> {
    Ok(door.railway.read_live(&door.project, &door.environment, door.keys, &door.fleet).await?)
}
