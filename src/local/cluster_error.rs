//! Why a Postgres process could not be found, started or stopped on this machine.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error(
        "no Postgres {} or later found on this machine; run scripts/install-postgres.sh, or name the folder that holds \
         `initdb` and `postgres` in O7S_PG_BIN",
        super::Binaries::MAJOR_MIN
    )]
    NoBinaries,
    #[error("{} holds no `initdb` and `postgres`; O7S_PG_BIN must name the folder they are in", dir.display())]
    NotAPostgresFolder { dir: PathBuf },
    #[error("{} is Postgres {major}, and {} is the oldest that works", dir.display(), super::Binaries::MAJOR_MIN)]
    TooOld { dir: PathBuf, major: u32 },
    #[error(
        "Postgres never runs as root, and the user `{user}` it runs as may not enter {}; choose a folder all of \
         whose parents everybody may enter (for example --data /var/tmp/o7s)", dir.display()
    )]
    ClosedFolder { dir: PathBuf, user: String },
    #[error("port {port} is taken by another process")]
    PortTaken { port: u16 },
    #[error("{program} failed: {said}")]
    Failed { program: &'static str, said: String },
    #[error("Postgres in {} ended while starting: {said}", dir.display())]
    Ended { dir: PathBuf, said: String },
    #[error("Postgres in {} was not ready after {waited:?}: {said}", dir.display())]
    NotReady { dir: PathBuf, waited: Duration, said: String },
    #[error("Postgres in {} (process {pid}) does not stop", dir.display())]
    DoesNotStop { dir: PathBuf, pid: u32 },
    #[error("cannot {doing} {}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
}

impl ClusterError {
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ClusterError {
        let path = path.to_owned();
        move |source| ClusterError::Io { doing, path, source }
    }
}
