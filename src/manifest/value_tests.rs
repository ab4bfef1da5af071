//! What a valid manifest means: every field read, every default filled in, every reference followed.

use std::collections::BTreeMap;

use crate::tenancy::{Bytes, Limits, Millis, Over, Percent, TenantId};

use super::*;

const VERSION: &str = "apiVersion: ogelnates.dev/v1\n";

/// A fleet of these documents, each without its version.
fn fleet(documents: &[&str]) -> Desired {
    let texts: Vec<String> = documents.iter().map(|text| format!("{VERSION}{text}")).collect();
    let source = Source { path: "fleet.yaml".to_owned(), text: texts.join("---\n") };
    load(&[source]).unwrap_or_else(|problems| panic!("{}", problems.render()))
}

const FLEET: &str = "kind: Fleet\nmetadata: { name: demo }\nspec: { defaults: { tier: free } }\n";
const FREE: &str =
    "kind: Tier\nmetadata: { name: free }\nspec: { limits: { connections: 5 }, placement: { pool: shared } }\n";
const PRO: &str = "\
kind: Tier
metadata: { name: pro }
spec:
  limits: { connections: 50, serverConnections: 20, storage: 1Gi, statementTimeout: 1m }
  placement: { pool: shared }
";
const SHARED: &str = "kind: DatabasePool\nmetadata: { name: shared }\n";

fn tenant(spec: &str) -> Tenant {
    let text = format!("kind: Tenant\nmetadata: {{ name: acme }}\nspec: {spec}\n");
    let mut desired = fleet(&[FLEET, FREE, PRO, SHARED, &text]);
    desired.tenants.remove(&TenantId::parse("acme").expect("valid")).expect("declared")
}

fn limits(connections: u32, server_connections: u32) -> Limits {
    Limits {
        connections,
        server_connections,
        queries_per_minute: None,
        requests_per_minute: None,
        storage: None,
        egress_per_month: None,
        statement_timeout: None,
    }
}

#[test]
fn everything_optional_has_a_default() {
    let desired =
        fleet(&["kind: Fleet\nmetadata: { name: demo }\n", FREE, SHARED, "kind: Router\nmetadata: { name: edge }\n"]);
    let Fleet { project, environment, plan, default_tier, billing, safety, paused, .. } = &desired.fleet;
    assert_eq!((project.as_str(), environment.as_str(), *plan, default_tier), ("demo", "production", None, &None));
    let usd = Billing { currency: "USD".to_owned(), overhead: Overhead::Proportional, markup_percent: None };
    assert_eq!((billing, safety.max_removals, *paused), (&usd, RemovalGuard::Percent(Percent(10)), false));

    let pool = desired.pools.values().next().expect("one pool");
    assert_eq!(pool.image, "ghcr.io/railwayapp-templates/postgres-ssl:17");
    assert_eq!((pool.volume, pool.tenants_per_instance), (Bytes(5 << 30), 50));
    assert_eq!((pool.instances_min, pool.instances_max, pool.sleep_when_idle), (0, 8, false));
    assert_eq!((&pool.region, pool.resources, pool.max_connections, &pool.outgrow), (&None, None, None, &None));

    let router = desired.routers.values().next().expect("one router");
    assert_eq!((router.replicas, &router.domain, router.pooling), (2, &None, Pooling::Transaction));
    assert_eq!(router.identify, [Identify::Sni, Identify::Options, Identify::User, Identify::Database]);

    assert_eq!(router.jwt, None);

    let tier = desired.tiers.values().next().expect("one tier");
    assert_eq!((&tier.limits, &tier.price, &tier.upgrade), (&limits(5, 5), &None, &None));
    assert_eq!((tier.over_limit.storage, tier.over_limit.connections), (Over::ReadOnly, Over::Reject));

    let tenant = tenant("{}");
    assert_eq!((tenant.tier.as_str(), tenant.pool.as_str(), tenant.pinned), ("free", "shared", None));
    assert_eq!((tenant.generation, tenant.suspended, tenant.paused), (1, false, false));
    assert_eq!((tenant.state, tenant.deletion_policy), (TenantState::Present, DeletionPolicy::Retain));
    assert_eq!((tenant.roles, tenant.publish, tenant.labels), (vec![], vec![], BTreeMap::new()));
}

#[test]
fn a_maximum_of_instances_is_never_below_the_minimum() {
    let pool = "kind: DatabasePool\nmetadata: { name: shared }\nspec: { instances: { min: 20 } }\n";
    let desired = fleet(&[FLEET, FREE, pool]);
    let pool = desired.pools.values().next().expect("one pool");
    assert_eq!((pool.instances_min, pool.instances_max), (20, 20));
}

#[test]
fn a_tenants_ceilings_are_its_tiers_with_its_own_on_top() {
    assert_eq!(tenant("{ tier: free }").limits, limits(5, 5));
    // Not set in the tier: follows.
    assert_eq!(tenant("{ tier: free, limits: { connections: 9 } }").limits, limits(9, 9));
    assert_eq!(tenant("{ tier: free, limits: { serverConnections: 2 } }").limits, limits(5, 2));
    let pro = Limits { storage: Some(Bytes(1 << 30)), statement_timeout: Some(Millis(60_000)), ..limits(200, 20) };
    // Set in the tier: stays.
    assert_eq!(tenant("{ tier: pro, limits: { connections: 200 } }").limits, pro);
    let own = tenant("{ tier: pro, limits: { serverConnections: 50, storage: 2Gi, queriesPerMinute: 7 } }").limits;
    let storage = Some(Bytes(2 << 30));
    assert_eq!(own, Limits { storage, queries_per_minute: Some(7), connections: 50, server_connections: 50, ..pro });
}

#[test]
fn a_pool_is_the_pinned_instances_or_the_tenants_or_the_tiers() {
    let other = "kind: DatabasePool\nmetadata: { name: big-one }\n";
    let one = |name: &str, placement: &str| {
        format!("kind: Tenant\nmetadata: {{ name: {name} }}\nspec: {{ tier: free{placement} }}\n")
    };
    let (a, b) = (one("a", ", placement: { instance: big-one-3 }"), one("b", ", placement: { pool: big-one }"));
    let desired = fleet(&[FLEET, FREE, SHARED, other, &a, &b, &one("c", "")]);
    let places: Vec<_> = desired.tenants.values().map(|t| (t.pool.as_str(), t.pinned.as_ref())).collect();
    assert_eq!(places[0].1.map(|instance| instance.as_str()), Some("big-one-3"));
    assert_eq!(places.iter().map(|place| place.0).collect::<Vec<_>>(), ["big-one", "big-one", "shared"]);
}

#[test]
fn roles_and_publications_are_sorted_and_prices_exact() {
    let tenant = tenant(
        "{ roles: [{ name: writer, grants: write }, { name: reader, grants: read }],
           publish: [{ service: web, variable: URL }, { service: api, variable: READ_URL, role: reader }] }",
    );
    let roles: Vec<_> = tenant.roles.iter().map(|role| (role.name.as_str(), role.grants)).collect();
    assert_eq!(roles, [("reader", Grants::Read), ("writer", Grants::Write)]);
    let publish: Vec<_> = tenant.publish.iter().map(|publish| publish.service.as_str()).collect();
    assert_eq!(publish, ["api", "web"]);
    let tier = "kind: Tier\nmetadata: { name: free }\nspec:\n  limits: { connections: 5 }\n  \
                price: { monthly: 9.10, included: { egress: 20Gi }, overage: { egressPerGi: 0.000000001 } }\n";
    let price = fleet(&[FLEET, tier]).tiers.into_values().next().and_then(|tier| tier.price).expect("a price");
    assert_eq!((price.monthly_nanos, price.included_egress), (9_100_000_000, Some(Bytes(20 << 30))));
    assert_eq!(price.overage_egress_nanos_per_gib, Some(1));
}

#[test]
fn reactions_over_a_ceiling_are_read() {
    let tier = "kind: Tier\nmetadata: { name: free }\nspec:\n  limits: { connections: 5 }\n  overLimit:\n    \
                connections: { queue: 5s }\n    queriesPerMinute: { slow: 250ms }\n    egressPerMonth: reject\n    storage: reject\n";
    let over = fleet(&[FLEET, tier]).tiers.into_values().next().expect("one tier").over_limit;
    assert_eq!((over.connections, over.queries_per_minute), (Over::Queue(Millis(5_000)), Over::Slow(Millis(250))));
    assert_eq!((over.egress_per_month, over.storage), (Over::Reject, Over::Reject));
}

#[test]
fn removals_are_bounded_by_a_share_or_a_number() {
    for (text, guard) in [
        ("\"25%\"", RemovalGuard::Percent(Percent(25))),
        ("25%", RemovalGuard::Percent(Percent(25))),
        ("3", RemovalGuard::Count(3)),
        ("0", RemovalGuard::Count(0)),
    ] {
        let text =
            format!("kind: Fleet\nmetadata: {{ name: demo }}\nspec: {{ safety: {{ maxRemovals: {text} }} }}\n");
        assert_eq!(fleet(&[&text]).fleet.safety.max_removals, guard, "{text}");
    }
}

#[test]
fn every_written_field_knows_its_line() {
    let tenant = tenant(
        "\n  tier: pro\n  limits:\n    connections: 60\n  roles:\n    - { name: reader, grants: read }\n  suspended: true",
    );
    let origins = tenant.origins;
    let first = origins.object.line;
    assert_eq!(origins.object.to_string(), format!("fleet.yaml:{first}"));
    for (path, line) in [
        ("spec.tier", 2),
        ("spec.limits", 3),
        ("spec.limits.connections", 4),
        ("spec.limits.storage", 3),
        ("spec.roles", 5),
        ("spec.roles.reader", 6),
        ("spec.roles.writer", 5),
        ("spec.suspended", 7),
        ("spec.placement.pool", 0),
    ] {
        assert_eq!(origins.at(path).line, first + line, "{path}");
    }
}

#[test]
fn ten_thousand_tenants_in_one_file_are_a_fleet() {
    let mut text = [FLEET, FREE, SHARED].map(|text| format!("{VERSION}{text}")).join("---\n");
    for n in 0..10_000 {
        text.push_str(&format!("---\n{VERSION}kind: Tenant\nmetadata: {{ name: t{n} }}\n"));
    }
    let desired = load(&[Source { path: "all.yaml".to_owned(), text }]).expect("valid");
    assert_eq!(desired.tenants.len(), 10_000);
}

#[test]
fn comments_empty_documents_json_and_block_text_are_fine() {
    let text = format!("# only a comment\n---\n---\n{VERSION}{FLEET}...\n---\n{VERSION}{FREE}---\n{VERSION}{SHARED}");
    let json = "{\"apiVersion\": \"ogelnates.dev/v1\", \"kind\": \"Tenant\", \"metadata\": {\"name\": \"acme\"}}";
    let block = format!("{VERSION}kind: Tenant\nmetadata:\n  name: >-\n    beta\n");
    let source = |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned() };
    let sources = [source("a.yaml", &text), source("b.json", json), source("c.yaml", &block)];
    let desired = load(&sources).unwrap_or_else(|problems| panic!("{}", problems.render()));
    assert_eq!(desired.tenants.keys().map(TenantId::as_str).collect::<Vec<_>>(), ["acme", "beta"]);
}
