//! References from object to object, and each tenant's tier, pool and ceilings worked out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use crate::tenancy::{InstanceName, PoolName, TierName};

use super::check::Drafts;
use super::check_pool::PoolDraft;
use super::check_tenant::{Place, TenantDraft};
use super::check_tier::TierDraft;
use super::code::Code;
use super::error::{Report, expected_one_of, quote};
use super::model::{Desired, Tenant, Tier};
use super::read::{At, Scope};
use super::set;
use super::source::{File, Mark};

/// `None` when there is no Fleet; whether the value may be used, the report says.
pub(super) fn resolve(drafts: Drafts<'_>, report: &Report) -> Option<Desired> {
    let known = Known { tiers: &drafts.tiers, pools: &drafts.pools, complete: drafts.complete, report };
    if let Some(fleet) = &drafts.fleet
        && let Some(tier) = &fleet.default_tier
    {
        known.tier(fleet.file, tier, "the default tier");
    }
    known.check_paths();
    set::check(&drafts, report);
    let default = match &drafts.fleet {
        Some(fleet) => match &fleet.default_tier {
            Some(tier) => Default::Tier(&tier.value),
            None if fleet.names_a_tier => Default::Unreadable,
            None => Default::None,
        },
        None => Default::Unreadable,
    };
    let tenants = drafts.tenants.into_iter();
    let tenants = tenants.filter_map(|(name, draft)| Some((name, known.tenant(draft, &default)?))).collect();
    Some(Desired {
        fleet: drafts.fleet?.fleet,
        tiers: drafts.tiers.into_iter().map(|(name, draft)| (name, finish(draft))).collect(),
        pools: drafts.pools.into_iter().map(|(name, draft)| (name, draft.pool)).collect(),
        routers: drafts.routers.into_iter().map(|(name, draft)| (name, draft.router)).collect(),
        tenants,
    })
}

fn finish(draft: TierDraft<'_>) -> Tier {
    Tier {
        limits: draft.limits.of_tier(),
        name: draft.name.value,
        over_limit: draft.over_limit,
        pool: draft.pool.map(|pool| pool.value),
        price: draft.price,
        upgrade: draft.upgrade.map(|(_, upgrade)| upgrade),
        origins: draft.origins,
    }
}

/// The Fleet's default tier.
enum Default<'a> {
    Tier(&'a TierName),
    None,
    /// There is one that was reported, or no Fleet at all: a tenant without a tier is not to blame.
    Unreadable,
}

struct Known<'a> {
    tiers: &'a BTreeMap<TierName, TierDraft<'a>>,
    pools: &'a BTreeMap<PoolName, PoolDraft<'a>>,
    complete: bool,
    report: &'a Report,
}

impl<'a> Known<'a> {
    fn tier(&self, file: &File<'_>, name: &At<TierName>, what: &str) -> Option<&'a TierDraft<'a>> {
        let found = self.tiers.get(&name.value);
        if found.is_none() {
            let known = self.tiers.keys().map(TierName::as_str);
            self.unknown(
                file,
                name,
                Code::UnknownTier,
                &format!("unknown tier {}, {what}", show(name)),
                "Tier",
                known,
            );
        }
        found
    }

    fn pool(&self, file: &File<'_>, name: &At<PoolName>, what: &str) -> Option<&'a PoolDraft<'a>> {
        let found = self.pools.get(&name.value);
        if found.is_none() {
            let (known, message) =
                (self.pools.keys().map(PoolName::as_str), format!("unknown pool {}, {what}", show(name)));
            self.unknown(file, name, Code::UnknownPool, &message, "DatabasePool", known);
        }
        found
    }

    fn unknown<'k, T: Display>(
        &self,
        file: &File<'_>,
        name: &At<T>,
        code: Code,
        message: &str,
        kind: &str,
        known: impl Iterator<Item = &'k str>,
    ) {
        let word = name.value.to_string();
        let mut help = expected_one_of(&word, known);
        help.push_str(&format!("\nadd a {kind} named {}, or correct the word", show(name)));
        if !self.complete {
            help.push_str("\nit may be in a document that could not be read");
        }
        self.report.add(file, name.mark, code, message, help);
    }

    /// Upgrade and outgrow targets exist, and no path comes back to where it began.
    fn check_paths(&self) {
        let mut upgrades = BTreeMap::new();
        for (name, tier) in self.tiers {
            if let Some(pool) = &tier.pool {
                self.pool(tier.file, pool, &format!("the pool of tier `{name}`"));
            }
            if let Some((to, _)) = &tier.upgrade
                && self.tier(tier.file, to, &format!("the upgrade of tier `{name}`")).is_some()
            {
                upgrades.insert(name, Step { file: tier.file, to: &to.value, mark: to.mark });
            }
        }
        let mut outgrows = BTreeMap::new();
        for (name, pool) in self.pools {
            if let Some(to) = &pool.outgrow_to
                && self.pool(pool.file, to, &format!("the outgrow target of pool `{name}`")).is_some()
            {
                outgrows.insert(name, Step { file: pool.file, to: &to.value, mark: to.mark });
            }
        }
        let upgrade_help = "remove `upgrade` from the highest tier of the circle";
        report_circles(self.report, &upgrades, Code::UpgradeCycle, "the upgrade path", upgrade_help);
        let outgrow_help = "remove `outgrow` from the largest pool of the circle";
        report_circles(self.report, &outgrows, Code::OutgrowCycle, "the outgrow path", outgrow_help);
    }

    fn tenant(&self, draft: TenantDraft<'_>, default: &Default<'_>) -> Option<Tenant> {
        let tier = self.tier_of(&draft, default);
        let place = self.place_of(&draft, tier);
        let (tier, (pool, pinned)) = (tier?, place?);
        draft.limits.contradicts(Scope { file: draft.file, report: self.report }, &tier.limits);
        Some(Tenant {
            limits: draft.limits.over(&tier.limits),
            name: draft.name.value,
            labels: draft.labels,
            renamed_from: draft.renamed_from.map(|name| name.value),
            tier: tier.name.value.clone(),
            pool,
            pinned,
            roles: draft.roles,
            suspended: draft.suspended,
            paused: draft.paused,
            generation: draft.generation,
            state: draft.state,
            deletion_policy: draft.deletion_policy,
            publish: sorted(draft.publish.into_iter().map(|draft| draft.publish).collect()),
            origins: draft.origins,
        })
    }

    fn tier_of(&self, draft: &TenantDraft<'_>, default: &Default<'_>) -> Option<&'a TierDraft<'a>> {
        let tenant = draft.name.value.as_str();
        match (&draft.tier, default) {
            (Some(tier), _) => self.tier(draft.file, tier, &format!("the tier of tenant `{tenant}`")),
            (None, _) if draft.names_a_tier => None,
            (None, Default::Tier(tier)) => self.tiers.get(*tier),
            (None, Default::Unreadable) => None,
            (None, Default::None) => {
                let help = "add `spec.tier` here, or `spec.defaults.tier` to the Fleet";
                let message = format!("the tenant `{tenant}` has no tier, and the Fleet has no default");
                self.report.add(draft.file, draft.name.mark, Code::NoTier, message, help);
                None
            }
        }
    }

    /// The pool, and the instance if pinned.
    fn place_of(
        &self,
        draft: &TenantDraft<'_>,
        tier: Option<&TierDraft<'_>>,
    ) -> Option<(PoolName, Option<InstanceName>)> {
        let tenant = draft.name.value.as_str();
        match &draft.place {
            Place::Unreadable => None,
            Place::Pool(pool) => {
                let found = self.pool(draft.file, pool, &format!("the pool of tenant `{tenant}`"))?;
                Some((found.pool.name.clone(), None))
            }
            Place::Instance(instance) => self.pinned(draft, instance),
            Place::Tier => {
                let tier = tier?;
                match &tier.pool {
                    Some(pool) => Some((pool.value.clone(), None)),
                    None if tier.names_a_pool => None,
                    None => {
                        let help = "add `spec.placement.pool` here or to the tier";
                        let message =
                            format!("neither the tenant `{tenant}` nor its tier `{}` says its pool", tier.name.value);
                        self.report.add(draft.file, draft.name.mark, Code::NoPool, message, help);
                        None
                    }
                }
            }
        }
    }

    fn pinned(
        &self,
        draft: &TenantDraft<'_>,
        instance: &At<InstanceName>,
    ) -> Option<(PoolName, Option<InstanceName>)> {
        let pool = At { value: instance.value.pool(), mark: instance.mark };
        let what = format!("the pool of {}, where tenant `{}` is pinned", show(instance), draft.name.value);
        let found = self.pool(draft.file, &pool, &what)?;
        let (number, max) = (instance.value.number(), found.pool.instances_max);
        if number > max {
            let message =
                format!("the pinned instance {} is past the pool's `instances.max` of {max}", show(instance));
            let help = format!("expected `{0}-1` to `{0}-{max}`, or raise `instances.max`", pool.value);
            self.report.add(draft.file, instance.mark, Code::PinnedOutside, message, help);
        }
        Some((pool.value, Some(instance.value.clone())))
    }
}

fn sorted<T: Ord>(mut list: Vec<T>) -> Vec<T> {
    list.sort();
    list
}

fn show<T: Display>(at: &At<T>) -> String {
    quote(&at.value.to_string())
}

/// Where one object's path leads, and where that was written.
struct Step<'a, K> {
    file: &'a File<'a>,
    to: &'a K,
    mark: Mark,
}

/// Each circle once, at its first member by name. Every object has at most one step, so a walk that meets itself has
/// found the only circle it can reach; each object is walked through once.
fn report_circles<K: Ord + Display>(
    report: &Report,
    steps: &BTreeMap<&K, Step<'_, K>>,
    code: Code,
    what: &str,
    help: &str,
) {
    let mut seen = BTreeSet::new();
    for &start in steps.keys() {
        let (mut at, mut walk) = (start, Vec::new());
        while let Some(step) = steps.get(at)
            && seen.insert(at)
        {
            walk.push(at);
            at = step.to;
        }
        // Met on an earlier walk: its circle, if any, was reported then.
        let Some(first) = walk.iter().position(|&name| name == at) else { continue };
        let circle = &walk[first..];
        let Some(&least) = circle.iter().min() else { continue };
        let turn = circle.iter().position(|&name| name == least).unwrap_or(0);
        let names = circle[turn..].iter().chain(&circle[..turn]).chain([&least]).take(12);
        let path = names.map(ToString::to_string).collect::<Vec<_>>().join(" -> ");
        if let Some(step) = steps.get(least) {
            report.add(step.file, step.mark, code, format!("{what} goes in a circle: {path}"), help);
        }
    }
}
