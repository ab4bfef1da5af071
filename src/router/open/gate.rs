//! Who may connect to an instance now: a few at a time while it answers, one at a time while it does not.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use super::{OpenError, brief};
use crate::tenancy::Address;

/// How long a client waits behind the one that tries, at an instance on which somebody's patience has already ended.
const HOPELESS_WAIT: Duration = Duration::from_secs(2);
/// After this long without an attempt the instance is taken to be asleep rather than broken.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);

pub(super) struct Gate {
    connects: Semaphore,
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
pub(super) enum Leave<'a> {
    Among(#[expect(dead_code, reason = "held, not read")] SemaphorePermit<'a>),
    Alone(#[expect(dead_code, reason = "held, not read")] SemaphorePermit<'a>),
}

impl Gate {
    pub fn new(in_flight: usize) -> Gate {
        Gate { connects: Semaphore::new(in_flight), probe: Semaphore::new(1), health: Mutex::default() }
    }

    /// Waits for a turn, in the order asked. While the instance does not answer, those behind the one that tries learn
    /// with it that it does again.
    pub async fn enter(&self, deadline: Instant) -> Result<Leave<'_>, OpenError> {
        loop {
            let (queue, until) = match &self.health().down {
                None => (&self.connects, deadline),
                Some(down) => (&self.probe, down.patience(deadline)),
            };
            let Ok(Ok(permit)) = timeout_at(until, queue.acquire()).await else { return Err(self.full()) };
            match (self.health().down.is_some(), std::ptr::eq(queue, &self.probe)) {
                (false, false) => return Ok(Leave::Among(permit)),
                (true, true) => return Ok(Leave::Alone(permit)),
                // It changed while we waited: the other queue is the right one.
                _ => {}
            }
        }
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
