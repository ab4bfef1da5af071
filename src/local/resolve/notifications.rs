//! Notification rules.

use serde_json::{Value, json};

use super::args::Args;
use super::{Context, Refusal, Resolved, json, time};
use crate::local::world::{NewNotificationRule, NotificationRule};

pub fn list(context: &Context<'_>, args: &Args) -> Resolved {
    context.own_workspace(&args.text("workspaceId"))?;
    let project = args.maybe("projectId");
    let world = context.world.borrow();
    let wanted = |rule: &&NotificationRule| project.is_none() || rule.project == project;
    let rules = world.notification_rules.iter().filter(wanted);
    json(rules.map(|rule| shown(rule, &world.workspace)).collect::<Vec<_>>())
}

pub fn create(context: &Context<'_>, args: &Args) -> Resolved {
    let input = args.input();
    context.own_workspace(&input.text("workspaceId"))?;
    let texts = |name: &str| -> Vec<String> {
        let list = input.get(name).and_then(Value::as_array).into_iter().flatten();
        list.filter_map(|item| item.as_str().map(str::to_owned)).collect()
    };
    let new = NewNotificationRule {
        project: input.maybe("projectId"),
        event_types: texts("eventTypes"),
        severities: texts("severities"),
        ephemeral_environments: input.flag("ephemeralEnvironments"),
        channels: input.get("channelConfigs").and_then(Value::as_array).cloned().unwrap_or_default(),
    };
    let mut world = context.world.borrow_mut();
    let workspace = world.workspace.clone();
    let made = world.create_notification_rule(new, context.now)?;
    json(shown(made, &workspace))
}

pub fn delete(context: &Context<'_>, args: &Args) -> Resolved {
    context.not_for_project_tokens()?;
    context.world.borrow_mut().delete_notification_rule(&args.text("id"))?;
    json(true)
}

fn shown(rule: &NotificationRule, workspace: &str) -> Value {
    let at = time(rule.created_at);
    let channel = |channel: &crate::local::world::Channel| {
        json!({
            "id": channel.id, "config": channel.config, "workspaceId": workspace, "createdAt": at, "updatedAt": at,
        })
    };
    json!({
        "id": rule.id,
        "workspaceId": workspace,
        "projectId": rule.project,
        "environmentId": null,
        "serviceId": null,
        "eventTypes": rule.event_types,
        "severities": rule.severities,
        "ephemeralEnvironments": rule.ephemeral_environments,
        "channels": rule.channels.iter().map(channel).collect::<Vec<_>>(),
        "createdAt": at,
        "updatedAt": at,
    })
}

impl Context<'_> {
    /// Of the token, which is no project token.
    pub(super) fn own_workspace(&self, id: &str) -> Result<(), Refusal> {
        self.not_for_project_tokens()?;
        if self.world.borrow().workspace == id { Ok(()) } else { Err(Refusal::NotAuthorized) }
    }
}
