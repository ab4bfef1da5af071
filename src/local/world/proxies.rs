//! Addresses: TCP proxies, their ports, and the private network of an environment.

use chrono::{DateTime, Duration, Utc};
use serde_json::{Value, json};

use super::model::{At, Environment, Id, ServiceInstance, Status, TcpProxy};
use super::{Fault, Host, Refusal, World, blob};

/// How long Railway takes to make a proxy, or to take it away (its own CLI looks for 2 s).
const SYNC: Duration = Duration::seconds(1);

impl World {
    /// TCP proxies follow the blob. A removed one lingers for a moment; a new one has another id, and on Railway
    /// another port.
    pub(super) fn follow_proxies(&mut self, environment: &str, now: DateTime<Utc>) {
        let Some(there) = self.environments.get(environment) else { return };
        let wanted: Vec<(At, Vec<u16>)> =
            there.instances.keys().map(|service| (there.at(service), there.proxied_ports(service))).collect();
        for (at, ports) in wanted {
            let Ok(instance) = self.instance_mut(&at) else { continue };
            for (port, proxy) in &mut instance.proxies {
                if !ports.contains(port) {
                    proxy.deleted_at.get_or_insert(now);
                }
            }
            let lives = |port: &u16| instance.proxies.get(port).is_some_and(|proxy| proxy.deleted_at.is_none());
            for port in ports.into_iter().filter(|port| !lives(port)).collect::<Vec<_>>() {
                self.make_proxy(&at, port, now);
            }
        }
    }

    fn make_proxy(&mut self, at: &At, inside: u16, now: DateTime<Utc>) {
        let proxy = TcpProxy { id: self.new_id(), created_at: now, needs_deploy: false, deleted_at: None };
        let moves = matches!(self.host, Host::Virtual { .. });
        let Ok(instance) = self.instance_mut(at) else { return };
        let had_one = !instance.proxies.is_empty();
        instance.proxies.insert(inside, proxy);
        if had_one && moves {
            // On this machine the port is the running server's own, so there it stays.
            instance.port = None;
        }
        // Without a spare port the proxy stays unseen until the host brings more.
        drop(self.ensure_port(at));
    }

    /// Railway's older way, which does not start a deployment: the proxy stays CREATING until the next one runs.
    pub fn create_proxy(&mut self, at: &At, inside: u16, now: DateTime<Utc>) -> Result<(), Refusal> {
        let instance = self.instance(at)?;
        if instance.proxies.get(&inside).is_some_and(|proxy| proxy.deleted_at.is_some()) {
            return Err(Refusal::InProgress);
        }
        if instance.proxies.values().any(|proxy| proxy.deleted_at.is_none()) {
            return Err(Refusal::Invalid("a service can have one TCP proxy only".into()));
        }
        self.write_proxy(at, inside, json!({}), now)?;
        if let Some(proxy) = self.instance_mut(at)?.proxies.get_mut(&inside) {
            proxy.needs_deploy = true;
        }
        Ok(())
    }

    /// Refused while the proxy is still being made or already on its way out.
    pub fn delete_proxy(&mut self, id: &str, now: DateTime<Utc>) -> Result<(), Refusal> {
        let (at, inside) = self.proxy(id)?;
        let instance = self.instance(&at)?;
        let proxy = instance.proxies.get(&inside).ok_or(Refusal::NotFound("TCPProxy"))?;
        if proxy.deleted_at.is_some() || now < proxy.created_at + SYNC {
            return Err(Refusal::InProgress);
        }
        self.write_proxy(&at, inside, Value::Null, now)
    }

    fn write_proxy(&mut self, at: &At, inside: u16, content: Value, now: DateTime<Utc>) -> Result<(), Refusal> {
        let patch = json!({ "networking": { "tcpProxies": { inside.to_string(): content } } });
        let there = self.environment_mut(&at.environment)?;
        let config = there.part_mut("services").get_mut(&at.service).ok_or(Refusal::NotFound("ServiceInstance"))?;
        blob::merge(config, &patch);
        self.config_written(&at.environment, now);
        Ok(())
    }

    /// Where a proxy belongs, and its port inside the container.
    pub fn proxy(&self, id: &str) -> Result<(At, u16), Refusal> {
        for environment in self.environments.values().filter(|e| e.deleted_at.is_none()) {
            for (service, instance) in &environment.instances {
                if let Some((inside, _)) = instance.proxies.iter().find(|(_, proxy)| proxy.id == id) {
                    return Ok((environment.at(service), *inside));
                }
            }
        }
        Err(Refusal::NotFound("TCPProxy"))
    }

    /// Proxies that have lingered long enough are gone.
    pub(super) fn drop_proxies(&mut self, environment: &str, now: DateTime<Utc>) -> bool {
        let Some(there) = self.environments.get_mut(environment) else { return false };
        let mut dropped = false;
        for instance in there.instances.values_mut() {
            let before = instance.proxies.len();
            instance.proxies.retain(|_, proxy| proxy.deleted_at.is_none_or(|at| now < at + SYNC));
            dropped |= instance.proxies.len() < before;
        }
        dropped
    }

    /// One port a service and environment, as long as its proxy lives: the proxy's, and on this machine its server's own.
    pub fn ensure_port(&mut self, at: &At) -> Result<(), Refusal> {
        if self.instance(at)?.port.is_some() {
            return Ok(());
        }
        let name = &self.service(&at.service)?.name;
        let in_use = |port: u16| {
            self.environments.values().flat_map(|e| e.instances.values()).any(|instance| instance.port == Some(port))
        };
        let reserved = self.reserved_ports.get(name).copied().filter(|port| !in_use(*port));
        let port = match (reserved, &self.host) {
            (Some(port), _) => Some(port),
            (None, Host::Machine) => self.spare_ports.pop(),
            (None, Host::Virtual { .. }) => {
                let port = 10_000 + (self.chance() % 50_000);
                u16::try_from(port).ok()
            }
        };
        self.instance_mut(at)?.port = port;
        Ok(())
    }

    /// The host found the port of a service taken by somebody else before it was ever used.
    pub fn change_port(&mut self, at: &At) -> Option<u16> {
        let instance = self.instance_mut(at).ok()?;
        let taken = instance.port.take();
        // One that is reserved by name comes back: others were promised it.
        drop(self.ensure_port(at));
        let port = self.instance(at).ok()?.port;
        port.or(taken)
    }

    /// As a variable shows it.
    pub fn proxy_domain(&self, proxy: &TcpProxy) -> String {
        const WORDS: [&str; 8] =
            ["acela", "ballast", "caboose", "gondola", "hopper", "interchange", "trolley", "viaduct"];
        match self.host {
            Host::Machine => "127.0.0.1".into(),
            Host::Virtual { .. } => {
                let at = proxy.id.bytes().map(usize::from).sum::<usize>() % WORDS.len();
                format!("{}.proxy.rlwy.net", WORDS[at])
            }
        }
    }

    /// As a read of proxies answers it: on order, a full DNS name.
    pub fn answered_domain(&mut self, domain: String) -> String {
        match self.faults.strike(Fault::TrailingDot, None) {
            Some(_) => format!("{domain}."),
            None => domain,
        }
    }
}

impl TcpProxy {
    /// `TCPProxySyncStatus`.
    pub fn sync_status(&self, instance: &ServiceInstance, now: DateTime<Utc>) -> &'static str {
        let deployed = || instance.deployments.iter().any(|d| d.created_at >= self.created_at && d.is_running());
        if self.deleted_at.is_some() {
            "DELETING"
        } else if now < self.created_at + SYNC || (self.needs_deploy && !deployed()) {
            "CREATING"
        } else {
            "ACTIVE"
        }
    }
}

impl ServiceInstance {
    /// The one that is not on its way out, with its port inside.
    pub fn live_proxy(&self) -> Option<(u16, &TcpProxy)> {
        let mut live = self.proxies.iter().filter(|(_, proxy)| proxy.deleted_at.is_none());
        live.next().map(|(inside, proxy)| (*inside, proxy))
    }

    /// Addresses in the private network: others with every deployment, none before the first one runs.
    pub fn private_ips(&self) -> Option<[String; 2]> {
        let ran = |d: &&super::Deployment| !matches!(d.status, Status::Initializing | Status::Failed);
        let deployment = self.deployments.iter().rev().find(ran)?;
        let [a, b, c, d, e, f, ..] = number_of(&deployment.id).to_be_bytes();
        Some([format!("fd12:{a:02x}{b:02x}:{c:02x}{d:02x}::{e:x}:{f:x}"), format!("10.{d}.{e}.{f}")])
    }
}

impl Environment {
    fn proxied_ports(&self, service: &str) -> Vec<u16> {
        let proxies = self.service_blob(service).and_then(|blob| blob.pointer("/networking/tcpProxies"));
        let ports = proxies.and_then(Value::as_object).into_iter().flatten();
        ports.filter_map(|(port, _)| port.parse().ok()).collect()
    }

    /// The public id and the number of its one private network, which lives as long as the environment.
    pub fn private_network(&self) -> (Id, u64) {
        (id_beside(&self.id, "network"), number_of(&self.id) >> 32)
    }
}

/// Another id that stays the same as long as `id` does.
pub fn id_beside(id: &str, what: &str) -> Id {
    let halves = [what, id].map(|text| u128::from(number_of(&format!("{what}/{text}/{id}"))));
    uuid::Builder::from_random_bytes(((halves[0] << 64) | halves[1]).to_be_bytes()).into_uuid().to_string()
}

/// FNV-1a: no secret, only the same number for the same text.
fn number_of(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
