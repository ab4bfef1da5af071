//! Last stage of an instance: wait until it runs, learn its addresses, remember them.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::code::Code;
use super::error::Error;
use super::outcome::Failure;
use super::services::{self, CHUNK, Item, read};
use super::tell::Tell;
use super::world::{Door, Memory};
use super::{configure, volumes};
use crate::plan::{Deployment, InstanceRecord, InstanceStep, RailwayLive, spec_digest};
use crate::tenancy::{Endpoint, ServiceId};

/// A TCP proxy is active within seconds of the deployment.
const ADDRESS_ROUNDS_MAX: u32 = 60;

/// What became of one database service.
pub(super) type Brought = Result<Endpoint, Failure>;

/// Brings database services from wherever they are to running, ten at a time: three requests a chunk, one for the
/// addresses, and the polls. Every stage can be entered again after any crash. `since` is when this run began to look,
/// `base` what it saw.
pub(super) async fn bring_up<M: Memory>(
    door: &Door<'_>,
    memory: &M,
    steps: Vec<(InstanceStep, Option<Endpoint>)>,
    (since, base): (Instant, Option<&RailwayLive>),
) -> Result<BTreeMap<String, Brought>, Error> {
    let mut brought = BTreeMap::new();
    let mut steps = steps.into_iter();
    loop {
        let chunk = steps.by_ref().take(CHUNK).map(|(step, endpoint)| Item::new(step, endpoint));
        let mut items: Vec<Item> = chunk.collect();
        if items.is_empty() {
            return Ok(brought);
        }
        (door.progress)(Tell::Now(&format!("instances: {}", names(&items))));
        let addresses: Vec<String> = items.iter().map(|item| format!("instance/{}", item.name())).collect();
        addresses.iter().for_each(|address| (door.progress)(Tell::Begun(address)));
        for item in items.iter().filter(|item| item.service.is_none() && item.volume.is_none()) {
            // The row itself says: from here on a service may exist, and no volume was asked for yet.
            volumes::remember(door, memory, item, false).await?;
        }
        services::ensure(door, &mut items).await?;
        volumes::ensure(door, memory, &mut items, since).await?;
        configure::ensure(door, &mut items, base).await?;
        wait_until_running(door, &mut items).await?;
        learn_addresses(door, &mut items).await?;
        addresses.iter().for_each(|address| (door.progress)(Tell::Ended(address)));
        for item in items {
            let outcome = finish(memory, &item).await?;
            brought.insert(item.name().to_owned(), outcome);
        }
    }
}

fn names(items: &[Item]) -> String {
    items.iter().map(Item::name).collect::<Vec<_>>().join(", ")
}

async fn wait_until_running(door: &Door<'_>, items: &mut [Item]) -> Result<(), Error> {
    let (begun, deadline) = (Instant::now(), Instant::now() + door.timing.ready);
    let mut undeployed_until = Some(begun + door.timing.settle);
    let mut waiting: Vec<usize> = (0..items.len()).filter(|&index| items[index].is_alive()).collect();
    while !waiting.is_empty() {
        let live = read(door).await?;
        let before = waiting.clone();
        waiting.retain(|&index| {
            let item = &mut items[index];
            let Some(service) = live.service(item.name()) else { return true };
            let stale = item.step.replaces.is_some() && service.deployment_id == item.step.replaces;
            match &service.deployment {
                // A restart shows the old deployment until the new one is listed.
                _ if stale => true,
                Deployment::Running | Deployment::Sleeping => false,
                Deployment::None | Deployment::Pending { .. } => true,
                Deployment::Failed { status } => {
                    let message = format!("its deployment is {status}");
                    item.fail(
                        Code::DeploymentFailed,
                        message,
                        "read its deployment's log on Railway; the next run deploys it once more",
                    );
                    false
                }
            }
        });
        let running = before.iter().filter(|index| !waiting.contains(index));
        running.for_each(|&index| (door.progress)(Tell::Ended(&format!("instance/{}", items[index].name()))));
        if waiting.is_empty() {
            break;
        }
        if undeployed_until.is_some_and(|until| Instant::now() >= until) {
            undeployed_until = None;
            deploy_what_never_was(door, items, &waiting, &live).await?;
        }
        if Instant::now() >= deadline {
            let limit = door.timing.ready.as_secs();
            waiting.iter().for_each(|&index| {
                let message = format!("was not running {limit} s after its patch");
                items[index].fail(
                    Code::NotRunning,
                    message,
                    "look at the service on Railway; the next run goes on waiting for it",
                );
            });
            break;
        }
        let waits = waiting.iter().map(|&index| items[index].name()).collect::<Vec<_>>().join(", ");
        (door.progress)(Tell::Now(&format!("still waiting: {waits} deploying, {} s", begun.elapsed().as_secs())));
        door.wait(pause_after(begun.elapsed(), door.timing.poll)).await?;
    }
    Ok(())
}

/// Every second at first, then less often: who has waited long can wait an eighth longer, and each look is a request.
fn pause_after(waited: Duration, poll: Duration) -> Duration {
    (waited / 8).clamp(poll, poll.max(Duration::from_secs(5)))
}

/// Configured, and still without a deployment when every list must be true by now: the one that was asked for is gone.
async fn deploy_what_never_was(
    door: &Door<'_>,
    items: &mut [Item],
    waiting: &[usize],
    live: &RailwayLive,
) -> Result<(), Error> {
    for &index in waiting {
        let service = live.service(items[index].name()).filter(|service| service.deployment == Deployment::None);
        let Some(service) = service else { continue };
        door.go_on()?;
        match door.railway.deploy(&door.environment, &service.id).await {
            Ok(_) => {}
            Err(error) if services::ends_the_run(&error) => return Err(error.into()),
            Err(error) => items[index].fail_with(&error),
        }
    }
    Ok(())
}

async fn learn_addresses(door: &Door<'_>, items: &mut [Item]) -> Result<(), Error> {
    for _ in 0..ADDRESS_ROUNDS_MAX {
        let lacking: Vec<usize> =
            (0..items.len()).filter(|&i| items[i].is_alive() && items[i].endpoint.is_none()).collect();
        if lacking.is_empty() {
            return Ok(());
        }
        let ids: Vec<ServiceId> = lacking.iter().filter_map(|&index| items[index].service.clone()).collect();
        let found = door.railway.read_endpoints(&door.project, &door.environment, &ids).await?;
        for &index in &lacking {
            let entry = found.iter().find(|entry| Some(&entry.service) == items[index].service.as_ref());
            items[index].endpoint = entry.and_then(|entry| entry.of_postgres(items[index].name()));
        }
        if items.iter().all(|item| !item.is_alive() || item.endpoint.is_some()) {
            return Ok(());
        }
        (door.progress)(Tell::Now("waiting for TCP proxies"));
        door.wait(door.timing.poll).await?;
    }
    for item in items.iter_mut().filter(|item| item.is_alive() && item.endpoint.is_none()) {
        item.fail(
            Code::NoAddress,
            "its TCP proxy did not come up".into(),
            "look at the service's networking on Railway, then run again",
        );
    }
    Ok(())
}

async fn finish<M: Memory>(memory: &M, item: &Item) -> Result<Brought, Error> {
    if let Some(failure) = &item.failure {
        return Ok(Err(failure.clone()));
    }
    let Some(endpoint) = item.endpoint.clone() else {
        return Ok(Err(Failure {
            code: Code::NoAddress.into(),
            message: "has no address".into(),
            help: "run again".into(),
        }));
    };
    let record = InstanceRecord {
        service: item.service.clone(),
        volume: item.volume.clone(),
        volume_requested_at: item.step.volume_requested_at,
        endpoint: Some(endpoint.clone()),
        // A later difference from this is drift.
        applied: Some(spec_digest(&item.step.spec)),
    };
    memory.save_instance(item.name(), &record).await?;
    Ok(Ok(endpoint))
}
