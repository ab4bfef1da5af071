//! All workers together, as the rest of the router sees them.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::{Poll, Waker};

use super::meter::Meter;
use super::outside::{Leased, Order, Outside, PoolId, ServerId};
use super::report::Report;
use super::state::Halls;
use super::{BUFFER, WAKER, Worker};
use crate::router::handover::{Client, OpenError, Server};
use crate::router::protocol::frame::Out;
use crate::router::protocol::front::Shared;
use crate::router::table::{Entry, Table};
use crate::router::tokens::ApiKeys;
use crate::store::LeaseAsk;

/// Bits of the process number in a cancel key that name the client, below those of its replica.
pub(super) const CLIENT_BITS: u32 = 24;
pub(super) const NUMBER_MAX: u32 = (1 << CLIENT_BITS) - 1;
/// The threads a team has at most.
pub const WORKERS_MAX: usize = 16;

/// Bounds on waiting.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// For a server connection, before the query is refused.
    pub query_wait: Duration,
    /// The same, before the client is told why nothing happens.
    pub wait_notice: Duration,
    /// A server connection nobody uses is closed after this time, so that a sleeping instance may sleep.
    pub server_idle: Duration,
    /// How long a pinned client may leave its server connection unused while others of its tenant wait for one.
    pub pin_idle: Duration,
    /// For a server connection to become clean after its client.
    pub cleaning: Duration,
    /// Server connections to one instance, all its tenants together, until the server itself says less.
    pub instance_cap: u32,
    /// Number of this replica, in its clients' cancel keys: 0..=255.
    pub replica: u8,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            query_wait: Duration::from_secs(60),
            wait_notice: Duration::from_secs(5),
            server_idle: Duration::from_secs(60),
            pin_idle: Duration::from_secs(30),
            cleaning: Duration::from_secs(5),
            instance_cap: 90,
            replica: 0,
        }
    }
}

/// A worker that panics takes its clients along, and nobody would answer the next ones: better the process ends, and is
/// started anew.
fn serve(worker: Worker) {
    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| worker.run())).is_err() {
        tracing::error!("a worker has panicked; the router ends");
        std::process::abort();
    }
}

#[derive(Clone)]
pub struct Team {
    members: Arc<[Member]>,
    clients: Arc<AtomicU32>,
    leases: Arc<AtomicU64>,
}

struct Member {
    orders: Sender<Order>,
    waker: Waker,
}

impl Team {
    /// Starts `count` (1..=16) threads.
    ///
    /// # Errors
    /// The system gives no epoll or no thread.
    pub fn start(
        count: usize,
        outside: &Arc<dyn Outside>,
        timing: Timing,
    ) -> std::io::Result<(Team, Vec<JoinHandle<()>>)> {
        let mut members = Vec::new();
        let mut parts = Vec::new();
        for _ in 0..count.clamp(1, WORKERS_MAX) {
            let poll = Poll::new()?;
            let waker = Waker::new(poll.registry(), WAKER)?;
            let (sender, orders) = channel();
            members.push(Member { orders: sender, waker });
            parts.push((poll, orders));
        }
        let team = Team { members: members.into(), clients: Arc::default(), leases: Arc::default() };
        let mut threads = Vec::new();
        for (index, (poll, orders)) in parts.into_iter().enumerate() {
            let worker = Worker {
                poll,
                orders,
                outside: outside.clone(),
                timing,
                index,
                team: team.clone(),
                halls: Halls::default(),
                shared: Shared::default(),
                buffer: vec![0; BUFFER],
                to_server: Out::default(),
                to_client: Out::default(),
                turns: super::Turns::default(),
                doomed: Vec::new(),
                unused: Vec::new(),
                now: super::clock(),
                origin: super::clock(),
                share: 0,
                notices: false,
                sizes: HashMap::new(),
                doors: Vec::new(),
                next_tick: None,
                keys: None,
                expiry: None,
                draining: None,
                meter: Meter::new(super::clock()),
            };
            threads.push(std::thread::Builder::new().name(format!("router-{index}")).spawn(move || serve(worker))?);
        }
        Ok((team, threads))
    }

    /// The worker of an instance's tenants.
    pub(super) fn home(&self, instance: &str) -> usize {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(instance);
        usize::try_from(hash % self.members.len() as u64).unwrap_or(0)
    }

    pub(super) fn send(&self, worker: usize, order: Order) {
        // A worker that has ended wants nothing any more.
        if let Some(member) = self.members.get(worker)
            && member.orders.send(order).is_ok()
        {
            let _ = member.waker.wake();
        }
    }

    pub fn adopt(&self, client: Box<Client>) {
        self.send(self.home(&client.session.entry.instance), Order::Adopt(client));
    }

    pub fn opened(&self, pool: PoolId, result: Result<Box<Server>, OpenError>) {
        self.send(pool.worker, Order::Opened { pool, result });
    }

    pub fn cancelled(&self, server: ServerId) {
        self.send(server.worker, Order::Cancelled(server));
    }

    /// Of a CancelRequest that names this replica.
    pub fn cancel(&self, process: u32, secret: &[u8]) {
        for worker in 0..self.members.len() {
            self.send(worker, Order::Cancel { process, secret: secret.to_vec() });
        }
    }

    /// For the next client's cancel key. A number that comes round again is told apart by its secret.
    pub(super) fn next_number(&self) -> u32 {
        self.clients.fetch_add(1, Ordering::Relaxed) & NUMBER_MAX
    }

    /// Unique among all leases of this process.
    pub(super) fn next_lease(&self) -> u64 {
        self.leases.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// What each worker has to say of its leases, given to `give` on the worker's thread.
    pub fn asks(&self, give: &(impl Fn(Vec<LeaseAsk>) + Clone + Send + 'static)) {
        for worker in 0..self.members.len() {
            self.send(worker, Order::Asks(Box::new(give.clone())));
        }
    }

    pub fn leased(&self, leased: &Leased) {
        for worker in 0..self.members.len() {
            self.send(worker, Order::Leased(leased.clone()));
        }
    }

    pub fn stored(&self, sizes: &Arc<HashMap<String, u64>>) {
        for worker in 0..self.members.len() {
            self.send(worker, Order::Stored(Arc::clone(sizes)));
        }
    }

    /// A session ends with the API key that began it.
    pub fn api_keys(&self, keys: &Arc<ApiKeys>) {
        for worker in 0..self.members.len() {
            self.send(worker, Order::Keys(Arc::clone(keys)));
        }
    }

    /// A tenant's entry has changed.
    pub fn route(&self, tenant: &Arc<str>, entry: Option<&Arc<Entry>>) {
        for worker in 0..self.members.len() {
            self.send(worker, Order::Route { tenant: tenant.clone(), entry: entry.cloned() });
        }
    }

    /// Any number of entries has changed.
    pub fn table(&self, table: &Arc<Table>) {
        for worker in 0..self.members.len() {
            self.send(worker, Order::Table(Arc::clone(table)));
        }
    }

    /// Each worker's report, given to `give` on the worker's thread.
    pub fn report(&self, give: &(impl Fn(Report) + Clone + Send + 'static)) {
        for worker in 0..self.members.len() {
            self.send(worker, Order::Report(Box::new(give.clone())));
        }
    }

    /// Asks each worker to hand over what it has counted.
    /// Each calls `done` afterwards.
    pub fn meter(&self, done: &(impl Fn() + Clone + Send + 'static)) {
        for worker in 0..self.members.len() {
            self.send(worker, Order::Meter(Box::new(done.clone())));
        }
    }

    pub fn size(&self) -> usize {
        self.members.len()
    }

    pub fn drain(&self, until: Instant) {
        for worker in 0..self.members.len() {
            self.send(worker, Order::Drain { until });
        }
    }
}

/// The replica a client's process number names.
pub fn replica_of(process: u32) -> u8 {
    u8::try_from(process >> CLIENT_BITS).unwrap_or(0)
}
