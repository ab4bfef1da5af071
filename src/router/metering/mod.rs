//! Brings what the workers counted into the control database, each count once: a batch every few seconds, in one transaction,
//! under this process's own numbers. While the control database is away counts wait in memory and, where there is a journal,
//! on disk.
//!
//! Read: ledger (what waits, pure), journal (on disk), this file (the loop).

mod journal;
mod ledger;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

pub use self::journal::Journal;
use self::ledger::{Ledger, Next};
use super::serve::Meters as Taker;
use super::worker::Team;
use crate::store::{Error, Flushed, Meters};
use crate::tenancy::{Metered, Secret};

/// Of one call.
const DEADLINE: Duration = Duration::from_secs(10);
/// For the workers to hand over what they have; whoever is later comes with the next batch.
const HAND_OVER: Duration = Duration::from_secs(1);
/// Between looks whether hours are to be set and old rows to be dropped.
const UPKEEP: Duration = Duration::from_secs(60);
/// Of those, done at a time.
const UPKEEP_STEPS: usize = 30;
/// The last flush, before a process ends.
const LAST: Duration = Duration::from_secs(15);
/// By how much the clocks may differ.
const SKEW_S: i64 = 5;

pub struct MeteringConfig {
    /// URL of the control database.
    pub database: Secret,
    /// Whose lives follow each other.
    pub router: String,
    /// Between batches; a process that is killed loses this much.
    pub every: Duration,
    /// Where batches are kept until the control database has them.
    pub journal: Option<PathBuf>,
}

/// Takes what workers count, until the loop fetches it.
#[derive(Debug, Default)]
pub struct Collector {
    counted: Mutex<Vec<Metered>>,
}

impl Collector {
    /// To be given to the workers.
    pub fn taker(self: &Arc<Self>) -> Taker {
        let collector = Arc::clone(self);
        Box::new(move |counted| {
            let mut all = collector.lock();
            for line in counted {
                match all.last_mut() {
                    // A gateway that is refused again and again is one line.
                    Some(last)
                        if last.minute == line.minute
                            && last.tenant == line.tenant
                            && last.instance == line.instance =>
                    {
                        last.usage.add(&line.usage);
                    }
                    _ => all.push(line),
                }
            }
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Metered>> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How usage gets to the control database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// Lines that wait here, or of which nobody knows whether they were taken; 0 right after a flush.
    pub waiting: usize,
    /// When it had taken all there was; the router's start before the first time.
    pub taken: DateTime<Utc>,
    /// The last flush failed.
    pub fails: bool,
}

pub struct Metering {
    config: MeteringConfig,
    collector: Arc<Collector>,
    ledger: Ledger,
    journal: Option<Journal>,
    /// An earlier life of this router.
    former: Option<Uuid>,
    connection: Option<Meters>,
    /// The workers have handed over all that they counted before.
    fetched: DateTime<Utc>,
    upkeep_at: Instant,
    delivery: watch::Sender<Delivery>,
}

impl Metering {
    /// Reads what an earlier life left. A journal that cannot be used is done without.
    pub fn new(config: MeteringConfig, collector: Arc<Collector>) -> Metering {
        let writer = Uuid::new_v4();
        let opened = config.journal.as_ref().and_then(|path| {
            let opened = Journal::open(path, writer, Utc::now());
            opened.map_err(|error| warn!(%error, file = %path.display(), "usage is not kept on disk")).ok()
        });
        let (journal, former) = opened.unzip();
        let former = former.unwrap_or_default();
        let ledger = Ledger::new(writer, former.batches);
        let upkeep_at = Instant::now() + UPKEEP.mul_f64(f64::from(writer.as_bytes()[0]) / 255.0);
        Metering {
            config,
            collector,
            ledger,
            journal,
            former: former.writer,
            connection: None,
            fetched: Utc::now(),
            upkeep_at,
            delivery: watch::Sender::new(Delivery { waiting: 0, taken: Utc::now(), fails: false }),
        }
    }

    pub fn delivery(&self) -> watch::Receiver<Delivery> {
        self.delivery.subscribe()
    }

    /// Until `stop`, which comes after the workers have ended and handed over all; that is flushed then.
    pub async fn run(mut self, team: Team, stop: CancellationToken) {
        let mut next = Instant::now() + self.config.every;
        while stop.run_until_cancelled(sleep_until(next)).await.is_some() {
            next = Instant::now() + self.config.every;
            self.fetch(&team).await;
            self.seal();
            self.flush().await;
            self.keep_order().await;
        }
        let until = Instant::now() + LAST;
        self.fetched = Utc::now();
        loop {
            self.seal();
            self.flush().await;
            match self.ledger.settled() {
                Some(seq) => return self.end(seq).await,
                None if Instant::now() >= until => break,
                None if self.connection.is_none() => sleep_until(Instant::now() + Duration::from_secs(1)).await,
                None => {}
            }
        }
        let kept = if self.journal.is_some() { "on disk is what comes with the next start" } else { "it is lost" };
        error!(lines = self.ledger.lines(), "the control database did not take the last usage; {kept}");
    }

    async fn fetch(&mut self, team: &Team) {
        let asked = Utc::now();
        let (done, mut all) = mpsc::channel(team.size().max(1));
        team.meter(&move || done.try_send(()).unwrap_or_default());
        // The channel closes once each worker has carried out its order.
        if timeout(HAND_OVER, async { while all.recv().await.is_some() {} }).await.is_ok() {
            self.fetched = asked;
        }
    }

    fn seal(&mut self) {
        let counted = std::mem::take(&mut *self.collector.lock());
        counted.into_iter().for_each(|metered| self.ledger.count(metered));
        while let Some(batch) = self.ledger.seal(self.fetched, |lines| has_room(self.journal.as_ref(), lines)) {
            if let Some(journal) = &mut self.journal
                && let Err(error) = journal.keep(&batch)
            {
                warn!(%error, "usage cannot be kept on disk");
            }
        }
    }

    /// Everything that waits, as far as the control database takes it.
    async fn flush(&mut self) {
        let sent = self.send_all().await;
        let Delivery { taken, fails: failed, .. } = *self.delivery.borrow();
        match &sent {
            Ok(()) if failed => info!("the control database takes usage again"),
            Ok(()) => {}
            Err(error) => {
                self.connection = None;
                if !failed {
                    warn!(%error, "the control database does not take usage; it waits here");
                }
            }
        }
        let taken = if sent.is_ok() { self.fetched } else { taken };
        self.delivery.send_replace(Delivery { waiting: self.ledger.lines(), taken, fails: sent.is_err() });
    }

    async fn send_all(&mut self) -> Result<(), Error> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let mut of_former = false;
        while let Some(next) = self.ledger.next() {
            match next {
                Next::Ask(writer) => {
                    let seq = connection.watermark(writer).await?;
                    if !self.ledger.watermark(seq) {
                        error!(%writer, "the control database has lost usage that it had; the rest follows");
                        self.ledger.start_over(Uuid::new_v4());
                        connection.begin(self.ledger.writer(), &self.config.router, Some(writer)).await?;
                    }
                }
                Next::Send(batch) => {
                    self.ledger.sending();
                    let flushed = connection.flush(batch.writer, batch.seq, batch.sealed, &batch.counted).await?;
                    if let Flushed::Committed { now } = flushed {
                        self.ledger.committed();
                        self.compare_clocks(now);
                        of_former |= batch.writer != self.ledger.writer();
                    }
                }
            }
            // More may have waited for its turn.
            self.seal();
        }
        if of_former {
            // A batch of it counts as a sign of life; what it had not sealed is missing all the same.
            connection.begin(self.ledger.writer(), &self.config.router, self.former).await?;
        }
        if let Some(journal) = &mut self.journal
            && journal.holds_batches()
            && let Err(error) = journal.clear()
        {
            warn!(%error, "usage on disk cannot be dropped");
        }
        if let Some(seq) = self.ledger.settled() {
            connection.beat(self.ledger.writer(), seq, self.fetched, false).await?;
        }
        self.connection = Some(connection);
        Ok(())
    }

    async fn connect(&mut self) -> Result<Meters, Error> {
        let mut connection = Meters::connect(&self.config.database, DEADLINE).await?;
        connection.begin(self.ledger.writer(), &self.config.router, self.former).await?;
        Ok(connection)
    }

    fn compare_clocks(&self, now: DateTime<Utc>) {
        let skew = (Utc::now() - now).num_seconds();
        if skew.abs() > SKEW_S {
            warn!(
                seconds = skew,
                "this router's clock and the control database's differ; minutes of usage are off by that"
            );
        }
    }

    async fn keep_order(&mut self) {
        if Instant::now() < self.upkeep_at {
            return;
        }
        self.upkeep_at = Instant::now() + UPKEEP;
        let Some(mut connection) = self.connection.take() else { return };
        for _ in 0..UPKEEP_STEPS {
            match connection.upkeep().await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return warn!(%error, "usage in the control database cannot be summed up"),
            }
        }
        self.connection = Some(connection);
    }

    async fn end(&mut self, seq: u64) {
        if let Some(connection) = &mut self.connection
            && let Err(error) = connection.beat(self.ledger.writer(), seq, self.fetched, true).await
        {
            warn!(%error, "the control database does not know that this router ended in order");
        }
    }
}

fn has_room(journal: Option<&Journal>, lines: usize) -> bool {
    journal.is_some_and(|journal| journal.has_room(lines))
}
