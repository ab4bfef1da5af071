//! From arguments and environment to an open control database: how each command gets to its fleet.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::config::{self, Config, Parts};
use super::report::Failure;
use crate::manifest::Desired;
use crate::operator::{Door, Instances, Search, Tell, Timing, control_url};
use crate::plan::{ControlLive, RailwayLive};
use crate::railway::{Client, ClientConfig, HttpTransport};
use crate::store::{Error as StoreError, FleetRow, Store};
use crate::tenancy::{EnvironmentId, FleetName, FleetUid, Keyring, ProjectId};

const CONNECT: Duration = Duration::from_secs(10);
/// `CREATE DATABASE` copies files: more at once than this only wait for each other.
const SERVER_CONNECTIONS: usize = 6;

pub type Loaded = (Option<FleetRow>, ControlLive);

/// The fleet's control database, open, and what was read on the way to it.
pub struct Session {
    pub store: Store,
    /// Absent where the environment has no token and the control database's address was given.
    client: Option<Arc<Client>>,
    /// Absent likewise; then whose control database it is is told by the fleet's name alone.
    keys: Option<Keyring>,
    own_environment: Option<String>,
    railway: Option<(ProjectId, EnvironmentId, RailwayLive)>,
    fleet: FleetName,
    /// Fleet, project and environment that it was opened for.
    named: [String; 3],
}

fn names(desired: &Desired) -> [String; 3] {
    let fleet = &desired.fleet;
    [fleet.name.to_string(), fleet.project.clone(), fleet.environment.clone()]
}

pub fn client(config: &Config) -> Result<Client, Failure> {
    let mut seed = [0; 8];
    // Only jitter: a clock would do as well, and a failing generator is no reason to stop.
    let _ = SystemRandom::new().fill(&mut seed);
    let transport = Arc::new(HttpTransport::new(&config.railway_url)?);
    Ok(Client::new(ClientConfig::new(config.token.clone(), u64::from_le_bytes(seed)), transport))
}

impl Session {
    /// With `O7S_DATABASE_URL` no request to Railway is needed unless nothing answers there; without it three.
    pub async fn open(config: Config, desired: &Desired) -> Result<Session, Failure> {
        let client = Arc::new(client(&config)?);
        Session::open_with(config, client, desired).await
    }

    /// With a client that lives on, and so keeps to the budget of its token whatever becomes of the session.
    pub async fn open_with(config: Config, client: Arc<Client>, desired: &Desired) -> Result<Session, Failure> {
        let Config { keys, database_url, own_environment, .. } = config;
        let search = Search { railway: &client, keys: &keys, fleet: &desired.fleet };
        let (store, railway) = match &database_url {
            Some(url) => match Store::connect(url, CONNECT).await {
                Err(silence @ StoreError::NotListening { .. }) => {
                    return Err(search.why_silent(silence).await.into());
                }
                opened => (opened?, None),
            },
            None => {
                let found = search.control().await?;
                let inside = own_environment.as_deref() == Some(found.environment.as_str());
                match Store::connect(&control_url(&keys, &found.endpoint, inside), CONNECT).await {
                    Err(silence @ StoreError::NotListening { .. }) => return Err(found.is_down(silence).into()),
                    opened => (opened?, Some((found.project, found.environment, found.live))),
                }
            }
        };
        let (client, keys, fleet) = (Some(client), Some(keys), desired.fleet.name.clone());
        Ok(Session { store, client, keys, own_environment, railway, fleet, named: names(desired) })
    }

    /// For what only reads the control database: where its address is given, neither token nor key is needed.
    pub async fn read_only(parts: Parts, desired: &Desired) -> Result<Session, Failure> {
        let Some(url) = parts.database_url.clone().filter(|_| parts.token.is_err() || parts.keys.is_err()) else {
            return Session::open(parts.complete()?, desired).await;
        };
        let keys = match parts.keys {
            Ok(keys) => Some(keys),
            Err(config::Error::NoKey) => None,
            // A key that is set and no good is a mistake, not the same as none.
            Err(error) => return Err(error.into()),
        };
        let store = Store::connect(&url, CONNECT).await?;
        let (own_environment, fleet) = (parts.own_environment, desired.fleet.name.clone());
        Ok(Session { store, client: None, keys, own_environment, railway: None, fleet, named: names(desired) })
    }

    pub fn client(&self) -> Result<&Client, Failure> {
        Ok(self.client.as_deref().ok_or(config::Error::NoToken)?)
    }

    pub fn keys(&self) -> Result<&Keyring, Failure> {
        Ok(self.keys.as_ref().ok_or(config::Error::NoKey)?)
    }

    /// Whether this process runs inside that environment of Railway.
    pub fn is_inside(&self, environment: &EnvironmentId) -> bool {
        self.own_environment.as_deref() == Some(environment.as_str())
    }

    /// Whether it leads to the place these manifests mean: somebody may edit the Fleet while a loop runs.
    pub fn is_of(&self, desired: &Desired) -> bool {
        self.named == names(desired)
    }

    pub async fn load(&self) -> Result<Loaded, Failure> {
        let (row, control) = self.store.load().await?;
        // A fleet is its name under its key; without a key its name is all there is to compare.
        let uid = self.keys.as_ref().map(|keys| keys.fleet_uid(&self.fleet));
        let is_other = |row: &&FleetRow| uid.as_ref().map_or(row.name != self.fleet, |uid| row.uid != *uid);
        if let Some(row) = row.as_ref().filter(is_other) {
            let have = format!("{} ({})", row.name, row.uid.as_str());
            let want = uid.map_or_else(|| self.fleet.to_string(), |uid| format!("{} ({})", self.fleet, uid.as_str()));
            return Err(Failure::OtherFleet { have, want });
        }
        if control.schema_version == 0 {
            return Err(crate::store::Error::NotBootstrapped.into());
        }
        Ok((row, control))
    }

    /// What was read of Railway on the way here; only good for the first observation.
    pub fn take_railway(&mut self) -> Option<RailwayLive> {
        self.railway.take().map(|(_, _, live)| live)
    }

    /// The control database remembers where the fleet lives; a lost one is asked of Railway by name.
    pub async fn place(
        &self,
        row: Option<&FleetRow>,
        desired: &Desired,
    ) -> Result<(ProjectId, EnvironmentId), Failure> {
        if let Some((project, environment, _)) = &self.railway {
            return Ok((project.clone(), environment.clone()));
        }
        match row {
            Some(row) => Ok((row.project.clone(), row.environment.clone())),
            None => {
                let search = Search { railway: self.client()?, keys: self.keys()?, fleet: &desired.fleet };
                Ok(search.place().await?)
            }
        }
    }

    pub fn door<'a>(
        &'a self,
        place: (ProjectId, EnvironmentId),
        stop: &'a CancellationToken,
        progress: &'a dyn Fn(Tell<'_>),
        ready: Duration,
    ) -> Result<Door<'a>, Failure> {
        let (project, environment) = place;
        let (railway, keys) = (self.client()?, self.keys()?);
        let inside = self.is_inside(&environment);
        Ok(Door {
            railway,
            project,
            environment,
            keys,
            fleet: keys.fleet_uid(&self.fleet),
            stop,
            leading: None,
            progress,
            clock: &now,
            timing: Timing { ready, ..Timing::default() },
            run: uuid::Uuid::new_v4(),
            inside,
        })
    }

    pub fn servers(&self) -> Result<Instances<'_>, Failure> {
        let keys = self.keys()?;
        Ok(servers(keys, &keys.fleet_uid(&self.fleet)))
    }
}

pub fn servers<'a>(keys: &'a Keyring, fleet: &FleetUid) -> Instances<'a> {
    Instances::new(keys, fleet.clone(), CONNECT, SERVER_CONNECTIONS)
}

pub fn now() -> DateTime<Utc> {
    Utc::now()
}
