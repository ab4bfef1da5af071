//! `o7s events`: what runs did, and why.

use super::args::{EventsArgs, Format};
use super::load::load_desired;
use super::report::Failure;
use super::session::Session;
use super::{config, render};
use crate::store::{EventFilter, StoredEvent};

pub async fn run(args: EventsArgs) -> Result<u8, Failure> {
    let desired = load_desired(&args.input.files).map_err(Failure::Manifests)?;
    let object = match args.object.as_deref().map(|object| object.split_once('/')) {
        None => None,
        Some(Some((kind, name))) => Some((kind.to_owned(), name.to_owned())),
        Some(None) => return Err(Failure::Usage("name an object as in tenant/acme or instance/shared-1".into())),
    };
    let session = Session::open(config::from_environment()?, &desired).await?;
    session.load().await?;
    let events = session.store.events(&EventFilter { object, limit: args.limit, after: None }).await?;
    let mut out = anstream::stdout().lock();
    match args.format {
        Format::Json => render::json(&mut out, &events)?,
        Format::Text => {
            let rows: Vec<Vec<String>> = events.iter().map(cells).collect();
            render::table(&mut out, &["AT (UTC)", "OBJECT", "WHAT", "CAUSE", "MESSAGE"], &rows)?;
        }
    }
    Ok(0)
}

fn cells(stored: &StoredEvent) -> Vec<String> {
    let event = &stored.event;
    vec![
        stored.at.format("%Y-%m-%d %H:%M:%S").to_string(),
        format!("{}/{}", event.kind, event.name),
        event.reason.clone(),
        event.cause.clone().unwrap_or_default(),
        event.message.clone(),
    ]
}
