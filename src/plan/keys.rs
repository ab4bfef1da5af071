//! The second key of a deletion: what a run was given, held against what the manifests ask for.

use chrono::{Duration, NaiveDate};

use super::planner::Draft;
use crate::manifest::{DeletionPolicy, Tenant, TenantState};
use crate::tenancy::TenantId;

/// What is wrong with the key for this tenant, as the end of a sentence. `today` is the control database's, in UTC.
pub(super) fn fault(draft: &Draft<'_>, tenant: &TenantId, today: NaiveDate) -> Option<String> {
    let Some(date) = draft.consent.deletions.get(tenant) else { return Some("the second key is missing".into()) };
    let age = today.signed_duration_since(*date);
    if age < Duration::zero() {
        return Some(format!("the second key is of {date}, which is to come (in UTC it is {today})"));
    }
    (age > Duration::days(1)).then(|| format!("the second key is of {date}, which is more than a day ago"))
}

/// A key that opens nothing was most likely meant for another tenant.
pub(super) fn warn_of_unused(draft: &mut Draft<'_>) {
    let condemned =
        |tenant: &Tenant| tenant.state == TenantState::Absent && tenant.deletion_policy == DeletionPolicy::Delete;
    for (tenant, date) in &draft.consent.deletions {
        let why = match draft.desired.tenants.get(tenant) {
            Some(manifest) if condemned(manifest) => continue,
            Some(_) => "its manifest does not ask for a deletion (`state: absent` with `deletionPolicy: delete`)",
            None => "no manifest has a tenant of that name",
        };
        draft.plan.warnings.push(format!("--allow-delete tenant/{tenant}@{date} opens nothing: {why}").into());
    }
}
