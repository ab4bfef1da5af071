//! What adopting and releasing a service need: how its server is entered today, its name, its marker.

use std::collections::BTreeMap;

use super::client::Client;
use super::documents::{
    ReadDeployVariables, RenameService, SetVariables, read_deploy_variables, rename_service, set_variables,
};
use super::error::Error;
use crate::tenancy::{EnvironmentId, OWNER_VARIABLE, ProjectId, Secret, ServiceId};

/// Of a service that somebody else made, as its next deployment would see it.
#[derive(Debug)]
pub struct Entrance {
    /// Superuser and password, by the names that Postgres' own image and Railway's template use.
    pub login: Option<(String, Secret)>,
    /// Text of the owner variable.
    pub marker: Option<String>,
}

/// Stands in the place of a marker that was taken away. Deleting the variable would restart the server.
pub const RELEASED: &str = "released";

impl Client {
    pub async fn read_entrance(
        &self,
        project: &ProjectId,
        environment: &EnvironmentId,
        service: &ServiceId,
    ) -> Result<Entrance, Error> {
        let variables = read_deploy_variables::Variables {
            project_id: project.to_string(),
            environment_id: environment.to_string(),
            service_id: service.to_string(),
        };
        let all = self.read::<ReadDeployVariables>(variables).await?.variables_for_service_deployment;
        let text = |names: &[&str]| {
            let found = names.iter().find_map(|name| all.get(*name)?.as_str());
            found.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let user = text(&["POSTGRES_USER", "PGUSER"]).unwrap_or_else(|| "postgres".to_owned());
        let login = text(&["POSTGRES_PASSWORD", "PGPASSWORD"]).map(|password| (user, Secret::new(password)));
        Ok(Entrance { login, marker: text(&[OWNER_VARIABLE]) })
    }

    /// Restarts nothing. Its private name stays as it is.
    pub async fn rename_service(&self, service: &ServiceId, name: &str) -> Result<(), Error> {
        let input = rename_service::ServiceUpdateInput { name: Some(name.to_owned()), ..Default::default() };
        let variables = rename_service::Variables { service_id: service.to_string(), input };
        self.mutate::<RenameService>(variables).await.map(drop)
    }

    /// Restarts nothing: the server itself never reads it.
    pub async fn set_marker(
        &self,
        project: &ProjectId,
        environment: &EnvironmentId,
        service: &ServiceId,
        marker: &str,
    ) -> Result<(), Error> {
        let variables = BTreeMap::from([(OWNER_VARIABLE, marker)]);
        let input = set_variables::VariableCollectionUpsertInput {
            project_id: project.to_string(),
            environment_id: environment.to_string(),
            service_id: Some(service.to_string()),
            variables: serde_json::json!(variables),
            replace: None,
            skip_deploys: Some(true),
        };
        self.mutate::<SetVariables>(set_variables::Variables { input }).await.map(drop)
    }
}
