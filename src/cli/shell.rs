//! `o7s completions`, `o7s man`, `o7s version`: what the command line tells of itself.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use serde::Serialize;

use super::args::Cli;
use super::render;
use super::report::Failure;
use crate::{manifest, store};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  o7s completions bash > ~/.local/share/bash-completion/completions/o7s
  o7s completions zsh > \"${fpath[1]}/_o7s\"
  o7s completions fish > ~/.config/fish/completions/o7s.fish")]
pub struct CompletionsArgs {
    pub shell: Shell,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  o7s man | man -l -                  read it
  o7s man --out /usr/local/share/man/man1")]
pub struct ManArgs {
    /// Write one page a command into this folder
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct VersionArgs {
    /// As JSON, with the formats this version reads and writes
    #[arg(long)]
    pub json: bool,
}

#[derive(Serialize)]
struct Version {
    version: &'static str,
    manifest_api_version: &'static str,
    /// Migrations of the control database.
    control_schema: u32,
    local_railway: bool,
}

pub fn completions(args: &CompletionsArgs) -> Result<u8, Failure> {
    // In memory first: a pipe that closes early must not panic the generator.
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "o7s", &mut text);
    io::stdout().lock().write_all(&text)?;
    Ok(0)
}

pub fn man(args: &ManArgs) -> Result<u8, Failure> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let Some(folder) = &args.out else {
        let mut text = Vec::new();
        clap_mangen::Man::new(command).render(&mut text)?;
        io::stdout().lock().write_all(&text)?;
        return Ok(0);
    };
    let failed = |source| Failure::Write { path: folder.clone(), source };
    fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(command, folder)).map_err(failed)?;
    Ok(0)
}

pub fn version(args: &VersionArgs) -> Result<u8, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let mut out = io::stdout().lock();
    if !args.json {
        writeln!(out, "o7s {version}")?;
        return Ok(0);
    }
    let version = Version {
        version,
        manifest_api_version: manifest::API_VERSION,
        control_schema: store::SCHEMA_VERSION,
        local_railway: cfg!(feature = "local"),
    };
    render::json(&mut out, &version)?;
    Ok(0)
}
