//! An issuer's published keys: fetched when first needed, kept, and asked for again on a key that is not known.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::jwt::{BadKeys, KeySet};

/// A key that its issuer withdraws is refused after this.
const FRESH_MAX: Duration = Duration::from_secs(300);
/// Between two fetches, whatever tokens come in.
const PAUSE: Duration = Duration::from_secs(10);
/// A login waits for it.
const FETCH_MAX: Duration = Duration::from_secs(4);
const BODY_BYTES_MAX: usize = 256 * 1024;

#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("no good answer came")]
    Http(#[from] reqwest::Error),
    #[error("the answer has status {0}")]
    Status(reqwest::StatusCode),
    #[error("the answer has more than {BODY_BYTES_MAX} bytes")]
    TooLarge,
    #[error("the answer cannot be used: {0}")]
    Keys(#[from] BadKeys),
}

#[derive(Debug)]
pub struct Jwks {
    url: String,
    http: reqwest::Client,
    kept: Mutex<Kept>,
    /// One fetch at a time.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The last good set, for as long as no newer one can be had.
    keys: Option<Arc<KeySet>>,
    fetched: Option<Instant>,
    tried: Option<Instant>,
}

impl Jwks {
    /// Fails when the TLS library cannot be set up.
    pub fn new(url: &str) -> Result<Jwks, reqwest::Error> {
        // A redirect could lead from https to http, where anybody on the way may answer.
        let http =
            reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(FETCH_MAX).build()?;
        let (url, kept, fetching) = (url.to_owned(), Mutex::default(), tokio::sync::Mutex::default());
        Ok(Jwks { url, http, kept, fetching })
    }

    /// `None` while there never was a good answer. Old keys are good until newer ones are there: one caller fetches
    /// them, the others go on.
    pub async fn keys(&self) -> Option<Arc<KeySet>> {
        let (keys, is_fresh) = {
            let kept = self.kept();
            (kept.keys.clone(), kept.fetched.is_some_and(|at| at.elapsed() < FRESH_MAX))
        };
        match keys {
            Some(keys) if is_fresh => return Some(keys),
            Some(_) => {
                if let Ok(_one) = self.fetching.try_lock() {
                    self.fetch_if_due().await;
                }
            }
            None => return self.newer().await,
        }
        self.kept().keys.clone()
    }

    /// After a token was signed with a key that is not known. Waits for a fetch that is under way.
    pub async fn newer(&self) -> Option<Arc<KeySet>> {
        let _one = self.fetching.lock().await;
        self.fetch_if_due().await;
        self.kept().keys.clone()
    }

    async fn fetch_if_due(&self) {
        {
            let mut kept = self.kept();
            if kept.tried.is_some_and(|at| at.elapsed() < PAUSE) {
                return;
            }
            kept.tried = Some(Instant::now());
        }
        match self.fetch().await {
            Ok(keys) => {
                let mut kept = self.kept();
                kept.keys = Some(Arc::new(keys));
                kept.fetched = Some(Instant::now());
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                warn!(url = self.url, %error, cause, "the keys for tokens cannot be fetched; those known remain in use");
            }
        }
    }

    async fn fetch(&self) -> Result<KeySet, Trouble> {
        let mut answer = self.http.get(&self.url).send().await?;
        if !answer.status().is_success() {
            return Err(Trouble::Status(answer.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            body.extend_from_slice(&chunk);
            if body.len() > BODY_BYTES_MAX {
                return Err(Trouble::TooLarge);
            }
        }
        Ok(KeySet::from_jwks(&body)?)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
