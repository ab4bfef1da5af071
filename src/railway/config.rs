//! One service's entry of the environment's configuration, read back. Railway adds fields without notice, so what we do
//! not manage is not looked at, and a managed field of an unexpected shape counts as not set.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{POSTGRES_MOUNT, POSTGRES_PORT};
use crate::manifest::Resources;
use crate::plan::{LiveValue, Ownership, ServiceConfig, recognise};
use crate::tenancy::{Bytes, FleetUid, Keyring, OWNER_VARIABLE, ServiceId, ServiceMarker, Unreadable, VolumeId};

/// What Railway puts in the place of values to those who may not read them.
const MASK: &str = "*****";

/// A marker is there, but its text is masked although it is not sealed: this token may not read values, and every
/// comparison would be a phantom.
#[derive(Debug, PartialEq, Eq)]
pub struct Masked;

enum Shown<'a> {
    /// Deleted, or without a value yet (a generator, a default).
    Nothing,
    Text(&'a str),
    Sealed,
    Masked,
}

/// `name` is the service's own.
pub fn read_service(entry: &Value, name: &str, keyring: &Keyring) -> ServiceConfig {
    let text = |path: &str| entry.pointer(path).and_then(Value::as_str).map(str::to_owned);
    ServiceConfig {
        image: text("/source/image"),
        start_command: text("/deploy/startCommand"),
        region: region(entry),
        caps: caps(entry),
        sleep: entry.pointer("/deploy/sleepApplication").and_then(Value::as_bool).unwrap_or(false),
        tcp_proxy: object(entry, "/networking/tcpProxies")
            .is_some_and(|proxies| proxies.get(&POSTGRES_PORT.to_string()).is_some_and(|proxy| !proxy.is_null())),
        mounted_volume: mounted_volume(entry),
        variables: variables(entry, name, keyring),
    }
}

/// `name` and `id` are the service's own: a marker with others was copied along with a service.
pub fn read_owner(entry: &Value, fleet: &FleetUid, name: &str, id: &ServiceId) -> Result<Ownership, Masked> {
    let text = match object(entry, "/variables").and_then(|all| all.get(OWNER_VARIABLE)).map(shown) {
        None | Some(Shown::Nothing) => return Ok(Ownership::Foreign),
        // Somebody sealed it: it may well be ours.
        Some(Shown::Sealed) => return Ok(Ownership::Unknown),
        Some(Shown::Masked) => return Err(Masked),
        Some(Shown::Text(text)) => text,
    };
    Ok(match ServiceMarker::parse(text) {
        Err(Unreadable::Newer) => Ownership::Newer,
        Err(Unreadable::NoMarker) => Ownership::Foreign,
        Ok(marker) if marker.fleet != *fleet || marker.service_name != name => Ownership::Foreign,
        Ok(ServiceMarker { service: None, .. }) => Ownership::OursUnconfigured,
        Ok(ServiceMarker { service: Some(marked), .. }) if marked == *id => Ownership::Ours,
        Ok(_) => Ownership::Foreign,
    })
}

/// Whether the marker says that somebody else made the service.
pub fn read_adopted(entry: &Value) -> bool {
    match object(entry, "/variables").and_then(|all| all.get(OWNER_VARIABLE)).map(shown) {
        Some(Shown::Text(text)) => ServiceMarker::parse(text).is_ok_and(|marker| marker.adopted),
        _ => false,
    }
}

fn shown(variable: &Value) -> Shown<'_> {
    let sealed = variable.get("isSealed").and_then(Value::as_bool).unwrap_or(false);
    let value = variable.get("value").unwrap_or(&Value::Null);
    match value.as_str().or(variable.as_str()) {
        Some(MASK | "") | None if sealed => Shown::Sealed,
        Some(MASK) => Shown::Masked,
        Some(text) => Shown::Text(text),
        None => Shown::Nothing,
    }
}

/// A value that Railway shows to nobody is none that we would write, so such a variable is put back to ours, and the
/// plan says so.
fn variables(entry: &Value, service: &str, keyring: &Keyring) -> BTreeMap<String, LiveValue> {
    let all = object(entry, "/variables").into_iter().flatten().filter(|(name, _)| *name != OWNER_VARIABLE);
    let texts = all.filter_map(|(name, variable)| match shown(variable) {
        Shown::Nothing => None,
        Shown::Text(text) => Some((name.as_str(), Some(text))),
        Shown::Sealed | Shown::Masked => Some((name.as_str(), None)),
    });
    recognise(service, texts, keyring)
}

fn region(entry: &Value) -> Option<String> {
    let regions = object(entry, "/deploy/multiRegionConfig")?;
    regions.iter().find(|(_, settings)| !settings.is_null()).map(|(region, _)| region.clone())
}

/// Both or nothing: we never set one alone.
fn caps(entry: &Value) -> Option<Resources> {
    let containers = entry.pointer("/deploy/limitOverride/containers")?;
    let vcpu = containers.get("cpu")?.as_f64().filter(|vcpu| (0.0..=1e6).contains(vcpu))?;
    let memory = containers.get("memoryBytes")?;
    let memory = memory.as_u64().or_else(|| memory.as_f64().map(|bytes| bytes as u64))?;
    Some(Resources { vcpu_milli: (vcpu * 1000.0).round() as u32, memory: Bytes(memory) })
}

fn mounted_volume(entry: &Value) -> Option<VolumeId> {
    let at_data = |mount: &Value| mount.get("mountPath").and_then(Value::as_str) == Some(POSTGRES_MOUNT);
    let mounts = object(entry, "/volumeMounts")?;
    mounts.iter().find(|(_, mount)| at_data(mount)).and_then(|(volume, _)| VolumeId::parse(volume).ok())
}

fn object<'a>(entry: &'a Value, path: &str) -> Option<&'a Map<String, Value>> {
    entry.pointer(path).and_then(Value::as_object)
}
