//! `metadata.renamedFrom`: the same data under another name. The former route is suspended, then one transaction on the
//! server renames database, roles and marks, then one in the control database moves route and place. A run that is killed
//! in between leaves a state that says by itself which of these are done.

use std::collections::{BTreeMap, BTreeSet};

use super::action::{
    Action, Field, Problem, Reason, ReasonCode, RouteDraft, Step, Symbol, TenantStep, Warning, Wave,
};
use super::adopted;
use super::change::DatabaseChange as Change;
use super::code::Code;
use super::compare::Work;
use super::deletions;
use super::instances::field;
use super::live::{InstanceState, Live, Placement, Rename, ServerLive};
use super::planner::{Draft, problem};
use super::tenants::role_name;
use crate::manifest::{Desired, Tenant, TenantState};
use crate::tenancy::{RoleName, RouteState, TenantId};

/// What is known of places, by tenant.
pub(super) type Places = BTreeMap<TenantId, Vec<Placement>>;

/// A tenant whose former name is still in the servers or in the control database.
#[derive(Debug, Clone)]
pub(super) struct Former {
    pub name: TenantId,
    /// Where its database is, still under the former name; `None` when only the control database is left to change.
    pub at: Option<Placement>,
}

/// Takes the former names out of `places`: from here on a renamed tenant has its place under its own name. Answers them
/// by that, and what must not be renamed.
pub(super) fn resolve(
    desired: &Desired,
    live: &Live,
    places: &mut Places,
) -> (BTreeMap<TenantId, Former>, Vec<Problem>) {
    let (mut formers, mut refused) = (BTreeMap::new(), Vec::new());
    for tenant in desired.tenants.values().filter(|tenant| tenant.state == TenantState::Present) {
        let Some(former) = wanted_from(tenant, live, places) else {
            if let Some(former) = begun_from(desired, live, places, tenant) {
                formers.insert(tenant.name.clone(), former);
            } else {
                refused.extend(went_away(desired, live, places, tenant));
            }
            continue;
        };
        match step(live, places, tenant, &former) {
            Err((message, help)) => refused.push(refuse(tenant, message, help)),
            Ok(at) => {
                places.remove(&former);
                if let Some(at) = &at {
                    let database = new_database(&at.database, &former, &tenant.name);
                    let place = Placement { instance: at.instance.clone(), database };
                    places.insert(tenant.name.clone(), vec![place]);
                }
                formers.insert(tenant.name.clone(), Former { name: former, at });
            }
        }
    }
    (formers, refused)
}

/// A former name that nothing here has, of a tenant that is new: most likely a typing error, and the new database would
/// look like lost data. It is no refusal, because a fleet made anew elsewhere begins like that.
pub(super) fn warn_of_unknown(draft: &mut Draft<'_>, places: &Places) {
    let control = &draft.live.control;
    for tenant in draft.desired.tenants.values().filter(|tenant| tenant.state == TenantState::Present) {
        let Some(former) = &tenant.renamed_from else { continue };
        let known = |name: &TenantId| places.contains_key(name) || control.routes.contains_key(name);
        if known(former) || known(&tenant.name) || control.renames.contains_key(former) {
            continue;
        }
        let (name, origin) = (&tenant.name, tenant.origins.at("metadata.renamedFrom"));
        let text =
            format!("tenant/{name} is renamed from `{former}`, which is nowhere here: it is made new and empty");
        draft.plan.warnings.push(Warning::at(origin, text));
    }
}

/// Left in place afterwards, `renamedFrom` names nothing any more and has no effect.
fn wanted_from(tenant: &Tenant, live: &Live, places: &Places) -> Option<TenantId> {
    let former = tenant.renamed_from.as_ref()?;
    let routed = live.control.routes.contains_key(former) && live.control.renames.contains_key(former);
    (places.contains_key(former) || routed).then(|| former.clone())
}

/// Of a rename that was begun and is not asked for any more. On a server that was not read the tenant is renamed back,
/// which is right however far the rename got; where it has its new name on the server already, only the control database
/// is left to change. What else a server shows, [`settle`] undoes.
fn begun_from(desired: &Desired, live: &Live, places: &mut Places, tenant: &Tenant) -> Option<Former> {
    let renames = &live.control.renames;
    let given_up = |name: &&TenantId| !desired.tenants.contains_key(*name);
    let open =
        |(former, rename): (&TenantId, &Rename)| (!rename.done && rename.to == tenant.name).then(|| former.clone());
    let former = renames.iter().find_map(open).filter(|name| given_up(&name));
    let away = renames.get(&tenant.name).filter(|rename| !rename.done).map(|rename| rename.to.clone());
    let other = former.clone().or(away).filter(|name| given_up(&name))?;
    if let Some([own]) = places.get(&tenant.name).map(Vec::as_slice) {
        let asleep = matches!(live.instances.get(&own.instance), Some(InstanceState::Asleep));
        if asleep && !places.contains_key(&other) {
            let database = new_database(&own.database, &tenant.name, &other);
            return Some(Former { name: other, at: Some(Placement { instance: own.instance.clone(), database }) });
        }
    }
    let former = former.filter(|former| matches!(step(live, places, tenant, former), Ok(None)))?;
    let own = places.get(&tenant.name)?.first()?;
    matches!(live.instances.get(&own.instance), Some(InstanceState::Awake(_))).then_some(())?;
    places.remove(&former);
    Some(Former { name: former, at: None })
}

type Refusal = (String, String);

fn step(live: &Live, places: &Places, tenant: &Tenant, former: &TenantId) -> Result<Option<Placement>, Refusal> {
    let deletions = deletions::pending(live);
    for name in [former, &tenant.name] {
        if let Some(pending) = deletions.get(name) {
            let message =
                format!("cannot be renamed from {former}: {} is deleted, and kept as {}", name, pending.renamed_to);
            return Err((
                message,
                format!("undo that deletion first, under the name {name}, or let its grace time pass"),
            ));
        }
    }
    let there = |name: &TenantId| -> Vec<&Placement> {
        places.get(name).into_iter().flatten().filter(|place| is_there(live, place)).collect()
    };
    match (&there(former)[..], &there(&tenant.name)[..]) {
        ([], [_, ..]) => Ok(None),
        ([at], []) if adopted::may_be_adopted(live, former, at) => Err((
            format!("the database {} of {former} was adopted, and other roles use it under its names", at.database),
            format!(
                "let o7s forget it (o7s release tenant/{former}), then: o7s adopt tenant/{} --database {}",
                tenant.name, at.database
            ),
        )),
        ([at], []) => Ok(Some((*at).clone())),
        ([at, ..], [own, ..]) => Err((
            format!("both {former} (on {}) and {} (on {}) have a database", at.instance, tenant.name, own.instance),
            "remove `metadata.renamedFrom` to keep both, or drop the empty one by hand".to_owned(),
        )),
        ([_, ..], []) => Err((format!("the database of {former} was found more than once"), one_of("the copies"))),
        ([], []) => Err((
            format!("the database of its former name {former} is gone from its instance"),
            "remove `metadata.renamedFrom` to let o7s make an empty one".to_owned(),
        )),
    }
}

fn one_of(what: &str) -> String {
    format!("rename or drop all but one of {what}, then plan again")
}

/// What cannot be asked is believed.
fn is_there(live: &Live, place: &Placement) -> bool {
    match live.instances.get(&place.instance) {
        Some(InstanceState::Awake(server)) => server.databases.contains_key(&place.database),
        _ => true,
    }
}

/// A name that was given up comes back, and nobody has the one that took its data: most likely a commit was reverted.
fn went_away(desired: &Desired, live: &Live, places: &Places, tenant: &Tenant) -> Option<Problem> {
    let rename = live.control.renames.get(&tenant.name)?;
    let own = places.get(&tenant.name).map_or(&[][..], Vec::as_slice);
    let is_awake = |place: &Placement| matches!(live.instances.get(&place.instance), Some(InstanceState::Awake(_)));
    if let Some(place) = own.iter().find(|place| !rename.done && !is_awake(place)) {
        let message =
            format!("its rename to {} was begun, and {} cannot be asked how far it got", rename.to, place.instance);
        let help = format!(
            "bring {} back; or go on, with `metadata.renamedFrom` in the manifest of {}",
            place.instance, rename.to
        );
        return Some(refuse(tenant, message, help));
    }
    if own.iter().any(|place| is_there(live, place)) {
        return None;
    }
    let (mut name, mut seen) = (&tenant.name, BTreeSet::new());
    while let Some(rename) = live.control.renames.get(name).filter(|_| seen.insert(name)) {
        name = &rename.to;
    }
    let orphaned = name != &tenant.name && places.contains_key(name) && !desired.tenants.contains_key(name);
    orphaned.then(|| {
        let message = format!("was renamed to {name}, where its data is; no empty database is made in its place");
        let help = format!(
            "to take the name back, write `metadata.renamedFrom: {name}`; to have both, put the manifest of {name} back"
        );
        refuse(tenant, message, help)
    })
}

fn refuse(tenant: &Tenant, message: String, help: String) -> Problem {
    let cause = tenant.origins.at("metadata.renamedFrom");
    problem(Code::Rename, format!("tenant/{}", tenant.name), message, &help, Some(cause))
}

/// A database that carries its tenant's name follows it; one that was named otherwise keeps that.
fn new_database(database: &str, former: &TenantId, name: &TenantId) -> String {
    if database == former.as_str() { name.to_string() } else { database.to_owned() }
}

/// Something under the new name that is not the tenant's: nothing is renamed onto it.
pub(super) fn in_the_way(server: &ServerLive, tenant: &Tenant, at: &Placement, former: &TenantId) -> Option<String> {
    let database = new_database(&at.database, former, &tenant.name);
    if database != at.database && server.databases.contains_key(&database) {
        return Some(format!("a database `{database}` is on {} already", at.instance));
    }
    let marked = server.roles.values().filter_map(|role| role.mark.as_ref()).filter(|mark| mark.tenant == *former);
    let names = marked.map(|mark| role_name(&tenant.name, mark.role.as_ref()));
    let declared = tenant.roles.iter().map(|role| role_name(&tenant.name, Some(&role.name)));
    let mut names = names.chain(declared);
    names
        .find(|name| server.roles.contains_key(name))
        .map(|name| format!("a role `{name}` is on {} already", at.instance))
}

/// The server as it is once the rename is done, of this one tenant: what is left to compare.
pub(super) fn after(server: &ServerLive, tenant: &Tenant, at: &Placement, former: &TenantId) -> ServerLive {
    let mut own =
        ServerLive { version: server.version, max_connections: server.max_connections, ..Default::default() };
    if let Some(live) = server.databases.get(&at.database) {
        let mut live = live.clone();
        if live.owner == former.as_str() {
            live.owner = tenant.name.to_string();
        }
        (live.tenant, live.allow_connections) = (Some(tenant.name.clone()), true);
        own.databases.insert(new_database(&at.database, former, &tenant.name), live);
    }
    for role in server.roles.values() {
        let Some(mark) = role.mark.as_ref().filter(|mark| mark.tenant == *former) else { continue };
        let (mut mark, mut role) = (mark.clone(), role.clone());
        mark.tenant = tenant.name.clone();
        if mark.role.as_ref().is_none_or(|name| is_declared(tenant, name)) {
            (mark.generation, role.password_ours) = (tenant.generation, true);
        }
        let name = role_name(&tenant.name, mark.role.as_ref());
        role.mark = Some(mark);
        own.roles.insert(name, role);
    }
    own
}

fn is_declared(tenant: &Tenant, role: &RoleName) -> bool {
    tenant.roles.iter().any(|declared| declared.name == *role)
}

/// Puts the rename before whatever else is to be done. Of a server that was not read everything is brought to the wanted
/// state, but a database that is not there is not made: it would be an empty one.
pub(super) fn prepend(work: &mut Work, tenant: &Tenant, at: &Placement, former: &TenantId, was_read: bool) {
    let to_database = new_database(&at.database, former, &tenant.name);
    let rename = Change::RenameTenant {
        from: former.clone(),
        to: tenant.name.clone(),
        database: at.database.clone(),
        to_database: to_database.clone(),
        generation: tenant.generation,
        roles: tenant.roles.iter().map(|role| role.name.clone()).collect(),
    };
    let mut fields: Vec<Field> = Vec::new();
    if to_database != at.database {
        fields.push(field("database", Some(&at.database), Some(&to_database)));
    }
    fields.push(field("roles", Some(&format!("{former}, {former}_…")), Some(&format!("{0}, {0}_…", tenant.name))));
    fields.push(field("passwords", Some("(secret)"), Some("(secret, changed)")));
    if !was_read {
        work.changes.retain(|change| !matches!(change, Change::CreateDatabase { .. }));
        work.fields.clear();
    }
    fields.append(&mut work.fields);
    work.fields = fields;
    work.changes.insert(0, rename);
    (work.created, work.drifted) = (false, false);
}

pub(super) fn reason(former: &TenantId) -> (Symbol, Reason) {
    (Symbol::Move, Reason { code: ReasonCode::Moved, text: format!("renamed from {former}") })
}

/// Renames that were begun and that no manifest asks for any more, or that are refused: finished where the server has done
/// its part, else undone, so that nobody stays shut out. A server that cannot be asked leaves the question open.
pub(super) fn settle(draft: &mut Draft<'_>) {
    let open = draft.live.control.renames.iter().filter(|(_, rename)| !rename.done);
    let open: Vec<(TenantId, TenantId)> = open.map(|(former, rename)| (former.clone(), rename.to.clone())).collect();
    for (former, to) in open {
        let refused = |name: &TenantId| {
            let address = format!("tenant/{name}");
            draft.plan.refused.iter().any(|problem| problem.address == address)
        };
        // Whoever takes over either of the two names says what becomes of them.
        let is_one = |wanted: &Former| wanted.name == former || wanted.name == to;
        let taken = draft.formers.iter().any(|(name, wanted)| is_one(wanted) && !refused(name));
        let wanted = draft.desired.tenants.get(&to);
        if taken || wanted.is_some_and(|tenant| draft.is_paused(tenant.paused)) {
            continue;
        }
        let routed = wanted.is_some() && !refused(&to);
        let Some(route) = draft.live.control.routes.get(&former) else {
            cancel(draft, &former);
            continue;
        };
        let Some(InstanceState::Awake(server)) = draft.live.instances.get(&route.instance) else { continue };
        let renamed = new_database(&route.database, &former, &to);
        let is_done = server.databases.contains_key(&renamed) && !server.databases.contains_key(&route.database);
        match (is_done, routed) {
            (true, true) => {}
            (true, false) => finish(draft, &former, &to, server, renamed),
            (false, _) => undo(draft, &former, server),
        }
    }
}

fn state_by_login(server: &ServerLive, owner: &TenantId) -> RouteState {
    match server.roles.get(owner.as_str()).is_some_and(|role| role.can_login) {
        true => RouteState::Active,
        false => RouteState::Suspended,
    }
}

fn finish(draft: &mut Draft<'_>, former: &TenantId, to: &TenantId, server: &ServerLive, database: String) {
    let Some(route) = draft.live.control.routes.get(former) else { return };
    let state = state_by_login(server, to);
    let route = RouteDraft { tenant: to.clone(), database, state, ..RouteDraft::of(route) };
    let step = Step::Rename { former: former.clone(), route: Box::new(route) };
    act(draft, format!("route/{to}"), Symbol::Move, Wave::Routes, "a rename that was begun is finished", step);
}

/// The manifest of the former name, where it is back, has its database and route restored like any difference.
fn undo(draft: &mut Draft<'_>, former: &TenantId, server: &ServerLive) {
    cancel(draft, former);
    if draft.desired.tenants.contains_key(former) {
        return;
    }
    let Some(route) = draft.live.control.routes.get(former) else { return };
    // A route to what is gone stays suspended.
    let Some(closed) = server.databases.get(&route.database).map(|database| !database.allow_connections) else {
        return;
    };
    let (tenant, database) = (former.clone(), route.database.clone());
    if closed {
        let placement = Placement { instance: route.instance.clone(), database: database.clone() };
        let changes = vec![Change::OpenDatabase { tenant: tenant.clone(), database }];
        let step = TenantStep { tenant, placement, changes, deletion: None, former: None };
        let step = Step::Tenant(Box::new(step));
        act(draft, format!("tenant/{former}"), Symbol::Update, Wave::Databases, UNDONE, step);
    }
    let route = RouteDraft { state: state_by_login(server, former), ..RouteDraft::of(route) };
    let step = Step::Route { route: Box::new(route) };
    act(draft, format!("route/{former}"), Symbol::Update, Wave::Routes, UNDONE, step);
}

const UNDONE: &str = "a rename that was begun is undone";

fn cancel(draft: &mut Draft<'_>, former: &TenantId) {
    let step = Step::CancelRename { former: former.clone() };
    act(draft, format!("tenant/{former}.rename"), Symbol::Update, Wave::Routes, UNDONE, step);
}

/// No manifest asks for these, so the Fleet's is their cause.
fn act(draft: &mut Draft<'_>, address: String, symbol: Symbol, wave: Wave, text: &str, step: Step) {
    let reason = Reason { code: ReasonCode::Unfinished, text: text.to_owned() };
    let cause = draft.desired.fleet.origins.object.clone();
    draft.act(Action { address, symbol, wave, reason, cause, fields: Vec::new(), step });
}
