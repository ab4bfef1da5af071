//! A saved plan as a promise: a later run may carry out that plan and no other. The run plans anew; the pin only says
//! whether what it came to is what was reviewed.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use super::action::{KNOWN_AFTER, Plan, SECRET};
use super::document::{Change, PLAN_FORMAT};
use super::error::Error;
use super::target::Target;
use crate::tenancy::Digest;

/// So many addresses are named when a plan does not fit.
const NAMED_MAX: usize = 5;
/// And so many fields of each.
const FIELDS_MAX: usize = 3;

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
    /// By the path of the field, for people: what counts is the digest.
    #[serde(default)]
    before: BTreeMap<String, Value>,
    #[serde(default)]
    after: BTreeMap<String, Value>,
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
        let pinned: BTreeMap<&str, &Pinned> = self.changes.iter().map(|c| (c.address.as_str(), c)).collect();
        let now: BTreeMap<&str, Change<'_>> = plan.changes().map(|change| (change.address, change)).collect();
        let (added, common): (Vec<_>, Vec<_>) = now.values().partition(|change| !pinned.contains_key(change.address));
        let other =
            common.iter().map(|now| (pinned[now.address], *now)).filter(|(then, now)| then.digest != now.digest);
        let other: Vec<String> = other.map(|(then, now)| differs(then, now)).collect();
        if self.smaller && added.is_empty() && other.is_empty() {
            return Ok(());
        }
        let added: Vec<String> = added.iter().map(|change| change.address.to_owned()).collect();
        let gone = pinned.keys().filter(|address| !now.contains_key(**address));
        let gone: Vec<String> = gone.map(|address| (*address).to_owned()).collect();
        if now.is_empty() && !self.changes.is_empty() {
            return Err(
                "nothing is left to do of it: it was carried out, or the world came to be so without it".into()
            );
        }
        Err(self.differences(
            plan,
            &[("new", added), ("different", other), ("done already, or not wanted any more", gone)],
        ))
    }

    fn differences(&self, plan: &Plan, lists: &[(&str, Vec<String>)]) -> String {
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

/// `tenant/acme (acme.serverConnections 2 -> 3, now 2 -> 4)`.
fn differs(then: &Pinned, now: &Change<'_>) -> String {
    let paths = then.before.keys().chain(then.after.keys()).map(String::as_str);
    let paths: BTreeSet<&str> = paths.chain(now.before.keys().chain(now.after.keys()).copied()).collect();
    let sides = |path: &str| {
        let then = (then.before.get(path), then.after.get(path));
        (then, (now.before.get(path), now.after.get(path)))
    };
    let other = paths.into_iter().map(|path| (path, sides(path))).filter(|(_, (then, now))| then != now);
    let told: Vec<String> =
        other.map(|(path, (then, now))| format!("{path} {}, now {}", arrow(then), arrow(now))).collect();
    let told = match &told[..] {
        [] => "in what no field shows".to_owned(),
        all if all.len() > FIELDS_MAX => {
            format!("{} and {} more", all[..FIELDS_MAX].join("; "), all.len() - FIELDS_MAX)
        }
        all => all.join("; "),
    };
    format!("{} ({told})", then.address)
}

fn arrow((before, after): (Option<&Value>, Option<&Value>)) -> String {
    if before.is_none() && after.is_none() {
        return "unchanged".to_owned();
    }
    let text = |value: Option<&Value>| match value {
        None => "(none)".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) => KNOWN_AFTER.to_owned(),
        Some(_) => SECRET.to_owned(),
    };
    format!("{} -> {}", text(before), text(after))
}

fn named(addresses: &[String]) -> String {
    let unique: BTreeSet<&str> = addresses.iter().map(String::as_str).collect();
    let shown: Vec<&str> = unique.iter().take(NAMED_MAX).copied().collect();
    match unique.len().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
        None => shown.join(", "),
        Some(more) => format!("{} and {more} more", shown.join(", ")),
    }
}
