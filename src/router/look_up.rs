//! The verifiers of roles that only their instance knows: those of an adopted database, superusers included.
//!
//! One reading takes all of an instance's roles, over a connection that ends with it, and serves every login for a second:
//! a changed password is known after that, and neither many logins nor invented names make more than a reading a second.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tracing::warn;

use super::handover::{OpenError, Proof};
use super::open::{Opener, Request};
use super::table::Entry;
use crate::postgres::{self, RoleLogin};
use crate::tenancy::{Credential, InstanceName, Keyring, Verifier};

/// Also how old a verifier may be that a login is checked against.
const LIFE: Duration = Duration::from_secs(1);
const READING_MAX: Duration = Duration::from_secs(10);
/// [`postgres::ROLES_MAX`] rows with names of 63 bytes.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;
const INSTANCES_MAX: usize = 4096;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    Verifier(Verifier),
    /// No role of this name has a password that is valid now. One that may not log in is found: Postgres itself says so.
    Nobody,
    /// Its password is stored in a form that we refuse to use.
    Md5,
}

/// Who may read an instance's roles, in the order in which they are tried.
pub type Administrators = Arc<dyn Fn(&Entry) -> Vec<(Arc<str>, Proof)> + Send + Sync>;

/// The superuser of an instance O7s made, and the one of O7s on an adopted instance.
pub fn derived_administrators(keys: Keyring) -> Administrators {
    Arc::new(move |entry| {
        let Ok(instance) = InstanceName::parse(&entry.instance) else { return Vec::new() };
        let password = Proof::Password(keys.password(&Credential::Admin { instance }));
        let roles = [postgres::SUPERUSER, postgres::ADMIN_ROLE];
        roles.map(|role| (Arc::from(role), password.clone())).to_vec()
    })
}

pub struct RoleLookUp {
    opener: Arc<Opener>,
    administrators: Administrators,
    /// How long a client may wait, an instance's waking included.
    budget: Duration,
    instances: Mutex<HashMap<Arc<str>, Arc<Instance>>>,
}

struct Instance {
    /// One reading at a time; those who wait for it take what it read.
    reading: Semaphore,
    last: Mutex<Option<(Instant, Reading)>>,
    /// Which administrator was let in last.
    administrator: AtomicUsize,
}

type Reading = Result<Arc<HashMap<String, Found>>, OpenError>;

impl RoleLookUp {
    pub fn new(opener: Arc<Opener>, administrators: Administrators, budget: Duration) -> RoleLookUp {
        RoleLookUp { opener, administrators, budget, instances: Mutex::default() }
    }

    /// What `role`, by its own password, is checked against. Fails when the instance cannot be asked.
    pub async fn find(&self, entry: &Entry, role: &str) -> Result<Found, OpenError> {
        let instance = self.instance(&entry.instance);
        let read = match instance.fresh() {
            Some(read) => read,
            None => {
                let _turn = instance.reading.acquire().await;
                match instance.fresh() {
                    Some(read) => read,
                    None => self.read(entry, &instance).await,
                }
            }
        };
        Ok(read?.get(role).cloned().unwrap_or(Found::Nobody))
    }

    async fn read(&self, entry: &Entry, instance: &Instance) -> Reading {
        let administrators = (self.administrators)(entry);
        let first = instance.administrator.load(Relaxed);
        let mut outcome = Err(OpenError::Unproven { detail: "no administrator of the instance is known".to_owned() });
        for turn in 0..administrators.len() {
            let at = (first + turn) % administrators.len();
            // A change that comes while we read counts as not read.
            let began = Instant::now();
            outcome = self.read_as(entry, &administrators[at]).await;
            let wrong = matches!(&outcome, Err(OpenError::Refused { code, .. }) if code.starts_with(b"28"));
            if !wrong {
                instance.administrator.store(at, Relaxed);
                instance.keep(began, &outcome);
                break;
            }
        }
        if let Err(error) = &outcome {
            // Others ask in a second again, not before: a refused administrator is in the server's log each time.
            instance.keep(Instant::now(), &outcome);
            warn!(instance = %entry.instance, ?error, "cannot read the roles");
        }
        outcome
    }

    async fn read_as(&self, entry: &Entry, (role, proof): &(Arc<str>, Proof)) -> Reading {
        let request = Request {
            entry: Arc::new(Entry { database: "postgres".into(), ..entry.clone() }),
            role: Arc::clone(role),
            proof: proof.clone(),
            // Nobody else's functions and operators, whatever is set for the role or the database.
            settings: vec![("search_path".into(), "pg_catalog".into())],
            budget: self.budget,
        };
        let mut reached = self.opener.reach(&request).await?;
        let sql = postgres::role_logins();
        let asked = reached.ask(&sql, ANSWER_BYTES_MAX);
        let late = |_| Err(OpenError::Unreachable { detail: "no answer in time".to_owned() });
        let rows = timeout(READING_MAX, asked).await.unwrap_or_else(late);
        reached.stream.end().await;
        let rows = rows.map_err(|error| match error {
            OpenError::Unreachable { detail } => unreadable(&detail),
            refused => refused,
        });
        let logins = rows?.into_iter().filter_map(|row| RoleLogin::from_columns(&row));
        Ok(Arc::new(logins.map(|login| (login.name.clone(), found(&login))).collect()))
    }

    fn instance(&self, name: &Arc<str>) -> Arc<Instance> {
        let mut instances = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = instances.get(name) {
            return Arc::clone(known);
        }
        // So that what many instances once read does not stay.
        instances.values().for_each(|instance| drop(instance.fresh()));
        if instances.len() >= INSTANCES_MAX {
            instances.retain(|_, instance| Arc::strong_count(instance) > 1);
        }
        let new = Arc::new(Instance {
            reading: Semaphore::new(1),
            last: Mutex::default(),
            administrator: AtomicUsize::new(0),
        });
        instances.insert(Arc::clone(name), Arc::clone(&new));
        new
    }
}

impl Instance {
    fn fresh(&self) -> Option<Reading> {
        // What is too old is dropped here already: a reading of many roles is large.
        self.last().take_if(|(began, _)| began.elapsed() >= LIFE);
        self.last().as_ref().map(|(_, reading)| reading.clone())
    }

    fn keep(&self, began: Instant, reading: &Reading) {
        *self.last() = Some((began, reading.clone()));
    }

    fn last(&self) -> MutexGuard<'_, Option<(Instant, Reading)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn found(login: &RoleLogin) -> Found {
    match login.password.parse() {
        _ if login.expired => Found::Nobody,
        Ok(verifier) => Found::Verifier(verifier),
        Err(_) if login.password.starts_with("md5") => Found::Md5,
        Err(_) => Found::Nobody,
    }
}

fn unreadable(what: &str) -> OpenError {
    OpenError::Unreachable { detail: format!("the roles of the instance cannot be read: {what}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_valid_scram_password_lets_anybody_in() {
        let verifier = Verifier::from_password(&crate::tenancy::Secret::new("x"), b"salt");
        let login = |password: &str, expired| RoleLogin { name: "a".into(), password: password.into(), expired };
        assert_eq!(found(&login(&verifier.to_string(), false)), Found::Verifier(verifier.clone()));
        assert_eq!(found(&login(&verifier.to_string(), true)), Found::Nobody, "row 29: its time is over");
        assert_eq!(found(&login("md5d41d8cd98f00b204e9800998ecf8427e", false)), Found::Md5, "row 26");
        assert_eq!(found(&login("plain", false)), Found::Nobody);
    }

    #[test]
    fn an_instance_that_is_none_of_ours_has_no_derived_administrator() {
        let keys =
            Keyring::new(&crate::tenancy::Secret::new("0123456789abcdef0123456789abcdef")).expect("long enough");
        let names = |instance: &str| {
            let entry = crate::router::open::test_entry(instance, Vec::new());
            derived_administrators(keys.clone())(&entry).into_iter().map(|(role, _)| role).collect::<Vec<_>>()
        };
        assert_eq!(names("pg-1"), ["postgres".into(), Arc::from("o7s_admin")]);
        assert!(names("Not A Name").is_empty());
    }
}
