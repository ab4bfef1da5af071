//! What lives beside the fleet and is none of its business: listed for a person who asks, never touched.

use std::collections::BTreeSet;

use super::live::{InstanceState, Live, Ownership, ServerLive};
use crate::manifest::Desired;
use crate::tenancy::{InstanceName, TenantId};

/// Services without our marker, and databases without our mark on our instances, sorted.
pub(super) fn found(desired: &Desired, live: &Live) -> Vec<String> {
    let wanted =
        |name: &str| InstanceName::parse(name).is_ok_and(|instance| desired.pools.contains_key(&instance.pool()));
    let foreign = live.railway.services.iter().filter(|service| service.owner == Ownership::Foreign);
    let published: BTreeSet<&str> =
        desired.tenants.values().flat_map(|tenant| &tenant.publish).map(|publish| publish.service.as_str()).collect();
    let named = |name: &str| published.contains(name) || wanted(name);
    let services = foreign.filter(|service| !named(&service.name));
    let mut found: Vec<String> =
        services.map(|service| format!("service/{}  {}", service.name, service.id)).collect();
    for (instance, state) in &live.instances {
        let InstanceState::Awake(server) = state else { continue };
        found.extend(databases(desired, server).map(|name| format!("database/{name}  on {instance}")));
    }
    found.sort();
    found
}

fn databases<'a>(desired: &'a Desired, server: &'a ServerLive) -> impl Iterator<Item = &'a str> {
    let unmarked = server.databases.iter().filter(|(_, database)| database.tenant.is_none());
    // One that has a tenant's name is half made, or refused, and said there.
    let named = |name: &str| TenantId::parse(name).is_ok_and(|tenant| desired.tenants.contains_key(&tenant));
    unmarked.map(|(name, _)| name.as_str()).filter(move |name| !named(name))
}
