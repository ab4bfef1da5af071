//! Finding a fleet on Railway by the names in its manifest: project and environment, then its control database.

use std::time::Duration;

use super::error::Error;
use crate::manifest::Fleet;
use crate::plan::{Deployment, Ownership, RailwayLive};
use crate::railway::{Client, Found, FoundProject};
use crate::store;
use crate::tenancy::{CONTROL_SERVICE, Endpoint, EnvironmentId, FleetUid, Keyring, ProjectId};

/// How long an error message may take to find its reason.
const PATIENCE: Duration = Duration::from_secs(15);

/// Who looks, and for what.
pub struct Search<'a> {
    pub railway: &'a Client,
    pub keys: &'a Keyring,
    pub fleet: &'a Fleet,
}

/// A control database's service, and what was read on the way to it.
#[derive(Debug)]
pub struct FoundControl {
    pub project: ProjectId,
    pub environment: EnvironmentId,
    pub live: RailwayLive,
    pub endpoint: Endpoint,
}

/// Of all projects with the fleet's project name: the one, with its environment where that exists. Railway's names are
/// not unique, and nobody but a person can tell which of two is meant.
pub(super) fn choose(
    projects: &[FoundProject],
    fleet: &Fleet,
) -> Result<Option<(ProjectId, Option<EnvironmentId>)>, Error> {
    match projects {
        [] => Ok(None),
        [project] => {
            let environment = project.environments.iter().find(|(_, name)| *name == fleet.environment);
            Ok(Some((project.id.clone(), environment.map(|(id, _)| id.clone()))))
        }
        several => {
            let ids = several.iter().map(|project| project.id.as_str()).collect::<Vec<_>>().join(", ");
            Err(Error::SeveralProjects { project: fleet.project.clone(), count: several.len(), ids })
        }
    }
}

impl Search<'_> {
    fn uid(&self) -> FleetUid {
        self.keys.fleet_uid(&self.fleet.name)
    }

    /// One request.
    pub async fn place(&self) -> Result<(ProjectId, EnvironmentId), Error> {
        self.chosen(&self.railway.find_existing(&self.fleet.project, &self.fleet.environment).await?)
    }

    /// The fleet's place among what a token sees.
    pub fn chosen(&self, found: &Found) -> Result<(ProjectId, EnvironmentId), Error> {
        match choose(&found.projects, self.fleet)? {
            Some((project, Some(environment))) => Ok((project, environment)),
            _ => Err(Error::NotBootstrapped {
                project: self.fleet.project.clone(),
                environment: self.fleet.environment.clone(),
            }),
        }
    }

    /// Three requests, of which one is the read that an observation needs anyway.
    pub async fn control(&self) -> Result<FoundControl, Error> {
        let (project, environment) = self.place().await?;
        let live = self.railway.read_live(&project, &environment, self.keys, &self.uid()).await?;
        let endpoint = self.endpoint((&project, &environment), &live).await?;
        Ok(FoundControl { project, environment, live, endpoint })
    }

    /// Of the control database, in a project that was just read; one request.
    pub async fn endpoint(
        &self,
        (project, environment): (&ProjectId, &EnvironmentId),
        live: &RailwayLive,
    ) -> Result<Endpoint, Error> {
        let lacks = |what: &str| Error::NoControl {
            project: self.fleet.project.clone(),
            environment: self.fleet.environment.clone(),
            lacks: what.to_owned(),
        };
        let service = live.service(CONTROL_SERVICE).ok_or_else(|| lacks("there is no service `o7s-control`"))?;
        if matches!(service.owner, Ownership::Foreign | Ownership::Newer) {
            return Err(Error::ForeignControl { name: CONTROL_SERVICE.to_owned() });
        }
        let ids = std::slice::from_ref(&service.id);
        let entry = self.railway.read_endpoints(project, environment, ids).await?.into_iter().next();
        let endpoint = entry.and_then(|entry| entry.of_postgres(CONTROL_SERVICE));
        endpoint.ok_or_else(|| lacks("service `o7s-control` has no TCP proxy yet"))
    }

    /// A control database that does not answer was never made, or is down: Railway knows. When it cannot be asked
    /// either, the silence itself is what there is to say.
    pub async fn why_silent(&self, silence: store::Error) -> Error {
        match tokio::time::timeout(PATIENCE, self.control()).await {
            Ok(Ok(found)) => found.is_down(silence),
            Ok(Err(Error::Railway(_))) | Err(_) => silence.into(),
            Ok(Err(error)) => error,
        }
    }
}

impl FoundControl {
    pub fn is_down(&self, silence: store::Error) -> Error {
        let deployment = self.live.service(CONTROL_SERVICE).map(|service| &service.deployment);
        let state = match deployment {
            Some(Deployment::Running) => format!("its deployment runs, at {}", self.endpoint.public),
            Some(Deployment::Sleeping) => "it sleeps".to_owned(),
            Some(Deployment::Pending { status } | Deployment::Failed { status }) => {
                format!("its deployment is {status}")
            }
            Some(Deployment::None) | None => "it is not deployed".to_owned(),
        };
        Error::ControlDown { state, silence }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Source, load};

    fn project(id: &str, environments: &[&str]) -> FoundProject {
        let environment =
            |name: &&str| (EnvironmentId::parse(&format!("{id}-{name}")).expect("valid"), (*name).to_owned());
        let environments = environments.iter().map(environment).collect();
        FoundProject { id: ProjectId::parse(id).expect("valid"), name: "shop".into(), workspace: None, environments }
    }

    fn chosen(projects: &[FoundProject]) -> String {
        let text = "apiVersion: ogelnates.dev/v1\nkind: Fleet\nmetadata: { name: shop }\nspec: {}\n";
        let desired = load(&[Source { path: "f.yaml".into(), text: text.into() }]).expect("valid");
        match choose(projects, &desired.fleet) {
            Ok(None) => "none".into(),
            Ok(Some((project, environment))) => format!("{project} {environment:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn one_project_is_chosen_and_of_two_none() {
        assert_eq!(chosen(&[]), "none");
        assert_eq!(chosen(&[project("p1", &["staging"])]), "p1 None");
        assert_eq!(chosen(&[project("p1", &["staging", "production"])]), "p1 Some(EnvironmentId(\"p1-production\"))");
        let two = [project("p1", &["production"]), project("p2", &[])];
        assert_eq!(chosen(&two), "2 Railway projects are called `shop`: p1, p2");
    }
}
