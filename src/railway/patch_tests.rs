//! The patch on the wire, and that the reader of the configuration understands what the writer of the patch wrote.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::config::read_service;
use super::{Patch, ServicePatch, VolumePatch};
use crate::manifest::Resources;
use crate::plan::{ServiceConfig, recognise};
use crate::tenancy::{Bytes, Keyring, Secret, ServiceId, VolumeId};

fn keyring() -> Keyring {
    Keyring::new(&Secret::new("0123456789abcdef0123456789abcdef")).expect("long enough")
}

fn volume(id: &str) -> VolumeId {
    VolumeId::parse(id).expect("valid")
}

/// What Railway makes of a patch to a service it knew nothing about: nulls delete, so nothing of them stays.
fn applied(patch: &ServicePatch) -> Value {
    let id = ServiceId::parse("s").expect("valid");
    let patch = Patch { services: [(id, patch.clone())].into(), ..Patch::default() };
    without_nulls(patch.to_blob()["services"]["s"].clone())
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            fields.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_nulls(v))).collect()
        }
        other => other,
    }
}

/// One line for each value in a document.
fn leaves(path: &str, value: &Value) -> String {
    let below = |(key, value): (&String, &Value)| leaves(&format!("{path}.{key}"), value);
    match value.as_object().filter(|fields| !fields.is_empty()) {
        Some(fields) => fields.iter().map(below).collect(),
        None => format!("{} = {value}\n", path.trim_start_matches('.')),
    }
}

#[test]
fn a_patch_holds_only_what_is_set() {
    let mut variables: BTreeMap<String, Option<Secret>> = BTreeMap::new();
    variables.insert("PGDATA".into(), Some(Secret::new("/var/lib/postgresql/data/pgdata")));
    variables.insert("OLD".into(), None);
    let database = ServicePatch {
        marker: Some("o7s1:00ff:shared-1:svc-1".into()),
        image: Some("ghcr.io/railwayapp-templates/postgres-ssl:17".into()),
        start_command: Some("postgres -c wal_level=logical".into()),
        region: Some("us-west2".into()),
        caps: Some(Resources { vcpu_milli: 1500, memory: Bytes(2 << 30) }),
        sleep: Some(false),
        tcp_proxy: Some(true),
        mount: Some(volume("vol-1")),
        created: true,
        variables,
    };
    let url = Some(Secret::new("postgresql://acme@h/acme"));
    let app = ServicePatch { variables: [("DATABASE_URL".into(), url)].into(), ..Default::default() };
    let other = ServicePatch {
        tcp_proxy: Some(false),
        caps: Some(Resources { vcpu_milli: 2000, memory: Bytes(1 << 30) }),
        ..Default::default()
    };
    let id = |text| ServiceId::parse(text).expect("valid");
    let patch = Patch {
        services: [(id("svc-1"), database), (id("svc-2"), app), (id("svc-3"), other)].into(),
        volumes: [(volume("vol-1"), VolumePatch { size_mib: Some(10_240), created: true })].into(),
    };
    insta::assert_snapshot!(leaves("", &patch.to_blob()), @r#"
    services.svc-1.deploy.limitOverride.containers.cpu = 1.5
    services.svc-1.deploy.limitOverride.containers.memoryBytes = 2147483648
    services.svc-1.deploy.multiRegionConfig.us-west2.numReplicas = 1
    services.svc-1.deploy.requiredMountPath = "/var/lib/postgresql/data"
    services.svc-1.deploy.sleepApplication = false
    services.svc-1.deploy.startCommand = "postgres -c wal_level=logical"
    services.svc-1.isCreated = true
    services.svc-1.networking.tcpProxies.5432 = {}
    services.svc-1.source.image = "ghcr.io/railwayapp-templates/postgres-ssl:17"
    services.svc-1.variables.O7S_OWNER.value = "o7s1:00ff:shared-1:svc-1"
    services.svc-1.variables.OLD = null
    services.svc-1.variables.PGDATA.value = "/var/lib/postgresql/data/pgdata"
    services.svc-1.volumeMounts.vol-1.mountPath = "/var/lib/postgresql/data"
    services.svc-2.variables.DATABASE_URL.value = "postgresql://acme@h/acme"
    services.svc-3.deploy.limitOverride.containers.cpu = 2
    services.svc-3.deploy.limitOverride.containers.memoryBytes = 1073741824
    services.svc-3.networking.tcpProxies.5432 = null
    volumes.vol-1.isCreated = true
    volumes.vol-1.sizeMB = 10240
    "#);
    assert_eq!(Patch::default().to_blob(), json!({}));
}

#[test]
fn what_railway_adds_by_itself_is_not_read() {
    let patch = ServicePatch { image: Some("postgres:17".into()), ..Default::default() };
    let mut entry = applied(&patch);
    let ours = read_service(&entry, "shared-1", &keyring());
    entry["source"]["checkSuites"] = json!(false);
    entry["source"]["branch"] = json!("main");
    entry["build"] = json!({ "builder": "RAILPACK", "buildEnvironment": "V3" });
    entry["deploy"] = json!({ "runtime": "V2", "useLegacyStacker": false, "ipv6EgressEnabled": false,
        "requiredMountPath": "/var/lib/postgresql/data", "limitOverride": null, "multiRegionConfig": null });
    entry["networking"] = json!({ "privateNetworkEndpoint": "shared-1", "tcpProxies": { "8080": {} } });
    entry["somethingNew"] = json!([1, 2, 3]);
    assert_eq!(read_service(&entry, "shared-1", &keyring()), ours);
}

#[test]
fn a_managed_field_of_another_shape_counts_as_not_set() {
    let empty = read_service(&json!({}), "shared-1", &keyring());
    for odd in [
        json!({ "source": "postgres:17", "deploy": [], "variables": null, "networking": 1, "volumeMounts": "x" }),
        json!({ "deploy": { "limitOverride": { "containers": { "cpu": -1, "memoryBytes": 1 } }, "sleepApplication": 1 } }),
        json!({ "deploy": { "limitOverride": { "containers": { "cpu": 2 } } } }),
        json!({ "volumeMounts": { "v": { "mountPath": "/elsewhere" } }, "networking": { "tcpProxies": { "5432": null } } }),
    ] {
        assert_eq!(read_service(&odd, "shared-1", &keyring()), empty, "{odd}");
    }
}

fn text() -> impl Strategy<Value = String> {
    "[ -~äß€]{1,20}"
}

fn resources() -> impl Strategy<Value = Resources> {
    (1u32..1_000_000, 1u64..1 << 45).prop_map(|(vcpu_milli, memory)| Resources { vcpu_milli, memory: Bytes(memory) })
}

fn service_patch() -> impl Strategy<Value = ServicePatch> {
    let variable = proptest::option::of("[ -~]{0,20}".prop_map(Secret::new));
    let variables = proptest::collection::btree_map("[A-Z_]{1,8}", variable, 0..4);
    let parts = (
        proptest::option::of(text()),
        proptest::option::of(text()),
        proptest::option::of("[a-z0-9-]{1,12}"),
        proptest::option::of(resources()),
        proptest::option::of(any::<bool>()),
        proptest::option::of(any::<bool>()),
        proptest::option::of("[a-z0-9-]{1,12}".prop_map(|id| volume(&id))),
        variables,
    );
    parts.prop_map(|(image, start_command, region, caps, sleep, tcp_proxy, mount, variables)| ServicePatch {
        marker: Some("o7s1:00:x".into()),
        image,
        start_command,
        region,
        caps,
        sleep,
        tcp_proxy,
        mount,
        created: true,
        variables,
    })
}

proptest! {
    #[test]
    fn the_reader_understands_what_the_writer_wrote(patch in service_patch()) {
        let keyring = keyring();
        let set = patch.variables.iter().filter_map(|(name, value)| Some((name.as_str(), Some(value.as_ref()?.expose()))));
        let wanted = ServiceConfig {
            variables: recognise("shared-1", set, &keyring),
            image: patch.image.clone(),
            start_command: patch.start_command.clone(),
            region: patch.region.clone(),
            caps: patch.caps,
            sleep: patch.sleep.unwrap_or(false),
            tcp_proxy: patch.tcp_proxy.unwrap_or(false),
            mounted_volume: patch.mount.clone(),
        };
        prop_assert_eq!(read_service(&applied(&patch), "shared-1", &keyring), wanted);
    }
}
