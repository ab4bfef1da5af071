//! When the next request may leave. Pure: time is an argument.

use std::time::Duration;

use tokio::time::Instant;

/// Longest pause we take a server's word for.
const PAUSE_MAX: Duration = Duration::from_secs(24 * 3600);

/// How long an edge block is waited out: it comes without a time of its own.
pub const EDGE_PAUSE: Duration = Duration::from_secs(60);

/// Why a request has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    RateLimit,
    Edge { status: u16 },
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

/// The allowance of one token: so many requests an hour by the answers' headers, so many a second by the plan.
#[derive(Debug)]
pub struct Budget {
    hour: Option<Hour>,
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
        Budget { hour: None, paused: None, per_second: 10, full_at: None }
    }

    /// Takes one request out, or says how long to wait before asking again.
    pub fn take(&mut self, now: Instant) -> Result<(), Wait> {
        if let Some((until, why)) = self.paused {
            if now < until {
                return Err(Wait { for_: until - now, why });
            }
            self.paused = None;
        }
        if self.hour.as_ref().is_some_and(|hour| now >= hour.resets_at) {
            self.hour = None;
        }
        if let Some(hour) = self.hour.as_ref().filter(|hour| hour.remaining == 0) {
            return Err(Wait { for_: hour.resets_at - now, why: Why::RateLimit });
        }
        self.take_of_second(now)?;
        if let Some(hour) = &mut self.hour {
            hour.remaining -= 1;
        }
        Ok(())
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

#[cfg(test)]
mod tests {
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
        budget.learn(start, allowance(1_000, 1, 90 * SECOND));
        assert_eq!(budget.take(start), Ok(()));
        assert_eq!(budget.take(start + SECOND), Err(Wait { for_: 89 * SECOND, why: Why::RateLimit }));
        assert_eq!(budget.take(start + 90 * SECOND), Ok(()));
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
}
