//! `o7s validate`: reads and checks manifests. Needs no token, key or network.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::args::{BYTES_MAX, ReportFormat};
use super::asked::Asked;
use super::codes::Code;
use super::github::Github;
use super::load::load_desired;
use super::render;
use super::report::{Failure, marker};
use crate::manifest::{Desired, ProblemView, Problems};
use crate::plan::Page;

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
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    pub format: ReportFormat,
    /// With --format markdown: leave out whole entries to keep within this size
    #[arg(long, value_name = "N", default_value_t = BYTES_MAX, value_parser = clap::value_parser!(u32).range(2_000..=1_000_000))]
    pub max_bytes: u32,
}

/// The one JSON document `--format json` prints, valid or not.
#[derive(Serialize)]
struct Verdict<'a> {
    valid: bool,
    #[serde(flatten)]
    failure: Option<Told>,
    #[serde(skip_serializing_if = "Option::is_none")]
    counts: Option<Counts>,
    /// Also those that are not listed, when there are very many.
    error_count: usize,
    errors: Vec<ProblemView<'a>>,
}

/// What every error of every command has as JSON.
#[derive(Serialize)]
struct Told {
    code: Code,
    message: String,
    help: &'static str,
    exit_code: u8,
}

#[derive(Serialize)]
struct Counts {
    tenants: usize,
    tiers: usize,
    pools: usize,
    routers: usize,
}

/// Results go to `out`, errors as text to `err`; in other formats both go to `out`. Gives the exit code.
pub fn run(args: &ValidateArgs, out: &mut dyn Write, err: &mut dyn Write) -> Result<u8, Failure> {
    let mut paths = [args.paths.as_slice(), args.files.as_slice()].concat();
    if paths.is_empty() {
        paths.push(PathBuf::from("manifests"));
    }
    let asked = Asked { verb: "validate".into(), format: args.format, bytes_max: args.max_bytes as usize };
    let code = match load_desired(&paths) {
        Ok(desired) => {
            write_valid(&desired, &asked, out)?;
            EXIT_VALID
        }
        Err(problems) => {
            write_invalid(problems, &asked, out, err)?;
            EXIT_INVALID
        }
    };
    out.flush()?;
    Ok(code)
}

fn write_valid(desired: &Desired, asked: &Asked, out: &mut dyn Write) -> Result<(), Failure> {
    let text = format!("{}: valid", summary(desired));
    let head = format!("### o7s validate: {}\n\n{text}\n", desired.fleet.name);
    match asked.format {
        ReportFormat::Text => writeln!(out, "{text}")?,
        ReportFormat::Json => render::json(out, &Verdict::valid(desired))?,
        ReportFormat::Jsonl => render::json_line(out, &Verdict::valid(desired))?,
        ReportFormat::Markdown => write!(out, "{}{head}", marker("validate", Some(desired.fleet.name.as_str())))?,
        ReportFormat::Github => {
            let page = Page { head, blocks: Vec::new() };
            Github::of_environment().publish(out, &text, &[], page, &[("exitcode", EXIT_VALID.to_string())])?;
        }
    }
    Ok(())
}

fn write_invalid(problems: Problems, asked: &Asked, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), Failure> {
    match asked.format {
        ReportFormat::Json => render::json(out, &Verdict::invalid(&problems, problems.views()))?,
        ReportFormat::Jsonl => {
            problems.views().iter().try_for_each(|view| render::json_line(out, view))?;
            render::json_line(out, &Verdict::invalid(&problems, Vec::new()))?;
        }
        _ => Failure::Manifests(problems).print(asked, out, err)?,
    }
    Ok(())
}

impl<'a> Verdict<'a> {
    fn valid(desired: &Desired) -> Verdict<'a> {
        Verdict { valid: true, failure: None, counts: Some(counts(desired)), error_count: 0, errors: Vec::new() }
    }

    fn invalid(problems: &Problems, errors: Vec<ProblemView<'a>>) -> Verdict<'a> {
        let failure = Told {
            code: Code::Manifests,
            message: problems.to_string(),
            help: "each error says what to write instead",
            exit_code: EXIT_INVALID,
        };
        Verdict { valid: false, failure: Some(failure), counts: None, error_count: problems.count(), errors }
    }
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

    fn validate(path: &str, format: ReportFormat) -> (u8, String, String) {
        let args = ValidateArgs { paths: Vec::new(), files: vec![PathBuf::from(path)], format, max_bytes: BYTES_MAX };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = run(&args, &mut out, &mut err).expect("writing to memory");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (code, text(out), text(err))
    }

    #[test]
    fn the_seed_fleet_is_valid() {
        let (code, out, err) = validate("manifests", ReportFormat::Text);
        assert_eq!((code, out.as_str(), err.as_str()), (0, "17 tenants, 3 tiers, 2 pools, 1 router: valid\n", ""));
    }

    #[test]
    fn the_examples_are_valid_together_and_the_smallest_by_itself() {
        let (code, out, err) = validate("examples", ReportFormat::Text);
        assert_eq!((code, out.as_str(), err.as_str()), (0, "1 tenant, 5 tiers, 2 pools, 0 routers: valid\n", ""));
        let (code, out, _) = validate("examples/minimal.yaml", ReportFormat::Text);
        assert_eq!((code, out.as_str()), (0, "1 tenant, 1 tier, 1 pool, 0 routers: valid\n"));
    }

    #[test]
    fn errors_end_with_65_on_the_error_stream_or_as_json() {
        let (code, out, err) = validate("nowhere", ReportFormat::Text);
        assert_eq!((code, out.as_str()), (65, ""));
        assert!(err.starts_with("nowhere:1:1: error[O7S1009]: "), "{err}");
        let (code, out, err) = validate("nowhere", ReportFormat::Json);
        assert_eq!((code, err.as_str()), (65, ""));
        let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!((&json["valid"], &json["errors"][0]["code"]), (&false.into(), &"O7S1009".into()));
        assert_eq!((&json["errors"][0]["file"], &json["errors"][0]["line"]), (&"nowhere".into(), &1.into()));
    }

    /// A fleet with a mistake in it, in a file of its own.
    fn mistaken(format: ReportFormat) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("fleet.yaml");
        let text = "apiVersion: ogelnates.dev/v1\nkind: Fleet\nmetadata: { name: shop }\nspec: { safty: {} }\n";
        std::fs::write(&file, text).expect("written");
        let path = file.to_str().expect("a plain path");
        let (code, out, err) = validate(path, format);
        assert_eq!((code, err.as_str()), (65, ""));
        out.replace(path, "fleet.yaml")
    }

    #[test]
    fn an_error_is_a_comment_under_the_fleets_own_marker() {
        insta::assert_snapshot!(mistaken(ReportFormat::Markdown));
    }

    #[test]
    fn each_error_is_a_line_of_json_and_the_verdict_the_last() {
        insta::assert_snapshot!(mistaken(ReportFormat::Jsonl));
    }

    #[test]
    fn every_error_is_annotated_at_its_place() {
        let out = mistaken(ReportFormat::Github);
        let command = out.lines().last().expect("a line");
        insta::assert_snapshot!(command);
    }
}
