//! Deployments.

use serde_json::{Value, json};

use super::args::Args;
use super::page::page;
use super::{Answer, Context, Object, Refusal, Resolved, json, null, time};
use crate::local::world::{At, Deployment, Environment, Status, id_beside};

pub fn deployment(context: &Context<'_>, at: &At, id: &str, field: &str) -> Resolved {
    let world = context.world.borrow();
    let found = world.instance(at)?.deployments.iter().find(|deployment| deployment.id == id);
    let deployment = found.ok_or(Refusal::NotFound("Deployment"))?;
    match field {
        "id" => json(id),
        "status" => json(deployment.status.as_str()),
        "statusUpdatedAt" | "updatedAt" => json(time(deployment.status_at)),
        "createdAt" => json(time(deployment.created_at)),
        "deploymentStopped" => json(deployment.stopped),
        "serviceId" => json(at.service.as_str()),
        "service" => Ok(Answer::One(Object::Service(at.service.clone()))),
        "environmentId" => json(at.environment.as_str()),
        "environment" => Ok(Answer::One(Object::Environment(at.environment.clone()))),
        "projectId" => json(world.environment(&at.environment)?.project.as_str()),
        "instances" => json(instances(deployment)),
        "meta" => json(json!({ "image": deployment.snapshot.image, "reason": deployment.reason })),
        "canRedeploy" => json(!deployment.status.is_on_its_way()),
        "canRollback" => json(false),
        "snapshotId" | "url" | "staticUrl" | "creator" | "diagnosis" => null(),
        "suggestAddServiceDomain" => json(false),
        _ => Ok(Answer::Absent),
    }
}

/// A deployment that never got as far has no container.
fn instances(deployment: &Deployment) -> Value {
    match deployment.status {
        Status::Initializing | Status::Failed | Status::Removed => json!([]),
        _ => json!([{ "id": deployment.instance_id, "status": deployment.container_status() }]),
    }
}

/// Of one environment, newest first, those that `wanted` (service, deployment) says.
pub fn newest_first(environment: &Environment, wanted: impl Fn(&str, &Deployment) -> bool) -> Vec<(String, Object)> {
    let mut found = Vec::new();
    for (service, instance) in &environment.instances {
        for deployment in instance.deployments.iter().filter(|deployment| wanted(service, deployment)) {
            // Sorts later ones first; the id keeps those of one moment apart.
            let age = i64::MAX - deployment.created_at.timestamp_micros();
            let object = Object::Deployment { at: environment.at(service), id: deployment.id.clone() };
            found.push((format!("{age:020}{}", deployment.id), object));
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    found
}

/// The timeline of one deployment, as far as anything of it happens here: images are not built.
pub fn events(context: &Context<'_>, args: &Args) -> Resolved {
    let id = args.text("id");
    let world = context.world.borrow();
    let at = world.deployment(&id)?;
    context.may_reach(&at.environment)?;
    let found = world.instance(&at)?.deployments.iter().find(|deployment| deployment.id == id);
    let deployment = found.ok_or(Refusal::NotFound("Deployment"))?;
    let listed = deployment.events().into_iter().enumerate().map(|(n, event)| {
        let error = event.error.as_deref();
        let ended = event.ended_at;
        let took = ended.map(|ended| (ended - event.began_at).num_milliseconds());
        let fields = json!({
            "id": id_beside(&id, &format!("{}/{n}", event.step)),
            "step": event.step,
            "createdAt": time(event.began_at),
            "completedAt": ended.map(time),
            "payload": {
                "attempt": null, "maxAttempts": null, "durationMs": took, "error": error, "reason": null,
                "detail": null, "skipped": null,
            },
        });
        let fields = fields.as_object().cloned().unwrap_or_default();
        (format!("{n:06}"), Object::Plain { kind: "DeploymentEvent".into(), fields })
    });
    page(args, listed.collect())
}
