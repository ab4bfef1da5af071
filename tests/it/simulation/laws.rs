//! The laws of convergence, each under the fault it speaks of.

use ogelnates::local::world::{Fault, Plan, Rule};
use ogelnates::manifest::Desired;
use ogelnates::operator::Verdict;

use super::sim::{Ended, Kill, Sim, fleet};

/// Runs `test` on a virtual clock.
pub fn simulate(test: impl AsyncFn()) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("runtime");
    runtime.block_on(test());
}

pub async fn bootstrapped(desired: &Desired, lag: bool) -> Sim {
    let sim = Sim::new(Plan::Pro, 7);
    if lag {
        sim.lag();
    }
    sim.bootstrap(desired).await.expect("not killed").expect("bootstraps");
    sim
}

/// Quiet runs until the plan is empty; at most three.
pub async fn settle(sim: &Sim, desired: &Desired, context: &str) {
    for _ in 0..3 {
        match sim.reconcile(desired).await {
            Ended::Done(done) if done.plan.is_empty() && done.verdict == Verdict::Converged => return,
            Ended::Done(_) => {}
            Ended::Failed(error) => panic!("{context}: a quiet run failed: {error}"),
            Ended::Killed => panic!("{context}: nobody kills here"),
        }
    }
    match sim.reconcile(desired).await {
        Ended::Done(done) if done.plan.is_empty() => {}
        Ended::Done(done) => {
            panic!("{context}: not settled after three runs:\n{}", ogelnates::plan::render(&done.plan, true))
        }
        _ => panic!("{context}: a quiet run failed"),
    }
}

/// The picture after undisturbed runs, and how many calls and requests the first of them made.
pub async fn undisturbed(desired: &Desired) -> (String, u64, u64) {
    let sim = bootstrapped(desired, false).await;
    let (calls, requests) = (sim.calls_made(), sim.requests_made());
    let Ended::Done(done) = sim.reconcile(desired).await else { panic!("an undisturbed run ends") };
    assert_eq!(
        done.verdict,
        Verdict::Converged,
        "{:?} {:?}",
        done.report,
        done.rest.map(|r| ogelnates::plan::render(&r, true))
    );
    let made = (sim.calls_made() - calls, sim.requests_made() - requests);
    settle(&sim, desired, "undisturbed").await;
    (sim.picture(), made.0, made.1)
}

#[test]
fn a_settled_world_costs_one_request_and_no_mutation() {
    simulate(async || {
        let desired = fleet(&["acme", "beta", "corp"]);
        let sim = bootstrapped(&desired, false).await;
        settle(&sim, &desired, "first").await;
        let (before, calls) = (sim.requests_made(), sim.calls_made());
        let Ended::Done(done) = sim.reconcile(&desired).await else { panic!("ends") };
        assert!(done.plan.is_empty());
        assert_eq!(sim.requests_made() - before, 1, "requests of a run that changes nothing");
        // The request, lease, load and record, and one query for each of the two instances.
        assert_eq!(sim.calls_made() - calls, 1 + 3 + 2, "calls of a run that changes nothing");
    });
}

/// Property 4, 5 and 7, 8: killed before or after every single call, the next runs end in the same world.
#[test]
fn a_run_killed_at_any_call_is_finished_by_the_next() {
    simulate(async || {
        let desired = fleet(&["acme", "beta", "corp"]);
        let (wanted, calls, _) = undisturbed(&desired).await;
        for lag in [false, true] {
            for n in 0..calls {
                for kill in [Kill::Before(n), Kill::After(n)] {
                    let context = format!("{kill:?} lag {lag}");
                    let sim = bootstrapped(&desired, lag).await;
                    sim.kill_at(kill);
                    let _ = sim.reconcile(&desired).await;
                    sim.assert_nothing_is_doubled(&context);
                    settle(&sim, &desired, &context).await;
                    sim.assert_nothing_is_doubled(&context);
                    assert_eq!(sim.picture(), wanted, "{context}");
                }
            }
        }
    });
}

pub const TROUBLE: [Fault; 8] = [
    Fault::LostAnswer,
    Fault::Timeout,
    Fault::TooManyRequests,
    Fault::EdgeBlock,
    Fault::ServerError,
    Fault::FailAlias,
    Fault::TooQuickly,
    Fault::NotAuthorized,
];

/// Every fault the wire knows, at every request of a run.
#[test]
fn a_run_struck_at_any_request_is_finished_by_the_next() {
    simulate(async || {
        let desired = fleet(&["acme", "beta", "corp"]);
        let (wanted, _, requests) = undisturbed(&desired).await;
        for lag in [false, true] {
            for fault in TROUBLE {
                for n in 0..requests {
                    let context = format!("{fault:?} at request {n}, lag {lag}");
                    let sim = bootstrapped(&desired, lag).await;
                    sim.fault_at(n, Rule::once(fault));
                    let _ = sim.reconcile(&desired).await;
                    sim.assert_nothing_is_doubled(&context);
                    settle(&sim, &desired, &context).await;
                    sim.assert_nothing_is_doubled(&context);
                    assert_eq!(sim.picture(), wanted, "{context}");
                }
            }
        }
    });
}

/// The same for the command that has no control database to remember anything in.
#[test]
fn a_bootstrap_killed_at_any_call_is_finished_by_the_next() {
    simulate(async || {
        let desired = fleet(&["acme"]);
        let calls = bootstrapped(&desired, false).await.calls_made();
        for lag in [false, true] {
            for n in 0..calls {
                for kill in [Kill::Before(n), Kill::After(n)] {
                    let sim = Sim::new(Plan::Pro, 7);
                    if lag {
                        sim.lag();
                    }
                    sim.kill_at(kill);
                    let _ = sim.bootstrap(&desired).await;
                    sim.bootstrap(&desired)
                        .await
                        .expect("not killed")
                        .unwrap_or_else(|e| panic!("{kill:?} lag {lag}: {e}"));
                    sim.assert_nothing_is_doubled(&format!("{kill:?} lag {lag}"));
                    assert!(super::sim::has_control(&sim), "{kill:?} lag {lag}: {}", sim.picture());
                }
            }
        }
    });
}
