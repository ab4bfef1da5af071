//! Deletions in their grace time: what the control database remembers of them and, where it was lost, what the marks on
//! renamed databases tell. Nobody else gives a database such a name, so a lost record starts its grace time anew and loses
//! no data.

use std::collections::BTreeMap;

use chrono::{Duration, NaiveDate};

use super::change::DeletionIntent;
use super::live::{InstanceState, Live, PendingDeletion};
use super::removals::{DELETED_PREFIX, GRACE_DAYS};
use crate::tenancy::{Digest, TenantId};

/// Postgres cuts longer identifiers without a word.
const NAME_BYTES_MAX: usize = 63;
const DIGEST_CHARS: usize = 8;

pub(super) fn pending(live: &Live) -> BTreeMap<TenantId, PendingDeletion> {
    let mut all = live.control.deletions.clone();
    for intent in unrecorded_deletions(live) {
        let DeletionIntent { tenant, instance, renamed_to, due_at } = intent;
        all.insert(tenant, PendingDeletion { instance, renamed_to, due_at, due: false });
    }
    all
}

/// Databases that were deleted and that no record speaks of; to be recorded before anything else is done.
pub fn unrecorded_deletions(live: &Live) -> Vec<DeletionIntent> {
    let due_at = live.control_now() + Duration::days(GRACE_DAYS);
    let mut found = BTreeMap::new();
    for (instance, state) in &live.instances {
        let InstanceState::Awake(server) = state else { continue };
        let deleted = server.databases.iter().filter(|(name, _)| name.starts_with(DELETED_PREFIX));
        for (name, tenant) in deleted.filter_map(|(name, seen)| Some((name, seen.tenant.as_ref()?))) {
            // Where the tenant has a database again, the old one is only a copy.
            if !live.control.deletions.contains_key(tenant) && !server.databases.contains_key(tenant.as_str()) {
                let (tenant, instance, renamed_to) = (tenant.clone(), instance.clone(), name.clone());
                found.insert(tenant.clone(), DeletionIntent { tenant, instance, renamed_to, due_at });
            }
        }
    }
    found.into_values().collect()
}

/// `zz_deleted_20261124_acme`; of two long names that begin alike each keeps its own.
pub(super) fn name(tenant: &TenantId, today: NaiveDate) -> String {
    let name = format!("{DELETED_PREFIX}{}_{tenant}", today.format("%Y%m%d"));
    if name.len() <= NAME_BYTES_MAX {
        return name;
    }
    let digest = Digest::of(tenant.as_str().as_bytes());
    let (kept, digest) = (&name[..NAME_BYTES_MAX - DIGEST_CHARS - 1], &digest.as_str()[..DIGEST_CHARS]);
    format!("{kept}_{digest}")
}

pub(super) fn kept(tenant: &TenantId, pending: &PendingDeletion) -> String {
    let due = pending.due_at.format("%Y-%m-%d %H:%M UTC");
    format!("tenant/{tenant}: deleted, kept as {} on {} until {due}", pending.renamed_to, pending.instance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_stay_apart_and_within_what_postgres_keeps() {
        let day = NaiveDate::from_ymd_opt(2026, 11, 24).expect("valid");
        let of = |text: &str| name(&TenantId::parse(text).expect("valid"), day);
        assert_eq!(of("acme"), "zz_deleted_20261124_acme");
        let long = "a".repeat(47);
        let (one, other) = (of(&format!("{long}b")), of(&format!("{long}c")));
        assert!(one != other && one.len() == NAME_BYTES_MAX && one.starts_with("zz_deleted_20261124_aaaa"), "{one}");
    }
}
