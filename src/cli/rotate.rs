//! `o7s rotate`: asks for new passwords of a tenant, in its manifest. Git stays the truth: the next reconcile carries it
//! out, and whoever reconciles an older manifest later does not do so unseen.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use clap::Args;
use serde::Serialize;

use super::args::{Format, Input};
use super::load::load_with_sources;
use super::progress::say;
use super::render;
use super::report::Failure;
use crate::manifest::{Desired, Source, Tenant, load, with_generation};
use crate::tenancy::{GENERATION_MAX, TenantId};

#[derive(Debug, Args)]
#[command(after_help = "\
Writes spec.credentials.generation of the tenant's manifest and nothing else; no token, key or network is needed. The
reconcile after it sets the new passwords of the owner and of all roles, ends the old ones, and rewrites the variables
that are published.

Examples:
  o7s rotate tenant/acme && o7s reconcile --once
  o7s rotate tenant/acme --generation 4    writes 4, however often it is run

Exit codes: 0 written, or written before; 1 the file cannot be written, 4 the manifest has a later generation already, or
a layout that must be edited by hand; 64 no such tenant, 65 invalid manifest")]
pub struct RotateArgs {
    #[arg(value_name = "tenant/NAME", value_parser = super::tenant::tenant_name)]
    tenant: TenantId,
    /// The generation to have, instead of one more than in the manifest
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(GENERATION_MAX)))]
    generation: Option<u32>,
    #[command(flatten)]
    input: Input,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Serialize)]
struct Printed<'a> {
    tenant: &'a TenantId,
    file: &'a str,
    from: u32,
    to: u32,
    changed: bool,
}

pub fn run(args: &RotateArgs) -> Result<u8, Failure> {
    let (desired, sources) = load_with_sources(&args.input.files).map_err(Failure::Manifests)?;
    let address = format!("tenant/{}", args.tenant);
    let tenant = desired.tenants.get(&args.tenant).ok_or(Failure::Unknown { object: address })?;
    let (from, file) = (tenant.generation, &*tenant.origins.object.file);
    let to = args.generation.unwrap_or(from.saturating_add(1));
    if to < from || to > GENERATION_MAX {
        return Err(Failure::NotRotated { reason: format!("{file} has generation {from}, and asked for is {to}") });
    }
    if to != from {
        write(&desired, &sources, tenant, to)?;
    }
    let printed = Printed { tenant: &args.tenant, file, from, to, changed: to != from };
    let mut out = anstream::stdout().lock();
    match args.format {
        Format::Json => render::json(&mut out, &printed)?,
        Format::Text if printed.changed => writeln!(out, "{file}: credentials.generation {from} -> {to}")?,
        Format::Text => writeln!(out, "{file}: credentials.generation is {to} already")?,
    }
    say("next: commit it; o7s reconcile sets the new passwords and ends the old ones");
    Ok(0)
}

/// The edited text is read again as a whole: nothing but this number may be different.
fn write(desired: &Desired, sources: &[Source], tenant: &Tenant, to: u32) -> Result<(), Failure> {
    let file = &*tenant.origins.object.file;
    let by_hand = || Failure::NotRotated { reason: format!("{file} is laid out in a way that is not edited safely") };
    let source = sources.iter().find(|source| source.path == file).filter(|source| Path::new(&source.path).is_file());
    let source = source.ok_or_else(by_hand)?;
    let text = with_generation(&source.text, tenant, to).ok_or_else(by_hand)?;
    let edited: Vec<Source> = sources
        .iter()
        .map(|one| Source {
            path: one.path.clone(),
            text: if one.path == file { text.clone() } else { one.text.clone() },
        })
        .collect();
    let after = load(&edited).map_err(|_| by_hand())?;
    let asked = after.tenants.get(&tenant.name).is_some_and(|tenant| tenant.generation == to);
    if !asked || without_lines(&after, &tenant.name) != without_lines(desired, &tenant.name) {
        return Err(by_hand());
    }
    replace(Path::new(file), &text).map_err(|source| Failure::Write { path: file.into(), source })
}

/// For comparing: lines move, and this one generation is what changes.
fn without_lines(desired: &Desired, rotated: &TenantId) -> Vec<Tenant> {
    let plain = |tenant: &Tenant| {
        let mut tenant = tenant.clone();
        tenant.origins.object.line = 0;
        tenant.origins.fields.clear();
        if tenant.name == *rotated {
            tenant.generation = 0;
        }
        tenant
    };
    desired.tenants.values().map(plain).collect()
}

/// Whole or not at all, with the permissions it had; a link stays a link.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let path = path.canonicalize()?;
    let (folder, name) = (path.parent().unwrap_or(Path::new(".")), path.file_name().unwrap_or_default());
    let beside = folder.join(format!(".{}.o7s-{}", name.to_string_lossy(), std::process::id()));
    let written = fs::write(&beside, text)
        .and_then(|()| fs::set_permissions(&beside, fs::metadata(&path)?.permissions()))
        .and_then(|()| fs::File::open(&beside)?.sync_all())
        .and_then(|()| fs::rename(&beside, &path));
    if written.is_err() {
        // What is left of it is of no use; that it cannot be removed changes nothing about the error.
        let _ = fs::remove_file(&beside);
    }
    written
}
