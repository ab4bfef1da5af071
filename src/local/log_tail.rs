//! Follows the log that a server writes beside its data folder.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use chrono::Utc;

use super::world::LogLine;

/// Read at once; the rest waits for the next look.
const READ_BYTES_MAX: u64 = 256 * 1024;

pub struct LogTail {
    path: PathBuf,
    offset: u64,
    /// The beginning of a line whose end is not written yet.
    begun: Vec<u8>,
    last: Option<LogLine>,
}

impl LogTail {
    /// From the last lines of an earlier run on, or (`fresh`) only with what comes.
    pub fn new(path: &Path, only_new: bool) -> LogTail {
        let length = std::fs::metadata(path).map_or(0, |meta| meta.len());
        let offset = if only_new { length } else { length.saturating_sub(READ_BYTES_MAX) };
        LogTail { path: path.to_owned(), offset, begun: Vec::new(), last: None }
    }

    /// What was written since the last call. A log that was set aside is followed from its beginning.
    pub fn read(&mut self) -> Vec<LogLine> {
        let mut bytes = Vec::new();
        let read = File::open(&self.path).and_then(|mut log| {
            if log.metadata()?.len() < self.offset {
                self.offset = 0;
            }
            log.seek(SeekFrom::Start(self.offset))?;
            log.take(READ_BYTES_MAX).read_to_end(&mut bytes)
        });
        // A log that is not there yet has no lines.
        self.offset += read.unwrap_or(0) as u64;
        self.begun.extend(bytes);
        let Some(end) = self.begun.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
        let whole: Vec<u8> = self.begun.drain(..=end).collect();
        let mut lines = Vec::new();
        for text in String::from_utf8_lossy(&whole).lines() {
            let line = LogLine::parse(text, self.last.as_ref(), Utc::now());
            self.last = Some(line.clone());
            lines.push(line);
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_with_their_time_and_weight_and_a_new_log_from_its_beginning() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("postgres.log");
        let mut tail = LogTail::new(&path, false);
        assert_eq!(tail.read(), Vec::new());
        std::fs::write(
            &path,
            "2026-11-24 12:00:00.250 UTC [7] ERROR:  no such\n2026-11-24 12:00:00.250 UTC [7] DETAIL:  x\nhal",
        )
        .expect("written");
        let seen: Vec<String> =
            tail.read().iter().map(|l| format!("{} {} {}", l.at.timestamp_millis(), l.severity, l.message)).collect();
        insta::assert_snapshot!(seen.join("\n"), @r"
        1795521600250 error 2026-11-24 12:00:00.250 UTC [7] ERROR:  no such
        1795521600250 error 2026-11-24 12:00:00.250 UTC [7] DETAIL:  x
        ");
        std::fs::write(&path, "2026-11-24 12:00:01.000 UTC [8] LOG:  new\n").expect("written");
        let seen = tail.read();
        assert_eq!((seen.len(), seen[0].severity), (1, "info"));
        assert_eq!(LogTail::new(&path, true).read(), Vec::new());
    }
}
