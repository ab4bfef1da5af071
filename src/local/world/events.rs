//! What happened to a deployment, as Railway's timeline tells it.

use chrono::{DateTime, Utc};

use super::model::{Deployment, Status, Step};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// `DeploymentEventStep`.
    pub step: &'static str,
    pub began_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
    pub error: Option<String>,
}

impl Deployment {
    /// In order. What went on before [`super::model::STEPS_KEPT`] steps is forgotten.
    pub fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for (n, step) in self.steps.iter().enumerate() {
            let after = self.steps.get(n + 1);
            match step.status {
                Status::Initializing => events.push(event("CREATE_CONTAINER", step, after, self)),
                Status::Deploying => {
                    events.push(event("CONFIGURE_NETWORK", step, after.filter(|_| !self.checks_health()), self));
                    if self.checks_health() {
                        events.push(event("HEALTHCHECK", step, after, self));
                    }
                }
                Status::Removing => events.push(event("DRAIN_INSTANCES", step, after, self)),
                _ => {}
            }
        }
        events
    }

    fn checks_health(&self) -> bool {
        self.snapshot.healthcheck.is_some()
    }
}

/// What lasts from one status to the next; it failed when that one is a failure.
fn event(step: &'static str, from: &Step, after: Option<&Step>, deployment: &Deployment) -> Event {
    let failed = after.is_some_and(|after| matches!(after.status, Status::Failed | Status::Crashed));
    Event {
        step,
        began_at: from.at,
        ended_at: after.map(|after| after.at),
        error: deployment.reason.clone().filter(|_| failed),
    }
}
