//! Names and identifiers. Each has private insides and one door, `parse`, so a value that exists is a valid one.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a text is no name of its kind; the text of the error completes "the tenant name `x` …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    #[error("is empty")]
    Empty,
    #[error("has {have} characters, {max} are allowed")]
    TooLong { have: usize, max: usize },
    #[error("must start with a letter a-z")]
    Start,
    #[error("must not end with `-`")]
    End,
    #[error("may hold only {allowed}, not `{found}`")]
    Character { found: char, allowed: &'static str },
    #[error("is reserved")]
    Reserved,
    #[error("does not end with a number, as in `shared-1`")]
    NoNumber,
}

/// Names no tenant may have: Postgres' own roles and databases, Railway's, and ours.
const RESERVED: [&str; 8] = ["postgres", "template0", "template1", "railway", "public", "none", "root", "admin"];

fn check_label(text: &str, max: usize) -> Result<(), BadName> {
    if text.is_empty() {
        return Err(BadName::Empty);
    }
    let label = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if let Some(found) = text.chars().find(|&c| !label(c)) {
        return Err(BadName::Character { found, allowed: "a-z, 0-9 and `-`" });
    }
    if text.len() > max {
        return Err(BadName::TooLong { have: text.len(), max });
    }
    if !text.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Err(BadName::Start);
    }
    if text.ends_with('-') {
        return Err(BadName::End);
    }
    Ok(())
}

fn check_tenant(text: &str) -> Result<(), BadName> {
    check_label(text, 48)?;
    // `pg_` is what Postgres reserves; a label cannot hold `_`, so `pg-` stays allowed.
    let reserved = RESERVED.contains(&text) || text.starts_with("o7s");
    if reserved { Err(BadName::Reserved) } else { Ok(()) }
}

fn check_role(text: &str) -> Result<(), BadName> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if text.is_empty() {
        return Err(BadName::Empty);
    }
    if let Some(found) = text.chars().find(|&c| !plain(c)) {
        return Err(BadName::Character { found, allowed: "a-z, 0-9 and `_`" });
    }
    if !text.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Err(BadName::Start);
    }
    Ok(())
}

/// `<pool>-<n>`: Railway caps a service name at 32 characters.
fn check_instance(text: &str) -> Result<(), BadName> {
    check_label(text, 32)?;
    let (pool, number) = text.rsplit_once('-').ok_or(BadName::NoNumber)?;
    let counts = number.bytes().all(|b| b.is_ascii_digit()) && !number.starts_with('0');
    if counts && !number.is_empty() { check_label(pool, 28) } else { Err(BadName::NoNumber) }
}

fn check_railway_id(text: &str) -> Result<(), BadName> {
    // An empty id in a variable makes Railway answer "Not Authorized", which reads like a lost right.
    if text.is_empty() { Err(BadName::Empty) } else { Ok(()) }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Fails with the first rule the text breaks.
            pub fn parse(text: &str) -> Result<Self, BadName> {
                let check: fn(&str) -> Result<(), BadName> = $check;
                check(text).map(|()| $name(text.to_owned()))
            }
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = BadName;
            fn try_from(text: String) -> Result<Self, BadName> {
                Self::parse(&text)
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

name_type!(/// A tenant: 1..=48 bytes of `a-z0-9-` starting with a letter, not reserved; also its database and owner role.
    TenantId, check_tenant);
name_type!(/// A tier: a DNS label.
    TierName, |text| check_label(text, 63));
name_type!(/// A pool: a DNS label of at most 28 characters, so that `<pool>-<n>` fits Railway's 32.
    PoolName, |text| check_label(text, 28));
name_type!(/// A fleet: a DNS label.
    FleetName, |text| check_label(text, 63));
name_type!(/// A router: a DNS label of at most 28 characters.
    RouterName, |text| check_label(text, 28));
name_type!(/// The part of a declared role's name behind `<tenant>_`: `a-z0-9_`, a letter first.
    RoleName, check_role);
name_type!(/// One Postgres server: a Railway service with its volume, named `<pool>-<n>`.
    InstanceName, check_instance);
name_type!(/// Railway's id of a project; not empty.
    ProjectId, check_railway_id);
name_type!(/// Railway's id of an environment; not empty.
    EnvironmentId, check_railway_id);
name_type!(/// Railway's id of a service; not empty.
    ServiceId, check_railway_id);
name_type!(/// Railway's id of a volume; not empty.
    VolumeId, check_railway_id);

/// The service that holds the control database; no pool can be called `o7s`-anything, see [`PoolName`] in `manifest`.
pub const CONTROL_SERVICE: &str = "o7s-control";

impl InstanceName {
    /// `number` counts from 1. Ten thousand instances of a pool would pass Railway's 32 characters; pools stop far below.
    pub fn of(pool: &PoolName, number: u32) -> InstanceName {
        InstanceName(format!("{pool}-{number}"))
    }

    pub fn pool(&self) -> PoolName {
        let pool = self.0.rsplit_once('-').map_or(self.0.as_str(), |(pool, _)| pool);
        PoolName(pool.to_owned())
    }

    pub fn number(&self) -> u32 {
        self.0.rsplit_once('-').and_then(|(_, n)| n.parse().ok()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_is_a_dns_label_that_starts_with_a_letter_and_is_not_reserved() {
        for good in ["acme", "a", "a-b-9", &"x".repeat(48)] {
            assert!(TenantId::parse(good).is_ok(), "{good}");
        }
        let too_long = "x".repeat(49);
        let bad = ["", "Acme", "9a", "-a", "a-", "a_b", "a.b", "postgres", "o7s-x", "o7sfoo", "none", &too_long];
        for bad in bad {
            assert!(TenantId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_instance_knows_its_pool_and_number() {
        let name = InstanceName::parse("big-shared-12").expect("valid");
        assert_eq!((name.pool().as_str(), name.number()), ("big-shared", 12));
        for bad in ["shared", "shared-", "shared-x", "shared-01", "shared-0"] {
            assert!(InstanceName::parse(bad).is_err(), "{bad}");
        }
    }
}
