//! Many tenants at once: groups of changes over a few connections, each group in its order.

use std::cell::Cell;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};

use super::error::Error;
use super::script::Maker;
use super::server::Server;
use crate::plan::DatabaseChange;
use crate::tenancy::{Address, FleetUid, Keyring, Secret};

/// Whose server it is and how many connections to open at most.
pub struct Many<'a> {
    pub address: &'a Address,
    pub user: &'a str,
    pub password: &'a Secret,
    pub deadline: Duration,
    pub keys: &'a Keyring,
    pub fleet: &'a FleetUid,
    pub parallel: usize,
}

/// Work on the group of this place begins, or is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    Begun(usize),
    Ended(usize),
}

/// One result a group, in the order given; `tell` hears of each as it begins and ends. A failed group does not stop the others; a
/// lost connection is opened again for the next group. Once no connection comes up, the groups left are not tried: each
/// would wait for its own deadline.
pub async fn change_many(
    many: &Many<'_>,
    groups: &[Vec<DatabaseChange>],
    tell: &dyn Fn(Turn),
) -> Vec<Result<(), Error>> {
    let mut results: Vec<Option<Result<(), Error>>> = groups.iter().map(|_| None).collect();
    let workers = many.parallel.clamp(1, groups.len().max(1));
    let (next, down) = (Cell::new(0), Cell::new(false));
    let work = |_: usize| async {
        let (mut server, mut finished) = (None, Vec::new());
        while let Some(index) = Some(next.replace(next.get() + 1)).filter(|index| *index < groups.len()) {
            tell(Turn::Begun(index));
            finished.push((index, change_group(many, &down, &mut server, &groups[index]).await));
            tell(Turn::Ended(index));
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

async fn change_group(
    many: &Many<'_>,
    down: &Cell<bool>,
    kept: &mut Option<Server>,
    changes: &[DatabaseChange],
) -> Result<(), Error> {
    let mut server = match kept.take() {
        Some(server) => server,
        None if down.get() => return Err(not_tried(many.address)),
        None => {
            let opened = Server::connect(many.address, (many.user, many.password), many.deadline).await;
            opened.inspect_err(|_| down.set(true))?
        }
    };
    let maker = Maker { keys: many.keys, fleet: many.fleet };
    let changed = server.change(maker, changes).await;
    // A refused change leaves the session as it was; a broken session is not kept, and the next group opens its own.
    if changed.as_ref().err().is_none_or(|error| !error.lost_connection()) {
        *kept = Some(server);
    }
    changed
}

fn not_tried(address: &Address) -> Error {
    let source = std::io::Error::new(std::io::ErrorKind::NotConnected, "not tried again after the first failure");
    Error::NotListening { address: address.to_string(), source: sqlx::Error::Io(source) }
}
