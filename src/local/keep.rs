//! What survives a run, in the data folder: who we are (`identity.json`, written once) and the world (`state.json`).
//! Both hold secrets, so nobody else may read them. Each file is replaced whole: a kill leaves the old or the new one.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::counters::Requests;
use super::error::Error;
use super::limits::Budget;
use super::ports;
use super::world::World;
use crate::tenancy::{Credential, Keyring, Secret};

/// Of the files' format; an older program refuses a newer one.
const VERSION: u32 = 1;

/// The data folder of one local Railway.
#[derive(Debug, Clone)]
pub struct Keep {
    dir: PathBuf,
}

/// What stays the same as long as the data folder exists.
#[derive(Serialize, Deserialize)]
struct StoredIdentity {
    version: u32,
    port: u16,
    control_port: u16,
    token: String,
    master_key: String,
}

/// Key, token and ports, which survive down and up.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Of the GraphQL endpoint.
    pub port: u16,
    /// Kept for the TCP proxy of the control database.
    pub control_port: u16,
    /// Of the account.
    pub token: Secret,
    pub master_key: Secret,
}

#[derive(Serialize)]
struct StateToStore<'s> {
    version: u32,
    requests: &'s Requests,
    budget: &'s Budget,
    world: &'s World,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// As loaded: the world and what its clients have spent.
#[derive(Deserialize)]
pub struct State {
    pub requests: Requests,
    pub budget: Budget,
    pub world: World,
}

/// The process that serves, as recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    pub pid: u32,
    /// When the kernel started it: tells it from a later process that was given the same id.
    pub started: String,
}

impl Keep {
    /// Makes the folder where it is missing. Servers run as another user when we are root, so it may be entered (not
    /// listed) by everybody; the files in it that hold secrets are closed one by one.
    pub fn open(dir: &Path) -> Result<Keep, Error> {
        let volumes = dir.join("volumes");
        fs::create_dir_all(&volumes).map_err(file("make", &volumes))?;
        let dir = dir.canonicalize().map_err(file("open", dir))?;
        for folder in [dir.clone(), dir.join("volumes")] {
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o711))
                .map_err(file("set the mode of", &folder))?;
        }
        Ok(Keep { dir })
    }

    /// A folder that is already there.
    pub fn existing(dir: &Path) -> Option<Keep> {
        let dir = dir.canonicalize().ok()?;
        dir.join("identity.json").is_file().then_some(Keep { dir })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn log(&self) -> PathBuf {
        self.dir.join("local.log")
    }

    /// The folder of a volume in one environment.
    pub fn volume(&self, environment: &str, volume: &str) -> PathBuf {
        self.dir.join("volumes").join(environment).join(volume)
    }

    pub fn backup(&self, id: &str) -> PathBuf {
        self.dir.join("backups").join(id)
    }

    /// Folders of all backups that ever were, half-made ones too.
    pub fn backups(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.dir.join("backups")).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    }

    /// Folders of all volumes that ever were, of those in their grave too.
    pub fn volumes(&self) -> Vec<PathBuf> {
        let below = |dir: &Path| -> Vec<PathBuf> {
            let entries = fs::read_dir(dir).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
        };
        below(&self.dir.join("volumes")).iter().flat_map(|environment| below(environment)).collect()
    }

    /// Held by the process that serves, for its life; the kernel lets go of it however that process ends.
    pub fn lock(&self) -> Result<Option<File>, Error> {
        let path = self.dir.join("lock");
        let lock =
            OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(file("open", &path))?;
        Ok(lock.try_lock().is_ok().then_some(lock))
    }

    /// The identity, made on first use.
    pub fn identity(&self) -> Result<Identity, Error> {
        if let Some(identity) = self.stored_identity()? {
            return Ok(identity);
        }
        let [port, control_port] = ports::find_two()?;
        let stored = StoredIdentity {
            version: VERSION,
            port,
            control_port,
            token: random_text()?,
            master_key: random_text()?,
        };
        self.write_once("identity.json", &stored)?;
        // Another process may have been first.
        self.stored_identity()?.ok_or(Error::NotRunning { data: self.dir.clone() })
    }

    pub fn stored_identity(&self) -> Result<Option<Identity>, Error> {
        Ok(self.read::<StoredIdentity>("identity.json")?.map(Identity::from))
    }

    pub fn save(&self, requests: &Requests, budget: &Budget, world: &World) -> Result<(), Error> {
        self.write("state.json", &StateToStore { version: VERSION, requests, budget, world })
    }

    pub fn load(&self) -> Result<Option<State>, Error> {
        self.read("state.json")
    }

    pub fn record_server(&self, server: &Server) -> Result<(), Error> {
        self.write("server.json", server)
    }

    pub fn server(&self) -> Option<Server> {
        serde_json::from_slice(&fs::read(self.dir.join("server.json")).ok()?).ok()
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Error> {
        let path = self.dir.join(name);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(file("read", &path)(error)),
        };
        let unreadable = |reason: String| Error::State { path: path.clone(), reason };
        let Version { version } = serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
        if version != VERSION {
            return Err(unreadable(format!("its format is {version}, this program reads {VERSION}")));
        }
        serde_json::from_slice(&text).map(Some).map_err(|error| unreadable(error.to_string()))
    }

    /// Leaves a file that is there as it is: of two processes that write at once, one wins.
    fn write_once<T: Serialize>(&self, name: &str, value: &T) -> Result<(), Error> {
        let (path, own) = (self.dir.join(name), format!("{name}.{}", uuid::Uuid::new_v4().simple()));
        self.write(&own, value)?;
        let linked = fs::hard_link(self.dir.join(&own), &path);
        fs::remove_file(self.dir.join(&own)).map_err(file("remove", &path))?;
        match linked {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(file("make", &path)(error)),
            _ => Ok(()),
        }
    }

    fn write<T: Serialize>(&self, name: &str, value: &T) -> Result<(), Error> {
        let (path, new) = (self.dir.join(name), self.dir.join(format!("{name}.new")));
        let text = serde_json::to_vec(value).map_err(|error| file("write", &path)(error.into()))?;
        let open = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new);
        open.and_then(|mut file| file.write_all(&text)).map_err(file("write", &new))?;
        fs::rename(&new, &path).map_err(file("replace", &path))
    }
}

impl From<StoredIdentity> for Identity {
    fn from(stored: StoredIdentity) -> Identity {
        Identity {
            port: stored.port,
            control_port: stored.control_port,
            token: Secret::new(stored.token),
            master_key: Secret::new(stored.master_key),
        }
    }
}

impl Identity {
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/graphql/v2", self.port)
    }

    /// What a shell has to know, by name.
    pub fn exports(&self, keep: &Keep) -> Result<Vec<(&'static str, Secret)>, Error> {
        let damaged = |reason: crate::tenancy::WeakKey| Error::Key {
            path: keep.dir.join("identity.json"),
            reason: reason.to_string(),
        };
        let keyring = Keyring::new(&self.master_key).map_err(damaged)?;
        let password = keyring.password(&Credential::Control);
        let database = format!("postgresql://postgres:{}@127.0.0.1:{}/railway", password.expose(), self.control_port);
        Ok(vec![
            ("O7S_RAILWAY_URL", Secret::new(self.url())),
            ("RAILWAY_API_TOKEN", self.token.clone()),
            ("O7S_DATABASE_URL", Secret::new(database)),
            ("O7S_MASTER_KEY", self.master_key.clone()),
        ])
    }
}

/// 32 random bytes as 43 characters that need no quoting.
fn random_text() -> Result<String, Error> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).map_err(|_| Error::NoChance)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

pub fn random_seed() -> Result<u64, Error> {
    let mut bytes = [0; 8];
    rand::fill(&mut bytes).map_err(|_| Error::NoChance)?;
    Ok(u64::from_le_bytes(bytes))
}

fn file(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::File { doing, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_that_begin_at_once_agree_on_who_they_are() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let begin = || Keep::open(folder.path()).and_then(|keep| keep.identity()).expect("an identity");
        let made: Vec<Identity> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(begin)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert!(made.iter().all(|one| one.url() == made[0].url() && one.token == made[0].token));
    }

    #[test]
    fn files_with_secrets_are_closed_to_others_and_a_damaged_one_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let keep = Keep::open(folder.path()).expect("a folder");
        keep.identity().expect("an identity");
        let path = keep.dir().join("identity.json");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        fs::write(&path, "{").expect("written");
        let error = keep.identity().expect_err("damaged");
        assert!(error.to_string().starts_with(&format!("{} cannot be read", path.display())), "{error}");
        fs::write(&path, r#"{"version":2}"#).expect("written");
        let error = keep.identity().expect_err("newer").to_string();
        assert!(error.ends_with("its format is 2, this program reads 1"), "{error}");
    }

    #[test]
    fn one_process_at_a_time_holds_the_lock() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let keep = Keep::open(folder.path()).expect("a folder");
        let held = keep.lock().expect("a lock file");
        assert!(held.is_some() && keep.lock().expect("a lock file").is_none());
        drop(held);
        assert!(keep.lock().expect("a lock file").is_some());
    }
}
