//! The server's half, towards clients.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{SCRAM, SCRAM_PLUS, ScramError, attribute, bounded, checked_nonce, equal, masked};
use crate::tenancy::scram::{ITERATIONS, hash, sign};
use crate::tenancy::{ScramKeys, Verifier};

/// Before anything came from the client.
pub struct ScramServer {
    verifier: Verifier,
    nonce: String,
    offered: Option<Vec<u8>>,
}

/// Has sent the salt; the client's proof comes next.
pub struct AwaitingProof {
    verifier: Verifier,
    /// `c=`: what the client must have bound itself to, header included.
    binding: Vec<u8>,
    nonce: String,
    /// The first two messages as they are signed, with the comma after each.
    signed: String,
}

impl ScramServer {
    /// `nonce`: [`super::NONCE_CHARS`] of base64, fresh. `offered`: the hash of our certificate ([`super::end_point`])
    /// where SCRAM-SHA-256-PLUS was among the mechanisms offered.
    pub fn new(verifier: Verifier, nonce: String, offered: Option<Vec<u8>>) -> ScramServer {
        ScramServer { verifier, nonce, offered }
    }

    /// Takes `client-first-message` under the mechanism the client chose; yields `server-first-message`. The user name in
    /// it is ignored, as Postgres does: that of the startup message counts.
    pub fn first(self, mechanism: &str, client_first: &[u8]) -> Result<(Vec<u8>, AwaitingProof), ScramError> {
        let text = bounded(client_first)?;
        let plus = match mechanism {
            SCRAM => false,
            SCRAM_PLUS if self.offered.is_some() => true,
            _ => return Err(ScramError::Unsupported("this mechanism")),
        };
        let (flag, rest) = text.split_once(',').ok_or(ScramError::Malformed("no binding flag"))?;
        match (flag, plus) {
            ("n", false) | ("p=tls-server-end-point", true) => {}
            ("y", false) if self.offered.is_none() => {}
            ("y", false) => return Err(ScramError::Downgrade),
            ("n" | "y", true) => return Err(ScramError::Malformed("a mechanism that binds, without binding")),
            _ if flag.starts_with("p=") => return Err(ScramError::Unsupported("this channel binding")),
            _ => return Err(ScramError::Malformed("binding flag")),
        }
        let (identity, bare) = rest.split_once(',').ok_or(ScramError::Malformed("no user"))?;
        if !identity.is_empty() {
            return Err(ScramError::Unsupported("an authorization identity"));
        }
        if bare.starts_with("m=") {
            return Err(ScramError::Unsupported("an extension"));
        }
        let (_, after_user) = attribute(bare, "n", "no user")?;
        let (theirs, _) = attribute(after_user, "r", "no nonce")?;
        let nonce = format!("{}{}", checked_nonce(theirs)?, self.nonce);

        let mut binding = format!("{flag},,").into_bytes();
        if plus {
            binding.extend(self.offered.unwrap_or_default());
        }
        let (salt, iterations) = (STANDARD.encode(&self.verifier.salt), self.verifier.iterations);
        let answer = format!("r={nonce},s={salt},i={iterations}");
        let signed = format!("{bare},{answer},");
        Ok((answer.into_bytes(), AwaitingProof { verifier: self.verifier, binding, nonce, signed }))
    }
}

impl AwaitingProof {
    /// Takes `client-final-message`; yields `server-final-message`, and the keys that log in as this role elsewhere: the
    /// client key comes out of the proof.
    pub fn last(self, client_final: &[u8]) -> Result<(Vec<u8>, ScramKeys), ScramError> {
        let text = bounded(client_final)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(ScramError::Malformed("no proof"))?;
        let (binding, rest) = attribute(without_proof, "c", "no channel binding")?;
        let (nonce, _) = attribute(rest, "r", "no nonce")?;
        let binding = STANDARD.decode(binding).map_err(|_| ScramError::Malformed("channel binding"))?;
        if !equal(&binding, &self.binding) {
            return Err(ScramError::Binding);
        }
        if !equal(nonce.as_bytes(), self.nonce.as_bytes()) {
            return Err(ScramError::Malformed("nonce"));
        }
        let proof = STANDARD.decode(proof).ok().and_then(|proof| <[u8; 32]>::try_from(proof).ok());
        let proof = proof.ok_or(ScramError::Malformed("proof"))?;

        let message = format!("{}{without_proof}", self.signed);
        let client_key = masked(&proof, &sign(&self.verifier.stored_key, message.as_bytes()));
        if !equal(&hash(&client_key), &self.verifier.stored_key) {
            return Err(ScramError::Wrong);
        }
        let server_key = self.verifier.server_key;
        let signature = STANDARD.encode(sign(&server_key, message.as_bytes()));
        Ok((format!("v={signature}").into_bytes(), ScramKeys { client_key, server_key }))
    }
}

/// The salt shown for a name under this router's `secret`: 16 bytes, the same at every try, known or not.
pub fn stable_salt(secret: &[u8; 32], name: &str) -> [u8; 16] {
    let tag = sign(secret, format!("salt/{name}").as_bytes());
    std::array::from_fn(|at| tag[at])
}

/// For a name nobody has: looks like any verifier and no proof fits it. The exchange with it costs what a real one does.
pub fn mock_verifier(secret: &[u8; 32], name: &str) -> Verifier {
    let key = sign(secret, format!("mock/{name}").as_bytes());
    Verifier { iterations: ITERATIONS, salt: stable_salt(secret, name).to_vec(), stored_key: key, server_key: key }
}
