//! What leaves: tenants that say `state: absent`, and the guard against too many of them at once. A removed manifest
//! removes nothing.

use std::collections::{BTreeMap, BTreeSet};

use chrono::Duration;

use super::action::{Action, Forgotten, GuardTrip, Reason, ReasonCode, RouteDraft, Step, Symbol, TenantStep, Wave};
use super::adopted;
use super::change::{DatabaseChange as Change, DeletionIntent};
use super::code::Code;
use super::deletions;
use super::instances::{Status, field};
use super::keys;
use super::live::{PendingDeletion, Placement};
use super::planner::{Draft, problem};
use super::suspended::lock_out;
use crate::manifest::{DeletionPolicy, RemovalGuard, Tenant};
use crate::tenancy::{RouteState, TenantId};

/// What the name of a deleted database begins with.
pub(super) const DELETED_PREFIX: &str = "zz_deleted_";

/// How long a deleted database is kept under another name.
pub const GRACE_DAYS: i64 = 7;

/// For a tenant with `state: absent`.
pub(super) fn plan(draft: &mut Draft<'_>, tenant: &Tenant, places: &[Placement]) {
    let pending = draft.deletions.get(&tenant.name).cloned();
    match (tenant.deletion_policy, places, pending) {
        (DeletionPolicy::Delete, _, Some(pending)) => finish(draft, tenant, &pending),
        (_, _, Some(pending)) => draft.plan.retained.push(format!(
            "tenant/{}: deleted, kept as {} on {}; `deletionPolicy: delete` is gone, so it is not dropped",
            tenant.name, pending.renamed_to, pending.instance
        )),
        (DeletionPolicy::Detach, [place, ..], None) => detach(draft, tenant, place),
        (_, [], None) => draft.plan.unchanged.tenants += 1,
        (DeletionPolicy::Retain, [place, ..], None) => retire(draft, tenant, place),
        (DeletionPolicy::Delete, [place, ..], None) => begin(draft, tenant, place),
    }
}

fn route_retired(draft: &mut Draft<'_>, tenant: &Tenant) -> bool {
    let Some(route) = draft.live.control.routes.get(&tenant.name) else { return false };
    if route.state == RouteState::Retired {
        return false;
    }
    let retired = RouteDraft { state: RouteState::Retired, ..RouteDraft::of(route) };
    let fields = vec![field("state", Some(route.state.as_str()), Some("retired"))];
    draft.act(Action {
        address: format!("route/{}", tenant.name),
        symbol: symbol(tenant),
        wave: Wave::Routes,
        reason: Reason { code: ReasonCode::SpecChanged, text: "state: absent".into() },
        cause: tenant.origins.at("spec.state"),
        fields,
        step: Step::Route { route: Box::new(retired) },
    });
    true
}

fn retire(draft: &mut Draft<'_>, tenant: &Tenant, place: &Placement) {
    route_retired(draft, tenant);
    let changes = lock_out(draft, tenant, place);
    if !changes.is_empty() {
        push(draft, tenant, place, changes, None, "state: absent");
    }
    let kept = format!("tenant/{}: absent, database {} on {} kept", tenant.name, place.database, place.instance);
    draft.plan.retained.push(kept);
}

fn begin(draft: &mut Draft<'_>, tenant: &Tenant, place: &Placement) {
    let address = format!("tenant/{}", tenant.name);
    if adopted::refuse_deletion(draft, tenant, place) {
        return;
    }
    let today = draft.live.control_now().date_naive();
    let cause = tenant.origins.at("spec.state");
    if let Some(fault) = keys::fault(draft, &tenant.name, today) {
        let message =
            format!("its manifest asks to delete database {} on {}; {fault}", place.database, place.instance);
        let help =
            format!("give it to this run: --allow-delete tenant/{}@{today} (no older than a day)", tenant.name);
        return draft.refuse(problem(Code::KeyMissing, address, message, &help, Some(cause)));
    }
    if !matches!(draft.instances.get(&place.instance), Some(Status::Awake(_))) {
        let message = format!("instance {} does not answer, so its database stays", place.instance);
        draft.plan.blocked.push(problem(Code::InstanceDown, address, message, "run again when it does", Some(cause)));
        return;
    }
    route_retired(draft, tenant);
    let renamed_to = deletions::name(&tenant.name, today);
    let intent = DeletionIntent {
        tenant: tenant.name.clone(),
        instance: place.instance.clone(),
        renamed_to: renamed_to.clone(),
        due_at: draft.live.control_now() + Duration::days(GRACE_DAYS),
    };
    let mut changes = lock_out(draft, tenant, place);
    changes.push(Change::EndConnections { database: place.database.clone() });
    changes.push(Change::RenameDatabase { database: place.database.clone(), to: renamed_to });
    push(draft, tenant, place, changes, Some(intent), "confirmed by --allow-delete");
}

/// What is kept is no deletion.
fn symbol(tenant: &Tenant) -> Symbol {
    match tenant.deletion_policy {
        DeletionPolicy::Delete => Symbol::Delete,
        DeletionPolicy::Retain | DeletionPolicy::Detach => Symbol::Update,
    }
}

fn finish(draft: &mut Draft<'_>, tenant: &Tenant, pending: &PendingDeletion) {
    let kept = deletions::kept(&tenant.name, pending);
    let server = draft.instances.get(&pending.instance);
    let begun = matches!(server, Some(Status::Awake(server)) if server.databases.contains_key(tenant.name.as_str()));
    if begun || !pending.due {
        return finish_rename(draft, tenant, pending, kept);
    }
    let place = Placement { instance: pending.instance.clone(), database: pending.renamed_to.clone() };
    let drop = Change::DropDatabase { tenant: tenant.name.clone(), database: pending.renamed_to.clone() };
    push(draft, tenant, &place, vec![drop], None, "its grace time is over");
    forget(draft, tenant, Forgotten::Dropped, "its database is dropped");
}

/// Last of all: the tenant's route and place go.
fn forget(draft: &mut Draft<'_>, tenant: &Tenant, why: Forgotten, text: &str) {
    let code = match why {
        Forgotten::Dropped => ReasonCode::ConfirmedDelete,
        Forgotten::Undone | Forgotten::Detached => ReasonCode::SpecChanged,
    };
    draft.act(Action {
        address: format!("tenant/{}.record", tenant.name),
        symbol: symbol(tenant),
        wave: Wave::Removals,
        reason: Reason { code, text: text.into() },
        cause: tenant.origins.at("spec.state"),
        fields: Vec::new(),
        step: Step::Forget { tenant: tenant.name.clone(), why },
    });
}

/// The marks go before the record: until they are gone, the next run finds both and goes on.
fn detach(draft: &mut Draft<'_>, tenant: &Tenant, place: &Placement) {
    let address = format!("tenant/{}", tenant.name);
    let marked = match draft.instances.get(&place.instance) {
        Some(Status::Awake(server)) => {
            let roles = server.roles.values().filter_map(|role| role.mark.as_ref());
            let database = server.databases.get(&place.database).and_then(|database| database.tenant.as_ref());
            roles.map(|mark| &mark.tenant).chain(database).any(|marked| *marked == tenant.name)
        }
        Some(Status::Unread) => true,
        _ => {
            let cause = Some(tenant.origins.at("spec.state"));
            let message = format!("instance {} does not answer, so its marks stay", place.instance);
            let next = "run again when it does";
            return draft.plan.blocked.push(problem(Code::InstanceDown, address, message, next, cause));
        }
    };
    if marked {
        let release = Change::Release { tenant: tenant.name.clone(), database: place.database.clone() };
        push(draft, tenant, place, vec![release], None, "detached: database and roles stay, o7s forgets them");
    }
    forget(draft, tenant, Forgotten::Detached, "detached");
}

/// A crash after the intent was written leaves the database under its own name.
fn finish_rename(draft: &mut Draft<'_>, tenant: &Tenant, pending: &PendingDeletion, kept: String) {
    let server = draft.instances.get(&pending.instance);
    let unrenamed =
        matches!(server, Some(Status::Awake(server)) if server.databases.contains_key(tenant.name.as_str()));
    if unrenamed {
        let place = Placement { instance: pending.instance.clone(), database: tenant.name.to_string() };
        if pending.due {
            // It was in use for all of its grace time, so that time never was one: as if it were asked for now.
            return begin(draft, tenant, &place);
        }
        route_retired(draft, tenant);
        let mut changes = lock_out(draft, tenant, &place);
        changes.push(Change::EndConnections { database: place.database.clone() });
        changes.push(Change::RenameDatabase { database: place.database.clone(), to: pending.renamed_to.clone() });
        push(draft, tenant, &place, changes, None, "its deletion was begun and not finished");
    } else {
        route_retired(draft, tenant);
    }
    draft.plan.retained.push(kept);
}

fn push(
    draft: &mut Draft<'_>,
    tenant: &Tenant,
    place: &Placement,
    changes: Vec<Change>,
    deletion: Option<DeletionIntent>,
    text: &str,
) {
    let code = if deletion.is_some() || text.contains("grace") {
        ReasonCode::ConfirmedDelete
    } else {
        ReasonCode::SpecChanged
    };
    let fields = match changes.last() {
        Some(Change::RenameDatabase { database, to }) => {
            let until = deletion.as_ref().map(|intent| intent.due_at.format("%Y-%m-%d %H:%M UTC").to_string());
            let mut fields = vec![field("database", Some(database), Some(to))];
            fields.extend(until.map(|until| field("kept until", None, Some(&until))));
            fields
        }
        Some(Change::DropDatabase { database, .. }) => vec![field("database", Some(database), None)],
        Some(Change::Release { database, .. }) => {
            vec![field(&format!("marks of {database} and its roles"), Some("ours"), None)]
        }
        _ => vec![field("login", Some("yes"), Some("no"))],
    };
    let step = TenantStep { tenant: tenant.name.clone(), placement: place.clone(), changes, deletion, former: None };
    draft.act(Action {
        address: format!("tenant/{}", tenant.name),
        symbol: symbol(tenant),
        wave: Wave::Removals,
        reason: Reason { code, text: text.to_owned() },
        cause: tenant.origins.at("spec.state"),
        fields,
        step: Step::Tenant(Box::new(step)),
    });
}

/// Everything that lives and is in no manifest: said, not touched.
pub(super) fn list_retained(draft: &mut Draft<'_>, remembered: &BTreeMap<TenantId, Vec<Placement>>) {
    for (tenant, places) in remembered.iter().filter(|(tenant, _)| !draft.desired.tenants.contains_key(*tenant)) {
        if let Some(pending) = draft.deletions.get(tenant) {
            let kept = deletions::kept(tenant, pending);
            draft.plan.retained.push(format!("{kept} and longer: without its manifest it is not dropped"));
            continue;
        }
        for place in places {
            let text = format!(
                "tenant/{tenant}: no manifest, database {} on {} kept and routed",
                place.database, place.instance
            );
            draft.plan.retained.push(text);
        }
    }
}

/// Counts the tenants that clients no longer reach by their name once this plan is done, and those that somebody lets go:
/// each once, in the run that begins it. A drop was counted when its grace time began.
pub(super) fn guard(draft: &mut Draft<'_>) {
    let control = &draft.live.control;
    let is_active =
        |tenant: &TenantId| control.routes.get(tenant).is_some_and(|have| have.state == RouteState::Active);
    let is_new = |former: &TenantId| control.renames.get(former).is_none_or(|rename| rename.done);
    let removed: BTreeSet<&TenantId> = draft
        .plan
        .actions
        .iter()
        .filter_map(|action| match &action.step {
            Step::Route { route } => {
                Some(&route.tenant).filter(|name| route.state != RouteState::Active && is_active(name))
            }
            Step::Forget { tenant, why: Forgotten::Detached } => Some(tenant),
            Step::Tenant(step) => match (&step.former, &step.deletion) {
                (Some(former), _) => Some(former).filter(|former| is_new(former)),
                (None, Some(intent)) => Some(&intent.tenant),
                (None, None) => None,
            },
            _ => None,
        })
        .collect();
    let active = control.routes.keys().filter(|name| is_active(name) || removed.contains(name)).count();
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let (removals, live) = (count(removed.len()), count(active.max(removed.len())));
    let allowed = match draft.desired.fleet.safety.max_removals {
        RemovalGuard::Count(count) => count,
        // One of nine is above 10 %, yet nobody means that a small fleet can never remove anything.
        RemovalGuard::Percent(percent) => (live * u32::from(percent.0) / 100).max(1),
    };
    draft.plan.removals = GuardTrip { removals, live, allowed };
    if removals > allowed {
        draft.plan.guard = Some(draft.plan.removals);
    }
}
