//! The wire protocol, versions 3.0 and 3.2, as values: bytes in, decisions out. No socket, no clock, no randomness.
//! Read: frame, error, then for logins startup, options, scram, oauth, client_login, server_login; for sessions sql, settings,
//! statements, message, tally, names, replies, front, growth, reading, leave, back, fail, repeat, ours.

pub mod back;
pub mod client_login;
pub mod error;
mod fail;
pub mod frame;
pub mod front;
pub mod growth;
pub mod leave;
mod message;
mod names;
mod oauth;
pub mod options;
mod ours;
mod reading;
mod repeat;
mod replies;
pub mod scram;
pub mod server_login;
pub mod settings;
pub mod sql;
pub mod startup;
pub mod statements;
pub mod tally;
