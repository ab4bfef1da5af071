//! Tenants: tier, place, own ceilings, roles, publications, and the keys of a deletion.

use std::collections::BTreeMap;

use crate::tenancy::{GENERATION_MAX, InstanceName, OWNER_VARIABLE, PoolName, RoleName, TenantId, TierName};

use super::check_tier::LimitsDraft;
use super::code::Code;
use super::error::{Report, expected_one_of, quote};
use super::head::Head;
use super::model::{DeletionPolicy, Grants, Origins, Publish, Role, TenantState};
use super::raw::{Node, Object};
use super::read::{At, Fields, Scope, text_of};
use super::source::{File, Mark};

const ROLES_MAX: usize = 32;
const PUBLISH_MAX: usize = 64;
const LABELS_MAX: usize = 64;
/// Postgres cuts longer identifiers without a word.
const ROLE_BYTES_MAX: usize = 63;
const GRANTS: [(&str, Grants); 2] = [("read", Grants::Read), ("write", Grants::Write)];
const STATES: [(&str, TenantState); 2] = [("present", TenantState::Present), ("absent", TenantState::Absent)];
const POLICIES: [(&str, DeletionPolicy); 3] =
    [("retain", DeletionPolicy::Retain), ("detach", DeletionPolicy::Detach), ("delete", DeletionPolicy::Delete)];

/// A Tenant whose references are not looked up yet.
pub(super) struct TenantDraft<'a> {
    pub file: &'a File<'a>,
    pub name: At<TenantId>,
    pub labels: BTreeMap<String, String>,
    pub renamed_from: Option<At<TenantId>>,
    pub tier: Option<At<TierName>>,
    /// Written, even if unreadable.
    pub names_a_tier: bool,
    pub place: Place,
    pub limits: LimitsDraft,
    pub roles: Vec<Role>,
    pub suspended: bool,
    pub paused: bool,
    pub generation: u32,
    pub state: TenantState,
    pub deletion_policy: DeletionPolicy,
    pub publish: Vec<PublishDraft>,
    pub origins: Origins,
}

pub(super) struct PublishDraft {
    pub publish: Publish,
    pub service: Mark,
    pub variable: Mark,
}

/// `spec.placement` as written.
pub(super) enum Place {
    /// Not written: the tier's.
    Tier,
    Pool(At<PoolName>),
    Instance(At<InstanceName>),
    /// Reported.
    Unreadable,
}

pub(super) fn check_tenant<'a>(object: &'a Object<'a>, report: &'a Report) -> Option<TenantDraft<'a>> {
    let mut head = Head::open(object, report)?;
    let name = head.metadata.name("name", "tenant name", TenantId::parse);
    let labels = head.metadata.map("labels").map(labels).unwrap_or_default();
    let renamed_from = head.metadata.name("renamedFrom", "tenant name", TenantId::parse);
    let spec = &mut head.spec;
    let tier = spec.name("tier", "tier name", TierName::parse);
    let names_a_tier = spec.seems_written("tier");
    let place = placement(spec);
    let limits = spec.map("limits").map(LimitsDraft::read).unwrap_or_default();
    let roles = roles(spec, name.as_ref().map(|name| &name.value));
    let suspended = spec.flag("suspended").unwrap_or(false);
    let paused = spec.flag("paused").unwrap_or(false);
    let generation = spec.map("credentials").and_then(generation).unwrap_or(1);
    let state = spec.word("state", &STATES).map_or(TenantState::Present, |word| word.value);
    let policy = spec.word("deletionPolicy", &POLICIES).map_or(DeletionPolicy::Retain, |word| word.value);
    let publish = publications(spec, &roles);
    let roles = roles.declared.into_values().collect();
    let origins = head.close();
    let file = object.file;
    Some(TenantDraft {
        file,
        name: name?,
        labels,
        renamed_from,
        tier,
        names_a_tier,
        place,
        limits,
        roles,
        suspended,
        paused,
        generation,
        state,
        deletion_policy: policy,
        publish,
        origins,
    })
}

fn labels(fields: Fields<'_>) -> BTreeMap<String, String> {
    let scope = fields.scope;
    let plain = |text: &str| {
        (1..=63).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b))
    };
    if fields.entries().len() > LABELS_MAX {
        let message = format!("`metadata.labels` has {} entries", fields.entries().len());
        scope.error(fields.mark(), Code::OutOfRange, message, format!("at most {LABELS_MAX} are allowed"));
        return BTreeMap::new();
    }
    let mut labels = BTreeMap::new();
    for entry in fields.entries() {
        let Some(text) = text_of(scope, &entry.value, &fields.path_of(&entry.key)) else { continue };
        let fault = [(entry.key.as_str(), entry.mark), (text.value, text.mark)].into_iter().find(|(t, _)| !plain(t));
        if let Some((text, mark)) = fault {
            let message = format!("the label text {} cannot be used", quote(text));
            let help = "expected 1 to 63 characters of letters, digits, `.`, `_`, `-` and `/`";
            scope.error(mark, Code::BadText, message, help);
        }
        labels.insert(entry.key.clone(), text.value.to_owned());
    }
    labels
}

fn placement(spec: &mut Fields<'_>) -> Place {
    let written = spec.seems_written("placement");
    let Some(mut fields) = spec.map("placement") else {
        return if written { Place::Unreadable } else { Place::Tier };
    };
    let pool = fields.name("pool", "pool name", PoolName::parse);
    let instance = fields.name("instance", "instance name", InstanceName::parse);
    let (scope, mark, both) = (fields.scope, fields.mark(), fields.has("pool") && fields.has("instance"));
    let none = !fields.seems_written("pool") && !fields.seems_written("instance");
    fields.close();
    if both {
        let message = "`spec.placement` names a pool and an instance";
        scope.error(mark, Code::Contradiction, message, "an instance already says its pool: keep one of the two");
        return Place::Unreadable;
    }
    if none {
        let help = "add `pool: shared` or `instance: shared-2`, or remove `placement`";
        scope.error(mark, Code::MissingKey, "`spec.placement` names no pool or instance", help);
    }
    match (pool, instance) {
        (Some(pool), _) => Place::Pool(pool),
        (_, Some(instance)) => Place::Instance(instance),
        _ => Place::Unreadable,
    }
}

fn generation(mut fields: Fields<'_>) -> Option<u32> {
    let generation = fields.count("generation", 1..=u64::from(GENERATION_MAX));
    fields.close();
    u32::try_from(generation?.value).ok()
}

/// The declared roles; `complete` is false when one could not be read, so that nobody misses it by its name.
struct Roles {
    declared: BTreeMap<RoleName, Role>,
    complete: bool,
}

fn roles(spec: &mut Fields<'_>, tenant: Option<&TenantId>) -> Roles {
    let (path, scope) = (spec.path_of("roles"), spec.scope);
    let nodes = spec.list("roles", ROLES_MAX);
    let mut roles = Roles { declared: BTreeMap::new(), complete: nodes.is_some() || !spec.seems_written("roles") };
    for node in nodes.unwrap_or_default() {
        let Some((at, role)) = role(scope, &path, node, tenant) else {
            roles.complete = false;
            continue;
        };
        if roles.declared.contains_key(&role.name) {
            let message = format!("the role {} is listed twice", quote(role.name.as_str()));
            scope.error(at, Code::DuplicateEntry, message, "remove one");
        } else {
            roles.declared.insert(role.name.clone(), role);
        }
    }
    roles
}

fn role(scope: Scope<'_>, path: &str, node: &Node, tenant: Option<&TenantId>) -> Option<(Mark, Role)> {
    let mut fields = Fields::open(scope, path, node.mark, node)?;
    fields.need("name", "{ name: reader, grants: read }");
    fields.need("grants", "{ name: reader, grants: read }");
    let name = fields.name("name", "role name", RoleName::parse);
    let grants = fields.word("grants", &GRANTS);
    fields.close();
    let name = name?;
    if let Some(tenant) = tenant {
        check_role_name(scope, &name, tenant);
    }
    // Unreadable grants were reported; the role counts as declared.
    let grants = grants.map_or(Grants::Read, |word| word.value);
    Some((name.mark, Role { name: name.value, grants }))
}

fn check_role_name(scope: Scope<'_>, name: &At<RoleName>, tenant: &TenantId) {
    let length = tenant.as_str().len() + 1 + name.value.as_str().len();
    if length > ROLE_BYTES_MAX {
        let message =
            format!("the role would be called {}, {length} bytes long", quote(&format!("{tenant}_{}", name.value)));
        scope.error(
            name.mark,
            Code::NameTooLong,
            message,
            format!("Postgres allows {ROLE_BYTES_MAX} bytes; shorten it"),
        );
    }
    if name.value.as_str() == tenant.as_str() {
        let message = format!("the role name {} is the owner's", quote(name.value.as_str()));
        let help = format!("a client that connects as `{tenant}.{tenant}` is the owner; choose another name");
        scope.error(name.mark, Code::ReservedName, message, help);
    }
}

fn publications(spec: &mut Fields<'_>, roles: &Roles) -> Vec<PublishDraft> {
    let (path, scope) = (spec.path_of("publish"), spec.scope);
    let nodes = spec.list("publish", PUBLISH_MAX).unwrap_or_default();
    nodes.iter().filter_map(|node| publication(scope, &path, node, roles)).collect()
}

fn publication(scope: Scope<'_>, path: &str, node: &Node, roles: &Roles) -> Option<PublishDraft> {
    let mut fields = Fields::open(scope, path, node.mark, node)?;
    fields.need("service", "{ service: api, variable: DATABASE_URL }");
    fields.need("variable", "{ service: api, variable: DATABASE_URL }");
    let service = fields.line("service", 100);
    let variable = fields.line("variable", 128).and_then(|text| variable(scope, text, "published"));
    let role = fields.name("role", "role name", RoleName::parse);
    fields.close();
    if let Some(role) = &role
        && roles.complete
        && !roles.declared.contains_key(&role.value)
    {
        let message = format!("the role {} is not declared", quote(role.value.as_str()));
        let mut help = expected_one_of(role.value.as_str(), roles.declared.keys().map(RoleName::as_str));
        help.push_str("\nadd it to `spec.roles`, or leave `role` out for the owner");
        scope.error(role.mark, Code::UnknownRole, message, help);
    }
    let (service, variable) = (service?, variable?);
    let role = role.map(|role| role.value);
    let publish = Publish { service: service.value.to_owned(), variable: variable.value.to_owned(), role };
    Some(PublishDraft { publish, service: service.mark, variable: variable.mark })
}

/// `kind`, for messages: `published`.
pub(super) fn variable<'a>(scope: Scope<'_>, text: At<&'a str>, kind: &str) -> Option<At<&'a str>> {
    let plain = text.value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let help = if !plain || text.value.starts_with(|c: char| c.is_ascii_digit()) {
        "expected letters, digits and `_`, no digit first, as in `DATABASE_URL`".to_owned()
    } else if text.value.starts_with("O7S_") {
        format!("variables that start with `O7S_` (such as `{OWNER_VARIABLE}`) are kept for Ogelnates")
    } else if text.value.starts_with("RAILWAY_") {
        "variables that start with `RAILWAY_` are Railway's own".to_owned()
    } else {
        return Some(text);
    };
    let message = format!("{} cannot be the name of a {kind} variable", quote(text.value));
    scope.error(text.mark, Code::BadVariable, message, help);
    None
}
