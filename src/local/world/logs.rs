//! What containers wrote, as Railway shows it: kept in memory, the newest lines of the newest deployments.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use chrono::{DateTime, NaiveDateTime, Utc};

use super::model::{At, Id};
use super::{Refusal, World};

const LINES_OF_ONE_MAX: usize = 2_000;
const DEPLOYMENTS_MAX: usize = 200;
const MESSAGE_BYTES_MAX: usize = 8 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    pub at: DateTime<Utc>,
    pub severity: &'static str,
    pub message: String,
}

/// By deployment; lines in the order in which they came.
#[derive(Default, Clone)]
pub struct Logs(BTreeMap<Id, VecDeque<LogLine>>);

/// What a reader asks for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct LogFilter {
    services: Vec<String>,
    deployments: Vec<String>,
    severities: Vec<String>,
    /// In lower case; all of them must be there.
    words: Vec<String>,
}

impl World {
    /// The host read these lines of a deployment's container. Older ones are an earlier deployment's on the same volume.
    pub fn logged(&mut self, deployment: &str, lines: Vec<LogLine>) {
        let Ok(at) = self.deployment(deployment) else { return };
        let Ok(instance) = self.instance(&at) else { return };
        let Some(since) = instance.deployments.iter().find(|d| d.id == deployment).map(|d| d.created_at) else {
            return;
        };
        let logs = Arc::make_mut(&mut self.logs);
        let kept = logs.0.entry(deployment.to_owned()).or_default();
        kept.extend(lines.into_iter().filter(|line| line.at >= since));
        let surplus = kept.len().saturating_sub(LINES_OF_ONE_MAX);
        kept.drain(..surplus);
        logs.forget_oldest();
    }

    pub fn has_logs(&self, deployment: &str) -> bool {
        self.logs.0.contains_key(deployment)
    }

    pub fn logs_of(&self, deployment: &str) -> impl DoubleEndedIterator<Item = &LogLine> {
        self.logs.0.get(deployment).into_iter().flatten()
    }

    /// Lines of every deployment of an environment that fit, oldest first.
    pub fn environment_logs(
        &self,
        environment: &str,
        filter: &LogFilter,
    ) -> Result<Vec<(At, Id, &LogLine)>, Refusal> {
        let there = self.environment(environment)?;
        let mut found = Vec::new();
        for (service, instance) in &there.instances {
            for deployment in &instance.deployments {
                if !filter.wants(service, &deployment.id) {
                    continue;
                }
                let lines = self.logs_of(&deployment.id).filter(|line| filter.fits(line));
                found.extend(lines.map(|line| (there.at(service), deployment.id.clone(), line)));
            }
        }
        // Stable: lines of one moment keep their order.
        found.sort_by_key(|(_, _, line)| line.at);
        Ok(found)
    }
}

impl Logs {
    fn forget_oldest(&mut self) {
        while self.0.len() > DEPLOYMENTS_MAX {
            let last = |lines: &VecDeque<LogLine>| lines.back().map(|line| line.at);
            let Some(oldest) = self.0.iter().min_by_key(|(_, lines)| last(lines)).map(|(id, _)| id.clone()) else {
                return;
            };
            self.0.remove(&oldest);
        }
    }
}

impl LogLine {
    /// A line of a Postgres log: time and process first, then how bad it is. A line without these continues `before`.
    pub fn parse(line: &str, before: Option<&LogLine>, now: DateTime<Utc>) -> LogLine {
        let head = line.get(..23).and_then(|head| NaiveDateTime::parse_from_str(head, "%Y-%m-%d %H:%M:%S%.3f").ok());
        let at = head.map(|at| at.and_utc()).or(before.map(|line| line.at)).unwrap_or(now);
        let severity = severity(line).or(before.map(|line| line.severity)).unwrap_or("info");
        let end = line.char_indices().map(|(at, _)| at).find(|at| *at >= MESSAGE_BYTES_MAX).unwrap_or(line.len());
        LogLine { at, severity, message: line[..end].to_owned() }
    }
}

fn severity(line: &str) -> Option<&'static str> {
    let (_, rest) = line.split_once("] ")?;
    let word: String = rest.chars().take_while(char::is_ascii_alphanumeric).collect();
    match word.trim_end_matches(|c: char| c.is_ascii_digit()) {
        "LOG" | "INFO" | "NOTICE" => Some("info"),
        "DEBUG" => Some("debug"),
        "WARNING" => Some("warn"),
        "ERROR" | "FATAL" | "PANIC" => Some("error"),
        // DETAIL, HINT, STATEMENT and CONTEXT belong to the line before.
        _ => None,
    }
}

impl LogFilter {
    /// The part of Railway's filter language whose meaning is known: `@service:ID`, `@deployment:ID`, `@level:error`,
    /// and words (or quoted texts), all of which must fit.
    pub fn parse(text: &str) -> Result<LogFilter, Refusal> {
        let mut filter = LogFilter::default();
        for token in tokens(text) {
            let known =
                |name: &str| token.strip_prefix('@')?.strip_prefix(name)?.strip_prefix(':').map(str::to_owned);
            if let Some(id) = known("service") {
                filter.services.push(id);
            } else if let Some(id) = known("deployment") {
                filter.deployments.push(id);
            } else if let Some(level) = known("level") {
                filter.severities.push(level.to_lowercase());
            } else if token.starts_with(['@', '-', '(']) || token == "OR" {
                return Err(Refusal::NotSimulated(format!("`{token}` in a log filter")));
            } else if token != "AND" {
                filter.words.push(token.to_lowercase());
            }
        }
        Ok(filter)
    }

    fn wants(&self, service: &str, deployment: &str) -> bool {
        let among = |list: &[String], id: &str| list.is_empty() || list.iter().any(|wanted| wanted == id);
        among(&self.services, service) && among(&self.deployments, deployment)
    }

    pub fn fits(&self, line: &LogLine) -> bool {
        let message = line.message.to_lowercase();
        let level = self.severities.is_empty() || self.severities.iter().any(|level| level == line.severity);
        level && self.words.iter().all(|word| message.contains(word))
    }
}

fn tokens(text: &str) -> Vec<String> {
    let (mut tokens, mut token, mut quoted) = (Vec::new(), String::new(), false);
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => {
                tokens.extend((!token.is_empty()).then(|| std::mem::take(&mut token)))
            }
            c => token.push(c),
        }
    }
    tokens.extend((!token.is_empty()).then_some(token));
    tokens
}
