//! Errors as people and programs read them: what happened, why, what to do next. Each has a stable code.

use std::io::{self, Write};
use std::path::PathBuf;

use serde::Serialize;

use super::args::ReportFormat;
use super::asked::Asked;
use super::codes::Code;
use super::config;
use super::github::{Annotation, Github, Level};
use crate::manifest::{ProblemView, Problems};
use crate::plan::{Block, Entry, Page};
use crate::tenancy::{ErrorCode, TenantId};
use crate::{operator, plan, railway, router, store};

/// Whatever ends a command early.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Manifests(Problems),
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Railway(#[from] railway::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Operator(#[from] operator::Error),
    #[error(transparent)]
    Router(#[from] router::Error),
    #[cfg(feature = "local")]
    #[error(transparent)]
    Local(#[from] crate::local::Error),
    /// Once it is known which fleet's comment the error belongs into.
    #[error("{failure}")]
    OfFleet { fleet: String, failure: Box<Failure> },
    /// Of `diff`, whose exit code for all that goes wrong is 2.
    #[error("{0}")]
    Trouble(Box<Failure>),
    /// By a signal, before there was something to report on.
    #[error("stopped on request")]
    Stopped { exit_code: u8 },
    #[error("the control database belongs to another fleet: {have}, not {want}")]
    OtherFleet { have: String, want: String },
    /// A file that holds something else than it should.
    #[error("{}: {error}", path.display())]
    File {
        path: PathBuf,
        #[source]
        error: plan::Error,
    },
    #[error("{}: {source}", path.display())]
    OpenFile { path: PathBuf, source: io::Error },
    #[error("{}: {}", .0.address, .0.message)]
    Refused(Box<plan::Problem>),
    /// Trouble on the way, with one object.
    #[error("{}", .0.message)]
    Undone(operator::Failure),
    #[error("{object} carries the marker of another fleet: {fleet}")]
    OwnedByOther { object: String, fleet: String },
    #[error("{0}")]
    Usage(String),
    /// Of the verb, once it is known which.
    #[error("{text}")]
    MisusedVerb { verb: String, text: String },
    #[error("nothing is known of {object}")]
    Unknown { object: String },
    #[error("{object} {lacks}")]
    NotMade { object: String, lacks: String, help: &'static str },
    #[error("{object} is a former name of tenant/{to}")]
    FormerName { object: String, to: TenantId },
    #[error("the lease of epoch {epoch} changed hands meanwhile")]
    ChangedHands { epoch: u64 },
    #[error("{address} does not answer as a router does: {problem}")]
    NoRouter { address: String, problem: String },
    #[error("{object} {problem}")]
    NoKeyMade { object: String, problem: String },
    #[error("nothing was written: {reason}")]
    NotRotated { reason: String },
    #[error("psql cannot be started: {source}")]
    Psql { source: io::Error },
    #[error("not overwritten: {} there already", there(.paths))]
    Exists { paths: Vec<PathBuf>, flag: &'static str },
    #[error("cannot write {}: {source}", .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<operator::Hindrance> for Failure {
    fn from(hindrance: operator::Hindrance) -> Failure {
        match hindrance {
            operator::Hindrance::Failed(failure) => Failure::Undone(failure),
            operator::Hindrance::Ended(error) => Failure::Operator(error),
        }
    }
}

impl Failure {
    pub fn of(self, fleet: &str) -> Failure {
        Failure::OfFleet { fleet: fleet.to_owned(), failure: Box::new(self) }
    }

    /// What nobody knows under that name, and who had it before.
    pub fn unknown(control: &plan::ControlLive, address: &str) -> Failure {
        let object = address.to_owned();
        let former = address.strip_prefix("tenant/").and_then(|name| TenantId::parse(name).ok());
        match former.and_then(|name| control.renames.get(&name)) {
            Some(rename) => Failure::FormerName { object, to: rename.to.clone() },
            None => Failure::Unknown { object },
        }
    }

    #[must_use]
    pub fn trouble(self) -> Failure {
        Failure::Trouble(Box::new(self))
    }

    /// Without what was learnt of it on the way out.
    fn bare(&self) -> &Failure {
        match self {
            Failure::OfFleet { failure, .. } | Failure::Trouble(failure) => failure.bare(),
            failure => failure,
        }
    }

    /// So that a wrong use says where to read on.
    pub fn of_verb(self, asked: &Asked) -> Failure {
        match self {
            Failure::Usage(text) if !asked.verb.is_empty() => Failure::MisusedVerb { verb: asked.verb.clone(), text },
            failure => failure,
        }
    }

    pub fn is_stop(&self) -> bool {
        matches!(self.bare(), Failure::Operator(operator::Error::Stopped))
    }

    /// Nobody reads the output any more.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self.bare(), Failure::Io(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    pub fn code(&self) -> ErrorCode {
        match self {
            Failure::Manifests(_) => Code::Manifests.into(),
            Failure::Config(error) => error.code().into(),
            Failure::Railway(error) => error.code().into(),
            Failure::Store(error) => error.code().into(),
            Failure::Operator(error) => error.code(),
            Failure::Router(error) => error.code().into(),
            #[cfg(feature = "local")]
            Failure::Local(error) => error.code().into(),
            Failure::OfFleet { failure, .. } | Failure::Trouble(failure) => failure.code(),
            Failure::Stopped { .. } => operator::Code::Stopped.into(),
            Failure::OtherFleet { .. } => Code::OtherFleet.into(),
            Failure::File { error, .. } => error.code().into(),
            Failure::OpenFile { .. } => Code::OpenFile.into(),
            Failure::Refused(problem) => problem.code.into(),
            Failure::Undone(failure) => failure.code,
            Failure::OwnedByOther { .. } => Code::OwnedByOther.into(),
            Failure::Exists { .. } => Code::Exists.into(),
            Failure::Write { .. } => Code::Write.into(),
            Failure::Usage(_) | Failure::MisusedVerb { .. } => Code::Usage.into(),
            Failure::Unknown { .. } => Code::Unknown.into(),
            Failure::NotMade { .. } => Code::NotMade.into(),
            Failure::FormerName { .. } => Code::FormerName.into(),
            Failure::ChangedHands { .. } => Code::ChangedHands.into(),
            Failure::NoRouter { .. } => Code::NoRouter.into(),
            Failure::NoKeyMade { .. } => Code::NoKeyMade.into(),
            Failure::NotRotated { .. } => Code::NotRotated.into(),
            Failure::Psql { .. } => Code::Psql.into(),
            Failure::Io(_) => Code::Io.into(),
        }
    }

    pub fn help(&self) -> String {
        match self {
            Failure::Manifests(_) => "each error says what to write instead; `o7s validate` shows them again".into(),
            Failure::Usage(_) => "see `o7s --help`".into(),
            Failure::MisusedVerb { verb, .. } => format!("see `o7s {verb} --help`"),
            Failure::Config(error) => error.help().to_owned(),
            Failure::Railway(error) => error.help(),
            Failure::Store(error) => error.help().to_owned(),
            Failure::Operator(error) => error.help(),
            Failure::Router(error) => error.help().to_owned(),
            #[cfg(feature = "local")]
            Failure::Local(error) => error.help(),
            Failure::OfFleet { failure, .. } | Failure::Trouble(failure) => failure.help(),
            Failure::Stopped { .. } => operator::Error::Stopped.help(),
            Failure::OtherFleet { .. } => {
                "check O7S_DATABASE_URL, O7S_MASTER_KEY and the Fleet's name: a fleet is its name under its key"
                    .into()
            }
            Failure::Unknown { .. } => {
                "no manifest declares it and the control database has none: o7s status lists what there is".into()
            }
            Failure::NotMade { help, .. } => (*help).to_owned(),
            Failure::FormerName { to, .. } => format!("ask for tenant/{to}"),
            Failure::NotRotated { .. } => {
                "set spec.credentials.generation in the manifest by hand; it only grows".into()
            }
            Failure::NoRouter { .. } => {
                "name what that router was given as --http, from where it can be reached".into()
            }
            Failure::NoKeyMade { .. } => "choose another name, or revoke a key: o7s key list shows them".into(),
            Failure::ChangedHands { .. } => "look again: o7s lease show".into(),
            Failure::Psql { .. } => {
                "install Postgres' client (package postgresql-client), or give another client o7s tenant url".into()
            }
            Failure::Refused(problem) => problem.help.clone(),
            Failure::Undone(failure) => format!("{}; it goes on where it stopped", failure.help),
            Failure::OwnedByOther { .. } => {
                "let that fleet release it first; only if it is gone for good, take it with --force-owner".into()
            }
            Failure::Exists { flag, .. } => format!("name another folder, or overwrite with {flag}"),
            Failure::Write { .. } => "check the path, its permissions and the disk".into(),
            Failure::File { error, .. } => error.help().to_owned(),
            Failure::OpenFile { .. } => "check the path, and that the user o7s runs as may read it".into(),
            Failure::Io(_) => "check the disk, or who reads the output".into(),
        }
    }

    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Manifests(_) => 65,
            Failure::Config(error) => error.exit_code(),
            Failure::Railway(error) => error.exit_code(),
            Failure::Store(error) => operator::store_exit_code(error),
            Failure::Operator(error) => error.exit_code(),
            Failure::Router(error) => error.exit_code(),
            #[cfg(feature = "local")]
            Failure::Local(_) => 1,
            Failure::OfFleet { failure, .. } => failure.exit_code(),
            Failure::Trouble(_) => 2,
            Failure::Stopped { exit_code } => *exit_code,
            Failure::OtherFleet { .. }
            | Failure::Exists { .. }
            | Failure::ChangedHands { .. }
            | Failure::NoKeyMade { .. }
            | Failure::NotRotated { .. } => 4,
            Failure::Refused(_) | Failure::OwnedByOther { .. } => 4,
            Failure::Undone(_) => 3,
            Failure::NoRouter { .. } => 7,
            Failure::File { .. } | Failure::OpenFile { .. } => 65,
            Failure::Usage(_) | Failure::MisusedVerb { .. } | Failure::Unknown { .. } => 64,
            Failure::FormerName { .. } => 64,
            Failure::NotMade { .. } | Failure::Psql { .. } | Failure::Write { .. } | Failure::Io(_) => 1,
        }
    }

    /// In the format that was asked for: text goes to `err`, everything else to `out`, where the result would have been.
    pub fn print(&self, asked: &Asked, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<()> {
        match asked.format {
            ReportFormat::Text => self.print_text(err),
            ReportFormat::Json => super::render::json(out, &self.view()),
            ReportFormat::Jsonl => super::render::json_line(out, &self.view()),
            ReportFormat::Markdown => {
                let marker = marker(&asked.verb, self.fleet());
                let page = self.page(&asked.verb).render(asked.bytes_max.saturating_sub(marker.len()));
                write!(out, "{marker}{page}")
            }
            ReportFormat::Github => {
                let outputs = [("exitcode", self.exit_code().to_string())];
                let (github, text) = (Github::of_environment(), self.text());
                match github.publish(out, &text, &self.annotations(), self.page(&asked.verb), &outputs) {
                    Ok(()) => Ok(()),
                    // The first failure keeps its exit code; that the job's files failed as well is only said.
                    Err(second) => second.print_text(err),
                }
            }
        }
    }

    fn fleet(&self) -> Option<&str> {
        match self {
            Failure::Manifests(problems) => problems.fleet().map(|fleet| fleet.as_str()),
            Failure::OfFleet { fleet, .. } => Some(fleet),
            Failure::Trouble(failure) => failure.fleet(),
            _ => None,
        }
    }

    fn annotations(&self) -> Vec<Annotation> {
        match self {
            Failure::Manifests(problems) => problems.iter().map(Annotation::of_manifest).collect(),
            Failure::OfFleet { failure, .. } | Failure::Trouble(failure) => failure.annotations(),
            _ => vec![Annotation {
                level: Level::Error,
                place: None,
                title: format!("{}: {}", self.code(), self.code().title),
                message: format!("{}\nnext: {}", self.message(), self.help()),
            }],
        }
    }

    fn page(&self, verb: &str) -> Page {
        let entries = match self {
            Failure::Manifests(problems) => problems.iter().map(|problem| Entry::one(problem.to_string())).collect(),
            Failure::OfFleet { failure, .. } | Failure::Trouble(failure) => return failure.page(verb),
            _ => vec![Entry::one(self.text())],
        };
        let head = match self {
            Failure::Manifests(problems) => format!("### o7s {verb}: {problems}\n\n"),
            _ => format!("### o7s {verb}: {}\n\n", self.code().title),
        };
        Page { head, blocks: vec![Block { language: "text", entries, ..Block::default() }] }
    }

    pub fn print_text(&self, err: &mut dyn Write) -> io::Result<()> {
        err.write_all(self.text().as_bytes())
    }

    fn text(&self) -> String {
        match self {
            Failure::Manifests(problems) => problems.render(),
            Failure::OfFleet { failure, .. } | Failure::Trouble(failure) => failure.text(),
            _ => {
                let help = self.help();
                let next = if help.is_empty() { String::new() } else { format!("next: {help}\n") };
                format!("error[{}]: {}\n{next}", self.code(), self.message())
            }
        }
    }

    /// The error and its causes on one line.
    pub fn message(&self) -> String {
        let bare = self.bare();
        let mut text = bare.to_string();
        let mut source = std::error::Error::source(bare);
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.ends_with(&cause_text) {
                text.push_str(&format!(": {cause_text}"));
            }
            source = cause.source();
        }
        text
    }

    fn view(&self) -> FailureView<'_> {
        let problems = match self.bare() {
            Failure::Manifests(problems) => Some(problems),
            _ => None,
        };
        FailureView {
            code: self.code(),
            message: self.message(),
            help: self.help(),
            exit_code: self.exit_code(),
            error_count: problems.map(Problems::count),
            errors: problems.map(Problems::views),
        }
    }
}

fn there(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    format!("{} {}", names.join(", "), if names.len() == 1 { "is" } else { "are" })
}

/// The first line of a comment: hidden, and the same for every run of the command for the fleet, so that whoever keeps
/// the comment finds it again. A fleet's name holds nothing that could end it.
pub fn marker(verb: &str, fleet: Option<&str>) -> String {
    format!("<!-- o7s:{verb}:{} -->\n", fleet.unwrap_or_default())
}

/// A failure as JSON; only failures have an `exit_code` at their top.
#[derive(Serialize)]
struct FailureView<'a> {
    code: ErrorCode,
    message: String,
    help: String,
    exit_code: u8,
    /// Of the manifests, those included that are not listed because there are very many.
    #[serde(skip_serializing_if = "Option::is_none")]
    error_count: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<Vec<ProblemView<'a>>>,
}
