//! Services and their instances in environments.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::model::{Id, Service, ServiceInstance};
use super::{Late, Refusal, World, blob, projects};

/// Railway's bound on a service name.
pub const NAME_CHARS_MAX: usize = 32;
pub struct NewService {
    pub project: Id,
    pub environment: Option<Id>,
    pub name: Option<String>,
    pub icon: Option<String>,
    pub image: Option<String>,
    /// `EnvironmentVariables`: an object of texts.
    pub variables: Option<Value>,
}

impl NewService {
    /// Without source and variables, named by Railway.
    pub fn bare(project: Id) -> NewService {
        NewService { project, environment: None, name: None, icon: None, image: None, variables: None }
    }
}

impl World {
    /// With a source it deploys at once, before any volume can be attached; without, it is a name to hang things on.
    pub fn create_service(&mut self, new: NewService, now: DateTime<Utc>) -> Result<Id, Refusal> {
        let environments = self.reach(&new.project, new.environment.as_deref())?;
        self.create_service_in(new, environments, now)
    }

    pub(super) fn create_service_in(
        &mut self,
        new: NewService,
        environments: Vec<Id>,
        now: DateTime<Utc>,
    ) -> Result<Id, Refusal> {
        self.project(&new.project)?;
        let name = match new.name {
            Some(name) => name,
            None => self.invented_name(),
        };
        self.check_service_name(&new.project, &name)?;
        let max = self.plan.allowance().services_per_project;
        if self.services_of(&new.project).count() >= max {
            let plan = self.plan.subscription();
            return Err(Refusal::Limit(format!(
                "Service limit reached: a project on the {plan} plan can have {max} services"
            )));
        }
        let variables = new.variables.as_ref().map(projects::texts).transpose()?.unwrap_or_default();
        let mut config = blob::new_service();
        for (name, value) in variables {
            super::variables::check_name(&name)?;
            config["variables"][name] = json!({ "value": value });
        }
        if let Some(image) = &new.image {
            config["source"] = json!({ "image": image });
        }
        let (id, visible_at) = (self.new_id(), self.seen_from(Late::Service, now));
        let service = Service {
            id: id.clone(),
            project: new.project,
            name: name.clone(),
            icon: new.icon,
            created_at: now,
            updated_at: now,
            deleted_at: None,
            visible_at,
        };
        self.services.insert(id.clone(), service);
        for environment in environments {
            let instance = self.blank_instance(&name.to_lowercase(), now);
            let there = self.environment_mut(&environment)?;
            there.instances.insert(id.clone(), instance);
            there.part_mut("services").insert(id.clone(), config.clone());
            self.config_written(&environment, now);
            self.deploy_if_sourced(&environment, &id, now);
        }
        Ok(id)
    }

    pub(super) fn blank_instance(&mut self, dns_name: &str, now: DateTime<Utc>) -> ServiceInstance {
        ServiceInstance {
            id: self.new_id(),
            created_at: now,
            updated_at: now,
            visible_at: self.seen_from(Late::ServiceInstance, now),
            dns_name: dns_name.to_owned(),
            port: None,
            proxies: Default::default(),
            sent_at: None,
            deployments: Vec::new(),
        }
    }

    fn check_service_name(&self, project: &str, name: &str) -> Result<(), Refusal> {
        if name.trim().is_empty() {
            return Err(Refusal::Invalid("Invalid service name".into()));
        }
        if name.chars().count() > NAME_CHARS_MAX {
            return Err(Refusal::Invalid(format!(
                "Invalid service name: at most {NAME_CHARS_MAX} characters are allowed"
            )));
        }
        if self.services_of(project).any(|service| service.name == name) {
            return Err(Refusal::NameTaken { kind: "service", name: name.to_owned() });
        }
        Ok(())
    }

    pub fn update_service(
        &mut self,
        id: &str,
        name: Option<String>,
        icon: Option<String>,
        now: DateTime<Utc>,
    ) -> Result<(), Refusal> {
        let service = self.service(id)?;
        if let Some(name) = name.as_deref().filter(|name| *name != service.name) {
            self.check_service_name(&service.project.clone(), name)?;
        }
        self.services.entry(id.to_owned()).and_modify(|service| {
            service.name = name.unwrap_or_else(|| service.name.clone());
            service.icon = icon.or_else(|| service.icon.take());
            service.updated_at = now;
        });
        Ok(())
    }

    /// Leaves its volumes behind, detached. Gone as a service once no environment holds it.
    pub fn delete_service(&mut self, id: &str, environment: Option<&str>, now: DateTime<Utc>) -> Result<(), Refusal> {
        let project = self.service(id)?.project.clone();
        for environment in self.reach(&project, environment)? {
            self.remove_instance(&environment, id, now);
        }
        let held = self.environments_of(&project).iter().any(|e| e.instances.contains_key(id));
        if !held {
            self.services.entry(id.to_owned()).and_modify(|service| service.deleted_at = Some(now));
        }
        Ok(())
    }

    pub(super) fn remove_instance(&mut self, environment: &str, service: &str, now: DateTime<Utc>) {
        let Some(there) = self.environments.get_mut(environment) else { return };
        if there.instances.remove(service).is_none() {
            return;
        }
        there.part_mut("services").remove(service);
        // Whatever a person staged about it has lost its object.
        if let Some(staged) = there.staged.content.get_mut("services").and_then(Value::as_object_mut) {
            staged.remove(service);
        }
        self.config_written(environment, now);
    }

    /// Direct writes of deploy settings. They need a deploy to take effect and start none.
    pub fn update_instance(
        &mut self,
        service: &str,
        environment: Option<&str>,
        change: &Value,
        now: DateTime<Utc>,
    ) -> Result<(), Refusal> {
        let project = self.service(service)?.project.clone();
        let reached = self.reach(&project, environment)?;
        let mut touched = 0;
        for id in reached {
            let there = self.environment_mut(&id)?;
            let Some(config) = there.part_mut("services").get_mut(service) else { continue };
            blob::merge(config, change);
            touched += 1;
            self.config_written(&id, now);
        }
        if touched == 0 { Err(Refusal::NotFound("ServiceInstance")) } else { Ok(()) }
    }
}
