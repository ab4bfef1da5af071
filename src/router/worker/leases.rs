//! What this worker holds of its tenants' ceilings: what it says to the control database, and what it hears.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::ceilings::Ceilings;
use super::meter::quiet;
use super::outside::Leased;
use super::{Worker, millis};
use crate::router::protocol::error::Report;
use crate::router::refusal;
use crate::store::{LeaseAsk, News};
use crate::tenancy::Ceiling;
use crate::tenancy::escrow::{Answer, Meter, is_near};

impl Worker {
    pub(super) fn asks(&mut self) -> Vec<LeaseAsk> {
        let now = self.now_ms();
        let mut asks = Vec::new();
        for (key, tenant) in &mut self.halls.tenants {
            let Some(ceilings) = &mut tenant.ceilings else { continue };
            let slots = ceilings.slots.lease.ask(now, ceilings.connections());
            let slots = std::iter::once((Meter::Connections, ceilings.slots.number, slots));
            let spendable = ceilings.spendable().map(|(meter, lease, limit)| {
                // Of a month a little is asked for at a time: what a killed router held is lost.
                let limit = if meter == Meter::Egress { limit / 16 } else { limit };
                (meter, lease.number, lease.lease.ask(now, meter, limit))
            });
            for (meter, lease, ask) in slots.chain(spendable) {
                let Some(ask) = ask else { continue };
                asks.push(LeaseAsk { tenant: tenant.entry.tenant.as_ref().to_owned(), meter, lease, ask });
                self.halls.leases.insert(lease, key);
            }
        }
        asks
    }

    pub(super) fn end_leases(&mut self) {
        let mut asks = Vec::new();
        for (_, tenant) in &mut self.halls.tenants {
            let Some(ceilings) = &mut tenant.ceilings else { continue };
            let mut said = vec![(Meter::Connections, ceilings.slots.number, ceilings.slots.lease.end())];
            said.extend(ceilings.spendable().map(|(meter, lease, _)| (meter, lease.number, lease.lease.end())));
            let name = &tenant.entry.tenant;
            let ask = |(meter, lease, ask)| LeaseAsk { tenant: name.as_ref().to_owned(), meter, lease, ask };
            asks.extend(said.into_iter().map(ask));
        }
        self.outside.leases_end(asks);
    }

    pub(super) fn leased(&mut self, leased: &Leased) {
        if let Some(share) = leased.share {
            self.share = share;
        }
        self.notices = leased.notices;
        let mut heard = Vec::new();
        for (lease, wanted, answer) in leased.answers.iter() {
            let Some(tenant) = self.halls.leases.remove(lease) else { continue };
            self.answered_lease(tenant, *lease, leased.sent, *wanted, *answer);
            heard.push(tenant);
        }
        heard.dedup();
        for tenant in heard {
            self.look_at_use(tenant);
            self.open_door(tenant);
            self.open_gate(tenant);
        }
    }

    fn answered_lease(&mut self, tenant: usize, number: u64, sent: Instant, wanted: u64, answer: Option<Answer>) {
        let now = self.now_ms();
        let sent = millis(self.origin, sent);
        let Some(ceilings) = self.halls.tenants.get_mut(tenant).and_then(|tenant| tenant.ceilings.as_mut()) else {
            return;
        };
        if ceilings.slots.number == number {
            return match answer {
                Some(answer) => ceilings.slots.lease.answered(sent, now, wanted, answer),
                None => ceilings.slots.lease.unanswered(),
            };
        }
        let spendable = ceilings.spendable().find(|(_, lease, _)| lease.number == number);
        match (spendable, answer) {
            (Some((meter, lease, _)), Some(answer)) => lease.lease.answered(sent, now, meter, wanted, answer),
            (Some((_, lease, _)), None) => lease.lease.unanswered(),
            (None, _) => {}
        }
    }

    /// Tells of ceilings that are reached to four fifths.
    fn look_at_use(&mut self, key: usize) {
        let tenant = &self.halls.tenants[key];
        let Some(ceilings) = &tenant.ceilings else { return };
        let limits = &ceilings.allowance.limits;
        let reached = [
            (Ceiling::Connections, Some(ceilings.slots.lease.used()), Some(ceilings.connections())),
            (
                Ceiling::QueriesPerMinute,
                ceilings.queries.as_ref().map(|queries| queries.lease.used()),
                limits.queries_per_minute,
            ),
            (
                Ceiling::EgressPerMonth,
                ceilings.egress.as_ref().map(|egress| egress.lease.used()),
                limits.egress_per_month.map(|bytes| bytes.0),
            ),
            (Ceiling::Storage, ceilings.stored, limits.storage.map(|bytes| bytes.0)),
        ];
        let near = |(ceiling, used, limit): (Ceiling, Option<u64>, Option<u64>)| {
            let (used, limit) = used.zip(limit)?;
            is_near(used, limit).then(|| (ceiling, refusal::notice(&tenant.entry, ceiling, used, limit)))
        };
        let near: Vec<(Ceiling, Report<'static>)> = reached.into_iter().filter_map(near).collect();
        for (ceiling, report) in near {
            if self.tell(key, ceiling, "NearCeiling", &report) && self.notices {
                let mut bytes = Vec::new();
                report.write(&mut bytes);
                if let Some(ceilings) = &mut self.halls.tenants[key].ceilings {
                    ceilings.notice = bytes;
                }
            }
        }
    }

    /// An event, once in a while for each ceiling; answers whether it was told.
    pub(super) fn tell(&mut self, key: usize, ceiling: Ceiling, reason: &'static str, report: &Report<'_>) -> bool {
        let now = self.now;
        let tenant = &mut self.halls.tenants[key];
        let Some(ceilings) = &mut tenant.ceilings else { return false };
        ceilings.told.retain(|(_, _, until)| now < *until);
        if ceilings.told.iter().any(|(told, why, _)| (*told, *why) == (ceiling, reason)) {
            return false;
        }
        ceilings.told.push((ceiling, reason, now + quiet(ceiling, reason)));
        let message = report.message.clone().into_owned();
        self.outside.news(News { tenant: tenant.entry.tenant.as_ref().to_owned(), reason, message });
        true
    }

    /// To a client that nothing is on its way to.
    pub(super) fn give_notice(&mut self, key: usize) {
        let pool = self.halls.clients[key].pool;
        if let Some(ceilings) = &mut self.halls.tenant_of_pool(pool).ceilings
            && !ceilings.notice.is_empty()
        {
            let notice = std::mem::take(&mut ceilings.notice);
            self.write_client(key, &notice);
        }
    }

    pub(super) fn stored(&mut self, sizes: &Arc<HashMap<String, u64>>) {
        // Tenants that come later have theirs from here.
        self.sizes.extend(sizes.iter().map(|(tenant, size)| (tenant.as_str().into(), *size)));
        let mut measured = Vec::new();
        for (key, tenant) in &mut self.halls.tenants {
            if let Some(ceilings) = &mut tenant.ceilings
                && let Some(size) = sizes.get(&*tenant.entry.tenant)
            {
                ceilings.stored = Some(*size);
                measured.push(key);
            }
        }
        measured.into_iter().for_each(|key| self.look_at_use(key));
    }

    /// The tenant's entry is another one: its ceilings hold from now on, for open sessions too.
    pub(super) fn ceilings_change(&mut self, key: usize) {
        let team = self.team.clone();
        let tenant = &mut self.halls.tenants[key];
        match (&mut tenant.ceilings, &tenant.entry.allowance) {
            (Some(ceilings), Some(allowance)) if ceilings.allowance != *allowance => {
                ceilings.change(allowance, || team.next_lease());
            }
            (have @ None, Some(allowance)) => {
                let mut ceilings = Ceilings::new(allowance, || team.next_lease());
                let inside = |client: &super::state::ClientRecord| {
                    client.admitted && self.halls.pools[client.pool].tenant == key
                };
                let sessions = self.halls.clients.iter().filter(|(_, client)| inside(client)).count();
                (0..sessions).for_each(|_| ceilings.slots.lease.force());
                ceilings.stored = self.sizes.get(&tenant.entry.tenant).copied();
                *have = Some(Box::new(ceilings));
            }
            _ => return,
        }
        if let Some(ceilings) = &mut self.halls.tenants[key].ceilings {
            // Four fifths of the new ceiling are news.
            ceilings.told.clear();
        }
        self.outside.lease_wanted();
        self.open_door(key);
        self.open_gate(key);
    }

    /// Somebody has cancelled the query that waits for leave.
    pub(super) fn cancel_held(&mut self, key: usize) {
        let mut bytes = Vec::new();
        let code = crate::router::protocol::error::SqlState::QUERY_CANCELED;
        Report::error(code, "canceling statement due to user request").write(&mut bytes);
        if self.leave_gate(key) {
            self.refuse_query(key, bytes);
            self.advance(key);
        }
    }
}
