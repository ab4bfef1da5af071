//! What a tenant uses now. One query to its instance, and none to an instance that sleeps.

use std::time::Duration;

use serde::Serialize;

use super::real::failure;
use super::services;
use super::world::Door;
use crate::plan::Deployment;
use crate::postgres::{ADMIN_ROLE, DatabaseUse, Error, SUPERUSER, Server};
use crate::tenancy::{Address, Credential, Keyring, Route};

const CONNECT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum Measured {
    Awake(DatabaseUse),
    /// Not asked, so that it can go on sleeping.
    Asleep,
    /// The server answers, and has no such database.
    Gone,
    Unreachable {
        reason: String,
        help: String,
    },
}

/// Of a sleeping instance, or one that cannot be asked whether it sleeps, what there is to say; one request to Railway.
pub async fn not_awake(door: &Door<'_>, route: &Route) -> Option<Measured> {
    match services::read(door).await {
        Ok(live) => {
            let service = live.service(route.instance.as_str());
            service.filter(|service| service.deployment == Deployment::Sleeping).map(|_| Measured::Asleep)
        }
        Err(error) => Some(Measured::Unreachable { reason: error.to_string(), help: error.help() }),
    }
}

/// Wakes an instance that sleeps.
pub async fn measure(keys: &Keyring, at: &Address, route: &Route) -> Measured {
    let password = keys.password(&Credential::Admin { instance: route.instance.clone() });
    let asked = async {
        // Without a look at Railway only the server itself tells whether it was adopted.
        let mut server = match Server::connect(at, (SUPERUSER, &password), CONNECT).await {
            Err(Error::WrongPassword { .. }) => Server::connect(at, (ADMIN_ROLE, &password), CONNECT).await?,
            opened => opened?,
        };
        let used = server.measure(&route.database).await;
        server.close().await;
        used
    };
    match asked.await {
        Ok(Some(used)) => Measured::Awake(used),
        Ok(None) => Measured::Gone,
        Err(error) => {
            let failure = failure(&error);
            Measured::Unreachable { reason: failure.message, help: failure.help }
        }
    }
}
