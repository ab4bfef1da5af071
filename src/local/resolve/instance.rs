//! Services and volumes in an environment, in the words of the schema. A service instance's settings are its blob's.

use serde_json::{Value, json};

use super::{Answer, Context, Object, Refusal, Resolved, json, null, time};
use crate::local::world::{At, DEFAULT_REGION, Deployment, replicas};

/// Railway's default restart policy.
const RESTARTS_MAX: i64 = 10;

pub fn service_instance(context: &Context<'_>, at: &At, field: &str) -> Resolved {
    let world = context.world.borrow();
    let instance = world.instance(at)?;
    let environment = world.environment(&at.environment)?;
    let blob = environment.service_blob(&at.service).unwrap_or(&Value::Null);
    let deployment = |found: &Deployment| Object::Deployment { at: at.clone(), id: found.id.clone() };
    let setting = |pointer: &str| json(blob.pointer(pointer).cloned().unwrap_or(Value::Null));
    let or = |pointer: &str, default: Value| json(blob.pointer(pointer).cloned().unwrap_or(default));
    match field {
        "id" => json(instance.id.as_str()),
        "serviceId" => json(at.service.as_str()),
        "environmentId" => json(at.environment.as_str()),
        "serviceName" => json(world.service(&at.service)?.name.as_str()),
        "service" => Ok(Answer::One(Object::Service(at.service.clone()))),
        "createdAt" => json(time(instance.created_at)),
        "updatedAt" => json(time(instance.updated_at.max(environment.updated_at))),
        "deletedAt" | "nextCronRunAt" | "railpackInfo" | "edgeConfig" => null(),
        "isUpdatable" | "tracingEnabled" | "autoInstrumentationEnabled" => json(false),
        // Services are reached by TCP proxies only: a patch with an HTTP domain is refused.
        "domains" => json(json!({ "serviceDomains": [], "customDomains": [] })),
        "region" => json(region(blob)),
        "numReplicas" => json(replicas(blob)),
        "source" => json(source(blob)),
        "sleepApplication" => or("/deploy/sleepApplication", json!(false)),
        "startCommand" => setting("/deploy/startCommand"),
        "preDeployCommand" => setting("/deploy/preDeployCommand"),
        "healthcheckPath" => setting("/deploy/healthcheckPath"),
        "healthcheckTimeout" => setting("/deploy/healthcheckTimeout"),
        "cronSchedule" => setting("/deploy/cronSchedule"),
        "overlapSeconds" => setting("/deploy/overlapSeconds"),
        "drainingSeconds" => setting("/deploy/drainingSeconds"),
        "ipv6EgressEnabled" => setting("/deploy/ipv6EgressEnabled"),
        "restartPolicyType" => or("/deploy/restartPolicyType", json!("ON_FAILURE")),
        "restartPolicyMaxRetries" => or("/deploy/restartPolicyMaxRetries", json!(RESTARTS_MAX)),
        "builder" => or("/build/builder", json!("RAILPACK")),
        "buildCommand" => setting("/build/buildCommand"),
        "dockerfilePath" => setting("/build/dockerfilePath"),
        "watchPatterns" => or("/build/watchPatterns", json!([])),
        "rootDirectory" => setting("/source/rootDirectory"),
        "upstreamUrl" => setting("/source/upstreamUrl"),
        "railwayConfigFile" => setting("/configFile"),
        "latestDeployment" => match instance.latest() {
            Some(latest) => Ok(Answer::One(deployment(latest))),
            None => null(),
        },
        "activeDeployments" => {
            let active = instance.deployments.iter().rev().filter(|found| found.is_running());
            Ok(Answer::Many(active.map(deployment).collect()))
        }
        _ => Ok(Answer::Absent),
    }
}

/// The one region it runs in; with several, the first by name.
fn region(blob: &Value) -> String {
    let regions = blob.pointer("/deploy/multiRegionConfig").and_then(Value::as_object);
    let first = regions.and_then(|regions| regions.keys().next().map(String::as_str));
    first.or_else(|| blob.pointer("/deploy/region")?.as_str()).unwrap_or(DEFAULT_REGION).to_owned()
}

fn source(blob: &Value) -> Value {
    match blob.get("source") {
        Some(source) => json!({ "image": source.get("image"), "repo": source.get("repo") }),
        None => Value::Null,
    }
}

pub fn volume_instance(context: &Context<'_>, environment: &str, volume: &str, field: &str) -> Resolved {
    context.may_reach(environment)?;
    let world = context.world.borrow();
    let found = world.environments.get(environment).and_then(|e| e.volume_instances.get(volume));
    let instance = found.ok_or(Refusal::NotFound("VolumeInstance"))?;
    match field {
        "id" => json(instance.id.as_str()),
        "volumeId" => json(volume),
        "volume" => Ok(Answer::One(Object::Volume(volume.to_owned()))),
        "environmentId" => json(environment),
        "environment" => Ok(Answer::One(Object::Environment(environment.to_owned()))),
        "serviceId" => json(instance.service.clone()),
        "service" => match &instance.service {
            Some(service) => Ok(Answer::One(Object::Service(service.clone()))),
            None => Err(Refusal::NotFound("Service")),
        },
        "mountPath" => json(instance.mount_path.as_str()),
        "region" => json(instance.region.as_str()),
        "sizeMB" => json(instance.size_mb),
        "currentSizeMB" => json(instance.used_mb()),
        "createdAt" => json(time(instance.created_at)),
        "state" => json(match instance {
            _ if instance.dies_at.is_some() => "DELETING",
            _ if instance.restoring => "RESTORING",
            _ => "READY",
        }),
        "isPendingDeletion" => json(instance.dies_at.is_some()),
        "deletedAt" | "externalId" => null(),
        _ => Ok(Answer::Absent),
    }
}
