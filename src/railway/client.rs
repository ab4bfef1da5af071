//! One request: admitted by the budget, sent with the token, waited for, and repeated only where that is safe.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use chrono::{DateTime, Utc};
use graphql_client::GraphQLQuery;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::answer::{self, Again, Asked, Failure, Kind};
use super::budget::{Budget, Why};
use super::error::Error;
use super::transport::{HttpRequest, HttpResponse, Transport, TransportError};
use crate::tenancy::Secret;

/// First tries included.
const TRIES_MAX: usize = 5;

/// Which kind of token, and the token.
#[derive(Debug, Clone)]
pub enum Token {
    /// Bound to one environment of one project (`RAILWAY_TOKEN`).
    Project(Secret),
    /// Of an account or a workspace (`RAILWAY_API_TOKEN`).
    Api(Secret),
}

impl Token {
    pub(super) const PROJECT: &'static str = "project token";

    fn name(&self) -> &'static str {
        match self {
            Token::Project(_) => Token::PROJECT,
            Token::Api(_) => "API token",
        }
    }

    fn text(&self) -> &Secret {
        match self {
            Token::Project(token) | Token::Api(token) => token,
        }
    }

    /// Why it cannot be a token at all; a header would not take it.
    fn fault(&self) -> Option<&'static str> {
        let text = self.text().expose();
        if text.is_empty() {
            return Some("it is empty");
        }
        text.bytes()
            .any(|byte| !byte.is_ascii_graphic())
            .then_some("it holds a blank or another character no token has")
    }

    fn header(&self) -> (&'static str, String) {
        match self {
            Token::Project(token) => ("project-access-token", token.expose().to_owned()),
            Token::Api(token) => ("authorization", format!("Bearer {}", token.expose())),
        }
    }
}

#[derive(Debug, Clone)]
pub struct ClientConfig {
    pub token: Token,
    /// Of the jitter; any number does, the simulation passes its own.
    pub seed: u64,
    /// How long an answer to a read may take.
    pub read_timeout: Duration,
    /// Ten aliased creates run one after the other.
    pub mutation_timeout: Duration,
    /// No try of a call begins later than this after the call.
    pub deadline: Duration,
}

impl ClientConfig {
    pub fn new(token: Token, seed: u64) -> ClientConfig {
        ClientConfig {
            token,
            seed,
            read_timeout: Duration::from_secs(30),
            mutation_timeout: Duration::from_secs(90),
            // Long enough to wait out one block by the edge.
            deadline: Duration::from_secs(120),
        }
    }
}

/// What was sent so far, repeats included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requests {
    pub reads: u64,
    pub mutations: u64,
    pub by_operation: BTreeMap<&'static str, u64>,
}

impl Requests {
    pub fn total(&self) -> u64 {
        self.reads + self.mutations
    }
}

pub struct Client {
    config: ClientConfig,
    transport: Arc<dyn Transport>,
    budget: Mutex<Budget>,
    jitter: Jitter,
    requests: Mutex<Requests>,
    heard: Mutex<Option<Heard>>,
}

/// What the headers of the newest answer said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    /// By our own clock.
    pub at: DateTime<Utc>,
    /// By Railway's, in whole seconds.
    pub date: Option<DateTime<Utc>>,
    /// Requests an hour, and how many of them are left.
    pub limit: Option<u64>,
    pub remaining: Option<u64>,
}

/// One request's body, ready to send as often as needed.
pub(super) struct Call {
    operation: &'static str,
    kind: Kind,
    body: String,
    /// A refusal is an answer: whoever asked splits the request up instead of repeating it.
    refusal_is_final: bool,
}

impl Call {
    /// `body` is `{ query, variables, operationName }`.
    pub(super) fn new(operation: &'static str, kind: Kind, body: &impl Serialize) -> Call {
        let body = serde_json::to_string(body).expect("maps with string keys are always JSON");
        Call { operation, kind, body, refusal_is_final: false }
    }

    pub(super) fn with_final_refusal(self) -> Call {
        Call { refusal_is_final: true, ..self }
    }

    fn worth_repeating(&self, failure: &Failure) -> bool {
        let refused = matches!(failure.error, Error::Refused { .. });
        failure.again != Again::No && !(self.refusal_is_final && refused)
    }
}

impl Client {
    pub fn new(config: ClientConfig, transport: Arc<dyn Transport>) -> Client {
        let jitter = Jitter::new(config.seed);
        Client {
            config,
            transport,
            budget: Mutex::new(Budget::new()),
            jitter,
            requests: Mutex::default(),
            heard: Mutex::default(),
        }
    }

    pub fn heard(&self) -> Option<Heard> {
        lock(&self.heard).clone()
    }

    pub fn requests(&self) -> Requests {
        lock(&self.requests).clone()
    }

    /// Requests that this token may still send in this hour, where Railway told.
    pub fn remaining(&self) -> Option<u64> {
        lock(&self.budget).remaining()
    }

    /// Another run begins with this client: only what it sends is told from now on. The budget goes on.
    pub fn count_anew(&self) {
        *lock(&self.requests) = Requests::default();
    }

    pub(super) fn holds_project_token(&self) -> bool {
        matches!(self.config.token, Token::Project(_))
    }

    /// A query; repeated until it is answered, within the bounds.
    pub(super) async fn read<Q: GraphQLQuery>(&self, variables: Q::Variables) -> Result<Q::ResponseData, Error> {
        self.fixed::<Q>(Kind::Read, variables).await
    }

    /// Sent again only when it certainly was not carried out. Not cancel safe.
    pub(super) async fn mutate<Q: GraphQLQuery>(&self, variables: Q::Variables) -> Result<Q::ResponseData, Error> {
        self.fixed::<Q>(Kind::Mutation, variables).await
    }

    async fn fixed<Q: GraphQLQuery>(&self, kind: Kind, variables: Q::Variables) -> Result<Q::ResponseData, Error> {
        let body = Q::build_query(variables);
        let call = Call::new(body.operation_name, kind, &body);
        let data = self.send(&call).await.map_err(|failure| failure.error)?;
        self.asked(&call).decode(&data)
    }

    pub(super) fn asked(&self, call: &Call) -> Asked {
        Asked { operation: call.operation, kind: call.kind, token: self.config.token.name() }
    }

    /// The `data` of the answer.
    pub(super) async fn send(&self, call: &Call) -> Result<Box<RawValue>, Failure> {
        if let Some(fault) = self.config.token.fault() {
            return Err(Failure::last(self.asked(call).unauthorized(fault)));
        }
        let deadline = Instant::now() + self.config.deadline;
        let backoff = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(200))
            .with_max_delay(Duration::from_secs(10))
            .with_max_times(TRIES_MAX - 1);
        (|| self.attempt(call, deadline))
            .retry(backoff)
            .when(|failure| call.worth_repeating(failure))
            .adjust(|failure, planned| self.delay(failure, planned?, deadline))
            .notify(|failure, delay| {
                tracing::debug!(operation = call.operation, ?delay, error = %failure.error, "trying Railway again");
            })
            .await
    }

    /// `None` gives up.
    fn delay(&self, failure: &Failure, planned: Duration, deadline: Instant) -> Option<Duration> {
        let delay = match failure.again {
            Again::No => return None,
            Again::Backoff => self.jitter.up_to(planned),
            // The budget holds it back.
            Again::WhenAdmitted => Duration::ZERO,
        };
        (Instant::now() + delay < deadline).then_some(delay)
    }

    async fn attempt(&self, call: &Call, deadline: Instant) -> Result<Box<RawValue>, Failure> {
        self.admit(call.operation, deadline).await.map_err(Failure::last)?;
        self.count(call);
        let asked = self.asked(call);
        let patience = match call.kind {
            Kind::Read => self.config.read_timeout,
            Kind::Mutation => self.config.mutation_timeout,
        };
        match tokio::time::timeout(patience, self.transport.send(self.request(call))).await {
            Ok(Ok(response)) => self.answered(asked, &response),
            Ok(Err(TransportError::NotSent { reason })) => Err(asked.unsent(reason)),
            Ok(Err(TransportError::MaybeSent { reason })) => Err(asked.unanswered(reason)),
            Err(_elapsed) => Err(asked.unanswered(format!("none within {} s", patience.as_secs()))),
        }
    }

    /// Waits until the budget lets a request leave; fails when that is after the deadline.
    async fn admit(&self, operation: &'static str, deadline: Instant) -> Result<(), Error> {
        loop {
            let now = Instant::now();
            let Err(wait) = lock(&self.budget).take(now) else { return Ok(()) };
            if now + wait.for_ >= deadline {
                let again_in = wait.for_;
                return Err(match wait.why {
                    Why::RateLimit => Error::RateLimited { operation, again_in },
                    Why::Share => Error::ShareSpent { operation, again_in },
                    Why::Edge { status } => Error::EdgeBlock { operation, status, again_in },
                });
            }
            tokio::time::sleep(wait.for_).await;
        }
    }

    fn answered(&self, asked: Asked, response: &HttpResponse) -> Result<Box<RawValue>, Failure> {
        // Only for headers that tell a date: the answer's own clock is used where it has one.
        let wall = chrono::Utc::now();
        let read = asked.read(response, wall);
        let now = Instant::now();
        let told = answer::allowance(response, wall);
        *lock(&self.heard) = Some(Heard {
            at: wall,
            date: answer::told_date(response),
            limit: told.and_then(|told| told.limit),
            remaining: told.map(|told| told.remaining),
        });
        let mut budget = lock(&self.budget);
        if let Some(allowance) = told {
            budget.learn(now, allowance);
        }
        match read.as_ref().err().map(|failure| &failure.error) {
            Some(Error::RateLimited { again_in, .. }) => {
                // Everybody who was told the same second would come back in it.
                let jitter = self.jitter.up_to(Duration::from_secs(1));
                budget.pause(now, again_in.saturating_add(jitter), Why::RateLimit);
            }
            Some(&Error::EdgeBlock { status, again_in, .. }) => budget.pause(now, again_in, Why::Edge { status }),
            _ => {}
        }
        read
    }

    fn request(&self, call: &Call) -> HttpRequest {
        let headers = vec![
            ("content-type", "application/json".to_owned()),
            ("user-agent", super::USER_AGENT.to_owned()),
            ("x-source", "o7s".to_owned()),
            self.config.token.header(),
        ];
        HttpRequest { operation: call.operation, headers, body: call.body.clone() }
    }

    fn count(&self, call: &Call) {
        let mut requests = lock(&self.requests);
        match call.kind {
            Kind::Read => requests.reads += 1,
            Kind::Mutation => requests.mutations += 1,
        }
        *requests.by_operation.entry(call.operation).or_default() += 1;
    }
}

/// What is under our locks is whole between any two statements, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// SplitMix64: enough to spread retries, and the same for the same seed.
struct Jitter(AtomicU64);

impl Jitter {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

    fn new(seed: u64) -> Jitter {
        Jitter(AtomicU64::new(seed))
    }

    /// From zero to `time`, evenly.
    fn up_to(&self, time: Duration) -> Duration {
        let mut z = self.0.fetch_add(Self::STEP, Ordering::Relaxed).wrapping_add(Self::STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        time.mul_f64((z >> 11) as f64 / (1u64 << 53) as f64)
    }
}
