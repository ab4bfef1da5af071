//! What can go wrong with Railway: one variant for each thing a caller can do about it, each with its next step.

use std::time::Duration;

use super::code::Code;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("`{url}` is no endpoint of Railway's API: {reason}")]
    BadEndpoint { url: String, reason: String },
    /// "Not Authorized" and its like. On Railway that says nothing about whether the thing still exists.
    #[error("Railway does not let this {token} do {operation}: {message}")]
    Unauthorized { operation: &'static str, token: &'static str, message: String },
    /// A project token is bound to one environment; this one is bound to another than the manifests name.
    #[error("the project token is for project `{project}`, environment `{environment}`, not for {wanted}")]
    TokenElsewhere { project: String, environment: String, wanted: String },
    #[error("Railway's rate limit leaves no request for {operation} for another {} s", seconds(*again_in))]
    RateLimited { operation: &'static str, again_in: Duration },
    /// Railway would take it: we keep to our share of the token's hour.
    #[error("o7s has spent its share of the token's hourly requests: {operation} has to wait another {} s", seconds(*again_in))]
    ShareSpent { operation: &'static str, again_in: Duration },
    /// The proxy in front of Railway's API answered in its place, so nothing was carried out.
    #[error("Railway's edge turned {operation} away with HTTP {status}")]
    EdgeBlock { operation: &'static str, status: u16, again_in: Duration },
    #[error("Railway's plan allows no more: {message} ({operation})")]
    PlanLimit { operation: &'static str, message: String },
    #[error("the name is taken on Railway: {message} ({operation})")]
    NameTaken { operation: &'static str, message: String },
    /// Gone, or made so recently that Railway does not see it yet.
    #[error("Railway does not find what {operation} is about: {message}")]
    NotFound { operation: &'static str, message: String },
    /// A throttle outside the rate limits, on how fast things are made.
    #[error("Railway asks for a pause before {operation}: {message}")]
    TooQuickly { operation: &'static str, message: String },
    #[error("Railway refused {operation}: {message}{}", trace(trace_id.as_deref()))]
    Refused { operation: &'static str, message: String, trace_id: Option<String> },
    /// A mutation was sent and its answer did not arrive: it may have been carried out.
    #[error("the answer to {operation} was lost: {reason}")]
    Lost { operation: &'static str, reason: String },
    #[error("no answer from Railway to {operation}: {reason}")]
    Unreachable { operation: &'static str, reason: String },
    #[error("Railway's answer to {operation} is not what its schema promises: {reason}")]
    BadAnswer { operation: &'static str, reason: String },
    /// Part of the answer is missing, so nothing may be concluded from what is not in it.
    #[error("Railway's answer to {operation} is incomplete: {what}")]
    Incomplete { operation: &'static str, what: String },
}

impl Error {
    pub fn code(&self) -> Code {
        match self {
            Error::BadEndpoint { .. } => Code::BadEndpoint,
            Error::Unauthorized { .. } => Code::Unauthorized,
            Error::TokenElsewhere { .. } => Code::TokenElsewhere,
            Error::RateLimited { .. } => Code::RateLimited,
            Error::ShareSpent { .. } => Code::ShareSpent,
            Error::EdgeBlock { .. } => Code::EdgeBlock,
            Error::PlanLimit { .. } => Code::PlanLimit,
            Error::NameTaken { .. } => Code::NameTaken,
            Error::NotFound { .. } => Code::NotFound,
            Error::TooQuickly { .. } => Code::TooQuickly,
            Error::Refused { .. } => Code::Refused,
            Error::Lost { .. } => Code::Lost,
            Error::Unreachable { .. } => Code::Unreachable,
            Error::BadAnswer { .. } => Code::BadAnswer,
            Error::Incomplete { .. } => Code::Incomplete,
        }
    }

    /// The next step, for the person who reads the error.
    pub fn help(&self) -> String {
        match self {
            Error::BadEndpoint { .. } => {
                "set O7S_RAILWAY_URL to the full URL, as in https://backboard.railway.com/graphql/v2".into()
            }
            Error::Unauthorized { token, .. } => unauthorized_help(token),
            Error::TokenElsewhere { .. } => "set RAILWAY_TOKEN to a token of that environment, or correct \
                `spec.railway` of the Fleet"
                .into(),
            Error::RateLimited { again_in, .. } => {
                format!("run again in {} s; a larger Railway plan has a larger hourly limit", seconds(*again_in))
            }
            Error::ShareSpent { again_in, .. } => format!(
                "run again in {} s; o7s sends at most half of what the Railway plan allows in an hour, and leaves the last \
                 twentieth to others: look what else uses this token",
                seconds(*again_in)
            ),
            Error::EdgeBlock { again_in, .. } => format!(
                "run again in {} s; if it stays, look whether a firewall or proxy stands before O7S_RAILWAY_URL",
                seconds(*again_in)
            ),
            Error::PlanLimit { .. } => {
                "delete what is not needed any more, or raise the plan of the workspace".into()
            }
            Error::NameTaken { .. } => "look in the project who has that name; rename it there or here".into(),
            Error::NotFound { .. } => "run again: what was just made can take half a minute to be seen".into(),
            Error::TooQuickly { .. } => "nothing to repair: run again in a minute".into(),
            Error::Refused { .. } => "if the text does not say why, ask Railway's support with the trace id".into(),
            Error::Lost { .. } => "run again: the next run looks what became of it and doubles nothing".into(),
            Error::Unreachable { .. } => "check the network and O7S_RAILWAY_URL, then run again".into(),
            Error::BadAnswer { .. } => {
                "check that O7S_RAILWAY_URL ends in /graphql/v2; if it does, Railway's schema \
                has changed and O7s must follow"
                    .into()
            }
            Error::Incomplete { .. } => "run again; nothing was concluded from the missing part".into(),
        }
    }

    /// The exit code of a command that ends with it; the table is in the README.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::BadEndpoint { .. } => 64,
            Error::PlanLimit { .. } => 5,
            Error::RateLimited { .. } | Error::EdgeBlock { .. } | Error::Unreachable { .. } => 7,
            Error::ShareSpent { .. } | Error::TooQuickly { .. } | Error::Lost { .. } => 7,
            Error::Unauthorized { .. } | Error::TokenElsewhere { .. } => 77,
            Error::NameTaken { .. } | Error::NotFound { .. } | Error::Refused { .. } => 1,
            Error::BadAnswer { .. } | Error::Incomplete { .. } => 1,
        }
    }
}

/// What an aliased mutation did before it failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct BatchFailure {
    pub error: Error,
    /// This many from the first on were carried out for certain, though Railway kept their ids to itself.
    pub ran: usize,
    /// The one that failed, if Railway said which.
    pub failed: Option<usize>,
}

impl BatchFailure {
    /// A failure that says nothing about the single items.
    pub(super) fn whole(error: Error) -> BatchFailure {
        BatchFailure { error, ran: 0, failed: None }
    }
}

fn unauthorized_help(token: &str) -> String {
    let variable = if token == super::Token::PROJECT { "RAILWAY_TOKEN" } else { "RAILWAY_API_TOKEN" };
    format!(
        "check that {variable} is complete, not revoked and has a right to this project; `Not Authorized` is also \
         Railway's word for what it cannot find, so nothing was taken for deleted"
    )
}

/// Rounded up: "again in 0 s" would be wrong.
fn seconds(time: Duration) -> u64 {
    time.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)
}

fn trace(id: Option<&str>) -> String {
    id.map_or_else(String::new, |id| format!(" (trace {id})"))
}
