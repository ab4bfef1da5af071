//! Metrics in Prometheus' text format 0.0.4. Names are promised in docs/router-http.md.

use std::fmt::Write as _;

use super::super::worker::TenantReport;
use super::{HttpState, status};

/// Tenants with series of their own, the first by name; the others are summed. Twelve series each.
pub const TENANTS_MAX: usize = 500;
/// No tenant's name begins so.
const OTHERS: &str = "~other";

type Of = fn(&TenantReport) -> String;

/// Name, kind, meaning, value.
const SERIES: [(&str, &str, &str, Of); 13] = [
    ("o7s_router_clients", "gauge", "Clients connected.", |t| t.clients.to_string()),
    ("o7s_router_clients_waiting", "gauge", "Clients that wait for a server connection.", |t| t.waiting.to_string()),
    ("o7s_router_clients_pinned", "gauge", "Clients that keep their server connection between transactions.", |t| {
        t.pinned.to_string()
    }),
    ("o7s_router_servers", "gauge", "Server connections open.", |t| t.servers.to_string()),
    ("o7s_router_servers_idle", "gauge", "Server connections that nobody uses.", |t| t.idle_servers.to_string()),
    ("o7s_router_sessions_total", "counter", "Sessions admitted.", |t| t.counts.sessions.to_string()),
    ("o7s_router_queries_total", "counter", "Queries sent to a server.", |t| t.counts.queries.to_string()),
    ("o7s_router_errors_total", "counter", "Errors of the server's, sent to clients.", |t| {
        t.counts.errors().to_string()
    }),
    ("o7s_router_rejected_total", "counter", "Refused because of a ceiling.", |t| t.counts.rejections().to_string()),
    ("o7s_router_received_bytes_total", "counter", "Bytes from clients, before encryption.", |t| {
        t.counts.bytes_in.to_string()
    }),
    ("o7s_router_sent_bytes_total", "counter", "Bytes to clients, before encryption.", |t| {
        t.counts.bytes_out.to_string()
    }),
    ("o7s_router_waits_total", "counter", "Times a client waited for a server connection.", |t| {
        t.counts.waits.to_string()
    }),
    ("o7s_router_wait_seconds_total", "counter", "Time clients waited for a server connection.", |t| {
        seconds(t.counts.wait_micros)
    }),
];

const DELIVERY: [(&str, &str); 2] = [
    ("o7s_router_usage_waiting", "Lines of usage that the control database is not known to have."),
    ("o7s_router_usage_taken_timestamp_seconds", "When the control database had taken all usage there was."),
];

pub async fn text(state: &HttpState) -> String {
    let reports = (state.reports)().await;
    let mut out = String::new();
    let ready = u8::from(status::reasons(state).is_empty());
    let table = state.table.borrow().clone();
    single(&mut out, "o7s_router_ready", "1 when new clients are welcome.", &ready.to_string());
    single(
        &mut out,
        "o7s_router_table_version",
        "Version of the routing table in force.",
        &table.version.to_string(),
    );
    head(&mut out, "o7s_router_routes", "gauge", "Routes by state.");
    for word in ["active", "paused", "suspended", "retired"] {
        let count = table.entries.values().filter(|entry| status::word(entry.state) == word).count();
        let _ = writeln!(out, "o7s_router_routes{{state=\"{word}\"}} {count}");
    }
    if let Some(delivery) = state.delivery.as_ref().map(|delivery| *delivery.borrow()) {
        let [(waiting, meaning), (taken, taken_meaning)] = DELIVERY;
        single(&mut out, waiting, meaning, &delivery.waiting.to_string());
        single(&mut out, taken, taken_meaning, &delivery.taken.timestamp().to_string());
    }
    tenants(&mut out, reports);
    out
}

#[cfg(test)]
pub fn names() -> impl Iterator<Item = &'static str> {
    let own = ["o7s_router_ready", "o7s_router_table_version", "o7s_router_routes"];
    own.into_iter().chain(DELIVERY.map(|(name, _)| name)).chain(SERIES.map(|(name, ..)| name))
}

/// `reports` by name.
fn tenants(out: &mut String, mut reports: Vec<TenantReport>) {
    let mut others = reports.split_off(reports.len().min(TENANTS_MAX)).into_iter();
    if let Some(mut sum) = others.next() {
        sum.tenant = OTHERS.into();
        for other in others {
            sum.clients += other.clients;
            sum.waiting += other.waiting;
            sum.pinned += other.pinned;
            sum.servers += other.servers;
            sum.idle_servers += other.idle_servers;
            sum.counts.add(&other.counts);
        }
        reports.push(sum);
    }
    for (name, kind, meaning, of) in SERIES {
        head(out, name, kind, meaning);
        for report in &reports {
            let _ = writeln!(out, "{name}{{tenant=\"{}\"}} {}", escaped(&report.tenant), of(report));
        }
    }
}

fn single(out: &mut String, name: &str, meaning: &str, value: &str) {
    head(out, name, "gauge", meaning);
    let _ = writeln!(out, "{name} {value}");
}

fn head(out: &mut String, name: &str, kind: &str, meaning: &str) {
    let _ = writeln!(out, "# HELP {name} {meaning}\n# TYPE {name} {kind}");
}

/// With a file of routes a tenant's name is whatever a client wrote as its database.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn seconds(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}
