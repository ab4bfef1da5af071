//! Database pools: what an instance is made of, how many there may be, and when a tenant outgrows them.

use crate::tenancy::{Bytes, Millis, PoolName};

use super::code::Code;
use super::error::{Report, quote};
use super::head::Head;
use super::model::{Outgrow, Pool, Resources};
use super::raw::Object;
use super::read::{At, Fields, Scope};
use super::source::File;

pub(super) const DEFAULT_IMAGE: &str = "ghcr.io/railwayapp-templates/postgres-ssl:17";
/// What the smallest paid plan gives a volume when it is made.
const DEFAULT_VOLUME: Bytes = Bytes(5 << 30);
const DEFAULT_TENANTS_PER_INSTANCE: u64 = 50;
const DEFAULT_INSTANCES_MAX: u32 = 8;
/// `<pool>-999` still fits Railway's 32 characters.
const INSTANCES_MAX: u64 = 999;

/// A pool whose outgrow target is not looked up yet.
pub(super) struct PoolDraft<'a> {
    pub file: &'a File<'a>,
    pub name: At<PoolName>,
    pub outgrow_to: Option<At<PoolName>>,
    pub pool: Pool,
}

pub(super) fn check_pool<'a>(object: &'a Object<'a>, report: &'a Report) -> Option<PoolDraft<'a>> {
    let mut head = Head::open(object, report)?;
    head.refuse_rename("DatabasePool", "the names and passwords of its instances come from its name: keep it, or add a pool and move the tenants there");
    let name = service_name(&mut head, "pool name", PoolName::parse);
    let spec = &mut head.spec;
    let (image, max_connections) = postgres(spec);
    let region = region(spec);
    let volume = spec.bytes("volume", Bytes(128 << 20)..=Bytes(64 << 40));
    let resources = spec.map("resources").and_then(resources);
    let tenants = spec.count("tenantsPerInstance", 1..=10_000);
    let (instances_min, instances_max) = instances(spec);
    let sleep_when_idle = spec.flag("sleepWhenIdle").unwrap_or(false);
    let outgrow = spec.map("outgrow").and_then(outgrow);
    let paused = spec.flag("paused").unwrap_or(false);
    let origins = head.close();
    let name = name?;
    let (outgrow_to, outgrow) = outgrow.unzip();
    let pool = Pool {
        name: name.value.clone(),
        image: image.unwrap_or_else(|| DEFAULT_IMAGE.to_owned()),
        max_connections,
        region,
        volume: volume.map_or(DEFAULT_VOLUME, |size| size.value),
        resources,
        tenants_per_instance: number(tenants.map_or(DEFAULT_TENANTS_PER_INSTANCE, |n| n.value)),
        instances_min,
        instances_max,
        sleep_when_idle,
        outgrow,
        paused,
        origins,
    };
    Some(PoolDraft { file: object.file, name, outgrow_to, pool })
}

/// Names that become Railway services must not be taken for ours.
pub(super) fn service_name<T>(
    head: &mut Head<'_>,
    what: &str,
    parse: fn(&str) -> Result<T, crate::tenancy::BadName>,
) -> Option<At<T>> {
    let name = head.metadata.name("name", what, parse)?;
    let text = head.metadata.text("name")?;
    if text.value.starts_with("o7s") {
        let message = format!("the {what} {} is reserved", quote(text.value));
        let help = "names that start with `o7s` are kept for Ogelnates' own services; choose another";
        head.scope.error(text.mark, Code::ReservedName, message, help);
        return None;
    }
    Some(name)
}

fn number(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn postgres(spec: &mut Fields<'_>) -> (Option<String>, Option<u32>) {
    let Some(mut postgres) = spec.map("postgres") else { return (None, None) };
    let image = postgres.line("image", 255).and_then(|text| image(postgres.scope, text));
    let max_connections = postgres.count("maxConnections", 10..=10_000).map(|n| number(n.value));
    postgres.close();
    (image, max_connections)
}

fn image(scope: Scope<'_>, text: At<&str>) -> Option<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    if text.value.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.value.chars().all(allowed) {
        return Some(text.value.to_owned());
    }
    let message = format!("{} is no container image", quote(text.value));
    scope.error(text.mark, Code::BadText, message, format!("expected registry/name:tag, as in `{DEFAULT_IMAGE}`"));
    None
}

/// Which regions there are is Railway's business; this is only what one can look like.
fn region(spec: &mut Fields<'_>) -> Option<String> {
    let text = spec.line("region", 64)?;
    if text.value.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return Some(text.value.to_owned());
    }
    let message = format!("{} is no region", quote(text.value));
    spec.scope.error(text.mark, Code::BadText, message, "expected Railway's name of a region, as in `us-west2`");
    None
}

fn resources(mut fields: Fields<'_>) -> Option<Resources> {
    fields.need("vcpu", "vcpu: 2");
    fields.need("memory", "memory: 2Gi");
    let vcpu = fields.decimal("vcpu", 3, 50..=2_400_000);
    let memory = fields.bytes("memory", Bytes(128 << 20)..=Bytes(4 << 40));
    fields.close();
    Some(Resources { vcpu_milli: number(vcpu?.value), memory: memory?.value })
}

fn instances(spec: &mut Fields<'_>) -> (u32, u32) {
    let Some(mut fields) = spec.map("instances") else { return (0, DEFAULT_INSTANCES_MAX) };
    let min = fields.count("min", 0..=INSTANCES_MAX);
    let max = fields.count("max", 1..=INSTANCES_MAX);
    if let (Some(min), Some(max)) = (min, max)
        && max.value < min.value
    {
        let message = format!("`instances.max` ({}) is less than `instances.min` ({})", max.value, min.value);
        fields.scope.error(max.mark, Code::Contradiction, message, "raise `max` or lower `min`");
    }
    fields.close();
    let min = number(min.map_or(0, |n| n.value));
    (min, max.map_or(DEFAULT_INSTANCES_MAX.max(min), |n| number(n.value)))
}

fn outgrow(mut fields: Fields<'_>) -> Option<(At<PoolName>, Outgrow)> {
    fields.need("to", "outgrow: { storage: 5Gi, to: dedicated }");
    let to = fields.name("to", "pool name", PoolName::parse);
    let storage = fields.bytes("storage", Bytes(16 << 20)..=Bytes(64 << 40)).map(|size| size.value);
    let server_time_share = fields.percent("serverTimeShare").map(|share| share.value);
    let lasting = fields.millis("for", Millis(60_000)..=Millis(7 * 86_400_000)).map(|time| time.value);
    let auto = fields.flag("auto").unwrap_or(false);
    if !fields.has("storage") && !fields.has("serverTimeShare") {
        let message = "`spec.outgrow` names no size or share to outgrow";
        let help = "add `storage: 5Gi`, `serverTimeShare: 40%` or both";
        fields.scope.error(fields.mark(), Code::MissingKey, message, help);
    }
    fields.close();
    let to = to?;
    let outgrow = Outgrow { storage, server_time_share, lasting, to: to.value.clone(), auto };
    Some((to, outgrow))
}
