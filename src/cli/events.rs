//! `o7s events`: what runs did, and why.

use super::args::{EventsArgs, ListFormat};
use super::load::load_desired;
use super::report::Failure;
use super::session::Session;
use super::{config, render};
use crate::operator::statuses;
use crate::store::{EventFilter, StoredEvent};

pub async fn run(args: EventsArgs) -> Result<u8, Failure> {
    let desired = load_desired(&args.input.files).map_err(Failure::Manifests)?;
    let object = match args.object.as_deref().map(|object| object.split_once('/')) {
        None => None,
        Some(Some((kind, name))) => Some((kind.to_owned(), name.to_owned())),
        Some(None) => return Err(Failure::Usage("name an object as in tenant/acme or instance/shared-1".into())),
    };
    let session = Session::read_only(config::parts(), &desired).await?;
    let (_, control) = session.load().await?;
    let events = session.store.events(&EventFilter { object, limit: args.limit, after: None }).await?;
    if events.is_empty()
        && let Some(address) = &args.object
    {
        // Not known is told from known and quiet, in the words of `status`.
        let conditions = session.store.conditions().await?;
        if !statuses(&desired, &control, &conditions).iter().any(|one| one.address() == *address) {
            return Err(Failure::unknown(&control, address));
        }
        super::progress::say(&format!("nothing has happened to {address} yet"));
    }
    let mut out = anstream::stdout().lock();
    match args.format {
        ListFormat::Json => render::json(&mut out, &events)?,
        ListFormat::Jsonl => events.iter().try_for_each(|event| render::json_line(&mut out, event))?,
        ListFormat::Text => {
            render::table(&mut out, &HEAD, &rows(&events))?;
        }
    }
    Ok(0)
}

pub const HEAD: [&str; 5] = ["AT (UTC)", "OBJECT", "WHAT", "CAUSE", "MESSAGE"];

pub fn rows(events: &[StoredEvent]) -> Vec<Vec<String>> {
    events.iter().map(cells).collect()
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
