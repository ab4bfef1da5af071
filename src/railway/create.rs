//! Making things: services and volumes many at once, one volume's new owner, and the patch that configures them.

use super::answer::Kind;
use super::batch::{Batch, Made, batch_failure, made_ids};
use super::client::Client;
use super::documents::{AttachVolume, CommitPatch, DeployService, attach_volume, commit_patch, deploy_service};
use super::error::{BatchFailure, Error};
use super::patch::Patch;
use crate::tenancy::{EnvironmentId, ProjectId, ServiceId, VolumeId};

/// Aliased creates run one after the other on Railway's side; more of them would come near the time-out.
pub const BATCH_MAX: usize = 10;

/// A service to be made, with our marker on it and without a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewService {
    pub name: String,
    pub marker: String,
}

/// A volume to be made for `service`, mounted where Postgres keeps its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewVolume {
    pub service: ServiceId,
    pub region: Option<String>,
}

impl Client {
    /// Ids in the order of `services`, at most [`BATCH_MAX`]. A name that exists in the project is refused, so a blind
    /// repeat makes nothing twice; but ids of a failed call are lost and must be read. Not cancel safe.
    pub async fn create_services(
        &self,
        project: &ProjectId,
        environment: &EnvironmentId,
        services: &[NewService],
    ) -> Result<Vec<ServiceId>, BatchFailure> {
        let batch = Batch::create_services(project, environment, services);
        self.create(&batch, services.len(), |id| ServiceId::parse(id).ok()).await
    }

    /// Ids in the order of `volumes`, at most [`BATCH_MAX`]. A repeat makes second volumes: look first. Not cancel safe.
    pub async fn create_volumes(
        &self,
        project: &ProjectId,
        environment: &EnvironmentId,
        volumes: &[NewVolume],
    ) -> Result<Vec<VolumeId>, BatchFailure> {
        let batch = Batch::create_volumes(project, environment, volumes);
        self.create(&batch, volumes.len(), |id| VolumeId::parse(id).ok()).await
    }

    async fn create<T>(
        &self,
        batch: &Batch,
        count: usize,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, BatchFailure> {
        assert!(count <= BATCH_MAX, "{count} creates in one request; {BATCH_MAX} are the most");
        if count == 0 {
            return Ok(Vec::new());
        }
        let call = batch.call(Kind::Mutation);
        let data = self.send(&call).await.map_err(batch_failure)?;
        let asked = self.asked(&call);
        let made = asked.decode::<std::collections::BTreeMap<String, Made>>(&data).map_err(BatchFailure::whole)?;
        made_ids(&made, count, parse).ok_or_else(|| BatchFailure::whole(asked.unreadable("an id is missing").error))
    }

    /// Gives a volume without a service to `service`.
    pub async fn attach_volume(
        &self,
        volume: &VolumeId,
        environment: &EnvironmentId,
        service: &ServiceId,
    ) -> Result<(), Error> {
        let input = attach_volume::VolumeInstanceUpdateInput {
            service_id: Some(service.to_string()),
            mount_path: Some(super::POSTGRES_MOUNT.to_owned()),
            ..Default::default()
        };
        let (volume_id, environment_id) = (volume.to_string(), environment.to_string());
        let variables = attach_volume::Variables { volume_id, environment_id, input };
        let answer = self.mutate::<AttachVolume>(variables).await?;
        let refused = || Error::Refused {
            operation: attach_volume::OPERATION_NAME,
            message: format!("volume {volume} was not attached to service {service}"),
            trace_id: None,
        };
        if answer.volume_instance_update { Ok(()) } else { Err(refused()) }
    }

    /// Starts a new deployment of `service`; the answer is its id. Not cancel safe.
    pub async fn deploy(&self, environment: &EnvironmentId, service: &ServiceId) -> Result<String, Error> {
        let (environment_id, service_id) = (environment.to_string(), service.to_string());
        let variables = deploy_service::Variables { environment_id, service_id };
        Ok(self.mutate::<DeployService>(variables).await?.service_instance_deploy_v2)
    }

    /// Applies exactly `patch` and deploys what it touches; the answer is the patch's id. Not cancel safe.
    pub async fn commit_patch(
        &self,
        environment: &EnvironmentId,
        patch: &Patch,
        message: &str,
    ) -> Result<String, Error> {
        let variables = commit_patch::Variables {
            environment_id: environment.to_string(),
            patch: patch.to_blob(),
            message: Some(message.to_owned()),
        };
        Ok(self.mutate::<CommitPatch>(variables).await?.environment_patch_commit)
    }
}
