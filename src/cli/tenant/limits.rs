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
use crate::tenancy::{Bytes, Limits, TenantId};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ceiling {
    pub name: &'static str,
    /// Absent: unlimited.
    pub value: Option<String>,
    /// What the routing table still has, where that differs.
    pub in_force: Option<String>,
    /// The manifest line; absent for a tenant without manifest and for what nothing limits.
    pub set_by: Option<String>,
    pub held_by: String,
    pub used: Option<String>,
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
    let show = |value: &Option<String>, absent: &str| value.clone().unwrap_or_else(|| absent.to_owned());
    let value = |limit: &Ceiling| match &limit.in_force {
        Some(old) => format!("{} ({old} until the next reconcile)", show(&limit.value, "unlimited")),
        None => show(&limit.value, "unlimited"),
    };
    let row = |limit: &Ceiling| {
        let held = if limit.value.is_some() { limit.held_by.clone() } else { String::new() };
        vec![limit.name.to_owned(), value(limit), show(&limit.used, ""), show(&limit.set_by, ""), held]
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
    let ceiling = |(at, name): (usize, &'static str)| {
        let wanted = declared.as_ref().or(route.as_ref()).and_then(|values| values[at].clone());
        let there = route.as_ref().map(|values| values[at].clone());
        let in_force = there.filter(|there| *there != wanted).map(|old| old.unwrap_or_else(|| "unlimited".into()));
        let (held_by, used) = held(name, used, counted);
        Ceiling { name, value: wanted, in_force, set_by: set_by(name), held_by, used }
    };
    NAMES.into_iter().enumerate().map(ceiling).collect()
}

const NAMES: [&str; 7] = [
    "connections",
    "serverConnections",
    "queriesPerMinute",
    "requestsPerMinute",
    "storage",
    "egressPerMonth",
    "statementTimeout",
];

/// In the order of [`NAMES`].
fn values(limits: &Limits) -> [Option<String>; 7] {
    [
        Some(limits.connections.to_string()),
        Some(limits.server_connections.to_string()),
        limits.queries_per_minute.map(|count| count.to_string()),
        limits.requests_per_minute.map(|count| count.to_string()),
        limits.storage.map(|bytes| bytes.to_string()),
        limits.egress_per_month.map(|bytes| bytes.to_string()),
        limits.statement_timeout.map(|time| time.to_string()),
    ]
}

fn held(name: &str, used: Option<&DatabaseUse>, counted: Option<&CeilingUse>) -> (String, Option<String>) {
    let by_router = |count: fn(&CeilingUse) -> String| (ROUTER.to_owned(), counted.map(count));
    match name {
        "serverConnections" => {
            let held = match used {
                Some(used) if used.connection_limit >= 0 => {
                    format!("Postgres, CONNECTION LIMIT {}", used.connection_limit)
                }
                Some(_) => "nothing: Postgres has no limit on it, see o7s plan".to_owned(),
                None => "Postgres, CONNECTION LIMIT".to_owned(),
            };
            (held, used.map(|used| used.connections.to_string()))
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
        "connections" => by_router(|counted| counted.connections.to_string()),
        "queriesPerMinute" => by_router(|counted| counted.queries.to_string()),
        "requestsPerMinute" => by_router(|counted| counted.requests.to_string()),
        "egressPerMonth" => by_router(|counted| size(counted.egress)),
        // The router goes by what was measured last.
        _ => {
            let stored = counted.and_then(|counted| counted.storage.as_ref()).map(|stored| stored.bytes);
            (ROUTER.to_owned(), used.map(|used| used.size_bytes).or(stored).map(size))
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
