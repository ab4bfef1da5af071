//! One thread, one epoll loop, and all clients, server connections and pools of its instances. Nothing in here waits, and
//! nothing is shared: other threads send [`Order`]s.
//!
//! Read: outside (what it asks of the async side), socket, turns, crowd, state (its records), clients, servers, pools,
//! pins, tokens, ceilings, leases, routes, report, meter.

mod ceilings;
mod clients;
mod crowd;
mod leases;
mod meter;
mod outside;
mod pins;
mod pools;
mod report;
mod routes;
mod servers;
mod socket;
mod state;
mod team;
mod tokens;
mod turns;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Poll, Token};

use super::protocol::frame::Out;
use super::protocol::front::Shared;
use super::tokens::ApiKeys;
use meter::Meter;
pub use outside::{CancelRequest, Leased, OpenRequest, Order, Outside, PoolId, ServerId};
pub use report::{Counts, Report, TenantReport};
use state::{Halls, Slot};
pub use team::{Team, Timing, WORKERS_MAX, replica_of};
use turns::Turns;

const WAKER: Token = Token(usize::MAX);
/// A socket's turn ends with so many reads (of an encrypted one each is at most 16 KiB), or where it has filled the buffer.
const READS_MAX: usize = 4;
/// Of the one buffer all sockets are read into.
const BUFFER: usize = 64 * 1024;
/// While a deadline is running.
const TICK: Duration = Duration::from_millis(100);

/// Read once a round.
#[expect(clippy::disallowed_methods, reason = "epoll waits by the real clock; a paused one would only mislead")]
fn clock() -> Instant {
    Instant::now()
}

fn millis(since: Instant, until: Instant) -> u64 {
    u64::try_from(until.saturating_duration_since(since).as_millis()).unwrap_or(u64::MAX)
}

pub(super) struct Worker {
    poll: Poll,
    orders: Receiver<Order>,
    outside: Arc<dyn Outside>,
    timing: Timing,
    /// Its place in the team.
    index: usize,
    team: Team,
    halls: Halls,
    shared: Shared,
    buffer: Vec<u8>,
    to_server: Out,
    to_client: Out,
    /// Sockets that had more to read than their turn allows.
    turns: Turns,
    /// Slots that end with this round.
    doomed: Vec<Slot>,
    /// Pools that may have nobody left.
    unused: Vec<usize>,
    now: Instant,
    /// Of [`Worker::now_ms`].
    origin: Instant,
    /// Of each ceiling, in thousandths: what may be used without asking.
    share: u64,
    notices: bool,
    /// Of databases, by tenant, as measured last.
    sizes: HashMap<Arc<str>, u64>,
    /// Tenants that have a slot free, and somebody who waits for one.
    doors: Vec<usize>,
    next_tick: Option<Instant>,
    /// The API keys in use; `None` until they are told.
    keys: Option<Arc<ApiKeys>>,
    /// When to look next whether a token has expired that began a session.
    expiry: Option<Instant>,
    draining: Option<Instant>,
    meter: Meter,
}

impl Worker {
    /// Until it was told to drain and has no client left.
    pub fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        loop {
            let patience = match [self.next_tick, self.expiry].into_iter().flatten().min() {
                _ if self.turns.patience().is_some() => self.turns.patience(),
                Some(at) => Some(at.saturating_duration_since(self.now).max(Duration::from_millis(1))),
                None => None,
            };
            match self.poll.poll(&mut events, patience) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::error!(%error, "epoll failed; this worker ends");
                    return;
                }
            }
            self.now = clock();
            if self.meter.is_due(self.now) {
                self.meter();
            }
            // Orders first: a cancel request that came before a query must not meet it.
            while let Ok(order) = self.orders.try_recv() {
                self.order(order);
            }
            for event in events.iter().filter(|event| event.token() != WAKER) {
                self.event(Slot::from_token(event.token()), event);
            }
            self.take_turns();
            if self.next_tick.is_some_and(|at| at <= self.now) {
                self.tick();
            }
            if self.expiry.is_some_and(|at| at <= self.now) {
                self.end_expired();
            }
            for tenant in std::mem::take(&mut self.doors) {
                self.open_door(tenant);
            }
            self.bury();
            if self.draining.is_some() && self.halls.clients.is_empty() {
                self.meter();
                self.end_leases();
                return;
            }
        }
    }

    fn event(&mut self, slot: Slot, event: &Event) {
        if event.is_writable() {
            self.writable(slot);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            let ended = event.is_read_closed();
            match slot {
                Slot::Client(key) => self.halls.clients.get_mut(key).map(|client| client.socket.see(ended)),
                Slot::Server(key) => self.halls.servers.get_mut(key).map(|server| server.socket.see(ended)),
            };
            self.readable(slot);
        }
    }

    /// A long result waits for its turn, behind all that is short.
    fn readable(&mut self, slot: Slot) {
        if self.turns.awaits(slot) {
            return;
        }
        match slot {
            Slot::Client(key) => self.client_readable(key),
            Slot::Server(key) if self.halls.servers.get(key).is_some_and(|server| server.streamed >= BUFFER) => {
                self.turns.add(slot);
            }
            Slot::Server(key) => self.server_readable(key),
        }
    }

    fn take_turns(&mut self) {
        if self.turns.patience().is_none() {
            return;
        }
        let (now, halls) = (self.now_ms(), &self.halls);
        let in_a_crowd = |slot| {
            let tenant = halls.tenant_of_slot(slot).map(|key| (key, halls.tenants[key].instance));
            tenant.is_some_and(|(key, instance)| halls.instances[instance].crowd.others(key, self.now))
        };
        for slot in self.turns.take(now, in_a_crowd) {
            if let Some(tenant) = self.halls.tenant_of_slot(slot) {
                let instance = self.halls.tenants[tenant].instance;
                self.halls.instances[instance].crowd.note(tenant, self.now);
            }
            match slot {
                Slot::Client(key) => self.client_readable(key),
                Slot::Server(key) => self.server_readable(key),
            }
        }
    }

    fn writable(&mut self, slot: Slot) {
        match slot {
            Slot::Client(key) => self.client_writable(key),
            Slot::Server(key) => self.server_writable(key),
        }
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Adopt(client) => self.adopt(*client),
            Order::Move(client) => self.settle(*client),
            Order::Opened { pool, result } => self.opened(pool, result),
            Order::Cancel { process, secret } => self.cancel(process, &secret),
            Order::Cancelled(server) => self.cancelled(server),
            Order::Route { tenant, entry } => self.route(&tenant, entry),
            Order::Table(table) => self.table(&table),
            Order::Report(give) => give(self.report()),
            Order::Meter(done) => {
                self.meter();
                done();
            }
            Order::Asks(give) => give(self.asks()),
            Order::Leased(leased) => self.leased(&leased),
            Order::Stored(sizes) => self.stored(&sizes),
            Order::Keys(keys) => self.keys_change(keys),
            Order::Drain { until } => self.drain(until),
        }
    }

    /// Something has a deadline: look again in a while.
    fn keep_ticking(&mut self) {
        if self.next_tick.is_none() {
            self.next_tick = Some(self.now + TICK);
        }
    }

    /// Frees what ended in this round; not earlier, because its events may still be among those of the round.
    fn bury(&mut self) {
        for slot in std::mem::take(&mut self.doomed) {
            match slot {
                Slot::Client(key) => drop(self.halls.clients.try_remove(key)),
                Slot::Server(key) => drop(self.halls.servers.try_remove(key)),
            }
        }
        for pool in std::mem::take(&mut self.unused) {
            self.forget_pool(pool);
        }
    }
}
