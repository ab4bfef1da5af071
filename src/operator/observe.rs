//! Reads what is: one request a page for the whole Railway project, one query for the control database, one for each
//! awake instance. Sleepers are not woken.

use std::collections::BTreeMap;

use futures_util::stream::{self, StreamExt as _};

use super::error::Error;
use super::world::{Door, Servers};
use crate::plan::{ControlLive, Deployment, InstanceState, Live, Ownership, RailwayLive, ServiceLive};
use crate::tenancy::{Address, InstanceName};

/// Instances asked at the same time.
const ASKED_AT_ONCE: usize = 8;

/// `railway`: when the caller has just read it.
pub async fn observe<S: Servers>(
    door: &Door<'_>,
    servers: &S,
    railway: Option<RailwayLive>,
    mut control: ControlLive,
) -> Result<Live, Error> {
    let railway = match railway {
        Some(railway) => railway,
        None => super::services::read(door).await?,
    };
    let adopted = railway.services.iter().filter(|service| service.adopted);
    servers.know_adopted(adopted.filter_map(|service| InstanceName::parse(&service.name).ok()).collect());
    if !control.known {
        recall_addresses(door, &railway, &mut control).await?;
    }
    let asked = railway.services.iter().filter_map(|service| target(service, &control, door));
    let answers = stream::iter(asked).map(|(name, target)| async move {
        let state = match target {
            Target::Asleep => InstanceState::Asleep,
            Target::NotRunning(status) => InstanceState::Unreachable { reason: status },
            Target::At(address) => match servers.observe(&name, &address).await {
                Ok(server) => InstanceState::Awake(Box::new(server)),
                Err(failure) => InstanceState::Unreachable { reason: failure.message },
            },
        };
        (name, state)
    });
    let instances: BTreeMap<InstanceName, InstanceState> = answers.buffer_unordered(ASKED_AT_ONCE).collect().await;
    Ok(Live { observed_at: (door.clock)(), fleet: door.fleet.clone(), railway, control, instances })
}

enum Target {
    At(Address),
    Asleep,
    NotRunning(String),
}

fn target(service: &ServiceLive, control: &ControlLive, door: &Door<'_>) -> Option<(InstanceName, Target)> {
    let name = InstanceName::parse(&service.name).ok().filter(|_| service.owner == Ownership::Ours)?;
    let target = match &service.deployment {
        Deployment::Sleeping => Target::Asleep,
        Deployment::Running => {
            let endpoint = control.instances.get(name.as_str())?.endpoint.as_ref()?;
            Target::At(door.address(endpoint).clone())
        }
        Deployment::Pending { status } | Deployment::Failed { status } => {
            Target::NotRunning(format!("deployment {status}"))
        }
        Deployment::None => return None,
    };
    Some((name, target))
}

/// A control database that was just made knows no addresses, and the marks on the instances' databases are what it is
/// rebuilt from.
async fn recall_addresses(door: &Door<'_>, railway: &RailwayLive, control: &mut ControlLive) -> Result<(), Error> {
    let ours = |service: &&ServiceLive| {
        service.owner == Ownership::Ours
            && service.deployment == Deployment::Running
            && InstanceName::parse(&service.name).is_ok()
    };
    let services: Vec<&ServiceLive> = railway.services.iter().filter(ours).collect();
    if services.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = services.iter().map(|service| service.id.clone()).collect();
    let found = door.railway.read_endpoints(&door.project, &door.environment, &ids).await?;
    for service in services {
        let Some(entry) = found.iter().find(|entry| entry.service == service.id) else { continue };
        let Some(endpoint) = entry.of_postgres(&service.name) else { continue };
        let record = control.instances.entry(service.name.clone()).or_default();
        record.service = Some(service.id.clone());
        record.endpoint = Some(endpoint);
    }
    Ok(())
}
