//! Variables: written one by one or as a collection, rendered with every reference resolved.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use super::model::{At, Environment, Id};
use super::{Refusal, World, blob};

/// References nested deeper, or in a circle, stay unresolved.
const REFERENCE_DEPTH_MAX: usize = 10;
/// Bytes a rendered value may grow to: references can repeat one another.
const VALUE_BYTES_MAX: usize = 64 * 1024;

/// Whose variables: a service's, or the environment's shared ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VariableScope {
    pub environment: Id,
    pub service: Option<Id>,
}

pub(super) fn check_name(name: &str) -> Result<(), Refusal> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(plain) || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(Refusal::Invalid(format!("`{name}` is no name of a variable")));
    }
    if name.starts_with("RAILWAY_") && PROVIDED.contains(&name) {
        return Err(Refusal::Invalid(format!("{name} is provided by Railway")));
    }
    Ok(())
}

/// Names Railway gives itself and nobody can set. (Settings such as RAILWAY_RUN_UID are not among them.)
const PROVIDED: [&str; 13] = [
    "RAILWAY_PROJECT_ID",
    "RAILWAY_PROJECT_NAME",
    "RAILWAY_ENVIRONMENT_ID",
    "RAILWAY_ENVIRONMENT_NAME",
    "RAILWAY_ENVIRONMENT",
    "RAILWAY_SERVICE_ID",
    "RAILWAY_SERVICE_NAME",
    "RAILWAY_PRIVATE_DOMAIN",
    "RAILWAY_TCP_PROXY_DOMAIN",
    "RAILWAY_TCP_PROXY_PORT",
    "RAILWAY_TCP_APPLICATION_PORT",
    "RAILWAY_VOLUME_NAME",
    "RAILWAY_VOLUME_MOUNT_PATH",
];

impl World {
    /// Merges `variables` (with `replace`, and nothing else stays); deploys what is affected unless told not to.
    pub fn upsert_variables(
        &mut self,
        scope: &VariableScope,
        variables: &Value,
        replace: bool,
        skip_deploys: bool,
        now: DateTime<Utc>,
    ) -> Result<(), Refusal> {
        let texts = super::projects::texts(variables)?;
        texts.iter().try_for_each(|(name, _)| check_name(name))?;
        let before = self.environment(&scope.environment)?.clone();
        let target = self.variables_mut(scope)?;
        if replace {
            target.clear();
        }
        for (name, value) in texts {
            target.insert(name, json!({ "value": value }));
        }
        self.variables_written(&before, scope, skip_deploys, now);
        Ok(())
    }

    /// Deleting what is not there is no error.
    pub fn delete_variable(&mut self, scope: &VariableScope, name: &str, now: DateTime<Utc>) -> Result<(), Refusal> {
        let before = self.environment(&scope.environment)?.clone();
        self.variables_mut(scope)?.remove(name);
        self.variables_written(&before, scope, false, now);
        Ok(())
    }

    fn variables_mut(&mut self, scope: &VariableScope) -> Result<&mut Map<String, Value>, Refusal> {
        let there = self.environment_mut(&scope.environment)?;
        let Some(service) = &scope.service else { return Ok(there.part_mut("sharedVariables")) };
        let blob = there.part_mut("services").get_mut(service).ok_or(Refusal::NotFound("ServiceInstance"))?;
        if !blob.get("variables").is_some_and(Value::is_object) {
            blob["variables"] = json!({});
        }
        blob["variables"].as_object_mut().ok_or(Refusal::NotFound("ServiceInstance"))
    }

    fn variables_written(
        &mut self,
        before: &Environment,
        scope: &VariableScope,
        skip_deploys: bool,
        now: DateTime<Utc>,
    ) {
        let unchanged = self.environments.get(&scope.environment).is_some_and(|after| after.config == before.config);
        if unchanged {
            return;
        }
        self.config_written(&scope.environment, now);
        if !skip_deploys {
            self.deploy_touched(before, now);
        }
    }

    /// As written: references left alone, sealed values left out.
    pub fn raw_variables(&self, scope: &VariableScope) -> Result<BTreeMap<String, String>, Refusal> {
        let environment = self.environment(&scope.environment)?;
        if let Some(service) = &scope.service {
            environment.instances.get(service).ok_or(Refusal::NotFound("ServiceInstance"))?;
        }
        Ok(environment.literals(scope.service.as_deref(), false))
    }

    /// With every reference resolved and Railway's own added; sealed ones only for a deployment itself.
    pub fn rendered_variables(
        &self,
        scope: &VariableScope,
        for_deployment: bool,
    ) -> Result<BTreeMap<String, String>, Refusal> {
        let environment = self.environment(&scope.environment)?;
        let Some(service) = &scope.service else {
            let literals = environment.literals(None, for_deployment);
            return Ok(literals.keys().map(|name| (name.clone(), self.shared(environment, name, 0))).collect());
        };
        environment.instances.get(service).ok_or(Refusal::NotFound("ServiceInstance"))?;
        let at = environment.at(service);
        let literals = environment.literals(Some(service), for_deployment);
        let mut all = self.provided(environment, &at);
        for name in literals.keys() {
            all.insert(name.clone(), self.lookup(environment, &at, name, 0).unwrap_or_default());
        }
        Ok(all)
    }

    fn shared(&self, environment: &Environment, name: &str, depth: usize) -> String {
        let literal = environment.literals(None, true).remove(name).unwrap_or_default();
        self.render(environment, None, &literal, depth + 1)
    }

    /// The rendered value of a service's own or provided variable.
    fn lookup(&self, environment: &Environment, at: &At, name: &str, depth: usize) -> Option<String> {
        match environment.literals(Some(&at.service), true).remove(name) {
            Some(literal) => Some(self.render(environment, Some(at), &literal, depth + 1)),
            None => self.provided(environment, at).remove(name),
        }
    }

    /// Replaces `${{NAME}}`, `${{shared.NAME}}` and `${{Service.NAME}}`; what resolves to nothing becomes empty.
    fn render(&self, environment: &Environment, own: Option<&At>, text: &str, depth: usize) -> String {
        let (mut rendered, mut rest) = (String::new(), text);
        while let Some((plain, tail)) = rest.split_once("${{") {
            rendered.push_str(plain);
            let Some((reference, tail)) = tail.split_once("}}") else {
                rendered.push_str("${{");
                rest = tail;
                continue;
            };
            rest = tail;
            if depth < REFERENCE_DEPTH_MAX && rendered.len() < VALUE_BYTES_MAX {
                rendered.push_str(&self.resolve(environment, own, reference.trim(), depth));
            }
        }
        rendered.push_str(rest);
        rendered
    }

    fn resolve(&self, environment: &Environment, own: Option<&At>, reference: &str, depth: usize) -> String {
        match reference.rsplit_once('.') {
            None => own.and_then(|at| self.lookup(environment, at, reference, depth)),
            Some(("shared", name)) => Some(self.shared(environment, name, depth)),
            Some((service, name)) => {
                let named = |id: &&Id| self.services.get(*id).is_some_and(|found| found.name == service);
                let found = environment.instances.keys().find(named);
                found.and_then(|id| self.lookup(environment, &environment.at(id), name, depth))
            }
        }
        .unwrap_or_default()
    }

    /// What Railway itself gives a service at run time, as far as it is known here.
    fn provided(&self, environment: &Environment, at: &At) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        let mut give = |name: &str, value: &str| drop(all.insert(name.to_owned(), value.to_owned()));
        give("RAILWAY_PROJECT_ID", &environment.project);
        give("RAILWAY_PROJECT_NAME", self.projects.get(&environment.project).map_or("", |p| &p.name));
        give("RAILWAY_ENVIRONMENT_ID", &environment.id);
        give("RAILWAY_ENVIRONMENT_NAME", &environment.name);
        give("RAILWAY_ENVIRONMENT", &environment.name);
        give("RAILWAY_SERVICE_ID", &at.service);
        give("RAILWAY_SERVICE_NAME", self.services.get(&at.service).map_or("", |s| &s.name));
        let Some(instance) = environment.instances.get(&at.service) else { return all };
        give("RAILWAY_PRIVATE_DOMAIN", &format!("{}.railway.internal", instance.dns_name));
        if let (Some((inside, proxy)), Some(port)) = (instance.live_proxy(), instance.port) {
            give("RAILWAY_TCP_PROXY_DOMAIN", &self.proxy_domain(proxy));
            give("RAILWAY_TCP_PROXY_PORT", &port.to_string());
            give("RAILWAY_TCP_APPLICATION_PORT", &inside.to_string());
        }
        if let Some(mount) = environment.mount_of(&at.service) {
            give("RAILWAY_VOLUME_NAME", self.volumes.get(&mount.volume).map_or("", |volume| &volume.name));
            give("RAILWAY_VOLUME_MOUNT_PATH", &mount.path);
        }
        all
    }
}

impl Environment {
    /// Literal values of a service (or the shared ones), as written.
    fn literals(&self, service: Option<&str>, sealed: bool) -> BTreeMap<String, String> {
        let variables = match service {
            None => self.config.get("sharedVariables"),
            Some(id) => self.service_blob(id).and_then(|blob| blob.get("variables")),
        };
        let literal = |(name, variable): (&String, &Value)| {
            let variable = variable.as_object()?;
            let shown = sealed || !blob::is_sealed(variable);
            let value = variable.get("value").or_else(|| variable.get("defaultValue"))?.as_str()?;
            shown.then(|| (name.clone(), value.to_owned()))
        };
        variables.and_then(Value::as_object).into_iter().flatten().filter_map(literal).collect()
    }
}
