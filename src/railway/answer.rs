//! From an HTTP answer to data or to one of our errors. Railway answers nearly every failure with HTTP 200 and the code
//! INTERNAL_SERVER_ERROR, so the text of the message decides.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::budget::{Allowance, EDGE_PAUSE};
use super::error::Error;
use super::transport::HttpResponse;

/// Longest piece of a foreign text that goes into an error.
const MESSAGE_CHARS_MAX: usize = 400;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Read,
    Mutation,
}

/// Whether and when the client tries again by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    No,
    /// After a pause of its own, growing with each try.
    Backoff,
    /// As soon as the budget lets a request leave.
    WhenAdmitted,
}

/// An error with what only the client needs to know about it.
#[derive(Debug)]
pub struct Failure {
    pub error: Error,
    pub again: Again,
    /// The root fields Railway blamed, as aliases.
    pub aliases: Vec<String>,
}

impl Failure {
    pub fn last(error: Error) -> Failure {
        Failure { error, again: Again::No, aliases: Vec::new() }
    }

    fn first(error: Error, again: Again) -> Failure {
        Failure { error, again, aliases: Vec::new() }
    }
}

#[derive(Deserialize)]
struct Envelope {
    data: Option<Box<RawValue>>,
    errors: Option<Vec<GraphqlError>>,
}

#[derive(Deserialize)]
struct GraphqlError {
    message: String,
    path: Option<Vec<serde_json::Value>>,
    #[serde(rename = "traceId")]
    trace_id: Option<String>,
}

/// What is being asked, by whom.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub operation: &'static str,
    pub kind: Kind,
    /// What the token is called in errors.
    pub token: &'static str,
}

impl Asked {
    /// The data of a complete answer; any error in it makes the answer a failure.
    pub fn read(self, response: &HttpResponse, wall: DateTime<Utc>) -> Result<Box<RawValue>, Failure> {
        let operation = self.operation;
        let envelope = serde_json::from_str::<Envelope>(&response.body).ok();
        let envelope = envelope.filter(|envelope| envelope.data.is_some() || envelope.errors.is_some());
        match response.status {
            429 if envelope.is_some() && told_when(response, wall).is_some() => {
                let again_in = told_when(response, wall).unwrap_or_default();
                Err(Failure::first(Error::RateLimited { operation, again_in }, Again::WhenAdmitted))
            }
            status @ (403 | 429) if status == 429 || envelope.is_none() => {
                let error = Error::EdgeBlock { operation, status, again_in: EDGE_PAUSE };
                Err(Failure::first(error, Again::WhenAdmitted))
            }
            status @ 500.. => Err(self.unanswered(format!("HTTP {status}"))),
            401 if envelope.is_none() => Err(Failure::last(self.unauthorized("HTTP 401"))),
            status => match envelope {
                Some(envelope) => self.unwrap(envelope, response),
                None => Err(self.unreadable(&format!("HTTP {status} without a GraphQL answer"))),
            },
        }
    }

    /// No answer, or the answer of a gateway in Railway's place.
    pub fn unanswered(self, reason: String) -> Failure {
        let operation = self.operation;
        match self.kind {
            Kind::Read => Failure::first(Error::Unreachable { operation, reason }, Again::Backoff),
            Kind::Mutation => Failure::last(Error::Lost { operation, reason }),
        }
    }

    /// The request certainly did not leave.
    pub fn unsent(self, reason: String) -> Failure {
        Failure::first(Error::Unreachable { operation: self.operation, reason }, Again::Backoff)
    }

    /// A text that is no answer says nothing about what a mutation did.
    pub fn unreadable(self, reason: &str) -> Failure {
        let (operation, reason) = (self.operation, clip(reason));
        Failure::last(match self.kind {
            Kind::Read => Error::BadAnswer { operation, reason },
            Kind::Mutation => Error::Lost { operation, reason },
        })
    }

    pub fn decode<T: DeserializeOwned>(self, data: &RawValue) -> Result<T, Error> {
        // serde_json's text may quote the value it stumbled over, and the answer holds secrets: only the place is told.
        serde_json::from_str(data.get()).map_err(|error| {
            let place = format!("{:?} error at column {}", error.classify(), error.column());
            self.unreadable(&place).error
        })
    }

    fn unwrap(self, envelope: Envelope, response: &HttpResponse) -> Result<Box<RawValue>, Failure> {
        let errors = envelope.errors.unwrap_or_default();
        let Some(first) = errors.first() else {
            return envelope.data.ok_or_else(|| self.unreadable("neither data nor errors"));
        };
        let aliases = errors.iter().filter_map(alias).collect();
        let trace_id = first.trace_id.clone().or_else(|| trace_header(response));
        if envelope.data.is_some() && self.kind == Kind::Read {
            let error = Error::Incomplete { operation: self.operation, what: clip(&first.message) };
            return Err(Failure { error, again: Again::No, aliases });
        }
        let unexplained = errors.iter().any(|error| error.message.contains("Problem processing request"));
        let error = match self.kind {
            // It names neither cause nor place, and is seen for things that were just made as well.
            Kind::Mutation if unexplained && aliases.len() < errors.len() => {
                Error::Lost { operation: self.operation, reason: clip(&first.message) }
            }
            Kind::Read | Kind::Mutation => self.meaning(clip(&first.message), trace_id),
        };
        let again = if unexplained && self.kind == Kind::Read { Again::Backoff } else { Again::No };
        Err(Failure { error, again, aliases })
    }

    fn meaning(self, message: String, trace_id: Option<String>) -> Error {
        let operation = self.operation;
        let lower = message.to_lowercase();
        let has = |texts: &[&str]| texts.iter().any(|text| lower.contains(text));
        if has(&["not authorized", "project token not found", "two factor authentication required"]) {
            return self.unauthorized(&message);
        }
        if has(&["too quickly", "rate limit", "try again in", "already in progress"]) {
            return Error::TooQuickly { operation, message };
        }
        if has(&["already exists in this project", "already in use", "must be unique", "is already taken"]) {
            return Error::NameTaken { operation, message };
        }
        if lower.ends_with("not found") {
            return Error::NotFound { operation, message };
        }
        // Nobody has published the exact texts; these are the words such a text cannot do without.
        if lower.contains("limit") && has(&["plan", "volume", "service", "project", "reached", "exceed", "upgrade"]) {
            return Error::PlanLimit { operation, message };
        }
        Error::Refused { operation, message, trace_id }
    }

    pub fn unauthorized(self, message: &str) -> Error {
        Error::Unauthorized { operation: self.operation, token: self.token, message: message.to_owned() }
    }
}

fn alias(error: &GraphqlError) -> Option<String> {
    error.path.as_ref()?.first()?.as_str().map(str::to_owned)
}

fn clip(text: &str) -> String {
    match text.char_indices().nth(MESSAGE_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

fn trace_header(response: &HttpResponse) -> Option<String> {
    let names = ["x-trace-id", "x-request-id", "railway-trace-id", "cf-ray"];
    names.iter().find_map(|name| response.header(name)).map(clip)
}

/// The hour's allowance as an answer's headers tell it.
pub fn allowance(response: &HttpResponse, wall: DateTime<Utc>) -> Option<Allowance> {
    Some(Allowance {
        limit: response.header("x-ratelimit-limit").and_then(|text| text.parse().ok()),
        remaining: response.header("x-ratelimit-remaining")?.parse().ok()?,
        resets_in: time_until(response, response.header("x-ratelimit-reset")?, wall)?,
    })
}

/// The answering clock's time.
pub fn told_date(response: &HttpResponse) -> Option<DateTime<Utc>> {
    response.header("date").and_then(date)
}

/// How long a 429 asks to wait.
fn told_when(response: &HttpResponse, wall: DateTime<Utc>) -> Option<Duration> {
    let told = response.header("retry-after").or_else(|| response.header("x-ratelimit-reset"))?;
    time_until(response, told, wall)
}

/// A header's time as seconds from now, as a date, or as a Unix time in seconds or milliseconds: all are in use.
fn time_until(response: &HttpResponse, text: &str, wall: DateTime<Utc>) -> Option<Duration> {
    // Measured by the server's own clock where it tells it, so that ours may be wrong.
    let now = response.header("date").and_then(date).unwrap_or(wall);
    let at = match text.parse::<f64>() {
        Ok(seconds) if seconds < 1e9 => return Duration::try_from_secs_f64(seconds.max(0.0)).ok(),
        Ok(seconds) if seconds < 1e12 => DateTime::from_timestamp_millis((seconds * 1e3) as i64)?,
        Ok(millis) => DateTime::from_timestamp_millis(millis as i64)?,
        Err(_) => date(text)?,
    };
    Some((at - now).to_std().unwrap_or_default())
}

fn date(text: &str) -> Option<DateTime<Utc>> {
    let parsed = DateTime::parse_from_rfc2822(text).or_else(|_| DateTime::parse_from_rfc3339(text));
    parsed.ok().map(|at| at.to_utc())
}
