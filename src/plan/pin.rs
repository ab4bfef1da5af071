//! A saved plan as a promise: a later run may carry out that plan and no other. The run plans anew; the pin only says
//! whether what it came to is what was reviewed.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::action::Plan;
use super::document::PLAN_FORMAT;
use super::error::Error;
use super::target::Target;
use crate::tenancy::Digest;

/// So many addresses are named when a plan does not fit.
const NAMED_MAX: usize = 5;

/// Read by every version, whatever else the file holds.
#[derive(Deserialize)]
struct Head {
    format_version: String,
    o7s_version: String,
}

/// The parts of a saved plan that matter to whoever carries it out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Pin {
    o7s_version: String,
    fleet: Fleet,
    snapshot: Snapshot,
    #[serde(default)]
    targets: Vec<Target>,
    changes: Vec<Pinned>,
    plan_digest: Digest,
    /// A smaller plan will do as well.
    #[serde(skip)]
    smaller: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Fleet {
    name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Snapshot {
    etag: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Pinned {
    address: String,
    digest: Digest,
}

impl Pin {
    pub fn read(bytes: &[u8]) -> Result<Pin, Error> {
        let no_plan = |source| Error::NoPlan { source };
        let head: Head = serde_json::from_slice(bytes).map_err(no_plan)?;
        let major = |version: &str| version.split('.').next().unwrap_or_default().to_owned();
        if major(&head.format_version) != major(PLAN_FORMAT) {
            let (have, known) = (head.format_version, PLAN_FORMAT.to_owned());
            return Err(Error::OtherFormat { what: "a plan", have, o7s: head.o7s_version, known });
        }
        serde_json::from_slice(bytes).map_err(no_plan)
    }

    /// A plan that does only what the pinned one does will do as well, as after a part of it was carried out.
    #[must_use]
    pub fn or_smaller(self) -> Pin {
        Pin { smaller: true, ..self }
    }

    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// Whether `plan` may be carried out for the pinned one; else in how far it differs.
    pub fn admits(&self, plan: &Plan) -> Result<(), String> {
        if self.fleet.name != plan.fleet {
            return Err(format!("it is of fleet {}", self.fleet.name));
        }
        if self.plan_digest == plan.digest() {
            return Ok(());
        }
        let pinned: BTreeMap<&str, &Digest> = self.changes.iter().map(|c| (c.address.as_str(), &c.digest)).collect();
        let now: BTreeMap<&str, Digest> = plan.actions.iter().map(|a| (a.address.as_str(), a.digest())).collect();
        let (added, common): (Vec<_>, Vec<_>) = now.iter().partition(|(address, _)| !pinned.contains_key(**address));
        let other: Vec<&str> =
            common.iter().filter(|(address, digest)| pinned[**address] != *digest).map(|(a, _)| **a).collect();
        if self.smaller && added.is_empty() && other.is_empty() {
            return Ok(());
        }
        let added: Vec<&str> = added.iter().map(|(address, _)| **address).collect();
        let gone: Vec<&str> = pinned.keys().filter(|address| !now.contains_key(**address)).copied().collect();
        Err(self.differences(plan, &[("new", added), ("different", other), ("gone", gone)]))
    }

    fn differences(&self, plan: &Plan, lists: &[(&str, Vec<&str>)]) -> String {
        let mut parts: Vec<String> = lists
            .iter()
            .filter(|(_, addresses)| !addresses.is_empty())
            .map(|(what, addresses)| format!("{what}: {}", named(addresses)))
            .collect();
        if parts.is_empty() {
            parts
                .push("what it refuses, cannot do or leaves unchanged, or the line that asks for it, differs".into());
        }
        if self.snapshot.etag != plan.snapshot.etag {
            parts.push("Railway's configuration has changed since".into());
        }
        if self.o7s_version != env!("CARGO_PKG_VERSION") {
            parts.push(format!("it was made by o7s {}", self.o7s_version));
        }
        parts.join("; ")
    }
}

fn named(addresses: &[&str]) -> String {
    let unique: BTreeSet<&str> = addresses.iter().copied().collect();
    let shown: Vec<&str> = unique.iter().take(NAMED_MAX).copied().collect();
    match unique.len().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
        None => shown.join(", "),
        Some(more) => format!("{} and {more} more", shown.join(", ")),
    }
}
