//! Applying change sets: all of one or nothing of it, and only on the config it was planned against.

use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::change_set::{Address, Change, ChangeSet, Intent, variable_text};
use super::model::Id;
use super::postgres_service::{self, PASSWORD_LETTERS, POSTGRES_IMAGE};
use super::services::NewService;
use super::{Fault, NewVolume, Placement, Refusal, World, blob};

/// How long an apply that nobody waits for goes on after it was accepted.
const APPLYING: Duration = Duration::seconds(2);
/// Of one environment; the newest ones.
const APPLIES_KEPT: usize = 100;

/// One apply, as a client polls it.
#[derive(Clone, Serialize, Deserialize)]
pub struct Apply {
    pub id: Id,
    pub status: ApplyStatus,
    /// In the order of the change set, with what came of each.
    pub changes: Vec<Value>,
    pub diagnostics: Vec<Value>,
    pub deployment: Option<Id>,
    sent: Value,
    message: Option<String>,
    due_at: DateTime<Utc>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ApplyStatus {
    Applying,
    Applied,
    Failed,
}

impl ApplyStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            ApplyStatus::Applying => "applying",
            ApplyStatus::Applied => "applied",
            ApplyStatus::Failed => "failed",
        }
    }
}

pub struct NewApply {
    pub environment: Id,
    pub sent: Value,
    /// `configEtag` of the read it was planned against.
    pub base: Option<String>,
    pub message: Option<String>,
    pub wait: bool,
}

impl World {
    /// The checked set, if it could be applied now. Changes nothing.
    pub fn preview(&self, environment: &str, sent: &Value, now: DateTime<Utc>) -> Result<ChangeSet, Refusal> {
        let set = ChangeSet::read(sent)?;
        self.clone().realize(environment, &set, None, now)?;
        Ok(set)
    }

    /// Applies it, or accepts it and applies it a moment later. Refused as a whole when the base has moved.
    pub fn apply(&mut self, new: NewApply, now: DateTime<Utc>) -> Result<Id, Refusal> {
        let etag = self.environment(&new.environment)?.etag();
        let stale = self.faults.strike(Fault::StaleBase, None).is_some();
        if stale || new.base.is_some_and(|base| base != etag) {
            return Err(Refusal::StaleBase);
        }
        self.preview(&new.environment, &new.sent, now)?;
        let apply = Apply {
            id: self.new_id(),
            status: ApplyStatus::Applying,
            changes: ChangeSet::read(&new.sent)?.changes.iter().map(|c| c.outcome("applying", Value::Null)).collect(),
            diagnostics: Vec::new(),
            deployment: None,
            sent: new.sent,
            message: new.message,
            due_at: if new.wait { now } else { now + APPLYING },
        };
        let id = apply.id.clone();
        let there = self.environment_mut(&new.environment)?;
        there.applies.push(apply);
        let surplus = there.applies.len().saturating_sub(APPLIES_KEPT);
        there.applies.drain(..surplus);
        self.finish_applies(&new.environment, now);
        Ok(id)
    }

    /// Finishes those that are due; true when there was one.
    pub(super) fn finish_applies(&mut self, environment: &str, now: DateTime<Utc>) -> bool {
        let Some(there) = self.environments.get(environment) else { return false };
        let due = |apply: &&Apply| apply.status == ApplyStatus::Applying && apply.due_at <= now;
        let due: Vec<Apply> = there.applies.iter().filter(due).cloned().collect();
        for apply in &due {
            let outcome = self.carry_out(environment, apply);
            let Some(there) = self.environments.get_mut(environment) else { return true };
            let Some(kept) = there.applies.iter_mut().find(|kept| kept.id == apply.id) else { continue };
            match outcome {
                Ok((changes, deployment)) => {
                    kept.status = ApplyStatus::Applied;
                    (kept.changes, kept.deployment) = (changes, deployment);
                }
                // It fitted when it was accepted; somebody changed the environment since.
                Err(refusal) => {
                    kept.status = ApplyStatus::Failed;
                    kept.diagnostics = vec![json!({ "severity": "error", "message": refusal.to_string() })];
                }
            }
        }
        !due.is_empty()
    }

    /// Works on a copy, so that a change that is refused leaves nothing of those before it.
    fn carry_out(&mut self, environment: &str, apply: &Apply) -> Result<(Vec<Value>, Option<Id>), Refusal> {
        let set = ChangeSet::read(&apply.sent)?;
        let mut after = self.clone();
        let changes = after.realize(environment, &set, apply.message.clone(), apply.due_at)?;
        let deployment = after.environment(environment)?.newest_deployment_since(apply.due_at);
        *self = after;
        Ok((changes, deployment))
    }

    /// Creations first, then one patch for the rest: what is changed together deploys once.
    fn realize(
        &mut self,
        environment: &str,
        set: &ChangeSet,
        message: Option<String>,
        now: DateTime<Utc>,
    ) -> Result<Vec<Value>, Refusal> {
        let (mut patch, mut outcomes) = (json!({}), Vec::new());
        for change in &set.changes {
            let (part, outputs) = match &change.intent {
                Intent::Create(resource) => self.create_resource(environment, &change.target, resource, now)?,
                _ => (self.change_resource(environment, change)?, Value::Null),
            };
            blob::merge_keeping_nulls(&mut patch, &part);
            outcomes.push(change.outcome("applied", outputs));
        }
        self.commit_patch(environment, &patch, message, now)?;
        Ok(outcomes)
    }

    fn create_resource(
        &mut self,
        environment: &str,
        target: &Address,
        resource: &Map<String, Value>,
        now: DateTime<Utc>,
    ) -> Result<(Value, Value), Refusal> {
        let project = self.environment(environment)?.project.clone();
        let image = image_of(resource)?;
        let new = NewService { name: Some(target.name.clone()), ..NewService::bare(project.clone()) };
        let service = self.create_service_in(new, vec![environment.to_owned()], now)?;
        let mut config = json!({ "isCreated": true });
        let mut outputs = json!({ "serviceId": service });
        if target.database {
            expect_postgres(resource)?;
            let password = self.letters(PASSWORD_LETTERS);
            config = postgres_service::config(image.as_deref().unwrap_or(POSTGRES_IMAGE), &password);
            let volume = NewVolume {
                project,
                service: Some(service.clone()),
                placement: Placement::In(environment.to_owned()),
                mount_path: super::deployments::POSTGRES_MOUNT.into(),
                region: first_region(resource),
            };
            outputs["volumeId"] = self.create_volume(volume, now)?.into();
        } else if let Some(image) = image {
            config["source"] = json!({ "image": image });
        }
        for part in ["build", "deploy"] {
            if let Some(content) = resource.get(part).filter(|content| content.is_object()) {
                blob::merge_keeping_nulls(&mut config, &json!({ part: content }));
            }
        }
        for (name, value) in resource.get("variables").and_then(Value::as_object).into_iter().flatten() {
            if let Some(text) = variable_text(value)? {
                config["variables"][name] = json!({ "value": text });
            }
        }
        Ok((json!({ "services": { service: config } }), outputs))
    }

    fn change_resource(&self, environment: &str, change: &Change) -> Result<Value, Refusal> {
        let service = self.service_named(environment, &change.target.name)?;
        let config = match &change.intent {
            Intent::Delete => json!({ "isDeleted": true }),
            Intent::SetVariable { value: None, .. } | Intent::Create(_) => json!({}),
            Intent::SetVariable { name, value: Some(text) } => json!({ "variables": { name: { "value": text } } }),
            Intent::DeleteVariable { name } => json!({ "variables": { name: null } }),
            Intent::Update { field, after } => match field.as_str() {
                "source" => json!({ "source": { "image": after.get("image") } }),
                "build" | "deploy" => json!({ field: after }),
                other => return Err(Refusal::NotSimulated(format!("an update of the field `{other}`"))),
            },
        };
        Ok(json!({ "services": { service: config } }))
    }

    fn service_named(&self, environment: &str, name: &str) -> Result<Id, Refusal> {
        let there = self.environment(environment)?;
        let named = |id: &&Id| self.services.get(*id).is_some_and(|service| service.name == name);
        there.instances.keys().find(named).cloned().ok_or(Refusal::NotFound("Service"))
    }
}

fn image_of(resource: &Map<String, Value>) -> Result<Option<String>, Refusal> {
    let source = resource.get("source").unwrap_or(&Value::Null);
    match source.get("type").and_then(Value::as_str) {
        None | Some("image") => Ok(source.get("image").and_then(Value::as_str).map(str::to_owned)),
        Some(other) => Err(Refusal::NotSimulated(format!("a source of the type `{other}`"))),
    }
}

fn expect_postgres(resource: &Map<String, Value>) -> Result<(), Refusal> {
    match resource.get("engine").and_then(Value::as_str) {
        Some("postgres") => Ok(()),
        other => Err(Refusal::NotSimulated(format!("a database of the engine `{}`", other.unwrap_or("(none)")))),
    }
}

fn first_region(resource: &Map<String, Value>) -> Option<String> {
    let regions = resource.get("deploy")?.get("multiRegionConfig")?.as_object()?;
    regions.iter().find(|(_, settings)| !settings.is_null()).map(|(region, _)| region.clone())
}
