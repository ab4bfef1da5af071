//! Reads the manifest files that `-f` names. Whatever cannot be read is an error with a code: a folder that is missing,
//! empty or only half readable must never look like "these tenants are gone".

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::manifest::{self, Code, Desired, FILE_BYTES_MAX, Problem, Problems, Source};

const FILES_MAX: usize = 20_000;
const TOTAL_BYTES_MAX: usize = 256 << 20;
const FOLDER_DEPTH_MAX: usize = 32;
/// How standard input is called in errors.
const STDIN: &str = "<stdin>";

/// What the manifests under `paths` ask for, or every error in them, those of reading included; `-` is standard input.
///
/// Folders are walked whole: files ending in `.yaml` or `.yml`, hidden ones left out. A file named itself is read
/// whatever it is called. Paths are printed as given, files sorted by name.
pub fn load_desired(paths: &[PathBuf]) -> Result<Desired, Problems> {
    let (sources, unread) = read_manifests(paths);
    manifest::load_beside(&sources, unread)
}

/// The same, with the texts it was read from.
pub fn load_with_sources(paths: &[PathBuf]) -> Result<(Desired, Vec<Source>), Problems> {
    let (sources, unread) = read_manifests(paths);
    let desired = manifest::load_beside(&sources, unread)?;
    Ok((desired, sources))
}

/// What could be read, and what could not.
fn read_manifests(paths: &[PathBuf]) -> (Vec<Source>, Option<Problems>) {
    let mut reading = Reading::default();
    for path in paths {
        if path.as_os_str() == "-" {
            reading.read_stdin();
        } else {
            reading.read_given(path);
        }
    }
    if paths.is_empty() {
        let message = "no path to read manifests from";
        reading.fail(Path::new("-f"), Code::Empty, message, "name a file or folder, as in `-f manifests`");
    }
    (reading.sources, Problems::of(reading.problems))
}

#[derive(Default)]
struct Reading {
    sources: Vec<Source>,
    problems: Vec<Problem>,
    /// Real paths of files read so far: one file reached in two ways is one file.
    files: BTreeSet<PathBuf>,
    /// Real paths of folders read so far: so links cannot make a circle.
    folders: BTreeSet<PathBuf>,
    bytes: usize,
    full: bool,
}

impl Reading {
    fn fail(&mut self, path: &Path, code: Code, message: impl Into<String>, help: &str) {
        self.problems.push(Problem::of_path(code, &shown(path), message, help));
    }

    fn fail_io(&mut self, path: &Path, error: &io::Error) {
        if error.kind() == io::ErrorKind::NotFound {
            self.fail(path, Code::NotFound, "no such file or folder", "check the path given with `-f`");
        } else {
            let help = "check that the user o7s runs as may read it";
            self.fail(path, Code::Unreadable, format!("cannot be read: {error}"), help);
        }
    }

    fn read_given(&mut self, path: &Path) {
        // The path a person names may be a link; only links inside the folder are held to stay inside.
        let root = match path.canonicalize() {
            Ok(root) => root,
            Err(error) => return self.fail_io(path, &error),
        };
        if !root.is_dir() {
            return self.read_file(path, &root);
        }
        if !self.folders.insert(root.clone()) {
            return;
        }
        let before = (self.files.len(), self.problems.len());
        self.walk(path, &root, 0);
        let nothing = before == (self.files.len(), self.problems.len());
        if nothing && !self.files.iter().any(|file| file.starts_with(&root)) {
            let help = "check the path given with `-f`; files end in `.yaml` or `.yml`";
            self.fail(path, Code::Empty, "the folder holds no manifest", help);
        }
    }

    fn walk(&mut self, folder: &Path, root: &Path, depth: usize) {
        if depth > FOLDER_DEPTH_MAX {
            let message = format!("folders are nested deeper than {FOLDER_DEPTH_MAX}");
            return self.fail(folder, Code::TooMany, message, "check that `-f` names the manifests only");
        }
        let entries = fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let mut entries = match entries {
            Ok(entries) => entries,
            Err(error) => return self.fail_io(folder, &error),
        };
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            if !hidden && !self.full {
                self.visit(&entry.path(), root, depth);
            }
        }
    }

    fn visit(&mut self, path: &Path, root: &Path, depth: usize) {
        let real = match path.canonicalize() {
            Ok(real) => real,
            // A dangling link that is no manifest is nobody's business here.
            Err(_) if !is_yaml(path) => return,
            Err(error) => return self.fail_io(path, &error),
        };
        let folder = real.is_dir();
        if !folder && !is_yaml(path) {
            return;
        }
        if !real.starts_with(root) {
            let message = "a symbolic link leads out of the folder";
            let help = "copy what it points at into the folder, or name that place with another `-f`";
            return self.fail(path, Code::SymlinkEscape, message, help);
        }
        if !folder {
            self.read_file(path, &real);
        } else if self.folders.insert(real) {
            self.walk(path, root, depth + 1);
        }
    }

    fn read_file(&mut self, path: &Path, real: &Path) {
        if !self.files.insert(real.to_owned()) {
            return;
        }
        if !real.is_file() {
            return self.fail(path, Code::Unreadable, "is no regular file", "remove it from the folder");
        }
        match fs::File::open(real).and_then(read_bounded) {
            Ok(bytes) => self.take(path, bytes),
            Err(error) => self.fail_io(path, &error),
        }
    }

    fn read_stdin(&mut self) {
        let path = Path::new(STDIN);
        if !self.files.insert(path.to_owned()) {
            return;
        }
        match read_bounded(io::stdin().lock()) {
            Ok(bytes) if bytes.trim_ascii().is_empty() => {
                self.fail(path, Code::Empty, "standard input is empty", "pipe a manifest into `-f -`");
            }
            Ok(bytes) => self.take(path, bytes),
            Err(error) => self.fail_io(path, &error),
        }
    }

    fn take(&mut self, path: &Path, bytes: Vec<u8>) {
        self.bytes += bytes.len();
        if self.sources.len() >= FILES_MAX || self.bytes > TOTAL_BYTES_MAX {
            self.full = true;
            let message = format!("more than {FILES_MAX} files or {} MiB", TOTAL_BYTES_MAX >> 20);
            return self.fail(path, Code::TooMany, message, "check that `-f` names the manifests only");
        }
        if bytes.len() > FILE_BYTES_MAX {
            let message = format!("the file has more than {FILE_BYTES_MAX} bytes (1 MiB)");
            return self.fail(path, Code::FileTooLarge, message, "split it into several files");
        }
        match String::from_utf8(bytes) {
            Ok(text) => self.sources.push(Source { path: shown(path), text }),
            Err(error) => self.problems.push(not_text(path, error.as_bytes(), error.utf8_error().valid_up_to())),
        }
    }
}

fn not_text(path: &Path, bytes: &[u8], valid: usize) -> Problem {
    let before = &bytes[..valid];
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = String::from_utf8_lossy(&before[start..]).chars().count() + 1;
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let help = "save it as UTF-8, or remove it from the folder";
    Problem::of_path(Code::NotText, &shown(path), "the file is not UTF-8 text", help)
        .at_line(number(line), number(column))
}

/// One byte more than allowed is enough to know that it is too much.
fn read_bounded(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "yaml" || end == "yml")
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
