//! What a worker has counted, handed over by minute: when a minute ends, when it is asked, and when the worker ends.

use std::time::{Duration, Instant};

use chrono::{DateTime, Datelike as _, Months, NaiveTime, Utc};

use super::Worker;
use super::state::Duty;
use crate::router::protocol::tally::Tally;
use crate::tenancy::{Ceiling, Metered, Minute};

/// One event for each ceiling, at most.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// Of a size that changes slowly and has no window.
const TELL_STORAGE_EVERY: Duration = Duration::from_secs(24 * 3600);

/// The minute that is being counted. The wall clock is read when one ends and when somebody asks, not for each event.
pub(super) struct Meter {
    minute: Minute,
    ends: Instant,
    /// Of tenants that moved or were forgotten within the minute.
    closed: Vec<Metered>,
}

impl Meter {
    pub fn new(now: Instant) -> Meter {
        let mut meter = Meter { minute: Minute(0), ends: now, closed: Vec::new() };
        meter.set(now);
        meter
    }

    fn set(&mut self, now: Instant) {
        let wall = Utc::now().timestamp_millis();
        self.minute = Minute::of_unix_ms(wall);
        let left = 60_000 - wall.rem_euclid(60_000);
        self.ends = now + Duration::from_millis(left.unsigned_abs());
    }

    pub fn is_due(&self, now: Instant) -> bool {
        now >= self.ends
    }
}

impl Worker {
    /// Hands over what was counted in this minute, and goes on with the one it is now.
    pub(super) fn meter(&mut self) {
        // A worker that slept over the end of its minute held its connections in the next one too.
        let until = self.now.min(self.meter.ends);
        let servers: Vec<usize> = self.halls.servers.iter().map(|(key, _)| key).collect();
        for key in servers {
            self.credit(key, until);
        }
        let tenants: Vec<usize> = self.halls.tenants.iter().map(|(key, _)| key).collect();
        for key in tenants {
            self.meter_tenant(key);
        }
        let closed = std::mem::take(&mut self.meter.closed);
        if !closed.is_empty() {
            self.outside.metered(closed);
        }
        self.meter.set(self.now);
    }

    /// Before the tenant is another instance's, or forgotten here.
    pub(super) fn meter_tenant(&mut self, key: usize) {
        let tenant = &mut self.halls.tenants[key];
        let usage = tenant.counts.since(&tenant.metered);
        if usage.is_zero() {
            return;
        }
        tenant.metered = tenant.counts;
        let (minute, instance) = (self.meter.minute, self.halls.instances[tenant.instance].name.clone());
        self.meter.closed.push(Metered { minute, tenant: tenant.entry.tenant.clone(), instance, usage });
    }

    /// Counts the time that the server connection was held, and has worked, up to `until`.
    pub(super) fn credit(&mut self, key: usize, until: Instant) {
        let server = &mut self.halls.servers[key];
        if server.duty == Duty::Gone {
            return;
        }
        let held = until.saturating_duration_since(server.credited).as_millis();
        let held = u64::try_from(held).unwrap_or(u64::MAX);
        // What is left of a millisecond counts with the next.
        server.credited += Duration::from_millis(held);
        let worked = server.working.as_mut().map_or(Duration::ZERO, |since| {
            let worked = until.saturating_duration_since(*since);
            *since += worked;
            worked
        });
        let pool = server.pool;
        let counts = &mut self.halls.tenant_of_pool(pool).counts;
        counts.connection_ms = counts.connection_ms.saturating_add(held);
        counts.server_micros = counts.server_micros.saturating_add(micros(worked));
    }

    /// Writes a client's bytes. Where the server had only a part of a request, its work begins with them.
    pub(super) fn ask_server(&mut self, key: usize, input: &[u8]) {
        self.write_server(key, input);
        let server = &mut self.halls.servers[key];
        if server.working.is_none() || server.has_a_part {
            server.working = Some(self.now);
        }
        server.has_a_part = server.back.has_a_part();
    }

    /// The server has said something.
    pub(super) fn answered(&mut self, key: usize, tally: &Tally) {
        let server = &mut self.halls.servers[key];
        let pool = server.pool;
        let worked = match server.working {
            Some(since) if !server.back.owes() => {
                server.working = None;
                self.now.saturating_duration_since(since)
            }
            _ => Duration::ZERO,
        };
        // It waits for the data of a COPY.
        server.has_a_part |= server.back.copies_in();
        let counts = &mut self.halls.tenant_of_pool(pool).counts;
        counts.server_micros = counts.server_micros.saturating_add(micros(worked));
        tally.add_to(counts);
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// How long an event is not told again. A ceiling that is near stays near as long as its window, a month's to the month's end.
pub(super) fn quiet(ceiling: Ceiling, reason: &str) -> Duration {
    quiet_at(ceiling, reason, Utc::now())
}

fn quiet_at(ceiling: Ceiling, reason: &str, now: DateTime<Utc>) -> Duration {
    let next_month = (now.date_naive() + Months::new(1)).with_day(1);
    let end = next_month.map_or(now, |day| day.and_time(NaiveTime::MIN).and_utc());
    match ceiling {
        Ceiling::EgressPerMonth if reason == "NearCeiling" => (end - now).to_std().unwrap_or(TELL_EVERY),
        Ceiling::Storage if reason == "NearCeiling" => TELL_STORAGE_EVERY,
        _ => TELL_EVERY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_comes_once_in_a_window() {
        let now = "2026-01-31T23:00:00Z".parse().expect("a time");
        let quiet = |ceiling, reason| quiet_at(ceiling, reason, now).as_secs();
        assert_eq!(quiet(Ceiling::QueriesPerMinute, "NearCeiling"), 60);
        assert_eq!(quiet(Ceiling::EgressPerMonth, "NearCeiling"), 3600);
        assert_eq!(quiet(Ceiling::Storage, "NearCeiling"), 86_400);
        // What clients are refused is told as long as they are.
        assert_eq!(quiet(Ceiling::EgressPerMonth, "OverCeiling"), 60);
        let first = quiet_at(Ceiling::EgressPerMonth, "NearCeiling", "2026-02-01T00:00:00Z".parse().expect("a time"));
        assert_eq!(first.as_secs(), 28 * 86_400);
    }
}
