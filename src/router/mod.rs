//! The router: takes every tenant's Postgres connections at one address and finds each its database.
//!
//! A connection's life: [`protocol`] reads its first bytes; it is logged in on the async side (TLS, identification, SCRAM),
//! and then handed over, as a value, to the worker of its tenant's instance. A worker is one thread with an epoll loop
//! of its own; it owns the instance's clients, server connections and pools, so no lock is taken for a query. Server
//! connections are opened on the async side too, and handed over in the same way.
//!
//! Never: parses a body it merely forwards, wakes an instance without a client, or reads SQL as more than words.
//! Read: table, handover, protocol, open, look_up, worker, follow, metering.

mod code;
pub mod credentials;
mod descriptors;
mod error;
pub mod follow;
pub mod handover;
pub mod http;
pub mod identify;
mod jwks;
pub mod jwt;
pub mod leasing;
pub mod listener;
pub mod login;
pub mod look_up;
pub mod metering;
pub mod open;
pub mod protocol;
mod refusal;
pub mod requests;
pub mod routes_file;
pub mod serve;
pub mod table;
pub mod throttle;
pub mod tls;
pub mod tokens;
mod wire;
pub mod worker;

pub use code::Code;
pub use error::Error;
