//! One binary for all integration tests: one link, not five.

#[cfg(feature = "local")]
mod cluster;
mod licences;
mod price_tables;
#[cfg(feature = "local")]
mod support;
mod tidy;
