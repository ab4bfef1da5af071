//! Tiers: ceilings, what happens above them, price and upgrade path.

use crate::tenancy::{Bytes, Limits, Millis, Over, OverLimit, PoolName, TierName, Upgrade};

use super::code::Code;
use super::error::{Report, quote};
use super::head::Head;
use super::model::{Origins, TierPrice};
use super::raw::{Node, Object, Value};
use super::read::{At, Fields, Scope, word_of};
use super::source::{File, Mark};

const SECOND: u64 = 1_000;
const DAY: u64 = 86_400 * SECOND;
/// A million dollars in nano-dollars.
const PRICE_NANOS_MAX: u64 = 1_000_000_000_000_000;

pub(super) const CONNECTIONS_MAX: u64 = 100_000;

/// A Tier whose references are not looked up yet.
pub(super) struct TierDraft<'a> {
    pub file: &'a File<'a>,
    pub name: At<TierName>,
    pub limits: LimitsDraft,
    pub over_limit: OverLimit,
    pub pool: Option<At<PoolName>>,
    /// Written, even if unreadable.
    pub names_a_pool: bool,
    pub price: Option<TierPrice>,
    pub upgrade: Option<(At<TierName>, Upgrade)>,
    pub origins: Origins,
}

pub(super) fn check_tier<'a>(object: &'a Object<'a>, report: &'a Report) -> Option<TierDraft<'a>> {
    let mut head = Head::open(object, report)?;
    head.refuse_rename("Tier", "a Tier has no data: give it the new name, and write that in `spec.tier`, `upgrade.to` and `defaults.tier` too");
    let name = head.metadata.name("name", "tier name", TierName::parse);
    head.spec.need("limits", "limits: { connections: 20 }");
    let limits = head.spec.map("limits").map_or_else(LimitsDraft::default, tier_limits);
    let over_limit = head.spec.map("overLimit").map_or_else(OverLimit::default, over_limit);
    let (pool, names_a_pool) = placement(&mut head.spec);
    let price = head.spec.map("price").and_then(price);
    let upgrade = head.spec.map("upgrade").and_then(upgrade);
    let origins = head.close();
    let name = name?;
    Some(TierDraft { file: object.file, name, limits, over_limit, pool, names_a_pool, price, upgrade, origins })
}

/// Ceilings as written, by a Tier or as a Tenant's own.
#[derive(Debug, Default)]
pub(super) struct LimitsDraft {
    pub connections: Option<At<u64>>,
    pub server_connections: Option<At<u64>>,
    queries_per_minute: Option<u64>,
    requests_per_minute: Option<u64>,
    storage: Option<Bytes>,
    egress_per_month: Option<Bytes>,
    statement_timeout: Option<Millis>,
}

fn tier_limits(mut fields: Fields<'_>) -> LimitsDraft {
    fields.need("connections", "connections: 20");
    LimitsDraft::read(fields)
}

impl LimitsDraft {
    pub fn read(mut fields: Fields<'_>) -> LimitsDraft {
        let connections = fields.count("connections", 1..=CONNECTIONS_MAX);
        let server_connections = fields.count("serverConnections", 1..=CONNECTIONS_MAX);
        let queries = fields.count("queriesPerMinute", 1..=1_000_000_000);
        let requests = fields.count("requestsPerMinute", 1..=1_000_000_000);
        let limits = LimitsDraft {
            connections,
            server_connections,
            queries_per_minute: queries.map(|n| n.value),
            requests_per_minute: requests.map(|n| n.value),
            // An empty database of Postgres 17 has 7.5 MiB: less than 16 could never be kept.
            storage: fields.bytes("storage", Bytes(16 << 20)..=Bytes(64 << 40)).map(|size| size.value),
            egress_per_month: fields.bytes("egressPerMonth", Bytes(1 << 20)..=Bytes(1 << 50)).map(|size| size.value),
            // Postgres keeps it in milliseconds as a signed 32-bit number.
            statement_timeout: fields.millis("statementTimeout", Millis(1)..=Millis(24 * DAY)).map(|time| time.value),
        };
        if let (Some(all), Some(server)) = (connections, server_connections)
            && server.value > all.value
        {
            let (server_text, all_text) = (server.value.to_string(), all.value.to_string());
            contradiction(fields.scope, server.mark, &server_text, &all_text);
        }
        fields.close();
        limits
    }

    /// Of a tier: what it does not say is unlimited, and every connection may be a server's.
    pub fn of_tier(&self) -> Limits {
        // A missing or unreadable `connections` was reported, so the value is never used.
        let connections = self.connections.map_or(1, |n| number(n.value));
        Limits {
            connections,
            server_connections: self.server_connections.map_or(connections, |n| number(n.value)),
            queries_per_minute: self.queries_per_minute,
            requests_per_minute: self.requests_per_minute,
            storage: self.storage,
            egress_per_month: self.egress_per_month,
            statement_timeout: self.statement_timeout,
        }
    }

    /// The tier's with these on top. A tier's own `serverConnections` stays when only `connections` is overridden,
    /// else it follows.
    pub fn over(&self, tier: &LimitsDraft) -> Limits {
        let base = tier.of_tier();
        let connections = self.connections.map_or(base.connections, |n| number(n.value));
        let server = self.server_connections.or(tier.server_connections);
        Limits {
            connections,
            server_connections: server.map_or(connections, |n| number(n.value)),
            queries_per_minute: self.queries_per_minute.or(base.queries_per_minute),
            requests_per_minute: self.requests_per_minute.or(base.requests_per_minute),
            storage: self.storage.or(base.storage),
            egress_per_month: self.egress_per_month.or(base.egress_per_month),
            statement_timeout: self.statement_timeout.or(base.statement_timeout),
        }
    }

    /// Where a tenant's mix of own and inherited ceilings contradicts itself. Both own was reported by `read`.
    pub fn contradicts(&self, scope: Scope<'_>, tier: &LimitsDraft) {
        let limits = self.over(tier);
        let (server, all) = (limits.server_connections, limits.connections);
        match (self.connections, self.server_connections) {
            _ if server <= all => {}
            (Some(own), None) => contradiction(scope, own.mark, &format!("{server}, the tier's"), &all.to_string()),
            (None, Some(own)) => contradiction(scope, own.mark, &server.to_string(), &format!("{all}, the tier's")),
            // The tier's own contradiction, or one written here: reported there.
            (None, None) | (Some(_), Some(_)) => {}
        }
    }
}

fn contradiction(scope: Scope<'_>, mark: Mark, server: &str, all: &str) {
    let message = format!("`serverConnections` ({server}) is more than `connections` ({all})");
    let help = "every server connection serves a client connection: lower `serverConnections` or raise `connections`";
    scope.error(mark, Code::Contradiction, message, help);
}

fn number(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// What may be written for each ceiling: the plain words, and the words that take a time.
fn over_limit(mut fields: Fields<'_>) -> OverLimit {
    let default = OverLimit::default();
    let reject = &[("reject", Over::Reject)][..];
    let storage = &[("readOnly", Over::ReadOnly), ("reject", Over::Reject)][..];
    let result = OverLimit {
        connections: over(&mut fields, "connections", reject, &["queue"]).unwrap_or(default.connections),
        queries_per_minute: over(&mut fields, "queriesPerMinute", reject, &["queue", "slow"])
            .unwrap_or(default.queries_per_minute),
        egress_per_month: over(&mut fields, "egressPerMonth", reject, &[]).unwrap_or(default.egress_per_month),
        storage: over(&mut fields, "storage", storage, &[]).unwrap_or(default.storage),
    };
    fields.close();
    result
}

fn over(
    fields: &mut Fields<'_>,
    key: &'static str,
    words: &[(&'static str, Over)],
    timed: &[&'static str],
) -> Option<Over> {
    let (path, scope) = (fields.path_of(key), fields.scope);
    let node = fields.node(key)?;
    match &node.value {
        Value::Map(entries) if entries.len() == 1 => timed_over(scope, &path, node, words, timed),
        Value::Scalar { text, .. } if timed.contains(&text.as_str()) => {
            let message = format!("`{path}`: {} needs a time", quote(text));
            scope.error(node.mark, Code::WrongType, message, format!("write `{{ {text}: 2s }}`"));
            None
        }
        Value::Map(_) => {
            let message = format!("`{path}` must hold exactly one reaction");
            scope.error(node.mark, Code::Contradiction, message, choices(words, timed));
            None
        }
        _ => word_of(scope, node, &path, words).map(|word| word.value),
    }
}

fn timed_over(
    scope: Scope<'_>,
    path: &str,
    node: &Node,
    words: &[(&'static str, Over)],
    timed: &[&'static str],
) -> Option<Over> {
    let mut fields = Fields::open(scope, path, node.mark, node)?;
    let word = fields.entries().first()?;
    let allowed = Millis(1)..=Millis(5 * 60 * SECOND);
    match word.key.as_str() {
        "queue" if timed.contains(&"queue") => fields.millis("queue", allowed).map(|time| Over::Queue(time.value)),
        "slow" if timed.contains(&"slow") => fields.millis("slow", allowed).map(|time| Over::Slow(time.value)),
        other => {
            let message = format!("`{path}` cannot be {}", quote(other));
            scope.error(word.mark, Code::UnknownWord, message, choices(words, timed));
            None
        }
    }
}

fn choices(words: &[(&'static str, Over)], timed: &[&'static str]) -> String {
    let plain = words.iter().map(|(word, _)| format!("`{word}`"));
    let timed = timed.iter().map(|word| format!("`{{ {word}: 2s }}`"));
    format!("expected {}", plain.chain(timed).collect::<Vec<_>>().join(" or "))
}

fn placement(spec: &mut Fields<'_>) -> (Option<At<PoolName>>, bool) {
    let Some(mut placement) = spec.map("placement") else { return (None, spec.seems_written("placement")) };
    placement.need("pool", "placement: { pool: shared }");
    let pool = placement.name("pool", "pool name", PoolName::parse);
    placement.close();
    (pool, true)
}

fn price(mut fields: Fields<'_>) -> Option<TierPrice> {
    fields.need("monthly", "monthly: 9.00");
    let monthly = fields.decimal("monthly", 9, 0..=PRICE_NANOS_MAX);
    let included_egress = fields.map("included").and_then(|mut included| {
        let egress = included.bytes("egress", Bytes(0)..=Bytes(1 << 50));
        included.close();
        egress.map(|size| size.value)
    });
    let overage = fields.map("overage").and_then(|mut overage| {
        let egress = overage.decimal("egressPerGi", 9, 0..=PRICE_NANOS_MAX);
        overage.close();
        egress.map(|price| i128::from(price.value))
    });
    fields.close();
    let monthly_nanos = i128::from(monthly?.value);
    Some(TierPrice { monthly_nanos, included_egress, overage_egress_nanos_per_gib: overage })
}

fn upgrade(mut fields: Fields<'_>) -> Option<(At<TierName>, Upgrade)> {
    fields.need("to", "upgrade: { to: pro }");
    let to = fields.name("to", "tier name", TierName::parse);
    let message = fields.line("message", 200).map(|text| text.value.to_owned());
    let url = fields.line("url", 2_048).and_then(|text| url(fields.scope, text));
    fields.close();
    let to = to?;
    let upgrade = Upgrade { to: to.value.to_string(), message, url };
    Some((to, upgrade))
}

fn url(scope: Scope<'_>, text: At<&str>) -> Option<String> {
    let rest = text.value.strip_prefix("https://").or_else(|| text.value.strip_prefix("http://"));
    if rest.is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_graphic())) {
        return Some(text.value.to_owned());
    }
    let message = format!("{} is no web address", quote(text.value));
    scope.error(text.mark, Code::BadText, message, "expected `https://…` without spaces");
    None
}
