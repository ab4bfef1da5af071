//! The table on disk, for a start while the control database is away. Holds no secret, and is believed only under a MAC of
//! the fleet's own key: whoever could write it could send clients anywhere.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::hmac;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::routes::{DefaultPooling, Reach, RouterSpec};
use crate::router::table::{Entry, Table};
use crate::router::tokens::ApiKeys;
use crate::tenancy::ApiKey;

/// Raised with every change of what is written.
const FORMAT: u32 = 3;
/// Behind the text.
const MAC_BYTES: usize = 32;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    format: u32,
    pub reach: Reach,
    /// When the control database last said that nothing is newer.
    pub seen: DateTime<Utc>,
    /// The number this router held.
    pub replica: u8,
    pub spec: RouterSpec,
    pub pooling: DefaultPooling,
    version: u64,
    entries: Vec<Arc<Entry>>,
    keys: Vec<ApiKey>,
}

#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("it is damaged, or was written under another master key")]
    Foreign,
    #[error("another version of o7s wrote it")]
    Format,
    #[error("it holds the addresses of a router elsewhere")]
    Reach,
}

impl Snapshot {
    pub fn new(
        (table, keys): (&Table, &ApiKeys),
        (spec, pooling): (&RouterSpec, DefaultPooling),
        reach: Reach,
        seen: DateTime<Utc>,
        replica: u8,
    ) -> Snapshot {
        let entries = table.entries.values().cloned().collect();
        Snapshot {
            format: FORMAT,
            reach,
            seen,
            replica,
            spec: spec.clone(),
            pooling,
            version: table.version,
            entries,
            keys: keys.values().cloned().collect(),
        }
    }

    pub fn keys(&self) -> ApiKeys {
        self.keys.iter().map(|key| (key.id, key.clone())).collect()
    }

    pub fn table(self) -> Table {
        let entries = self.entries.into_iter().map(|entry| (Arc::clone(&entry.tenant), entry)).collect();
        Table { version: self.version, entries, wildcard: None }
    }

    /// Replaces the file whole; it is readable for its owner only.
    pub fn write(&self, path: &Path, key: &[u8; 32]) -> io::Result<()> {
        let beside = path.with_extension("new");
        let _ = fs::remove_file(&beside);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        let mut sealed = Sealed { file: BufWriter::new(file), mac: context(key) };
        serde_json::to_writer(&mut sealed, self)?;
        let Sealed { mut file, mac } = sealed;
        file.write_all(mac.sign().as_ref())?;
        let file: File = file.into_inner()?;
        file.sync_all()?;
        fs::rename(&beside, path)
    }

    /// `None` where there is no file.
    pub fn read(path: &Path, key: &[u8; 32], reach: Reach) -> Result<Option<Snapshot>, Unusable> {
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes?,
        };
        let (text, mac) = bytes.split_at(bytes.len().checked_sub(MAC_BYTES).ok_or(Unusable::Foreign)?);
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        hmac::verify(&key, text, mac).map_err(|_| Unusable::Foreign)?;
        let snapshot: Snapshot = serde_json::from_slice(text).map_err(|_| Unusable::Format)?;
        match snapshot {
            Snapshot { format, .. } if format != FORMAT => Err(Unusable::Format),
            Snapshot { reach: have, .. } if have != reach => Err(Unusable::Reach),
            snapshot => Ok(Some(snapshot)),
        }
    }
}

fn context(key: &[u8; 32]) -> hmac::Context {
    hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key))
}

/// Computes the MAC of what is written through it.
struct Sealed {
    file: BufWriter<File>,
    mac: hmac::Context,
}

impl Write for Sealed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.mac.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
