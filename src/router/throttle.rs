//! How long a wrong login waits for its answer. Pure: time is an argument.
//!
//! Only wrong answers wait: a right password is never kept out, whoever else is guessing and from wherever. Behind a proxy all
//! clients share one address, so that anything stricter would lock a tenant out by one stranger.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::time::Duration;

/// About 32 bytes each.
const ENTRIES_MAX: usize = 65_536;
const DELAY_FIRST: Duration = Duration::from_millis(100);
const DELAY_MAX: Duration = Duration::from_secs(5);
/// Wrong logins that cost nothing: of one role by typing, of one network by many people.
const FREE_OF_ROLE: u32 = 3;
const FREE_OF_NETWORK: u32 = 20;
/// After this long half of them are forgotten.
const HALF_LIFE: Duration = Duration::from_secs(60);

/// Counts by role and by network. Bounded: of the two halves the older one is dropped when the younger one is full.
#[derive(Debug, Default)]
pub struct Throttle {
    hasher: RandomState,
    young: HashMap<u64, Wrong>,
    old: HashMap<u64, Wrong>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Wrong {
    count: u32,
    /// Since any fixed moment.
    at: Duration,
}

impl Throttle {
    /// Counts one more, and says how long its answer waits. `now`: since any moment, always the same one.
    pub fn wrong(&mut self, now: Duration, tenant: &str, role: &str, source: IpAddr) -> Duration {
        let of_role = self.hasher.hash_one((tenant, role));
        let role = delay(self.count(now, of_role), FREE_OF_ROLE);
        if source.is_loopback() {
            return role;
        }
        let of_network = self.hasher.hash_one(network(source));
        role.max(delay(self.count(now, of_network), FREE_OF_NETWORK))
    }

    fn count(&mut self, now: Duration, key: u64) -> u32 {
        let before = self.young.remove(&key).or_else(|| self.old.remove(&key)).unwrap_or_default();
        let halvings = now.saturating_sub(before.at).as_secs() / HALF_LIFE.as_secs();
        let left = u32::try_from(halvings).ok().and_then(|halvings| before.count.checked_shr(halvings)).unwrap_or(0);
        if self.young.len() >= ENTRIES_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        let count = left.saturating_add(1);
        self.young.insert(key, Wrong { count, at: now });
        count
    }
}

fn delay(count: u32, free: u32) -> Duration {
    match count.checked_sub(free + 1) {
        None => Duration::ZERO,
        Some(doublings) => DELAY_FIRST.saturating_mul(1 << doublings.min(16)).min(DELAY_MAX),
    }
}

/// /24 or /64: what one person has.
fn network(source: IpAddr) -> [u8; 8] {
    match source.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            [4, a, b, c, 0, 0, 0, 0]
        }
        IpAddr::V6(address) => std::array::from_fn(|at| address.octets()[at]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    const NOW: Duration = Duration::from_secs(1000);

    #[test]
    fn row_33_the_delay_grows_to_a_bound_and_is_forgotten() {
        let mut throttle = Throttle::default();
        let mut wrong = |now| throttle.wrong(now, "acme", "acme", ip("127.0.0.1")).as_millis();
        let delays: Vec<_> = (0..12).map(|_| wrong(NOW)).collect();
        assert_eq!(delays, [0, 0, 0, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
        assert_eq!(wrong(NOW + HALF_LIFE), 800, "half of twelve, and one");
        assert_eq!(wrong(NOW + HALF_LIFE * 100), 0);
        assert_eq!(wrong(Duration::ZERO), 0, "a clock that jumped back");
    }

    #[test]
    fn row_33_a_network_is_one_source_for_all_tenants_and_others_are_not_touched() {
        let mut throttle = Throttle::default();
        for (count, last) in (0..100).enumerate() {
            let source = ip(&format!("192.0.2.{last}"));
            let delay = throttle.wrong(NOW, &format!("tenant-{count}"), "x", source);
            assert_eq!(delay.is_zero(), count < FREE_OF_NETWORK as usize, "{count}");
        }
        assert_eq!(throttle.wrong(NOW, "acme", "acme", ip("198.51.100.1")), Duration::ZERO);
        assert_eq!(network(ip("2001:db8::1")), network(ip("2001:db8::ffff:1")));
        assert_ne!(network(ip("2001:db8::1")), network(ip("2001:db8:0:1::1")));
        assert_eq!(network(ip("::ffff:192.0.2.1")), network(ip("192.0.2.9")));
    }

    /// As behind a proxy that does not say whose connection it is.
    #[test]
    fn row_145_from_one_address_nobody_locks_others_out() {
        let mut throttle = Throttle::default();
        for proxy in ["127.0.0.1", "10.1.2.3"] {
            for _ in 0..1000 {
                assert!(throttle.wrong(NOW, "acme", "acme", ip(proxy)) <= DELAY_MAX, "delayed, and never refused");
            }
        }
        // The address counts only where it can be somebody's own, and even there the wait is bounded.
        assert_eq!(throttle.wrong(NOW, "globex", "globex", ip("127.0.0.1")), Duration::ZERO);
        assert_eq!(throttle.wrong(NOW, "globex", "globex", ip("10.1.2.3")), DELAY_MAX);
    }

    #[test]
    fn a_million_names_take_no_more_room_than_the_bound() {
        let mut throttle = Throttle::default();
        for name in 0..1_000_000_u32 {
            throttle.wrong(NOW, "", &name.to_string(), ip("127.0.0.1"));
        }
        assert!(throttle.young.len() + throttle.old.len() <= ENTRIES_MAX);
    }
}
