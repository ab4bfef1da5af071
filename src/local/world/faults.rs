//! Trouble on request: off until asked for, counted down as it strikes.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// New services, service instances and volume instances appear in reads late: by chance up to 30 s.
    Lag,
    /// The request takes effect; its answer never arrives: the connection is cut, or a 504 comes back.
    LostAnswer,
    /// The request has no effect and is never answered.
    Timeout,
    /// 429 with Retry-After and rate headers.
    #[value(name = "429")]
    #[serde(rename = "429")]
    TooManyRequests,
    /// 403 with an HTML body and no rate headers, as a network edge answers.
    EdgeBlock,
    /// 502 with an HTML body, before any effect.
    #[value(name = "5xx")]
    #[serde(rename = "5xx")]
    ServerError,
    /// One alias of a batch fails (the last, or the one named) after those before it have run.
    FailAlias,
    /// The next deployment ends FAILED.
    DeployFails,
    /// The next deployment ends SUCCESS, but its Postgres never listens.
    Unhealthy,
    /// The next new project, environment or volume is throttled.
    TooQuickly,
    /// The next apply of a change set is answered as if the environment had changed since.
    StaleBase,
    /// A read of TCP proxies answers a domain as a full DNS name.
    TrailingDot,
    /// A service that may sleep falls asleep at once.
    Sleep,
    /// Railway itself deploys a running service anew.
    Redeploy,
    /// A running database process dies.
    Crash,
    /// What is said of an object that is gone is "Problem processing request" instead of "Not Authorized".
    Garbled,
    /// The request is answered "Not Authorized".
    NotAuthorized,
}

/// What appears late, one kind at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Late {
    Service,
    ServiceInstance,
    VolumeInstance,
}

/// What a deployment was fated to when it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeployTrouble {
    Fails,
    Unhealthy,
}

/// One order for trouble.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    pub fault: Fault,
    /// Only in requests with this operation name or this root field.
    #[serde(default)]
    pub operation: Option<String>,
    /// Only at this alias ([`Fault::FailAlias`]).
    #[serde(default)]
    pub alias: Option<String>,
    /// Only for this service, by name ([`Fault::Crash`], [`Fault::DeployFails`], [`Fault::Unhealthy`],
    /// [`Fault::Sleep`], [`Fault::Redeploy`]).
    #[serde(default)]
    pub service: Option<String>,
    /// Only these ([`Fault::Lag`]).
    #[serde(default)]
    pub object: Option<Late>,
    /// Exactly so late instead of by chance ([`Fault::Lag`]).
    #[serde(default)]
    pub late_ms: Option<u32>,
    /// Strikes left; `None` strikes until cleared.
    #[serde(default)]
    pub count: Option<u32>,
}

impl Rule {
    /// Strikes once, anywhere.
    pub fn once(fault: Fault) -> Rule {
        Rule { fault, operation: None, alias: None, service: None, object: None, late_ms: None, count: Some(1) }
    }
}

pub const RULES_MAX: usize = 1_000;

/// The orders still open, and the request they are asked about.
#[derive(Clone, Default)]
pub struct Faults {
    rules: Vec<Rule>,
    /// Ordered for the request being handled, dropped at its end.
    momentary: Vec<Rule>,
    /// Operation name and root fields of the request being handled.
    request: Vec<String>,
}

impl Faults {
    /// False when too many are open already.
    pub fn order(&mut self, rule: Rule) -> bool {
        let room = self.rules.len() < RULES_MAX;
        if room {
            self.rules.push(rule);
        }
        room
    }

    pub fn clear(&mut self) {
        self.rules.clear();
    }

    pub fn list(&self) -> &[Rule] {
        &self.rules
    }

    /// Everything until [`Faults::end_request`] is about this request.
    pub fn begin_request(&mut self, names: Vec<String>, only_here: Vec<Rule>) {
        self.request = names;
        self.momentary = only_here;
    }

    pub fn end_request(&mut self) {
        self.request.clear();
        self.momentary.clear();
    }

    /// The first open order for `fault` that fits, counted down.
    pub fn strike(&mut self, fault: Fault, service: Option<&str>) -> Option<Rule> {
        self.strike_at(fault, service, None)
    }

    /// The first open order for a late object of this kind.
    pub fn strike_late(&mut self, object: Late) -> Option<Rule> {
        self.strike_at(Fault::Lag, None, Some(object))
    }

    fn strike_at(&mut self, fault: Fault, service: Option<&str>, object: Option<Late>) -> Option<Rule> {
        let request = &self.request;
        let fits = |rule: &Rule| {
            rule.fault == fault
                && rule.operation.as_ref().is_none_or(|name| request.contains(name))
                && rule.service.as_deref().is_none_or(|name| service == Some(name))
                && rule.object.is_none_or(|kind| object == Some(kind))
        };
        for rules in [&mut self.momentary, &mut self.rules] {
            let Some(at) = rules.iter().position(fits) else { continue };
            let rule = rules[at].clone();
            match rules[at].count {
                None => {}
                Some(0 | 1) => drop(rules.remove(at)),
                Some(count) => rules[at].count = Some(count - 1),
            }
            return Some(rule);
        }
        None
    }
}
