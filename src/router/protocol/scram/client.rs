//! The client's half, towards instances.

use std::num::NonZeroU32;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{MESSAGE_BYTES_MAX, SCRAM, SCRAM_PLUS, ScramError, attribute, bounded, checked_nonce, equal, masked};
use crate::tenancy::scram::{hash, sign};
use crate::tenancy::{ScramKeys, Secret};

/// About a tenth of a second of one core. Postgres' default is 4,096.
const ITERATIONS_MAX: u32 = 1_000_000;

#[derive(Debug, Clone)]
pub enum ClientSecret {
    Password(Secret),
    /// Fits only the salt it was made with, which is that of the verifier it came from.
    Keys(Arc<ScramKeys>),
}

/// What the server offers, and what there is to bind to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    pub plain: bool,
    pub plus: bool,
    /// The hash of the server's certificate ([`super::end_point`]); `None` without TLS.
    pub end_point: Option<Vec<u8>>,
}

/// Has sent `client-first-message`.
pub struct ScramClient {
    secret: ClientSecret,
    nonce: String,
    /// Flag, and the certificate's hash where it is bound to.
    binding: Vec<u8>,
}

/// What the server asked, checked and not yet answered.
pub struct Challenge {
    secret: ClientSecret,
    salt: Vec<u8>,
    iterations: NonZeroU32,
    /// `client-final-message-without-proof`.
    without_proof: String,
    /// All that is signed.
    message: String,
}

/// What the server must answer to show that it knows the password.
pub struct Confirmation {
    signature: [u8; 32],
}

impl ScramClient {
    /// The mechanism to choose, and `client-first-message`. Fails when nothing fitting is offered.
    pub fn start(
        secret: ClientSecret,
        nonce: &str,
        offer: Offer,
    ) -> Result<(&'static str, Vec<u8>, ScramClient), ScramError> {
        let (mechanism, flag, bound) = match offer {
            Offer { plus: true, end_point: Some(hash), .. } => (SCRAM_PLUS, "p=tls-server-end-point", hash),
            // `y`: so that the server notices when somebody took PLUS out of its list.
            Offer { plus: false, plain: true, end_point: Some(_) } => (SCRAM, "y", Vec::new()),
            Offer { plain: true, .. } => (SCRAM, "n", Vec::new()),
            _ => return Err(ScramError::Unsupported("what the server offers")),
        };
        let first = format!("{flag},,n=,r={nonce}").into_bytes();
        let binding = [format!("{flag},,").into_bytes(), bound].concat();
        Ok((mechanism, first, ScramClient { secret, nonce: nonce.to_owned(), binding }))
    }

    /// Takes `server-first-message`. Cheap: the work is in [`Challenge::answer`].
    pub fn challenge(self, server_first: &[u8]) -> Result<Challenge, ScramError> {
        let text = bounded(server_first)?;
        if text.starts_with("m=") {
            return Err(ScramError::Unsupported("an extension"));
        }
        let (nonce, rest) = attribute(text, "r", "no nonce")?;
        let (salt, rest) = attribute(rest, "s", "no salt")?;
        let (iterations, _) = attribute(rest, "i", "no iterations")?;
        let own = checked_nonce(nonce)?.strip_prefix(&self.nonce);
        if own.is_none_or(str::is_empty) {
            return Err(ScramError::Malformed("nonce"));
        }
        let salt = STANDARD.decode(salt).ok().filter(|salt| !salt.is_empty());
        let salt = salt.ok_or(ScramError::Malformed("salt"))?;
        let iterations: NonZeroU32 = iterations.parse().map_err(|_| ScramError::Malformed("iterations"))?;
        if iterations.get() > ITERATIONS_MAX {
            return Err(ScramError::TooCostly(iterations.get()));
        }
        let without_proof = format!("c={},r={nonce}", STANDARD.encode(&self.binding));
        let message = format!("n=,r={},{text},{without_proof}", self.nonce);
        Ok(Challenge { secret: self.secret, salt, iterations, without_proof, message })
    }
}

impl Challenge {
    /// Whether [`Self::answer`] hashes a password: work for a thread on which nobody waits.
    pub fn is_costly(&self) -> bool {
        matches!(self.secret, ClientSecret::Password(_))
    }

    /// `client-final-message`.
    pub fn answer(self) -> (Vec<u8>, Confirmation) {
        let keys = match &self.secret {
            ClientSecret::Password(password) => Arc::new(ScramKeys::of(password, &self.salt, self.iterations)),
            ClientSecret::Keys(keys) => Arc::clone(keys),
        };
        let message = self.message.as_bytes();
        let proof = masked(&keys.client_key, &sign(&hash(&keys.client_key), message));
        let answer = format!("{},p={}", self.without_proof, STANDARD.encode(proof));
        debug_assert!(answer.len() <= MESSAGE_BYTES_MAX, "nonce and hash are bounded");
        (answer.into_bytes(), Confirmation { signature: sign(&keys.server_key, message) })
    }
}

impl Confirmation {
    /// Takes `server-final-message`: only after this may anything be sent.
    pub fn check(self, server_final: &[u8]) -> Result<(), ScramError> {
        let text = bounded(server_final)?;
        if text.starts_with("e=") {
            return Err(ScramError::Wrong);
        }
        let (signature, _) = attribute(text, "v", "no signature")?;
        let signature = STANDARD.decode(signature).map_err(|_| ScramError::Malformed("signature"))?;
        if equal(&signature, &self.signature) { Ok(()) } else { Err(ScramError::Unproven) }
    }
}
