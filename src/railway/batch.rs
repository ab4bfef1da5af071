//! Documents whose length depends on how much is asked: K aliases of one field in one request. Values travel as
//! variables, never inside the text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::answer::{Failure, Kind};
use super::client::Call;
use super::error::{BatchFailure, Error};
use super::{NewService, NewVolume, POSTGRES_MOUNT};
use crate::tenancy::{EnvironmentId, OWNER_VARIABLE, ProjectId, ServiceId};

/// A request body with a text of its own.
#[derive(Debug, Serialize)]
pub struct Batch {
    pub query: String,
    pub variables: Map<String, Value>,
    #[serde(rename = "operationName")]
    pub operation: &'static str,
}

impl Batch {
    pub fn create_services(project: &ProjectId, environment: &EnvironmentId, services: &[NewService]) -> Batch {
        // Without a source nothing deploys yet, and the marker is there from the first moment on.
        let input = |service: &NewService| {
            json!({
                "projectId": project.as_str(),
                "environmentId": environment.as_str(),
                "name": service.name,
                "variables": { OWNER_VARIABLE: service.marker },
            })
        };
        let inputs = services.iter().map(input).collect();
        Batch::creates("CreateServices", "serviceCreate", "ServiceCreateInput", inputs)
    }

    pub fn create_volumes(project: &ProjectId, environment: &EnvironmentId, volumes: &[NewVolume]) -> Batch {
        // Without `environmentId` Railway would make the volume in all environments.
        let input = |volume: &NewVolume| {
            let mut input = json!({
                "projectId": project.as_str(),
                "environmentId": environment.as_str(),
                "serviceId": volume.service.as_str(),
                "mountPath": POSTGRES_MOUNT,
            });
            if let Some(region) = &volume.region {
                input["region"] = json!(region);
            }
            input
        };
        let inputs = volumes.iter().map(input).collect();
        Batch::creates("CreateVolumes", "volumeCreate", "VolumeCreateInput", inputs)
    }

    /// Aliases `p0...` are the TCP proxies, `v0...` the variables as a deployment would see them: the private host name
    /// is in no other place that works before the first deployment.
    pub fn read_endpoints(project: &ProjectId, environment: &EnvironmentId, services: &[&ServiceId]) -> Batch {
        let mut variables = Map::new();
        variables.insert("project".into(), json!(project.as_str()));
        variables.insert("environment".into(), json!(environment.as_str()));
        let (mut head, mut body) = ("$project: String!, $environment: String!".to_owned(), String::new());
        for (n, service) in services.iter().enumerate() {
            let _ = write!(head, ", $s{n}: String!");
            let _ = write!(
                body,
                " p{n}: tcpProxies(environmentId: $environment, serviceId: $s{n}) {{ ...ProxyParts }} \
                 v{n}: variablesForServiceDeployment(projectId: $project, environmentId: $environment, serviceId: $s{n})"
            );
            variables.insert(format!("s{n}"), json!(service.as_str()));
        }
        let query = format!(
            "query ReadEndpoints({head}) {{{body} }} \
             fragment ProxyParts on TCPProxy {{ domain proxyPort applicationPort syncStatus deletedAt }}"
        );
        Batch { query, variables, operation: "ReadEndpoints" }
    }

    fn creates(operation: &'static str, field: &str, input_type: &str, inputs: Vec<Value>) -> Batch {
        let (mut head, mut body, mut variables) = (String::new(), String::new(), Map::new());
        for (n, input) in inputs.into_iter().enumerate() {
            let comma = if n == 0 { "" } else { ", " };
            let _ = write!(head, "{comma}$in{n}: {input_type}!");
            let _ = write!(body, " a{n}: {field}(input: $in{n}) {{ id }}");
            variables.insert(format!("in{n}"), input);
        }
        Batch { query: format!("mutation {operation}({head}) {{{body} }}"), variables, operation }
    }

    pub fn call(&self, kind: Kind) -> Call {
        Call::new(self.operation, kind, self)
    }
}

/// The answer to aliased creates: ids in the order of the aliases.
pub fn made_ids<T>(
    answer: &BTreeMap<String, Made>,
    count: usize,
    parse: impl Fn(&str) -> Option<T>,
) -> Option<Vec<T>> {
    (0..count).map(|n| answer.get(&format!("a{n}")).and_then(|made| parse(&made.id))).collect()
}

#[derive(Debug, serde::Deserialize)]
pub struct Made {
    pub id: String,
}

/// Aliased mutations run one after the other, and one that fails takes the ids of those before it along.
pub fn batch_failure(failure: Failure) -> BatchFailure {
    if matches!(failure.error, Error::Lost { .. }) {
        return BatchFailure::whole(failure.error);
    }
    let failed = failure.aliases.iter().filter_map(|alias| alias_number(alias)).min();
    BatchFailure { error: failure.error, ran: failed.unwrap_or(0), failed }
}

/// 7 for `p7`.
pub fn alias_number(alias: &str) -> Option<usize> {
    alias.get(1..)?.parse().ok()
}
