//! Projects, environments and the tokens bound to them.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::blob;
use super::model::{Caller, Environment, Id, Patch, Project, Token, VolumeInstance};
use super::{Fault, Late, Refusal, World};
use crate::tenancy::Secret;

/// Railway states no bound; a loop that makes projects forever should hear of it.
const PROJECTS_MAX: usize = 1_000;
/// Tokens of one workspace; a loop that makes them forever should hear of it.
const TOKENS_MAX: usize = 1_000;

pub struct NewProject {
    pub name: Option<String>,
    pub description: Option<String>,
    pub environment_name: Option<String>,
}

pub struct NewEnvironment {
    pub project: Id,
    pub name: String,
    pub source: Option<Id>,
    pub ephemeral: bool,
    pub skip_deploys: bool,
}

impl World {
    pub fn create_project(&mut self, new: NewProject, now: DateTime<Utc>) -> Result<Id, Refusal> {
        self.throttle("projects")?;
        if self.projects.values().filter(|project| project.deleted_at.is_none()).count() >= PROJECTS_MAX {
            return Err(Refusal::Limit(format!(
                "Project limit reached: a workspace can have {PROJECTS_MAX} projects"
            )));
        }
        let name = new.name.unwrap_or_else(|| self.invented_name());
        if name.trim().is_empty() || name.chars().count() > 100 {
            return Err(Refusal::Invalid("Invalid project name".into()));
        }
        let (id, base) = (self.new_id(), self.new_id());
        let project = Project {
            id: id.clone(),
            name,
            description: new.description,
            created_at: now,
            updated_at: now,
            deleted_at: None,
            base_environment: base.clone(),
        };
        self.projects.insert(id.clone(), project);
        let environment_name = new.environment_name.unwrap_or_else(|| "production".into());
        let base_environment = self.blank_environment(base.clone(), id.clone(), environment_name, now);
        self.environments.insert(base, base_environment);
        Ok(id)
    }

    /// Railway makes one project, one environment or one volume after another; here only when that was ordered.
    pub(super) fn throttle(&mut self, what: &'static str) -> Result<(), Refusal> {
        match self.faults.strike(Fault::TooQuickly, None) {
            Some(_) => Err(Refusal::TooQuickly(what)),
            None => Ok(()),
        }
    }

    fn blank_environment(&mut self, id: Id, project: Id, name: String, now: DateTime<Utc>) -> Environment {
        Environment {
            id,
            project,
            name,
            created_at: now,
            updated_at: now,
            deleted_at: None,
            fork_of: None,
            ephemeral: false,
            config: blob::empty(),
            revision: 1,
            staged: self.blank_patch(now),
            patches: Vec::new(),
            applies: Vec::new(),
            instances: Default::default(),
            volume_instances: Default::default(),
        }
    }

    pub(super) fn blank_patch(&mut self, now: DateTime<Utc>) -> Patch {
        let (id, content) = (self.new_id(), json!({}));
        Patch { id, message: None, created_at: now, updated_at: now, applied_at: None, content }
    }

    /// Everything in it goes with it; its volumes lie in their grave like any other.
    pub fn delete_project(&mut self, id: &str, now: DateTime<Utc>) -> Result<(), Refusal> {
        self.project(id)?;
        let services: Vec<Id> = self.services_of(id).map(|service| service.id.clone()).collect();
        let environments: Vec<Id> = self.environments_of(id).iter().map(|e| e.id.clone()).collect();
        for environment in &environments {
            for service in &services {
                self.remove_instance(environment, service, now);
            }
        }
        for service in self.services.values_mut().filter(|service| service.project == id) {
            service.deleted_at.get_or_insert(now);
        }
        let volumes: Vec<Id> = self.volumes.values().filter(|v| v.project == id).map(|v| v.id.clone()).collect();
        for volume in volumes {
            self.delete_volume(&volume, now)?;
        }
        for environment in self.environments.values_mut().filter(|e| e.project == id) {
            environment.deleted_at.get_or_insert(now);
        }
        self.projects.entry(id.to_owned()).and_modify(|project| project.deleted_at = Some(now));
        Ok(())
    }

    pub fn create_environment(&mut self, new: NewEnvironment, now: DateTime<Utc>) -> Result<Id, Refusal> {
        self.throttle("environments")?;
        self.project(&new.project)?;
        if new.name.trim().is_empty() {
            return Err(Refusal::Invalid("Invalid environment name".into()));
        }
        if self.environments_of(&new.project).iter().any(|e| e.name == new.name) {
            return Err(Refusal::NameTaken { kind: "environment", name: new.name });
        }
        let source = new.source.as_deref().map(|id| self.environment(id).cloned()).transpose()?;
        let id = self.new_id();
        let mut made = self.blank_environment(id.clone(), new.project, new.name, now);
        made.ephemeral = new.ephemeral;
        if let Some(source) = &source {
            self.copy_into(&mut made, source, now);
        }
        let services: Vec<Id> = made.instances.keys().cloned().collect();
        self.environments.insert(id.clone(), made);
        for service in services.into_iter().filter(|_| !new.skip_deploys) {
            self.deploy_if_sourced(&id, &service, now);
        }
        Ok(id)
    }

    /// A fork starts with its source's services, variables and mounts, and with empty volumes.
    fn copy_into(&mut self, fork: &mut Environment, source: &Environment, now: DateTime<Utc>) {
        fork.fork_of = Some(source.id.clone());
        fork.config = source.config.clone();
        for (service, instance) in &source.instances {
            fork.instances.insert(service.clone(), self.blank_instance(&instance.dns_name, now));
        }
        for (volume, old) in source.volume_instances.iter().filter(|(_, old)| old.dies_at.is_none()) {
            let copy = VolumeInstance {
                id: self.new_id(),
                data_bytes: 0,
                created_at: now,
                visible_at: self.seen_from(Late::VolumeInstance, now),
                initialised: false,
                restoring: false,
                schedules: Vec::new(),
                ..old.clone()
            };
            fork.volume_instances.insert(volume.clone(), copy);
        }
    }

    /// The secret of a new token that reaches one environment.
    pub fn create_project_token(
        &mut self,
        name: String,
        project: Id,
        environment: Id,
        now: DateTime<Utc>,
    ) -> Result<Secret, Refusal> {
        self.project(&project)?;
        if self.environment(&environment)?.project != project {
            return Err(Refusal::NotFound("Environment"));
        }
        let token = self.new_id();
        self.create_token(Caller::Project { token, name, project, environment, created_at: now })
    }

    /// The secret of a new token.
    pub fn create_token(&mut self, caller: Caller) -> Result<Secret, Refusal> {
        if self.tokens.len() >= TOKENS_MAX {
            return Err(Refusal::Limit(format!("this workspace has its {TOKENS_MAX} tokens already")));
        }
        let secret = Secret::new(self.new_id());
        self.admit(&secret, caller);
        Ok(secret)
    }

    /// Lets whoever holds `secret` in as `caller`.
    pub fn admit(&mut self, secret: &Secret, caller: Caller) {
        self.tokens.push(Token { digest: digest_of(secret), caller });
    }

    pub fn caller(&self, secret: &Secret) -> Option<&Caller> {
        let digest = digest_of(secret);
        self.tokens.iter().find(|token| token.digest == digest).map(|token| &token.caller)
    }

    /// Railway's way with names nobody gave: two words.
    pub(super) fn invented_name(&mut self) -> String {
        const MOODS: [&str; 12] = [
            "amused", "brave", "calm", "daring", "eager", "fond", "gentle", "handy", "kind", "lucid", "merry",
            "steady",
        ];
        const THINGS: [&str; 12] = [
            "anchor", "beacon", "cargo", "depot", "engine", "ferry", "gauge", "harbor", "lantern", "signal",
            "switch", "wagon",
        ];
        format!("{}-{}", self.pick(&MOODS), self.pick(&THINGS))
    }
}

fn digest_of(secret: &Secret) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, secret.expose().as_bytes()))
}

/// Variables of a read or write as Railway's `EnvironmentVariables` scalar: an object of texts.
pub(super) fn texts(value: &Value) -> Result<Vec<(String, String)>, Refusal> {
    let map = value.as_object().ok_or_else(|| Refusal::Invalid("variables must be an object".into()))?;
    let text = |(name, value): (&String, &Value)| match value {
        Value::String(text) => Ok((name.clone(), text.clone())),
        Value::Number(number) => Ok((name.clone(), number.to_string())),
        Value::Bool(bool) => Ok((name.clone(), bool.to_string())),
        _ => Err(Refusal::Invalid(format!("the variable {name} is not a text"))),
    };
    map.iter().map(text).collect()
}
