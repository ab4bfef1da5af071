//! The user, the workspace, projects, and what hangs on a project: services, volumes, tokens.

use serde_json::{Value, json};

use super::args::Args;
use super::page::page;
use super::{Answer, Context, Object, Refusal, Resolved, json, null, time};
use crate::local::world::{Caller, Plan, USER_EMAIL, USER_NAME, WORKSPACE_NAME};

pub fn user(context: &Context<'_>, field: &str) -> Resolved {
    let world = context.world.borrow();
    match field {
        "id" => json(world.user.as_str()),
        "name" | "username" => json(USER_NAME),
        "email" => json(USER_EMAIL),
        "avatar" => null(),
        "createdAt" => json(time(world.made_at)),
        "workspaces" => Ok(Answer::Many(vec![Object::Workspace])),
        "workspace" => Ok(Answer::One(Object::Workspace)),
        "apiTokenRateLimit" => json(rate_limit(context)),
        _ => Ok(Answer::Absent),
    }
}

fn rate_limit(context: &Context<'_>) -> Value {
    json!({ "remainingPoints": context.budget.0, "resetsAt": time(context.budget.1) })
}

/// A project token sees no more of its workspace than whose the project is, which Railway's own CLI asks with one.
pub fn workspace(context: &Context<'_>, field: &str, args: &Args) -> Resolved {
    if !matches!(field, "id" | "name") {
        context.not_for_project_tokens()?;
    }
    let world = context.world.borrow();
    match field {
        "id" => json(world.workspace.as_str()),
        "name" => json(WORKSPACE_NAME),
        "plan" => json(world.plan.workspace_plan()),
        "subscriptionPlanLimit" => json(plan_limit(world.plan)),
        "createdAt" | "updatedAt" => json(time(world.made_at)),
        "avatar" | "preferredRegion" | "banReason" | "team" => null(),
        "has2FAEnforcement" => json(false),
        "projectCount" => json(world.projects.values().filter(|project| project.deleted_at.is_none()).count()),
        "projects" => page(args, projects(context, false)),
        "apiTokenRateLimit" => json(rate_limit(context)),
        _ => Ok(Answer::Absent),
    }
}

pub fn projects(context: &Context<'_>, deleted_too: bool) -> Vec<(String, Object)> {
    let world = context.world.borrow();
    let shown = world.projects.values().filter(|project| deleted_too || project.deleted_at.is_none());
    shown.map(|project| (project.id.clone(), Object::Project(project.id.clone()))).collect()
}

/// The scalar's shape is nowhere documented; these are the plan table's figures under plain names.
fn plan_limit(plan: Plan) -> Value {
    let allowance = plan.allowance();
    json!({
        "volumes": { "maxCount": allowance.volumes_per_project, "maxSizeMB": allowance.volume_mb_max },
        "containers": { "cpu": allowance.vcpus_max, "memoryGB": allowance.memory_gb_max },
    })
}

pub fn project(context: &Context<'_>, id: &str, field: &str, args: &Args) -> Resolved {
    let world = context.world.borrow();
    let project = world.projects.get(id).ok_or(Refusal::NotFound("Project"))?;
    match field {
        "id" => json(id),
        "name" => json(project.name.as_str()),
        "description" => json(project.description.clone()),
        "createdAt" => json(time(project.created_at)),
        "updatedAt" => json(time(project.updated_at)),
        "deletedAt" => json(project.deleted_at.map(time)),
        "baseEnvironmentId" | "primaryEnvironmentId" => json(project.base_environment.as_str()),
        "baseEnvironment" => Ok(Answer::One(Object::Environment(project.base_environment.clone()))),
        "workspaceId" => json(world.workspace.as_str()),
        // Railway's CLI reads its name with a project token too, before every command.
        "workspace" => Ok(Answer::One(Object::Workspace)),
        "subscriptionType" => json(world.plan.subscription()),
        "subscriptionPlanLimit" => json(plan_limit(world.plan)),
        "expiredAt" | "team" | "teamId" => null(),
        // A patch with buckets is refused, so no project has any.
        "buckets" => page(args, Vec::new()),
        "tracingEnabled"
        | "isPublic"
        | "isTempProject"
        | "prDeploys"
        | "botPrEnvironments"
        | "focusedPrEnvironments" => json(false),
        "environments" => page(args, environments(context, id, args.get("isEphemeral"))),
        "services" => {
            let seen = world.services_of(id).filter(|service| service.visible_at <= context.now);
            page(args, seen.map(|service| (service.id.clone(), Object::Service(service.id.clone()))).collect())
        }
        "volumes" => {
            let mine = world.volumes.values().filter(|volume| volume.project == id);
            page(args, mine.map(|volume| (volume.id.clone(), Object::Volume(volume.id.clone()))).collect())
        }
        _ => Ok(Answer::Absent),
    }
}

/// Oldest first. A project token sees its own only.
pub fn environments(context: &Context<'_>, project: &str, ephemeral: Option<&Value>) -> Vec<(String, Object)> {
    let world = context.world.borrow();
    let wanted = ephemeral.and_then(Value::as_bool);
    let all = world.environments_of(project).into_iter();
    let shown = all.filter(|e| wanted.is_none_or(|wanted| wanted == e.ephemeral) && context.may_reach(&e.id).is_ok());
    let key = |created: &chrono::DateTime<chrono::Utc>, id: &str| format!("{:020}{id}", created.timestamp_millis());
    shown.map(|e| (key(&e.created_at, &e.id), Object::Environment(e.id.clone()))).collect()
}

pub fn service(context: &Context<'_>, id: &str, field: &str) -> Resolved {
    let world = context.world.borrow();
    let service = world.services.get(id).ok_or(Refusal::NotFound("Service"))?;
    match field {
        "id" => json(id),
        "name" => json(service.name.as_str()),
        "icon" => json(service.icon.clone()),
        "createdAt" => json(time(service.created_at)),
        "updatedAt" => json(time(service.updated_at)),
        "deletedAt" => json(service.deleted_at.map(time)),
        "projectId" => json(service.project.as_str()),
        "project" => Ok(Answer::One(Object::Project(service.project.clone()))),
        "templateId" | "templateServiceId" | "templateThreadSlug" | "groupId" => null(),
        "isRestricted" | "tracingEnabled" | "autoInstrumentationEnabled" => json(false),
        _ => Ok(Answer::Absent),
    }
}

pub fn volume(context: &Context<'_>, id: &str, field: &str, args: &Args) -> Resolved {
    let world = context.world.borrow();
    let volume = world.volume(id)?;
    match field {
        "id" => json(id),
        "name" => json(volume.name.as_str()),
        "createdAt" => json(time(volume.created_at)),
        "projectId" => json(volume.project.as_str()),
        "project" => Ok(Answer::One(Object::Project(volume.project.clone()))),
        "volumeInstances" => {
            let holds = |e: &&crate::local::world::Environment| {
                e.volume_instances.get(id).is_some_and(|instance| instance.visible_at <= context.now)
            };
            let there = world.environments.values().filter(holds).filter(|e| context.may_reach(&e.id).is_ok());
            let object = |e: &crate::local::world::Environment| {
                (e.id.clone(), Object::VolumeInstance { environment: e.id.clone(), volume: id.to_owned() })
            };
            page(args, there.map(object).collect())
        }
        _ => Ok(Answer::Absent),
    }
}

/// The token that asks; only a project token has anything to tell.
pub fn token(context: &Context<'_>, field: &str) -> Resolved {
    let Caller::Project { token, name, project, environment, created_at } = &context.caller else {
        return Err(Refusal::NoProjectToken);
    };
    match field {
        "id" => json(token.as_str()),
        "name" => json(name.as_str()),
        "createdAt" => json(time(*created_at)),
        "projectId" => json(project.as_str()),
        "environmentId" => json(environment.as_str()),
        "project" => Ok(Answer::One(Object::Project(project.clone()))),
        "environment" => Ok(Answer::One(Object::Environment(environment.clone()))),
        _ => Ok(Answer::Absent),
    }
}
