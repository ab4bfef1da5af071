//! Where services are reached. Railway settles it when it deploys them, so it is read then and remembered by `store`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::POSTGRES_PORT;
use super::answer::{Failure, Kind};
use super::batch::{Batch, alias_number};
use super::client::Client;
use super::error::Error;
use crate::plan::ServiceEndpoint;
use crate::tenancy::{Address, EnvironmentId, ProjectId, ServiceId};

/// Services in one request.
const GROUP_MAX: usize = 50;

/// Requests one call may spend on groups, and on singling out services that Railway cannot answer for.
const REQUESTS_MAX: usize = 40;

impl Client {
    /// In the order of `services`; one request for up to 50 of them. A service Railway cannot answer for (just deleted,
    /// or not visible yet) has neither address; when that holds for all of them, it is an error.
    pub async fn read_endpoints(
        &self,
        project: &ProjectId,
        environment: &EnvironmentId,
        services: &[ServiceId],
    ) -> Result<Vec<ServiceEndpoint>, Error> {
        let mut groups: Vec<Vec<&ServiceId>> =
            services.chunks(GROUP_MAX).map(|group| group.iter().collect()).collect();
        let (mut found, mut unanswered) = (BTreeMap::new(), None);
        for _ in 0..REQUESTS_MAX {
            let Some(group) = groups.pop() else { break };
            match self.read_group(project, environment, &group).await {
                Ok(endpoints) => found.extend(endpoints.into_iter().map(|one| (one.service.clone(), one))),
                Err(failure) if is_about_one(&failure.error) => {
                    groups.extend(without_the_blamed(&group, &failure));
                    unanswered = Some(failure.error);
                }
                Err(failure) => return Err(failure.error),
            }
        }
        match unanswered {
            Some(error) if found.is_empty() || !groups.is_empty() => Err(error),
            _ => Ok(services.iter().map(|id| found.remove(id).unwrap_or_else(|| nowhere(id))).collect()),
        }
    }

    async fn read_group(
        &self,
        project: &ProjectId,
        environment: &EnvironmentId,
        group: &[&ServiceId],
    ) -> Result<Vec<ServiceEndpoint>, Failure> {
        let call = Batch::read_endpoints(project, environment, group).call(Kind::Read).with_final_refusal();
        let data = self.send(&call).await?;
        let asked = self.asked(&call);
        let answer: BTreeMap<String, &RawValue> =
            serde_json::from_str(data.get()).map_err(|_| asked.unreadable("not one value for each alias"))?;
        let part = |alias: String| answer.get(&alias).copied().ok_or_else(|| asked.unreadable("an alias is missing"));
        let endpoint = |(n, service): (usize, &&ServiceId)| {
            let proxies: Vec<Proxy> = asked.decode(part(format!("p{n}"))?).map_err(Failure::last)?;
            let variables: Variables = asked.decode(part(format!("v{n}"))?).map_err(Failure::last)?;
            let private_host = variables.private_domain.filter(|host| !host.is_empty());
            let private_host = private_host.map(|host| without_dot(&host));
            Ok(ServiceEndpoint { service: (*service).clone(), public: public(&proxies), private_host })
        };
        group.iter().enumerate().map(endpoint).collect()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Proxy {
    domain: String,
    proxy_port: u16,
    application_port: u32,
    sync_status: String,
    deleted_at: Option<String>,
}

/// Of all variables, secrets among them, only this one is taken out of the answer.
#[derive(Deserialize)]
struct Variables {
    #[serde(rename = "RAILWAY_PRIVATE_DOMAIN")]
    private_domain: Option<String>,
}

fn public(proxies: &[Proxy]) -> Option<Address> {
    let lives = |proxy: &&Proxy| {
        let going = matches!(proxy.sync_status.as_str(), "DELETING" | "DELETED") || proxy.deleted_at.is_some();
        proxy.application_port == u32::from(POSTGRES_PORT) && !going
    };
    let proxy = proxies.iter().find(lives)?;
    Some(Address { host: without_dot(&proxy.domain), port: proxy.proxy_port })
}

/// Now and then Railway writes a host as a full DNS name.
fn without_dot(host: &str) -> String {
    host.trim_end_matches('.').to_owned()
}

/// Whether another request without the service at fault could succeed.
fn is_about_one(error: &Error) -> bool {
    use Error::{Incomplete, NotFound, Refused, Unauthorized};
    matches!(error, Unauthorized { .. } | NotFound { .. } | Refused { .. } | Incomplete { .. })
}

/// One bad service turns the whole answer into null. The rest is asked again: without those Railway blamed, or, when it
/// blamed none, in two halves.
fn without_the_blamed<'a>(group: &[&'a ServiceId], failure: &Failure) -> Vec<Vec<&'a ServiceId>> {
    let blamed: Vec<usize> = failure.aliases.iter().filter_map(|alias| alias_number(alias)).collect();
    let rest = if blamed.is_empty() && group.len() > 1 {
        let (left, right) = group.split_at(group.len() / 2);
        vec![left.to_vec(), right.to_vec()]
    } else if blamed.is_empty() {
        Vec::new()
    } else {
        let kept = group.iter().enumerate().filter(|(n, _)| !blamed.contains(n));
        vec![kept.map(|(_, service)| *service).collect()]
    };
    rest.into_iter().filter(|group: &Vec<_>| !group.is_empty()).collect()
}

fn nowhere(service: &ServiceId) -> ServiceEndpoint {
    ServiceEndpoint { service: service.clone(), public: None, private_host: None }
}
