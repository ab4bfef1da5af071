//! The router between clients that speak messages by hand and a real Postgres: one test for each edge case of
//! docs/router-edge-cases.md, by its number.
//! Read: world (a router, its database), wire (a client), then the cases in the order of their numbers.

mod bounds;
mod cancel;
mod ceilings;
mod chaos;
mod copy;
mod extended;
mod failure;
mod meter;
mod process;
mod session;
mod simple;
mod state;
mod tls;
pub mod wire;
mod world;
