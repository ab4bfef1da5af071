//! The control database: placements, instances, the routing table, status, events, and the lease that says who may
//! write them. All its SQL is here, and no SQL leaves. Never talks to Railway or to a tenant's database.
//! Read: connect, migrate, load, lease, holder, then what is written under a lease: remember, routes, pauses, api_keys,
//! record;
//! what routers do: follow, replicas, meters, rollup; server. Usage is read by usage.

mod api_keys;
mod ceiling_use;
mod code;
mod connect;
mod error;
mod escrow;
mod follow;
mod holder;
mod lease;
mod load;
mod meters;
mod migrate;
mod pauses;
mod record;
mod remember;
mod replicas;
mod rollup;
mod routes;
mod server;
mod usage;

pub use api_keys::{API_KEYS_MAX, ApiKeyInfo, Created};
pub use ceiling_use::{CeilingEvent, CeilingUse, Rejected, StoredSize};
pub use code::Code;
pub use connect::Store;
pub use error::Error;
pub use escrow::{Escrow, Exchanged, LeaseAsk, News};
pub use follow::{ApiKeyRow, Changes, Follower, Replica, RouteRow, RouterRow};
pub use holder::{Holder, HolderSession};
pub use lease::Lease;
pub use load::FleetRow;
pub use meters::{Flushed, Meters};
pub use migrate::SCHEMA_VERSION;
pub use pauses::Pausing;
pub use record::{
    CORRECTED, Condition, ConditionStatus, ConditionType, Event, EventFilter, Outcome, PAUSED, RunRecord,
    StoredCondition, StoredEvent,
};
pub use replicas::{Beat, Lagging, REPLICA_TTL, REPLICAS_MAX, RouterSeen, Routers};
pub use routes::ROUTES_CHANNEL;
pub use server::ControlServer;
pub use usage::{Gap, Stored, UsageFilter, UsageReport, UsageRow};
