//! A model of the servers behind the instances: their contents live on the volume, as the real ones' do. One statement a
//! call; a server answers only while its deployment runs.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use chrono::{DateTime, TimeDelta, Utc};
use ogelnates::local::InProcess;
use ogelnates::local::world::{At, Status, World};
use ogelnates::operator::{ServerFailure, Servers};
use ogelnates::plan::{DatabaseChange as Change, ServerLive, role_name};
use ogelnates::postgres::Turn;
use ogelnates::tenancy::{Address, InstanceName, Secret};
use tokio::time::Instant;

use super::apply::{apply, fresh};
use super::sim::{Calls, start};

/// By volume id.
pub type Contents = Rc<RefCell<BTreeMap<String, ServerLive>>>;

pub struct ServersModel {
    railway: Arc<Mutex<InProcess>>,
    calls: Arc<Calls>,
    began: Instant,
    pub contents: Contents,
    pub max_connections: Cell<u32>,
    /// Looks that fail first, as while a server starts.
    silent: Cell<u32>,
    adopted: RefCell<BTreeSet<InstanceName>>,
    /// Where our own superuser may log in beside the other one.
    admitted: RefCell<BTreeSet<InstanceName>>,
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
            adopted: RefCell::default(),
            admitted: RefCell::default(),
        }
    }

    /// The same servers and contents, beside `railway`, at the time since `began`.
    pub fn fork(&self, railway: Arc<Mutex<InProcess>>, calls: Arc<Calls>, began: Instant) -> ServersModel {
        let contents = Rc::new(RefCell::new(self.contents.borrow().clone()));
        let (max_connections, silent) = (self.max_connections.clone(), self.silent.clone());
        let (adopted, admitted) = (self.adopted.clone(), self.admitted.clone());
        ServersModel { railway, calls, began, contents, max_connections, silent, adopted, admitted }
    }

    /// The volume of the running instance called `name`, in whichever project; a sleeping one counts, because whoever
    /// comes is let wait. It goes on sleeping until [`ServersModel::wake`].
    fn volume(&self, name: &InstanceName) -> Option<String> {
        self.at(name, |world, at, _| {
            let volume = world.volumes_at(&at.environment, Some(&at.service)).first().map(|id| (*id).to_owned());
            let asleep = world.instance(at).is_ok_and(|instance| {
                instance.deployments.iter().any(|one| one.status == Status::Sleeping && !one.stopped)
            });
            volume.filter(|_| asleep || world.is_listening(at))
        })?
    }

    fn at<T>(&self, name: &InstanceName, look: impl FnOnce(&mut World, &At, DateTime<Utc>) -> T) -> Option<T> {
        let now = start() + TimeDelta::from_std(self.began.elapsed()).expect("short");
        let mut railway = self.railway.lock().expect("one thread");
        railway.world(now);
        let world = railway.world_mut();
        let service = world.services.values().find(|s| s.name == name.as_str() && s.deleted_at.is_none())?;
        let environment = world.environments_of(&service.project).first()?.id.clone();
        let at = At { environment, service: service.id.clone() };
        Some(look(world, &at, now))
    }

    pub fn wake(&self, name: &str) {
        let name = InstanceName::parse(name).expect("valid");
        self.at(&name, |world, at, now| world.wake(at, now)).expect("there");
    }

    pub fn with<T>(&self, name: &str, look: impl FnOnce(&mut ServerLive) -> T) -> T {
        let name = InstanceName::parse(name).expect("valid");
        let volume = self.volume(&name).expect("running");
        look(self.contents.borrow_mut().entry(volume).or_insert_with(|| fresh(self.max_connections.get())))
    }

    /// The next `looks` get no answer.
    pub fn silent_for(&self, looks: u32) {
        self.silent.set(looks);
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

/// What has a name already that `rename` would give, as long as anything has a former one.
fn taken_name(server: &ServerLive, rename: &Change) -> Option<String> {
    let Change::RenameTenant { from, to, database, to_database, roles, .. } = rename else { return None };
    let marks = server.roles.values().filter_map(|role| role.mark.as_ref()).filter(|mark| mark.tenant == *from);
    let moves = database != to_database && server.databases.contains_key(database);
    let mut names: Vec<String> = marks.map(|mark| role_name(to, mark.role.as_ref())).collect();
    if names.is_empty() && !moves {
        return None;
    }
    if moves && server.databases.contains_key(to_database) {
        return Some(format!("database {to_database}"));
    }
    names.push(role_name(to, None));
    names.extend(roles.iter().map(|role| role_name(to, Some(role))));
    names.into_iter().find(|name| server.roles.contains_key(name)).map(|name| format!("role {name}"))
}

impl Servers for ServersModel {
    fn know_adopted(&self, names: BTreeSet<InstanceName>) {
        *self.adopted.borrow_mut() = names;
    }

    /// The model's servers believe everybody who says to be their superuser.
    async fn admit(
        &self,
        name: &InstanceName,
        _at: &Address,
        _entrance: (&str, &Secret),
        _force: bool,
    ) -> Result<(), ServerFailure> {
        self.calls.call(|| self.admitted.borrow_mut().insert(name.clone())).await;
        Ok(())
    }

    async fn dismiss(&self, name: &InstanceName, _at: &Address) -> Result<(), ServerFailure> {
        self.calls.call(|| self.admitted.borrow_mut().remove(name)).await;
        Ok(())
    }

    async fn observe(&self, name: &InstanceName, _at: &Address) -> Result<ServerLive, ServerFailure> {
        let look = || {
            if self.silent.get() > 0 {
                self.silent.set(self.silent.get() - 1);
                return Err(gone(name));
            }
            if self.adopted.borrow().contains(name) && !self.admitted.borrow().contains(name) {
                let code = ogelnates::postgres::Code::WrongPassword.into();
                return Err(ServerFailure {
                    code,
                    message: "password authentication failed".into(),
                    help: "adopt".into(),
                });
            }
            let volume = self.volume(name).ok_or_else(|| gone(name))?;
            Ok(self.contents.borrow_mut().entry(volume).or_insert_with(|| fresh(self.max_connections.get())).clone())
        };
        self.calls.call(look).await
    }

    async fn look_before_rename(
        &self,
        name: &InstanceName,
        _at: &Address,
        rename: &Change,
    ) -> Result<(), ServerFailure> {
        let look = || {
            if self.silent.get() > 0 {
                self.silent.set(self.silent.get() - 1);
                return Err(gone(name));
            }
            let volume = self.volume(name).ok_or_else(|| gone(name))?;
            match taken_name(&self.contents.borrow()[&volume], rename) {
                Some(what) => Err(ServerFailure {
                    code: ogelnates::postgres::Code::Taken.into(),
                    message: format!("{what} is there already"),
                    help: "drop it".into(),
                }),
                None => Ok(()),
            }
        };
        self.calls.call(look).await
    }

    async fn change(
        &self,
        name: &InstanceName,
        _at: &Address,
        groups: &[Vec<Change>],
        tell: &dyn Fn(Turn),
    ) -> Vec<Result<(), ServerFailure>> {
        let mut results = Vec::new();
        for (n, group) in groups.iter().enumerate() {
            tell(Turn::Begun(n));
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
            tell(Turn::Ended(n));
        }
        results
    }
}
