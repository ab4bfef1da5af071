//! Which line of the manifests asked for a change of a tenant.

use super::action::{Field, Reason, ReasonCode};
use super::compare::TIER;
use crate::manifest::{Desired, Origin, Tenant};

/// Where the tenant's place was asked for: its own manifest, else its tier's.
pub(super) fn placement_cause(tenant: &Tenant, desired: &Desired) -> Origin {
    let own = ["spec.placement.instance", "spec.placement.pool", "spec.tier"];
    let written = own.iter().find(|path| tenant.origins.fields.contains_key(**path));
    match (written, desired.tiers.get(&tenant.tier)) {
        (Some(path), _) => tenant.origins.at(path),
        (None, Some(tier)) => tier.origins.at("spec.placement.pool"),
        (None, None) => tenant.origins.object.clone(),
    }
}

pub(super) fn cause(desired: &Desired, tenant: &Tenant, reason: &Reason, fields: &[Field]) -> Origin {
    match reason.code {
        ReasonCode::NotFound | ReasonCode::Unfinished => placement_cause(tenant, desired),
        ReasonCode::Moved => tenant.origins.at("metadata.renamedFrom"),
        ReasonCode::Rotation => tenant.origins.at("spec.credentials.generation"),
        _ => limit_cause(desired, tenant, fields),
    }
}

/// The line that sets the first of what changed: the tenant's own, else its tier's.
pub(super) fn limit_cause(desired: &Desired, tenant: &Tenant, fields: &[Field]) -> Origin {
    if fields.iter().any(|field| field.path == TIER) {
        // Everything else follows from another tier.
        return tenant.origins.at("spec.tier");
    }
    let tier = desired.tiers.get(&tenant.tier);
    let set_by = |key: &&str| {
        let places = std::iter::once(&tenant.origins).chain(tier.map(|tier| &tier.origins));
        places.into_iter().find(|origins| origins.fields.contains_key(*key)).map(|origins| origins.at(key))
    };
    let line = fields.iter().flat_map(|field| keys(&field.path)).find_map(set_by);
    line.unwrap_or_else(|| tenant.origins.object.clone())
}

/// The keys of manifests that a field follows from, the one that wins first: `limits.storage` of a route,
/// `acme_reader.statementTimeout in acme` of a tenant.
fn keys(path: &str) -> &'static [&'static str] {
    let path = path.split(' ').next().unwrap_or(path);
    match path {
        "overLimit.connections" => return &["spec.overLimit.connections"],
        "overLimit.queriesPerMinute" => return &["spec.overLimit.queriesPerMinute"],
        "overLimit.egressPerMonth" => return &["spec.overLimit.egressPerMonth"],
        "overLimit.storage" => return &["spec.overLimit.storage"],
        "upgrade.to" | "upgrade.message" | "upgrade.url" => return &["spec.upgrade"],
        _ => {}
    }
    match path.rsplit('.').next().unwrap_or(path) {
        "serverConnections" => &["spec.limits.serverConnections", "spec.limits.connections"],
        "connections" => &["spec.limits.connections"],
        "statementTimeout" => &["spec.limits.statementTimeout"],
        "queriesPerMinute" => &["spec.limits.queriesPerMinute"],
        "requestsPerMinute" => &["spec.limits.requestsPerMinute"],
        "storage" => &["spec.limits.storage"],
        "egressPerMonth" => &["spec.limits.egressPerMonth"],
        "login" | "state" => &["spec.suspended"],
        "role" | "roles" | "grants" => &["spec.roles"],
        "password" | "generation" => &["spec.credentials.generation"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Source, load};
    use crate::plan::instances::field;

    const FLEET: &str = "\
apiVersion: ogelnates.dev/v1
kind: Fleet
metadata: { name: f }
---
apiVersion: ogelnates.dev/v1
kind: Tier
metadata: { name: free }
spec:
  limits:
    connections: 9
    serverConnections: 2
    statementTimeout: 1m
  overLimit:
    connections: { queue: 5s }
  placement: { pool: shared }
---
apiVersion: ogelnates.dev/v1
kind: DatabasePool
metadata: { name: shared }
---
apiVersion: ogelnates.dev/v1
kind: Tenant
metadata: { name: acme }
spec:
  tier: free
  limits:
    connections: 5
    storage: 1Gi
  suspended: false
";

    #[test]
    fn the_cause_of_a_change_is_the_line_that_sets_what_changed() {
        let desired = load(&[Source { path: "f.yaml".into(), text: FLEET.into() }]).expect("valid");
        let tenant = desired.tenants.values().next().expect("one");
        let line = |paths: &[&str]| {
            let fields: Vec<Field> = paths.iter().map(|path| field(path, Some("1"), Some("2"))).collect();
            limit_cause(&desired, tenant, &fields).line
        };
        assert_eq!(line(&["limits.connections"]), 27, "its own");
        assert_eq!(line(&["acme.serverConnections", "database.serverConnections"]), 11, "not its own `connections`");
        assert_eq!(line(&["limits.serverConnections", "limits.storage"]), 11);
        assert_eq!(line(&["overLimit.connections"]), 14, "not a limit of the same name");
        assert_eq!(line(&["statementTimeout"]), 12);
        assert_eq!(line(&["acme_reader.statementTimeout in acme"]), 12);
        assert_eq!(line(&["acme.login"]), 29);
        assert_eq!(line(&["tier", "limits.connections"]), 25);
        assert_eq!(line(&["database.access"]), 23, "the tenant itself");
    }
}
