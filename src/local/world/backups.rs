//! Backups of volumes, and the work the host does for them.

use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::model::{Id, Volume, VolumeInstance};
use super::workflows::Work;
use super::{Refusal, World};

/// Of one volume in one environment.
const BACKUPS_MAX: usize = 100;

#[derive(Clone, Serialize, Deserialize)]
pub struct Backup {
    pub id: Id,
    pub environment: Id,
    pub volume: Id,
    pub name: Option<String>,
    pub created_at: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
    pub schedule: Option<Id>,
    /// Of the data, once it is done.
    pub bytes: u64,
    pub done: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ScheduleKind {
    Daily,
    Weekly,
    Monthly,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct Schedule {
    pub id: Id,
    pub kind: ScheduleKind,
    pub created_at: DateTime<Utc>,
    pub next_at: DateTime<Utc>,
}

/// Where a backup lives: the volume in one environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumePlace {
    pub environment: Id,
    pub volume: Id,
}

impl ScheduleKind {
    pub fn parse(text: &str) -> Option<ScheduleKind> {
        [ScheduleKind::Daily, ScheduleKind::Weekly, ScheduleKind::Monthly]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            ScheduleKind::Daily => "DAILY",
            ScheduleKind::Weekly => "WEEKLY",
            ScheduleKind::Monthly => "MONTHLY",
        }
    }

    fn every(self) -> Duration {
        match self {
            ScheduleKind::Daily => Duration::days(1),
            ScheduleKind::Weekly => Duration::days(7),
            ScheduleKind::Monthly => Duration::days(30),
        }
    }

    /// Railway's docs: kept 6 days, 1 month, 3 months.
    pub fn retention(self) -> Duration {
        match self {
            ScheduleKind::Daily => Duration::days(6),
            ScheduleKind::Weekly => Duration::days(30),
            ScheduleKind::Monthly => Duration::days(90),
        }
    }
}

impl Schedule {
    pub fn cron(&self) -> String {
        let at = self.next_at;
        match self.kind {
            ScheduleKind::Daily => at.format("%-M %-H * * *").to_string(),
            ScheduleKind::Weekly => at.format("%-M %-H * * %w").to_string(),
            ScheduleKind::Monthly => at.format("%-M %-H %-d * *").to_string(),
        }
    }
}

impl World {
    /// The place of a volume instance that is not in its grave.
    pub fn volume_place(&self, instance: &str) -> Result<VolumePlace, Refusal> {
        for environment in self.environments.values().filter(|e| e.deleted_at.is_none()) {
            let live = |v: &VolumeInstance| v.id == instance && v.dies_at.is_none();
            if let Some((volume, _)) = environment.volume_instances.iter().find(|(_, v)| live(v)) {
                return Ok(VolumePlace { environment: environment.id.clone(), volume: volume.clone() });
            }
        }
        Err(Refusal::NotFound("VolumeInstance"))
    }

    fn at_place(&self, place: &VolumePlace) -> Result<&VolumeInstance, Refusal> {
        let there = self.environment(&place.environment)?;
        there.volume_instances.get(&place.volume).ok_or(Refusal::NotFound("VolumeInstance"))
    }

    fn at_place_mut(&mut self, place: &VolumePlace) -> Result<&mut VolumeInstance, Refusal> {
        let there = self.environment_mut(&place.environment)?;
        there.volume_instances.get_mut(&place.volume).ok_or(Refusal::NotFound("VolumeInstance"))
    }

    /// Of one place, oldest first.
    pub fn backups_of(&self, place: &VolumePlace) -> Vec<&Backup> {
        let mine = |b: &&Backup| b.environment == place.environment && b.volume == place.volume;
        let mut found: Vec<&Backup> = self.backups.values().filter(mine).collect();
        found.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        found
    }

    /// The id of the workflow that takes it.
    pub fn create_backup(
        &mut self,
        place: &VolumePlace,
        name: Option<String>,
        schedule: Option<&Schedule>,
        now: DateTime<Utc>,
    ) -> Result<Id, Refusal> {
        let instance = self.at_place(place)?;
        if schedule.is_none() && instance.used_mb() > instance.size_mb as f64 / 2.0 {
            return Err(Refusal::Limit("a manual backup can hold at most 50 % of the volume's size".into()));
        }
        if self.backups_of(place).len() >= BACKUPS_MAX {
            return Err(Refusal::Limit(format!("a volume has at most {BACKUPS_MAX} backups")));
        }
        let backup = Backup {
            id: self.new_id(),
            environment: place.environment.clone(),
            volume: place.volume.clone(),
            name,
            created_at: now,
            expires_at: schedule.map(|schedule| now + schedule.kind.retention()),
            schedule: schedule.map(|schedule| schedule.id.clone()),
            bytes: 0,
            done: false,
        };
        let work =
            Work::TakeBackup { backup: backup.id.clone(), place: (place.environment.clone(), place.volume.clone()) };
        self.backups.insert(backup.id.clone(), backup);
        Ok(self.start_workflow(work, now))
    }

    pub fn delete_backup(&mut self, place: &VolumePlace, id: &str, now: DateTime<Utc>) -> Result<Id, Refusal> {
        self.backup_at(place, id)?;
        self.backups.remove(id);
        Ok(self.finished_workflow(now))
    }

    fn backup_at(&self, place: &VolumePlace, id: &str) -> Result<&Backup, Refusal> {
        let found = self.backups.get(id).filter(|b| b.environment == place.environment && b.volume == place.volume);
        found.filter(|backup| backup.done).ok_or(Refusal::NotFound("VolumeInstanceBackup"))
    }

    /// Into a new volume named by the date, beside the old one. Mounting it is staged when it is there.
    pub fn restore_backup(&mut self, place: &VolumePlace, id: &str, now: DateTime<Utc>) -> Result<Id, Refusal> {
        self.backup_at(place, id)?;
        let old = self.at_place(place)?.clone();
        let project = self.volume(&place.volume)?.project.clone();
        let date = now.format("%Y-%m-%d %H:%M:%S").to_string();
        let name = self.free_volume_name(&project, date);
        let volume = Volume { id: self.new_id(), project, name, created_at: now };
        let restored = VolumeInstance {
            id: self.new_id(),
            service: None,
            created_at: now,
            visible_at: now,
            restoring: true,
            schedules: Vec::new(),
            ..old.clone()
        };
        let there = self.environment_mut(&place.environment)?;
        there.volume_instances.insert(volume.id.clone(), restored);
        there.part_mut("volumes").insert(volume.id.clone(), json!({ "region": old.region }));
        let work = Work::RestoreBackup {
            backup: id.to_owned(),
            from: (place.environment.clone(), place.volume.clone()),
            volume: volume.id.clone(),
        };
        self.volumes.insert(volume.id.clone(), volume);
        self.config_written(&place.environment, now);
        Ok(self.start_workflow(work, now))
    }

    pub(super) fn backup_taken(&mut self, id: &str, taken: Result<u64, &str>) {
        match taken {
            Ok(bytes) => {
                self.backups.entry(id.to_owned()).and_modify(|backup| (backup.bytes, backup.done) = (bytes, true));
            }
            Err(_) => drop(self.backups.remove(id)),
        }
    }

    /// Stages the mount of the new volume, and forgets the backups newer than the restored one.
    pub(super) fn backup_restored(
        &mut self,
        backup: &str,
        from: &VolumePlace,
        volume: &str,
        restored: Result<u64, &str>,
        now: DateTime<Utc>,
    ) {
        let Some(there) = self.environments.get_mut(&from.environment) else { return };
        if restored.is_err() {
            there.volume_instances.remove(volume);
            there.part_mut("volumes").remove(volume);
            self.volumes.remove(volume);
            self.config_written(&from.environment, now);
            return;
        }
        let old = there.volume_instances.get(&from.volume).map(|old| (old.service.clone(), old.mount_path.clone()));
        if let Some(instance) = there.volume_instances.get_mut(volume) {
            instance.restoring = false;
        }
        if let Some((Some(service), path)) = old {
            let mounts = json!({ &from.volume: null, volume: { "mountPath": path } });
            let patch = json!({ "services": { service: { "volumeMounts": mounts } } });
            // The patch is of our own making; staging checks nothing but its shape.
            drop(self.stage(&from.environment, &patch, true, now));
        }
        let taken_at = self.backups.get(backup).map(|backup| backup.created_at);
        let newer = |b: &Backup| {
            b.volume == from.volume && b.environment == from.environment && Some(b.created_at) > taken_at
        };
        self.backups.retain(|_, b| taken_at.is_none() || !newer(b));
    }

    /// Replaces the schedules of a place; one of a kind that stays keeps its time.
    pub fn schedule_backups(
        &mut self,
        place: &VolumePlace,
        kinds: &[ScheduleKind],
        now: DateTime<Utc>,
    ) -> Result<(), Refusal> {
        let before = self.at_place(place)?.schedules.clone();
        let mut after: Vec<Schedule> = Vec::new();
        for kind in kinds.iter().copied() {
            if after.iter().any(|schedule| schedule.kind == kind) {
                continue;
            }
            let kept = before.iter().find(|schedule| schedule.kind == kind).cloned();
            let new = |id| Schedule { id, kind, created_at: now, next_at: now + kind.every() };
            after.push(kept.unwrap_or_else(|| new(self.new_id())));
        }
        self.at_place_mut(place)?.schedules = after;
        Ok(())
    }

    pub fn schedules_of(&self, place: &VolumePlace) -> Result<&[Schedule], Refusal> {
        Ok(&self.at_place(place)?.schedules)
    }

    /// Takes what is due, drops what has expired or lost its volume.
    pub(super) fn keep_backups(&mut self, now: DateTime<Utc>) -> bool {
        let before = self.backups.len();
        let environments = &self.environments;
        self.backups.retain(|_, backup| {
            let holds = environments
                .get(&backup.environment)
                .is_some_and(|e| e.volume_instances.contains_key(&backup.volume));
            holds && backup.expires_at.is_none_or(|at| now < at)
        });
        let dropped = self.backups.len() < before;
        let mut due = Vec::new();
        for environment in self.environments.values_mut() {
            for (volume, instance) in environment.volume_instances.iter_mut().filter(|(_, v)| v.dies_at.is_none()) {
                for schedule in instance.schedules.iter_mut().filter(|schedule| schedule.next_at <= now) {
                    // Times that passed while nobody looked are made up for once.
                    while schedule.next_at <= now {
                        schedule.next_at += schedule.kind.every();
                    }
                    let place = VolumePlace { environment: environment.id.clone(), volume: volume.clone() };
                    due.push((place, schedule.clone()));
                }
            }
        }
        for (place, schedule) in &due {
            drop(self.create_backup(place, None, Some(schedule), now));
        }
        dropped || !due.is_empty()
    }
}
