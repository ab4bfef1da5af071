//! What must hold for all objects together: one name for one Railway service, one writer for one variable, one heir for
//! one renamed tenant, no more pinned tenants than fit.

use std::collections::BTreeMap;

use crate::tenancy::{CONTROL_SERVICE, InstanceName};

use super::check::Drafts;
use super::check_tenant::Place;
use super::code::Code;
use super::error::{Report, quote};
use super::model::TenantState;
use super::source::{File, Mark};

pub(super) fn check(drafts: &Drafts<'_>, report: &Report) {
    check_routers(drafts, report);
    check_renames(drafts, report);
    check_publications(drafts, report);
    check_pins(drafts, report);
}

/// The pool of which `service` is an instance's name.
fn pool_of<'d>(drafts: &'d Drafts<'_>, service: &str) -> Option<&'d str> {
    let instance = InstanceName::parse(service).ok()?;
    drafts.pools.get_key_value(&instance.pool()).map(|(name, _)| name.as_str())
}

fn check_routers(drafts: &Drafts<'_>, report: &Report) {
    for (name, router) in &drafts.routers {
        if let Some(pool) = pool_of(drafts, name.as_str()) {
            let message = format!("the router name {} is that of an instance of pool `{pool}`", quote(name.as_str()));
            let help = "both become Railway services, and a name can be only one of them: choose another";
            report.add(router.file, router.name.mark, Code::NameClash, message, help);
        }
    }
}

fn check_renames(drafts: &Drafts<'_>, report: &Report) {
    let mut heirs = BTreeMap::new();
    for (name, tenant) in &drafts.tenants {
        let Some(old) = &tenant.renamed_from else { continue };
        let text = quote(old.value.as_str());
        if let Some(living) = drafts.tenants.get(&old.value) {
            let help = format!("it is at {}:{}; remove that manifest", living.file.path, living.name.mark.line);
            let message = format!("renamed from {text}, which is still declared");
            report.add(tenant.file, old.mark, Code::BadRename, message, help);
        }
        if let Some(first) = heirs.insert(&old.value, name) {
            let message = format!("renamed from {text}, which tenant `{first}` claims as well");
            report.add(tenant.file, old.mark, Code::BadRename, message, "let one tenant take its place");
        }
    }
}

fn check_publications(drafts: &Drafts<'_>, report: &Report) {
    let mut taken: BTreeMap<(&str, &str), (&File<'_>, Mark)> = BTreeMap::new();
    for tenant in drafts.tenants.values() {
        for draft in &tenant.publish {
            let (service, variable) = (draft.publish.service.as_str(), draft.publish.variable.as_str());
            if service == CONTROL_SERVICE || pool_of(drafts, service).is_some() {
                let message = format!("{} is a service of Ogelnates' own", quote(service));
                let help = "publish to a service of your application";
                report.add(tenant.file, draft.service, Code::NameClash, message, help);
            }
            if let Some((file, mark)) = taken.get(&(service, variable)) {
                let message =
                    format!("variable {} of service {} is published twice", quote(variable), quote(service));
                let help = format!("first at {}:{}; remove one, or use another variable", file.path, mark.line);
                report.add(tenant.file, draft.variable, Code::DuplicatePublish, message, help);
            } else {
                taken.insert((service, variable), (tenant.file, draft.variable));
            }
        }
    }
}

fn check_pins(drafts: &Drafts<'_>, report: &Report) {
    let mut pinned: BTreeMap<&InstanceName, u32> = BTreeMap::new();
    // One that leaves makes room for its successor.
    for tenant in drafts.tenants.values().filter(|tenant| tenant.state == TenantState::Present) {
        let Place::Instance(instance) = &tenant.place else { continue };
        let Some(pool) = drafts.pools.get(&instance.value.pool()) else { continue };
        let count = pinned.entry(&instance.value).or_default();
        *count += 1;
        let max = pool.pool.tenants_per_instance;
        if *count > max {
            let name = quote(instance.value.as_str());
            let message = format!("{count} tenants are pinned to {name}, its pool allows {max} on an instance");
            let help = "pin fewer, or raise `tenantsPerInstance` of the pool";
            report.add(tenant.file, instance.mark, Code::TooManyPinned, message, help);
        }
    }
}
