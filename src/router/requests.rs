//! The ceiling on requests that gateways ask about: `/v1/authorize`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::store::{LeaseAsk, News};
use crate::tenancy::escrow::{Admission, Full, Lease, Meter, is_near};
use crate::tenancy::{Ceiling, Metered, Minute, Usage};

use super::leasing::LeaseBook;
use super::refusal;
use super::serve::Meters;
use super::table::Entry;
use super::worker::Leased;

/// For the first answer of the control database.
const PATIENCE: Duration = Duration::from_secs(3);
/// Tenants remembered; the idle ones among more are forgotten.
const TENANTS_MAX: usize = 20_000;
/// Between two events of one tenant that say the same.
const TELL_EVERY_MS: u64 = 60_000;
/// Numbers of leases that are not the workers'.
const NUMBERS_FROM: u64 = 1 << 48;

pub struct Requests {
    book: Arc<LeaseBook>,
    meters: Meters,
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
    /// Events of late, and until when they are not told again.
    told: Vec<(Arc<str>, &'static str, u64)>,
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
    pub fn new(book: Arc<LeaseBook>, meters: Meters) -> Requests {
        Requests {
            book,
            meters,
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
                (Admission::Admitted, used) => {
                    if is_near(used, limit) {
                        let near = || refusal::notice(entry, Ceiling::RequestsPerMinute, used, limit).message;
                        self.tell(&entry.tenant, "NearCeiling", || near().into_owned());
                    }
                    return Ok(());
                }
                (Admission::Over(full), _) => {
                    self.count(entry);
                    self.tell(&entry.tenant, "OverCeiling", || refusal::requests(entry, limit, full));
                    return Err(Refused::Over { limit, full });
                }
                (Admission::Ask, _) => {}
            }
            self.book.want();
            if timeout_at(until, heard).await.is_err() {
                return Err(Refused::Unknown);
            }
        }
    }

    fn count(&self, entry: &Entry) {
        let minute = Minute::of_unix_ms(chrono::Utc::now().timestamp_millis());
        let mut usage = Usage::default();
        usage.rejected(Ceiling::RequestsPerMinute);
        let (tenant, instance) = (Arc::clone(&entry.tenant), Arc::clone(&entry.instance));
        (self.meters)(vec![Metered { minute, tenant, instance, usage }]);
    }

    fn tell(&self, tenant: &Arc<str>, reason: &'static str, message: impl FnOnce() -> String) {
        let now = self.ms(Instant::now());
        let mut state = self.state();
        state.told.retain(|(_, _, until)| now < *until);
        if state.told.len() >= TENANTS_MAX || state.told.iter().any(|(who, why, _)| who == tenant && *why == reason) {
            return;
        }
        state.told.push((Arc::clone(tenant), reason, now + TELL_EVERY_MS));
        drop(state);
        self.book.news(News { tenant: tenant.as_ref().to_owned(), reason, message: message() });
    }

    /// With what all routers have used, as last heard.
    fn spend(&self, tenant: &Arc<str>, limit: u64) -> (Admission, u64) {
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
        (admission, lease.used())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::open;
    use crate::router::table::Allowance;
    use crate::tenancy::escrow::Answer;
    use crate::tenancy::{Limits, OverLimit};

    fn entry() -> Entry {
        let limits = Limits {
            connections: 5,
            server_connections: 2,
            queries_per_minute: None,
            requests_per_minute: Some(5),
            storage: None,
            egress_per_month: None,
            statement_timeout: None,
        };
        let allowance = Arc::new(Allowance { limits, over: OverLimit::default() });
        Entry { allowance: Some(allowance), ..open::tests::entry("shared-1", Vec::new()) }
    }

    #[tokio::test]
    async fn refusals_are_counted_each_and_told_once_in_a_while() {
        let (book, counted) = (Arc::new(LeaseBook::default()), Arc::new(Mutex::new(Usage::default())));
        let sum = Arc::clone(&counted);
        let add = move |lines: Vec<Metered>| lines.iter().for_each(|line| sum.lock().unwrap().add(&line.usage));
        let (requests, entry) = (Requests::new(Arc::clone(&book), Box::new(add)), entry());
        let hear = async {
            let full = Answer { granted: 0, used: 5, frees_in: Some(60_000) };
            let asks = requests.asks();
            assert_eq!((asks.len(), asks[0].meter), (1, Meter::Requests));
            let answers = asks.iter().map(|ask| (ask.lease, ask.ask.want, Some(full))).collect();
            requests.leased(&Leased { sent: Instant::now().into_std(), share: Some(0), notices: false, answers });
        };
        let (first, ()) = tokio::join!(requests.admit(&entry), hear);
        for refused in [first, requests.admit(&entry).await, requests.admit(&entry).await] {
            assert!(matches!(refused, Err(Refused::Over { limit: 5, .. })), "{refused:?}");
        }
        assert_eq!(counted.lock().unwrap().rejected_requests, 3);
        let told: Vec<&str> = book.take_news().iter().map(|news| news.reason).collect();
        assert_eq!(told, ["OverCeiling"]);
    }
}
