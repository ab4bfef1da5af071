//! What adopting or releasing an object would mean: whether it may be done at all, and what the plan does next. Decides;
//! nothing here changes anything.

use super::action::{Action, Problem};
use super::code::Code;
use super::live::{InstanceRecord, InstanceState, Live, Ownership, Placement, ServiceLive};
use super::place::remembered;
use super::planner::{Consent, plan, problem};
use crate::manifest::Desired;
use crate::tenancy::{CONTROL_SERVICE, InstanceName, ServiceId, TenantId, VolumeId};

/// A service that would become an instance.
#[derive(Debug, Clone)]
pub struct InstanceAdoption {
    pub instance: InstanceName,
    pub service: ServiceId,
    /// What it is called now.
    pub called: String,
    pub volume: VolumeId,
    /// It has a TCP proxy on Postgres' port. Making one restarts it.
    pub has_proxy: bool,
    /// It carries our marker already.
    pub done: bool,
    /// What the next plan does to it.
    pub next: Vec<Action>,
}

/// A database that would become a tenant's.
#[derive(Debug, Clone)]
pub struct TenantAdoption {
    pub tenant: TenantId,
    pub place: Placement,
    /// `None` where only the server itself can tell, as for the database `railway`.
    pub owner: Option<String>,
    /// Its role would be a member of the owner.
    pub joins: bool,
    pub generation: u32,
    pub connection_limit: u32,
    pub done: bool,
}

fn refuse(address: &str, message: String, help: &str) -> Box<Problem> {
    Box::new(problem(Code::Adoption, address.to_owned(), message, help, None))
}

pub fn adopt_instance(
    desired: &Desired,
    live: &Live,
    instance: &InstanceName,
    id: &ServiceId,
) -> Result<InstanceAdoption, Box<Problem>> {
    let address = format!("instance/{instance}");
    if !desired.pools.contains_key(&instance.pool()) {
        let message = format!("no manifest has a pool `{}`", instance.pool());
        return Err(refuse(&address, message, "write its DatabasePool first: it says what the instance is to be"));
    }
    let place = format!("{}/{}", live.railway.project_name, live.railway.environment_name);
    let service = live.railway.services.iter().find(|service| service.id == *id);
    let service = service.ok_or_else(|| {
        let message = format!("no service {id} in {place}");
        refuse(
            &address,
            message,
            "take the id from the service's address in Railway's dashboard, or `railway status --json`",
        )
    })?;
    let namesake = live.railway.service(instance.as_str()).filter(|other| other.id != *id);
    if let Some(other) = namesake {
        let message = format!("a service `{instance}` exists already ({})", other.id);
        return Err(refuse(&address, message, "choose another number of the pool"));
    }
    may_be_taken(&address, instance, service)?;
    let config = service.config.as_ref();
    let listed = || live.railway.volume_of(id).map(|volume| volume.id.clone());
    let volume = config.and_then(|config| config.mounted_volume.clone()).or_else(listed).ok_or_else(|| {
        let message = format!("service `{}` has no volume at Postgres' data folder", service.name);
        refuse(&address, message, "a database without a volume loses its data with its container: give it one first")
    })?;
    let next = next_of_instance(desired, live, instance, service, &volume)?;
    Ok(InstanceAdoption {
        instance: instance.clone(),
        service: id.clone(),
        called: service.name.clone(),
        has_proxy: config.is_some_and(|config| config.tcp_proxy),
        done: service.adopted && service.name == instance.as_str(),
        volume,
        next,
    })
}

fn may_be_taken(address: &str, instance: &InstanceName, service: &ServiceLive) -> Result<(), Box<Problem>> {
    let name = &service.name;
    if name == CONTROL_SERVICE {
        return Err(refuse(address, "that is the control database".into(), "give the id of another service"));
    }
    match service.owner {
        Ownership::Ours if service.adopted && name == instance.as_str() => Ok(()),
        Ownership::Ours | Ownership::OursUnconfigured => {
            Err(refuse(address, format!("service `{name}` is ours already"), "see it with: o7s status"))
        }
        Ownership::Newer => {
            let message = format!("service `{name}` was marked by a later version of o7s");
            Err(refuse(address, message, "run that version, or a later one"))
        }
        Ownership::Unknown => {
            let message =
                format!("the configuration of service `{name}` is not visible yet, or its marker is sealed");
            Err(refuse(address, message, "run again in a minute; unseal its variable O7S_OWNER if it has one"))
        }
        Ownership::Foreign => Ok(()),
    }
}

/// The plan of a world in which it is adopted, as far as it concerns the instance itself.
fn next_of_instance(
    desired: &Desired,
    live: &Live,
    instance: &InstanceName,
    service: &ServiceLive,
    volume: &VolumeId,
) -> Result<Vec<Action>, Box<Problem>> {
    let (mut then, address) = (live.clone(), format!("instance/{instance}"));
    for taken in then.railway.services.iter_mut().filter(|taken| taken.id == service.id) {
        (taken.name, taken.owner, taken.adopted) = (instance.to_string(), Ownership::Ours, true);
    }
    let record = InstanceRecord {
        service: Some(service.id.clone()),
        volume: Some(volume.clone()),
        endpoint: live.control.instances.get(instance.as_str()).and_then(|record| record.endpoint.clone()),
        ..InstanceRecord::default()
    };
    then.control.instances.insert(instance.to_string(), record);
    let plan = plan(desired, &then, &Consent::default());
    match plan.refused.into_iter().find(|problem| problem.address == address) {
        Some(problem) => Err(Box::new(problem)),
        None => Ok(plan.actions.into_iter().filter(|action| action.address == address).collect()),
    }
}

pub fn adopt_tenant(
    desired: &Desired,
    live: &Live,
    (tenant, database): (&TenantId, &str),
    on: Option<&InstanceName>,
) -> Result<TenantAdoption, Box<Problem>> {
    let address = format!("tenant/{tenant}");
    let manifest = desired.tenants.get(tenant).ok_or_else(|| {
        let message = format!("no manifest has a tenant `{tenant}`");
        refuse(&address, message, "write it first: it says the tier, and so the ceilings, of what is adopted")
    })?;
    let instance = instance_of(live, &address, database, on)?;
    if instance.pool() != manifest.pool {
        let message =
            format!("database {database} is on {instance}, its manifest puts it into pool {}", manifest.pool);
        let help = format!("write `spec.placement.pool: {}` into its manifest", instance.pool());
        return Err(refuse(&address, message, &help));
    }
    let place = Placement { instance: instance.clone(), database: database.to_owned() };
    let Some(InstanceState::Awake(server)) = live.instances.get(&instance) else {
        return Err(refuse(&address, format!("instance {instance} does not answer"), "wake it, then run again"));
    };
    let role = server.roles.get(tenant.as_str());
    let mark = role.and_then(|role| role.mark.as_ref());
    let done = mark.is_some_and(|mark| mark.tenant == *tenant && mark.adopted.as_deref() == Some(database));
    let elsewhere = remembered(live).remove(tenant).into_iter().flatten().find(|have| *have != place);
    if let Some(have) = elsewhere {
        let message = format!("tenant {tenant} has a database already: {} on {}", have.database, have.instance);
        return Err(refuse(&address, message, "name the tenant otherwise, or release the one that is there"));
    }
    if role.is_some()
        && mark.is_none()
        && server.databases.get(database).is_none_or(|seen| seen.owner == tenant.as_str())
        || mark.is_some() && !done
    {
        let message = format!("a role `{tenant}` exists on {instance}, and its password stays as it is");
        let help = format!("name the tenant otherwise, as in: o7s adopt tenant/{tenant}-db --database {database}");
        return Err(refuse(&address, message, &help));
    }
    if server.databases.get(database).is_some_and(|seen| seen.tenant.as_ref().is_some_and(|owner| owner != tenant)) {
        return Err(refuse(&address, format!("database {database} is another tenant's"), "see it with: o7s status"));
    }
    let owner = server.databases.get(database).map(|seen| seen.owner.clone());
    Ok(TenantAdoption {
        tenant: tenant.clone(),
        joins: owner.as_ref().is_some_and(|owner| super::may_be_joined(server, owner)),
        owner,
        place,
        generation: manifest.generation,
        connection_limit: manifest.limits.server_connections,
        done,
    })
}

/// Where it is said to be, or the only instance that has such a database.
fn instance_of(
    live: &Live,
    address: &str,
    database: &str,
    on: Option<&InstanceName>,
) -> Result<InstanceName, Box<Problem>> {
    if matches!(database, "postgres" | "template0" | "template1") {
        let message = format!("database {database} belongs to the server itself");
        return Err(refuse(address, message, "give the database that holds the data"));
    }
    if let Some(instance) = on {
        let ours = live.railway.service(instance.as_str()).is_some_and(|service| service.owner == Ownership::Ours);
        if ours {
            return Ok(instance.clone());
        }
        let message = format!("there is no instance {instance} of ours");
        let help = format!("adopt it first: o7s adopt instance/{instance} --id ID");
        return Err(refuse(address, message, &help));
    }
    let has = |state: &InstanceState| matches!(state, InstanceState::Awake(server) if server.databases.contains_key(database));
    let found: Vec<&InstanceName> =
        live.instances.iter().filter(|(_, state)| has(state)).map(|(name, _)| name).collect();
    match found[..] {
        [only] => Ok(only.clone()),
        [] => {
            let message = format!("no instance that answers has a database `{database}`");
            Err(refuse(address, message, "say where it is with --on instance/NAME, once that is adopted and awake"))
        }
        _ => {
            let message = format!("{} instances have a database `{database}`", found.len());
            Err(refuse(address, message, "say which one is meant with --on instance/NAME"))
        }
    }
}

/// What would be forgotten.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Release {
    /// With where each is, if anywhere.
    pub tenants: Vec<(TenantId, Option<Placement>)>,
    /// The service, where it still carries our marker.
    pub service: Option<ServiceId>,
    pub adopted: bool,
}

pub fn release_tenant(live: &Live, tenant: &TenantId) -> Result<Release, Box<Problem>> {
    let address = format!("tenant/{tenant}");
    let places = remembered(live).remove(tenant).unwrap_or_default();
    let known = live.control.routes.contains_key(tenant) || live.control.deletions.contains_key(tenant);
    if live.control.deletions.contains_key(tenant) {
        let message = format!("tenant {tenant} is being deleted; its database waits under another name");
        return Err(refuse(&address, message, "undo the deletion first (`spec.state: present`), or let it finish"));
    }
    match &places[..] {
        [] if !known => {
            Err(refuse(&address, format!("o7s knows no tenant {tenant}"), "see what it knows: o7s status"))
        }
        [] => Ok(Release { tenants: vec![(tenant.clone(), None)], ..Release::default() }),
        [place] => {
            must_answer(live, &address, &place.instance)?;
            Ok(Release { tenants: vec![(tenant.clone(), Some(place.clone()))], ..Release::default() })
        }
        _ => Err(refuse(&address, "its database was found twice".into(), "rename or drop the copy, then run again")),
    }
}

fn must_answer(live: &Live, address: &str, instance: &InstanceName) -> Result<(), Box<Problem>> {
    match live.instances.get(instance) {
        Some(InstanceState::Awake(_)) => Ok(()),
        // Not ours any more, or gone: there is nobody to ask.
        None => Ok(()),
        Some(_) => {
            let message = format!("instance {instance} does not answer, and the marks are on it");
            Err(refuse(address, message, "wake it (connect once) or bring it back, then run again"))
        }
    }
}

/// Everything of ours on it goes along.
pub fn release_instance(live: &Live, instance: &InstanceName) -> Result<Release, Box<Problem>> {
    let address = format!("instance/{instance}");
    let service = live.railway.service(instance.as_str()).filter(|service| service.owner == Ownership::Ours);
    let known = live.control.instances.contains_key(instance.as_str());
    if service.is_none() && !known {
        return Err(refuse(&address, format!("o7s knows no instance {instance}"), "see what it knows: o7s status"));
    }
    if let Some(tenant) = live.control.deletions.iter().find(|(_, row)| row.instance == *instance) {
        let message = format!("tenant {} is being deleted there", tenant.0);
        return Err(refuse(&address, message, "undo the deletion first, or let it finish"));
    }
    let there = remembered(live).into_iter().flat_map(|(tenant, places)| {
        places.into_iter().filter(|place| place.instance == *instance).map(move |place| (tenant.clone(), Some(place)))
    });
    let tenants: Vec<_> = there.collect();
    let adopted = service.is_some_and(|service| service.adopted);
    // A run before this one that closed our superuser left nothing to ask for.
    if service.is_some() && !(adopted && tenants.is_empty()) {
        must_answer(live, &address, instance)?;
    }
    Ok(Release { tenants, service: service.map(|service| service.id.clone()), adopted })
}
