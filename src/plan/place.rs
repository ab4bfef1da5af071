//! Where each tenant's database is or will be. A place is chosen once and then remembered: in the control database, and
//! by the mark on the database itself, which wins.

use std::collections::BTreeMap;

use super::action::Warning;
use super::live::{InstanceState, Live, Placement};
use super::planner::Draft;
use crate::manifest::{Desired, Pool, Tenant};
use crate::tenancy::{InstanceName, PoolName, TenantId, counted};

/// What placing came to for one tenant of the manifests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Was chosen before.
    Remembered(Placement),
    Chosen(Placement),
    /// The remembered place is not where the manifest wants it: a move.
    Elsewhere {
        is: InstanceName,
        wanted: String,
    },
    /// The pool has no room left and may grow no more.
    Full {
        pool: PoolName,
    },
    /// An instance that may hold the tenant cannot be asked, so nothing may be concluded.
    Unseen {
        instances: Vec<InstanceName>,
    },
    /// Its database is there, and somebody gave it another name.
    Renamed(Placement),
    /// Its mark was found on two instances.
    Twice {
        on: Vec<InstanceName>,
    },
}

/// Where every tenant known to anybody is: marks on databases over rows of the control database.
pub fn remembered(live: &Live) -> BTreeMap<TenantId, Vec<Placement>> {
    let mut found: BTreeMap<TenantId, Vec<Placement>> = BTreeMap::new();
    for (instance, state) in &live.instances {
        let InstanceState::Awake(server) = state else { continue };
        for (database, seen) in &server.databases {
            // A deletion in its grace time keeps its mark under another name; that is no place to route to.
            if let Some(tenant) = seen.tenant.as_ref().filter(|_| seen.is_at_home(database)) {
                let place = Placement { instance: instance.clone(), database: database.clone() };
                found.entry(tenant.clone()).or_default().push(place);
            }
        }
    }
    for (tenant, row) in &live.control.placements {
        let marks = found.entry(tenant.clone()).or_default();
        // Two marks are settled by the row, one mark beats it, none leaves the row.
        match marks.len() {
            0 => marks.push(row.clone()),
            1 => {}
            _ if marks.contains(row) => *marks = vec![row.clone()],
            _ => {}
        }
    }
    found
}

/// Lowering `instances.max` ends nothing that lives; it would be easy to believe that it does.
pub(super) fn warn_of_too_many(draft: &mut Draft<'_>, placer: &Placer<'_>) {
    for pool in draft.desired.pools.values() {
        let (live, max) = (placer.of_pool(pool).count(), pool.instances_max);
        if live > max as usize {
            let (have, no) = (counted(live, "instance"), "none is ended by it, and no new one is made");
            let text = format!("pool {} has {have} and `instances.max` is {max}: {no}", pool.name);
            draft.plan.warnings.push(Warning::at(pool.origins.at("spec.instances.max"), text));
        }
    }
}

/// Room on an instance: tenants and the server connections they may open.
#[derive(Debug, Clone, Copy, Default)]
struct Load {
    tenants: u32,
    connections: u32,
}

/// Places tenants in the order of their names, each on the least filled instance of its pool with room, lowest number
/// on ties; a new instance only when none has room.
pub struct Placer<'a> {
    desired: &'a Desired,
    loads: BTreeMap<InstanceName, Load>,
    /// Connections each existing instance has for tenants.
    capacity: BTreeMap<InstanceName, u32>,
    fresh_capacity: BTreeMap<PoolName, u32>,
    unseen: Vec<InstanceName>,
}

impl<'a> Placer<'a> {
    /// `existing`: instances of ours with the connections each has for tenants; `fresh_capacity`: what a new one of each
    /// pool would have; `unseen`: those that may hold tenants nobody remembers.
    pub fn new(
        desired: &'a Desired,
        existing: BTreeMap<InstanceName, u32>,
        fresh_capacity: BTreeMap<PoolName, u32>,
        unseen: Vec<InstanceName>,
    ) -> Placer<'a> {
        let loads = existing.keys().map(|name| (name.clone(), Load::default())).collect();
        Placer { desired, loads, capacity: existing, fresh_capacity, unseen }
    }

    /// All instances that exist or were opened while placing.
    pub fn instances(&self) -> impl Iterator<Item = &InstanceName> {
        self.loads.keys()
    }

    /// Counts a tenant that is there already, manifest or not; a retained one still fills its place.
    pub fn count(&mut self, placement: &Placement, tenant: Option<&Tenant>) {
        let load = self.loads.entry(placement.instance.clone()).or_default();
        load.tenants += 1;
        load.connections += tenant.map_or(0, |tenant| tenant.limits.server_connections);
    }

    /// For a tenant that has no place yet.
    pub fn choose(&mut self, tenant: &Tenant) -> Place {
        let unseen: Vec<_> = self.unseen.iter().filter(|name| name.pool() == tenant.pool).cloned().collect();
        if !unseen.is_empty() {
            return Place::Unseen { instances: unseen };
        }
        let Some(pool) = self.desired.pools.get(&tenant.pool) else {
            return Place::Full { pool: tenant.pool.clone() };
        };
        let instance = match &tenant.pinned {
            Some(pinned) => Some(pinned.clone()),
            None => self.least_filled(pool, tenant).or_else(|| self.next_free(pool)),
        };
        let Some(instance) = instance else { return Place::Full { pool: pool.name.clone() } };
        let placement = Placement { instance, database: tenant.name.to_string() };
        self.count(&placement, Some(tenant));
        Place::Chosen(placement)
    }

    /// Opens instances until the pool has its minimum.
    pub fn fill_to_minimum(&mut self, pool: &Pool) {
        while self.of_pool(pool).count() < pool.instances_min as usize {
            let Some(name) = self.next_free(pool) else { return };
            self.loads.insert(name, Load::default());
        }
    }

    fn of_pool<'b>(&'b self, pool: &'b Pool) -> impl Iterator<Item = (&'b InstanceName, &'b Load)> {
        self.loads.iter().filter(|(name, _)| name.pool() == pool.name)
    }

    fn least_filled(&self, pool: &Pool, tenant: &Tenant) -> Option<InstanceName> {
        let wanted = tenant.limits.server_connections;
        let fits = |(name, load): &(&InstanceName, &Load)| {
            let connections = self.capacity.get(*name).or_else(|| self.fresh_capacity.get(&pool.name));
            load.tenants < pool.tenants_per_instance
                && connections.is_none_or(|room| load.connections + wanted <= *room)
        };
        self.of_pool(pool)
            .filter(fits)
            .min_by_key(|(name, load)| (load.tenants, name.number()))
            .map(|(name, _)| name.clone())
    }

    fn next_free(&self, pool: &Pool) -> Option<InstanceName> {
        if self.of_pool(pool).count() >= pool.instances_max as usize {
            return None;
        }
        (1..=pool.instances_max)
            .map(|number| InstanceName::of(&pool.name, number))
            .find(|name| !self.loads.contains_key(name))
    }
}
