//! `o7s status`: what the control database says of each tenant and instance. Asks neither Railway nor the instances.

use serde::Serialize;

use super::args::{Format, StatusArgs};
use super::load::load_desired;
use super::report::Failure;
use super::session::Session;
use super::{config, render};
use crate::plan::ControlLive;
use crate::store::{ConditionStatus, FleetRow, StoredCondition};

#[derive(Serialize)]
struct Printed<'a> {
    fleet: Option<&'a FleetRow>,
    routing_version: u64,
    objects: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    kind: String,
    name: String,
    /// `yes`, `no`, `unknown`.
    ready: String,
    instance: String,
    tier: String,
    route: String,
    since: String,
    message: String,
}

/// 2 when something is not ready, as `status --wait` will.
pub async fn run(args: StatusArgs) -> Result<u8, Failure> {
    let desired = load_desired(&args.input.files).map_err(Failure::Manifests)?;
    let session = Session::open(config::from_environment()?, &desired).await?;
    let (fleet, control) = session.load().await?;
    let conditions = session.store.conditions().await?;
    let wanted =
        |row: &Row| args.object.as_ref().is_none_or(|object| *object == format!("{}/{}", row.kind, row.name));
    let objects: Vec<Row> = conditions.iter().map(|condition| row(condition, &control)).filter(wanted).collect();
    if let Some(object) = args.object.as_ref().filter(|_| objects.is_empty()) {
        return Err(Failure::Usage(format!(
            "nothing is known of `{object}`; names look like tenant/acme, instance/shared-1"
        )));
    }
    let ready = objects.iter().all(|row| row.ready == "yes");
    let mut out = anstream::stdout().lock();
    match args.output.format {
        Format::Json => {
            let printed = Printed { fleet: fleet.as_ref(), routing_version: control.routing_version, objects };
            render::json(&mut out, &printed)?;
        }
        Format::Text => {
            let name = fleet.as_ref().map_or("(not known yet)", |fleet| fleet.name.as_str());
            use std::io::Write as _;
            let (version, routes) = (control.routing_version, control.routes.len());
            writeln!(out, "fleet {name}  routing table version {version}, {routes} routes")?;
            let cells = |row: &Row| {
                let name = format!("{}/{}", row.kind, row.name);
                [&name, &row.ready, &row.instance, &row.tier, &row.route, &row.since, &row.message]
                    .map(String::clone)
                    .to_vec()
            };
            let rows: Vec<Vec<String>> = objects.iter().map(cells).collect();
            render::table(
                &mut out,
                &["OBJECT", "READY", "INSTANCE", "TIER", "ROUTE", "SINCE (UTC)", "MESSAGE"],
                &rows,
            )?;
        }
    }
    Ok(if ready { 0 } else { 2 })
}

fn row(stored: &StoredCondition, control: &ControlLive) -> Row {
    let condition = &stored.condition;
    let route =
        control.routes.values().find(|route| condition.kind == "tenant" && route.tenant.as_str() == condition.name);
    let ready = match condition.status {
        ConditionStatus::True => "yes",
        ConditionStatus::False => "no",
        ConditionStatus::Unknown => "unknown",
    };
    Row {
        kind: condition.kind.clone(),
        name: condition.name.clone(),
        ready: ready.to_owned(),
        instance: route.map_or_else(String::new, |route| route.instance.to_string()),
        tier: route.map_or_else(String::new, |route| route.tier.to_string()),
        route: route.map_or_else(String::new, |route| route.state.as_str().to_owned()),
        since: stored.since.format("%Y-%m-%d %H:%M:%S").to_string(),
        message: condition.message.clone(),
    }
}
