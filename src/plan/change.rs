//! The single changes a plan is made of, each with nothing left to decide for whoever carries it out.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::manifest::Grants;
use crate::tenancy::{Address, Credential, InstanceName, Keyring, RoleName, Secret, TenantId, connection_url};

/// A service variable's value, without the secret in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum VariableValue {
    Plain {
        text: String,
    },
    /// The derived password itself.
    Password {
        credential: Credential,
    },
    /// `postgresql://<user>:<derived password>@<private address of the instance>/<database>`; the address is looked up
    /// when it is written, because a new instance has none before.
    Url {
        user: String,
        credential: Credential,
        instance: InstanceName,
        database: String,
    },
}

/// One change inside an instance's server. Each can run twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "change")]
pub enum DatabaseChange {
    /// The owner role (`role: None`) or a declared one, with the derived password of `generation` and our marker.
    CreateRole {
        tenant: TenantId,
        role: Option<RoleName>,
        generation: u32,
        connection_limit: u32,
        login: bool,
    },
    /// Owned by the tenant's role, closed to everybody until [`DatabaseChange::OpenDatabase`].
    CreateDatabase {
        tenant: TenantId,
        database: String,
        connection_limit: u32,
    },
    /// CONNECT revoked from PUBLIC, our marker set, then connections allowed.
    OpenDatabase {
        tenant: TenantId,
        database: String,
    },
    /// What a declared role may do inside the database; recorded in its marker afterwards.
    GrantRole {
        tenant: TenantId,
        database: String,
        role: RoleName,
        grants: Grants,
    },
    SetPassword {
        tenant: TenantId,
        role: Option<RoleName>,
        generation: u32,
    },
    SetLogin {
        tenant: TenantId,
        role: Option<RoleName>,
        login: bool,
    },
    /// Superuser and its like taken away again.
    DropPrivileges {
        tenant: TenantId,
        role: Option<RoleName>,
    },
    /// Membership in roles that are not the tenant's taken away again.
    RevokeMemberships {
        tenant: TenantId,
        role: Option<RoleName>,
        member_of: Vec<String>,
    },
    SetRoleConnectionLimit {
        tenant: TenantId,
        role: Option<RoleName>,
        limit: u32,
    },
    SetDatabaseConnectionLimit {
        database: String,
        limit: u32,
    },
    SetStatementTimeout {
        database: String,
        ms: Option<u64>,
    },
    /// A role's own `statement_timeout` that is above the tenant's ceiling taken away, in one database or in all.
    ResetRoleTimeout {
        tenant: TenantId,
        role: Option<RoleName>,
        database: Option<String>,
    },
    SetOwner {
        database: String,
        tenant: TenantId,
    },
    /// What somebody else made becomes the tenant's: its owner role with the derived password and a mark that names the
    /// database. Nothing else changes.
    AdoptDatabase {
        tenant: TenantId,
        database: String,
        generation: u32,
        connection_limit: u32,
        /// Takes over the role from another fleet, whose mark it carries.
        force: bool,
    },
    /// The way into an adopted database: as a member of its owner, or, where `member_of` is `None` because the owner may
    /// more than a tenant, with all rights on what is in it. Roles that could connect as PUBLIC may go on; PUBLIC may not.
    JoinDatabase {
        tenant: TenantId,
        database: String,
        member_of: Option<String>,
    },
    /// A declared role that is declared no more: its grants and the role itself; it owns nothing.
    DropRole {
        tenant: TenantId,
        database: String,
        role: RoleName,
    },
    /// Ends the open connections of the tenant's roles.
    EndConnections {
        database: String,
    },
    /// First half of a deletion: out of the way, closed, kept.
    RenameDatabase {
        database: String,
        to: String,
    },
    /// Database, roles and marks of `from` under the name `to`, all in one transaction; the owner's and the listed roles'
    /// passwords are those of the new name and `generation` then.
    RenameTenant {
        from: TenantId,
        to: TenantId,
        /// Before and after.
        database: String,
        to_database: String,
        generation: u32,
        roles: Vec<RoleName>,
    },
    /// The marks of the tenant's database and roles taken off, and nothing else.
    Release {
        tenant: TenantId,
        database: String,
    },
    /// A database no tenant owns (`postgres`, `railway`, `template1`): CONNECT revoked from PUBLIC.
    CloseToPublic {
        database: String,
    },
    /// Second half, after the grace time: the renamed database and the tenant's roles.
    DropDatabase {
        tenant: TenantId,
        database: String,
    },
}

/// A deletion's row in the control database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeletionIntent {
    pub tenant: TenantId,
    pub instance: InstanceName,
    pub renamed_to: String,
    #[serde(skip)]
    pub due_at: DateTime<Utc>,
}

impl VariableValue {
    /// The text to write; `None` while the address it needs is not known.
    pub fn render(&self, keys: &Keyring, host: impl Fn(&InstanceName) -> Option<Address>) -> Option<Secret> {
        match self {
            VariableValue::Plain { text } => Some(Secret::new(text.clone())),
            VariableValue::Password { credential } => Some(keys.password(credential)),
            VariableValue::Url { user, credential, instance, database } => {
                let (address, password) = (host(instance)?, keys.password(credential));
                Some(connection_url(user, &password, &address, database))
            }
        }
    }
}
