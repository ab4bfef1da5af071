//! The wave inside the servers: tenants' databases and roles, many at once, and what belongs to no tenant.

use std::cell::Cell;
use std::collections::BTreeMap;

use futures_util::stream::{self, StreamExt as _};
use tokio::time::Instant;

use super::apply::Run;
use super::error::Error;
use super::outcome::Failure;
use super::tell::Tell;
use super::world::{Control, ServerFailure, Servers};
use crate::plan::{Action, DatabaseChange, Placement, Step, TenantStep};
use crate::postgres::{self, Turn};
use crate::tenancy::{Address, InstanceName, TenantId};

impl From<ServerFailure> for Failure {
    fn from(ServerFailure { code, message, help }: ServerFailure) -> Failure {
        Failure { code, message, help }
    }
}

/// Asks again while the failure `may_pass`, for as long as a server may take to come up.
async fn until<C, S, T>(
    run: &Run<'_, C, S>,
    (name, at): (&InstanceName, &Address),
    mut ask: impl AsyncFnMut() -> Result<T, ServerFailure>,
    may_pass: impl Fn(&ServerFailure) -> bool,
) -> Result<Result<T, ServerFailure>, Error> {
    let deadline = Instant::now() + run.door.timing.ready;
    loop {
        match ask().await {
            Err(failure) if Instant::now() < deadline && may_pass(&failure) => {
                (run.door.progress)(Tell::Now(&format!("still waiting: {name} does not answer at {at} yet")));
                run.door.wait(run.door.timing.poll).await?;
            }
            answer => return Ok(answer),
        }
    }
}

/// A fresh server needs a moment behind its proxy; then its own databases are closed to everybody. The inner error is
/// the server's own; a stop request is the run's.
pub(super) async fn prepare<C: Control, S: Servers>(
    run: &Run<'_, C, S>,
    name: &InstanceName,
    at: &Address,
) -> Result<Result<(), Failure>, Error> {
    let server = match until(run, (name, at), async || run.servers.observe(name, at).await, |_| true).await? {
        Ok(server) => server,
        Err(failure) => return Ok(Err(failure.into())),
    };
    let close = |database: String| DatabaseChange::CloseToPublic { database };
    let changes: Vec<DatabaseChange> = server.public_databases.into_iter().map(close).collect();
    if changes.is_empty() {
        return Ok(Ok(()));
    }
    run.door.go_on()?;
    let results = run.servers.change(name, at, &[changes], &|_| ()).await;
    Ok(results.into_iter().collect::<Result<(), ServerFailure>>().map_err(Failure::from))
}

/// What one group of changes is for.
struct Group<'a> {
    action: &'a Action,
    changes: Vec<DatabaseChange>,
}

/// Carries out the tenant and server steps of one wave, instance by instance side by side.
pub(super) async fn carry_out<C: Control, S: Servers>(
    run: &mut Run<'_, C, S>,
    actions: &[&Action],
) -> Result<(), Error> {
    run.door.go_on()?;
    let mut by_instance: BTreeMap<InstanceName, Vec<Group<'_>>> = BTreeMap::new();
    let mut placements: Vec<(TenantId, Placement)> = Vec::new();
    for &action in actions {
        let (instance, changes) = match &action.step {
            Step::Server { instance, changes } => (instance, changes),
            Step::Tenant(step) => (&step.placement.instance, &step.changes),
            _ => continue,
        };
        let Some(at) = run.address(instance) else {
            run.report.blocked(&action.address, &format!("instance/{instance}"));
            continue;
        };
        if let Some(rename) = changes.iter().find(|change| matches!(change, DatabaseChange::RenameTenant { .. })) {
            // Before its route is suspended for it: a taken name shuts nobody out. The look wakes a sleeper.
            let look = async || run.servers.look_before_rename(instance, &at, rename).await;
            let is_waking = |failure: &ServerFailure| failure.code == postgres::Code::NotListening.into();
            if let Err(failure) = until(run, (instance, &at), look, is_waking).await? {
                run.report.failed(&action.address, failure.into());
                continue;
            }
        }
        if let Step::Tenant(step) = &action.step {
            intend(run, step, &mut placements).await?;
        }
        let group = Group { action, changes: changes.clone() };
        by_instance.entry(instance.clone()).or_default().push(group);
    }
    if !placements.is_empty() {
        // Before anything is made: a database must never be somewhere that nobody remembers.
        run.control.save_placements(&placements).await?;
    }
    let shared = &*run;
    let work =
        by_instance.into_iter().map(|(instance, groups)| async move { change_one(shared, &instance, groups).await });
    let all: Vec<Results> = stream::iter(work).buffer_unordered(INSTANCES_AT_ONCE).collect().await;
    let mut stopped = Ok(());
    for results in all {
        for (address, result) in results.done {
            match result {
                Ok(()) => run.report.done(&address),
                Err(failure) => run.report.failed(&address, failure.into()),
            }
        }
        stopped = stopped.and(results.stopped);
    }
    stopped
}

async fn intend<C: Control, S: Servers>(
    run: &Run<'_, C, S>,
    step: &TenantStep,
    placements: &mut Vec<(TenantId, Placement)>,
) -> Result<(), Error> {
    if let Some(former) = &step.former {
        run.control.begin_rename(former, &step.tenant).await?;
    }
    if let Some(intent) = &step.deletion {
        return run.control.start_deletion(intent).await;
    }
    // Opening one gives it its mark: half made by a killed run, it is remembered by nobody if the memory was lost since.
    let makes = |change: &DatabaseChange| {
        matches!(change, DatabaseChange::CreateDatabase { .. } | DatabaseChange::OpenDatabase { .. })
    };
    if step.former.is_none() && step.changes.iter().any(makes) {
        placements.push((step.tenant.clone(), step.placement.clone()));
    }
    Ok(())
}

/// Slices keep a stop request from waiting for a thousand tenants.
const SLICE: usize = 64;
/// Servers worked on at the same time.
const INSTANCES_AT_ONCE: usize = 4;

/// By address, and whether a stop request ended the work early.
struct Results {
    done: Vec<(String, Result<(), ServerFailure>)>,
    stopped: Result<(), Error>,
}

async fn change_one<C: Control, S: Servers>(
    run: &Run<'_, C, S>,
    instance: &InstanceName,
    groups: Vec<Group<'_>>,
) -> Results {
    let mut results = Results { done: Vec::new(), stopped: Ok(()) };
    let Some(address) = run.address(instance) else { return results };
    let (total, mut before) = (groups.len(), 0);
    for slice in groups.chunks(SLICE) {
        results.stopped = run.door.go_on();
        if results.stopped.is_err() {
            break;
        }
        let changes: Vec<Vec<DatabaseChange>> = slice.iter().map(|group| group.changes.clone()).collect();
        let (progress, over) = (run.door.progress, Cell::new(before));
        let tell = |turn: Turn| match turn {
            Turn::Begun(index) => progress(Tell::Begun(&slice[index].action.address)),
            Turn::Ended(index) => {
                over.set(over.get() + 1);
                progress(Tell::Ended(&slice[index].action.address));
                progress(Tell::Now(&format!("databases on {instance}: {} of {total}", over.get())));
            }
        };
        let outcomes = run.servers.change(instance, &address, &changes, &tell).await;
        results.done.extend(slice.iter().map(|group| group.action.address.clone()).zip(outcomes));
        before += slice.len();
    }
    results
}
