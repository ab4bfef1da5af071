//! One run: observe, plan, check, ask, carry out, look again, record.

use tokio::time::Instant;

use super::apply::apply;
use super::error::Error;
use super::observe::observe;
use super::outcome::{Failure, Outcome, Report, Verdict};
use super::record;
use super::world::{Control, Door, Servers};
use crate::manifest::Desired;
use crate::plan::{
    Consent, ControlLive, Deployment, InstanceState, Live, Ownership, Placement, Plan, RailwayLive, Step, check,
    found_places, plan, router_spec, unrecorded_deletions,
};
use crate::store::FleetRow;

/// Planned, and carried out as far as it went.
#[derive(Debug)]
pub struct Reconciled {
    pub plan: Plan,
    pub report: Report,
    /// Requests to Railway that the plan cost.
    pub reads: u64,
    pub verdict: Verdict,
    /// What still differs although everything was carried out.
    pub rest: Option<Plan>,
    /// What ended the run early.
    pub error: Option<Error>,
    /// Of Railway's configuration, as it was last read whole.
    pub etag: String,
}

/// `loaded` is what the control database held when the lease was taken, `railway` what was read on the way to it.
/// `agree` is asked once, with a plan that would change something.
pub async fn reconcile<C: Control, S: Servers>(
    door: &Door<'_>,
    control: &C,
    servers: &S,
    wanted: (&Desired, &Consent),
    (loaded, railway): ((Option<FleetRow>, ControlLive), Option<RailwayLive>),
    agree: impl FnOnce(&Plan) -> bool,
) -> Result<Reconciled, Error> {
    let (since, started_at) = (Instant::now(), (door.clock)());
    let (desired, consent) = wanted;
    let (fleet, control_live) = loaded;
    let live = observe(door, servers, railway, control_live).await?;
    let plan = checked_plan(desired, &live, consent)?;
    let reads = door.railway.requests().total();
    if let Some(pin) = &consent.pinned {
        pin.admits(&plan).map_err(|differences| Error::StalePlan { differences })?;
    }
    let (verdict, etag) = (verdict(&plan, None), live.railway.config_etag.clone());
    let mut run = Reconciled { verdict, plan, report: Report::default(), reads, rest: None, error: None, etag };
    let go = !run.plan.is_stopped() && (run.plan.is_empty() || agree(&run.plan));
    if go {
        if let Some(leading) = door.leading.filter(|leading| !leading.holds()) {
            // A person took their time to agree.
            leading.regain().await;
        }
        carry_out(door, control, servers, &mut run, (desired, consent), (&live, fleet, since)).await?;
    } else if !run.plan.is_stopped() {
        run.verdict = Verdict::Unconfirmed;
        return Ok(run);
    }
    let (entry, events, conditions) = record::of(door, desired, &live, &run, started_at);
    let recorded = control.record(&entry, &events, &conditions).await;
    // What ended a run early often forbids its record too; what was done until then is told all the same.
    if run.error.is_none() {
        recorded?;
    }
    Ok(run)
}

fn checked_plan(desired: &Desired, live: &Live, consent: &Consent) -> Result<Plan, Error> {
    let plan = plan(desired, live, consent);
    let found = check(&plan, desired, live);
    if found.is_empty() { Ok(plan) } else { Err(Error::Unsafe { found }) }
}

async fn carry_out<C: Control, S: Servers>(
    door: &Door<'_>,
    control: &C,
    servers: &S,
    run: &mut Reconciled,
    (desired, consent): (&Desired, &Consent),
    (live, fleet, since): (&Live, Option<FleetRow>, Instant),
) -> Result<(), Error> {
    bookkeeping(door, control, desired, live, (fleet, run.plan.targets.is_empty())).await?;
    if run.plan.is_empty() {
        return Ok(());
    }
    let (report, result) = apply(door, control, servers, &run.plan, live, since).await;
    run.report = report;
    if let Err(error) = result {
        run.verdict = Verdict::Partial;
        run.error = Some(error);
        return Ok(());
    }
    run.verdict = verdict(&run.plan, Some(&run.report));
    // A run checks itself: what it just did must be what a fresh look wants.
    // Railway itself is read again only if this run changed it.
    let railway = (!changes_railway(&run.plan)).then(|| live.railway.clone());
    let (_, control_live) = control.load().await?;
    let after = observe(door, servers, railway, control_live).await?;
    let rest = checked_plan(desired, &after, consent)?;
    run.etag = after.railway.config_etag;
    if !rest.is_empty() {
        run.rest = Some(rest);
        run.verdict = Verdict::Partial;
    }
    Ok(())
}

fn changes_railway(plan: &Plan) -> bool {
    plan.actions.iter().any(|action| matches!(action.step, Step::Instance(_) | Step::Publish { .. }))
}

/// What no plan shows, because nobody waits for it: the rebuilt memory of a lost control database, and the manifests
/// that routers will read.
async fn bookkeeping<C: Control>(
    door: &Door<'_>,
    control: &C,
    desired: &Desired,
    live: &Live,
    (fleet, is_whole): (Option<FleetRow>, bool),
) -> Result<(), Error> {
    if desired.fleet.paused {
        return Ok(());
    }
    if is_whole {
        save_routers(control, desired, live).await?;
    }
    for intent in unrecorded_deletions(live) {
        let (tenant, instance) = (intent.tenant.clone(), intent.instance.clone());
        let place = Placement { instance, database: tenant.to_string() };
        control.save_placements(&[(tenant, place)]).await?;
        control.start_deletion(&intent).await?;
    }
    if fleet.is_some() {
        return Ok(());
    }
    for (name, record) in &live.control.instances {
        control.save_instance(name, record).await?;
    }
    control.save_placements(&found_places(live)).await?;
    // Last, because it is what says that the rest is whole; while an instance was not seen it is not.
    if everything_was_seen(live) {
        let (uid, name) = (door.fleet.clone(), desired.fleet.name.clone());
        let (project, environment) = (door.project.clone(), door.environment.clone());
        control.save_fleet(&FleetRow { uid, name, project, environment }).await?;
    }
    Ok(())
}

async fn save_routers<C: Control>(control: &C, desired: &Desired, live: &Live) -> Result<(), Error> {
    for router in desired.routers.values().filter(|router| !router.paused) {
        let (name, spec) = (router.name.as_str(), router_spec(router));
        if live.control.routers.get(name) != Some(&spec) {
            control.save_router(name, &spec).await?;
        }
    }
    for name in
        live.control.routers.keys().filter(|name| desired.routers.keys().all(|kept| kept.as_str() != name.as_str()))
    {
        control.remove_router(name).await?;
    }
    Ok(())
}

fn everything_was_seen(live: &Live) -> bool {
    let deployed = live
        .railway
        .services
        .iter()
        .filter(|service| service.owner == Ownership::Ours && service.deployment != Deployment::None);
    deployed
        .filter_map(|service| crate::tenancy::InstanceName::parse(&service.name).ok())
        .all(|name| matches!(live.instances.get(&name), Some(InstanceState::Awake(_))))
}

/// Exit 4 wins over 2; a failure wins over a refusal, because something may be half done.
fn verdict(plan: &Plan, report: Option<&Report>) -> Verdict {
    if plan.guard.is_some() {
        return Verdict::Refused;
    }
    if !plan.breaches.is_empty() {
        return Verdict::Limit;
    }
    let failed = report.is_some_and(|report| !report.is_whole());
    match (failed || !plan.blocked.is_empty(), plan.refused.is_empty()) {
        (_, false) if !failed => Verdict::Refused,
        (true, _) => Verdict::Partial,
        (false, _) => Verdict::Converged,
    }
}

impl Reconciled {
    /// The first failures, for the last lines of a run.
    pub fn failures(&self) -> impl Iterator<Item = (&str, &Failure)> {
        self.report.outcomes.iter().filter_map(|(address, outcome)| match outcome {
            Outcome::Failed(failure) => Some((address.as_str(), failure)),
            _ => None,
        })
    }

    pub fn exit_code(&self) -> u8 {
        self.error.as_ref().map_or(self.verdict.exit_code(), Error::exit_code)
    }
}
