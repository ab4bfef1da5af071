//! A model of the servers behind the instances: their contents live on the volume, as the real ones' do. One statement a
//! call; a server answers only while its deployment runs.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use chrono::{TimeDelta, Utc};
use ogelnates::local::InProcess;
use ogelnates::local::world::At;
use ogelnates::operator::{ServerFailure, Servers};
use ogelnates::plan::{DatabaseChange as Change, DatabaseLive, RoleLive, RoleMark, ServerLive, role_name};
use ogelnates::tenancy::{Address, InstanceName, RoleName, TenantId};
use tokio::time::Instant;

use super::sim::{Calls, start};

/// By volume id.
pub type Contents = Rc<RefCell<BTreeMap<String, ServerLive>>>;

pub struct ServersModel {
    railway: Arc<Mutex<InProcess>>,
    calls: Arc<Calls>,
    began: Instant,
    pub contents: Contents,
    pub max_connections: Cell<u32>,
    /// Observations that fail first, as while a server starts.
    silent: Cell<u32>,
}

fn fresh(max_connections: u32) -> ServerLive {
    ServerLive {
        version: 170_000,
        max_connections,
        public_databases: vec!["postgres".into(), "railway".into(), "template1".into()],
        ..ServerLive::default()
    }
}

impl ServersModel {
    pub fn new(railway: Arc<Mutex<InProcess>>, calls: Arc<Calls>) -> ServersModel {
        ServersModel {
            railway,
            calls,
            began: Instant::now(),
            contents: Contents::default(),
            max_connections: Cell::new(260),
            silent: Cell::new(0),
        }
    }

    /// The same servers and contents, beside `railway`, at the time since `began`.
    pub fn fork(&self, railway: Arc<Mutex<InProcess>>, calls: Arc<Calls>, began: Instant) -> ServersModel {
        let contents = Rc::new(RefCell::new(self.contents.borrow().clone()));
        let (max_connections, silent) = (self.max_connections.clone(), self.silent.clone());
        ServersModel { railway, calls, began, contents, max_connections, silent }
    }

    /// The volume of the running instance called `name`, in whichever project.
    fn volume(&self, name: &InstanceName) -> Option<String> {
        let now: chrono::DateTime<Utc> = start() + TimeDelta::from_std(self.began.elapsed()).expect("short");
        let mut railway = self.railway.lock().expect("one thread");
        let world = railway.world(now);
        let service = world.services.values().find(|s| s.name == name.as_str() && s.deleted_at.is_none())?;
        let environment = world.environments_of(&service.project).first()?.id.clone();
        let at = At { environment: environment.clone(), service: service.id.clone() };
        let volume = world.volumes_at(&environment, Some(&service.id)).first().map(|id| (*id).to_owned());
        volume.filter(|_| world.is_listening(&at))
    }

    pub fn with<T>(&self, name: &str, look: impl FnOnce(&mut ServerLive) -> T) -> T {
        let name = InstanceName::parse(name).expect("valid");
        let volume = self.volume(&name).expect("running");
        look(self.contents.borrow_mut().entry(volume).or_insert_with(|| fresh(self.max_connections.get())))
    }

    /// The next `observations` get no answer.
    pub fn silent_for(&self, observations: u32) {
        self.silent.set(observations);
    }

    pub fn picture(&self) -> String {
        let contents = self.contents.borrow();
        let mut lines: Vec<String> = contents.values().map(|server| format!("server {server:?}")).collect();
        lines.sort();
        lines.join("\n")
    }
}

fn gone(name: &InstanceName) -> ServerFailure {
    ServerFailure {
        code: ogelnates::postgres::Code::NotListening.into(),
        message: format!("{name} does not listen"),
        help: "wait".into(),
    }
}

impl Servers for ServersModel {
    async fn observe(&self, name: &InstanceName, _at: &Address) -> Result<ServerLive, ServerFailure> {
        let look = || {
            if self.silent.get() > 0 {
                self.silent.set(self.silent.get() - 1);
                return Err(gone(name));
            }
            let volume = self.volume(name).ok_or_else(|| gone(name))?;
            Ok(self.contents.borrow_mut().entry(volume).or_insert_with(|| fresh(self.max_connections.get())).clone())
        };
        self.calls.call(look).await
    }

    async fn change(
        &self,
        name: &InstanceName,
        _at: &Address,
        groups: &[Vec<Change>],
        done: &dyn Fn(usize),
    ) -> Vec<Result<(), ServerFailure>> {
        let mut results = Vec::new();
        for (n, group) in groups.iter().enumerate() {
            let mut result = Ok(());
            for change in group {
                let act = || {
                    let volume = self.volume(name).ok_or_else(|| gone(name))?;
                    apply(
                        self.contents.borrow_mut().entry(volume).or_insert_with(|| fresh(self.max_connections.get())),
                        change,
                    );
                    Ok(())
                };
                result = self.calls.call(act).await;
                if result.is_err() {
                    break;
                }
            }
            results.push(result);
            done(n + 1);
        }
        results
    }
}

/// What each change means, without SQL: the pure model that plans are proved against.
pub fn apply(server: &mut ServerLive, change: &Change) {
    match change {
        Change::CreateRole { tenant, role, generation, connection_limit, login } => {
            let fresh = fresh_role(tenant, role.as_ref(), *generation, *connection_limit, *login);
            server.roles.insert(role_name(tenant, role.as_ref()), fresh);
        }
        Change::CreateDatabase { tenant, database, connection_limit } => {
            let fresh = || half_made(tenant, *connection_limit);
            let live = server.databases.entry(database.clone()).or_insert_with(fresh);
            live.connection_limit = signed(*connection_limit);
        }
        Change::OpenDatabase { tenant, database } => with_database(server, database, |live| {
            live.tenant = Some(tenant.clone());
            live.public_connect = false;
            live.allow_connections = true;
        }),
        Change::GrantRole { tenant, role, grants, .. } => with_role(server, tenant, Some(role), |live| {
            live.mark.iter_mut().for_each(|mark| mark.grants = grants.as_str().to_owned());
        }),
        Change::SetPassword { tenant, role, generation } => with_role(server, tenant, role.as_ref(), |live| {
            live.mark.iter_mut().for_each(|mark| mark.generation = *generation);
            live.password_ours = true;
        }),
        Change::SetLogin { tenant, role, login } => {
            with_role(server, tenant, role.as_ref(), |live| live.can_login = *login)
        }
        Change::DropPrivileges { tenant, role } => {
            with_role(server, tenant, role.as_ref(), |live| live.privileged = false)
        }
        Change::RevokeMemberships { tenant, role, .. } => {
            with_role(server, tenant, role.as_ref(), |live| live.member_of.clear())
        }
        Change::SetRoleConnectionLimit { tenant, role, limit } => {
            with_role(server, tenant, role.as_ref(), |live| live.connection_limit = signed(*limit));
        }
        Change::SetDatabaseConnectionLimit { database, limit } => {
            with_database(server, database, |live| live.connection_limit = signed(*limit));
        }
        Change::SetStatementTimeout { database, ms } => {
            with_database(server, database, |live| live.statement_timeout_ms = *ms)
        }
        Change::ResetRoleTimeout { tenant, role, database } => with_role(server, tenant, role.as_ref(), |live| {
            live.statement_timeouts.retain(|own| own.database != *database);
        }),
        Change::SetOwner { database, tenant } => {
            with_database(server, database, |live| live.owner = tenant.to_string())
        }
        Change::DropRole { tenant, role, .. } => drop(server.roles.remove(&role_name(tenant, Some(role)))),
        Change::EndConnections { .. } => {}
        Change::RenameDatabase { database, to } => {
            if let Some(mut live) = server.databases.remove(database) {
                live.allow_connections = false;
                server.databases.insert(to.clone(), live);
            }
        }
        Change::CloseToPublic { database } => server.public_databases.retain(|open| open != database),
        Change::DropDatabase { tenant, database } => {
            server.databases.remove(database);
            server.roles.retain(|_, role| role.mark.as_ref().is_none_or(|mark| mark.tenant != *tenant));
        }
    }
}

fn fresh_role(tenant: &TenantId, role: Option<&RoleName>, generation: u32, limit: u32, login: bool) -> RoleLive {
    let grants = role.map_or("owner", |_| "none").to_owned();
    let mark = RoleMark { tenant: tenant.clone(), role: role.cloned(), generation, grants };
    RoleLive {
        mark: Some(mark),
        can_login: login,
        privileged: false,
        connection_limit: signed(limit),
        password_ours: true,
        member_of: Vec::new(),
        statement_timeouts: Vec::new(),
    }
}

/// Closed, and without our mark yet.
fn half_made(tenant: &TenantId, limit: u32) -> DatabaseLive {
    DatabaseLive {
        owner: tenant.to_string(),
        tenant: None,
        allow_connections: false,
        public_connect: true,
        connection_limit: signed(limit),
        statement_timeout_ms: None,
    }
}

fn signed(limit: u32) -> i32 {
    i32::try_from(limit).expect("small")
}

fn with_database(server: &mut ServerLive, name: &str, change: impl FnOnce(&mut DatabaseLive)) {
    change(server.databases.get_mut(name).unwrap_or_else(|| panic!("no database {name}")));
}

fn with_role(
    server: &mut ServerLive,
    tenant: &TenantId,
    role: Option<&RoleName>,
    change: impl FnOnce(&mut RoleLive),
) {
    let name = role_name(tenant, role);
    change(server.roles.get_mut(&name).unwrap_or_else(|| panic!("no role {name}")));
}
