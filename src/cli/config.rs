//! The environment, read once and checked. Nobody else reads it.

use super::codes::Code;
use crate::railway::Token;
use crate::tenancy::{Keyring, Secret};

const RAILWAY_URL: &str = "https://backboard.railway.com/graphql/v2";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no Railway token: neither RAILWAY_TOKEN nor RAILWAY_API_TOKEN is set")]
    NoToken,
    #[error("O7S_MASTER_KEY is not set")]
    NoKey,
    #[error("O7S_MASTER_KEY is too weak: {0}")]
    WeakKey(#[from] crate::tenancy::WeakKey),
}

impl Error {
    pub fn code(&self) -> Code {
        match self {
            Error::NoToken => Code::NoToken,
            Error::NoKey => Code::NoKey,
            Error::WeakKey(_) => Code::WeakKey,
        }
    }

    pub fn help(&self) -> &'static str {
        match self {
            Error::NoToken => {
                "make one in Railway's account or project settings and put it into RAILWAY_API_TOKEN (account, \
                 workspace) or RAILWAY_TOKEN (project); or try it all locally: eval \"$(o7s local up --detach)\""
            }
            Error::NoKey => {
                "make one once (openssl rand -base64 32), keep it in your secret store, and set it wherever o7s runs; \
                 every password of the fleet is derived from it"
            }
            Error::WeakKey(_) => "use at least 32 random characters, as from: openssl rand -base64 32",
        }
    }

    pub fn exit_code(&self) -> u8 {
        match self {
            Error::NoToken => 77,
            Error::NoKey | Error::WeakKey(_) => 64,
        }
    }
}

/// What a command that talks to the world needs of the environment.
#[derive(Debug, Clone)]
pub struct Config {
    pub railway_url: String,
    pub token: Token,
    pub keys: Keyring,
    pub database_url: Option<Secret>,
    /// Id of the Railway environment this process runs in.
    pub own_environment: Option<String>,
}

/// An empty variable counts as not set, as in shells that cannot unset.
fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// The same, each part for itself: for a command that goes on without those that are missing.
pub struct Parts {
    pub token: Result<Token, Error>,
    pub keys: Result<Keyring, Error>,
    pub railway_url: String,
    pub database_url: Option<Secret>,
    pub own_environment: Option<String>,
}

impl Parts {
    /// The first problem is the one that is told.
    pub fn complete(self) -> Result<Config, Error> {
        let Parts { token, keys, railway_url, database_url, own_environment } = self;
        Ok(Config { railway_url, token: token?, keys: keys?, database_url, own_environment })
    }
}

pub fn parts() -> Parts {
    let token = match (var("RAILWAY_TOKEN"), var("RAILWAY_API_TOKEN")) {
        (Some(token), _) => Ok(Token::Project(Secret::new(token))),
        (None, Some(token)) => Ok(Token::Api(Secret::new(token))),
        (None, None) => Err(Error::NoToken),
    };
    let master = var("O7S_MASTER_KEY").map(Secret::new).ok_or(Error::NoKey);
    Parts {
        token,
        keys: master.and_then(|master| Ok(Keyring::new(&master)?)),
        railway_url: var("O7S_RAILWAY_URL").unwrap_or_else(|| RAILWAY_URL.to_owned()),
        database_url: var("O7S_DATABASE_URL").map(Secret::new),
        own_environment: var("RAILWAY_ENVIRONMENT_ID"),
    }
}

/// A secret under a name that a manifest gives; empty counts as not set.
pub fn secret(name: &str) -> Option<Secret> {
    var(name).map(Secret::new)
}

pub fn from_environment() -> Result<Config, Error> {
    parts().complete()
}

/// Where GitHub Actions wants a step's summary and outputs; nothing outside of it.
pub fn github() -> super::github::Github {
    let path = |name: &str| var(name).map(std::path::PathBuf::from);
    super::github::Github {
        summary: path("GITHUB_STEP_SUMMARY"),
        output: path("GITHUB_OUTPUT"),
        workspace: path("GITHUB_WORKSPACE"),
    }
}

pub fn log_filter() -> Option<String> {
    var("O7S_LOG")
}

pub fn colours_unwanted() -> bool {
    var("NO_COLOR").is_some()
}
