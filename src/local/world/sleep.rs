//! Services that sleep: after ten minutes in which they sent nothing, until somebody connects.

use chrono::{DateTime, Duration, Utc};

use super::model::{At, Deployment, Status};
use super::{Fault, World};

/// Railway's docs: more than 10 minutes without an outbound packet.
pub const IDLE: Duration = Duration::minutes(10);

impl World {
    /// Puts to sleep who is due; an order makes one due at once.
    pub(super) fn fall_asleep(&mut self, environment: &str, now: DateTime<Utc>) -> bool {
        let ordered = self.faults.list().iter().any(|rule| rule.fault == Fault::Sleep);
        let Some(there) = self.environments.get_mut(environment) else { return false };
        let mut slept = false;
        for (service, instance) in &mut there.instances {
            let sent_at = instance.sent_at;
            let awake = |d: &&mut Deployment| d.is_running() && d.snapshot.sleeps;
            for deployment in instance.deployments.iter_mut().filter(awake) {
                let due = sent_at.map_or(deployment.status_at, |sent| sent.max(deployment.status_at)) + IDLE;
                let name = self.services.get(service).map(|service| service.name.as_str());
                if now > due || (ordered && self.faults.strike(Fault::Sleep, name).is_some()) {
                    deployment.turn(Status::Sleeping, due.min(now), None);
                    slept = true;
                }
            }
        }
        slept
    }

    /// The service sent something to whoever it talks to.
    pub fn sent(&mut self, at: &At, now: DateTime<Utc>) {
        if let Ok(instance) = self.instance_mut(at) {
            instance.sent_at = Some(instance.sent_at.map_or(now, |before| before.max(now)));
        }
    }

    /// Somebody connects: true when a server answers. A sleeping one wakes and refuses this once.
    pub fn connect(&mut self, at: &At, now: DateTime<Utc>) -> bool {
        let listens = self.is_listening(at);
        if listens {
            self.sent(at, now);
        } else {
            self.wake(at, now);
        }
        listens
    }

    /// The same deployment, its process anew. True when it slept.
    pub fn wake(&mut self, at: &At, now: DateTime<Utc>) -> bool {
        let Ok(instance) = self.instance_mut(at) else { return false };
        let asleep = |d: &&mut Deployment| d.status == Status::Sleeping && !d.stopped;
        let Some(deployment) = instance.deployments.iter_mut().rev().find(asleep) else { return false };
        deployment.starts += 1;
        deployment.turn(Status::Deploying, now, None);
        true
    }
}
