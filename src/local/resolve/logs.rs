//! Log lines, one more than asked for, as Railway answers them.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::args::Args;
use super::query::reached_environment;
use super::{Context, Refusal, Resolved, json, time};
use crate::local::world::{At, LogFilter, LogLine};

/// Railway documents none for a query that names none.
const LIMIT_DEFAULT: usize = 500;
const LIMIT_MAX: usize = 5_000;

pub fn of_deployment(context: &Context<'_>, args: &Args) -> Resolved {
    let id = args.text("deploymentId");
    let at = context.world.borrow().deployment(&id)?;
    context.may_reach(&at.environment)?;
    let filter = LogFilter::parse(&args.maybe("filter").unwrap_or_default())?;
    let (from, to) = (moment(args, "startDate")?, moment(args, "endDate")?);
    let within = |line: &LogLine| from.is_none_or(|from| line.at >= from) && to.is_none_or(|to| line.at <= to);
    let world = context.world.borrow();
    let wanted = world.logs_of(&id).rev().filter(|line| filter.fits(line) && within(line));
    let mut newest: Vec<Value> =
        wanted.take(limit(args, "limit")? + 1).map(|line| shown(context, &at, &id, line)).collect();
    newest.reverse();
    json(newest)
}

/// Images are not built here, so there is nothing a build could have said.
pub fn of_build(context: &Context<'_>, args: &Args) -> Resolved {
    let at = context.world.borrow().deployment(&args.text("deploymentId"))?;
    context.may_reach(&at.environment)?;
    json(json!([]))
}

/// Around the anchor (now, without one): so many before it, and if asked for, so many after it.
pub fn of_environment(context: &Context<'_>, args: &Args) -> Resolved {
    let environment = reached_environment(context, args)?;
    let filter = LogFilter::parse(&args.maybe("filter").unwrap_or_default())?;
    let anchor = moment(args, "anchorDate")?.unwrap_or(context.now);
    let (earliest, latest) = (moment(args, "beforeDate")?, moment(args, "afterDate")?);
    let world = context.world.borrow();
    let mut lines = world.environment_logs(&environment, &filter)?;
    lines.retain(|(_, _, line)| earliest.is_none_or(|at| line.at >= at) && latest.is_none_or(|at| line.at <= at));
    let split = lines.partition_point(|(_, _, line)| line.at <= anchor);
    let first = split.saturating_sub(limit(args, "beforeLimit")? + 1);
    let after = args.count("afterLimit").map_or(Ok(0), |_| limit(args, "afterLimit"))?;
    let last = (split + after).min(lines.len());
    json(lines[first..last].iter().map(|(at, id, line)| shown(context, at, id, line)).collect::<Vec<_>>())
}

fn limit(args: &Args, name: &str) -> Result<usize, Refusal> {
    match args.count(name) {
        None => Ok(LIMIT_DEFAULT),
        Some(count) => usize::try_from(count)
            .map(|count| count.min(LIMIT_MAX))
            .map_err(|_| Refusal::Invalid(format!("`{name}` is negative"))),
    }
}

fn moment(args: &Args, name: &str) -> Result<Option<DateTime<Utc>>, Refusal> {
    let Some(text) = args.maybe(name) else { return Ok(None) };
    let parsed = DateTime::parse_from_rfc3339(&text);
    parsed.map(|at| Some(at.to_utc())).map_err(|_| Refusal::Invalid(format!("`{name}` is no date: {text}")))
}

fn shown(context: &Context<'_>, at: &At, deployment: &str, line: &LogLine) -> Value {
    let world = context.world.borrow();
    let found = world.instance(at).ok().and_then(|i| i.deployments.iter().find(|d| d.id == deployment));
    json!({
        "timestamp": time(line.at),
        "severity": line.severity,
        "message": line.message,
        "attributes": [{ "key": "level", "value": line.severity }],
        "tags": {
            "projectId": world.environment(&at.environment).map(|e| e.project.clone()).ok(),
            "environmentId": at.environment,
            "serviceId": at.service,
            "deploymentId": deployment,
            "deploymentInstanceId": found.map(|deployment| deployment.instance_id.clone()),
            "pluginId": null,
            "snapshotId": null,
        },
    })
}
