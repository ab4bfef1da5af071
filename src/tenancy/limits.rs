//! What a tier allows a tenant, and what happens above it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::quantity::{Bytes, Millis};

/// The ceilings of one tenant, its tier's with its own on top. Absent means unlimited.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Client connections at the router; at least 1.
    pub connections: u32,
    /// Connections Postgres sees: its CONNECTION LIMIT, and what preflight sums; 1..=`connections`.
    pub server_connections: u32,
    pub queries_per_minute: Option<u64>,
    /// Of `/v1/authorize`.
    pub requests_per_minute: Option<u64>,
    pub storage: Option<Bytes>,
    pub egress_per_month: Option<Bytes>,
    pub statement_timeout: Option<Millis>,
}

/// What the router does with a client above a ceiling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Over {
    Reject,
    /// Wait at most this long, then reject.
    Queue(Millis),
    /// Delay each query, at most this long.
    Slow(Millis),
    /// Storage only: writes are refused.
    ReadOnly,
}

/// As it is written in a manifest, on one line.
impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Over::Reject => f.write_str("reject"),
            Over::Queue(time) => write!(f, "queue {time}"),
            Over::Slow(time) => write!(f, "slow {time}"),
            Over::ReadOnly => f.write_str("readOnly"),
        }
    }
}

/// One reaction a ceiling; every one has a default.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OverLimit {
    pub connections: Over,
    pub queries_per_minute: Over,
    pub egress_per_month: Over,
    pub storage: Over,
}

impl Default for OverLimit {
    fn default() -> OverLimit {
        OverLimit {
            connections: Over::Reject,
            queries_per_minute: Over::Reject,
            egress_per_month: Over::Reject,
            storage: Over::ReadOnly,
        }
    }
}

/// What the error over a ceiling recommends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Upgrade {
    pub to: String,
    pub message: Option<String>,
    pub url: Option<String>,
}
