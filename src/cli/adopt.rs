//! `o7s adopt`: makes a database service that somebody else made an instance, or a database in one a tenant's.

use std::io::Write as _;

use clap::Args;
use serde::Serialize;

use super::args::Format;
use super::leased::{Held, WriteArgs, leased};
use super::load::load_desired;
use super::progress::{confirm, say};
use super::render;
use super::report::Failure;
use crate::manifest::Desired;
use crate::operator::{self, Noted, foreign_fleet, note};
use crate::plan::{Action, InstanceAdoption, TenantAdoption, adopt_instance, adopt_tenant};
use crate::tenancy::{InstanceName, ServiceId, TenantId};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  o7s adopt instance/shared-1 --id 5f3c0a9e-…       a Postgres service of Railway's template joins pool `shared`
  o7s adopt tenant/acme --database shop             a database in it becomes tenant acme's
  o7s adopt tenant/acme --database railway --on instance/shared-1

A service gets a superuser o7s_admin beside its own, its instance's name and the marker, without a restart; a database
gets a role of the tenant's name. Existing roles, passwords, variables and data stay as they are. What the manifests ask
for beyond that is shown, and left to `o7s plan` and `o7s reconcile`. Repeats harmlessly.

Exit codes: 0 adopted, 3 failed on the way (run it again), 4 refused or not confirmed, 6 another run holds the lease,
7 unreachable, 64 wrong use, 65 invalid manifest, 77 not allowed")]
pub struct AdoptArgs {
    /// instance/NAME or tenant/NAME
    #[arg(value_name = "KIND/NAME", value_parser = object)]
    pub object: Object,
    /// Of the Railway service that becomes the instance
    #[arg(long, value_name = "SERVICE_ID", value_parser = service_id)]
    pub id: Option<ServiceId>,
    /// That becomes the tenant's
    #[arg(long, value_name = "NAME")]
    pub database: Option<String>,
    /// Where the database is, when several instances have one of that name
    #[arg(long, value_name = "instance/NAME", value_parser = instance)]
    pub on: Option<InstanceName>,
    /// Take it from another fleet, whose marker it carries
    #[arg(long)]
    pub force_owner: bool,
    #[command(flatten)]
    pub write: WriteArgs,
}

/// What can be adopted and released.
#[derive(Debug, Clone)]
pub enum Object {
    Instance(InstanceName),
    Tenant(TenantId),
}

impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Object::Instance(name) => write!(f, "instance/{name}"),
            Object::Tenant(name) => write!(f, "tenant/{name}"),
        }
    }
}

pub fn object(text: &str) -> Result<Object, String> {
    match text.split_once('/') {
        Some(("instance", _)) => instance(text).map(Object::Instance),
        Some(("tenant", name)) => match TenantId::parse(name) {
            Ok(name) => Ok(Object::Tenant(name)),
            Err(error) => Err(format!("the tenant name `{name}` {error}")),
        },
        _ => Err("expected instance/NAME or tenant/NAME".into()),
    }
}

fn instance(text: &str) -> Result<InstanceName, String> {
    let name = text.strip_prefix("instance/").ok_or("expected instance/NAME")?;
    InstanceName::parse(name).map_err(|error| format!("the instance name `{name}` {error}"))
}

fn service_id(text: &str) -> Result<ServiceId, String> {
    ServiceId::parse(text).map_err(|error| format!("a service id {error}"))
}

#[derive(Serialize)]
struct Printed<'a> {
    object: String,
    adopted: bool,
    /// What was, or would have been, done.
    steps: &'a [String],
    /// What `o7s plan` does next.
    next: &'a [Action],
}

pub async fn run(args: AdoptArgs) -> Result<u8, Failure> {
    let desired = load_desired(&args.write.input.files).map_err(Failure::Manifests)?;
    let usage = |text: &str| Err(Failure::Usage(text.to_owned()));
    match (&args.object, &args.id, &args.database) {
        (Object::Instance(name), Some(id), None) if args.on.is_none() => {
            let work = async |held: &Held<'_>| of_instance(&args, &desired, held, (name, id)).await;
            leased("o7s adopt", &args.write, &desired, work).await
        }
        (Object::Tenant(name), None, Some(database)) => {
            let work = async |held: &Held<'_>| of_tenant(&args, &desired, held, (name, database)).await;
            leased("o7s adopt", &args.write, &desired, work).await
        }
        (Object::Instance(_), ..) => usage("an instance is adopted with --id SERVICE_ID and nothing else"),
        (Object::Tenant(_), ..) => usage("a tenant is adopted with --database NAME, and --on instance/NAME"),
    }
}

async fn of_instance(
    args: &AdoptArgs,
    desired: &Desired,
    held: &Held<'_>,
    (name, id): (&InstanceName, &ServiceId),
) -> Result<u8, Failure> {
    let adoption = adopt_instance(desired, &held.live, name, id).map_err(Failure::Refused)?;
    let door = &held.door;
    let entrance = door.railway.read_entrance(&door.project, &door.environment, id).await?;
    let other = foreign_fleet(&entrance, &door.fleet);
    if let Some(fleet) = other.as_ref().filter(|_| !args.force_owner) {
        return Err(Failure::OwnedByOther { object: args.object.to_string(), fleet: fleet.as_str().to_owned() });
    }
    let steps = steps_of_instance(&adoption);
    if !agreed(args, &steps, &adoption.next, held) {
        return unconfirmed(args, &steps, &adoption.next);
    }
    let started = (door.clock)();
    let doors = (&held.control, &held.servers);
    let done = operator::adopt_instance(door, doors, &adoption, &entrance, args.force_owner).await;
    finish(args, held, started, done, (&steps, &adoption.next)).await
}

fn steps_of_instance(adoption: &InstanceAdoption) -> Vec<String> {
    let InstanceAdoption { instance, service, called, .. } = adoption;
    if adoption.done {
        return vec![format!(
            "{instance} is adopted already; what an earlier run may have left undone is done again"
        )];
    }
    let mut steps = Vec::new();
    if !adoption.has_proxy {
        steps.push(format!("service {called} gets a TCP proxy, which restarts it"));
    }
    steps.push(format!("a superuser o7s_admin is made beside the one of {called}, whose password stays"));
    if called != instance.as_str() {
        steps.push(format!(
            "service {called} ({service}) is called {instance} from then on; its private host name stays. References \
             such as ${{{{{called}.DATABASE_URL}}}} in other services: look at them afterwards"
        ));
    }
    steps.push(format!(
        "its variable O7S_OWNER says that it is an instance of pool {}, without a restart",
        instance.pool()
    ));
    steps.push("its variables, volume, roles and databases stay as they are".into());
    steps
}

async fn of_tenant(
    args: &AdoptArgs,
    desired: &Desired,
    held: &Held<'_>,
    (name, database): (&TenantId, &str),
) -> Result<u8, Failure> {
    let adoption = adopt_tenant(desired, &held.live, (name, database), args.on.as_ref()).map_err(Failure::Refused)?;
    let record = held.live.control.instances.get(adoption.place.instance.as_str());
    let endpoint = record.and_then(|record| record.endpoint.clone()).ok_or_else(|| {
        Failure::Undone(operator::Failure {
            code: operator::Code::NoAddress.into(),
            message: format!("nobody knows the address of {}", adoption.place.instance),
            help: "run o7s reconcile first".into(),
        })
    })?;
    let steps = steps_of_tenant(&adoption);
    if !agreed(args, &steps, &[], held) {
        return unconfirmed(args, &steps, &[]);
    }
    let started = (held.door.clock)();
    let doors = (&held.control, &held.servers);
    let done = operator::adopt_tenant(&held.door, doors, &adoption, &endpoint, args.force_owner).await;
    finish(args, held, started, done, (&steps, &[])).await
}

fn steps_of_tenant(adoption: &TenantAdoption) -> Vec<String> {
    let TenantAdoption { tenant, place, owner, .. } = adoption;
    let database = &place.database;
    if adoption.done {
        return vec![format!("database {database} is tenant {tenant}'s already; its password is set again")];
    }
    let access = match owner {
        Some(owner) if adoption.joins => format!("as a member of its owner {owner}"),
        Some(owner) => format!(
            "with all rights on what its owner {owner} made, but not as its member: {owner} may more than a tenant. \
             To let {tenant} change tables, give the database to a plain role first"
        ),
        None => "as a member of its owner, if that is a plain role, else with all rights on what is in it".to_owned(),
    };
    vec![
        format!(
            "role {tenant} with a derived password is made on {}; its mark gives it database {database}",
            place.instance
        ),
        format!("reconcile then lets it in {access}"),
        format!(
            "reconcile then sets the tier's ceilings on {database} (at most {} connections at once, of all its \
             roles) and takes CONNECT from PUBLIC, not from roles that could connect",
            adoption.connection_limit
        ),
        "existing roles, their passwords and all data stay as they are".into(),
    ]
}

/// Shows what would happen, and asks where somebody can answer.
fn agreed(args: &AdoptArgs, steps: &[String], next: &[Action], held: &Held<'_>) -> bool {
    held.progress.clear();
    if args.write.format == Format::Text {
        let _ = show(&args.object, steps, next);
    }
    args.write.yes || confirm(&format!("Adopt {}?", args.object))
}

fn show(object: &Object, steps: &[String], next: &[Action]) -> std::io::Result<()> {
    let mut out = anstream::stdout().lock();
    writeln!(out, "adopt {object}")?;
    steps.iter().try_for_each(|step| writeln!(out, "  {step}"))?;
    if next.is_empty() {
        return Ok(());
    }
    writeln!(out, "what plan does next, and reconcile then:")?;
    for action in next {
        writeln!(out, "{} {} ({})", action.symbol.as_str(), action.address, action.reason.text)?;
        for field in &action.fields {
            let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "(none)".into());
            writeln!(out, "    {}: {} -> {}", field.path, text(&field.old), text(&field.new))?;
        }
    }
    Ok(())
}

fn unconfirmed(args: &AdoptArgs, steps: &[String], next: &[Action]) -> Result<u8, Failure> {
    if args.write.format == Format::Json {
        print(args, false, steps, next)?;
    }
    say("nothing was changed: say yes at the prompt, or give --yes");
    Ok(4)
}

fn print(args: &AdoptArgs, adopted: bool, steps: &[String], next: &[Action]) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    let object = args.object.to_string();
    match args.write.format {
        Format::Json => render::json(&mut out, &Printed { object, adopted, steps, next })?,
        Format::Text => writeln!(out, "adopted {object}; next: o7s plan")?,
    }
    Ok(())
}

async fn finish(
    args: &AdoptArgs,
    held: &Held<'_>,
    started: chrono::DateTime<chrono::Utc>,
    done: Result<(), operator::Hindrance>,
    (steps, next): (&[String], &[Action]),
) -> Result<u8, Failure> {
    let (kind, name) = match &args.object {
        Object::Instance(name) => ("instance", name.to_string()),
        Object::Tenant(name) => ("tenant", name.to_string()),
    };
    let noted = Noted { kind, name, done: "Adopted", message: steps.join("; ") };
    note(&held.door, &held.control, started, noted, &done).await?;
    held.progress.clear();
    done.map_err(Failure::from)?;
    print(args, true, steps, next)?;
    Ok(0)
}
