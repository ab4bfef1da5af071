//! A file of routes in place of a control database: for development, benchmarks, and databases nobody reconciles.
//!
//! ```yaml
//! routes:
//!   acme:
//!     endpoint: 127.0.0.1:5432        # or a list: the writable one is kept to
//!     database: acme                  # the route's own name where it is left out
//!     pooling: transaction
//!     serverConnections: 20
//!     tls: false
//!     roles:
//!       acme: { password: secret }    # or { auth: trust }, on the loopback only, or { auth: lookup }
//!     administrator: { user: postgres, auth: trust }   # reads the passwords of roles that are looked up
//!   "*": { endpoint: 127.0.0.1:5432, roles: { "*": { auth: trust } } }
//! ```
//!
//! JSON of the same shape is read as well, and ten times as fast.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecursiveMode, Watcher as _};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::manifest::{Identify, Pooling};
use crate::tenancy::{Address, Secret};

use super::handover::Proof;
use super::identify::Rules;
use super::table::{Encryption, Entry, Login, Names, Roles, State, Table};

/// More is no file somebody wrote.
const BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Where nothing tells that the file has changed. A look is one system call.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
const DEFAULT_SERVER_CONNECTIONS: u32 = 20;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {}", .path.display())]
    Unread { path: PathBuf, source: std::io::Error },
    #[error("{}: the file has {bytes} bytes, {BYTES_MAX} are the most", .path.display())]
    TooLong { path: PathBuf, bytes: u64 },
    #[error("{}: {reason}", .path.display())]
    Malformed { path: PathBuf, reason: String },
    #[error("{}: route {route:?}: {reason}", .path.display())]
    Route { path: PathBuf, route: String, reason: String },
}

/// With its routes as they are written, or read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File<R> {
    #[serde(default)]
    identify: Option<Vec<Identify>>,
    #[serde(default)]
    domain: Option<String>,
    routes: BTreeMap<String, R>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Route {
    endpoint: OneOrMore,
    #[serde(default)]
    database: Option<String>,
    #[serde(default)]
    pooling: Option<Pooling>,
    #[serde(default)]
    server_connections: Option<u32>,
    #[serde(default)]
    tls: bool,
    #[serde(default)]
    roles: BTreeMap<String, Role>,
    #[serde(default)]
    administrator: Option<Administrator>,
    #[serde(default)]
    state: Word,
    /// With `state: paused`: how long what runs may take to end.
    #[serde(default)]
    patience_seconds: Option<u32>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "camelCase")]
enum Word {
    #[default]
    Active,
    Paused,
    Suspended,
    Retired,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Role {
    #[serde(default)]
    auth: Option<Auth>,
    #[serde(default)]
    password: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Administrator {
    user: String,
    #[serde(default)]
    auth: Option<Auth>,
    #[serde(default)]
    password: Option<String>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
enum Auth {
    Trust,
    Lookup,
}

/// All a file says.
#[derive(Default)]
pub struct Routes {
    pub table: Table,
    pub rules: Rules,
    /// By instance: who reads the passwords of its roles.
    pub administrators: HashMap<Arc<str>, (Arc<str>, Proof)>,
    written: Written,
}

/// Digests of the routes as they stand in the file, by name: of 10,000 routes only those that changed are read again. A route
/// with an administrator always is.
#[derive(Default)]
struct Written {
    /// Its keys are random, so nobody writes a route that passes for another.
    digest: RandomState,
    of: HashMap<Arc<str>, u64>,
}

impl Routes {
    fn entry(&self, name: &str) -> Option<&Arc<Entry>> {
        if name == "*" { self.table.wildcard.as_ref() } else { self.table.entries.get(name) }
    }

    fn put(&mut self, name: &str, entry: Arc<Entry>, written: Option<u64>) {
        if let Some(written) = written {
            self.written.of.insert(Arc::clone(&entry.tenant), written);
        }
        if name == "*" {
            self.table.wildcard = Some(entry);
        } else {
            self.table.entries.insert(Arc::clone(&entry.tenant), entry);
        }
    }
}

/// Entries that are as they were in `before` keep their version; the others get the next one.
///
/// # Errors
/// The file is not there, no such file, or asks for what cannot be.
pub fn read(path: &Path, before: &Routes) -> Result<Routes, Error> {
    let unread = |source| Error::Unread { path: path.to_owned(), source };
    let bytes = std::fs::metadata(path).map_err(unread)?.len();
    if bytes > BYTES_MAX {
        return Err(Error::TooLong { path: path.to_owned(), bytes });
    }
    parse(path, &std::fs::read_to_string(path).map_err(unread)?, before)
}

/// [`read`] of a text that came from `path`.
///
/// # Errors
/// It is no file of routes, or asks for what cannot be.
pub fn parse(path: &Path, text: &str, before: &Routes) -> Result<Routes, Error> {
    let malformed = |reason: String| Error::Malformed { path: path.to_owned(), reason };
    let mut reading = Reading { path, before, names: Names::default(), routes: Routes::default() };
    reading.routes.table.version = before.table.version + 1;
    reading.routes.table.entries.reserve(before.table.entries.len());
    reading.routes.written.of.reserve(before.written.of.len());
    reading.routes.written.digest = before.written.digest.clone();
    let (identify, domain);
    if text.trim_start().starts_with('{') {
        let wrong = |error: serde_json::Error| malformed(error.to_string());
        let file: File<&RawValue> = serde_json::from_str(text).map_err(wrong)?;
        (identify, domain) = (file.identify, file.domain);
        for (name, raw) in file.routes {
            let written = before.written.digest.hash_one(raw.get());
            if before.written.of.get(name.as_str()) == Some(&written)
                && let Some(entry) = before.entry(&name)
            {
                reading.routes.put(&name, Arc::clone(entry), Some(written));
                continue;
            }
            let Ok(route) = serde_json::from_str(raw.get()) else {
                // Read as a whole it says at which line.
                let whole = serde_json::from_str::<File<Route>>(text);
                return Err(malformed(whole.err().map_or_else(String::new, |error| error.to_string())));
            };
            reading.take(&name, route, Some(written))?;
        }
    } else {
        let file: File<Route> = serde_yaml::from_str(text).map_err(|error| malformed(error.to_string()))?;
        (identify, domain) = (file.identify, file.domain);
        for (name, route) in file.routes {
            reading.take(&name, route, None)?;
        }
    }
    let all = vec![Identify::Sni, Identify::Options, Identify::User, Identify::Database];
    reading.routes.rules = Rules { identify: identify.unwrap_or(all), domain, notices: false, require_tls: false };
    Ok(reading.routes)
}

struct Reading<'a> {
    path: &'a Path,
    before: &'a Routes,
    names: Names,
    routes: Routes,
}

impl Reading<'_> {
    fn take(&mut self, name: &str, route: Route, written: Option<u64>) -> Result<(), Error> {
        let bad = |reason: String| Error::Route { path: self.path.to_owned(), route: name.to_owned(), reason };
        let mut entry = entry(name, &route, &mut self.names).map_err(bad)?;
        let administered = route.administrator.is_some();
        if let Some(administrator) = route.administrator {
            let proof = proof(administrator.auth, administrator.password, &entry).map_err(bad)?;
            self.routes.administrators.insert(Arc::clone(&entry.instance), (administrator.user.into(), proof));
        }
        let old = self.before.entry(name);
        entry.version = old.map_or(0, |old| old.version);
        let entry = match old {
            Some(old) if **old == entry => Arc::clone(old),
            _ => Arc::new(Entry { version: self.routes.table.version, ..entry }),
        };
        self.routes.put(name, entry, written.filter(|_| !administered));
        Ok(())
    }
}

/// Reads the file whenever it is another one, until `stop`; what is wrong with it is said, and changes nothing.
pub async fn follow(path: PathBuf, first: Routes, give: impl Fn(&Routes) + Send, stop: CancellationToken) {
    let mut seen = stamp(&path);
    let mut routes = first;
    let changed = Arc::new(Notify::new());
    let watching = watch(&path, Arc::clone(&changed));
    if let Err(error) = &watching {
        tracing::warn!(%error, "changes of the routes are seen within a second, not at once");
    }
    let look = async || drop(tokio::time::timeout(LOOK_AGAIN, changed.notified()).await);
    while stop.run_until_cancelled(look()).await.is_some() {
        let now = stamp(&path);
        if now == seen {
            continue;
        }
        seen = now;
        match read(&path, &routes) {
            Ok(new) => {
                give(&new);
                routes = new;
                let (version, count) = (routes.table.version, routes.table.entries.len());
                tracing::info!(version, routes = count, "the routes have changed");
            }
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "the changed routes are not used"),
        }
    }
}

/// Its folder is watched, because a file that is replaced is another file. Writing in it counts once it is closed.
fn watch(path: &Path, changed: Arc<Notify>) -> notify::Result<notify::RecommendedWatcher> {
    let tell = move |event: notify::Result<notify::Event>| {
        let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
        if event
            .is_ok_and(|event| event.kind == written || matches!(event.kind, EventKind::Modify(ModifyKind::Name(_))))
        {
            changed.notify_one();
        }
    };
    let mut watcher = notify::recommended_watcher(tell)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// Differs for another file, and for another text in nearly every case.
fn stamp(path: &Path) -> Option<(u64, u64, i64, i64)> {
    use std::os::unix::fs::MetadataExt as _;
    let of = std::fs::metadata(path).ok()?;
    Some((of.ino(), of.len(), of.mtime(), of.mtime_nsec()))
}

fn entry(name: &str, route: &Route, names: &mut Names) -> Result<Entry, String> {
    let endpoints: Vec<Address> = match &route.endpoint {
        OneOrMore::One(one) => vec![address(one)?],
        OneOrMore::More(more) => more.iter().map(|text| address(text)).collect::<Result<_, _>>()?,
    };
    let Some(first) = endpoints.first() else { return Err("`endpoint` is an empty list".to_owned()) };
    let tenant: Arc<str> = name.into();
    let local = endpoints.iter().all(is_local);
    let mut others = None;
    let mut named = Vec::new();
    for (role, how) in &route.roles {
        let login = match (how.auth, &how.password) {
            (Some(Auth::Lookup), None) => Login::LookUp,
            (None, Some(password)) => Login::Password(Secret::new(password)),
            (Some(Auth::Trust), None) if local => Login::Trust,
            (Some(Auth::Trust), None) => {
                return Err(format!("role {role:?}: `auth: trust` is for the loopback only"));
            }
            _ => return Err(format!("role {role:?} needs either `auth: trust`, `auth: lookup` or `password`")),
        };
        if role == "*" {
            others = Some(login);
        } else {
            named.push((names.get(role), login));
        }
    }
    Ok(Entry {
        instance: names.get(&first.to_string()),
        database: route
            .database
            .as_deref()
            .filter(|other| *other != name)
            .map_or_else(|| Arc::clone(&tenant), |other| names.get(other)),
        endpoints,
        encryption: if route.tls { Encryption::Required } else { Encryption::Disabled },
        pooling: route.pooling.unwrap_or(Pooling::Transaction),
        state: match route.state {
            Word::Active => State::Active,
            Word::Paused => {
                State::Paused { patience: Duration::from_secs(u64::from(route.patience_seconds.unwrap_or(10))) }
            }
            Word::Suspended => State::Suspended,
            Word::Retired => State::Retired,
        },
        roles: Roles { named: named.into_iter().collect(), others },
        server_connections: route.server_connections.unwrap_or(DEFAULT_SERVER_CONNECTIONS).max(1),
        tier: names.get(""),
        allowance: None,
        upgrade: None,
        version: 0,
        tenant,
    })
}

fn proof(auth: Option<Auth>, password: Option<String>, entry: &Entry) -> Result<Proof, String> {
    match (auth, password) {
        (None, Some(password)) => Ok(Proof::Password(Secret::new(password))),
        (Some(Auth::Trust), None) if entry.endpoints.iter().all(is_local) => Ok(Proof::Trust),
        _ => Err("the administrator needs `password`, or, on the loopback, `auth: trust`".to_owned()),
    }
}

fn is_local(address: &Address) -> bool {
    address.host == "localhost" || address.host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// `host:port`, the host in brackets where it has colons of its own.
fn address(text: &str) -> Result<Address, String> {
    let bad = || format!("endpoint {text:?} is not of the form host:port");
    let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() {
        return Err(bad());
    }
    Ok(Address { host: host.to_owned(), port: port.parse().map_err(|_| bad())? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str, before: &Routes) -> Result<Routes, Error> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("routes.yaml");
        std::fs::write(&path, text).expect("written");
        read(&path, before)
    }

    const TWO: &str = "routes:\n  acme: { endpoint: '127.0.0.1:5432', roles: { acme: { auth: trust } } }\n  \
        '*': { endpoint: ['[::1]:5432', '127.0.0.1:5433'], database: all, roles: { '*': { auth: lookup } } }\n";

    #[test]
    fn what_did_not_change_keeps_its_version() {
        let one = read_text(TWO, &Routes::default()).expect("good");
        let acme = one.table.get("acme").expect("there");
        assert_eq!((&*acme.database, &*acme.instance, acme.version), ("acme", "127.0.0.1:5432", 1));
        assert_eq!(acme.roles.login("acme"), Some(&Login::Trust));
        assert_eq!(acme.roles.login("other"), None);
        let wild = one.table.wild("any").expect("the wildcard");
        assert_eq!((&*wild.tenant, wild.endpoints.len()), ("any", 2));
        let two = read_text(&TWO.replace("5433", "5434"), &one).expect("good");
        assert!(Arc::ptr_eq(&acme, &two.table.get("acme").expect("there")));
        assert_eq!(two.table.wildcard.expect("there").version, 2);
    }

    #[test]
    fn json_of_the_same_shape_is_read() {
        let json = r#"{"routes": {"a": {"endpoint": "localhost:1", "roles": {"r": {"password": "x"}}}}}"#;
        assert_eq!(read_text(json, &Routes::default()).expect("good").table.entries.len(), 1);
    }

    #[test]
    fn a_route_that_is_written_as_before_is_the_same_entry() {
        let text = |port: u16, password: &str| {
            let a = format!(r#""a": {{"endpoint": "localhost:{port}", "roles": {{"r": {{"password": "x"}}}}}}"#);
            let administrator = format!(r#""administrator": {{"user": "postgres", "password": "{password}"}}"#);
            format!(r#"{{"routes": {{{a}, "b": {{"endpoint": "localhost:9", {administrator}}}}}}}"#)
        };
        let one = read_text(&text(1, "x"), &Routes::default()).expect("good");
        let two = read_text(&text(1, "y"), &one).expect("good");
        let three = read_text(&text(2, "y"), &two).expect("good");
        let entry = |routes: &Routes, name: &str| routes.table.get(name).expect("there");
        assert!(Arc::ptr_eq(&entry(&one, "a"), &entry(&two, "a")));
        assert_eq!((entry(&three, "a").endpoints[0].port, entry(&three, "a").version), (2, 3));
        assert!(Arc::ptr_eq(&entry(&one, "b"), &entry(&three, "b")));
        let (_, proof) = &three.administrators["localhost:9"];
        assert!(matches!(proof, Proof::Password(password) if password.expose() == "y"));
        // What is wrong in one route is told with its line in the file.
        let wrong = text(1, "y").replace("\"b\"", "\n\"b\"").replace("localhost:9\"", "localhost:9\", \"pool\": 3");
        let error = read_text(&wrong, &three).err().expect("an unknown key").to_string();
        assert!(error.contains("pool") && error.contains("line 2"), "{error}");
    }

    #[tokio::test]
    async fn a_file_that_is_replaced_is_read_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("routes.yaml");
        std::fs::write(&path, TWO).expect("written");
        let first = read(&path, &Routes::default()).expect("good");
        let (told, mut ports) = tokio::sync::mpsc::channel(8);
        let give = move |routes: &Routes| {
            let _ = told.try_send(routes.table.wildcard.as_ref().map(|wild| wild.endpoints[1].port));
        };
        let stop = CancellationToken::new();
        let following = follow(path.clone(), first, give, stop.clone());
        let writing = async {
            for (port, replace) in [(6001, true), (6002, false)] {
                let text = TWO.replace("5433", &port.to_string());
                if replace {
                    std::fs::write(folder.path().join("new"), text).expect("written");
                    std::fs::rename(folder.path().join("new"), &path).expect("renamed");
                } else {
                    std::fs::write(&path, text).expect("written");
                }
                assert_eq!(ports.recv().await, Some(Some(port)));
            }
            stop.cancel();
        };
        tokio::join!(following, writing);
    }

    #[test]
    fn mistakes_are_named_with_their_route() {
        for (text, wanted) in [
            ("routes: { a: { endpoint: 'db.example:5432', roles: { r: { auth: trust } } } }", "loopback only"),
            ("routes: { a: { endpoint: 'nowhere' } }", "host:port"),
            ("routes: { a: { endpoint: [] } }", "empty list"),
            ("routes: { a: { endpoint: 'x:1', roles: { r: {} } } }", "needs either"),
            ("routes: { a: { endpoint: 'x:1', pool: 3 } }", "pool"),
            ("routes:\n  a: {", "routes.yaml"),
        ] {
            let error = read_text(text, &Routes::default()).err().expect(text).to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
