//! Schema fields over the world. One enum holds every kind of object; the schema itself says what its fields are.
//!
//! Read: args, page, query, mutation, then one file a kind of object.

mod args;
mod backups;
mod change_set;
mod deployment;
mod environment;
mod instance;
mod logs;
mod mutation;
mod network;
mod notifications;
mod page;
mod project;
mod query;
mod writes;

use std::cell::RefCell;

use apollo_compiler::resolvers::{FieldError, ObjectValue, ResolveInfo, ResolvedValue};
use apollo_compiler::schema::ExtendedType;
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value};

use super::error::Refusal;
use super::world::{At, Caller, Fault, Id, World};
use args::Args;
use page::Page;

/// What the resolvers of one request share.
pub struct Context<'w> {
    pub world: RefCell<&'w mut World>,
    pub caller: Caller,
    pub now: DateTime<Utc>,
    /// Requests left in this hour, and when it ends.
    pub budget: (u32, DateTime<Utc>),
    /// This alias fails on order.
    pub failing_alias: Option<String>,
    /// Every root field is refused on order.
    pub refused: bool,
    /// Root fields of mutations that ran, in order.
    pub ran: RefCell<Vec<Ran>>,
}

/// A root field of a mutation that ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    pub alias: String,
    pub field: String,
    pub succeeded: bool,
}

/// An object of the schema, by what identifies it.
#[derive(Clone)]
pub enum Object {
    Query,
    Mutation,
    User,
    Workspace,
    Project(Id),
    Environment(Id),
    Service(Id),
    ServiceInstance(At),
    /// With its place, because finding it by its id alone means looking everywhere.
    Deployment {
        at: At,
        id: Id,
    },
    Volume(Id),
    VolumeInstance {
        environment: Id,
        volume: Id,
    },
    Patch {
        environment: Id,
        patch: Id,
    },
    ProjectToken,
    Page {
        kind: String,
        page: Page,
    },
    Edge {
        kind: String,
        cursor: String,
        node: Box<Object>,
    },
    /// All its fields are known already.
    Plain {
        kind: String,
        fields: Map<String, Value>,
    },
}

/// What a field resolves to.
pub enum Answer {
    /// A scalar, or plain objects and lists of them, by the field's type.
    Json(Value),
    One(Object),
    Many(Vec<Object>),
    Page(Page),
    Edges(Vec<(String, Object)>),
    /// In the schema, and not simulated.
    Absent,
}

type Resolved = Result<Answer, Refusal>;

/// An object within a request.
pub struct Resolver<'c, 'w> {
    pub object: Object,
    pub context: &'c Context<'w>,
}

impl ObjectValue for Resolver<'_, '_> {
    fn type_name(&self) -> &str {
        match &self.object {
            Object::Query => "Query",
            Object::Mutation => "Mutation",
            Object::User => "User",
            Object::Workspace => "Workspace",
            Object::Project(_) => "Project",
            Object::Environment(_) => "Environment",
            Object::Service(_) => "Service",
            Object::ServiceInstance(_) => "ServiceInstance",
            Object::Deployment { .. } => "Deployment",
            Object::Volume(_) => "Volume",
            Object::VolumeInstance { .. } => "VolumeInstance",
            Object::Patch { .. } => "EnvironmentPatch",
            Object::ProjectToken => "ProjectToken",
            Object::Page { kind, .. } | Object::Edge { kind, .. } | Object::Plain { kind, .. } => kind,
        }
    }

    fn resolve_field<'a>(&'a self, info: &'a ResolveInfo<'a>) -> Result<ResolvedValue<'a>, FieldError> {
        let args = Args::new(info.arguments());
        let answer = self.field(info, &args).map_err(|refusal| self.context.worded(&refusal))?;
        self.shaped(answer, info)
    }
}

impl Resolver<'_, '_> {
    fn field(&self, info: &ResolveInfo<'_>, args: &Args) -> Resolved {
        let (context, field) = (self.context, info.field_name());
        match &self.object {
            Object::Query => context.refuse_on_order().and_then(|()| query::field(context, field, args)),
            Object::Mutation => mutation::field(context, field, response_key(info), args),
            Object::User => project::user(context, field),
            Object::Workspace => project::workspace(context, field, args),
            Object::Project(id) => project::project(context, id, field, args),
            Object::ProjectToken => project::token(context, field),
            Object::Environment(id) => environment::environment(context, id, field, args),
            Object::Patch { environment, patch } => environment::patch(context, environment, patch, field, args),
            Object::Service(id) => project::service(context, id, field),
            Object::ServiceInstance(at) => instance::service_instance(context, at, field),
            Object::Deployment { at, id } => deployment::deployment(context, at, id, field),
            Object::Volume(id) => project::volume(context, id, field, args),
            Object::VolumeInstance { environment, volume } => {
                instance::volume_instance(context, environment, volume, field)
            }
            Object::Page { page, .. } => Ok(page.field(field)),
            Object::Edge { cursor, node, .. } => Ok(page::edge(cursor, node, field)),
            Object::Plain { fields, .. } => Ok(fields.get(field).map_or(Answer::Absent, |v| Answer::Json(v.clone()))),
        }
    }

    fn shaped<'a>(&'a self, answer: Answer, info: &'a ResolveInfo<'a>) -> Result<ResolvedValue<'a>, FieldError> {
        let kind = info.field_definition().ty.inner_named_type();
        let boxed =
            |object| -> ResolvedValue<'a> { ResolvedValue::object(Resolver { object, context: self.context }) };
        Ok(match answer {
            Answer::Absent => {
                let missing = format!("field `{}.{}`", self.type_name(), info.field_name());
                return Err(FieldError { message: Refusal::NotSimulated(missing).to_string() });
            }
            Answer::Json(value) if matches!(info.schema().types.get(kind), Some(ExtendedType::Object(_))) => {
                plain(value, kind.as_str(), self.context)
            }
            Answer::Json(Value::Array(items)) if info.field_definition().ty.is_list() => {
                ResolvedValue::list(items.into_iter().map(ResolvedValue::leaf).collect::<Vec<_>>())
            }
            Answer::Json(value) => ResolvedValue::leaf(value),
            Answer::One(object) => boxed(object),
            Answer::Many(objects) => ResolvedValue::list(objects.into_iter().map(boxed).collect::<Vec<_>>()),
            Answer::Page(page) => boxed(Object::Page { kind: kind.to_string(), page }),
            Answer::Edges(edges) => ResolvedValue::list(
                edges
                    .into_iter()
                    .map(|(cursor, node)| {
                        boxed(Object::Edge { kind: kind.to_string(), cursor, node: Box::new(node) })
                    })
                    .collect::<Vec<_>>(),
            ),
        })
    }
}

fn plain<'a>(value: Value, kind: &str, context: &'a Context<'_>) -> ResolvedValue<'a> {
    match value {
        Value::Object(fields) => {
            ResolvedValue::object(Resolver { object: Object::Plain { kind: kind.to_owned(), fields }, context })
        }
        Value::Array(items) => {
            ResolvedValue::list(items.into_iter().map(|item| plain(item, kind, context)).collect::<Vec<_>>())
        }
        other => ResolvedValue::leaf(other),
    }
}

fn response_key<'a>(info: &ResolveInfo<'a>) -> &'a str {
    info.field_selections()[0].response_key().as_str()
}

impl Context<'_> {
    /// As the client hears it; what is gone has two texts.
    fn worded(&self, refusal: &Refusal) -> FieldError {
        let garbled =
            *refusal == Refusal::Gone && self.world.borrow_mut().faults.strike(Fault::Garbled, None).is_some();
        FieldError { message: if garbled { Refusal::Injected.to_string() } else { refusal.to_string() } }
    }

    fn refuse_on_order(&self) -> Result<(), Refusal> {
        if self.refused { Err(Refusal::NotAuthorized) } else { Ok(()) }
    }

    /// A project token reaches its own project only.
    fn may_reach_project(&self, id: &str) -> Result<(), Refusal> {
        match &self.caller {
            Caller::Project { project, .. } if project != id => Err(Refusal::NotAuthorized),
            _ => Ok(()),
        }
    }

    /// A project token reaches its own environment only.
    fn may_reach(&self, environment: &str) -> Result<(), Refusal> {
        match &self.caller {
            Caller::Project { environment: own, .. } if own != environment => Err(Refusal::NotAuthorized),
            _ => Ok(()),
        }
    }

    /// What a token bound to one environment must not do.
    fn not_for_project_tokens(&self) -> Result<(), Refusal> {
        if matches!(self.caller, Caller::Project { .. }) { Err(Refusal::NotAuthorized) } else { Ok(()) }
    }

    /// The service is in reach, and lists do not lag behind it any more.
    fn seen_service(&self, id: &str) -> Result<(), Refusal> {
        let world = self.world.borrow();
        let service = world.service(id)?;
        self.may_reach_project(&service.project)?;
        if service.visible_at <= self.now { Ok(()) } else { Err(Refusal::NotFound("Service")) }
    }

    fn seen_instance(&self, at: &At) -> Result<(), Refusal> {
        self.may_reach(&at.environment)?;
        let visible_at = self.world.borrow().instance(at)?.visible_at;
        if visible_at <= self.now { Ok(()) } else { Err(Refusal::NotFound("ServiceInstance")) }
    }
}

/// As Railway writes times: RFC 3339 with milliseconds and Z.
fn time(at: DateTime<Utc>) -> Value {
    Value::String(at.to_rfc3339_opts(SecondsFormat::Millis, true))
}

fn json(value: impl Into<Value>) -> Resolved {
    Ok(Answer::Json(value.into()))
}

fn null() -> Resolved {
    Ok(Answer::Json(Value::Null))
}
