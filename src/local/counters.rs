//! What a run cost: requests by operation, and what each mutation did.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::resolve::Ran;

/// Operation names counted apart; more are counted together.
const OPERATIONS_MAX: usize = 1_000;
/// Mutations remembered one by one, the newest ones.
const MUTATIONS_KEPT: usize = 10_000;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Requests {
    pub total: u64,
    /// Requests that held a mutation.
    pub mutations: u64,
    /// By the operation's name in the document; one without a name by its root fields.
    pub by_operation: BTreeMap<String, u64>,
}

/// One root field of a mutation that ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutation {
    /// Counts requests from 0, those refused and lost included.
    pub request: u64,
    pub operation: String,
    pub ran: Ran,
}

/// The newest mutations, oldest first.
#[derive(Debug, Clone, Default)]
pub struct MutationLog(VecDeque<Mutation>);

impl Requests {
    pub fn count(&mut self, operation: &str, mutation: bool) {
        self.total += 1;
        self.mutations += u64::from(mutation);
        let full = self.by_operation.len() >= OPERATIONS_MAX && !self.by_operation.contains_key(operation);
        let name = if full { "(others)" } else { operation };
        *self.by_operation.entry(name.to_owned()).or_default() += 1;
    }
}

impl MutationLog {
    pub fn record(&mut self, mutation: Mutation) {
        if self.0.len() >= MUTATIONS_KEPT {
            self.0.pop_front();
        }
        self.0.push_back(mutation);
    }

    pub fn iter(&self) -> impl Iterator<Item = &Mutation> {
        self.0.iter()
    }
}
