//! Lets go of what is ours: marks, routes and rows go, the objects stay as they are and nobody's connection is cut. Every
//! stage can run again; marks go before rows, because they are what the rows would be rebuilt from.

use super::adopt::{Hindrance, failed};
use super::code::Code;
use super::tell::Tell;
use super::world::{Control, Door, Servers};
use crate::plan::{DatabaseChange, Live, Release};
use crate::railway::RELEASED;
use crate::tenancy::{InstanceName, TenantId, counted};

/// Tenants in one statement and one transaction of the routing table.
const CHUNK: usize = 64;

pub async fn release<C: Control, S: Servers>(
    door: &Door<'_>,
    (control, servers): (&C, &S),
    live: &Live,
    instance: Option<&InstanceName>,
    release: &Release,
) -> Result<(), Hindrance> {
    for chunk in release.tenants.chunks(CHUNK) {
        unmark(door, servers, live, chunk).await?;
        let tenants: Vec<TenantId> = chunk.iter().map(|(tenant, _)| tenant.clone()).collect();
        door.go_on()?;
        control.publish_routes(&[], &tenants, &[]).await?;
        for tenant in &tenants {
            control.remove_placement(tenant).await?;
        }
        (door.progress)(Tell::Now(&format!("released {}", counted(tenants.len(), "tenant"))));
    }
    let Some(instance) = instance else { return Ok(()) };
    if let Some(service) = &release.service {
        if release.adopted {
            close(door, servers, live, instance).await?;
        }
        door.go_on()?;
        door.railway.set_marker(&door.project, &door.environment, service, RELEASED).await?;
    }
    Ok(control.remove_instance(instance.as_str()).await?)
}

async fn unmark<S: Servers>(
    door: &Door<'_>,
    servers: &S,
    live: &Live,
    tenants: &[(TenantId, Option<crate::plan::Placement>)],
) -> Result<(), Hindrance> {
    for (tenant, place) in tenants {
        // One that is nowhere, or on what is ours no more, has only rows left.
        let Some(place) = place.as_ref().filter(|place| live.instances.contains_key(&place.instance)) else {
            continue;
        };
        let record = live.control.instances.get(place.instance.as_str());
        let Some(endpoint) = record.and_then(|record| record.endpoint.as_ref()) else {
            return Err(failed(
                Code::NoAddress,
                format!("nobody knows the address of {}", place.instance),
                "run o7s reconcile first",
            ));
        };
        door.go_on()?;
        let change = DatabaseChange::Release { tenant: tenant.clone(), database: place.database.clone() };
        let done = servers.change(&place.instance, door.address(endpoint), &[vec![change]], &|_| ()).await;
        let done: Result<(), _> = done.into_iter().collect();
        done.map_err(|failure| Hindrance::Failed(failure.into()))?;
    }
    Ok(())
}

/// Our superuser there lets nobody in any more. An instance that does not answer was closed by a run before this one.
async fn close<S: Servers>(
    door: &Door<'_>,
    servers: &S,
    live: &Live,
    instance: &InstanceName,
) -> Result<(), Hindrance> {
    let awake = matches!(live.instances.get(instance), Some(crate::plan::InstanceState::Awake(_)));
    let record = live.control.instances.get(instance.as_str());
    let Some(endpoint) = record.and_then(|record| record.endpoint.as_ref()).filter(|_| awake) else { return Ok(()) };
    door.go_on()?;
    let closed = servers.dismiss(instance, door.address(endpoint)).await;
    closed.map_err(|failure| Hindrance::Failed(failure.into()))
}
