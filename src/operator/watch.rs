//! Reconciles again and again: on a change of the manifests, of Railway's configuration, and every ten minutes whatever
//! happened. A wake-up says "look again", never what changed. The unattended operator is built on this.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// When to look and when to look at everything.
#[derive(Debug, Clone, Copy)]
pub struct Watch {
    pub poll: Duration,
    pub resync: Duration,
    /// The longest pause after runs that failed.
    pub backoff_max: Duration,
}

impl Default for Watch {
    fn default() -> Watch {
        let (poll, resync) = (Duration::from_secs(30), Duration::from_secs(600));
        Watch { poll, resync, backoff_max: Duration::from_secs(300) }
    }
}

/// What the loop compares between two polls: the manifests' digest and Railway's etag.
pub type Seen = (String, String);

/// Runs until `stop`, one run after the other. `look` answers what is there now (cheaply); `run` reconciles and, if all is
/// well, answers the etag of its own last reading: our changes moved it.
pub async fn watch<L, R>(watch: Watch, stop: &CancellationToken, mut look: L, mut run: R)
where
    L: AsyncFnMut() -> Option<Seen>,
    R: AsyncFnMut() -> Option<String>,
{
    let (mut last, mut failures) = (None, 0u32);
    let mut due = Instant::now();
    while !stop.is_cancelled() {
        let seen = look().await;
        let changed = seen.is_none() || seen != last;
        if changed && failures == 0 || Instant::now() >= due {
            let etag = run().await;
            failures = if etag.is_some() { 0 } else { failures.saturating_add(1) };
            // Of before the run and of its last reading: what happened since, during the run too, is a change.
            last = seen.map(|(manifests, _)| manifests).zip(etag);
            due = Instant::now() + pause(&watch, failures);
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = sleep(watch.poll) => {}
        }
    }
}

/// The full round when all is well; doubling pauses after failures.
fn pause(watch: &Watch, failures: u32) -> Duration {
    match failures {
        0 => watch.resync,
        n => watch.poll.saturating_mul(1 << n.min(5)).min(watch.backoff_max),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    async fn runs_in(seconds: u64, well: bool, change_every: u64) -> u32 {
        let (stop, runs, begun) = (CancellationToken::new(), Cell::new(0), Instant::now());
        let look = async || Some(((begun.elapsed().as_secs() / change_every).to_string(), String::new()));
        let run = async || {
            runs.set(runs.get() + 1);
            well.then(String::new)
        };
        tokio::select! {
            () = watch(Watch::default(), &stop, look, run) => {}
            () = sleep(Duration::from_secs(seconds)) => {}
        }
        runs.get()
    }

    /// Property 51: whatever was changed while a run was under way is looked at by one more, and no two overlap.
    #[tokio::test(start_paused = true)]
    async fn changes_during_a_run_are_followed_by_exactly_one_run() {
        for changes in [0, 1, 5] {
            let (stop, runs, busy) = (CancellationToken::new(), Cell::new(0), Cell::new(false));
            let (manifests, etag) = (Cell::new(0), Cell::new(0));
            let look = async || Some((manifests.get().to_string(), etag.get().to_string()));
            let run = async || {
                assert!(!busy.replace(true), "two runs at once");
                runs.set(runs.get() + 1);
                // Our own write moves the etag; others move the manifests, or the etag after our last reading.
                etag.set(etag.get() + 1);
                let read = etag.get().to_string();
                for n in 0..if runs.get() == 1 { changes } else { 0 } {
                    sleep(Duration::from_secs(20)).await;
                    let moved = if n % 2 == 0 { &manifests } else { &etag };
                    moved.set(moved.get() + 1);
                }
                busy.set(false);
                Some(read)
            };
            tokio::select! {
                () = watch(Watch::default(), &stop, look, run) => {}
                () = sleep(Duration::from_secs(599)) => {}
            }
            assert_eq!(runs.get(), if changes == 0 { 1 } else { 2 }, "{changes} changes during the first run");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_hour_costs_one_run_every_ten_minutes() {
        assert_eq!(runs_in(3_599, true, 100_000).await, 6);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_reconciled_at_the_next_poll() {
        assert_eq!(runs_in(599, true, 300).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn failing_runs_come_ever_more_rarely() {
        let hour = runs_in(3_600, false, 1).await;
        assert!((12..=15).contains(&hour), "{hour} runs");
    }
}
