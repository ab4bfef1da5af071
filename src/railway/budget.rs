//! When the next request may leave. Pure: time is an argument.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Longest pause we take a server's word for.
const PAUSE_MAX: Duration = Duration::from_secs(24 * 3600);

/// How long an edge block is waited out: it comes without a time of its own.
pub const EDGE_PAUSE: Duration = Duration::from_secs(60);

/// Any hour; Railway counts in hours.
const HOUR: Duration = Duration::from_secs(3600);

/// What Hobby has, until an answer tells.
const LIMIT_ASSUMED: u64 = 1_000;

/// Of the hourly allowance, what one client spends at most. People and pipelines use the same token.
const CEILING_PERCENT: u64 = 50;

/// Of the hourly allowance, what is never touched, whoever spent the rest: somebody has to be able to look.
const RESERVE_PERCENT: u64 = 5;

/// Requests remembered; more in an hour is more than any plan of Railway's allows a client.
const SPENT_MAX: u64 = 25_000;

/// Why a request has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    RateLimit,
    /// Our own ceiling, or the reserve.
    Share,
    Edge {
        status: u16,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    pub for_: Duration,
    pub why: Why,
}

/// What the `X-RateLimit-*` headers of an answer said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Requests an hour.
    pub limit: Option<u64>,
    pub remaining: u64,
    pub resets_in: Duration,
}

/// The allowance of one token: so many requests an hour by the answers' headers, of which we take our share, and so many
/// a second by the plan.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    hour: Option<Hour>,
    /// When each request of the last hour left. A count by Railway's hours would allow twice the ceiling around a reset.
    spent: VecDeque<Instant>,
    paused: Option<(Instant, Why)>,
    per_second: u32,
    /// The time at which the bucket of this second is full again; see [`Budget::take`].
    full_at: Option<Instant>,
}

#[derive(Debug)]
struct Hour {
    remaining: u64,
    resets_at: Instant,
}

impl Budget {
    /// Until an answer tells the plan: 10 a second is what Hobby has, and what the edge lets strangers have.
    pub fn new() -> Budget {
        Budget {
            limit: LIMIT_ASSUMED,
            hour: None,
            spent: VecDeque::new(),
            paused: None,
            per_second: 10,
            full_at: None,
        }
    }

    /// Requests left in this hour, as the last answer told.
    pub fn remaining(&self) -> Option<u64> {
        self.hour.as_ref().map(|hour| hour.remaining)
    }

    /// Takes one request out, or says how long to wait before asking again.
    pub fn take(&mut self, now: Instant) -> Result<(), Wait> {
        if let Some((until, why)) = self.paused {
            if now < until {
                return Err(Wait { for_: until - now, why });
            }
            self.paused = None;
        }
        self.admit_of_allowance(now)?;
        self.admit_of_share(now)?;
        self.take_of_second(now)?;
        if let Some(hour) = &mut self.hour {
            hour.remaining = hour.remaining.saturating_sub(1);
        }
        self.spent.push_back(now);
        Ok(())
    }

    /// What the token has left, whoever spends it.
    fn admit_of_allowance(&mut self, now: Instant) -> Result<(), Wait> {
        if self.hour.as_ref().is_some_and(|hour| now >= hour.resets_at) {
            self.hour = None;
        }
        let Some(hour) = &self.hour else { return Ok(()) };
        let why = match hour.remaining {
            0 => Why::RateLimit,
            left if left <= percent(self.limit, RESERVE_PERCENT) => Why::Share,
            _ => return Ok(()),
        };
        Err(Wait { for_: hour.resets_at - now, why })
    }

    /// What we have spent of it within the last hour.
    fn admit_of_share(&mut self, now: Instant) -> Result<(), Wait> {
        while self.spent.front().is_some_and(|left| now >= *left + HOUR) {
            self.spent.pop_front();
        }
        let ceiling = percent(self.limit, CEILING_PERCENT).clamp(1, SPENT_MAX);
        // The ceiling may have sunk below what was spent: as many must have left the hour as are too many.
        let over = (self.spent.len() as u64 + 1).saturating_sub(ceiling);
        match usize::try_from(over).ok().and_then(|over| self.spent.get(over.checked_sub(1)?)) {
            Some(left) => Err(Wait { for_: *left + HOUR - now, why: Why::Share }),
            None => Ok(()),
        }
    }

    /// A bucket of half a second's requests, refilled at half the rate: so no second whatever sees more than the rate.
    fn take_of_second(&mut self, now: Instant) -> Result<(), Wait> {
        let half = (self.per_second / 2).max(1);
        let refill = Duration::from_secs(1) / half;
        let full_at = self.full_at.unwrap_or(now).max(now);
        let room = refill * (half - 1);
        if full_at - now > room {
            return Err(Wait { for_: full_at - now - room, why: Why::RateLimit });
        }
        self.full_at = Some(full_at + refill);
        Ok(())
    }

    /// Every answer corrects what we believe; requests of others with the same token are in it too.
    pub fn learn(&mut self, now: Instant, allowance: Allowance) {
        if let Some(limit) = allowance.limit {
            self.limit = limit;
            // The plan table: 10,000 an hour is Pro with 50 a second, 1,000 is Hobby with 10.
            self.per_second = if limit >= 10_000 { 50 } else { 10 };
        }
        let resets_at = now + allowance.resets_in.min(PAUSE_MAX);
        self.hour = Some(Hour { remaining: allowance.remaining, resets_at });
    }

    /// No request leaves before `time` has passed. A longer pause that runs already stays.
    pub fn pause(&mut self, now: Instant, time: Duration, why: Why) {
        let until = now + time.min(PAUSE_MAX);
        if self.paused.is_none_or(|(running, _)| running < until) {
            self.paused = Some((until, why));
        }
    }
}

fn percent(of: u64, percent: u64) -> u64 {
    of.saturating_mul(percent) / 100
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn allowance(limit: u64, remaining: u64, resets_in: Duration) -> Allowance {
        Allowance { limit: Some(limit), remaining, resets_in }
    }

    /// How many requests leave in each second when somebody asks every millisecond.
    fn leaving(budget: &mut Budget, start: Instant, seconds: u64) -> Vec<usize> {
        let second = |s: u64| {
            let asked = (0..1000).map(move |ms| start + SECOND * s as u32 + Duration::from_millis(ms));
            asked.filter(|now| budget.take(*now).is_ok()).count()
        };
        (0..seconds).map(second).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn no_second_sees_more_than_the_plans_rate() {
        let start = Instant::now();
        assert_eq!(leaving(&mut Budget::new(), start, 3), [9, 5, 5]);
        let mut pro = Budget::new();
        pro.learn(start, allowance(10_000, 5_000, 3600 * SECOND));
        assert_eq!(leaving(&mut pro, start, 3), [49, 25, 25]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_spent_hour_waits_for_its_end_and_no_longer() {
        let (start, mut budget) = (Instant::now(), Budget::new());
        budget.learn(start, allowance(1_000, 0, 90 * SECOND));
        assert_eq!(budget.take(start + SECOND), Err(Wait { for_: 89 * SECOND, why: Why::RateLimit }));
        assert_eq!(budget.take(start + 90 * SECOND), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_twentieth_of_a_token_is_left_to_others() {
        let (start, mut budget) = (Instant::now(), Budget::new());
        budget.learn(start, allowance(1_000, 51, 90 * SECOND));
        assert_eq!(budget.take(start), Ok(()));
        assert_eq!(budget.take(start + SECOND), Err(Wait { for_: 89 * SECOND, why: Why::Share }));
        assert_eq!(budget.take(start + 90 * SECOND), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_spends_half_of_the_hour_and_goes_on_as_its_requests_age() {
        let start = Instant::now();
        for limit in [100, 1_000] {
            let mut budget = Budget::new();
            budget.learn(start, allowance(limit, limit, 2 * HOUR));
            let at = |n: u64| start + SECOND * n as u32;
            let left = (0..limit).filter(|n| budget.take(at(*n)).is_ok()).count();
            assert_eq!(left as u64, limit / 2);
            let wait = HOUR - SECOND * (limit as u32 - 1);
            assert_eq!(budget.take(at(limit - 1)), Err(Wait { for_: wait, why: Why::Share }));
            assert_eq!(budget.take(start + HOUR), Ok(()), "the first has aged");
            assert!(budget.take(start + HOUR + SECOND / 2).is_err(), "the second has not");
            // A plan that shrank: nothing leaves before there is room under its ceiling.
            budget.learn(start, allowance(20, 20, 2 * HOUR));
            let room = at(limit / 2 - 9) + HOUR;
            assert!(budget.take(room - SECOND).is_err());
            assert_eq!(budget.take(room), Ok(()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_everything_back_and_is_never_shortened() {
        let (start, mut budget) = (Instant::now(), Budget::new());
        budget.pause(start, 30 * SECOND, Why::RateLimit);
        budget.pause(start, 5 * SECOND, Why::Edge { status: 403 });
        assert_eq!(budget.take(start + 29 * SECOND), Err(Wait { for_: SECOND, why: Why::RateLimit }));
        assert_eq!(budget.take(start + 30 * SECOND), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_absurd_pause_is_cut_to_a_day() {
        let (start, mut budget) = (Instant::now(), Budget::new());
        budget.pause(start, Duration::MAX, Why::RateLimit);
        assert_eq!(budget.take(start).err().map(|wait| wait.for_), Some(PAUSE_MAX));
    }

    #[derive(Debug, Clone)]
    enum Event {
        /// So many milliseconds later somebody wants to send.
        Ask(u64),
        /// A 429, or the edge, wants so many seconds of quiet.
        Pause(u64),
        /// An answer's headers.
        Learn(u64, u64),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            8 => (0u64..400_000).prop_map(Event::Ask),
            1 => (1u64..90).prop_map(Event::Pause),
            1 => (0u64..40, 1u64..3600).prop_map(|(remaining, resets)| Event::Learn(remaining, resets)),
        ]
    }

    proptest! {
        /// Property 53, whatever the answers say and whenever somebody asks.
        #[test]
        fn no_hour_sees_more_than_the_ceiling_and_no_pause_a_request(events in prop::collection::vec(event(), 1..200)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
            let _context = runtime.enter();
            let (mut now, mut budget, mut quiet_until, mut left) = (Instant::now(), Budget::new(), None, Vec::new());
            budget.learn(now, allowance(40, 40, HOUR));
            for event in events {
                match event {
                    Event::Ask(later) => {
                        now += Duration::from_millis(later);
                        match budget.take(now) {
                            Ok(()) => {
                                prop_assert!(quiet_until.is_none_or(|until| now >= until), "left in a pause");
                                left.push(now);
                            }
                            Err(wait) => prop_assert!(!wait.for_.is_zero(), "a wait that never ends"),
                        }
                    }
                    Event::Pause(seconds) => {
                        budget.pause(now, SECOND * seconds as u32, Why::RateLimit);
                        quiet_until = quiet_until.max(Some(now + SECOND * seconds as u32));
                    }
                    Event::Learn(remaining, resets) => {
                        budget.learn(now, allowance(40, remaining, SECOND * resets as u32));
                    }
                }
            }
            for (n, first) in left.iter().enumerate() {
                let within = left[n..].iter().filter(|at| **at < *first + HOUR).count();
                prop_assert!(within <= 20, "{within} within an hour");
            }
        }
    }
}
