//! Whose turn it is, of the sockets that have more to read than one turn allows. Pure.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use super::state::Slot;

/// Of those sockets so many have a turn before all others are looked at again: what a short query waits for must not grow with
/// the number of long results under way.
const TURNS_MAX: usize = 2;
/// Turns in a millisecond of all those that other tenants are kept waiting by. With turns of 64 KiB that is 128 MiB/s, more
/// than a client elsewhere takes; without a bound they use up both the router's thread and the database's processors.
const IN_A_CROWD_MAX: usize = 2;

/// A queue in which each is once. Were one in it twice, it would come back twice from then on, and with each event once more.
#[derive(Debug, Default)]
pub(super) struct Turns {
    queue: VecDeque<Slot>,
    members: HashSet<Slot>,
    /// The millisecond that `left` is of.
    at: u64,
    left: usize,
    /// All that were left in the last round wait for the next millisecond.
    early: bool,
}

impl Turns {
    /// How long to wait for other events before the next round; `None` where nobody has a turn.
    pub fn patience(&self) -> Option<Duration> {
        (!self.queue.is_empty()).then_some(if self.early { Duration::from_millis(1) } else { Duration::ZERO })
    }

    /// It is read when its turn comes, and not before.
    pub fn awaits(&self, slot: Slot) -> bool {
        !self.members.is_empty() && self.members.contains(&slot)
    }

    pub fn add(&mut self, slot: Slot) {
        if self.members.insert(slot) {
            self.queue.push_back(slot);
        }
    }

    /// Those of one round, in the order in which they came. `now` in ms since any moment; `in_a_crowd`: other tenants would be
    /// kept waiting.
    pub fn take(&mut self, now: u64, in_a_crowd: impl Fn(Slot) -> bool) -> Vec<Slot> {
        if now != self.at {
            (self.at, self.left) = (now, IN_A_CROWD_MAX);
        }
        let mut taken = Vec::new();
        for _ in 0..self.queue.len() {
            let Some(slot) = self.queue.pop_front() else { break };
            if taken.len() == TURNS_MAX || in_a_crowd(slot) && self.left == 0 {
                self.queue.push_back(slot);
                continue;
            }
            self.left -= usize::from(in_a_crowd(slot));
            self.members.remove(&slot);
            taken.push(slot);
        }
        self.early = taken.is_empty();
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_result_has_one_turn_however_often_it_was_heard_of() {
        let mut turns = Turns::default();
        let (long, other) = (Slot::Server(1), Slot::Client(1));
        for _ in 0..3 {
            turns.add(long);
        }
        turns.add(other);
        assert!(turns.awaits(long) && turns.awaits(other));
        assert_eq!(turns.take(1, |_| false), [long, other]);
        assert!(turns.patience().is_none() && !turns.awaits(long));
    }

    #[test]
    fn a_round_takes_a_few_and_nobody_is_passed_over() {
        let mut turns = Turns::default();
        (0..5).map(Slot::Server).for_each(|slot| turns.add(slot));
        let mut had = Vec::new();
        for _ in 0..5 {
            let taken = turns.take(1, |_| false);
            assert_eq!(taken.len(), TURNS_MAX);
            had.extend(taken.iter().copied());
            // They have more.
            taken.into_iter().for_each(|slot| turns.add(slot));
        }
        for slot in (0..5).map(Slot::Server) {
            assert_eq!(had.iter().filter(|&&one| one == slot).count(), 2, "{slot:?} in {had:?}");
        }
    }

    #[test]
    fn in_a_crowd_a_millisecond_has_so_many_turns_and_those_alone_on_their_instance_have_theirs() {
        let mut turns = Turns::default();
        let crowded = |slot| matches!(slot, Slot::Server(_));
        (0..4).map(Slot::Server).for_each(|slot| turns.add(slot));
        assert_eq!(turns.take(7, crowded), [Slot::Server(0), Slot::Server(1)]);
        turns.add(Slot::Server(0));
        assert_eq!(turns.patience(), Some(Duration::ZERO), "nobody was refused yet");
        assert!(turns.take(7, crowded).is_empty());
        assert_eq!(turns.patience(), Some(Duration::from_millis(1)));
        turns.add(Slot::Client(9));
        assert_eq!(turns.take(7, crowded), [Slot::Client(9)]);
        assert_eq!(turns.take(8, crowded), [Slot::Server(2), Slot::Server(3)]);
        assert_eq!(turns.take(9, crowded), [Slot::Server(0)]);
    }
}
