//! The plan as programs read it: what `--format json` prints and `--out` saves. Stable: a minor version adds fields, a
//! major one breaks. The steps themselves are not in it; a saved plan is carried out by planning again and comparing.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::action::{
    Action, Field, GuardTrip, Plan, PriceChange, Problem, ReasonCode, Step, Summary, Symbol, Warning, Wave,
};
use super::held::{Held, HeldBy};
use super::needs::needs;
use super::target::Target;
use crate::manifest::Origin;
use crate::tenancy::{Digest, EnvironmentId, FleetUid, ProjectId};

pub const PLAN_FORMAT: &str = "1.0";

/// Instances brought up together: Railway carries out the parts of one request one after the other, within 90 s.
pub const INSTANCES_AT_ONCE: usize = 10;

/// What the manifests were, as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inputs {
    /// Of all paths and texts, in the order of their paths.
    pub digest: Digest,
    pub files: usize,
}

/// What making the plan cost, and how many requests Railway still allows, where it said so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reads {
    pub requests: u64,
    pub budget: Option<u64>,
}

#[derive(Debug, Serialize)]
pub struct PlanDocument<'a> {
    format_version: &'static str,
    o7s_version: &'static str,
    fleet: FleetHead<'a>,
    project_id: &'a ProjectId,
    project: &'a str,
    environment_id: &'a EnvironmentId,
    environment: &'a str,
    snapshot: Snapshot<'a>,
    inputs: &'a Inputs,
    partial: bool,
    targets: &'a [Target],
    changes: Vec<Change<'a>>,
    refused: &'a [Problem],
    blocked: &'a [Problem],
    breaches: &'a [Problem],
    unknown: &'a [String],
    retained: &'a [String],
    held: Vec<HeldDocument<'a>>,
    warnings: &'a [Warning],
    guard: Guard,
    requests: Requests,
    price: PriceChange,
    summary: Summary,
    plan_digest: Digest,
}

/// What a plan says of one object.
#[derive(Debug, Serialize)]
pub struct PlanPart<'a> {
    /// The whole run is refused, and so nothing of it would be done.
    stopped: bool,
    changes: Vec<Change<'a>>,
    refused: &'a [Problem],
    blocked: &'a [Problem],
    breaches: &'a [Problem],
    retained: &'a [String],
    held: Vec<HeldDocument<'a>>,
    warnings: &'a [Warning],
}

#[derive(Debug, Serialize)]
struct FleetHead<'a> {
    name: &'a str,
    uid: &'a FleetUid,
}

#[derive(Debug, Serialize)]
struct Snapshot<'a> {
    etag: &'a str,
    read_at: chrono::DateTime<chrono::Utc>,
    requests: u64,
    /// Whether every server answered; what sleeps is not asked.
    complete: bool,
}

#[derive(Debug, Serialize)]
struct Guard {
    deletes: u32,
    live: u32,
    percent: u32,
    limit: u32,
    tripped: bool,
}

#[derive(Debug, Serialize)]
struct Requests {
    reads: u64,
    /// Mutations of Railway that carrying it out needs, if nothing has to be sent twice.
    writes: usize,
    budget: Option<u64>,
}

/// What nothing is done to, and what waits.
#[derive(Debug, Serialize)]
struct HeldDocument<'a> {
    address: &'a str,
    why: HeldBy,
    source: &'a Origin,
    pending: Vec<Change<'a>>,
    problems: &'a [Problem],
}

/// One action, without what only carrying it out needs.
#[derive(Debug, Serialize)]
pub struct Change<'a> {
    pub address: &'a str,
    pub kind: &'a str,
    pub name: &'a str,
    pub action: Symbol,
    pub reason: ChangeReason<'a>,
    pub phase: Wave,
    pub depends_on: Vec<&'a str>,
    /// By the path of the field; only what changes.
    pub before: BTreeMap<&'a str, Value>,
    pub after: BTreeMap<&'a str, Value>,
    /// JSON pointers into `after`: known once it is carried out.
    pub after_unknown: Vec<String>,
    /// JSON pointers into `before` and `after`.
    pub sensitive: Vec<String>,
    pub source: &'a Origin,
    /// Railway's id of the service that is changed.
    pub provider_id: Option<&'a str>,
    /// Of everything that would be done.
    pub digest: Digest,
}

#[derive(Debug, Serialize)]
pub struct ChangeReason<'a> {
    pub code: ReasonCode,
    pub text: &'a str,
    pub fields: Vec<&'a str>,
}

impl Plan {
    pub fn document<'a>(&'a self, inputs: &'a Inputs, reads: Reads) -> PlanDocument<'a> {
        let GuardTrip { removals, live, allowed } = self.removals;
        PlanDocument {
            format_version: PLAN_FORMAT,
            o7s_version: env!("CARGO_PKG_VERSION"),
            fleet: FleetHead { name: &self.fleet, uid: &self.fleet_uid },
            project_id: &self.project_id,
            project: &self.project,
            environment_id: &self.environment_id,
            environment: &self.environment,
            snapshot: Snapshot {
                etag: &self.snapshot.etag,
                read_at: self.snapshot.read_at,
                requests: reads.requests,
                complete: self.snapshot.complete,
            },
            inputs,
            partial: !self.targets.is_empty(),
            targets: &self.targets,
            changes: self.changes().collect(),
            refused: &self.refused,
            blocked: &self.blocked,
            breaches: &self.breaches,
            unknown: &self.unknown,
            retained: &self.retained,
            held: self.held.iter().map(held_document).collect(),
            warnings: &self.warnings,
            guard: Guard {
                deletes: removals,
                live,
                percent: (removals * 100).checked_div(live).unwrap_or(0),
                limit: allowed,
                tripped: self.guard.is_some(),
            },
            requests: Requests { reads: reads.requests, writes: self.writes(), budget: reads.budget },
            price: self.price,
            summary: self.summary(),
            plan_digest: self.digest(),
        }
    }

    /// One a changed object, in the order they are carried out.
    pub fn changes(&self) -> impl Iterator<Item = Change<'_>> {
        changes(&self.actions)
    }

    /// Of a plan that is about one object; see [`Plan::about`].
    pub fn part(&self) -> PlanPart<'_> {
        PlanPart {
            stopped: self.is_stopped(),
            changes: self.changes().collect(),
            refused: &self.refused,
            blocked: &self.blocked,
            breaches: &self.breaches,
            retained: &self.retained,
            held: self.held.iter().map(held_document).collect(),
            warnings: &self.warnings,
        }
    }

    /// Of everything but times and what belongs to nobody's plan (the snapshot, warnings, unknown objects): equal for
    /// the same manifests and the same world.
    pub fn digest(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).expect("a plan has only string keys"))
    }

    /// Mutations of Railway, if nothing has to be sent twice.
    pub fn writes(&self) -> usize {
        let instances: Vec<_> = self
            .actions
            .iter()
            .filter_map(|action| match &action.step {
                Step::Instance(step) => Some(step),
                _ => None,
            })
            .collect();
        let batches = instances.chunks(INSTANCES_AT_ONCE).map(|batch| {
            let any = |is: bool| usize::from(is);
            let patched = |step: &super::action::InstanceStep| !step.patch.is_empty() || step.attach;
            any(batch.iter().any(|step| step.service.is_none()))
                + any(batch.iter().any(|step| step.volume.is_none()))
                + any(batch.iter().any(|step| patched(step)))
                + batch.iter().filter(|step| step.redeploy).count()
        });
        let published = self.actions.iter().any(|action| matches!(action.step, Step::Publish { .. }));
        batches.sum::<usize>() + usize::from(published)
    }
}

impl Action {
    /// Of what would be done, wherever it was written and why.
    pub fn digest(&self) -> Digest {
        let done = (&self.address, self.symbol, self.wave, &self.fields, &self.step);
        Digest::of(&serde_json::to_vec(&done).expect("a step has only string keys"))
    }
}

fn held_document(held: &Held) -> HeldDocument<'_> {
    let Held { address, why, cause, pending, problems } = held;
    HeldDocument { address, why: *why, source: cause, pending: changes(pending).collect(), problems }
}

fn changes(actions: &[Action]) -> impl Iterator<Item = Change<'_>> {
    actions.iter().zip(needs(actions)).map(|(action, needed)| change(actions, action, &needed))
}

fn change<'a>(actions: &'a [Action], action: &'a Action, needed: &[usize]) -> Change<'a> {
    let (kind, name) = action.address.split_once('/').unwrap_or(("fleet", &action.address));
    let pointers = |wanted: fn(&Field) -> bool| {
        action.fields.iter().filter(|field| wanted(field)).map(|field| pointer(&field.path)).collect()
    };
    let side = |of: fn(&Field) -> Option<&String>| {
        let shown = |field: &'a Field| Some((field.path.as_str(), shown(field, of(field)?)));
        action.fields.iter().filter_map(shown).collect()
    };
    let fields = action.fields.iter().map(|field| field.path.as_str()).collect();
    Change {
        address: &action.address,
        kind,
        name,
        action: action.symbol,
        reason: ChangeReason { code: action.reason.code, text: &action.reason.text, fields },
        phase: action.wave,
        depends_on: needed.iter().map(|&place| actions[place].address.as_str()).collect(),
        before: side(|field| field.old.as_ref()),
        after: side(|field| field.new.as_ref()),
        after_unknown: pointers(Field::is_unknown),
        sensitive: pointers(Field::is_sensitive),
        source: &action.cause,
        provider_id: provider_id(&action.step),
        digest: action.digest(),
    }
}

fn shown(field: &Field, text: &str) -> Value {
    match field {
        field if field.is_sensitive() => json!({ "secret": true }),
        field if field.is_unknown() && field.new.as_deref() == Some(text) => Value::Null,
        _ => Value::from(text),
    }
}

/// RFC 6901.
fn pointer(path: &str) -> String {
    format!("/{}", path.replace('~', "~0").replace('/', "~1"))
}

fn provider_id(step: &Step) -> Option<&str> {
    match step {
        Step::Instance(step) => step.service.as_ref().map(|id| id.as_str()),
        Step::Publish { service, .. } => Some(service.as_str()),
        Step::Server { .. } | Step::Tenant(_) | Step::Route { .. } | Step::Forget { .. } => None,
        Step::Rename { .. } | Step::CancelRename { .. } => None,
    }
}
