//! What a client's proof is checked against, and what then logs in to the instance in its name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use tokio::sync::{OnceCell, Semaphore};

use crate::tenancy::scram::ITERATIONS;
use crate::tenancy::{Keyring, ScramKeys, Verifier};

use super::handover::Proof;
use super::look_up::Found;
use super::protocol::error::{Report, SqlState};
use super::protocol::scram::{mock_verifier, stable_salt};
use super::table::{Entry, Login};

/// About 400 bytes each.
const KNOWN_MAX: usize = 16_384;
/// A password's rounds of hashing cost half a millisecond of a core; the workers need theirs.
const HASHING_MAX: usize = 2;

/// Reads verifiers where only the instance has them. Its own cache, its own bounds.
pub trait LookUp: Send + Sync {
    /// Fails with what the client shall hear when the instance does not answer.
    fn look_up<'a>(&'a self, entry: &'a Arc<Entry>, role: &'a str) -> BoxFuture<'a, Result<Found, Report<'static>>>;
}

/// What one role's client has to show.
#[derive(Debug, Clone)]
pub enum Known {
    /// Nothing, on the loopback.
    Trust,
    Verifier {
        verifier: Verifier,
        /// `None`: the keys come out of the client's proof.
        proof: Option<Proof>,
        /// In place of the usual answer to a wrong password.
        hint: Option<&'static str>,
    },
}

pub struct Credentials {
    keys: Option<Keyring>,
    /// What strangers' salts are made of: the same in all replicas, so that they show the same ones.
    mock: [u8; 32],
    look_up: Option<Arc<dyn LookUp>>,
    hashing: Semaphore,
    made: Mutex<Made>,
}

type Role = (Arc<str>, Arc<str>);
type Cell = Arc<OnceCell<(Verifier, Proof)>>;

/// Two halves: what was not used since the younger one was begun goes with the older one.
#[derive(Default)]
struct Made {
    young: HashMap<Role, (Login, Cell)>,
    old: HashMap<Role, (Login, Cell)>,
}

impl Made {
    /// The role's own cell; a new one when its login has changed, so that an old secret is not kept.
    fn cell(&mut self, role: &Role, login: &Login) -> Cell {
        if let Some((made_of, cell)) = self.young.get(role)
            && made_of == login
        {
            return Arc::clone(cell);
        }
        if self.young.len() >= KNOWN_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        let entry = self.old.remove(role).filter(|(made_of, _)| made_of == login);
        let entry = entry.unwrap_or_else(|| (login.clone(), Cell::default()));
        let cell = Arc::clone(&entry.1);
        self.young.insert(role.clone(), entry);
        cell
    }
}

impl Credentials {
    /// `keys` for derived passwords; `mock` is the fleet's, or random where there is none.
    pub fn new(keys: Option<Keyring>, mock: [u8; 32], look_up: Option<Arc<dyn LookUp>>) -> Credentials {
        let hashing = Semaphore::new(HASHING_MAX);
        Credentials { keys, mock, look_up, hashing, made: Mutex::default() }
    }

    /// For `role` of `entry`, or for nobody. Makes a verifier once and keeps it.
    pub async fn of(&self, entry: Option<&Arc<Entry>>, role: &Arc<str>) -> Result<Known, Report<'static>> {
        let Some((entry, login)) = entry.and_then(|entry| Some((entry, entry.roles.login(role)?))) else {
            return Ok(self.nobody(role, None));
        };
        match login {
            Login::Trust => Ok(Known::Trust),
            Login::Password(_) | Login::Derived(_) => {
                let cell = {
                    let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
                    made.cell(&(Arc::clone(&entry.tenant), Arc::clone(role)), login)
                };
                let made = match cell.get() {
                    Some(made) => made,
                    // Large, and needed once.
                    None => Box::pin(cell.get_or_try_init(|| self.make(login, role))).await?,
                };
                Ok(Known::Verifier { verifier: made.0.clone(), proof: Some(made.1.clone()), hint: None })
            }
            Login::LookUp => {
                let Some(look_up) = &self.look_up else { return Err(unready("roles cannot be looked up here")) };
                Ok(match look_up.look_up(entry, role).await? {
                    Found::Verifier(verifier) => Known::Verifier { verifier, proof: None, hint: None },
                    Found::Nobody => self.nobody(role, None),
                    Found::Md5 => self.nobody(
                        role,
                        Some("The role's password is stored as md5. Set it again with password_encryption = 'scram-sha-256'."),
                    ),
                })
            }
        }
    }

    /// What logs in to the instance for a role whose client showed a token in place of a password.
    pub async fn proof(&self, entry: &Arc<Entry>, role: &Arc<str>) -> Result<Proof, Report<'static>> {
        match self.of(Some(entry), role).await? {
            Known::Trust => Ok(Proof::Trust),
            Known::Verifier { proof: Some(proof), .. } => Ok(proof),
            Known::Verifier { .. } => {
                let message = format!("role \"{role}\" cannot log in with a token");
                let hint =
                    "Its password is known to the database alone. Log in with the password, or as a declared role.";
                Err(Report::fatal(SqlState::INVALID_AUTHORIZATION, message).hint(hint))
            }
        }
    }

    fn nobody(&self, role: &str, hint: Option<&'static str>) -> Known {
        Known::Verifier { verifier: mock_verifier(&self.mock, role), proof: None, hint }
    }

    async fn make(&self, login: &Login, role: &str) -> Result<(Verifier, Proof), Report<'static>> {
        let (password, salt, derived) = match (login, &self.keys) {
            (Login::Derived(credential), Some(keys)) => (keys.password(credential), keys.salt(credential), true),
            (Login::Password(password), _) => (password.clone(), stable_salt(&self.mock, role), false),
            _ => return Err(unready("the router has no key to derive passwords with")),
        };
        let _one_of_few = self.hashing.acquire().await;
        let hashed = tokio::task::spawn_blocking(move || {
            let keys = ScramKeys::of(&password, &salt, ITERATIONS);
            (verifier(&keys, &salt), if derived { Proof::Keys(Arc::new(keys)) } else { Proof::Password(password) })
        });
        hashed.await.map_err(|_| unready("the router is stopping"))
    }
}

fn verifier(keys: &ScramKeys, salt: &[u8]) -> Verifier {
    let stored_key = crate::tenancy::scram::hash(&keys.client_key);
    Verifier { iterations: ITERATIONS, salt: salt.to_vec(), stored_key, server_key: keys.server_key }
}

fn unready(message: &'static str) -> Report<'static> {
    Report::fatal(SqlState::CANNOT_CONNECT_NOW, message).hint("Whoever runs this router finds more in its log.")
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::router::table::{Encryption, Roles, State};
    use crate::tenancy::{Credential, Secret, TenantId};

    fn entry(login: Login) -> Arc<Entry> {
        Arc::new(Entry {
            tenant: "acme".into(),
            instance: "shared-1".into(),
            database: "acme".into(),
            endpoints: Vec::new(),
            encryption: Encryption::Disabled,
            pooling: crate::manifest::Pooling::Transaction,
            state: State::Active,
            roles: Roles { named: [("acme".into(), login)].into_iter().collect(), others: None },
            server_connections: 5,
            tier: "free".into(),
            allowance: None,
            upgrade: None,
            version: 1,
        })
    }

    fn keyring() -> Keyring {
        Keyring::new(&Secret::new("0123456789abcdef0123456789abcdef")).expect("long enough")
    }

    async fn parts(credentials: &Credentials, login: Login) -> (Verifier, Option<Proof>) {
        let entry = entry(login);
        match credentials.of(Some(&entry), &"acme".into()).await {
            Ok(Known::Verifier { verifier, proof, .. }) => (verifier, proof),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_derived_login_has_the_verifier_that_the_instance_stores() {
        let credentials = Credentials::new(Some(keyring()), [1; 32], None);
        let tenant = TenantId::parse("acme").expect("valid");
        let credential = Credential::Tenant { tenant, role: None, generation: 1 };
        let (verifier, proof) = parts(&credentials, Login::Derived(credential.clone())).await;
        assert_eq!(verifier, Verifier::of(&keyring(), &credential));
        let Some(Proof::Keys(keys)) = proof else { panic!("keys") };
        assert_eq!(keys.server_key, verifier.server_key);
    }

    #[tokio::test]
    async fn row_31_a_new_password_replaces_the_old_one_at_the_next_login() {
        let credentials = Credentials::new(None, [1; 32], None);
        let login = |password| Login::Password(Secret::new(password));
        let (old, _) = parts(&credentials, login("old")).await;
        let (new, _) = parts(&credentials, login("new")).await;
        assert_eq!(old.salt, new.salt, "a name's salt stays");
        assert_ne!(old.stored_key, new.stored_key);
        let made = credentials.made.lock().expect("not poisoned");
        assert_eq!((made.young.len(), made.old.len()), (1, 0), "the old secret is dropped");
    }

    #[tokio::test]
    async fn row_28_a_known_roles_salt_is_the_one_a_stranger_was_shown() {
        let credentials = Credentials::new(None, [1; 32], None);
        let (known, _) = parts(&credentials, Login::Password(Secret::new("x"))).await;
        let Ok(Known::Verifier { verifier, .. }) = credentials.of(None, &"acme".into()).await else { panic!("mock") };
        assert_eq!(verifier.salt, known.salt);
        assert_ne!(verifier.stored_key, known.stored_key);
    }

    /// Nothing is hashed, asked or waited for: what is left, a proof against a verifier, is one code for all.
    #[tokio::test]
    async fn row_28_who_logs_in_again_costs_what_a_stranger_costs() {
        let credentials = Credentials::new(Some(keyring()), [1; 32], None);
        let known = entry(Login::Password(Secret::new("pencil")));
        let of = |entry: Option<&Arc<Entry>>, role: &str| {
            let (entry, role) = (entry.cloned(), Arc::from(role));
            let credentials = &credentials;
            async move { credentials.of(entry.as_ref(), &role).await.map(|known| matches!(known, Known::Verifier { .. })) }
        };
        assert!(of(Some(&known), "acme").now_or_never().is_none(), "the first time the password is hashed");
        assert!(matches!(of(Some(&known), "acme").await, Ok(true)));
        for (entry, role) in [(Some(&known), "acme"), (Some(&known), "nobody"), (None, "acme")] {
            assert!(matches!(of(entry, role).now_or_never(), Some(Ok(true))), "{role}");
        }
    }

    struct Instance(Found);

    impl LookUp for Instance {
        fn look_up<'a>(&'a self, _: &'a Arc<Entry>, _: &'a str) -> BoxFuture<'a, Result<Found, Report<'static>>> {
            Box::pin(async { Ok(self.0.clone()) })
        }
    }

    #[tokio::test]
    async fn row_26_a_role_stored_as_md5_is_refused_with_the_way_out() {
        let credentials = Credentials::new(None, [1; 32], Some(Arc::new(Instance(Found::Md5))));
        let known = credentials.of(Some(&entry(Login::LookUp)), &"acme".into()).await;
        let Ok(Known::Verifier { proof: None, hint: Some(hint), .. }) = known else { panic!("{known:?}") };
        assert!(hint.contains("scram-sha-256"));
    }

    #[tokio::test]
    async fn row_29_an_expired_role_is_nobody() {
        let credentials = Credentials::new(None, [1; 32], Some(Arc::new(Instance(Found::Nobody))));
        let known = credentials.of(Some(&entry(Login::LookUp)), &"acme".into()).await;
        let Ok(Known::Verifier { verifier, hint: None, .. }) = known else { panic!("{known:?}") };
        assert_eq!(verifier, mock_verifier(&[1; 32], "acme"));
    }

    #[test]
    fn what_is_kept_has_a_bound() {
        let mut made = Made::default();
        for role in 0..3 * KNOWN_MAX {
            made.cell(&("acme".into(), role.to_string().into()), &Login::Trust);
        }
        assert!(made.young.len() + made.old.len() <= KNOWN_MAX);
    }
}
