//! Many tenants at once: groups of changes over a few connections, each group in its order.

use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};

use super::change::Maker;
use super::error::Error;
use super::server::Server;
use crate::plan::DatabaseChange;
use crate::tenancy::{Address, FleetUid, Keyring, Secret};

/// Whose server it is and how many connections to open at most.
pub struct Many<'a> {
    pub address: &'a Address,
    pub password: &'a Secret,
    pub deadline: Duration,
    pub keys: &'a Keyring,
    pub fleet: &'a FleetUid,
    pub parallel: usize,
}

/// One result a group, in the order given; `done` hears how many are over. A failed group does not stop the others; a
/// lost connection is opened again for the next group.
pub async fn change_many(
    many: &Many<'_>,
    groups: &[Vec<DatabaseChange>],
    done: &dyn Fn(usize),
) -> Vec<Result<(), Error>> {
    let mut results: Vec<Option<Result<(), Error>>> = groups.iter().map(|_| None).collect();
    let workers = many.parallel.clamp(1, groups.len().max(1));
    let next = std::cell::Cell::new(0);
    let work = |_: usize| async {
        let (mut server, mut finished) = (None, Vec::new());
        while let Some(index) = Some(next.replace(next.get() + 1)).filter(|index| *index < groups.len()) {
            finished.push((index, change_group(many, &mut server, &groups[index]).await));
            done(next.get().min(groups.len()));
        }
        if let Some(server) = server {
            Server::close(server).await;
        }
        finished
    };
    let mut running: FuturesUnordered<_> = (0..workers).map(work).collect();
    while let Some(finished) = running.next().await {
        finished.into_iter().for_each(|(index, result)| results[index] = Some(result));
    }
    // Every index was taken by exactly one worker.
    results.into_iter().map(|result| result.unwrap_or(Ok(()))).collect()
}

async fn change_group(many: &Many<'_>, kept: &mut Option<Server>, changes: &[DatabaseChange]) -> Result<(), Error> {
    let mut server = match kept.take() {
        Some(server) => server,
        None => Server::connect(many.address, many.password, many.deadline).await?,
    };
    let maker = Maker { keys: many.keys, fleet: many.fleet };
    for change in changes {
        // A broken connection is not kept, so the next group opens its own.
        server.change(maker, change).await?;
    }
    *kept = Some(server);
    Ok(())
}
