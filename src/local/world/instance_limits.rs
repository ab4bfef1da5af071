//! What one service may use: the plan's ceiling, or less.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::model::At;
use super::{Refusal, World, blob};

const OVERRIDE: &str = "/deploy/limitOverride";

impl World {
    pub fn limit_instance(
        &mut self,
        at: &At,
        vcpus: Option<f64>,
        memory_gb: Option<f64>,
        now: DateTime<Utc>,
    ) -> Result<(), Refusal> {
        self.instance(at)?;
        let allowance = self.plan.allowance();
        let fits = |value: Option<f64>, max: f64| value.is_none_or(|value| value > 0.0 && value <= max);
        if !fits(vcpus, allowance.vcpus_max) || !fits(memory_gb, allowance.memory_gb_max) {
            return Err(Refusal::Limit(format!(
                "limits must be above 0 and at most {} vCPU and {} GB on this plan",
                allowance.vcpus_max, allowance.memory_gb_max
            )));
        }
        let bytes = memory_gb.map(|gb| (gb * 1e9).round());
        let caps = json!({ "deploy": { "limitOverride": { "containers": { "cpu": vcpus, "memoryBytes": bytes } } } });
        let there = self.environment_mut(&at.environment)?;
        let config = there.part_mut("services").get_mut(&at.service).ok_or(Refusal::NotFound("ServiceInstance"))?;
        blob::merge(config, &caps);
        self.config_written(&at.environment, now);
        Ok(())
    }

    /// As written to the blob; `None` without one.
    pub fn limit_override(&self, at: &At) -> Result<Option<Value>, Refusal> {
        self.instance(at)?;
        let config = self.environment(&at.environment)?.service_blob(&at.service);
        Ok(config.and_then(|config| config.pointer(OVERRIDE)).filter(|found| !found.is_null()).cloned())
    }

    /// What is in force: the plan's, with the override on top.
    pub fn limits_of(&self, at: &At) -> Result<Value, Refusal> {
        let allowance = self.plan.allowance();
        let bytes = (allowance.memory_gb_max * 1e9).round();
        let mut limits = json!({ "containers": { "cpu": allowance.vcpus_max, "memoryBytes": bytes } });
        if let Some(own) = self.limit_override(at)? {
            blob::merge(&mut limits, &own);
        }
        Ok(limits)
    }
}
