//! `o7s explain`: what a key, an object's fields or an error code mean, and what reconcile would do to an object.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::args::{Format, Input};
use super::load::load_with_sources;
use super::planned::plan_of;
use super::report::Failure;
use super::{codes, config, render};
use crate::manifest::{self, Desired, Explained, Owned, Owner};
use crate::plan::{Consent, Plan, render_body};
use crate::tenancy::ErrorCode;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  o7s explain Tenant.spec.limits      a key of a manifest: what it takes and means
  o7s explain tenant/acme             who sets each field of an object (manifest, tier, fleet or default), and what
                                      reconcile would do to it and why
  o7s explain tenant/acme --live FILE the same with an observation of `o7s observe`, without token, key or network
  o7s explain O7S1203                 an error code

What reconcile would do is told of tenants, pools and instances. Where neither token and key nor --live is given, that is
said, and the rest is explained.

Exit codes: 0 explained, 7 unreachable, 64 no such key, code or object, 65 invalid manifest, 77 not allowed")]
pub struct ExplainArgs {
    /// KIND[.KEY…], KIND/NAME, or an error code
    #[arg(value_name = "WHAT")]
    pub what: String,
    #[command(flatten)]
    pub input: Input,
    /// Plan with this observation (see `o7s observe`) instead of looking
    #[arg(long, value_name = "FILE")]
    pub live: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

pub async fn run(args: ExplainArgs) -> Result<u8, Failure> {
    let what = args.what.trim();
    if what.contains('/') {
        return explain_object(what, &args).await;
    }
    let mut out = anstream::stdout().lock();
    if is_code(what) {
        return explain_code(&mut out, what, args.format);
    }
    let explained = manifest::explain(what).map_err(|error| Failure::Usage(format!("`{what}` {error}")))?;
    match args.format {
        Format::Json => render::json(&mut out, &explained)?,
        Format::Text => key_text(&mut out, &explained)?,
    }
    Ok(0)
}

/// `O7S1101`, in any case, or the number alone.
fn is_code(what: &str) -> bool {
    let number = what.get(..3).filter(|start| start.eq_ignore_ascii_case("O7S")).and(what.get(3..)).unwrap_or(what);
    !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
}

fn explain_code(out: &mut dyn Write, what: &str, format: Format) -> Result<u8, Failure> {
    let code =
        if what.starts_with(|c: char| c.is_ascii_digit()) { format!("O7S{what}") } else { what.to_ascii_uppercase() };
    let Some(ErrorCode { title, explanation, .. }) = codes::find(&code) else {
        return Err(Failure::Usage(format!("`{what}` is no error code of this version; docs/errors.md lists them")));
    };
    match format {
        Format::Json => {
            render::json(out, &serde_json::json!({ "code": code, "title": title, "explanation": explanation }))?;
        }
        Format::Text => {
            writeln!(out, "{code}: {title}\n\n{}", wrapped(explanation, 0))?;
        }
    }
    Ok(0)
}

/// What reconcile would do to an object.
enum Would {
    /// The part of the plan that is about it.
    Do(Box<Plan>),
    /// Nobody can tell here, and why.
    NotKnown(String),
    /// No plan speaks of objects of this kind.
    NotSaid,
}

async fn explain_object(address: &str, args: &ExplainArgs) -> Result<u8, Failure> {
    let (desired, sources) = load_with_sources(&args.input.files).map_err(Failure::Manifests)?;
    let Some(owned) = manifest::owners(&desired, &sources, address) else {
        let message = format!(
            "no manifest declares `{address}`; an address is tenant/, tier/, pool/, instance/, router/ or fleet/ and a name"
        );
        return Err(Failure::Usage(message));
    };
    let would = would(address, &desired, args.live.as_deref()).await;
    let mut out = anstream::stdout().lock();
    match args.format {
        Format::Json => {
            let would = would?;
            let plan = match &would {
                Would::Do(plan) => Some(plan.part()),
                Would::NotKnown(_) | Would::NotSaid => None,
            };
            let unknown = match &would {
                Would::NotKnown(why) => Some(why),
                Would::Do(_) | Would::NotSaid => None,
            };
            let document =
                serde_json::json!({ "address": address, "fields": owned, "plan": plan, "planUnknown": unknown });
            render::json(&mut out, &document)?;
        }
        Format::Text => {
            let rows: Vec<Vec<String>> = owned.iter().map(row).collect();
            render::table(&mut out, &["FIELD", "VALUE", "SET BY"], &rows)?;
            // What could be told is told before the error.
            write!(out, "{}", would_text(&would?))?;
            out.flush()?;
        }
    }
    Ok(0)
}

async fn would(address: &str, desired: &Desired, live: Option<&Path>) -> Result<Would, Failure> {
    let kind = address.split('/').next().unwrap_or_default();
    if !["tenant", "pool", "instance"].contains(&kind) {
        return Ok(Would::NotSaid);
    }
    if let (None, Err(lack)) = (live, config::from_environment()) {
        return Ok(Would::NotKnown(format!(
            "{lack}; set RAILWAY_API_TOKEN and O7S_MASTER_KEY, or give --live FILE as `o7s observe` writes it"
        )));
    }
    let (plan, ..) = plan_of(desired, live, &Consent::default()).await?;
    Ok(Would::Do(Box::new(plan.about(address))))
}

fn would_text(would: &Would) -> String {
    match would {
        Would::NotSaid => String::new(),
        Would::NotKnown(why) => format!("\nwhat reconcile would do is not known here: {why}\n"),
        Would::Do(plan) if plan.is_silent() => "\nreconcile would change nothing of it\n".to_owned(),
        Would::Do(plan) => {
            let whole = if plan.is_stopped() { "nothing at all, because of what is refused for all" } else { "this" };
            format!(
                "\nreconcile would do {whole} (+ create, ~ update, - delete, > rename, ! put back):\n{}",
                render_body(plan, true)
            )
        }
    }
}

fn row(owned: &Owned) -> Vec<String> {
    let owner = match &owned.owner {
        Owner::Manifest { at } => at.to_string(),
        Owner::Tier { name, at } => format!("tier {name}, {at}"),
        Owner::Fleet { at } => format!("the Fleet, {at}"),
        Owner::Default => "default".to_owned(),
    };
    vec![owned.field.clone(), owned.value.clone().unwrap_or_else(|| "(none)".to_owned()), owner]
}

fn key_text(out: &mut dyn Write, explained: &Explained) -> io::Result<()> {
    writeln!(out, "{}: {}", explained.path, explained.value.takes)?;
    if let Some(default) = &explained.value.default {
        writeln!(out, "default: {default}")?;
    }
    if !explained.description.is_empty() {
        writeln!(out, "\n{}", wrapped(&explained.description, 0))?;
    }
    if !explained.value.words.is_empty() {
        writeln!(out, "\nwords:")?;
    }
    for (word, meaning) in &explained.value.words {
        writeln!(out, "  {}", format!("{word:<14} {meaning}").trim_end())?;
    }
    if !explained.keys.is_empty() {
        writeln!(out, "\nkeys:")?;
    }
    for key in &explained.keys {
        let required = if key.required { ", required" } else { "" };
        let default = key.value.default.as_ref().map(|text| format!(", default {text}")).unwrap_or_default();
        writeln!(out, "  {}: {}{required}{default}", key.name, key.value.takes)?;
        if !key.description.is_empty() {
            writeln!(out, "{}", wrapped(&key.description, 6))?;
        }
    }
    out.flush()
}

/// Lines of at most 88 characters behind an indent.
fn wrapped(text: &str, indent: usize) -> String {
    const WIDTH: usize = 88;
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("{}{word}", " ".repeat(indent))),
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(path: &str) -> String {
        let mut out = Vec::new();
        key_text(&mut out, &manifest::explain(path).expect("a key")).expect("memory");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn keys_are_explained_for_people() {
        insta::assert_snapshot!(key("Tenant.spec.limits"));
        insta::assert_snapshot!(key("Tier.spec.overLimit"));
        insta::assert_snapshot!(key("Router.spec.identify"));
    }

    #[test]
    fn every_code_is_explained() {
        for code in codes::chapters().into_iter().flat_map(|chapter| chapter.codes) {
            let code = code.to_string();
            let mut out = Vec::new();
            assert!(is_code(&code), "{code}");
            assert!(explain_code(&mut out, &code.to_lowercase(), Format::Text).is_ok(), "{code}");
        }
        assert!(explain_code(&mut Vec::new(), "O7S9999", Format::Text).is_err());
    }
}
