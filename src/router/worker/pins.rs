//! A bound on pins: a client that pools transactions and keeps a server connection all the same may do nothing with it only
//! as long as nobody waits for one.

use super::Worker;
use super::state::Duty;
use crate::router::protocol::error::{Report, SqlState};

impl Worker {
    /// Somebody of the tenant waits in `pool`. The client that has kept a server connection idle the longest goes, if that is
    /// longer than allowed; one at a time, because what it frees may be enough.
    pub(super) fn end_idle_pin(&mut self, pool: usize) {
        let tenant = &self.halls.tenants[self.halls.pools[pool].tenant];
        let idle = self.halls.servers.iter().filter_map(|(_, server)| {
            let client = server.client.filter(|_| server.duty == Duty::Lent && server.back.at_rest())?;
            let front = &self.halls.clients[client].front;
            let why = front.pin.filter(|_| !front.session && tenant.pools.contains(&server.pool))?;
            let idle = self.now.duration_since(server.rests_since);
            (idle >= self.timing.pin_idle).then_some((idle, client, why))
        });
        let Some((idle, client, why)) = idle.max() else { return };
        let seconds = idle.as_secs();
        let text = format!("the session kept a server connection without using it for {seconds} s, and others wait");
        let report = Report::fatal(SqlState::IDLE_SESSION_TIMEOUT, text)
            .detail(format!("It could not share the connection with others because of: {why}."))
            .hint("End such sessions when they are done, or let them use session pooling.");
        self.client_leaves(client, &report);
    }
}
