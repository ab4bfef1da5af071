//! Which line of the manifests asked for a change of a tenant.

use super::action::{Field, Reason, ReasonCode};
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
        ReasonCode::NotFound => placement_cause(tenant, desired),
        ReasonCode::Moved => tenant.origins.at("metadata.renamedFrom"),
        ReasonCode::Rotation => tenant.origins.at("spec.credentials.generation"),
        _ => limit_cause(desired, tenant, fields),
    }
}

/// The line that set what changed: the tenant's own, else its tier's.
pub(super) fn limit_cause(desired: &Desired, tenant: &Tenant, fields: &[Field]) -> Origin {
    if fields.iter().any(|field| field.path == "tier") {
        // Everything else follows from another tier.
        return tenant.origins.at("spec.tier");
    }
    let changed = |part: &str| fields.iter().any(|field| field.path.to_lowercase().contains(&part.to_lowercase()));
    let paths = [
        ("overLimit.connections", "spec.overLimit.connections"),
        ("overLimit.queriesPerMinute", "spec.overLimit.queriesPerMinute"),
        ("overLimit.egressPerMonth", "spec.overLimit.egressPerMonth"),
        ("overLimit.storage", "spec.overLimit.storage"),
        ("upgrade.", "spec.upgrade"),
        ("serverConnections", "spec.limits.serverConnections"),
        ("serverConnections", "spec.limits.connections"),
        ("connections", "spec.limits.connections"),
        ("statementTimeout", "spec.limits.statementTimeout"),
        ("queriesPerMinute", "spec.limits.queriesPerMinute"),
        ("storage", "spec.limits.storage"),
        ("egressPerMonth", "spec.limits.egressPerMonth"),
        ("login", "spec.suspended"),
        ("state", "spec.suspended"),
        ("role", "spec.roles"),
        ("grants", "spec.roles"),
        ("password", "spec.credentials.generation"),
        ("generation", "spec.credentials.generation"),
    ];
    let own = paths.iter().find(|(part, path)| changed(part) && tenant.origins.fields.contains_key(*path));
    if let Some((_, path)) = own {
        return tenant.origins.at(path);
    }
    let tier = desired.tiers.get(&tenant.tier);
    let inherited = paths.iter().find_map(|(part, path)| {
        let tier = tier.filter(|tier| changed(part) && tier.origins.fields.contains_key(*path))?;
        Some(tier.origins.at(path))
    });
    inherited.unwrap_or_else(|| tenant.origins.object.clone())
}
