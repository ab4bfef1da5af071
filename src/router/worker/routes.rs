//! Changes of routes: entries replaced while their clients stay, pauses, and the end.

use std::sync::Arc;
use std::time::Instant;

use super::Worker;
use super::ceilings::Ceilings;
use super::clients::shutting_down;
use super::outside::Order;
use super::servers::moved;
use super::state::{ClientRecord, Duty, Instance, Stage, Tenant};
use crate::router::protocol::error::{Report, SqlState};
use crate::router::table::{Entry, State, Table};

impl Worker {
    pub(super) fn tenant_for(&mut self, entry: &Arc<Entry>) -> usize {
        if let Some(&key) = self.halls.tenant_keys.get(&entry.tenant) {
            return key;
        }
        let instance = self.instance_for(&entry.instance);
        let key = self.halls.tenants.insert(Tenant {
            entry: entry.clone(),
            instance,
            pools: Vec::new(),
            open: 0,
            counts: super::Counts::default(),
            metered: super::Counts::default(),
            applied: entry.version,
            patience_ends: None,
            full_until: None,
            held: Vec::new(),
            ceilings: entry.allowance.as_ref().map(|allowance| {
                let mut ceilings = Ceilings::new(allowance, || self.team.next_lease());
                ceilings.stored = self.sizes.get(&entry.tenant).copied();
                Box::new(ceilings)
            }),
        });
        self.halls.tenant_keys.insert(entry.tenant.clone(), key);
        key
    }

    fn instance_for(&mut self, name: &Arc<str>) -> usize {
        if let Some(&key) = self.halls.instance_keys.get(name) {
            return key;
        }
        let instance = Instance {
            name: name.clone(),
            home: self.team.home(name),
            cap: self.timing.instance_cap,
            open: 0,
            active: 0,
            queue: std::collections::VecDeque::new(),
            crowd: super::crowd::Crowd::default(),
        };
        let key = self.halls.instances.insert(instance);
        self.halls.instance_keys.insert(name.clone(), key);
        key
    }

    /// Of all tenants that were here, those whose entry is another one now.
    pub(super) fn table(&mut self, table: &Table) {
        let changed: Vec<(Arc<str>, Option<Arc<Entry>>)> = self
            .halls
            .tenants
            .iter()
            .filter_map(|(_, tenant)| {
                let name = &tenant.entry.tenant;
                let entry = table.get(name).or_else(|| table.wild(name));
                (entry.as_deref() != Some(&*tenant.entry)).then(|| (name.clone(), entry))
            })
            .collect();
        for (tenant, entry) in changed {
            self.route(&tenant, entry);
        }
    }

    pub(super) fn route(&mut self, tenant: &Arc<str>, entry: Option<Arc<Entry>>) {
        let Some(&key) = self.halls.tenant_keys.get(tenant) else {
            // Nobody of this tenant is here, so nothing runs by the old entry.
            if let Some(entry) = entry {
                self.outside.applied(tenant, entry.version);
            }
            return;
        };
        let Some(entry) = entry else { return self.end_tenant(key, &retired(tenant)) };
        let instance = self.instance_for(&entry.instance);
        let patience_ends = match entry.state {
            State::Paused { patience } => Some(self.now + patience),
            _ => None,
        };
        let record = &mut self.halls.tenants[key];
        // What is open is closed soon; until then it counts where the tenant is.
        if record.instance != instance {
            self.meter_tenant(key);
            let record = &mut self.halls.tenants[key];
            let (old, open) = (record.instance, record.open);
            record.instance = instance;
            self.halls.instances[old].queue.retain(|&waiting| waiting != key);
            for (instance, sign) in [(old, -1), (instance, 1)] {
                let instance = &mut self.halls.instances[instance];
                instance.open = instance.open.saturating_add_signed(sign * i32::try_from(open).unwrap_or(i32::MAX));
                instance.active = instance.active.saturating_add_signed(sign * i32::from(open > 0));
            }
        }
        let record = &mut self.halls.tenants[key];
        record.patience_ends = patience_ends;
        record.entry = entry.clone();
        self.ceilings_change(key);
        match entry.state {
            State::Suspended => return self.end_tenant(key, &suspended(tenant)),
            State::Retired => return self.end_tenant(key, &retired(tenant)),
            State::Active | State::Paused { .. } => {}
        }
        if patience_ends.is_some() {
            self.keep_ticking();
        }
        for pool in self.halls.tenants[key].pools.clone() {
            for server in self.halls.pools[pool].idle.clone() {
                if self.is_stale(server) {
                    self.close_server(server);
                }
            }
        }
        if self.halls.instances[instance].home != self.index {
            self.send_clients_home(key);
        }
        if !self.halls.tenants[key].paused() {
            self.resume(key);
        }
        self.check_applied(key);
    }

    /// Whoever waited for the tenant to go on.
    fn resume(&mut self, key: usize) {
        for client in std::mem::take(&mut self.halls.tenants[key].held) {
            let Some(record) = self.halls.clients.get_mut(client) else { continue };
            let Some(server) = record.server else { continue };
            record.preparing = false;
            let greeting = record.stage == Stage::Greeting;
            if self.is_stale(server) {
                self.client_leaves(client, &moved());
            } else if greeting {
                self.greet_from_server(client);
            } else {
                self.advance(client);
            }
        }
        for pool in self.halls.tenants[key].pools.clone() {
            // Idle connections first, then new ones.
            while let Some(server) = self.halls.pools[pool].idle.pop() {
                if self.halls.pools[pool].waiters.is_empty() {
                    self.halls.pools[pool].idle.push(server);
                    break;
                }
                self.put_back(server);
            }
            self.want_servers(pool);
        }
    }

    /// Suspended, retired or gone: clients at rest hear it now, the others when they come to rest.
    fn end_tenant(&mut self, key: usize, report: &Report<'_>) {
        let pools = self.halls.tenants[key].pools.clone();
        let clients: Vec<usize> = self
            .halls
            .clients
            .iter()
            .filter(|(_, client)| pools.contains(&client.pool) && client.stage != Stage::Gone)
            .map(|(client, _)| client)
            .collect();
        for client in clients {
            self.client_leaves(client, report);
        }
        for pool in pools {
            for server in self.halls.pools[pool].idle.clone() {
                self.close_server(server);
            }
        }
        self.check_applied(key);
    }

    /// Tells that the tenant's entry is in force, once it is: paused, and nothing runs; or nothing runs elsewhere.
    pub(super) fn check_applied(&mut self, key: usize) {
        let tenant = &self.halls.tenants[key];
        if tenant.applied >= tenant.entry.version {
            return;
        }
        let paused = tenant.paused();
        let running = self.halls.servers.iter().any(|(server, record)| {
            let ours = self.halls.pools[record.pool].tenant == key;
            let at_work = match record.duty {
                // A client that keeps it waits with it while the tenant is paused.
                Duty::Lent => !paused || !record.back.at_rest(),
                Duty::Cleaning { .. } => true,
                Duty::Idle { .. } | Duty::Gone => false,
            };
            ours && at_work && (paused || self.is_stale(server))
        });
        if !running {
            let tenant = &mut self.halls.tenants[key];
            tenant.applied = tenant.entry.version;
            self.outside.applied(&tenant.entry.tenant.clone(), tenant.applied);
        }
    }

    /// Ends what still runs for paused tenants whose patience has ended; answers whether some is still to end.
    pub(super) fn end_patience(&mut self) -> bool {
        let mut again = false;
        let mut due = Vec::new();
        for (key, tenant) in &mut self.halls.tenants {
            match tenant.patience_ends {
                Some(at) if at <= self.now => {
                    tenant.patience_ends = None;
                    due.push(key);
                }
                Some(_) => again = true,
                None => {}
            }
        }
        for key in due {
            let busy: Vec<usize> = self
                .halls
                .servers
                .iter()
                .filter(|(_, server)| self.halls.pools[server.pool].tenant == key && !server.back.at_rest())
                .filter_map(|(_, server)| server.client)
                .collect();
            for client in busy {
                self.client_leaves(client, &cut_short());
            }
            self.check_applied(key);
        }
        again
    }

    fn send_clients_home(&mut self, key: usize) {
        let pools = self.halls.tenants[key].pools.clone();
        let clients: Vec<usize> = self
            .halls
            .clients
            .iter()
            .filter(|(_, client)| pools.contains(&client.pool))
            .map(|(client, _)| client)
            .collect();
        for client in clients {
            self.check_home(client);
        }
    }

    /// A client at rest whose tenant's instance is another worker's goes there, with all it has but its key.
    pub(super) fn check_home(&mut self, client: usize) {
        let Some(record) = self.halls.clients.get(client) else { return };
        let tenant = &self.halls.tenants[self.halls.pools[record.pool].tenant];
        let home = self.halls.instances[tenant.instance].home;
        let (number, held_up) = (record.number, record.held_up);
        let settled = record.server.is_none() && matches!(record.stage, Stage::Open | Stage::Greeting);
        if home == self.index || !settled || held_up || record.fed || record.socket.blocked() {
            return;
        }
        let (pool, admitted) = (record.pool, record.admitted);
        let entry = tenant.entry.clone();
        self.session_ends(client);
        let record = &mut self.halls.clients[client];
        record.admitted = admitted;
        record.entry = entry;
        let _ = self.poll.registry().deregister(record.socket.source());
        record.waiting = None;
        self.halls.pools[pool].waiters.retain(|&waiter| waiter != client);
        self.halls.pools[pool].clients -= 1;
        self.halls.numbers.remove(&number);
        let mut record = self.halls.clients.remove(client);
        record.socket.readable = true;
        self.team.send(home, Order::Move(Box::new(record)));
    }

    /// A client that came from another worker.
    pub(super) fn settle(&mut self, mut record: ClientRecord) {
        let entry = record.entry.clone();
        let tenant = self.tenant_for(&entry);
        record.pool = self.pool_for(tenant, &record.role, None, &record.proof);
        let greeting = record.stage == Stage::Greeting;
        let number = record.number;
        if let Some(ceilings) = self.halls.tenants[tenant].ceilings.as_mut().filter(|_| record.admitted) {
            ceilings.slots.lease.force();
        }
        let Some(key) = self.seat(record) else { return };
        self.halls.numbers.insert(number, key);
        if self.end_if_over(key) {
            return;
        }
        if greeting {
            self.greet(key, &[]);
        } else {
            self.advance(key);
            self.client_readable(key);
        }
    }

    pub(super) fn drain(&mut self, until: Instant) {
        self.draining = Some(until);
        let idle: Vec<usize> = self
            .halls
            .clients
            .iter()
            .filter(|(_, client)| {
                client.stage == Stage::Greeting
                    || client.server.is_none_or(|server| self.halls.servers[server].back.at_rest())
            })
            .map(|(key, _)| key)
            .collect();
        for client in idle {
            self.client_leaves(client, &shutting_down());
        }
        self.keep_ticking();
    }

    pub(super) fn tick_drain(&mut self) -> bool {
        let Some(until) = self.draining else { return false };
        if until <= self.now {
            let left: Vec<usize> = self.halls.clients.iter().map(|(key, _)| key).collect();
            for client in left {
                self.client_leaves(client, &shutting_down());
                self.client_gone(client);
            }
        }
        true
    }
}

fn suspended(tenant: &str) -> Report<'static> {
    Report::fatal(SqlState::INVALID_AUTHORIZATION, format!("tenant \"{tenant}\" is suspended"))
        .hint("Its data is kept. Ask the operator of this platform.")
}

fn retired(tenant: &str) -> Report<'static> {
    Report::fatal(SqlState::INVALID_AUTHORIZATION, format!("tenant \"{tenant}\" is retired"))
        .hint("Ask the operator of this platform.")
}

fn cut_short() -> Report<'static> {
    Report::fatal(SqlState(*b"40001"), "the transaction was ended because the tenant is paused")
        .hint("It was rolled back. Connect again and run it again.")
}
