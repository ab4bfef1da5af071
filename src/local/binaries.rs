//! Finds the Postgres programs of this machine.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cluster_error::ClusterError;

/// A folder with `initdb` and `postgres` of a version that works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    dir: PathBuf,
    major: u32,
}

impl fmt::Display for Binaries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Postgres {} in {}", self.major, self.dir.display())
    }
}

impl Binaries {
    /// The oldest major version that takes every statement we send.
    pub const MAJOR_MIN: u32 = 15;

    /// `asked` (O7S_PG_BIN) is taken or refused, never passed over. Then, in this order: what `pg_config` on the PATH
    /// names, the newest Debian package, and what scripts/install-postgres.sh put into `installed`.
    pub fn find(asked: Option<&Path>, installed: &Path) -> Result<Binaries, ClusterError> {
        if let Some(dir) = asked {
            return Binaries::in_folder(dir);
        }
        // A client-only package also has a `pg_config`, so each candidate must prove itself.
        let candidates = pg_config_folder().into_iter().chain(debian_folders()).chain(find_below(installed, 8));
        candidates.map(|dir| Binaries::in_folder(&dir)).find_map(Result::ok).ok_or(ClusterError::NoBinaries)
    }

    fn in_folder(dir: &Path) -> Result<Binaries, ClusterError> {
        if !holds_programs(dir) {
            return Err(ClusterError::NotAPostgresFolder { dir: dir.to_owned() });
        }
        // Made absolute, because the server is started with another working folder.
        let dir = dir.canonicalize().map_err(ClusterError::io("open", dir))?;
        let answer = Command::new(dir.join("postgres")).arg("--version").output();
        let text = answer.map_err(ClusterError::io("run", &dir.join("postgres")))?.stdout;
        match major_of(&String::from_utf8_lossy(&text)) {
            Some(major) if major >= Self::MAJOR_MIN => Ok(Binaries { dir, major }),
            major => Err(ClusterError::TooOld { dir, major: major.unwrap_or(0) }),
        }
    }

    pub fn major(&self) -> u32 {
        self.major
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

fn holds_programs(dir: &Path) -> bool {
    ["initdb", "postgres"].iter().all(|name| dir.join(name).is_file())
}

/// Reads `postgres (PostgreSQL) 15.14 (Debian …)`, `18beta1` too.
fn major_of(version: &str) -> Option<u32> {
    let number = version.split_whitespace().nth(2)?;
    let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    number[..end].parse().ok()
}

fn pg_config_folder() -> Option<PathBuf> {
    let answer = Command::new("pg_config").arg("--bindir").output().ok()?;
    let text = String::from_utf8(answer.stdout).ok()?;
    Some(PathBuf::from(text.trim())).filter(|dir| holds_programs(dir))
}

/// Newest first; the folders are named by major version.
fn debian_folders() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, dir)| dir).collect()
}

/// Packages of npm and Python bury the programs a few folders down; `depth` bounds the walk, and links are not followed.
fn find_below(dir: &Path, depth: u32) -> Option<PathBuf> {
    if holds_programs(dir) {
        return Some(dir.to_owned());
    }
    let folders = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> =
        folders.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect();
    folders.sort();
    if depth == 0 { None } else { folders.iter().find_map(|folder| find_below(folder, depth - 1)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_what_postgres_prints() {
        assert_eq!(major_of("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n"), Some(15));
        assert_eq!(major_of("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(major_of("nonsense"), None);
    }

    #[test]
    fn a_folder_that_was_asked_for_is_refused_rather_than_passed_over() {
        let empty = tempfile::tempdir().expect("a temporary folder");
        let error = Binaries::find(Some(empty.path()), empty.path()).expect_err("nothing in it");
        assert!(matches!(error, ClusterError::NotAPostgresFolder { .. }), "{error}");
    }

    #[test]
    fn programs_are_found_below_the_folder_they_were_installed_in() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let bin = root.path().join("node_modules/@x/linux-x64/native/bin");
        std::fs::create_dir_all(&bin).expect("made");
        assert_eq!(find_below(root.path(), 8), None);
        for name in ["initdb", "postgres"] {
            std::fs::write(bin.join(name), "").expect("written");
        }
        assert_eq!(find_below(root.path(), 8), Some(bin));
    }
}
