//! Takes over what somebody else made. Every stage can run again, and the marker comes last on a service: until it is
//! there nothing else looks at it as ours.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::code::Code;
use super::error::Error;
use super::outcome::Failure;
use super::services;
use super::tell::Tell;
use super::world::{Control, Door, Servers};
use crate::plan::{DatabaseChange, Deployment, InstanceAdoption, InstanceRecord, TenantAdoption};
use crate::railway::{Entrance, Patch, ServicePatch};
use crate::tenancy::{Endpoint, FleetUid, ServiceMarker};

/// Why one object was not taken over or let go; the world is as it was, or further on the same way.
#[derive(Debug)]
pub enum Hindrance {
    /// Trouble with this object.
    Failed(Failure),
    /// The end of the run.
    Ended(Error),
}

impl<E: Into<Error>> From<E> for Hindrance {
    fn from(error: E) -> Hindrance {
        Hindrance::Ended(error.into())
    }
}

pub(super) fn failed(code: Code, message: String, help: &str) -> Hindrance {
    Hindrance::Failed(Failure { code: code.into(), message, help: help.to_owned() })
}

/// The fleet whose marker a service carries that is not ours. A marker of ours with another id was copied along with a
/// service and says nothing.
pub fn foreign_fleet(entrance: &Entrance, fleet: &FleetUid) -> Option<FleetUid> {
    let marker = ServiceMarker::parse(entrance.marker.as_deref()?).ok()?;
    (marker.fleet != *fleet).then_some(marker.fleet)
}

/// `entrance` was read before anybody was asked, so that what was agreed to is what is entered.
pub async fn adopt_instance<C: Control, S: Servers>(
    door: &Door<'_>,
    (control, servers): (&C, &S),
    adoption: &InstanceAdoption,
    entrance: &Entrance,
    force: bool,
) -> Result<(), Hindrance> {
    let InstanceAdoption { instance, service, volume, .. } = adoption;
    let endpoint = reach(door, adoption).await?;
    let Some((user, password)) = &entrance.login else {
        let message = format!("service `{}` has no variable POSTGRES_PASSWORD or PGPASSWORD", adoption.called);
        return Err(failed(
            Code::NoEntrance,
            message,
            "set POSTGRES_USER and POSTGRES_PASSWORD to the superuser's, then run again",
        ));
    };
    door.go_on()?;
    (door.progress)(Tell::Now(&format!("making a superuser for o7s on {instance}")));
    let admitted = servers.admit(instance, door.address(&endpoint), (user, password), force).await;
    admitted.map_err(|failure| Hindrance::Failed(failure.into()))?;
    if adoption.called != instance.as_str() {
        door.go_on()?;
        door.railway.rename_service(service, instance.as_str()).await?;
    }
    let (fleet, service_name) = (door.fleet.clone(), instance.to_string());
    let marker = ServiceMarker { fleet, service_name, service: Some(service.clone()), adopted: true };
    door.go_on()?;
    door.railway.set_marker(&door.project, &door.environment, service, &marker.to_string()).await?;
    let record = InstanceRecord {
        service: Some(service.clone()),
        volume: Some(volume.clone()),
        volume_requested_at: None,
        endpoint: Some(endpoint),
        applied: None,
    };
    Ok(control.save_instance(instance.as_str(), &record).await?)
}

/// Its address, after giving it a TCP proxy where it has none.
async fn reach(door: &Door<'_>, adoption: &InstanceAdoption) -> Result<Endpoint, Hindrance> {
    if !adoption.has_proxy {
        door.go_on()?;
        let change = ServicePatch { tcp_proxy: Some(true), ..ServicePatch::default() };
        let services = BTreeMap::from([(adoption.service.clone(), change)]);
        let patch = Patch { services, ..Patch::default() };
        door.railway.commit_patch(&door.environment, &patch, "o7s: TCP proxy").await?;
    }
    let deadline = Instant::now() + door.timing.ready;
    loop {
        let live = services::read(door).await?;
        let service = live.services.iter().find(|service| service.id == adoption.service);
        let running = service.is_some_and(|service| service.deployment == Deployment::Running);
        let ids = std::slice::from_ref(&adoption.service);
        let found = door.railway.read_endpoints(&door.project, &door.environment, ids).await?;
        let endpoint = found.first().and_then(|entry| entry.of_postgres(&adoption.called));
        if let Some(endpoint) = endpoint.filter(|_| running) {
            return Ok(endpoint);
        }
        if Instant::now() >= deadline {
            let message = format!("service `{}` does not run, or has no TCP proxy yet", adoption.called);
            return Err(failed(Code::NoAddress, message, "look at its deployment on Railway, then run again"));
        }
        (door.progress)(Tell::Now(&format!("waiting for {} to run behind its TCP proxy", adoption.called)));
        door.wait(door.timing.poll).await?;
    }
}

/// The row first: a marked database must never be somewhere that nobody remembers while its server sleeps.
pub async fn adopt_tenant<C: Control, S: Servers>(
    door: &Door<'_>,
    (control, servers): (&C, &S),
    adoption: &TenantAdoption,
    endpoint: &Endpoint,
    force: bool,
) -> Result<(), Hindrance> {
    let TenantAdoption { tenant, place, .. } = adoption;
    door.go_on()?;
    control.save_placements(&[(tenant.clone(), place.clone())]).await?;
    let change = DatabaseChange::AdoptDatabase {
        tenant: tenant.clone(),
        database: place.database.clone(),
        generation: adoption.generation,
        connection_limit: adoption.connection_limit,
        force,
    };
    door.go_on()?;
    let address = door.address(endpoint);
    let done = servers.change(&place.instance, address, &[vec![change]], &|_| ()).await;
    let done: Result<(), _> = done.into_iter().collect();
    if done.is_err() && !adoption.done {
        // Nothing was made: the row would only be in the way of another place.
        control.remove_placement(tenant).await?;
    }
    done.map_err(|failure| Hindrance::Failed(failure.into()))
}
