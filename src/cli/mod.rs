//! What people type, and all that is printed. Each command is one thin file that calls one room.
//! Read: args, config, session, then the commands; render and report write what people see.

mod args;
mod bootstrap;
mod config;
mod events;
mod explain;
mod init;
mod lease;
pub mod load;
#[cfg(feature = "local")]
mod local;
mod observe;
mod plan;
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

use clap::Parser as _;

use args::{Cli, Command};
use report::Failure;

/// Runs the command line and gives the exit code.
pub fn main() -> u8 {
    if std::env::args_os().len() < 2 {
        let _ = <Cli as clap::CommandFactory>::command().print_help();
        return 64;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            // clap's own code for a usage error is 2, which here means "changes pending".
            return if error.use_stderr() { 64 } else { 0 };
        }
    };
    telemetry::init();
    match run(cli.command) {
        Ok(code) => code,
        // The reader went away: end as the shell expects of a pipe.
        Err(Failure::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => 141,
        Err(failure) => {
            let _ = failure.print(&mut anstream::stderr().lock());
            let _ = io::stdout().flush();
            failure.exit_code()
        }
    }
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
        Command::Local(args) => Ok(local::run(args)),
        Command::Bootstrap(args) => asynchronous(bootstrap::run(args)),
        Command::Plan(args) => asynchronous(plan::run(args)),
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
