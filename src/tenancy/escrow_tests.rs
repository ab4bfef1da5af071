//! Replicas with clocks of their own, a bucket, and a network that loses and delays: what they admit together.

use proptest::prelude::*;

use super::super::escrow_model::Bucket;
use super::*;

const REPLICAS: usize = 3;
/// Of a ceiling, in thousandths, as the control database gives it to each of the first four routers.
const SHARE: u64 = 50;

#[derive(Debug, Clone)]
enum Event {
    Pass { ms: u64 },
    Spend { who: usize, queries: u8 },
    Owe { who: usize, queries: u8 },
    Send { who: usize },
    Arrive { who: usize },
    Answer { who: usize },
    Lose { who: usize },
    Crash { who: usize },
}

fn event() -> impl Strategy<Value = Event> {
    let who = 0..REPLICAS;
    prop_oneof![
        6 => prop_oneof![4 => 1..400_u64, 1 => 400..15_000_u64].prop_map(|ms| Event::Pass { ms }),
        8 => (who.clone(), 1..30_u8).prop_map(|(who, queries)| Event::Spend { who, queries }),
        1 => (who.clone(), 1..3_u8).prop_map(|(who, queries)| Event::Owe { who, queries }),
        6 => who.clone().prop_map(|who| Event::Send { who }),
        6 => who.clone().prop_map(|who| Event::Arrive { who }),
        6 => who.clone().prop_map(|who| Event::Answer { who }),
        1 => who.clone().prop_map(|who| Event::Lose { who }),
        1 => who.prop_map(|who| Event::Crash { who }),
    ]
}

struct Sent {
    number: u64,
    at: u64,
    ask: Ask,
}

/// A process, from its start to its end; another one in its place is another replica.
struct Replica {
    name: u32,
    /// Added to the true time.
    clock: u64,
    lease: Lease,
    slots: Slots,
    number: u64,
    /// The request that is waited for; one that was given up may arrive all the same.
    waits: Option<u64>,
    on_the_way: Vec<Sent>,
    answers: Vec<(Sent, Answer)>,
    share: u64,
}

struct World {
    now: u64,
    bucket: Bucket,
    newest: std::collections::HashMap<u32, u64>,
    replicas: Vec<Replica>,
    dead: Vec<(u32, u64)>,
    names: u32,
    /// When, and how many. What is owed is apart: it was not admitted.
    admitted: Vec<(u64, u64)>,
    limit: u64,
    /// The shares of all that began with one, of those gone too.
    parts: u64,
}

impl World {
    fn new(limit: u64, shares: bool, clocks: [u64; REPLICAS]) -> World {
        let share = if shares { limit * SHARE / 1000 } else { 0 };
        let replicas = clocks.into_iter().zip(0..).map(|(clock, name)| replica(name, clock, share)).collect();
        World {
            now: 1_000_000,
            bucket: Bucket::default(),
            newest: Default::default(),
            replicas,
            dead: Vec::new(),
            names: REPLICAS as u32,
            admitted: Vec::new(),
            limit,
            parts: share * REPLICAS as u64,
        }
    }

    fn arrive(&mut self, who: usize, meter: Meter) {
        if self.replicas[who].on_the_way.is_empty() {
            return;
        }
        let (parts, sent) = (self.parts, self.replicas[who].on_the_way.remove(0));
        let name = self.replicas[who].name;
        let newest = self.newest.entry(name).or_default();
        if sent.number <= *newest {
            return;
        }
        *newest = sent.number;
        let (now, dead) = (self.now, &self.dead);
        let is_dead = |name| dead.iter().any(|(gone, at)| *gone == name && at + WINDOW_MS < now);
        let answer = self.bucket.exchange(now, (name, sent.ask), meter, (self.limit, parts), is_dead);
        self.replicas[who].answers.push((sent, answer));
    }

    fn play(&mut self, event: &Event, meter: Meter) {
        let (now, limit) = (self.now, self.limit);
        match *event {
            Event::Pass { ms } => self.now += ms,
            Event::Spend { who, queries } => {
                let replica = &mut self.replicas[who];
                for _ in 0..queries {
                    let admission = match meter {
                        Meter::Connections => replica.slots.take(now + replica.clock, replica.share),
                        _ => replica.lease.spend(now + replica.clock, replica.share),
                    };
                    if admission == Admission::Admitted {
                        self.admitted.push((now, 1));
                    }
                }
            }
            Event::Owe { who, queries } => match meter {
                Meter::Connections if self.replicas[who].slots.in_use > 0 => self.leave(who),
                Meter::Connections => {}
                _ => self.replicas[who].lease.owe(u64::from(queries), 1000),
            },
            Event::Send { who } => {
                let replica = &mut self.replicas[who];
                let at = now + replica.clock;
                if replica.waits.is_some() {
                    // Given up: it, or its answer, may be on its way for ever.
                    replica.waits = None;
                    replica.lease.unanswered();
                    replica.slots.unanswered();
                }
                let ask = match meter {
                    Meter::Connections => replica.slots.ask(at, limit),
                    _ => replica.lease.ask(at, meter, limit),
                };
                if let Some(ask) = ask {
                    replica.number += 1;
                    replica.waits = Some(replica.number);
                    replica.on_the_way.push(Sent { number: replica.number, at, ask });
                }
            }
            Event::Arrive { who } => self.arrive(who, meter),
            Event::Answer { who } => {
                let replica = &mut self.replicas[who];
                if replica.answers.is_empty() {
                    return;
                }
                let (sent, answer) = replica.answers.remove(0);
                if replica.waits == Some(sent.number) {
                    replica.waits = None;
                    match meter {
                        Meter::Connections => {
                            replica.slots.answered(sent.at, now + replica.clock, sent.ask.want, answer);
                        }
                        _ => replica.lease.answered(sent.at, now + replica.clock, meter, sent.ask.want, answer),
                    }
                }
            }
            Event::Lose { who } => {
                let replica = &mut self.replicas[who];
                replica.on_the_way.pop();
                replica.answers.pop();
            }
            Event::Crash { who } => {
                let (old, share) = (&self.replicas[who], 0);
                self.dead.push((old.name, now));
                // A share is not for whoever comes in its place.
                let new = replica(self.names, old.clock + 77, share);
                self.names += 1;
                self.replicas[who] = new;
            }
        }
    }

    fn leave(&mut self, who: usize) {
        let replica = &mut self.replicas[who];
        replica.slots.give(self.now + replica.clock);
    }

    fn in_use(&self) -> u64 {
        self.replicas.iter().map(|replica| replica.slots.in_use).sum()
    }

    fn most_in_a_window(&self) -> u64 {
        let within = |from: u64| self.admitted.iter().filter(move |(at, _)| (from..from + WINDOW_MS).contains(at));
        self.admitted.iter().map(|(from, _)| within(*from).map(|(_, many)| many).sum()).max().unwrap_or(0)
    }
}

fn replica(name: u32, clock: u64, share: u64) -> Replica {
    Replica {
        name,
        clock,
        lease: Lease::default(),
        slots: Slots::default(),
        number: 0,
        waits: None,
        on_the_way: Vec::new(),
        answers: Vec::new(),
        share,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_window_of_a_minute_admits_more_than_the_ceiling(
        limit in 0..300_u64,
        shares: bool,
        clocks in [0..100_000_u64, 0..100_000_u64, 0..100_000_u64],
        events in prop::collection::vec(event(), 1..600),
    ) {
        let mut world = World::new(limit, shares, clocks);
        for event in &events {
            world.play(event, Meter::Queries);
        }
        prop_assert!(world.most_in_a_window() <= limit, "{} of {limit}", world.most_in_a_window());
    }

    #[test]
    fn never_are_more_sessions_open_than_the_ceiling(
        limit in 0..40_u64,
        shares: bool,
        clocks in [0..100_000_u64, 0..100_000_u64, 0..100_000_u64],
        events in prop::collection::vec(event(), 1..600),
    ) {
        let mut world = World::new(limit, shares, clocks);
        for event in &events {
            world.play(event, Meter::Connections);
            prop_assert!(world.in_use() <= limit, "{} of {limit} after {event:?}", world.in_use());
        }
    }
}

/// One exchange a second each, and in each tenth of a second `greed` queries; what each was refused while the other held
/// more than a tenth of the ceiling, after the first three seconds, is the last figure.
fn sustained(limit: u64, greed: [u64; 2], seconds: u64) -> (World, u64, u64) {
    let mut world = World::new(limit, true, [5, 77, 0]);
    let mut stranded = 0;
    for round in 0..seconds * 10 {
        for (who, greed) in greed.into_iter().enumerate() {
            let before = world.admitted.len();
            for _ in 0..greed {
                world.play(&Event::Spend { who, queries: 1 }, Meter::Queries);
            }
            let refused = greed - (world.admitted.len() - before) as u64;
            let other = &world.replicas[1 - who];
            let holds = if other.lease.open(world.now + other.clock) { other.lease.left } else { 0 };
            if round > 30 && holds > i64::try_from(limit / 10).unwrap() {
                stranded += refused;
            }
            if round % 10 == who as u64 {
                for event in [Event::Send { who }, Event::Arrive { who }, Event::Answer { who }] {
                    world.play(&event, Meter::Queries);
                }
            }
        }
        world.now += 100;
    }
    let total = world.admitted.len() as u64;
    (world, total, stranded)
}

#[test]
fn a_healthy_pair_gives_nearly_all_of_the_ceiling_and_neither_starves() {
    for greed in [[20, 20], [9, 1], [30, 1], [90, 1]] {
        let (world, total, stranded) = sustained(600, greed, 600);
        assert!(world.most_in_a_window() <= 600);
        assert!(total >= 600 * 10 * 93 / 100, "{total} of 6000 with {greed:?}");
        assert!(stranded <= total / 200, "{stranded} with {greed:?}");
    }
}

#[test]
fn a_replica_alone_uses_its_share_without_asking() {
    let mut lease = Lease::default();
    let admitted = (0..10).filter(|_| lease.spend(5, 3) == Admission::Admitted).count();
    assert_eq!(admitted, 3);
    assert_eq!(lease.spend(WINDOW_MS, 3), Admission::Ask);
    assert_eq!(lease.spend(WINDOW_MS + 6, 3), Admission::Admitted);
}

#[test]
fn a_refusal_says_when_something_frees_and_ends_then() {
    let mut lease = Lease::default();
    assert_eq!(lease.spend(0, 0), Admission::Ask);
    let ask = lease.ask(0, Meter::Queries, 1).unwrap();
    lease.answered(0, 10, Meter::Queries, ask.want, Answer { granted: 0, used: 60, frees_in: Some(9_000) });
    assert_eq!(lease.spend(1_010, 0), Admission::Over(Full { used: 60, frees_in: Some(8_000) }));
    assert_eq!(lease.spend(9_010, 0), Admission::Ask);
}

#[test]
fn what_is_owed_is_paid_first() {
    let mut lease = Lease::default();
    lease.owe(5, 100);
    let ask = lease.ask(0, Meter::Queries, 1).unwrap();
    assert_eq!((ask.spent, ask.keep), (0, 0));
    assert!(ask.want >= 5);
    lease.answered(0, 1, Meter::Queries, ask.want, Answer { granted: 3, used: 5, frees_in: Some(60_000) });
    assert_eq!(lease.debt(), 2);
    assert!(!lease.open(2));
    let ask = lease.ask(1_000, Meter::Queries, 1).unwrap();
    assert_eq!((ask.spent, ask.keep), (3, 0));
    lease.owe(500, 100);
    assert_eq!(lease.debt(), 100);
}

#[test]
fn nobody_asks_for_tenants_that_do_nothing() {
    let mut lease = Lease::default();
    assert_eq!(lease.ask(0, Meter::Queries, 1), None);
    lease.expect();
    let ask = lease.ask(1, Meter::Queries, 10).unwrap();
    lease.answered(1, 2, Meter::Queries, ask.want, Answer { granted: 10, used: 0, frees_in: None });
    assert_eq!(lease.ask(1_000, Meter::Queries, 10), None);
    // Given back, once.
    let ask = lease.ask(6_000, Meter::Queries, 10).unwrap();
    assert_eq!((ask.keep, ask.want), (0, 0));
    lease.answered(6_000, 6_001, Meter::Queries, 0, Answer::default());
    assert_eq!(lease.ask(60_000, Meter::Queries, 10), None);
}

#[test]
fn of_a_month_a_little_is_kept_for_who_comes_back_and_renewed_in_time() {
    let mut lease = Lease::default();
    lease.expect();
    let ask = lease.ask(0, Meter::Egress, 1600).unwrap();
    lease.answered(0, 1, Meter::Egress, ask.want, Answer { granted: ask.want, used: 0, frees_in: None });
    let ask = lease.ask(6_000, Meter::Egress, 1600).unwrap();
    assert_eq!((ask.keep, ask.want), (100, 0));
    lease.answered(6_000, 6_001, Meter::Egress, 0, Answer::default());
    assert_eq!(lease.ask(3_600_000, Meter::Egress, 1600), None);
    assert!(lease.open(3_600_000));
    let ask = lease.ask(LONG_LEASE_MS / 2 + 7_000, Meter::Egress, 1600).unwrap();
    assert_eq!((ask.keep, ask.want), (100, 0));
}

#[test]
fn slots_of_a_large_ceiling_are_kept_for_a_minute_and_those_of_a_small_one_are_not() {
    for (limit, spare) in [(5, 0), (80, 10)] {
        let mut slots = Slots::default();
        assert_eq!(slots.take(0, 0), Admission::Ask);
        let ask = slots.ask(0, limit).unwrap();
        slots.answered(0, 1, ask.want, Answer { granted: ask.want, used: 0, frees_in: None });
        assert_eq!(slots.take(2, 0), Admission::Admitted);
        slots.give(10);
        let kept = slots.ask(7_000, limit).map(|ask| ask.keep);
        assert_eq!(kept, Some(spare), "of {limit}");
        slots.answered(7_000, 7_001, 0, Answer::default());
        let back = slots.ask(70_000, limit);
        assert_eq!(back.map(|ask| ask.keep), (spare > 0).then_some(0), "of {limit}");
    }
}
