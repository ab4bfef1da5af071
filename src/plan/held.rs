//! Objects that nothing is done to: paused ones, and what waits of suspended ones. They are planned as if they were not,
//! and what that comes to is shown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::action::{Action, Field, Plan, Problem, Step};
use super::cause::limit_cause;
use super::change::VariableValue;
use crate::manifest::{Desired, Origin, Tenant, TenantState};
use crate::tenancy::{Credential, InstanceName, PoolName, TenantId};

/// One object of the manifests that is left alone, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// `fleet/shop`, `pool/shared`, `tenant/acme`, `router/edge`.
    pub address: String,
    pub why: HeldBy,
    pub cause: Origin,
    /// What would be done to it.
    pub pending: Vec<Action>,
    /// What would be in its way.
    pub problems: Vec<Problem>,
}

impl Held {
    /// Nothing would happen if it were not held.
    pub fn is_quiet(&self) -> bool {
        self.pending.is_empty() && self.problems.is_empty()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HeldBy {
    Paused,
    /// Of a suspended tenant only the suspension is carried out.
    Suspended,
}

impl HeldBy {
    pub fn as_str(self) -> &'static str {
        match self {
            HeldBy::Paused => "paused",
            HeldBy::Suspended => "suspended",
        }
    }
}

/// Whether there is anything to show at all: planning twice is not free.
pub(super) fn any(desired: &Desired) -> bool {
    desired.fleet.paused
        || desired.pools.values().any(|pool| pool.paused)
        || desired.routers.values().any(|router| router.paused)
        || desired.tenants.values().any(|tenant| tenant.paused || is_suspended(tenant))
}

pub(super) fn is_suspended(tenant: &Tenant) -> bool {
    tenant.suspended && tenant.state == TenantState::Present
}

/// `whole` is the plan of the same world with nothing held.
pub(super) fn show(plan: &mut Plan, desired: &Desired, whole: &Plan) {
    let problems: Vec<&Problem> = whole.refused.iter().chain(&whole.blocked).chain(&whole.breaches).collect();
    if desired.fleet.paused {
        plan.held.push(Held {
            address: format!("fleet/{}", desired.fleet.name),
            why: HeldBy::Paused,
            cause: desired.fleet.origins.at("spec.paused"),
            pending: whole.actions.clone(),
            problems: problems.into_iter().cloned().collect(),
        });
        return;
    }
    let mut held = Vec::new();
    let mut add = |address: String, why, cause| {
        held.push(Held { address, why, cause, pending: Vec::new(), problems: Vec::new() });
    };
    for (name, pool) in desired.pools.iter().filter(|(_, pool)| pool.paused) {
        add(format!("pool/{name}"), HeldBy::Paused, pool.origins.at("spec.paused"));
    }
    for (name, router) in desired.routers.iter().filter(|(_, router)| router.paused) {
        add(format!("router/{name}"), HeldBy::Paused, router.origins.at("spec.paused"));
    }
    for (name, tenant) in &desired.tenants {
        if tenant.paused {
            add(format!("tenant/{name}"), HeldBy::Paused, tenant.origins.at("spec.paused"));
        } else if is_suspended(tenant) {
            add(format!("tenant/{name}"), HeldBy::Suspended, tenant.origins.at("spec.suspended"));
        }
    }
    held.sort_by(|a, b| a.address.cmp(&b.address));
    let find = |held: &mut Vec<Held>, address: Option<String>| {
        let address = address?;
        held.binary_search_by(|one| one.address.cmp(&address)).ok()
    };
    let done: BTreeMap<&str, &Action> = plan.actions.iter().map(|action| (action.address.as_str(), action)).collect();
    for action in whole.actions.iter().filter_map(|action| rest(action, done.get(action.address.as_str()).copied())) {
        if let Some(at) = find(&mut held, owner(&action.step)) {
            let whose = done.get(action.address.as_str()).and(held[at].address.strip_prefix("tenant/"));
            let tenant = whose.and_then(|name| desired.tenants.get(&TenantId::parse(name).ok()?));
            // What is left of it may have been asked for elsewhere than the part that is done.
            let cause = tenant.map(|tenant| limit_cause(desired, tenant, &action.fields));
            let action = Action { cause: cause.unwrap_or_else(|| action.cause.clone()), ..action };
            held[at].pending.push(action);
        }
    }
    for problem in problems.into_iter().filter(|problem| !plan.has(problem)) {
        if let Some(at) = find(&mut held, owner_of(problem)) {
            held[at].problems.push(problem.clone());
        }
    }
    held.retain(|one| one.why == HeldBy::Paused || !one.is_quiet());
    plan.held = held;
}

/// What of an action waits where a part of it is done: a suspended tenant's route changes its state and nothing else.
fn rest(action: &Action, done: Option<&Action>) -> Option<Action> {
    let Some(done) = done else { return Some(action.clone()) };
    let fields: Vec<Field> = action.fields.iter().filter(|field| !done.fields.contains(field)).cloned().collect();
    (!fields.is_empty()).then(|| Action { fields, ..action.clone() })
}

/// The object of the manifests that a step changes.
pub(super) fn owner(step: &Step) -> Option<String> {
    match step {
        Step::Instance(step) => InstanceName::parse(&step.spec.name).ok().map(|name| pool(&name.pool())),
        Step::Server { instance, .. } => Some(pool(&instance.pool())),
        Step::Tenant(step) => Some(tenant(&step.tenant)),
        Step::Route { route } | Step::Rename { route, .. } => Some(tenant(&route.tenant)),
        Step::Publish { value, .. } => match value {
            VariableValue::Url { credential: Credential::Tenant { tenant: name, .. }, .. } => Some(tenant(name)),
            _ => None,
        },
        Step::Forget { tenant: name, .. } | Step::CancelRename { former: name } => Some(tenant(name)),
    }
}

fn owner_of(problem: &Problem) -> Option<String> {
    let (kind, name) = problem.address.split_once('/')?;
    match kind {
        "instance" => InstanceName::parse(name).ok().map(|name| pool(&name.pool())),
        _ => Some(problem.address.clone()),
    }
}

fn pool(name: &PoolName) -> String {
    format!("pool/{name}")
}

fn tenant(name: &TenantId) -> String {
    format!("tenant/{name}")
}

impl Plan {
    fn has(&self, problem: &Problem) -> bool {
        self.refused.iter().chain(&self.blocked).chain(&self.breaches).any(|have| have == problem)
    }
}
