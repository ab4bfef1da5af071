//! What became of each action of a plan.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::tenancy::ErrorCode;

/// Why one object was not brought to its wanted state, with the next step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    pub code: ErrorCode,
    pub message: String,
    pub help: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "status")]
pub enum Outcome {
    Done,
    Failed(Failure),
    /// Needs something that failed; it was not tried.
    Blocked {
        on: String,
    },
    /// The run was stopped before it was finished.
    Skipped,
}

/// By the address of each action.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    pub outcomes: BTreeMap<String, Outcome>,
    /// The version of the routing table after this run, when it was rewritten.
    pub routing_version: Option<u64>,
}

/// How a run ended, for the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Converged,
    /// Some objects failed or are blocked; a rerun is safe.
    Partial,
    /// The guard, a missing key, a foreign object.
    Refused,
    /// A limit would be exceeded; nothing was written.
    Limit,
    /// Nobody said yes.
    Unconfirmed,
}

impl Verdict {
    pub fn exit_code(self) -> u8 {
        match self {
            Verdict::Converged => 0,
            Verdict::Partial => 3,
            Verdict::Refused | Verdict::Unconfirmed => 4,
            Verdict::Limit => 5,
        }
    }
}

impl Report {
    pub fn done(&mut self, address: &str) {
        self.outcomes.insert(address.to_owned(), Outcome::Done);
    }

    pub fn failed(&mut self, address: &str, failure: Failure) {
        self.outcomes.insert(address.to_owned(), Outcome::Failed(failure));
    }

    pub fn blocked(&mut self, address: &str, on: &str) {
        self.outcomes.insert(address.to_owned(), Outcome::Blocked { on: on.to_owned() });
    }

    pub fn is_whole(&self) -> bool {
        self.outcomes.values().all(|outcome| *outcome == Outcome::Done)
    }
}
