//! A tenant's database, roles and route.

use super::action::{
    Action, Forgotten, Problem, Reason, ReasonCode, RouteDraft, Step, Symbol, TenantStep, Warning, Wave,
};
use super::adopted;
use super::cause::cause;
use super::change::DatabaseChange as Change;
use super::code::Code;
use super::compare::{TIER, Work, compare, from_nothing};
use super::instances::Status;
use super::live::{Placement, RoleLive, ServerLive};
use super::planner::{Draft, problem};
use super::rename;
use super::renamed::{self, StrangeRoles};
use super::route::{push_route, wanted_route};
use crate::manifest::{Origin, Tenant};
use crate::tenancy::TenantId;
pub use crate::tenancy::role_name;

pub(super) fn plan(draft: &mut Draft<'_>, tenant: &Tenant, placement: &Placement, remembered: bool) {
    let address = format!("tenant/{}", tenant.name);
    let status = draft.instances.get(&placement.instance).cloned();
    let unread = matches!(status, Some(Status::Unread));
    let former = draft.formers.get(&tenant.name).cloned();
    let server = match status {
        Some(Status::Awake(server)) => Some(server),
        Some(Status::Fresh) => None,
        Some(Status::Unread) if former.is_none() && !needs_server(draft, tenant, placement) => {
            let before = draft.plan.actions.len();
            push_route(draft, tenant, placement);
            draft.plan.unchanged.tenants += u32::from(draft.plan.actions.len() == before);
            return;
        }
        // What is there may be an adopted database, which is changed only after a look.
        Some(Status::Unread) if remembered && draft.live.railway.is_adopted(placement.instance.as_str()) => {
            return draft.plan.blocked.push(adopted::unread(tenant, placement));
        }
        Some(Status::Unread) => None,
        Some(Status::Down { code, why }) => {
            let help = "the rest goes on; see the instance's own line, then run again";
            let problem = problem(code, address, why, help, Some(tenant.origins.object.clone()));
            draft.plan.blocked.push(problem);
            return;
        }
        None => return,
    };
    let route = draft.live.control.routes.get(&tenant.name);
    let from = former.as_ref().and_then(|former| Some((&former.name, former.at.as_ref()?)));
    let in_the_way = from.zip(server).and_then(|((name, at), server)| rename::in_the_way(server, tenant, at, name));
    if let Some(message) = in_the_way {
        let message = format!("cannot be renamed: {message}");
        let help = "drop or rename it by hand, or choose another name; nothing is renamed onto something else";
        let cause = tenant.origins.at("metadata.renamedFrom");
        return draft.refuse(problem(Code::Rename, address, message, help, Some(cause)));
    }
    let projected = from.zip(server).map(|((name, at), server)| rename::after(server, tenant, at, name));
    let server = projected.as_ref().or(server);
    let of_projected = projected.as_ref().map(renamed::strange_roles);
    let strange = of_projected.as_ref().or_else(|| draft.strange_roles.get(&placement.instance));
    if let Some(problem) = server.and_then(|server| refusal(server, strange, tenant, placement)) {
        return draft.refuse(problem);
    }
    let mut work = match server {
        Some(server) => compare(draft, tenant, placement, server, route),
        None => from_nothing(tenant, placement),
    };
    if let Some((name, at)) = from {
        rename::prepend(&mut work, tenant, at, name, server.is_some());
    } else if let Some(pending) = draft.deletions.get(&tenant.name).filter(|_| unread) {
        // Before a database could be made in its place.
        let (database, to) = (pending.renamed_to.clone(), placement.database.clone());
        work.changes.insert(0, Change::RenameDatabase { database, to });
    }
    if remembered && work.created && route.is_some() && server.is_some() {
        work.drifted = true;
        let text = format!("tenant/{}: its database was dropped outside o7s and is made again, empty", tenant.name);
        draft.plan.warnings.push(Warning::at(tenant.origins.object.clone(), text));
    }
    warn_of_old_password(draft, tenant, route.map_or(0, |route| route.generation));
    let before = draft.plan.actions.len();
    push_actions(draft, tenant, placement, work);
    push_route(draft, tenant, placement);
    if draft.plan.actions.len() == before {
        draft.plan.unchanged.tenants += 1;
    }
}

fn warn_of_old_password(draft: &mut Draft<'_>, tenant: &Tenant, newest: u32) {
    if newest > tenant.generation {
        let (at, now) = (tenant.origins.at("spec.credentials.generation"), tenant.generation);
        let text = format!("credentials.generation goes back from {newest} to {now}: an old password is valid again");
        draft.plan.warnings.push(Warning::at(at, text));
    }
}

/// What is on the server and may not be changed.
fn refusal(
    server: &ServerLive,
    strange: Option<&StrangeRoles>,
    tenant: &Tenant,
    placement: &Placement,
) -> Option<Problem> {
    if let Some((code, message)) = foreign(server, tenant, placement) {
        let help = "drop or rename it by hand, or name the tenant otherwise; o7s never changes what it did not make";
        let address = format!("tenant/{}", tenant.name);
        return Some(problem(code, address, message, help, Some(tenant.origins.object.clone())));
    }
    strange
        .and_then(|strange| renamed::role_problem(strange, tenant, placement))
        .or_else(|| adopted::gone(server, tenant, placement))
}

/// A server that was not read needs a visit only for what the routing table shows as not yet applied.
fn needs_server(draft: &Draft<'_>, tenant: &Tenant, placement: &Placement) -> bool {
    let route = draft.live.control.routes.get(&tenant.name);
    route.is_none_or(|route| RouteDraft::of(route) != wanted_route(draft, tenant, placement))
}

fn foreign(server: &ServerLive, tenant: &Tenant, placement: &Placement) -> Option<(Code, String)> {
    let owner = tenant.name.as_str();
    let ours = |name: &str| server.roles.get(name).is_none_or(|role| marked_for(role, &tenant.name));
    let on = &placement.instance;
    if !ours(owner) {
        return Some((Code::ForeignRole, format!("a role `{owner}` exists on {on} and is not ours")));
    }
    let declared = tenant.roles.iter().map(|role| role_name(&tenant.name, Some(&role.name)));
    if let Some(name) = declared.into_iter().find(|name| !ours(name)) {
        return Some((Code::ForeignRole, format!("a role `{name}` exists on {on} and is not ours")));
    }
    let database = server.databases.get(&placement.database)?;
    let half_made = database.tenant.is_none() && database.owner == owner && server.roles.contains_key(owner);
    let ours = database.tenant.as_ref() == Some(&tenant.name) || half_made;
    (!ours).then(|| {
        (Code::ForeignDatabase, format!("a database `{}` exists on {on} and is not ours", placement.database))
    })
}

fn marked_for(role: &RoleLive, tenant: &TenantId) -> bool {
    role.mark.as_ref().is_some_and(|mark| mark.tenant == *tenant)
}

fn push_actions(draft: &mut Draft<'_>, tenant: &Tenant, placement: &Placement, work: Work) {
    let undone = draft.deletions.contains_key(&tenant.name);
    if undone {
        let reason = Reason { code: ReasonCode::SpecChanged, text: "its deletion is undone".into() };
        let step = Step::Forget { tenant: tenant.name.clone(), why: Forgotten::Undone };
        draft.act(action(
            tenant,
            "deletion",
            Symbol::Update,
            Wave::Routes,
            reason,
            tenant.origins.at("spec.state"),
            step,
        ));
    }
    if !work.after.is_empty() {
        let reason = Reason { code: ReasonCode::SpecChanged, text: "suspended".into() };
        let mut changes = work.after.clone();
        changes.push(Change::EndConnections { database: placement.database.clone() });
        let step = tenant_step(tenant, placement, changes);
        let mut action = action(
            tenant,
            "login",
            Symbol::Update,
            Wave::Removals,
            reason,
            tenant.origins.at("spec.suspended"),
            step,
        );
        action.fields = work.fields.iter().filter(|field| field.path.ends_with(".login")).cloned().collect();
        draft.act(action);
    }
    if work.changes.is_empty() {
        return;
    }
    let former =
        draft.formers.get(&tenant.name).filter(|former| former.at.is_some()).map(|former| former.name.clone());
    let (symbol, reason) = match &former {
        Some(former) => rename::reason(former),
        None => reason(&work, placement, undone),
    };
    let cause = match undone {
        true => tenant.origins.at("spec.state"),
        false => cause(draft.desired, tenant, &reason, &work.fields),
    };
    let (name, placement) = (tenant.name.clone(), placement.clone());
    let step = TenantStep { tenant: name, placement, changes: work.changes, deletion: None, former };
    let step = Step::Tenant(Box::new(step));
    let fields =
        work.fields.into_iter().filter(|field| work.after.is_empty() || !field.path.ends_with(".login")).collect();
    let mut action = action(tenant, "", symbol, Wave::Databases, reason, cause, step);
    action.fields = fields;
    draft.act(action);
}

fn reason(work: &Work, placement: &Placement, undone: bool) -> (Symbol, Reason) {
    let (symbol, code, text) = match work {
        _ if undone => (Symbol::Update, ReasonCode::SpecChanged, "its deletion is undone".to_owned()),
        Work { drifted: true, .. } => {
            (Symbol::Drift, ReasonCode::Drift, format!("changed by hand on {}", placement.instance))
        }
        Work { created: true, .. } => {
            (Symbol::Create, ReasonCode::NotFound, format!("new on {}", placement.instance))
        }
        Work { unfinished: true, .. } => {
            let text = format!("half made on {} by an earlier run", placement.instance);
            (Symbol::Update, ReasonCode::Unfinished, text)
        }
        Work { rotated: true, .. } => (Symbol::Update, ReasonCode::Rotation, "credentials.generation".to_owned()),
        _ => {
            let tier = work.fields.iter().find(|field| field.path == TIER);
            let switch = tier.and_then(|tier| Some(format!("tier {} -> {}", tier.old.as_ref()?, tier.new.as_ref()?)));
            (Symbol::Update, ReasonCode::SpecChanged, switch.unwrap_or_else(|| "limits or roles changed".to_owned()))
        }
    };
    (symbol, Reason { code, text })
}

fn action(
    tenant: &Tenant,
    part: &str,
    symbol: Symbol,
    wave: Wave,
    reason: Reason,
    cause: Origin,
    step: Step,
) -> Action {
    let address = match part {
        "" => format!("tenant/{}", tenant.name),
        part => format!("tenant/{}.{part}", tenant.name),
    };
    Action { address, symbol, wave, reason, cause, fields: Vec::new(), step }
}

pub(super) fn tenant_step(tenant: &Tenant, placement: &Placement, changes: Vec<Change>) -> Step {
    let (tenant, placement) = (tenant.name.clone(), placement.clone());
    Step::Tenant(Box::new(TenantStep { tenant, placement, changes, deletion: None, former: None }))
}
