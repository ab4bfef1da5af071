//! From arguments and environment to an open control database: how each command gets to its fleet.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::config::Config;
use super::report::Failure;
use crate::manifest::Desired;
use crate::operator::{Door, Instances, Search, Timing, control_url};
use crate::plan::{ControlLive, RailwayLive};
use crate::railway::{Client, ClientConfig, HttpTransport};
use crate::store::{Error as StoreError, FleetRow, Store};
use crate::tenancy::{EnvironmentId, FleetUid, Keyring, ProjectId};

const CONNECT: Duration = Duration::from_secs(10);
/// `CREATE DATABASE` copies files: more at once than this only wait for each other.
const SERVER_CONNECTIONS: usize = 6;

pub type Loaded = (Option<FleetRow>, ControlLive);

/// The fleet's control database, open, and what was read on the way to it.
pub struct Session {
    pub config: Config,
    pub client: Arc<Client>,
    pub fleet: FleetUid,
    pub store: Store,
    railway: Option<(ProjectId, EnvironmentId, RailwayLive)>,
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
        let fleet = config.keys.fleet_uid(&desired.fleet.name);
        let search = Search { railway: &client, keys: &config.keys, fleet: &desired.fleet };
        let (store, railway) = match &config.database_url {
            Some(url) => match Store::connect(url, CONNECT).await {
                Err(silence @ StoreError::NotListening { .. }) => {
                    return Err(search.why_silent(silence).await.into());
                }
                opened => (opened?, None),
            },
            None => {
                let found = search.control().await?;
                let inside = config.own_environment.as_deref() == Some(found.environment.as_str());
                match Store::connect(&control_url(&config.keys, &found.endpoint, inside), CONNECT).await {
                    Err(silence @ StoreError::NotListening { .. }) => return Err(found.is_down(silence).into()),
                    opened => (opened?, Some((found.project, found.environment, found.live))),
                }
            }
        };
        Ok(Session { config, client, fleet, store, railway, named: names(desired) })
    }

    /// Whether it leads to the place these manifests mean: somebody may edit the Fleet while a loop runs.
    pub fn is_of(&self, desired: &Desired) -> bool {
        self.named == names(desired)
    }

    pub async fn load(&self) -> Result<Loaded, Failure> {
        let (row, control) = self.store.load().await?;
        if let Some(row) = row.as_ref().filter(|row| row.uid != self.fleet) {
            let (have, want) = (format!("{} ({})", row.name, row.uid.as_str()), self.fleet.as_str().to_owned());
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
                let search = Search { railway: &self.client, keys: &self.config.keys, fleet: &desired.fleet };
                Ok(search.place().await?)
            }
        }
    }

    pub fn door<'a>(
        &'a self,
        place: (ProjectId, EnvironmentId),
        stop: &'a CancellationToken,
        progress: &'a dyn Fn(&str),
        ready: Duration,
    ) -> Door<'a> {
        let (project, environment) = place;
        let inside = self.config.own_environment.as_deref() == Some(environment.as_str());
        Door {
            railway: &self.client,
            project,
            environment,
            keys: &self.config.keys,
            fleet: self.fleet.clone(),
            stop,
            leading: None,
            progress,
            clock: &now,
            timing: Timing { ready, ..Timing::default() },
            run: uuid::Uuid::new_v4(),
            inside,
        }
    }

    pub fn servers(&self) -> Instances<'_> {
        servers(&self.config.keys, &self.fleet)
    }
}

pub fn servers<'a>(keys: &'a Keyring, fleet: &FleetUid) -> Instances<'a> {
    Instances::new(keys, fleet.clone(), CONNECT, SERVER_CONNECTIONS)
}

pub fn now() -> DateTime<Utc> {
    Utc::now()
}
