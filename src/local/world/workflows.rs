//! Work that outlasts its request: a client polls it by an id, the host (or time alone) gets it done.

use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};

use super::backups::VolumePlace;
use super::model::Id;
use super::{Host, World};

/// How long it takes where nobody really does it.
const TAKES: Duration = Duration::seconds(2);
/// The newest ones; older ones are NotFound.
const WORKFLOWS_KEPT: usize = 1_000;

#[derive(Clone, Serialize, Deserialize)]
pub struct Workflow {
    pub id: Id,
    pub started_at: DateTime<Utc>,
    pub state: WorkflowState,
    work: Option<Work>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkflowState {
    Running,
    Complete,
    Error(String),
}

/// Places are environment and volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    TakeBackup { backup: Id, place: (Id, Id) },
    RestoreBackup { backup: Id, from: (Id, Id), volume: Id },
}

impl World {
    pub(super) fn start_workflow(&mut self, work: Work, now: DateTime<Utc>) -> Id {
        self.add_workflow(WorkflowState::Running, Some(work), now)
    }

    pub(super) fn finished_workflow(&mut self, now: DateTime<Utc>) -> Id {
        self.add_workflow(WorkflowState::Complete, None, now)
    }

    fn add_workflow(&mut self, state: WorkflowState, work: Option<Work>, now: DateTime<Utc>) -> Id {
        let id = self.new_id();
        self.workflows.push(Workflow { id: id.clone(), started_at: now, state, work });
        let surplus = self.workflows.len().saturating_sub(WORKFLOWS_KEPT);
        self.workflows.drain(..surplus);
        id
    }

    pub fn workflow(&self, id: &str) -> Option<&Workflow> {
        self.workflows.iter().find(|workflow| workflow.id == id)
    }

    /// What the host has still to do, oldest first.
    pub fn work(&self) -> Vec<(Id, Work)> {
        let open = self.workflows.iter().filter(|workflow| workflow.state == WorkflowState::Running);
        open.filter_map(|workflow| Some((workflow.id.clone(), workflow.work.clone()?))).collect()
    }

    /// Done, with the bytes it moved, or why not.
    pub fn work_done(&mut self, id: &str, outcome: Result<u64, String>, now: DateTime<Utc>) {
        let open = |workflow: &&mut Workflow| workflow.id == id && workflow.state == WorkflowState::Running;
        let Some(workflow) = self.workflows.iter_mut().find(open) else { return };
        workflow.state = match &outcome {
            Ok(_) => WorkflowState::Complete,
            Err(reason) => WorkflowState::Error(reason.clone()),
        };
        let work = workflow.work.take();
        let outcome = outcome.as_ref().map(|bytes| *bytes).map_err(String::as_str);
        match work {
            Some(Work::TakeBackup { backup, .. }) => self.backup_taken(&backup, outcome),
            Some(Work::RestoreBackup { backup, from: (environment, old), volume }) => {
                let from = VolumePlace { environment, volume: old };
                self.backup_restored(&backup, &from, &volume, outcome, now);
            }
            None => {}
        }
    }

    /// Without a machine time alone does the work.
    pub(super) fn work_by_time(&mut self, now: DateTime<Utc>) -> bool {
        if self.host == Host::Machine {
            return false;
        }
        let due =
            |workflow: &&Workflow| workflow.state == WorkflowState::Running && workflow.started_at + TAKES <= now;
        let due: Vec<(Id, Option<Work>)> =
            self.workflows.iter().filter(due).map(|workflow| (workflow.id.clone(), workflow.work.clone())).collect();
        for (id, work) in &due {
            let bytes = match work {
                Some(Work::TakeBackup { place: (environment, volume), .. }) => {
                    let there = self.environments.get(environment);
                    there.and_then(|e| e.volume_instances.get(volume)).map_or(0, |instance| instance.data_bytes)
                }
                Some(Work::RestoreBackup { backup, .. }) => self.backups.get(backup).map_or(0, |backup| backup.bytes),
                None => 0,
            };
            self.work_done(id, Ok(bytes), now);
        }
        !due.is_empty()
    }
}
