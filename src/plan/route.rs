//! A tenant's row of the routing table.

use super::action::{Action, Field, KNOWN_AFTER, Reason, ReasonCode, RouteDraft, Step, Symbol, Wave};
use super::cause::limit_cause;
use super::instances::field;
use super::live::{InstanceState, Placement};
use super::planner::Draft;
use super::rename;
use crate::manifest::Tenant;
use crate::tenancy::{InstanceName, RoleName, Route, RouteState};

pub(super) fn wanted_route(draft: &Draft<'_>, tenant: &Tenant, placement: &Placement) -> RouteDraft {
    let tier = draft.desired.tiers.get(&tenant.tier);
    RouteDraft {
        tenant: tenant.name.clone(),
        database: placement.database.clone(),
        adopted: is_adopted(draft, tenant, placement),
        instance: placement.instance.clone(),
        state: if tenant.suspended { RouteState::Suspended } else { RouteState::Active },
        tier: tenant.tier.clone(),
        generation: tenant.generation,
        roles: tenant.roles.iter().map(|role| role.name.clone()).collect(),
        limits: tenant.limits.clone(),
        over_limit: tier.map(|tier| tier.over_limit.clone()).unwrap_or_default(),
        upgrade: tier.and_then(|tier| tier.upgrade.clone()),
    }
}

/// As the role's mark says; where the server was not read, as it was.
fn is_adopted(draft: &Draft<'_>, tenant: &Tenant, placement: &Placement) -> bool {
    let former = draft.formers.get(&tenant.name).map(|former| &former.name);
    let mut names = std::iter::once(&tenant.name).chain(former);
    match draft.live.instances.get(&placement.instance) {
        Some(InstanceState::Awake(server)) => names.any(|name| {
            let mark = server.roles.get(name.as_str()).and_then(|role| role.mark.as_ref());
            mark.is_some_and(|mark| mark.adopted.is_some())
        }),
        _ => names.any(|name| draft.live.control.routes.get(name).is_some_and(|route| route.adopted)),
    }
}

pub(super) fn push_route(draft: &mut Draft<'_>, tenant: &Tenant, placement: &Placement) {
    let wanted = wanted_route(draft, tenant, placement);
    let former = draft.formers.get(&tenant.name).map(|former| former.name.clone());
    let have = draft.live.control.routes.get(former.as_ref().unwrap_or(&tenant.name));
    let endpoint = endpoint_of(draft, &placement.instance);
    let same_place = have.is_some_and(|route| endpoint.is_some_and(|endpoint| route.endpoint == *endpoint));
    if former.is_none() && same_place && have.map(RouteDraft::of).as_ref() == Some(&wanted) {
        return;
    }
    let fields = route_fields(have, &wanted, same_place);
    let (symbol, code, text) = match have {
        _ if former.is_some() => {
            let (symbol, reason) = rename::reason(former.as_ref().unwrap_or(&tenant.name));
            (symbol, reason.code, reason.text)
        }
        None => (Symbol::Create, ReasonCode::NotFound, format!("new route to {}", placement.instance)),
        Some(route) if route.tier != wanted.tier => {
            (Symbol::Update, ReasonCode::SpecChanged, format!("tier {} -> {}", route.tier, wanted.tier))
        }
        Some(_) => (Symbol::Update, ReasonCode::SpecChanged, "the route changed".to_owned()),
    };
    let cause = match have {
        _ if former.is_some() => tenant.origins.at("metadata.renamedFrom"),
        None => tenant.origins.object.clone(),
        Some(route) if route.tier != wanted.tier => tenant.origins.at("spec.tier"),
        Some(_) => limit_cause(draft.desired, tenant, &fields),
    };
    let (address, reason) = (format!("route/{}", tenant.name), Reason { code, text });
    let route = Box::new(wanted);
    let step = match former {
        Some(former) => Step::Rename { former, route },
        None => Step::Route { route },
    };
    draft.act(Action { address, symbol, wave: Wave::Routes, reason, cause, fields, step });
}

/// Where the instance is; `None` while it has no address, which is also so for one that this plan makes anew.
pub(super) fn endpoint_of<'a>(draft: &Draft<'a>, instance: &InstanceName) -> Option<&'a crate::tenancy::Endpoint> {
    if draft.remade.contains(instance) {
        return None;
    }
    draft.live.control.instances.get(instance.as_str())?.endpoint.as_ref()
}

/// Only what differs; a new route shows where it leads.
fn route_fields(have: Option<&Route>, wanted: &RouteDraft, same_place: bool) -> Vec<Field> {
    let Some(have) = have else {
        let place = format!("{}/{}", wanted.instance, wanted.database);
        return vec![field("to", None, Some(&place)), field("tier", None, Some(wanted.tier.as_str()))];
    };
    let pair = |path: &str, old: Option<String>, new: Option<String>| {
        (old != new).then_some(Field { path: path.to_owned(), old, new })
    };
    let (a, b) = (&have.limits, &wanted.limits);
    let text = |value: &dyn ToString| Some(value.to_string());
    let place = |instance: &InstanceName, database: &str| Some(format!("{instance}/{database}"));
    let (a_up, b_up) = (have.upgrade.as_ref(), wanted.upgrade.as_ref());
    let mut fields: Vec<Field> = [
        pair("to", place(&have.instance, &have.database), place(&wanted.instance, &wanted.database)),
        pair("adopted", text(&have.adopted), text(&wanted.adopted)),
        pair("state", text(&have.state.as_str()), text(&wanted.state.as_str())),
        pair("tier", text(&have.tier), text(&wanted.tier)),
        pair("generation", text(&have.generation), text(&wanted.generation)),
        pair("roles", text(&join_roles(&have.roles)), text(&join_roles(&wanted.roles))),
        pair("limits.connections", text(&a.connections), text(&b.connections)),
        pair("limits.serverConnections", text(&a.server_connections), text(&b.server_connections)),
        pair(
            "limits.queriesPerMinute",
            a.queries_per_minute.map(|n| n.to_string()),
            b.queries_per_minute.map(|n| n.to_string()),
        ),
        pair(
            "limits.requestsPerMinute",
            a.requests_per_minute.map(|n| n.to_string()),
            b.requests_per_minute.map(|n| n.to_string()),
        ),
        pair("limits.storage", a.storage.map(|n| n.to_string()), b.storage.map(|n| n.to_string())),
        pair(
            "limits.egressPerMonth",
            a.egress_per_month.map(|n| n.to_string()),
            b.egress_per_month.map(|n| n.to_string()),
        ),
        pair(
            "limits.statementTimeout",
            a.statement_timeout.map(|n| n.to_string()),
            b.statement_timeout.map(|n| n.to_string()),
        ),
        pair("upgrade.to", a_up.map(|up| up.to.clone()), b_up.map(|up| up.to.clone())),
        pair("upgrade.message", a_up.and_then(|up| up.message.clone()), b_up.and_then(|up| up.message.clone())),
        pair("upgrade.url", a_up.and_then(|up| up.url.clone()), b_up.and_then(|up| up.url.clone())),
    ]
    .into_iter()
    .flatten()
    .collect();
    let (a, b) = (&have.over_limit, &wanted.over_limit);
    let reactions = [
        pair("overLimit.connections", text(&a.connections), text(&b.connections)),
        pair("overLimit.queriesPerMinute", text(&a.queries_per_minute), text(&b.queries_per_minute)),
        pair("overLimit.egressPerMonth", text(&a.egress_per_month), text(&b.egress_per_month)),
        pair("overLimit.storage", text(&a.storage), text(&b.storage)),
    ];
    fields.extend(reactions.into_iter().flatten());
    if !same_place {
        fields.push(field("address", Some(&have.endpoint.public.to_string()), Some(KNOWN_AFTER)));
    }
    fields
}

fn join_roles(roles: &[RoleName]) -> String {
    roles.iter().map(RoleName::as_str).collect::<Vec<_>>().join(", ")
}
