//! Third stage of an instance: one patch for a whole chunk gives each service its image, settings, variables, proxy and
//! the full marker, and deploys them together.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::code::Code;
use super::error::Error;
use super::services::{Item, ends_the_run, read};
use super::tell::Tell;
use super::world::{Door, Pace};
use crate::plan::{Ownership, RailwayLive, ServiceConfig, ServiceLive, ServicePatchSpec, VariableValue, patch_for};
use crate::railway::{self, Patch, ServicePatch, VolumePatch};
use crate::tenancy::{ServiceId, ServiceMarker};

/// How often one guilty service is looked for by halving: 2^4 is more than a chunk.
const HALVINGS_MAX: usize = 4;

/// `base`: what the patches were planned on; without it nothing was planned.
pub(super) async fn ensure(door: &Door<'_>, items: &mut [Item], base: Option<&RailwayLive>) -> Result<(), Error> {
    if items.iter().any(|item| item.adopted && item.is_alive()) {
        refresh(door, items).await?;
    }
    if let Some(base) = base {
        refuse_what_moved(door, items, base).await?;
    }
    let indices: Vec<usize> = (0..items.len()).filter(|&index| needs_patch(&items[index])).collect();
    commit(door, items, &indices, 0).await?;
    for item in items.iter_mut().filter(|item| item.is_alive() && item.step.redeploy) {
        let Some(service) = &item.service else { continue };
        door.go_on()?;
        match door.railway.deploy(&door.environment, service).await {
            Ok(_) => {}
            Err(error) if ends_the_run(&error) => return Err(error.into()),
            Err(error) => item.fail_with(&error),
        }
    }
    Ok(())
}

/// Railway's patches name no base, so the etag is looked at right before one. Where it has moved, by other hands or by our
/// own creations, what we manage is compared, and a service that is not as the plan saw it keeps what it was given.
async fn refuse_what_moved(door: &Door<'_>, items: &mut [Item], base: &RailwayLive) -> Result<(), Error> {
    let planned: Vec<usize> =
        (0..items.len()).filter(|&index| needs_patch(&items[index]) && !items[index].adopted).collect();
    let made_here = |&index: &usize| items[index].step.service.is_none() || items[index].step.volume.is_none();
    if planned.is_empty()
        || (!planned.iter().any(made_here) && door.railway.poll_etag(&door.environment).await? == base.config_etag)
    {
        return Ok(());
    }
    let live = read(door).await?;
    for index in planned {
        let item = &mut items[index];
        // What a lagging list hides nobody else can have configured.
        let Some(service) = live.service(item.name()) else { continue };
        let moved = match item.step.patch.marker {
            true => service.owner == Ownership::Ours,
            false => managed(item, base) != managed(item, &live),
        };
        if moved {
            item.fail(
                Code::Overtaken,
                "somebody else changed its configuration on Railway after this run had read it".into(),
                "its patch was not sent; look who else changes it, then run again: the next run plans on what is there",
            );
        }
    }
    Ok(())
}

/// The part of a service's configuration that its patch may write, and the size of its volume in MiB.
fn managed(item: &Item, live: &RailwayLive) -> Option<(ServiceConfig, Option<u64>)> {
    let mut config = live.service(item.name())?.config.clone()?;
    config.variables.retain(|name, _| item.step.spec.variables.contains_key(name));
    let volume = live.volumes.iter().find(|volume| Some(&volume.id) == item.volume.as_ref());
    Some((config, volume.map(|volume| volume.size_mib)))
}

fn lacks(item: &Item, service: &ServiceLive, live: &RailwayLive) -> ServicePatchSpec {
    let volume = item.volume.as_ref().and_then(|id| live.volumes.iter().find(|volume| volume.id == *id));
    patch_for(&item.step.spec, service, volume, live.limits.volume_mib_at_creation)
}

fn needs_patch(item: &Item) -> bool {
    item.is_alive() && item.service.is_some() && !item.step.patch.is_empty()
}

/// An adopted service may be further on than the plan could see: what it lacks is compared again, because a patch that
/// changes nothing would still deploy.
async fn refresh(door: &Door<'_>, items: &mut [Item]) -> Result<(), Error> {
    let deadline = Instant::now() + door.timing.settle;
    let mut pace = Pace::until(deadline, &door.timing);
    loop {
        let live = read(door).await?;
        let mut hidden = false;
        for item in items.iter_mut().filter(|item| item.is_alive() && item.adopted) {
            let Some(service) = live.service(item.name()) else {
                hidden = true;
                continue;
            };
            hidden |= service.owner == Ownership::Unknown;
            item.step.patch = lacks(item, service, &live);
        }
        if !hidden || Instant::now() >= deadline {
            return Ok(());
        }
        door.wait(pace.pause()).await?;
    }
}

/// A refused patch is halved until the guilty service is alone; the others get theirs.
async fn commit(door: &Door<'_>, items: &mut [Item], indices: &[usize], depth: usize) -> Result<(), Error> {
    if indices.is_empty() {
        return Ok(());
    }
    door.go_on()?;
    let patch = patch(door, items, indices);
    let message = format!("o7s: {}", indices.iter().map(|&index| items[index].name()).collect::<Vec<_>>().join(", "));
    match door.railway.commit_patch(&door.environment, &patch, &message).await {
        Ok(_) => Ok(()),
        Err(error) if ends_the_run(&error) => Err(error.into()),
        Err(railway::Error::Lost { .. }) => recommit(door, items, indices, depth).await,
        Err(_) if indices.len() > 1 && depth < HALVINGS_MAX => {
            let (first, second) = indices.split_at(indices.len() / 2);
            Box::pin(commit(door, items, first, depth + 1)).await?;
            Box::pin(commit(door, items, second, depth + 1)).await
        }
        Err(error) => {
            indices.iter().for_each(|&index| items[index].fail_with(&error));
            Ok(())
        }
    }
}

/// The patch may have been applied: whoever lacks nothing any more is done.
async fn recommit(door: &Door<'_>, items: &mut [Item], indices: &[usize], depth: usize) -> Result<(), Error> {
    (door.progress)(Tell::Now("the answer to a patch was lost; looking whether it was applied"));
    indices.iter().for_each(|&index| items[index].adopted = true);
    door.wait(door.timing.poll).await?;
    refresh(door, items).await?;
    let open: Vec<usize> = indices.iter().copied().filter(|&index| needs_patch(&items[index])).collect();
    if depth >= HALVINGS_MAX {
        open.iter().for_each(|&index| {
            items[index].fail(Code::NotAnswered, "its patch was never answered".into(), "run again")
        });
        return Ok(());
    }
    Box::pin(commit(door, items, &open, depth + 1)).await
}

fn patch(door: &Door<'_>, items: &[Item], indices: &[usize]) -> Patch {
    let mut patch = Patch::default();
    for item in indices.iter().map(|&index| &items[index]) {
        let Some(service) = &item.service else { continue };
        let wanted = &item.step.patch;
        let whole = wanted.marker;
        let mount = item.volume.clone().filter(|_| whole || item.step.attach);
        if let Some(volume) = item.volume.clone().filter(|_| wanted.volume_mib.is_some()) {
            patch.volumes.insert(volume, VolumePatch { size_mib: wanted.volume_mib, created: false });
        }
        let change = ServicePatch {
            marker: wanted.marker.then(|| full_marker(door, item.name(), service)),
            image: wanted.image.clone(),
            start_command: wanted.start_command.clone(),
            region: wanted.region.clone(),
            caps: wanted.caps,
            sleep: wanted.sleep,
            tcp_proxy: wanted.tcp_proxy.then_some(true),
            mount,
            created: whole,
            variables: variables(door, wanted),
        };
        patch.services.insert(service.clone(), change);
    }
    patch
}

fn full_marker(door: &Door<'_>, name: &str, service: &ServiceId) -> String {
    let (fleet, service_name) = (door.fleet.clone(), name.to_owned());
    ServiceMarker { fleet, service_name, service: Some(service.clone()), adopted: false }.to_string()
}

fn variables(door: &Door<'_>, wanted: &ServicePatchSpec) -> BTreeMap<String, Option<crate::tenancy::Secret>> {
    let render = |value: &VariableValue| value.render(door.keys, |_| None);
    let rendered = wanted.variables.iter().map(|(name, value)| (name.clone(), render(value)));
    // A database service has no URL among its variables, so every value renders.
    rendered.filter(|(_, value)| value.is_some()).collect()
}
