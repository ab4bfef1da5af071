//! Looks at everything a run depends on and says of each part whether it is well, and what to do where it is not. Made
//! for the hour in which things are broken: what is missing or silent is a finding, and never keeps the rest from being
//! looked at.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::world::{Door, Servers};
use crate::manifest::{Desired, RailwayPlan};
use crate::plan::{ControlLive, InstanceState, Live, Ownership, RailwayLive};
use crate::railway::{self, Heard, Reach};
use crate::store::{self, SCHEMA_VERSION};
use crate::tenancy::InstanceName;

/// Leases and deletions are settled by the control database's clock; ours only dates what was observed and checks
/// certificates.
const SKEW_WARNED: Duration = Duration::from_secs(30);
const SKEW_FAILED: Duration = Duration::from_secs(300);
/// Of the hourly allowance, in percent.
const ALLOWANCE_LOW: u64 = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Level {
    Ok,
    Warn,
    Fail,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "fail",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What was looked at: `token`, `plan`, `clock`, `instance/shared-1`, …
    pub part: String,
    pub level: Level,
    pub message: String,
    /// What to do; absent when all is well.
    pub next: Option<String>,
}

impl Finding {
    pub fn ok(part: &str, message: impl Into<String>) -> Finding {
        Finding { part: part.to_owned(), level: Level::Ok, message: message.into(), next: None }
    }

    pub fn warn(part: &str, message: impl Into<String>, next: impl Into<String>) -> Finding {
        Finding { part: part.to_owned(), level: Level::Warn, message: message.into(), next: Some(next.into()) }
    }

    pub fn fail(part: &str, message: impl Into<String>, next: impl Into<String>) -> Finding {
        Finding { part: part.to_owned(), level: Level::Fail, message: message.into(), next: Some(next.into()) }
    }
}

/// Kind and reach of the token, once Railway has answered.
pub fn token(reach: &Reach, workspaces: usize, found_project: bool, project: &str) -> Finding {
    let kind = match reach {
        Reach::Account => format!("an account token that reaches {workspaces} workspaces"),
        Reach::Workspace => format!("a workspace token that reaches {workspaces} workspaces"),
        Reach::Environment => "a project token, bound to this environment".to_owned(),
    };
    if !found_project {
        let next = "run o7s bootstrap, or use a token that reaches the project";
        return Finding::warn("token", format!("{kind}; it sees no project `{project}`"), next);
    }
    match reach {
        Reach::Account => {
            let next = "give it to people only; a project token is enough for CI and for the operator";
            Finding { next: Some(next.into()), ..Finding::ok("token", kind) }
        }
        Reach::Workspace | Reach::Environment => Finding::ok("token", kind),
    }
}

/// What is left of the hour's requests.
pub fn allowance(heard: &Heard) -> Option<Finding> {
    let (limit, left) = (heard.limit?, heard.remaining?);
    let message = format!("{left} of {limit} requests left in this hour");
    if left.saturating_mul(100) < limit.saturating_mul(ALLOWANCE_LOW) {
        let next = "find out who else uses this token, or wait for the next hour";
        return Some(Finding::warn("requests", message, next));
    }
    Some(Finding::ok("requests", message))
}

/// `theirs` at the moment our clock showed `ours`; `precision` is how far apart the two looks may have been.
pub fn clock(part: &str, whose: &str, ours: DateTime<Utc>, theirs: DateTime<Utc>, precision: Duration) -> Finding {
    let apart = (ours - theirs).abs().to_std().unwrap_or_default();
    let skew = apart.saturating_sub(precision);
    let message = format!("this machine's clock and {whose} are at most {} s apart", (apart + precision).as_secs());
    let next = "set this machine's clock (as with ntp)";
    match skew {
        skew if skew >= SKEW_FAILED => Finding::fail(part, message.replace("at most", "about"), next),
        skew if skew >= SKEW_WARNED => Finding::warn(part, message.replace("at most", "about"), next),
        _ => Finding::ok(part, message),
    }
}

/// The plan's limits against what is used of them, and whose the services are.
pub fn project(live: &RailwayLive, desired: &Desired) -> Vec<Finding> {
    let mut found = vec![plan(live, desired), volumes(live)];
    if live.staged_changes > 0 {
        let message = format!("{} changes are staged in the dashboard", live.staged_changes);
        let next = "apply or discard them there; o7s never commits them";
        found.push(Finding::warn("staged changes", message, next));
    }
    let foreign = |service: &&crate::plan::ServiceLive| {
        let named = InstanceName::parse(&service.name).is_ok_and(|name| desired.pools.contains_key(&name.pool()));
        named && matches!(service.owner, Ownership::Foreign | Ownership::Newer)
    };
    found.extend(live.services.iter().filter(foreign).map(|service| {
        let message = match service.owner {
            Ownership::Newer => "its marker is of a newer o7s than this one",
            _ => "it has the name of an instance and is not ours",
        };
        let next = "rename or delete it on Railway; if it is ours, O7S_MASTER_KEY is not the one it was made with";
        Finding::fail(&format!("service/{}", service.name), message, next)
    }));
    found
}

fn plan_name(plan: RailwayPlan) -> String {
    format!("{plan:?}")
}

fn plan(live: &RailwayLive, desired: &Desired) -> Finding {
    let limits = &live.limits;
    let message = format!(
        "{}: volumes up to {} MiB, services up to {} vCPU and {} MiB",
        plan_name(live.plan),
        limits.volume_mib_max,
        f64::from(limits.vcpu_milli_max) / 1000.0,
        limits.memory_mib_max
    );
    match desired.fleet.plan {
        Some(wanted) if wanted != live.plan => {
            let next = "correct spec.railway.plan of the Fleet, or change the plan of the workspace";
            Finding::warn("plan", format!("{message}; the Fleet was written for {}", plan_name(wanted)), next)
        }
        _ => Finding::ok("plan", message),
    }
}

fn volumes(live: &RailwayLive) -> Finding {
    let have = live.volumes.len();
    match live.limits.volumes {
        None => Finding::ok("volumes", format!("{have} volumes, without a limit")),
        Some(max) if have >= max as usize => {
            let next = "no further instance can be made: raise the plan, or ask Railway for more volumes";
            Finding::warn("volumes", format!("{have} of {max} volumes are used"), next)
        }
        Some(max) => Finding::ok("volumes", format!("{have} of {max} volumes are used")),
    }
}

/// What the control database's own answer says.
pub fn control(state: &Result<ControlLive, store::Error>) -> Finding {
    match state {
        Ok(control) if control.schema_version == 0 => {
            Finding::fail("control database", "it is empty", store::Error::NotBootstrapped.help())
        }
        Ok(control) => {
            let version = control.schema_version;
            Finding::ok(
                "control database",
                format!("answers; schema version {version}, as this o7s ({SCHEMA_VERSION})"),
            )
        }
        Err(error) => Finding::fail("control database", explain(error), error.help()),
    }
}

/// One query to each instance that is awake, all within the bounds of an observation.
pub async fn instances<S: Servers>(
    door: &Door<'_>,
    servers: &S,
    railway: RailwayLive,
    control: ControlLive,
) -> Vec<Finding> {
    match super::observe::observe(door, servers, Some(railway), control).await {
        Ok(live) => of_instances(&live),
        Err(error) => vec![Finding::fail("instances", explain(&error), error.help())],
    }
}

fn of_instances(live: &Live) -> Vec<Finding> {
    let finding = |(name, state): (&InstanceName, &InstanceState)| {
        let part = format!("instance/{name}");
        match state {
            InstanceState::Awake(server) => {
                let (major, databases) = (server.version / 10_000, server.databases.len());
                let takes = server.max_connections;
                let message = format!(
                    "Postgres {major} answers and takes our key; {databases} databases, {takes} connections at most"
                );
                Finding::ok(&part, message)
            }
            InstanceState::Asleep => Finding::ok(&part, "sleeps, and was not woken"),
            InstanceState::Unreachable { reason } => {
                let next = "look at its deployment on Railway; o7s reconcile --once deploys a failed one again";
                Finding::fail(&part, reason.clone(), next)
            }
        }
    };
    live.instances.iter().map(finding).collect()
}

pub fn railway_failed(part: &str, error: &railway::Error) -> Finding {
    Finding::fail(part, error.to_string(), error.help())
}

/// An error and its causes on one line.
fn explain(error: &dyn std::error::Error) -> String {
    super::real::explain(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_a_little_wrong_is_well_and_one_that_is_far_off_is_not() {
        let ours: DateTime<Utc> = "2026-11-24T12:00:00Z".parse().expect("a time");
        let level = |seconds: i64| {
            let theirs = ours + chrono::TimeDelta::seconds(seconds);
            clock("clock", "Railway's", ours, theirs, Duration::from_secs(2)).level
        };
        assert_eq!([0, 31, -31].map(level), [Level::Ok; 3]);
        assert_eq!([33, -33, 300].map(level), [Level::Warn; 3]);
        assert_eq!([303, -4000].map(level), [Level::Fail; 2]);
    }

    #[test]
    fn an_hour_that_is_nearly_spent_is_warned_of() {
        let left = |remaining| {
            let heard = Heard { limit: Some(1000), remaining: Some(remaining), ..Heard::default() };
            allowance(&heard).map(|finding| finding.level)
        };
        assert_eq!([left(1000), left(100), left(99)], [Some(Level::Ok), Some(Level::Ok), Some(Level::Warn)]);
        assert_eq!(allowance(&Heard::default()), None);
    }
}
