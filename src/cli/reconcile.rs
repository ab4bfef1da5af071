//! `o7s reconcile`: plan, ask, carry out, look again. `--watch` does it for as long as it runs.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::args::{ReconcileArgs, ReportFormat};
use super::github::Github;
use super::load::load_desired;
use super::planned::{manifests, read_pin};
use super::present::outputs;
use super::progress::{Progress, confirm, say};
use super::report::{Failure, marker};
use super::session::{Session, client};
use super::signals::Signals;
use super::{config, ran, render};
use crate::manifest::Desired;
use crate::operator::{
    self, ControlDatabase, Door, Leading, Outcome, Reconciled, Tell, Verdict, Watch, reconcile, watch,
};
use crate::plan::{Change, Consent, Inputs, Pin, Plan, PlanDocument, Reads, render as text};
use crate::tenancy::{ErrorCode, counted};

pub async fn run(args: ReconcileArgs) -> Result<u8, Failure> {
    let signals = Signals::listen()?;
    let result = match args.mode.watch {
        true => watch_loop(&args, &signals).await,
        false => open_and_run(&args, &signals).await,
    };
    let code = signals.settle(result)?;
    Ok(signals.exit_code().filter(|_| code != 0 || args.mode.watch).unwrap_or(code))
}

async fn open_and_run(args: &ReconcileArgs, signals: &Signals) -> Result<u8, Failure> {
    let loaded = manifests(&args.input)?;
    // What cannot be read is said before anything is asked.
    let pin = args.plan.as_deref().map(read_pin).transpose()?;
    let pin = pin.map(|pin| if args.replan_if_safe { pin.or_smaller() } else { pin });
    let run = async {
        let mut session = Session::open(config::from_environment()?, &loaded.0).await?;
        Ok::<_, Failure>(once(args, &loaded, pin, &mut session, signals).await?.exit_code())
    };
    run.await.map_err(|failure| failure.of(loaded.0.fleet.name.as_str()))
}

async fn once(
    args: &ReconcileArgs,
    (desired, inputs): &(Desired, Inputs),
    pin: Option<Pin>,
    session: &mut Session,
    signals: &Signals,
) -> Result<Reconciled, Failure> {
    let (progress, begun) = (Progress::new(), Instant::now());
    let wanted = (desired, &args.allowed.consent(pin));
    let done = progress.beside(run_once(args, wanted, session, signals, &progress)).await?;
    progress.clear();
    print(args, session, (&done, inputs), begun.elapsed())?;
    Ok(done)
}

async fn run_once(
    args: &ReconcileArgs,
    wanted: (&Desired, &Consent),
    session: &mut Session,
    signals: &Signals,
    progress: &Progress,
) -> Result<Reconciled, Failure> {
    let railway = session.take_railway();
    let session = &*session;
    let on_wait = |holder: &str| progress.show(&format!("waiting for the lease of {holder}"));
    let holder = holder_named("o7s reconcile");
    let lease = tokio::select! {
        lease = session.store.acquire(&holder, args.lock_timeout, on_wait) => lease?,
        () = signals.token.cancelled() => return Err(crate::operator::Error::Stopped.into()),
    };
    let (row, control) = session.load().await?;
    let place = session.place(row.as_ref(), wanted.0).await?;
    let show = |tell: Tell<'_>| progress.tell(tell);
    let (leading, epoch) = (Leading::new(), lease.epoch());
    // Whoever loses the lease stops as on Ctrl-C, and the loop of `--watch` goes on.
    let stop = signals.token.child_token();
    let door = Door { leading: Some(&leading), ..session.door(place, &stop, &show, args.timeout)? };
    let database = ControlDatabase::new(&session.store, lease);
    let agree = |plan: &Plan| agreed(args, plan, progress);
    let servers = session.servers()?;
    // What tenants store is of use while somebody keeps it fresh.
    let servers = if args.mode.watch { servers.measuring() } else { servers };
    let done = tokio::select! {
        done = reconcile(&door, &database, &servers, wanted, ((row, control), railway), agree) => done,
        () = leading.keep(&stop, async || database.look(epoch).await) => Err(crate::operator::Error::NotLeading),
    };
    let sizes = servers.sizes();
    if done.is_ok()
        && !sizes.is_empty()
        && let Err(error) = database.save_sizes(&sizes).await
    {
        tracing::warn!(%error, "what tenants store is not kept this time");
    }
    database.release().await;
    Ok(done?)
}

/// Who holds the lease, for whoever waits for it.
pub fn holder_named(command: &str) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{command}, pid {} on {}", std::process::id(), host.trim())
}

/// Shows the plan, and asks where somebody can answer.
fn agreed(args: &ReconcileArgs, plan: &Plan, progress: &Progress) -> bool {
    progress.clear();
    if args.output.format == ReportFormat::Text {
        let mut out = io::stdout().lock();
        let _ = render::plan_text(&mut out, &text(plan, args.output.verbose), args.output.coloured());
    }
    args.yes || confirm("Carry it out?")
}

#[derive(Serialize)]
struct Printed<'a> {
    plan: PlanDocument<'a>,
    verdict: Verdict,
    outcomes: &'a BTreeMap<String, Outcome>,
    routing_version: Option<u64>,
    rest: Vec<Change<'a>>,
    error: Option<Ended>,
    requests: u64,
    mutations: u64,
    took_ms: u128,
}

/// What ended the run early.
#[derive(Serialize)]
struct Ended {
    code: ErrorCode,
    message: String,
    help: String,
}

impl Ended {
    fn by(error: &operator::Error) -> Ended {
        Ended { code: error.code(), message: error.to_string(), help: error.help() }
    }
}

fn print(
    args: &ReconcileArgs,
    session: &Session,
    (done, inputs): (&Reconciled, &Inputs),
    took: Duration,
) -> Result<(), Failure> {
    let client = session.client()?;
    let requests = client.requests();
    let printed = || Printed {
        plan: done.plan.document(inputs, Reads { requests: done.reads, budget: client.remaining() }),
        verdict: done.verdict,
        outcomes: &done.report.outcomes,
        routing_version: done.report.routing_version,
        rest: done.rest.iter().flat_map(Plan::changes).collect(),
        error: done.error.as_ref().map(Ended::by),
        requests: requests.total(),
        mutations: requests.mutations,
        took_ms: took.as_millis(),
    };
    let cost = format!(
        "{}, {} of them {}; {:.1} s\n",
        counted(requests.total(), "request"),
        requests.mutations,
        if requests.mutations == 1 { "a change" } else { "changes" },
        took.as_secs_f64()
    );
    let plan = || text(&done.plan, args.output.verbose);
    let page = || ran::page(done, &cost, args.output.verbose);
    let mut out = anstream::stdout().lock();
    match args.output.format {
        ReportFormat::Json => render::json(&mut out, &printed())?,
        ReportFormat::Jsonl => ran::json_lines(&mut out, &printed())?,
        ReportFormat::Markdown => {
            let marker = marker("reconcile", Some(&done.plan.fleet));
            write!(out, "{marker}{}", page().render(args.output.max_bytes as usize - marker.len()))?;
        }
        ReportFormat::Github => {
            let text = format!("{}{}{cost}", plan(), ran::text(done));
            let outputs = outputs(&done.plan, done.exit_code());
            Github::of_environment().publish(&mut out, &text, &ran::annotations(done), page(), &outputs)?;
        }
        ReportFormat::Text => {
            if done.plan.is_empty() || done.plan.is_stopped() {
                render::plan_text(&mut out, &plan(), args.output.coloured())?;
            }
            write!(out, "{}{cost}", ran::text(done))?;
        }
    }
    if done.verdict == Verdict::Unconfirmed {
        say("nothing was changed: say yes at the prompt, or give --yes");
    } else if done.plan.is_stopped() {
        say("nothing was changed");
    }
    Ok(out.flush()?)
}

/// Reads the manifests anew at every look; what cannot be read leaves the last run's result standing and is said.
async fn watch_loop(args: &ReconcileArgs, signals: &Signals) -> Result<u8, Failure> {
    if !args.yes && !io::stdin().is_terminal() {
        return Err(Failure::Usage("`reconcile --watch` without a terminal needs --yes".into()));
    }
    // Finding the control database takes three requests, so the way to it is kept from one look to the next.
    let config = config::from_environment()?;
    let (client, kept) = (Arc::new(client(&config)?), Cell::new(None::<Session>));
    let open = async |desired: &Desired| match kept.take().filter(|session| session.is_of(desired)) {
        Some(session) => Ok(session),
        None => Session::open_with(config.clone(), Arc::clone(&client), desired).await,
    };
    let look = async || {
        let desired = load_desired(&args.input.files).ok()?;
        let mut session = open(&desired).await.ok()?;
        // It would be old by the time a run makes use of it.
        session.take_railway();
        let (row, _) = session.load().await.ok()?;
        let environment = row.map(|row| row.environment);
        kept.set(Some(session));
        Some((format!("{desired:?}"), client.poll_etag(&environment?).await.ok()?))
    };
    let run = async || {
        let run = async {
            let loaded = manifests(&args.input)?;
            let mut session = open(&loaded.0).await?;
            client.count_anew();
            let done = once(args, &loaded, None, &mut session, signals).await?;
            // After any failure it is found anew: it may have moved.
            kept.set(Some(session));
            Ok::<_, Failure>(done)
        };
        match run.await {
            Ok(done) => (done.exit_code() == 0).then_some(done.etag),
            Err(failure) => {
                let _ = failure.print_text(&mut io::stderr());
                None
            }
        }
    };
    watch(Watch::default(), &signals.token, look, run).await;
    Ok(0)
}
