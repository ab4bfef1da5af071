//! Waiting: how many requests it costs, and how a stop request ends it.

use chrono::TimeDelta;
use ogelnates::local::world::{Fault, Rule};
use ogelnates::operator::{Error, Outcome, Verdict};

use super::laws::{bootstrapped, settle, simulate, undisturbed};
use super::safety_laws::run;
use super::sim::fleet;

/// Property 68: what a stop cut short is no failure, it is over soon, and the next run goes on.
#[test]
fn a_stop_while_something_is_waited_for_is_reported_as_a_stop() {
    simulate(async || {
        let desired = fleet(&["acme", "beta", "corp"]);
        for line in ["does not answer at", "deploying", "just made", "databases on", "looking for it"] {
            let sim = bootstrapped(&desired, true).await;
            sim.servers.silent_for(9);
            if line == "looking for it" {
                let lost = Rule { operation: Some("CreateVolumes".into()), ..Rule::once(Fault::LostAnswer) };
                sim.railway.lock().expect("one thread").order(lost);
            }
            if line == "just made" {
                let lost = Rule { operation: Some("CreateServices".into()), ..Rule::once(Fault::LostAnswer) };
                sim.railway.lock().expect("one thread").order(lost);
            }
            sim.stop_on(line);
            let done = run(&sim, &desired).await;
            let took = sim.stopped.get().unwrap_or_else(|| panic!("no line with {line}")).elapsed();
            assert!(took < std::time::Duration::from_secs(10), "{line}: ended {took:?} after the stop");
            assert!(matches!(done.error, Some(Error::Stopped)), "{line}: {:?}", done.error);
            assert_eq!(done.exit_code(), 130);
            let failed = done.failures().count();
            assert_eq!(failed, 0, "{line}: {:?}", done.report);
            assert!(done.report.outcomes.values().any(|outcome| *outcome == Outcome::Skipped));
            settle(&sim, &desired, line).await;
            sim.assert_nothing_is_doubled(line);
        }
    });
}

/// A gateway's 5xx says nothing about the volumes: they are looked for as long as a list may hide them, in few looks.
#[test]
fn a_lost_answer_to_a_volume_create_costs_few_requests() {
    simulate(async || {
        let desired = fleet(&["acme", "beta", "corp"]);
        let (_, _, undisturbed) = undisturbed(&desired).await;
        for fault in [Fault::ServerError, Fault::LostAnswer] {
            let sim = bootstrapped(&desired, fault == Fault::LostAnswer).await;
            let order = Rule { operation: Some("CreateVolumes".into()), ..Rule::once(fault) };
            sim.railway.lock().expect("one thread").order(order);
            let (before, begun) = (sim.requests_made(), sim.now());
            let done = run(&sim, &desired).await;
            assert_eq!(done.verdict, Verdict::Converged, "{:?}", done.report);
            sim.assert_nothing_is_doubled(&format!("{fault:?}"));
            let (took, made) = (sim.now() - begun, sim.requests_made() - before);
            assert!(fault != Fault::ServerError || took >= TimeDelta::seconds(90), "looked for {took} only");
            assert!(made <= undisturbed + 12, "{fault:?}: {made} instead of {undisturbed} requests, in {took}");
        }
    });
}
