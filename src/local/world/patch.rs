//! Patches of an environment's config: the one a client sends along, and the one people stage in the dashboard.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::model::{Environment, Id, PATCHES_KEPT, Patch};
use super::{Refusal, World, blob};

/// Parts of a blob that are simulated.
const PARTS: [&str; 3] = ["services", "volumes", "sharedVariables"];
/// Parts Railway knows and this does not.
const PARTS_ABSENT: [&str; 3] = ["buckets", "groups", "privateNetworkDisabled"];

impl World {
    /// Applies exactly this patch, deploys the services it changes, and leaves the staged one alone.
    pub fn commit_patch(
        &mut self,
        environment: &str,
        patch: &Value,
        message: Option<String>,
        now: DateTime<Utc>,
    ) -> Result<Id, Refusal> {
        self.commit(environment, patch, message, false, now)
    }

    /// Commits everything staged, whoever staged it.
    pub fn commit_staged(
        &mut self,
        environment: &str,
        message: Option<String>,
        skip_deploys: bool,
        now: DateTime<Utc>,
    ) -> Result<Id, Refusal> {
        let staged = self.environment(environment)?.staged.clone();
        if staged.content.as_object().is_none_or(Map::is_empty) {
            return Err(Refusal::Invalid("there are no staged changes".into()));
        }
        let id = self.commit(environment, &staged.content, message.or(staged.message), skip_deploys, now)?;
        let blank = self.blank_patch(now);
        self.environment_mut(environment)?.staged = blank;
        Ok(id)
    }

    fn commit(
        &mut self,
        environment: &str,
        patch: &Value,
        message: Option<String>,
        skip_deploys: bool,
        now: DateTime<Utc>,
    ) -> Result<Id, Refusal> {
        let before = self.environment(environment)?.clone();
        check_shape(patch)?;
        let after = self.patched(&before, patch)?;
        let id = self.new_id();
        let committed = Patch {
            id: id.clone(),
            message,
            created_at: now,
            updated_at: now,
            applied_at: Some(now),
            content: patch.clone(),
        };
        self.remove_deleted(environment, patch, now);
        let there = self.environment_mut(environment)?;
        there.patches.push(committed);
        let surplus = there.patches.len().saturating_sub(PATCHES_KEPT);
        there.patches.drain(..surplus);
        if there.config != after {
            there.config = after;
            self.config_written(environment, now);
        }
        if !skip_deploys {
            self.deploy_touched(&before, now);
        }
        Ok(id)
    }

    /// The blob after the patch, or why it cannot be applied; nothing has been changed then.
    fn patched(&self, environment: &Environment, patch: &Value) -> Result<Value, Refusal> {
        for (id, service) in entries(patch, "services") {
            environment.instances.get(id).ok_or(Refusal::NotFound("Service"))?;
            check_service(service)?;
        }
        for (id, volume) in entries(patch, "volumes") {
            let instance = environment.volume_instances.get(id).filter(|instance| instance.dies_at.is_none());
            self.check_volume(instance.ok_or(Refusal::NotFound("Volume"))?.size_mb, volume)?;
        }
        check_variables(patch.get("sharedVariables"))?;
        let mut after = environment.config.clone();
        blob::merge(&mut after, patch);
        tidy(&mut after);
        check_attachments(environment, &after)?;
        Ok(after)
    }

    /// A volume grows, live, up to what the plan allows; it never shrinks.
    fn check_volume(&self, size_mb: u64, change: &Value) -> Result<(), Refusal> {
        let Some(asked) = change.get("sizeMB").filter(|size| !size.is_null()) else { return Ok(()) };
        let asked = asked.as_u64().ok_or_else(|| Refusal::Invalid("sizeMB must be a whole number".into()))?;
        let max = self.plan.allowance().volume_mb_max;
        if asked < size_mb {
            return Err(Refusal::Invalid(format!("a volume of {size_mb} MB cannot be shrunk to {asked} MB")));
        }
        if asked > max {
            let plan = self.plan.subscription();
            return Err(Refusal::Limit(format!("Volume size limit reached: {max} MB on the {plan} plan")));
        }
        Ok(())
    }

    /// `isDeleted` takes a service or a volume out of this environment.
    fn remove_deleted(&mut self, environment: &str, patch: &Value, now: DateTime<Utc>) {
        let deleted = |part| entries(patch, part).filter(|(_, change)| flag(change, "isDeleted"));
        for (id, _) in deleted("services") {
            self.remove_instance(environment, id, now);
            let project = self.environments.get(environment).map(|e| e.project.clone()).unwrap_or_default();
            let held = self.environments_of(&project).iter().any(|e| e.instances.contains_key(id));
            if !held {
                self.services.entry(id.clone()).and_modify(|service| service.deleted_at = Some(now));
            }
        }
        for (id, _) in deleted("volumes") {
            self.bury(environment, id, now);
        }
    }

    /// Sets, or merges into, the one staged patch.
    pub fn stage(
        &mut self,
        environment: &str,
        patch: &Value,
        merge: bool,
        now: DateTime<Utc>,
    ) -> Result<(), Refusal> {
        check_shape(patch)?;
        let there = self.environment_mut(environment)?;
        if merge {
            // A staged null must stay a null: it deletes when committed.
            blob::merge_keeping_nulls(&mut there.staged.content, patch);
        } else {
            there.staged.content = patch.clone();
        }
        there.staged.updated_at = now;
        Ok(())
    }

    /// Every write of a config ends here: the etag moves, mounts and proxies follow the blob.
    pub(super) fn config_written(&mut self, environment: &str, now: DateTime<Utc>) {
        let Some(there) = self.environments.get_mut(environment) else { return };
        there.revision += 1;
        there.updated_at = now;
        there.follow_mounts();
        self.follow_proxies(environment, now);
    }
}

fn entries<'p>(patch: &'p Value, part: &str) -> impl Iterator<Item = (&'p String, &'p Value)> {
    patch.get(part).and_then(Value::as_object).into_iter().flatten()
}

fn flag(change: &Value, name: &str) -> bool {
    change.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn check_shape(patch: &Value) -> Result<(), Refusal> {
    let parts = patch.as_object().ok_or_else(|| Refusal::Invalid("a patch is an object".into()))?;
    if blob::depth(patch) > blob::DEPTH_MAX {
        return Err(Refusal::Invalid(format!("a patch nests at most {} deep", blob::DEPTH_MAX)));
    }
    for (part, content) in parts {
        if PARTS_ABSENT.contains(&part.as_str()) {
            return Err(Refusal::NotSimulated(format!("`{part}` in an environment's config")));
        }
        if !PARTS.contains(&part.as_str()) {
            return Err(Refusal::Invalid(format!("unknown key `{part}` in the patch")));
        }
        let objects = content.as_object().is_some_and(|map| map.values().all(|v| v.is_object() || v.is_null()));
        if !objects {
            return Err(Refusal::Invalid(format!("`{part}` must hold objects by id or name")));
        }
    }
    Ok(())
}

fn check_service(change: &Value) -> Result<(), Refusal> {
    if change.is_null() {
        return Err(Refusal::Invalid("a service is removed with isDeleted, not with null".into()));
    }
    check_variables(change.get("variables"))?;
    for domains in ["serviceDomains", "customDomains"] {
        let asked = change.pointer(&format!("/networking/{domains}"));
        if asked.is_some_and(|asked| asked.as_object().is_none_or(|names| !names.is_empty()) && !asked.is_null()) {
            return Err(Refusal::NotSimulated(format!("networking.{domains} of a service")));
        }
    }
    let ports = change.pointer("/networking/tcpProxies").and_then(Value::as_object);
    if ports.into_iter().flatten().any(|(port, _)| port.parse::<u16>().is_err()) {
        return Err(Refusal::Invalid("networking.tcpProxies is keyed by port numbers".into()));
    }
    Ok(())
}

fn check_variables(variables: Option<&Value>) -> Result<(), Refusal> {
    let Some(variables) = variables.filter(|variables| !variables.is_null()) else { return Ok(()) };
    let map = variables.as_object().ok_or_else(|| Refusal::Invalid("variables must be an object".into()))?;
    for (name, variable) in map {
        super::variables::check_name(name)?;
        if variable.is_null() {
            continue;
        }
        let fields = variable.as_object();
        let fields =
            fields.ok_or_else(|| Refusal::Invalid(format!("the variable {name} must be an object or null")))?;
        if fields.contains_key("generator") {
            return Err(Refusal::NotSimulated(format!("the generator of the variable {name}")));
        }
        if fields.get("value").is_some_and(|value| !value.is_string()) {
            return Err(Refusal::Invalid(format!("the value of the variable {name} must be a text")));
        }
    }
    Ok(())
}

/// Marks of first and last appearance steer the merge and are no configuration; a deleted volume is mounted nowhere.
fn tidy(after: &mut Value) {
    let deleted: Vec<String> =
        entries(after, "volumes").filter(|(_, volume)| flag(volume, "isDeleted")).map(|(id, _)| id.clone()).collect();
    let services = after.get_mut("services").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut);
    for mounts in services.filter_map(|service| service.get_mut("volumeMounts")?.as_object_mut()) {
        mounts.retain(|volume, _| !deleted.contains(volume));
    }
    for part in ["services", "volumes"] {
        let Some(map) = after.get_mut(part).and_then(Value::as_object_mut) else { continue };
        map.retain(|_, entry| !flag(entry, "isDeleted"));
        for entry in map.values_mut().filter_map(Value::as_object_mut) {
            entry.remove("isCreated");
            entry.remove("isDeleted");
        }
    }
}

/// One volume and one proxy a service, one service a volume, and only volumes that are there.
fn check_attachments(environment: &Environment, after: &Value) -> Result<(), Refusal> {
    let mut mounted = std::collections::BTreeSet::new();
    for (_, service) in entries(after, "services") {
        let proxies = service.pointer("/networking/tcpProxies").and_then(Value::as_object);
        if proxies.is_some_and(|proxies| proxies.len() > 1) {
            return Err(Refusal::Invalid("a service can have one TCP proxy only".into()));
        }
        let mounts = service.get("volumeMounts").and_then(Value::as_object);
        if mounts.is_some_and(|mounts| mounts.len() > 1) {
            return Err(Refusal::Invalid("a service can have one volume only".into()));
        }
        if mounts.is_some_and(|mounts| !mounts.is_empty()) && blob::replicas(service) > 1 {
            return Err(Refusal::Invalid("a service with a volume cannot have replicas".into()));
        }
        for (volume, mount) in mounts.into_iter().flatten() {
            let there = environment.volume_instances.get(volume).is_some_and(|v| v.dies_at.is_none());
            if !there || after.pointer(&format!("/volumes/{volume}")).is_none() {
                return Err(Refusal::NotFound("VolumeInstance"));
            }
            if mount.get("mountPath").and_then(Value::as_str).is_none_or(|path| !path.starts_with('/')) {
                return Err(Refusal::Invalid("mountPath must be an absolute path".into()));
            }
            if !mounted.insert(volume.clone()) {
                return Err(Refusal::Invalid("a volume can be mounted in one service only".into()));
            }
        }
    }
    Ok(())
}
