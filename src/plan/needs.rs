//! What must be done before a change can be: within one plan, always in an earlier wave.

use std::collections::BTreeMap;

use super::action::{Action, ReasonCode, Step, Wave};
use super::change::VariableValue;
use super::held::owner;
use crate::tenancy::InstanceName;

/// For each action the places of those it needs, in order.
pub(super) fn needs(actions: &[Action]) -> Vec<Vec<usize>> {
    let places: BTreeMap<&str, usize> = actions.iter().enumerate().map(|(n, a)| (a.address.as_str(), n)).collect();
    let one = |action: &Action| {
        let mut found: Vec<usize> = addresses(action)
            .iter()
            .filter_map(|address| places.get(address.as_str()).copied())
            // An instance that serves already is not needed to be changed.
            .filter(|&place| is_missing(&actions[place]) && actions[place].wave < action.wave)
            .collect();
        found.sort_unstable();
        found
    };
    actions.iter().map(one).collect()
}

fn is_missing(action: &Action) -> bool {
    let serves = !matches!(action.reason.code, ReasonCode::NotFound | ReasonCode::Unfinished);
    !(matches!(action.step, Step::Instance(_)) && serves)
}

fn addresses(action: &Action) -> Vec<String> {
    let of_instance = |name: &InstanceName| format!("instance/{name}");
    let mut found: Vec<String> = match &action.step {
        Step::Server { instance, .. } => vec![of_instance(instance)],
        Step::Tenant(step) => vec![of_instance(&step.placement.instance)],
        Step::Route { route } | Step::Rename { route, .. } => vec![of_instance(&route.instance)],
        Step::Publish { value: VariableValue::Url { instance, .. }, .. } => vec![of_instance(instance)],
        Step::Publish { .. } | Step::Instance(_) | Step::Forget { .. } | Step::CancelRename { .. } => Vec::new(),
    };
    if let Some(tenant) = owner(&action.step).filter(|owner| owner.starts_with("tenant/")) {
        // Who is told of a route finds it, and who goes has none any more.
        if matches!(action.wave, Wave::Variables | Wave::Removals) {
            found.push(tenant.replacen("tenant/", "route/", 1));
        }
        found.push(tenant);
    }
    found
}
