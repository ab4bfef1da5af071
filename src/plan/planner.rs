//! `plan`: desired and live in, plan out. Instances first, then what lives on them.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;

use super::action::{Action, GuardTrip, Plan, PriceChange, Problem, Snapshot, Unchanged, Warning};
use super::adopted;
use super::cause::placement_cause;
use super::code::Code;
use super::deletions;
use super::held::{self, is_suspended};
use super::instances::{self, Status};
use super::live::{InstanceState, Live, PendingDeletion, Placement};
use super::pin::Pin;
use super::place::{self, Place, Placer};
use super::rename::{self, Former};
use super::renamed::{self, StrangeRoles};
use super::spec::{RESERVED_CONNECTIONS, derived_max_connections, max_connections_of};
use super::target::Target;
use super::{keys, preflight, publish, removals, suspended, target, tenants, unknown};
use crate::manifest::{DeletionPolicy, Desired, Origin, Tenant, TenantState};
use crate::tenancy::{InstanceName, TenantId};

/// What the person running it allows beyond the manifests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Consent {
    /// Second keys of deletions, `--allow-delete tenant/acme@DATE`.
    pub deletions: BTreeMap<TenantId, NaiveDate>,
    /// `--target`: only these and what they need; empty is everything.
    pub only: Vec<Target>,
    /// `--plan FILE`: the one plan that may be carried out. Planning does not look at it.
    pub pinned: Option<Pin>,
}

/// What every part of planning reads, and the plan it writes to.
pub(super) struct Draft<'a> {
    pub desired: &'a Desired,
    pub live: &'a Live,
    pub consent: &'a Consent,
    pub instances: BTreeMap<InstanceName, Status<'a>>,
    /// Instances whose service is made by this plan: whatever address is remembered of them is another one's.
    pub remade: BTreeSet<InstanceName>,
    /// Deletions in their grace time.
    pub deletions: BTreeMap<TenantId, PendingDeletion>,
    /// Tenants whose rename is not finished.
    pub formers: BTreeMap<TenantId, Former>,
    /// Of the servers that have such, so that each is looked through once.
    pub strange_roles: BTreeMap<InstanceName, StrangeRoles>,
    /// Nothing is held: planned only to show what waits.
    pub thawed: bool,
    pub plan: Plan,
}

impl Draft<'_> {
    pub fn is_paused(&self, paused: bool) -> bool {
        paused && !self.thawed
    }

    /// Of a suspended tenant only the suspension is carried out, once what its name stands for is settled.
    pub fn is_held(&self, tenant: &Tenant) -> bool {
        let settled = !self.deletions.contains_key(&tenant.name) && !self.formers.contains_key(&tenant.name);
        self.is_paused(tenant.paused || (is_suspended(tenant) && settled))
    }

    pub fn act(&mut self, action: Action) {
        self.plan.actions.push(action);
    }

    pub fn refuse(&mut self, problem: Problem) {
        self.plan.refused.push(problem);
    }
}

pub(super) fn problem(code: Code, address: String, message: String, help: &str, cause: Option<Origin>) -> Problem {
    Problem { code, address, message, help: help.to_owned(), cause }
}

/// The same inputs give the same plan; no clock, no network, no key: what live values are was told when they were read.
pub fn plan(desired: &Desired, live: &Live, consent: &Consent) -> Plan {
    let draft = |thawed| {
        let (instances, remade) = (BTreeMap::new(), BTreeSet::new());
        let (deletions, formers) = (deletions::pending(live), BTreeMap::new());
        let (strange_roles, plan) = (renamed::all_strange_roles(live), empty(desired, live, consent));
        Draft { desired, live, consent, instances, remade, deletions, formers, strange_roles, thawed, plan }
    };
    let mut plan = if desired.fleet.paused { empty(desired, live, consent) } else { decide(draft(false)) };
    if held::any(desired) {
        held::show(&mut plan, desired, &decide(draft(true)));
        target::narrow_held(&mut plan);
    }
    plan
}

fn decide(mut draft: Draft<'_>) -> Plan {
    let (desired, live) = (draft.desired, draft.live);
    let (mut remembered, renamed) = (place::remembered(live), renamed::found(live));
    rename::warn_of_unknown(&mut draft, &remembered);
    let not_renamed = settle_names(&mut draft, &mut remembered);
    let mut placer = placer(desired, live);
    for (tenant, places) in &remembered {
        if let [place] = &places[..] {
            placer.count(place, desired.tenants.get(tenant));
        }
    }
    let mut places = BTreeMap::new();
    let present = |tenant: &&Tenant| {
        tenant.state == TenantState::Present && !not_renamed.contains(&format!("tenant/{}", tenant.name))
    };
    for tenant in desired.tenants.values().filter(present) {
        let known = remembered.get(&tenant.name).map_or(&[][..], Vec::as_slice);
        if known.is_empty() && draft.is_held(tenant) {
            continue;
        }
        let renamed = renamed::database(live, &renamed, &tenant.name, known.first());
        let place = match renamed.filter(|_| !draft.formers.contains_key(&tenant.name)) {
            Some(found) => {
                // It fills its place under whatever name.
                if known.is_empty() {
                    placer.count(found, Some(tenant));
                }
                Place::Renamed(found.clone())
            }
            None => place_of(tenant, known, &mut placer),
        };
        places.insert(&tenant.name, place);
    }
    for pool in desired.pools.values().filter(|pool| !draft.is_paused(pool.paused)) {
        placer.fill_to_minimum(pool);
    }
    let wanted: BTreeSet<InstanceName> = placer.instances().cloned().collect();
    place::warn_of_too_many(&mut draft, &placer);
    instances::plan(&mut draft, &wanted);
    for tenant in desired.tenants.values() {
        if draft.is_paused(tenant.paused) {
            continue;
        } else if let Some(place) = places.get(&tenant.name) {
            plan_tenant(&mut draft, tenant, place);
        } else if tenant.state == TenantState::Absent {
            let known = remembered.get(&tenant.name).map_or(&[][..], Vec::as_slice);
            let condemned = tenant.deletion_policy == DeletionPolicy::Delete;
            match renamed::database(live, &renamed, &tenant.name, known.first()).filter(|_| condemned) {
                Some(found) => draft.refuse(renamed::database_problem(tenant, found)),
                None => removals::plan(&mut draft, tenant, known),
            }
        }
    }
    renamed::warn_of_copies(&mut draft, &renamed, &places);
    publish::plan(&mut draft, &places);
    rename::settle(&mut draft);
    keys::warn_of_unused(&mut draft);
    removals::list_retained(&mut draft, &remembered);
    target::narrow(&mut draft);
    removals::guard(&mut draft);
    preflight::plan(&mut draft, &places);
    finish(draft.plan)
}

/// Puts deleted and renamed tenants' places under the names they are wanted by. Answers the addresses of those that must not
/// be renamed.
fn settle_names(draft: &mut Draft<'_>, remembered: &mut rename::Places) -> BTreeSet<String> {
    let (desired, live) = (draft.desired, draft.live);
    for (tenant, pending) in &draft.deletions {
        let place = Placement { instance: pending.instance.clone(), database: tenant.to_string() };
        remembered.entry(tenant.clone()).or_insert_with(|| vec![place]);
    }
    let (formers, refused) = rename::resolve(desired, live, remembered);
    let not_renamed: BTreeSet<String> = refused.iter().map(|problem| problem.address.clone()).collect();
    draft.formers = formers;
    for problem in refused {
        let tenant = problem.address.strip_prefix("tenant/").and_then(|name| TenantId::parse(name).ok());
        let tenant = tenant.and_then(|name| desired.tenants.get(&name));
        if tenant.is_none_or(|tenant| !draft.is_paused(tenant.paused)) {
            draft.refuse(problem);
        }
    }
    not_renamed
}

fn place_of(tenant: &Tenant, remembered: &[super::live::Placement], placer: &mut Placer<'_>) -> Place {
    match remembered {
        [] => placer.choose(tenant),
        [place] => {
            let moved = place.instance.pool() != tenant.pool
                || tenant.pinned.as_ref().is_some_and(|pin| *pin != place.instance);
            let wanted =
                || tenant.pinned.as_ref().map_or_else(|| format!("pool {}", tenant.pool), ToString::to_string);
            match moved {
                true => Place::Elsewhere { is: place.instance.clone(), wanted: wanted() },
                false => Place::Remembered(place.clone()),
            }
        }
        many => Place::Twice { on: many.iter().map(|place| place.instance.clone()).collect() },
    }
}

fn plan_tenant(draft: &mut Draft<'_>, tenant: &Tenant, place: &Place) {
    let address = format!("tenant/{}", tenant.name);
    let cause = placement_cause(tenant, draft.desired);
    match place {
        Place::Remembered(placement) if draft.is_held(tenant) => suspended::plan(draft, tenant, placement),
        Place::Elsewhere { is, .. } if draft.is_held(tenant) => {
            let placement = Placement { instance: is.clone(), database: tenant.name.to_string() };
            suspended::plan(draft, tenant, &placement);
        }
        Place::Remembered(placement) => tenants::plan(draft, tenant, placement, true),
        Place::Chosen(placement) => match adopted::namesake(draft.live, &tenant.name) {
            Some((instance, what)) => draft.refuse(adopted::namesake_problem(tenant, &instance, what)),
            None => tenants::plan(draft, tenant, placement, false),
        },
        Place::Elsewhere { is, wanted } => draft.refuse(problem(
            Code::Move,
            address,
            format!("its database is on {is}, the manifest wants {wanted}: that is a move"),
            "moves are not built yet; put the old pool back (`spec.placement.pool`), or a tier of the same pool",
            Some(cause),
        )),
        Place::Renamed(found) => draft.refuse(renamed::database_problem(tenant, found)),
        Place::Twice { on } => draft.refuse(problem(
            Code::FoundTwice,
            address,
            format!("its database was found on {}", join(on)),
            "rename or drop the copy that is not in use, then plan again",
            Some(cause),
        )),
        Place::Unseen { instances } => draft.plan.blocked.push(problem(
            Code::Unseen,
            address,
            format!("it may already be on {}, which cannot be asked", join(instances)),
            "bring the instance back (see its deployment on Railway); a new database is made only when it is surely nowhere",
            Some(cause),
        )),
        Place::Full { pool } => {
            let max = draft.desired.pools.get(pool).map_or(0, |pool| pool.instances_max);
            draft.plan.breaches.push(problem(
                Code::PoolFull,
                address,
                format!("pool {pool} has no room: all of its {max} instances are full"),
                "raise `instances.max` or `tenantsPerInstance` of the pool, or lower the tier's `serverConnections`",
                Some(cause),
            ));
        }
    }
}

fn placer<'a>(desired: &'a Desired, live: &Live) -> Placer<'a> {
    let mut existing = BTreeMap::new();
    for service in &live.railway.services {
        let Ok(name) = InstanceName::parse(&service.name) else { continue };
        if !instances::may_be_ours(service) || !desired.pools.contains_key(&name.pool()) {
            continue;
        }
        existing.insert(name.clone(), capacity(desired, live, &name));
    }
    let fresh = desired.pools.values().map(|pool| {
        let connections = pool.max_connections.unwrap_or_else(|| derived_max_connections(pool, desired));
        (pool.name.clone(), connections.saturating_sub(RESERVED_CONNECTIONS))
    });
    let answers = |name: &&InstanceName| matches!(live.instances.get(*name), Some(InstanceState::Awake(_)));
    let deployed = |name: &&InstanceName| live.railway.service(name.as_str()).is_some_and(instances::was_deployed);
    // With the control database's memory a tenant without a place is a new one; without it, only marks can tell.
    let unseen = match live.control.known {
        true => Vec::new(),
        false => existing.keys().filter(deployed).filter(|name| !answers(name)).cloned().collect(),
    };
    Placer::new(desired, existing, fresh.collect(), unseen)
}

/// Connections an instance has for tenants: what its server says, else what its start command will give it.
pub(super) fn capacity(desired: &Desired, live: &Live, name: &InstanceName) -> u32 {
    if let Some(InstanceState::Awake(server)) = live.instances.get(name) {
        return server.max_connections.saturating_sub(RESERVED_CONNECTIONS);
    }
    let service = live.railway.service(name.as_str());
    let command = service.and_then(|service| service.config.as_ref()?.start_command.as_deref());
    let pool = desired.pools.get(&name.pool());
    let fresh =
        || pool.map_or(0, |pool| pool.max_connections.unwrap_or_else(|| derived_max_connections(pool, desired)));
    command.and_then(max_connections_of).unwrap_or_else(fresh).saturating_sub(RESERVED_CONNECTIONS)
}

fn empty(desired: &Desired, live: &Live, consent: &Consent) -> Plan {
    let mut warnings = Vec::new();
    if live.railway.staged_changes > 0 {
        let count = live.railway.staged_changes;
        let (what, are, them) = if count == 1 { ("change", "is", "it") } else { ("changes", "are", "them") };
        let text = format!("{count} {what} {are} staged in Railway's dashboard; o7s leaves {them} staged");
        warnings.push(text.into());
    }
    if let Some(plan) = desired.fleet.plan.filter(|plan| *plan != live.railway.plan) {
        let (want, have) = (format!("{plan:?}").to_lowercase(), format!("{:?}", live.railway.plan).to_lowercase());
        let origin = desired.fleet.origins.at("spec.railway.plan");
        let text = format!("the fleet is written for the {want} plan, the project is on {have}, which decides");
        warnings.push(Warning::at(origin, text));
    }
    Plan {
        fleet: desired.fleet.name.to_string(),
        fleet_uid: live.fleet.clone(),
        project: live.railway.project_name.clone(),
        project_id: live.railway.project.clone(),
        environment: live.railway.environment_name.clone(),
        environment_id: live.railway.environment.clone(),
        snapshot: Snapshot {
            etag: live.railway.config_etag.clone(),
            read_at: live.observed_at,
            complete: live.instances.values().all(|state| !matches!(state, InstanceState::Unreachable { .. })),
        },
        targets: consent.only.clone(),
        actions: Vec::new(),
        refused: Vec::new(),
        blocked: Vec::new(),
        breaches: Vec::new(),
        guard: None,
        removals: GuardTrip::default(),
        retained: Vec::new(),
        held: Vec::new(),
        warnings,
        unknown: unknown::found(desired, live),
        unchanged: Unchanged::default(),
        price: PriceChange::default(),
    }
}

fn finish(mut plan: Plan) -> Plan {
    plan.actions.sort_by(|a, b| (a.wave, &a.address).cmp(&(b.wave, &b.address)));
    for list in [&mut plan.refused, &mut plan.blocked, &mut plan.breaches] {
        list.sort_by(|a, b| (&a.address, a.code).cmp(&(&b.address, b.code)));
    }
    plan
}

pub(super) fn join(names: &[InstanceName]) -> String {
    names.iter().map(InstanceName::as_str).collect::<Vec<_>>().join(", ")
}
