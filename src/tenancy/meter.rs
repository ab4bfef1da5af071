//! What is counted of a tenant, as whole numbers, and the minutes it is counted by. Every counter only grows; what would
//! pass the largest number stays there.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::quantity::Millis;

/// One counter a line: its name is that of the column, the JSON key and the head of the CSV.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters of one tenant, over a minute or any other time.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Usage {
            $($(#[$doc])* #[serde(skip_serializing_if = "is_zero")] pub $name: u64,)*
        }

        impl Usage {
            pub const NAMES: [&'static str; Usage::COUNT] = [$(stringify!($name)),*];
            pub const COUNT: usize = [$(stringify!($name)),*].len();

            /// In the order of [`Usage::NAMES`].
            pub fn values(&self) -> [u64; Usage::COUNT] {
                [$(self.$name),*]
            }

            pub fn from_values([$($name),*]: [u64; Usage::COUNT]) -> Usage {
                Usage { $($name),* }
            }

            pub fn add(&mut self, other: &Usage) {
                $(self.$name = self.$name.saturating_add(other.$name);)*
            }

            /// What has been counted since `earlier`, an older state of the same counters.
            pub fn since(&self, earlier: &Usage) -> Usage {
                Usage { $($name: self.$name.saturating_sub(earlier.$name)),* }
            }
        }
    };
}

counters! {
    /// Sessions admitted.
    sessions,
    /// Query, Execute and FunctionCall messages that went to a server.
    queries,
    /// Commands that were completed, by their tags: SELECT, FETCH, COPY to the client.
    reads,
    /// INSERT, UPDATE, DELETE, MERGE, TRUNCATE, COPY from the client.
    writes,
    /// CREATE, ALTER, DROP, GRANT, COMMENT and their like.
    ddl,
    /// All others: BEGIN, SET, EXPLAIN, VACUUM, CALL, …
    other,
    /// As the tags tell them: read or written.
    rows,
    /// Ended, whether committed or rolled back.
    transactions,
    /// From and to clients after their login, before encryption.
    bytes_in,
    bytes_out,
    /// From the last byte of a request to its last answer, in microseconds; of parallel requests the sum.
    server_micros,
    /// Server connections held, also at rest in the pool, in milliseconds.
    connection_ms,
    /// Times a client waited for a server connection, and how long, in microseconds.
    waits,
    wait_micros,
    /// Errors of the server's, by class of their SQLSTATE. The statement is wrong: 0A, 22, 26, 34, 42 and the like.
    errors_statement,
    /// A constraint was violated: 23, 44.
    errors_constraint,
    /// The transaction could not go on: 25, 2D, 40, 55.
    errors_transaction,
    /// Too much was asked for, or somebody ended it: 53, 54, 57.
    errors_resources,
    errors_other,
    /// Refused by the router, by ceiling.
    rejected_connections,
    rejected_server_connections,
    rejected_queries,
    rejected_egress,
    rejected_storage,
    rejected_statement_time,
    rejected_requests,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// What a tier limits, where the router refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ceiling {
    Connections,
    ServerConnections,
    QueriesPerMinute,
    EgressPerMonth,
    Storage,
    StatementTimeout,
    RequestsPerMinute,
}

impl Usage {
    pub fn is_zero(&self) -> bool {
        *self == Usage::default()
    }

    /// The router has refused something because of this ceiling.
    pub fn rejected(&mut self, ceiling: Ceiling) {
        let count = match ceiling {
            Ceiling::Connections => &mut self.rejected_connections,
            Ceiling::ServerConnections => &mut self.rejected_server_connections,
            Ceiling::QueriesPerMinute => &mut self.rejected_queries,
            Ceiling::EgressPerMonth => &mut self.rejected_egress,
            Ceiling::Storage => &mut self.rejected_storage,
            Ceiling::StatementTimeout => &mut self.rejected_statement_time,
            Ceiling::RequestsPerMinute => &mut self.rejected_requests,
        };
        *count = count.saturating_add(1);
    }

    /// Of all classes.
    pub fn errors(&self) -> u64 {
        let classes = [
            self.errors_statement,
            self.errors_constraint,
            self.errors_transaction,
            self.errors_resources,
            self.errors_other,
        ];
        classes.into_iter().fold(0, u64::saturating_add)
    }

    pub fn rejections(&self) -> u64 {
        let ceilings = [
            self.rejected_connections,
            self.rejected_server_connections,
            self.rejected_queries,
            self.rejected_egress,
            self.rejected_storage,
            self.rejected_statement_time,
            self.rejected_requests,
        ];
        ceilings.into_iter().fold(0, u64::saturating_add)
    }
}

/// A minute of the wall clock, in minutes since 1970 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Minute(pub i64);

impl Minute {
    pub fn of_unix_ms(ms: i64) -> Minute {
        Minute(ms.div_euclid(60_000))
    }

    pub fn unix_seconds(self) -> i64 {
        self.0.saturating_mul(60)
    }

    /// The first minute of the interval of `minutes` that this one is in.
    pub fn coarse(self, minutes: i64) -> Minute {
        Minute(self.0 - self.0.rem_euclid(minutes.max(1)))
    }
}

/// How far back usage is looked at, and what is summed up, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageSpan {
    pub since: u64,
    pub step: u64,
}

impl UsageSpan {
    /// As people write times: `24h`, `5m`. `since` is 1m to 400d; a step a part of an hour from 1m on, or whole hours, and
    /// there are 10,000 of them at most.
    pub fn parse(since: &str, step: Option<&str>) -> Result<UsageSpan, String> {
        let seconds = |text: &str| match Millis::parse(text) {
            Ok(time) => Ok(time.0 / 1000),
            Err(error) => Err(format!("`{text}` {error}")),
        };
        let since = match seconds(since)? {
            seconds @ 60..=34_560_000 => seconds,
            _ => return Err(format!("`{since}` is not between 1m and 400d")),
        };
        let step = match step.map(seconds).transpose()? {
            None => usage_step(since),
            Some(step) if step >= 60 && (step % 3600 == 0 || 3600 % step == 0) => step,
            Some(_) => return Err("a step is a part of an hour from 1m on, or whole hours".to_owned()),
        };
        if since / step > 10_000 {
            return Err("these are more than 10,000 steps; take longer ones".to_owned());
        }
        Ok(UsageSpan { since, step })
    }
}

/// Seconds that are summed up where a time of `since` seconds is looked at: a screen of lines.
fn usage_step(since: u64) -> u64 {
    match since {
        0..=7_200 => 300,
        7_201..=172_800 => 3_600,
        172_801..=8_640_000 => 86_400,
        _ => 604_800,
    }
}

/// Counted of one tenant on one instance, in (a part of) one minute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metered {
    pub minute: Minute,
    pub tenant: Arc<str>,
    pub instance: Arc<str>,
    pub usage: Usage,
}

#[cfg(test)]
mod tests {
    use proptest::array::uniform;
    use proptest::prelude::*;

    use super::*;

    fn any_usage() -> impl Strategy<Value = Usage> {
        let count = prop_oneof![Just(0), 0..1000u64, any::<u64>()];
        uniform::<_, { Usage::COUNT }>(count).prop_map(Usage::from_values)
    }

    fn sum(parts: &[Usage]) -> Usage {
        parts.iter().fold(Usage::default(), |mut sum, part| {
            sum.add(part);
            sum
        })
    }

    proptest! {
        #[test]
        fn in_which_order_counts_are_added_makes_no_difference(a in any_usage(), b in any_usage(), c in any_usage()) {
            prop_assert_eq!(sum(&[a, b, c]), sum(&[c, a, b]));
            prop_assert_eq!(sum(&[sum(&[a, b]), c]), sum(&[a, sum(&[b, c])]));
            prop_assert_eq!(sum(&[a, Usage::default()]), a);
        }

        #[test]
        fn what_was_added_is_what_is_new_and_nothing_ever_wraps(a in any_usage(), b in any_usage()) {
            let both = sum(&[a, b]);
            for ((both, a), b) in both.values().into_iter().zip(a.values()).zip(b.values()) {
                prop_assert_eq!(both, a.saturating_add(b));
            }
            let fits = a.values().iter().zip(b.values()).all(|(a, b)| a.checked_add(b).is_some());
            prop_assert!(!fits || both.since(&a) == b);
            prop_assert_eq!(a.since(&both), Usage::default());
        }

        #[test]
        fn a_coarse_minute_begins_the_interval_and_stays_in_the_coarser_ones(minute in -3_000_000..60_000_000i64) {
            let minute = Minute(minute);
            for width in [1, 5, 15, 60, 1440] {
                let coarse = minute.coarse(width);
                prop_assert!((coarse.0..coarse.0 + width).contains(&minute.0));
                prop_assert_eq!(coarse.coarse(1440), minute.coarse(1440));
            }
            prop_assert_eq!(Minute::of_unix_ms(minute.unix_seconds() * 1000 + 59_999), minute);
            prop_assert_eq!(Minute::of_unix_ms(minute.unix_seconds() * 1000 - 1), Minute(minute.0 - 1));
        }
    }

    #[test]
    fn spans_are_bounded_and_steps_are_parts_of_an_hour_or_whole_hours() {
        let span = |since, step| UsageSpan::parse(since, step).map(|span| (span.since, span.step)).ok();
        assert_eq!(span("24h", None), Some((86_400, 3600)));
        assert_eq!(span("1h", None), Some((3600, 300)));
        assert_eq!(span("90d", None), Some((7_776_000, 86_400)));
        assert_eq!(span("7d", Some("1m")), None, "10,080 steps");
        for (step, wanted) in
            [("1m", true), ("5m", true), ("7d", true), ("30s", false), ("7m", false), ("90m", false)]
        {
            assert_eq!(span("2h", Some(step)).is_some(), wanted, "{step}");
        }
        for bad in ["", "30s", "500d", "x", "0s"] {
            assert_eq!(span(bad, None), None, "{bad}");
        }
    }

    #[test]
    fn each_ceiling_has_a_counter_of_its_own() {
        let all = [
            Ceiling::Connections,
            Ceiling::ServerConnections,
            Ceiling::QueriesPerMinute,
            Ceiling::EgressPerMonth,
            Ceiling::Storage,
            Ceiling::StatementTimeout,
            Ceiling::RequestsPerMinute,
        ];
        let mut usage = Usage::default();
        all.into_iter().for_each(|ceiling| usage.rejected(ceiling));
        assert_eq!(usage.rejections(), 7);
        assert_eq!(usage.values().into_iter().filter(|&count| count == 1).count(), 7);
        assert!(!usage.is_zero() && Usage::default().is_zero());
    }
}
