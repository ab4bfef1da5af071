//! Folders, links, sizes and encodings as they are met on a disk.

use std::os::unix::fs::{PermissionsExt, symlink};

use tempfile::TempDir;

use super::*;

/// A folder with these files; those whose name ends in `/` are folders.
fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, bytes) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("has a parent")).expect("folders");
        if name.ends_with('/') {
            fs::create_dir_all(path).expect("folder");
        } else {
            fs::write(path, bytes).expect("file");
        }
    }
    folder
}

fn readable(paths: &[PathBuf]) -> Vec<Source> {
    let (sources, unread) = read_manifests(paths);
    assert_eq!(unread, None);
    sources
}

/// File names as loaded, the folder's own path cut off.
fn loaded(folder: &TempDir) -> Vec<String> {
    let sources = readable(&[folder.path().to_owned()]);
    let prefix = format!("{}/", folder.path().display());
    sources.into_iter().map(|source| source.path.replacen(&prefix, "", 1)).collect()
}

fn codes(paths: &[PathBuf]) -> Vec<Code> {
    let problems = read_manifests(paths).1.expect("not readable");
    problems.iter().map(|problem| problem.code).collect()
}

#[test]
fn a_folder_is_read_whole_in_order_of_names_without_hidden_and_other_files() {
    let folder = folder(&[
        ("b.yml", b"b: 1"),
        ("a/z.yaml", b"z: 1"),
        ("a/note.txt", b"\xff"),
        (".hidden.yaml", b"h: 1"),
        (".git/x.yaml", b"x: 1"),
        ("schema/manifest.json", b"{}"),
        ("empty/", b""),
    ]);
    assert_eq!(loaded(&folder), ["a/z.yaml", "b.yml"]);
}

#[test]
fn a_relative_path_is_printed_as_given() {
    let sources = readable(&[PathBuf::from("manifests/tenants/acme.yaml")]);
    assert_eq!(sources[0].path, "manifests/tenants/acme.yaml");
    let sources = readable(&[PathBuf::from("./manifests/tenants/")]);
    assert_eq!(sources[0].path, "./manifests/tenants/acme.yaml");
}

#[test]
fn one_file_reached_in_two_ways_is_read_once() {
    let folder = folder(&[("a.yaml", b"a: 1")]);
    let file = folder.path().join("a.yaml");
    symlink(&file, folder.path().join("b.yaml")).expect("link");
    let sources = readable(&[folder.path().to_owned(), file, folder.path().to_owned()]);
    assert_eq!(sources.len(), 1);
}

#[test]
fn nothing_to_read_is_an_error_and_never_an_empty_fleet() {
    let empty = folder(&[("readme.txt", b"hello"), (".a.yaml", b"a: 1")]);
    assert_eq!(codes(&[empty.path().to_owned()]), [Code::Empty]);
    assert_eq!(codes(&[empty.path().join("missing")]), [Code::NotFound]);
    assert_eq!(codes(&[]), [Code::Empty]);
}

#[test]
fn a_link_out_of_the_folder_is_refused_and_one_inside_is_followed() {
    let outside = folder(&[("secret.yaml", b"s: 1"), ("sub/x.yaml", b"x: 1")]);
    let folder = folder(&[("real/a.yaml", b"a: 1"), ("z/", b"")]);
    symlink(folder.path().join("real"), folder.path().join("z/inside")).expect("link");
    symlink(folder.path(), folder.path().join("real/circle")).expect("link");
    assert_eq!(loaded(&folder).len(), 1);
    symlink(outside.path().join("secret.yaml"), folder.path().join("leak.yaml")).expect("link");
    symlink(outside.path().join("sub"), folder.path().join("sub")).expect("link");
    assert_eq!(codes(&[folder.path().to_owned()]), [Code::SymlinkEscape, Code::SymlinkEscape]);
}

#[test]
fn a_dangling_link_to_a_manifest_is_an_error() {
    let folder = folder(&[("a.yaml", b"a: 1")]);
    symlink("gone.yaml", folder.path().join("b.yaml")).expect("link");
    symlink("gone.txt", folder.path().join("c.txt")).expect("link");
    assert_eq!(codes(&[folder.path().to_owned()]), [Code::NotFound]);
}

#[test]
fn binary_and_oversized_files_are_reported_together_and_at_their_place() {
    let large = vec![b'#'; FILE_BYTES_MAX + 1];
    let folder = folder(&[("a.yaml", b"ok: 1\nk\xc3\xa9y: \xff\n"), ("b.yaml", &large), ("c.yaml", b"fine: 1")]);
    let problems = read_manifests(&[folder.path().to_owned()]).1.expect("not readable");
    let places: Vec<_> = problems.iter().map(|p| (p.code, p.line, p.col)).collect();
    assert_eq!(places, [(Code::NotText, 2, 6), (Code::FileTooLarge, 1, 1)]);
}

#[test]
fn what_may_not_be_read_or_is_no_file_is_an_error() {
    let folder = folder(&[("a.yaml", b"a: 1"), ("b.yaml/", b"")]);
    assert_eq!(loaded(&folder), ["a.yaml"], "a folder called b.yaml is a folder");
    let closed = folder.path().join("closed");
    fs::create_dir(&closed).expect("folder");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).expect("permissions");
    // Root may read everything, so only others see the refusal; both must not see an empty folder.
    if fs::read_dir(&closed).is_err() {
        assert_eq!(codes(&[folder.path().to_owned()]), [Code::Unreadable]);
    }
    // Else nobody but root could remove it.
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("permissions");
    assert_eq!(codes(&[PathBuf::from("/dev/null")]), [Code::Unreadable]);
}

#[test]
fn errors_of_reading_and_of_checking_come_in_one_report() {
    let folder = folder(&[("a.yaml", b"\xff"), ("b.yaml", b"kind: Tennant\n")]);
    let problems = load_desired(&[folder.path().to_owned()]).expect_err("invalid");
    let codes: Vec<_> = problems.iter().map(|problem| problem.code).collect();
    assert_eq!(codes, [Code::NotText, Code::UnknownKind]);
}
