//! Routers: how many, under which name, and how they tell tenants apart.

use crate::tenancy::RouterName;

use super::check_pool::service_name;
use super::code::Code;
use super::error::{Report, quote};
use super::head::Head;
use super::model::{Identify, Pooling, Router};
use super::raw::Object;
use super::read::{At, Fields, word_of};
use super::source::File;

const POOLINGS: [(&str, Pooling); 2] = [("transaction", Pooling::Transaction), ("session", Pooling::Session)];
const IDENTIFIES: [(&str, Identify); 6] = [
    ("sni", Identify::Sni),
    ("options", Identify::Options),
    ("user", Identify::User),
    ("database", Identify::Database),
    ("jwt", Identify::Jwt),
    ("apiKey", Identify::ApiKey),
];
/// Tokens are accepted only where the manifest says so.
const DEFAULT_IDENTIFY: [Identify; 4] = [Identify::Sni, Identify::Options, Identify::User, Identify::Database];
const DEFAULT_REPLICAS: u32 = 2;

pub(super) struct RouterDraft<'a> {
    pub file: &'a File<'a>,
    pub name: At<RouterName>,
    pub router: Router,
}

pub(super) fn check_router<'a>(object: &'a Object<'a>, report: &'a Report) -> Option<RouterDraft<'a>> {
    let mut head = Head::open(object, report)?;
    head.refuse_rename("Router", "a Router has no data: give it the new name");
    let name = service_name(&mut head, "router name", RouterName::parse);
    let spec = &mut head.spec;
    // Railway's largest plan runs 50 replicas of a service.
    let replicas = spec.count("replicas", 1..=50).and_then(|n| u32::try_from(n.value).ok());
    let domain = domain(spec);
    let pooling = spec.word("pooling", &POOLINGS).map(|word| word.value);
    let identify = identify(spec);
    let paused = spec.flag("paused").unwrap_or(false);
    let origins = head.close();
    let name = name?;
    let router = Router {
        name: name.value.clone(),
        replicas: replicas.unwrap_or(DEFAULT_REPLICAS),
        domain,
        pooling: pooling.unwrap_or(Pooling::Transaction),
        identify: identify.unwrap_or_else(|| DEFAULT_IDENTIFY.to_vec()),
        paused,
        origins,
    };
    Some(RouterDraft { file: object.file, name, router })
}

fn domain(spec: &mut Fields<'_>) -> Option<String> {
    let text = spec.line("domain", 253)?;
    let label = |label: &str| {
        let plain = label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        plain && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    if text.value.contains('.') && text.value.split('.').all(label) {
        return Some(text.value.to_owned());
    }
    let message = format!("{} is no host name", quote(text.value));
    let help = "expected a name in lower case without scheme or port, as in `db.example.com`";
    spec.scope.error(text.mark, Code::BadText, message, help);
    None
}

fn identify(spec: &mut Fields<'_>) -> Option<Vec<Identify>> {
    let (path, scope) = (spec.path_of("identify"), spec.scope);
    let nodes = spec.list("identify", IDENTIFIES.len())?;
    let mut ways = Vec::new();
    for node in nodes {
        let Some(way) = word_of(scope, node, &path, &IDENTIFIES) else { continue };
        if ways.contains(&way.value) {
            let message = format!("`{path}` lists a way twice");
            scope.error(way.mark, Code::DuplicateEntry, message, "the first place counts; remove this one");
        } else {
            ways.push(way.value);
        }
    }
    if nodes.is_empty() {
        let message = format!("`{path}` is empty: no client could be told apart");
        scope.error(spec.mark(), Code::OutOfRange, message, "list at least one way, or remove the key");
    }
    Some(ways)
}
