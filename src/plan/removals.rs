//! What leaves: tenants that say `state: absent`, and the guard against too many of them at once. A removed manifest
//! removes nothing.

use std::collections::BTreeMap;

use chrono::Duration;

use super::action::{Action, GuardTrip, Reason, ReasonCode, RouteDraft, Step, Symbol, TenantStep, Wave};
use super::change::{DatabaseChange as Change, DeletionIntent};
use super::code::Code;
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
    let pending = draft.live.control.deletions.get(&tenant.name).cloned();
    match (tenant.deletion_policy, places, pending) {
        (DeletionPolicy::Delete, _, Some(pending)) => finish(draft, tenant, &pending),
        (_, _, Some(pending)) => draft.plan.retained.push(format!(
            "tenant/{}: deleted, kept as {} on {}; `deletionPolicy: delete` is gone, so it is not dropped",
            tenant.name, pending.renamed_to, pending.instance
        )),
        (_, [], None) => draft.plan.unchanged.tenants += 1,
        (DeletionPolicy::Detach, ..) => draft.refuse(problem(
            Code::NotBuilt,
            format!("tenant/{}", tenant.name),
            "`deletionPolicy: detach` is not built yet".into(),
            "use `retain` (keeps everything, ends its connections) or `delete`",
            Some(tenant.origins.at("spec.deletionPolicy")),
        )),
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
    let today = draft.live.observed_at.date_naive();
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
    let renamed_to = format!("{DELETED_PREFIX}{}_{}", today.format("%Y%m%d"), tenant.name);
    let renamed_to: String = renamed_to.chars().take(63).collect();
    let intent = DeletionIntent {
        tenant: tenant.name.clone(),
        instance: place.instance.clone(),
        renamed_to: renamed_to.clone(),
        due_at: draft.live.observed_at + Duration::days(GRACE_DAYS),
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
    if !pending.due {
        let due = pending.due_at.format("%Y-%m-%d %H:%M UTC");
        let text = format!(
            "tenant/{}: deleted, kept as {} on {} until {due}",
            tenant.name, pending.renamed_to, pending.instance
        );
        return finish_rename(draft, tenant, pending, text);
    }
    let place = Placement { instance: pending.instance.clone(), database: pending.renamed_to.clone() };
    let drop = Change::DropDatabase { tenant: tenant.name.clone(), database: pending.renamed_to.clone() };
    push(draft, tenant, &place, vec![drop], None, "its grace time is over");
    draft.act(Action {
        address: format!("tenant/{}.record", tenant.name),
        symbol: Symbol::Delete,
        wave: Wave::Removals,
        reason: Reason { code: ReasonCode::ConfirmedDelete, text: "its database is dropped".into() },
        cause: tenant.origins.at("spec.state"),
        fields: Vec::new(),
        step: Step::Forget { tenant: tenant.name.clone(), dropped: true },
    });
}

/// A crash after the intent was written leaves the database under its own name.
fn finish_rename(draft: &mut Draft<'_>, tenant: &Tenant, pending: &PendingDeletion, kept: String) {
    let server = draft.instances.get(&pending.instance);
    let unrenamed =
        matches!(server, Some(Status::Awake(server)) if server.databases.contains_key(tenant.name.as_str()));
    if unrenamed {
        let place = Placement { instance: pending.instance.clone(), database: tenant.name.to_string() };
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
        Some(Change::RenameDatabase { database, to }) => vec![field("database", Some(database), Some(to))],
        Some(Change::DropDatabase { database, .. }) => vec![field("database", Some(database), None)],
        _ => vec![field("login", Some("yes"), Some("no"))],
    };
    let step = TenantStep { tenant: tenant.name.clone(), placement: place.clone(), changes, deletion };
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
        for place in places {
            let text = format!(
                "tenant/{tenant}: no manifest, database {} on {} kept and routed",
                place.database, place.instance
            );
            draft.plan.retained.push(text);
        }
    }
}

/// Counts the active routes that this plan retires.
pub(super) fn guard(draft: &mut Draft<'_>) {
    let live = &draft.live.control.routes;
    let active = live.values().filter(|route| route.state == RouteState::Active).count();
    let removed = draft.plan.actions.iter().filter(|action| match &action.step {
        Step::Route { route } => {
            route.state == RouteState::Retired
                && live.get(&route.tenant).is_some_and(|have| have.state == RouteState::Active)
        }
        _ => false,
    });
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let (removals, live) = (count(removed.count()), count(active));
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
