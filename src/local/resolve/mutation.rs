//! Root fields of mutations. The executor runs them in order and stops at the first that fails, as Railway does: then
//! `data` is null although those before it have taken effect.

use super::args::Args;
use super::{Answer, Context, Ran, Refusal, Resolved, backups, change_set, network, notifications, writes};

pub fn field(context: &Context<'_>, field: &str, alias: &str, args: &Args) -> Resolved {
    let answer = match &context.failing_alias {
        _ if context.refused => Err(Refusal::NotAuthorized),
        Some(failing) if failing == alias => Err(Refusal::Injected),
        _ => run(context, field, args),
    };
    let ran = Ran { alias: alias.to_owned(), field: field.to_owned(), succeeded: answer.is_ok() };
    context.ran.borrow_mut().push(ran);
    answer
}

fn run(context: &Context<'_>, field: &str, args: &Args) -> Resolved {
    match field {
        "projectCreate" => writes::create_project(context, args),
        "projectDelete" => writes::delete_project(context, args),
        "environmentCreate" => writes::create_environment(context, args),
        "projectTokenCreate" => writes::create_project_token(context, args),
        "serviceCreate" => writes::create_service(context, args),
        "serviceUpdate" => writes::update_service(context, args),
        "serviceDelete" => writes::delete_service(context, args),
        "serviceInstanceUpdate" => writes::update_instance(context, args),
        "serviceInstanceLimitsUpdate" => writes::limit_instance(context, args),
        "serviceInstanceDeployV2" => writes::deploy(context, args),
        "serviceInstanceRedeploy" => writes::redeploy_instance(context, args),
        "deploymentStop" => writes::stop_deployment(context, args),
        "deploymentRestart" => writes::restart_deployment(context, args),
        "deploymentRedeploy" => writes::redeploy(context, args),
        "volumeCreate" => writes::create_volume(context, args),
        "volumeUpdate" => writes::rename_volume(context, args),
        "volumeInstanceUpdate" => writes::attach_volume(context, args),
        "volumeInstanceBackupCreate" => backups::create(context, args),
        "volumeInstanceBackupDelete" => backups::delete(context, args),
        "volumeInstanceBackupRestore" => backups::restore(context, args),
        "volumeInstanceBackupScheduleUpdate" => backups::schedule(context, args),
        "volumeDelete" => writes::delete_volume(context, args),
        "tcpProxyCreate" => network::create_proxy(context, args),
        "tcpProxyDelete" => network::delete_proxy(context, args),
        "notificationRuleCreate" => notifications::create(context, args),
        "notificationRuleDelete" => notifications::delete(context, args),
        "apiTokenCreate" => writes::create_api_token(context, args),
        "environmentPatchCommit" => writes::commit_patch(context, args),
        "environmentPatchCommitStaged" => writes::commit_staged(context, args),
        "environmentPreviewChangeSet" => change_set::preview(context, args),
        "environmentApplyChangeSet" => change_set::apply(context, args),
        "environmentStageChanges" => writes::stage(context, args),
        "variableUpsert" => writes::upsert_variable(context, args),
        "variableCollectionUpsert" => writes::upsert_variables(context, args),
        "variableDelete" => writes::delete_variable(context, args),
        _ => Ok(Answer::Absent),
    }
}
