//! The ownership marks we leave on what we make: the variable `O7S_OWNER` on a Railway service, the comment on a
//! database and on a role. Marks on objects win over what the control database remembers.

use std::fmt;

use super::id::{CONTROL_SERVICE, InstanceName, RoleName, ServiceId, TenantId};
use super::keyring::{Fingerprint, FleetUid};

/// Name of the service variable that holds a [`ServiceMarker`].
pub const OWNER_VARIABLE: &str = "O7S_OWNER";

const FORMAT: &str = "o7s1";
const ADOPTED: &str = "adopted";

/// What a service of ours is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Purpose {
    Control,
    Instance(InstanceName),
}

impl Purpose {
    /// The service's name on Railway.
    pub fn service_name(&self) -> &str {
        match self {
            Purpose::Control => CONTROL_SERVICE,
            Purpose::Instance(name) => name.as_str(),
        }
    }
}

/// `o7s1:<fleet uid>:<service name>[:<service id>[:adopted]]`. The id is added by the patch that first configures the
/// service; until then a marker without id counts. A marker with another service's id was copied and means nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceMarker {
    pub fleet: FleetUid,
    pub service_name: String,
    pub service: Option<ServiceId>,
    /// Made by somebody else: its variables and its superuser's password are not ours.
    pub adopted: bool,
}

/// Why a text is no marker this version reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// Not ours at all.
    NoMarker,
    /// A marker of a later format: hands off.
    Newer,
}

fn fields(text: &str) -> Result<Vec<&str>, Unreadable> {
    let mut fields = text.split(':');
    match fields.next() {
        Some(FORMAT) => Ok(fields.collect()),
        Some(other) if is_newer(other) => Err(Unreadable::Newer),
        _ => Err(Unreadable::NoMarker),
    }
}

fn is_newer(format: &str) -> bool {
    format.strip_prefix("o7s").is_some_and(|n| n.parse::<u32>().is_ok_and(|n| n > 1))
}

impl fmt::Display for ServiceMarker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{FORMAT}:{}:{}", self.fleet.as_str(), self.service_name)?;
        self.service.iter().try_for_each(|id| write!(f, ":{id}"))?;
        if self.adopted { write!(f, ":{ADOPTED}") } else { Ok(()) }
    }
}

impl ServiceMarker {
    pub fn parse(text: &str) -> Result<ServiceMarker, Unreadable> {
        let (fleet, name, service, adopted) = match fields(text)?[..] {
            [fleet, name] => (fleet, name, None, false),
            [fleet, name, id] => (fleet, name, ServiceId::parse(id).ok(), false),
            [fleet, name, id, ADOPTED] => (fleet, name, ServiceId::parse(id).ok(), true),
            _ => return Err(Unreadable::NoMarker),
        };
        Ok(ServiceMarker { fleet: FleetUid::from_stored(fleet), service_name: name.to_owned(), service, adopted })
    }
}

/// Comment on a tenant's database: `o7s1:<fleet uid>:database:<tenant>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseMarker {
    pub fleet: FleetUid,
    pub tenant: TenantId,
}

impl fmt::Display for DatabaseMarker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{FORMAT}:{}:database:{}", self.fleet.as_str(), self.tenant)
    }
}

impl DatabaseMarker {
    /// How the mark of each of the fleet's databases begins.
    pub fn prefix(fleet: &FleetUid) -> String {
        format!("{FORMAT}:{}:database:", fleet.as_str())
    }

    pub fn parse(text: &str) -> Result<DatabaseMarker, Unreadable> {
        let [fleet, "database", tenant] = fields(text)?[..] else { return Err(Unreadable::NoMarker) };
        let tenant = TenantId::parse(tenant).map_err(|_| Unreadable::NoMarker)?;
        Ok(DatabaseMarker { fleet: FleetUid::from_stored(fleet), tenant })
    }
}

/// Comment on a tenant's role: `o7s1:<fleet uid>:role:<tenant>:<role or empty>:<generation>:<fingerprint>:<grants>`.
///
/// `verifier` is the keyed fingerprint of the SCRAM verifier as we wrote it: the password is still ours exactly when
/// the verifier in the catalogue has this fingerprint, which costs no PBKDF2 to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleMarker {
    pub fleet: FleetUid,
    pub tenant: TenantId,
    pub role: Option<RoleName>,
    pub generation: u32,
    pub verifier: Fingerprint,
    /// `owner`, `read` or `write`: what the role was last granted inside the database; `adopted/<database>` of the role
    /// of a tenant whose database somebody else made and owns.
    pub grants: String,
}

/// The grants of the owner role of an adopted `database`. It stands in the mark of the role and not on the database,
/// because the database's owner can write its comment, and may have written one.
pub fn adopted_grants(database: &str) -> String {
    format!("{ADOPTED}/{}", database.replace('%', "%25").replace(':', "%3A"))
}

impl fmt::Display for RoleMarker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (fleet, role) = (self.fleet.as_str(), self.role.as_ref().map_or("", RoleName::as_str));
        let (tenant, generation, verifier) = (&self.tenant, self.generation, self.verifier.as_str());
        write!(f, "{FORMAT}:{fleet}:role:{tenant}:{role}:{generation}:{verifier}:{}", self.grants)
    }
}

impl RoleMarker {
    /// How the mark of each of the fleet's roles begins.
    pub fn prefix_of_fleet(fleet: &FleetUid) -> String {
        format!("{FORMAT}:{}:role:", fleet.as_str())
    }

    /// How the mark of each role of `tenant` begins, whatever its generation.
    pub fn prefix_of_tenant(fleet: &FleetUid, tenant: &TenantId) -> String {
        format!("{}{tenant}:", RoleMarker::prefix_of_fleet(fleet))
    }

    /// How the mark of this very role begins.
    pub fn prefix(fleet: &FleetUid, tenant: &TenantId, role: Option<&RoleName>) -> String {
        format!("{}{}:", RoleMarker::prefix_of_tenant(fleet, tenant), role.map_or("", RoleName::as_str))
    }

    /// The adopted database, of an owner role.
    pub fn adopted(&self) -> Option<String> {
        let name = self.grants.strip_prefix(ADOPTED)?.strip_prefix('/').filter(|_| self.role.is_none())?;
        Some(name.replace("%3A", ":").replace("%25", "%"))
    }

    pub fn parse(text: &str) -> Result<RoleMarker, Unreadable> {
        let [fleet, "role", tenant, role, generation, verifier, grants] = fields(text)?[..] else {
            return Err(Unreadable::NoMarker);
        };
        let tenant = TenantId::parse(tenant).map_err(|_| Unreadable::NoMarker)?;
        let generation = generation.parse().map_err(|_| Unreadable::NoMarker)?;
        let role = match role {
            "" => None,
            name => Some(RoleName::parse(name).map_err(|_| Unreadable::NoMarker)?),
        };
        let (fleet, verifier) = (FleetUid::from_stored(fleet), Fingerprint::from_stored(verifier));
        Ok(RoleMarker { fleet, tenant, role, generation, verifier, grants: grants.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uid() -> FleetUid {
        FleetUid::from_stored("00ff")
    }

    #[test]
    fn a_service_marker_survives_the_way_out_and_back_with_and_without_id() {
        for service in [None, ServiceId::parse("5f3c-1").ok()] {
            let marker = ServiceMarker {
                fleet: uid(),
                service_name: "shared-1".into(),
                service: service.clone(),
                adopted: false,
            };
            assert_eq!(ServiceMarker::parse(&marker.to_string()), Ok(marker));
            // Only a service that exists can be adopted.
            let adopted = ServiceMarker { fleet: uid(), service_name: "shared-1".into(), service, adopted: true };
            let read = ServiceMarker::parse(&adopted.to_string());
            assert_eq!(read == Ok(adopted.clone()), adopted.service.is_some());
        }
    }

    #[test]
    fn a_role_marker_survives_the_way_out_and_back() {
        let marker = RoleMarker {
            fleet: uid(),
            tenant: TenantId::parse("acme").expect("valid"),
            role: RoleName::parse("reader").ok(),
            generation: 3,
            verifier: Fingerprint::from_stored("ab12"),
            grants: "read".into(),
        };
        assert_eq!(RoleMarker::parse(&marker.to_string()), Ok(marker));
    }

    #[test]
    fn an_adopted_databases_name_survives_in_its_roles_mark_whatever_is_in_it() {
        for database in ["shop", "a:b", "100%", "%3A", "a/b: c", "\"q\"", "%253A"] {
            let marker = RoleMarker {
                fleet: uid(),
                tenant: TenantId::parse("acme").expect("valid"),
                role: None,
                generation: 1,
                verifier: Fingerprint::from_stored("ab12"),
                grants: adopted_grants(database),
            };
            let read = RoleMarker::parse(&marker.to_string()).expect("ours");
            assert_eq!((read.adopted().as_deref(), &read), (Some(database), &marker));
        }
    }

    #[test]
    fn a_prefix_tells_apart_tenants_and_roles_of_which_one_begins_with_the_other() {
        let (acme, acme_b) = (TenantId::parse("acme").expect("valid"), TenantId::parse("acme-b").expect("valid"));
        let reader = RoleName::parse("reader").expect("valid");
        let marker = RoleMarker {
            fleet: uid(),
            tenant: acme_b.clone(),
            role: Some(reader.clone()),
            generation: 1,
            verifier: Fingerprint::from_stored("ab"),
            grants: "read".into(),
        };
        let text = marker.to_string();
        assert!(text.starts_with(&RoleMarker::prefix(&uid(), &acme_b, Some(&reader))));
        assert!(text.starts_with(&RoleMarker::prefix_of_tenant(&uid(), &acme_b)));
        assert!(!text.starts_with(&RoleMarker::prefix_of_tenant(&uid(), &acme)));
        assert!(!text.starts_with(&RoleMarker::prefix(&uid(), &acme_b, None)));
        let database = DatabaseMarker { fleet: uid(), tenant: acme };
        assert!(database.to_string().starts_with(&DatabaseMarker::prefix(&uid())));
    }

    #[test]
    fn a_later_format_is_told_from_a_foreign_text() {
        assert_eq!(ServiceMarker::parse("o7s2:x:y"), Err(Unreadable::Newer));
        assert_eq!(ServiceMarker::parse("hello"), Err(Unreadable::NoMarker));
        assert_eq!(DatabaseMarker::parse("o7s1:x:role:acme"), Err(Unreadable::NoMarker));
    }
}
