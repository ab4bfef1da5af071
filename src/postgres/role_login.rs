//! What a router must know of a server's roles to let them log in with their own passwords.

/// More than a person makes; so many are a few MiB.
pub const ROLES_MAX: usize = 20_000;

/// One row of [`role_logins`].
#[derive(Clone, PartialEq, Eq)]
pub struct RoleLogin {
    pub name: String,
    /// As stored: a verifier of SCRAM, or something older.
    pub password: String,
    /// Its `VALID UNTIL` has passed.
    pub expired: bool,
}

/// All roles with a password; to be run by a superuser, under `search_path=pg_catalog`. Columns as text: see
/// [`RoleLogin::from_columns`].
pub fn role_logins() -> String {
    format!(
        "SELECT rolname, rolpassword, coalesce(rolvaliduntil <= now(), false) FROM pg_catalog.pg_authid \
         WHERE rolpassword IS NOT NULL LIMIT {ROLES_MAX}"
    )
}

impl RoleLogin {
    pub fn from_columns(columns: &[Option<String>]) -> Option<RoleLogin> {
        let [Some(name), Some(password), Some(expired)] = columns else { return None };
        Some(RoleLogin { name: name.clone(), password: password.clone(), expired: expired == "t" })
    }
}

impl std::fmt::Debug for RoleLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RoleLogin({}, ***)", self.name)
    }
}
