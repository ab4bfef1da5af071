//! A worker's records. They name each other by their keys in the halls; no record owns another.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use mio::Token;
use slab::Slab;
use uuid::Uuid;

use super::ceilings::Ceilings;
use super::crowd::Crowd;
use super::report::Counts;
use super::socket::Socket;
use crate::router::handover::Proof;
use crate::router::protocol::back::Back;
use crate::router::protocol::front::Front;
use crate::router::table::{Entry, State};
use crate::tenancy::Address;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Slot {
    Client(usize),
    Server(usize),
}

impl Slot {
    pub fn from_token(token: Token) -> Slot {
        if token.0 & 1 == 0 { Slot::Client(token.0 >> 1) } else { Slot::Server(token.0 >> 1) }
    }

    pub fn token(self) -> Token {
        match self {
            Slot::Client(key) => Token(key << 1),
            Slot::Server(key) => Token(key << 1 | 1),
        }
    }
}

#[derive(Default)]
pub(super) struct Halls {
    pub clients: Slab<ClientRecord>,
    pub servers: Slab<ServerRecord>,
    pub pools: Slab<Pool>,
    pub tenants: Slab<Tenant>,
    pub instances: Slab<Instance>,
    pub tenant_keys: HashMap<Arc<str>, usize>,
    pub instance_keys: HashMap<Arc<str>, usize>,
    /// Given to each new pool and server connection.
    pub serial: u64,
    /// Leases that were asked about, by number: whose they are.
    pub leases: HashMap<u64, usize>,
    /// Clients by the number in their cancel keys.
    pub numbers: HashMap<u32, usize>,
}

/// Where a client is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Logged in, and not yet told the parameters of its session.
    Greeting,
    Open,
    /// It was told why; gone as soon as that is written.
    Leaving,
    Gone,
}

pub struct ClientRecord {
    pub(super) socket: Socket,
    /// Received and not yet taken.
    pub(super) input: Vec<u8>,
    pub(super) front: Front,
    pub(super) stage: Stage,
    pub(super) server: Option<usize>,
    /// In the queue of its pool, since.
    pub(super) waiting: Option<Instant>,
    pub(super) told_to_wait: bool,
    /// Its bytes are being worked through: it stays where it is.
    pub(super) fed: bool,
    /// Its server connection is being prepared for it; its own bytes wait.
    pub(super) preparing: bool,
    /// It will send no more, since.
    pub(super) ended: Option<Instant>,
    pub(super) pool: usize,
    /// As it was when it came here; the tenant's record has the latest.
    pub(super) entry: Arc<Entry>,
    pub(super) role: Arc<str>,
    pub(super) peer: SocketAddr,
    /// Of its BackendKeyData, without the replica's part.
    pub(super) number: u32,
    pub(super) secret: Box<[u8]>,
    /// It counts as one of its tenant's connections.
    pub(super) admitted: bool,
    /// At the door or the gate of its tenant's ceilings.
    pub(super) held_up: bool,
    /// Since when its next query waits for leave.
    pub(super) held_since: Option<Instant>,
    /// Queries it may start although the ceiling is reached.
    pub(super) leave: u32,
    /// What is known of it for login, should it go to another worker.
    pub(super) proof: Proof,
    /// What it ends with at the latest.
    pub(super) ends: Option<Ends>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    At(Instant),
    /// With the API key that began it.
    WithKey(Uuid),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Duty {
    /// In its pool.
    Idle {
        since: Instant,
    },
    /// A client has it.
    Lent,
    /// Being made clean; closed should that not be done in time.
    Cleaning {
        until: Instant,
    },
    Gone,
}

pub(super) struct ServerRecord {
    pub socket: Socket,
    pub input: Vec<u8>,
    pub back: Back,
    pub pool: usize,
    pub client: Option<usize>,
    pub duty: Duty,
    pub address: Address,
    pub database: Arc<str>,
    pub process: u32,
    pub secret: Vec<u8>,
    pub serial: u64,
    /// Cancel requests on their way; it is not lent before they have arrived.
    pub cancels: u32,
    /// It may lead to a standby.
    pub doubted: bool,
    /// Its time is counted up to here.
    pub credited: Instant,
    /// It works on requests since, or since that was last counted.
    pub working: Option<Instant>,
    /// What it has of a request is not all of it.
    pub has_a_part: bool,
    /// A session was on it: DISCARD ALL before anybody else gets it.
    pub soiled: bool,
    /// When the client that keeps it was last done with something.
    pub rests_since: Instant,
    /// Bytes of the answers since it was at rest.
    pub streamed: usize,
    /// The statement that runs now began then.
    pub runs_since: Option<Instant>,
}

/// The server connections of one tenant's role.
pub(super) struct Pool {
    pub serial: u64,
    pub tenant: usize,
    pub role: Arc<str>,
    /// Its server connections are of this kind of replication, and serve one client each.
    pub replication: Option<String>,
    pub proof: Proof,
    /// The longest idle first; the last is lent next.
    pub idle: Vec<usize>,
    pub waiters: VecDeque<usize>,
    pub opening: u32,
    /// Its server connections, those being opened left out.
    pub servers: u32,
    pub clients: u32,
    /// The ParameterStatus messages a client with these startup settings gets.
    pub greetings: HashMap<u64, Arc<[u8]>>,
    /// Why Postgres gave no more connections: what a client hears that has waited for one in vain.
    pub refusal: Option<Vec<u8>>,
}

pub(super) struct Tenant {
    pub entry: Arc<Entry>,
    pub instance: usize,
    pub pools: Vec<usize>,
    /// Server connections, those being opened among them.
    pub open: u32,
    pub counts: Counts,
    /// As they were when they were last metered.
    pub metered: Counts,
    /// The version [`super::Outside::applied`] was last told of.
    pub applied: u64,
    /// When what still runs is ended, because the tenant is paused.
    pub patience_ends: Option<Instant>,
    /// Postgres itself refused another connection: none is tried before.
    pub full_until: Option<Instant>,
    /// Clients that keep a server connection and wait for the tenant to go on.
    pub held: Vec<usize>,
    /// `None`: nothing is limited.
    pub ceilings: Option<Box<Ceilings>>,
}

impl Tenant {
    pub fn paused(&self) -> bool {
        matches!(self.entry.state, State::Paused { .. })
    }
}

/// One Postgres server, and the cap its tenants share.
pub(super) struct Instance {
    pub name: Arc<str>,
    /// The worker of its tenants.
    pub home: usize,
    pub cap: u32,
    pub open: u32,
    /// Tenants that have some open.
    pub active: u32,
    /// Tenants with clients that wait because of the cap, in the order in which they get their turn.
    pub queue: VecDeque<usize>,
    pub crowd: Crowd,
}

impl Halls {
    pub fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    pub fn tenant_of_pool(&mut self, pool: usize) -> &mut Tenant {
        let tenant = self.pools[pool].tenant;
        &mut self.tenants[tenant]
    }

    pub fn tenant_of_slot(&self, slot: Slot) -> Option<usize> {
        let pool = match slot {
            Slot::Client(key) => self.clients.get(key)?.pool,
            Slot::Server(key) => self.servers.get(key)?.pool,
        };
        Some(self.pools.get(pool)?.tenant)
    }
}
