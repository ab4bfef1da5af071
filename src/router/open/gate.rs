//! Who may connect to an instance now: a few at a time while it answers, one at a time while it does not.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use super::{OpenError, brief};
use crate::tenancy::Address;

/// How long a client waits behind the one that tries, at an instance on which somebody's patience has already ended.
const HOPELESS_WAIT: Duration = Duration::from_secs(2);
/// After this long without an attempt the instance is taken to be asleep rather than broken.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);
/// Those nobody waits in go when there are this many.
const SHARES_MAX: usize = 256;

pub(super) struct Gate {
    connects: Semaphore,
    /// Of those, the most that one tenant has.
    share: usize,
    shares: Mutex<HashMap<Arc<str>, Arc<Semaphore>>>,
    probe: Semaphore,
    health: Mutex<Health>,
}

#[derive(Default)]
struct Health {
    down: Option<Down>,
    /// The endpoint that took writes last.
    writable: Option<Address>,
}

struct Down {
    since: Instant,
    last: Instant,
    detail: String,
    /// Somebody waited as long as a client may, in vain.
    hopeless: bool,
}

/// Held while one connects.
#[expect(dead_code, reason = "held, not read")]
pub(super) enum Leave<'a> {
    Among(OwnedSemaphorePermit, SemaphorePermit<'a>),
    Alone(SemaphorePermit<'a>),
}

impl Gate {
    pub fn new(in_flight: usize) -> Gate {
        Gate {
            connects: Semaphore::new(in_flight),
            share: in_flight.div_ceil(2),
            shares: Mutex::default(),
            probe: Semaphore::new(1),
            health: Mutex::default(),
        }
    }

    /// Waits for a turn, in the order asked. While the instance does not answer, those behind the one that tries learn
    /// with it that it does again.
    pub async fn enter(&self, tenant: &Arc<str>, deadline: Instant) -> Result<Leave<'_>, OpenError> {
        loop {
            let until = self.health().down.as_ref().map(|down| down.patience(deadline));
            // Whatever changed while we waited makes the other queue the right one.
            if let Some(until) = until {
                let Ok(Ok(turn)) = timeout_at(until, self.probe.acquire()).await else { return Err(self.full()) };
                if self.health().down.is_some() {
                    return Ok(Leave::Alone(turn));
                }
            } else {
                let turn = async {
                    Some((self.share(tenant).acquire_owned().await.ok()?, self.connects.acquire().await.ok()?))
                };
                let Ok(Some((share, turn))) = timeout_at(deadline, turn).await else { return Err(self.full()) };
                if self.health().down.is_none() {
                    return Ok(Leave::Among(share, turn));
                }
            }
        }
    }

    /// A database that takes logins and lets none finish (somebody holds a lock on it) takes half of the turns, not all.
    fn share(&self, tenant: &Arc<str>) -> Arc<Semaphore> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if shares.len() >= SHARES_MAX && !shares.contains_key(tenant) {
            shares.retain(|_, share| Arc::strong_count(share) > 1);
        }
        Arc::clone(shares.entry(Arc::clone(tenant)).or_insert_with(|| Arc::new(Semaphore::new(self.share))))
    }

    /// Says whether this is news.
    pub fn failed(&self, error: &OpenError) -> bool {
        let (now, mut health) = (Instant::now(), self.health());
        let kept = health.down.take();
        let news = kept.is_none();
        let hopeless = kept.as_ref().is_some_and(|down| down.is_hopeless(now));
        let since = kept.map_or(now, |down| down.since);
        health.down = Some(Down { since, last: now, detail: brief(error), hopeless });
        news
    }

    pub fn gave_up(&self) {
        if let Some(down) = &mut self.health().down {
            down.hopeless = true;
        }
    }

    /// Whatever it said, it said something. Says whether this is news.
    pub fn answered(&self) -> bool {
        self.health().down.take().is_some()
    }

    pub fn writable(&self) -> Option<Address> {
        self.health().writable.clone()
    }

    pub fn keep_to(&self, address: &Address) {
        let mut health = self.health();
        if health.writable.as_ref() != Some(address) {
            health.writable = Some(address.clone());
        }
    }

    pub fn forget(&self, address: &Address) {
        self.health().writable.take_if(|writable| writable == address);
    }

    fn full(&self) -> OpenError {
        let detail = match &self.health().down {
            Some(down) => format!("no answer for {} s; {}", down.since.elapsed().as_secs(), down.detail),
            None => "too many connections are being opened at once".to_owned(),
        };
        OpenError::Unreachable { detail }
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Down {
    fn is_hopeless(&self, now: Instant) -> bool {
        self.hopeless && now < self.last + FORGIVEN_AFTER
    }

    fn patience(&self, deadline: Instant) -> Instant {
        let now = Instant::now();
        if self.is_hopeless(now) { deadline.min(now + HOPELESS_WAIT) } else { deadline }
    }
}
