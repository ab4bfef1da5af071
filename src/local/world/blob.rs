//! The config blob of an environment: merging, masking, and the few paths the world itself reads and writes.

use serde_json::{Map, Value, json};

use super::model::{At, Environment, Mount};

/// Nesting a patch may have; the deepest real path is seven long.
pub const DEPTH_MAX: usize = 32;

/// What a masked value reads as.
const MASK: &str = "*****";

/// Merges a sparse patch deeply: `null` deletes, objects merge, everything else replaces.
pub fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    let Value::Object(target) = into else { return };
    for (key, change) in changes {
        match change {
            Value::Null => drop(target.remove(key)),
            change => merge(target.entry(key.clone()).or_insert(Value::Null), change),
        }
    }
}

/// Merges a patch into a patch: a null stays a null, because it deletes when committed.
pub fn merge_keeping_nulls(into: &mut Value, patch: &Value) {
    match (into.as_object_mut(), patch) {
        (Some(target), Value::Object(changes)) => {
            for (key, change) in changes {
                merge_keeping_nulls(target.entry(key.clone()).or_insert(Value::Null), change);
            }
        }
        _ => *into = patch.clone(),
    }
}

/// How deep the deepest value lies.
pub fn depth(value: &Value) -> usize {
    match value {
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        Value::Array(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// The blob (or a patch of it) as a read shows it: values masked unless `decrypt`, sealed ones never shown.
pub fn masked(blob: &Value, decrypt: bool) -> Value {
    let mut shown = blob.clone();
    if let Some(services) = shown.get_mut("services").and_then(Value::as_object_mut) {
        for service in services.values_mut() {
            mask_variables(service.get_mut("variables"), decrypt);
            let password = service.pointer_mut("/deploy/registryCredentials/password");
            password.into_iter().for_each(|password| *password = MASK.into());
        }
    }
    mask_variables(shown.get_mut("sharedVariables"), decrypt);
    shown
}

fn mask_variables(variables: Option<&mut Value>, decrypt: bool) {
    let Some(variables) = variables.and_then(Value::as_object_mut) else { return };
    for variable in variables.values_mut().filter_map(Value::as_object_mut) {
        if is_sealed(variable) {
            variable.remove("value");
        } else if !decrypt && variable.contains_key("value") {
            variable.insert("value".into(), MASK.into());
        }
    }
}

pub fn is_sealed(variable: &Map<String, Value>) -> bool {
    variable.get("isSealed").and_then(Value::as_bool).unwrap_or(false)
}

/// What the blob of a new service holds before anybody configured it: the server's own defaults.
pub fn new_service() -> Value {
    json!({
        "build": { "builder": "RAILPACK", "buildEnvironment": "V3" },
        "deploy": { "runtime": "V2", "useLegacyStacker": false, "ipv6EgressEnabled": false },
    })
}

pub fn empty() -> Value {
    json!({ "services": {}, "volumes": {}, "sharedVariables": {} })
}

impl Environment {
    pub fn service_blob(&self, service: &str) -> Option<&Value> {
        self.config.get("services")?.get(service)
    }

    pub(super) fn part_mut(&mut self, part: &str) -> &mut Map<String, Value> {
        if !self.config.get(part).is_some_and(Value::is_object) {
            self.config[part] = Value::Object(Map::new());
        }
        self.config[part].as_object_mut().expect("made an object on the line above")
    }

    /// The volume mounted in a service; the blob allows one only.
    pub fn mount_of(&self, service: &str) -> Option<Mount> {
        let mounts = self.service_blob(service)?.get("volumeMounts")?.as_object()?;
        let (volume, mount) = mounts.iter().next()?;
        let path = mount.get("mountPath").and_then(Value::as_str).unwrap_or_default();
        Some(Mount { volume: volume.clone(), path: path.to_owned() })
    }

    pub fn at(&self, service: &str) -> At {
        At { environment: self.id.clone(), service: service.to_owned() }
    }

    /// Opaque to clients; equal exactly while nothing was written.
    pub fn etag(&self) -> String {
        format!("{}-{:x}", &self.id[..self.id.len().min(8)], self.revision)
    }

    /// How many things the staged patch touches.
    pub fn staged_changes(&self) -> usize {
        let parts = self.staged.content.as_object().into_iter().flat_map(Map::values);
        parts.map(|part| part.as_object().map_or(1, Map::len)).sum()
    }
}

/// A text at a path of a service's blob.
pub fn text(service: &Value, pointer: &str) -> Option<String> {
    service.pointer(pointer)?.as_str().map(str::to_owned)
}

/// Replicas over all regions.
pub fn replicas(service: &Value) -> u64 {
    let count = |region: &Value| region.get("numReplicas").and_then(Value::as_u64).unwrap_or(1);
    match service.pointer("/deploy/multiRegionConfig").and_then(Value::as_object) {
        Some(regions) => regions.values().map(count).sum(),
        None => service.pointer("/deploy/numReplicas").and_then(Value::as_u64).unwrap_or(1),
    }
}
