//! Change sets: preview, apply, and the outcome of an apply nobody waited for.

use serde_json::json;

use super::args::Args;
use super::query::reached_environment;
use super::{Context, Refusal, Resolved, json};
use crate::local::world::{Apply, NewApply};

pub fn preview(context: &Context<'_>, args: &Args) -> Resolved {
    let environment = reached_environment(context, args)?;
    let set = context.world.borrow().preview(&environment, &args.value("input"), context.now)?;
    json(json!({ "effects": set.effects(), "changeSet": set.sent, "diagnostics": [] }))
}

pub fn apply(context: &Context<'_>, args: &Args) -> Resolved {
    let environment = reached_environment(context, args)?;
    let new = NewApply {
        environment: environment.clone(),
        sent: args.value("input"),
        base: args.maybe("baseConfigEtag"),
        message: args.maybe("commitMessage"),
        wait: args.flag("waitForCompletion"),
    };
    let id = context.world.borrow_mut().apply(new, context.now)?;
    outcome(context, &environment, &id)
}

pub fn read_apply(context: &Context<'_>, args: &Args) -> Resolved {
    let environment = reached_environment(context, args)?;
    outcome(context, &environment, &args.text("id"))
}

fn outcome(context: &Context<'_>, environment: &str, id: &str) -> Resolved {
    let world = context.world.borrow();
    let found = world.environment(environment)?.applies.iter().find(|apply| apply.id == id);
    let apply: &Apply = found.ok_or(Refusal::NotFound("ChangeSetApply"))?;
    json(json!({
        "id": apply.id,
        "status": apply.status.as_str(),
        "changes": apply.changes,
        "diagnostics": apply.diagnostics,
        "deploymentId": apply.deployment,
        // An apply commits; it stages nothing.
        "stagedPatchId": null,
    }))
}
