//! `o7s export`: manifests of what is live, whose plan is empty. Changes nothing.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::args::{Format, Input};
use super::load::load_desired;
use super::observe::look;
use super::progress::{Progress, say};
use super::render;
use super::report::Failure;
use crate::manifest::{Source, load};
use crate::plan::{Consent, Export, Live, export, plan, unrouted};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  o7s export                          all manifests, one after the other
  o7s export --out manifests/         a file for each tenant
  o7s export -f fleet.yaml            where only the Fleet is left

Needs the Fleet, which says where to look. No secret is in a manifest, so none is in an export. What no live state holds,
such as prices, is said on stderr.

Exit codes: 0 written, 3 written, but its plan is not empty (reconcile first), 4 files are there already or refused,
7 unreachable, 65 invalid manifest, 77 not allowed")]
pub struct ExportArgs {
    #[command(flatten)]
    pub input: Input,
    /// Write files into this folder
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Overwrite files that are there
    #[arg(long, requires = "out")]
    pub force: bool,
    /// `json`: paths, texts and notes
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

#[derive(Serialize)]
struct Printed<'a> {
    files: Vec<File<'a>>,
    notes: &'a [String],
    /// Changes that a plan of them would make.
    changes: usize,
}

#[derive(Serialize)]
struct File<'a> {
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
}

pub async fn run(args: ExportArgs) -> Result<u8, Failure> {
    let desired = load_desired(&args.input.files).map_err(Failure::Manifests)?;
    let progress = Progress::new();
    let live = look(&desired, &progress).await?.live;
    progress.clear();
    let mut exported = export(&desired.fleet, &live);
    let unrouted = unrouted(&live).len();
    if unrouted > 0 {
        exported
            .notes
            .push(format!("{unrouted} tenants have no route yet and are left out: run o7s reconcile first"));
    }
    let changes = changes(&exported, &live)?;
    if let Some(folder) = &args.out {
        write(&exported, folder, args.force)?;
    }
    print(&args, &exported, changes)?;
    Ok(if changes == 0 { 0 } else { 3 })
}

/// An export that is not valid, or whose plan is not empty, is not what it claims to be.
fn changes(exported: &Export, live: &Live) -> Result<usize, Failure> {
    let source = |file: &crate::plan::ExportedFile| Source { path: file.path.clone(), text: file.text.clone() };
    let sources: Vec<Source> = exported.files.iter().map(source).collect();
    let desired = load(&sources).map_err(Failure::Manifests)?;
    let plan = plan(&desired, live, &Consent::default());
    Ok(plan.actions.len() + plan.refused.len() + plan.breaches.len())
}

fn write(exported: &Export, folder: &Path, force: bool) -> Result<(), Failure> {
    let paths: Vec<PathBuf> = exported.files.iter().map(|file| folder.join(&file.path)).collect();
    let there: Vec<PathBuf> = paths.iter().filter(|path| path.exists()).cloned().collect();
    if !force && !there.is_empty() {
        return Err(Failure::Exists { paths: there, flag: "--force" });
    }
    for (path, file) in paths.iter().zip(&exported.files) {
        let parent = path.parent().unwrap_or(folder);
        let written = fs::create_dir_all(parent).and_then(|()| fs::write(path, &file.text));
        written.map_err(|source| Failure::Write { path: path.clone(), source })?;
    }
    Ok(())
}

fn print(args: &ExportArgs, exported: &Export, changes: usize) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    if args.format == Format::Json {
        let text = |file: &'_ crate::plan::ExportedFile| args.out.is_none().then_some(file.text.clone());
        let texts: Vec<Option<String>> = exported.files.iter().map(text).collect();
        let files = exported.files.iter().zip(&texts);
        let files = files.map(|(file, text)| File { path: &file.path, text: text.as_deref() }).collect();
        return Ok(render::json(&mut out, &Printed { files, notes: &exported.notes, changes })?);
    }
    match &args.out {
        Some(folder) => writeln!(out, "{} files written to {}", exported.files.len(), folder.display())?,
        None => {
            for (n, file) in exported.files.iter().enumerate() {
                let rule = if n == 0 { "" } else { "---\n" };
                write!(out, "{rule}# {}\n{}", file.path, file.text)?;
            }
        }
    }
    out.flush()?;
    exported.notes.iter().for_each(|note| say(&format!("note: {note}")));
    if changes > 0 {
        say(&format!("note: their plan is not empty ({changes} changes): something waits for o7s reconcile"));
    }
    Ok(())
}
