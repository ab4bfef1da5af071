//! What was counted and is not known to be in the control database. Pure: no I/O, no clock.
//!
//! Counts gather in the open part. Sealing makes a batch of them that never changes again, under the writer's next number.
//! The oldest batch goes first and alone; while nobody knows what became of it, it is neither sent again nor passed: the
//! control database is asked.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::tenancy::{Metered, Minute, Usage};

/// Lines of a batch; a longer one takes too long as one transaction.
const BATCH_MAX: usize = 50_000;
/// Lines gathered, about 300 bytes each; beyond it they are gathered by coarser minutes.
const OPEN_MAX: usize = 100_000;
/// Lines of batches that wait, about 300 bytes each.
const QUEUE_MAX: usize = 200_000;
/// Minutes that are counted as one. Each is a part of the next, so hours, and at last days, stay what they were.
const GRAINS: [i64; 5] = [1, 5, 15, 60, 1440];

/// Never changed once it is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    pub writer: Uuid,
    /// 1, 2, 3, … of this writer.
    pub seq: u64,
    /// All that was counted before is in this batch or an earlier one.
    pub sealed: DateTime<Utc>,
    pub counted: Vec<Metered>,
}

/// What is to be done next about the oldest batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    Send(Arc<Batch>),
    /// Was it taken? The writer's watermark tells.
    Ask(Uuid),
}

#[derive(Debug)]
pub struct Ledger {
    writer: Uuid,
    /// Of the last batch of this writer.
    seq: u64,
    open: BTreeMap<(Minute, Arc<str>, Arc<str>), Usage>,
    grain: usize,
    /// The oldest first; those of an earlier life of this router among them.
    queue: VecDeque<Arc<Batch>>,
    /// The oldest batch was sent, or may have been.
    doubtful: bool,
}

impl Ledger {
    /// `former` are batches of an earlier life, of which nobody knows whether they were taken.
    pub fn new(writer: Uuid, former: Vec<Batch>) -> Ledger {
        let queue: VecDeque<Arc<Batch>> = former.into_iter().map(Arc::new).collect();
        Ledger { writer, seq: 0, open: BTreeMap::new(), grain: 0, doubtful: !queue.is_empty(), queue }
    }

    pub fn writer(&self) -> Uuid {
        self.writer
    }

    pub fn count(&mut self, metered: Metered) {
        let Metered { minute, tenant, instance, usage } = metered;
        let minute = minute.coarse(GRAINS[self.grain]);
        self.open.entry((minute, tenant, instance)).or_default().add(&usage);
        while self.open.len() > OPEN_MAX && self.grain + 1 < GRAINS.len() {
            self.grain += 1;
            for ((minute, tenant, instance), usage) in std::mem::take(&mut self.open) {
                let minute = minute.coarse(GRAINS[self.grain]);
                self.open.entry((minute, tenant, instance)).or_default().add(&usage);
            }
        }
    }

    /// Makes a batch of what is open, `None` where nothing is or where it must wait: without a journal that has room a
    /// second batch would be no safer than the open part.
    pub fn seal(&mut self, now: DateTime<Utc>, has_room: impl FnOnce(usize) -> bool) -> Option<Arc<Batch>> {
        let lines = self.open.len().min(BATCH_MAX);
        let waiting = self.queued();
        if lines == 0 || waiting > 0 && (waiting + lines > QUEUE_MAX || !has_room(lines)) {
            return None;
        }
        let counted = std::iter::from_fn(|| self.open.pop_first()).take(lines);
        let counted =
            counted.map(|((minute, tenant, instance), usage)| Metered { minute, tenant, instance, usage }).collect();
        if self.open.is_empty() {
            self.grain = 0;
        }
        self.seq += 1;
        let batch = Arc::new(Batch { writer: self.writer, seq: self.seq, sealed: now, counted });
        self.queue.push_back(Arc::clone(&batch));
        Some(batch)
    }

    pub fn next(&self) -> Option<Next> {
        let batch = self.queue.front()?;
        Some(if self.doubtful { Next::Ask(batch.writer) } else { Next::Send(Arc::clone(batch)) })
    }

    /// Before a batch is sent: from now on nobody knows.
    pub fn sending(&mut self) {
        self.doubtful = !self.queue.is_empty();
    }

    /// The control database said that the batch was taken.
    pub fn committed(&mut self) {
        if let Some(batch) = self.queue.pop_front() {
            // The next one of an earlier life may be in as well.
            self.doubtful = batch.writer != self.writer && !self.queue.is_empty();
        }
    }

    /// The control database's answer to [`Next::Ask`]. A watermark moves by one with each batch, so one that has reached a
    /// batch's number has passed no other way than with it. Answers false where it has lost batches that it had taken: the
    /// others are then surely not in, and are numbered anew by [`Ledger::start_over`].
    #[must_use]
    pub fn watermark(&mut self, seq: Option<u64>) -> bool {
        let Some(batch) = self.queue.front() else { return true };
        match seq {
            Some(seq) if seq >= batch.seq => self.committed(),
            Some(seq) if seq + 1 == batch.seq => self.doubtful = false,
            _ => return false,
        }
        true
    }

    /// All that waits is a new `writer`'s from now on. Only where it is certain that none of it was taken.
    pub fn start_over(&mut self, writer: Uuid) {
        self.writer = writer;
        self.seq = 0;
        self.doubtful = false;
        for batch in &mut self.queue {
            self.seq += 1;
            *batch = Arc::new(Batch { writer, seq: self.seq, ..Batch::clone(batch) });
        }
    }

    /// Number of the last batch, where all that was counted is in.
    pub fn settled(&self) -> Option<u64> {
        (self.queue.is_empty() && self.open.is_empty()).then_some(self.seq)
    }

    fn queued(&self) -> usize {
        self.queue.iter().map(|batch| batch.counted.len()).sum()
    }

    /// Lines that are not known to be in.
    pub fn lines(&self) -> usize {
        self.queued() + self.open.len()
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
