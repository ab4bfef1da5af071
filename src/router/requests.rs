//! The ceiling on requests that gateways ask about: `/v1/authorize`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::store::LeaseAsk;
use crate::tenancy::escrow::{Admission, Full, Lease, Meter};

use super::leasing::LeaseBook;
use super::table::Entry;
use super::worker::Leased;

/// For the first answer of the control database.
const PATIENCE: Duration = Duration::from_secs(3);
/// Tenants remembered; the idle ones among more are forgotten.
const TENANTS_MAX: usize = 20_000;
/// Numbers of leases that are not the workers'.
const NUMBERS_FROM: u64 = 1 << 48;

pub struct Requests {
    book: Arc<LeaseBook>,
    origin: Instant,
    numbers: AtomicU64,
    state: Mutex<State>,
    /// Something was heard.
    heard: Notify,
}

#[derive(Default)]
struct State {
    /// Number, lease, and the ceiling.
    tenants: HashMap<Arc<str>, (u64, Lease, u64)>,
    asked: HashMap<u64, Arc<str>>,
    share: u64,
}

/// Why a request may not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    Over {
        limit: u64,
        full: Full,
    },
    /// The control database gives no answer.
    Unknown,
}

impl Requests {
    pub fn new(book: Arc<LeaseBook>) -> Requests {
        Requests {
            book,
            origin: Instant::now(),
            numbers: AtomicU64::new(NUMBERS_FROM),
            state: Mutex::default(),
            heard: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ms(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.origin).as_millis()).unwrap_or(u64::MAX)
    }

    /// One request of the tenant's; waits only until something is known of its ceiling.
    pub async fn admit(&self, entry: &Entry) -> Result<(), Refused> {
        let Some(limit) = entry.allowance.as_ref().and_then(|allowance| allowance.limits.requests_per_minute) else {
            return Ok(());
        };
        let until = Instant::now() + PATIENCE;
        loop {
            let heard = self.heard.notified();
            match self.spend(&entry.tenant, limit) {
                Admission::Admitted => return Ok(()),
                Admission::Over(full) => return Err(Refused::Over { limit, full }),
                Admission::Ask => {}
            }
            self.book.want();
            if timeout_at(until, heard).await.is_err() {
                return Err(Refused::Unknown);
            }
        }
    }

    fn spend(&self, tenant: &Arc<str>, limit: u64) -> Admission {
        let now = self.ms(Instant::now());
        let mut state = self.state();
        let share = limit * state.share / 1000;
        if state.tenants.len() >= TENANTS_MAX && !state.tenants.contains_key(tenant) {
            state.tenants.retain(|_, (_, lease, _)| lease.open(now));
        }
        let number = || (self.numbers.fetch_add(1, Ordering::Relaxed), Lease::default(), limit);
        let (_, lease, known) = state.tenants.entry(Arc::clone(tenant)).or_insert_with(number);
        *known = limit;
        let admission = lease.spend(now, share);
        if lease.is_low(now) {
            self.book.want();
        }
        admission
    }

    pub fn asks(&self) -> Vec<LeaseAsk> {
        let now = self.ms(Instant::now());
        let mut state = self.state();
        let mut asks = Vec::new();
        for (tenant, (lease, part, limit)) in &mut state.tenants {
            let ask = part.ask(now, Meter::Requests, *limit);
            asks.extend(ask.map(|ask| (Arc::clone(tenant), *lease, ask)));
        }
        state.asked.extend(asks.iter().map(|(tenant, lease, _)| (*lease, Arc::clone(tenant))));
        asks.into_iter().map(|(tenant, lease, ask)| said(&tenant, lease, ask)).collect()
    }

    pub fn leased(&self, leased: &Leased) {
        let (now, sent) = (self.ms(Instant::now()), self.ms(Instant::from_std(leased.sent)));
        let mut state = self.state();
        state.share = leased.share.unwrap_or(state.share);
        for (lease, wanted, answer) in leased.answers.iter() {
            let Some(tenant) = state.asked.remove(lease) else { continue };
            let Some((_, part, _)) = state.tenants.get_mut(&tenant).filter(|(number, ..)| number == lease) else {
                continue;
            };
            match answer {
                Some(answer) => part.answered(sent, now, Meter::Requests, *wanted, *answer),
                None => part.unanswered(),
            }
        }
        drop(state);
        self.heard.notify_waiters();
    }

    /// Everything goes back.
    pub fn end(&self) -> Vec<LeaseAsk> {
        let mut state = self.state();
        let tenants = state.tenants.drain();
        tenants.map(|(tenant, (lease, mut part, _))| said(&tenant, lease, part.end())).collect()
    }
}

fn said(tenant: &str, lease: u64, ask: crate::tenancy::escrow::Ask) -> LeaseAsk {
    LeaseAsk { tenant: tenant.to_owned(), meter: Meter::Requests, lease, ask }
}
