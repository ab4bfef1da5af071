//! What a router says of itself: whether it is ready, and whom it serves. No secret is in it.

use chrono::{DateTime, Utc};
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::super::metering::Delivery;
use super::super::table;
use super::{Answer, HttpState, json_text};

/// The answer of `/v1/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Of o7s.
    pub version: String,
    pub replica: u8,
    pub table_version: u64,
    /// How many routes it has.
    pub routes: u64,
    pub ready: bool,
    /// Why not.
    pub reasons: Vec<String>,
    /// What is amiss while it serves on.
    pub warnings: Vec<String>,
    /// Those with sessions since the router began, by name.
    pub tenants: Vec<TenantStatus>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TenantStatus {
    pub tenant: String,
    pub instance: String,
    pub tier: String,
    /// `active`, `paused`, `suspended`, `retired`, or `gone`.
    pub state: String,
    /// Of the route in force.
    pub version: u64,
    pub clients: u32,
    pub waiting: u32,
    pub pinned: u32,
    pub servers: u32,
    pub idle_servers: u32,
    pub sessions: u64,
    pub queries: u64,
    pub errors: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

pub fn readyz(state: &HttpState) -> Answer {
    let (reasons, warnings) = (reasons(state), warnings(state));
    let (status, ready) = match reasons.is_empty() {
        true => (StatusCode::OK, true),
        false => (StatusCode::SERVICE_UNAVAILABLE, false),
    };
    json_text(status, &json!({ "ready": ready, "reasons": reasons, "warnings": warnings }), "application/json")
}

/// What is amiss while it serves on. Old routes are no reason not to be ready: the control database going away must not
/// take every replica out of service.
fn warnings(state: &HttpState) -> Vec<String> {
    let shown = |at: DateTime<Utc>| at.format("%Y-%m-%d %H:%M:%S").to_string();
    let stale = state.condition.borrow().stale_since.map(shown).map(|since| {
        format!("the control database cannot be followed since {since} UTC; the routes of then are served")
    });
    let delivery = state.delivery.as_ref().map(|delivery| *delivery.borrow()).filter(|delivery| delivery.fails);
    let waits = delivery.map(|Delivery { waiting, taken, .. }| {
        let since = shown(taken);
        format!("the control database takes no usage since {since} UTC; {waiting} lines of it wait here")
    });
    stale.into_iter().chain(waits).collect()
}

pub fn reasons(state: &HttpState) -> Vec<String> {
    let mut reasons = Vec::new();
    if state.table.borrow().version == 0 {
        reasons.push("no routes have been read yet".to_owned());
    }
    if state.condition.borrow().draining {
        reasons.push("the router is stopping".to_owned());
    }
    reasons
}

pub fn word(state: table::State) -> &'static str {
    match state {
        table::State::Active => "active",
        table::State::Paused { .. } => "paused",
        table::State::Suspended => "suspended",
        table::State::Retired => "retired",
    }
}

pub async fn of(state: &HttpState) -> Status {
    let reports = (state.reports)().await;
    let table = state.table.borrow().clone();
    let reasons = reasons(state);
    let tenant = |report: super::TenantReport| TenantStatus {
        tenant: report.tenant.to_string(),
        instance: report.instance.to_string(),
        tier: report.tier.to_string(),
        state: table.get(&report.tenant).map_or("gone", |entry| word(entry.state)).to_owned(),
        version: report.version,
        clients: report.clients,
        waiting: report.waiting,
        pinned: report.pinned,
        servers: report.servers,
        idle_servers: report.idle_servers,
        sessions: report.counts.sessions,
        queries: report.counts.queries,
        errors: report.counts.errors(),
        bytes_in: report.counts.bytes_in,
        bytes_out: report.counts.bytes_out,
    };
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        replica: state.replica,
        table_version: table.version,
        routes: u64::try_from(table.entries.len()).unwrap_or(u64::MAX),
        ready: reasons.is_empty(),
        reasons,
        warnings: warnings(state),
        tenants: reports.into_iter().map(tenant).collect(),
    }
}
