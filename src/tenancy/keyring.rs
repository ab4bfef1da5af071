//! Everything derived from `O7S_MASTER_KEY`: passwords, the fleet's uid, fingerprints. Losing the control database
//! loses none of it, and git and the routing table hold none of it.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::id::{CONTROL_SERVICE, FleetName, InstanceName, RoleName, TenantId};
use super::secret::Secret;

/// The most a manifest may ask for, so that whoever meets a password can find its generation by trying them.
pub const GENERATION_MAX: u32 = 10_000;

/// Whose password: what is derived from the master key, without the key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "of")]
pub enum Credential {
    /// The superuser `postgres` of the control database.
    Control,
    /// The superuser `postgres` of an instance.
    Admin { instance: InstanceName },
    /// A tenant's owner role (`role: None`) or declared role.
    Tenant { tenant: TenantId, role: Option<RoleName>, generation: u32 },
}

/// A keyed digest: equal texts under one key are equal here, and nothing else can be learned from it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// Takes a stored fingerprint back; not checked, because an unknown text simply equals nothing.
    pub fn from_stored(text: &str) -> Fingerprint {
        Fingerprint(text.to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// 32 hex digits that name a fleet: its name under the master key. Two fleets of one name differ by their keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FleetUid(String);

impl FleetUid {
    pub fn from_stored(text: &str) -> FleetUid {
        FleetUid(text.to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the master key has {have} characters, at least {} are needed", Keyring::KEY_CHARS_MIN)]
pub struct WeakKey {
    pub have: usize,
}

/// Holds the master key; every method is a pure function of it and its arguments.
#[derive(Clone)]
pub struct Keyring {
    key: hmac::Key,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keyring(***)")
    }
}

impl Keyring {
    /// 32 characters of base64 or hex are at least 128 bits.
    pub const KEY_CHARS_MIN: usize = 32;

    pub fn new(master: &Secret) -> Result<Keyring, WeakKey> {
        let text = master.expose().trim();
        if text.len() < Self::KEY_CHARS_MIN {
            return Err(WeakKey { have: text.len() });
        }
        Ok(Keyring { key: hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes()) })
    }

    /// 43 characters of `A-Za-z0-9_-`: safe in a URL as it is.
    pub fn password(&self, credential: &Credential) -> Secret {
        let generation;
        let parts = match credential {
            Credential::Control => ["admin", CONTROL_SERVICE, "postgres", "1"],
            Credential::Admin { instance } => ["admin", instance.as_str(), "postgres", "1"],
            Credential::Tenant { tenant, role, generation: number } => {
                generation = number.to_string();
                // An owner has no role name, and no role is called ``.
                let role = role.as_ref().map_or("", RoleName::as_str);
                ["tenant", tenant.as_str(), role, generation.as_str()]
            }
        };
        Secret::new(URL_SAFE_NO_PAD.encode(self.tag("password", &parts)))
    }

    /// 16 bytes: the salt of a SCRAM verifier. Derived, so that the same password always yields the same verifier.
    pub fn salt(&self, credential: &Credential) -> [u8; 16] {
        let password = self.password(credential);
        let tag = self.tag("salt", &[password.expose()]);
        let mut salt = [0; 16];
        salt.copy_from_slice(&tag[..16]);
        salt
    }

    /// A key of our own for what `purpose` says: the same wherever the master key is.
    pub fn key_of(&self, purpose: &str) -> [u8; 32] {
        self.tag("key", &[purpose])
    }

    pub fn fleet_uid(&self, fleet: &FleetName) -> FleetUid {
        FleetUid(hex(&self.tag("fleet", &[fleet.as_str()])[..16]))
    }

    pub fn fingerprint(&self, text: &str) -> Fingerprint {
        Fingerprint(hex(&self.tag("fingerprint", &[text])[..16]))
    }

    fn tag(&self, purpose: &str, parts: &[&str]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(b"o7s/v1/");
        context.update(purpose.as_bytes());
        for part in parts {
            // The length in front keeps ("ab","c") and ("a","bc") apart.
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        let mut out = [0; 32];
        out.copy_from_slice(context.sign().as_ref());
        out
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyring(key: &str) -> Keyring {
        Keyring::new(&Secret::new(key)).expect("long enough")
    }

    fn owner(tenant: &str, generation: u32) -> Credential {
        Credential::Tenant { tenant: TenantId::parse(tenant).expect("valid"), role: None, generation }
    }

    #[test]
    fn a_password_depends_on_key_tenant_role_and_generation_and_on_nothing_else() {
        let one = keyring("0123456789abcdef0123456789abcdef");
        let other = keyring("0123456789abcdef0123456789abcdeg");
        let password = one.password(&owner("acme", 1));
        assert_eq!(password, one.password(&owner("acme", 1)));
        assert_eq!(password.expose().len(), 43);
        let reader = Credential::Tenant {
            tenant: TenantId::parse("acme").expect("valid"),
            role: Some(RoleName::parse("reader").expect("valid")),
            generation: 1,
        };
        for different in [
            other.password(&owner("acme", 1)),
            one.password(&owner("acme", 2)),
            one.password(&owner("acm", 1)),
            one.password(&reader),
            one.password(&Credential::Control),
        ] {
            assert_ne!(password, different);
        }
    }

    #[test]
    fn a_short_key_is_refused_with_its_length() {
        assert_eq!(Keyring::new(&Secret::new("short")).err(), Some(WeakKey { have: 5 }));
    }
}
