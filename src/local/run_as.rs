//! Postgres refuses to run as root; then it runs as an unprivileged user of this machine.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;

use super::cluster_error::ClusterError;

/// The user that servers run as when we are root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RunAs {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl RunAs {
    /// `None` for whoever is not root: servers then simply run as that user. Else `postgres`, else `nobody`.
    pub(super) fn when_root() -> Result<Option<RunAs>, ClusterError> {
        if !rustix::process::getuid().is_root() {
            return Ok(None);
        }
        let users = Path::new("/etc/passwd");
        let text = fs::read_to_string(users).map_err(ClusterError::io("read", users))?;
        let found = ["postgres", "nobody"].iter().find_map(|name| RunAs::named(name, &text));
        // 65534 is what kernels call the overflow user, and needs no entry.
        Ok(Some(found.unwrap_or(RunAs { name: "nobody".to_owned(), uid: 65534, gid: 65534 })))
    }

    fn named(name: &str, passwd: &str) -> Option<RunAs> {
        let fields =
            passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == name)?;
        Some(RunAs { name: name.to_owned(), uid: fields.get(2)?.parse().ok()?, gid: fields.get(3)?.parse().ok()? })
    }

    pub(super) fn give(&self, path: &Path) -> Result<(), ClusterError> {
        chown(path, Some(self.uid), Some(self.gid)).map_err(ClusterError::io("give away", path))
    }
}

/// Fails with the first parent of `dir` that `user` may not enter, for instance `/root`.
pub(super) fn check_enterable(dir: &Path, user: &RunAs) -> Result<(), ClusterError> {
    for parent in dir.ancestors().skip(1) {
        let folder = fs::metadata(parent).map_err(ClusterError::io("open", parent))?;
        let bit = if folder.uid() == user.uid {
            0o100
        } else if folder.gid() == user.gid {
            0o010
        } else {
            0o001
        };
        if folder.mode() & bit == 0 {
            return Err(ClusterError::ClosedFolder { dir: parent.to_owned(), user: user.name.clone() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_user_is_read_from_the_list_of_users() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65533::/:/usr/sbin/nologin\n";
        let nobody = RunAs { name: "nobody".into(), uid: 65534, gid: 65533 };
        assert_eq!(RunAs::named("nobody", passwd), Some(nobody));
        assert_eq!(RunAs::named("postgres", passwd), None);
    }

    #[test]
    fn a_folder_below_a_closed_one_is_refused_and_the_closed_one_is_named() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let inner = root.path().join("closed/data");
        fs::create_dir_all(&inner).expect("made");
        let closed = root.path().join("closed");
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).expect("opened");
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("closed");
        let stranger = RunAs { name: "stranger".into(), uid: 4_000_000, gid: 4_000_000 };
        let error = check_enterable(&inner, &stranger).expect_err("closed to strangers");
        assert!(matches!(&error, ClusterError::ClosedFolder { dir, .. } if *dir == closed), "{error}");
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).expect("opened");
        assert!(check_enterable(&inner, &stranger).is_ok());
    }
}
