//! Whether this run still leads. The lease is looked at every two seconds on a connection of its own, whatever else the
//! run is doing; without a confirmation for seven seconds nothing more is changed. So a run that was frozen, cut off or
//! overtaken stops before its next change, and one that is only busy with Railway does not.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The time-out of a lease that only a clock could end would be 10 s; work stops well before.
pub const TRUSTED_FOR: Duration = Duration::from_secs(7);

const REGAIN_POLL: Duration = Duration::from_millis(20);

/// What a look at the lease showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    Held,
    Lost,
    /// The control database did not answer.
    Unanswered,
}

#[derive(Debug)]
pub struct Leading {
    /// When the lease was last seen to be held; `None` once it is lost.
    confirmed: Mutex<Option<Instant>>,
}

impl Leading {
    /// Right after the lease was taken.
    #[expect(clippy::new_without_default, reason = "the moment of its making matters")]
    pub fn new() -> Leading {
        Leading { confirmed: Mutex::new(Some(Instant::now())) }
    }

    pub fn holds(&self) -> bool {
        self.confirmed().is_some_and(|at| at.elapsed() < TRUSTED_FOR)
    }

    /// After something that kept every look from being made, such as a question to a person: waits for the next one.
    pub async fn regain(&self) -> bool {
        while !self.holds() && self.confirmed().is_some() {
            sleep(REGAIN_POLL).await;
        }
        self.holds()
    }

    fn confirmed(&self) -> Option<Instant> {
        *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, confirmed: Option<Instant>) {
        *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner) = confirmed;
    }

    /// Looks again and again, and never ends; cancels `stop` when the lease is lost or too long unconfirmed. To be run
    /// beside the work, and dropped with it.
    pub async fn keep(&self, stop: &CancellationToken, mut look: impl AsyncFnMut() -> Look) {
        while self.confirmed().is_some() {
            sleep(LOOK_EVERY).await;
            // What was true when the look began may have ended while its answer was on the way.
            let begun = Instant::now();
            match timeout(TRUSTED_FOR - LOOK_EVERY, look()).await.unwrap_or(Look::Unanswered) {
                Look::Held => self.set(Some(begun)),
                Look::Lost => self.set(None),
                Look::Unanswered if self.holds() => {}
                Look::Unanswered => self.set(None),
            }
        }
        stop.cancel();
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// For how long it led, in whole seconds, while `look` answered by the second since the start.
    async fn led(look: impl Fn(u64) -> Look) -> u64 {
        let (leading, stop, begun) = (Leading::new(), CancellationToken::new(), Instant::now());
        let end = async {
            stop.cancelled().await;
            assert!(!leading.holds());
        };
        tokio::select! {
            () = leading.keep(&stop, async || look(begun.elapsed().as_secs())) => {}
            () = end => {}
            () = sleep(Duration::from_secs(1000)) => {}
        }
        begun.elapsed().as_secs()
    }

    /// Property 47.
    #[tokio::test(start_paused = true)]
    async fn nobody_leads_seven_seconds_after_the_control_database_fell_silent() {
        assert_eq!(led(|_| Look::Held).await, 1000);
        for silent_from in [0, 5, 100] {
            let ended = led(|second| if second < silent_from { Look::Held } else { Look::Unanswered }).await;
            assert!(ended <= silent_from + TRUSTED_FOR.as_secs() + 1, "{ended}");
        }
        assert_eq!(led(|second| if (10..14).contains(&second) { Look::Unanswered } else { Look::Held }).await, 1000);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_never_comes_counts_as_silence() {
        let (leading, stop, begun) = (Leading::new(), CancellationToken::new(), Instant::now());
        tokio::select! {
            () = leading.keep(&stop, async || std::future::pending().await) => {}
            () = stop.cancelled() => {}
        }
        assert!(!leading.holds() && begun.elapsed() <= TRUSTED_FOR + Duration::from_millis(10));
    }

    #[tokio::test(start_paused = true)]
    async fn an_overtaken_run_hears_of_it_at_the_next_look() {
        assert_eq!(led(|second| if second < 10 { Look::Held } else { Look::Lost }).await, 10);
    }

    /// Property 44.
    #[tokio::test(start_paused = true)]
    async fn a_run_that_was_frozen_does_not_lead_when_it_wakes() {
        let leading = Leading::new();
        assert!(leading.holds());
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(!leading.holds(), "before any look");
        let stop = CancellationToken::new();
        tokio::select! {
            () = leading.keep(&stop, async || Look::Held) => {}
            leads = leading.regain() => assert!(leads, "nobody took it meanwhile"),
        }
    }

    /// Property 48.
    #[tokio::test(start_paused = true)]
    async fn a_busy_client_does_not_keep_the_lease_from_being_looked_at() {
        let (leading, stop, looks) = (Leading::new(), CancellationToken::new(), Cell::new(0));
        // As a client whose bucket is empty: one request after the other waits for its turn.
        let busy = async {
            for _ in 0..60 {
                sleep(Duration::from_secs(10)).await;
                assert!(leading.holds());
            }
        };
        let look = async || {
            looks.set(looks.get() + 1);
            Look::Held
        };
        tokio::select! {
            () = leading.keep(&stop, look) => {}
            () = busy => {}
        }
        assert!((295..=300).contains(&looks.get()), "{} looks in ten minutes", looks.get());
    }
}
