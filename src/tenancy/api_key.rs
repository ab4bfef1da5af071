//! API keys: `o7s_<id>_<random>`. What is kept of one is its SHA-256; 32 random bytes need no slow hash.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use super::id::{RoleName, TenantId};
use super::keyring::hex;
use super::secret::Secret;

pub const API_KEY_PREFIX: &str = "o7s_";

/// A key in use, as far as it must be known to recognise it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    pub id: Uuid,
    pub tenant: TenantId,
    /// As declared; `None` is the owner.
    pub role: Option<RoleName>,
    #[serde(serialize_with = "to_hex", deserialize_with = "from_hex")]
    pub hash: [u8; 32],
}

impl ApiKey {
    /// The text, which is shown once, and what is kept of it. `random` is fresh.
    pub fn make(id: Uuid, random: &[u8; 32]) -> (Secret, [u8; 32]) {
        let text = format!("{API_KEY_PREFIX}{}_{}", id.simple(), hex(random));
        let hash = sha256(&text);
        (Secret::new(text), hash)
    }

    /// The id in a key's text, right or wrong.
    pub fn id_of(text: &str) -> Option<Uuid> {
        let (id, _) = text.strip_prefix(API_KEY_PREFIX)?.split_once('_')?;
        Uuid::try_parse(id).ok()
    }

    /// Takes the same time wherever the two differ.
    pub fn is(&self, text: &str) -> bool {
        verify_slices_are_equal(&self.hash, &sha256(text)).is_ok()
    }
}

fn sha256(text: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    hash
}

fn to_hex<S: Serializer>(hash: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex(hash))
}

fn from_hex<'a, D: Deserializer<'a>>(deserializer: D) -> Result<[u8; 32], D::Error> {
    let text = String::deserialize(deserializer)?;
    let wrong = || serde::de::Error::custom("no SHA-256 in hex");
    let mut hash = [0; 32];
    if text.len() != 2 * hash.len() {
        return Err(wrong());
    }
    for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
    }
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn made(number: u8) -> (String, ApiKey) {
        let id = Uuid::from_u128(u128::from(number));
        let (text, hash) = ApiKey::make(id, &[number; 32]);
        let tenant = TenantId::parse("acme").expect("valid");
        (text.expose().to_owned(), ApiKey { id, tenant, role: None, hash })
    }

    #[test]
    fn a_key_is_known_by_all_of_its_text_and_by_nothing_else() {
        let ((text, key), (other, _)) = (made(1), made(2));
        assert_eq!(text, format!("o7s_{:032x}_{}", 1, "01".repeat(32)));
        assert_eq!((ApiKey::id_of(&text), key.is(&text)), (Some(key.id), true));
        let dashed = text.replacen(&key.id.simple().to_string(), &key.id.to_string(), 1);
        for wrong in ["", &other, &text[..text.len() - 1], &text.to_uppercase(), &format!("{text} "), &dashed] {
            assert!(!key.is(wrong), "{wrong}");
        }
    }

    #[test]
    fn what_is_kept_reads_back_and_nothing_else_does() {
        let (_, key) = made(7);
        let json = |hash: &str| format!(r#"{{"id":"{}","tenant":"acme","role":null,"hash":"{hash}"}}"#, key.id);
        assert_eq!(serde_json::from_str::<ApiKey>(&json(&hex(&key.hash))).ok(), Some(key.clone()));
        assert_eq!(serde_json::to_string(&key).expect("JSON"), json(&hex(&key.hash)));
        for bad in ["", "00", &"0x".repeat(32), &"é".repeat(32)] {
            assert!(serde_json::from_str::<ApiKey>(&json(bad)).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_or_passes(text in "(o7s_)?[0-9a-f_]{0,100}|\\PC{0,50}") {
            let _ = ApiKey::id_of(&text);
            prop_assert!(!made(1).1.is(&text));
        }
    }
}
