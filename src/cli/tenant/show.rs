//! `o7s tenant show`: everything that is known of one tenant.

use std::io::Write;

use serde::Serialize;

use super::limits::{Ceiling, HEAD, ceilings, not_measured, rows, size};
use super::{OneArgs, World};
use crate::cli::args::Format;
use crate::cli::render;
use crate::cli::report::Failure;
use crate::manifest::{Tenant, TenantState};
use crate::operator::{Measured, ObjectStatus, statuses};
use crate::plan::PendingDeletion;
use crate::store::{EventFilter, StoredEvent};
use crate::tenancy::{Route, counted, role_name};

/// Of the newest events.
const EVENTS: u32 = 5;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Printed<'a> {
    status: &'a ObjectStatus,
    /// Where it is declared.
    manifest: Option<String>,
    labels: Option<&'a std::collections::BTreeMap<String, String>>,
    wanted_state: Option<&'static str>,
    /// Asked for; `route.generation` is what is in force.
    generation: Option<u32>,
    deletion: Option<&'a PendingDeletion>,
    /// What the routing table has.
    route: Option<&'a Route>,
    roles: Vec<Role>,
    limits: &'a [Ceiling],
    publish: Vec<String>,
    measured: Option<&'a Measured>,
    events: &'a [StoredEvent],
}

#[derive(Serialize)]
struct Role {
    user: String,
    grants: &'static str,
}

pub(super) async fn run(args: &OneArgs) -> Result<u8, Failure> {
    let world = World::open(&args.input).await?;
    world.check_known(&args.tenant)?;
    let conditions = world.session.store.conditions().await?;
    let all = statuses(&world.desired, &world.control, &conditions);
    let found = all.iter().find(|one| one.kind == "tenant" && one.name == args.tenant.as_str());
    // Declared absent, and gone.
    let Some(status) = found else { return Err(world.not_made(&args.tenant)) };
    let object = Some(("tenant".to_owned(), args.tenant.to_string()));
    let events = world.session.store.events(&EventFilter { object, limit: EVENTS, after: None }).await?;
    let route = world.control.routes.get(&args.tenant);
    let measured = match route {
        Some(route) => Some(world.measure(route).await?),
        None => None,
    };
    let limits = ceilings(&world, &args.tenant, measured.as_ref().unwrap_or(&Measured::Gone), None);
    let tenant = world.desired.tenants.get(&args.tenant);
    let printed = Printed {
        status,
        manifest: tenant.map(|tenant| tenant.origins.object.to_string()),
        labels: tenant.map(|tenant| &tenant.labels),
        wanted_state: tenant.map(wanted_state),
        generation: tenant.map(|tenant| tenant.generation),
        deletion: world.control.deletions.get(&args.tenant),
        route,
        roles: roles(args, tenant, route),
        limits: &limits,
        publish: tenant.map(publications).unwrap_or_default(),
        measured: measured.as_ref(),
        events: &events,
    };
    let mut out = anstream::stdout().lock();
    match args.format {
        Format::Json => render::json(&mut out, &printed)?,
        Format::Text => text(&mut out, &printed)?,
    }
    Ok(0)
}

fn wanted_state(tenant: &Tenant) -> &'static str {
    match tenant {
        Tenant { state: TenantState::Absent, .. } => "absent",
        Tenant { paused: true, .. } => "paused",
        Tenant { suspended: true, .. } => "suspended",
        Tenant { .. } => "present",
    }
}

fn roles(args: &OneArgs, tenant: Option<&Tenant>, route: Option<&Route>) -> Vec<Role> {
    let owner = Role { user: args.tenant.to_string(), grants: "owner" };
    let declared = tenant.map(|tenant| {
        let role = |role: &crate::manifest::Role| (role.name.clone(), role.grants.as_str());
        tenant.roles.iter().map(role).collect::<Vec<_>>()
    });
    // Without a manifest only the names are known here.
    let routed = || route.map(|route| route.roles.iter().map(|role| (role.clone(), "not declared")).collect());
    let more = declared.or_else(routed).unwrap_or_default();
    let more = more.into_iter().map(|(name, grants)| Role { user: role_name(&args.tenant, Some(&name)), grants });
    std::iter::once(owner).chain(more).collect()
}

fn publications(tenant: &Tenant) -> Vec<String> {
    let line = |one: &crate::manifest::Publish| {
        let user = role_name(&tenant.name, one.role.as_ref());
        format!("{}.{} as {user}", one.service, one.variable)
    };
    tenant.publish.iter().map(line).collect()
}

fn text(out: &mut dyn Write, printed: &Printed<'_>) -> std::io::Result<()> {
    let status = printed.status;
    let mut lines: Vec<(&str, String)> = vec![("tenant", status.name.clone()), ("state", status.state.to_string())];
    let since = status.since.map(|at| format!(" since {} UTC", at.format("%Y-%m-%d %H:%M:%S"))).unwrap_or_default();
    lines.push(("ready", format!("{}{since}", status.ready.as_str())));
    if !status.message.is_empty() {
        lines.push(("message", status.message.clone()));
    }
    lines.push(("manifest", printed.manifest.clone().unwrap_or_else(|| "(none)".into())));
    let labels = printed.labels.into_iter().flatten().map(|(key, value)| format!("{key}={value}"));
    let labels = labels.collect::<Vec<_>>().join(", ");
    if !labels.is_empty() {
        lines.push(("labels", labels));
    }
    lines.extend(status.tier.as_ref().map(|tier| ("tier", tier.to_string())));
    lines.extend(status.instance.as_ref().map(|instance| ("instance", instance.to_string())));
    if let Some(route) = printed.route {
        lines.push(("database", route.database.clone()));
        lines.push(("private", route.endpoint.private.to_string()));
        lines.push(("public", route.endpoint.public.to_string()));
        let pending = printed.generation.filter(|wanted| *wanted != route.generation);
        let pending = pending.map(|wanted| format!(" ({wanted} with the next reconcile)")).unwrap_or_default();
        lines.push(("generation", format!("{}{pending}", route.generation)));
    }
    if let Some(Measured::Awake(used)) = printed.measured {
        let open = used.connections;
        lines.push(("in use", format!("{} on disk, {}", size(used.size_bytes), counted(open, "connection"))));
        lines.push(("Postgres", format!("{}", used.server_version / 10_000)));
    }
    lines.extend(printed.measured.and_then(not_measured).map(|why| ("in use", why)));
    let roles: Vec<String> = printed.roles.iter().map(|role| format!("{} ({})", role.user, role.grants)).collect();
    lines.push(("roles", roles.join(", ")));
    lines.extend(printed.publish.iter().map(|line| ("publish", line.clone())));
    for (name, value) in lines {
        writeln!(out, "{name:<11} {value}")?;
    }
    writeln!(out)?;
    render::table(out, &HEAD, &rows(printed.limits))?;
    if !printed.events.is_empty() {
        writeln!(out)?;
        render::table(out, &crate::cli::events::HEAD, &crate::cli::events::rows(printed.events))?;
    }
    out.flush()
}
