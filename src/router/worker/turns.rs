//! Whose turn it is, of the sockets that have more to read than one turn allows. Pure.

use std::collections::{HashSet, VecDeque};

use super::state::Slot;

/// Of those sockets so many have a turn before all others are looked at again: what a short query waits for must not grow with
/// the number of long results under way.
pub(super) const TURNS_MAX: usize = 2;

/// A queue in which each is once. Were one in it twice, it would come back twice from then on, and with each event once more.
#[derive(Debug, Default)]
pub(super) struct Turns {
    queue: VecDeque<Slot>,
    members: HashSet<Slot>,
}

impl Turns {
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
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

    /// Those of one round, in the order in which they came.
    pub fn take(&mut self) -> Vec<Slot> {
        let taken: Vec<Slot> = self.queue.drain(..self.queue.len().min(TURNS_MAX)).collect();
        for slot in &taken {
            self.members.remove(slot);
        }
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
        assert_eq!(turns.take(), [long, other]);
        assert!(turns.is_empty() && !turns.awaits(long));
    }

    #[test]
    fn a_round_takes_a_few_and_nobody_is_passed_over() {
        let mut turns = Turns::default();
        (0..5).map(Slot::Server).for_each(|slot| turns.add(slot));
        let mut had = Vec::new();
        for _ in 0..5 {
            let taken = turns.take();
            assert_eq!(taken.len(), TURNS_MAX);
            had.extend(taken.iter().copied());
            // They have more.
            taken.into_iter().for_each(|slot| turns.add(slot));
        }
        for slot in (0..5).map(Slot::Server) {
            assert_eq!(had.iter().filter(|&&one| one == slot).count(), 2, "{slot:?} in {had:?}");
        }
    }
}
