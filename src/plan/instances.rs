//! Brings each instance from where it is to running as its pool asks.

use std::collections::BTreeSet;

use super::action::{Action, Field, InstanceStep, Reason, ReasonCode, Step, Symbol, Wave};
use super::change::DatabaseChange;
use super::code::Code;
use super::live::{
    Deployment, InstanceRecord, InstanceState, Ownership, RailwayLive, ServerLive, ServiceLive, VolumeLive,
};
use super::planner::{Draft, problem};
use super::spec::{self, ServicePatchSpec, ServiceSpec, image_major, instance_spec};
use crate::manifest::{Origin, Pool};
use crate::tenancy::{Digest, InstanceName, VolumeId, counted};

/// What the tenants of an instance can count on in this run.
#[derive(Debug, Clone)]
pub(super) enum Status<'a> {
    /// Its server answered.
    Awake(&'a ServerLive),
    /// Has no data yet: made or finished by this plan.
    Fresh,
    /// Holds data, but could not be read; it will be running when its step is done, or wakes on the first connection.
    Unread,
    /// Nothing can be done on it in this run.
    Down { code: Code, why: String },
}

/// Not foreign by what is visible.
pub(super) fn may_be_ours(service: &ServiceLive) -> bool {
    match service.owner {
        Ownership::Ours | Ownership::OursUnconfigured | Ownership::Unknown => true,
        Ownership::Foreign | Ownership::Newer => false,
    }
}

/// Whether tenants may have data there.
pub(super) fn was_deployed(service: &ServiceLive) -> bool {
    service.owner == Ownership::Ours && service.deployment != Deployment::None
}

pub(super) fn plan(draft: &mut Draft<'_>, wanted: &BTreeSet<InstanceName>) {
    for name in wanted {
        let status = match draft.desired.pools.get(&name.pool()) {
            Some(pool) if draft.is_paused(pool.paused) => as_it_is(draft, name),
            Some(pool) => plan_one(draft, pool, name),
            // Its pool is gone from the manifests: kept as it is, its tenants are retained.
            None => {
                draft.plan.retained.push(format!("instance/{name}: its pool is in no manifest, kept as it is"));
                as_it_is(draft, name)
            }
        };
        draft.instances.insert(name.clone(), status);
    }
}

fn as_it_is<'a>(draft: &Draft<'a>, name: &InstanceName) -> Status<'a> {
    let why = format!("instance {name} is paused or its pool is not in the manifests");
    match draft.live.instances.get(name) {
        Some(InstanceState::Awake(server)) => Status::Awake(server),
        _ => Status::Down { code: Code::InstanceDown, why },
    }
}

fn plan_one<'a>(draft: &mut Draft<'a>, pool: &Pool, name: &InstanceName) -> Status<'a> {
    let live = draft.live;
    let Some(service) = live.railway.service(name.as_str()) else { return plan_missing(draft, pool, name) };
    let address = format!("instance/{name}");
    let cause = pool.origins.at("spec");
    if service.owner == Ownership::Foreign {
        let message =
            format!("a Railway service `{name}` exists and is not ours (no marker of this fleet with its id)");
        let help =
            "rename or delete that service on Railway, or rename the pool; o7s never changes a foreign service";
        draft.refuse(problem(Code::ForeignService, address, message, help, Some(cause)));
        return Status::Down { code: Code::DependsOn, why: format!("service {name} is not ours") };
    }
    if service.owner == Ownership::Newer {
        let message = format!("service `{name}` was marked by a later version of o7s");
        draft.refuse(problem(Code::NewerMarker, address, message, "run that version, or a later one", Some(cause)));
        return Status::Down { code: Code::DependsOn, why: format!("service {name} needs a later o7s") };
    }
    let command = service.config.as_ref().and_then(|config| config.start_command.as_deref());
    let spec = instance_spec(pool, draft.desired, name, command, service.adopted);
    if let Some((code, message, help)) = impossible(service, &spec) {
        draft.refuse(problem(code, address, message, help, Some(cause)));
        return status_as_is(draft, name, service);
    }
    let step = step_for(draft, service, spec);
    let needs_address = record(draft, name).is_none_or(|record| record.endpoint.is_none());
    if let Some((symbol, reason)) = reason_for(draft, name, service, &step, needs_address) {
        warn_of_restart(draft, name, &step);
        let fields = changed_fields(service, &step);
        let cause = instance_cause(pool, &step.patch);
        draft.act(Action {
            address,
            symbol,
            wave: Wave::Instances,
            reason,
            cause,
            fields,
            step: Step::Instance(Box::new(step)),
        });
    } else {
        draft.plan.unchanged.instances += 1;
    }
    secure(draft, name, pool);
    status_as_is(draft, name, service)
}

fn plan_missing<'a>(draft: &mut Draft<'a>, pool: &Pool, name: &InstanceName) -> Status<'a> {
    let live = draft.live;
    let spec = instance_spec(pool, draft.desired, name, None, false);
    let left = record(draft, name).and_then(|record| record.volume.clone());
    let left =
        left.filter(|id| live.railway.volumes.iter().any(|volume| volume.id == *id && volume.service.is_none()));
    let tenants = live.control.routes.values().filter(|route| route.instance == *name).count();
    let address = format!("instance/{name}");
    if left.is_none() && tenants > 0 {
        let message = format!(
            "service `{name}` and its volume are gone from Railway, and {tenants} tenants have their data there"
        );
        let help = "restore the volume with the link in Railway's e-mail (48 h), or restore a backup; \
                    o7s does not put empty databases in place of lost ones";
        draft.refuse(problem(Code::InstanceGone, address, message, help, Some(pool.origins.at("spec"))));
        return Status::Down { code: Code::DependsOn, why: format!("instance {name} is gone with its volume") };
    }
    let (text, status) = match &left {
        Some(volume) => {
            (format!("its service was deleted; its volume {volume} is left and is attached again"), Status::Unread)
        }
        None => ("does not exist".to_owned(), Status::Fresh),
    };
    let fields = vec![
        field("image", None, Some(&spec.image)),
        field("volume", None, Some(&format!("{} MiB", spec.volume_mib))),
        field("region", None, spec.region.as_deref().or(Some("(Railway's default)"))),
        field("caps", None, spec.caps.map(show_caps).as_deref()),
    ];
    let fields = fields.into_iter().filter(|field| field.new.is_some()).collect();
    let (requested, attach) = (volume_requested(draft, name), left.is_some());
    let patch = whole(&spec, live.railway.limits.volume_mib_at_creation);
    let step = InstanceStep {
        spec,
        service: None,
        volume: left,
        attach,
        volume_requested_at: requested,
        patch,
        redeploy: false,
        replaces: None,
    };
    draft.remade.insert(name.clone());
    let (reason, cause) = (Reason { code: ReasonCode::NotFound, text }, pool.origins.at("spec.instances"));
    let step = Step::Instance(Box::new(step));
    draft.act(Action { address, symbol: Symbol::Create, wave: Wave::Instances, reason, cause, fields, step });
    status
}

fn record<'a>(draft: &Draft<'a>, name: &InstanceName) -> Option<&'a InstanceRecord> {
    draft.live.control.instances.get(name.as_str())
}

/// When a `volumeCreate` may last have been sent. A record without a time proves that none was; no record proves
/// nothing, so the time of this observation stands in: another run may have sent one right before it.
fn volume_requested(draft: &Draft<'_>, name: &InstanceName) -> Option<chrono::DateTime<chrono::Utc>> {
    match record(draft, name) {
        Some(record) => record.volume_requested_at,
        None if draft.live.control.known => None,
        None => Some(draft.live.observed_at),
    }
}

fn step_for(draft: &Draft<'_>, service: &ServiceLive, spec: ServiceSpec) -> InstanceStep {
    let railway = &draft.live.railway;
    let name = InstanceName::parse(&spec.name).ok();
    let known = name.as_ref().and_then(|name| record(draft, name)).and_then(|record| record.volume.clone());
    let mounted = service.config.as_ref().and_then(|config| config.mounted_volume.clone());
    let listed = railway.volume_of(&service.id).map(|volume| volume.id.clone());
    let volume: Option<VolumeId> = mounted.or(listed).or(known);
    let seen = volume.as_ref().and_then(|id| railway.volumes.iter().find(|volume| volume.id == *id));
    let patch = patch_for(&spec, service, seen, railway.limits.volume_mib_at_creation);
    let failed = matches!(service.deployment, Deployment::Failed { .. });
    let redeploy = failed && !patch.restarts();
    InstanceStep {
        service: Some(service.id.clone()),
        attach: seen.is_some_and(|volume| volume.service.is_none()),
        volume_requested_at: name.as_ref().and_then(|name| volume_requested(draft, name)),
        replaces: service.deployment_id.clone().filter(|_| redeploy || patch.restarts()),
        redeploy,
        volume,
        spec,
        patch,
    }
}

/// What the service as it is now still lacks; `made_mib` is the size Railway gives a new volume.
pub fn patch_for(
    spec: &ServiceSpec,
    service: &ServiceLive,
    volume: Option<&VolumeLive>,
    made_mib: u64,
) -> ServicePatchSpec {
    let configured = service.config.as_ref().filter(|config| config.image.is_some());
    let mut patch = match configured {
        Some(config) => spec::missing(spec, config, volume),
        None => whole(spec, made_mib),
    };
    patch.marker = service.owner != Ownership::Ours;
    patch
}

/// Everything, for a service that has nothing.
pub fn whole(spec: &ServiceSpec, made_mib: u64) -> ServicePatchSpec {
    ServicePatchSpec {
        marker: true,
        image: Some(spec.image.clone()),
        start_command: Some(spec.start_command.clone()),
        region: spec.region.clone(),
        caps: spec.caps,
        sleep: spec.sleep.then_some(true),
        tcp_proxy: true,
        volume_mib: (spec.volume_mib > made_mib).then_some(spec.volume_mib),
        variables: spec.variables.clone(),
    }
}

fn reason_for(
    draft: &Draft<'_>,
    name: &InstanceName,
    service: &ServiceLive,
    step: &InstanceStep,
    needs_address: bool,
) -> Option<(Symbol, Reason)> {
    let say = |symbol, code, text: String| Some((symbol, Reason { code, text }));
    if service.owner != Ownership::Ours || step.volume.is_none() || step.attach {
        return say(Symbol::Create, ReasonCode::Unfinished, "was begun and not finished".into());
    }
    if !step.patch.is_empty() {
        let wanted = spec_digest(&step.spec);
        let applied = record(draft, name).and_then(|record| record.applied.clone());
        return match applied {
            Some(applied) if applied == wanted => {
                say(Symbol::Drift, ReasonCode::Drift, "changed on Railway by hand".into())
            }
            _ => say(Symbol::Update, ReasonCode::SpecChanged, format!("pool {} changed", name.pool())),
        };
    }
    match &service.deployment {
        Deployment::Failed { status } => {
            say(Symbol::Update, ReasonCode::Unfinished, format!("its deployment is {status}"))
        }
        Deployment::None => say(Symbol::Update, ReasonCode::Unfinished, "is not deployed".into()),
        Deployment::Pending { status } => {
            say(Symbol::Update, ReasonCode::Unfinished, format!("its deployment is {status}"))
        }
        Deployment::Running | Deployment::Sleeping if needs_address => {
            say(Symbol::Update, ReasonCode::Unfinished, "its address is not recorded".into())
        }
        Deployment::Running if starts_up(draft, name) => {
            say(Symbol::Update, ReasonCode::Unfinished, "its server does not answer yet".into())
        }
        Deployment::Running | Deployment::Sleeping => None,
    }
}

/// What is remembered of a specification that was applied; it holds no secret, so the digest needs no key.
pub fn spec_digest(spec: &ServiceSpec) -> Digest {
    Digest::of(&serde_json::to_vec(spec).expect("a specification has only string keys"))
}

fn impossible(service: &ServiceLive, spec: &ServiceSpec) -> Option<(Code, String, &'static str)> {
    let config = service.config.as_ref().filter(|_| service.owner == Ownership::Ours)?;
    let (have, want) = (config.image.as_deref().and_then(image_major)?, image_major(&spec.image)?);
    if have != want {
        let message = format!("runs Postgres {have}, the pool asks for {want}, which cannot read its data");
        return Some((Code::ImageMajor, message, "put the old major version back; add a new pool for the new one"));
    }
    let (have, want) = (config.region.as_ref()?, spec.region.as_ref()?);
    let message = || format!("is in region {have}, the pool asks for {want}");
    let help = "put the old region back; add a new pool in the new region";
    (have != want).then(|| (Code::RegionChange, message(), help))
}

/// A running deployment means that a container was started. A server that never served a tenant and is silent was begun
/// by a run that was killed: it is waited for, as that run would have.
fn starts_up(draft: &Draft<'_>, name: &InstanceName) -> bool {
    let silent = matches!(draft.live.instances.get(name), Some(InstanceState::Unreachable { .. }));
    silent && draft.live.control.known && draft.live.control.routes.values().all(|route| route.instance != *name)
}

fn status_as_is<'a>(draft: &Draft<'a>, name: &InstanceName, service: &ServiceLive) -> Status<'a> {
    match draft.live.instances.get(name) {
        Some(InstanceState::Awake(server)) => Status::Awake(server),
        Some(InstanceState::Asleep) => Status::Unread,
        Some(InstanceState::Unreachable { .. }) if starts_up(draft, name) => Status::Unread,
        Some(InstanceState::Unreachable { reason }) if service.deployment == Deployment::Running => Status::Down {
            code: Code::InstanceDown,
            why: format!("instance {name} runs but does not answer: {reason}"),
        },
        _ if was_deployed(service) => Status::Unread,
        _ => Status::Fresh,
    }
}

fn warn_of_restart(draft: &mut Draft<'_>, name: &InstanceName, step: &InstanceStep) {
    let tenants = draft.live.control.routes.values().filter(|route| route.instance == *name).count();
    if step.patch.restarts() && tenants > 0 {
        let (who, are) = (counted(tenants, "tenant"), if tenants == 1 { "is" } else { "are" });
        draft
            .plan
            .warnings
            .push(format!("instance/{name} restarts: its {who} {are} cut off for some seconds").into());
    }
}

fn secure(draft: &mut Draft<'_>, name: &InstanceName, pool: &Pool) {
    let Some(InstanceState::Awake(server)) = draft.live.instances.get(name) else { return };
    let open = &server.public_databases;
    if open.is_empty() {
        return;
    }
    let changes = open.iter().map(|database| DatabaseChange::CloseToPublic { database: database.clone() }).collect();
    let fields = open
        .iter()
        .map(|database| field(&format!("{database}: PUBLIC may connect"), Some("yes"), Some("no")))
        .collect();
    let reason = Reason { code: ReasonCode::Drift, text: "databases are open to every role".into() };
    draft.act(Action {
        address: format!("server/{name}"),
        symbol: Symbol::Drift,
        wave: Wave::Databases,
        reason,
        cause: pool.origins.at("spec"),
        fields,
        step: Step::Server { instance: name.clone(), changes },
    });
}

fn instance_cause(pool: &Pool, patch: &ServicePatchSpec) -> Origin {
    let path = match patch {
        ServicePatchSpec { image: Some(_), .. } => "spec.postgres.image",
        ServicePatchSpec { start_command: Some(_), .. } => "spec.postgres.maxConnections",
        ServicePatchSpec { caps: Some(_), .. } => "spec.resources",
        ServicePatchSpec { volume_mib: Some(_), .. } => "spec.volume",
        ServicePatchSpec { sleep: Some(_), .. } => "spec.sleepWhenIdle",
        _ => "spec",
    };
    pool.origins.at(path)
}

fn changed_fields(service: &ServiceLive, step: &InstanceStep) -> Vec<Field> {
    let Some(config) = service.config.as_ref().filter(|_| service.owner == Ownership::Ours) else {
        return Vec::new();
    };
    let patch = &step.patch;
    let sleep = |on: bool| if on { "true" } else { "false" };
    let mut fields = Vec::new();
    let mut push = |path: &str, old: Option<&str>, new: Option<&str>| {
        if new.is_some() {
            fields.push(field(path, old, new));
        }
    };
    push("image", config.image.as_deref(), patch.image.as_deref());
    push("startCommand", config.start_command.as_deref(), patch.start_command.as_deref());
    push("region", config.region.as_deref(), patch.region.as_deref());
    push("caps", config.caps.map(show_caps).as_deref(), patch.caps.map(show_caps).as_deref());
    push("sleepWhenIdle", Some(sleep(config.sleep)), patch.sleep.map(sleep));
    push("tcpProxy", None, patch.tcp_proxy.then_some("5432"));
    push("volume", None, patch.volume_mib.map(|mib| format!("{mib} MiB")).as_deref());
    for (name, value) in &patch.variables {
        let old = config.variables.contains_key(name).then_some("(changed)");
        push(&format!("variables.{name}"), old, Some(&show_value(value)));
    }
    fields
}

/// Plain values of ours hold no secret; everything derived does.
pub(super) fn show_value(value: &super::change::VariableValue) -> String {
    match value {
        super::change::VariableValue::Plain { text } => text.clone(),
        _ => "(secret)".to_owned(),
    }
}

pub(super) fn field(path: &str, old: Option<&str>, new: Option<&str>) -> Field {
    Field { path: path.to_owned(), old: old.map(str::to_owned), new: new.map(str::to_owned) }
}

fn show_caps(caps: crate::manifest::Resources) -> String {
    let (whole, milli) = (caps.vcpu_milli / 1000, caps.vcpu_milli % 1000);
    let vcpu =
        if milli == 0 { whole.to_string() } else { format!("{whole}.{milli:03}").trim_end_matches('0').to_owned() };
    format!("{vcpu} vCPU, {}", caps.memory)
}

/// What the control service lacks. Nothing but Railway can be asked: a volume may always have been requested before,
/// unless the project is new (`live: None`).
pub fn control_step(live: Option<&RailwayLive>, now: chrono::DateTime<chrono::Utc>) -> InstanceStep {
    let spec = spec::control_spec();
    let service = live.and_then(|live| Some((live, live.service(&spec.name)?)));
    let Some((live, service)) = service else {
        let (patch, requested) = (whole(&spec, 0), live.map(|_| now));
        return InstanceStep {
            spec,
            service: None,
            volume: None,
            attach: false,
            volume_requested_at: requested,
            patch,
            redeploy: false,
            replaces: None,
        };
    };
    let volume = service.config.as_ref().and_then(|config| config.mounted_volume.clone());
    let volume = volume.or_else(|| live.volume_of(&service.id).map(|volume| volume.id.clone()));
    let patch = patch_for(&spec, service, None, live.limits.volume_mib_at_creation);
    let redeploy = matches!(service.deployment, Deployment::Failed { .. }) && !patch.restarts();
    InstanceStep {
        service: Some(service.id.clone()),
        volume,
        attach: false,
        volume_requested_at: Some(now),
        replaces: service.deployment_id.clone().filter(|_| redeploy || patch.restarts()),
        redeploy,
        patch,
        spec,
    }
}
