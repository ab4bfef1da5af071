//! A digest without a key, for what holds no secret: specifications, manifests, plans.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::keyring::hex;

/// The first 16 bytes of a SHA-256, in hex: equal for equal bytes, on any machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Digest(String);

impl Digest {
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(hex(&digest(&SHA256, bytes).as_ref()[..16]))
    }

    /// Takes a stored digest back; not checked, because an unknown text simply equals nothing.
    pub fn from_stored(text: &str) -> Digest {
        Digest(text.to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
