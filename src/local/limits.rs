//! Railway's request budget: per hour and per second, by plan; always on.

use std::collections::VecDeque;

use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};

use super::world::Plan;

/// The running hour begins with its first request. The last second is a sliding one, bounded by its own limit.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Budget {
    hour_began: Option<DateTime<Utc>>,
    spent: u32,
    #[serde(skip)]
    last_second: VecDeque<DateTime<Utc>>,
}

/// What the headers of an answer say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    pub limit: u32,
    pub remaining: u32,
    pub resets_at: DateTime<Utc>,
    /// Refused; try again then.
    pub retry_after_s: Option<u64>,
}

impl Budget {
    /// Counts a request, unless it is refused.
    pub fn spend(&mut self, plan: Plan, now: DateTime<Utc>) -> Spent {
        let allowance = plan.allowance();
        if self.hour_began.is_none_or(|began| now >= began + Duration::hours(1)) {
            (self.hour_began, self.spent) = (Some(now), 0);
        }
        while self.last_second.front().is_some_and(|at| *at <= now - Duration::seconds(1)) {
            self.last_second.pop_front();
        }
        let resets_at = self.hour_began.unwrap_or(now) + Duration::hours(1);
        let in_second = u32::try_from(self.last_second.len()).unwrap_or(u32::MAX);
        let retry_after_s = if self.spent >= allowance.requests_per_hour {
            Some(u64::try_from((resets_at - now).num_seconds() + 1).unwrap_or(1))
        } else if in_second >= allowance.requests_per_second {
            Some(1)
        } else {
            self.spent += 1;
            self.last_second.push_back(now);
            None
        };
        let remaining = allowance.requests_per_hour - self.spent;
        Spent { limit: allowance.requests_per_hour, remaining, resets_at, retry_after_s }
    }
}

impl Spent {
    /// `X-RateLimit-Reset` is not described anywhere; seconds of the Unix clock are what such headers usually hold.
    pub fn headers(&self) -> Vec<(String, String)> {
        let mut headers = vec![
            ("x-ratelimit-limit".into(), self.limit.to_string()),
            ("x-ratelimit-remaining".into(), self.remaining.to_string()),
            ("x-ratelimit-reset".into(), self.resets_at.timestamp().to_string()),
        ];
        headers.extend(self.retry_after_s.map(|seconds| ("retry-after".into(), seconds.to_string())));
        headers
    }
}
