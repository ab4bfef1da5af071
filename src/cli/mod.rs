//! What people type, and all that is printed. Each command is one thin file that calls one room.
//! Read: args, config, session, then the commands; render and report write what people see.

mod adopt;
mod args;
mod asked;
mod bootstrap;
pub mod codes;
mod config;
mod diff;
mod doctor;
mod events;
mod explain;
mod export;
mod github;
mod init;
mod key;
mod lease;
mod leased;
pub mod load;
#[cfg(feature = "local")]
mod local;
mod observe;
mod plan;
mod planned;
mod present;
mod progress;
mod ran;
mod reconcile;
mod release;
mod render;
mod report;
mod rotate;
mod router;
mod router_status;
mod schema;
mod session;
mod shell;
mod signals;
mod status;
mod telemetry;
mod tenant;
mod usage;
pub mod validate;

use std::io::{self, Write as _};

use clap::Parser as _;

use args::{Cli, Command};
use asked::Asked;
use report::Failure;

/// Runs the command line and gives the exit code.
pub fn main() -> u8 {
    if std::env::args_os().len() < 2 {
        let _ = <Cli as clap::CommandFactory>::command().print_help();
        return 64;
    }
    let asked = Asked::of(std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()));
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error, &asked),
    };
    telemetry::init();
    match run(cli.command) {
        Ok(code) => code,
        // The reader went away: end as the shell expects of a pipe.
        Err(failure) if failure.is_broken_pipe() => 141,
        Err(failure) => {
            let failure = failure.of_verb(&asked);
            let _ = failure.print(&asked, &mut anstream::stdout().lock(), &mut anstream::stderr().lock());
            let _ = io::stdout().flush();
            failure.exit_code()
        }
    }
}

/// What clap says: help and version with 0, a command line it cannot read with 64 (its own 2 means "changes pending"
/// here).
fn usage(error: &clap::Error, asked: &Asked) -> u8 {
    if !error.use_stderr() {
        let _ = error.print();
        return 0;
    }
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    // Where to read on is said by the failure itself.
    let text = text.split("\n\nFor more information").next().unwrap_or(text).trim_end();
    // Of a verb that does not exist there is nothing to read.
    let is_verb = |name: &str| <Cli as clap::CommandFactory>::command().find_subcommand(name).is_some();
    let failure = Failure::Usage(text.to_owned());
    let failure = if is_verb(&asked.verb) { failure.of_verb(asked) } else { failure };
    let _ = failure.print(asked, &mut anstream::stdout().lock(), &mut anstream::stderr().lock());
    failure.exit_code()
}

fn run(command: Command) -> Result<u8, Failure> {
    match command {
        Command::Validate(args) => validate::run(&args, &mut io::stdout().lock(), &mut io::stderr().lock()),
        Command::Init(args) => init::run(&args),
        Command::Explain(args) => asynchronous(explain::run(args)),
        Command::Schema => schema::run(),
        Command::Completions(args) => shell::completions(&args),
        Command::Man(args) => shell::man(&args),
        Command::Version(args) => shell::version(&args),
        #[cfg(feature = "local")]
        Command::Local(args) => local::run(args),
        Command::Bootstrap(args) => asynchronous(bootstrap::run(args)),
        Command::Plan(args) => asynchronous(plan::run(args)),
        Command::Diff(args) => asynchronous(diff::run(args)),
        Command::Observe(args) => asynchronous(observe::run(args)),
        Command::Reconcile(args) => asynchronous(reconcile::run(args)),
        Command::Adopt(args) => asynchronous(adopt::run(args)),
        Command::Export(args) => asynchronous(export::run(args)),
        Command::Release(args) => asynchronous(release::run(args)),
        Command::Status(args) => asynchronous(status::run(args)),
        Command::Router(args) => asynchronous(router::run(args)),
        Command::Rotate(args) => rotate::run(&args),
        Command::Doctor(args) => asynchronous(doctor::run(args)),
        Command::Key(args) => asynchronous(key::run(args)),
        Command::Lease(args) => asynchronous(lease::run(args)),
        Command::Tenant(args) => asynchronous(tenant::run(args)),
        Command::Events(args) => asynchronous(events::run(args)),
        Command::Usage(args) => asynchronous(usage::run(args)),
    }
}

/// One thread carries everything: the work is waiting, and hashing goes to the blocking pool.
fn asynchronous(command: impl Future<Output = Result<u8, Failure>>) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(command);
    runtime.shutdown_background();
    result
}
