//! Parts of the ceilings from the control database, for all workers in one request: at most one a second, and none while
//! nobody needs more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::store::{Escrow, LeaseAsk, News};
use crate::tenancy::escrow::EXCHANGE_MS;

use super::identify::Rules;
use super::requests::Requests;
use super::worker::{Leased, Team};

const EXCHANGE: Duration = Duration::from_millis(EXCHANGE_MS);
/// Without anything to say the control database is told all the same that this router is alive.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
/// Workers are asked at least this often: what is idle goes back.
const LOOK: Duration = Duration::from_secs(5);
/// A worker that does not answer in time is asked again the next time.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// In one request; the others come with the next.
const ASKS_MAX: usize = 5_000;
/// Events until the next exchange.
const NEWS_MAX: usize = 1_000;
/// Sizes of databases change slowly.
const SIZES: Duration = Duration::from_secs(5);

/// What the rest of the router has to do with it.
#[derive(Default)]
pub struct LeaseBook {
    wanted: Notify,
    /// What workers that have ended had to say.
    last_words: Mutex<Vec<LeaseAsk>>,
    /// What happened to tenants at their ceilings, for people.
    news: Mutex<Vec<News>>,
}

impl LeaseBook {
    pub fn want(&self) {
        self.wanted.notify_one();
    }

    pub fn last_words(&self, asks: Vec<LeaseAsk>) {
        self.words().extend(asks);
    }

    /// Over [`NEWS_MAX`] the newest are not told; the meters count all.
    pub fn news(&self, news: News) {
        let mut all = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < NEWS_MAX {
            all.push(news);
        }
    }

    fn take_news(&self) -> Vec<News> {
        std::mem::take(&mut *self.news.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn words(&self) -> MutexGuard<'_, Vec<LeaseAsk>> {
        self.last_words.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub struct Leasing {
    pub escrow: Escrow,
    pub team: Team,
    pub book: Arc<LeaseBook>,
    pub requests: Arc<Requests>,
    pub rules: watch::Receiver<Arc<Rules>>,
}

impl Leasing {
    /// Until `stop`, when the workers have ended: then everything goes back.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut last: Option<Instant> = None;
        let (mut sizes_at, mut silent) = (Instant::now(), false);
        while stop.run_until_cancelled(self.wait(last)).await.is_some() {
            if sizes_at <= Instant::now() {
                sizes_at = Instant::now() + SIZES;
                self.sizes().await;
            }
            // Before anything is said: what is granted then lasts from here.
            let sent = Instant::now();
            let asks = self.asks().await;
            if asks.is_empty() && last.is_some_and(|last| last.elapsed() < SIGN_OF_LIFE) {
                continue;
            }
            last = Some(sent);
            let answered = self.exchange(sent, &asks).await;
            let news = self.book.take_news();
            if !news.is_empty()
                && let Err(error) = self.escrow.tell(&news).await
            {
                tracing::debug!(%error, "events of tenants at their ceilings cannot be written");
            }
            match (answered, silent) {
                (Err(error), false) => {
                    warn!(%error, "no parts of the ceilings can be leased; shares and what is held are spent")
                }
                (Ok(()), true) => info!("parts of the ceilings are leased again"),
                _ => continue,
            }
            silent = !silent;
        }
        let mut words = std::mem::take(&mut *self.book.words());
        words.extend(self.requests.end());
        if self.escrow.exchange(&words).await.is_ok() {
            let _ = self.escrow.leave().await;
        }
    }

    /// For somebody who wants something, not sooner than a second after the last request.
    async fn wait(&self, last: Option<Instant>) {
        let Some(last) = last else { return };
        let _ = timeout(LOOK, self.book.wanted.notified()).await;
        sleep_until(last + EXCHANGE).await;
    }

    async fn asks(&self) -> Vec<LeaseAsk> {
        let (give, mut given) = mpsc::channel(self.team.size().max(1));
        self.team.asks(&move |asks| drop(give.try_send(asks)));
        let mut all = self.requests.asks();
        while let Ok(Some(asks)) = timeout(ANSWER_MAX, given.recv()).await {
            all.extend(asks);
        }
        all
    }

    async fn exchange(&mut self, sent: Instant, asks: &[LeaseAsk]) -> Result<(), crate::store::Error> {
        let mut failed = Ok(());
        // Nearly always one.
        for part in asks.chunks(ASKS_MAX).chain(asks.is_empty().then_some(&[][..])) {
            let heard = match &failed {
                Ok(()) => self.escrow.exchange(part).await,
                Err(_) => break,
            };
            let (share, answers) = match heard {
                Ok(heard) => (Some(heard.share), heard.answers.into_iter().collect::<HashMap<_, _>>()),
                Err(error) => {
                    failed = Err(error);
                    (None, HashMap::new())
                }
            };
            let answer = |ask: &LeaseAsk| (ask.lease, ask.ask.want, answers.get(&ask.lease).copied());
            let answers = part.iter().map(answer).collect();
            let leased = Leased { sent: sent.into_std(), share, notices: self.rules.borrow().notices, answers };
            self.requests.leased(&leased);
            self.team.leased(&leased);
        }
        failed
    }

    async fn sizes(&mut self) {
        match self.escrow.sizes().await {
            Ok(sizes) if !sizes.is_empty() => self.team.stored(&Arc::new(sizes)),
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "sizes of databases cannot be read"),
        }
    }
}
