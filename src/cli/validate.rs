//! `o7s validate`: reads and checks manifests. Needs no token, key or network.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::manifest::{Desired, ProblemView, Problems};

use super::load::load_desired;

const EXIT_VALID: u8 = 0;
/// EX_DATAERR of sysexits(3).
const EXIT_INVALID: u8 = 65;

#[derive(Debug, Clone, Args)]
pub struct ValidateArgs {
    /// Files and folders to read; `-` is standard input
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// The same, as other commands take it
    #[arg(short = 'f', long = "file", value_name = "PATH")]
    pub files: Vec<PathBuf>,
    /// How results are written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
}

/// The one JSON document `--format json` prints, valid or not.
#[derive(Serialize)]
struct Verdict<'a> {
    valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    counts: Option<Counts>,
    /// Also those that are not listed, when there are very many.
    error_count: usize,
    errors: Vec<ProblemView<'a>>,
}

#[derive(Serialize)]
struct Counts {
    tenants: usize,
    tiers: usize,
    pools: usize,
    routers: usize,
}

/// Results go to `out`, errors as text to `err`; as JSON both go to `out`. Gives the exit code.
pub fn run(args: &ValidateArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let mut paths = [args.paths.as_slice(), args.files.as_slice()].concat();
    if paths.is_empty() {
        paths.push(PathBuf::from("manifests"));
    }
    let checked = load_desired(&paths);
    match args.format {
        Format::Text => write_text(&checked, out, err)?,
        Format::Json => write_json(&checked, out)?,
    }
    Ok(if checked.is_ok() { EXIT_VALID } else { EXIT_INVALID })
}

fn write_text(checked: &Result<Desired, Problems>, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<()> {
    match checked {
        Ok(desired) => writeln!(out, "{}: valid", summary(desired)),
        Err(problems) => err.write_all(problems.render().as_bytes()),
    }
}

fn write_json(checked: &Result<Desired, Problems>, out: &mut dyn Write) -> io::Result<()> {
    let verdict = match checked {
        Ok(desired) => Verdict { valid: true, counts: Some(counts(desired)), error_count: 0, errors: Vec::new() },
        Err(problems) => {
            Verdict { valid: false, counts: None, error_count: problems.count(), errors: problems.views() }
        }
    };
    serde_json::to_writer_pretty(&mut *out, &verdict)?;
    writeln!(out)
}

fn counts(desired: &Desired) -> Counts {
    Counts {
        tenants: desired.tenants.len(),
        tiers: desired.tiers.len(),
        pools: desired.pools.len(),
        routers: desired.routers.len(),
    }
}

/// `17 tenants, 4 tiers, 2 pools, 1 router`.
fn summary(desired: &Desired) -> String {
    let Counts { tenants, tiers, pools, routers } = counts(desired);
    let words = [(tenants, "tenant"), (tiers, "tier"), (pools, "pool"), (routers, "router")];
    let one = |(count, word)| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    words.map(one).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validate(path: &str, format: Format) -> (u8, String, String) {
        let args = ValidateArgs { paths: Vec::new(), files: vec![PathBuf::from(path)], format };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = run(&args, &mut out, &mut err).expect("writing to memory");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (code, text(out), text(err))
    }

    #[test]
    fn the_seed_fleet_is_valid() {
        let (code, out, err) = validate("manifests", Format::Text);
        assert_eq!((code, out.as_str(), err.as_str()), (0, "17 tenants, 3 tiers, 2 pools, 1 router: valid\n", ""));
    }

    #[test]
    fn the_examples_are_valid_together_and_the_smallest_by_itself() {
        let (code, out, err) = validate("examples", Format::Text);
        assert_eq!((code, out.as_str(), err.as_str()), (0, "1 tenant, 5 tiers, 2 pools, 0 routers: valid\n", ""));
        let (code, out, _) = validate("examples/minimal.yaml", Format::Text);
        assert_eq!((code, out.as_str()), (0, "1 tenant, 1 tier, 1 pool, 0 routers: valid\n"));
    }

    #[test]
    fn errors_end_with_65_on_the_error_stream_or_as_json() {
        let (code, out, err) = validate("nowhere", Format::Text);
        assert_eq!((code, out.as_str()), (65, ""));
        assert!(err.starts_with("nowhere:1:1: error[O7S1009]: "), "{err}");
        let (code, out, err) = validate("nowhere", Format::Json);
        assert_eq!((code, err.as_str()), (65, ""));
        let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!((&json["valid"], &json["errors"][0]["code"]), (&false.into(), &"O7S1009".into()));
        assert_eq!((&json["errors"][0]["file"], &json["errors"][0]["line"]), (&"nowhere".into(), &1.into()));
    }
}
