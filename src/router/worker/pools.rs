//! Who gets which server connection, and how many there are: per tenant, and per instance with its tenants' fair shares.

use std::sync::Arc;
use std::time::Duration;

use super::Worker;
use super::clients::BOTH;
use super::outside::{OpenRequest, PoolId};
use super::servers::write_as;
use super::socket::Socket;
use super::state::{Duty, Pool, ServerRecord, Slot, Stage};
use crate::router::handover::{OpenError, Proof, Server};
use crate::router::protocol::back::Back;
use crate::router::protocol::error::{Report, Severity, SqlState};
use crate::router::refusal;
use crate::tenancy::Ceiling;

/// After Postgres said that it has no more connections.
const FULL_PAUSE: Duration = Duration::from_secs(1);
/// Tenants that are remembered for their counts although nobody of theirs is here.
const TENANTS_MAX: usize = 20_000;
/// Idle server connections looked at for one with the client's own settings.
const LOOK_BACK: usize = 4;

impl Worker {
    pub(super) fn pool_for(
        &mut self,
        tenant: usize,
        role: &Arc<str>,
        replication: Option<&str>,
        proof: &Proof,
    ) -> usize {
        let pools = &self.halls.tenants[tenant].pools;
        let same = |pool: &Pool| pool.role == *role && pool.replication.as_deref() == replication;
        if let Some(&key) = pools.iter().find(|&&key| same(&self.halls.pools[key])) {
            // The latest login knows the latest password.
            self.halls.pools[key].proof = proof.clone();
            return key;
        }
        let serial = self.halls.next_serial();
        let key = self.halls.pools.insert(Pool {
            serial,
            tenant,
            role: role.clone(),
            replication: replication.map(str::to_owned),
            proof: proof.clone(),
            idle: Vec::new(),
            waiters: std::collections::VecDeque::new(),
            opening: 0,
            servers: 0,
            clients: 0,
            greetings: std::collections::HashMap::new(),
            refusal: None,
        });
        self.halls.tenants[tenant].pools.push(key);
        key
    }

    /// A server connection for a client that has none: at once, or by the queue.
    pub(super) fn acquire(&mut self, client: usize) -> bool {
        let record = &self.halls.clients[client];
        let key = record.pool;
        let tenant = self.halls.tenant_of_pool(key);
        if !tenant.paused() {
            let wanted = self.halls.clients[client].front.settings.id;
            let pool = &mut self.halls.pools[key];
            if let Some(last) = pool.idle.len().checked_sub(1) {
                let from = pool.idle.len().saturating_sub(LOOK_BACK);
                let fits = |&at: &usize| {
                    let settings = &self.halls.servers[pool.idle[at]].back.settings;
                    settings.as_ref().is_some_and(|settings| settings.id == wanted)
                };
                let at = (from..=last).rev().find(fits).unwrap_or(last);
                let server = pool.idle.remove(at);
                self.lend(server, client);
                return true;
            }
        }
        let record = &mut self.halls.clients[client];
        record.waiting = Some(self.now);
        self.halls.pools[key].waiters.push_back(client);
        self.keep_ticking();
        self.want_servers(key);
        false
    }

    fn lend(&mut self, server: usize, client: usize) {
        let record = &mut self.halls.servers[server];
        record.duty = Duty::Lent;
        record.client = Some(client);
        self.halls.clients[client].server = Some(server);
    }

    /// At rest and clean: to the oldest waiter, to another tenant of the instance, or into the pool.
    pub(super) fn put_back(&mut self, key: usize) {
        let server = &self.halls.servers[key];
        debug_assert!(server.back.at_rest(), "replies are owed to somebody");
        let pool_key = server.pool;
        if server.cancels > 0 {
            // A cancel on its way must not meet somebody else's query.
            self.halls.servers[key].duty = Duty::Cleaning { until: self.now + self.timing.cleaning };
            return self.keep_ticking();
        }
        let tenant = self.halls.pools[pool_key].tenant;
        if self.is_stale(key) || self.owes_its_place(tenant, pool_key) {
            self.close_server(key);
            return self.check_applied(tenant);
        }
        if !self.halls.tenants[tenant].paused()
            && let Some(client) = self.halls.pools[pool_key].waiters.pop_front()
        {
            self.lend(key, client);
            return self.waited(client);
        }
        let now = self.now;
        self.halls.servers[key].duty = Duty::Idle { since: now };
        self.halls.pools[pool_key].idle.push(key);
        self.keep_ticking();
        self.check_applied(tenant);
    }

    /// A waiter has got its server connection.
    fn waited(&mut self, client: usize) {
        let record = &mut self.halls.clients[client];
        let since = record.waiting.take();
        record.told_to_wait = false;
        let pool = record.pool;
        let greeting = record.stage == Stage::Greeting;
        let waited = since.map_or(Duration::ZERO, |since| self.now.duration_since(since));
        let counts = &mut self.halls.tenant_of_pool(pool).counts;
        counts.waits += 1;
        counts.wait_micros += u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        if greeting {
            self.greet_from_server(client);
        } else {
            self.advance(client);
        }
    }

    /// The address or the database is not the tenant's any more, or may not be.
    pub(super) fn is_stale(&self, key: usize) -> bool {
        let server = &self.halls.servers[key];
        let entry = &self.halls.tenants[self.halls.pools[server.pool].tenant].entry;
        server.doubted || server.database != entry.database || !entry.endpoints.contains(&server.address)
    }

    /// Tenants of the same instance wait for a place, and this one has more than its share, or no use for it.
    fn owes_its_place(&self, tenant: usize, pool: usize) -> bool {
        let tenants = &self.halls.tenants;
        let instance = &self.halls.instances[tenants[tenant].instance];
        if !instance.queue.iter().any(|&other| other != tenant) {
            return false;
        }
        if self.halls.pools[pool].waiters.is_empty() {
            return true;
        }
        // Those that wait and have none yet count as one more.
        tenants[tenant].open > (instance.cap / (instance.active + 1)).max(1)
    }

    /// Opens what the pool's waiters need, as far as tenant and instance allow.
    pub(super) fn want_servers(&mut self, key: usize) {
        loop {
            let pool = &self.halls.pools[key];
            let tenant_key = pool.tenant;
            let tenant = &self.halls.tenants[tenant_key];
            let full = tenant.full_until.is_some_and(|until| until > self.now);
            if tenant.paused() || full || pool.opening as usize >= pool.waiters.len() {
                return;
            }
            if tenant.open >= tenant.entry.server_connections && !self.close_idle_of(tenant_key) {
                return;
            }
            let instance_key = self.halls.tenants[tenant_key].instance;
            let instance = &self.halls.instances[instance_key];
            if instance.open >= instance.cap && !self.close_idle_on(instance_key) {
                let queue = &mut self.halls.instances[instance_key].queue;
                if !queue.contains(&tenant_key) {
                    queue.push_back(tenant_key);
                }
                return;
            }
            let tenant = &mut self.halls.tenants[tenant_key];
            tenant.open += 1;
            self.halls.instances[instance_key].open += 1;
            self.halls.instances[instance_key].active += u32::from(tenant.open == 1);
            let entry = tenant.entry.clone();
            let pool = &mut self.halls.pools[key];
            pool.opening += 1;
            let id = PoolId { worker: self.index, key, serial: pool.serial };
            let (role, proof, replication) = (pool.role.clone(), pool.proof.clone(), pool.replication.clone());
            self.outside.open(OpenRequest { pool: id, entry, role, proof, replication });
        }
    }

    /// The longest idle connection among all roles of a tenant.
    fn close_idle_of(&mut self, tenant: usize) -> bool {
        let pools = self.halls.tenants[tenant].pools.iter();
        let oldest = pools.filter_map(|&pool| self.oldest_idle(pool)).min();
        let Some((_, server)) = oldest else { return false };
        self.close_server(server);
        true
    }

    fn close_idle_on(&mut self, instance: usize) -> bool {
        let pools = self.halls.pools.iter().filter(|(_, pool)| self.halls.tenants[pool.tenant].instance == instance);
        let oldest = pools.filter_map(|(pool, _)| self.oldest_idle(pool)).min();
        let Some((_, server)) = oldest else { return false };
        self.close_server(server);
        true
    }

    fn oldest_idle(&self, pool: usize) -> Option<(std::time::Instant, usize)> {
        let &server = self.halls.pools[pool].idle.first()?;
        match self.halls.servers[server].duty {
            Duty::Idle { since } => Some((since, server)),
            _ => None,
        }
    }

    /// A server connection of this pool is no more: whoever waits for its place may have it.
    pub(super) fn place_freed(&mut self, pool: usize) {
        let tenant_key = self.halls.pools[pool].tenant;
        let tenant = &mut self.halls.tenants[tenant_key];
        tenant.open -= 1;
        let (instance, last) = (tenant.instance, tenant.open == 0);
        self.halls.instances[instance].open -= 1;
        self.halls.instances[instance].active -= u32::from(last);
        if let Some(next) = self.halls.instances[instance].queue.pop_front() {
            for pool in self.halls.tenants[next].pools.clone() {
                self.want_servers(pool);
            }
        }
        for pool in self.halls.tenants[tenant_key].pools.clone() {
            self.want_servers(pool);
        }
    }

    pub(super) fn opened(&mut self, id: PoolId, result: Result<Box<Server>, OpenError>) {
        let Some(pool) = self.halls.pools.get_mut(id.key).filter(|pool| pool.serial == id.serial) else { return };
        pool.opening -= 1;
        match result {
            Ok(server) => self.server_opened(id.key, *server),
            Err(error) => {
                match error {
                    // Others have taken what there is. Whoever waits goes on waiting, for one of ours or one of theirs.
                    OpenError::Refused { code, body } if &code == b"53300" => {
                        self.halls.pools[id.key].refusal = Some(body);
                        self.halls.tenant_of_pool(id.key).full_until = Some(self.now + FULL_PAUSE);
                        self.keep_ticking();
                    }
                    error => self.fail_waiters(id.key, &error),
                }
                self.place_freed(id.key);
                self.unused.push(id.key);
            }
        }
    }

    fn server_opened(&mut self, pool_key: usize, server: Server) {
        let Server { stream, tls, address, database, parameters, process, secret, received } = server;
        let none = self.shared.shelf.none();
        let serial = self.halls.next_serial();
        let record = ServerRecord {
            socket: Socket::new(stream, tls.map(|tls| Box::new(rustls::Connection::Client(*tls)))),
            input: Vec::new(),
            back: Back::new(none, &parameters),
            pool: pool_key,
            client: None,
            duty: Duty::Lent,
            address,
            database,
            process,
            secret,
            serial,
            cancels: 0,
            doubted: false,
            credited: self.now,
            working: None,
            has_a_part: false,
            soiled: false,
            rests_since: self.now,
            streamed: 0,
            runs_since: None,
        };
        // A server that was upgraded tells so: what the next clients are greeted with must be its own words.
        let version = |pairs: &[(String, String)]| pairs.iter().find(|(name, _)| name == "server_version").cloned();
        let fresh = version(&parameters).map(|(_, value)| value.into_boxed_str());
        let known = self.halls.servers.iter().find(|(_, other)| other.pool == pool_key).and_then(|(_, other)| {
            other.back.parameters.iter().find(|(name, _)| &**name == "server_version").map(|(_, value)| value.clone())
        });
        let pool = &mut self.halls.pools[pool_key];
        if known != fresh {
            pool.greetings.clear();
        }
        pool.servers += 1;
        pool.refusal = None;
        let key = self.halls.servers.insert(record);
        let source = self.halls.servers[key].socket.source();
        if let Err(error) = self.poll.registry().register(source, Slot::Server(key).token(), BOTH) {
            tracing::error!(%error, "epoll takes no more connections");
            return self.close_server(key);
        }
        if !received.is_empty() {
            self.server_said(key, &received);
        }
        if self.halls.servers[key].duty == Duty::Lent {
            self.put_back(key);
        }
    }

    fn fail_waiters(&mut self, pool: usize, error: &OpenError) {
        let waiters: Vec<usize> = self.halls.pools[pool].waiters.iter().copied().collect();
        let instance = self.halls.tenant_of_pool(pool).instance;
        let name = self.halls.instances[instance].name.clone();
        for client in waiters {
            let Some(record) = self.halls.clients.get(client) else { continue };
            let severity = if record.stage == Stage::Greeting { Severity::Fatal } else { Severity::Error };
            let mut bytes = Vec::new();
            match error {
                OpenError::Refused { body, .. } => write_as(&mut bytes, severity, body),
                OpenError::Unreachable { detail } => {
                    let message = format!("the tenant's database instance \"{name}\" does not answer");
                    Report::new(severity, SqlState::CANNOT_CONNECT_NOW, message)
                        .detail(detail.as_str())
                        .hint("It may be starting or being moved; try again in a moment.")
                        .write(&mut bytes);
                }
                OpenError::Unproven { detail } => {
                    let message = format!("the tenant's database instance \"{name}\" could not prove itself");
                    Report::new(severity, SqlState::CONNECTION_FAILURE, message)
                        .detail(detail.as_str())
                        .write(&mut bytes);
                }
            }
            self.refuse_with(client, &bytes);
        }
    }

    /// A pool without clients and server connections is made again when it is needed.
    pub(super) fn forget_pool(&mut self, key: usize) {
        let Some(pool) = self.halls.pools.get(key) else { return };
        if pool.clients > 0 || pool.servers > 0 || pool.opening > 0 {
            return;
        }
        let tenant_key = pool.tenant;
        self.halls.pools.remove(key);
        let tenant = &mut self.halls.tenants[tenant_key];
        tenant.pools.retain(|&pool| pool != key);
        if tenant.pools.is_empty() && self.halls.tenants.len() > TENANTS_MAX {
            self.meter_tenant(tenant_key);
            let tenant = self.halls.tenants.remove(tenant_key);
            self.halls.tenant_keys.remove(&tenant.entry.tenant);
            self.halls.instances[tenant.instance].queue.retain(|&waiting| waiting != tenant_key);
        }
    }

    /// All deadlines, a few times a second while there are any.
    pub(super) fn tick(&mut self) {
        self.next_tick = None;
        let mut again = false;
        let pools: Vec<usize> = self.halls.pools.iter().map(|(key, _)| key).collect();
        for key in pools {
            again |= self.tick_pool(key);
        }
        let late: Vec<usize> = self
            .halls
            .servers
            .iter()
            .filter_map(|(key, server)| match server.duty {
                Duty::Cleaning { until } => {
                    again = true;
                    (until <= self.now).then_some(key)
                }
                _ => None,
            })
            .collect();
        for key in late {
            self.close_server(key);
        }
        // A client that is gone may have left several queries; each cancel request ends one.
        let busy = |server: &ServerRecord| matches!(server.duty, Duty::Cleaning { .. }) && server.back.owes();
        let busy: Vec<usize> =
            self.halls.servers.iter().filter(|(_, server)| busy(server)).map(|(key, _)| key).collect();
        for key in busy {
            self.cancel_query(key);
        }
        self.end_the_ended();
        again |= self.halls.clients.iter().any(|(_, client)| client.ended.is_some());
        again |= self.end_patience();
        again |= self.tick_ceilings();
        again |= self.tick_drain();
        if again {
            self.keep_ticking();
        }
    }

    fn tick_pool(&mut self, key: usize) -> bool {
        let pool = &self.halls.pools[key];
        if pool.waiters.is_empty() && pool.idle.is_empty() {
            return false;
        }
        let paused = self.halls.tenants[pool.tenant].paused();
        let waiters: Vec<usize> = self.halls.pools[key].waiters.iter().copied().collect();
        for client in waiters {
            let record = &mut self.halls.clients[client];
            let Some(since) = record.waiting else { continue };
            let waited = self.now.duration_since(since);
            if waited >= self.timing.query_wait {
                self.refuse_waiter(client, paused);
            } else if waited >= self.timing.wait_notice && !record.told_to_wait {
                record.told_to_wait = true;
                if record.stage == Stage::Open {
                    let text =
                        if paused { "waiting: the tenant is paused" } else { "waiting for a server connection" };
                    let mut bytes = Vec::new();
                    Report::notice(text).write(&mut bytes);
                    self.write_client(client, &bytes);
                }
            } else if waited < self.timing.wait_notice {
                // The others came later.
                break;
            }
        }
        self.want_servers(key);
        if !paused && !self.halls.pools[key].waiters.is_empty() {
            self.end_idle_pin(key);
        }
        while let Some((since, server)) = self.oldest_idle(key) {
            if self.now.duration_since(since) < self.timing.server_idle {
                break;
            }
            self.close_server(server);
        }
        let pool = &self.halls.pools[key];
        !pool.waiters.is_empty() || !pool.idle.is_empty()
    }

    fn refuse_waiter(&mut self, client: usize, paused: bool) {
        let record = &self.halls.clients[client];
        let severity = if record.stage == Stage::Greeting { Severity::Fatal } else { Severity::Error };
        let record_pool = record.pool;
        let entry = self.halls.tenant_of_pool(record_pool).entry.clone();
        let seconds = self.timing.query_wait.as_secs();
        let tenant = &entry.tenant;
        let refusal = self.halls.pools[record_pool].refusal.clone();
        let report = if paused {
            let message = format!("tenant \"{tenant}\" is paused, for more than {seconds} s by now");
            Report::new(severity, SqlState::CANNOT_CONNECT_NOW, message).hint("Try again in a moment.")
        } else {
            let report = refusal::server_connections(&entry, severity, seconds, refusal.as_deref());
            let tenant = self.halls.pools[record_pool].tenant;
            self.count_refusal(tenant, Ceiling::ServerConnections, &report);
            report
        };
        self.refuse(client, &report);
    }
}
