//! A suspended tenant: its route says so, then its roles may not log in and its connections end. Nothing else of it is
//! changed until it is suspended no more, and its data and passwords stay.

use super::action::{Action, Field, Reason, ReasonCode, RouteDraft, Step, Symbol, TenantStep, Wave};
use super::change::DatabaseChange as Change;
use super::instances::{Status, field};
use super::live::Placement;
use super::planner::{Draft, problem};
use super::route::wanted_route;
use super::tenants::role_name;
use crate::manifest::Tenant;
use crate::tenancy::{RoleName, RouteState};

pub(super) fn plan(draft: &mut Draft<'_>, tenant: &Tenant, place: &Placement) {
    let before = draft.plan.actions.len();
    route(draft, tenant, place);
    let changes = lock_out(draft, tenant, place);
    let cause = tenant.origins.at("spec.suspended");
    if !changes.is_empty() {
        draft.act(Action {
            address: format!("tenant/{}.login", tenant.name),
            symbol: Symbol::Update,
            wave: Wave::Removals,
            reason: Reason { code: ReasonCode::SpecChanged, text: "suspended".into() },
            cause: cause.clone(),
            fields: login_fields(tenant, &changes),
            step: Step::Tenant(Box::new(TenantStep {
                tenant: tenant.name.clone(),
                placement: place.clone(),
                changes,
                deletion: None,
                former: None,
            })),
        });
    }
    let routed = draft.live.control.routes.get(&tenant.name);
    let begun = routed.is_none_or(|route| route.state != RouteState::Suspended);
    match draft.instances.get(&place.instance).cloned() {
        Some(Status::Down { code, why }) if begun => {
            let help = "its route is suspended at once; run again when the instance answers";
            let address = format!("tenant/{}", tenant.name);
            draft.plan.blocked.push(problem(code, address, why, help, Some(cause)));
        }
        _ if draft.plan.actions.len() == before => draft.plan.unchanged.tenants += 1,
        _ => {}
    }
}

/// Only the state changes; a route that is missing is made as the manifest wants it.
fn route(draft: &mut Draft<'_>, tenant: &Tenant, place: &Placement) {
    let have = draft.live.control.routes.get(&tenant.name);
    if have.is_some_and(|route| route.state == RouteState::Suspended) {
        return;
    }
    let (old, mut wanted) = match have {
        Some(route) => (Some(route.state.as_str()), RouteDraft::of(route)),
        None => (None, wanted_route(draft, tenant, place)),
    };
    wanted.state = RouteState::Suspended;
    draft.act(Action {
        address: format!("route/{}", tenant.name),
        symbol: if old.is_some() { Symbol::Update } else { Symbol::Create },
        wave: Wave::Routes,
        reason: Reason { code: ReasonCode::SpecChanged, text: "suspended".into() },
        cause: tenant.origins.at("spec.suspended"),
        fields: vec![field("state", old, Some("suspended"))],
        step: Step::Route { route: Box::new(wanted) },
    });
}

/// Changes that lock the tenant's roles out of a database that stays. A server that was not read is visited only while
/// the route still leads to it.
pub(super) fn lock_out(draft: &Draft<'_>, tenant: &Tenant, place: &Placement) -> Vec<Change> {
    let close = |role: Option<RoleName>| Change::SetLogin { tenant: tenant.name.clone(), role, login: false };
    let mut changes: Vec<Change> = match draft.instances.get(&place.instance) {
        Some(Status::Awake(server)) => {
            let open = server.roles.values().filter(|role| role.can_login);
            let marks = open.filter_map(|role| role.mark.as_ref()).filter(|mark| mark.tenant == tenant.name);
            marks.map(|mark| close(mark.role.clone())).collect()
        }
        Some(Status::Unread) => {
            let route = draft.live.control.routes.get(&tenant.name);
            let route = route.filter(|route| route.state == RouteState::Active);
            let roles = |route: &crate::tenancy::Route| route.roles.iter().cloned().map(Some).collect::<Vec<_>>();
            let roles = route.map(|route| [vec![None], roles(route)].concat()).unwrap_or_default();
            roles.into_iter().map(close).collect()
        }
        _ => Vec::new(),
    };
    if !changes.is_empty() {
        changes.push(Change::EndConnections { database: place.database.clone() });
    }
    changes
}

fn login_fields(tenant: &Tenant, changes: &[Change]) -> Vec<Field> {
    let locked = changes.iter().filter_map(|change| match change {
        Change::SetLogin { role, .. } => Some(format!("{}.login", role_name(&tenant.name, role.as_ref()))),
        _ => None,
    });
    locked.map(|path| field(&path, Some("yes"), Some("no"))).collect()
}
