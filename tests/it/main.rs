//! One binary for all integration tests: one link, not five.

mod licences;
mod tidy;
