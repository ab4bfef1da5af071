//! Documents that select what Railway's CLI (5.71.0) selects, written anew: the local Railway is asked for the same
//! fields, in the same nesting.

pub const EVERYTHING: &str = "
query Everything {
  me { workspaces { name id team { id } projects(first: 500) { edges { node { ...Parts } } } } }
  externalWorkspaces { name id teamId projects { ...Parts } }
}
fragment Parts on Project {
  name id deletedAt updatedAt createdAt
  services { edges { node { name id } } }
  environments { edges { node { canAccess name id } } }
}";

pub const FAVOURITES: &str = "query Favourites($workspace: String!) { projectFavorites(workspaceId: $workspace) }";

pub const PROJECT: &str = "
query OneProject($project: String!) {
  project(id: $project) {
    name id deletedAt workspaceId workspace { name }
    services { edges { node { name id } } }
    buckets { edges { node { name id } } }
    environments { edges { node { name id deletedAt canAccess unmergedChangesCount } } }
  }
}";

pub const REGIONS: &str = "
query Where($project: String) {
  regions(projectId: $project) {
    region name location country workspaceId
    deploymentConstraints { deprecationInfo { replacementRegion isDeprecated } }
  }
}";

pub const ENVIRONMENTS: &str = "
query List($project: String!, $ephemeral: Boolean, $first: Int, $after: String) {
  environments(projectId: $project, isEphemeral: $ephemeral, first: $first, after: $after) {
    pageInfo { endCursor hasNextPage }
    edges {
      node {
        name id isEphemeral canAccess unmergedChangesCount updatedAt createdAt
        sourceEnvironment { name id }
        meta { branch baseBranch prNumber prRepo prTitle }
      }
    }
  }
}";

pub const INSTANCES: &str = "
query Instances($environment: String!, $project: String!, $first: Int, $after: String) {
  environment(id: $environment, projectId: $project) {
    name id
    volumeInstances(first: $first, after: $after) {
      pageInfo { endCursor hasNextPage }
      edges {
        node {
          id state mountPath serviceId environmentId sizeMB currentSizeMB isPendingDeletion deletedAt
          volume { name id }
        }
      }
    }
    serviceInstances(first: $first, after: $after) {
      pageInfo { endCursor hasNextPage }
      edges {
        node {
          id serviceName serviceId environmentId numReplicas startCommand cronSchedule nextCronRunAt
          tracingEnabled autoInstrumentationEnabled
          source { image repo }
          domains { customDomains { ...Own } serviceDomains { id domain targetPort } }
          latestDeployment { canRedeploy ...Deployed }
          activeDeployments { ...Deployed }
        }
      }
    }
  }
}
fragment Own on CustomDomain { id domain targetPort }
fragment Deployed on Deployment { id status meta createdAt deploymentStopped instances { status id } }";

pub const PROXIES: &str = "
query Proxies($environment: String!, $service: String!) {
  tcpProxies(environmentId: $environment, serviceId: $service) {
    id domain proxyPort applicationPort syncStatus serviceId environmentId deletedAt updatedAt createdAt
  }
}";

pub const VARIABLES: &str = "
query Variables($project: String!, $environment: String!, $service: String!) {
  variablesForServiceDeployment(projectId: $project, environmentId: $environment, serviceId: $service)
}";

pub const PUT_VARIABLES: &str = "
mutation Put($project: String!, $environment: String!, $service: String!, $variables: EnvironmentVariables!, $skip: Boolean) {
  variableCollectionUpsert(input: {
    projectId: $project, environmentId: $environment, serviceId: $service, variables: $variables, skipDeploys: $skip
  })
}";

pub const DROP_VARIABLE: &str = "
mutation Drop($project: String!, $environment: String!, $service: String, $name: String!) {
  variableDelete(input: { projectId: $project, environmentId: $environment, serviceId: $service, name: $name })
}";

pub const CONFIG: &str = "
query Config($environment: String!, $decrypt: Boolean) {
  environment(id: $environment) {
    name id projectId isEphemeral configEtag canvasGroupRefs
    config(decryptVariables: $decrypt)
    meta { branch prNumber prRepo }
    sourceEnvironment { name }
  }
}";

/// With a field that the published schema lacks.
pub const CONFIG_WITH_PARTIALS: &str = "
query Config($environment: String!, $decrypt: Boolean) {
  environment(id: $environment) { id config(decryptVariables: $decrypt) iacPartials }
}";

/// The CLI asks for the three in a request each.
pub const NAMES: &str = "
query Names($project: String!) {
  project(id: $project) {
    name
    services(first: 1000) { edges { node { name id templateServiceId } } }
    volumes(first: 1000) { edges { node { name id } } }
    buckets(first: 1000) { edges { node { name id groupId } } }
  }
}";

pub const PROJECT_TOKEN: &str = "query Token { projectToken { id environment { name id } project { name id } } }";

pub const MAKE_TOKEN: &str = "mutation Make($input: ProjectTokenCreateInput!) { projectTokenCreate(input: $input) }";

pub const MAKE_ENVIRONMENT: &str =
    "mutation Fork($input: EnvironmentCreateInput!) { environmentCreate(input: $input) { id } }";
