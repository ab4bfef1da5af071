//! One request, from its headers and body to an answer: who asks, what trouble was ordered, is there budget left, then
//! the document against the world. No I/O: the HTTP server and tests in memory both come through here.

use std::cell::RefCell;
use std::collections::BTreeMap;

use apollo_compiler::executable::{Operation, OperationType};
use apollo_compiler::request::coerce_variable_values;
use apollo_compiler::resolvers::Execution;
use apollo_compiler::response::{GraphQLError, JsonMap};
use apollo_compiler::validation::Valid;
use apollo_compiler::{ExecutableDocument, introspection};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Refusal;
use super::counters::{Mutation, MutationLog, Requests};
use super::limits::{Budget, Spent};
use super::published::{Documents, Published};
use super::resolve::{Context, Object, Ran, Resolver};
use super::world::{Caller, Fault, Rule, World};
use crate::tenancy::Secret;

/// Header names in lower case.
pub type Headers = BTreeMap<String, String>;

/// What became of an answer on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Delivered,
    /// The connection breaks before a whole answer has passed.
    Cut,
    /// Nothing ever comes.
    Never,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalResponse {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
    pub fate: Fate,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    query: String,
    #[serde(default)]
    variables: Option<JsonMap>,
    #[serde(default)]
    operation_name: Option<String>,
}

/// The door in front of a [`World`].
#[derive(Clone)]
pub struct Gateway {
    pub world: World,
    pub budget: Budget,
    pub requests: Requests,
    pub log: MutationLog,
    /// Trouble ordered for single requests, by their number.
    pub plan: BTreeMap<u64, Rule>,
    /// The world is no longer as it was when somebody last took this flag down.
    pub changed: bool,
    documents: Documents,
    /// Requests that came, counted or not.
    seen: u64,
    /// Lost answers alternate between a broken connection and a 504, as both happen.
    lost: u64,
}

/// An operation that can be run: its document, itself, its variables.
struct Prepared {
    document: std::sync::Arc<Valid<ExecutableDocument>>,
    operation_name: Option<String>,
    name: String,
    root_fields: Vec<(String, String)>,
    mutation: bool,
    variables: JsonMap,
}

impl Gateway {
    pub fn new(world: World) -> Gateway {
        Gateway {
            world,
            budget: Budget::default(),
            requests: Requests::default(),
            log: MutationLog::default(),
            plan: BTreeMap::new(),
            changed: false,
            documents: Documents::default(),
            seen: 0,
            lost: 0,
        }
    }

    /// Requests that came so far; the next one has this number in a plan of faults.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    pub fn handle(&mut self, now: DateTime<Utc>, headers: &Headers, body: &str) -> LocalResponse {
        let planned = self.plan.remove(&self.seen).into_iter().collect();
        self.seen += 1;
        let prepared = self.prepare(body);
        let names = prepared.as_ref().map_or_else(|_| Vec::new(), Prepared::names);
        self.world.faults.begin_request(names, planned);
        self.changed |= self.world.tick(now);
        let answer = self.answer(now, headers, prepared);
        self.world.faults.end_request();
        answer
    }

    fn answer(
        &mut self,
        now: DateTime<Utc>,
        headers: &Headers,
        prepared: Result<Prepared, Box<LocalResponse>>,
    ) -> LocalResponse {
        if self.strikes(Fault::EdgeBlock) {
            return html(403, "<html><body><h1>Access denied</h1><p>Error 1015</p></body></html>");
        }
        if self.strikes(Fault::ServerError) {
            return html(502, "<html><body><h1>502 Bad Gateway</h1></body></html>");
        }
        if self.strikes(Fault::Timeout) {
            return LocalResponse { fate: Fate::Never, ..html(504, "") };
        }
        let mut spent = self.budget.spend(self.world.plan, now);
        if self.strikes(Fault::TooManyRequests) {
            spent.retry_after_s = Some(1);
        }
        let response = if spent.retry_after_s.is_some() {
            failure(429, "Rate limit exceeded, please try again later", None)
        } else {
            self.admitted(now, headers, prepared, &spent)
        };
        LocalResponse { headers: [response.headers, spent.headers()].concat(), ..response }
    }

    fn strikes(&mut self, fault: Fault) -> bool {
        self.world.faults.strike(fault, None).is_some()
    }

    fn admitted(
        &mut self,
        now: DateTime<Utc>,
        headers: &Headers,
        prepared: Result<Prepared, Box<LocalResponse>>,
        spent: &Spent,
    ) -> LocalResponse {
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(refused) => {
                self.requests.count("(invalid)", false);
                return *refused;
            }
        };
        self.requests.count(&prepared.name, prepared.mutation);
        let caller = match self.caller(headers) {
            Ok(caller) => caller,
            Err(refusal) => return failure(200, &refusal.to_string(), None),
        };
        let response = self.execute(now, caller, &prepared, spent);
        if !self.strikes(Fault::LostAnswer) {
            return response;
        }
        self.lost += 1;
        match self.lost % 2 {
            1 => LocalResponse { fate: Fate::Cut, ..response },
            _ => html(504, "<html><body><h1>504 Gateway Time-out</h1></body></html>"),
        }
    }

    /// If both kinds of token are sent, the project token wins, as in Railway's CLI.
    fn caller(&self, headers: &Headers) -> Result<Caller, Refusal> {
        if let Some(token) = headers.get("project-access-token") {
            let caller = self.world.caller(&Secret::new(token.trim()));
            let project = caller.filter(|caller| matches!(caller, Caller::Project { .. }));
            return project.cloned().ok_or(Refusal::NoProjectToken);
        }
        let bearer = headers.get("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let caller = bearer.and_then(|token| self.world.caller(&Secret::new(token.trim())));
        // A project token sent as a bearer is not recognised by Railway.
        caller.filter(|caller| !matches!(caller, Caller::Project { .. })).cloned().ok_or(Refusal::NotAuthorized)
    }

    fn prepare(&mut self, body: &str) -> Result<Prepared, Box<LocalResponse>> {
        let refuse = |message: String| Box::new(failure(400, &message, Some("BAD_REQUEST")));
        let body: Body =
            serde_json::from_str(body).map_err(|error| refuse(format!("not a GraphQL request: {error}")))?;
        let document = self.documents.get(&body.query).map_err(|errors| Box::new(errors_only(400, errors)))?;
        // Requests are routed by their document: a name that fits nothing is ignored when there is one operation.
        let single = document.operations.len() == 1;
        let operation_name = body.operation_name.filter(|_| !single);
        let operation = document.operations.get(operation_name.as_deref());
        let operation = operation.map_err(|error| refuse(error.message().to_string()))?;
        if operation.operation_type == OperationType::Subscription {
            return Err(refuse(Refusal::NotSimulated("a subscription".into()).to_string()));
        }
        introspection::check_max_depth(&document, operation).map_err(|error| refuse(error.message().to_string()))?;
        let root_fields = root_fields(&document, operation);
        let name = operation.name.as_ref().map(ToString::to_string);
        let mutation = operation.operation_type == OperationType::Mutation;
        let fields = || root_fields.iter().map(|(_, field)| field.as_str()).collect::<Vec<_>>().join(",");
        let name = name.unwrap_or_else(fields);
        let variables = body.variables.unwrap_or_default();
        Ok(Prepared { document: document.clone(), operation_name, name, root_fields, mutation, variables })
    }

    fn execute(&mut self, now: DateTime<Utc>, caller: Caller, prepared: &Prepared, spent: &Spent) -> LocalResponse {
        let failing_alias = self.failing_alias(prepared);
        let refused = self.strikes(Fault::NotAuthorized);
        let published = Published::get();
        let Ok(operation) = prepared.document.operations.get(prepared.operation_name.as_deref()) else {
            return failure(400, "the operation is gone", Some("BAD_REQUEST"));
        };
        let variables = match coerce_variable_values(&published.schema, operation, &prepared.variables) {
            Ok(variables) => variables,
            Err(error) => return failure(400, &error.message().to_string(), Some("BAD_USER_INPUT")),
        };
        let context = Context {
            world: RefCell::new(&mut self.world),
            caller,
            now,
            budget: (spent.remaining, spent.resets_at),
            failing_alias,
            refused,
            ran: RefCell::new(Vec::new()),
        };
        let object = if prepared.mutation { Object::Mutation } else { Object::Query };
        let outcome = Execution::new(&published.schema, &prepared.document)
            .operation(operation)
            .implementers_map(&published.implementers)
            .coerced_variable_values(&variables)
            .enable_schema_introspection(true)
            .execute_sync(&Resolver { object, context: &context });
        let ran = context.ran.into_inner();
        self.record(prepared, ran);
        // What it started may be due at once.
        self.changed |= self.world.tick(now) | prepared.mutation;
        match outcome {
            Err(error) => failure(400, &error.message().to_string(), Some("BAD_REQUEST")),
            Ok(outcome) => {
                let errors: Vec<Value> = outcome.errors.iter().map(field_error).collect();
                let mut body = json!({ "data": outcome.data });
                if !errors.is_empty() {
                    body["errors"] = errors.into();
                }
                json_response(200, &body)
            }
        }
    }

    /// The alias an order names, or else the last one.
    fn failing_alias(&mut self, prepared: &Prepared) -> Option<String> {
        let rule = self.world.faults.strike(Fault::FailAlias, None)?;
        rule.alias.or_else(|| prepared.root_fields.last().map(|(alias, _)| alias.clone()))
    }

    fn record(&mut self, prepared: &Prepared, ran: Vec<Ran>) {
        for ran in ran {
            let request = self.seen - 1;
            self.log.record(Mutation { request, operation: prepared.name.clone(), ran });
        }
    }
}

impl Prepared {
    /// What an order can name this request by.
    fn names(&self) -> Vec<String> {
        let fields = self.root_fields.iter().map(|(_, field)| field.clone());
        std::iter::once(self.name.clone()).chain(fields).collect()
    }
}

/// Aliases and names of the root fields, in order.
fn root_fields(document: &ExecutableDocument, operation: &Operation) -> Vec<(String, String)> {
    operation.root_fields(document).map(|field| (field.response_key().to_string(), field.name.to_string())).collect()
}

fn field_error(error: &GraphQLError) -> Value {
    let message = error.message.strip_prefix("resolver error: ").unwrap_or(&error.message);
    let locations: Vec<Value> =
        error.locations.iter().map(|at| json!({ "line": at.line, "column": at.column })).collect();
    json!({
        "message": message,
        "path": error.path,
        "locations": locations,
        "extensions": { "code": Refusal::code(message) },
        "traceId": trace_id(message),
    })
}

/// Looks like Railway's; the same error has the same one, which keeps runs repeatable.
fn trace_id(message: &str) -> String {
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    (message.bytes().fold(0xcbf2_9ce4_8422_2325, mix) >> 4).to_string()
}

fn failure(status: u16, message: &str, code: Option<&str>) -> LocalResponse {
    let code = code.unwrap_or("INTERNAL_SERVER_ERROR");
    let error = json!({ "message": message, "extensions": { "code": code }, "traceId": trace_id(message) });
    errors_only(status, vec![error])
}

fn errors_only(status: u16, errors: Vec<Value>) -> LocalResponse {
    // Below 400 a body without data would be no GraphQL answer.
    let body = if status < 400 { json!({ "errors": errors, "data": null }) } else { json!({ "errors": errors }) };
    json_response(status, &body)
}

fn json_response(status: u16, body: &Value) -> LocalResponse {
    let headers = vec![("content-type".into(), "application/json".into())];
    LocalResponse { status, headers, body: body.to_string(), fate: Fate::Delivered }
}

fn html(status: u16, body: &str) -> LocalResponse {
    let headers = vec![("content-type".into(), "text/html; charset=UTF-8".into())];
    LocalResponse { status, headers, body: body.to_owned(), fate: Fate::Delivered }
}

/// An outage of our own making.
pub fn unavailable(reason: &str) -> LocalResponse {
    failure(503, reason, Some("SERVICE_UNAVAILABLE"))
}
