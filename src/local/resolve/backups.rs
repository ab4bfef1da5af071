//! Backups of volumes, and workflows.

use serde_json::{Value, json};

use super::args::Args;
use super::{Context, Refusal, Resolved, json, time};
use crate::local::world::{Backup, Schedule, ScheduleKind, VolumePlace, WorkflowState};

fn place(context: &Context<'_>, args: &Args) -> Result<VolumePlace, Refusal> {
    let place = context.world.borrow().volume_place(&args.text("volumeInstanceId"))?;
    context.may_reach(&place.environment)?;
    Ok(place)
}

fn started(workflow: String) -> Resolved {
    json(json!({ "workflowId": workflow }))
}

pub fn create(context: &Context<'_>, args: &Args) -> Resolved {
    let place = place(context, args)?;
    started(context.world.borrow_mut().create_backup(&place, args.maybe("name"), None, context.now)?)
}

pub fn delete(context: &Context<'_>, args: &Args) -> Resolved {
    let place = place(context, args)?;
    started(context.world.borrow_mut().delete_backup(&place, &args.text("volumeInstanceBackupId"), context.now)?)
}

pub fn restore(context: &Context<'_>, args: &Args) -> Resolved {
    args.only("Mutation.volumeInstanceBackupRestore", &["volumeInstanceId", "volumeInstanceBackupId"])?;
    let place = place(context, args)?;
    started(context.world.borrow_mut().restore_backup(&place, &args.text("volumeInstanceBackupId"), context.now)?)
}

pub fn schedule(context: &Context<'_>, args: &Args) -> Resolved {
    let place = place(context, args)?;
    let kinds = args.get("kinds").and_then(Value::as_array).into_iter().flatten();
    let kinds: Vec<ScheduleKind> = kinds.filter_map(|kind| ScheduleKind::parse(kind.as_str()?)).collect();
    context.world.borrow_mut().schedule_backups(&place, &kinds, context.now)?;
    json(true)
}

/// Those that are whole.
pub fn list(context: &Context<'_>, args: &Args) -> Resolved {
    let place = place(context, args)?;
    let world = context.world.borrow();
    let size = world.environment(&place.environment)?.volume_instances.get(&place.volume).map(|v| v.size_mb);
    let done = world.backups_of(&place).into_iter().filter(|backup| backup.done);
    json(done.map(|backup| shown(backup, size)).collect::<Vec<_>>())
}

/// Backups share nothing here, so each refers to as much as it uses.
fn shown(backup: &Backup, volume_size_mb: Option<u64>) -> Value {
    let mb = backup.bytes.div_ceil(1_000_000);
    json!({
        "id": backup.id,
        "externalId": backup.id,
        "name": backup.name,
        "createdAt": time(backup.created_at),
        "expiresAt": backup.expires_at.map(time),
        "usedMB": mb,
        "referencedMB": mb,
        "volumeInstanceSizeMB": volume_size_mb,
        "scheduleId": backup.schedule,
        "creatorId": null,
    })
}

pub fn schedules(context: &Context<'_>, args: &Args) -> Resolved {
    let place = place(context, args)?;
    let world = context.world.borrow();
    let shown = |schedule: &Schedule| {
        json!({
            "id": schedule.id,
            "name": schedule.kind.as_str().to_lowercase(),
            "kind": schedule.kind.as_str(),
            "cron": schedule.cron(),
            "retentionSeconds": schedule.kind.retention().num_seconds(),
            "createdAt": time(schedule.created_at),
        })
    };
    json(world.schedules_of(&place)?.iter().map(shown).collect::<Vec<_>>())
}

pub fn workflow(context: &Context<'_>, args: &Args) -> Resolved {
    let world = context.world.borrow();
    let (status, error) = match world.workflow(&args.text("workflowId")).map(|workflow| &workflow.state) {
        None => ("NotFound", None),
        Some(WorkflowState::Running) => ("Running", None),
        Some(WorkflowState::Complete) => ("Complete", None),
        Some(WorkflowState::Error(reason)) => ("Error", Some(reason.as_str())),
    };
    json(json!({ "status": status, "error": error }))
}
