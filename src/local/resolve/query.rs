//! Root fields of queries.

use serde_json::{Value, json};

use super::args::Args;
use super::deployment::{events, newest_first};
use super::page::page;
use super::{
    Answer, Context, Object, Refusal, Resolved, backups, change_set, json, logs, network, notifications, project,
};
use crate::local::world::{At, Caller, Deployment, VariableScope, WORKSPACE_NAME};

pub fn field(context: &Context<'_>, field: &str, args: &Args) -> Resolved {
    match field {
        "me" => account_only(context).map(|()| Answer::One(Object::User)),
        "projectToken" => match context.caller {
            Caller::Project { .. } => Ok(Answer::One(Object::ProjectToken)),
            _ => Err(Refusal::NoProjectToken),
        },
        "apiToken" => {
            context.not_for_project_tokens()?;
            json(json!({ "workspaces": [{ "id": context.world.borrow().workspace, "name": WORKSPACE_NAME }] }))
        }
        "workspace" => {
            context.own_workspace(&args.text("workspaceId"))?;
            Ok(Answer::One(Object::Workspace))
        }
        "projects" => {
            context.not_for_project_tokens()?;
            args.only("Query.projects", &["workspaceId", "first", "after", "includeDeleted"])?;
            args.maybe("workspaceId").map_or(Ok(()), |id| context.own_workspace(&id))?;
            page(args, project::projects(context, args.flag("includeDeleted")))
        }
        "project" => {
            let id = args.text("id");
            context.may_reach_project(&id)?;
            context.world.borrow().project(&id)?;
            Ok(Answer::One(Object::Project(id)))
        }
        "environment" => one_environment(context, args),
        "environments" => {
            let id = args.text("projectId");
            context.may_reach_project(&id)?;
            context.world.borrow().project(&id)?;
            page(args, project::environments(context, &id, args.get("isEphemeral")))
        }
        "environmentPatch" => one_patch(context, &args.text("id")),
        "environmentPatches" => patches(context, args),
        "environmentChangeSetApply" => change_set::read_apply(context, args),
        "environmentStagedChanges" => {
            let environment = reached_environment(context, args)?;
            let patch = context.world.borrow().environment(&environment)?.staged.id.clone();
            Ok(Answer::One(Object::Patch { environment, patch }))
        }
        // Here is one user with one workspace, and nobody to share with.
        "externalWorkspaces" => account_only(context).and_then(|()| json(json!([]))),
        "projectFavorites" => {
            context.own_workspace(&args.text("workspaceId"))?;
            json(json!([]))
        }
        "regions" => json(regions()),
        "platformStatus" => json(json!({ "isStable": true, "incident": null, "maintenance": null })),
        _ => of_service(context, field, args),
    }
}

/// About one service and what belongs to it.
fn of_service(context: &Context<'_>, field: &str, args: &Args) -> Resolved {
    match field {
        "service" => {
            let id = args.text("id");
            context.seen_service(&id)?;
            Ok(Answer::One(Object::Service(id)))
        }
        "serviceInstance" => {
            let at = at(args);
            context.seen_instance(&at)?;
            Ok(Answer::One(Object::ServiceInstance(at)))
        }
        "volumeInstance" => volume_instance(context, &args.text("id")),
        "tcpProxies" => network::tcp_proxies(context, &at(args)),
        "privateNetworks" => network::private_networks(context, args),
        "privateNetworkEndpoint" => network::private_endpoint(context, args),
        "serviceInstanceLimits" => {
            let at = at(args);
            context.seen_instance(&at)?;
            json(context.world.borrow().limits_of(&at)?)
        }
        "serviceInstanceLimitOverride" => {
            let at = at(args);
            context.seen_instance(&at)?;
            json(context.world.borrow().limit_override(&at)?.unwrap_or(Value::Null))
        }
        "notificationRules" => notifications::list(context, args),
        "deploymentEvents" => events(context, args),
        "deployment" => {
            let id = args.text("id");
            let at = context.world.borrow().deployment(&id)?;
            context.may_reach(&at.environment)?;
            Ok(Answer::One(Object::Deployment { at, id }))
        }
        "deployments" => deployments(context, args),
        "deploymentLogs" => logs::of_deployment(context, args),
        "buildLogs" => logs::of_build(context, args),
        "environmentLogs" => logs::of_environment(context, args),
        "volumeInstanceBackupList" => backups::list(context, args),
        "volumeInstanceBackupScheduleList" => backups::schedules(context, args),
        "workflowStatus" => backups::workflow(context, args),
        "variables" => variables(context, args, !args.flag("unrendered")),
        "variablesForServiceDeployment" => variables(context, args, true),
        _ => Ok(Answer::Absent),
    }
}

fn account_only(context: &Context<'_>) -> Result<(), Refusal> {
    if context.caller == Caller::Account { Ok(()) } else { Err(Refusal::NotAuthorized) }
}

pub fn at(args: &Args) -> At {
    At { environment: args.text("environmentId"), service: args.text("serviceId") }
}

pub fn reached_environment(context: &Context<'_>, args: &Args) -> Result<String, Refusal> {
    let id = args.text("environmentId");
    context.may_reach(&id)?;
    context.world.borrow().environment(&id)?;
    Ok(id)
}

fn one_environment(context: &Context<'_>, args: &Args) -> Resolved {
    let id = args.text("id");
    context.may_reach(&id)?;
    let world = context.world.borrow();
    let environment = world.environment(&id)?;
    if args.maybe("projectId").is_some_and(|project| project != environment.project) {
        return Err(Refusal::NotFound("Environment"));
    }
    Ok(Answer::One(Object::Environment(id)))
}

fn volume_instance(context: &Context<'_>, id: &str) -> Resolved {
    let world = context.world.borrow();
    for environment in world.environments.values().filter(|e| e.deleted_at.is_none()) {
        let seen = |v: &crate::local::world::VolumeInstance| v.id == id && v.visible_at <= context.now;
        if let Some((volume, _)) = environment.volume_instances.iter().find(|(_, instance)| seen(instance)) {
            context.may_reach(&environment.id)?;
            return Ok(Answer::One(Object::VolumeInstance {
                environment: environment.id.clone(),
                volume: volume.clone(),
            }));
        }
    }
    Err(Refusal::NotFound("VolumeInstance"))
}

fn deployments(context: &Context<'_>, args: &Args) -> Resolved {
    let input = args.input();
    input.only("DeploymentListInput", &["projectId", "environmentId", "serviceId", "status", "includeDeleted"])?;
    let states = |name: &str| -> Option<Vec<String>> {
        let list = input.get("status")?.get(name)?.as_array()?;
        Some(list.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    };
    let (within, without) = (states("in"), states("notIn"));
    let wanted = |service: &str, deployment: &Deployment| {
        let status = deployment.status.as_str().to_owned();
        input.maybe("serviceId").is_none_or(|id| id == service)
            && within.as_ref().is_none_or(|list| list.contains(&status))
            && without.as_ref().is_none_or(|list| !list.contains(&status))
    };
    let world = context.world.borrow();
    if let Some(id) = input.maybe("environmentId") {
        context.may_reach(&id)?;
        return page(args, newest_first(world.environment(&id)?, wanted));
    }
    let project = input.maybe("projectId");
    let project = project.ok_or_else(|| Refusal::Invalid("a projectId or an environmentId is needed".into()))?;
    context.may_reach_project(&project)?;
    world.project(&project)?;
    let reached = world.environments_of(&project).into_iter().filter(|e| context.may_reach(&e.id).is_ok());
    let mut all: Vec<_> = reached.flat_map(|environment| newest_first(environment, wanted)).collect();
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    page(args, all)
}

fn variables(context: &Context<'_>, args: &Args, rendered: bool) -> Resolved {
    let environment = reached_environment(context, args)?;
    let world = context.world.borrow();
    if world.environment(&environment)?.project != args.text("projectId") {
        return Err(Refusal::NotFound("Project"));
    }
    let scope = VariableScope { environment, service: args.maybe("serviceId") };
    let found = if rendered { world.rendered_variables(&scope, false)? } else { world.raw_variables(&scope)? };
    json(json!(found))
}

fn one_patch(context: &Context<'_>, id: &str) -> Resolved {
    let world = context.world.borrow();
    let holds =
        |e: &&crate::local::world::Environment| e.staged.id == id || e.patches.iter().any(|patch| patch.id == id);
    let environment = world.environments.values().find(holds).ok_or(Refusal::NotFound("EnvironmentPatch"))?;
    context.may_reach(&environment.id)?;
    Ok(Answer::One(Object::Patch { environment: environment.id.clone(), patch: id.to_owned() }))
}

fn patches(context: &Context<'_>, args: &Args) -> Resolved {
    let environment = reached_environment(context, args)?;
    let world = context.world.borrow();
    let newest = world.environment(&environment)?.patches.iter().rev();
    let listed = newest.map(|patch| {
        let age = i64::MAX - patch.created_at.timestamp_micros();
        let object = Object::Patch { environment: environment.clone(), patch: patch.id.clone() };
        (format!("{age:020}{}", patch.id), object)
    });
    let mut listed: Vec<_> = listed.collect();
    listed.sort_by(|(a, _), (b, _)| a.cmp(b));
    page(args, listed)
}

/// Railway's four (docs, regions, read 2026-11-24).
fn regions() -> Vec<Value> {
    let region = |name: &str, location: &str, country: &str| {
        json!({
            "id": name, "name": name, "region": name, "location": location, "country": country,
            "workspaceId": null, "deploymentConstraints": null,
        })
    };
    vec![
        region("us-west2", "California, USA", "US"),
        region("us-east4-eqdc4a", "Virginia, USA", "US"),
        region("europe-west4-drams3a", "Amsterdam, Netherlands", "NL"),
        region("asia-southeast1-eqsg3a", "Singapore", "SG"),
    ]
}
