//! The Fleet: its Railway project, defaults, billing and the removal guard.

use crate::tenancy::{FleetName, Percent, TierName};

use super::code::Code;
use super::error::{Report, quote};
use super::head::Head;
use super::model::{Billing, Fleet, Overhead, RailwayPlan, RemovalGuard, Safety};
use super::raw::{Node, Object, Value};
use super::read::{At, Fields};
use super::source::File;

const PLANS: [(&str, RailwayPlan); 5] = [
    ("free", RailwayPlan::Free),
    ("trial", RailwayPlan::Trial),
    ("hobby", RailwayPlan::Hobby),
    ("pro", RailwayPlan::Pro),
    ("enterprise", RailwayPlan::Enterprise),
];
const OVERHEADS: [(&str, Overhead); 2] = [("proportional", Overhead::Proportional), ("even", Overhead::Even)];
const DEFAULT_ENVIRONMENT: &str = "production";
const DEFAULT_MAX_REMOVALS: RemovalGuard = RemovalGuard::Percent(Percent(10));

/// A Fleet whose default tier is not looked up yet.
pub(super) struct FleetDraft<'a> {
    pub file: &'a File<'a>,
    pub name: At<FleetName>,
    pub default_tier: Option<At<TierName>>,
    /// Written, even if unreadable.
    pub names_a_tier: bool,
    pub fleet: Fleet,
}

pub(super) fn check_fleet<'a>(object: &'a Object<'a>, report: &'a Report) -> Option<FleetDraft<'a>> {
    let mut head = Head::open(object, report)?;
    head.refuse_rename("Fleet", "everything the fleet made carries its mark: keep the name");
    let name = head.metadata.name("name", "fleet name", FleetName::parse);
    let (project, environment, plan) = railway(&mut head.spec);
    let (default_tier, names_a_tier) = defaults(&mut head.spec);
    let billing = billing(&mut head.spec);
    let safety = safety(&mut head.spec);
    let paused = head.spec.flag("paused").unwrap_or(false);
    let origins = head.close();
    let name = name?;
    let fleet = Fleet {
        name: name.value.clone(),
        project: project.unwrap_or_else(|| name.value.to_string()),
        environment: environment.unwrap_or_else(|| DEFAULT_ENVIRONMENT.to_owned()),
        plan,
        default_tier: default_tier.as_ref().map(|tier| tier.value.clone()),
        billing,
        safety,
        paused,
        origins,
    };
    Some(FleetDraft { file: object.file, name, default_tier, names_a_tier, fleet })
}

fn railway(spec: &mut Fields<'_>) -> (Option<String>, Option<String>, Option<RailwayPlan>) {
    let Some(mut railway) = spec.map("railway") else { return (None, None, None) };
    let project = railway.line("project", 100).map(|text| text.value.to_owned());
    let environment = railway.line("environment", 100).map(|text| text.value.to_owned());
    let plan = railway.word("plan", &PLANS).map(|plan| plan.value);
    railway.close();
    (project, environment, plan)
}

fn defaults(spec: &mut Fields<'_>) -> (Option<At<TierName>>, bool) {
    let Some(mut defaults) = spec.map("defaults") else { return (None, spec.seems_written("defaults")) };
    let tier = defaults.name("tier", "tier name", TierName::parse);
    let written = defaults.seems_written("tier");
    defaults.close();
    (tier, written)
}

fn billing(spec: &mut Fields<'_>) -> Billing {
    let mut billing = Billing { currency: "USD".to_owned(), overhead: Overhead::Proportional, markup_percent: None };
    let Some(mut fields) = spec.map("billing") else { return billing };
    // Railway bills in US dollars, and we convert nothing.
    fields.word("currency", &[("USD", ())]);
    if let Some(overhead) = fields.word("overhead", &OVERHEADS) {
        billing.overhead = overhead.value;
    }
    if let Some(mut markup) = fields.map("markup") {
        markup.need("percent", "markup: { percent: 40 }");
        billing.markup_percent = markup.count("percent", 0..=10_000).and_then(|n| u32::try_from(n.value).ok());
        markup.close();
    }
    fields.close();
    billing
}

fn safety(spec: &mut Fields<'_>) -> Safety {
    let mut safety = Safety { max_removals: DEFAULT_MAX_REMOVALS };
    let Some(mut fields) = spec.map("safety") else { return safety };
    if let Some(guard) = max_removals(&mut fields) {
        safety.max_removals = guard;
    }
    fields.close();
    safety
}

/// `10%`, or a number of tenants.
fn max_removals(fields: &mut Fields<'_>) -> Option<RemovalGuard> {
    const KEY: &str = "maxRemovals";
    let node = fields.node(KEY)?;
    match &node.value {
        Value::Scalar { text, quoted: false } if !text.contains('%') && text.starts_with(['-', '+', '.']) => {
            fields.count(KEY, 0..=10_000);
            None
        }
        Value::Scalar { text, quoted: false } if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() => {
            fields.count(KEY, 0..=10_000).and_then(|n| u32::try_from(n.value).ok()).map(RemovalGuard::Count)
        }
        Value::Scalar { quoted: true, text } if text.bytes().all(|b| b.is_ascii_digit()) => {
            say_both(fields, node, text);
            None
        }
        _ => fields.percent(KEY).map(|percent| RemovalGuard::Percent(percent.value)),
    }
}

fn say_both(fields: &Fields<'_>, node: &Node, text: &str) {
    let message = format!("`spec.safety.maxRemovals` must be a share or a number, found quoted text {}", quote(text));
    let help = "write a share with its percent sign, or a number of tenants without quotes";
    fields.scope.error(node.mark, Code::WrongType, message, help);
}
