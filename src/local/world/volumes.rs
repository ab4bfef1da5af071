//! Volumes: project-level objects with an instance in each environment. They outlive their service.

use chrono::{DateTime, Duration, Utc};
use serde_json::{Value, json};

use super::model::{DEFAULT_REGION, Id, Volume, VolumeInstance};
use super::{Late, Refusal, World};

/// How long a deleted volume can still be brought back.
const GRAVE_HOURS: i64 = 48;

/// Which environments a volume gets an instance in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// The argument was left out.
    Everywhere,
    /// The argument was null.
    Nowhere,
    In(Id),
}

pub struct NewVolume {
    pub project: Id,
    pub service: Option<Id>,
    pub placement: Placement,
    pub mount_path: String,
    pub region: Option<String>,
}

impl World {
    /// Railway names it; the size is the plan's.
    pub fn create_volume(&mut self, new: NewVolume, now: DateTime<Utc>) -> Result<Id, Refusal> {
        self.throttle("volumes")?;
        self.project(&new.project)?;
        if !new.mount_path.starts_with('/') {
            return Err(Refusal::Invalid("mountPath must be an absolute path".into()));
        }
        self.check_room_for_volume(&new.project)?;
        let environments = self.volume_environments(&new)?;
        for environment in &environments {
            let Some(service) = &new.service else { break };
            let there = self.environment(environment)?;
            there.instances.get(service).ok_or(Refusal::NotFound("ServiceInstance"))?;
            if there.mount_of(service).is_some() {
                return Err(Refusal::Invalid("the service already has a volume".into()));
            }
        }
        let id = self.new_id();
        let name = self.volume_name(&new.project, &new.mount_path);
        let volume = Volume { id: id.clone(), project: new.project.clone(), name, created_at: now };
        self.volumes.insert(id.clone(), volume);
        for environment in environments {
            self.place_volume(&environment, &id, &new, now)?;
        }
        Ok(id)
    }

    fn check_room_for_volume(&self, project: &str) -> Result<(), Refusal> {
        let max = self.plan.allowance().volumes_per_project;
        let have = self.volumes.values().filter(|v| v.project == project && !self.is_buried(&v.id)).count();
        if have < max {
            return Ok(());
        }
        let plan = self.plan.subscription();
        Err(Refusal::Limit(format!("Volume limit reached: a project on the {plan} plan can have {max} volumes")))
    }

    /// In its grave in every environment that held it; such a volume counts no more.
    fn is_buried(&self, volume: &str) -> bool {
        let mut instances = self.environments.values().filter_map(|e| e.volume_instances.get(volume)).peekable();
        instances.peek().is_some() && instances.all(|instance| instance.dies_at.is_some())
    }

    fn volume_environments(&self, new: &NewVolume) -> Result<Vec<Id>, Refusal> {
        if let Some(service) = &new.service {
            self.service(service)?;
        }
        match &new.placement {
            Placement::Nowhere => Ok(Vec::new()),
            Placement::Everywhere => Ok(self.environments_of(&new.project).iter().map(|e| e.id.clone()).collect()),
            Placement::In(id) if self.environment(id)?.project == new.project => Ok(vec![id.clone()]),
            Placement::In(_) => Err(Refusal::NotFound("Environment")),
        }
    }

    /// `pgdata` for a Postgres mount, else two words; unique in the project.
    fn volume_name(&mut self, project: &str, mount_path: &str) -> String {
        let base = if mount_path.contains("postgres") { "pgdata".into() } else { self.invented_name() };
        self.free_volume_name(project, base)
    }

    /// `base`, or with the first number that makes it unique in the project.
    pub(super) fn free_volume_name(&self, project: &str, base: String) -> String {
        let taken = |name: &str| self.volumes.values().any(|v| v.project == project && v.name == name);
        if !taken(&base) {
            return base;
        }
        let mut number = 2;
        while taken(&format!("{base}-{number}")) {
            number += 1;
        }
        format!("{base}-{number}")
    }

    fn place_volume(
        &mut self,
        environment: &str,
        volume: &str,
        new: &NewVolume,
        now: DateTime<Utc>,
    ) -> Result<(), Refusal> {
        let instance = VolumeInstance {
            id: self.new_id(),
            service: None,
            mount_path: new.mount_path.clone(),
            region: new.region.clone().unwrap_or_else(|| DEFAULT_REGION.into()),
            size_mb: self.plan.allowance().volume_mb_at_creation,
            data_bytes: 0,
            created_at: now,
            visible_at: self.seen_from(Late::VolumeInstance, now),
            dies_at: None,
            initialised: false,
            restoring: false,
            schedules: Vec::new(),
        };
        let region = instance.region.clone();
        let there = self.environment_mut(environment)?;
        there.volume_instances.insert(volume.to_owned(), instance);
        there.part_mut("volumes").insert(volume.to_owned(), json!({ "region": region }));
        if let Some(blob) = new.service.as_ref().and_then(|service| there.part_mut("services").get_mut(service)) {
            blob["volumeMounts"][volume] = json!({ "mountPath": new.mount_path });
        }
        self.config_written(environment, now);
        Ok(())
    }

    pub fn rename_volume(&mut self, id: &str, name: Option<String>) -> Result<(), Refusal> {
        let project = self.volume(id)?.project.clone();
        let Some(name) = name else { return Ok(()) };
        if name.trim().is_empty() {
            return Err(Refusal::Invalid("Invalid volume name".into()));
        }
        if self.volumes.values().any(|v| v.project == project && v.id != id && v.name == name) {
            return Err(Refusal::NameTaken { kind: "volume", name });
        }
        self.volumes.entry(id.to_owned()).and_modify(|volume| volume.name = name);
        Ok(())
    }

    /// Mounts a volume in `service`, or detaches it (`None`), in one environment or in all.
    pub fn attach_volume(
        &mut self,
        volume: &str,
        environment: Option<&str>,
        service: Option<&str>,
        mount_path: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<(), Refusal> {
        let project = self.volume(volume)?.project.clone();
        let all = || self.environments_of(&project).iter().map(|e| e.id.clone()).collect();
        let environments: Vec<Id> = environment.map_or_else(all, |id| vec![id.to_owned()]);
        let mut touched = 0;
        for id in environments {
            let there = self.environment(&id)?;
            let Some(instance) = there.volume_instances.get(volume).filter(|i| i.dies_at.is_none()) else { continue };
            let path = mount_path.unwrap_or(&instance.mount_path).to_owned();
            if let Some(service) = service {
                there.instances.get(service).ok_or(Refusal::NotFound("ServiceInstance"))?;
                if there.mount_of(service).is_some_and(|mount| mount.volume != volume) {
                    return Err(Refusal::Invalid("the service already has a volume".into()));
                }
            }
            let there = self.environment_mut(&id)?;
            there.unmount(volume);
            if let Some(blob) = service.and_then(|service| there.part_mut("services").get_mut(service)) {
                blob["volumeMounts"][volume] = json!({ "mountPath": path });
            }
            touched += 1;
            self.config_written(&id, now);
        }
        if touched == 0 { Err(Refusal::NotFound("VolumeInstance")) } else { Ok(()) }
    }

    /// To its grave in every environment. Deleting what lies there already is no error.
    pub fn delete_volume(&mut self, id: &str, now: DateTime<Utc>) -> Result<(), Refusal> {
        self.volume(id)?;
        let holders: Vec<Id> = self.environments.values().map(|e| e.id.clone()).collect();
        let mut held = false;
        for environment in holders {
            held |= self.bury(&environment, id, now);
        }
        if !held {
            self.volumes.remove(id);
        }
        Ok(())
    }

    pub(super) fn bury(&mut self, environment: &str, volume: &str, now: DateTime<Utc>) -> bool {
        let Some(there) = self.environments.get_mut(environment) else { return false };
        let Some(instance) = there.volume_instances.get_mut(volume) else { return false };
        if instance.dies_at.is_none() {
            instance.dies_at = Some(now + Duration::hours(GRAVE_HOURS));
            there.unmount(volume);
            there.part_mut("volumes").remove(volume);
            self.config_written(environment, now);
        }
        true
    }

    pub(super) fn close_graves(&mut self, environment: &str, now: DateTime<Utc>) -> bool {
        let Some(there) = self.environments.get_mut(environment) else { return false };
        let dead = |instance: &VolumeInstance| instance.dies_at.is_some_and(|at| at <= now);
        let gone: Vec<Id> =
            there.volume_instances.iter().filter(|(_, instance)| dead(instance)).map(|(id, _)| id.clone()).collect();
        for volume in &gone {
            there.volume_instances.remove(volume);
        }
        for volume in &gone {
            if !self.environments.values().any(|e| e.volume_instances.contains_key(volume)) {
                self.volumes.remove(volume);
            }
        }
        !gone.is_empty()
    }

    /// What the host measured in the data folder of a volume.
    pub fn volume_measured(&mut self, volume: &str, environment: &str, bytes: u64) {
        let there = self.environments.get_mut(environment);
        if let Some(instance) = there.and_then(|e| e.volume_instances.get_mut(volume)) {
            instance.data_bytes = bytes;
        }
    }
}

impl super::Environment {
    pub(super) fn unmount(&mut self, volume: &str) {
        for blob in self.part_mut("services").values_mut() {
            if let Some(mounts) = blob.get_mut("volumeMounts").and_then(Value::as_object_mut) {
                mounts.remove(volume);
            }
        }
    }

    /// Volume instances follow the blob: where they are mounted, and how large they are.
    pub(super) fn follow_mounts(&mut self) {
        let mounts: Vec<(Id, super::Mount)> =
            self.instances.keys().filter_map(|service| Some((service.clone(), self.mount_of(service)?))).collect();
        for (id, instance) in &mut self.volume_instances {
            let mounted = mounts.iter().find(|(_, mount)| mount.volume == *id);
            instance.service = mounted.map(|(service, _)| service.clone());
            if let Some((_, mount)) = mounted {
                instance.mount_path.clone_from(&mount.path);
            }
            let config = self.config.pointer(&format!("/volumes/{id}"));
            if let Some(size) = config.and_then(|volume| volume.get("sizeMB")).and_then(Value::as_u64) {
                instance.size_mb = size;
            }
            if let Some(region) = config.and_then(|volume| volume.get("region")).and_then(Value::as_str) {
                instance.region = region.to_owned();
            }
        }
    }
}

impl VolumeInstance {
    /// Used space in MB: the data, and the file system's own 2.5 % of the size.
    pub fn used_mb(&self) -> f64 {
        let metadata = self.size_mb as f64 * 0.025;
        metadata + self.data_bytes as f64 / 1e6
    }
}
