//! Whether an instance's tenants are in each other's way. Pure.

use std::time::{Duration, Instant};

/// A tenant that has begun nothing for so long is in nobody's way.
const LATELY: Duration = Duration::from_secs(1);

/// The two tenants of one instance that did something last, by their keys.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    last: Option<(usize, Instant)>,
    /// Another one than `last`.
    before: Option<(usize, Instant)>,
}

impl Crowd {
    pub fn note(&mut self, tenant: usize, now: Instant) {
        if self.last.is_some_and(|(last, _)| last != tenant) {
            self.before = self.last;
        }
        self.last = Some((tenant, now));
    }

    /// Another tenant than this one was at it of late.
    pub fn others(&self, tenant: usize, now: Instant) -> bool {
        [self.last, self.before]
            .into_iter()
            .flatten()
            .any(|(other, at)| other != tenant && now.saturating_duration_since(at) < LATELY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alone_is_who_has_seen_nobody_else_for_a_second() {
        let mut crowd = Crowd::default();
        #[expect(clippy::disallowed_methods, reason = "any moment will do")]
        let begun = Instant::now();
        let at = |millis| begun + Duration::from_millis(millis);
        assert!(!crowd.others(1, at(0)));
        crowd.note(1, at(0));
        crowd.note(1, at(5));
        assert!(!crowd.others(1, at(10)) && crowd.others(2, at(10)));
        crowd.note(2, at(20));
        crowd.note(1, at(30));
        crowd.note(1, at(900));
        assert!(crowd.others(1, at(1_000)), "2 was here 980 ms ago");
        assert!(!crowd.others(1, at(1_020)));
        crowd.note(3, at(1_500));
        assert!(crowd.others(1, at(1_600)) && crowd.others(3, at(1_600)));
    }
}
