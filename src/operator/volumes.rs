//! Second stage of an instance: its volume. Volumes have no name to recognise them by, so a create is never repeated
//! before the lists had time to show the result of the one before: the intent is remembered before it is sent.

use std::time::Duration;

use tokio::time::Instant;

use super::code::Code;
use super::error::Error;
use super::services::{Item, ends_the_run, read};
use super::tell::Tell;
use super::world::{Door, Memory, Pace};
use crate::plan::InstanceRecord;
use crate::railway::{self, BatchFailure, NewVolume};

/// Railway throttles volumes made faster than about one a second.
pub(super) const PAUSE: Duration = Duration::from_secs(1);
const ROUNDS_MAX: usize = super::services::CHUNK + 3;

pub(super) async fn ensure<M: Memory>(
    door: &Door<'_>,
    memory: &M,
    items: &mut [Item],
    since: Instant,
) -> Result<(), Error> {
    attach(door, items).await?;
    // What an earlier run may have asked for shows within `settle` of the moment this run began: no other run can have
    // asked since, and two machines' clocks are never compared.
    let asked =
        |item: &Item| item.step.volume_requested_at.is_some() && (item.step.service.is_some() || item.adopted);
    let unsure: Vec<usize> = pending(items).into_iter().filter(|&index| asked(&items[index])).collect();
    look(door, items, &unsure, since + door.timing.settle).await?;
    for _ in 0..ROUNDS_MAX {
        let wanted = pending(items);
        if wanted.is_empty() {
            break;
        }
        door.go_on()?;
        for &index in &wanted {
            remember(door, memory, &items[index], true).await?;
        }
        let sent = Instant::now();
        let new: Vec<NewVolume> = wanted.iter().filter_map(|&index| new_volume(&items[index])).collect();
        match door.railway.create_volumes(&door.project, &door.environment, &new).await {
            Ok(ids) => wanted.iter().zip(ids).for_each(|(&index, id)| items[index].volume = Some(id)),
            Err(failure) if ends_the_run(&failure.error) => return Err(failure.error.into()),
            Err(failure) => {
                let unsure = learn(items, &wanted, failure);
                door.wait(PAUSE).await?;
                look(door, items, &unsure, sent + door.timing.settle).await?;
            }
        }
        for &index in wanted.iter().filter(|&&index| items[index].volume.is_some()) {
            remember(door, memory, &items[index], true).await?;
        }
    }
    for index in pending(items) {
        items[index].fail(
            Code::NotAnswered,
            "its volume could not be made".into(),
            "run again: the next run looks what became of it",
        );
    }
    Ok(())
}

fn pending(items: &[Item]) -> Vec<usize> {
    let pending = |item: &Item| item.is_alive() && item.service.is_some() && item.volume.is_none();
    items.iter().enumerate().filter(|(_, item)| pending(item)).map(|(index, _)| index).collect()
}

fn new_volume(item: &Item) -> Option<NewVolume> {
    Some(NewVolume { service: item.service.clone()?, region: item.step.spec.region.clone() })
}

async fn attach(door: &Door<'_>, items: &mut [Item]) -> Result<(), Error> {
    for item in items.iter_mut().filter(|item| item.is_alive() && item.step.attach) {
        let (Some(service), Some(volume)) = (&item.service, &item.volume) else { continue };
        door.go_on()?;
        match door.railway.attach_volume(volume, &door.environment, service).await {
            Ok(()) => {}
            Err(error) if ends_the_run(&error) => return Err(error.into()),
            Err(error) => item.fail_with(&error),
        }
    }
    Ok(())
}

/// Which of them may exist now without an id we know.
fn learn(items: &mut [Item], wanted: &[usize], failure: BatchFailure) -> Vec<usize> {
    let BatchFailure { error, ran, failed } = failure;
    match (&error, failed.and_then(|failed| wanted.get(failed))) {
        (railway::Error::Lost { .. }, _) => wanted.to_vec(),
        (railway::Error::TooQuickly { .. }, _) => wanted[..ran.min(wanted.len())].to_vec(),
        (_, Some(&index)) => {
            items[index].fail_with(&error);
            wanted[..ran.min(wanted.len())].to_vec()
        }
        (_, None) => {
            wanted.iter().skip(ran).for_each(|&index| items[index].fail_with(&error));
            wanted[..ran.min(wanted.len())].to_vec()
        }
    }
}

/// Looks for the volumes of `unsure` until all show or the deadline has passed.
async fn look(door: &Door<'_>, items: &mut [Item], unsure: &[usize], deadline: Instant) -> Result<(), Error> {
    let open = |items: &[Item]| unsure.iter().any(|&index| items[index].is_alive() && items[index].volume.is_none());
    let mut pace = Pace::until(deadline, &door.timing);
    while open(items) {
        let live = read(door).await?;
        for &index in unsure {
            let found = items[index].service.as_ref().and_then(|id| live.volume_of(id));
            if let (Some(volume), None) = (found, &items[index].volume) {
                items[index].volume = Some(volume.id.clone());
                items[index].adopted = true;
            }
        }
        if !open(items) || Instant::now() >= deadline {
            break;
        }
        let left = (deadline - Instant::now()).as_secs();
        (door.progress)(Tell::Now(&format!(
            "a volume may have been made by an earlier call; looking for it for another {left} s"
        )));
        door.wait(pace.pause()).await?;
    }
    Ok(())
}

pub(super) async fn remember<M: Memory>(
    door: &Door<'_>,
    memory: &M,
    item: &Item,
    volume_sent: bool,
) -> Result<(), Error> {
    let requested = volume_sent.then(|| (door.clock)());
    let record = InstanceRecord {
        service: item.service.clone(),
        volume: item.volume.clone(),
        volume_requested_at: item.step.volume_requested_at.or(requested),
        endpoint: item.endpoint.clone(),
        applied: None,
    };
    memory.save_instance(item.name(), &record).await
}
