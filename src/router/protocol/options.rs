//! The startup parameter `options`, read as Postgres reads it, and what in it is meant for the router.

use std::borrow::Cow;

use crate::manifest::Pooling;

use super::error::{Report, SqlState};

/// What a client says about itself to the router alone; the server never sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForRouter {
    /// `o7s.tenant=acme`, or `endpoint=acme` as Neon's clients say it.
    pub tenant: Option<String>,
    pub pooling: Option<Pooling>,
    /// A JWT or an API key proves who it is.
    pub token: Option<TokenBy>,
}

/// How a token comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenBy {
    /// `o7s.auth=token`: as the password.
    Password,
    /// `o7s.auth=oauth`: by SASL's OAUTHBEARER.
    OAuth,
}

impl ForRouter {
    /// Whether `name` is the router's own; its value is kept then.
    ///
    /// Fails with 28000 when two tenants are named and with 22023 for a value that is no choice.
    pub fn take(&mut self, name: &str, value: &str) -> Result<bool, Report<'static>> {
        if !name.get(..4).is_some_and(|head| head.eq_ignore_ascii_case("o7s.")) {
            return Ok(false);
        }
        match name[4..].to_ascii_lowercase().as_str() {
            "tenant" => self.name_tenant(value)?,
            "pooling" => {
                let choices = [("transaction", Pooling::Transaction), ("session", Pooling::Session)];
                let choice = choices.iter().find(|(word, _)| *word == value);
                let Some((_, pooling)) = choice else { return Err(bad(name, value, "transaction, session")) };
                self.pooling = Some(*pooling);
            }
            "auth" if value == "token" => self.token = Some(TokenBy::Password),
            "auth" if value == "oauth" => self.token = Some(TokenBy::OAuth),
            "auth" => return Err(bad(name, value, "token, oauth")),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn name_tenant(&mut self, value: &str) -> Result<(), Report<'static>> {
        match &self.tenant {
            Some(other) if other != value => Err(Report::fatal(
                SqlState::INVALID_AUTHORIZATION,
                format!("the options name two tenants, \"{other}\" and \"{value}\""),
            )
            .hint("Name the tenant once.")),
            _ => {
                self.tenant = Some(value.to_owned());
                Ok(())
            }
        }
    }
}

fn bad(name: &str, value: &str, choices: &str) -> Report<'static> {
    let message = format!("invalid value for parameter \"{name}\": \"{value}\"");
    Report::fatal(SqlState::INVALID_PARAMETER_VALUE, message).hint(format!("Available values: {choices}."))
}

/// Appends the settings of `text` to `settings`, in order, and what is for the router to `router`.
///
/// Understands `-c name=value`, `-cname=value` and `--name=value`; a word without a dash can only be for the router.
/// Fails with 42601 in Postgres' own words for anything else.
pub fn read(text: &str, settings: &mut Vec<(String, String)>, router: &mut ForRouter) -> Result<(), Report<'static>> {
    let words = split(text);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let (flag, setting) = if let Some(long) = word.strip_prefix("--") {
            ("--", long)
        } else if word == "-c" {
            ("-c ", words.next().ok_or_else(|| unknown(word))?.as_str())
        } else if let Some(short) = word.strip_prefix("-c") {
            ("-c ", short)
        } else {
            bare(word, router)?;
            continue;
        };
        let Some((name, value)) = setting.split_once('=') else {
            return Err(Report::fatal(SqlState::SYNTAX_ERROR, format!("{flag}{setting} requires a value")));
        };
        // Postgres' own rule: a dash is the underscore of the command line.
        let name = name.replace('-', "_");
        if !router.take(&name, value)? {
            settings.push((name, value.to_owned()));
        }
    }
    Ok(())
}

/// `o7s.tenant=acme`, `endpoint=acme`, also percent-encoded, as some drivers leave it.
fn bare(word: &str, router: &mut ForRouter) -> Result<(), Report<'static>> {
    let decoded = percent_decoded(word);
    let (name, value) = decoded.split_once('=').ok_or_else(|| unknown(word))?;
    if name == "endpoint" {
        router.name_tenant(value)
    } else if router.take(name, value)? {
        Ok(())
    } else {
        Err(unknown(word))
    }
}

fn unknown(word: &str) -> Report<'static> {
    let message = format!("invalid command-line argument for server process: {word}");
    Report::fatal(SqlState::SYNTAX_ERROR, message).hint("Write settings as -c name=value.")
}

/// At white space; a backslash takes the next character as it is.
fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c' => words.extend(word.take()),
            // A backslash at the very end stands for nothing.
            '\\' => word.get_or_insert_default().extend(characters.next()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

fn percent_decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return text.into();
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let code = digits.filter(|_| byte == b'%').and_then(|two| u8::from_str_radix(two, 16).ok());
        bytes.push(code.unwrap_or(byte));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(String, ForRouter), String> {
        let (mut settings, mut router) = (Vec::new(), ForRouter::default());
        read(text, &mut settings, &mut router).map_err(|report| report.message.into_owned())?;
        let text: Vec<String> = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        Ok((text.join("|"), router))
    }

    fn settings(text: &str) -> String {
        check(text).expect("valid").0
    }

    #[test]
    fn row_18_options_are_split_and_escaped_as_postgres_does() {
        assert_eq!(settings(r"-c search_path=a\ b"), "search_path=a b");
        assert_eq!(settings(r"-csearch_path=a\\b --work-mem=4MB"), r"search_path=a\b|work_mem=4MB");
        assert_eq!(settings("  -c   a.b=1\t-c x=a=b  "), "a.b=1|x=a=b");
        assert_eq!(settings(r"-c a=\"), "a=");
        assert_eq!(settings(""), "");
    }

    #[test]
    fn row_18_what_postgres_refuses_is_refused_in_its_words() {
        assert_eq!(check("-c foo").expect_err("refused"), "-c foo requires a value");
        assert_eq!(check("--foo").expect_err("refused"), "--foo requires a value");
        for bad in ["-c", "-Z", "foo", "foo=1"] {
            let message = check(bad).expect_err("refused");
            assert_eq!(message, format!("invalid command-line argument for server process: {bad}"));
        }
    }

    #[test]
    fn what_names_the_tenant_is_taken_out_in_each_of_its_forms() {
        let forms =
            ["-c o7s.tenant=acme", "--o7s.tenant=acme", "o7s.tenant=acme", "endpoint=acme", "endpoint%3Dacme"];
        for form in forms {
            let (settings, router) = check(&format!("{form} -c a=1")).expect("valid");
            assert_eq!((settings.as_str(), router.tenant.as_deref()), ("a=1", Some("acme")), "{form}");
        }
        assert_eq!(
            check("-c o7s.tenant=acme endpoint=beta").expect_err("refused"),
            "the options name two tenants, \"acme\" and \"beta\""
        );
    }

    #[test]
    fn pooling_and_tokens_are_asked_for_by_option() {
        let (_, router) = check("-c o7s.pooling=session -c O7S.auth=token").expect("valid");
        assert_eq!((router.pooling, router.token), (Some(Pooling::Session), Some(TokenBy::Password)));
        assert_eq!(check("-c o7s.auth=oauth").expect("valid").1.token, Some(TokenBy::OAuth));
        assert_eq!(
            check("-c o7s.pooling=none").expect_err("refused"),
            "invalid value for parameter \"o7s.pooling\": \"none\""
        );
    }
}
