//! Ceilings of tenants: who is let in, which query may start, and what becomes of the others. How much of a ceiling this
//! process may use without asking is in [`leases`](super::leases).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::state::ServerRecord;
use super::{Worker, millis};
use crate::router::protocol::error::Report;
use crate::router::protocol::front::Stop;
use crate::router::protocol::growth::Storage;
use crate::router::protocol::leave::Leave;
use crate::router::protocol::tally::Tally;
use crate::router::refusal;
use crate::router::table::Allowance;
use crate::tenancy::escrow::{Admission, Full, Lease, Meter, Slots};
use crate::tenancy::{Ceiling, Millis, Over};

/// For the first answer of the control database: nobody is refused because nothing was known yet.
const ASK_PATIENCE: Duration = Duration::from_secs(5);
/// Beyond the ceiling on a statement's time, for Postgres to end it by itself.
const STATEMENT_GRACE: Duration = Duration::from_secs(1);
/// Clients of one tenant that wait to be let in, or for leave to start a query; the next is refused at once.
const QUEUE_MAX: usize = 10_000;

/// A lease and the number the control database knows it by.
pub(super) struct Numbered<T> {
    pub number: u64,
    pub lease: T,
}

/// One tenant's.
pub(super) struct Ceilings {
    pub allowance: Arc<Allowance>,
    pub slots: Numbered<Slots>,
    pub queries: Option<Numbered<Lease>>,
    pub egress: Option<Numbered<Lease>>,
    /// Size of the database, as measured last.
    pub stored: Option<u64>,
    /// For the next client that begins a transaction.
    pub notice: Vec<u8>,
    /// Events of late, each until it may be told again.
    pub told: Vec<(Ceiling, &'static str, Instant)>,
    door: VecDeque<AtDoor>,
    gate: VecDeque<AtGate>,
}

/// Logged in, and not let in yet.
struct AtDoor {
    client: usize,
    /// Still owed to it of its login.
    unsent: Vec<u8>,
    until: Instant,
    /// Nothing is known about the ceiling yet.
    asks: bool,
}

/// With a query that may not start yet.
struct AtGate {
    client: usize,
    until: Instant,
    then: Then,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// Nothing was known about the ceiling; it is told that.
    Unknown,
    /// It has waited long enough for something to free.
    Refuse,
    /// It was slowed down long enough.
    Start,
}

/// What becomes of a query above a ceiling.
enum Verdict {
    Starts,
    Waits(Instant, Then),
    Refused(Ceiling, Box<Report<'static>>),
}

impl Ceilings {
    pub fn new(allowance: &Arc<Allowance>, number: impl Fn() -> u64) -> Ceilings {
        let lease = |limited: bool| limited.then(|| Numbered { number: number(), lease: Lease::default() });
        Ceilings {
            slots: Numbered { number: number(), lease: Slots::default() },
            queries: lease(allowance.limits.queries_per_minute.is_some()),
            egress: lease(allowance.limits.egress_per_month.is_some()),
            allowance: Arc::clone(allowance),
            stored: None,
            notice: Vec::new(),
            told: Vec::new(),
            door: VecDeque::new(),
            gate: VecDeque::new(),
        }
    }

    /// The tier is another one, or an override.
    pub fn change(&mut self, allowance: &Arc<Allowance>, number: impl Fn() -> u64) {
        let fresh = Ceilings::new(allowance, number);
        let (old, new) = (&self.allowance.limits, &allowance.limits);
        if old.connections != new.connections {
            self.slots.lease.cut(new.connections.into());
        }
        for (have, fresh, same) in [
            (&mut self.queries, fresh.queries, old.queries_per_minute == new.queries_per_minute),
            (&mut self.egress, fresh.egress, old.egress_per_month == new.egress_per_month),
        ] {
            match (have.as_mut(), fresh) {
                (Some(have), Some(_)) if !same => have.lease.cut(),
                (Some(_), Some(_)) => {}
                (_, fresh) => *have = fresh,
            }
        }
        self.allowance = Arc::clone(allowance);
    }

    /// Leases of what is spent, with the ceiling of each.
    pub fn spendable(&mut self) -> impl Iterator<Item = (Meter, &mut Numbered<Lease>, u64)> {
        let (queries_limit, egress_limit) = (self.queries_limit(), self.egress_limit());
        let queries = self.queries.iter_mut().map(move |lease| (Meter::Queries, lease, queries_limit));
        queries.chain(self.egress.iter_mut().map(move |lease| (Meter::Egress, lease, egress_limit)))
    }

    pub fn connections(&self) -> u64 {
        self.allowance.limits.connections.into()
    }

    pub fn queries_limit(&self) -> u64 {
        self.allowance.limits.queries_per_minute.unwrap_or(u64::MAX)
    }

    pub fn egress_limit(&self) -> u64 {
        self.allowance.limits.egress_per_month.map_or(u64::MAX, |bytes| bytes.0)
    }

    fn storage(&self) -> Storage {
        let (Some(limit), Some(used)) = (self.allowance.limits.storage, self.stored) else { return Storage::Open };
        match used {
            used if used < limit.0 => Storage::Open,
            used if self.allowance.over.storage == Over::ReadOnly && used < limit.0 / 10 * 11 => Storage::ReadOnly,
            _ => Storage::Shut,
        }
    }
}

impl Worker {
    pub(super) fn now_ms(&self) -> u64 {
        millis(self.origin, self.now)
    }

    /// Of a ceiling of `limit`: what this process may use without asking.
    pub(super) fn share_of(&self, limit: u64) -> u64 {
        u64::try_from(u128::from(limit) * u128::from(self.share) / 1000).unwrap_or(0)
    }

    /// The one place where a session is admitted: now, later, or not.
    pub(super) fn come_in(&mut self, key: usize, unsent: Vec<u8>) {
        let (now, tenant_key) = (self.now_ms(), self.halls.pools[self.halls.clients[key].pool].tenant);
        let limit = self.halls.tenants[tenant_key].ceilings.as_ref().map_or(0, |ceilings| ceilings.connections());
        let share = self.share_of(limit);
        let tenant = &mut self.halls.tenants[tenant_key];
        let Some(ceilings) = &mut tenant.ceilings else { return self.let_in(key, &unsent) };
        let mut low = false;
        for (_, lease, _) in ceilings.spendable() {
            lease.lease.expect();
            low |= lease.lease.is_low(now);
        }
        let admission = match ceilings.door.is_empty() {
            true => ceilings.slots.lease.take(now, share),
            false => Admission::Ask,
        };
        let (wait, asks) = match (admission, ceilings.allowance.over.connections) {
            (Admission::Admitted, _) => {
                if low {
                    self.outside.lease_wanted();
                }
                return self.let_in(key, &unsent);
            }
            (Admission::Ask, Over::Queue(time)) => (ASK_PATIENCE.max(Duration::from_millis(time.0)), false),
            (Admission::Ask, _) => (ASK_PATIENCE, true),
            (Admission::Over(_), Over::Queue(time)) => (Duration::from_millis(time.0), false),
            (Admission::Over(full), _) => return self.keep_out(key, full),
        };
        if ceilings.door.len() >= QUEUE_MAX {
            let full = Full { used: limit, frees_in: None };
            return self.keep_out(key, full);
        }
        let until = self.now + wait;
        ceilings.door.push_back(AtDoor { client: key, unsent, until, asks });
        self.halls.clients[key].held_up = true;
        self.outside.lease_wanted();
        self.keep_ticking();
    }

    fn let_in(&mut self, key: usize, unsent: &[u8]) {
        let client = &mut self.halls.clients[key];
        (client.admitted, client.held_up) = (true, false);
        let pool = client.pool;
        self.halls.tenant_of_pool(pool).counts.sessions += 1;
        self.greet(key, unsent);
    }

    /// What is still owed to it of its login is not sent: to be told that it is in first would only confuse.
    fn keep_out(&mut self, key: usize, full: Full) {
        let tenant = self.halls.tenant_of_pool(self.halls.clients[key].pool);
        let limit = tenant.ceilings.as_ref().map_or(0, |ceilings| ceilings.connections());
        let report = refusal::connections(&tenant.entry, limit, full);
        let tenant_key = self.halls.pools[self.halls.clients[key].pool].tenant;
        self.count_refusal(tenant_key, Ceiling::Connections, &report);
        self.client_leaves(key, &report);
    }

    /// A session has ended, or has gone to another worker.
    pub(super) fn session_ends(&mut self, key: usize) {
        let now = self.now_ms();
        let client = &mut self.halls.clients[key];
        let (pool, admitted, held_up) = (client.pool, client.admitted, client.held_up);
        (client.admitted, client.held_up) = (false, false);
        let tenant_key = self.halls.pools[pool].tenant;
        let Some(ceilings) = &mut self.halls.tenants[tenant_key].ceilings else { return };
        if held_up {
            ceilings.door.retain(|at| at.client != key);
            ceilings.gate.retain(|at| at.client != key);
        }
        if admitted {
            ceilings.slots.lease.give(now);
            if !ceilings.door.is_empty() {
                self.doors.push(tenant_key);
            }
        }
    }

    /// Lets in who waits, as far as there are slots.
    pub(super) fn open_door(&mut self, tenant_key: usize) {
        loop {
            let now = self.now_ms();
            let Some(ceilings) = self.halls.tenants.get(tenant_key).and_then(|tenant| tenant.ceilings.as_ref())
            else {
                return;
            };
            let share = self.share_of(ceilings.connections());
            let Some(ceilings) = &mut self.halls.tenants[tenant_key].ceilings else { return };
            if ceilings.door.is_empty() {
                return;
            }
            match ceilings.slots.lease.take(now, share) {
                Admission::Admitted => {
                    if let Some(at) = ceilings.door.pop_front() {
                        self.let_in(at.client, &at.unsent);
                    }
                }
                Admission::Over(full) if ceilings.door.iter().any(|at| at.asks) => {
                    let at =
                        ceilings.door.iter().position(|at| at.asks).and_then(|place| ceilings.door.remove(place));
                    if let Some(at) = at {
                        self.halls.clients[at.client].held_up = false;
                        self.keep_out(at.client, full);
                    }
                }
                Admission::Over(_) | Admission::Ask => return,
            }
        }
    }

    /// What the client may start without anybody being asked.
    pub(super) fn leave_of(&self, key: usize, begin: bool) -> Leave {
        let client = &self.halls.clients[key];
        let Some(ceilings) = &self.halls.tenants[self.halls.pools[client.pool].tenant].ceilings else {
            return Leave { begin, ..Leave::ALL };
        };
        let now = self.now_ms();
        let closed = ceilings.egress.as_ref().is_some_and(|egress| !egress.lease.open(now));
        let free = match &ceilings.queries {
            _ if closed => 0,
            None => u64::MAX,
            Some(queries) => queries.lease.available(now, self.share_of(ceilings.queries_limit())),
        };
        let queries = free.saturating_add(client.leave.into());
        Leave { begin, queries, storage: ceilings.storage() }
    }

    /// Queries have started: they are charged.
    pub(super) fn charge(&mut self, key: usize, queries: u64) {
        if queries == 0 {
            return;
        }
        let now = self.now_ms();
        let client = &mut self.halls.clients[key];
        client.leave = 0;
        client.held_since = None;
        let tenant_key = self.halls.pools[client.pool].tenant;
        let Some(ceilings) = &self.halls.tenants[tenant_key].ceilings else { return };
        let limit = ceilings.queries_limit();
        let share = self.share_of(limit);
        let Some(queries_lease) =
            self.halls.tenants[tenant_key].ceilings.as_mut().and_then(|ceilings| ceilings.queries.as_mut())
        else {
            return;
        };
        let lease = &mut queries_lease.lease;
        let paid = lease.available(now, share).min(queries);
        lease.take(now, share, paid);
        lease.owe(queries - paid, limit);
        if lease.is_low(now) {
            self.outside.lease_wanted();
        }
    }

    /// The server has answered: of a text of several statements all but the first are charged now, and the time of the one
    /// that runs begins.
    pub(super) fn time_statements(&mut self, key: usize, pool: usize, tally: &Tally) {
        let server = &mut self.halls.servers[key];
        if !server.back.owes() {
            server.runs_since = None;
        } else if tally.ended_some() {
            server.runs_since = Some(self.now);
        }
        if tally.more > 0
            && let Some(ceilings) = &mut self.halls.tenant_of_pool(pool).ceilings
        {
            let limit = ceilings.queries_limit();
            if let Some(queries) = &mut ceilings.queries {
                queries.lease.owe(tally.more.into(), limit);
            }
        }
    }

    pub(super) fn has_statement_limit(&self, pool: usize) -> bool {
        let tenant = &self.halls.tenants[self.halls.pools[pool].tenant];
        tenant.ceilings.as_ref().is_some_and(|ceilings| ceilings.allowance.limits.statement_timeout.is_some())
    }

    fn statement_limit(&self, server: &ServerRecord) -> Option<Millis> {
        let ceilings = self.halls.tenants[self.halls.pools[server.pool].tenant].ceilings.as_ref()?;
        ceilings.allowance.limits.statement_timeout
    }

    /// Should the server report that it has cancelled what runs, and the ceiling on its time is passed, the client hears of
    /// the ceiling.
    pub(super) fn prepare_too_long(&mut self, key: usize) {
        let server = &self.halls.servers[key];
        let Some((since, limit)) = server.runs_since.zip(self.statement_limit(server)) else { return };
        let late = self.now.duration_since(since).as_millis() >= u128::from(limit.0);
        let report = late.then(|| {
            let entry = &self.halls.tenants[self.halls.pools[server.pool].tenant].entry;
            written(&refusal::statement_time(entry, limit))
        });
        self.halls.servers[key].back.too_long = report;
    }

    /// Cancels what runs longer than its ceiling although Postgres was told the same: the client has raised the server's own.
    fn end_long_statements(&mut self) -> bool {
        let timed: Vec<(usize, bool)> = self
            .halls
            .servers
            .iter()
            .filter(|(_, server)| server.client.is_some())
            .filter_map(|(key, server)| {
                let (since, limit) = server.runs_since.zip(self.statement_limit(server))?;
                Some((key, self.now.duration_since(since) >= Duration::from_millis(limit.0) + STATEMENT_GRACE))
            })
            .collect();
        for (key, _) in timed.iter().filter(|(_, late)| *late) {
            let pool = self.halls.servers[*key].pool;
            if self.halls.servers[*key].cancels == 0 {
                self.halls.tenant_of_pool(pool).counts.rejected(Ceiling::StatementTimeout);
            }
            self.cancel_query(*key);
        }
        !timed.is_empty()
    }

    pub(super) fn charge_egress(&mut self, pool: usize, bytes: u64) {
        let ceilings = self.halls.tenant_of_pool(pool).ceilings.as_mut();
        let Some(egress) = ceilings.and_then(|ceilings| ceilings.egress.as_mut()) else { return };
        egress.lease.owe(bytes, u64::MAX);
        let now = millis(self.origin, self.now);
        if egress.lease.is_low(now) {
            self.outside.lease_wanted();
        }
    }

    /// The client's next message is above a ceiling. Answers whether it goes on at once: it starts, or was refused.
    pub(super) fn over_ceiling(&mut self, key: usize, stop: Stop) -> bool {
        let client = &self.halls.clients[key];
        let tenant_key = self.halls.pools[client.pool].tenant;
        let in_transaction = client.server.is_some_and(|server| self.halls.servers[server].back.in_transaction());
        match self.verdict(key, tenant_key, stop, in_transaction) {
            Verdict::Starts => {
                self.halls.clients[key].leave += 1;
                true
            }
            Verdict::Refused(ceiling, report) => {
                self.count_refusal(tenant_key, ceiling, &report);
                self.refuse_query(key, written(&report));
                true
            }
            Verdict::Waits(until, then) => {
                let Some(ceilings) = &mut self.halls.tenants[tenant_key].ceilings else { return true };
                ceilings.gate.push_back(AtGate { client: key, until, then });
                let now = self.now;
                let client = &mut self.halls.clients[key];
                client.held_up = true;
                client.held_since.get_or_insert(now);
                self.outside.lease_wanted();
                self.keep_ticking();
                false
            }
        }
    }

    fn verdict(&mut self, key: usize, tenant_key: usize, stop: Stop, in_transaction: bool) -> Verdict {
        let (now, since) = (self.now_ms(), self.halls.clients[key].held_since.unwrap_or(self.now));
        let tenant = &mut self.halls.tenants[tenant_key];
        let entry = Arc::clone(&tenant.entry);
        let Some(ceilings) = &mut tenant.ceilings else { return Verdict::Starts };
        if stop == Stop::Storage {
            let limit = ceilings.allowance.limits.storage.map_or(0, |bytes| bytes.0);
            let (used, shut) = (ceilings.stored.unwrap_or(0), ceilings.storage() == Storage::Shut);
            return refused(Ceiling::Storage, refusal::storage(&entry, limit, used, shut));
        }
        let patience = since + ASK_PATIENCE;
        let egress_limit = ceilings.egress_limit();
        match ceilings.egress.as_mut().map(|egress| egress.lease.check(now)) {
            None | Some(Admission::Admitted) => {}
            Some(Admission::Ask) if self.now < patience => return Verdict::Waits(patience, Then::Unknown),
            Some(Admission::Ask) => {
                return refused(Ceiling::EgressPerMonth, refusal::unknown(&entry, Ceiling::EgressPerMonth));
            }
            Some(Admission::Over(full)) => {
                return refused(Ceiling::EgressPerMonth, refusal::egress(&entry, egress_limit, full));
            }
        }
        let (limit, over) = (ceilings.queries_limit(), ceilings.allowance.over.queries_per_minute);
        let Some(queries) = &mut ceilings.queries else { return Verdict::Starts };
        if ceilings.gate.len() >= QUEUE_MAX {
            let full = Full { used: limit, frees_in: None };
            return refused(Ceiling::QueriesPerMinute, refusal::queries(&entry, limit, full));
        }
        match (queries.lease.check(now), over) {
            (Admission::Admitted, _) => Verdict::Starts,
            (_, Over::Slow(_)) if in_transaction && queries.lease.debt() < limit => Verdict::Starts,
            (Admission::Ask, _) if self.now < patience => Verdict::Waits(patience, Then::Unknown),
            (Admission::Ask, _) => {
                refused(Ceiling::QueriesPerMinute, refusal::unknown(&entry, Ceiling::QueriesPerMinute))
            }
            (Admission::Over(_), Over::Slow(most)) => {
                let ms = delay(queries.lease.debt() + 1, limit, most.0);
                Verdict::Waits(self.now + Duration::from_millis(ms), Then::Start)
            }
            (Admission::Over(full), Over::Queue(time)) => match since + Duration::from_millis(time.0) {
                until if self.now < until => Verdict::Waits(until, Then::Refuse),
                _ => refused(Ceiling::QueriesPerMinute, refusal::queries(&entry, limit, full)),
            },
            (Admission::Over(full), Over::Reject | Over::ReadOnly) => {
                refused(Ceiling::QueriesPerMinute, refusal::queries(&entry, limit, full))
            }
        }
    }

    pub(super) fn count_refusal(&mut self, tenant_key: usize, ceiling: Ceiling, report: &Report<'_>) {
        self.halls.tenants[tenant_key].counts.rejected(ceiling);
        self.tell(tenant_key, ceiling, "OverCeiling", report);
    }

    /// In place of the client's next query; its session goes on.
    pub(super) fn refuse_query(&mut self, key: usize, report: Vec<u8>) {
        let client = &mut self.halls.clients[key];
        client.held_since = None;
        match client.server {
            None => {
                client.front.refuse();
                self.write_client(key, &report);
            }
            Some(server) => {
                self.to_server.clear();
                client.front.refuse_next(&mut self.halls.servers[server].back, report, &mut self.to_server);
                if !self.to_server.is_empty() {
                    self.write_server(server, &[]);
                }
            }
        }
    }

    /// Whoever waits for leave looks again, as far as there is something to spend.
    pub(super) fn open_gate(&mut self, tenant_key: usize) {
        let waiting = match self.halls.tenants.get_mut(tenant_key).and_then(|tenant| tenant.ceilings.as_mut()) {
            Some(ceilings) => ceilings.gate.len(),
            None => return,
        };
        for _ in 0..waiting {
            let Some(ceilings) = &mut self.halls.tenants[tenant_key].ceilings else { return };
            // Those that are slowed down have their time; the others, in their order.
            let Some(place) = ceilings.gate.iter().position(|at| at.then != Then::Start) else { return };
            let Some(at) = ceilings.gate.remove(place) else { return };
            self.look_again(at.client);
            let Some(ceilings) = &self.halls.tenants[tenant_key].ceilings else { return };
            if ceilings.gate.back().is_some_and(|last| last.client == at.client) {
                // Still over it: so are those behind.
                return self.first_again(tenant_key);
            }
        }
    }

    /// The client at the end of the queue looked too early: it keeps its place.
    fn first_again(&mut self, tenant_key: usize) {
        if let Some(ceilings) = &mut self.halls.tenants[tenant_key].ceilings
            && let Some(at) = ceilings.gate.pop_back()
        {
            ceilings.gate.push_front(at);
        }
    }

    /// Out of the queue of queries; answers whether it was there.
    pub(super) fn leave_gate(&mut self, key: usize) -> bool {
        let pool = self.halls.clients[key].pool;
        let Some(ceilings) = &mut self.halls.tenant_of_pool(pool).ceilings else { return false };
        let before = ceilings.gate.len();
        ceilings.gate.retain(|at| at.client != key);
        let was = ceilings.gate.len() < before;
        self.halls.clients[key].held_up &= !was;
        was
    }

    fn look_again(&mut self, client: usize) {
        self.halls.clients[client].held_up = false;
        self.advance(client);
    }

    /// Deadlines of those that wait; answers whether some are left.
    pub(super) fn tick_ceilings(&mut self) -> bool {
        let waiting = |ceilings: &Ceilings| !ceilings.door.is_empty() || !ceilings.gate.is_empty();
        let tenants: Vec<usize> = self
            .halls
            .tenants
            .iter()
            .filter(|(_, tenant)| tenant.ceilings.as_deref().is_some_and(waiting))
            .map(|(key, _)| key)
            .collect();
        for &key in &tenants {
            self.open_door(key);
            self.end_waits(key);
        }
        self.end_long_statements() || !tenants.is_empty()
    }

    fn end_waits(&mut self, tenant_key: usize) {
        let now = self.now;
        let now_ms = self.now_ms();
        let Some(ceilings) = &mut self.halls.tenants[tenant_key].ceilings else { return };
        let late: Vec<AtDoor> = take_late(&mut ceilings.door, |at| at.until <= now);
        let due: Vec<AtGate> = take_late(&mut ceilings.gate, |at| at.until <= now);
        let share = self.share;
        for at in late {
            self.halls.clients[at.client].held_up = false;
            let tenant = &mut self.halls.tenants[tenant_key];
            let Some(ceilings) = &mut tenant.ceilings else { continue };
            let limit = ceilings.connections();
            let lately = ceilings.slots.lease.full_lately(now_ms);
            match (ceilings.slots.lease.take(now_ms, limit * share / 1000), lately) {
                (Admission::Admitted, _) => self.let_in(at.client, &at.unsent),
                (Admission::Over(full), _) | (Admission::Ask, Some(full)) => self.keep_out(at.client, full),
                (Admission::Ask, None) => {
                    let report = refusal::unknown(&tenant.entry, Ceiling::Connections);
                    self.client_leaves(at.client, &report);
                }
            }
        }
        for at in due {
            if at.then == Then::Start {
                self.halls.clients[at.client].leave += 1;
            }
            self.look_again(at.client);
        }
    }
}

/// Grows with what is owed: as long as the ceiling needs to pay for it, and never more than `most`. In milliseconds.
fn delay(owed: u64, limit: u64, most: u64) -> u64 {
    (owed.saturating_mul(60_000) / limit.max(1)).clamp(1, most)
}

fn take_late<T>(queue: &mut VecDeque<T>, late: impl Fn(&T) -> bool) -> Vec<T> {
    let (due, rest): (Vec<T>, Vec<T>) = std::mem::take(queue).into_iter().partition(late);
    *queue = rest.into();
    due
}

fn refused(ceiling: Ceiling, report: Report<'static>) -> Verdict {
    Verdict::Refused(ceiling, Box::new(report))
}

fn written(report: &Report<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    report.write(&mut bytes);
    bytes
}
