//! One binary for all integration tests: one link, not five.

#[cfg(feature = "local")]
mod adopting;
mod behaviours;
#[cfg(feature = "local")]
mod ceilings;
#[cfg(feature = "local")]
mod ci;
#[cfg(feature = "local")]
mod cluster;
#[cfg(feature = "local")]
mod cut;
#[cfg(feature = "local")]
mod drivers;
#[cfg(feature = "local")]
mod end_to_end;
#[cfg(feature = "local")]
mod error_page;
#[cfg(feature = "local")]
mod escrow;
#[cfg(feature = "local")]
mod far;
#[cfg(feature = "local")]
mod fuzz;
#[cfg(feature = "local")]
mod generated_fleet;
#[cfg(feature = "local")]
mod lease;
mod licences;
#[cfg(feature = "local")]
mod local;
#[cfg(feature = "local")]
mod local_sleep;
mod manifest_count;
mod manifest_page;
mod manifest_schema;
#[cfg(feature = "local")]
mod metering;
#[cfg(feature = "local")]
mod meters;
#[cfg(feature = "local")]
mod offline;
#[cfg(feature = "local")]
mod postgres;
mod price_tables;
#[cfg(feature = "local")]
mod railway_cli;
#[cfg(feature = "local")]
mod railway_client;
#[cfg(feature = "local")]
mod railway_ops;
#[cfg(feature = "local")]
mod real;
#[cfg(feature = "local")]
mod real_life;
#[cfg(feature = "local")]
mod replicas;
#[cfg(feature = "local")]
mod router;
#[cfg(feature = "local")]
mod router_follow;
#[cfg(feature = "local")]
mod router_open;
#[cfg(feature = "local")]
mod router_process;
#[cfg(feature = "local")]
mod router_tokens;
#[cfg(feature = "local")]
mod simulation;
#[cfg(feature = "local")]
mod store;
#[cfg(feature = "local")]
mod support;
mod tidy;
#[cfg(feature = "local")]
mod verbs;
