//! The command tree, with flags exactly as typed. No default here needs a file or a clock.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::planned::{Allowed, Wanted};
use super::validate::ValidateArgs;
use crate::tenancy::{Millis, TenantId};

#[derive(Debug, Parser)]
#[command(
    name = "o7s",
    version,
    about = "Makes a Railway project a multi-tenant database platform, from manifests in git",
    after_help = "\
Examples:
  o7s validate                        check manifests/ without token, key or network
  o7s bootstrap --yes                 make project, environment and control database
  o7s plan                            what would change, why, and what it costs
  o7s reconcile --once --yes          make it so
  o7s reconcile --watch --yes         keep it so

Environment:
  RAILWAY_API_TOKEN or RAILWAY_TOKEN  account or workspace token, or a project token (which wins)
  O7S_MASTER_KEY                      every password is derived from it; keep it safe
  O7S_DATABASE_URL                    the control database; found through Railway when not set
  O7S_RAILWAY_URL                     another endpoint, such as a local Railway (o7s local up --detach)
  O7S_LOG                             what to log, as in o7s=debug"
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check manifests; needs no token, key or network
    Validate(ValidateArgs),
    /// Make project, environment and control database on Railway and print its URL, which holds a password; repeats
    /// harmlessly
    Bootstrap(BootstrapArgs),
    /// Show what reconcile would do, why, and what it costs; changes nothing
    Plan(PlanArgs),
    /// Show field by field what differs from the manifests; exit codes of diff(1)
    Diff(super::diff::DiffArgs),
    /// Write all that a plan needs to know of the world as JSON without secrets, for `plan --live`
    Observe(super::observe::ObserveArgs),
    /// Make Railway, the databases and the routing table match the manifests
    Reconcile(ReconcileArgs),
    /// Make a service or database that somebody else made an instance or a tenant's; its passwords and data stay
    Adopt(super::adopt::AdoptArgs),
    /// Let go of an instance or a tenant: it stays as it is, o7s forgets it
    Release(super::release::ReleaseArgs),
    /// Write manifests of what is live, whose plan is empty; no secret is in them
    Export(super::export::ExportArgs),
    /// Show tenants, instances and their conditions
    Status(super::status::StatusArgs),
    /// Show what happened
    Events(EventsArgs),
    /// Show what tenants used: queries, rows, bytes, time, errors
    Usage(super::usage::UsageArgs),
    /// Ask for new passwords of a tenant, in its manifest
    Rotate(super::rotate::RotateArgs),
    /// Look at everything a run depends on, and say what to do where it is not well
    Doctor(super::doctor::DoctorArgs),
    /// Show who may write, or take that from a run that is stuck
    Lease(super::lease::LeaseArgs),
    /// List and show tenants, and connect as one
    Tenant(super::tenant::TenantArgs),
    /// Make, list and revoke API keys of tenants
    Key(super::key::KeyArgs),
    /// Serve clients: one address for all tenants, each led to its database
    Router(super::router::RouterArgs),
    /// Write the manifests of a first fleet
    Init(super::init::InitArgs),
    /// Say what a manifest's key, an object's fields or an error code mean
    Explain(super::explain::ExplainArgs),
    /// Print the JSON Schema of manifests, for editors
    Schema,
    /// Print a script that completes commands and flags in a shell
    Completions(super::shell::CompletionsArgs),
    /// Print the manual page
    Man(super::shell::ManArgs),
    /// Print the version
    Version(super::shell::VersionArgs),
    /// A local Railway over real Postgres processes
    #[cfg(feature = "local")]
    Local(super::local::LocalArgs),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
}

/// Where the manifests are.
#[derive(Debug, Clone, Args)]
pub struct Input {
    /// Files and folders to read; `-` is standard input
    #[arg(short = 'f', long = "file", value_name = "PATH", default_value = "manifests")]
    pub files: Vec<PathBuf>,
}

/// What commands offer whose result is a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    /// For people
    Text,
    /// One document
    Json,
    /// One line an entry
    Jsonl,
}

/// What commands offer whose result people and programs read in CI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// For people
    Text,
    /// One document
    Json,
    /// One line an object, then one about the whole
    Jsonl,
    /// Text, with annotations, job summary and outputs for GitHub Actions
    Github,
    /// For a comment, with a hidden first line to find it again by
    Markdown,
}

/// A comment on GitHub holds 65,536 characters.
pub const BYTES_MAX: u32 = 60_000;

/// How a [`ReportFormat`] is written.
#[derive(Debug, Clone, Args)]
pub struct ReportOutput {
    /// How the result is written; progress always goes to stderr
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    pub format: ReportFormat,
    /// With --format markdown: leave out whole entries to keep within this size
    #[arg(long, value_name = "N", default_value_t = BYTES_MAX, value_parser = clap::value_parser!(u32).range(2_000..=1_000_000))]
    pub max_bytes: u32,
    /// When to colour; NO_COLOR is honoured
    #[arg(long, value_enum, default_value_t = Color::Auto)]
    pub color: Color,
    /// Show every object
    #[arg(short, long)]
    pub verbose: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Each fleet needs an O7S_MASTER_KEY of its own: with one key, tenants of one name have one password in both.

Exit codes: 0 ready, 1 failed, 4 refused or not confirmed, 5 plan limit, 7 unreachable, 65 invalid manifest, 77 not allowed")]
pub struct BootstrapArgs {
    #[command(flatten)]
    pub input: Input,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// How long a service may take to come up
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub timeout: Duration,
}

#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 planned, 2 changes pending (with --detailed-exitcode), 3 something \
                        is blocked, 4 something is refused, \
                        5 a limit would be exceeded, 7 unreachable, 65 invalid manifest, 77 not allowed")]
pub struct PlanArgs {
    #[command(flatten)]
    pub wanted: Wanted,
    #[command(flatten)]
    pub output: ReportOutput,
    /// Save the plan here, for `reconcile --once --plan FILE`
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Exit 2 when changes are pending
    #[arg(long)]
    pub detailed_exitcode: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 done or nothing to do, 3 done in part, 4 refused or not confirmed, 5 a limit would be exceeded,
6 another run holds the lease, 7 unreachable, 65 invalid manifest, 77 not allowed, 130/143 stopped by a signal.
Without a terminal and without --yes nothing is changed.")]
pub struct ReconcileArgs {
    #[command(flatten)]
    pub input: Input,
    #[command(flatten)]
    pub output: ReportOutput,
    #[command(flatten)]
    pub mode: Mode,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub allowed: Allowed,
    /// Carry out this plan of `plan --out` and no other: exit 4 if it no longer fits
    #[arg(long, value_name = "FILE", conflicts_with_all = ["watch", "targets"])]
    pub plan: Option<PathBuf>,
    /// With --plan: go on where the plan made now does only what the saved one does
    #[arg(long, requires = "plan")]
    pub replan_if_safe: bool,
    /// How long to wait for another run's lease
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub lock_timeout: Duration,
    /// How long an instance may take to come up
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub timeout: Duration,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Mode {
    /// One run
    #[arg(long)]
    pub once: bool,
    /// Run again on every change, and every ten minutes
    #[arg(long)]
    pub watch: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  o7s events tenant/acme --limit 10

Exit codes: 0 shown, also when nothing has happened yet; 1 no control database yet, 7 it is unreachable, 64 no such object,
65 invalid manifest, 77 not allowed")]
pub struct EventsArgs {
    /// Only of this object, as in tenant/acme
    #[arg(value_name = "KIND/NAME")]
    pub object: Option<String>,
    #[command(flatten)]
    pub input: Input,
    #[arg(long, value_enum, default_value_t = ListFormat::Text)]
    pub format: ListFormat,
    /// At most this many, the newest
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
}

pub fn duration(text: &str) -> Result<Duration, String> {
    Millis::parse(text).map(|ms| Duration::from_millis(ms.0)).map_err(|error| format!("`{text}` {error}"))
}

pub fn deletion_key(text: &str) -> Result<(TenantId, chrono::NaiveDate), String> {
    let parts = text.strip_prefix("tenant/").and_then(|rest| rest.split_once('@'));
    let (name, date) = parts.ok_or("expected tenant/NAME@YYYY-MM-DD")?;
    let name = TenantId::parse(name).map_err(|error| format!("the tenant name `{name}` {error}"))?;
    let date =
        chrono::NaiveDate::parse_from_str(date, "%Y-%m-%d").map_err(|_| format!("`{date}` is no date YYYY-MM-DD"))?;
    Ok((name, date))
}
