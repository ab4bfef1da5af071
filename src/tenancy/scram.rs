//! What SCRAM-SHA-256 makes of a password (RFC 5802, RFC 5803, RFC 7677), computed on our side so that no password travels.

use std::fmt;
use std::num::NonZeroU32;

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::keyring::{Credential, Keyring};
use super::secret::Secret;

/// Postgres' own default, `scram_iterations`.
pub const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).expect("not zero");
/// Postgres makes salts of 16 bytes. The text a client is sent must stay under 1,024 in any case.
const SALT_BYTES_MAX: usize = 256;

/// Both keys that follow from a salted password: who has them can log in, and prove to be the server.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramKeys {
    pub client_key: [u8; 32],
    pub server_key: [u8; 32],
}

impl ScramKeys {
    /// Costs `iterations` rounds of HMAC: 4,096 take about half a millisecond.
    pub fn of(password: &Secret, salt: &[u8], iterations: NonZeroU32) -> ScramKeys {
        let prepared = prepared(password.expose());
        let mut salted = [0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, prepared.as_bytes(), &mut salted);
        ScramKeys { client_key: sign(&salted, b"Client Key"), server_key: sign(&salted, b"Server Key") }
    }
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramKeys(***)")
    }
}

/// SASLprep (RFC 4013). What it forbids is taken as it is, as Postgres does.
fn prepared(password: &str) -> std::borrow::Cow<'_, str> {
    stringprep::saslprep(password).unwrap_or(password.into())
}

/// HMAC-SHA-256.
pub fn sign(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    tag.as_ref().try_into().expect("a tag of SHA-256 has 32 bytes")
}

/// SHA-256: of a client key it is the stored key.
pub fn hash(bytes: &[u8]) -> [u8; 32] {
    digest::digest(&digest::SHA256, bytes).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// What a server keeps of a password: enough to check a proof, not enough to make one. As text it is what Postgres stores as
/// `rolpassword`: `SCRAM-SHA-256$4096:<salt>$<stored key>:<server key>`.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    pub iterations: NonZeroU32,
    pub salt: Vec<u8>,
    pub stored_key: [u8; 32],
    pub server_key: [u8; 32],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a SCRAM-SHA-256 verifier")]
pub struct NoVerifier;

impl Verifier {
    /// The derived password under its derived salt: the same credential always has the same verifier.
    pub fn of(keys: &Keyring, credential: &Credential) -> Verifier {
        Verifier::from_password(&keys.password(credential), &keys.salt(credential))
    }

    /// With Postgres' own number of iterations.
    pub fn from_password(password: &Secret, salt: &[u8]) -> Verifier {
        let keys = ScramKeys::of(password, salt, ITERATIONS);
        Verifier {
            iterations: ITERATIONS,
            salt: salt.to_vec(),
            stored_key: hash(&keys.client_key),
            server_key: keys.server_key,
        }
    }
}

impl std::str::FromStr for Verifier {
    type Err = NoVerifier;

    fn from_str(text: &str) -> Result<Verifier, NoVerifier> {
        let read = || {
            let (head, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
            let (iterations, salt) = head.split_once(':')?;
            let (stored_key, server_key) = keys.split_once(':')?;
            let salt = STANDARD.decode(salt).ok()?;
            let key = |text: &str| <[u8; 32]>::try_from(STANDARD.decode(text).ok()?).ok();
            let (stored_key, server_key) = (key(stored_key)?, key(server_key)?);
            let read = Verifier { iterations: iterations.parse().ok()?, salt, stored_key, server_key };
            (1..=SALT_BYTES_MAX).contains(&read.salt.len()).then_some(read)
        };
        read().ok_or(NoVerifier)
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verifier { iterations, salt, stored_key, server_key } = self;
        let (salt, stored, server) =
            (STANDARD.encode(salt), STANDARD.encode(stored_key), STANDARD.encode(server_key));
        write!(f, "SCRAM-SHA-256${iterations}:{salt}${stored}:{server}")
    }
}

/// The server key in it would let others play the server.
impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PENCIL: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
        WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    /// The salt of the exchange of RFC 7677, section 3, and its password; the keys are those Postgres stores for them.
    #[test]
    fn the_verifier_of_a_password_is_the_text_postgres_stores() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("valid");
        let verifier = Verifier::from_password(&Secret::new("pencil"), &salt);
        assert_eq!(verifier.to_string(), PENCIL);
        assert_eq!(PENCIL.parse(), Ok(verifier));
    }

    #[test]
    fn what_is_no_verifier_is_refused() {
        for bad in [
            "",
            "md5d41d8cd98f00b204e9800998ecf8427e",
            &PENCIL.replace("SHA-256", "SHA-1"),
            &PENCIL.replace("4096", "0"),
            &PENCIL.replace("4096", "99999999999"),
            &PENCIL.replace("W22Z", "W2!Z"),
            &PENCIL.replace("W22ZaJ0SNY7soEsUEjb6gQ==", ""),
            &PENCIL.replace("W22ZaJ0SNY7soEsUEjb6gQ==", &"AAAA".repeat(100)),
            &PENCIL.replace("4qY=", ""),
        ] {
            assert_eq!(bad.parse::<Verifier>(), Err(NoVerifier), "{bad}");
        }
        let shown = format!("{:?}", PENCIL.parse::<Verifier>().expect("good"));
        assert_eq!(shown, "Verifier(***)", "no key in a log");
    }

    /// RFC 4013: a soft hyphen is nothing, a no-break space is a space, Ⅸ is IX; what is forbidden stays as it is.
    #[test]
    fn passwords_that_mean_the_same_have_the_same_keys() {
        let keys = |password: &str| ScramKeys::of(&Secret::new(password), b"salt", ITERATIONS);
        assert_eq!(keys("I\u{ad}X"), keys("IX"));
        assert_eq!(keys("\u{2168}\u{a0}"), keys("IX "));
        assert_ne!(keys("\u{7}"), keys(""));
    }
}
