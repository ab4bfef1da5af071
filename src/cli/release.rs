//! `o7s release`: lets go of an instance or a tenant. The object stays; o7s forgets it.

use std::io::Write as _;

use clap::Args;
use serde::Serialize;

use super::adopt::{Object, object};
use super::args::Format;
use super::leased::{Held, WriteArgs, leased};
use super::load::load_desired;
use super::progress::{confirm, say};
use super::render;
use super::report::Failure;
use crate::operator::{self, Noted, note};
use crate::plan::{Release, release_instance, release_tenant};
use crate::tenancy::counted;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  o7s release tenant/acme             its database and roles stay, with their passwords and ceilings
  o7s release instance/shared-1       the service stays, and everything in it

Marks, route and rows in the control database go. Nothing is deleted and no connection is cut, except that routers know
the tenant no more. While a manifest still asks for it, plan refuses to make a second one of that name: remove it.
An instance is taken back with `o7s adopt`; a tenant's database too, under another tenant's name, because its role keeps
its password. Repeats harmlessly.

Exit codes: 0 released, 3 failed on the way (run it again), 4 refused or not confirmed, 6 another run holds the lease,
7 unreachable, 64 wrong use, 65 invalid manifest, 77 not allowed")]
pub struct ReleaseArgs {
    /// instance/NAME or tenant/NAME
    #[arg(value_name = "KIND/NAME", value_parser = object)]
    pub object: Object,
    #[command(flatten)]
    pub write: WriteArgs,
}

#[derive(Serialize)]
struct Printed<'a> {
    object: String,
    released: bool,
    tenants: Vec<&'a str>,
}

pub async fn run(args: ReleaseArgs) -> Result<u8, Failure> {
    let desired = load_desired(&args.write.input.files).map_err(Failure::Manifests)?;
    let work = async |held: &Held<'_>| release(&args, held).await;
    leased("o7s release", &args.write, &desired, work).await
}

async fn release(args: &ReleaseArgs, held: &Held<'_>) -> Result<u8, Failure> {
    let (what, instance, kind, name) = match &args.object {
        Object::Instance(name) => (release_instance(&held.live, name), Some(name), "instance", name.to_string()),
        Object::Tenant(name) => (release_tenant(&held.live, name), None, "tenant", name.to_string()),
    };
    let what = what.map_err(Failure::Refused)?;
    held.progress.clear();
    if args.write.format == Format::Text {
        let mut out = anstream::stdout().lock();
        steps(args, &what).iter().try_for_each(|line| writeln!(out, "{line}"))?;
    }
    if !(args.write.yes || confirm(&format!("Release {}?", args.object))) {
        if args.write.format == Format::Json {
            print(args, false, &what)?;
        }
        say("nothing was changed: say yes at the prompt, or give --yes");
        return Ok(4);
    }
    let started = (held.door.clock)();
    let done = operator::release(&held.door, (&held.control, &held.servers), &held.live, instance, &what).await;
    let message =
        format!("{}; marks, routes and rows are gone, the objects stay", counted(what.tenants.len(), "tenant"));
    let noted = Noted { kind, name, done: "Released", message };
    note(&held.door, &held.control, started, noted, &done).await?;
    held.progress.clear();
    done.map_err(Failure::from)?;
    print(args, true, &what)?;
    Ok(0)
}

/// More tenants than these are counted.
const SHOWN: usize = 10;

fn steps(args: &ReleaseArgs, what: &Release) -> Vec<String> {
    let mut lines = vec![format!("release {}", args.object)];
    for (tenant, place) in what.tenants.iter().take(SHOWN) {
        let at = place.as_ref().map_or_else(|| "nowhere".to_owned(), |p| format!("{} on {}", p.database, p.instance));
        lines.push(format!("  tenant {tenant} loses its marks and its route; database {at} stays"));
    }
    if what.tenants.len() > SHOWN {
        lines.push(format!("  and {}", counted(what.tenants.len() - SHOWN, "more tenant")));
    }
    if what.service.is_some() {
        lines.push("  its service, volume and variables stay; its marker goes, without a restart".into());
    }
    if what.adopted {
        lines.push("  role o7s_admin stays on its server and lets nobody in".into());
    }
    lines
}

fn print(args: &ReleaseArgs, released: bool, what: &Release) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    let object = args.object.to_string();
    match args.write.format {
        Format::Json => {
            let tenants = what.tenants.iter().map(|(tenant, _)| tenant.as_str()).collect();
            render::json(&mut out, &Printed { object, released, tenants })?;
        }
        Format::Text => writeln!(out, "released {object}; remove its manifest")?,
    }
    Ok(())
}
