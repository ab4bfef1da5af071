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
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::manifest::{Identify, Pooling};
use crate::tenancy::{Address, Secret};

use super::handover::Proof;
use super::identify::Rules;
use super::table::{Encryption, Entry, Login, Roles, State, Table};

/// More is no file somebody wrote.
const BYTES_MAX: u64 = 64 * 1024 * 1024;
/// A look is one system call.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
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

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    #[serde(default)]
    identify: Option<Vec<Identify>>,
    #[serde(default)]
    domain: Option<String>,
    routes: BTreeMap<String, Route>,
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
pub struct Routes {
    pub table: Table,
    pub rules: Rules,
    /// By instance: who reads the passwords of its roles.
    pub administrators: HashMap<Arc<str>, (Arc<str>, Proof)>,
}

/// Entries that are as they were in `before` keep their version; the others get `version`.
///
/// # Errors
/// The file is not there, no such file, or asks for what cannot be.
pub fn read(path: &Path, before: &Table, version: u64) -> Result<Routes, Error> {
    let unread = |source| Error::Unread { path: path.to_owned(), source };
    let bytes = std::fs::metadata(path).map_err(unread)?.len();
    if bytes > BYTES_MAX {
        return Err(Error::TooLong { path: path.to_owned(), bytes });
    }
    parse(path, &std::fs::read_to_string(path).map_err(unread)?, before, version)
}

/// [`read`] of a text that came from `path`.
///
/// # Errors
/// It is no file of routes, or asks for what cannot be.
pub fn parse(path: &Path, text: &str, before: &Table, version: u64) -> Result<Routes, Error> {
    let malformed = |reason: String| Error::Malformed { path: path.to_owned(), reason };
    let file: File = if text.trim_start().starts_with('{') {
        serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?
    } else {
        serde_yaml::from_str(text).map_err(|error| malformed(error.to_string()))?
    };
    let mut table = Table { version, ..Table::default() };
    let mut administrators = HashMap::new();
    for (name, route) in file.routes {
        let bad = |reason: String| Error::Route { path: path.to_owned(), route: name.clone(), reason };
        let mut entry = entry(&name, &route, version).map_err(bad)?;
        if let Some(administrator) = route.administrator {
            let proof = proof(administrator.auth, administrator.password, &entry).map_err(bad)?;
            administrators.insert(Arc::clone(&entry.instance), (administrator.user.into(), proof));
        }
        let old = if name == "*" { before.wildcard.as_ref() } else { before.entries.get(name.as_str()) };
        if let Some(old) = old {
            entry.version = old.version;
            if entry != **old {
                entry.version = version;
            }
        }
        let entry = match old {
            Some(old) if **old == entry => Arc::clone(old),
            _ => Arc::new(entry),
        };
        if name == "*" {
            table.wildcard = Some(entry);
        } else {
            table.entries.insert(Arc::clone(&entry.tenant), entry);
        }
    }
    let all = vec![Identify::Sni, Identify::Options, Identify::User, Identify::Database];
    let rules = Rules { identify: file.identify.unwrap_or(all), domain: file.domain, notices: false };
    Ok(Routes { table, rules, administrators })
}

/// Reads the file whenever it is another one, until `stop`; what is wrong with it is said, and changes nothing.
pub async fn follow(path: PathBuf, first: Routes, give: impl Fn(&Routes) + Send, stop: CancellationToken) {
    let mut seen = stamp(&path);
    let mut table = first.table;
    while stop.run_until_cancelled(tokio::time::sleep(LOOK_AGAIN)).await.is_some() {
        let now = stamp(&path);
        if now == seen {
            continue;
        }
        seen = now;
        match read(&path, &table, table.version + 1) {
            Ok(routes) => {
                give(&routes);
                table = routes.table;
                tracing::info!(version = table.version, routes = table.entries.len(), "the routes have changed");
            }
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "the changed routes are not used"),
        }
    }
}

/// Differs for another file, and for another text in nearly every case.
fn stamp(path: &Path) -> Option<(u64, u64, i64, i64)> {
    use std::os::unix::fs::MetadataExt as _;
    let of = std::fs::metadata(path).ok()?;
    Some((of.ino(), of.len(), of.mtime(), of.mtime_nsec()))
}

fn entry(name: &str, route: &Route, version: u64) -> Result<Entry, String> {
    let endpoints: Vec<Address> = match &route.endpoint {
        OneOrMore::One(one) => vec![address(one)?],
        OneOrMore::More(more) => more.iter().map(|text| address(text)).collect::<Result<_, _>>()?,
    };
    let Some(first) = endpoints.first() else { return Err("`endpoint` is an empty list".to_owned()) };
    let database = route.database.as_deref().unwrap_or(name);
    let mut entry = Entry {
        tenant: name.into(),
        instance: first.to_string().into(),
        database: database.into(),
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
        roles: Roles { named: BTreeMap::new(), others: None },
        server_connections: route.server_connections.unwrap_or(DEFAULT_SERVER_CONNECTIONS).max(1),
        tier: "".into(),
        allowance: None,
        upgrade: None,
        version,
    };
    for (role, how) in &route.roles {
        let login = match (how.auth, &how.password) {
            (Some(Auth::Lookup), None) => Login::LookUp,
            (None, Some(password)) => Login::Password(Secret::new(password)),
            (Some(Auth::Trust), None) if is_local(&entry) => Login::Trust,
            (Some(Auth::Trust), None) => {
                return Err(format!("role {role:?}: `auth: trust` is for the loopback only"));
            }
            _ => return Err(format!("role {role:?} needs either `auth: trust`, `auth: lookup` or `password`")),
        };
        if role == "*" {
            entry.roles.others = Some(login);
        } else {
            entry.roles.named.insert(role.as_str().into(), login);
        }
    }
    Ok(entry)
}

fn proof(auth: Option<Auth>, password: Option<String>, entry: &Entry) -> Result<Proof, String> {
    match (auth, password) {
        (None, Some(password)) => Ok(Proof::Password(Secret::new(password))),
        (Some(Auth::Trust), None) if is_local(entry) => Ok(Proof::Trust),
        _ => Err("the administrator needs `password`, or, on the loopback, `auth: trust`".to_owned()),
    }
}

fn is_local(entry: &Entry) -> bool {
    let local = |host: &str| host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    entry.endpoints.iter().all(|address| local(&address.host))
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

    fn read_text(text: &str, before: &Table, version: u64) -> Result<Routes, Error> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("routes.yaml");
        std::fs::write(&path, text).expect("written");
        read(&path, before, version)
    }

    const TWO: &str = "routes:\n  acme: { endpoint: '127.0.0.1:5432', roles: { acme: { auth: trust } } }\n  \
        '*': { endpoint: ['[::1]:5432', '127.0.0.1:5433'], database: all, roles: { '*': { auth: lookup } } }\n";

    #[test]
    fn what_did_not_change_keeps_its_version() {
        let one = read_text(TWO, &Table::default(), 1).expect("good");
        let acme = one.table.get("acme").expect("there");
        assert_eq!((&*acme.database, &*acme.instance, acme.version), ("acme", "127.0.0.1:5432", 1));
        assert_eq!(acme.roles.login("acme"), Some(&Login::Trust));
        assert_eq!(acme.roles.login("other"), None);
        let wild = one.table.wild("any").expect("the wildcard");
        assert_eq!((&*wild.tenant, wild.endpoints.len()), ("any", 2));
        let two = read_text(&TWO.replace("5433", "5434"), &one.table, 2).expect("good");
        assert!(Arc::ptr_eq(&acme, &two.table.get("acme").expect("there")));
        assert_eq!(two.table.wildcard.expect("there").version, 2);
    }

    #[test]
    fn json_of_the_same_shape_is_read() {
        let json = r#"{"routes": {"a": {"endpoint": "localhost:1", "roles": {"r": {"password": "x"}}}}}"#;
        assert_eq!(read_text(json, &Table::default(), 1).expect("good").table.entries.len(), 1);
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
            let error = read_text(text, &Table::default(), 1).err().expect(text).to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
