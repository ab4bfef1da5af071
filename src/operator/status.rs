//! How each object of a fleet is doing, in one word and since when: from the manifests, the control database and the
//! conditions of the last run. Asks neither Railway nor an instance.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::manifest::{DeletionPolicy, Desired, Tenant, TenantState};
use crate::plan::ControlLive;
use crate::store::{ConditionStatus, ConditionType, StoredCondition};
use crate::tenancy::{InstanceName, RouteState, TenantId, TierName};

/// What an object is, whatever its health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// Routed.
    Active,
    Suspended,
    /// `spec.paused`: seen, never written.
    Paused,
    /// Declared; no run has made it yet.
    Pending,
    /// No manifest declares it; its data and its route stay.
    Retained,
    /// Taken out of use; its clients hear why.
    Retired,
    /// `state: absent` is declared, and the second key of the deletion was not given yet.
    Leaving,
    /// Renamed away, waiting for the end of its grace time.
    Deleting,
    /// `deletionPolicy: detach` was carried out: its database stays, o7s has forgotten it.
    Detached,
    /// A former name whose rename is not finished.
    Renaming,
    /// An instance in use.
    Running,
    /// An instance that sleeps.
    Asleep,
}

impl State {
    pub const ALL: [State; 12] = [
        State::Active,
        State::Suspended,
        State::Paused,
        State::Pending,
        State::Retained,
        State::Retired,
        State::Leaving,
        State::Deleting,
        State::Detached,
        State::Renaming,
        State::Running,
        State::Asleep,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            State::Active => "active",
            State::Suspended => "suspended",
            State::Paused => "paused",
            State::Pending => "pending",
            State::Retained => "retained",
            State::Retired => "retired",
            State::Leaving => "leaving",
            State::Deleting => "deleting",
            State::Detached => "detached",
            State::Renaming => "renaming",
            State::Running => "running",
            State::Asleep => "asleep",
        }
    }

    /// Nobody waits for it to become ready: it is on its way out, or frozen.
    pub fn is_aside(self) -> bool {
        match self {
            State::Paused | State::Retained | State::Retired | State::Leaving | State::Deleting => true,
            State::Detached | State::Renaming => true,
            State::Active | State::Suspended | State::Pending | State::Running | State::Asleep => false,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Readiness {
    Yes,
    No,
    /// No run has looked at it yet, or none could.
    Unknown,
}

impl Readiness {
    pub fn as_str(self) -> &'static str {
        match self {
            Readiness::Yes => "yes",
            Readiness::No => "no",
            Readiness::Unknown => "unknown",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectStatus {
    /// `tenant` or `instance`.
    pub kind: &'static str,
    pub name: String,
    pub state: State,
    pub ready: Readiness,
    /// When readiness or its reason last changed, by the control database's clock.
    pub since: Option<DateTime<Utc>>,
    pub instance: Option<InstanceName>,
    pub tier: Option<TierName>,
    pub route: Option<RouteState>,
    /// The last error, or what is to be said of the state; then what `remarks` say.
    pub message: String,
    /// What else stands, whatever its readiness: paused, flapping.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<Remark>,
    /// The last run left it as its manifest asks; a suspended tenant is as wanted and not ready.
    #[serde(skip)]
    pub as_wanted: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Remark {
    pub condition: ConditionType,
    pub since: DateTime<Utc>,
    pub message: String,
}

impl ObjectStatus {
    fn with_remarks(mut self, standing: &Standing<'_>) -> ObjectStatus {
        let mine = standing.remarks.get(&(self.kind, self.name.as_str()));
        self.remarks = mine
            .into_iter()
            .flatten()
            .map(|one| Remark {
                condition: one.condition.condition,
                since: one.since,
                message: format!("{} (since {})", one.condition.message, one.since.format("%Y-%m-%d %H:%M UTC")),
            })
            .collect();
        let own = Some(std::mem::take(&mut self.message)).filter(|own| !own.is_empty());
        let all = own.into_iter().chain(self.remarks.iter().map(|remark| remark.message.clone()));
        self.message = all.collect::<Vec<_>>().join("; ");
        self
    }

    pub fn address(&self) -> String {
        format!("{}/{}", self.kind, self.name)
    }

    /// Nobody waits for it to become ready, unless by its name.
    pub fn is_aside(&self) -> bool {
        self.state.is_aside() || (self.state == State::Suspended && self.as_wanted)
    }

    pub fn is_ready(&self) -> bool {
        self.ready == Readiness::Yes
    }
}

/// Tenants, then instances, each sorted by name.
pub fn statuses(desired: &Desired, control: &ControlLive, conditions: &[StoredCondition]) -> Vec<ObjectStatus> {
    let standing = Standing::of(conditions);
    let by_object = &standing.readiness;
    let known = control.routes.keys().chain(control.placements.keys()).chain(control.deletions.keys());
    let names: BTreeSet<&TenantId> = desired.tenants.keys().chain(known).collect();
    let tenants = names.into_iter().filter_map(|name| {
        let stored = by_object.get(&("tenant", name.as_str())).copied();
        tenant(name, desired.tenants.get(name), control, stored)
    });
    let told = by_object.keys().filter(|(kind, _)| *kind == "instance").map(|(_, name)| *name);
    let instances: BTreeSet<&str> = told.chain(control.instances.keys().map(String::as_str)).collect();
    let instances = instances.into_iter().filter_map(|name| InstanceName::parse(name).ok());
    let instances = instances.map(|name| instance(&name, by_object.get(&("instance", name.as_str())).copied()));
    tenants.chain(instances).map(|one| one.with_remarks(&standing)).collect()
}

/// Conditions by what they are for.
struct Standing<'a> {
    /// By kind and name.
    readiness: BTreeMap<(&'a str, &'a str), &'a StoredCondition>,
    remarks: BTreeMap<(&'a str, &'a str), Vec<&'a StoredCondition>>,
}

impl<'a> Standing<'a> {
    fn of(conditions: &'a [StoredCondition]) -> Standing<'a> {
        let mut standing = Standing { readiness: BTreeMap::new(), remarks: BTreeMap::new() };
        for one in conditions {
            let object = (one.condition.kind.as_str(), one.condition.name.as_str());
            match one.condition.condition {
                ConditionType::Flapping | ConditionType::Paused => {
                    standing.remarks.entry(object).or_default().push(one);
                }
                _ => drop(standing.readiness.insert(object, one)),
            }
        }
        standing
    }
}

/// Declared so; whether it is carried out is told by what is remembered of it.
pub fn is_detached(tenant: &Tenant) -> bool {
    tenant.state == TenantState::Absent && tenant.deletion_policy == DeletionPolicy::Detach
}

/// `None` for what is declared absent and is.
fn tenant(
    name: &TenantId,
    wanted: Option<&Tenant>,
    control: &ControlLive,
    stored: Option<&StoredCondition>,
) -> Option<ObjectStatus> {
    let (route, placement) = (control.routes.get(name), control.placements.get(name));
    let deletion = control.deletions.get(name);
    let renamed_to = control.renames.get(name).filter(|rename| !rename.done).map(|rename| &rename.to);
    let state = match (wanted, route) {
        _ if deletion.is_some() => State::Deleting,
        (None, _) if renamed_to.is_some() => State::Renaming,
        (Some(tenant), None) if is_detached(tenant) && placement.is_none() => State::Detached,
        (Some(tenant), None) if tenant.state == TenantState::Absent && placement.is_none() => return None,
        (_, Some(route)) if route.state == RouteState::Retired => State::Retired,
        (None, _) => State::Retained,
        (Some(tenant), _) if tenant.state == TenantState::Absent => State::Leaving,
        (Some(tenant), _) if tenant.paused => State::Paused,
        (Some(_), None) => State::Pending,
        (Some(_), Some(route)) if route.state == RouteState::Suspended => State::Suspended,
        (Some(_), Some(_)) => State::Active,
    };
    let (ready, since, message) = health(stored);
    let as_wanted = ready == Readiness::Yes;
    // It is as its manifest asks, and nobody can use it.
    let ready = if state == State::Suspended && as_wanted { Readiness::No } else { ready };
    let said = match (state, deletion) {
        _ if !message.is_empty() => message,
        (State::Deleting, Some(deletion)) => {
            format!("{} is dropped by a run after {}", deletion.renamed_to, deletion.due_at.format("%Y-%m-%d %H:%M"))
        }
        (State::Retained, _) => "no manifest declares it; nothing is deleted".into(),
        (State::Leaving, _) => "state: absent; stays until --allow-delete is given".into(),
        (State::Paused, _) => "spec.paused: nothing is changed".into(),
        (State::Suspended, _) => "spec.suspended: logins are off".into(),
        (State::Detached, _) => "its database stays and o7s has forgotten it: o7s adopt takes it back".into(),
        (State::Renaming, _) => {
            let to = renamed_to.map(ToString::to_string).unwrap_or_default();
            format!("becomes tenant/{to}: the next o7s reconcile --once finishes that")
        }
        (State::Pending, _) => "no run has made it yet".into(),
        _ => String::new(),
    };
    Some(ObjectStatus {
        kind: "tenant",
        name: name.to_string(),
        state,
        ready,
        since,
        instance: route.map(|route| &route.instance).or(placement.map(|place| &place.instance)).cloned(),
        tier: route.map(|route| &route.tier).or(wanted.map(|tenant| &tenant.tier)).cloned(),
        route: route.map(|route| route.state),
        message: said,
        remarks: Vec::new(),
        as_wanted,
    })
}

fn instance(name: &InstanceName, stored: Option<&StoredCondition>) -> ObjectStatus {
    let (ready, since, message) = health(stored);
    let state = match stored.map(|one| one.condition.reason.as_str()) {
        None => State::Pending,
        Some(reason) if reason == super::record::ASLEEP => State::Asleep,
        Some(_) => State::Running,
    };
    ObjectStatus {
        kind: "instance",
        name: name.to_string(),
        state,
        ready,
        since,
        instance: None,
        tier: None,
        route: None,
        message,
        remarks: Vec::new(),
        as_wanted: ready == Readiness::Yes,
    }
}

fn health(stored: Option<&StoredCondition>) -> (Readiness, Option<DateTime<Utc>>, String) {
    let Some(stored) = stored else { return (Readiness::Unknown, None, String::new()) };
    let ready = match stored.condition.status {
        ConditionStatus::True => Readiness::Yes,
        ConditionStatus::False => Readiness::No,
        ConditionStatus::Unknown => Readiness::Unknown,
    };
    (ready, Some(stored.since), stored.condition.message.clone())
}
