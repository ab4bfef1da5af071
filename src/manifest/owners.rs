//! Who says what an object's fields are: its own manifest, its tier, the Fleet, or a default.

use serde::Serialize;
use serde_json::Value;

use super::error::Report;
use super::explain::takes;
use super::model::{Desired, Origin, Origins, Tenant};
use super::raw::{Kind, Node, Value as Yaml};
use super::schema::of_kind;
use super::source::{File, Source};
use super::yaml;
use crate::tenancy::{FleetName, InstanceName, PoolName, RouterName, TenantId, TierName};

/// One field of an object, with its value as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Owned {
    /// `spec.limits.connections`.
    pub field: String,
    /// Absent where nothing sets it and there is no default.
    pub value: Option<String>,
    pub owner: Owner,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "by")]
pub enum Owner {
    /// Its own manifest.
    Manifest {
        at: Origin,
    },
    Tier {
        name: TierName,
        at: Origin,
    },
    Fleet {
        at: Origin,
    },
    /// Built in; also of what is simply not limited or not there.
    Default,
}

/// An object by its address: `tenant/acme`, `instance/shared-1` (its pool's fields), `pool/shared`…
enum Found<'d> {
    Fleet(&'d Origins),
    Tier(&'d Origins),
    Pool(&'d Origins),
    Router(&'d Origins),
    Tenant(&'d Tenant),
}

fn find<'d>(desired: &'d Desired, address: &str) -> Option<Found<'d>> {
    let (kind, name) = address.split_once('/')?;
    let pool = |name: &PoolName| desired.pools.get(name).map(|pool| Found::Pool(&pool.origins));
    match kind {
        "tenant" => desired.tenants.get(&TenantId::parse(name).ok()?).map(Found::Tenant),
        "tier" => desired.tiers.get(&TierName::parse(name).ok()?).map(|tier| Found::Tier(&tier.origins)),
        "pool" => pool(&PoolName::parse(name).ok()?),
        "instance" => pool(&InstanceName::parse(name).ok()?.pool()),
        "router" => desired.routers.get(&RouterName::parse(name).ok()?).map(|router| Found::Router(&router.origins)),
        "fleet" => {
            let fleet = &desired.fleet;
            (FleetName::parse(name).ok()? == fleet.name).then_some(Found::Fleet(&fleet.origins))
        }
        _ => None,
    }
}

/// Every field of the object at `address`, in the schema's order; `None` when no manifest declares it.
///
/// `sources` are what `desired` was loaded from.
pub fn owners(desired: &Desired, sources: &[Source], address: &str) -> Option<Vec<Owned>> {
    let found = find(desired, address)?;
    let (kind, origins) = match &found {
        Found::Fleet(origins) => (Kind::Fleet, *origins),
        Found::Tier(origins) => (Kind::Tier, *origins),
        Found::Pool(origins) => (Kind::DatabasePool, *origins),
        Found::Router(origins) => (Kind::Router, *origins),
        Found::Tenant(tenant) => (Kind::Tenant, &tenant.origins),
    };
    let written = written(sources, origins)?;
    let mut fields = Vec::new();
    leaves(&of_kind(kind), "", &mut fields);
    let owned = |(field, schema): (String, Value)| {
        let at = |line: u32| Origin { file: origins.object.file.clone(), line };
        if let (Some(&line), Some(text)) = (origins.fields.get(&field), text_at(&written, &field)) {
            return Owned { field, value: Some(text), owner: Owner::Manifest { at: at(line) } };
        }
        let inherited = match &found {
            Found::Tenant(tenant) => inherited(desired, tenant, &field),
            _ => None,
        };
        let (value, owner) = inherited.unwrap_or_else(|| (takes(&schema).default, Owner::Default));
        Owned { field, value, owner }
    };
    Some(fields.into_iter().map(owned).collect())
}

/// Keys that hold a value rather than more keys; a list is one value, and so is a choice of words and maps.
fn leaves(schema: &Value, path: &str, found: &mut Vec<(String, Value)>) {
    for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
        if path.is_empty() && (key == "kind" || key == "apiVersion") {
            continue;
        }
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match inner["properties"].is_object() {
            true => leaves(inner, &path, found),
            false => found.push((path, inner.clone())),
        }
    }
}

/// What a tenant has from its tier or its fleet.
fn inherited(desired: &Desired, tenant: &Tenant, field: &str) -> Option<(Option<String>, Owner)> {
    let tier = desired.tiers.get(&tenant.tier)?;
    let of_tier = |field: &str| Owner::Tier { name: tier.name.clone(), at: tier.origins.at(field) };
    let written = tier.origins.fields.contains_key(field);
    let limits = &tenant.limits;
    let limit = |value: Option<String>| match value {
        Some(value) => Some((Some(value), of_tier(field))),
        None => Some((Some("unlimited".to_owned()), Owner::Default)),
    };
    match field {
        "spec.tier" => {
            let at = desired.fleet.origins.at("spec.defaults.tier");
            Some((Some(tenant.tier.to_string()), Owner::Fleet { at }))
        }
        "spec.placement.pool" if tenant.pinned.is_some() => None,
        "spec.placement.pool" => Some((Some(tenant.pool.to_string()), of_tier(field))),
        "spec.limits.connections" => limit(Some(limits.connections.to_string())),
        "spec.limits.serverConnections" if written => limit(Some(limits.server_connections.to_string())),
        "spec.limits.serverConnections" => {
            Some((Some(format!("{}, as connections", limits.server_connections)), Owner::Default))
        }
        "spec.limits.queriesPerMinute" => limit(limits.queries_per_minute.map(|n| n.to_string())),
        "spec.limits.requestsPerMinute" => limit(limits.requests_per_minute.map(|n| n.to_string())),
        "spec.limits.storage" => limit(limits.storage.map(|size| size.to_string())),
        "spec.limits.egressPerMonth" => limit(limits.egress_per_month.map(|size| size.to_string())),
        "spec.limits.statementTimeout" => limit(limits.statement_timeout.map(|time| time.to_string())),
        _ => None,
    }
}

/// The object's document. Its file was read without an error before, so none is reported here.
fn written(sources: &[Source], origins: &Origins) -> Option<Node> {
    let source = sources.iter().find(|source| source.path == *origins.object.file)?;
    let file = File::new(source);
    let (documents, _) = yaml::read(&file, &Report::default());
    documents
        .into_iter()
        .find(|root| node_at(root, "metadata.name").is_some_and(|n| n.mark.line == origins.object.line))
}

fn node_at<'n>(root: &'n Node, path: &str) -> Option<&'n Node> {
    path.split('.').try_fold(root, |node, key| match &node.value {
        Yaml::Map(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value),
        _ => None,
    })
}

fn text_at(root: &Node, path: &str) -> Option<String> {
    node_at(root, path).map(flow)
}

/// On one line, as YAML's flow style has it.
fn flow(node: &Node) -> String {
    match &node.value {
        Yaml::Scalar { text, .. } => text.clone(),
        Yaml::List(nodes) => format!("[{}]", nodes.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Yaml::Map(entries) => {
            let entry = |entry: &super::raw::Entry| format!("{}: {}", entry.key, flow(&entry.value));
            format!("{{ {} }}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        Yaml::Refused => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::load;
    use super::*;

    const FLEET: &str = "\
apiVersion: ogelnates.dev/v1
kind: Fleet
metadata: { name: f }
spec: { defaults: { tier: free } }
---
apiVersion: ogelnates.dev/v1
kind: Tier
metadata: { name: free }
spec:
  limits:
    connections: 5
    storage: 1Gi
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
  limits: { connections: 9 }
  roles: [{ name: reader, grants: read }]
";

    fn lines(address: &str) -> Vec<String> {
        let sources = [Source { path: "f.yaml".into(), text: FLEET.into() }];
        let desired = load(&sources).unwrap_or_else(|problems| panic!("{}", problems.render()));
        let owned = owners(&desired, &sources, address).unwrap_or_default();
        let line = |owned: &Owned| {
            let value = owned.value.clone().unwrap_or_default();
            let owner = match &owned.owner {
                Owner::Manifest { at } => at.to_string(),
                Owner::Tier { name, at } => format!("tier {name} {at}"),
                Owner::Fleet { at } => format!("fleet {at}"),
                Owner::Default => "default".to_owned(),
            };
            format!("{} = {value} by {owner}", owned.field)
        };
        owned.iter().map(line).collect()
    }

    #[test]
    fn each_field_of_a_tenant_has_one_owner() {
        let lines = lines("tenant/acme");
        for line in [
            "spec.tier = free by fleet f.yaml:4",
            "spec.placement.pool = shared by tier free f.yaml:13",
            "spec.limits.connections = 9 by f.yaml:23",
            "spec.limits.storage = 1Gi by tier free f.yaml:12",
            "spec.limits.serverConnections = 9, as connections by default",
            "spec.limits.queriesPerMinute = unlimited by default",
            "spec.roles = [{ name: reader, grants: read }] by f.yaml:24",
            "spec.deletionPolicy = retain by default",
            "spec.publish =  by default",
        ] {
            assert!(lines.iter().any(|have| have == line), "{line}: {lines:#?}");
        }
    }

    #[test]
    fn an_instance_has_its_pools_fields_and_what_is_not_declared_has_none() {
        assert!(lines("instance/shared-1").contains(&"spec.volume = 5Gi by default".to_owned()));
        for unknown in ["tenant/nope", "tenant/", "pool/other", "nonsense/x", "acme"] {
            assert_eq!(lines(unknown), Vec::<String>::new(), "{unknown}");
        }
    }
}
