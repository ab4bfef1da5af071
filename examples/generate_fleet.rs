//! Writes a fleet of N tenants, and the observation of a Railway on which it is all there: what `o7s plan --live` is
//! measured with. Usage: cargo run --release --example generate_fleet -- --tenants N --manifests DIR --live FILE
//!
//! The observation is made by carrying out the fleet's own plan on a model until nothing is left to do, so it fits by
//! construction; the fleet keeps to the limits of its Railway plan (Pro up to 11,400 tenants, Enterprise above).

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use clap::Parser;
use ogelnates::manifest::{Desired, Source, load};
use ogelnates::plan::{
    Consent, ControlLive, Deployment, InstanceRecord, InstanceState, InstanceStep, Live, LiveValue, Observation,
    Ownership, RailwayLive, ServiceConfig, ServiceLive, Step, VariableValue, VolumeLive, plan, render, router_spec,
    spec_digest,
};
use ogelnates::railway::plan_limits;
use ogelnates::store::SCHEMA_VERSION;
use ogelnates::tenancy::{Address, Endpoint, EnvironmentId, FleetUid, InstanceName, ProjectId, ServiceId, VolumeId};

#[path = "../tests/it/simulation/apply.rs"]
mod apply;

const PER_INSTANCE: u32 = 600;
/// Twenty volumes, less one for the control database.
const INSTANCES_ON_PRO: u32 = 19;
const FILES: [(&str, &str); 2] = [
    (
        "tiers.yaml",
        "\
apiVersion: ogelnates.dev/v1
kind: Tier
metadata: { name: free }
spec:
  limits: { connections: 5, serverConnections: 2, queriesPerMinute: 300, storage: 256Mi, statementTimeout: 10s }
  placement: { pool: shared }
---
apiVersion: ogelnates.dev/v1
kind: Tier
metadata: { name: starter }
spec:
  limits: { connections: 20, serverConnections: 5, queriesPerMinute: 3000, storage: 2Gi, statementTimeout: 30s }
  overLimit: { connections: { queue: 5s } }
  placement: { pool: shared }
  price: { monthly: 9.00 }
",
    ),
    (
        "router.yaml",
        "\
apiVersion: ogelnates.dev/v1
kind: Router
metadata: { name: edge }
",
    ),
];

#[derive(Parser)]
struct Args {
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    tenants: u32,
    /// Folder for the manifests
    #[arg(long)]
    manifests: PathBuf,
    /// File for the observation
    #[arg(long)]
    live: PathBuf,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    generate(args.tenants, &args.manifests, &args.live)
}

/// Writes the fleet's manifests into the folder and its observation into the file.
pub fn generate(tenants: u32, manifests_in: &Path, live_in: &Path) -> Result<(), Box<dyn Error>> {
    let sources = manifests(tenants, manifests_in);
    for source in &sources {
        let path = Path::new(&source.path);
        fs::create_dir_all(path.parent().ok_or("no folder")?)?;
        fs::write(path, &source.text)?;
    }
    let desired = load(&sources).map_err(|problems| problems.render())?;
    let live = settled(&desired)?;
    fs::write(live_in, serde_json::to_vec(&Observation::new(desired.fleet.name.clone(), live))?)?;
    Ok(())
}

fn manifests(tenants: u32, folder: &Path) -> Vec<Source> {
    let instances = tenants.div_ceil(PER_INSTANCE);
    let plan = if instances <= INSTANCES_ON_PRO { "pro" } else { "enterprise" };
    let fleet = format!(
        "apiVersion: ogelnates.dev/v1\nkind: Fleet\nmetadata: {{ name: generated }}\nspec:\n  railway: {{ plan: {plan} }}\n  \
         defaults: {{ tier: free }}\n---\napiVersion: ogelnates.dev/v1\nkind: DatabasePool\nmetadata: {{ name: shared }}\nspec:\n  \
         volume: 20Gi\n  resources: {{ vcpu: 8, memory: 8Gi }}\n  tenantsPerInstance: {PER_INSTANCE}\n  \
         instances: {{ min: 1, max: {instances} }}\n"
    );
    let file = |name: &str, text: String| Source { path: folder.join(name).to_string_lossy().into_owned(), text };
    let mut files = vec![file("fleet.yaml", fleet)];
    files.extend(FILES.map(|(name, text)| file(name, text.to_owned())));
    files.extend((0..tenants).map(|n| file(&format!("tenants/t{n:05}.yaml"), tenant(n))));
    files
}

/// No two in a row are alike: own ceilings, a role and labels come and go.
fn tenant(n: u32) -> String {
    let tier = if n.is_multiple_of(3) { "starter" } else { "free" };
    let own = if n.is_multiple_of(5) { "  limits: { connections: 9 }\n" } else { "" };
    let roles = if n.is_multiple_of(2) { "  roles:\n    - name: reader\n      grants: read\n" } else { "" };
    format!(
        "apiVersion: ogelnates.dev/v1\nkind: Tenant\nmetadata:\n  name: t{n:05}\n  labels: {{ team: team-{} }}\nspec:\n  tier: {tier}\n{own}{roles}",
        n % 40
    )
}

/// Carries out plans on the model until one is empty.
fn settled(desired: &Desired) -> Result<Live, Box<dyn Error>> {
    let mut live = empty(desired)?;
    for _ in 0..3 {
        let plan = plan(desired, &live, &Consent::default());
        if plan.is_empty() && plan.refused.is_empty() && plan.blocked.is_empty() && !plan.is_stopped() {
            return Ok(live);
        }
        for action in &plan.actions {
            carry_out(&mut live, &action.step)?;
        }
        live.railway.services.sort_by(|a, b| a.name.cmp(&b.name));
        live.control.routing_version += 1;
    }
    Err(render(&plan(desired, &live, &Consent::default()), true).into())
}

fn moment() -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_608_000, 0).unwrap_or_default()
}

/// A project with a control database that knows the fleet, and nothing else.
fn empty(desired: &Desired) -> Result<Live, Box<dyn Error>> {
    let plan = desired.fleet.plan.ok_or("the fleet names its plan")?;
    let routers = desired.routers.iter().map(|(name, router)| (name.to_string(), router_spec(router))).collect();
    Ok(Live {
        observed_at: moment(),
        fleet: FleetUid::from_stored("00112233445566778899aabbccddeeff"),
        railway: RailwayLive {
            project: ProjectId::parse("11111111-1111-4111-8111-111111111111")?,
            project_name: desired.fleet.project.clone(),
            environment: EnvironmentId::parse("22222222-2222-4222-8222-222222222222")?,
            environment_name: desired.fleet.environment.clone(),
            plan,
            limits: plan_limits(plan),
            config_etag: "generated".to_owned(),
            staged_changes: 0,
            services: Vec::new(),
            volumes: Vec::new(),
        },
        control: ControlLive {
            known: true,
            schema_version: SCHEMA_VERSION,
            epoch: 1,
            routers,
            ..ControlLive::default()
        },
        instances: BTreeMap::new(),
    })
}

fn carry_out(live: &mut Live, step: &Step) -> Result<(), Box<dyn Error>> {
    match step {
        Step::Instance(step) => make_instance(live, step),
        Step::Server { instance, changes } => {
            let server = server(live, instance)?;
            changes.iter().for_each(|change| apply::apply(server, change));
            Ok(())
        }
        Step::Tenant(step) => {
            live.control.placements.insert(step.tenant.clone(), step.placement.clone());
            let server = server(live, &step.placement.instance)?;
            step.changes.iter().for_each(|change| apply::apply(server, change));
            Ok(())
        }
        Step::Route { route } => {
            let record = live.control.instances.get(route.instance.as_str());
            let endpoint = record.and_then(|record| record.endpoint.clone()).ok_or("an instance without address")?;
            live.control.routes.insert(route.tenant.clone(), (**route).clone().at(endpoint));
            Ok(())
        }
        other => Err(format!("a new fleet's plan has no such step: {other:?}").into()),
    }
}

fn server<'l>(live: &'l mut Live, name: &InstanceName) -> Result<&'l mut ogelnates::plan::ServerLive, String> {
    match live.instances.get_mut(name) {
        Some(InstanceState::Awake(server)) => Ok(server),
        _ => Err(format!("{name} is not running")),
    }
}

fn make_instance(live: &mut Live, step: &InstanceStep) -> Result<(), Box<dyn Error>> {
    let spec = &step.spec;
    let name = InstanceName::parse(&spec.name)?;
    let number = u32::try_from(live.railway.services.len())? + 1;
    let service = ServiceId::parse(&format!("33333333-3333-4333-8333-{number:012}"))?;
    let volume = VolumeId::parse(&format!("44444444-4444-4444-8444-{number:012}"))?;
    let variables = spec.variables.iter().map(|(name, value)| (name.clone(), seen(value))).collect();
    live.railway.services.push(ServiceLive {
        id: service.clone(),
        name: spec.name.clone(),
        created_at: moment(),
        owner: Ownership::Ours,
        adopted: false,
        config: Some(ServiceConfig {
            image: Some(spec.image.clone()),
            start_command: Some(spec.start_command.clone()),
            region: spec.region.clone(),
            caps: spec.caps,
            sleep: spec.sleep,
            tcp_proxy: true,
            mounted_volume: Some(volume.clone()),
            variables,
        }),
        deployment: Deployment::Running,
        deployment_id: Some(format!("55555555-5555-4555-8555-{number:012}")),
    });
    live.railway.volumes.push(VolumeLive {
        id: volume.clone(),
        service: Some(service.clone()),
        mount_path: ogelnates::plan::MOUNT_PATH.to_owned(),
        size_mib: spec.volume_mib,
        used_mib: 1_024,
    });
    let private = Address { host: format!("{name}.railway.internal"), port: 5432 };
    let public = Address { host: "proxy.rlwy.net".to_owned(), port: 20_000 + u16::try_from(number)? };
    let record = InstanceRecord {
        service: Some(service),
        volume: Some(volume),
        volume_requested_at: None,
        endpoint: Some(Endpoint { private, public }),
        applied: Some(spec_digest(spec)),
    };
    live.control.instances.insert(name.to_string(), record);
    let connections = spec.start_command.rsplit_once("max_connections=").ok_or("no max_connections")?.1.parse()?;
    live.instances.insert(name, InstanceState::Awake(Box::new(apply::fresh(connections))));
    Ok(())
}

/// As an observation recognises a value of ours.
fn seen(value: &VariableValue) -> LiveValue {
    match value {
        VariableValue::Plain { text } => LiveValue::Plain { text: text.clone() },
        VariableValue::Password { credential } => LiveValue::Password { credential: credential.clone() },
        VariableValue::Url { .. } => LiveValue::Other,
    }
}
