//! Properties 6 and 10, exhaustively (with lagging reads by seed, in `random_laws`): every trouble at every call, and after it every trouble at every call of the next
//! run, for three tenants of one pool. A run is repeated from a copy of the world it begins with, and a world that was
//! seen before is not followed again, which makes the pairs affordable.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use ogelnates::local::world::{Fault, Rule};
use ogelnates::manifest::Desired;

use super::laws::{TROUBLE, bootstrapped, settle, simulate};
use super::sim::{Ended, Kill, Sim, fleet_text, manifest};

#[derive(Debug, Clone, Copy)]
enum Trouble {
    Killed(Kill),
    Struck(Fault, u64),
}

/// All that can befall a run of so many calls and requests.
fn troubles(calls: u64, requests: u64) -> Vec<Trouble> {
    let kills = (0..calls).flat_map(|n| [Kill::Before(n), Kill::After(n)]).map(Trouble::Killed);
    let faults = TROUBLE.into_iter().flat_map(|fault| (0..requests).map(move |n| Trouble::Struck(fault, n)));
    kills.chain(faults).collect()
}

fn hash(state: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

/// A world as a run left it. The clock goes on for all worlds at once, so its own moment is kept.
struct Left {
    sim: Sim,
    moment: Duration,
    trouble: Trouble,
}

/// Worlds after a run that met one trouble each, no two of one state; `runs` counts how many it took.
async fn troubled(
    (from, moment): (&Sim, Duration),
    desired: &Desired,
    seen: &mut HashSet<u64>,
    runs: &mut u32,
) -> Vec<Left> {
    let quiet = from.fork(moment);
    let (calls, requests) = (quiet.calls_made(), quiet.requests_made());
    let _ = quiet.reconcile(desired).await;
    let all = troubles(quiet.calls_made() - calls, quiet.requests_made() - requests);
    let mut worlds = Vec::new();
    for trouble in all {
        let sim = from.fork(moment);
        match trouble {
            Trouble::Killed(kill) => sim.kill_at(kill),
            Trouble::Struck(fault, n) => sim.fault_at(n, Rule::once(fault)),
        }
        let ended = sim.reconcile(desired).await;
        if let (Trouble::Killed(kill), Ended::Done(_)) = (trouble, &ended) {
            panic!("a run that was to be killed at {kill:?} ended");
        }
        sim.assert_nothing_is_doubled(&format!("{trouble:?}"));
        sim.calls_are_safe();
        *runs += 1;
        if seen.insert(hash(&sim.state())) {
            worlds.push(Left { moment: sim.elapsed(), sim, trouble });
        }
    }
    worlds
}

/// One half of the first troubles, so that two cores share the work.
fn every_pair_is_repaired(half: usize) {
    simulate(async || {
        let text =
            fleet_text(&["acme", "beta", "corp"]).replace("placement: { pool: own }", "placement: { pool: shared }");
        let desired = manifest(&text);
        let start = bootstrapped(&desired, false).await;
        let wanted = {
            let sim = start.fork(start.elapsed());
            settle(&sim, &desired, "undisturbed").await;
            sim.picture()
        };
        let (mut seen, mut runs, mut settled) = (HashSet::new(), 0, 0);
        let firsts = troubled((&start, start.elapsed()), &desired, &mut seen, &mut runs).await;
        for once in firsts.into_iter().skip(half).step_by(2) {
            for twice in troubled((&once.sim, once.moment), &desired, &mut seen, &mut runs).await {
                let context = format!("{:?}, then {:?}", once.trouble, twice.trouble);
                let sim = twice.sim.fork(twice.moment);
                settle(&sim, &desired, &context).await;
                sim.assert_nothing_is_doubled(&context);
                assert_eq!(sim.picture(), wanted, "{context}");
                settled += 1;
            }
        }
        println!("{runs} runs with a trouble, {settled} different worlds settled");
        assert!(settled > 200, "only {settled} different worlds: trouble no longer strikes");
    });
}

#[test]
fn every_pair_of_troubles_is_repaired_first_half() {
    every_pair_is_repaired(0);
}

#[test]
fn every_pair_of_troubles_is_repaired_second_half() {
    every_pair_is_repaired(1);
}
