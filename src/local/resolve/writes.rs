//! Mutations: arguments to calls on the world. What the caller may not touch is refused first.

use serde_json::{Map, Value, json};

use super::args::Args;
use super::query::{at, reached_environment};
use super::{Answer, Context, Object, Refusal, Resolved, json};
use crate::local::world::{At, Caller, NewEnvironment, NewProject, NewService, NewVolume, Placement, VariableScope};

fn done() -> Resolved {
    json(true)
}

pub fn create_project(context: &Context<'_>, args: &Args) -> Resolved {
    context.not_for_project_tokens()?;
    let input = args.input();
    input.only("ProjectCreateInput", &["name", "description", "defaultEnvironmentName", "workspaceId"])?;
    let mut world = context.world.borrow_mut();
    if input.maybe("workspaceId").is_some_and(|id| id != world.workspace) {
        return Err(Refusal::NotAuthorized);
    }
    let new = NewProject {
        name: input.maybe("name"),
        description: input.maybe("description"),
        environment_name: input.maybe("defaultEnvironmentName"),
    };
    world.create_project(new, context.now).map(|id| Answer::One(Object::Project(id)))
}

pub fn delete_project(context: &Context<'_>, args: &Args) -> Resolved {
    context.not_for_project_tokens()?;
    context.world.borrow_mut().delete_project(&args.text("id"), context.now)?;
    done()
}

pub fn create_environment(context: &Context<'_>, args: &Args) -> Resolved {
    context.not_for_project_tokens()?;
    let input = args.input();
    let known =
        ["projectId", "name", "sourceEnvironmentId", "ephemeral", "skipInitialDeploys", "applyChangesInBackground"];
    input.only("EnvironmentCreateInput", &known)?;
    let new = NewEnvironment {
        project: input.text("projectId"),
        name: input.text("name"),
        source: input.maybe("sourceEnvironmentId"),
        ephemeral: input.flag("ephemeral"),
        skip_deploys: input.flag("skipInitialDeploys"),
    };
    let id = context.world.borrow_mut().create_environment(new, context.now)?;
    Ok(Answer::One(Object::Environment(id)))
}

pub fn create_project_token(context: &Context<'_>, args: &Args) -> Resolved {
    context.not_for_project_tokens()?;
    let input = args.input();
    let (project, environment) = (input.text("projectId"), input.text("environmentId"));
    let mut world = context.world.borrow_mut();
    let secret = world.create_project_token(input.text("name"), project, environment, context.now)?;
    json(secret.expose())
}

/// Of the workspace, or without one of the account.
pub fn create_api_token(context: &Context<'_>, args: &Args) -> Resolved {
    if context.caller != Caller::Account {
        return Err(Refusal::NotAuthorized);
    }
    let workspace = args.input().maybe("workspaceId");
    workspace.as_deref().map_or(Ok(()), |id| context.own_workspace(id))?;
    let caller = if workspace.is_some() { Caller::Workspace } else { Caller::Account };
    json(context.world.borrow_mut().create_token(caller)?.expose())
}

pub fn create_service(context: &Context<'_>, args: &Args) -> Resolved {
    let input = args.input();
    input.only("ServiceCreateInput", &["projectId", "environmentId", "name", "icon", "source", "variables"])?;
    let new = NewService {
        project: input.text("projectId"),
        environment: input.maybe("environmentId"),
        name: input.maybe("name"),
        icon: input.maybe("icon"),
        image: image(&input)?,
        variables: input.get("variables").filter(|variables| !variables.is_null()).cloned(),
    };
    context.may_reach_project(&new.project)?;
    if let Some(environment) = &new.environment {
        context.may_reach(environment)?;
    }
    context.world.borrow_mut().create_service(new, context.now).map(|id| Answer::One(Object::Service(id)))
}

/// Images run here; a repository would have to be built.
fn image(input: &Args) -> Result<Option<String>, Refusal> {
    let source = input.value("source");
    if source.get("repo").is_some_and(|repo| !repo.is_null()) {
        return Err(Refusal::NotSimulated("building a repository (`source.repo`)".into()));
    }
    Ok(source.get("image").and_then(Value::as_str).map(str::to_owned))
}

fn reach_service(context: &Context<'_>, id: &str) -> Result<(), Refusal> {
    let project = context.world.borrow().service(id)?.project.clone();
    context.may_reach_project(&project)
}

pub fn update_service(context: &Context<'_>, args: &Args) -> Resolved {
    let (id, input) = (args.text("id"), args.input());
    input.only("ServiceUpdateInput", &["name", "icon"])?;
    reach_service(context, &id)?;
    let (name, icon) = (input.maybe("name"), input.maybe("icon"));
    context.world.borrow_mut().update_service(&id, name, icon, context.now)?;
    Ok(Answer::One(Object::Service(id)))
}

pub fn delete_service(context: &Context<'_>, args: &Args) -> Resolved {
    let (id, environment) = (args.text("id"), args.maybe("environmentId"));
    reach_service(context, &id)?;
    context.world.borrow_mut().delete_service(&id, environment.as_deref(), context.now)?;
    done()
}

pub fn update_instance(context: &Context<'_>, args: &Args) -> Resolved {
    let (service, environment) = (args.text("serviceId"), args.maybe("environmentId"));
    reach_service(context, &service)?;
    let change = instance_change(&args.input())?;
    context.world.borrow_mut().update_instance(&service, environment.as_deref(), &change, context.now)?;
    done()
}

/// The input's fields at their places in the blob.
fn instance_change(input: &Args) -> Result<Value, Refusal> {
    const DEPLOY: [&str; 12] = [
        "startCommand",
        "preDeployCommand",
        "healthcheckPath",
        "healthcheckTimeout",
        "cronSchedule",
        "restartPolicyType",
        "restartPolicyMaxRetries",
        "sleepApplication",
        "overlapSeconds",
        "drainingSeconds",
        "ipv6EgressEnabled",
        "multiRegionConfig",
    ];
    const BUILD: [&str; 4] = ["builder", "buildCommand", "dockerfilePath", "watchPatterns"];
    const OTHER: [&str; 5] = ["source", "region", "numReplicas", "rootDirectory", "railwayConfigFile"];
    let known: Vec<&str> = DEPLOY.into_iter().chain(BUILD).chain(OTHER).collect();
    input.only("ServiceInstanceUpdateInput", &known)?;
    let chosen = |names: &[&str]| -> Map<String, Value> {
        names.iter().filter_map(|name| Some((String::from(*name), input.get(name)?.clone()))).collect()
    };
    let mut change = json!({ "deploy": chosen(&DEPLOY), "build": chosen(&BUILD) });
    if let Some(image) = image(input)? {
        change["source"]["image"] = image.into();
    }
    if let Some(folder) = input.get("rootDirectory") {
        change["source"]["rootDirectory"] = folder.clone();
    }
    if let Some(file) = input.get("railwayConfigFile") {
        change["configFile"] = file.clone();
    }
    if input.maybe("region").is_some() || input.count("numReplicas").is_some() {
        // One region of the older fields replaces whatever was there.
        let region = input.maybe("region").unwrap_or_else(|| crate::local::world::DEFAULT_REGION.into());
        change["deploy"]["multiRegionConfig"] =
            json!({ region: { "numReplicas": input.count("numReplicas").unwrap_or(1) } });
    }
    Ok(change)
}

pub fn limit_instance(context: &Context<'_>, args: &Args) -> Resolved {
    let input = args.input();
    let at = reached_instance(context, &input)?;
    let (vcpus, memory) = (input.number("vCPUs"), input.number("memoryGB"));
    context.world.borrow_mut().limit_instance(&at, vcpus, memory, context.now)?;
    done()
}

fn reached_instance(context: &Context<'_>, args: &Args) -> Result<At, Refusal> {
    let at = at(args);
    context.may_reach(&at.environment)?;
    context.world.borrow().instance(&at)?;
    Ok(at)
}

pub fn deploy(context: &Context<'_>, args: &Args) -> Resolved {
    args.only("Mutation.serviceInstanceDeployV2", &["environmentId", "serviceId"])?;
    let at = reached_instance(context, args)?;
    json(context.world.borrow_mut().deploy(&at, context.now)?)
}

pub fn redeploy_instance(context: &Context<'_>, args: &Args) -> Resolved {
    let at = reached_instance(context, args)?;
    context.world.borrow_mut().redeploy(&at, context.now)?;
    done()
}

fn reached_deployment(context: &Context<'_>, args: &Args) -> Result<(String, At), Refusal> {
    let id = args.text("id");
    let at = context.world.borrow().deployment(&id)?;
    context.may_reach(&at.environment)?;
    Ok((id, at))
}

pub fn stop_deployment(context: &Context<'_>, args: &Args) -> Resolved {
    let (id, _) = reached_deployment(context, args)?;
    context.world.borrow_mut().stop_deployment(&id, context.now)?;
    done()
}

pub fn restart_deployment(context: &Context<'_>, args: &Args) -> Resolved {
    let (id, _) = reached_deployment(context, args)?;
    context.world.borrow_mut().restart_deployment(&id, context.now)?;
    done()
}

pub fn redeploy(context: &Context<'_>, args: &Args) -> Resolved {
    args.only("Mutation.deploymentRedeploy", &["id"])?;
    let (_, at) = reached_deployment(context, args)?;
    let id = context.world.borrow_mut().redeploy(&at, context.now)?;
    Ok(Answer::One(Object::Deployment { at, id }))
}

pub fn create_volume(context: &Context<'_>, args: &Args) -> Resolved {
    let input = args.input();
    let placement = match input.get("environmentId") {
        None => Placement::Everywhere,
        Some(Value::String(id)) => Placement::In(id.clone()),
        Some(_) => Placement::Nowhere,
    };
    let new = NewVolume {
        project: input.text("projectId"),
        service: input.maybe("serviceId"),
        placement,
        mount_path: input.text("mountPath"),
        region: input.maybe("region"),
    };
    context.may_reach_project(&new.project)?;
    if let Placement::In(environment) = &new.placement {
        context.may_reach(environment)?;
    }
    context.world.borrow_mut().create_volume(new, context.now).map(|id| Answer::One(Object::Volume(id)))
}

fn reached_volume(context: &Context<'_>, args: &Args) -> Result<String, Refusal> {
    let id = args.text("volumeId");
    let project = context.world.borrow().volume(&id)?.project.clone();
    context.may_reach_project(&project)?;
    Ok(id)
}

pub fn rename_volume(context: &Context<'_>, args: &Args) -> Resolved {
    let id = reached_volume(context, args)?;
    context.world.borrow_mut().rename_volume(&id, args.input().maybe("name"))?;
    Ok(Answer::One(Object::Volume(id)))
}

pub fn attach_volume(context: &Context<'_>, args: &Args) -> Resolved {
    let (id, input) = (reached_volume(context, args)?, args.input());
    input.only("VolumeInstanceUpdateInput", &["serviceId", "mountPath"])?;
    let environment = args.maybe("environmentId");
    if let Some(environment) = &environment {
        context.may_reach(environment)?;
    }
    let (service, path) = (input.maybe("serviceId"), input.maybe("mountPath"));
    let mut world = context.world.borrow_mut();
    world.attach_volume(&id, environment.as_deref(), service.as_deref(), path.as_deref(), context.now)?;
    done()
}

pub fn delete_volume(context: &Context<'_>, args: &Args) -> Resolved {
    let id = reached_volume(context, args)?;
    context.world.borrow_mut().delete_volume(&id, context.now)?;
    done()
}

pub fn commit_patch(context: &Context<'_>, args: &Args) -> Resolved {
    let environment = reached_environment(context, args)?;
    let patch = args.value("patch");
    if patch.is_null() {
        return Err(Refusal::Invalid("a patch is needed".into()));
    }
    let message = args.maybe("commitMessage");
    json(context.world.borrow_mut().commit_patch(&environment, &patch, message, context.now)?)
}

pub fn commit_staged(context: &Context<'_>, args: &Args) -> Resolved {
    let environment = reached_environment(context, args)?;
    let (message, skip_deploys) = (args.maybe("commitMessage"), args.flag("skipDeploys"));
    json(context.world.borrow_mut().commit_staged(&environment, message, skip_deploys, context.now)?)
}

pub fn stage(context: &Context<'_>, args: &Args) -> Resolved {
    let environment = reached_environment(context, args)?;
    let mut world = context.world.borrow_mut();
    world.stage(&environment, &args.value("input"), args.flag("merge"), context.now)?;
    let patch = world.environment(&environment)?.staged.id.clone();
    Ok(Answer::One(Object::Patch { environment, patch }))
}

fn scope(context: &Context<'_>, input: &Args) -> Result<VariableScope, Refusal> {
    let environment = reached_environment(context, input)?;
    if context.world.borrow().environment(&environment)?.project != input.text("projectId") {
        return Err(Refusal::NotFound("Project"));
    }
    Ok(VariableScope { environment, service: input.maybe("serviceId") })
}

pub fn upsert_variable(context: &Context<'_>, args: &Args) -> Resolved {
    let input = args.input();
    let scope = scope(context, &input)?;
    let (variables, skip) = (json!({ input.text("name"): input.text("value") }), input.flag("skipDeploys"));
    context.world.borrow_mut().upsert_variables(&scope, &variables, false, skip, context.now)?;
    done()
}

pub fn upsert_variables(context: &Context<'_>, args: &Args) -> Resolved {
    let input = args.input();
    let scope = scope(context, &input)?;
    let (replace, skip) = (input.flag("replace"), input.flag("skipDeploys"));
    let variables = input.value("variables");
    context.world.borrow_mut().upsert_variables(&scope, &variables, replace, skip, context.now)?;
    done()
}

pub fn delete_variable(context: &Context<'_>, args: &Args) -> Resolved {
    let input = args.input();
    let scope = scope(context, &input)?;
    context.world.borrow_mut().delete_variable(&scope, &input.text("name"), context.now)?;
    done()
}
