//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677, RFC 5929), both halves: bytes in, bytes out. Nonces are passed in.
//!
//! Every message and every field is bounded; what is secret is compared in constant time.
//! Read: server (towards clients), client (towards instances), end_point (what a certificate is bound by).

mod client;
mod end_point;
mod server;

pub use client::{Challenge, ClientSecret, Confirmation, Offer, ScramClient};
pub use end_point::end_point;
pub use server::{AwaitingProof, ScramServer, mock_verifier, stable_salt};

pub const SCRAM: &str = "SCRAM-SHA-256";
pub const SCRAM_PLUS: &str = "SCRAM-SHA-256-PLUS";
/// Of the random text either side adds: 18 bytes in base64, as Postgres and libpq do.
pub const NONCE_CHARS: usize = 24;
/// Postgres' own bound, PG_MAX_SASL_MESSAGE_LENGTH.
const MESSAGE_BYTES_MAX: usize = 1024;
const NONCE_BYTES_MAX: usize = 256;

/// Why an exchange ended. `Wrong` alone means that the password was; the others are the peer's doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    #[error("malformed SCRAM message: {0}")]
    Malformed(&'static str),
    #[error("SCRAM with {0} is not supported")]
    Unsupported(&'static str),
    /// Somebody in between took SCRAM-SHA-256-PLUS out of what was offered.
    #[error("the client supports channel binding and was not told that it is offered")]
    Downgrade,
    /// The two ends see different certificates: somebody is in between.
    #[error("SCRAM channel binding check failed")]
    Binding,
    #[error("the password is wrong")]
    Wrong,
    /// Towards an instance: it does not know the password either, so it is not the one we look for.
    #[error("the server could not prove that it knows the password")]
    Unproven,
    #[error("the server asks for {0} rounds of hashing, which is too many")]
    TooCostly(u32),
}

/// `x=value,` at the front of `text`: the value and what follows the comma.
fn attribute<'a>(text: &'a str, name: &str, missing: &'static str) -> Result<(&'a str, &'a str), ScramError> {
    let rest =
        text.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')).ok_or(ScramError::Malformed(missing))?;
    Ok(rest.split_once(',').unwrap_or((rest, "")))
}

fn bounded(message: &[u8]) -> Result<&str, ScramError> {
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(ScramError::Malformed("too long"));
    }
    std::str::from_utf8(message).map_err(|_| ScramError::Malformed("not UTF-8"))
}

/// RFC 5802, `printable`: what a nonce may consist of.
fn checked_nonce(nonce: &str) -> Result<&str, ScramError> {
    let printable = nonce.bytes().all(|byte| matches!(byte, b'!'..=b'~') && byte != b',');
    if nonce.is_empty() || nonce.len() > NONCE_BYTES_MAX || !printable {
        return Err(ScramError::Malformed("nonce"));
    }
    Ok(nonce)
}

fn equal(a: &[u8], b: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(a, b).is_ok()
}

fn masked(key: &[u8; 32], mask: &[u8; 32]) -> [u8; 32] {
    std::array::from_fn(|at| key[at] ^ mask[at])
}

#[cfg(test)]
mod tests;
