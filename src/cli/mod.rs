//! What people type, and all that is printed. Each command is one thin file that calls one room.
//! Read: args, config, session, then the commands; render and report write what people see.

mod args;
mod bootstrap;
pub mod codes;
mod config;
mod diff;
mod events;
mod explain;
mod init;
mod lease;
pub mod load;
#[cfg(feature = "local")]
mod local;
mod observe;
mod plan;
mod planned;
mod progress;
mod reconcile;
mod render;
mod report;
mod schema;
mod session;
mod shell;
mod signals;
mod status;
mod telemetry;
mod tenant;
pub mod validate;

use std::io::{self, Write as _};

use clap::{Parser as _, ValueEnum as _};

use args::{Cli, Command, ReportFormat};
use report::Failure;

/// Runs the command line and gives the exit code.
pub fn main() -> u8 {
    if std::env::args_os().len() < 2 {
        let _ = <Cli as clap::CommandFactory>::command().print_help();
        return 64;
    }
    let format = asked_format(std::env::args());
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error, format),
    };
    telemetry::init();
    match run(cli.command) {
        Ok(code) => code,
        // The reader went away: end as the shell expects of a pipe.
        Err(Failure::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => 141,
        Err(failure) => {
            let _ = failure.print(format, &mut anstream::stdout().lock(), &mut anstream::stderr().lock());
            let _ = io::stdout().flush();
            failure.exit_code()
        }
    }
}

/// The value of `--format` as typed: whatever ends a command, also one that could not be read, is told in that format.
fn asked_format(args: impl Iterator<Item = String>) -> ReportFormat {
    let mut asked = ReportFormat::Text;
    let mut args = args.skip(1).take_while(|arg| arg != "--");
    while let Some(arg) = args.next() {
        let value = match arg.strip_prefix("--format") {
            Some("") => args.next(),
            Some(rest) => rest.strip_prefix('=').map(str::to_owned),
            None => None,
        };
        asked = value.and_then(|value| ReportFormat::from_str(&value, false).ok()).unwrap_or(asked);
    }
    asked
}

/// What clap says: help and version with 0, a command line it cannot read with 64 (its own 2 means "changes pending"
/// here).
fn usage(error: &clap::Error, format: ReportFormat) -> u8 {
    if !error.use_stderr() {
        let _ = error.print();
        return 0;
    }
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    // Where to read on is said by the failure itself.
    let text = text.split("\n\nFor more information").next().unwrap_or(text).trim_end();
    let failure = Failure::Usage(text.to_owned());
    let _ = failure.print(format, &mut anstream::stdout().lock(), &mut anstream::stderr().lock());
    failure.exit_code()
}

fn run(command: Command) -> Result<u8, Failure> {
    match command {
        Command::Validate(args) => Ok(validate::run(&args, &mut io::stdout().lock(), &mut io::stderr().lock())?),
        Command::Init(args) => init::run(&args),
        Command::Explain(args) => explain::run(&args),
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
        Command::Status(args) => asynchronous(status::run(args)),
        Command::Lease(args) => asynchronous(lease::run(args)),
        Command::Tenant(args) => asynchronous(tenant::run(args)),
        Command::Events(args) => asynchronous(events::run(args)),
    }
}

/// One thread carries everything: the work is waiting, and hashing goes to the blocking pool.
fn asynchronous(command: impl Future<Output = Result<u8, Failure>>) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(command);
    runtime.shutdown_background();
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_known_before_the_command_line_is_understood() {
        let asked = |line: &str| asked_format(line.split(' ').map(str::to_owned));
        assert_eq!(asked("o7s plan"), ReportFormat::Text);
        assert_eq!(asked("o7s plan --format json --bogus"), ReportFormat::Json);
        assert_eq!(asked("o7s plan --format=jsonl -v"), ReportFormat::Jsonl);
        assert_eq!(asked("o7s plan --format=json --format github"), ReportFormat::Github);
        assert_eq!(asked("o7s plan --format nonsense"), ReportFormat::Text);
        assert_eq!(asked("o7s plan --format"), ReportFormat::Text);
        assert_eq!(asked("o7s validate -- --format json"), ReportFormat::Text);
    }
}
