//! The part of a plan that is about one object.

use super::action::{Plan, Problem};
use super::held::owner;
use crate::tenancy::InstanceName;

impl Plan {
    /// Of `tenant/acme` also its route and its variables, of `pool/shared` also its instances. What stops the whole run
    /// stops this too, and stays.
    #[must_use]
    pub fn about(mut self, address: &str) -> Plan {
        let pool_of = |other: &str| {
            let name = other.strip_prefix("instance/").or_else(|| other.strip_prefix("server/"))?;
            InstanceName::parse(name).ok().map(|name| format!("pool/{}", name.pool()))
        };
        let is = |other: &str| {
            other == address
                || other.strip_prefix("server/").is_some_and(|name| address == format!("instance/{name}"))
                || pool_of(other).is_some_and(|pool| pool == address)
        };
        self.actions.retain(|action| is(&action.address) || owner(&action.step).is_some_and(|owner| is(&owner)));
        self.held.retain(|held| is(&held.address));
        for list in [&mut self.refused, &mut self.blocked, &mut self.breaches] {
            list.retain(|problem: &Problem| is(&problem.address));
        }
        let begins = |line: &str| line.split([':', ' ']).next().is_some_and(is);
        self.retained.retain(|line| begins(line));
        self.warnings.retain(|warning| begins(&warning.text));
        self
    }

    /// Nothing would be done, and there is nothing to say of it.
    pub fn is_silent(&self) -> bool {
        self.actions.is_empty()
            && self.held.is_empty()
            && self.retained.is_empty()
            && self.warnings.is_empty()
            && [&self.refused, &self.blocked, &self.breaches].iter().all(|list| list.is_empty())
            && self.guard.is_none()
    }
}
