//! The `o7s` command.

fn main() -> std::process::ExitCode {
    std::process::ExitCode::from(ogelnates::cli::main())
}
