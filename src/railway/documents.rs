//! The documents with a fixed text, typed from the published schema when the crate is built.

use graphql_client::GraphQLQuery;

// The schema's scalars; the generated modules look for them here.
type DateTime = chrono::DateTime<chrono::Utc>;
type EnvironmentConfig = serde_json::Value;
type EnvironmentVariables = serde_json::Value;

// `tt`, because the derive reads bare literals only.
macro_rules! documents {
    ($($name:ident: $path:tt)*) => {
        $(
            #[derive(GraphQLQuery)]
            #[graphql(schema_path = "graphql/schema.graphql", query_path = $path, variables_derives = "Default")]
            pub struct $name;
        )*

        /// The text of each, for the test that validates them.
        #[cfg(all(test, feature = "local"))]
        pub const ALL: &[(&str, &str)] = &[$((stringify!($name), include_str!(concat!("../../", $path)))),*];
    };
}

documents! {
    FindProject: "graphql/operations/FindProject.graphql"
    FindProjectByWorkspaceToken: "graphql/operations/FindProjectByWorkspaceToken.graphql"
    ListProjects: "graphql/operations/ListProjects.graphql"
    ProbeProjectToken: "graphql/operations/ProbeProjectToken.graphql"
    ReadLiveState: "graphql/operations/ReadLiveState.graphql"
    PollConfigEtag: "graphql/operations/PollConfigEtag.graphql"
    CreateProject: "graphql/operations/CreateProject.graphql"
    CreateEnvironment: "graphql/operations/CreateEnvironment.graphql"
    AttachVolume: "graphql/operations/AttachVolume.graphql"
    CommitPatch: "graphql/operations/CommitPatch.graphql"
    DeployService: "graphql/operations/DeployService.graphql"
    ReadDeployVariables: "graphql/operations/ReadDeployVariables.graphql"
    RenameService: "graphql/operations/RenameService.graphql"
    SetVariables: "graphql/operations/SetVariables.graphql"
}
