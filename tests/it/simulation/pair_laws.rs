//! Properties 6 and 10, exhaustively, with prompt and with lagging reads: every trouble at every call, and after it every
//! trouble at every call of the next run, for three tenants of one pool. A run is repeated from a copy of the world it
//! begins with, and a world that was seen before is not followed again, which makes the pairs affordable.

use std::cell::RefCell;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use ogelnates::local::world::{Fault, Rule};
use ogelnates::manifest::Desired;
use tokio::time::Instant;

use super::laws::{TROUBLE, bootstrapped, settle, simulate};
use super::sim::{Ended, Kill, Sim, fleet_text, manifest};

#[derive(Debug, Clone, Copy)]
enum Trouble {
    Killed(Kill),
    Struck(Fault, u64),
}

/// All that can befall a run with calls at these moments and so many requests. A kill before a call is the kill after the
/// call in front of it, unless time went by between them.
fn troubles(calls: &[Instant], requests: u64) -> Vec<Trouble> {
    let waits = |n: usize| n == 0 || calls[n] != calls[n - 1];
    let kills = (0..calls.len()).flat_map(|n| {
        let number = n as u64;
        waits(n).then_some(Kill::Before(number)).into_iter().chain([Kill::After(number)])
    });
    let kills = kills.map(Trouble::Killed);
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
    is_new: impl Fn(u64) -> bool,
    runs: &mut u32,
) -> Vec<Left> {
    let quiet = from.fork(moment);
    let requests = quiet.requests_made();
    let _ = quiet.reconcile(desired).await;
    let all = troubles(&quiet.calls.moments(), quiet.requests_made() - requests);
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
        if is_new(hash(&sim.state())) {
            worlds.push(Left { moment: sim.elapsed(), sim, trouble });
        }
    }
    worlds
}

/// Worlds after two troubles that either half has followed.
type Followed = Mutex<HashSet<u64>>;

/// One half of the first troubles, so that two cores share the work.
fn every_pair_is_repaired(half: usize, lag: bool, followed: &Followed) {
    simulate(async || {
        let text =
            fleet_text(&["acme", "beta", "corp"]).replace("placement: { pool: own }", "placement: { pool: shared }");
        let desired = manifest(&text);
        let start = bootstrapped(&desired, lag).await;
        let wanted = {
            let sim = start.fork(start.elapsed());
            settle(&sim, &desired, "undisturbed").await;
            sim.picture()
        };
        let (once_seen, mut runs, mut settled) = (RefCell::new(HashSet::new()), 0, 0);
        let new_once = |world| once_seen.borrow_mut().insert(world);
        let new_twice = |world| !once_seen.borrow().contains(&world) && followed.lock().expect("whole").insert(world);
        let firsts = troubled((&start, start.elapsed()), &desired, new_once, &mut runs).await;
        for once in firsts.into_iter().skip(half).step_by(2) {
            for twice in troubled((&once.sim, once.moment), &desired, new_twice, &mut runs).await {
                let context = format!("{:?}, then {:?}", once.trouble, twice.trouble);
                let sim = twice.sim.fork(twice.moment);
                settle(&sim, &desired, &context).await;
                sim.assert_nothing_is_doubled(&context);
                assert_eq!(sim.picture(), wanted, "{context}");
                settled += 1;
            }
        }
        println!("{runs} runs with a trouble, {settled} different worlds settled");
        assert!(settled > 60, "only {settled} different worlds: trouble no longer strikes");
    });
}

static FOLLOWED: LazyLock<Followed> = LazyLock::new(Followed::default);
static FOLLOWED_LAGGING: LazyLock<Followed> = LazyLock::new(Followed::default);

#[test]
fn every_pair_of_troubles_is_repaired_first_half() {
    every_pair_is_repaired(0, false, &FOLLOWED);
}

#[test]
fn every_pair_of_troubles_is_repaired_second_half() {
    every_pair_is_repaired(1, false, &FOLLOWED);
}

#[test]
fn every_pair_of_troubles_with_lagging_reads_is_repaired_first_half() {
    every_pair_is_repaired(0, true, &FOLLOWED_LAGGING);
}

#[test]
fn every_pair_of_troubles_with_lagging_reads_is_repaired_second_half() {
    every_pair_is_repaired(1, true, &FOLLOWED_LAGGING);
}
