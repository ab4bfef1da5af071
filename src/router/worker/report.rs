//! What a worker counts, and what it tells about itself when asked.

use std::sync::Arc;

use super::Worker;
use super::state::Duty;

/// Of one tenant since the worker began; they only grow.
pub use crate::tenancy::Usage as Counts;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantReport {
    pub tenant: Arc<str>,
    pub instance: Arc<str>,
    pub tier: Arc<str>,
    pub version: u64,
    pub paused: bool,
    pub clients: u32,
    /// Clients that wait for a server connection.
    pub waiting: u32,
    /// Clients that keep theirs between transactions although they pool transactions.
    pub pinned: u32,
    pub servers: u32,
    pub idle_servers: u32,
    pub counts: Counts,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Tenants that were here since the worker began, by name.
    pub tenants: Vec<TenantReport>,
}

impl Worker {
    pub(super) fn report(&self) -> Report {
        let mut tenants: Vec<TenantReport> = self
            .halls
            .tenants
            .iter()
            .map(|(_, tenant)| {
                let pools = || tenant.pools.iter().map(|&pool| &self.halls.pools[pool]);
                TenantReport {
                    tenant: tenant.entry.tenant.clone(),
                    instance: tenant.entry.instance.clone(),
                    tier: tenant.entry.tier.clone(),
                    version: tenant.entry.version,
                    paused: tenant.paused(),
                    clients: pools().map(|pool| pool.clients).sum(),
                    waiting: pools().map(|pool| u32::try_from(pool.waiters.len()).unwrap_or(u32::MAX)).sum(),
                    pinned: 0,
                    servers: pools().map(|pool| pool.servers).sum(),
                    idle_servers: pools().map(|pool| u32::try_from(pool.idle.len()).unwrap_or(u32::MAX)).sum(),
                    counts: tenant.counts,
                }
            })
            .collect();
        for (_, server) in &self.halls.servers {
            let lent = server.duty == Duty::Lent;
            let pins = server
                .client
                .and_then(|key| self.halls.clients.get(key))
                .is_some_and(|client| client.front.pin.is_some());
            if lent && pins {
                let name = &self.halls.tenants[self.halls.pools[server.pool].tenant].entry.tenant;
                if let Some(report) = tenants.iter_mut().find(|report| report.tenant == *name) {
                    report.pinned += 1;
                }
            }
        }
        tenants.sort_by(|a, b| a.tenant.cmp(&b.tenant));
        Report { tenants }
    }
}
