//! What a client needs to connect as a tenant: user, password, address, database, and the URL made of them.

use super::id::{RoleName, TenantId};
use super::keyring::{Credential, Keyring};
use super::route::{Address, Route};
use super::secret::Secret;

/// `acme` or `acme_reader`.
pub fn role_name(tenant: &TenantId, role: Option<&RoleName>) -> String {
    role.map_or_else(|| tenant.to_string(), |role| format!("{tenant}_{role}"))
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    pub user: String,
    pub password: Secret,
    pub address: Address,
    pub database: String,
}

impl Login {
    /// As the routing table has the tenant now: `role` or, without one, its owner. The password is that of the generation
    /// in the route, which is the one that was carried out last.
    pub fn of(route: &Route, role: Option<&RoleName>, keys: &Keyring, private: bool) -> Login {
        let credential =
            Credential::Tenant { tenant: route.tenant.clone(), role: role.cloned(), generation: route.generation };
        let endpoint = &route.endpoint;
        Login {
            user: role_name(&route.tenant, role),
            password: keys.password(&credential),
            address: if private { endpoint.private.clone() } else { endpoint.public.clone() },
            database: route.database.clone(),
        }
    }

    pub fn url(&self) -> Secret {
        connection_url(&self.user, &self.password, &self.address, &self.database)
    }
}

/// `postgresql://user:password@host:port/database`, whatever characters the parts have.
pub fn connection_url(user: &str, password: &Secret, address: &Address, database: &str) -> Secret {
    let (user, password, database) = (encoded(user), encoded(password.expose()), encoded(database));
    Secret::new(format!("postgresql://{user}:{password}@{address}/{database}"))
}

/// Percent-encoded but for what RFC 3986 calls unreserved.
fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => drop(write!(out, "%{byte:02X}")),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_a_part_of_the_url_is_encoded() {
        let address = Address { host: "db.example".into(), port: 5432 };
        let url = connection_url("acme_reader", &Secret::new("p@ss/w?rd%"), &address, "my db#1é");
        assert_eq!(url.expose(), "postgresql://acme_reader:p%40ss%2Fw%3Frd%25@db.example:5432/my%20db%231%C3%A9");
        let plain = connection_url("acme", &Secret::new("aZ9_-"), &address, "acme-1");
        assert_eq!(
            plain.expose(),
            "postgresql://acme:aZ9_-@db.example:5432/acme-1",
            "names of ours stay as they are"
        );
    }
}
