//! The wire protocol, versions 3.0 and 3.2, as values: bytes in, decisions out. No socket, no clock, no randomness.

pub mod error;
pub mod options;
pub mod scram;
pub mod server_login;
pub mod startup;
