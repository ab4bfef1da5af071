//! Carries out a plan wave by wave. What fails blocks what needs it; the rest goes on.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::error::Error;
use super::outcome::{Failure, Outcome, Report};
use super::services::ends_the_run;
use super::tell::Tell;
use super::world::{Control, Door, Servers};
use super::{databases, ready};
use crate::plan::{Action, Forgotten, InstanceStep, Live, Plan, RailwayLive, Step, VariableValue, Wave};
use crate::railway::{Patch, ServicePatch};
use crate::tenancy::{Address, Credential, Endpoint, InstanceName, Route, TenantId};

/// Everything one run works with; `report` and `endpoints` grow as it goes.
pub(super) struct Run<'a, C, S> {
    pub door: &'a Door<'a>,
    pub control: &'a C,
    pub servers: &'a S,
    pub endpoints: BTreeMap<InstanceName, Endpoint>,
    pub report: Report,
}

impl<C, S> Run<'_, C, S> {
    pub fn address(&self, instance: &InstanceName) -> Option<Address> {
        self.endpoints.get(instance).map(|endpoint| self.door.address(endpoint).clone())
    }

    fn has_failed(&self, address: &str) -> bool {
        matches!(self.report.outcomes.get(address), Some(Outcome::Failed(_) | Outcome::Blocked { .. }))
    }
}

/// `since`: when this run began to look. The report is whole even when an error ends the run: what was not tried is in
/// it as skipped.
pub async fn apply<C: Control, S: Servers>(
    door: &Door<'_>,
    control: &C,
    servers: &S,
    plan: &Plan,
    live: &Live,
    since: Instant,
) -> (Report, Result<(), Error>) {
    let known = live
        .control
        .instances
        .iter()
        .filter_map(|(name, record)| Some((InstanceName::parse(name).ok()?, record.endpoint.clone()?)));
    let mut run = Run { door, control, servers, endpoints: known.collect(), report: Report::default() };
    let result = waves(&mut run, plan, (since, &live.railway)).await;
    for action in &plan.actions {
        run.report.outcomes.entry(action.address.clone()).or_insert(Outcome::Skipped);
    }
    (run.report, result)
}

/// When this run began to look, and what it saw.
type Seen<'a> = (Instant, &'a RailwayLive);

async fn waves<C: Control, S: Servers>(run: &mut Run<'_, C, S>, plan: &Plan, seen: Seen<'_>) -> Result<(), Error> {
    let of = |wave: Wave| plan.actions.iter().filter(move |action| action.wave == wave).collect::<Vec<_>>();
    for (wave, name) in WAVES {
        let actions = of(wave);
        if !actions.is_empty() {
            (run.door.progress)(Tell::Phase { name, objects: actions.len() });
        }
        match wave {
            Wave::Instances => instances(run, &actions, seen).await?,
            Wave::Databases => databases::carry_out(run, &actions).await?,
            Wave::Routes => routes(run, &actions).await?,
            Wave::Variables => variables(run, &actions).await?,
            Wave::Removals => {
                databases::carry_out(run, &actions).await?;
                forget(run, &actions).await?;
            }
        }
        if !actions.is_empty() {
            (run.door.progress)(Tell::PhaseOver { name });
        }
    }
    Ok(())
}

/// In their order, as people are told.
const WAVES: [(Wave, &str); 5] = [
    (Wave::Instances, "instances"),
    (Wave::Databases, "databases"),
    (Wave::Routes, "routes"),
    (Wave::Variables, "variables"),
    (Wave::Removals, "removals"),
];

async fn instances<C: Control, S: Servers>(
    run: &mut Run<'_, C, S>,
    actions: &[&Action],
    (since, railway): Seen<'_>,
) -> Result<(), Error> {
    let mut steps: Vec<(InstanceStep, Option<Endpoint>)> = Vec::new();
    for action in actions {
        let Step::Instance(step) = &action.step else { continue };
        let known = InstanceName::parse(&step.spec.name).ok().and_then(|name| run.endpoints.get(&name).cloned());
        // A service that is made anew gets a new proxy.
        let endpoint = known.filter(|_| step.service.is_some());
        steps.push(((**step).clone(), endpoint));
    }
    if steps.is_empty() {
        return Ok(());
    }
    let brought = ready::bring_up(run.door, run.control, steps, (since, Some(railway))).await?;
    for (name, outcome) in brought {
        let address = format!("instance/{name}");
        let Ok(instance) = InstanceName::parse(&name) else { continue };
        let prepared = match outcome {
            Ok(endpoint) => {
                run.endpoints.insert(instance.clone(), endpoint.clone());
                let at = run.door.address(&endpoint).clone();
                databases::prepare(run, &instance, &at).await?
            }
            Err(failure) => Err(failure),
        };
        match prepared {
            Ok(()) => run.report.done(&address),
            Err(failure) => {
                // Nothing is built on a server that does not answer.
                run.endpoints.remove(&instance);
                run.report.failed(&address, failure);
            }
        }
    }
    Ok(())
}

/// One transaction for all routes whose tenants are there.
async fn routes<C: Control, S: Servers>(run: &mut Run<'_, C, S>, actions: &[&Action]) -> Result<(), Error> {
    let mut upserts: Vec<Route> = Vec::new();
    let mut renames: Vec<(TenantId, TenantId)> = Vec::new();
    let mut done = Vec::new();
    for action in actions {
        match &action.step {
            Step::Route { route } | Step::Rename { route, .. } => {
                let tenant = format!("tenant/{}", route.tenant);
                match run.endpoints.get(&route.instance) {
                    _ if run.has_failed(&tenant) => run.report.blocked(&action.address, &tenant),
                    None => run.report.blocked(&action.address, &format!("instance/{}", route.instance)),
                    Some(endpoint) => {
                        upserts.push((**route).clone().at(endpoint.clone()));
                        done.push(&action.address);
                        if let Step::Rename { former, .. } = &action.step {
                            renames.push((former.clone(), route.tenant.clone()));
                        }
                    }
                }
            }
            Step::Forget { tenant, why: Forgotten::Undone } => {
                forget_one(run, action, tenant, Forgotten::Undone).await?
            }
            Step::CancelRename { former } => {
                run.door.go_on()?;
                run.control.cancel_rename(former).await?;
                run.report.done(&action.address);
            }
            _ => {}
        }
    }
    if upserts.is_empty() {
        return Ok(());
    }
    run.door.go_on()?;
    let removed: Vec<TenantId> = renames.iter().map(|(former, _)| former.clone()).collect();
    let version = run.control.publish_routes(&upserts, &removed, &renames).await?;
    run.report.routing_version = version.or(run.report.routing_version);
    done.into_iter().for_each(|address| run.report.done(address));
    Ok(())
}

/// One patch for all app services; Railway redeploys those it touches and no other.
async fn variables<C: Control, S: Servers>(run: &mut Run<'_, C, S>, actions: &[&Action]) -> Result<(), Error> {
    let mut patch = Patch::default();
    let mut done = Vec::new();
    for action in actions {
        let Step::Publish { service, variable, value, .. } = &action.step else { continue };
        let VariableValue::Url { instance, .. } = value else { continue };
        let rendered =
            value.render(run.door.keys, |name| run.endpoints.get(name).map(|endpoint| endpoint.private.clone()));
        let tenant = needs_tenant(value);
        match rendered {
            _ if run.has_failed(&tenant) => run.report.blocked(&action.address, &tenant),
            None => run.report.blocked(&action.address, &format!("instance/{instance}")),
            Some(text) => {
                let change = patch.services.entry(service.clone()).or_insert_with(ServicePatch::default);
                change.variables.insert(variable.clone(), Some(text));
                done.push(&action.address);
            }
        }
    }
    if done.is_empty() {
        return Ok(());
    }
    run.door.go_on()?;
    match run.door.railway.commit_patch(&run.door.environment, &patch, "o7s: connection URLs").await {
        Ok(_) => done.into_iter().for_each(|address| run.report.done(address)),
        Err(error) if ends_the_run(&error) => return Err(error.into()),
        Err(error) => {
            let failure = Failure { code: error.code().into(), message: error.to_string(), help: error.help() };
            done.into_iter().for_each(|address| run.report.failed(address, failure.clone()));
        }
    }
    Ok(())
}

fn needs_tenant(value: &VariableValue) -> String {
    match value {
        VariableValue::Url { credential: Credential::Tenant { tenant, .. }, .. } => format!("tenant/{tenant}"),
        _ => String::new(),
    }
}

async fn forget<C: Control, S: Servers>(run: &mut Run<'_, C, S>, actions: &[&Action]) -> Result<(), Error> {
    for action in actions {
        if let Step::Forget { tenant, why } = &action.step {
            forget_one(run, action, tenant, *why).await?;
        }
    }
    Ok(())
}

async fn forget_one<C: Control, S: Servers>(
    run: &mut Run<'_, C, S>,
    action: &Action,
    tenant: &TenantId,
    why: Forgotten,
) -> Result<(), Error> {
    let of_tenant = format!("tenant/{tenant}");
    if run.has_failed(&of_tenant) {
        run.report.blocked(&action.address, &of_tenant);
        return Ok(());
    }
    run.door.go_on()?;
    if why != Forgotten::Undone {
        run.report.routing_version = run.control.publish_routes(&[], std::slice::from_ref(tenant), &[]).await?;
        run.control.remove_placement(tenant).await?;
    }
    run.control.finish_deletion(tenant).await?;
    run.report.done(&action.address);
    Ok(())
}
