//! Limits looked at before the first write: a plan that would break one is not begun.

use std::collections::{BTreeMap, BTreeSet};

use super::action::{PriceChange, Step};
use super::code::Code;
use super::live::{Placement, PlanLimits};
use super::place::Place;
use super::planner::{Draft, capacity, problem};
use super::spec::{RESERVED_CONNECTIONS, REST_MEMORY_MIB, REST_VCPU_MILLI, ServiceSpec};
use crate::cost::{Consumption, Nanos, monthly};
use crate::manifest::{Pool, RailwayPlan};
use crate::tenancy::{InstanceName, TenantId};

pub(super) fn plan(draft: &mut Draft<'_>, places: &BTreeMap<&TenantId, Place>) {
    volumes(draft);
    for pool in draft.desired.pools.values() {
        pool_sizes(draft, pool);
    }
    connections(draft, places);
    price(draft);
}

fn plan_name(plan: RailwayPlan) -> String {
    format!("{plan:?}").to_lowercase()
}

/// The plan that would do, by the published table.
fn next_plan(plan: RailwayPlan) -> &'static str {
    match plan {
        RailwayPlan::Free | RailwayPlan::Trial => "hobby allows 10, pro 20",
        RailwayPlan::Hobby => "pro allows 20",
        RailwayPlan::Pro => "ask Railway to raise the project's limit, or go to enterprise",
        RailwayPlan::Enterprise => "ask Railway",
    }
}

fn volumes(draft: &mut Draft<'_>) {
    let railway = &draft.live.railway;
    let Some(max) = railway.limits.volumes else { return };
    let new = draft
        .plan
        .actions
        .iter()
        .filter(|action| matches!(&action.step, Step::Instance(step) if step.volume.is_none()));
    let (have, new) = (railway.volumes.len(), new.count());
    if new == 0 || have + new <= max as usize {
        return;
    }
    let message = format!(
        "{have} volumes exist and {new} more are wanted: {} of {max} allowed on the {} plan",
        have + new,
        plan_name(railway.plan)
    );
    let help = format!(
        "share more (raise `tenantsPerInstance`, or place tiers in a shared pool), delete left-over volumes, or: {}",
        next_plan(railway.plan)
    );
    let address = format!("project/{}", railway.project_name);
    let problem =
        problem(Code::VolumeCount, address, message, &help, Some(draft.desired.fleet.origins.object.clone()));
    draft.plan.breaches.push(problem);
}

fn pool_sizes(draft: &mut Draft<'_>, pool: &Pool) {
    let PlanLimits { volume_mib_max, vcpu_milli_max, memory_mib_max, .. } = draft.live.railway.limits;
    let plan = plan_name(draft.live.railway.plan);
    let address = format!("pool/{}", pool.name);
    if pool.volume.mebibytes() > volume_mib_max {
        let message = format!("wants volumes of {}, the {plan} plan allows {volume_mib_max} MiB", pool.volume);
        let help = "lower `spec.volume`, or take a larger plan (hobby 5 GB, pro 1 TB, enterprise 5 TB)";
        let cause = Some(pool.origins.at("spec.volume"));
        draft.plan.breaches.push(problem(Code::VolumeSize, address.clone(), message, help, cause));
    }
    let Some(caps) = pool.resources else { return };
    if caps.vcpu_milli > vcpu_milli_max || caps.memory.mebibytes() > memory_mib_max {
        let vcpu = vcpu_milli_max / 1000;
        let message = format!("caps are above the {plan} plan: {vcpu} vCPU and {memory_mib_max} MiB for one service");
        let help = "lower `spec.resources`, or take a larger plan";
        draft.plan.breaches.push(problem(
            Code::Caps,
            address,
            message,
            help,
            Some(pool.origins.at("spec.resources")),
        ));
    }
}

/// What an instance's tenants may open together, against what its server accepts.
fn connections(draft: &mut Draft<'_>, places: &BTreeMap<&TenantId, Place>) {
    let mut wanted: BTreeMap<&InstanceName, u32> = BTreeMap::new();
    let mut counted = BTreeSet::new();
    for (tenant, place) in places {
        let (Place::Remembered(Placement { instance, .. }) | Place::Chosen(Placement { instance, .. })) = place
        else {
            continue;
        };
        let limit = draft.desired.tenants.get(*tenant).map_or(0, |tenant| tenant.limits.server_connections);
        *wanted.entry(instance).or_default() += limit;
        counted.insert(*tenant);
    }
    // A retained tenant can still connect, so it counts by its route.
    for (tenant, route) in draft.live.control.routes.iter().filter(|(tenant, _)| !counted.contains(tenant)) {
        if route.state == crate::tenancy::RouteState::Active && !draft.desired.tenants.contains_key(tenant) {
            *wanted.entry(&route.instance).or_default() += route.limits.server_connections;
        }
    }
    let mut breaches = Vec::new();
    for (instance, wanted) in wanted {
        let room = capacity_after(draft, instance);
        let Some(pool) = draft.desired.pools.get(&instance.pool()).filter(|_| wanted > room) else { continue };
        let message = format!("its tenants may open {wanted} connections, its server accepts {room} from tenants");
        let needed = wanted + RESERVED_CONNECTIONS;
        let help = format!(
            "lower `serverConnections` of tiers or tenants, or set `spec.postgres.maxConnections: {needed}` on pool {} \
             (restarts its instances)",
            pool.name
        );
        let cause = Some(pool.origins.at("spec.postgres"));
        breaches.push(problem(Code::Connections, format!("instance/{instance}"), message, &help, cause));
    }
    draft.plan.breaches.extend(breaches);
}

/// With a planned start command the new number counts.
fn capacity_after(draft: &Draft<'_>, instance: &InstanceName) -> u32 {
    let planned = draft.plan.actions.iter().find_map(|action| match &action.step {
        Step::Instance(step) if step.spec.name == instance.as_str() => {
            super::spec::max_connections_of(&step.spec.start_command)
        }
        _ => None,
    });
    planned
        .map_or_else(|| capacity(draft.desired, draft.live, instance), |max| max.saturating_sub(RESERVED_CONNECTIONS))
}

fn price(draft: &mut Draft<'_>) {
    let at_creation = draft.live.railway.limits.volume_mib_at_creation;
    let (mut at_rest, mut at_caps, mut capped) = (Nanos(0), Nanos(0), true);
    for action in &draft.plan.actions {
        let Step::Instance(step) = &action.step else { continue };
        if step.volume.is_some() {
            continue;
        }
        let (rest, full) = instance_price(&step.spec, at_creation);
        at_rest = at_rest + rest;
        at_caps = at_caps + full.unwrap_or_default();
        capped &= full.is_some();
    }
    draft.plan.price = PriceChange { at_rest, at_caps: capped.then_some(at_caps), revenue: revenue(draft) };
}

fn instance_price(spec: &ServiceSpec, at_creation_mib: u64) -> (Nanos, Option<Nanos>) {
    let volume_mib = spec.volume_mib.max(at_creation_mib);
    let rest = Consumption { vcpu_milli: REST_VCPU_MILLI, memory_mib: REST_MEMORY_MIB, data_mib: 64, volume_mib };
    let full = spec.caps.map(|caps| Consumption {
        vcpu_milli: u64::from(caps.vcpu_milli),
        memory_mib: caps.memory.mebibytes(),
        data_mib: spec.volume_mib,
        volume_mib,
    });
    (monthly(rest), full.map(monthly))
}

/// What tenants pay more by this plan's routes: a new tenant's tier price, or the difference of two tiers.
fn revenue(draft: &Draft<'_>) -> Nanos {
    let price = |tier| {
        draft
            .desired
            .tiers
            .get(tier)
            .and_then(|tier| tier.price.as_ref())
            .map_or(Nanos(0), |p| Nanos(p.monthly_nanos))
    };
    let changes = draft.plan.actions.iter().filter_map(|action| match &action.step {
        Step::Route { route } => Some((&route.tenant, route)),
        Step::Rename { former, route } => Some((former, route)),
        _ => None,
    });
    changes
        .map(|(known_as, route)| {
            let paying = |state| state != crate::tenancy::RouteState::Retired;
            let had = draft.live.control.routes.get(known_as).filter(|have| paying(have.state));
            let before = had.map_or(Nanos(0), |have| price(&have.tier));
            let after = if paying(route.state) { price(&route.tier) } else { Nanos(0) };
            after - before
        })
        .sum()
}
