//! The single changes a plan is made of, each with nothing left to decide for whoever carries it out.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::manifest::{Grants, Resources};
use crate::tenancy::{Credential, InstanceName, RoleName, TenantId};

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
    /// `postgresql://<user>:<derived password>@<host>:<port>/<database>`.
    Url {
        user: String,
        credential: Credential,
        host: String,
        port: u16,
        database: String,
    },
}

/// Everything a database service of ours must look like on Railway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec {
    /// The service's name on Railway.
    pub name: String,
    pub image: String,
    pub start_command: String,
    pub region: Option<String>,
    pub caps: Option<Resources>,
    pub sleep: bool,
    /// At least this many MiB; a volume never shrinks.
    pub volume_mib: u64,
    pub variables: BTreeMap<String, VariableValue>,
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
    SetOwner {
        database: String,
        tenant: TenantId,
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
    /// Second half, after the grace time: the renamed database and the tenant's roles.
    DropDatabase {
        tenant: TenantId,
        database: String,
    },
}

/// A deletion's row in the control database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeletionIntent {
    pub tenant: TenantId,
    pub instance: InstanceName,
    pub renamed_to: String,
    pub due_at: DateTime<Utc>,
}
