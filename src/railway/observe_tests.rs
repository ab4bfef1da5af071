//! Railway's answers in the plan's words: whose a service is, how it is doing, and what makes a read incomplete.

use serde_json::{Value, json};

use super::scripted::{Reply, Script, data, refusal};
use super::*;
use crate::manifest::{RailwayPlan, Resources};
use crate::plan::{Deployment, LiveValue, Ownership, RailwayLive, VolumeLive};
use crate::tenancy::{Bytes, EnvironmentId, FleetUid, Keyring, ProjectId, Secret, ServiceId, VolumeId};

fn keyring() -> Keyring {
    Keyring::new(&Secret::new("0123456789abcdef0123456789abcdef")).expect("long enough")
}

async fn read(replies: impl IntoIterator<Item = Reply>) -> (Result<RailwayLive, Error>, std::sync::Arc<Script>) {
    let script = Script::new(replies);
    let (project, environment) = (ProjectId::parse("p").expect("valid"), EnvironmentId::parse("e").expect("valid"));
    let live = script.client().read_live(&project, &environment, &keyring(), &FleetUid::from_stored("00ff")).await;
    (live, script)
}

/// A list whose next page, if any, begins behind `next`.
fn list(nodes: Vec<Value>, next: Option<&str>) -> Value {
    let edges: Vec<Value> = nodes.into_iter().map(|node| json!({ "node": node })).collect();
    json!({ "edges": edges, "pageInfo": { "hasNextPage": next.is_some(), "endCursor": next } })
}

fn service(id: &str, name: &str) -> Value {
    json!({ "id": id, "name": name, "createdAt": "2026-11-24T08:00:00.000Z", "deletedAt": null })
}

/// A page with one service `s1`, named `shared-1`, configured by `entry` and deployed as `latest` says.
fn page(entry: &Value, latest: &Value) -> Value {
    json!({
        "project": {
            "name": "shop", "deletedAt": null, "subscriptionType": "pro",
            "services": list(vec![service("s1", "shared-1")], None),
        },
        "environment": {
            "name": "production", "deletedAt": null, "configEtag": "etag-1", "unmergedChangesCount": 2,
            "config": { "services": { "s1": entry } },
            "serviceInstances": list(vec![json!({ "serviceId": "s1", "latestDeployment": latest })], None),
            "volumeInstances": list(vec![], None),
        },
    })
}

fn volume(id: &str, service: Option<&str>) -> Value {
    json!({
        "volumeId": id, "serviceId": service, "mountPath": POSTGRES_MOUNT, "sizeMB": 50_000,
        "currentSizeMB": 1200.4, "state": "READY", "isPendingDeletion": false, "deletedAt": null,
    })
}

async fn only_service(entry: Value, latest: Value) -> crate::plan::ServiceLive {
    let (live, _) = read([data(page(&entry, &latest))]).await;
    live.expect("complete").services.remove(0)
}

fn marked(marker: &str) -> Value {
    json!({ "variables": { "O7S_OWNER": { "value": marker } } })
}

#[tokio::test(start_paused = true)]
async fn one_request_reads_everything_there_is_to_know() {
    let entry = json!({
        "source": { "image": "postgres:17" },
        "deploy": {
            "startCommand": "postgres", "sleepApplication": true,
            "multiRegionConfig": { "us-west2": { "numReplicas": 1 } },
            "limitOverride": { "containers": { "cpu": 2, "memoryBytes": 2_147_483_648u64 } },
        },
        "networking": { "tcpProxies": { "5432": {} } },
        "variables": { "O7S_OWNER": { "value": "o7s1:00ff:shared-1:s1" }, "PGDATA": { "value": "/var/lib/postgresql/data/pgdata" }, "X": { "value": "secret" } },
    });
    let latest = json!({ "id": "d1", "status": "SUCCESS", "deploymentStopped": false, "instances": [{ "status": "RUNNING" }] });
    let mut page = page(&entry, &latest);
    page["environment"]["volumeInstances"] = list(vec![volume("v1", Some("s1"))], None);
    let (live, script) = read([data(page)]).await;
    let live = live.expect("complete");
    assert_eq!(script.operations(), ["ReadLiveState"]);
    assert_eq!((live.project_name.as_str(), live.environment_name.as_str()), ("shop", "production"));
    assert_eq!((live.plan, live.limits), (RailwayPlan::Pro, plan_limits(RailwayPlan::Pro)));
    assert_eq!((live.config_etag.as_str(), live.staged_changes), ("etag-1", 2));
    let (v1, s1) = (VolumeId::parse("v1").expect("valid"), ServiceId::parse("s1").expect("valid"));
    let mount_path = POSTGRES_MOUNT.to_owned();
    let volume = VolumeLive { id: v1.clone(), service: Some(s1), mount_path, size_mib: 50_000, used_mib: 1201 };
    assert_eq!(live.volumes, [volume]);
    let service = live.service("shared-1").expect("listed");
    assert_eq!((service.owner, &service.deployment), (Ownership::Ours, &Deployment::Running));
    let config = service.config.as_ref().expect("visible");
    assert_eq!(config.caps, Some(Resources { vcpu_milli: 2000, memory: Bytes(2 << 30) }));
    assert_eq!((config.image.as_deref(), config.start_command.as_deref()), (Some("postgres:17"), Some("postgres")));
    assert_eq!((config.region.as_deref(), config.sleep, config.tcp_proxy), (Some("us-west2"), true, true));
    // Attached by its creation; the configuration does not repeat it.
    assert_eq!(config.mounted_volume, Some(v1));
    let pgdata = LiveValue::Plain { text: "/var/lib/postgresql/data/pgdata".into() };
    assert_eq!(config.variables, [("PGDATA".to_owned(), pgdata), ("X".to_owned(), LiveValue::Other)].into());
}

#[tokio::test(start_paused = true)]
async fn whose_a_service_is_is_told_by_its_marker_alone() {
    for (marker, owner) in [
        ("o7s1:00ff:shared-1:s1", Ownership::Ours),
        ("o7s1:00ff:shared-1", Ownership::OursUnconfigured),
        ("o7s1:00ff:shared-1:s2", Ownership::Foreign),
        ("o7s1:00ff:shared-2:s1", Ownership::Foreign),
        ("o7s1:beef:shared-1:s1", Ownership::Foreign),
        ("hello", Ownership::Foreign),
        ("o7s2:00ff:shared-1:s1", Ownership::Newer),
    ] {
        assert_eq!(only_service(marked(marker), Value::Null).await.owner, owner, "{marker}");
    }
    assert_eq!(only_service(json!({}), Value::Null).await.owner, Ownership::Foreign);
    let sealed = json!({ "variables": { "O7S_OWNER": { "isSealed": true, "value": "" } } });
    assert_eq!(only_service(sealed, Value::Null).await.owner, Ownership::Unknown);
}

#[tokio::test(start_paused = true)]
async fn a_service_without_a_visible_configuration_may_be_ours() {
    let service = only_service(Value::Null, Value::Null).await;
    assert_eq!((service.owner, service.config), (Ownership::Unknown, None));
}

#[tokio::test(start_paused = true)]
async fn a_masked_marker_makes_the_read_incomplete_instead_of_everything_foreign() {
    let (live, _) = read([data(page(&marked("*****"), &Value::Null))]).await;
    assert!(matches!(live, Err(Error::Incomplete { .. })), "{live:?}");
}

#[tokio::test(start_paused = true)]
async fn values_that_cannot_be_seen_equal_nothing_and_missing_ones_are_left_out() {
    let entry = json!({ "variables": {
        "O7S_OWNER": { "value": "o7s1:00ff:shared-1:s1" },
        "SEALED": { "isSealed": true }, "SEALED_TOO": { "isSealed": true, "value": "*****" },
        "GENERATED": { "generator": "secret(32)" }, "DELETED": null, "EMPTY": { "value": "" },
    }});
    let variables = only_service(entry, Value::Null).await.config.expect("visible").variables;
    assert_eq!(variables.keys().collect::<Vec<_>>(), ["EMPTY", "SEALED", "SEALED_TOO"]);
    assert!(variables.values().all(|value| *value == LiveValue::Other), "{variables:?}");
}

#[tokio::test(start_paused = true)]
async fn a_deployment_runs_only_with_a_running_instance() {
    let pending = |status: &str| Deployment::Pending { status: status.into() };
    let failed = |status: &str| Deployment::Failed { status: status.into() };
    for (status, instances, is) in [
        ("SUCCESS", vec!["RUNNING"], Deployment::Running),
        ("SUCCESS", vec!["EXITED", "RUNNING"], Deployment::Running),
        ("SUCCESS", vec![], pending("SUCCESS")),
        ("SUCCESS", vec!["RESTARTING"], pending("SUCCESS")),
        ("SUCCESS", vec!["EXITED"], failed("EXITED")),
        ("SUCCESS", vec!["EXITED", "CRASHED"], failed("CRASHED")),
        ("SLEEPING", vec![], Deployment::Sleeping),
        ("DEPLOYING", vec!["RUNNING"], pending("DEPLOYING")),
        ("SOMETHING_NEW", vec![], pending("SOMETHING_NEW")),
        ("CRASHED", vec!["CRASHED"], failed("CRASHED")),
        ("REMOVED", vec![], Deployment::None),
    ] {
        let instances: Vec<Value> = instances.iter().map(|status| json!({ "status": status })).collect();
        let latest = json!({ "id": "d1", "status": status, "deploymentStopped": false, "instances": instances });
        assert_eq!(only_service(json!({}), latest).await.deployment, is, "{status}");
    }
    let stopped =
        json!({ "id": "d1", "status": "SUCCESS", "deploymentStopped": true, "instances": [{ "status": "STOPPED" }] });
    assert_eq!(only_service(json!({}), stopped).await.deployment, failed("STOPPED"));
    assert_eq!(only_service(json!({}), Value::Null).await.deployment, Deployment::None);
}

#[tokio::test(start_paused = true)]
async fn what_is_going_is_not_there() {
    let mut page = page(&json!({ "isDeleted": true }), &Value::Null);
    let mut gone = service("s2", "gone");
    gone["deletedAt"] = json!("2026-11-24T08:00:00.000Z");
    page["project"]["services"] = list(vec![service("s1", "shared-1"), gone], None);
    let with = |key: &str, value: Value| {
        let mut volume = volume("v", None);
        volume[key] = value;
        volume
    };
    let going = vec![
        with("state", json!("DELETING")),
        with("isPendingDeletion", json!(true)),
        with("deletedAt", json!("2026-11-24T08:00:00.000Z")),
    ];
    page["environment"]["volumeInstances"] = list(going, None);
    let live = read([data(page)]).await.0.expect("complete");
    assert_eq!((live.services, live.volumes), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn every_list_is_followed_to_its_end() {
    let mut first = page(&json!({}), &Value::Null);
    first["project"]["services"] = list(vec![service("s2", "b")], Some("services-1"));
    first["environment"]["volumeInstances"] = list(vec![volume("v2", None)], Some("volumes-1"));
    let mut second = first.clone();
    second["project"]["services"] = list(vec![service("s1", "a")], None);
    second["environment"]["volumeInstances"] = list(vec![volume("v1", None)], Some("volumes-2"));
    let mut third = first.clone();
    third["project"]["services"] = list(vec![], None);
    third["environment"]["volumeInstances"] = list(vec![], None);
    let (live, script) = read([data(first), data(second), data(third)]).await;
    let live = live.expect("complete");
    assert_eq!(live.services.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(live.volumes.iter().map(|v| v.id.as_str()).collect::<Vec<_>>(), ["v1", "v2"]);
    let sent = script.sent();
    assert_eq!(sent[2].body["variables"]["servicesAfter"], "services-1");
    assert_eq!(sent[2].body["variables"]["volumesAfter"], "volumes-2");
}

#[tokio::test(start_paused = true)]
async fn a_read_with_a_hole_in_it_is_an_error() {
    let whole = page(&json!({}), &Value::Null);
    let mut endless = whole.clone();
    endless["project"]["services"]["pageInfo"] = json!({ "hasNextPage": true, "endCursor": null });
    let mut more = whole.clone();
    more["project"]["services"] = list(vec![], Some("next"));
    let mut changed = whole.clone();
    changed["environment"]["configEtag"] = json!("etag-2");
    let mut deleted = whole.clone();
    deleted["environment"]["deletedAt"] = json!("2026-11-24T08:00:00.000Z");
    let beside = json!({ "data": whole, "errors": [{ "message": "volumes are away", "path": ["environment"] }] });
    for (why, replies) in [
        ("no cursor", vec![data(endless)]),
        ("same cursor", vec![data(more.clone()), data(more.clone())]),
        ("changed", vec![data(more), data(changed)]),
        ("deleted", vec![data(deleted)]),
        ("error beside data", vec![Reply::Http(200, vec![], beside.to_string())]),
    ] {
        let (live, _) = read(replies).await;
        assert!(matches!(live, Err(Error::Incomplete { .. })), "{why}: {live:?}");
    }
    let (live, _) = read([data(json!({ "project": null, "environment": null }))]).await;
    assert!(matches!(live, Err(Error::BadAnswer { .. })), "{live:?}");
    let (live, _) = read([refusal("Not Authorized", Some("environment"))]).await;
    assert!(matches!(live, Err(Error::Unauthorized { .. })), "{live:?}");
}
