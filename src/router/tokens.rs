//! Tokens that come as a password or in a header: JSON Web Tokens and API keys.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tracing::{debug, warn};
use uuid::Uuid;

use crate::manifest::{Identify, Jwt, JwtKeys};
use crate::tenancy::{API_KEY_PREFIX, ApiKey, Secret};

use super::handover::Lasts;
use super::identify::Rules;
use super::jwks::Jwks;
use super::jwt::{self, KeySet, Wrong};
use super::login::{Bears, Tokens};
use super::protocol::error::{Report, SqlState};

/// The API keys in use, by id.
pub type ApiKeys = HashMap<Uuid, ApiKey>;

/// Reads a variable of the environment; empty counts as not set.
pub type Environment = Box<dyn Fn(&str) -> Option<Secret> + Send + Sync>;

/// Whose JWTs are believed.
#[derive(Debug)]
pub struct Issuer {
    jwt: Jwt,
    keys: Keys,
}

#[derive(Debug)]
enum Keys {
    Shared(KeySet),
    Published(Arc<Jwks>),
    /// The shared secret is not there or not good; why was logged.
    Missing,
}

impl Issuer {
    /// Logs what is missing: a router goes on without it. Keys that were fetched for `former` from the same address are
    /// kept, so that a changed audience needs no fetch.
    pub fn new(jwt: Jwt, environment: &Environment, former: Option<&Issuer>) -> Issuer {
        let fetched = match former {
            Some(Issuer { jwt: old, keys: Keys::Published(jwks) }) if old.keys == jwt.keys => Some(Arc::clone(jwks)),
            _ => None,
        };
        let keys = match &jwt.keys {
            JwtKeys::Jwks(url) => match fetched {
                Some(jwks) => Ok(Keys::Published(jwks)),
                None => Jwks::new(url).map(|jwks| Keys::Published(Arc::new(jwks))).map_err(|error| error.to_string()),
            },
            JwtKeys::SecretFrom(name) => match environment(name) {
                Some(secret) => KeySet::shared(&secret).map(Keys::Shared).map_err(|error| format!("{name}: {error}")),
                None => Err(format!("the environment has no {name}")),
            },
        };
        let keys = keys.unwrap_or_else(|error| {
            warn!(error, "no JWT can be checked; see `jwt` in the Router manifest");
            Keys::Missing
        });
        Issuer { jwt, keys }
    }

    pub fn settings(&self) -> &Jwt {
        &self.jwt
    }

    /// Fails when there are no keys to check with.
    async fn check(&self, token: &str, now: DateTime<Utc>) -> Result<Result<jwt::Claims, Wrong>, Report<'static>> {
        let check = |keys: &KeySet| jwt::check(token, keys, &self.jwt, now.timestamp());
        let jwks = match &self.keys {
            Keys::Shared(keys) => return Ok(check(keys)),
            Keys::Published(jwks) => jwks,
            Keys::Missing => return Err(no_keys()),
        };
        match check(&*jwks.keys().await.ok_or_else(no_keys)?) {
            Err(Wrong::UnknownKey) => Ok(check(&*jwks.newer().await.ok_or_else(no_keys)?)),
            answer => Ok(answer),
        }
    }
}

fn no_keys() -> Report<'static> {
    let message = "this router has no keys to check tokens with at the moment";
    Report::fatal(SqlState::CANNOT_CONNECT_NOW, message).hint("Try again in a moment, or log in with a password.")
}

/// Takes what the Router manifest lists in `identify`, and nothing else.
pub struct Checker {
    pub rules: watch::Receiver<Arc<Rules>>,
    pub issuer: watch::Receiver<Option<Arc<Issuer>>>,
    pub api_keys: watch::Receiver<Arc<ApiKeys>>,
    pub clock: fn() -> DateTime<Utc>,
}

impl Checker {
    fn takes(&self, way: Identify) -> bool {
        self.rules.borrow().identify.contains(&way)
    }

    fn api_key(&self, text: &str) -> Option<Bears> {
        let keys = Arc::clone(&self.api_keys.borrow());
        let key = keys.get(&ApiKey::id_of(text)?).filter(|key| key.is(text))?;
        let lasts = Lasts::WhileKey(key.id);
        Some(bears(key.tenant.to_string(), key.role.as_ref().map(ToString::to_string), Some(lasts)))
    }

    async fn jwt(&self, token: &str) -> Result<Option<Bears>, Report<'static>> {
        let issuer = self.issuer.borrow().clone().ok_or_else(no_keys)?;
        let now = (self.clock)();
        match issuer.check(token, now).await? {
            Ok(claims) => {
                let left = claims.ends.saturating_sub(now.timestamp()).unsigned_abs();
                let lasts = (!issuer.jwt.sessions_outlive).then(|| Lasts::For(Duration::from_secs(left)));
                Ok(Some(bears(claims.tenant, claims.role, lasts)))
            }
            Err(wrong) => {
                debug!(reason = %wrong, "a JWT was refused");
                Ok(None)
            }
        }
    }
}

impl Tokens for Checker {
    fn check<'a>(&'a self, token: &'a Secret) -> BoxFuture<'a, Result<Option<Bears>, Report<'static>>> {
        Box::pin(async move {
            let text = token.expose();
            match text.starts_with(API_KEY_PREFIX) {
                true if self.takes(Identify::ApiKey) => Ok(self.api_key(text)),
                false if self.takes(Identify::Jwt) => self.jwt(text).await,
                _ => Ok(None),
            }
        })
    }

    fn issuer(&self) -> Option<String> {
        let issuer = self.issuer.borrow().clone()?;
        // An issuer is a name; one that is an address can be asked.
        issuer.settings().issuer.clone().filter(|issuer| issuer.starts_with("https://"))
    }

    fn api_keys(&self) -> Option<watch::Receiver<Arc<ApiKeys>>> {
        Some(self.api_keys.clone())
    }
}

/// `reader` of `acme` is named so that it can be no other tenant's.
fn bears(tenant: String, role: Option<String>, lasts: Option<Lasts>) -> Bears {
    let role = role.map_or_else(|| tenant.clone(), |role| format!("{role}.{tenant}"));
    Bears { tenant, role, lasts }
}

#[cfg(test)]
#[path = "tokens_tests.rs"]
mod tests;
