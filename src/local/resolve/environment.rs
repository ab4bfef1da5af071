//! Environments, their config blob, and their patches.

use serde_json::{Map, Value};

use super::args::Args;
use super::deployment::newest_first;
use super::page::page;
use super::{Answer, Context, Object, Refusal, Resolved, json, time};
use crate::local::world::{Environment, masked};

pub fn environment(context: &Context<'_>, id: &str, field: &str, args: &Args) -> Resolved {
    context.may_reach(id)?;
    let world = context.world.borrow();
    let environment = world.environments.get(id).ok_or(Refusal::NotFound("Environment"))?;
    match field {
        "id" => json(id),
        "name" => json(environment.name.as_str()),
        "projectId" => json(environment.project.as_str()),
        "createdAt" => json(time(environment.created_at)),
        "updatedAt" => json(time(environment.updated_at)),
        "deletedAt" => json(environment.deleted_at.map(time)),
        "isEphemeral" => json(environment.ephemeral),
        "canAccess" => json(true),
        "sourceEnvironment" => match &environment.fork_of {
            Some(source) => Ok(Answer::One(Object::Environment(source.clone()))),
            None => json(Value::Null),
        },
        // Of environments made for a pull request, which nothing here makes.
        "meta" => json(Value::Null),
        // Groups on the dashboard's canvas, which is not here.
        "canvasGroupRefs" => json(Map::new()),
        "configEtag" => json(environment.etag()),
        "unmergedChangesCount" => json(environment.staged_changes()),
        "config" => json(masked(&seen(context, environment), args.flag("decryptVariables"))),
        "serviceInstances" => {
            let seen = environment.instances.iter().filter(|(_, instance)| instance.visible_at <= context.now);
            page(
                args,
                seen.map(|(service, _)| (service.clone(), Object::ServiceInstance(environment.at(service))))
                    .collect(),
            )
        }
        "volumeInstances" => {
            let seen = environment.volume_instances.iter().filter(|(_, volume)| volume.visible_at <= context.now);
            let object =
                |volume: &String| Object::VolumeInstance { environment: id.to_owned(), volume: volume.clone() };
            page(args, seen.map(|(volume, _)| (volume.clone(), object(volume))).collect())
        }
        "deployments" => page(args, newest_first(environment, |_, _| true)),
        _ => Ok(Answer::Absent),
    }
}

/// The blob without what lists do not show yet: a lagging read lags as a whole.
fn seen(context: &Context<'_>, environment: &Environment) -> Value {
    let mut shown = environment.config.clone();
    let hidden_service = |id: &String| environment.instances.get(id).is_some_and(|i| i.visible_at > context.now);
    let hidden_volume =
        |id: &String| environment.volume_instances.get(id).is_some_and(|v| v.visible_at > context.now);
    if let Some(services) = shown.get_mut("services").and_then(Value::as_object_mut) {
        services.retain(|id, _| !hidden_service(id));
        for mounts in services.values_mut().filter_map(|service| service.get_mut("volumeMounts")?.as_object_mut()) {
            mounts.retain(|id, _| !hidden_volume(id));
        }
    }
    if let Some(volumes) = shown.get_mut("volumes").and_then(Value::as_object_mut) {
        volumes.retain(|id, _| !hidden_volume(id));
    }
    // Empty parts are not shown, as in a blob that never had them.
    if let Some(parts) = shown.as_object_mut() {
        parts.retain(|_, part| part.as_object().is_none_or(|map: &Map<String, Value>| !map.is_empty()));
    }
    shown
}

pub fn patch(context: &Context<'_>, environment: &str, id: &str, field: &str, args: &Args) -> Resolved {
    context.may_reach(environment)?;
    let world = context.world.borrow();
    let there = world.environment(environment)?;
    let committed = there.patches.iter().find(|patch| patch.id == id);
    let patch = committed.or(Some(&there.staged).filter(|staged| staged.id == id));
    let patch = patch.ok_or(Refusal::NotFound("EnvironmentPatch"))?;
    match field {
        "id" => json(id),
        "environmentId" => json(environment),
        "environment" => Ok(Answer::One(Object::Environment(environment.to_owned()))),
        "status" => json(if patch.applied_at.is_some() { "COMMITTED" } else { "STAGED" }),
        "message" => json(patch.message.clone()),
        "createdAt" => json(time(patch.created_at)),
        "updatedAt" => json(time(patch.updated_at)),
        "appliedAt" => json(patch.applied_at.map(time)),
        // A patch that cannot be applied is refused at once here, never half-way.
        "lastAppliedError" => json(Value::Null),
        "patch" => json(masked(&patch.content, args.flag("decryptVariables"))),
        _ => Ok(Answer::Absent),
    }
}
