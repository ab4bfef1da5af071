//! What GitHub Actions reads of a job: annotations on its output, the job's summary, outputs for later steps.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::config;
use super::report::Failure;
use crate::manifest::{Origin, Problem};
use crate::plan::Page;

/// The runner drops more than ten of a level in one step.
const SHOWN_MAX: usize = 10;
/// The runner refuses a longer summary of one step whole.
const SUMMARY_BYTES_MAX: usize = 1 << 20;
/// Below this a summary says nothing worth having.
const SUMMARY_BYTES_MIN: usize = 2_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Error,
    Warning,
    Notice,
}

impl Level {
    const ALL: [Level; 3] = [Level::Error, Level::Warning, Level::Notice];

    fn as_str(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Notice => "notice",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    pub level: Level,
    /// File, line and column, counted from 1.
    pub place: Option<(String, u32, Option<u32>)>,
    pub title: String,
    pub message: String,
}

impl Annotation {
    pub fn at(level: Level, origin: Option<&Origin>, title: String, message: String) -> Annotation {
        let place = origin.map(|origin| (origin.file.to_string(), origin.line, None));
        Annotation { level, place, title, message }
    }

    pub fn of_manifest(problem: &Problem) -> Annotation {
        let Problem { code, path, line, col, message, help, .. } = problem;
        Annotation {
            level: Level::Error,
            place: Some((path.to_string(), *line, Some(*col))),
            title: format!("{code}: {}", code.entry().title),
            message: format!("{message}\n{help}"),
        }
    }

    /// One workflow command; `file` says how the place's file is called in the repository.
    fn command(&self, file: impl Fn(&str) -> String) -> String {
        let mut properties = Vec::new();
        if let Some((path, line, column)) = &self.place {
            properties.push(format!("file={}", property(&file(path))));
            properties.push(format!("line={line}"));
            properties.extend(column.map(|column| format!("col={column}")));
        }
        properties.push(format!("title={}", property(&self.title)));
        format!("::{} {}::{}\n", self.level.as_str(), properties.join(","), data(&self.message))
    }
}

/// Escapes what ends a message: the runner unescapes exactly these.
fn data(text: &str) -> String {
    text.trim_end().replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// Where this job wants what.
#[derive(Debug, Clone, Default)]
pub struct Github {
    pub summary: Option<PathBuf>,
    pub output: Option<PathBuf>,
    /// The repository's root.
    pub workspace: Option<PathBuf>,
}

impl Github {
    pub fn of_environment() -> Github {
        config::github()
    }

    /// Annotations, summary and outputs. `text` is what people read in the log: until it ends no line of it is taken for
    /// a command, whatever a manifest or a server put into it.
    pub fn publish(
        &self,
        out: &mut dyn Write,
        text: &str,
        annotations: &[Annotation],
        mut page: Page,
        outputs: &[(&str, String)],
    ) -> Result<(), Failure> {
        let token = uuid::Uuid::new_v4();
        write!(out, "::stop-commands::{token}\n{}\n::{token}::\n", text.trim_end())?;
        let mut left_out = Vec::new();
        for level in Level::ALL {
            let these: Vec<&Annotation> = annotations.iter().filter(|one| one.level == level).collect();
            for annotation in these.iter().take(SHOWN_MAX) {
                out.write_all(annotation.command(|path| self.in_repository(path)).as_bytes())?;
            }
            if these.len() > SHOWN_MAX {
                left_out.push(format!("{} more of level {}", these.len() - SHOWN_MAX, level.as_str()));
            }
        }
        out.flush()?;
        if !left_out.is_empty() {
            page.head
                .push_str(&format!("Not annotated, because GitHub shows ten of each: {}.\n\n", left_out.join(", ")));
        }
        self.summarise(&page)?;
        self.set(outputs)
    }

    fn summarise(&self, page: &Page) -> Result<(), Failure> {
        let Some(path) = &self.summary else { return Ok(()) };
        let written = fs::metadata(path).map_or(0, |file| usize::try_from(file.len()).unwrap_or(usize::MAX));
        match SUMMARY_BYTES_MAX.saturating_sub(written) {
            room if room < SUMMARY_BYTES_MIN => Ok(()),
            room => append(path, &page.render(room)),
        }
    }

    fn set(&self, outputs: &[(&str, String)]) -> Result<(), Failure> {
        let Some(path) = &self.output else { return Ok(()) };
        // Numbers and digests: nothing that could begin another line.
        let lines: String = outputs.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        append(path, &lines)
    }

    /// Relative to the repository's root, as annotations want it; a file elsewhere stays as it is called.
    fn in_repository(&self, path: &str) -> String {
        let relative = || {
            let root = self.workspace.as_ref()?.canonicalize().ok()?;
            let file = Path::new(path).canonicalize().ok()?;
            Some(file.strip_prefix(root).ok()?.to_str()?.to_owned())
        };
        relative().unwrap_or_else(|| path.to_owned())
    }
}

fn append(path: &Path, text: &str) -> Result<(), Failure> {
    let file = OpenOptions::new().append(true).create(true).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|source: io::Error| Failure::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotation(level: Level, message: &str) -> Annotation {
        let place = Some(("a,b:c%.yaml".to_owned(), 3, Some(7)));
        Annotation { level, place, title: "O7S1101: unknown key".into(), message: message.into() }
    }

    fn published(github: &Github, annotations: &[Annotation], text: &str) -> String {
        let mut out = Vec::new();
        let page = Page { head: "# head\n\n".into(), blocks: Vec::new() };
        github.publish(&mut out, text, annotations, page, &[("exitcode", "4".into())]).expect("published");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_message_and_its_properties_are_escaped_as_the_runner_unescapes() {
        let out = published(&Github::default(), &[annotation(Level::Error, "100 %\r\nnext: a, b\n")], "");
        let command = out.lines().last().expect("a line");
        assert_eq!(
            command,
            "::error file=a%2Cb%3Ac%25.yaml,line=3,col=7,title=O7S1101%3A unknown key::100 %25%0D%0Anext: a, b"
        );
    }

    #[test]
    fn no_line_of_the_text_is_a_command_whatever_it_says() {
        let out = published(&Github::default(), &[], "::error::forged\n::stop-commands::x\n::x::");
        let lines: Vec<&str> = out.lines().collect();
        let token = lines[0].strip_prefix("::stop-commands::").expect("stopped first");
        assert_eq!(lines.last(), Some(&format!("::{token}::").as_str()));
        assert_eq!(lines.iter().filter(|line| line.contains(token)).count(), 2);
        assert_ne!(published(&Github::default(), &[], "").lines().next(), Some(lines[0]), "a token nobody can know");
    }

    #[test]
    fn ten_of_each_level_are_shown_and_the_rest_counted_in_the_summary() {
        let folder = tempfile::tempdir().expect("a folder");
        let (summary, output) = (folder.path().join("summary"), folder.path().join("output"));
        fs::write(&output, "before=1\n").expect("written");
        let github = Github { summary: Some(summary.clone()), output: Some(output.clone()), workspace: None };
        let many: Vec<_> = (0..12).map(|_| annotation(Level::Error, "x")).collect();
        let out = published(&github, &[many, vec![annotation(Level::Notice, "y")]].concat(), "");
        assert_eq!((out.matches("::error ").count(), out.matches("::notice ").count()), (10, 1));
        let summary = fs::read_to_string(summary).expect("written");
        assert_eq!(summary, "# head\n\nNot annotated, because GitHub shows ten of each: 2 more of level error.\n\n");
        assert_eq!(fs::read_to_string(output).expect("written"), "before=1\nexitcode=4\n");
    }

    #[test]
    fn a_summary_never_grows_past_what_the_runner_takes() {
        let folder = tempfile::tempdir().expect("a folder");
        let summary = folder.path().join("summary");
        fs::write(&summary, "x".repeat(SUMMARY_BYTES_MAX - 10)).expect("written");
        let github = Github { summary: Some(summary.clone()), ..Github::default() };
        published(&github, &[], "");
        assert!(fs::metadata(&summary).expect("there").len() <= SUMMARY_BYTES_MAX as u64);
    }

    #[test]
    fn files_are_called_by_their_place_in_the_repository() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("manifests/acme.yaml");
        fs::create_dir(folder.path().join("manifests")).expect("made");
        fs::write(&file, "").expect("written");
        let github = Github { workspace: Some(folder.path().to_owned()), ..Github::default() };
        assert_eq!(github.in_repository(file.to_str().expect("text")), "manifests/acme.yaml");
        assert_eq!(github.in_repository("no/such/file"), "no/such/file");
    }
}
