//! Batches on disk until the control database has them, for the next life of a router that was killed.
//!
//! The file is a row of records: length, checksum, JSON. One that is torn or damaged ends what is read. Only one process at a
//! time has it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ledger::Batch;

/// Of the whole file; what comes later waits in memory.
const BYTES_MAX: u64 = 64 * 1024 * 1024;
/// A line of a batch has fewer, nearly always.
const LINE_BYTES: u64 = 400;
const CHECKSUM: usize = 16;
const HEAD: usize = 4 + CHECKSUM;
/// The control database forgets its writers after 90 days: then nobody could tell what it has.
const AGE_MAX: TimeDelta = TimeDelta::days(60);

#[derive(Debug, Serialize, Deserialize)]
enum Record {
    /// A process has begun to write.
    Begun(Uuid),
    Batch(Batch),
}

/// What an earlier life left.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Former {
    /// It has certainly ended.
    pub writer: Option<Uuid>,
    /// In their order.
    pub batches: Vec<Batch>,
}

#[derive(Debug)]
pub struct Journal {
    file: File,
    bytes: u64,
    writer: Uuid,
}

impl Journal {
    /// Beside the routes on disk.
    pub fn beside(cache: &Path) -> PathBuf {
        cache.with_extension("meters")
    }

    /// Reads what is there and goes on behind it. Fails when another process has the file.
    pub fn open(path: &Path, writer: Uuid, now: DateTime<Utc>) -> io::Result<(Journal, Former)> {
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        file.try_lock().map_err(io::Error::from)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let mut former = Former::default();
        let mut at = 0;
        while let Some((record, length)) = parse(&bytes[at..]) {
            at += length;
            match record {
                Record::Begun(writer) => former.writer = Some(writer),
                Record::Batch(batch) if batch.sealed + AGE_MAX > now => former.batches.push(batch),
                Record::Batch(batch) => {
                    tracing::warn!(sealed = %batch.sealed, "usage too old to be told apart is dropped")
                }
            }
        }
        let at = u64::try_from(at).unwrap_or(u64::MAX);
        file.set_len(at)?;
        file.seek(SeekFrom::Start(at))?;
        let mut journal = Journal { file, bytes: at, writer };
        journal.append(&Record::Begun(writer))?;
        Ok((journal, former))
    }

    pub fn has_room(&self, lines: usize) -> bool {
        let lines = u64::try_from(lines).unwrap_or(u64::MAX);
        self.bytes.saturating_add(lines.saturating_mul(LINE_BYTES)) <= BYTES_MAX
    }

    /// It is on disk when this returns.
    pub fn keep(&mut self, batch: &Batch) -> io::Result<()> {
        self.append(&Record::Batch(batch.clone()))
    }

    /// The control database has them all.
    pub fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.bytes = 0;
        self.append(&Record::Begun(self.writer))
    }

    /// Whether it holds more than who writes it.
    pub fn holds_batches(&self) -> bool {
        self.bytes > 256
    }

    fn append(&mut self, record: &Record) -> io::Result<()> {
        let mut bytes = vec![0; HEAD];
        serde_json::to_writer(&mut bytes, record)?;
        let (head, body) = bytes.split_at_mut(HEAD);
        let length = u32::try_from(body.len()).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        head[..4].copy_from_slice(&length.to_le_bytes());
        head[4..].copy_from_slice(&digest(&SHA256, body).as_ref()[..CHECKSUM]);
        let written = self.file.write_all(&bytes).and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => self.bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            // A torn record would hide those behind it.
            Err(_) => {
                self.file.set_len(self.bytes)?;
                self.file.seek(SeekFrom::Start(self.bytes))?;
            }
        }
        written
    }
}

fn parse(bytes: &[u8]) -> Option<(Record, usize)> {
    let (head, rest) = bytes.split_at_checked(HEAD)?;
    let length = u32::from_le_bytes(head[..4].try_into().ok()?) as usize;
    let body = rest.get(..length)?;
    if digest(&SHA256, body).as_ref()[..CHECKSUM] != head[4..] {
        return None;
    }
    Some((serde_json::from_slice(body).ok()?, HEAD + length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenancy::{Metered, Minute, Usage};

    const NOW: DateTime<Utc> = DateTime::UNIX_EPOCH;

    fn batch(seq: u64) -> Batch {
        let usage = Usage { reads: seq, ..Usage::default() };
        let line = Metered { minute: Minute(1), tenant: "acme".into(), instance: "shared-1".into(), usage };
        Batch { writer: Uuid::from_u128(1), seq, sealed: NOW, counted: vec![line] }
    }

    #[test]
    fn the_next_life_finds_what_was_kept_and_a_torn_end_hides_nothing_before_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = Journal::beside(&folder.path().join("routes.cache"));
        let (mut journal, former) = Journal::open(&path, Uuid::from_u128(1), NOW).expect("opened");
        assert_eq!(former, Former::default());
        assert!(!journal.holds_batches());
        (1..=3).for_each(|seq| journal.keep(&batch(seq)).expect("kept"));
        assert!(journal.holds_batches());
        assert!(Journal::open(&path, Uuid::from_u128(2), NOW).is_err(), "it is in use");
        drop(journal);
        let whole = std::fs::read(&path).expect("read");
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).expect("written");
            let (mut journal, former) = Journal::open(&path, Uuid::from_u128(2), NOW).expect("opened");
            let kept = former.batches.len() as u64;
            assert_eq!(former.batches, (1..=kept).map(batch).collect::<Vec<_>>());
            assert!(kept < 3);
            // And goes on behind it.
            journal.keep(&batch(9)).expect("kept");
            drop(journal);
            let (_, former) = Journal::open(&path, Uuid::from_u128(3), NOW).expect("opened");
            assert_eq!((former.writer, former.batches.len() as u64), (Some(Uuid::from_u128(2)), kept + 1));
        }
        let mut damaged = whole.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        std::fs::write(&path, &damaged).expect("written");
        let (mut journal, former) = Journal::open(&path, Uuid::from_u128(2), NOW).expect("opened");
        assert!(former.batches.len() < 3);
        journal.clear().expect("cleared");
        drop(journal);
        let (_, former) = Journal::open(&path, Uuid::from_u128(4), NOW).expect("opened");
        assert_eq!(former, Former { writer: Some(Uuid::from_u128(2)), batches: vec![] });
    }

    #[test]
    fn what_is_too_old_to_be_told_apart_is_not_sent_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("j");
        let (mut journal, _) = Journal::open(&path, Uuid::from_u128(1), NOW).expect("opened");
        journal.keep(&batch(1)).expect("kept");
        drop(journal);
        let (_, former) = Journal::open(&path, Uuid::from_u128(2), NOW + AGE_MAX).expect("opened");
        assert_eq!(former.batches, []);
    }
}
