//! What a client above a ceiling is told: the tenant, the ceiling, its value, what is used of it and when it frees, and how
//! to get more.

use crate::tenancy::escrow::Full;
use crate::tenancy::{Bytes, Ceiling, Millis};

use super::protocol::back::field;
use super::protocol::error::{Report, Severity, SqlState};
use super::table::Entry;

/// FATAL: the session does not begin.
pub fn connections(entry: &Entry, limit: u64, full: Full) -> Report<'static> {
    let Entry { tenant, tier, .. } = entry;
    let used = full.used.min(limit);
    let message = format!("tenant \"{tenant}\" has {used} of {limit} connections of tier \"{tier}\" open");
    Report::fatal(SqlState::TOO_MANY_CONNECTIONS, message).hint(hint("Close idle connections", entry))
}

/// After so many `seconds` in vain. `refusal` is what Postgres said last, where it gives no more: it holds the sum of all
/// routers.
pub fn server_connections(
    entry: &Entry,
    severity: Severity,
    seconds: u64,
    refusal: Option<&[u8]>,
) -> Report<'static> {
    let Entry { tenant, tier, server_connections: most, .. } = entry;
    let message =
        format!("tenant \"{tenant}\" waited {seconds} s for one of its {most} server connections of tier \"{tier}\"");
    let way = "Transactions that stay open keep them busy; end them sooner";
    let mut report = Report::new(severity, SqlState::TOO_MANY_CONNECTIONS, message).hint(hint(way, entry));
    let said = refusal.and_then(|body| field(body, b'M'));
    report.detail = said.map(|text| format!("Postgres says: {}", String::from_utf8_lossy(text)).into());
    report
}

pub fn queries(entry: &Entry, limit: u64, full: Full) -> Report<'static> {
    let Entry { tenant, tier, .. } = entry;
    let used = full.used.min(limit);
    let message = format!("tenant \"{tenant}\" has used {used} of {limit} queries per minute of tier \"{tier}\"");
    let when = match full.frees_in {
        Some(ms) => format!("Try again in {}", seconds(ms)),
        None => "Try again in a minute".to_owned(),
    };
    Report::error(SqlState::LIMIT_EXCEEDED, message).hint(hint(&when, entry))
}

/// For HTTP: message and what to do, in one text.
pub fn requests(entry: &Entry, limit: u64, full: Full) -> String {
    let Entry { tenant, tier, .. } = entry;
    let used = full.used.min(limit);
    let when = format!("Try again in {}", seconds(full.frees_in.unwrap_or(60_000)));
    let hint = hint(&when, entry);
    format!("tenant \"{tenant}\" has used {used} of {limit} requests per minute of tier \"{tier}\". {hint}")
}

pub fn egress(entry: &Entry, limit: u64, full: Full) -> Report<'static> {
    let Entry { tenant, tier, .. } = entry;
    let (used, limit) = (size(full.used.min(limit)), size(limit));
    let message =
        format!("tenant \"{tenant}\" was sent {used} of {limit} egress of this month, the limit of tier \"{tier}\"");
    let when = match full.frees_in {
        Some(ms) => format!("It frees in {}, with the next month (UTC)", days(ms)),
        None => "It frees with the next month (UTC)".to_owned(),
    };
    Report::error(SqlState::LIMIT_EXCEEDED, message).hint(hint(&when, entry))
}

/// `shut`: far above it, where reads are refused too.
pub fn storage(entry: &Entry, limit: u64, used: u64, shut: bool) -> Report<'static> {
    let Entry { tenant, tier, .. } = entry;
    let what = if shut { "only what frees space is allowed" } else { "writes are refused" };
    let message =
        format!("tenant \"{tenant}\" uses {} of {} storage of tier \"{tier}\": {what}", size(used), size(limit));
    let way = "DELETE, TRUNCATE, DROP and VACUUM still work; run VACUUM FULL after a DELETE";
    Report::error(SqlState::DISK_FULL, message).hint(hint(way, entry))
}

pub fn statement_time(entry: &Entry, limit: Millis) -> Report<'static> {
    let Entry { tenant, tier, .. } = entry;
    let message = format!(
        "canceling statement: it ran longer than {limit}, the limit of tier \"{tier}\" for tenant \"{tenant}\""
    );
    Report::error(SqlState::QUERY_CANCELED, message).hint(hint("Make it do less at a time", entry))
}

/// No part of the ceiling is held here, and the control database does not give one.
pub fn unknown(entry: &Entry, ceiling: Ceiling) -> Report<'static> {
    let message = format!(
        "the {} of tenant \"{}\" cannot be checked: the router has no answer from its control database",
        name_of(ceiling),
        entry.tenant
    );
    let (fatal, code) = (ceiling == Ceiling::Connections, SqlState::CANNOT_CONNECT_NOW);
    let report = if fatal { Report::fatal(code, message) } else { Report::error(code, message) };
    report.hint("Try again in a moment; if it lasts, tell the operator of this platform.")
}

/// Once in a window, where the Router manifest asks for it.
pub fn notice(entry: &Entry, ceiling: Ceiling, used: u64, limit: u64) -> Report<'static> {
    let text = |number: u64| match ceiling {
        Ceiling::EgressPerMonth | Ceiling::Storage => size(number),
        _ => number.to_string(),
    };
    let (tenant, tier, name) = (&entry.tenant, &entry.tier, name_of(ceiling));
    let message =
        format!("tenant \"{tenant}\" has reached {} of {} {name} of tier \"{tier}\"", text(used), text(limit));
    Report::notice(message).hint(hint("Use less", entry))
}

/// As in a manifest.
fn name_of(ceiling: Ceiling) -> &'static str {
    match ceiling {
        Ceiling::Connections => "connections",
        Ceiling::ServerConnections => "serverConnections",
        Ceiling::QueriesPerMinute => "queriesPerMinute",
        Ceiling::RequestsPerMinute => "requestsPerMinute",
        Ceiling::EgressPerMonth => "egressPerMonth",
        Ceiling::Storage => "storage",
        Ceiling::StatementTimeout => "statementTimeout",
    }
}

fn hint(first: &str, entry: &Entry) -> String {
    let Some(upgrade) = &entry.upgrade else { return format!("{first}.") };
    let mut text = format!("{first}, or upgrade to \"{}\"", upgrade.to);
    if let Some(message) = &upgrade.message {
        text.push_str(&format!(" ({message})"));
    }
    match &upgrade.url {
        Some(url) => text.push_str(&format!(": {url}")),
        None => text.push('.'),
    }
    text
}

/// Rounded up: who comes back then is not told the same again.
fn seconds(ms: u64) -> String {
    format!("{} s", ms.div_ceil(1000).max(1))
}

fn days(ms: u64) -> String {
    match ms.div_ceil(3_600_000) {
        0..48 => crate::tenancy::counted(ms.div_ceil(3_600_000), "hour"),
        hours => crate::tenancy::counted(hours.div_ceil(24), "day"),
    }
}

/// Whole mebibytes from 10 MiB on.
fn size(bytes: u64) -> String {
    match bytes {
        0..10_485_760 => format!("{} KiB", bytes.div_ceil(1024)),
        bytes => Bytes(bytes.div_ceil(1 << 20) << 20).to_string(),
    }
}

#[cfg(test)]
#[path = "refusal_tests.rs"]
mod tests;
