//! What we change in an environment's configuration, and its shape on the wire: the same document as the configuration
//! itself, holding only what is set. `null` deletes a key.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{POSTGRES_MOUNT, POSTGRES_PORT};
use crate::manifest::Resources;
use crate::tenancy::{OWNER_VARIABLE, Secret, ServiceId, VolumeId};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patch {
    pub services: BTreeMap<ServiceId, ServicePatch>,
    pub volumes: BTreeMap<VolumeId, VolumePatch>,
}

/// `None` and `false` leave things as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServicePatch {
    /// Text of the owner variable.
    pub marker: Option<String>,
    pub image: Option<String>,
    pub start_command: Option<String>,
    /// One replica here. Railway merges: a region the service is in already stays.
    pub region: Option<String>,
    pub caps: Option<Resources>,
    pub sleep: Option<bool>,
    pub tcp_proxy: Option<bool>,
    /// Mounted at Postgres' data folder, without which the image may not start.
    pub mount: Option<VolumeId>,
    /// First appearance of the service in the environment.
    pub created: bool,
    /// `None` deletes the variable.
    pub variables: BTreeMap<String, Option<Secret>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumePatch {
    pub size_mib: Option<u64>,
    /// First appearance of the volume in the environment.
    pub created: bool,
}

impl Patch {
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && self.volumes.is_empty()
    }

    /// Holds the variables' values: it goes into a request's body and nowhere else.
    pub(super) fn to_blob(&self) -> Value {
        let services = self.services.iter().map(|(id, service)| (id.to_string(), service.to_blob()));
        let volumes = self.volumes.iter().map(|(id, volume)| (id.to_string(), volume.to_blob()));
        let mut blob = Map::new();
        put(&mut blob, "services", services.collect());
        put(&mut blob, "volumes", volumes.collect());
        Value::Object(blob)
    }
}

impl ServicePatch {
    fn to_blob(&self) -> Value {
        let mut blob = Map::new();
        if self.created {
            blob.insert("isCreated".into(), json!(true));
        }
        if let Some(image) = &self.image {
            blob.insert("source".into(), json!({ "image": image }));
        }
        put(&mut blob, "deploy", self.deploy());
        put(&mut blob, "variables", self.variables());
        if let Some(wanted) = self.tcp_proxy {
            let proxy = if wanted { json!({}) } else { Value::Null };
            blob.insert("networking".into(), json!({ "tcpProxies": { POSTGRES_PORT.to_string(): proxy } }));
        }
        if let Some(volume) = &self.mount {
            blob.insert("volumeMounts".into(), json!({ volume.as_str(): { "mountPath": POSTGRES_MOUNT } }));
        }
        Value::Object(blob)
    }

    fn deploy(&self) -> Map<String, Value> {
        let mut deploy = Map::new();
        if let Some(command) = &self.start_command {
            deploy.insert("startCommand".into(), json!(command));
        }
        if let Some(region) = &self.region {
            deploy.insert("multiRegionConfig".into(), json!({ region.as_str(): { "numReplicas": 1 } }));
        }
        if let Some(Resources { vcpu_milli, memory }) = self.caps {
            let containers = json!({ "cpu": vcpu(vcpu_milli), "memoryBytes": memory.0 });
            deploy.insert("limitOverride".into(), json!({ "containers": containers }));
        }
        if let Some(sleep) = self.sleep {
            deploy.insert("sleepApplication".into(), json!(sleep));
        }
        if self.mount.is_some() {
            deploy.insert("requiredMountPath".into(), json!(POSTGRES_MOUNT));
        }
        deploy
    }

    fn variables(&self) -> Map<String, Value> {
        let marker = self.marker.iter().map(|text| (OWNER_VARIABLE.to_owned(), json!({ "value": text })));
        let value = |secret: &Option<Secret>| secret.as_ref().map_or(Value::Null, |s| json!({ "value": s.expose() }));
        let others = self.variables.iter().map(|(name, secret)| (name.clone(), value(secret)));
        others.chain(marker).collect()
    }
}

impl VolumePatch {
    fn to_blob(&self) -> Value {
        let mut blob = Map::new();
        if self.created {
            blob.insert("isCreated".into(), json!(true));
        }
        if let Some(size) = self.size_mib {
            blob.insert("sizeMB".into(), json!(size));
        }
        Value::Object(blob)
    }
}

fn put(blob: &mut Map<String, Value>, key: &str, part: Map<String, Value>) {
    if !part.is_empty() {
        blob.insert(key.to_owned(), Value::Object(part));
    }
}

/// `2` rather than `2.0`, as Railway itself writes it.
fn vcpu(milli: u32) -> Value {
    if milli.is_multiple_of(1000) { json!(milli / 1000) } else { json!(f64::from(milli) / 1000.0) }
}
