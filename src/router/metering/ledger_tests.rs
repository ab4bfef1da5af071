//! Exactly once, whatever is lost on the way: random lives of several routers before a control database that is a map.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

/// What the control database does with a batch, in one step.
#[derive(Default)]
struct Control {
    seqs: HashMap<Uuid, u64>,
    /// By event: how often it was counted.
    counted: HashMap<Arc<str>, u64>,
}

impl Control {
    fn flush(&mut self, batch: &Batch) -> bool {
        let Some(seq) = self.seqs.get_mut(&batch.writer).filter(|seq| **seq + 1 == batch.seq) else { return false };
        *seq += 1;
        for line in &batch.counted {
            *self.counted.entry(Arc::clone(&line.tenant)).or_default() += line.usage.reads;
        }
        true
    }
}

/// One router over all its lives.
struct Router {
    ledger: Ledger,
    /// What would be on disk, where it has one.
    journal: Option<Vec<Batch>>,
}

struct World {
    control: Control,
    routers: Vec<Router>,
    /// Sent, and still on its way.
    network: Vec<Arc<Batch>>,
    events: u64,
    writers: u128,
    now: i64,
    /// Counted by a life that ended before it had sealed them.
    lost: HashSet<Arc<str>>,
    /// In a batch of a life that ended without journal: in, on its way, or lost.
    unknown: HashSet<Arc<str>>,
}

#[derive(Debug, Clone)]
enum Fate {
    Answered,
    ReplyLost,
    /// It may arrive later, or never.
    Delayed,
    Twice,
}

#[derive(Debug, Clone)]
enum Op {
    Count(usize),
    Seal(usize),
    Flush(usize, Fate),
    Deliver(usize),
    Crash(usize),
    Clock(i64),
}

fn any_op() -> impl Strategy<Value = Op> {
    let router = 0..3usize;
    let fate = prop_oneof![
        4 => Just(Fate::Answered), 1 => Just(Fate::ReplyLost), 1 => Just(Fate::Delayed), 1 => Just(Fate::Twice)
    ];
    prop_oneof![
        6 => router.clone().prop_map(Op::Count),
        3 => router.clone().prop_map(Op::Seal),
        6 => (router.clone(), fate).prop_map(|(router, fate)| Op::Flush(router, fate)),
        2 => (0..100usize).prop_map(Op::Deliver),
        1 => router.prop_map(Op::Crash),
        1 => (-90_000..90_000i64).prop_map(Op::Clock),
    ]
}

impl World {
    fn new() -> World {
        let mut world = World {
            control: Control::default(),
            routers: Vec::new(),
            network: Vec::new(),
            events: 0,
            writers: 0,
            now: 1_800_000_000,
            lost: HashSet::new(),
            unknown: HashSet::new(),
        };
        for journal in [None, Some(Vec::new()), Some(Vec::new())] {
            let ledger = Ledger::new(world.writer(), Vec::new());
            world.routers.push(Router { ledger, journal });
        }
        world
    }

    fn writer(&mut self) -> Uuid {
        self.writers += 1;
        let writer = Uuid::from_u128(self.writers);
        self.control.seqs.insert(writer, 0);
        writer
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Count(at) => {
                self.events += 1;
                let event: Arc<str> = format!("e{}", self.events).into();
                let router = &mut self.routers[at];
                router.ledger.count(Metered {
                    minute: Minute::of_unix_ms(self.now * 1000),
                    tenant: event,
                    instance: "shared-1".into(),
                    usage: Usage { reads: 1, ..Usage::default() },
                });
            }
            Op::Seal(at) => {
                let now = DateTime::from_timestamp(self.now, 0).expect("a time");
                let router = &mut self.routers[at];
                let durable = router.journal.is_some();
                if let Some(batch) = router.ledger.seal(now, |_| durable)
                    && let Some(journal) = &mut router.journal
                {
                    journal.push(Batch::clone(&batch));
                }
            }
            Op::Flush(at, fate) => self.flush(at, &fate),
            Op::Deliver(at) if !self.network.is_empty() => {
                let batch = self.network.swap_remove(at % self.network.len());
                self.control.flush(&batch);
            }
            Op::Deliver(_) => {}
            Op::Crash(at) => {
                let writer = self.writer();
                let router = &mut self.routers[at];
                self.lost.extend(router.ledger.open.keys().map(|(_, tenant, _)| Arc::clone(tenant)));
                // With a journal what was sealed is there; without one a batch may be in, or on its way.
                if router.journal.is_none() {
                    let sealed = router.ledger.queue.iter().flat_map(|batch| &batch.counted);
                    self.unknown.extend(sealed.map(|line| Arc::clone(&line.tenant)));
                }
                router.ledger = Ledger::new(writer, router.journal.clone().unwrap_or_default());
            }
            Op::Clock(seconds) => self.now += seconds,
        }
    }

    fn flush(&mut self, at: usize, fate: &Fate) {
        let router = &mut self.routers[at];
        match router.ledger.next() {
            None => {}
            Some(Next::Ask(writer)) => {
                let seq = self.control.seqs.get(&writer).copied();
                assert!(router.ledger.watermark(seq), "nothing was lost there");
            }
            Some(Next::Send(batch)) => {
                router.ledger.sending();
                match fate {
                    Fate::Answered => {
                        if self.control.flush(&batch) {
                            router.ledger.committed();
                        }
                    }
                    Fate::ReplyLost => drop(self.control.flush(&batch)),
                    Fate::Delayed => self.network.push(batch),
                    Fate::Twice => {
                        self.control.flush(&batch);
                        self.network.push(batch);
                    }
                }
            }
        }
        if router.ledger.next().is_none()
            && let Some(journal) = &mut router.journal
        {
            journal.clear();
        }
    }

    /// At every moment.
    fn check(&self) {
        for (event, times) in &self.control.counted {
            assert_eq!(*times, 1, "{event} was counted {times} times");
            assert!(!self.lost.contains(event), "{event} was lost with its router and counted");
        }
        let waiting = self.routers.iter().flat_map(|router| {
            let queued = router.ledger.queue.iter().flat_map(|batch| &batch.counted).map(|line| &line.tenant);
            queued.chain(router.ledger.open.keys().map(|(_, tenant, _)| tenant))
        });
        let waiting: HashSet<&Arc<str>> = waiting.collect();
        for n in 1..=self.events {
            let event: Arc<str> = format!("e{n}").into();
            let gone = self.lost.contains(&event) || self.unknown.contains(&event);
            assert!(
                gone || waiting.contains(&event) || self.control.counted.contains_key(&event),
                "{event} vanished"
            );
        }
    }

    fn settle(&mut self) {
        for at in 0..self.routers.len() {
            for _ in 0..1000 {
                self.step(Op::Seal(at));
                self.step(Op::Flush(at, Fate::Answered));
            }
            assert!(self.routers[at].ledger.settled().is_some(), "everything is in at last");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn every_event_is_counted_once_or_was_lost_with_a_router_that_had_no_journal(
        ops in proptest::collection::vec(any_op(), 1..250),
    ) {
        let mut world = World::new();
        for op in ops {
            world.step(op);
            world.check();
        }
        world.settle();
        world.check();
        let gone = world.lost.len() + world.unknown.iter().filter(|e| !world.control.counted.contains_key(*e)).count();
        prop_assert_eq!(world.control.counted.len() + gone, usize::try_from(world.events).expect("few"));
    }
}

fn line(minute: i64, tenant: &str) -> Metered {
    let usage = Usage { reads: 1, ..Usage::default() };
    Metered { minute: Minute(minute), tenant: tenant.into(), instance: "shared-1".into(), usage }
}

#[test]
fn while_the_control_database_is_away_memory_is_bounded_and_nothing_is_lost() {
    let mut ledger = Ledger::new(Uuid::from_u128(1), Vec::new());
    let tenants: Vec<String> = (0..500).map(|n| format!("t{n}")).collect();
    ledger.count(line(0, "first"));
    ledger.seal(DateTime::default(), |_| false).expect("the first one");
    for minute in 0..2_000 {
        for tenant in &tenants {
            ledger.count(line(minute, tenant));
        }
        assert!(ledger.seal(DateTime::default(), |_| false).is_none(), "one batch at a time without a journal");
        assert!(ledger.lines() <= OPEN_MAX + 1);
    }
    let reads: u64 = ledger.open.values().map(|usage| usage.reads).sum();
    assert_eq!(reads, 1_000_000);
    // Hours stay what they were.
    let in_first_hour = ledger.open.iter().filter(|((minute, ..), _)| minute.0 < 60).map(|(_, usage)| usage.reads);
    assert_eq!(in_first_hour.sum::<u64>(), 500 * 60);
    ledger.committed();
    let batch = ledger.seal(DateTime::default(), |_| false).expect("more");
    assert_eq!((batch.seq, batch.counted.len()), (2, BATCH_MAX));
}

#[test]
fn with_a_journal_batches_wait_in_their_order_up_to_a_bound() {
    let mut ledger = Ledger::new(Uuid::from_u128(1), Vec::new());
    let mut sealed = 0;
    for minute in 0..1_000_000 {
        for n in 0..1000 {
            ledger.count(line(minute, &format!("t{n}")));
        }
        if ledger.seal(DateTime::default(), |_| true).is_none() {
            break;
        }
        sealed += 1;
    }
    assert_eq!((sealed, ledger.lines()), (200, QUEUE_MAX + 1000));
    for seq in 1..=200 {
        let Some(Next::Send(batch)) = ledger.next() else { panic!("a batch") };
        assert_eq!(batch.seq, seq);
        ledger.sending();
        assert_eq!(ledger.next(), Some(Next::Ask(batch.writer)), "nobody knows yet");
        assert!(ledger.watermark(Some(seq - u64::from(seq % 2 == 0))));
        if seq % 2 == 0 {
            // It was not taken: the same one again.
            assert_eq!(ledger.next(), Some(Next::Send(batch)));
            ledger.committed();
        }
    }
    assert_eq!(ledger.next(), None);
}

#[test]
fn a_control_database_that_lost_batches_gets_the_rest_under_a_new_writer() {
    let mut ledger = Ledger::new(Uuid::from_u128(1), Vec::new());
    for seq in 1..=3 {
        ledger.count(line(seq, "acme"));
        ledger.seal(DateTime::default(), |_| true);
    }
    ledger.committed();
    ledger.committed();
    ledger.sending();
    // Restored from a copy of before the second one.
    assert!(!ledger.watermark(Some(1)));
    ledger.start_over(Uuid::from_u128(2));
    let Some(Next::Send(batch)) = ledger.next() else { panic!("a batch") };
    assert_eq!((batch.writer, batch.seq, batch.counted.len()), (Uuid::from_u128(2), 1, 1));
}
