//! Finding a project and environment by name, and making them.

use super::client::Client;
use super::documents::{
    CreateEnvironment, CreateProject, FindProject, FindProjectByWorkspaceToken, ListProjects, ProbeProjectToken,
    create_environment, create_project, find_project, find_project_by_workspace_token, list_projects,
    probe_project_token,
};
use super::error::Error;
use crate::tenancy::{EnvironmentId, ProjectId};

/// Of 500 projects each.
const PAGES_MAX: usize = 20;

/// How far a token reaches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reach {
    /// All workspaces of a person.
    #[default]
    Account,
    Workspace,
    /// A project token: one environment of one project.
    Environment,
}

/// What a token can see of one name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    pub reach: Reach,
    /// Id and name of the workspace: the one with the only match, else the only one the token has; `None` if that does
    /// not settle it.
    pub workspace: Option<(String, String)>,
    /// Id and name of every workspace of the token; for a project token the name is unknown and empty.
    pub workspaces: Vec<(String, String)>,
    /// All of that name that are not deleted.
    pub projects: Vec<FoundProject>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundProject {
    pub id: ProjectId,
    pub name: String,
    /// Id of its workspace, where Railway tells it.
    pub workspace: Option<String>,
    /// Ids and names of those that are not deleted.
    pub environments: Vec<(EnvironmentId, String)>,
}

/// One page of projects, in whichever document it came.
struct Page {
    projects: Vec<Result<Listed, Error>>,
    next: Option<String>,
}

struct Listed {
    project: FoundProject,
    deleted: bool,
    /// Some environments did not fit on the page.
    cut: bool,
}

// The same fragment yields a type in each document's module.
macro_rules! page {
    ($module:ident, $connection:expr) => {{
        let connection = $connection;
        let listed = |node: $module::ProjectParts| {
            let living = node.environments.edges.into_iter().map(|edge| edge.node).filter(|e| e.deleted_at.is_none());
            let environments: Result<Vec<_>, Error> =
                living.map(|e| Ok((environment_id($module::OPERATION_NAME, &e.id)?, e.name))).collect();
            Ok(Listed {
                project: FoundProject {
                    id: project_id($module::OPERATION_NAME, &node.id)?,
                    name: node.name,
                    workspace: node.workspace_id,
                    environments: environments?,
                },
                deleted: node.deleted_at.is_some(),
                cut: node.environments.page_info.has_next_page,
            })
        };
        let projects = connection.edges.into_iter().map(|edge| listed(edge.node)).collect();
        let next = connection.page_info.end_cursor.filter(|_| connection.page_info.has_next_page);
        Page { projects, next }
    }};
}

impl Client {
    /// Looks for a project by name: one request for an account token or a project token. `environment` matters to a
    /// project token only, which has just one. An empty answer means that this token sees no such project.
    pub async fn find(&self, project: &str, environment: &str) -> Result<Found, Error> {
        if self.holds_project_token() {
            return self.find_bound(project, environment).await;
        }
        let mut found = match self.read::<FindProject>(find_project::Variables {}).await {
            Ok(answer) => self.find_in_account(answer, project).await?,
            // A workspace token may not read `me`; a wrong token fails again at the next request.
            Err(Error::Unauthorized { .. }) => self.find_in_workspace(project).await?,
            Err(error) => return Err(error),
        };
        found.workspace = found.settled_workspace();
        Ok(found)
    }

    /// As [`Client::find`], for a project that is surely there: one request whatever the kind of token, where its projects
    /// fit on a page. What this list does not show is looked for with care before it counts as missing.
    pub async fn find_existing(&self, project: &str, environment: &str) -> Result<Found, Error> {
        if self.holds_project_token() {
            return self.find_bound(project, environment).await;
        }
        let (mut found, mut after) = (Found::default(), None);
        for _ in 0..PAGES_MAX {
            let mut page = self.list(None, after).await?;
            found.take(&mut page, project)?;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        if found.projects.is_empty() { self.find(project, environment).await } else { Ok(found) }
    }

    async fn find_bound(&self, project: &str, environment: &str) -> Result<Found, Error> {
        let bound = self.read::<ProbeProjectToken>(probe_project_token::Variables {}).await?.project_token;
        if bound.project.name != project || bound.environment.name != environment {
            return Err(Error::TokenElsewhere {
                project: bound.project.name,
                environment: bound.environment.name,
                wanted: format!("project `{project}`, environment `{environment}`"),
            });
        }
        let operation = probe_project_token::OPERATION_NAME;
        let workspace = bound.project.workspace_id.clone().map(|id| (id, String::new()));
        let only = FoundProject {
            id: project_id(operation, &bound.project.id)?,
            name: bound.project.name,
            workspace: bound.project.workspace_id,
            environments: vec![(environment_id(operation, &bound.environment.id)?, bound.environment.name)],
        };
        let workspaces = workspace.iter().cloned().collect();
        Ok(Found { reach: Reach::Environment, workspaces, workspace, projects: vec![only] })
    }

    async fn find_in_account(&self, answer: find_project::ResponseData, project: &str) -> Result<Found, Error> {
        let mut found = Found::default();
        for workspace in answer.me.workspaces {
            let page = page!(find_project, workspace.projects);
            self.collect(&mut found, page, &workspace.id, project).await?;
            found.workspaces.push((workspace.id, workspace.name));
        }
        Ok(found)
    }

    async fn find_in_workspace(&self, project: &str) -> Result<Found, Error> {
        let variables = find_project_by_workspace_token::Variables {};
        let answer = self.read::<FindProjectByWorkspaceToken>(variables).await?;
        let workspaces = answer.api_token.workspaces.into_iter().map(|workspace| (workspace.id, workspace.name));
        let mut found = Found { reach: Reach::Workspace, workspaces: workspaces.collect(), ..Found::default() };
        found.take(&mut page!(find_project_by_workspace_token, answer.projects), project)?;
        if found.projects.is_empty() {
            // A project that is missing here would be made a second time, so each workspace is asked by its id too.
            for (id, _) in found.workspaces.clone() {
                let page = self.list(Some(&id), None).await?;
                self.collect(&mut found, page, &id, project).await?;
            }
        }
        Ok(found)
    }

    /// Takes the matches out of `page` and of all that follow it.
    async fn collect(&self, found: &mut Found, page: Page, workspace: &str, project: &str) -> Result<(), Error> {
        let mut page = page;
        for _ in 0..PAGES_MAX {
            found.take(&mut page, project)?;
            let Some(after) = page.next.take() else { return Ok(()) };
            page = self.list(Some(workspace), Some(after)).await?;
        }
        Err(incomplete(list_projects::OPERATION_NAME, format!("no end after {PAGES_MAX} pages")))
    }

    /// Without `workspace`: of all that the token reaches by itself.
    async fn list(&self, workspace: Option<&str>, after: Option<String>) -> Result<Page, Error> {
        let variables = list_projects::Variables { workspace_id: workspace.map(str::to_owned), after };
        let answer = self.read::<ListProjects>(variables).await?;
        Ok(page!(list_projects, answer.projects))
    }

    /// Without `workspace` Railway chooses the token's default. Its names are not unique: find before making.
    pub async fn create_project(
        &self,
        name: &str,
        environment: &str,
        workspace: Option<&str>,
    ) -> Result<(ProjectId, EnvironmentId), Error> {
        let input = create_project::ProjectCreateInput {
            name: Some(name.to_owned()),
            default_environment_name: Some(environment.to_owned()),
            workspace_id: workspace.map(str::to_owned),
            ..Default::default()
        };
        let operation = create_project::OPERATION_NAME;
        let made = self.mutate::<CreateProject>(create_project::Variables { input }).await?.project_create;
        let named = made.environments.edges.into_iter().map(|edge| edge.node).find(|e| e.name == environment);
        let environment = named.map(|e| e.id).or(made.base_environment_id);
        let environment = environment.ok_or_else(|| incomplete(operation, "no environment in it".into()))?;
        Ok((project_id(operation, &made.id)?, environment_id(operation, &environment)?))
    }

    pub async fn create_environment(&self, project: &ProjectId, name: &str) -> Result<EnvironmentId, Error> {
        let input = create_environment::EnvironmentCreateInput {
            name: name.to_owned(),
            project_id: project.to_string(),
            ephemeral: Some(false),
            skip_initial_deploys: Some(true),
            apply_changes_in_background: None,
            source_environment_id: None,
            stage_initial_changes: None,
        };
        let variables = create_environment::Variables { input };
        let made = self.mutate::<CreateEnvironment>(variables).await?.environment_create;
        environment_id(create_environment::OPERATION_NAME, &made.id)
    }
}

impl Found {
    fn take(&mut self, page: &mut Page, name: &str) -> Result<(), Error> {
        for listed in page.projects.drain(..) {
            let Listed { project, deleted, cut } = listed?;
            if deleted || project.name != name {
                continue;
            }
            if cut {
                let what = format!("project `{name}` has more than 100 environments");
                return Err(incomplete(find_project::OPERATION_NAME, what));
            }
            self.projects.push(project);
        }
        Ok(())
    }

    fn settled_workspace(&self) -> Option<(String, String)> {
        let only = match (&self.projects[..], &self.workspaces[..]) {
            ([project], _) => project.workspace.as_ref(),
            ([], [workspace]) => return Some(workspace.clone()),
            _ => None,
        };
        self.workspaces.iter().find(|(id, _)| Some(id) == only).cloned()
    }
}

fn project_id(operation: &'static str, text: &str) -> Result<ProjectId, Error> {
    ProjectId::parse(text).map_err(|_| incomplete(operation, "a project without an id".into()))
}

fn environment_id(operation: &'static str, text: &str) -> Result<EnvironmentId, Error> {
    EnvironmentId::parse(text).map_err(|_| incomplete(operation, "an environment without an id".into()))
}

fn incomplete(operation: &'static str, what: String) -> Error {
    Error::Incomplete { operation, what }
}
