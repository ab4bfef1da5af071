//! `o7s init`: a first fleet's manifests. Writes files, nothing else.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;

use super::report::Failure;
use crate::manifest;

const SCHEMA: &str = "schema/ogelnates.schema.json";
const FILES: [(&str, &str); 5] = [
    ("fleet.yaml", include_str!("init/fleet.yaml")),
    ("tiers.yaml", include_str!("init/tiers.yaml")),
    ("pools.yaml", include_str!("init/pools.yaml")),
    ("router.yaml", include_str!("init/router.yaml")),
    ("tenants/first.yaml", include_str!("init/tenants/first.yaml")),
];

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  o7s init                            manifests/ with one tier, pool, router and tenant
  o7s init fleet && o7s validate -f fleet

Exit codes: 0 written, 1 a file cannot be written, 4 a file is there already")]
pub struct InitArgs {
    /// The folder to write into
    #[arg(value_name = "DIR", default_value = "manifests")]
    pub dir: PathBuf,
    /// Overwrite files that are there
    #[arg(long)]
    pub force: bool,
}

pub fn run(args: &InitArgs) -> Result<u8, Failure> {
    let schema = format!("{:#}\n", manifest::schema());
    let files = || FILES.iter().copied().chain([(SCHEMA, schema.as_str())]);
    let there: Vec<PathBuf> = files().map(|(name, _)| args.dir.join(name)).filter(|path| path.exists()).collect();
    if !there.is_empty() && !args.force {
        return Err(Failure::Exists { paths: there, flag: "--force" });
    }
    for (name, text) in files() {
        write(&args.dir.join(name), text)?;
    }
    let mut out = io::stdout().lock();
    for (name, _) in files() {
        writeln!(out, "{}", args.dir.join(name).display())?;
    }
    let mut err = anstream::stderr().lock();
    writeln!(
        err,
        "next: name your fleet in {}, then `o7s validate` and `o7s plan`",
        args.dir.join("fleet.yaml").display()
    )?;
    Ok(0)
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |source| Failure::Write { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    fs::write(path, text).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Source;

    #[test]
    fn what_init_writes_is_a_valid_fleet() {
        let source = |(path, text): &(&str, &str)| Source { path: (*path).into(), text: (*text).into() };
        let sources: Vec<Source> = FILES.iter().map(source).collect();
        let fleet = manifest::load(&sources).unwrap_or_else(|problems| panic!("{}", problems.render()));
        assert_eq!((fleet.tiers.len(), fleet.pools.len(), fleet.routers.len(), fleet.tenants.len()), (1, 1, 1, 1));
    }
}
