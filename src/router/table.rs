//! What the router knows of its routes, in memory: made from the control database's table, or from a file.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::manifest::Pooling;
use crate::tenancy::{Address, Credential, Limits, OverLimit, Secret, Upgrade};

/// One state of the routing table. Never changed: a change makes a new one that shares the other entries.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// That of the control database; 0 before anything was read.
    pub version: u64,
    pub entries: HashMap<Arc<str>, Arc<Entry>>,
    /// For every database no entry names; only a file of routes has one. Its own `tenant` is `*`.
    pub wildcard: Option<Arc<Entry>>,
}

impl Table {
    pub fn get(&self, tenant: &str) -> Option<Arc<Entry>> {
        self.entries.get(tenant).cloned()
    }

    /// The entry that serves `database` although no tenant has this name: the wildcard, made out to it.
    pub fn wild(&self, database: &str) -> Option<Arc<Entry>> {
        let entry = self.wildcard.as_deref()?;
        let name: Arc<str> = database.into();
        Some(Arc::new(Entry { tenant: name, database: database.into(), ..entry.clone() }))
    }
}

/// Where one tenant's sessions go, and who may open them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub tenant: Arc<str>,
    /// Tenants of one instance share its cap on server connections and its worker.
    pub instance: Arc<str>,
    pub database: Arc<str>,
    /// In the order in which they are tried; with several, the writable one is kept to.
    pub endpoints: Vec<Address>,
    pub encryption: Encryption,
    /// What a client gets that asks for neither.
    pub pooling: Pooling,
    pub state: State,
    pub roles: Roles,
    /// The most server connections of this tenant at a time, all its roles together; at least 1.
    pub server_connections: u32,
    pub tier: Arc<str>,
    /// `None`: nothing is limited here, as with a file of routes.
    pub allowance: Option<Arc<Allowance>>,
    pub upgrade: Option<Upgrade>,
    /// Grows with every change of this entry: what a replica acknowledges.
    pub version: u64,
}

/// What a tenant may use, and what happens above it. Tenants of one tier share it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Allowance {
    pub limits: Limits,
    pub over: OverLimit,
}

/// Towards the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encryption {
    Disabled,
    /// The certificate is not verified: Railway's names only `localhost`. SCRAM proves the server instead.
    Required,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    Active,
    /// Clients stay and new transactions wait. Those that run have `patience` to end by themselves.
    Paused {
        patience: Duration,
    },
    Suspended,
    Retired,
}

/// The roles that may log in, by the name Postgres knows them by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roles {
    pub named: Logins,
    /// What becomes of a role that is not named: refused, or looked up.
    pub others: Option<Login>,
}

impl Roles {
    pub fn login(&self, role: &str) -> Option<&Login> {
        self.named.get(role).map(|(_, login)| login).or(self.others.as_ref())
    }
}

/// Sorted by name. Most tenants have one role; a tree would take 900 bytes for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logins(Box<[(Arc<str>, Login)]>);

impl Logins {
    /// With the name as it is kept, to share it.
    pub fn get(&self, role: &str) -> Option<&(Arc<str>, Login)> {
        self.0.binary_search_by(|(name, _)| (**name).cmp(role)).ok().map(|at| &self.0[at])
    }

    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.iter().map(|(name, _)| name)
    }
}

/// Each name once; of several the first counts.
impl FromIterator<(Arc<str>, Login)> for Logins {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Login)>>(logins: I) -> Logins {
        let mut logins: Vec<_> = logins.into_iter().collect();
        logins.sort_by(|(a, _), (b, _)| a.cmp(b));
        logins.dedup_by(|(a, _), (b, _)| a == b);
        Logins(logins.into())
    }
}

/// How a role proves itself to the router, and the router to the instance on its behalf.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Login {
    /// No proof; only for clients and instances on the loopback.
    /// Never written anywhere; nor is the next.
    #[serde(skip)]
    Trust,
    #[serde(skip)]
    Password(Secret),
    /// The password derived from the master key.
    Derived(Credential),
    /// The verifier is read from the instance's `pg_authid` by its administrator; the client's own proof yields the key
    /// that logs in to the instance.
    LookUp,
}

/// One copy of each name and of what a tier allows: 10,000 tenants share some instances, tiers and roles.
#[derive(Default)]
pub(super) struct Names {
    known: HashSet<Arc<str>>,
    allowances: HashSet<Arc<Allowance>>,
}

impl Names {
    pub fn get(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.known.get(name) {
            return Arc::clone(known);
        }
        let new: Arc<str> = name.into();
        self.known.insert(Arc::clone(&new));
        new
    }

    pub fn allowance(&mut self, limits: &Limits, over: &OverLimit) -> Arc<Allowance> {
        let new = Allowance { limits: limits.clone(), over: over.clone() };
        if let Some(known) = self.allowances.get(&new) {
            return Arc::clone(known);
        }
        let new = Arc::new(new);
        self.allowances.insert(Arc::clone(&new));
        new
    }
}
