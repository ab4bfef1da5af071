//! Statement time, the ceiling that Postgres holds and that a tenant can lift: every role may set its own
//! `statement_timeout`, and that wins over the one of its database.
//!
//! Only what is above the ceiling is put back, again by each run, and said. A shorter time of the tenant's own keeps to
//! the ceiling and is its business, as are all other settings.

use super::change::DatabaseChange as Change;
use super::compare::Work;
use super::live::{DatabaseLive, RoleLive};
use super::tenants::role_name;
use crate::manifest::Tenant;
use crate::tenancy::{Millis, RoleName};

pub(super) fn compare_database(work: &mut Work, tenant: &Tenant, database: &str, live: &DatabaseLive) {
    let wanted = tenant.limits.statement_timeout.map(|timeout| timeout.0);
    if live.statement_timeout_ms != wanted {
        let change = Change::SetStatementTimeout { database: database.to_owned(), ms: wanted };
        let (old, new) = (live.statement_timeout_ms.map(show), wanted.map(show));
        work.change(change, "statementTimeout", old.as_deref(), new.as_deref());
    }
}

/// The role exists and is the tenant's.
pub(super) fn compare_role(work: &mut Work, tenant: &Tenant, role: Option<&RoleName>, live: &RoleLive) {
    let Some(Millis(ceiling)) = tenant.limits.statement_timeout else { return };
    let name = role_name(&tenant.name, role);
    for own in &live.statement_timeouts {
        if (1..=ceiling).contains(&own.ms) {
            continue;
        }
        let (database, path) = match &own.database {
            None => (None, format!("{name}.statementTimeout")),
            Some(database) => (Some(database.clone()), format!("{name}.statementTimeout in {database}")),
        };
        let change = Change::ResetRoleTimeout { tenant: tenant.name.clone(), role: role.cloned(), database };
        work.change(change, &path, Some(&show(own.ms)), Some(&show(ceiling)));
    }
}

fn show(ms: u64) -> String {
    match ms {
        0 => "0 (no limit)".to_owned(),
        u64::MAX => "(not readable)".to_owned(),
        ms => Millis(ms).to_string(),
    }
}
