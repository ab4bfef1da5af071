//! The world as one HTML page for people: plain text in tables, no script, nothing fetched from anywhere, every value
//! escaped. Of variables only the names are shown, so that the page holds no secret and needs no token.

use chrono::{DateTime, SecondsFormat, Utc};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::{Map, Value};

use super::counters::Requests;
use super::world::{Deployment, Environment, Id, Project, Rule, ServiceInstance, World};

/// Of one service; older ones are only counted.
const DEPLOYMENTS_SHOWN: usize = 5;

const STYLE: PreEscaped<&str> = PreEscaped(
    "body{font:14px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:80rem;padding:0 1rem}\
     table{border-collapse:collapse;width:100%;margin:.5rem 0 1.5rem}\
     th,td{border-bottom:1px solid #8884;padding:.25rem .75rem .25rem 0;text-align:left;vertical-align:top}\
     :root{color-scheme:light dark}code{overflow-wrap:anywhere}.why{color:#c33}.quiet{opacity:.65}",
);

/// What is shown beside the world.
pub struct Around<'a> {
    pub requests: &'a Requests,
    pub faults: &'a [Rule],
    pub ready: bool,
    pub url: String,
}

pub fn page(world: &World, around: &Around<'_>, now: DateTime<Utc>) -> String {
    let projects: Vec<&Project> = world.projects.values().filter(|project| project.deleted_at.is_none()).collect();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { "Local Railway" }
                style { (STYLE) }
            }
            body {
                h1 { "Local Railway" }
                p {
                    "Plan " b { (world.plan.subscription()) } ". GraphQL at " code { (around.url) } ". "
                    @if around.ready { "Every server that ought to run does." } @else { "Not every server runs yet." }
                    " As of " (moment(now)) "; reload to look again."
                }
                @if projects.is_empty() { p { "No projects yet." } }
                @for project in projects { (project_part(world, project, now)) }
                (faults_part(around.faults))
                (requests_part(around.requests))
            }
        }
    };
    page.into_string()
}

fn moment(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn project_part(world: &World, project: &Project, now: DateTime<Utc>) -> Markup {
    html! {
        h2 { "Project " (project.name) " " small.quiet { (project.id) } }
        @for environment in world.environments_of(&project.id) {
            h3 { "Environment " (environment.name) " " small.quiet { (environment.id) } }
            @let staged = environment.staged_changes();
            @if staged > 0 { p { (staged) " staged changes wait to be committed." } }
            (services_part(world, environment, now))
            (volumes_part(world, environment))
            (shared_variables_part(environment))
        }
    }
}

fn services_part(world: &World, environment: &Environment, now: DateTime<Utc>) -> Markup {
    if environment.instances.is_empty() {
        return html! { p { "No services." } };
    }
    html! {
        table {
            thead { tr { th { "Service" } th { "State" } th { "Deployments" } th { "Proxies" } th { "Variables" } } }
            tbody {
                @for (id, instance) in &environment.instances { (service_row(world, environment, (id, instance), now)) }
            }
        }
    }
}

fn service_row(
    world: &World,
    environment: &Environment,
    (id, instance): (&Id, &ServiceInstance),
    now: DateTime<Utc>,
) -> Markup {
    let blob = environment.service_blob(id);
    let image = blob.and_then(|blob| blob.pointer("/source/image")?.as_str());
    let latest = instance.latest();
    html! {
        tr {
            td {
                b { (world.services.get(id).map_or("", |service| service.name.as_str())) }
                @if let Some(image) = image { br; span.quiet { (image) } }
                br; small.quiet { (id) }
            }
            td {
                (latest.map_or("NONE", |deployment| deployment.status.as_str()))
                @if latest.is_some_and(|deployment| deployment.stopped) { " (stopped)" }
                @if let Some(why) = latest.and_then(|deployment| deployment.reason.as_deref()) {
                    br; span.why { (why) }
                }
            }
            td { (deployments_part(&instance.deployments)) }
            td {
                @for (inside, proxy) in &instance.proxies {
                    @let port = instance.port.map_or_else(|| "no port yet".to_owned(), |port| port.to_string());
                    div { (world.proxy_domain(proxy)) ":" (port) " → " (inside) " " (proxy.sync_status(instance, now)) }
                }
            }
            td { (names(blob.and_then(|blob| blob.get("variables")?.as_object()))) }
        }
    }
}

fn deployments_part(deployments: &[Deployment]) -> Markup {
    let older = deployments.len().saturating_sub(DEPLOYMENTS_SHOWN);
    html! {
        @for deployment in deployments.iter().rev().take(DEPLOYMENTS_SHOWN) {
            div { (deployment.status.as_str()) " " span.quiet { (moment(deployment.created_at)) } }
        }
        @if older > 0 { div.quiet { "and " (older) " older" } }
    }
}

/// Never the values.
fn names(variables: Option<&Map<String, Value>>) -> Markup {
    let names: Vec<&str> = variables.into_iter().flat_map(Map::keys).map(String::as_str).collect();
    html! { code { (names.join(" ")) } }
}

fn shared_variables_part(environment: &Environment) -> Markup {
    let shared = environment.config.get("sharedVariables").and_then(Value::as_object);
    html! {
        @if shared.is_some_and(|shared| !shared.is_empty()) { p { "Shared variables: " (names(shared)) } }
    }
}

fn volumes_part(world: &World, environment: &Environment) -> Markup {
    let name = |id: &Id| world.volumes.get(id).map_or("", |volume| volume.name.as_str());
    let owner = |id: &Id| world.services.get(id).map_or("", |service| service.name.as_str());
    html! {
        @if !environment.volume_instances.is_empty() {
            table {
                thead { tr { th { "Volume" } th { "Mounted in" } th { "Used of size" } th { "Region" } th { "State" } } }
                tbody {
                    @for (id, volume) in &environment.volume_instances {
                        tr {
                            td { b { (name(id)) } br; small.quiet { (id) } }
                            td { @if let Some(service) = &volume.service { (owner(service)) " at " (volume.mount_path) } }
                            td { (format!("{:.0}", volume.used_mb())) " of " (volume.size_mb) " MB" }
                            td { (volume.region) }
                            td {
                                @match volume.dies_at {
                                    Some(at) => { "deleted; gone for good at " (moment(at)) }
                                    None => { "READY" }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn faults_part(faults: &[Rule]) -> Markup {
    html! {
        h2 { "Faults pending" }
        @if faults.is_empty() { p { "None. Order one with " code { "o7s local fault" } "." } }
        @else {
            table {
                thead { tr { th { "Fault" } th { "Only in" } th { "Only for" } th { "Strikes left" } } }
                tbody {
                    @for rule in faults {
                        tr {
                            td { (fault_name(rule)) }
                            td { (rule.operation.as_deref().unwrap_or("any request")) @if let Some(alias) = &rule.alias { ", alias " (alias) } }
                            td { (rule.service.as_deref().unwrap_or("any service")) }
                            td { @match rule.count { Some(count) => { (count) } None => { "until cleared" } } }
                        }
                    }
                }
            }
        }
    }
}

/// As it is typed.
fn fault_name(rule: &Rule) -> String {
    let value = clap::ValueEnum::to_possible_value(&rule.fault);
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

fn requests_part(requests: &Requests) -> Markup {
    html! {
        h2 { "Requests" }
        p { (requests.total) " so far, " (requests.mutations) " of them changes." }
        @if !requests.by_operation.is_empty() {
            table {
                thead { tr { th { "Operation" } th { "Requests" } } }
                tbody {
                    @for (operation, count) in &requests.by_operation { tr { td { code { (operation) } } td { (count) } } }
                }
            }
        }
    }
}
