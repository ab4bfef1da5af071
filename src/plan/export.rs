//! Manifests of what is: written from a live state and nothing else, so that planning them changes nothing. What no live
//! state holds (prices, billing, the safety guard, how many tenants an instance may take) is left at its default and said.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::instances::may_be_ours;
use super::live::{InstanceState, Live, ServiceLive};
use super::recognise::LiveValue;
use super::spec::max_connections_of;
use super::tenants::role_name;
use crate::manifest::Fleet;
use crate::tenancy::{
    Bytes, Credential, InstanceName, Limits, Over, OverLimit, PoolName, RoleName, Route, RouteState, TenantId,
    TierName, Upgrade,
};

const HEAD: &str = "apiVersion: ogelnates.dev/v1\nkind: ";
/// Of a pool in which no instance tells otherwise.
const TENANTS_PER_INSTANCE: usize = 50;

/// One manifest file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportedFile {
    pub path: String,
    pub text: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Export {
    pub files: Vec<ExportedFile>,
    /// What could not be written, or only guessed.
    pub notes: Vec<String>,
}

/// `fleet` gives the names that Railway and the control database are found by.
pub fn export(fleet: &Fleet, live: &Live) -> Export {
    let mut out = Export::default();
    let tiers = tiers(live, &mut out.notes);
    out.add("fleet.yaml", fleet_text(fleet, live));
    let mut text = tiers.iter().map(|(name, tier)| tier_text(name, tier)).collect::<Vec<_>>();
    text.extend(stand_ins(&tiers, &mut out.notes));
    out.add("tiers.yaml", text.join("---\n"));
    let pools = pools(live);
    let text: Vec<String> =
        pools.iter().map(|(name, instances)| pool_text(live, name, instances, &mut out.notes)).collect();
    out.add("pools.yaml", text.join("---\n"));
    let text: Vec<String> = live.control.routers.iter().filter_map(|(name, spec)| router_text(name, spec)).collect();
    out.add("routers.yaml", text.join("---\n"));
    for route in live.control.routes.values() {
        match tiers.get(&route.tier).filter(|tier| tier.fits(route)) {
            Some(tier) => {
                let text = tenant_text(live, route, tier, &mut out.notes);
                out.add(&format!("tenants/{}.yaml", route.tenant), text);
            }
            None => out.notes.push(format!(
                "tenant/{}: left out, its route was written under another state of tier {}; it stays as it is",
                route.tenant, route.tier
            )),
        }
    }
    out
}

impl Export {
    fn add(&mut self, path: &str, text: String) {
        if !text.is_empty() {
            self.files.push(ExportedFile { path: path.to_owned(), text });
        }
    }
}

/// JSON's strings are YAML's double-quoted ones.
fn quoted(text: &str) -> String {
    serde_json::Value::String(text.to_owned()).to_string()
}

fn fleet_text(fleet: &Fleet, live: &Live) -> String {
    let plan = format!("{:?}", live.railway.plan).to_lowercase();
    format!(
        "{HEAD}Fleet\nmetadata: {{ name: {} }}\nspec:\n  railway: {{ project: {}, environment: {}, plan: {plan} }}\n",
        fleet.name,
        quoted(&fleet.project),
        quoted(&fleet.environment)
    )
}

/// What all tenants of a tier have in common. Each may raise or lower a ceiling, but none can take one away.
struct TierLive {
    limits: Limits,
    over_limit: OverLimit,
    upgrade: Option<Upgrade>,
    pool: PoolName,
}

impl TierLive {
    /// The rest of it no tenant can have of its own.
    fn fits(&self, route: &Route) -> bool {
        self.over_limit == route.over_limit && self.upgrade == route.upgrade
    }
}

fn tiers(live: &Live, notes: &mut Vec<String>) -> BTreeMap<TierName, TierLive> {
    let mut routes: BTreeMap<TierName, Vec<&Route>> = BTreeMap::new();
    for route in live.control.routes.values() {
        routes.entry(route.tier.clone()).or_default().push(route);
    }
    let tiers = routes.into_iter().filter_map(|(name, routes)| {
        let shape = |route: &&Route| format!("{:?}{:?}", route.over_limit, route.upgrade);
        let common = most_common(routes.iter().map(shape))?;
        let routes: Vec<&Route> = routes.into_iter().filter(|route| shape(route) == common).collect();
        let limits = common_limits(&routes)?;
        let pool = most_common(routes.iter().map(|route| route.instance.pool()))?;
        let (over_limit, upgrade) = (routes[0].over_limit.clone(), routes[0].upgrade.clone());
        Some((name, TierLive { limits, over_limit, upgrade, pool }))
    });
    let tiers: BTreeMap<TierName, TierLive> = tiers.collect();
    if !tiers.is_empty() {
        notes.push("tiers: their prices are in no live state; write them, or the bill has none".into());
    }
    tiers
}

/// The first of the most frequent, in their order.
fn most_common<T: Ord + Clone>(all: impl Iterator<Item = T>) -> Option<T> {
    let mut counts: BTreeMap<T, usize> = BTreeMap::new();
    all.for_each(|one| *counts.entry(one).or_default() += 1);
    let most = counts.values().copied().max()?;
    counts.into_iter().find(|(_, count)| *count == most).map(|(one, _)| one)
}

fn common_limits(routes: &[&Route]) -> Option<Limits> {
    let limits = || routes.iter().map(|route| &route.limits);
    let (connections, server_connections) =
        most_common(limits().map(|limits| (limits.connections, limits.server_connections)))?;
    fn unless_free<T: Ord + Copy>(all: impl Iterator<Item = Option<T>> + Clone) -> Option<T> {
        if all.clone().any(|one| one.is_none()) { None } else { most_common(all.flatten()) }
    }
    let all: Vec<&Limits> = limits().collect();
    Some(Limits {
        connections,
        server_connections,
        queries_per_minute: unless_free(all.iter().map(|limits| limits.queries_per_minute)),
        requests_per_minute: unless_free(all.iter().map(|limits| limits.requests_per_minute)),
        storage: unless_free(all.iter().map(|limits| limits.storage)),
        egress_per_month: unless_free(all.iter().map(|limits| limits.egress_per_month)),
        statement_timeout: unless_free(all.iter().map(|limits| limits.statement_timeout)),
    })
}

/// The ceilings of `limits` that `base` does not give; all of them where there is no base.
fn limits_text(limits: &Limits, base: Option<&Limits>) -> Option<String> {
    let mut parts = Vec::new();
    let mut add = |key: &str, value: Option<String>, inherited: Option<String>| {
        parts.extend(
            value.filter(|value| base.is_none() || inherited.as_ref() != Some(value)).map(|v| format!("{key}: {v}")),
        );
    };
    let pair = |limits: &Limits| (limits.connections, limits.server_connections);
    if base.is_none_or(|base| pair(base) != pair(limits)) {
        // Together, because one of them alone changes what the other falls back to.
        add("connections", Some(limits.connections.to_string()), None);
        add("serverConnections", Some(limits.server_connections.to_string()), None);
    }
    add(
        "queriesPerMinute",
        limits.queries_per_minute.map(|n| n.to_string()),
        base.and_then(|base| base.queries_per_minute).map(|n| n.to_string()),
    );
    add(
        "requestsPerMinute",
        limits.requests_per_minute.map(|n| n.to_string()),
        base.and_then(|base| base.requests_per_minute).map(|n| n.to_string()),
    );
    add("storage", limits.storage.map(|n| n.to_string()), base.and_then(|base| base.storage).map(|n| n.to_string()));
    add(
        "egressPerMonth",
        limits.egress_per_month.map(|n| n.to_string()),
        base.and_then(|base| base.egress_per_month).map(|n| n.to_string()),
    );
    add(
        "statementTimeout",
        limits.statement_timeout.map(|n| n.to_string()),
        base.and_then(|base| base.statement_timeout).map(|n| n.to_string()),
    );
    (!parts.is_empty()).then(|| format!("  limits: {{ {} }}\n", parts.join(", ")))
}

fn over_text(over: Over) -> String {
    match over {
        Over::Reject => "reject".to_owned(),
        Over::Queue(time) => format!("{{ queue: {time} }}"),
        Over::Slow(time) => format!("{{ slow: {time} }}"),
        Over::ReadOnly => "readOnly".to_owned(),
    }
}

fn tier_text(name: &TierName, tier: &TierLive) -> String {
    let mut text = format!("{HEAD}Tier\nmetadata: {{ name: {name} }}\nspec:\n");
    text.push_str(&limits_text(&tier.limits, None).unwrap_or_default());
    let (over, default) = (&tier.over_limit, OverLimit::default());
    let parts = [
        ("connections", over.connections, default.connections),
        ("queriesPerMinute", over.queries_per_minute, default.queries_per_minute),
        ("egressPerMonth", over.egress_per_month, default.egress_per_month),
        ("storage", over.storage, default.storage),
    ];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(_, have, default)| have != default)
        .map(|(key, have, _)| format!("{key}: {}", over_text(have)))
        .collect();
    if !parts.is_empty() {
        let _ = writeln!(text, "  overLimit: {{ {} }}", parts.join(", "));
    }
    let _ = writeln!(text, "  placement: {{ pool: {} }}", tier.pool);
    if let Some(Upgrade { to, message, url }) = &tier.upgrade {
        let mut parts = vec![format!("to: {to}")];
        parts.extend(message.iter().map(|message| format!("message: {}", quoted(message))));
        parts.extend(url.iter().map(|url| format!("url: {}", quoted(url))));
        let _ = writeln!(text, "  upgrade: {{ {} }}", parts.join(", "));
    }
    text
}

/// A tier that is only recommended has no tenant to tell its ceilings.
fn stand_ins(tiers: &BTreeMap<TierName, TierLive>, notes: &mut Vec<String>) -> Vec<String> {
    let named = tiers.values().filter_map(|tier| Some((tier.upgrade.as_ref()?.to.clone(), tier)));
    let missing: BTreeMap<String, &TierLive> =
        named.filter(|(to, _)| tiers.keys().all(|name| name.as_str() != to)).collect();
    let text = |(to, tier): (String, &TierLive)| {
        notes.push(format!("tier/{to}: no tenant has it, so its ceilings are a stand-in; write the real ones"));
        let limits = limits_text(&tier.limits, None).unwrap_or_default();
        format!("{HEAD}Tier\nmetadata: {{ name: {to} }}\nspec:\n{limits}  placement: {{ pool: {} }}\n", tier.pool)
    };
    missing.into_iter().map(text).collect()
}

fn pools(live: &Live) -> BTreeMap<PoolName, Vec<(InstanceName, &ServiceLive)>> {
    let mut pools: BTreeMap<PoolName, Vec<(InstanceName, &ServiceLive)>> = BTreeMap::new();
    for service in live.railway.services.iter().filter(|service| may_be_ours(service)) {
        if let Ok(name) = InstanceName::parse(&service.name) {
            pools.entry(name.pool()).or_default().push((name, service));
        }
    }
    pools
}

fn pool_text(
    live: &Live,
    name: &PoolName,
    instances: &[(InstanceName, &ServiceLive)],
    notes: &mut Vec<String>,
) -> String {
    let configs: Vec<_> = instances.iter().filter_map(|(_, service)| service.config.as_ref()).collect();
    let first = configs.first();
    let mut text = format!("{HEAD}DatabasePool\nmetadata: {{ name: {name} }}\nspec:\n");
    let commands: BTreeSet<Option<u32>> =
        configs.iter().map(|config| config.start_command.as_deref().and_then(max_connections_of)).collect();
    let connections = match commands.into_iter().collect::<Vec<_>>()[..] {
        [Some(only)] if (10..=10_000).contains(&only) => format!(", maxConnections: {only}"),
        _ => String::new(),
    };
    if let Some(image) = first.and_then(|config| config.image.as_ref()) {
        let _ = writeln!(text, "  postgres: {{ image: {}{connections} }}", quoted(image));
    }
    if let Some(region) = first.and_then(|config| config.region.as_ref()) {
        let _ = writeln!(text, "  region: {region}");
    }
    let sizes = instances.iter().filter_map(|(_, service)| live.railway.volume_of(&service.id));
    if let Some(size) = sizes.map(|volume| volume.size_mib).min() {
        let _ = writeln!(text, "  volume: {}", Bytes(size << 20));
    }
    if let Some(caps) = first.and_then(|config| config.caps) {
        let (whole, milli) = (caps.vcpu_milli / 1000, caps.vcpu_milli % 1000);
        let _ = writeln!(text, "  resources: {{ vcpu: {whole}.{milli:03}, memory: {} }}", caps.memory);
    }
    let count = |instance: &InstanceName| {
        live.control.placements.values().filter(|place| place.instance == *instance).count()
    };
    let fullest = instances.iter().map(|(instance, _)| count(instance)).max().unwrap_or(0);
    // Two tenants on one instance are proof that it is shared. One alone may be the only one that shall be there.
    let per_instance = if fullest > 1 { fullest.max(TENANTS_PER_INSTANCE) } else { 1 };
    notes.push(format!("pool/{name}: tenantsPerInstance {per_instance} is a guess; no live state holds it"));
    let _ = writeln!(text, "  tenantsPerInstance: {per_instance}");
    let most = instances.iter().map(|(name, _)| name.number()).max().unwrap_or(1);
    let _ = writeln!(text, "  instances: {{ min: 0, max: {most} }}");
    if first.is_some_and(|config| config.sleep) {
        text.push_str("  sleepWhenIdle: true\n");
    }
    text
}

/// As stored; one that cannot be read back is none of ours.
fn router_text(name: &str, spec: &serde_json::Value) -> Option<String> {
    let mut parts = vec![format!("replicas: {}", spec.get("replicas")?.as_u64()?)];
    parts.extend(
        spec.get("domain").and_then(|domain| domain.as_str()).map(|text| format!("domain: {}", quoted(text))),
    );
    parts.push(format!("pooling: {}", spec.get("pooling")?.as_str()?));
    let ways: Vec<&str> = spec.get("identify")?.as_array()?.iter().filter_map(|way| way.as_str()).collect();
    parts.push(format!("identify: [{}]", ways.join(", ")));
    // JSON is YAML.
    for flag in ["notices", "requireTls"] {
        parts.extend((spec.get(flag).and_then(|told| told.as_bool()) == Some(true)).then(|| format!("{flag}: true")));
    }
    parts.extend(spec.get("jwt").filter(|jwt| jwt.is_object()).map(|jwt| format!("jwt: {jwt}")));
    Some(format!("{HEAD}Router\nmetadata: {{ name: {name} }}\nspec: {{ {} }}\n", parts.join(", ")))
}

fn tenant_text(live: &Live, route: &Route, tier: &TierLive, notes: &mut Vec<String>) -> String {
    let mut text = format!("{HEAD}Tenant\nmetadata: {{ name: {} }}\nspec:\n  tier: {}\n", route.tenant, route.tier);
    let pool = route.instance.pool();
    if pool != tier.pool {
        let _ = writeln!(text, "  placement: {{ pool: {pool} }}");
    }
    text.push_str(&limits_text(&route.limits, Some(&tier.limits)).unwrap_or_default());
    if !route.roles.is_empty() {
        let roles: Vec<String> = route.roles.iter().map(|role| role_text(live, route, role, notes)).collect();
        let _ = writeln!(text, "  roles: [{}]", roles.join(", "));
    }
    if route.generation > 1 {
        let _ = writeln!(text, "  credentials: {{ generation: {} }}", route.generation);
    }
    match route.state {
        RouteState::Active => {}
        RouteState::Suspended => text.push_str("  suspended: true\n"),
        // Never `delete`: a manifest nobody wrote is no key.
        RouteState::Retired => text.push_str("  state: absent\n  deletionPolicy: retain\n"),
    }
    let publish: Vec<String> = published(live, route).collect();
    if !publish.is_empty() {
        let _ = writeln!(text, "  publish: [{}]", publish.join(", "));
    }
    text
}

fn role_text(live: &Live, route: &Route, role: &RoleName, notes: &mut Vec<String>) -> String {
    let seen = match live.instances.get(&route.instance) {
        Some(InstanceState::Awake(server)) => server.roles.get(&role_name(&route.tenant, Some(role))),
        _ => None,
    };
    let grants = seen.and_then(|seen| seen.mark.as_ref()).map(|mark| mark.grants.as_str());
    let grants = grants.filter(|grants| matches!(*grants, "read" | "write")).unwrap_or_else(|| {
        notes.push(format!("tenant/{}: what role {role} may is not visible now; `read` is a guess", route.tenant));
        "read"
    });
    format!("{{ name: {role}, grants: {grants} }}")
}

/// Variables of app services that hold this tenant's URL as it is now.
fn published<'a>(live: &'a Live, route: &'a Route) -> impl Iterator<Item = String> + 'a {
    let services = live.railway.services.iter().filter(|service| !may_be_ours(service));
    let variables = services.flat_map(|service| {
        let all = service.config.iter().flat_map(|config| &config.variables);
        all.map(move |(variable, value)| (service, variable, value))
    });
    variables.filter_map(|(service, variable, value)| {
        let LiveValue::Url { credential: Credential::Tenant { tenant, role, generation }, address, database, .. } =
            value
        else {
            return None;
        };
        let now = (tenant, *generation, address, database)
            == (&route.tenant, route.generation, &route.endpoint.private, &route.database);
        let declared = role.as_ref().is_none_or(|role| route.roles.contains(role));
        (now && declared).then(|| publish_text(&service.name, variable, role.as_ref()))
    })
}

fn publish_text(service: &str, variable: &str, role: Option<&RoleName>) -> String {
    let role = role.map_or_else(String::new, |role| format!(", role: {role}"));
    format!("{{ service: {}, variable: {}{role} }}", quoted(service), quoted(variable))
}

/// Tenants that are remembered and have no route yet are not in an export; how many there are, for who reads it.
pub fn unrouted(live: &Live) -> Vec<&TenantId> {
    live.control.placements.keys().filter(|tenant| !live.control.routes.contains_key(*tenant)).collect()
}
