//! What a run leaves for people: its record, an event for each thing that happened, a condition for each object.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use super::adopt::Hindrance;
use super::outcome::{Outcome, Verdict};
use super::reconcile::Reconciled;
use super::world::{Control, Door};
use crate::manifest::{Desired, TenantState};
use crate::plan::{Action, InstanceState, Live, Problem, Step};
use crate::store::{CORRECTED, Condition, ConditionStatus, ConditionType, Event, Outcome as RunOutcome, RunRecord};
use crate::tenancy::{InstanceName, TenantId};

/// The reason of an instance that is as wanted and sleeps.
pub(super) const ASLEEP: &str = "Asleep";

pub(super) type Record = (RunRecord, Vec<Event>, Vec<Condition>);

pub(super) fn of(
    door: &Door<'_>,
    desired: &Desired,
    live: &Live,
    run: &Reconciled,
    started: DateTime<Utc>,
) -> Record {
    let requests = door.railway.requests();
    let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let entry = RunRecord {
        id: door.run,
        started,
        ended: (door.clock)(),
        outcome: outcome(run),
        plan_digest: Some(run.plan.digest().as_str().to_owned()),
        requests: small(requests.total()),
        mutations: small(requests.mutations),
    };
    (entry, events(run), conditions(desired, live, run))
}

/// What happened to one object outside of a plan.
pub struct Noted {
    pub kind: &'static str,
    pub name: String,
    /// The event's word if it was done.
    pub done: &'static str,
    pub message: String,
}

pub async fn note<C: Control>(
    door: &Door<'_>,
    control: &C,
    started: DateTime<Utc>,
    noted: Noted,
    result: &Result<(), Hindrance>,
) -> Result<(), super::Error> {
    let Noted { kind, name, done, message } = noted;
    let (outcome, reason, message) = match result {
        Ok(()) => (RunOutcome::Applied, done, message),
        // Without a lease there is nothing to write with.
        Err(Hindrance::Ended(super::Error::Store(_))) => return Ok(()),
        Err(Hindrance::Ended(super::Error::Stopped)) => {
            (RunOutcome::Interrupted, "Skipped", "stopped on request".into())
        }
        Err(Hindrance::Ended(error)) => (RunOutcome::Failed, "Failed", error.to_string()),
        Err(Hindrance::Failed(failure)) => (RunOutcome::Partly, "Failed", failure.message.clone()),
    };
    let requests = door.railway.requests();
    let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let entry = RunRecord {
        id: door.run,
        started,
        ended: (door.clock)(),
        outcome,
        plan_digest: None,
        requests: small(requests.total()),
        mutations: small(requests.mutations),
    };
    let event = Event { kind: kind.to_owned(), name, reason: reason.to_owned(), message, cause: None };
    control.record(&entry, &[event], &[]).await
}

fn outcome(run: &Reconciled) -> RunOutcome {
    match (&run.error, run.verdict) {
        (Some(super::Error::Stopped), _) => RunOutcome::Interrupted,
        (Some(_), _) => RunOutcome::Failed,
        (None, Verdict::Partial) => RunOutcome::Partly,
        (None, Verdict::Refused | Verdict::Limit | Verdict::Unconfirmed) => RunOutcome::Refused,
        (None, Verdict::Converged) if run.plan.is_empty() => RunOutcome::Unchanged,
        (None, Verdict::Converged) => RunOutcome::Applied,
    }
}

fn split(address: &str) -> (String, String) {
    let (kind, name) = address.split_once('/').unwrap_or(("fleet", address));
    (kind.to_owned(), name.to_owned())
}

fn events(run: &Reconciled) -> Vec<Event> {
    let acted =
        run.plan.actions.iter().filter_map(|action| Some(event(action, run.report.outcomes.get(&action.address)?)));
    let refused = run.plan.refused.iter().map(|problem| problem_event("Refused", problem));
    let breached = run.plan.breaches.iter().map(|problem| problem_event("LimitReached", problem));
    acted.chain(refused).chain(breached).collect()
}

fn event(action: &Action, outcome: &Outcome) -> Event {
    let (kind, name) = split(&action.address);
    let verb = match (action.symbol.as_str(), outcome) {
        (_, Outcome::Failed(_)) => "Failed",
        (_, Outcome::Blocked { .. }) => "Blocked",
        (_, Outcome::Skipped) => "Skipped",
        ("+", Outcome::Done) => "Created",
        ("-", Outcome::Done) => "Removed",
        (">", Outcome::Done) => "Renamed",
        ("!", Outcome::Done) => CORRECTED,
        (_, Outcome::Done) => "Updated",
    };
    let mut message = action.reason.text.clone();
    match outcome {
        Outcome::Failed(failure) => message = format!("{message}: {}", failure.message),
        Outcome::Blocked { on } => message = format!("{message}: needs {on}"),
        Outcome::Done | Outcome::Skipped => {
            for field in &action.fields {
                let show = |value: &Option<String>| value.clone().unwrap_or_else(|| "(none)".into());
                message.push_str(&format!("; {} {} -> {}", field.path, show(&field.old), show(&field.new)));
            }
        }
    }
    Event { kind, name, reason: verb.to_owned(), message, cause: Some(action.cause.to_string()) }
}

fn problem_event(reason: &str, problem: &Problem) -> Event {
    let (kind, name) = split(&problem.address);
    let message = format!("{} [{}]", problem.message, problem.code);
    Event { kind, name, reason: reason.to_owned(), message, cause: problem.cause.as_ref().map(ToString::to_string) }
}

/// Ready is said only of what a read after the last write showed as wanted.
fn conditions(desired: &Desired, live: &Live, run: &Reconciled) -> Vec<Condition> {
    let open: BTreeSet<&str> = run.rest.iter().flat_map(|rest| rest.actions.iter().filter_map(owner)).collect();
    let mut failed: BTreeMap<&str, String> = BTreeMap::new();
    for action in &run.plan.actions {
        let Some(owner) = owner(action) else { continue };
        match run.report.outcomes.get(&action.address) {
            Some(Outcome::Done) | None => {}
            Some(Outcome::Failed(failure)) => drop(failed.insert(owner, failure.message.clone())),
            Some(Outcome::Blocked { on }) => drop(failed.entry(owner).or_insert_with(|| format!("needs {on}"))),
            Some(Outcome::Skipped) => drop(failed.entry(owner).or_insert_with(|| "the run stopped before it".into())),
        }
    }
    let problems = run.plan.refused.iter().chain(&run.plan.blocked).chain(&run.plan.breaches);
    let by_address: BTreeMap<&str, &Problem> = problems.map(|problem| (problem.address.as_str(), problem)).collect();
    let say = |kind: &str, name: &str| {
        let address = format!("{kind}/{name}");
        let (status, reason, message) = match (by_address.get(address.as_str()), failed.get(address.as_str())) {
            (Some(problem), _) => {
                (ConditionStatus::False, "Blocked", format!("{} [{}]", problem.message, problem.code))
            }
            (None, Some(message)) => (ConditionStatus::False, "Failed", message.clone()),
            (None, None) if open.contains(address.as_str()) => {
                (ConditionStatus::False, "NotConverged", "still differs after the run".to_owned())
            }
            (None, None) => (ConditionStatus::True, as_wanted(kind, name, desired, live), String::new()),
        };
        let (kind, name, reason) = (kind.to_owned(), name.to_owned(), reason.to_owned());
        Condition { kind, name, condition: ConditionType::Ready, status, reason, message, digest: None }
    };
    let stopped = run.plan.is_stopped() || run.verdict == Verdict::Unconfirmed;
    let tenants = desired.tenants.values().filter(|tenant| tenant.state == TenantState::Present && !tenant.paused);
    let tenants = tenants.map(|tenant| say("tenant", tenant.name.as_str()));
    let planned = run.plan.actions.iter().filter_map(|action| match &action.step {
        Step::Instance(step) => Some(step.spec.name.as_str()),
        _ => None,
    });
    let names: BTreeSet<&str> = live.instances.keys().map(|name| name.as_str()).chain(planned).collect();
    let all = tenants.chain(names.into_iter().map(|name| say("instance", name)));
    // A plan that was not carried out says nothing about readiness, and a partial one nothing of the rest.
    let told = |c: &Condition| run.plan.is_about(&format!("{}/{}", c.kind, c.name));
    all.filter(|c| told(c) && (!stopped || c.status == ConditionStatus::False)).collect()
}

/// Its change is told apart, so that a condition says since when.
fn as_wanted(kind: &str, name: &str, desired: &Desired, live: &Live) -> &'static str {
    let suspended = TenantId::parse(name).ok().and_then(|id| desired.tenants.get(&id)).is_some_and(|it| it.suspended);
    let asleep = InstanceName::parse(name).is_ok_and(|id| live.instances.get(&id) == Some(&InstanceState::Asleep));
    match kind {
        "tenant" if suspended => "Suspended",
        "instance" if asleep => ASLEEP,
        _ => "AsWanted",
    }
}

/// `tenant/acme` of `route/acme`, `tenant/acme.login`, …
fn owner(action: &Action) -> Option<&str> {
    let address = action.address.as_str();
    match &action.step {
        Step::Instance(_) => Some(address),
        Step::Tenant(_) => address.split('.').next(),
        Step::Route { .. } | Step::Server { .. } | Step::Publish { .. } | Step::Forget { .. } => None,
        Step::Rename { .. } | Step::CancelRename { .. } => None,
    }
}
