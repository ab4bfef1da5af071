//! One binary for all integration tests: one link, not five.

#[cfg(feature = "local")]
mod cluster;
mod licences;
#[cfg(feature = "local")]
mod support;
mod tidy;
