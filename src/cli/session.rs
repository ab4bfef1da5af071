//! From arguments and environment to an open control database: how each command gets to its fleet.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::config::Config;
use super::report::Failure;
use crate::manifest::Desired;
use crate::operator::{self, Door, Instances, Timing, control_url};
use crate::plan::{ControlLive, RailwayLive};
use crate::railway::{Client, ClientConfig, HttpTransport};
use crate::store::{FleetRow, Store};
use crate::tenancy::{CONTROL_SERVICE, EnvironmentId, FleetUid, ProjectId, Secret};

const CONNECT: Duration = Duration::from_secs(10);
/// `CREATE DATABASE` copies files: more at once than this only wait for each other.
const SERVER_CONNECTIONS: usize = 6;

pub type Loaded = (Option<FleetRow>, ControlLive);

/// The fleet's control database, open, and what was read on the way to it.
pub struct Session {
    pub config: Config,
    pub client: Client,
    pub fleet: FleetUid,
    pub store: Store,
    railway: Option<(ProjectId, EnvironmentId, RailwayLive)>,
}

pub fn client(config: &Config) -> Result<Client, Failure> {
    let mut seed = [0; 8];
    // Only jitter: a clock would do as well, and a failing generator is no reason to stop.
    let _ = SystemRandom::new().fill(&mut seed);
    let transport = Arc::new(HttpTransport::new(&config.railway_url)?);
    Ok(Client::new(ClientConfig::new(config.token.clone(), u64::from_le_bytes(seed)), transport))
}

impl Session {
    /// With `O7S_DATABASE_URL` no request to Railway is needed; without it two or three.
    pub async fn open(config: Config, desired: &Desired) -> Result<Session, Failure> {
        let client = client(&config)?;
        let fleet = config.keys.fleet_uid(&desired.fleet.name);
        let (url, railway) = match config.database_url.clone() {
            Some(url) => (url, None),
            None => {
                let (url, railway) = find_control(&config, &client, &fleet, desired).await?;
                (url, Some(railway))
            }
        };
        let store = Store::connect(&url, CONNECT).await?;
        Ok(Session { config, client, fleet, store, railway })
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
            None => find_place(&self.client, desired).await,
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
            progress,
            clock: &now,
            timing: Timing { ready, ..Timing::default() },
            run: uuid::Uuid::new_v4(),
            inside,
        }
    }

    pub fn servers(&self) -> Instances<'_> {
        Instances {
            keys: &self.config.keys,
            fleet: self.fleet.clone(),
            deadline: CONNECT,
            parallel: SERVER_CONNECTIONS,
        }
    }
}

pub fn now() -> DateTime<Utc> {
    Utc::now()
}

async fn find_place(client: &Client, desired: &Desired) -> Result<(ProjectId, EnvironmentId), Failure> {
    let fleet = &desired.fleet;
    let found = client.find(&fleet.project, &fleet.environment).await?;
    let not_there = || operator::Error::NotBootstrapped {
        project: fleet.project.clone(),
        environment: fleet.environment.clone(),
    };
    match &found.projects[..] {
        [] => Err(not_there().into()),
        [project] => {
            let environment = project.environments.iter().find(|(_, name)| *name == fleet.environment);
            Ok((project.id.clone(), environment.ok_or_else(not_there)?.0.clone()))
        }
        several => {
            let ids = several.iter().map(|project| project.id.as_str()).collect::<Vec<_>>().join(", ");
            Err(operator::Error::SeveralProjects { project: fleet.project.clone(), count: several.len(), ids }.into())
        }
    }
}

async fn find_control(
    config: &Config,
    client: &Client,
    fleet: &FleetUid,
    desired: &Desired,
) -> Result<(Secret, (ProjectId, EnvironmentId, RailwayLive)), Failure> {
    let (project, environment) = find_place(client, desired).await?;
    let live = client.read_live(&project, &environment, &config.keys, fleet).await?;
    let not_there = || operator::Error::NotBootstrapped {
        project: desired.fleet.project.clone(),
        environment: desired.fleet.environment.clone(),
    };
    let service = live.service(CONTROL_SERVICE).ok_or_else(not_there)?;
    if matches!(service.owner, crate::plan::Ownership::Foreign | crate::plan::Ownership::Newer) {
        return Err(operator::Error::ForeignControl { name: CONTROL_SERVICE.to_owned() }.into());
    }
    let endpoints = client.read_endpoints(&project, &environment, std::slice::from_ref(&service.id)).await?;
    let entry = endpoints.first().ok_or_else(not_there)?;
    let endpoint = entry.of_postgres(CONTROL_SERVICE).ok_or_else(not_there)?;
    let inside = config.own_environment.as_deref() == Some(environment.as_str());
    Ok((control_url(&config.keys, &endpoint, inside), (project, environment, live)))
}
