//! What passes between a worker and the async side, both ways.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::report::Report;
use super::state::ClientRecord;
use crate::router::handover::{Client, OpenError, Proof, Server};
use crate::router::table::{Encryption, Entry, Table};
use crate::router::tokens::ApiKeys;
use crate::store::{LeaseAsk, News};
use crate::tenancy::escrow::Answer;
use crate::tenancy::{Address, Metered};

/// A pool of one worker; `serial` tells it from an earlier one in the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolId {
    pub worker: usize,
    pub(super) key: usize,
    pub(super) serial: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerId {
    pub worker: usize,
    pub(super) key: usize,
    pub(super) serial: u64,
}

pub enum Order {
    /// A client that has just logged in.
    Adopt(Box<Client>),
    /// A client whose tenant's instance is another worker's now.
    Move(Box<ClientRecord>),
    /// The answer to [`Outside::open`].
    Opened {
        pool: PoolId,
        result: Result<Box<Server>, OpenError>,
    },
    /// Somebody who knows a client's key wants its query cancelled.
    Cancel {
        process: u32,
        secret: Vec<u8>,
    },
    /// The answer to [`Outside::cancel`].
    Cancelled(ServerId),
    /// The tenant's entry is a new one, or gone.
    Route {
        tenant: Arc<str>,
        entry: Option<Arc<Entry>>,
    },
    /// All entries may have changed.
    Table(Arc<Table>),
    Report(Box<dyn FnOnce(Report) + Send>),
    /// Asks for [`Outside::metered`]; called afterwards.
    Meter(Box<dyn FnOnce() + Send>),
    /// What the worker has to say of its leases, if anything.
    Asks(Box<dyn FnOnce(Vec<LeaseAsk>) + Send>),
    Leased(Leased),
    /// Sizes of tenants' databases, as measured last.
    Stored(Arc<HashMap<String, u64>>),
    /// The API keys in use.
    Keys(Arc<ApiKeys>),
    /// No more clients come. Those at rest are told to go, the others when they come to rest, or at `until`.
    Drain {
        until: Instant,
    },
}

/// The answers to what was asked.
#[derive(Debug, Clone)]
pub struct Leased {
    pub sent: Instant,
    /// Of each ceiling, in thousandths; `None` leaves it.
    pub share: Option<u64>,
    /// Sessions are told when a ceiling is nearly reached.
    pub notices: bool,
    /// By lease, with how much was wanted. `None`: nobody knows whether it was heard.
    pub answers: Arc<[(u64, u64, Option<Answer>)]>,
}

/// A server connection is wanted. Answered by [`Order::Opened`], always and once.
#[derive(Debug)]
pub struct OpenRequest {
    pub pool: PoolId,
    pub entry: Arc<Entry>,
    pub role: Arc<str>,
    pub proof: Proof,
    /// `Some`: a connection for this kind of replication.
    pub replication: Option<String>,
}

/// The query a server connection is running is to be cancelled. Answered by [`Order::Cancelled`] once the server has
/// closed the connection the request went over, or never will.
#[derive(Debug)]
pub struct CancelRequest {
    pub server: ServerId,
    pub address: Address,
    pub encryption: Encryption,
    pub process: u32,
    pub secret: Vec<u8>,
}

/// What a worker needs of the rest of the router. No call waits.
pub trait Outside: Send + Sync {
    fn open(&self, request: OpenRequest);
    fn cancel(&self, request: CancelRequest);
    /// A server connection to this address was lost, or turned read-only: look again which endpoint is the writable one.
    fn suspect(&self, instance: &Arc<str>, address: &Address);
    /// A lease is running low: ask soon what the workers have to say.
    fn lease_wanted(&self);
    /// A tenant is near one of its ceilings, or above it.
    fn news(&self, news: News);
    /// The worker ends, and gives all its leases back.
    fn leases_end(&self, asks: Vec<LeaseAsk>);
    /// Unpredictable bytes, for cancel keys.
    fn random(&self, bytes: &mut [u8]);
    /// The tenant's entry of this version is in force here: nothing runs by an older one any more.
    fn applied(&self, tenant: &Arc<str>, version: u64);
    /// What was counted since the last time: when a minute ends, when asked, and before the worker ends.
    fn metered(&self, counted: Vec<Metered>);
}
