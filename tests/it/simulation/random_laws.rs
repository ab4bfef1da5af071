//! Laws over random fleets, random trouble and random order, by seed; a failing case shrinks to its smallest.

use ogelnates::local::world::{Fault, Rule};
use ogelnates::manifest::Desired;
use ogelnates::operator::Verdict;
use proptest::prelude::*;
use proptest::sample::Index;

use super::laws::{TROUBLE, bootstrapped, settle, simulate, undisturbed};
use super::sim::{Ended, Kill, Sim, fleet, fleet_text, manifest};

/// What a manifest may say of a tenant on the shared pool.
#[derive(Debug, Clone)]
pub struct Wish {
    pub name: &'static str,
    connections: u32,
    generation: u32,
    pub suspended: bool,
    timeout: Option<u32>,
    roles: Vec<(&'static str, &'static str)>,
}

fn wish(name: &'static str) -> impl Strategy<Value = Wish> {
    let role = |role: &'static str| proptest::option::of(prop_oneof![Just((role, "read")), Just((role, "write"))]);
    (
        1..9u32,
        1..4u32,
        proptest::bool::weighted(0.2),
        proptest::option::of(1..90u32),
        (role("reader"), role("writer")),
    )
        .prop_map(move |(connections, generation, suspended, timeout, (reader, writer))| Wish {
            name,
            connections,
            generation,
            suspended,
            timeout,
            roles: reader.into_iter().chain(writer).collect(),
        })
}

/// Some of four tenants, in any order.
pub fn wishes() -> impl Strategy<Value = Vec<Wish>> {
    let each = ["acme", "beta", "corp", "dent"].map(|name| proptest::option::weighted(0.8, wish(name)));
    each.prop_map(|all| all.into_iter().flatten().collect::<Vec<_>>()).prop_shuffle()
}

pub fn desired(wishes: &[Wish]) -> Desired {
    manifest(&wishes_text(wishes))
}

pub fn wishes_text(wishes: &[Wish]) -> String {
    // Any number of them may be suspended at once.
    let mut text = fleet_text(&[]).replace("plan: pro }", "plan: pro }\n  safety: { maxRemovals: 10000 }");
    for Wish { name, connections, generation, suspended, timeout, roles } in wishes {
        let timeout = timeout.map(|s| format!(", statementTimeout: {s}s")).unwrap_or_default();
        let roles: Vec<String> =
            roles.iter().map(|(name, grants)| format!("{{ name: {name}, grants: {grants} }}")).collect();
        text.push_str(&format!(
            "---\napiVersion: ogelnates.dev/v1\nkind: Tenant\nmetadata: {{ name: {name} }}\nspec:\n  tier: free\n  \
             limits: {{ connections: 9, serverConnections: {connections}{timeout} }}\n  suspended: {suspended}\n  \
             credentials: {{ generation: {generation} }}\n  roles: [{}]\n",
            roles.join(", ")
        ));
    }
    text
}

/// What the tenants of the manifests came to; retained ones of an earlier state are left out.
pub fn tenants_of(sim: &Sim, desired: &Desired) -> String {
    let lines = sim.picture();
    let named =
        |line: &&str| desired.tenants.keys().any(|name| line.contains(name.as_str()) && !line.starts_with("server"));
    let mut kept: Vec<String> = lines.lines().filter(named).map(str::to_owned).collect();
    if !desired.tenants.is_empty() {
        sim.servers.with("shared-1", |server| {
            for name in desired.tenants.keys() {
                kept.push(format!("{name}: {:?}", server.databases.get(name.as_str())));
                let of = server
                    .roles
                    .iter()
                    .filter(|(role, _)| *role == name.as_str() || role.starts_with(&format!("{name}_")));
                kept.extend(of.map(|(role, live)| format!("{role}: {live:?}")));
            }
        });
    }
    kept.join("\n")
}

/// A suspended tenant keeps what it had, so where it ends depends on the way; see the laws of life.
fn awake(wishes: &[Wish]) -> Vec<Wish> {
    wishes.iter().map(|wish| Wish { suspended: false, ..wish.clone() }).collect()
}

async fn straight(desired: &Desired) -> String {
    let sim = bootstrapped(desired, false).await;
    settle(&sim, desired, "straight").await;
    tenants_of(&sim, desired)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// Properties 1, 3, 10, 13 and 14: whatever was wanted before, and wherever its run was killed, the end is the same.
    #[test]
    fn the_way_to_a_state_leaves_no_trace(first in wishes(), second in wishes(), last in wishes(), at in any::<Index>(), lag: bool) {
        simulate(async || {
            let (first, second, last) = (desired(&first), desired(&second), desired(&awake(&last)));
            let wanted = straight(&last).await;
            let sim = bootstrapped(&first, lag).await;
            settle(&sim, &first, "first").await;
            sim.kill_at(Kill::After(at.index(40) as u64));
            let _ = sim.reconcile(&second).await;
            sim.quiet();
            settle(&sim, &last, "last").await;
            sim.assert_nothing_is_doubled("last");
            assert_eq!(tenants_of(&sim, &last), wanted);
        });
    }

    /// Property 11: order of documents changes nothing, and property 16: nor does planning twice.
    #[test]
    fn the_order_of_documents_changes_no_byte_of_the_plan(wishes in wishes(), seed in any::<u64>()) {
        simulate(async || {
            let mut other = wishes.clone();
            let len = other.len().max(1);
            other.rotate_left(usize::try_from(seed % len as u64).expect("small"));
            let mut plans = Vec::new();
            for wishes in [&wishes, &other] {
                let desired = desired(wishes);
                let sim = bootstrapped(&desired, false).await;
                let Ended::Done(done) = sim.reconcile_with(&desired, &Default::default(), |_| false).await else { panic!("ends") };
                // Causes name lines, which do move.
                let actions = done.plan.actions.iter().map(|a| (a.address.clone(), a.fields.clone(), a.step.clone()));
                plans.push(serde_json::to_string(&actions.collect::<Vec<_>>()).expect("JSON"));
            }
            assert_eq!(plans[0], plans[1]);
        });
    }

    /// Property 34: a password is set when its role is made and when its generation grows, and at no other time.
    #[test]
    fn passwords_change_only_with_their_generation(first in wishes(), last in wishes()) {
        simulate(async || {
            let (first, last) = (desired(&first), desired(&last));
            let sim = bootstrapped(&first, false).await;
            settle(&sim, &first, "first").await;
            let Ended::Done(done) = sim.reconcile(&last).await else { panic!("ends") };
            let text = serde_json::to_string(&done.plan.actions).expect("JSON");
            for (name, tenant) in &last.tenants {
                let known = first.tenants.get(name).filter(|before| !before.suspended && !tenant.suspended);
                let rotated = known.is_some_and(|before| before.generation != tenant.generation);
                let set = text.contains(&format!("{{\"change\":\"setPassword\",\"tenant\":\"{name}\""));
                assert_eq!(set, rotated, "{name}");
            }
        });
    }
}

/// Properties 6 and 10: two troubles in one schedule, two hundred schedules by seed.
#[test]
fn two_troubles_in_a_row_are_repaired() {
    simulate(async || {
        let desired = fleet(&["acme", "beta", "corp"]);
        let (wanted, calls, requests) = undisturbed(&desired).await;
        for seed in 0..200u64 {
            let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
            let context = format!("seed {seed}");
            let sim = bootstrapped(&desired, random.below(2) == 1).await;
            for _ in 0..2 {
                if random.below(2) == 0 {
                    let n = random.below(calls);
                    sim.kill_at(if random.below(2) == 0 { Kill::Before(n) } else { Kill::After(n) });
                } else {
                    let fault = TROUBLE[usize::try_from(random.below(TROUBLE.len() as u64)).expect("small")];
                    sim.fault_at(random.below(requests), Rule::once(fault));
                }
                let _ = sim.reconcile(&desired).await;
                sim.assert_nothing_is_doubled(&context);
            }
            sim.calls_are_safe();
            settle(&sim, &desired, &context).await;
            sim.assert_nothing_is_doubled(&context);
            assert_eq!(sim.picture(), wanted, "{context}");
        }
    });
}

/// Property 9: the network delivers a request twice.
#[test]
fn a_request_delivered_twice_has_the_effect_of_one() {
    simulate(async || {
        let desired = fleet(&["acme", "beta", "corp"]);
        let (wanted, _, requests) = undisturbed(&desired).await;
        for n in 0..requests {
            let sim = bootstrapped(&desired, false).await;
            sim.deliver_twice(n);
            let _ = sim.reconcile(&desired).await;
            settle(&sim, &desired, "twice").await;
            sim.assert_nothing_is_doubled(&format!("request {n} twice"));
            assert_eq!(sim.picture(), wanted, "request {n} twice");
        }
    });
}

/// Property 52: what a run costs does not grow with the tenants.
#[test]
fn requests_do_not_grow_with_tenants() {
    simulate(async || {
        let mut costs = Vec::new();
        for count in [3usize, 300] {
            let names: Vec<String> = (0..count).map(|n| format!("t{n}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let text = fleet_text(&names).replace("tenantsPerInstance: 50", "tenantsPerInstance: 500");
            let desired = manifest(&text);
            let sim = bootstrapped(&desired, false).await;
            sim.servers_have_room(5_000);
            let before = sim.requests_made();
            let Ended::Done(done) = sim.reconcile(&desired).await else { panic!("ends") };
            assert_eq!(done.verdict, Verdict::Converged, "{:?}", done.plan.breaches);
            costs.push(sim.requests_made() - before);
        }
        assert_eq!(costs[0], costs[1]);
    });
}

/// Property 53: after a 429 no request leaves before its time.
#[test]
fn a_429_is_waited_out() {
    simulate(async || {
        let desired = fleet(&["acme"]);
        let sim = bootstrapped(&desired, false).await;
        sim.fault_at(0, Rule::once(Fault::TooManyRequests));
        let before = sim.now();
        let Ended::Done(done) = sim.reconcile(&desired).await else { panic!("is only delayed") };
        assert_eq!(done.verdict, Verdict::Converged);
        assert!(sim.now() - before >= chrono::TimeDelta::seconds(1), "went on at once");
    });
}

/// A small generator, so that a seed is a schedule.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
