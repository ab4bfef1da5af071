//! `o7s tenant limits`: each ceiling with who set it, who holds it, and what is used of it.

use std::io::Write;

use serde::Serialize;

use super::{OneArgs, World};
use crate::cli::args::Format;
use crate::cli::progress::say;
use crate::cli::render;
use crate::cli::report::Failure;
use crate::manifest::{Owner, owners};
use crate::operator::Measured;
use crate::postgres::DatabaseUse;
use crate::store::CeilingUse;
use crate::tenancy::{Bytes, Limits, Millis, TenantId};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ceiling {
    pub name: &'static str,
    /// Of `value`, `in_force` and `used`.
    pub unit: Unit,
    /// `None`: unlimited.
    pub value: Option<u64>,
    /// What the routing table still has (`null`: unlimited), where that differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_force: Option<Option<u64>>,
    /// The manifest line; absent for a tenant without manifest and for what nothing limits.
    pub set_by: Option<String>,
    pub held_by: String,
    pub used: Option<u64>,
}

/// The largest ceiling, 1024Ti, is far below 2^53: as numbers they are safe in every reader of JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Unit {
    Count,
    Bytes,
    Milliseconds,
}

impl Unit {
    /// As a manifest says it.
    fn exact(self, value: Option<u64>) -> String {
        match (self, value) {
            (_, None) => "unlimited".to_owned(),
            (Unit::Count, Some(count)) => count.to_string(),
            (Unit::Bytes, Some(bytes)) => Bytes(bytes).to_string(),
            (Unit::Milliseconds, Some(ms)) => Millis(ms).to_string(),
        }
    }

    fn rounded(self, used: u64) -> String {
        match self {
            Unit::Bytes => size(used),
            Unit::Count | Unit::Milliseconds => self.exact(Some(used)),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Printed<'a> {
    tenant: &'a TenantId,
    tier: String,
    limits: Vec<Ceiling>,
    measured: &'a Measured,
    /// By the routers.
    used: &'a CeilingUse,
}

const ROUTER: &str = "the router";

pub(super) async fn run(args: &OneArgs) -> Result<u8, Failure> {
    let world = World::open(&args.input).await?;
    let route = world.route(&args.tenant)?;
    let measured = world.measure(route).await?;
    let used = world.session.store.ceiling_use(&args.tenant).await?;
    let limits = ceilings(&world, &args.tenant, &measured, Some(&used));
    let mut out = anstream::stdout().lock();
    match args.format {
        Format::Json => {
            let tier = route.tier.to_string();
            render::json(
                &mut out,
                &Printed { tenant: &args.tenant, tier, limits, measured: &measured, used: &used },
            )?;
        }
        Format::Text => {
            render::table(&mut out, &HEAD, &rows(&limits))?;
            lately(&mut out, &used)?;
            not_measured(&measured).into_iter().for_each(|line| say(&line));
        }
    }
    Ok(0)
}

/// What happened in the last hour.
fn lately(out: &mut impl Write, used: &CeilingUse) -> std::io::Result<()> {
    let refused: Vec<String> = used.rejected.iter().map(|one| format!("{} {}", one.count, one.ceiling)).collect();
    match refused.as_slice() {
        [] => writeln!(out, "\nIn the last hour nothing was refused.")?,
        refused => writeln!(out, "\nRefused in the last hour: {}.", refused.join(", "))?,
    }
    for event in &used.events {
        writeln!(out, "  {} {} {}", event.at.format("%H:%M:%SZ"), event.reason, event.message)?;
    }
    Ok(())
}

pub(super) const HEAD: [&str; 5] = ["CEILING", "VALUE", "USED", "SET BY", "HELD BY"];

pub(super) fn rows(limits: &[Ceiling]) -> Vec<Vec<String>> {
    let value = |limit: &Ceiling| match limit.in_force.map(|old| limit.unit.exact(old)) {
        Some(old) => format!("{} ({old} until the next reconcile)", limit.unit.exact(limit.value)),
        None => limit.unit.exact(limit.value),
    };
    let row = |limit: &Ceiling| {
        let held = if limit.value.is_some() { limit.held_by.clone() } else { String::new() };
        let used = limit.used.map(|used| limit.unit.rounded(used)).unwrap_or_default();
        vec![limit.name.to_owned(), value(limit), used, limit.set_by.clone().unwrap_or_default(), held]
    };
    limits.iter().map(row).collect()
}

/// Why a column is empty.
pub(super) fn not_measured(measured: &Measured) -> Option<String> {
    match measured {
        Measured::Awake(_) => None,
        Measured::Asleep => Some("its instance sleeps and was not woken: nothing was measured".into()),
        Measured::Gone => Some("its database is not on its instance: run o7s plan".into()),
        Measured::Unreachable { reason, help } => Some(format!("nothing was measured: {reason}\n  next: {help}")),
    }
}

/// Those of the manifest; a tenant without one keeps those of its route.
pub(super) fn ceilings(
    world: &World,
    tenant: &TenantId,
    measured: &Measured,
    counted: Option<&CeilingUse>,
) -> Vec<Ceiling> {
    let route = world.control.routes.get(tenant).map(|route| values(&route.limits));
    let declared = world.desired.tenants.get(tenant).map(|tenant| values(&tenant.limits));
    let owned = owners(&world.desired, &world.sources, &format!("tenant/{tenant}")).unwrap_or_default();
    let set_by = |name: &str| {
        let field = format!("spec.limits.{name}");
        owned.iter().find(|owned| owned.field == field).and_then(|owned| match &owned.owner {
            Owner::Manifest { at } => Some(at.to_string()),
            Owner::Tier { name, at } => Some(format!("tier {name}, {at}")),
            Owner::Fleet { at } => Some(at.to_string()),
            Owner::Default => None,
        })
    };
    let used = match measured {
        Measured::Awake(used) => Some(used),
        Measured::Asleep | Measured::Gone | Measured::Unreachable { .. } => None,
    };
    let ceiling = |(at, (name, unit)): (usize, (&'static str, Unit))| {
        let wanted = declared.as_ref().or(route.as_ref()).and_then(|values| values[at]);
        let in_force = route.as_ref().map(|values| values[at]).filter(|there| *there != wanted);
        let (held_by, used) = held(name, used, counted);
        Ceiling { name, unit, value: wanted, in_force, set_by: set_by(name), held_by, used }
    };
    NAMES.into_iter().enumerate().map(ceiling).collect()
}

const NAMES: [(&str, Unit); 7] = [
    ("connections", Unit::Count),
    ("serverConnections", Unit::Count),
    ("queriesPerMinute", Unit::Count),
    ("requestsPerMinute", Unit::Count),
    ("storage", Unit::Bytes),
    ("egressPerMonth", Unit::Bytes),
    ("statementTimeout", Unit::Milliseconds),
];

/// In the order of [`NAMES`].
fn values(limits: &Limits) -> [Option<u64>; 7] {
    [
        Some(limits.connections.into()),
        Some(limits.server_connections.into()),
        limits.queries_per_minute,
        limits.requests_per_minute,
        limits.storage.map(|bytes| bytes.0),
        limits.egress_per_month.map(|bytes| bytes.0),
        limits.statement_timeout.map(|time| time.0),
    ]
}

fn held(name: &str, used: Option<&DatabaseUse>, counted: Option<&CeilingUse>) -> (String, Option<u64>) {
    let by_router = |count: fn(&CeilingUse) -> u64| (ROUTER.to_owned(), counted.map(count));
    match name {
        "serverConnections" => {
            let held = match used {
                Some(used) if used.connection_limit >= 0 => {
                    format!("Postgres, CONNECTION LIMIT {}", used.connection_limit)
                }
                Some(_) => "nothing: Postgres has no limit on it, see o7s plan".to_owned(),
                None => "Postgres, CONNECTION LIMIT".to_owned(),
            };
            (held, used.map(|used| u64::from(used.connections)))
        }
        "statementTimeout" => {
            let held = match used {
                Some(DatabaseUse { statement_timeout: Some(text), .. }) => {
                    let unit = if text.bytes().all(|byte| byte.is_ascii_digit()) { " ms" } else { "" };
                    format!("Postgres, statement_timeout {text}{unit}")
                }
                Some(_) => "nothing: the database has no statement_timeout, see o7s plan".to_owned(),
                None => "Postgres, statement_timeout".to_owned(),
            };
            (held, None)
        }
        "connections" => by_router(|counted| counted.connections),
        "queriesPerMinute" => by_router(|counted| counted.queries),
        "requestsPerMinute" => by_router(|counted| counted.requests),
        "egressPerMonth" => by_router(|counted| counted.egress),
        // The router goes by what was measured last.
        _ => {
            let stored = counted.and_then(|counted| counted.storage.as_ref()).map(|stored| stored.bytes);
            (ROUTER.to_owned(), used.map(|used| used.size_bytes).or(stored))
        }
    }
}

/// For people: whole mebibytes, rounded up, from 10 MiB on; exact bytes are in the JSON.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..10_485_760 => format!("{} kiB", bytes.div_ceil(1024)),
        bytes => Bytes(bytes.div_ceil(1 << 20) << 20).to_string(),
    }
}
