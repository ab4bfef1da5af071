//! What a tenant uses now. One query to its instance, and none to an instance that sleeps.

use std::time::Duration;

use serde::Serialize;

use super::real::failure;
use super::services;
use super::world::Door;
use crate::plan::Deployment;
use crate::postgres::{ADMIN_ROLE, DatabaseUse, Error, SUPERUSER, Server};
use crate::tenancy::{Credential, Route};

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

/// `may_sleep`: Railway is asked first whether the instance sleeps.
pub async fn measure(door: &Door<'_>, route: &Route, may_sleep: bool) -> Measured {
    if may_sleep {
        match services::read(door).await {
            Ok(live) => {
                let service = live.service(route.instance.as_str());
                if service.is_some_and(|service| service.deployment == Deployment::Sleeping) {
                    return Measured::Asleep;
                }
            }
            Err(error) => return Measured::Unreachable { reason: error.to_string(), help: error.help() },
        }
    }
    let password = door.keys.password(&Credential::Admin { instance: route.instance.clone() });
    let asked = async {
        let at = door.address(&route.endpoint);
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
