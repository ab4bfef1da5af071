//! The local Railway: serves Railway's published GraphQL schema over one workspace, with a real Postgres process behind
//! each database service. A development tool and the test bed of everything; never deployed.
//!
//! It never answers with an invented value: a field it does not simulate is an error that names it.
//! Read: world (the state machine), resolve (schema fields over it), gateway (one request), in_process (all of it in
//! memory); then lifecycle, keep, live, overview, http around it; servers (server_life, first_start, start_command,
//! doorway, log_tail), cluster and binaries for the Postgres servers behind its services; work (freeze) for their
//! volumes.

mod binaries;
mod cluster;
mod cluster_error;
mod code;
mod counters;
mod doorway;
mod error;
mod first_start;
mod freeze;
mod gateway;
mod http;
mod in_process;
mod keep;
mod lifecycle;
mod limits;
mod live;
mod log_tail;
mod overview;
mod ports;
mod process;
mod published;
mod resolve;
mod run_as;
mod server_life;
mod servers;
mod start_command;
mod work;
pub mod world;

#[cfg(test)]
mod bench;
#[cfg(test)]
mod graphql_tests;
#[cfg(test)]
mod overview_tests;

pub use binaries::Binaries;
pub use cluster::{Cluster, ServerProcess, free_port};
pub use cluster_error::ClusterError;
pub use code::Code;
pub use counters::{Mutation, Requests};
pub use error::{Error, Refusal};
pub use gateway::{Fate, Headers, LocalResponse};
pub use in_process::{FaultPlan, InProcess};
pub use lifecycle::{Exports, FaultOrder, Serving, Up, down, fault, leave_session, status, up, up_detached};
pub use live::{ServiceStatus, Status};
pub use resolve::Ran;
