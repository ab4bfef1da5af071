//! Who wants to hear of what. Rules are kept and listed; nothing is sent from here.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::model::Id;
use super::{Refusal, World};

/// Rules of one workspace.
const RULES_MAX: usize = 1_000;

#[derive(Clone, Serialize, Deserialize)]
pub struct NotificationRule {
    pub id: Id,
    pub project: Option<Id>,
    pub event_types: Vec<String>,
    pub severities: Vec<String>,
    pub ephemeral_environments: bool,
    pub channels: Vec<Channel>,
    pub created_at: DateTime<Utc>,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct Channel {
    pub id: Id,
    pub config: Value,
}

pub struct NewNotificationRule {
    pub project: Option<Id>,
    pub event_types: Vec<String>,
    pub severities: Vec<String>,
    pub ephemeral_environments: bool,
    pub channels: Vec<Value>,
}

impl World {
    pub fn create_notification_rule(
        &mut self,
        new: NewNotificationRule,
        now: DateTime<Utc>,
    ) -> Result<&NotificationRule, Refusal> {
        new.project.as_deref().map_or(Ok(()), |project| self.project(project).map(drop))?;
        if new.event_types.is_empty() || new.channels.is_empty() {
            return Err(Refusal::Invalid("a rule needs event types and channels".into()));
        }
        if self.notification_rules.len() >= RULES_MAX {
            return Err(Refusal::Limit(format!("this workspace has its {RULES_MAX} notification rules already")));
        }
        let id = self.new_id();
        let channels = new.channels.into_iter().map(|config| Channel { id: self.new_id(), config }).collect();
        self.notification_rules.push(NotificationRule {
            id,
            project: new.project,
            event_types: new.event_types,
            severities: new.severities,
            ephemeral_environments: new.ephemeral_environments,
            channels,
            created_at: now,
        });
        self.notification_rules.last().ok_or(Refusal::NotFound("NotificationRule"))
    }

    pub fn delete_notification_rule(&mut self, id: &str) -> Result<(), Refusal> {
        let before = self.notification_rules.len();
        self.notification_rules.retain(|rule| rule.id != id);
        if self.notification_rules.len() < before { Ok(()) } else { Err(Refusal::NotFound("NotificationRule")) }
    }
}
