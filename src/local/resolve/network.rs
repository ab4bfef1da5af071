//! How services are reached: TCP proxies and the private network.

use serde_json::{Value, json};

use super::args::Args;
use super::query::{at, reached_environment};
use super::{Context, Refusal, Resolved, json, null, time};
use crate::local::world::{At, id_beside};

/// Those with a port; one that waits for it is not there yet.
pub fn tcp_proxies(context: &Context<'_>, at: &At) -> Resolved {
    context.seen_service(&at.service)?;
    context.seen_instance(at)?;
    let inside: Vec<u16> = context.world.borrow().instance(at)?.proxies.keys().copied().collect();
    let shown: Vec<Value> = inside.into_iter().filter_map(|inside| shown(context, at, inside)).collect();
    json(shown)
}

fn shown(context: &Context<'_>, at: &At, inside: u16) -> Option<Value> {
    let mut world = context.world.borrow_mut();
    let instance = world.instance(at).ok()?;
    let (port, proxy) = (instance.port?, instance.proxies.get(&inside)?);
    let domain = world.proxy_domain(proxy);
    let mut shown = json!({
        "id": proxy.id,
        "proxyPort": port,
        "applicationPort": inside,
        "environmentId": at.environment,
        "serviceId": at.service,
        "syncStatus": proxy.sync_status(instance, context.now),
        "createdAt": time(proxy.created_at),
        "updatedAt": time(proxy.created_at),
        "deletedAt": proxy.deleted_at.map(time),
    });
    shown["domain"] = world.answered_domain(domain).into();
    Some(shown)
}

pub fn create_proxy(context: &Context<'_>, args: &Args) -> Resolved {
    let input = args.input();
    let at = at(&input);
    context.seen_instance(&at)?;
    let asked = input.count("applicationPort").and_then(|port| u16::try_from(port).ok());
    let inside = asked.filter(|port| *port > 0);
    let inside = inside.ok_or_else(|| Refusal::Invalid("applicationPort must be from 1 to 65535".into()))?;
    context.world.borrow_mut().create_proxy(&at, inside, context.now)?;
    let made = shown(context, &at, inside);
    json(made.ok_or_else(|| Refusal::Limit("no port is free for another proxy".into()))?)
}

pub fn delete_proxy(context: &Context<'_>, args: &Args) -> Resolved {
    let id = args.text("id");
    let (at, _) = context.world.borrow().proxy(&id)?;
    context.may_reach(&at.environment)?;
    context.world.borrow_mut().delete_proxy(&id, context.now)?;
    json(true)
}

/// Every environment has one, and nobody can add another here.
pub fn private_networks(context: &Context<'_>, args: &Args) -> Resolved {
    let id = reached_environment(context, args)?;
    let world = context.world.borrow();
    let environment = world.environment(&id)?;
    let (public_id, number) = environment.private_network();
    json(json!([{
        "publicId": public_id,
        "name": environment.name,
        "dnsName": "railway.internal",
        "networkId": number,
        "projectId": environment.project,
        "environmentId": id,
        "tags": [],
        "createdAt": time(environment.created_at),
        "deletedAt": null,
    }]))
}

/// Null, without an error, until a deployment of the service has run.
pub fn private_endpoint(context: &Context<'_>, args: &Args) -> Resolved {
    let at = at(args);
    context.seen_instance(&at)?;
    let world = context.world.borrow();
    if world.environment(&at.environment)?.private_network().0 != args.text("privateNetworkId") {
        return Err(Refusal::NotFound("PrivateNetwork"));
    }
    let instance = world.instance(&at)?;
    let Some(addresses) = instance.private_ips() else { return null() };
    json(json!({
        "publicId": id_beside(&instance.id, "endpoint"),
        "serviceInstanceId": instance.id,
        "dnsName": instance.dns_name,
        "newDnsName": null,
        "privateIps": addresses,
        "syncStatus": "ACTIVE",
        "tags": [],
        "createdAt": time(instance.created_at),
        "deletedAt": null,
    }))
}
