//! SCRAM-SHA-256 verifiers (RFC 5803, RFC 7677), computed on our side so that no password travels to a server.

use std::num::NonZeroU32;

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::tenancy::{Credential, Keyring, Secret};

/// Postgres' own default, `scram_iterations`.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).expect("not zero");

/// The text Postgres stores as `rolpassword`: `SCRAM-SHA-256$4096:<salt>$<stored key>:<server key>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verifier(String);

impl Verifier {
    /// The derived password under its derived salt: the same credential always has the same verifier. Costs 4,096
    /// rounds of HMAC, about half a millisecond.
    pub fn of(keys: &Keyring, credential: &Credential) -> Verifier {
        Verifier::with_salt(&keys.password(credential), &keys.salt(credential))
    }

    /// `password` must be ASCII, as derived ones are: SASLprep changes nothing in it then.
    fn with_salt(password: &Secret, salt: &[u8]) -> Verifier {
        let mut salted = [0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ITERATIONS, salt, password.expose().as_bytes(), &mut salted);
        let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
        let client_key = hmac::sign(&key, b"Client Key");
        let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
        let server_key = hmac::sign(&key, b"Server Key");
        let (salt, stored) = (STANDARD.encode(salt), STANDARD.encode(stored_key));
        Verifier(format!("SCRAM-SHA-256${ITERATIONS}:{salt}${stored}:{}", STANDARD.encode(server_key)))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exchange of RFC 7677, section 3: user `user`, password `pencil`.
    #[test]
    fn the_verifier_proves_the_exchange_of_rfc_7677() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("valid");
        let verifier = Verifier::with_salt(&Secret::new("pencil"), &salt);
        let (head, keys) = verifier.as_str().rsplit_once('$').expect("three parts");
        assert_eq!(head, "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==");
        let (stored, server) = keys.split_once(':').expect("two keys");
        let message = "n=user,r=rOprNGfwEbeRWgbNEkqO,\
            r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
            c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let sign = |key: &str| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(key).expect("base64"));
            hmac::sign(&key, message.as_bytes())
        };
        assert_eq!(STANDARD.encode(sign(server)), "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        // The proof, unmasked by the signature, is the client key, whose hash is the stored key.
        let proof = STANDARD.decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=").expect("base64");
        let client_key: Vec<u8> = proof.iter().zip(sign(stored).as_ref()).map(|(a, b)| a ^ b).collect();
        assert_eq!(STANDARD.encode(digest::digest(&digest::SHA256, &client_key)), stored);
    }
}
