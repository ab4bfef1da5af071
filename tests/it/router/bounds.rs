//! Rows 8 and 139: more clients than the router or the system has room for.

use std::io::{ErrorKind, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::process::Process;
use super::world::{soon, world};

/// At once, where this process may have that many descriptors.
const CROWD: u64 = 10_000;
/// Descriptors that are left to the other tests.
const OTHERS: u64 = 2_000;
/// What the router says it keeps of those that have not yet said what they want.
const LOGINS_MAX: usize = 8_192;

#[test]
fn row_139_out_of_descriptors_the_others_are_served_and_nothing_spins() {
    let world = world();
    let router = Process::start(&world, "ulimit -n 64", false);
    let mut a = router.client();
    assert_eq!(a.ask("SELECT 1"), "T D:1 C:SELECT 1 Z:I");
    let crowd: Vec<TcpStream> = (0..150).map(|_| router.connect()).collect();
    soon("descriptors are out", || router.log().contains("cannot be accepted"));
    let before = router.ticks();
    for _ in 0..50 {
        assert_eq!(a.ask("SELECT 1"), "T D:1 C:SELECT 1 Z:I");
        std::thread::sleep(Duration::from_millis(20));
    }
    let used = router.ticks() - before;
    assert!(used < 50, "{used} ticks in a second and more");
    drop(crowd);
    assert_eq!(router.client().ask("SELECT 2"), "T D:2 C:SELECT 1 Z:I");
}

/// As many clients as the crowd may have; those of a process are bounded.
fn crowd_size() -> usize {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("up to the hard limit");
    let size = maximum.map_or(CROWD, |most| CROWD.min(most.saturating_sub(OTHERS)));
    println!("{size} clients of {CROWD}: this process may have {maximum:?} descriptors");
    usize::try_from(size).expect("small")
}

/// Those that the router has closed.
fn closed(crowd: &[TcpStream]) -> usize {
    let is_open = |stream: &&TcpStream| {
        stream.set_nonblocking(true).expect("set");
        stream.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    };
    crowd.len() - crowd.iter().filter(is_open).count()
}

#[test]
fn rows_08_139_ten_thousand_clients_at_once_take_little_and_keep_nobody_out() {
    let world = world();
    let size = crowd_size();
    // It raises the limit itself.
    let router = Process::start(&world, "ulimit -Sn 256", false);
    assert!(router.descriptors_max() > size as u64 + 100, "{}", router.descriptors_max());
    let mut a = router.client();
    assert_eq!(a.ask("SELECT 1"), "T D:1 C:SELECT 1 Z:I");
    let (memory, descriptors) = (router.resident_kib(), router.descriptors());
    let over = AtomicBool::new(false);
    let (crowd, served) = std::thread::scope(|scope| {
        let bystander = scope.spawn(|| {
            let mut served = 0;
            while !over.load(Ordering::Relaxed) {
                assert_eq!(a.ask("SELECT 1"), "T D:1 C:SELECT 1 Z:I");
                served += 1;
            }
            served
        });
        let part = || {
            let mut part: Vec<TcpStream> = (0..size / 4).map(|_| router.connect()).collect();
            // Half of them say nothing at all, the others half a word.
            part.iter_mut().step_by(2).for_each(|stream| drop(stream.write_all(&[0, 0])));
            part
        };
        let parts: Vec<_> = (0..4).map(|_| scope.spawn(part)).collect();
        let crowd: Vec<TcpStream> = parts.into_iter().flat_map(|part| part.join().expect("connected")).collect();
        soon("the others have made room", || closed(&crowd) + LOGINS_MAX >= size);
        over.store(true, Ordering::Relaxed);
        (crowd, bystander.join().expect("served"))
    });
    let grown = router.resident_kib() - memory;
    println!("{size} silent clients: {grown} KiB more, {} closed, {served} queries meanwhile", closed(&crowd));
    assert!(grown < 12 * LOGINS_MAX as u64, "{grown} KiB");
    assert!(served > 0);
    assert_eq!(router.client().ask("SELECT 2"), "T D:2 C:SELECT 1 Z:I", "who comes last is served");
    drop(crowd);
    soon("all is given back", || router.descriptors() <= descriptors + 2);
    assert!(!router.log().contains("ERROR"), "{}", router.log());
}
