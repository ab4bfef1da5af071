//! A local Railway in memory: no sockets, no processes, time passed in. For tests that need a whole Railway thousands
//! of times, with trouble at a chosen request.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::counters::{Mutation, Requests};
use super::gateway::{Gateway, Headers, LocalResponse};
use super::world::{At, Caller, Host, Plan, Rule, Service, World};
use crate::tenancy::Secret;

/// Time alone takes a deployment from one state to the next.
const INITIALIZING_MS: i64 = 1_000;
const DEPLOYING_MS: i64 = 4_000;

/// Requests by number (from 0) and the trouble each meets.
pub type FaultPlan = BTreeMap<u64, Rule>;

/// A copy goes on by itself: two futures of one past.
#[derive(Clone)]
pub struct InProcess {
    gateway: Gateway,
    token: Secret,
}

impl InProcess {
    /// An empty workspace. The same seed and the same requests at the same times give the same answers.
    pub fn new(plan: Plan, seed: u64, now: DateTime<Utc>) -> InProcess {
        let host = Host::Virtual { initializing_ms: INITIALIZING_MS, deploying_ms: DEPLOYING_MS };
        let mut world = World::new(plan, host, seed, now);
        let token = Secret::new(format!("local-account-{seed:016x}"));
        world.admit(&token, Caller::Account);
        InProcess { gateway: Gateway::new(world), token }
    }

    /// An account token; more are made with `projectTokenCreate`.
    pub fn token(&self) -> &Secret {
        &self.token
    }

    /// The headers of a request with the account token.
    pub fn headers(&self) -> Headers {
        Headers::from([("authorization".to_owned(), format!("Bearer {}", self.token.expose()))])
    }

    /// One HTTP request: header names in lower case, the body as sent.
    pub fn handle(&mut self, now: DateTime<Utc>, headers: &Headers, body: &str) -> LocalResponse {
        self.gateway.handle(now, headers, body)
    }

    /// Replaces the plan of trouble; requests already made keep their numbers.
    pub fn plan_faults(&mut self, plan: FaultPlan) {
        self.gateway.plan = plan;
    }

    /// An order for trouble, as `o7s local fault` gives it.
    pub fn order(&mut self, rule: Rule) {
        self.gateway.world.faults.order(rule);
    }

    pub fn clear_faults(&mut self) {
        self.gateway.world.faults.clear();
    }

    /// Requests that came so far, the lost and refused ones included.
    pub fn seen(&self) -> u64 {
        self.gateway.seen()
    }

    pub fn requests(&self) -> &Requests {
        &self.gateway.requests
    }

    /// Every root field of a mutation that ran, oldest first.
    pub fn mutations(&self) -> impl Iterator<Item = &Mutation> {
        self.gateway.log.iter()
    }

    /// The truth behind the lagging, masked reads, as of `now`.
    pub fn world(&mut self, now: DateTime<Utc>) -> &World {
        self.gateway.world.tick(now);
        &self.gateway.world
    }

    /// For hands other than the client's: a person at the dashboard, Railway itself.
    pub fn world_mut(&mut self) -> &mut World {
        &mut self.gateway.world
    }
}

/// What tests ask of the truth.
impl World {
    /// Services that carry the variable `name` in `environment`, with its value.
    pub fn marked_services(&self, environment: &str, name: &str) -> Vec<(&Service, String)> {
        let Ok(there) = self.environment(environment) else { return Vec::new() };
        let value = |service: &str| {
            let blob = there.service_blob(service)?;
            Some(blob.get("variables")?.get(name)?.get("value")?.as_str()?.to_owned())
        };
        let marked = |id: &String| Some((self.services.get(id)?, value(id)?));
        there.instances.keys().filter_map(marked).collect()
    }

    /// Volumes that are not in their grave, mounted in `at` or (`None`) detached.
    pub fn volumes_at(&self, environment: &str, service: Option<&str>) -> Vec<&str> {
        let Ok(there) = self.environment(environment) else { return Vec::new() };
        let fits =
            there.volume_instances.iter().filter(|(_, v)| v.dies_at.is_none() && v.service.as_deref() == service);
        fits.map(|(id, _)| id.as_str()).collect()
    }

    /// How often the service was deployed, as far as is remembered.
    pub fn deployments_of(&self, at: &At) -> usize {
        self.instance(at).map_or(0, |instance| instance.deployments.len())
    }
}
