//! `o7s local up|down|status|fault`: the local Railway.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use super::report::Failure;
use crate::local::world::{Fault, Late, Plan, Rule};
use crate::local::{self, Error, Exports, FaultOrder, Status, Up};

/// A local Railway over real Postgres processes.
#[derive(Debug, Args)]
pub struct LocalArgs {
    #[command(subcommand)]
    command: LocalCommand,
}

#[derive(Debug, Subcommand)]
enum LocalCommand {
    /// Start it; prints `export NAME=value` lines for the shell
    Up(UpArgs),
    /// Stop it and its databases; data stays
    Down(DataArgs),
    /// Show its services and what its clients have spent
    Status(StatusArgs),
    /// Order trouble: lag, lost-answer, timeout, 429, edge-block, 5xx, fail-alias, deploy-fails, unhealthy,
    /// too-quickly, stale-base, trailing-dot, sleep, redeploy, crash, garbled, not-authorized; or clear
    Fault(FaultArgs),
}

#[derive(Debug, Args)]
struct DataArgs {
    /// Its folder; two folders are two local Railways
    #[arg(long, value_name = "DIR", default_value = ".o7s/local")]
    data: PathBuf,
}

#[derive(Debug, Args)]
struct UpArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Go on in the background, and return when it is ready
    #[arg(long)]
    detach: bool,
    /// Railway's plan, which decides the limits [default for a new one: pro]
    #[arg(long, value_enum)]
    plan: Option<Plan>,
    /// The process that `--detach` starts
    #[arg(long, hide = true, conflicts_with = "detach")]
    in_background: bool,
}

#[derive(Debug, Args)]
struct StatusArgs {
    #[command(flatten)]
    data: DataArgs,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Debug, Args)]
struct FaultArgs {
    #[command(flatten)]
    data: DataArgs,
    /// lag, lost-answer, timeout, 429, edge-block, 5xx, fail-alias, deploy-fails, unhealthy, too-quickly, stale-base,
    /// trailing-dot, sleep, redeploy, crash, garbled, not-authorized; or `clear`, which takes every open order back
    #[arg(value_parser = parse_kind, required_unless_present = "list")]
    kind: Option<Kind>,
    /// Only in requests of this operation or with this root field
    #[arg(long, value_name = "NAME")]
    operation: Option<String>,
    /// Only at this alias (fail-alias)
    #[arg(long, value_name = "ALIAS")]
    alias: Option<String>,
    /// Only for this service (deploy-fails, unhealthy, sleep, redeploy, crash)
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Only these (lag)
    #[arg(long, value_name = "KIND", value_enum)]
    object: Option<Late>,
    /// Exactly this many milliseconds late (lag) [default: by chance, up to 30 s]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u32).range(..=600_000))]
    late_ms: Option<u32>,
    /// How often [default: 1; lag lasts until cleared]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    count: Option<u32>,
    /// Show the open orders
    #[arg(long, conflicts_with_all = ["kind", "operation", "alias", "service", "object", "late_ms", "count"])]
    list: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Clear,
    Fault(Fault),
}

fn parse_kind(text: &str) -> Result<Kind, String> {
    if text == "clear" {
        return Ok(Kind::Clear);
    }
    let known =
        || Fault::value_variants().iter().filter_map(|fault| Some(fault.to_possible_value()?.get_name().to_owned()));
    Fault::from_str(text, false)
        .map(Kind::Fault)
        .map_err(|_| format!("it is one of {}, clear", known().collect::<Vec<_>>().join(", ")))
}

/// Runs the command and gives the exit code.
pub fn run(args: LocalArgs) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let result = runtime.map_err(Error::System).and_then(|runtime| {
        let result = runtime.block_on(obey(args.command));
        runtime.shutdown_background();
        result
    });
    Ok(result.map(|()| 0)?)
}

async fn obey(command: LocalCommand) -> Result<(), Error> {
    match command {
        LocalCommand::Up(args) if args.detach => detach(args).await,
        LocalCommand::Up(args) => serve(args).await,
        LocalCommand::Down(args) => {
            let data = args.data.display().to_string();
            let ended = local::down(&asked(args.data, None)).await?;
            let what = if ended { "stopped the local Railway on" } else { "no local Railway ran on" };
            writeln!(io::stderr(), "{what} {data}")?;
            Ok(())
        }
        LocalCommand::Status(args) => {
            let status = local::status(&args.data.data).await?;
            Ok(print_status(&status, args.format, &mut io::stdout().lock())?)
        }
        LocalCommand::Fault(args) => fault(args).await,
    }
}

fn asked(data: PathBuf, plan: Option<Plan>) -> Up {
    let postgres = std::env::var_os("O7S_PG_BIN").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    Up { data, plan, postgres, installed: PathBuf::from(".o7s/postgres") }
}

async fn detach(args: UpArgs) -> Result<(), Error> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["local", "up", "--in-background", "--data"]).arg(&args.data.data);
    let plan = args.plan.and_then(|plan| plan.to_possible_value());
    command.args(plan.iter().flat_map(|plan| ["--plan", plan.get_name()]));
    let exports = local::up_detached(&args.data.data, command).await?;
    Ok(print_exports(&exports, &mut io::stdout().lock())?)
}

async fn serve(args: UpArgs) -> Result<(), Error> {
    if args.in_background {
        local::leave_session();
    }
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let serving = match local::up(&asked(args.data.data, args.plan)).await? {
        Ok(serving) => serving,
        Err(exports) => {
            writeln!(io::stderr(), "it runs already")?;
            return Ok(print_exports(&exports, &mut io::stdout().lock())?);
        }
    };
    let stop = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    writeln!(io::stderr(), "local Railway: {}", serving.about)?;
    tokio::pin!(stop);
    let ready = tokio::select! {
        ready = serving.ready() => ready,
        () = &mut stop => return serving.run(std::future::ready(())).await,
    };
    if let Err(error) = ready {
        serving.run(std::future::ready(())).await?;
        return Err(error);
    }
    print_exports(&serving.exports, &mut io::stdout().lock())?;
    writeln!(io::stderr(), "ready; Ctrl-C ends it")?;
    serving.run(stop).await
}

/// The one output whose purpose is to show secrets.
fn print_exports(exports: &Exports, out: &mut dyn Write) -> io::Result<()> {
    for (name, value) in exports {
        writeln!(out, "export {name}={}", quoted(value.expose()))?;
    }
    out.flush()
}

/// For sh: nothing in single quotes means anything.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

async fn fault(args: FaultArgs) -> Result<(), Error> {
    let order = match args.kind {
        None => FaultOrder::List,
        Some(Kind::Clear) => FaultOrder::Clear,
        Some(Kind::Fault(fault)) => {
            let count = args.count.or((fault != Fault::Lag).then_some(1));
            FaultOrder::Add(Rule {
                fault,
                operation: args.operation,
                alias: args.alias,
                service: args.service,
                object: args.object,
                late_ms: args.late_ms,
                count,
            })
        }
    };
    let open = local::fault(&args.data.data, order).await?;
    Ok(print_faults(&open, &mut io::stdout().lock())?)
}

fn print_faults(open: &[Rule], out: &mut dyn Write) -> io::Result<()> {
    if open.is_empty() {
        return writeln!(out, "no faults are ordered");
    }
    for rule in open {
        let name = rule.fault.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let part =
            |word: &str, value: &Option<String>| value.as_ref().map(|v| format!(" {word} {v}")).unwrap_or_default();
        let kind = rule.object.and_then(|object| Some(object.to_possible_value()?.get_name().to_owned()));
        let late = rule.late_ms.map(|ms| ms.to_string());
        let times = rule.count.map_or("until cleared".to_owned(), |count| format!("{count} to come"));
        writeln!(
            out,
            "{name}: {times}{}{}{}{}{}",
            part("of", &kind),
            part("late by ms", &late),
            part("in", &rule.operation),
            part("at alias", &rule.alias),
            part("for service", &rule.service)
        )?;
    }
    Ok(())
}

fn print_status(status: &Status, format: Format, out: &mut dyn Write) -> io::Result<()> {
    if format == Format::Json {
        serde_json::to_writer_pretty(&mut *out, status)?;
        return writeln!(out);
    }
    let state = match (status.running, status.ready) {
        (false, _) => "stopped",
        (true, false) => "starting its databases",
        (true, true) => "ready",
    };
    let plan = status.plan.to_possible_value().map(|plan| plan.get_name().to_owned()).unwrap_or_default();
    writeln!(out, "{state}  {}  plan {plan}  data {}", status.url, status.data)?;
    for service in &status.services {
        let port = service.port.map_or("-".to_owned(), |port| port.to_string());
        let reason = service.reason.as_ref().map(|reason| format!("  {reason}")).unwrap_or_default();
        let place = format!("{}/{}", service.project, service.environment);
        writeln!(out, "{:<24} {:<13} {port:<6} {place}{reason}", service.name, service.state)?;
    }
    let requests = &status.requests;
    writeln!(out, "requests: {}, {} of them mutations", requests.total, requests.mutations)?;
    for (operation, count) in &requests.by_operation {
        writeln!(out, "  {count:>6}  {operation}")?;
    }
    if !status.faults.is_empty() {
        print_faults(&status.faults, out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_quoted_for_sh_whatever_it_holds() {
        assert_eq!(quoted("plain"), "'plain'");
        assert_eq!(quoted("a'b $c"), r"'a'\''b $c'");
    }

    #[test]
    fn every_fault_has_its_name_and_an_unknown_one_is_told_them_all() {
        for name in ["lag", "lost-answer", "429", "5xx", "fail-alias", "edge-block", "not-authorized"] {
            assert!(matches!(parse_kind(name), Ok(Kind::Fault(_))), "{name}");
        }
        assert_eq!(parse_kind("clear"), Ok(Kind::Clear));
        assert!(parse_kind("lagg").expect_err("unknown").contains("lag, lost-answer, timeout, 429"));
    }

    #[test]
    fn faults_read_as_what_is_still_to_come() {
        let lag = Rule { count: None, ..Rule::once(Fault::Lag) };
        let lost = Rule { operation: Some("serviceCreate".into()), ..Rule::once(Fault::LostAnswer) };
        let mut out = Vec::new();
        print_faults(&[lag, lost], &mut out).expect("written");
        insta::assert_snapshot!(String::from_utf8(out).expect("text"), @r"
        lag: until cleared
        lost-answer: 1 to come in serviceCreate
        ");
    }
}
