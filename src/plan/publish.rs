//! Connection URLs in the variables of app services: one named variable of a service, and nothing else of it.

use std::collections::BTreeMap;

use super::action::{Action, Reason, ReasonCode, Step, Symbol, Warning, Wave};
use super::change::VariableValue;
use super::code::Code;
use super::instances::{field, may_be_ours};
use super::live::{Ownership, Placement};
use super::place::Place;
use super::planner::{Draft, problem};
use super::route::endpoint_of;
use super::tenants::role_name;
use crate::manifest::{Publish, Tenant};
use crate::tenancy::{Credential, TenantId};

pub(super) fn plan(draft: &mut Draft<'_>, places: &BTreeMap<&TenantId, Place>) {
    for tenant in draft.desired.tenants.values() {
        if draft.is_held(tenant) {
            continue;
        }
        let Some(Place::Remembered(place) | Place::Chosen(place)) = places.get(&tenant.name) else { continue };
        if is_held_back(draft, &tenant.name) {
            continue;
        }
        for publish in &tenant.publish {
            plan_one(draft, tenant, place, publish);
        }
    }
}

/// A tenant that is refused or blocked keeps its variables as they are.
fn is_held_back(draft: &Draft<'_>, tenant: &TenantId) -> bool {
    let address = format!("tenant/{tenant}");
    draft.plan.refused.iter().chain(&draft.plan.blocked).any(|problem| problem.address == address)
}

fn plan_one(draft: &mut Draft<'_>, tenant: &Tenant, place: &Placement, publish: &Publish) {
    let Publish { service: name, variable, role } = publish;
    let address = format!("publish/{name}.{variable}");
    let cause = tenant.origins.at("spec.publish");
    let railway = &draft.live.railway;
    let service = railway.service(name).filter(|service| service.owner != Ownership::Newer);
    let own = service.is_some_and(|service| {
        service.owner != Ownership::Foreign && may_be_ours(service) && is_database(draft, name)
    });
    let Some(service) = service.filter(|_| !own) else {
        let message = match own {
            true => format!("`{name}` is a database of ours; publish to an app service"),
            false => format!("no service `{name}` in {}/{}", railway.project_name, railway.environment_name),
        };
        let help = "create the service on Railway first, or correct `spec.publish`";
        return draft.refuse(problem(Code::PublishService, address, message, help, Some(cause)));
    };
    let credential =
        Credential::Tenant { tenant: tenant.name.clone(), role: role.clone(), generation: tenant.generation };
    let value = VariableValue::Url {
        user: role_name(&tenant.name, role.as_ref()),
        credential,
        instance: place.instance.clone(),
        database: place.database.clone(),
    };
    let have = service.config.as_ref().and_then(|config| config.variables.get(variable));
    let host = |instance: &_| endpoint_of(draft, instance).map(|endpoint| &endpoint.private);
    if have.is_some_and(|have| have.is(&value, host)) {
        return;
    }
    let (symbol, code, text) = match have {
        None => (Symbol::Create, ReasonCode::NotFound, format!("{name} learns where {} is", tenant.name)),
        Some(_) => (Symbol::Update, ReasonCode::SpecChanged, format!("{name} has another value")),
    };
    let fields = vec![field(variable, have.map(|_| "(secret)"), Some("(secret, changed)"))];
    let step =
        Step::Publish { service: service.id.clone(), service_name: name.clone(), variable: variable.clone(), value };
    let reason = Reason { code, text };
    let text = format!("service {name} is redeployed by Railway to see its new {variable}");
    draft.plan.warnings.push(Warning::at(cause.clone(), text));
    draft.act(Action { address, symbol, wave: Wave::Variables, reason, cause, fields, step });
}

fn is_database(draft: &Draft<'_>, service: &str) -> bool {
    service == crate::tenancy::CONTROL_SERVICE
        || crate::tenancy::InstanceName::parse(service)
            .is_ok_and(|name| draft.desired.pools.contains_key(&name.pool()))
}
