//! The wire protocol, versions 3.0 and 3.2, as values: bytes in, decisions out. No socket, no clock, no randomness.
//! Read: frame, error, then for logins startup, options, scram, server_login; for sessions sql, settings, statements,
//! message, replies, front, back.

pub mod back;
pub mod error;
pub mod frame;
pub mod front;
mod message;
pub mod options;
mod replies;
pub mod scram;
pub mod server_login;
pub mod settings;
pub mod sql;
pub mod startup;
pub mod statements;
