//! `o7s explain`: what a key, an object's fields or an error code mean.

use std::io::{self, Write};

use clap::Args;

use super::args::{Format, Input};
use super::load::load_with_sources;
use super::report::Failure;
use super::{codes, render};
use crate::manifest::{self, Explained, Owned, Owner};
use crate::tenancy::ErrorCode;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  o7s explain Tenant.spec.limits      a key of a manifest: what it takes and means
  o7s explain tenant/acme             who sets each field of an object: manifest, tier, fleet or default
  o7s explain O7S1203                 an error code

Exit codes: 0 explained, 64 no such key or code, 65 invalid manifest")]
pub struct ExplainArgs {
    /// KIND[.KEY…], KIND/NAME, or an error code
    #[arg(value_name = "WHAT")]
    pub what: String,
    #[command(flatten)]
    pub input: Input,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

pub fn run(args: &ExplainArgs) -> Result<u8, Failure> {
    let mut out = anstream::stdout().lock();
    let what = args.what.trim();
    if is_code(what) {
        return explain_code(&mut out, what, args.format);
    }
    if what.contains('/') {
        return explain_object(&mut out, what, args);
    }
    let explained = manifest::explain(what).map_err(|error| Failure::Usage(format!("`{what}` {error}")))?;
    match args.format {
        Format::Json => render::json(&mut out, &explained)?,
        Format::Text => key_text(&mut out, &explained)?,
    }
    Ok(0)
}

fn is_code(what: &str) -> bool {
    let number = what.get(..3).filter(|start| start.eq_ignore_ascii_case("O7S")).and(what.get(3..));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

fn explain_code(out: &mut dyn Write, what: &str, format: Format) -> Result<u8, Failure> {
    let Some(ErrorCode { title, explanation, .. }) = codes::find(what) else {
        return Err(Failure::Usage(format!("`{what}` is no error code of this version; docs/errors.md lists them")));
    };
    let code = what.to_ascii_uppercase();
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

fn explain_object(out: &mut dyn Write, address: &str, args: &ExplainArgs) -> Result<u8, Failure> {
    let (desired, sources) = load_with_sources(&args.input.files).map_err(Failure::Manifests)?;
    let Some(owned) = manifest::owners(&desired, &sources, address) else {
        let message = format!(
            "no manifest declares `{address}`; an address is tenant/, tier/, pool/, instance/, router/ or fleet/ and a name"
        );
        return Err(Failure::Usage(message));
    };
    match args.format {
        Format::Json => render::json(out, &serde_json::json!({ "address": address, "fields": owned }))?,
        Format::Text => {
            let rows: Vec<Vec<String>> = owned.iter().map(row).collect();
            render::table(out, &["FIELD", "VALUE", "SET BY"], &rows)?;
        }
    }
    Ok(0)
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
