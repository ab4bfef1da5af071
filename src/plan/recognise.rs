//! What the values of live variables are, told where the master key is: at observation. Behind it a value of ours is known
//! by what it says and any other only by being another one, so planning needs no key and an observation holds no secret.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::change::VariableValue;
use super::spec::{control_spec, postgres_variables};
use crate::tenancy::{
    Address, CONTROL_SERVICE, Credential, GENERATION_MAX, InstanceName, Keyring, RoleName, Secret, TenantId,
};

/// Every derived password is that long, which spares trying generations on any other.
const PASSWORD_CHARS: usize = 43;

/// A live variable's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "is")]
pub enum LiveValue {
    /// A managed value without a secret, exactly as this version writes it.
    Plain { text: String },
    /// The derived password of `credential`.
    Password { credential: Credential },
    /// A connection URL as we write them.
    Url { user: String, credential: Credential, address: Address, database: String },
    /// Not of ours, or not shown by Railway; equal to nothing that we would write.
    Other,
}

impl LiveValue {
    /// Whether writing `wanted` would change nothing; `host` gives an instance's private address, where it has one.
    pub(super) fn is<'a>(&self, wanted: &VariableValue, host: impl Fn(&InstanceName) -> Option<&'a Address>) -> bool {
        match (self, wanted) {
            (LiveValue::Plain { text }, VariableValue::Plain { text: want }) => text == want,
            (LiveValue::Password { credential }, VariableValue::Password { credential: want }) => credential == want,
            (
                LiveValue::Url { user, credential, address, database },
                VariableValue::Url { user: u, credential: c, instance, database: d },
            ) => (user, credential, database) == (u, c, d) && host(instance) == Some(address),
            _ => false,
        }
    }
}

/// Recognises the variables of the service called `service`; a value that Railway hides is `None`.
pub fn recognise<'a>(
    service: &str,
    variables: impl Iterator<Item = (&'a str, Option<&'a str>)>,
    keys: &Keyring,
) -> BTreeMap<String, LiveValue> {
    let managed = managed(service);
    let value = |name: &str, text: &str| {
        let ours = managed.get(name).and_then(|ours| Some((ours, ours.render(keys, |_| None)?)));
        match ours.filter(|(_, wanted)| wanted.expose() == text) {
            Some((VariableValue::Plain { text }, _)) => LiveValue::Plain { text: text.clone() },
            Some((VariableValue::Password { credential }, _)) => {
                LiveValue::Password { credential: credential.clone() }
            }
            _ => url(text, keys).unwrap_or(LiveValue::Other),
        }
    };
    variables.map(|(name, text)| (name.to_owned(), text.map_or(LiveValue::Other, |text| value(name, text)))).collect()
}

/// What we would set on a service of that name, if it is ours.
fn managed(service: &str) -> BTreeMap<String, VariableValue> {
    match InstanceName::parse(service) {
        _ if service == CONTROL_SERVICE => control_spec().variables,
        Ok(instance) => postgres_variables(Credential::Admin { instance }),
        Err(_) => BTreeMap::new(),
    }
}

/// A tenant's connection URL: `postgresql://<user>:<derived password>@<host>:<port>/<database>`.
fn url(text: &str, keys: &Keyring) -> Option<LiveValue> {
    let (user_password, place) = text.strip_prefix("postgresql://")?.split_once('@')?;
    let (user, password) = user_password.split_once(':')?;
    let (address, database) = place.rsplit_once('/')?;
    let (host, port) = address.rsplit_once(':')?;
    let credential = credential(user, &Secret::new(password), keys)?;
    let address = Address { host: host.to_owned(), port: port.parse().ok()? };
    // Only what we would write letter by letter: a port with a zero in front is another text.
    (address.to_string() == format!("{host}:{port}")).then(|| LiveValue::Url {
        user: user.to_owned(),
        credential,
        address,
        database: database.to_owned(),
    })
}

/// Whose password it is: `acme` is an owner, `acme_reader` a declared role; a tenant's name has no `_`.
fn credential(user: &str, password: &Secret, keys: &Keyring) -> Option<Credential> {
    let (tenant, role) = user.split_once('_').map_or((user, None), |(tenant, role)| (tenant, Some(role)));
    let tenant = TenantId::parse(tenant).ok()?;
    let role = role.map(RoleName::parse).transpose().ok()?;
    if password.expose().len() != PASSWORD_CHARS {
        return None;
    }
    (1..=GENERATION_MAX)
        .map(|generation| Credential::Tenant { tenant: tenant.clone(), role: role.clone(), generation })
        .find(|credential| keys.password(credential) == *password)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keyring {
        Keyring::new(&Secret::new("0123456789abcdef0123456789abcdef")).expect("long enough")
    }

    fn one(service: &str, name: &str, text: &str) -> LiveValue {
        let mut all = recognise(service, [(name, Some(text))].into_iter(), &keys());
        all.remove(name).expect("the only one")
    }

    fn url_of(role: Option<&str>, generation: u32) -> VariableValue {
        let role = role.map(|role| RoleName::parse(role).expect("valid"));
        let tenant = TenantId::parse("acme").expect("valid");
        VariableValue::Url {
            user: super::super::tenants::role_name(&tenant, role.as_ref()),
            credential: Credential::Tenant { tenant, role, generation },
            instance: InstanceName::parse("shared-1").expect("valid"),
            database: "acme".into(),
        }
    }

    fn address() -> Address {
        Address { host: "shared-1.railway.internal".into(), port: 5432 }
    }

    #[test]
    fn every_value_we_write_is_recognised_as_itself_and_as_nothing_else() {
        let values = [url_of(None, 1), url_of(Some("reader"), 7), url_of(None, 2), url_of(None, GENERATION_MAX)];
        let (here, elsewhere) = (address(), Address { port: 5433, ..address() });
        for (n, value) in values.iter().enumerate() {
            let text = value.render(&keys(), |_| Some(here.clone())).expect("an address");
            let seen = one("api", "DATABASE_URL", text.expose());
            for (m, other) in values.iter().enumerate() {
                assert_eq!(seen.is(other, |_| Some(&here)), n == m, "{value:?} seen, {other:?} wanted");
            }
            assert!(!seen.is(value, |_| Some(&elsewhere)) && !seen.is(value, |_| None));
        }
    }

    #[test]
    fn a_services_own_values_are_recognised_and_another_services_are_not() {
        for (service, credential) in [
            ("o7s-control", Credential::Control),
            ("shared-2", Credential::Admin { instance: InstanceName::parse("shared-2").expect("valid") }),
        ] {
            let wanted = managed(service);
            let texts: Vec<_> = wanted
                .iter()
                .map(|(name, value)| (name.as_str(), value.render(&keys(), |_| None).expect("needs no address")))
                .collect();
            let seen = recognise(service, texts.iter().map(|(name, text)| (*name, Some(text.expose()))), &keys());
            assert!(wanted.iter().all(|(name, value)| seen[name].is(value, |_| None)), "{service}");
            assert_eq!(seen["POSTGRES_PASSWORD"], LiveValue::Password { credential });
            let copied = recognise("shared-3", texts.iter().map(|(n, t)| (*n, Some(t.expose()))), &keys());
            assert_eq!(copied["POSTGRES_PASSWORD"], LiveValue::Other);
        }
    }

    #[test]
    fn what_is_not_ours_is_only_another_value() {
        let secret = "hunter2hunter2hunter2hunter2hunter2hunter2h";
        assert_eq!(secret.len(), PASSWORD_CHARS);
        for text in ["", secret, "postgresql://", &format!("postgresql://acme:{secret}@h:5432/acme")] {
            for (service, name) in [("shared-1", "PGDATA"), ("shared-1", "POSTGRES_PASSWORD"), ("api", "X")] {
                assert_eq!(one(service, name, text), LiveValue::Other);
            }
        }
        let ours = url_of(None, 1).render(&keys(), |_| Some(address())).expect("an address");
        let padded = ours.expose().replace(":5432", ":05432");
        assert_eq!(one("api", "DATABASE_URL", &padded), LiveValue::Other);
        assert_eq!(recognise("api", [("S", None)].into_iter(), &keys())["S"], LiveValue::Other);
    }
}
