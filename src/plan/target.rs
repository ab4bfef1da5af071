//! `--target`: a plan of some objects and what they need. It never deletes, because what else is gone cannot be seen
//! from a part.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::action::{Action, Forgotten, Plan, Problem, Step, Symbol, Warning};
use super::change::DatabaseChange as Change;
use super::code::Code;
use super::held::owner;
use super::live::Live;
use super::needs::needs;
use super::planner::{Draft, problem};
use crate::manifest::{Desired, TenantState};
use crate::tenancy::InstanceName;

/// What a person may name, besides the address of a change as the plan prints it.
const KINDS: [&str; 6] = ["tenant", "instance", "pool", "route", "publish", "server"];

/// `tenant/acme`, `instance/shared-*`: a kind, and a name in which `*` stands for any text and `?` for one character.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Target(String);

impl Target {
    /// Fails with what is wrong, for the person who typed it.
    pub fn parse(text: &str) -> Result<Target, String> {
        let (kind, name) =
            text.split_once('/').ok_or("expected KIND/NAME, as in tenant/acme or instance/shared-*")?;
        if !KINDS.contains(&kind) {
            return Err(format!("no kind `{kind}`; there are {}", KINDS.join(", ")));
        }
        if name.is_empty() { Err("the name is missing".into()) } else { Ok(Target(text.to_owned())) }
    }

    pub(super) fn is(&self, address: &str) -> bool {
        matches(self.0.as_bytes(), address.as_bytes())
    }

    /// Whether anything of that name is in the manifests or lives: a misspelt target must not look like "no changes".
    fn exists(&self, actions: &[Action], desired: &Desired, live: &Live) -> bool {
        let tenants = desired.tenants.keys().chain(live.control.routes.keys());
        let tenants = tenants.flat_map(|name| [format!("tenant/{name}"), format!("route/{name}")]);
        let pools = desired.pools.keys().map(|name| format!("pool/{name}"));
        let services = live.railway.services.iter().map(|service| service.name.as_str());
        let instances = services.flat_map(|name| [format!("instance/{name}"), format!("server/{name}")]);
        let publish = desired.tenants.values().flat_map(|tenant| &tenant.publish);
        let publish = publish.map(|publish| format!("publish/{}.{}", publish.service, publish.variable));
        actions.iter().any(|action| self.is(&action.address))
            || tenants.chain(pools).chain(instances).chain(publish).any(|address| self.is(&address))
    }
}

impl TryFrom<String> for Target {
    type Error = String;
    fn try_from(text: String) -> Result<Target, String> {
        Target::parse(&text)
    }
}

impl From<Target> for String {
    fn from(target: Target) -> String {
        target.0
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// In time proportional to both lengths: only the last `*` is ever taken back.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == b'?' || c == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                None => return false,
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, t) = (at + 1, from + 1);
                }
            },
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

/// Leaves in the plan what was asked for and what that needs.
pub(super) fn narrow(draft: &mut Draft<'_>) {
    let targets = &draft.consent.only;
    if targets.is_empty() {
        return;
    }
    let (desired, plan) = (draft.desired, &mut draft.plan);
    let actions = std::mem::take(&mut plan.actions);
    let mut unknown = Vec::new();
    for target in targets.iter().filter(|target| !target.exists(&actions, desired, draft.live)) {
        let message = "nothing of that name is in the manifests or lives".to_owned();
        let help = "correct `--target`; names are those of a plan, as in tenant/acme or instance/shared-*";
        unknown.push(problem(Code::UnknownTarget, target.to_string(), message, help, None));
    }
    let needed = needs(&actions);
    let (mut kept, mut left_out) = (BTreeSet::new(), Vec::new());
    for index in (0..actions.len()).filter(|&index| is_target(targets, &actions[index])) {
        let closure = closure(index, &needed);
        match closure.iter().find(|&&index| removes(&actions[index])) {
            None => kept.extend(closure),
            Some(&removal) => left_out.push((actions[index].address.clone(), actions[removal].address.clone())),
        }
    }
    plan.actions =
        actions.into_iter().enumerate().filter(|(index, _)| kept.contains(index)).map(|(_, a)| a).collect();
    plan.warnings.extend(left_out.into_iter().map(|(address, removal)| {
        let why = if address == removal { "it removes" } else { "it needs what removes" };
        Warning::from(format!("{address} is left out: {why}, and a partial plan never does"))
    }));
    for list in [&mut plan.refused, &mut plan.blocked, &mut plan.breaches] {
        list.retain(|problem| concerns(targets, problem, desired));
    }
    plan.refused.extend(unknown);
    let changed: BTreeSet<String> = plan.actions.iter().filter_map(|action| owner(&action.step)).collect();
    let present = desired.tenants.values().filter(|tenant| tenant.state == TenantState::Present);
    let unchanged = present.filter(|tenant| {
        let address = format!("tenant/{}", tenant.name);
        let troubled = plan.refused.iter().chain(&plan.blocked).any(|problem| problem.address == address);
        targets.iter().any(|target| target.is(&address)) && !changed.contains(&address) && !troubled
    });
    plan.unchanged.tenants = u32::try_from(unchanged.count()).unwrap_or(u32::MAX);
    plan.unchanged.instances = 0;
    let about =
        |line: &String| targets.iter().any(|target| line.split([':', ' ']).next().is_some_and(|a| target.is(a)));
    plan.retained.retain(about);
}

impl Plan {
    /// Whether it says anything of the object at `address`; a partial plan is silent about the rest.
    pub fn is_about(&self, address: &str) -> bool {
        self.targets.is_empty()
            || self.targets.iter().any(|target| target.is(address))
            || self.actions.iter().any(|action| action.address == address)
    }
}

/// What is held and was not asked for is not shown.
pub(super) fn narrow_held(plan: &mut Plan) {
    let targets = &plan.targets;
    plan.held.retain(|held| targets.is_empty() || targets.iter().any(|target| target.is(&held.address)));
}

/// The action and all it needs; needs point to earlier waves, so this ends.
fn closure(index: usize, needed: &[Vec<usize>]) -> BTreeSet<usize> {
    let (mut found, mut open) = (BTreeSet::new(), vec![index]);
    while let Some(index) = open.pop() {
        if found.insert(index) {
            open.extend(&needed[index]);
        }
    }
    found
}

fn is_target(targets: &[Target], action: &Action) -> bool {
    let instance = match &action.step {
        Step::Instance(step) => InstanceName::parse(&step.spec.name).ok(),
        Step::Server { instance, .. } => Some(instance.clone()),
        _ => None,
    };
    let mut names = vec![action.address.clone()];
    names.extend(owner(&action.step));
    names.extend(instance.iter().map(|name| format!("instance/{name}")));
    targets.iter().any(|target| names.iter().any(|name| target.is(name)))
}

fn concerns(targets: &[Target], problem: &Problem, desired: &Desired) -> bool {
    let names = |address: &str| targets.iter().any(|target| target.is(address));
    // A publication that is refused is its tenant's trouble.
    let publishers = desired.tenants.values().filter(|tenant| {
        let addresses = tenant.publish.iter().map(|p| format!("publish/{}.{}", p.service, p.variable));
        addresses.into_iter().any(|address| address == problem.address)
    });
    names(&problem.address)
        || (problem.address.starts_with("publish/")
            && publishers.into_iter().any(|tenant| names(&format!("tenant/{}", tenant.name))))
}

fn removes(action: &Action) -> bool {
    let drops = |change: &Change| {
        matches!(change, Change::DropRole { .. } | Change::DropDatabase { .. } | Change::Release { .. })
    };
    let dropping = matches!(&action.step, Step::Tenant(step) if step.changes.iter().any(drops));
    // A deletion that was undone leaves only its record behind, which must not outlive it.
    let forgets = matches!(&action.step, Step::Forget { why, .. } if *why != Forgotten::Undone);
    action.symbol == Symbol::Delete || dropping || forgets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_text_and_a_question_mark_one_character() {
        for (pattern, yes, no) in [
            ("tenant/acme", &["tenant/acme"][..], &["tenant/acme2", "tenant/acm", "route/acme"][..]),
            ("tenant/a*e", &["tenant/ae", "tenant/acme", "tenant/aceme"], &["tenant/acmes", "tenant/b"]),
            ("tenant/*", &["tenant/a", "tenant/a.login"], &["route/a"]),
            ("instance/shared-?", &["instance/shared-1"], &["instance/shared-12", "instance/shared-"]),
            ("tenant/*a*b*", &["tenant/ab", "tenant/xaxxbx", "tenant/aab"], &["tenant/ba", "tenant/"]),
        ] {
            let target = Target::parse(pattern).expect("valid");
            yes.iter().for_each(|address| assert!(target.is(address), "{pattern} {address}"));
            no.iter().for_each(|address| assert!(!target.is(address), "{pattern} {address}"));
        }
        for bad in ["acme", "Tenant/acme", "tenant/", "tiers/x"] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
    }
}
