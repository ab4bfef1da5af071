//! Raw objects to [`Desired`]: each object by itself, then all of them as a set. Every error is reported; a value that
//! could not be read is replaced by any of its kind, because one error is enough to keep the result from being used.

use std::collections::BTreeMap;
use std::fmt::Display;

use crate::tenancy::{PoolName, RouterName, TenantId, TierName};

use super::check_fleet::{FleetDraft, check_fleet};
use super::check_pool::{PoolDraft, check_pool};
use super::check_router::{RouterDraft, check_router};
use super::check_tenant::{TenantDraft, check_tenant};
use super::check_tier::{TierDraft, check_tier};
use super::code::Code;
use super::error::{Problem, Problems, Report, quote};
use super::model::Desired;
use super::parse::{Parsed, parse};
use super::raw::{Kind, Object};
use super::read::{At, Scope};
use super::resolve::resolve;
use super::source::{File, Source};

/// What the manifests ask for, or every error in them. The order of `sources` has no effect.
///
/// Time and memory grow with the size of the text; each file has the bounds of `yaml`.
pub fn load(sources: &[Source]) -> Result<Desired, Problems> {
    load_beside(sources, None)
}

/// The same for sources beside which others could not be read: their errors come first and always make it an error.
pub fn load_beside(sources: &[Source], unread: Option<Problems>) -> Result<Desired, Problems> {
    let mut sources: Vec<&Source> = sources.iter().collect();
    sources.sort_by(|a, b| (&a.path, &a.text).cmp(&(&b.path, &b.text)));
    let files: Vec<File<'_>> = sources.into_iter().map(File::new).collect();
    let report = Report::default();
    let mut parsed = parse(&files, &report);
    parsed.complete &= unread.is_none();
    let desired = check(&parsed, &report);
    drop(parsed);
    match (report.into_problems(), unread) {
        (Some(problems), Some(unread)) => Err(problems.and(unread)),
        (Some(problems), None) | (None, Some(problems)) => Err(problems),
        (None, None) => Ok(desired.expect("without a readable Fleet there is an error that says so")),
    }
}

/// All objects by their names, references not looked up yet.
pub(super) struct Drafts<'a> {
    pub fleet: Option<FleetDraft<'a>>,
    pub tiers: BTreeMap<TierName, TierDraft<'a>>,
    pub pools: BTreeMap<PoolName, PoolDraft<'a>>,
    pub routers: BTreeMap<RouterName, RouterDraft<'a>>,
    pub tenants: BTreeMap<TenantId, TenantDraft<'a>>,
    /// Whether every document is in here: when not, a missing name gets a hint.
    pub complete: bool,
}

fn check<'a>(parsed: &'a Parsed<'a>, report: &'a Report) -> Option<Desired> {
    let mut drafts = Drafts {
        fleet: None,
        tiers: BTreeMap::new(),
        pools: BTreeMap::new(),
        routers: BTreeMap::new(),
        tenants: BTreeMap::new(),
        complete: parsed.complete,
    };
    for object in &parsed.objects {
        check_object(&mut drafts, object, report);
    }
    if let Some(draft) = &drafts.fleet {
        report.is_of(&draft.name.value);
    }
    // What could not be read may hold the Fleet: then that is the error to mend first.
    let written = parsed.objects.iter().any(|object| object.kind == Kind::Fleet);
    if drafts.fleet.is_none() && !written && parsed.complete {
        report.add_whole(no_fleet(parsed));
    }
    resolve(drafts, report)
}

fn check_object<'a>(drafts: &mut Drafts<'a>, object: &'a Object<'a>, report: &'a Report) {
    let scope = Scope { file: object.file, report };
    let added = match object.kind {
        Kind::Fleet => check_fleet(object, report).map(|draft| add_fleet(drafts, draft, report)),
        Kind::Tier => check_tier(object, report)
            .map(|draft| add(&mut drafts.tiers, draft, |draft| (&draft.name, draft.file), object.kind, scope)),
        Kind::DatabasePool => check_pool(object, report)
            .map(|draft| add(&mut drafts.pools, draft, |draft| (&draft.name, draft.file), object.kind, scope)),
        Kind::Router => check_router(object, report)
            .map(|draft| add(&mut drafts.routers, draft, |draft| (&draft.name, draft.file), object.kind, scope)),
        Kind::Tenant => check_tenant(object, report)
            .map(|draft| add(&mut drafts.tenants, draft, |draft| (&draft.name, draft.file), object.kind, scope)),
    };
    // An object without a readable name cannot be found by those that mean it.
    drafts.complete &= added.is_some();
}

fn add<'a, K: Ord + Clone + Display, D>(
    drafts: &mut BTreeMap<K, D>,
    draft: D,
    name_of: fn(&D) -> (&At<K>, &File<'a>),
    kind: Kind,
    scope: Scope<'_>,
) {
    let (name, _) = name_of(&draft);
    let Some(first) = drafts.get(&name.value) else {
        drafts.insert(name.value.clone(), draft);
        return;
    };
    let (first, file) = name_of(first);
    let message = format!("duplicate {} {}", kind.as_str(), quote(&name.value.to_string()));
    let help = format!("first declared at {}:{}; rename or remove one", file.path, first.mark.line);
    scope.error(name.mark, Code::DuplicateName, message, help);
}

fn add_fleet<'a>(drafts: &mut Drafts<'a>, draft: FleetDraft<'a>, report: &Report) {
    let Some(first) = &drafts.fleet else {
        drafts.fleet = Some(draft);
        return;
    };
    let message = format!("a second Fleet {}", quote(draft.name.value.as_str()));
    let help = format!(
        "the Fleet {} is at {}:{}; keep one, and give each fleet its own folder",
        quote(first.name.value.as_str()),
        first.file.path,
        first.name.mark.line
    );
    report.add(draft.file, draft.name.mark, Code::SeveralFleets, message, help);
}

/// Points at the start of the first file; there is no better place for what is not there.
fn no_fleet(parsed: &Parsed<'_>) -> Problem {
    let path = parsed.first_path();
    let message = "no Fleet is declared";
    let help = "add a document of `kind: Fleet` with a name; it says which Railway project this is";
    match path {
        Some(path) => Problem::of_path(Code::NoFleet, path, message, help),
        None => Problem::of_path(Code::Empty, "manifests", "no manifest to read", "check the path given with `-f`"),
    }
}
