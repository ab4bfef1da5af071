//! Ogelnates makes a Railway project a multi-tenant database platform.
//!
//! ```text
//! cli -> {operator, router, local} -> {railway, store, postgres} -> {manifest, plan, tenancy, cost}
//!        working rooms        doors to the world            pure rooms: no I/O, no clock, no environment
//! ```
//!
//! Start at [`tenancy`] for the words, [`manifest`] for what is wanted, [`plan`] for how a difference becomes changes,
//! then [`operator`] for the run that carries them out.

pub mod cli;
pub mod cost;
#[cfg(feature = "local")]
pub mod local;
pub mod manifest;
pub mod operator;
pub mod plan;
pub mod postgres;
pub mod railway;
pub mod router;
pub mod store;
pub mod tenancy;
